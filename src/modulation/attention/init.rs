//! Initial values: the seed alone fixes every bit of Φ, on every platform and at every SIMD level.
//!
//! This is part of the checkpoint format's promise, so none of it may change:
//! - The generator is ChaCha8 (`rand_chacha`), its key the seed as 8 little-endian bytes and 24 zeros.
//! - A uniform number in [0, 1) is `(next_u64() >> 11) · 2⁻⁵³`, one between ±b is `(2u − 1) · b`.
//! - Normal numbers come in pairs by Marsaglia's polar method with [`ln`] and `f64::sqrt`, in order.
//! - Tensors are drawn in the order of the entries (encoder layers, output projection, embeddings), row-major. Constant
//!   ones draw nothing. [`Init::Identity`] draws the output projection and then zeroes it, so that all else is the same.
//! - The embedding of a group that comes after preparation is drawn alone, so that it does not depend on when it comes: the
//!   generator's key is the seed as 8 little-endian bytes, [`tensor_key`] of seed and group's name as 8 more, 16 zeros.

use super::Entry;
use crate::model::name::Name;
use crate::numeric::math::ln;
use crate::numeric::stochastic_rounding::tensor_key;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a tensor is filled with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fill {
    /// One value, nothing drawn.
    Constant(f64),
    /// Uniform between ± this bound.
    Uniform(f64),
    /// Normal with this standard deviation.
    Normal(f64),
}

impl Fill {
    /// Xavier's bound keeps the variance of both activations and gradients.
    pub(super) fn xavier(rows: usize, columns: usize) -> Self {
        Self::Uniform((6.0 / (rows + columns) as f64).sqrt())
    }

    /// What torch gives the bias of a linear layer with this many inputs.
    pub(super) fn bias(inputs: usize) -> Self {
        Self::Uniform(1.0 / (inputs as f64).sqrt())
    }
}

/// Standard deviation of group embeddings.
pub(super) const EMBEDDING_DEVIATION: f64 = 0.1;

/// Φ for `entries`, which lie one behind the other.
pub(super) fn draw(entries: &[Entry], seed: u64) -> Vec<f64> {
    let mut draws = Draws::new(seed, 0);
    let mut values = Vec::with_capacity(entries.last().map_or(0, |entry| entry.range.end));
    for entry in entries {
        values.extend(entry.range.clone().map(|_| match entry.fill {
            Fill::Constant(value) => value,
            Fill::Uniform(bound) => draws.symmetric() * bound,
            Fill::Normal(deviation) => draws.normal() * deviation,
        }));
    }
    values
}

/// The embedding of a group that comes after preparation.
pub fn new_embedding(seed: u64, group: &Name, out: &mut [f64]) {
    let mut draws = Draws::new(seed, tensor_key(seed, group.as_str()));
    out.fill_with(|| draws.normal() * EMBEDDING_DEVIATION);
}

struct Draws {
    generator: ChaCha8Rng,
    /// The second of a pair of normal numbers.
    spare: Option<f64>,
}

