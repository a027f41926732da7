//! The numbers that kernels are generic over.

use std::ops::{Add, Div, Mul, Sub};

use super::elements::{Elements, ElementsMut};

/// A float, or a vector of them: IEEE arithmetic.
pub trait Number: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// As many float64.
    type Wide: Copy + Add<Output = Self::Wide> + Mul<Output = Self::Wide>;
    /// Correctly rounded root.
    fn sqrt(self) -> Self;
    /// self·a + b, rounded once; see [`crate::numeric::simd`] on its cost.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// self − a·b, rounded once.
    fn minus_product(self, a: Self, b: Self) -> Self;
    /// 0 where the number is subnormal; NaNs stay.
    fn normal_or_zero(self) -> Self;
    /// The same; also where it is negative.
    fn positive_normal_or_zero(self) -> Self;
    /// Exact.
    fn widen(self) -> Self::Wide;
    /// Rounded to nearest, ties to even.
    fn round(value: Self::Wide) -> Self;
    /// `constant` in as many numbers as `self` has.
    fn wide(self, constant: f64) -> Self::Wide;
}

/// f32 or f64, widened to f64 for sums.
pub trait Float: Number<Wide = f64> + PartialEq + Send + Sync + 'static {
    /// 0.
    const ZERO: Self;
    /// Whether a tensor that is computed in this type may have 16-bit parameters, gradients or moments: in float64 only its
    /// gradients may.
    const HAS_HALF: bool;
    /// f64 for f32, and f32 for f64.
    type Other: Float;
    /// Exact.
    fn from_f32(value: f32) -> Self;
    /// Rounded to nearest, ties to even.
    fn to_f32(self) -> f32;
    /// Elements of this type, in place.
    fn in_place(elements: Elements<'_>) -> Option<&[Self]>;
    /// The same, to be written.
    fn in_place_mut<'b>(elements: &'b mut ElementsMut<'_>) -> Option<&'b mut [Self]>;
    /// The tile itself.
    ///
    /// # Panics
    /// For f64.
    fn as_f32(tile: &mut [Self]) -> &mut [f32];
    /// Masters as a tile.
    ///
    /// # Panics
    /// For f64.
    fn from_f32s(masters: &mut [f32]) -> &mut [Self];
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
    fn normal_or_zero(self) -> Self {
        if self.abs() < f32::MIN_POSITIVE { 0.0 } else { self }
    }
    #[inline(always)]
    fn positive_normal_or_zero(self) -> Self {
        if self < f32::MIN_POSITIVE { 0.0 } else { self }
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
    const HAS_HALF: bool = true;
    type Other = f64;
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn in_place(elements: Elements<'_>) -> Option<&[f32]> {
        if let Elements::F32(elements) = elements { Some(elements) } else { None }
    }
    #[inline(always)]
    fn in_place_mut<'b>(elements: &'b mut ElementsMut<'_>) -> Option<&'b mut [f32]> {
        if let ElementsMut::F32(elements) = elements { Some(elements) } else { None }
    }
    #[inline(always)]
    fn as_f32(tile: &mut [f32]) -> &mut [f32] {
        tile
    }
    #[inline(always)]
    fn from_f32s(masters: &mut [f32]) -> &mut [f32] {
        masters
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
    fn normal_or_zero(self) -> Self {
        if self.abs() < f64::MIN_POSITIVE { 0.0 } else { self }
    }
    #[inline(always)]
    fn positive_normal_or_zero(self) -> Self {
        if self < f64::MIN_POSITIVE { 0.0 } else { self }
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
    const HAS_HALF: bool = false;
    type Other = f32;
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f64::from(value)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self as f32
    }
    #[inline(always)]
    fn in_place(elements: Elements<'_>) -> Option<&[f64]> {
        if let Elements::F64(elements) = elements { Some(elements) } else { None }
    }
    #[inline(always)]
    fn in_place_mut<'b>(elements: &'b mut ElementsMut<'_>) -> Option<&'b mut [f64]> {
        if let ElementsMut::F64(elements) = elements { Some(elements) } else { None }
    }
    fn as_f32(_: &mut [f64]) -> &mut [f32] {
        unreachable!("float64 tensors have no 16-bit parameters or moments")
    }
    fn from_f32s(_: &mut [f32]) -> &mut [f64] {
        unreachable!("float64 tensors have no masters")
    }
}
