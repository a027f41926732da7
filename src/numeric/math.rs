//! Elementary functions of our own, so that no platform's libm decides a bit of the result.
//!
//! Each is a fixed sequence of IEEE operations, without FMA and without tables; [`exp`] and [`ln`] are within 2 ulp,
//! [`exp2_of_negative`] within 4.
//! [`exp`] and [`sigmoid`] have no branches: a loop over a slice that calls them is vectorised.

use crate::numeric::simd::{LANES, Lanes};

/// 1.5 · 2⁵²: adding it rounds to an integer, which then stands in the low bits of the sum.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// ln 2 to 32 bits, so that n · `LN2_HIGH` is exact for every exponent n.
const LN2_HIGH: f64 = f64::from_bits(0x3FE6_2E42_FEE0_0000);
/// ln 2 − `LN2_HIGH`.
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// eˣ within 2 ulp, subnormal results within one unit of their last place. NaN stays NaN.
///
/// x = n ln 2 + r with |r| ≤ ½ ln 2, by Cody and Waite; eʳ by a polynomial; then 2ⁿ in two halves, since 2ⁿ itself may
/// lie outside the range where eˣ does not.
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    // Beyond these the result is 0 and ∞ anyway, and n stays small. The comparisons let a NaN pass.
    let x = if x < -746.0 { -746.0 } else { x };
    let x = if x > 710.0 { 710.0 } else { x };
    let (n, r) = reduce(x);
    // ⌊n / 2⌋ by a logical shift (AVX2 has no arithmetic one for 64 bits): n + 2048 is positive.
    let half = (n.wrapping_add(2048) >> 1).wrapping_sub(1024);
    exp_near_zero(r) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// What [`exp2_of_negative`] computes with.
#[derive(Debug)]
pub struct Exp2<V> {
    lowest: V,
    magic: V,
    /// (2ᶠ − 1)/f, the lowest power first: 2ᶠ has the least relative error for |f| ≤ ½, 3·10⁻¹⁶.
    p: [V; 10],
}

const SCALAR: Exp2<f64> = Exp2 {
    lowest: -1021.0,
    magic: MAGIC,
    p: [
        0.693_147_180_559_951_6,
        0.240_226_506_959_104_72,
        0.055_504_108_664_346_58,
        0.009_618_129_107_380_712,
        0.001_333_355_824_648_089_7,
        0.000_154_035_308_008_218_82,
        1.525_264_774_758_430_7e-5,
        1.321_523_563_251_022_4e-6,
        1.021_050_648_145_175_3e-7,
        7.111_759_146_587_492e-9,
    ],
};

static WIDE: Exp2<Lanes> = Exp2 {
    lowest: Lanes::splat(SCALAR.lowest),
    magic: Lanes::splat(SCALAR.magic),
    p: {
        let mut p = [Lanes::ZERO; SCALAR.p.len()];
        let mut i = 0;
        while i < p.len() {
            p[i] = Lanes::splat(SCALAR.p[i]);
            i += 1;
        }
        p
    },
};

impl Exp2<Lanes> {
    /// Hidden from the compiler's constant propagation. AVX2 has no registers left for them; a whole vector in memory is an
    /// operand of the instruction that uses it, while a number would be broadcast by an instruction of its own.
    #[inline(always)]
    pub fn constants() -> &'static Self {
        std::hint::black_box(&WIDE)
    }

    #[inline(always)]
    fn lane(&self, lane: usize) -> Exp2<f64> {
        let mut p = SCALAR.p;
        for (p, wide) in p.iter_mut().zip(&self.p) {
            *p = wide.0[lane];
        }
        Exp2 { lowest: self.lowest.0[lane], magic: self.magic.0[lane], p }
    }
}

/// 2ˣ for each x ≤ 0, as a softmax wants it, within 4 ulp down to −1021, and 2⁻¹⁰²¹ ≈ 4·10⁻³⁰⁸ below. NaN stays NaN.
///
/// x = n + f with |f| ≤ ½, both exact.
#[inline(always)]
pub fn exp2_of_negative(x: Lanes, c: &Exp2<Lanes>) -> Lanes {
    let mut result = x;
    // By lanes, not by vectors: the compiler would vectorise across those.
    for lane in 0..LANES {
        let (x, Exp2 { lowest, magic, p }) = (x.0[lane], c.lane(lane));
        let x = if x < lowest { lowest } else { x };
        let shifted = x + magic;
        let f = x - (shifted - magic);
        let (f2, f4, f8);
        f2 = f * f;
        f4 = f2 * f2;
        f8 = f4 * f4;
        let p0 = (p[0] + p[1] * f) + (p[2] + p[3] * f) * f2;
        let p4 = (p[4] + p[5] * f) + (p[6] + p[7] * f) * f2;
        let p8 = p[8] + p[9] * f;
        result.0[lane] = (1.0 + f * (p0 + p4 * f4 + p8 * f8)) * power_of_two(integer(shifted));
    }
    result
}

