//! The step's and the meta-update's loops over a chunk: the definition for every dtype and instruction set.
//!
//! A kernel works tile by tile: on [`TILE`] elements, which stay in the first-level cache, it runs plain loops, first
//! over the elements, then over each sum that it makes of them (`sums.rs`). Element arithmetic is in the tensor's
//! dtype (the moments, θ and θ′) or in float64 (what only feeds sums). Nothing is contracted into a fused multiply-add.
//! So the width of the vectors that [`crate::simd`] allows the compiler decides no bit.

use std::marker::PhantomData;

use super::float::Float;
use super::operand::{Buffer, Moments, Read, Weights};
use super::sums::{LANES, Sum, dot, square, square_and_dot, zeros};
use crate::noise::Noise;
use crate::simd::Kernel;
use crate::update::Coefficients;

/// Elements of a tile; a multiple of [`LANES`], so that tiles do not shift lanes.
pub const TILE: usize = 512;
const _: () = assert!(TILE.is_multiple_of(LANES));

/// A pointer to the first element of a chunk that is only read.
#[derive(Clone, Copy, Debug)]
pub struct In<T>(pub *const T);

/// A pointer to the first element of a chunk that is read and written.
#[derive(Clone, Copy, Debug)]
pub struct InOut<T>(pub *mut T);

impl<T> In<T> {
    /// # Safety
    /// Elements `at .. at + len` are readable and not written for `'a`.
    #[inline(always)]
    unsafe fn tile<'a>(self, at: usize, len: usize) -> &'a [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.0.add(at), len) }
    }
}

impl<T> InOut<T> {
    /// # Safety
    /// Elements `at .. at + len` are readable and writable, through this slice alone, for `'a`.
    #[inline(always)]
    unsafe fn tile<'a>(self, at: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), len) }
    }
}

/// Work on tiles that ends in N sums.
pub trait Tiles<const N: usize> {
    /// Handles elements `at .. at + len` (len ≤ [`TILE`]) and adds to the sums.
    ///
    /// # Safety
    /// The kernel's pointers are valid for these elements, do not overlap, and no other thread touches them.
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; N]);
}

/// Runs a kernel over a chunk of `len` elements.
#[derive(Debug)]
pub struct Drive<K, const N: usize> {
    kernel: K,
    len: usize,
}

impl<K: Tiles<N>, const N: usize> Drive<K, N> {
    /// # Safety
    /// Until the drive has run, the kernel's pointers are valid for `len` elements, do not overlap, and no other thread
    /// touches these elements.
    pub unsafe fn new(kernel: K, len: usize) -> Self {
        Self { kernel, len }
    }
}

impl<K: Tiles<N>, const N: usize> Kernel for Drive<K, N> {
    type Output = [f64; N];

    #[inline(always)]
    fn run(self) -> [f64; N] {
        let mut sums = [Sum::ZERO; N];
        let mut at = 0;
        while at < self.len {
            let len = TILE.min(self.len - at);
            // SAFETY: at + len ≤ self.len, and `new`'s promise.
            unsafe { self.kernel.tile(at, len, &mut sums) };
            at += len;
        }
        sums.map(Sum::total)
    }
}

/// Tile-sized memory on the stack.
#[inline(always)]
fn buffer<T: Float>() -> [T; TILE] {
    [T::ZERO; TILE]
}

/// [`Coefficients`] in the tensor's dtype.
#[derive(Clone, Copy, Debug)]
pub struct Scalars<T> {
    gradient: T,
    beta1: f64,
    one_minus_beta1: f64,
    beta2: T,
    one_minus_beta2: T,
    second_moment: T,
    eps: T,
    step_size: T,
    decay: T,
}

impl<T: Float> Scalars<T> {
    /// Each rounded at most once.
    #[must_use]
    pub fn new(c: &Coefficients) -> Self {
        Self {
            gradient: T::round(c.gradient),
            beta1: c.beta1,
            one_minus_beta1: 1.0 - c.beta1,
            beta2: T::round(c.beta2),
            one_minus_beta2: T::round(1.0 - c.beta2),
            second_moment: T::round(c.second_moment),
            eps: T::round(c.eps),
            step_size: T::round(c.step_size),
            decay: T::round(c.decay),
        }
    }

