//! The meta-update's loops over a chunk: θ′ and its neighbours, products with what θ′ is made of.
//!
//! As in `kernels.rs`. θ′ is what would be stored: rounded to nearest in the parameter's dtype, also where a step would
//! round by chance; where there are masters, it is what the moved master shows.

use super::float::Float;
use super::kernels::{Scalars, Tiles};
use super::operand::{Buffer, Moments, Read, Weights, Write};
use super::sums::{Sum, dot, square};

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

impl<T: Float> Origin<T> {
    /// θ′ of elements `at .. at + len`: the same bits whenever it is asked for.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn moved<'a, const MODE: u8>(&self, at: usize, len: usize, out: &'a mut Buffer<T>) -> &'a mut [T] {
        let [mut p, mut g, mut m, mut v] = [const { Buffer::<T>::new() }; 4];
        let s = self.s;
        if MODE == STAY {
            // SAFETY: the caller's promise.
            return out.copy(unsafe { self.p.as_shown().tile(at, len, &mut p) });
        }
        // SAFETY: the caller's promise.
        let (p, (m, v)) = unsafe { (self.p.tile(at, len, &mut p), self.moments.tiles(at, len, (&mut m, &mut v))) };
        let out = out.copy(p);
        if MODE == STEP {
            // SAFETY: the caller's promise.
            let g = unsafe { self.g.tile(at, len, &mut g) };
            if self.moments.dtype == T::DTYPE {
                step::<T, true>(s, out, g, m, v);
            } else {
                step::<T, false>(s, out, g, m, v);
            }
        } else {
            for ((out, m), v) in out.iter_mut().zip(m).zip(v) {
                *out = s.param(*out, *m, *v);
            }
        }
        self.p.round_as_shown(out);
        out
    }
}

#[inline(always)]
fn step<T: Float, const EXACT: bool>(s: Scalars<T>, out: &mut [T], g: &[T], m: &[T], v: &[T]) {
    for (((out, g), m), v) in out.iter_mut().zip(g).zip(m).zip(v) {
        let (m, v) = s.moments::<EXACT>(*g, *m, *v);
        *out = s.param(*out, m, v);
    }
}

/// Writes θ′; Σ θ′².
#[derive(Clone, Copy, Debug)]
pub struct MovedKernel<T, const MODE: u8> {
    /// Where θ′ comes from.
    pub origin: Origin<T>,
    /// The host's parameter.
    pub out: Write,
}

impl<T: Float, const MODE: u8> Tiles<1> for MovedKernel<T, MODE> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 1]) {
        let mut buffer = Buffer::new();
        // SAFETY: the caller's promise.
        let moved = unsafe { self.origin.moved::<MODE>(at, len, &mut buffer) };
        square(moved, &mut sums[0]);
        // SAFETY: the caller's promise.
        unsafe { self.out.put(at, moved) };
    }
}

/// Σ g′², Σ g·g′.
#[derive(Clone, Copy, Debug)]
pub struct AlignmentKernel<T> {
    /// g of B1.
    pub g: Read,
    /// g′ of B2.
    pub g2: Read,
    /// What is computed in.
    pub compute: std::marker::PhantomData<T>,
}

impl<T: Float> Tiles<2> for AlignmentKernel<T> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 2]) {
        let (mut g, mut g2) = (Buffer::<T>::new(), Buffer::<T>::new());
        // SAFETY: the caller's promise.
        let (g, g2) = unsafe { (self.g.tile(at, len, &mut g), self.g2.tile(at, len, &mut g2)) };
        square(g2, &mut sums[0]);
        dot(g, g2, &mut sums[1]);
    }
}

/// The direction w of the Hessian product, element by element in f64.
#[derive(Clone, Copy, Debug)]
pub struct Way<T> {
    /// g of B1.
    pub g: Read,
    /// g′ of B2.
    pub g2: Read,
    /// Factor of g.
    pub train1: f64,
    /// Factor of g′.
    pub train2: f64,
    /// What is computed in.
    pub compute: std::marker::PhantomData<T>,
}

