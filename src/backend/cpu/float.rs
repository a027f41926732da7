//! The two float types that kernels are generic over.

use std::ops::{Add, Div, Mul, Sub};

use crate::config::DType;

/// f32 or f64: IEEE arithmetic in the type itself, widening to f64 for sums.
pub trait Float:
    Copy
    + PartialEq
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Send
    + Sync
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// Its name.
    const DTYPE: DType;
    /// Correctly rounded root.
    fn sqrt(self) -> Self;
    /// Exact.
    fn widen(self) -> f64;
    /// Rounded to nearest, ties to even.
    fn round(value: f64) -> Self;
    /// Exact.
    fn from_f32(value: f32) -> Self;
    /// Rounded to nearest, ties to even.
    fn to_f32(self) -> f32;
}

impl Float for f32 {
    const ZERO: Self = 0.0;
    const DTYPE: DType = DType::F32;
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn round(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;
    const DTYPE: DType = DType::F64;
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }
    #[inline(always)]
    fn round(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f64::from(value)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self as f32
    }
}