    /// The new first and second moment. m is rounded once: its cosine with g is a feature, and small differences of it
    /// decide there.
    #[inline(always)]
    fn moments(&self, g: T, m: T, v: T) -> (T, T) {
        let g = g * self.gradient;
        let m = T::round(self.beta1 * m.widen() + self.one_minus_beta1 * g.widen());
        (m, self.beta2 * v + self.one_minus_beta2 * (g * g))
    }

    /// m/(√v̂ + ε), without m's bias correction (that is in the step size).
    #[inline(always)]
    fn ratio(&self, m: T, v: T) -> T {
        m / (v.sqrt() * self.second_moment + self.eps)
    }

    /// The new parameter: eq. 4.
    #[inline(always)]
    fn param(&self, p: T, m: T, v: T) -> T {
        p - (self.step_size * self.ratio(m, v) + self.decay * p)
    }

    /// The AdamW step in place.
    #[inline(always)]
    fn update(self, p: &mut [T], g: &[T], m: &mut [T], v: &mut [T]) {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            (*m, *v) = self.moments(*g, *m, *v);
            *p = self.param(*p, *m, *v);
        }
    }
}

/// Σ g², Σ g·m, zeros of g.
#[derive(Clone, Copy, Debug)]
pub struct GradientKernel<T, const MOMENTUM: bool, const ZEROS: bool> {
    /// Gradient.
    pub g: Read,
    /// First moment, read with MOMENTUM.
    pub m: Read,
    /// What is computed in.
    pub compute: PhantomData<T>,
}

impl<T: Float, const MOMENTUM: bool, const ZEROS: bool> Tiles<3> for GradientKernel<T, MOMENTUM, ZEROS> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 3]) {
        let (mut g, mut m) = (Buffer::<T>::new(), Buffer::<T>::new());
        // SAFETY: the caller's promise.
        let g = unsafe { self.g.tile(at, len, &mut g) };
        let [squares, products, _] = sums;
        if MOMENTUM {
            // SAFETY: the caller's promise.
            square_and_dot(g, unsafe { self.m.tile(at, len, &mut m) }, squares, products);
        } else {
            square(g, squares);
        }
        if ZEROS {
            zeros(g, &mut sums[2]);
        }
    }
}

/// Σ θ², Σ m², Σ v², zeros of m.
#[inline(always)]
fn state_sums<T: Float, const ZEROS: bool>(p: &[T], m: &[T], v: &[T], sums: &mut [Sum]) {
    square(p, &mut sums[0]);
    square(m, &mut sums[1]);
    square(v, &mut sums[2]);
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
        state_sums::<T, ZEROS>(p, m, v, sums);
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
    pub noise: [Noise; 2],
}

impl<T: Float> Step<T> {
    /// The step on one tile; then `look` at the gradient and at what is stored: parameter (or master), m and v.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, look: impl FnOnce(&[T], &[T], &[T], &[T])) {
        let [mut p, mut g, mut m, mut v] = [const { Buffer::<T>::new() }; 4];
        // SAFETY: the caller's promise.
        let (p, g, (m, v)) = unsafe {
            (self.p.tile(at, len, &mut p), self.g.tile(at, len, &mut g), self.moments.tiles(at, len, (&mut m, &mut v)))
        };
        self.s.update(p, g, m, v);
        // SAFETY: the caller's promise; these are their tiles.
        unsafe {
            self.p.store(at, p, self.noise[0]);
            self.moments.store(at, m, v, self.noise[1]);
        }
        look(g, p, m, v);
    }
}

/// The AdamW step; sums of the state that it leaves, and Σ g·m of the effective gradient with the new m.
#[derive(Clone, Copy, Debug)]
pub struct UpdateKernel<T, const ZEROS: bool, const MOMENTUM: bool>(pub Step<T>);

