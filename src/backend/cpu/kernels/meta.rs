//! The meta-update's loops over a chunk: θ′ and its neighbours, products with what θ′ is made of.
//!
//! As in `kernels.rs`. θ′ is what would be stored: rounded to nearest in the parameter's dtype, also where a step would
//! round by chance; where there are masters, it is what the moved master shows.
//!
//! w is computed in float64. The stride r·w is rounded to what is computed in, since it has to be added to θ′ there: for
//! float32 an error of 6·10⁻⁸ of an element in a difference that is good to 10⁻³.

use std::marker::PhantomData;

use super::adamw::Scalars;
use super::load_store::{Buffer, Moments, Read, Weights, Write};
use super::number::Float;
use super::sums_f64::{Sum, dot, dots, square};
use super::tile::Tiles;

/// What θ′ is made from: θ and g as the meta-update kept them, masters, the moments, and the scalars.
#[derive(Clone, Copy, Debug)]
pub struct Origin<T> {
    /// θ as kept, and its masters.
    pub p: Weights,
    /// g of B1; only read by [`STEP`].
    pub g: Read,
    /// Moments.
    pub moments: Moments,
    /// Scalars.
    pub s: Scalars<T>,
}

/// θ′ = θ.
pub const STAY: u8 = 0;
/// θ′ is one step with g away.
pub const STEP: u8 = 1;
/// θ′ is one step with the moments as they are away.
pub const DRIFT: u8 = 2;

/// Memory for the tiles of an [`Origin`].
struct Buffers<T>([Buffer<T>; 4]);

impl<T: Float> Buffers<T> {
    #[inline(always)]
    fn new() -> Self {
        Self([const { Buffer::new() }; 4])
    }
}

impl<T: Float> Origin<T> {
    /// Answers θ, or its masters, of elements `at .. at + len`, and writes the ratio r and θ′: the same bits
    /// whenever it is asked. Where the tensor stays, it has no r.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn point<'a, const MODE: u8>(
        &self,
        at: usize,
        buffers: &'a mut Buffers<T>,
        ratio: &mut [T],
        moved: &mut [T],
    ) -> &'a [T] {
        let (len, s) = (moved.len(), self.s);
        let [p, g, m, v] = &mut buffers.0;
        if MODE == STAY {
            // SAFETY: the caller's promise.
            let p = unsafe { self.p.as_shown().tile(at, len, p) };
            moved.copy_from_slice(p);
            return p;
        }
        // SAFETY: the caller's promise.
        let (p, (m, v)) = unsafe { (self.p.tile(at, len, p), self.moments.tiles(at, len, (m, v))) };
        if MODE == STEP {
            // SAFETY: the caller's promise.
            let g = unsafe { self.g.tile(at, len, g) };
            if s.exact {
                ratios::<T, true>(s, ratio, g, m, v);
            } else {
                ratios::<T, false>(s, ratio, g, m, v);
            }
        } else {
            for ((ratio, m), v) in ratio.iter_mut().zip(m).zip(v) {
                *ratio = s.ratio(*m, *v);
            }
        }
        params(s, moved, p, ratio);
        self.p.round_as_shown(moved);
        p
    }
}

#[inline(always)]
fn ratios<T: Float, const EXACT: bool>(s: Scalars<T>, ratio: &mut [T], g: &[T], m: &[T], v: &[T]) {
    for (((ratio, g), m), v) in ratio.iter_mut().zip(g).zip(m).zip(v) {
        let (m, v) = s.moments::<EXACT>(*g, *m, *v);
        *ratio = s.ratio(m, v);
    }
}

/// θ′ before it is rounded.
#[inline(always)]
fn params<T: Float>(s: Scalars<T>, moved: &mut [T], p: &[T], ratio: &[T]) {
    if s.exact {
        params_of::<T, true>(s, moved, p, ratio);
    } else {
        params_of::<T, false>(s, moved, p, ratio);
    }
}

#[inline(always)]
fn params_of<T: Float, const EXACT: bool>(s: Scalars<T>, moved: &mut [T], p: &[T], ratio: &[T]) {
    for ((moved, p), ratio) in moved.iter_mut().zip(p).zip(ratio) {
        *moved = s.param::<EXACT>(*p, *ratio);
    }
}

/// Writes θ′; Σ θ′².
#[derive(Clone, Copy, Debug)]
pub struct MovedKernel<T, const MODE: u8> {
    /// Where θ′ comes from.
    pub origin: Origin<T>,
    /// Where r is kept, in the type that is computed in, if it is.
    pub ratio: Option<Write>,
    /// The host's parameter.
    pub out: Write,
}

