//! bfloat16 and float16 (IEEE binary16) as the bits in memory: widening, rounding to nearest, stochastic rounding.
//!
//! Every function is branch-free integer work, so that a loop over it becomes vector code, and does not depend on the
//! processor's modes for subnormals. Widening is exact. A NaN stays a NaN: sign and upper payload are kept, and it becomes
//! quiet where it is rounded. What is too large rounds to infinity.

/// One of the two formats.
pub trait Half {
    /// The value of these bits.
    fn widen(bits: u16) -> f32;
    /// To nearest, ties to even.
    fn round(value: f32) -> u16;
    /// The low-precision copy of a float32 master: bfloat16 to nearest with ties away from zero, float16 as
    /// [`Half::round`].
    fn from_master(value: f32) -> u16;
    /// Stochastic rounding to one of the two nearest values, up in magnitude where the rest exceeds 65,535 − `random`:
    /// with `random` uniform over 0 to 65,535 the mean of the results is the value.
    fn round_stochastic(value: f32, random: u32) -> u16;
}

/// The upper half of a float32.
#[derive(Clone, Copy, Debug)]
pub struct BF16;

/// 5 bits of exponent, 10 of fraction.
#[derive(Clone, Copy, Debug)]
pub struct F16;

const SIGN: u32 = 0x8000_0000;
const INFINITY: u32 = 0x7F80_0000;

#[inline(always)]
fn select(condition: bool, yes: u32, no: u32) -> u32 {
    if condition { yes } else { no }
}

impl BF16 {
    /// Adds `carry` below the upper half and cuts it off. To a NaN nothing may be carried.
    #[inline(always)]
    fn cut(value: f32, carry: u32) -> u16 {
        let rounded = value.to_bits().wrapping_add(select(value.is_nan(), 0, carry)) >> 16;
        (rounded | select(value.is_nan(), 0x40, 0)) as u16
    }
}

impl Half for BF16 {
    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        f32::from_bits(u32::from(bits) << 16)
    }

    #[inline(always)]
    fn round(value: f32) -> u16 {
        Self::cut(value, 0x7FFF + ((value.to_bits() >> 16) & 1))
    }

    /// Ties cannot go to even here: an even bfloat16 would then be the copy of 65,537 masters, one more than the 16 bits
    /// of a remainder can tell apart.
    #[inline(always)]
    fn from_master(value: f32) -> u16 {
        Self::cut(value, 0x8000)
    }

    #[inline(always)]
    fn round_stochastic(value: f32, random: u32) -> u16 {
        Self::cut(value, random)
    }
}

/// A float32 master in 2 + 2 bytes: its bfloat16 copy, and the low half of the master's bits (the remainder). A NaN keeps
/// what bfloat16 holds of it.
#[inline(always)]
pub fn split(master: f32) -> (u16, u16) {
    let bits = master.to_bits();
    (BF16::from_master(master), select(bits & !SIGN > INFINITY, 0, bits & 0xFFFF) as u16)
}

/// The master again. A low half of 0x8000 or more was rounded up: the upper half is one less than the copy.
#[inline(always)]
pub fn join(copy: u16, low: u16) -> f32 {
    let signed = u32::from(low).wrapping_sub((u32::from(low) & 0x8000) << 1);
    f32::from_bits((u32::from(copy) << 16).wrapping_add(signed))
}

impl F16 {
    /// 2⁻¹⁴, the smallest normal float16.
    const SMALLEST_NORMAL: u32 = 0x3880_0000;
    /// 65,536: whatever is not below it is infinite.
    const TOO_LARGE: u32 = 0x4780_0000;
    /// Difference of the exponents' biases, in float32's place.
    const REBIAS: u32 = 112 << 23;

    /// A magnitude of at least 2⁻¹⁴ with `carry` added below its last kept bit; infinity and NaN too.
    #[inline(always)]
    fn cut(magnitude: u32, carry: u32) -> u32 {
        let rounded = (magnitude.wrapping_add(carry) >> 13).wrapping_sub(112 << 10);
        let large = select(magnitude > INFINITY, 0x7E00 | ((magnitude >> 13) & 0x3FF), 0x7C00);
        select(magnitude >= Self::TOO_LARGE, large, rounded)
    }