impl<T: Float> Way<T> {
    /// w of elements `at .. at + len`.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn w<'a>(&self, at: usize, len: usize, out: &'a mut Buffer<f64>) -> &'a mut [f64] {
        let (mut g, mut g2) = (Buffer::<T>::new(), Buffer::<T>::new());
        // SAFETY: the caller's promise.
        let (g, g2) = unsafe { (self.g.tile(at, len, &mut g), self.g2.tile(at, len, &mut g2)) };
        let w = out.zeros(len);
        for ((w, g), g2) in w.iter_mut().zip(g).zip(g2) {
            *w = self.train2 * g2.widen() + self.train1 * g.widen();
        }
        w
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

/// θ′ + radius·w, as it would be stored, into θ′'s place.
#[inline(always)]
fn perturb<T: Float>(p: &Weights, moved: &mut [T], w: &[f64], radius: f64) {
    for (moved, w) in moved.iter_mut().zip(w) {
        *moved = T::round(moved.widen() + radius * w);
    }
    p.as_shown().round_as_shown(moved);
}

/// Writes θ′ + radius·w.
#[derive(Clone, Copy, Debug)]
pub struct PerturbedKernel<T, const MODE: u8> {
    /// Where θ′ comes from.
    pub origin: Origin<T>,
    /// w.
    pub way: Way<T>,
    /// r or −r.
    pub radius: f64,
    /// The host's parameter.
    pub out: Write,
}

impl<T: Float, const MODE: u8> Tiles<0> for PerturbedKernel<T, MODE> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, _: &mut [Sum; 0]) {
        let (mut w, mut buffer) = (Buffer::new(), Buffer::new());
        // SAFETY: the caller's promise.
        let (w, moved) = unsafe { (self.way.w(at, len, &mut w), self.origin.moved::<MODE>(at, len, &mut buffer)) };
        perturb(&self.origin.p, moved, w, self.radius);
        // SAFETY: the caller's promise.
        unsafe { self.out.put(at, moved) };
    }
}

/// ⟨δ, w⟩, δ = stored(θ′ + plus·w) − stored(θ′ + minus·w).
#[derive(Clone, Copy, Debug)]
pub struct StepMadeKernel<T, const MODE: u8> {
    /// Where θ′ comes from.
    pub origin: Origin<T>,
    /// w.
    pub way: Way<T>,
    /// r.
    pub plus: f64,
    /// −r, or 0 for a forward difference.
    pub minus: f64,
}

impl<T: Float, const MODE: u8> Tiles<1> for StepMadeKernel<T, MODE> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 1]) {
        let (mut w, mut step) = (Buffer::new(), Buffer::<f64>::new());
        let (mut plus, mut minus) = (Buffer::new(), Buffer::new());
        // SAFETY: the caller's promise.
        let (w, plus) = unsafe { (self.way.w(at, len, &mut w), self.origin.moved::<MODE>(at, len, &mut plus)) };
        let minus = minus.copy(plus);
        perturb(&self.origin.p, plus, w, self.plus);
        perturb(&self.origin.p, minus, w, self.minus);
        let step = step.zeros(len);
        for ((step, plus), minus) in step.iter_mut().zip(&*plus).zip(&*minus) {
            *step = plus.widen() - minus.widen();
        }
        dot(step, w, &mut sums[0]);
    }
}

/// Σ x², Σ x·r, Σ x·θ in f64, for x = kept·a − host·b, or x = host·b without KEPT.
#[derive(Clone, Copy, Debug)]
pub struct ProjectKernel<T, const MODE: u8, const KEPT: bool> {
    /// Where θ′ comes from.
    pub origin: Origin<T>,
    /// The scalars in f64.
    pub s: Scalars<f64>,
    /// Kept gradient, read with KEPT.
    pub a: Read,
    /// The host's gradient; 0 where it has none.
    pub b: Option<Read>,
    /// Factor of a.
    pub kept: f64,
    /// Factor of b.
    pub host: f64,
}

impl<T: Float, const MODE: u8, const KEPT: bool> Tiles<3> for ProjectKernel<T, MODE, KEPT> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 3]) {
        let (o, s) = (&self.origin, self.s);
        let [mut p, mut g, mut m, mut v] = [const { Buffer::<T>::new() }; 4];
        // SAFETY: the caller's promise.
        let (p, (m, v)) = unsafe { (o.p.tile(at, len, &mut p), o.moments.tiles(at, len, (&mut m, &mut v))) };
        let (mut x, mut ratio, mut other) = (Buffer::<f64>::new(), Buffer::<f64>::new(), Buffer::<T>::new());
        let (x, ratio) = (x.zeros(len), ratio.zeros(len));
        if let Some(b) = self.b {
            // SAFETY: the caller's promise.
            let b = unsafe { b.tile(at, len, &mut other) };
            for (x, b) in x.iter_mut().zip(b) {
                *x = self.host * b.widen();
            }
        }
        if KEPT {
            // SAFETY: the caller's promise.
            let a = unsafe { self.a.tile(at, len, &mut other) };
            for (x, a) in x.iter_mut().zip(a) {
                *x = self.kept * a.widen() - *x;
            }
        }
        if MODE == STEP {
            // SAFETY: the caller's promise.
            let g = unsafe { o.g.tile(at, len, &mut g) };
            for (((ratio, g), m), v) in ratio.iter_mut().zip(g).zip(m).zip(v) {
                let (m, v) = s.moments::<true>(g.widen(), m.widen(), v.widen());
                *ratio = s.ratio(m, v);
            }
        } else {
            for ((ratio, m), v) in ratio.iter_mut().zip(m).zip(v) {
                *ratio = s.ratio(m.widen(), v.widen());
            }
        }
        square(x, &mut sums[0]);
        dot(x, ratio, &mut sums[1]);
        dot(x, p, &mut sums[2]);
    }
}