impl<T: Float, const MODE: u8> Tiles<1> for MovedKernel<T, MODE> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 1]) {
        let (mut buffers, mut ratio, mut moved) = (Buffers::new(), Buffer::new(), Buffer::new());
        // SAFETY: the caller's promise; all are written below, but for the r of a tensor that stays, which nobody reads.
        unsafe {
            let moved = self.out.tile(at, len, &mut moved);
            let ratio = match self.ratio {
                Some(kept) => kept.tile(at, len, &mut ratio),
                None => ratio.of(len),
            };
            self.origin.point::<MODE>(at, &mut buffers, ratio, moved);
            square(moved, &mut sums[0]);
            self.out.store(at, moved);
        }
    }
}

/// The direction w of the Hessian product, element by element in f64.
#[derive(Clone, Copy, Debug)]
pub struct Way<T> {
    /// g of B1.
    pub g: Read,
    /// g′ of B2; 0 where there is none.
    pub g2: Option<Read>,
    /// Factor of g.
    pub train1: f64,
    /// Factor of g′.
    pub train2: f64,
    /// What is computed in.
    pub compute: PhantomData<T>,
}

impl<T: Float> Way<T> {
    /// w of elements `at .. at + len`.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn w<'a>(&self, at: usize, len: usize, out: &'a mut Buffer<f64>) -> &'a mut [f64] {
        let (mut g, mut g2) = (Buffer::<T>::new(), Buffer::<T>::new());
        // SAFETY: the caller's promise; all are written below.
        let (g, w) = unsafe { (self.g.tile(at, len, &mut g), out.of(len)) };
        match self.g2 {
            Some(read) => {
                // SAFETY: the caller's promise.
                let g2 = unsafe { read.tile(at, len, &mut g2) };
                for ((w, g), g2) in w.iter_mut().zip(g).zip(g2) {
                    *w = self.train2 * g2.widen() + self.train1 * g.widen();
                }
            }
            None => {
                for (w, g) in w.iter_mut().zip(g) {
                    *w = self.train1 * g.widen();
                }
            }
        }
        w
    }

    /// radius·w, rounded to what is computed in: the stride to a neighbour as it is taken.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn stride(&self, at: usize, radius: f64, stride: &mut [T]) {
        let mut w = Buffer::new();
        // SAFETY: the caller's promise.
        let w = unsafe { self.w(at, stride.len(), &mut w) };
        for (stride, w) in stride.iter_mut().zip(w) {
            *stride = T::round(radius * *w);
        }
    }
}

/// Σ w².
impl<T: Float> Tiles<1> for Way<T> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 1]) {
        let mut w = Buffer::new();
        // SAFETY: the caller's promise.
        square(unsafe { self.w(at, len, &mut w) }, &mut sums[0]);
    }
}

/// Puts the stride in the place of g, which has the type that is computed in.
#[derive(Clone, Copy, Debug)]
pub struct StrideKernel<T> {
    /// w; where its g is, the stride will be.
    pub way: Way<T>,
    /// The stride is radius·w.
    pub radius: f64,
}

impl<T: Float> Tiles<0> for StrideKernel<T> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, _: &mut [Sum; 0]) {
        let mut stride = Buffer::new();
        // SAFETY: the caller's promise; all are written below, and nobody reads g any more.
        unsafe {
            let stride = stride.of(len);
            self.way.stride(at, self.radius, stride);
            self.way.g.to_write().tile(at, len, &mut Buffer::new()).copy_from_slice(stride);
        }
    }
}

/// `host`·(the host's gradient) − `factor`·g′.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// Factor of the host's gradient.
    pub host: f64,
    /// g′.
    pub train2: Read,
    /// Its factor.
    pub factor: f64,
}

impl Difference {
    /// Adds Σ x·r and Σ x·θ, as [`look`] does, of the difference x.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn look<T: Float>(&self, at: usize, host: Option<Read>, p: &[T], ratio: &[T], sums: &mut [Sum; 3]) {
        let (mut x, mut buffers) = (Buffer::new(), [const { Buffer::<T>::new() }; 2]);
        let [train2, host_buffer] = &mut buffers;
        // SAFETY: the caller's promise; all are written below.
        let (x, train2) = unsafe { (x.of(p.len()), self.train2.tile(at, p.len(), train2)) };
        for (x, g) in x.iter_mut().zip(train2) {
            *x = -(self.factor * g.widen());
        }
        if let Some(host) = host {
            // SAFETY: the caller's promise.
            let host = unsafe { host.tile(at, p.len(), host_buffer) };
            for (x, g) in x.iter_mut().zip(host) {
                *x += self.host * g.widen();
            }
        }
        let [with_ratio, with_param, _] = sums;
        dot(&x[..ratio.len()], ratio, with_ratio);
        dot(x, p, with_param);
    }
}

/// Adds Σ x·r and Σ x·θ of the elements from `at` on, as many as `p` has, x being the host's gradients, 0 where it has
/// none. `ratio` is empty where the tensor stays.
///
/// # Safety
/// As for [`Tiles::tile`].
#[inline(always)]
unsafe fn look<T: Float>(at: usize, host: Option<Read>, p: &[T], ratio: &[T], sums: &mut [Sum; 3]) {
    let Some(host) = host else { return };
    let [with_ratio, with_param, _] = sums;
    let mut x = Buffer::<T>::new();
    // SAFETY: the caller's promise.
    let x = unsafe { host.tile(at, p.len(), &mut x) };
    if ratio.is_empty() {
        dot(x, p, with_param);
    } else {
        dots(x, (ratio, p), with_ratio, with_param);
    }
}

