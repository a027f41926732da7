//! The two float types that kernels are generic over.

use std::ops::{Add, Div, Mul, Sub};

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
    /// Correctly rounded root.
    fn sqrt(self) -> Self;
    /// Exact.
    fn widen(self) -> f64;
    /// Rounded to nearest, ties to even.
    fn round(value: f64) -> Self;
}

impl Float for f32 {
    const ZERO: Self = 0.0;
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
}

impl Float for f64 {
    const ZERO: Self = 0.0;
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
}
