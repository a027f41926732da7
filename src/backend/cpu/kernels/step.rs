//! The step's loops over a chunk: the definition for every dtype and instruction set.
//!
//! A kernel works tile by tile: on [`TILE`] elements, which stay in the first-level cache, it runs plain loops, first
//! over the elements, then over each sum that it makes of them (`sums.rs`). Element arithmetic is in what the tensor is
//! computed in (the moments, θ, θ′ and the step from it) or in float64 (what only feeds sums). A product is rounded before
//! it is added, or, where gradients or moments have 16 bits, it is not: the definition says which, never the compiler. So
//! the width of the vectors that [`crate::numeric::simd`] allows it decides no bit.

use std::marker::PhantomData;

use super::adamw::Scalars;
use super::half_step::{self as fused, Cell, Chance, Master, Moment, Nearest, Places, Remainder, Values};
use super::load_store::{Buffer, Moments, Read, Weights, array};
use super::number::Float;
use super::sums_f32::{SMALL, short_square, short_square_and_dot};
use super::sums_f64::{Sum, dot, square, square_and_dot, zeros};
use super::tile::{TILE, Tiles};
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::arch::x86_64::bf16_step as bf16;
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::arch::x86_64::f32_step as float32;
use crate::model::dtype::{DType, Precision};
use crate::numeric::half::{BF16, F16, Half};
use crate::numeric::stochastic_rounding::RoundingBits;

/// Σ g², Σ g·m, zeros of g, Σ m².
#[derive(Clone, Copy, Debug)]
pub struct GradientKernel<T, const MOMENTUM: bool, const ZEROS: bool> {
    /// Gradient.
    pub g: Read,
    /// First moment, read with MOMENTUM.
    pub m: Read,
    /// See [`Moments::short`].
    pub short: bool,
    /// Whether Σ m² is wanted with MOMENTUM.
    pub of_m: bool,
    /// What is computed in.
    pub compute: PhantomData<T>,
}

impl<T: Float, const MOMENTUM: bool, const ZEROS: bool> Tiles<4> for GradientKernel<T, MOMENTUM, ZEROS> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 4]) {
        let [squares, products, of_zeros, of_m] = sums;
        if MOMENTUM && !ZEROS {
            // SAFETY: the caller's promise.
            if unsafe { self.by_hand(at, len, [squares, products, of_m]) } {
                return;
            }
        }
        let (mut g, mut m) = (Buffer::<T>::new(), Buffer::<T>::new());
        // SAFETY: the caller's promise.
        let g = unsafe { self.g.tile(at, len, &mut g) };
        if MOMENTUM {
            // SAFETY: the caller's promise.
            let m = unsafe { self.m.tile(at, len, &mut m) };
            if self.short {
                short_square_and_dot(g, m, squares, products);
            } else {
                square_and_dot(g, m, squares, products);
            }
            if self.of_m {
                square_of::<T, 0>(self.short, m, of_m);
            }
        } else {
            square_of::<T, 0>(self.short, g, squares);
        }
        if ZEROS {
            zeros(g, of_zeros);
        }
    }
}

impl<T: Float, const MOMENTUM: bool, const ZEROS: bool> GradientKernel<T, MOMENTUM, ZEROS> {
    /// Where bfloat16 is computed with by hand, adds a tile's sums and says so, unless they are not sound.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn by_hand(&self, at: usize, len: usize, sums: [&mut Sum; 3]) -> bool {
        if !bf16::fits::<T>(len, self.g.dtype) {
            return false;
        }
        // SAFETY: the caller's promise, for elements of the dtypes' types; there is AVX2.
        unsafe {
            match (self.m.dtype, self.of_m) {
                (DType::BF16, true) => self.add::<u16, true>(at, sums),
                (DType::BF16, false) => self.add::<u16, false>(at, sums),
                (_, true) => self.add::<f32, true>(at, sums),
                (_, false) => self.add::<f32, false>(at, sums),
            }
        }
    }

    /// # Safety
    /// As for [`bf16::add_gradient`], for a whole tile of bfloat16 and of elements of this type.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn add<M: bf16::Moment, const OF_M: bool>(&self, at: usize, sums: [&mut Sum; 3]) -> bool {
        // SAFETY: the caller's promise.
        unsafe { bf16::add_gradient::<M, OF_M>(self.g.at.cast::<u16>().add(at), self.m.at.cast::<M>().add(at), sums) }
    }

    /// Nowhere by hand.
    ///
    /// # Safety
    /// None is needed.
    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    unsafe fn by_hand(&self, _: usize, _: usize, _: [&mut Sum; 3]) -> bool {
        false
    }
}