/// Writes θ′ + stride into the host's parameter, and adds ⟨what was written − θ′, stride⟩.
///
/// # Safety
/// As for [`Tiles::tile`].
#[inline(always)]
unsafe fn visit<T: Float>(at: usize, p: &Weights, moved: &[T], stride: &[T], out: Write, sum: &mut Sum) {
    let (mut stored, mut made) = (Buffer::<T>::new(), Buffer::<T>::new());
    // SAFETY: the caller's promise; all are written below.
    let (stored, made) = unsafe { (out.tile(at, moved.len(), &mut stored), made.of(moved.len())) };
    for ((stored, moved), stride) in stored.iter_mut().zip(moved).zip(stride) {
        *stored = *moved + *stride;
    }
    p.as_shown().round_as_shown(stored);
    for ((made, stored), moved) in made.iter_mut().zip(&*stored).zip(moved) {
        *made = *stored - *moved;
    }
    dot(made, stride, sum);
    // SAFETY: the caller's promise.
    unsafe { out.store(at, stored) };
}

/// With LOOK Σ x·r and Σ x·θ. With VISIT writes θ′ + radius·w; ⟨what was written − θ′, radius·w⟩.
#[derive(Clone, Copy, Debug)]
pub struct ProbeKernel<T, const MODE: u8, const LOOK: bool, const VISIT: bool> {
    /// Where θ′ comes from.
    pub origin: Origin<T>,
    /// The host's gradient, if it has one; read with LOOK.
    pub host: Option<Read>,
    /// What x is if it is not the host's gradient.
    pub difference: Option<Difference>,
    /// w; read with VISIT.
    pub way: Way<T>,
    /// The neighbour is θ′ + radius·w.
    pub radius: f64,
    /// The host's parameter; written with VISIT.
    pub out: Write,
}

impl<T: Float, const MODE: u8, const LOOK: bool, const VISIT: bool> Tiles<3> for ProbeKernel<T, MODE, LOOK, VISIT> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 3]) {
        let (mut buffers, [mut ratio, mut moved, mut stride]) = (Buffers::new(), [const { Buffer::new() }; 3]);
        // SAFETY: the caller's promise; all are written below.
        unsafe {
            let (ratio, moved) = (ratio.of(if MODE == STAY { 0 } else { len }), moved.of(len));
            let p = self.origin.point::<MODE>(at, &mut buffers, ratio, moved);
            if LOOK {
                match self.difference {
                    Some(difference) => difference.look(at, self.host, p, ratio, sums),
                    None => look(at, self.host, p, ratio, sums),
                }
            }
            if VISIT {
                let stride = stride.of(len);
                self.way.stride(at, self.radius, stride);
                visit(at, &self.origin.p, moved, stride, self.out, &mut sums[2]);
            }
        }
    }
}

/// The same where r and the stride are kept.
#[derive(Clone, Copy, Debug)]
pub struct KeptProbeKernel<T, const MOVES: bool, const LOOK: bool, const VISIT: bool> {
    /// θ as kept, and its masters.
    pub p: Weights,
    /// Scalars.
    pub s: Scalars<T>,
    /// r; only read if the tensor MOVES.
    pub ratio: Read,
    /// The host's gradient, if it has one; read with LOOK.
    pub host: Option<Read>,
    /// The stride; read with VISIT.
    pub stride: Read,
    /// 1, or −1 for the neighbour on the other side.
    pub sign: T,
    /// The host's parameter; written with VISIT.
    pub out: Write,
}

impl<T: Float, const MOVES: bool, const LOOK: bool, const VISIT: bool> Tiles<3>
    for KeptProbeKernel<T, MOVES, LOOK, VISIT>
{
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 3]) {
        let [mut p, mut ratio, mut moved, mut kept, mut stride] = [const { Buffer::<T>::new() }; 5];
        let weights = if MOVES { self.p } else { self.p.as_shown() };
        // SAFETY: the caller's promise; all are written below.
        unsafe {
            let p = weights.tile(at, len, &mut p);
            let ratio = if MOVES { self.ratio.tile(at, len, &mut ratio) } else { &[] };
            if LOOK {
                look(at, self.host, p, ratio, sums);
            }
            if VISIT {
                let stride = stride.scaled(self.stride.tile(at, len, &mut kept), self.sign);
                let moved = if MOVES {
                    let moved = moved.of(len);
                    params(self.s, moved, p, ratio);
                    self.p.round_as_shown(moved);
                    moved
                } else {
                    p
                };
                visit(at, &self.p, moved, stride, self.out, &mut sums[2]);
            }
        }
    }
}
