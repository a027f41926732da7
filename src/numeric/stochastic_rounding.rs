//! Random bits for stochastic rounding: a function of (seed, tensor, step, element) and of nothing else.
//!
//! A counter, not a sequence: any thread computes any element's bits, and a resumed run computes the same. The tensor
//! counts by its name, so the order of registration does not matter. In a chunk, 32 bits for a pair of
//! adjacent elements are a hash of the pair's term in an arithmetic progression: vector code of six instructions.

/// Elements that share a key; the CPU's chunk.
pub const SPAN: usize = 32_768;

/// Elements whose bits are computed together.
pub const RUN: usize = 512;

/// What the bits are for: each use has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Rounding the parameter.
    Param,
    /// Rounding the moments, both of an element by the same bits: the mean of each is right.
    Moments,
    /// Rounding the average of the parameter.
    Average,
}

/// Mixes 64 bits: each bit of the input changes half of the output.
fn mix(mut x: u64) -> u64 {
    x ^= x >> 32;
    x = x.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x ^= x >> 32;
    x = x.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x ^ (x >> 32)
}

/// FNV-1a.
pub struct NameHash(u64);

impl Default for NameHash {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl NameHash {
    /// Takes more text.
    pub fn write(&mut self, text: &[u8]) {
        self.0 = text.iter().fold(self.0, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3));
    }

    /// Of all text so far.
    #[must_use]
    pub fn finish(&self) -> u64 {
        self.0
    }
}

/// The key of a tensor.
#[must_use]
pub fn tensor_key(seed: u64, name: &str) -> u64 {
    let mut hash = NameHash::default();
    hash.write(name.as_bytes());
    mix(mix(seed ^ 0x9E37_79B9_7F4A_7C15) ^ hash.finish())
}

/// The key of a tensor's `step`-th update.
#[must_use]
pub fn step_key(tensor: u64, step: u64) -> u64 {
    mix(tensor ^ mix(step))
}

/// One 32-bit number, or a vector of them. All arithmetic is modulo 2³².
pub trait Word: Copy {
    /// self + constant.
    fn plus(self, constant: u32) -> Self;
    /// self · constant.
    fn times(self, constant: u32) -> Self;
    /// self ^ self >> bits.
    fn folded(self, bits: u32) -> Self;
}

impl Word for u32 {
    #[inline(always)]
    fn plus(self, constant: u32) -> Self {
        self.wrapping_add(constant)
    }
    #[inline(always)]
    fn times(self, constant: u32) -> Self {
        self.wrapping_mul(constant)
    }
    #[inline(always)]
    fn folded(self, bits: u32) -> Self {
        self ^ self >> bits
    }
}

/// From the term of a pair of elements to the next pair's.
pub const INCREMENT: u32 = 0x7FEB_352D;

/// 32 random bits of a term of the progression: the low half is for the even element of a pair, the high half for the odd
/// one.
#[inline(always)]
pub fn hash<W: Word>(term: W) -> W {
    term.folded(15).times(0x846C_A68B).folded(16)
}

/// The bits of [`SPAN`] elements of one update.
#[derive(Clone, Copy, Debug)]
pub struct RoundingBits {
    key: u32,
}

impl RoundingBits {
    /// For the elements from `span`·[`SPAN`] on of the update with this key.
    #[must_use]
    pub fn new(key: u64, span: usize, purpose: Use) -> Self {
        // The first two uses differ in the last bit; the third, which came later, has keys of its own.
        let (key, last) = match purpose {
            Use::Param => (key, 0),
            Use::Moments => (key, 1),
            Use::Average => (mix(!key), 0),
        };
        Self { key: mix(key ^ mix((span as u64) << 1 | last)) as u32 }
    }

    /// The term of the `pair`-th two elements, to be hashed.
    #[inline(always)]
    pub fn term<W: Word>(self, pair: W) -> W {
        pair.times(INCREMENT).plus(self.key)
    }

    /// 16 bits for each of [`RUN`] elements from the `start`-th on, which is even.
    #[inline(always)]
    pub fn bits(self, start: usize) -> [u16; RUN] {
        debug_assert!(start.is_multiple_of(2));
        let first = (start / 2) as u32;
        let mut bits = [0; RUN];
        for (i, pair) in bits.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let word = hash(self.term(first + i as u32));
            *pair = [word as u16, (word >> 16) as u16];
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(key: u64, span: usize, purpose: Use) -> Vec<u16> {
        let all = RoundingBits::new(key, span, purpose);
        (0..SPAN / RUN).flat_map(|i| all.bits(RUN * i)).collect()
    }

    /// The share of equal bits minus ½, in standard deviations.
    fn agreement(a: impl Iterator<Item = u16>, b: impl Iterator<Item = u16>) -> f64 {
        let (mut equal, mut n) = (0, 0);
        for (a, b) in a.zip(b) {
            equal += (!(a ^ b)).count_ones();
            n += 16;
        }
        (f64::from(equal) - f64::from(n) / 2.0) / (f64::from(n) / 4.0).sqrt()
    }

    #[test]
    fn elements_uses_steps_tensors_and_seeds_have_nothing_in_common() {
        let key = |seed, name, step| step_key(tensor_key(seed, name), step);
        let one = bits(key(0, "a.weight", 1), 0, Use::Param);
        let others = [
            ("another use", bits(key(0, "a.weight", 1), 0, Use::Moments)),
            ("the third use", bits(key(0, "a.weight", 1), 0, Use::Average)),
            ("the next span", bits(key(0, "a.weight", 1), 1, Use::Param)),
            ("the next step", bits(key(0, "a.weight", 2), 0, Use::Param)),
            ("another tensor", bits(key(0, "b.weight", 1), 0, Use::Param)),
            ("another seed", bits(key(1, "a.weight", 1), 0, Use::Param)),
        ];
        for (what, other) in &others {
            assert!(agreement(one.iter().copied(), other.iter().copied()).abs() < 4.0, "{what}");
        }
        for distance in [1, 2, 3, 4, 7, 8, 16, 32, 256, 512, 4096] {
            let shifted = one.iter().skip(distance).copied();
            assert!(agreement(one.iter().copied(), shifted).abs() < 4.0, "elements {distance} apart");
        }
    }

    #[test]
    fn both_bytes_are_uniform() {
        // χ² over 256 buckets has mean 255 and standard deviation 22.6.
        for step in 1..40 {
            let all = bits(step_key(tensor_key(3, "w"), step), 5, Use::Moments);
            for shift in [0, 8] {
                let mut buckets = [0_u32; 256];
                all.iter().for_each(|x| buckets[(x >> shift & 255) as usize] += 1);
                let expected = SPAN as f64 / 256.0;
                let chi: f64 = buckets.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
                assert!((150.0..380.0).contains(&chi), "step {step}, bits from {shift} on: {chi}");
            }
        }
    }

    /// Computed apart from this code; a resume with another version of the library goes on with these.
    #[test]
    fn the_bits_are_a_promise() {
        let key = step_key(tensor_key(7, "layers.0.weight"), 3);
        assert_eq!(key, 5_459_098_498_441_677_116);
        let all = bits(key, 2, Use::Moments);
        for (element, expected) in [(0, 579), (255, 9_574), (256, 15_079), (1_000, 63_882), (32_767, 52_274)] {
            assert_eq!(all[element], expected, "element {element}");
        }
        let all = bits(key, 2, Use::Average);
        for (element, expected) in [(0, 34_865), (255, 51_213), (1000, 4_703), (32767, 13_872)] {
            assert_eq!(all[element], expected, "element {element} of an average");
        }
    }
}