/// sum += Σ a², `short` as it says or not; then the elements are multiplied by 2^EXPONENT on their way.
#[inline(always)]
fn square_of<T: Float, const EXPONENT: u32>(short: bool, a: &[T], sum: &mut Sum) {
    if short {
        short_square::<T, EXPONENT>(a, sum);
    } else {
        square(a, sum);
    }
}

/// Σ θ², Σ m², if it is wanted, Σ v², zeros of m.
#[inline(always)]
fn state_sums<T: Float, const ZEROS: bool, const OF_M: bool>(short: bool, p: &[T], m: &[T], v: &[T], sums: &mut [Sum]) {
    square_of::<T, 0>(short, p, &mut sums[0]);
    if OF_M {
        square_of::<T, 0>(short, m, &mut sums[1]);
    }
    square_of::<T, SMALL>(short, v, &mut sums[2]);
    if ZEROS {
        zeros(m, &mut sums[3]);
    }
}

/// Sums of the state as it is.
#[derive(Clone, Copy, Debug)]
pub struct StateKernel<T, const ZEROS: bool> {
    /// Parameter.
    pub p: Weights,
    /// Moments.
    pub moments: Moments,
    /// What is computed in.
    pub compute: PhantomData<T>,
}

impl<T: Float, const ZEROS: bool> Tiles<4> for StateKernel<T, ZEROS> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 4]) {
        let (mut p, mut m, mut v) = (Buffer::<T>::new(), Buffer::<T>::new(), Buffer::<T>::new());
        // SAFETY: the caller's promise.
        let (p, (m, v)) = unsafe { (self.p.tile(at, len, &mut p), self.moments.tiles(at, len, (&mut m, &mut v))) };
        state_sums::<T, ZEROS, true>(self.moments.short, p, m, v, sums);
    }
}

/// What an AdamW step works on.
#[derive(Clone, Copy, Debug)]
pub struct Step<T> {
    /// Parameter.
    pub p: Weights,
    /// Gradient.
    pub g: Read,
    /// Moments.
    pub moments: Moments,
    /// Scalars.
    pub s: Scalars<T>,
    /// For rounding parameters and moments by chance.
    pub noise: [RoundingBits; 2],
}

/// Memory for the tiles of a step.
struct Buffers<T>([Buffer<T>; 4]);

impl<T: Float> Buffers<T> {
    #[inline(always)]
    fn new() -> Self {
        Self([const { Buffer::new() }; 4])
    }
}

/// A step's tiles: the gradient, and what is now stored as parameter (or master), m and v.
struct Stepped<'a, T> {
    g: &'a [T],
    p: &'a [T],
    m: &'a [T],
    v: &'a [T],
}