impl Draws {
    fn new(seed: u64, of_group: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&of_group.to_le_bytes());
        Self { generator: ChaCha8Rng::from_seed(key), spare: None }
    }

    /// Uniform in [−1, 1), a multiple of 2⁻⁵².
    fn symmetric(&mut self) -> f64 {
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        let uniform = (self.generator.next_u64() >> 11) as f64 * UNIT;
        2.0 * uniform - 1.0
    }

    /// Standard normal.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (self.symmetric(), self.symmetric());
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * ln(square) / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Attention, Shape};
    use crate::model::name::Name;
    use crate::model::options::Init;

    const SHAPE: Shape =
        Shape { groups: 4, dim: 6, heads: 3, layers: 2, hidden: 16, embed_dim: 5, gates: true, log_vars: true };

    fn values<'a>(attention: &'a Attention, name: &str) -> &'a [f64] {
        let entry = attention.find(name).expect("a known name");
        &attention.values()[entry.range.clone()]
    }

    /// As a Python program computes them from the text above. A change breaks every checkpoint
    /// that relies on its seed.
    const FROZEN: [u64; 8] = [
        0xBFC3_6C65_C773_382C,
        0xBFDB_ABDD_740D_12EE,
        0x3FA4_9EF4_9FAE_57F8,
        0xBFB5_9865_2C9B_2DF2,
        0xBFD3_848D_D23A_92C1,
        0x3FB8_3BE8_7D38_8541,
        0xBFB2_DE2A_48AD_BA85,
        0x3FCB_7BB7_708B_1958,
    ];

    #[test]
    fn a_seed_gives_these_bits_for_ever() {
        let attention = Attention::new(SHAPE, Init::Xavier, 42, 0.0);
        let bits = |name, at: usize| values(&attention, name)[at].to_bits();
        let found = [
            bits("encoder.layers.0.self_attn.in_proj_weight", 0),
            bits("encoder.layers.0.self_attn.in_proj_weight", 107),
            bits("encoder.layers.0.linear2.bias", 5),
            bits("encoder.layers.1.linear1.weight", 50),
            bits("output_proj.weight", 23),
            bits("group_embeddings", 0),
            bits("group_embeddings", 1),
            bits("group_embeddings", 19),
        ];
        assert_eq!(found, FROZEN, "{found:#018X?}");
    }

    /// As a Python program computes them from the text above, whose logarithm may differ in the last bit.
    #[test]
    fn a_seed_and_a_name_give_the_embedding_of_a_later_group_for_ever() {
        let name = Name::new("group", b"ffn.deep.weight").expect("a name");
        let mut found = [0.0; 3];
        super::new_embedding(42, &name, &mut found);
        for (found, expected) in found.iter().zip([0.040630391299954216, 0.0009470091957739665, -0.10981684553907907]) {
            assert!((found - expected).abs() <= 1e-15, "{found:?}, not {expected:?}");
        }
    }

    #[test]
    fn identity_differs_from_xavier_in_the_output_projection_alone() {
        let xavier = Attention::new(SHAPE, Init::Xavier, 7, 0.0);
        let identity = Attention::new(SHAPE, Init::Identity, 7, 0.0);
        for entry in xavier.entries() {
            let (theirs, ours) = (values(&xavier, &entry.name), values(&identity, &entry.name));
            if entry.name == "output_proj.weight" {
                assert!(ours.iter().all(|&value| value == 0.0));
                assert!(theirs.iter().all(|&value| value != 0.0));
            } else {
                assert_eq!(ours, theirs, "{}", entry.name);
            }
        }
    }

    #[test]
    fn constants_are_where_the_specification_wants_them() {
        let attention = Attention::new(SHAPE, Init::Xavier, 7, -0.5);
        for entry in attention.entries() {
            let expected = match entry.name.as_str() {
                "feature_gates" => 1.0,
                "log_vars" => -0.5,
                "output_proj.bias" => 0.0,
                name if name.contains("norm") && name.ends_with("weight") => 1.0,
                name if name.contains("norm") => 0.0,
                name if name.contains("self_attn") && name.ends_with("bias") => 0.0,
                _ => continue,
            };
            assert!(values(&attention, &entry.name).iter().all(|&value| value == expected));
        }
    }

    #[test]
    fn uniform_values_fill_their_bounds_and_normal_ones_have_their_deviation() {
        let shape = Shape { groups: 200, hidden: 300, embed_dim: 50, ..SHAPE };
        let attention = Attention::new(shape, Init::Xavier, 1, 0.0);
        for (name, bound) in [
            ("encoder.layers.0.self_attn.in_proj_weight", 0.5), // √(6 / (18 + 6))
            ("encoder.layers.1.linear1.weight", (6.0_f64 / 306.0).sqrt()),
            ("encoder.layers.1.linear1.bias", 1.0 / 6.0_f64.sqrt()),
            ("output_proj.weight", (6.0_f64 / 10.0).sqrt()),
        ] {
            let drawn = values(&attention, name);
            let largest = drawn.iter().fold(0.0, |m: f64, value| m.max(value.abs()));
            assert!(largest <= bound && largest > 0.85 * bound, "{name}: {largest}");
        }
        let normal = values(&attention, "group_embeddings");
        let moment = |power| normal.iter().map(|x: &f64| (10.0 * x).powi(power)).sum::<f64>() / 10_000.0;
        assert!(moment(1).abs() < 0.03 && (moment(2) - 1.0).abs() < 0.05);
        assert!(moment(3).abs() < 0.1 && (moment(4) - 3.0).abs() < 0.3);
    }
}