impl<T: Float, const ZEROS: bool, const MOMENTUM: bool> Tiles<5> for UpdateKernel<T, ZEROS, MOMENTUM> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 5]) {
        let look = |g: &[T], p: &[T], m: &[T], v: &[T]| {
            state_sums::<T, ZEROS>(p, m, v, sums);
            if MOMENTUM {
                let mut effective = Buffer::<T>::new();
                dot(effective.fill(g, |_, g| g * self.0.s.gradient), m, &mut sums[4]);
            }
        };
        // SAFETY: the caller's promise.
        unsafe { self.0.tile(at, len, look) }
    }
}

/// The AdamW step without sums.
#[derive(Clone, Copy, Debug)]
pub struct PlainKernel<T>(pub Step<T>);

impl<T: Float> Tiles<0> for PlainKernel<T> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, _: &mut [Sum; 0]) {
        // SAFETY: the caller's promise.
        unsafe { self.0.tile(at, len, |_, _, _, _| {}) }
    }
}

/// Masters that begin with what the host's parameter says.
#[derive(Clone, Copy, Debug)]
pub struct BeginKernel(pub Weights);

impl Tiles<0> for BeginKernel {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, _: &mut [Sum; 0]) {
        // SAFETY: the caller's promise.
        unsafe { self.0.begin_masters(at, len) }
    }
}

/// The number of elements that are not what their masters show.
#[derive(Clone, Copy, Debug)]
pub struct StrangersKernel(pub Weights);

impl Tiles<1> for StrangersKernel {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 1]) {
        // SAFETY: the caller's promise.
        sums[0].add_one(unsafe { self.0.strangers(at, len) } as f64);
    }
}

/// What θ′ is made from: θ and g as the meta-update kept them, the moments, and the scalars.
#[derive(Clone, Copy, Debug)]
pub struct Origin<T> {
    /// θ.
    pub p: In<T>,
    /// g of B1; only read by [`STEP`].
    pub g: In<T>,
    /// First moment.
    pub m: In<T>,
    /// Second moment.
    pub v: In<T>,
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
    /// θ′ into `out`, in the tensor's dtype: the same bits whenever it is asked for.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn moved<const MODE: u8>(&self, at: usize, out: &mut [T]) {
        // SAFETY: the caller's promise.
        let (p, g, m, v) = unsafe {
            let len = out.len();
            (self.p.tile(at, len), self.g.tile(at, len), self.m.tile(at, len), self.v.tile(at, len))
        };
        let s = self.s;
        match MODE {
            STAY => out.copy_from_slice(p),
            STEP => {
                for ((((out, p), g), m), v) in out.iter_mut().zip(p).zip(g).zip(m).zip(v) {
                    let (m, v) = s.moments(*g, *m, *v);
                    *out = s.param(*p, m, v);
                }
            }
            _ => {
                for (((out, p), m), v) in out.iter_mut().zip(p).zip(m).zip(v) {
                    *out = s.param(*p, *m, *v);
                }
            }
        }
    }
}

/// Writes θ′; Σ θ′².
#[derive(Clone, Copy, Debug)]
pub struct MovedKernel<T, const MODE: u8> {
    /// Where θ′ comes from.
    pub origin: Origin<T>,
    /// The host's parameter.
    pub out: InOut<T>,
}

impl<T: Float, const MODE: u8> Tiles<1> for MovedKernel<T, MODE> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 1]) {
        // SAFETY: the caller's promise.
        let out = unsafe {
            let out = self.out.tile(at, len);
            self.origin.moved::<MODE>(at, out);
            out
        };
        square(out, &mut sums[0]);
    }
}

/// Σ g′², Σ g·g′.
#[derive(Clone, Copy, Debug)]
pub struct AlignmentKernel<T> {
    /// g of B1.
    pub g: In<T>,
    /// g′ of B2.
    pub g2: In<T>,
}

impl<T: Float> Tiles<2> for AlignmentKernel<T> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 2]) {
        // SAFETY: the caller's promise.
        let (g, g2) = unsafe { (self.g.tile(at, len), self.g2.tile(at, len)) };
        square(g2, &mut sums[0]);
        dot(g, g2, &mut sums[1]);
    }
}