impl<T: Float> Step<T> {
    /// The step on one tile.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn tile<'a>(&self, at: usize, len: usize, buffers: &'a mut Buffers<T>) -> Stepped<'a, T> {
        let [p, g, m, v] = &mut buffers.0;
        // SAFETY: the caller's promise.
        let (p, g, (m, v)) =
            unsafe { (self.p.tile(at, len, p), self.g.tile(at, len, g), self.moments.tiles(at, len, (m, v))) };
        if self.s.exact {
            self.s.update::<true>(p, g, m, v);
        } else {
            self.s.update::<false>(p, g, m, v);
        }
        // SAFETY: the caller's promise; these are their tiles.
        unsafe {
            self.p.store(at, p, self.noise[0]);
            self.moments.store(at, m, v, self.noise[1]);
        }
        Stepped { g, p, m, v }
    }

    /// The same without telling the gradient, in one loop where tile and dtypes allow it.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn quick_tile<'a>(&self, at: usize, len: usize, buffers: &'a mut Buffers<T>) -> Stepped<'a, T> {
        macro_rules! choose {
            ($($dtype:ident, $precision:ident => $cell:ty;)*) => {
                match (self.p.dtype, self.p.precision, self.moments.dtype) {
                    $(
                        // SAFETY: the caller's promise; the types are those of the dtypes.
                        (DType::$dtype, Precision::$precision, DType::BF16) => unsafe {
                            self.fused::<$cell, $dtype, BF16>(at, buffers)
                        },
                        // SAFETY: as above.
                        (DType::$dtype, Precision::$precision, _) => unsafe {
                            self.fused::<$cell, $dtype, f32>(at, buffers)
                        },
                    )*
                    // SAFETY: the caller's promise.
                    _ => unsafe { self.tile(at, len, buffers) },
                }
            };
        }
        if T::DTYPE == DType::F32 && !self.s.exact && len == TILE && self.g.dtype == self.p.dtype {
            choose! {
                BF16, Nearest => Nearest<BF16>;
                BF16, Stochastic => Chance<BF16>;
                BF16, Master => Master<BF16>;
                BF16, Remainder => Remainder;
                F16, Nearest => Nearest<F16>;
                F16, Stochastic => Chance<F16>;
                F16, Master => Master<F16>;
            }
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.tile(at, len, buffers) }
        }
    }

    /// # Safety
    /// As for [`Tiles::tile`], for a whole tile of elements of these types.
    #[inline(always)]
    unsafe fn fused<'a, P: Cell, G: Half, M: Moment>(&self, at: usize, buffers: &'a mut Buffers<T>) -> Stepped<'a, T> {
        let [p, unused, m, v] = &mut buffers.0;
        let (noise_p, noise_m) = (self.chance(P::CHANCE, 0, at), self.chance(M::CHANCE, 1, at));
        // SAFETY: the caller's promise; `step` writes every value.
        unsafe {
            let (p, m, v) = (p.whole(), m.whole(), v.whole());
            let places = Places::<P, M> {
                host: array(self.p.host, at),
                beside: array(self.p.beside, at),
                g: array(self.g.at.cast_mut(), at),
                m: array(self.moments.m, at),
                v: array(self.moments.v, at),
            };
            fused::step::<T, P, G, M>(self.s, places, (&noise_p, &noise_m), Values { p, m, v });
            Stepped { g: unused.none(), p, m, v }
        }
    }
}

impl<T: Float> Step<T> {
    /// Where bfloat16 is computed with by hand, does the step on a tile, adds the sums of the state if there are any, and
    /// says so.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn by_hand<const OF_M: bool>(&self, at: usize, len: usize, sums: &mut [Sum]) -> bool {
        if self.p.dtype != DType::BF16 || self.s.exact || !bf16::fits::<T>(len, self.g.dtype) {
            return false;
        }
        macro_rules! choose {
            ($($precision:ident),*) => {
                match (self.p.precision, self.moments.dtype) {
                    $(
                        // SAFETY: the caller's promise; the level says that there is AVX2, and the types are those of
                        // the dtypes.
                        (Precision::$precision, DType::BF16) => unsafe { self.with::<bf16::$precision, u16, OF_M>(at) },
                        // SAFETY: as above.
                        (Precision::$precision, _) => unsafe { self.with::<bf16::$precision, f32, OF_M>(at) },
                    )*
                }
            };
        }
        let lanes = choose!(Nearest, Stochastic, Master, Remainder);
        if let [params, m, v, ..] = sums
            && !lanes.add_to([params, m, v])
        {
            // SAFETY: the caller's promise.
            unsafe { self.sums_of_memory::<OF_M>(at, len, sums) };
        }
        true
    }

    /// # Safety
    /// As for [`bf16::step`], for a whole tile of elements of these types.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn with<P: bf16::Weight, M: bf16::Moment, const OF_M: bool>(&self, at: usize) -> bf16::StateLanes<OF_M> {
        // SAFETY: the caller's promise.
        unsafe {
            let moments = [self.moments.m, self.moments.v];
            let tile = bf16::Tile::<P, M>::new((self.p.host, self.p.beside), self.g.at, moments, at);
            bf16::step(self.s.map(T::to_f32), &tile, self.noise, at)
        }
    }

    /// Nowhere by hand.
    ///
    /// # Safety
    /// None is needed.
    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    unsafe fn by_hand<const OF_M: bool>(&self, _: usize, _: usize, _: &mut [Sum]) -> bool {
        false
    }

    /// Where float32 is computed with by hand, does the step on a tile, adds the sums of the state, and says so.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn float32(&self, at: usize, len: usize, sums: &mut [Sum; 5]) -> bool {
        let fits = !self.moments.short && float32::fits::<T>(len, [self.p.dtype, self.g.dtype]);
        if fits {
            // SAFETY: the caller's promise; the level says that there is AVX2, and all that is not short is float32.
            unsafe {
                let tile = float32::Tile::new(self.p.host, self.g.at, [self.moments.m, self.moments.v], at);
                let [p, m, v, ..] = sums;
                float32::step(self.s.map(T::to_f32), tile, [p, m, v]);
            }
        }
        fits
    }

    /// Nowhere by hand.
    ///
    /// # Safety
    /// None is needed.
    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    unsafe fn float32(&self, _: usize, _: usize, _: &mut [Sum; 5]) -> bool {
        false
    }

    /// A tile's random bits for parameters or moments; zeros if none are wanted.
    #[inline(always)]
    fn chance(&self, wanted: bool, which: usize, at: usize) -> [u16; TILE] {
        if wanted { self.noise[which].bits(at) } else { [0; TILE] }
    }

    /// Adds to the sums what a tile is in memory.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[cold]
    #[inline(never)]
    unsafe fn sums_of_memory<const OF_M: bool>(&self, at: usize, len: usize, sums: &mut [Sum]) {
        let (mut p, mut m, mut v) = (Buffer::<T>::new(), Buffer::<T>::new(), Buffer::<T>::new());
        // SAFETY: the caller's promise.
        let (p, (m, v)) = unsafe { (self.p.tile(at, len, &mut p), self.moments.tiles(at, len, (&mut m, &mut v))) };
        state_sums::<T, false, OF_M>(self.moments.short, p, m, v, sums);
    }
}