/// What [`MAGIC`] was added to, in two's complement.
#[inline(always)]
fn integer(shifted: f64) -> u64 {
    shifted.to_bits().wrapping_sub(MAGIC.to_bits())
}

/// n, in two's complement, and r.
#[inline(always)]
fn reduce(x: f64) -> (u64, f64) {
    let shifted = x * std::f64::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    (integer(shifted), (x - n * LN2_HIGH) - n * LN2_LOW)
}

/// eʳ for |r| ≤ ½ ln 2: 1 + (r + r² q(r)), q by Estrin's scheme, whose short chains keep the pipelines full.
///
/// q interpolates (eʳ − 1 − r)/r² at the ten Chebyshev points of the range: the error of eʳ is below 2⁻⁵⁵.
#[inline(always)]
fn exp_near_zero(r: f64) -> f64 {
    const Q: [f64; 10] = [
        0.500_000_000_000_000_1,
        0.166_666_666_666_666_69,
        0.041_666_666_666_624_164,
        0.008_333_333_333_330_065,
        0.001_388_888_891_719_673_6,
        0.000_198_412_698_630_405_59,
        2.480_152_132_234_228e-5,
        2.755_726_848_028_971_6e-6,
        2.762_007_589_254_816_4e-7,
        2.510_037_584_222_37e-8,
    ];
    let (r2, r4, r8);
    r2 = r * r;
    r4 = r2 * r2;
    r8 = r4 * r4;
    let q0 = (Q[0] + Q[1] * r) + (Q[2] + Q[3] * r) * r2;
    let q4 = (Q[4] + Q[5] * r) + (Q[6] + Q[7] * r) * r2;
    let q8 = Q[8] + Q[9] * r;
    1.0 + (r + r2 * (q0 + q4 * r4 + q8 * r8))
}

