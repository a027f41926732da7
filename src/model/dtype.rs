//! Element types, and how a 16-bit parameter keeps the precision that updates need.

use serde::{Deserialize, Serialize};

use crate::numeric::half::{BF16, F16, Half};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// 64-bit IEEE float.
    F64,
    /// bfloat16: the upper half of a 32-bit float.
    BF16,
    /// 16-bit IEEE float.
    F16,
}

impl DType {
    /// Bytes of an element, and its alignment.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::BF16 | Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Whether an element has 16 bits.
    #[must_use]
    pub fn is_half(self) -> bool {
        matches!(self, Self::BF16 | Self::F16)
    }

    /// What is computed in: float64 for float64, float32 for everything else.
    #[must_use]
    pub fn compute(self) -> Self {
        match self {
            Self::F64 => Self::F64,
            Self::F32 | Self::BF16 | Self::F16 => Self::F32,
        }
    }

    /// Largest Σg² with which a second moment v of this type, and Σv² in float64, surely stay finite: v ≤ Σg².
    #[must_use]
    pub fn max_square(self) -> f64 {
        match self {
            Self::F32 => f64::from(f32::MAX),
            Self::F64 => 1e154,
            Self::BF16 => f64::from(BF16::widen(0x7F7F)),
            Self::F16 => f64::from(F16::widen(0x7BFF)),
        }
    }

    /// Elements as they lie in memory, widened.
    pub(crate) fn values(self, bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
        bytes.chunks_exact(self.size()).map(move |b| match self {
            Self::F32 => f64::from(f32::from_le_bytes(b.try_into().expect("four bytes"))),
            Self::F64 => f64::from_le_bytes(b.try_into().expect("eight bytes")),
            Self::BF16 => f64::from(BF16::widen(u16::from_le_bytes(b.try_into().expect("two bytes")))),
            Self::F16 => f64::from(F16::widen(u16::from_le_bytes(b.try_into().expect("two bytes")))),
        })
    }

    /// Smallest value above 0 that an `eps` may have.
    pub(crate) fn min_positive(self) -> f64 {
        match self.compute() {
            Self::F64 => f64::MIN_POSITIVE,
            _ => f64::from(f32::MIN_POSITIVE),
        }
    }

    /// As the C header calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::BF16 => "bfloat16",
            Self::F16 => "float16",
        }
    }
}

/// How a 16-bit parameter keeps the precision that updates need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// It doesn't: each new value is rounded to nearest. An update below half a unit of the last place is lost.
    #[default]
    Nearest,
    /// A float32 master in the library, which the updates move; the host's parameter is the master rounded.
    Master,
    /// The same master in 2 + 2 bytes: the host's bfloat16 and the 16 bits that it lacks.
    Remainder,
    /// Stochastic rounding: each new value is rounded up or down at random, so that its mean is right.
    Stochastic,
}

impl Precision {
    /// For messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Master => "master",
            Self::Remainder => "remainder",
            Self::Stochastic => "stochastic",
        }
    }

    /// Whether updates move a float32 master.
    #[must_use]
    pub fn has_master(self) -> bool {
        matches!(self, Self::Master | Self::Remainder)
    }
}
