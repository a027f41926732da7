//! A step on a whole tile of 16-bit parameters and gradients in one loop: what is read stays in registers until it
//! is rounded and written. The bits are those of `operand.rs`, whose buffers cost more stores than the step itself.

use super::adamw::Scalars;
use super::number::Float;
use super::tile::TILE;
use crate::numeric::half::{self, BF16, Half};

/// How a parameter is read and written: what stands beside the host's 16 bits, and what they make together.
pub trait Cell {
    /// Beside each element.
    type Beside: Copy;
    /// Whether it is rounded by chance.
    const CHANCE: bool = false;
    /// The value that an update starts from.
    fn load(host: u16, beside: Self::Beside) -> f32;
    /// What is written for a new value: the host's bits, what is beside them, and the value that both hold.
    fn store(value: f32, noise: u32) -> (u16, Self::Beside, f32);
}

/// Rounded to nearest.
pub struct Nearest<H>(H);
/// Rounded by chance.
pub struct Chance<H>(H);
/// A float32 master beside it.
pub struct Master<H>(H);
/// The low half of the master beside it.
pub struct Remainder;

impl<H: Half> Cell for Nearest<H> {
    type Beside = ();
    #[inline(always)]
    fn load(host: u16, (): ()) -> f32 {
        H::widen(host)
    }
    #[inline(always)]
    fn store(value: f32, _: u32) -> (u16, (), f32) {
        let bits = H::round(value);
        (bits, (), H::widen(bits))
    }
}

impl<H: Half> Cell for Chance<H> {
    type Beside = ();
    const CHANCE: bool = true;
    #[inline(always)]
    fn load(host: u16, (): ()) -> f32 {
        H::widen(host)
    }
    #[inline(always)]
    fn store(value: f32, noise: u32) -> (u16, (), f32) {
        let bits = H::round_stochastic(value, noise);
        (bits, (), H::widen(bits))
    }
}

impl<H: Half> Cell for Master<H> {
    type Beside = f32;
    #[inline(always)]
    fn load(_: u16, beside: f32) -> f32 {
        beside
    }
    #[inline(always)]
    fn store(value: f32, _: u32) -> (u16, f32, f32) {
        (H::from_master(value), value, value)
    }
}

impl Cell for Remainder {
    type Beside = u16;
    #[inline(always)]
    fn load(host: u16, beside: u16) -> f32 {
        half::join(host, beside)
    }
    #[inline(always)]
    fn store(value: f32, _: u32) -> (u16, u16, f32) {
        let (host, beside) = half::split(value);
        (host, beside, value)
    }
}

/// How a moment is read and written.
pub trait Moment {
    /// As it lies in memory.
    type Stored: Copy;
    /// Whether it is rounded by chance.
    const CHANCE: bool;
    /// Widened.
    fn load(stored: Self::Stored) -> f32;
    /// What is written, and its value.
    fn store(value: f32, noise: u32) -> (Self::Stored, f32);
}

impl Moment for f32 {
    type Stored = f32;
    const CHANCE: bool = false;
    #[inline(always)]
    fn load(stored: f32) -> f32 {
        stored
    }
    #[inline(always)]
    fn store(value: f32, _: u32) -> (f32, f32) {
        (value, value)
    }
}

impl Moment for BF16 {
    type Stored = u16;
    const CHANCE: bool = true;
    #[inline(always)]
    fn load(stored: u16) -> f32 {
        BF16::widen(stored)
    }
    #[inline(always)]
    fn store(value: f32, noise: u32) -> (u16, f32) {
        let bits = BF16::round_stochastic(value, noise);
        (bits, BF16::widen(bits))
    }
}

/// What is in memory.
pub struct Places<'a, P: Cell, M: Moment> {
    /// The host's parameter.
    pub host: &'a mut [u16; TILE],
    /// What is beside it.
    pub beside: &'a mut [P::Beside; TILE],
    /// Gradient.
    pub g: &'a [u16; TILE],
    /// First moment.
    pub m: &'a mut [M::Stored; TILE],
    /// Second moment.
    pub v: &'a mut [M::Stored; TILE],
}

/// The values that memory then holds: parameter, or master, and moments.
pub struct Values<'a, T> {
    /// θ.
    pub p: &'a mut [T; TILE],
    /// m.
    pub m: &'a mut [T; TILE],
    /// v.
    pub v: &'a mut [T; TILE],
}

/// The step, T being f32. `noise`: of the parameter and of the moments.
#[inline(always)]
pub fn step<T: Float, P: Cell, G: Half, M: Moment>(
    s: Scalars<T>,
    places: Places<P, M>,
    noise: (&[u16; TILE], &[u16; TILE]),
    values: Values<T>,
) {
    let Places { host, beside, g, m, v } = places;
    body::<T, P, G, M>(s, host, beside, g, m, v, noise.0, noise.1, values.p, values.m, values.v);
}

/// Every array a parameter of its own, so that the compiler knows that none overlaps another.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "see above")]
fn body<T: Float, P: Cell, G: Half, M: Moment>(
    s: Scalars<T>,
    host: &mut [u16; TILE],
    beside: &mut [P::Beside; TILE],
    g: &[u16; TILE],
    m: &mut [M::Stored; TILE],
    v: &mut [M::Stored; TILE],
    noise_p: &[u16; TILE],
    noise_m: &[u16; TILE],
    value_p: &mut [T; TILE],
    value_m: &mut [T; TILE],
    value_v: &mut [T; TILE],
) {
    for i in 0..TILE {
        let (old_m, old_v) = (T::from_f32(M::load(m[i])), T::from_f32(M::load(v[i])));
        let (new_m, new_v) = s.moments::<false>(T::from_f32(G::widen(g[i])), old_m, old_v);
        let new_p = s.param::<false>(T::from_f32(P::load(host[i], beside[i])), s.ratio(new_m, new_v));
        let stored;
        (host[i], beside[i], stored) = P::store(new_p.to_f32(), u32::from(noise_p[i]));
        value_p[i] = T::from_f32(stored);
        let stored;
        (m[i], stored) = M::store(new_m.to_f32(), u32::from(noise_m[i]));
        value_m[i] = T::from_f32(stored);
        let stored;
        (v[i], stored) = M::store(new_v.to_f32(), u32::from(noise_m[i]));
        value_v[i] = T::from_f32(stored);
    }
}
