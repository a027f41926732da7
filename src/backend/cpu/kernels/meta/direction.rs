//! The direction w of the Hessian product, and the perturbation radius·w.

use std::marker::PhantomData;
use std::ops::Range;

use crate::backend::Direction;
use crate::backend::cpu::kernels::elements::{Buffer, Elements};
use crate::backend::cpu::kernels::number::Float;
use crate::backend::cpu::kernels::sums_f64::{Sum, square};
use crate::backend::cpu::kernels::tile::{ChunkKernel, tile};
use crate::numeric::simd::{self, Kernel};

/// The direction w of the Hessian product, from the stored g and, where there is one, g′.
#[derive(Clone, Copy, Debug)]
pub struct DirectionOf<'a> {
    /// g of B1.
    pub g: Elements<'a>,
    /// g′ of B2.
    pub g2: Option<Elements<'a>>,
    /// Their factors.
    pub factors: Direction,
}

/// A tile of [`DirectionOf`].
#[derive(Clone, Copy)]
pub(super) struct DirectionTile<'a, T> {
    g: &'a [T],
    g2: Option<&'a [T]>,
    factors: Direction,
}

impl DirectionOf<'_> {
    pub(super) fn load<'b, T: Float>(
        &'b self,
        range: Range<usize>,
        [g, g2]: [&'b mut Buffer<T>; 2],
    ) -> DirectionTile<'b, T> {
        let (g, g2) = (self.g.load(range.clone(), g), self.g2.map(|all| all.load(range, g2)));
        DirectionTile { g, g2, factors: self.factors }
    }
}

impl<T: Float> DirectionTile<'_, T> {
    /// `f(w)` of each element, into `out`.
    #[inline(always)]
    fn map<U>(self, out: &mut [U], f: impl Fn(f64) -> U) {
        let Direction { train1, train2 } = self.factors;
        match self.g2 {
            Some(g2) => {
                for ((out, g), g2) in out.iter_mut().zip(self.g).zip(g2) {
                    *out = f(train2 * g2.widen() + train1 * g.widen());
                }
            }
            None => {
                for (out, g) in out.iter_mut().zip(self.g) {
                    *out = f(train1 * g.widen());
                }
            }
        }
    }
}

/// Adds Σ w².
struct DirectionSquare<'a, T> {
    direction: DirectionTile<'a, T>,
    w: &'a mut [f64],
    sum: &'a mut Sum,
}

impl<T: Float> Kernel for DirectionSquare<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.direction.map(self.w, |w| w);
        square(self.w, self.sum);
    }
}

/// The perturbation radius·w, rounded to the type that is computed in.
pub(super) struct Perturbation<'a, T> {
    pub direction: DirectionTile<'a, T>,
    pub radius: f64,
    pub out: &'a mut [T],
}

impl<T: Float> Kernel for Perturbation<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.direction.map(self.out, |w| T::round(self.radius * w));
    }
}

/// Σ w².
#[derive(Debug)]
pub struct DirectionNormKernel<'a, T> {
    /// w.
    pub direction: DirectionOf<'a>,
    /// The type that is computed in.
    pub compute: PhantomData<T>,
}

impl<T: Float> ChunkKernel<1> for DirectionNormKernel<'_, T> {
    type Buffers = ([Buffer<T>; 2], Buffer<f64>);

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        ([Buffer::new(), Buffer::new()], Buffer::new())
    }

    fn advance(&mut self, start: usize, left: usize, buffers: &mut Self::Buffers, sums: &mut [Sum; 1]) -> usize {
        let (range, ([g, g2], w)) = (tile(start, left), buffers);
        let (direction, w) = (self.direction.load(range.clone(), [g, g2]), w.first(range.len()));
        simd::run_up_to_avx2(DirectionSquare { direction, w, sum: &mut sums[0] });
        range.len()
    }
}

/// Replaces g by the perturbation.
#[derive(Debug)]
pub struct StorePerturbationKernel<'a, T> {
    /// The stored g of B1.
    pub g: &'a mut [T],
    /// g′ of B2.
    pub g2: Option<Elements<'a>>,
    /// Their factors in w.
    pub factors: Direction,
    /// The perturbation is radius·w.
    pub radius: f64,
}

impl<T: Float> ChunkKernel<0> for StorePerturbationKernel<'_, T> {
    type Buffers = [Buffer<T>; 2];

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        [Buffer::new(), Buffer::new()]
    }

    fn advance(&mut self, start: usize, left: usize, [g2, out]: &mut Self::Buffers, _: &mut [Sum; 0]) -> usize {
        let range = tile(start, left);
        let (g, out) = (&mut self.g[range.clone()], out.first(range.len()));
        let g2 = self.g2.map(|all| all.load(range.clone(), g2));
        let direction = DirectionTile { g, g2, factors: self.factors };
        simd::run_up_to_avx2(Perturbation { direction, radius: self.radius, out });
        g.copy_from_slice(out);
        range.len()
    }
}