/// The direction w of the Hessian product, element by element in f64.
#[derive(Clone, Copy, Debug)]
pub struct Way<T> {
    /// g of B1.
    pub g: In<T>,
    /// g′ of B2.
    pub g2: In<T>,
    /// Factor of g.
    pub train1: f64,
    /// Factor of g′.
    pub train2: f64,
}

impl<T: Float> Way<T> {
    /// Writes w to `out`.
    ///
    /// # Safety
    /// As for [`Tiles::tile`].
    #[inline(always)]
    unsafe fn w(&self, at: usize, out: &mut [f64]) {
        // SAFETY: the caller's promise.
        let (g, g2) = unsafe { (self.g.tile(at, out.len()), self.g2.tile(at, out.len())) };
        for ((w, g), g2) in out.iter_mut().zip(g).zip(g2) {
            *w = self.train2 * g2.widen() + self.train1 * g.widen();
        }
    }
}

/// Σ w².
impl<T: Float> Tiles<1> for Way<T> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 1]) {
        let mut w = buffer::<f64>();
        let w = &mut w[..len];
        // SAFETY: the caller's promise.
        unsafe { self.w(at, w) };
        square(w, &mut sums[0]);
    }
}

/// θ′ + radius·w, rounded to the dtype.
#[inline(always)]
fn stored<T: Float>(moved: T, w: f64, radius: f64) -> T {
    T::round(moved.widen() + radius * w)
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
    pub out: InOut<T>,
}

impl<T: Float, const MODE: u8> Tiles<0> for PerturbedKernel<T, MODE> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, _: &mut [Sum; 0]) {
        let mut w = buffer::<f64>();
        let w = &mut w[..len];
        // SAFETY: the caller's promise.
        let out = unsafe {
            self.way.w(at, w);
            let out = self.out.tile(at, len);
            self.origin.moved::<MODE>(at, out);
            out
        };
        for (out, w) in out.iter_mut().zip(w) {
            *out = stored(*out, *w, self.radius);
        }
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
        let (mut w, mut moved, mut step) = (buffer::<f64>(), buffer::<T>(), buffer::<f64>());
        let (w, moved, step) = (&mut w[..len], &mut moved[..len], &mut step[..len]);
        // SAFETY: the caller's promise.
        unsafe {
            self.way.w(at, w);
            self.origin.moved::<MODE>(at, moved);
        }
        for ((step, moved), w) in step.iter_mut().zip(&*moved).zip(&*w) {
            *step = stored(*moved, *w, self.plus).widen() - stored(*moved, *w, self.minus).widen();
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
    pub a: In<T>,
    /// The host's gradient; 0 where it has none.
    pub b: Option<In<T>>,
    /// Factor of a.
    pub kept: f64,
    /// Factor of b.
    pub host: f64,
}

impl<T: Float, const MODE: u8, const KEPT: bool> Tiles<3> for ProjectKernel<T, MODE, KEPT> {
    #[inline(always)]
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; 3]) {
        let (o, s) = (&self.origin, self.s);
        // SAFETY: the caller's promise.
        let (p, g, m, v, a) = unsafe {
            (o.p.tile(at, len), o.g.tile(at, len), o.m.tile(at, len), o.v.tile(at, len), self.a.tile(at, len))
        };
        let (mut x, mut ratio) = (buffer::<f64>(), buffer::<f64>());
        let (x, ratio) = (&mut x[..len], &mut ratio[..len]);
        if let Some(b) = self.b {
            // SAFETY: the caller's promise.
            let b = unsafe { b.tile(at, len) };
            for (x, b) in x.iter_mut().zip(b) {
                *x = self.host * b.widen();
            }
        }
        if KEPT {
            for (x, a) in x.iter_mut().zip(a) {
                *x = self.kept * a.widen() - *x;
            }
        }
        for (((ratio, g), m), v) in ratio.iter_mut().zip(g).zip(m).zip(v) {
            let (m, v) = (m.widen(), v.widen());
            let (m, v) = if MODE == STEP { s.moments(g.widen(), m, v) } else { (m, v) };
            *ratio = s.ratio(m, v);
        }
        square(x, &mut sums[0]);
        dot(x, ratio, &mut sums[1]);
        dot(x, p, &mut sums[2]);
    }
}
