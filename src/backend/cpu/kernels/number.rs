//! The numbers that kernels are generic over.

use std::ops::{Add, Div, Mul, Sub};

use crate::model::dtype::DType;

/// A float, or a vector of them: IEEE arithmetic.
pub trait Number: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// As many float64.
    type Wide: Copy + Add<Output = Self::Wide> + Mul<Output = Self::Wide>;
    /// Correctly rounded root.
    fn sqrt(self) -> Self;
    /// self·a + b, rounded once: see [`crate::numeric::simd`] for what that costs.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// self − a·b, rounded once.
    fn minus_product(self, a: Self, b: Self) -> Self;
    /// Exact.
    fn widen(self) -> Self::Wide;
    /// Rounded to nearest, ties to even.
    fn round(value: Self::Wide) -> Self;
    /// `constant` for each number of this.
    fn wide(self, constant: f64) -> Self::Wide;
}

/// f32 or f64, widened to f64 for sums.
pub trait Float: Number<Wide = f64> + PartialEq + Send + Sync + 'static {
    /// 0.
    const ZERO: Self;
    /// Its name.
    const DTYPE: DType;
    /// Exact.
    fn from_f32(value: f32) -> Self;
    /// Rounded to nearest, ties to even.
    fn to_f32(self) -> f32;
}

impl Number for f32 {
    type Wide = f64;
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f32::mul_add(self, a, b)
    }
    #[inline(always)]
    fn minus_product(self, a: Self, b: Self) -> Self {
        f32::mul_add(-a, b, self)
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
    fn wide(self, constant: f64) -> f64 {
        constant
    }
}

impl Float for f32 {
    const ZERO: Self = 0.0;
    const DTYPE: DType = DType::F32;
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Number for f64 {
    type Wide = f64;
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f64::mul_add(self, a, b)
    }
    #[inline(always)]
    fn minus_product(self, a: Self, b: Self) -> Self {
        f64::mul_add(-a, b, self)
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
    fn wide(self, constant: f64) -> f64 {
        constant
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;
    const DTYPE: DType = DType::F64;
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f64::from(value)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self as f32
    }
}
