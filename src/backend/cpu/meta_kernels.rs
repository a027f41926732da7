//! The meta-update's loops over a chunk: θ′ and its neighbours, products with what θ′ is made of.
//!
//! As in `kernels.rs`. θ′ is what would be stored: rounded to nearest in the parameter's dtype, also where a step would
//! round by chance; where there are masters, it is what the moved master shows.

use std::marker::PhantomData;

use super::float::Float;
use super::kernels::{Scalars, Tiles};
use super::operand::{Buffer, Moments, Read, Weights, Write};
use super::sums::{Sum, dot, square, square_and_dot, zeros};

/// Keeps a gradient; Σ g², Σ g·(another vector), zeros of g.
#[derive(Clone, Copy, Debug)]
pub struct KeepKernel<T, const ZEROS: bool> {
    /// The host's gradient.
    pub g: Read,
    /// Where it is kept, in the same dtype.
    pub kept: Write,
    /// The other vector.
    pub other: Read,
    /// What is computed in.
    pub compute: PhantomData<T>,
}

impl<T: Float, const ZEROS: bool> Tiles<3> for KeepKernel<T, ZEROS> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 3]) {
        let (mut g, mut other) = (Buffer::<T>::new(), Buffer::<T>::new());
        // SAFETY: the caller's promise.
        let (g, other) = unsafe {
            self.g.copy_to(self.kept, at, len);
            (self.g.tile(at, len, &mut g), self.other.tile(at, len, &mut other))
        };
        let [squares, products, count] = sums;
        square_and_dot(g, other, squares, products);
        if ZEROS {
            zeros(g, count);
        }
    }
}

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

/// Memory for the tiles of a [`Point`].
struct Buffers<T>([Buffer<T>; 6]);

/// A tile of θ′ and of what it is made of.
struct Point<'a, T> {
    /// θ, or its masters.
    p: &'a [T],
    /// m′/(√v̂′ + ε); empty where the tensor stays.
    ratio: &'a [T],
    /// θ′.
    moved: &'a mut [T],
}

impl<T: Float> Origin<T> {
    /// θ′ of elements `at .. at + len`: the same bits whenever it is asked for.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn point<'a, const MODE: u8>(&self, at: usize, len: usize, buffers: &'a mut Buffers<T>) -> Point<'a, T> {
        let [p, g, m, v, ratio, moved] = &mut buffers.0;
        if MODE == STAY {
            // SAFETY: the caller's promise.
            let p = unsafe { self.p.as_shown().tile(at, len, p) };
            return Point { moved: moved.copy(p), p, ratio: &[] };
        }
        // SAFETY: the caller's promise.
        let (p, (m, v)) = unsafe { (self.p.tile(at, len, p), self.moments.tiles(at, len, (m, v))) };
        // SAFETY: all are written below.
        let (ratio, moved) = unsafe { (ratio.of(len), moved.of(len)) };
        let s = self.s;
        if MODE == STEP {
            // SAFETY: the caller's promise.
            let g = unsafe { self.g.tile(at, len, g) };
            if !self.moments.short {
                ratios::<T, true>(s, ratio, g, m, v);
            } else {
                ratios::<T, false>(s, ratio, g, m, v);
            }
        } else {
            for ((ratio, m), v) in ratio.iter_mut().zip(m).zip(v) {
                *ratio = s.ratio(*m, *v);
            }
        }
        for ((moved, p), ratio) in moved.iter_mut().zip(&*p).zip(&*ratio) {
            *moved = s.param(*p, *ratio);
        }
        self.p.round_as_shown(moved);
        Point { p, ratio, moved }
    }
}

