//! Sums of a tile in fixed lanes: element i of a chunk goes to lane i mod [`LANES`], in order.
//!
//! The shape of these loops is what the compiler turns into full-width vectors: each step fills a short array from one
//! source, and only one accumulator is alive. Two sums in one loop it pairs up across accumulators instead.

use super::float::Float;
use crate::simd::{LANES, Lanes};

/// sum += Σ a·b, both widened.
#[inline(always)]
pub fn dot<A: Float, B: Float>(a: &[A], b: &[B], sum: &mut Lanes) {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = sum.0;
    for (a, b) in a.iter().zip(b) {
        let mut wide_a = [0.0; LANES];
        for lane in 0..LANES {
            wide_a[lane] = a[lane].widen();
        }
        let mut wide_b = [0.0; LANES];
        for lane in 0..LANES {
            wide_b[lane] = b[lane].widen();
        }
        for lane in 0..LANES {
            lanes[lane] += wide_a[lane] * wide_b[lane];
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] += a.widen() * b.widen();
    }
    sum.0 = lanes;
}

/// sum += Σ a².
#[inline(always)]
pub fn square<A: Float>(a: &[A], sum: &mut Lanes) {
    dot(a, a, sum);
}

/// sum += the number of zeros in a.
#[inline(always)]
pub fn zeros<A: Float>(a: &[A], sum: &mut Lanes) {
    let (a, rest) = a.as_chunks::<LANES>();
    let mut lanes = sum.0;
    let one = |x: A| if x == A::ZERO { 1.0 } else { 0.0 };
    for a in a {
        for lane in 0..LANES {
            lanes[lane] += one(a[lane]);
        }
    }
    for (lane, a) in rest.iter().enumerate() {
        lanes[lane] += one(*a);
    }
    sum.0 = lanes;
}
