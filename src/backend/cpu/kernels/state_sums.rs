//! The sums of a tensor's state: parameter, or masters, and moments.

use std::marker::PhantomData;

use super::elements::Buffer;
use super::gradient_sums::Zeros;
use super::load_store::{Moments, Param};
use super::number::Float;
use super::sums_f32::{SMALL, square_of};
use super::sums_f64::Sum;
use super::tile::{ChunkKernel, tile};
use crate::numeric::simd::{self, Kernel};

/// Σ θ², Σ m², Σ v².
pub struct StateSums<'a> {
    /// See [`Moments::low_precision`].
    pub low_precision: bool,
    /// Whether Σ m² is wanted.
    pub first_moment: bool,
    /// Where they are added.
    pub sums: [&'a mut Sum; 3],
}

impl StateSums<'_> {
    /// Adds those of a tile.
    #[inline(always)]
    pub fn add<T: Float>(self, p: &[T], m: &[T], v: &[T]) {
        let [of_p, of_m, of_v] = self.sums;
        square_of::<T, 0>(self.low_precision, p, of_p);
        if self.first_moment {
            square_of::<T, 0>(self.low_precision, m, of_m);
        }
        square_of::<T, SMALL>(self.low_precision, v, of_v);
    }
}

/// Adds the sums of a tile of the state.
pub struct AddStateSums<'a, T> {
    /// Which.
    pub sums: StateSums<'a>,
    /// Parameter, or masters.
    pub p: &'a [T],
    /// First moment.
    pub m: &'a [T],
    /// Second moment.
    pub v: &'a [T],
}

impl<T: Float> Kernel for AddStateSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.sums.add(self.p, self.m, self.v);
    }
}

/// Sums of the state as it is: Σ θ², Σ m², Σ v², zeros of m.
#[derive(Debug)]
pub struct StateKernel<'a, T> {
    /// Parameter.
    pub param: Param<'a>,
    /// Moments.
    pub moments: Moments<'a>,
    /// Whether zeros are counted.
    pub zeros: bool,
    /// The type that is computed in.
    pub compute: PhantomData<T>,
}

impl<T: Float> ChunkKernel<4> for StateKernel<'_, T> {
    type Buffers = [Buffer<T>; 3];

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        [Buffer::new(), Buffer::new(), Buffer::new()]
    }

    fn advance(&mut self, start: usize, left: usize, buffers: &mut Self::Buffers, sums: &mut [Sum; 4]) -> usize {
        let (range, [p, m, v], [of_p, of_m, of_v, of_zeros]) = (tile(start, left), buffers, sums);
        let p = self.param.load(range.clone(), p);
        let low_precision = self.moments.low_precision;
        let [m, v] = self.moments.load(range.clone(), [m, v]);
        let sums = StateSums { low_precision, first_moment: true, sums: [of_p, of_m, of_v] };
        simd::run_up_to_avx2(AddStateSums { sums, p, m, v });
        if self.zeros {
            simd::run_up_to_avx2(Zeros(m, of_zeros));
        }
        range.len()
    }
}