#[inline(always)]
fn ratios<T: Float, const EXACT: bool>(s: Scalars<T>, ratio: &mut [T], g: &[T], m: &[T], v: &[T]) {
    for (((ratio, g), m), v) in ratio.iter_mut().zip(g).zip(m).zip(v) {
        let (m, v) = s.moments::<EXACT>(*g, *m, *v);
        *ratio = s.ratio(m, v);
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
        let mut buffers = Buffers([const { Buffer::new() }; 6]);
        // SAFETY: the caller's promise.
        let Point { moved, .. } = unsafe { self.origin.point::<MODE>(at, len, &mut buffers) };
        square(moved, &mut sums[0]);
        // SAFETY: the caller's promise.
        unsafe { self.out.put(at, moved) };
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
        // SAFETY: the caller's promise.
        let (g, g2) = unsafe { (self.g.tile(at, len, &mut g), self.g2.tile(at, len, &mut g2)) };
        // SAFETY: all are written below.
        let w = unsafe { out.of(len) };
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

/// x: the host's gradients or a difference of theirs to g′.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// The host's gradient; 0 where it has none.
    pub host: Option<Read>,
    /// Its factor.
    pub host_factor: f64,
    /// g′, where a difference is wanted.
    pub train2: Option<Read>,
    /// Its factor.
    pub train2_factor: f64,
}

impl Sight {
    /// x of elements `at .. at + len`, in f64.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn x<'a, T: Float>(&self, at: usize, len: usize, out: &'a mut Buffer<f64>) -> &'a mut [f64] {
        let (mut host, mut train2) = (Buffer::<T>::new(), Buffer::<T>::new());
        // SAFETY: all are written below.
        let x = unsafe { out.of(len) };
        match self.host {
            Some(read) => {
                // SAFETY: the caller's promise.
                let host = unsafe { read.tile(at, len, &mut host) };
                for (x, g) in x.iter_mut().zip(host) {
                    *x = self.host_factor * g.widen();
                }
            }
            None => x.fill(0.0),
        }
        if let Some(read) = self.train2 {
            // SAFETY: the caller's promise.
            let train2 = unsafe { read.tile(at, len, &mut train2) };
            for (x, g) in x.iter_mut().zip(train2) {
                *x -= self.train2_factor * g.widen();
            }
        }
        x
    }
}

/// The host's parameter at a neighbour of θ′.
#[derive(Clone, Copy, Debug)]
pub struct Visit<T> {
    /// w.
    pub way: Way<T>,
    /// The neighbour is θ′ + radius·w.
    pub radius: f64,
    /// The host's parameter.
    pub out: Write,
}

/// With LOOK Σ x·r and Σ x·θ. With VISIT writes θ′ + radius·w; ⟨what was written − θ′, w⟩.
#[derive(Clone, Copy, Debug)]
pub struct ProbeKernel<T, const MODE: u8, const LOOK: bool, const VISIT: bool> {
    /// Where θ′ comes from.
    pub origin: Origin<T>,
    /// x; read with LOOK.
    pub sight: Sight,
    /// Read with VISIT.
    pub visit: Visit<T>,
}

impl<T: Float, const MODE: u8, const LOOK: bool, const VISIT: bool> Tiles<3> for ProbeKernel<T, MODE, LOOK, VISIT> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 3]) {
        let mut buffers = Buffers([const { Buffer::new() }; 6]);
        // SAFETY: the caller's promise.
        let Point { p, ratio, moved } = unsafe { self.origin.point::<MODE>(at, len, &mut buffers) };
        if LOOK {
            let mut x = Buffer::new();
            // SAFETY: the caller's promise.
            let x = unsafe { self.sight.x::<T>(at, len, &mut x) };
            if MODE != STAY {
                dot(x, ratio, &mut sums[0]);
            }
            dot(x, p, &mut sums[1]);
        }
        if VISIT {
            let (mut w, mut stored, mut made) = (Buffer::new(), Buffer::<T>::new(), Buffer::<f64>::new());
            // SAFETY: the caller's promise; the rest is written below.
            let (w, stored, made) = unsafe { (self.visit.way.w(at, len, &mut w), stored.of(len), made.of(len)) };
            for ((stored, moved), w) in stored.iter_mut().zip(&*moved).zip(&*w) {
                *stored = T::round(moved.widen() + self.visit.radius * w);
            }
            self.origin.p.as_shown().round_as_shown(stored);
            for ((made, stored), moved) in made.iter_mut().zip(&*stored).zip(&*moved) {
                *made = stored.widen() - moved.widen();
            }
            dot(made, w, &mut sums[2]);
            // SAFETY: the caller's promise.
            unsafe { self.visit.out.put(at, stored) };
        }
    }
}
