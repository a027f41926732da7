//! The sums of a gradient.

use std::marker::PhantomData;

use super::elements::{Buffer, Elements};
use super::number::Float;
use super::sums_f32::{square_and_dot_f32, square_of};
use super::sums_f64::{Sum, square_and_dot, zeros};
use super::tile::{ChunkKernel, tile};
use crate::backend::cpu::arch;
use crate::numeric::simd::{self, Kernel};

/// Σ g², Σ g·m, zeros of g, Σ m².
#[derive(Debug)]
pub struct GradientKernel<'a, T> {
    /// Gradient.
    pub g: Elements<'a>,
    /// First moment, if its sums are wanted.
    pub m: Option<Elements<'a>>,
    /// See [`Moments::low_precision`](super::load_store::Moments::low_precision).
    pub low_precision: bool,
    /// Whether Σ m² is wanted.
    pub first_moment: bool,
    /// Whether zeros are counted.
    pub zeros: bool,
    /// The type that is computed in.
    pub compute: PhantomData<T>,
}

impl<T: Float> ChunkKernel<4> for GradientKernel<'_, T> {
    type Buffers = [Buffer<T>; 2];

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        [Buffer::new(), Buffer::new()]
    }

    fn advance(&mut self, start: usize, left: usize, [g, m]: &mut Self::Buffers, sums: &mut [Sum; 4]) -> usize {
        let [squares, products, zeros, first_moment] = sums;
        if let (Elements::BF16(g), Some(m), false) = (self.g, self.m, self.zeros) {
            let part = start..start + left;
            let first_moment = self.first_moment.then_some(&mut *first_moment);
            let done = arch::bf16_gradient_sums(&g[part.clone()], m.part(part), [squares, products], first_moment);
            if done > 0 {
                return done;
            }
        }
        let range = if self.is_in_place() && !self.zeros { start..start + left } else { tile(start, left) };
        let g = self.g.load(range.clone(), g);
        let m = self.m.map(|all| all.load(range.clone(), m));
        let (low_precision, of_m) = (self.low_precision, self.first_moment.then_some(first_moment));
        simd::run_up_to_avx2(GradientSums { g, m, low_precision, squares, products, first_moment: of_m });
        if self.zeros {
            simd::run_up_to_avx2(Zeros(g, zeros));
        }
        range.len()
    }
}

impl<T: Float> GradientKernel<'_, T> {
    /// Whether there is nothing to convert and sums are in float64: then they need no tiles.
    fn is_in_place(&self) -> bool {
        !self.low_precision && T::in_place(self.g).is_some() && self.m.is_none_or(|m| T::in_place(m).is_some())
    }
}

/// Adds Σ g², Σ g·m and Σ m².
struct GradientSums<'a, T> {
    g: &'a [T],
    m: Option<&'a [T]>,
    low_precision: bool,
    squares: &'a mut Sum,
    products: &'a mut Sum,
    first_moment: Option<&'a mut Sum>,
}

impl<T: Float> Kernel for GradientSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { g, m, low_precision, squares, products, first_moment } = self;
        let Some(m) = m else {
            return square_of::<T, 0>(low_precision, g, squares);
        };
        if low_precision {
            square_and_dot_f32(g, m, squares, products);
        } else {
            square_and_dot(g, m, squares, products);
        }
        if let Some(sum) = first_moment {
            square_of::<T, 0>(low_precision, m, sum);
        }
    }
}

/// Adds the number of zeros.
pub struct Zeros<'a, T>(pub &'a [T], pub &'a mut Sum);

impl<T: Float> Kernel for Zeros<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        zeros(self.0, self.1);
    }
}