/// The AdamW step; sums of the state that it leaves, Σ m² among them with OF_M, and Σ g·m of the effective gradient with
/// the new m.
#[derive(Clone, Copy, Debug)]
pub struct UpdateKernel<T, const ZEROS: bool, const MOMENTUM: bool, const OF_M: bool>(pub Step<T>);

impl<T: Float, const ZEROS: bool, const MOMENTUM: bool, const OF_M: bool> Tiles<5>
    for UpdateKernel<T, ZEROS, MOMENTUM, OF_M>
{
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 5]) {
        if !ZEROS && !MOMENTUM {
            // SAFETY: the caller's promise.
            if unsafe { OF_M && self.0.float32(at, len, sums) || self.0.by_hand::<OF_M>(at, len, sums) } {
                return;
            }
        }
        let (mut buffers, mut effective) = (Buffers::new(), Buffer::new());
        // SAFETY: the caller's promise.
        let Stepped { g, p, m, v } = unsafe {
            if MOMENTUM { self.0.tile(at, len, &mut buffers) } else { self.0.quick_tile(at, len, &mut buffers) }
        };
        state_sums::<T, ZEROS, OF_M>(self.0.moments.short, p, m, v, sums);
        if MOMENTUM {
            dot(effective.scaled(g, self.0.s.gradient), m, &mut sums[4]);
        }
    }
}

/// The AdamW step without sums.
#[derive(Clone, Copy, Debug)]
pub struct PlainKernel<T>(pub Step<T>);

impl<T: Float> Tiles<0> for PlainKernel<T> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, none: &mut [Sum; 0]) {
        // SAFETY: the caller's promise.
        if !unsafe { self.0.by_hand::<false>(at, len, none) } {
            let mut buffers = Buffers::new();
            // SAFETY: the caller's promise.
            unsafe { self.0.quick_tile(at, len, &mut buffers) };
        }
    }
}

/// Masters that begin with what the host's parameter says.
#[derive(Clone, Copy, Debug)]
pub struct InitMastersKernel(pub Weights);

impl Tiles<0> for InitMastersKernel {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, _: &mut [Sum; 0]) {
        // SAFETY: the caller's promise.
        unsafe { self.0.init_masters(at, len) }
    }
}

/// The number of elements that are not what their masters show.
#[derive(Clone, Copy, Debug)]
pub struct DesyncedKernel(pub Weights);

impl Tiles<1> for DesyncedKernel {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 1]) {
        // SAFETY: the caller's promise.
        sums[0].add_one(unsafe { self.0.count_desynced(at, len) } as f64);
    }
}