    #[inline(always)]
    fn signed(value: f32, magnitude: u32) -> u16 {
        (magnitude | ((value.to_bits() & SIGN) >> 16)) as u16
    }
}

impl Half for F16 {
    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        let bits = u32::from(bits);
        let magnitude = (bits & 0x7FFF) << 13;
        let normal = magnitude.wrapping_add(Self::REBIAS);
        // Infinity and NaN: the exponent becomes float32's largest.
        let special = magnitude.wrapping_add(2 * Self::REBIAS) | select(magnitude > 0x0F80_0000, 0x0040_0000, 0);
        // 2⁻¹⁴ + f·2⁻²⁴ − 2⁻¹⁴: exact, and without a subnormal float32 on the way.
        let smallest = f32::from_bits(Self::SMALLEST_NORMAL);
        let subnormal = (f32::from_bits(magnitude.wrapping_add(Self::SMALLEST_NORMAL)) - smallest).to_bits();
        let finite = select(magnitude < 0x0080_0000, subnormal, normal);
        f32::from_bits(select(magnitude >= 0x0F80_0000, special, finite) | ((bits & 0x8000) << 16))
    }

    #[inline(always)]
    fn round(value: f32) -> u16 {
        let magnitude = value.to_bits() & !SIGN;
        let normal = Self::cut(magnitude, 0xFFF + ((magnitude >> 13) & 1));
        // The unit of the last place of a sum with ½ is float16's smallest subnormal.
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
        Self::signed(value, select(magnitude < Self::SMALLEST_NORMAL, subnormal, normal))
    }

    #[inline(always)]
    fn from_master(value: f32) -> u16 {
        Self::round(value)
    }

    #[inline(always)]
    fn round_stochastic(value: f32, random: u32) -> u16 {
        let magnitude = value.to_bits() & !SIGN;
        let normal = Self::cut(magnitude, random >> 3);
        // In units of the smallest subnormal, with 16 bits behind the point. What isn't below 2⁻¹⁴ is not used.
        let tiny = magnitude < Self::SMALLEST_NORMAL;
        let units = f32::from_bits(select(tiny, magnitude, 0)) * 16_777_216.0;
        let whole = units as i32;
        let rest = ((units - whole as f32) * 65_536.0) as i32;
        let subnormal = whole as u32 + u32::from(rest + random as i32 > 0xFFFF);
        Self::signed(value, select(tiny, subnormal, normal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a float16, from its definition.
    fn defined(bits: u16) -> f64 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3FF));
        let magnitude = match exponent {
            0 => fraction * 2_f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
        };
        if bits & 0x8000 == 0 { magnitude } else { -magnitude }
    }

    fn both_ways<H: Half>(quiet: u16, defined: impl Fn(u16) -> f64) {
        for bits in 0..=u16::MAX {
            let (value, expected) = (H::widen(bits), defined(bits));
            if expected.is_nan() {
                assert!(value.is_nan(), "{bits:#06x}");
                for back in [H::round(value), H::from_master(value), H::round_stochastic(value, 0xFFFF)] {
                    assert_eq!(back, bits | quiet, "a NaN keeps its sign and payload and is quiet");
                }
                continue;
            }
            assert_eq!(f64::from(value).to_bits(), expected.to_bits(), "{bits:#06x}");
            for back in [
                H::round(value),
                H::from_master(value),
                H::round_stochastic(value, 0),
                H::round_stochastic(value, 0xFFFF),
            ] {
                assert_eq!(back, bits, "{bits:#06x} is exact");
            }
        }
    }

    #[test]
    fn every_bfloat16_widens_to_its_value_and_rounds_back() {
        both_ways::<BF16>(0x40, |bits| f64::from(f32::from_bits(u32::from(bits) << 16)));
    }

    #[test]
    fn every_float16_widens_to_its_value_and_rounds_back() {
        both_ways::<F16>(0x200, defined);
    }

    /// Between each two adjacent values: below, at and above the middle; and the middle goes to even.
    fn rounds_to_nearest<H: Half>(infinity: u16) {
        for low in 0..infinity {
            let (a, b) = (f64::from(H::widen(low)), f64::from(H::widen(low + 1)));
            // Infinity stands where the next value would.
            let b = if b.is_infinite() { 2.0 * a - f64::from(H::widen(low - 1)) } else { b };
            let middle = (a + b) / 2.0;
            let exact = middle as f32;
            let even = low + (low & 1);
            for (sign, top) in [(1.0, 0), (-1.0, 0x8000)] {
                let round = |x: f32| H::round(sign * x) ^ top;
                if f64::from(exact) == middle {
                    assert_eq!(round(exact), even, "the middle after {low:#06x}");
                    assert_eq!(round(exact.next_down()), low, "below the middle after {low:#06x}");
                }
                let above = if f64::from(exact) > middle { exact } else { exact.next_up() };
                assert_eq!(round(above), low + 1, "above the middle after {low:#06x}");
            }
        }
        assert_eq!(H::round(f32::MAX), infinity);
        assert_eq!(H::round(f32::INFINITY), infinity);
        assert_eq!(H::round(f32::NEG_INFINITY), infinity | 0x8000);
        assert_eq!(H::round(-0.0), 0x8000);
        assert_eq!(H::round(f32::from_bits(1)), 0, "float32's smallest subnormal");
        assert_eq!(H::round(f32::from_bits(0xFF80_0001)) & infinity, infinity, "a NaN whose payload is cut off");
        assert!(H::widen(H::round(f32::from_bits(0xFF80_0001))).is_nan());
    }

    #[test]
    fn bfloat16_rounds_to_nearest_with_ties_to_even() {
        rounds_to_nearest::<BF16>(0x7F80);
    }

    #[test]
    fn float16_rounds_to_nearest_with_ties_to_even() {
        rounds_to_nearest::<F16>(0x7C00);
    }

    #[test]
    fn stochastic_rounding_goes_up_as_often_as_the_rest_is_large() {
        let share = |value: f32| {
            let ups = (0..=0xFFFF)
                .filter(|&random| BF16::round_stochastic(value, random) != BF16::round_stochastic(value, 0))
                .count();
            ups as f64 / 65_536.0
        };
        // A bfloat16 leaves 16 bits of rest: exact.
        for rest in [1, 2, 0x1234, 0x8000, 0xFFFF] {
            for upper in [0x3F80_0000, 0xC2AB_0000_u32, 0x0001_0000, 0x7F7E_0000] {
                let up = share(f32::from_bits(upper | rest));
                assert_eq!(up, f64::from(rest) / 65_536.0, "{upper:#x} + {rest:#x}");
            }
        }
        for value in [1.000_3_f32, -0.333, 6e-5, 3.3e-7, 1e-8, -5.96e-8, 0.0, 60_000.0] {
            let low = f64::from(F16::widen(F16::round_stochastic(value, 0)));
            let high = f64::from(F16::widen(F16::round_stochastic(value, 0xFFFF)));
            let (low, high) = if low.abs() < high.abs() { (low, high) } else { (high, low) };
            let exact = if low == high { 0.0 } else { (f64::from(value) - low) / (high - low) };
            let counted =
                (0..=0xFFFF).filter(|&n| f64::from(F16::widen(F16::round_stochastic(value, n))) != low).count();
            let counted = if low == high { 0.0 } else { counted as f64 / 65_536.0 };
            assert!((counted - exact).abs() <= 2e-4, "{value}: {counted} up, {exact} expected");
        }
    }

    #[test]
    fn a_master_in_two_halves_is_whole() {
        let mut bits = 1_u32;
        let mut all = vec![0, SIGN, INFINITY, INFINITY | SIGN, 0x7F7F_FFFF, 0xFF7F_FFFF, 0x3F80_8000, 0x3F81_8000];
        for _ in 0..1_000_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            all.extend([bits, bits & 0xFFFF_0000 | 0x8000, bits & 0xFFFF_0000 | 0x7FFF]);
        }
        for master in all.into_iter().map(f32::from_bits) {
            let (copy, low) = split(master);
            assert_eq!(copy, BF16::from_master(master));
            if master.is_nan() {
                assert!(join(copy, low).is_nan() && BF16::widen(copy).is_nan());
                continue;
            }
            assert_eq!(join(copy, low).to_bits(), master.to_bits(), "{master:e}");
            let (away, even) = (BF16::from_master(master), BF16::round(master));
            assert!(away == even || master.to_bits() & 0xFFFF == 0x8000, "they differ in ties alone");
        }
    }
}
