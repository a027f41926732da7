//! Sums where gradients or moments have 16 bits: within a tile in float32, in 32 lanes; from tile to tile in float64.
//!
//! A lane adds up 16 products, so the error is some 1e-7 of the sum, far below what 16 bits are exact to, and no element
//! needs to be widened. Where float32 might not hold the products, a tile is done in float64 (`sums.rs`).

use super::float::Float;
use super::sums::{LANES, Sum, square, square_and_dot};

const WIDE: usize = 2 * LANES;

/// Sums of a tile that surely neither overflowed nor lost more than 1e-6 of itself below the smallest normal float32.
#[inline(always)]
fn sound(lanes: &[f32; WIDE]) -> bool {
    let mut unsound = 0_u32;
    for lane in lanes {
        unsound |= u32::from(!(1e-30..=1e37).contains(lane));
    }
    unsound == 0
}

/// sum += Σ a². The elements are multiplied by 2^EXPONENT on their way, for those that are small in the rule.
#[inline(always)]
pub fn short_square<A: Float, const EXPONENT: u32>(a: &[A], sum: &mut Sum) {
    let scale = (1_u64 << EXPONENT) as f32;
    let (blocks, rest) = a.as_chunks::<WIDE>();
    let mut lanes = [0.0; WIDE];
    for block in blocks {
        for (lane, a) in lanes.iter_mut().zip(block) {
            let a = a.to_f32() * scale;
            *lane += a * a;
        }
    }
    if sound(&lanes) {
        let unscale = 1.0 / (f64::from(scale) * f64::from(scale));
        sum.add_halves(&lanes, unscale);
        if !rest.is_empty() {
            square(rest, sum);
        }
    } else {
        square(a, sum);
    }
}

/// squares += Σ a², products += Σ a·b.
#[inline(always)]
pub fn short_square_and_dot<A: Float>(a: &[A], b: &[A], squares: &mut Sum, products: &mut Sum) {
    let (a_blocks, a_rest) = a.as_chunks::<WIDE>();
    let (b_blocks, b_rest) = b.as_chunks::<WIDE>();
    let (mut aa, mut ab) = ([0.0_f32; WIDE], [0.0_f32; WIDE]);
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..WIDE {
            aa[lane] += a[lane].to_f32() * a[lane].to_f32();
        }
        for lane in 0..WIDE {
            ab[lane] += a[lane].to_f32() * b[lane].to_f32();
        }
    }
    if sound(&aa) && ab.iter().all(|x| x.is_finite()) {
        squares.add_halves(&aa, 1.0);
        products.add_halves(&ab, 1.0);
        if !a_rest.is_empty() {
            square_and_dot(a_rest, b_rest, squares, products);
        }
    } else {
        square_and_dot(a, b, squares, products);
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
                short_square_and_dot(a, b, squares, products);
                short_square::<f32, 48>(a, &mut small);
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
            short_square_and_dot(&a, &vec![1.0; 512], &mut squares, &mut products);
            assert!(!squares.total().is_finite() && !products.total().is_finite());
            let mut squares = Sum::ZERO;
            short_square::<f32, 0>(&a, &mut squares);
            assert!(!squares.total().is_finite());
        }
    }
}
