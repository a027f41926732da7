//! Sums where gradients or moments have 16 bits: within a tile in float32, from tile to tile in float64.
//!
//! A lane adds up 32 products, so the error is some 1e-7 of the sum, far below the precision of 16 bits, and no element
//! needs to be widened. A tile whose products may be out of float32's range is summed in float64.

use super::number::Float;
use super::sums_f64::{LANES, Sum, square, square_and_dot};

/// Second moments are multiplied by 2 to this power before they are squared: they are usually small.
pub const SMALL: u32 = 48;

/// 2 to this power.
#[inline(always)]
pub fn scale(exponent: u32) -> f32 {
    (1_u64 << exponent) as f32
}

/// The factor that turns a sum of squares of scaled elements into that of the elements.
#[inline(always)]
pub fn unscale(exponent: u32) -> f64 {
    1.0 / (f64::from(scale(exponent)) * f64::from(scale(exponent)))
}

/// A tile's lanes of a sum of squares hold if none is larger than the second bound, so that none overflowed, and one is at
/// least the first: what rounding below the smallest normal float32 has cost all lanes is less than 1e-6 of it.
pub const BOUNDS: [f32; 2] = [1e-36, 1e37];

#[inline(always)]
fn hold(lanes: &[f32; LANES]) -> bool {
    let [mut fits, mut suffices] = [true, false];
    for lane in lanes {
        fits &= *lane <= BOUNDS[1];
        suffices |= *lane >= BOUNDS[0];
    }
    fits & suffices
}

/// Whether there is nothing to sum, as in the moments of parameters that have not had a gradient for long. Then no lane holds.
#[inline(always)]
fn are_zero<A: Float>(a: &[A]) -> bool {
    let mut zero = true;
    for a in a {
        zero &= *a == A::ZERO;
    }
    zero
}

/// sum += Σ a² of a tile, in which the elements are multiplied by 2^EXPONENT.
#[inline(always)]
pub fn square_f32<A: Float, const EXPONENT: u32>(a: &[A], sum: &mut Sum) {
    let scale = scale(EXPONENT);
    let (blocks, rest) = a.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for block in blocks {
        for (lane, a) in lanes.iter_mut().zip(block) {
            let a = a.to_f32() * scale;
            *lane = a.mul_add(a, *lane);
        }
    }
    if hold(&lanes) {
        sum.add_lanes(&lanes, unscale(EXPONENT));
        if !rest.is_empty() {
            square(rest, sum);
        }
    } else if !are_zero(a) {
        square(a, sum);
    }
}

/// squares += Σ a², products += Σ a·b of a tile.
#[inline(always)]
pub fn square_and_dot_f32<A: Float>(a: &[A], b: &[A], squares: &mut Sum, products: &mut Sum) {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let (mut aa, mut ab) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            aa[lane] = a[lane].to_f32().mul_add(a[lane].to_f32(), aa[lane]);
        }
        for lane in 0..LANES {
            ab[lane] = a[lane].to_f32().mul_add(b[lane].to_f32(), ab[lane]);
        }
    }
    let finite = ab.iter().all(|x| x.is_finite());
    if finite && hold(&aa) {
        squares.add_lanes(&aa, 1.0);
        products.add_lanes(&ab, 1.0);
        if !a_rest.is_empty() {
            square_and_dot(a_rest, b_rest, squares, products);
        }
    } else if !(finite && are_zero(a)) {
        square_and_dot(a, b, squares, products);
    }
}

/// sum += Σ a²; with low precision in float32, in which the elements are multiplied by 2^EXPONENT.
#[inline(always)]
pub fn square_of<T: Float, const EXPONENT: u32>(low_precision: bool, a: &[T], sum: &mut Sum) {
    if low_precision {
        square_f32::<T, EXPONENT>(a, sum);
    } else {
        square(a, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some tiles of numbers of this size, the last one not full.
    fn tiles(size: f32) -> Vec<Vec<f32>> {
        let number = |i: usize| size * ((i * 7919 % 1000) as f32 / 500.0 - 1.0);
        [512, 512, 0, 300, 5].iter().map(|n| (0..*n).map(number).collect()).collect()
    }

    #[test]
    fn sums_are_float64s_to_a_millionth_whatever_the_size() {
        for exponent in -44..=38 {
            let a = tiles(10_f32.powi(exponent));
            let b = tiles(0.3);
            let (mut exact, mut short, mut small) = ([Sum::ZERO; 2], [Sum::ZERO; 2], Sum::ZERO);
            for (a, b) in a.iter().zip(&b) {
                let [squares, products] = &mut exact;
                square_and_dot(a, b, squares, products);
                let [squares, products] = &mut short;
                square_and_dot_f32(a, b, squares, products);
                square_f32::<f32, 48>(a, &mut small);
            }
            let [square, product] = exact.map(Sum::total);
            assert!((short[0].total() / square - 1.0).abs() < 1e-6 || square == 0.0, "size 1e{exponent}");
            assert!((small.total() / square - 1.0).abs() < 1e-6 || square == 0.0, "size 1e{exponent}");
            assert!((short[1].total() / product - 1.0).abs() < 1e-6 || product == 0.0, "size 1e{exponent}");
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for value in [f32::NAN, f32::INFINITY] {
            let mut a = vec![1.0_f32; 512];
            a[77] = value;
            let (mut squares, mut products) = (Sum::ZERO, Sum::ZERO);
            square_and_dot_f32(&a, &vec![1.0; 512], &mut squares, &mut products);
            assert!(!squares.total().is_finite() && !products.total().is_finite());
            let mut squares = Sum::ZERO;
            square_f32::<f32, 0>(&a, &mut squares);
            assert!(!squares.total().is_finite());
        }
    }
}