/// 2ⁿ for −1022 ≤ n ≤ 1023, n in two's complement. A NaN's stray n gives some number or other: NaN times it is NaN.
#[inline(always)]
fn power_of_two(n: u64) -> f64 {
    f64::from_bits(n.wrapping_add(1023) << 52)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// The natural logarithm of a positive finite number, within 2 ulp.
///
/// x = 2ᵉ (1 + f) with 1 + f in [√½, √2); s = f / (2 + f); ln(1 + f) = 2 artanh s = f − s f + s R,
/// R = 2 (s²/3 + s⁴/5 + …), where s f = f²/2 − s f²/2 lets the large terms be exact.
pub fn ln(x: f64) -> f64 {
    debug_assert!(x > 0.0 && x < f64::INFINITY, "ln({x})");
    let (fraction, exponent) = split(x);
    let f = fraction - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    // |s| < 0.172: what follows z¹¹ is below 2⁻⁶⁴ of the sum.
    let series = (1..=11).rev().fold(0.0, |sum, k| (sum + 2.0 / f64::from(2 * k + 1)) * z);
    let half_square = 0.5 * f * f;
    exponent * LN2_HIGH - ((half_square - (s * (half_square + series) + exponent * LN2_LOW)) - f)
}

/// x = fraction · 2^exponent, fraction in [√½, √2).
fn split(x: f64) -> (f64, f64) {
    const TWO_54: f64 = (1_u64 << 54) as f64;
    let (x, shift) = if x < f64::MIN_POSITIVE { (x * TWO_54, -54.0) } else { (x, 0.0) };
    let exponent = ((x.to_bits() >> 52) as i32 - 1023) as f64;
    let fraction = f64::from_bits(x.to_bits() & ((1 << 52) - 1) | 1.0_f64.to_bits());
    if fraction < std::f64::consts::SQRT_2 {
        (fraction, exponent + shift)
    } else {
        (0.5 * fraction, exponent + shift + 1.0)
    }
}

/// xⁿ by squaring, from the lowest bit of n upwards.
pub fn powi(x: f64, n: u64) -> f64 {
    let (mut result, mut square, mut n) = (1.0, x, n);
    loop {
        if n & 1 == 1 {
            result *= square;
        }
        n >>= 1;
        if n == 0 {
            return result;
        }
        square *= square;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::simd;
    use proptest::prelude::*;

    /// The unevaluated sum of two numbers: some 106 bits.
    #[derive(Clone, Copy)]
    struct Double(f64, f64);

    impl Double {
        fn sum(a: f64, b: f64) -> Self {
            let sum = a + b;
            let part = sum - a;
            Self(sum, (a - (sum - part)) + (b - part))
        }

        /// The test may ask for a fused operation: it is exact everywhere.
        fn product(a: f64, b: f64) -> Self {
            Self(a * b, a.mul_add(b, -(a * b)))
        }

        fn plus(self, other: Self) -> Self {
            let high = Self::sum(self.0, other.0);
            Self::sum(high.0, high.1 + self.1 + other.1)
        }

        fn times(self, other: Self) -> Self {
            let high = Self::product(self.0, other.0);
            Self::sum(high.0, high.1 + self.0 * other.1 + self.1 * other.0)
        }

        fn over(self, divisor: f64) -> Self {
            let quotient = self.0 / divisor;
            let product = Self::product(quotient, divisor);
            let rest = (self.0 - product.0) - product.1 + self.1;
            Self::sum(quotient, rest / divisor)
        }
    }

    const LN2: Double = Double(std::f64::consts::LN_2, 2.319_046_813_846_299_6e-17);

    /// eˣ as (m, n): m · 2ⁿ.
    fn exact_exp(x: f64) -> (Double, i32) {
        let n = (x / LN2.0).round();
        let r = Double(x, 0.0).plus(LN2.times(Double(-n, 0.0)));
        let taylor =
            (1..=30).rev().fold(Double(1.0, 0.0), |sum, k| Double(1.0, 0.0).plus(sum.times(r).over(f64::from(k))));
        (taylor, n as i32)
    }

    /// x · 2ⁿ, where that is exact.
    fn scaled(x: f64, n: i32) -> f64 {
        x * 2.0_f64.powi(n / 2) * 2.0_f64.powi(n - n / 2)
    }

    fn ulp(x: f64) -> f64 {
        x.abs().next_up() - x.abs()
    }

    fn exp_error(x: f64) -> f64 {
        let (exact, n) = exact_exp(x);
        let error = (scaled(exp(x), -n) - exact.0) - exact.1;
        error.abs() / scaled(ulp(exp(x)), -n)
    }

    /// In ulp; one Newton step from the value under test gives the reference.
    fn ln_error(x: f64) -> f64 {
        let y = ln(x);
        let (exact, n) = exact_exp(y);
        // ln x − y = ln(x / eʸ) ≈ x / eʸ − 1.
        let difference = (scaled(x, -n) - exact.0) - exact.1;
        (difference / exact.0 / ulp(y)).abs()
    }

    #[test]
    fn exp_is_within_two_ulp_over_its_whole_range() {
        let steps = 400_000;
        let worst = (0..=steps)
            .map(|i| -745.1 + f64::from(i) * ((709.78 + 745.1) / f64::from(steps)))
            .chain((0..=steps).map(|i| f64::from(i) / f64::from(steps) * 2.0 - 1.0))
            .map(exp_error)
            .fold(0.0, f64::max);
        assert!(worst < 1.2, "{worst} ulp");
    }

    /// 2ˣ of the last lane, the others being busy with something else.
    fn exp2(x: f64) -> f64 {
        let others = [-1.0, 0.0, f64::NAN, -3.0, -1020.0, -5.5, f64::NEG_INFINITY];
        let [a, b, c, d, e, f, g] = others;
        let result = exp2_of_negative(Lanes([a, b, c, d, e, f, g, x]), Exp2::constants()).0;
        assert!(result[2].is_nan() && (result[0], result[1], result[3]) == (0.5, 1.0, 0.125));
        result[7]
    }

    #[test]
    fn powers_of_two_are_within_four_ulp_and_whole_ones_exact() {
        let steps = 400_000;
        let mut worst = 0.0_f64;
        for x in (0..=steps).map(|i| -1021.0 * f64::from(i) / f64::from(steps)) {
            let n = x.round();
            let (exact, shift) = exact_exp((x - n) * LN2.0);
            // The product above is rounded: what it lacks.
            let lack = Double::product(x - n, LN2.0).1 + (x - n) * LN2.1;
            let error = ((scaled(exp2(x), -(n as i32) - shift) - exact.0) - exact.1) / exact.0 - lack;
            worst = worst.max(error.abs() / f64::EPSILON);
        }
        assert!(worst < 2.5, "{worst} units of 2⁻⁵²");
        for n in 0..=1021 {
            assert_eq!(exp2(-f64::from(n)), 2.0_f64.powi(-n));
        }
    }

    #[test]
    fn powers_of_two_have_the_right_limits() {
        assert_eq!(exp2(f64::NEG_INFINITY), 2.0_f64.powi(-1021));
        assert_eq!(exp2(-1e300), 2.0_f64.powi(-1021));
        assert_eq!(exp2(-0.0), 1.0);
        assert!(exp2(f64::NAN).is_nan());
    }

    #[test]
    fn exp_has_the_right_limits() {
        assert_eq!(exp(f64::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(f64::INFINITY), f64::INFINITY);
        assert!(exp(f64::NAN).is_nan());
        assert_eq!((exp(0.0), exp(-0.0)), (1.0, 1.0));
        assert_eq!((exp(709.79), exp(f64::MAX)), (f64::INFINITY, f64::INFINITY));
        assert!(exp(709.78).is_finite());
        // The smallest positive number is e^-744.44, half of it e^-745.13.
        assert_eq!(exp(-745.13), f64::from_bits(1));
        assert_eq!((exp(-745.14), exp(f64::MIN)), (0.0, 0.0));
    }

    #[test]
    fn ln_is_within_two_ulp_from_the_smallest_to_the_largest() {
        let spread = (1..4000).map(|i| scaled(1.0 + f64::from(i * 37 % 4000) / 4000.0, i / 2 - 1023));
        let near_one = (1..4000).map(|i| 0.6 + f64::from(i) / 4000.0);
        let edges = [f64::from_bits(1), f64::MIN_POSITIVE, f64::MAX];
        let beside_one = [1.0_f64.next_up(), 1.0_f64.next_down()];
        let worst = spread
            .chain(near_one.filter(|&x| x != 1.0))
            .chain(edges)
            .chain(beside_one)
            .map(ln_error)
            .fold(0.0, f64::max);
        assert!(worst < 1.2, "{worst} ulp");
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn sigmoid_saturates_without_overflow() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!((sigmoid(1e300), sigmoid(-1e300)), (1.0, 0.0));
        assert!(sigmoid(f64::NAN).is_nan());
    }

    #[test]
    fn powi_is_the_power() {
        assert_eq!((powi(0.0, 0), powi(0.9, 1), powi(-2.0, 9)), (1.0, 0.9, -512.0));
        assert_eq!((powi(0.999, u64::MAX), powi(1.0, u64::MAX)), (0.0, 1.0));
        let slow = (0..1000).fold(Double(1.0, 0.0), |p, _| p.times(Double(0.999, 0.0)));
        assert!((powi(0.999, 1000) / slow.0 - 1.0).abs() < 1e-13);
    }

    struct ExpAll<'a>(&'a mut [f64]);

    impl simd::Kernel for ExpAll<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            for x in self.0 {
                *x = exp(*x);
            }
        }
    }

    proptest! {
        #[test]
        fn exp_agrees_with_the_platform(x in -750.0..715.0) {
            let (ours, theirs) = (exp(x), x.exp());
            prop_assert!(ours == theirs || (ours - theirs).abs() <= 2.0 * ulp(theirs));
        }

        #[test]
        fn exp_and_ln_undo_each_other(x in -700.0..700.0) {
            prop_assert!((ln(exp(x)) - x).abs() <= 2.0 * ulp(x) + 4.0 * f64::EPSILON);
        }

        #[test]
        fn exp_has_the_same_bits_at_every_level(mut xs in prop::collection::vec(-800.0..800.0, 0..50)) {
            let alone: Vec<_> = xs.iter().map(|&x| exp(x).to_bits()).collect();
            simd::run(ExpAll(&mut xs));
            prop_assert_eq!(xs.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), alone);
        }
    }
}
