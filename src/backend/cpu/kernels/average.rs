//! The average of a parameter: what the update adds to it, and its product with the gradient before that.

use super::convert::{round_stochastic, widen};
use super::elements::{Buffer, ElementsMut};
use super::number::Float;
use super::sums_f64::{Sum, dot_with_difference};
use crate::numeric::half::BF16;
use crate::numeric::simd::{self, Kernel};
use crate::numeric::stochastic_rounding::RoundingBits;
use std::ops::Range;

/// A chunk's average, and how it follows the parameter. Bfloat16 ones are rounded stochastically.
#[derive(Debug)]
pub struct Average<'a, T> {
    /// θ̄.
    pub elements: ElementsMut<'a>,
    /// 1/N.
    pub share: T,
    /// For stochastic rounding.
    pub random: RoundingBits,
}

impl<T: Float> Average<'_, T> {
    /// The elements of a range, in a computation in float32.
    pub fn part(&mut self, range: Range<usize>) -> Average<'_, f32> {
        Average { elements: self.elements.part(range), share: self.share.to_f32(), random: self.random }
    }

    /// A tile.
    #[inline(always)]
    pub fn load<'b>(&'b mut self, range: Range<usize>, buffer: &'b mut Buffer<T>) -> &'b mut [T] {
        if let ElementsMut::BF16(bits) = &self.elements {
            widen::<BF16, T>(&bits[range.clone()], buffer.first(range.len()));
        }
        self.elements.tile(range, buffer)
    }

    /// sum += Σ g·(θ − θ̄) of a tile.
    pub fn add_displacement(&mut self, range: Range<usize>, g: &[T], p: &[T], buffer: &mut Buffer<T>, sum: &mut Sum) {
        let average = self.load(range, buffer);
        simd::run_up_to_avx2(Displacement { g, p, average, sum });
    }

    /// θ̄ ← θ̄ + (θ − θ̄)/N of a tile.
    pub fn follow(&mut self, range: Range<usize>, p: &[T], buffer: &mut Buffer<T>) {
        let share = self.share;
        simd::run_up_to_avx2(Follow { p, average: self.load(range.clone(), buffer), share });
        self.store(range, buffer);
    }

    /// θ̄ ← θ of a tile, rounded to nearest.
    pub fn init(&mut self, range: Range<usize>, p: &[T], buffer: &mut Buffer<T>) {
        self.elements.tile(range.clone(), buffer).copy_from_slice(p);
        self.elements.store(range, buffer);
    }

    fn store(&mut self, range: Range<usize>, buffer: &mut Buffer<T>) {
        if let ElementsMut::BF16(bits) = &mut self.elements {
            let tile = T::as_f32(buffer.first(range.len()));
            round_stochastic::<BF16>(tile, &mut bits[range.clone()], self.random, range.start);
        }
    }
}

struct Displacement<'a, T> {
    g: &'a [T],
    p: &'a [T],
    average: &'a [T],
    sum: &'a mut Sum,
}

impl<T: Float> Kernel for Displacement<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        dot_with_difference(self.g, self.p, self.average, self.sum);
    }
}

struct Follow<'a, T> {
    p: &'a [T],
    average: &'a mut [T],
    share: T,
}

impl<T: Float> Kernel for Follow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (average, p) in self.average.iter_mut().zip(self.p) {
            *average = *average + (*p - *average) * self.share;
        }
    }
}
