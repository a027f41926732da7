//! Vectors of eight for the AVX2 specialisations: operators instead of the intrinsics' names. "AVX2" here means AVX2 and
//! FMA, as [`crate::numeric::simd::Level::Avx2`] does.
//!
//! A block, sixteen adjacent elements, is two vectors: the even elements and the odd ones. So 16 bits become 32, and 32
//! become 16, with a shift of one vector and a mask of the other: of a CPU's four vector units two shift, pack and unpack,
//! but all four mask.

use std::arch::x86_64::{
    __m256, __m256d, __m256i, _CMP_GE_OQ, _CMP_LE_OQ, _CMP_NLT_UQ, _CMP_UNORD_Q, _mm_cvtsi32_si128, _mm_loadu_ps,
    _mm_storeu_ps, _mm256_add_epi32, _mm256_add_pd, _mm256_add_ps, _mm256_and_ps, _mm256_and_si256, _mm256_blend_epi16,
    _mm256_blendv_ps, _mm256_castps_si256, _mm256_castps128_ps256, _mm256_castps256_ps128, _mm256_castsi256_ps,
    _mm256_cmp_ps, _mm256_cmpgt_epi32, _mm256_cvtpd_ps, _mm256_cvtps_pd, _mm256_div_ps, _mm256_extractf128_ps,
    _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_insertf128_ps, _mm256_loadu_pd, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_movemask_ps, _mm256_mul_pd, _mm256_mul_ps, _mm256_mullo_epi32, _mm256_or_ps, _mm256_or_si256,
    _mm256_permute2f128_ps, _mm256_set_m128, _mm256_set1_epi32, _mm256_set1_pd, _mm256_set1_ps, _mm256_setr_epi32,
    _mm256_shuffle_ps, _mm256_sll_epi32, _mm256_sqrt_ps, _mm256_srai_epi32, _mm256_srl_epi32, _mm256_storeu_pd,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps, _mm256_testz_si256, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    _mm256_xor_si256,
};
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Shl, Shr, Sub};

use crate::backend::cpu::kernels::number::Number;
use crate::numeric::stochastic_rounding::Word;

/// Elements of a block.
pub const BLOCK: usize = 16;

/// Eight float32. Only `unsafe` functions whose callers promise AVX2 create one, so where one exists the CPU has AVX2.
#[derive(Clone, Copy, Debug)]
pub struct F32s(__m256);

/// Eight 32-bit words; as [`F32s`].
#[derive(Clone, Copy, Debug)]
pub struct U32s(__m256i);

/// A block.
pub type Block<V> = [V; 2];

/// The block of an expression's values for each half, `$i`. A macro, because a closure is compiled without AVX2 where it is
/// not inlined, and calls the intrinsics as functions.
macro_rules! both {
    ($i:ident => $vector:expr) => {
        [
            {
                const $i: usize = 0;
                $vector
            },
            {
                const $i: usize = 1;
                $vector
            },
        ]
    };
}

pub(super) use both;

macro_rules! elementwise {
    ($($type:ident $trait:ident $method:ident $intrinsic:ident;)*) => {$(
        impl $trait for $type {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: the operands exist, so the CPU has AVX2 (see `F32s`).
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )*};
}
elementwise! {
    F32s Add add _mm256_add_ps;
    F32s Sub sub _mm256_sub_ps;
    F32s Mul mul _mm256_mul_ps;
    F32s Div div _mm256_div_ps;
    U32s Add add _mm256_add_epi32;
    U32s BitAnd bitand _mm256_and_si256;
    U32s BitOr bitor _mm256_or_si256;
    U32s BitXor bitxor _mm256_xor_si256;
    U32s Mul mul _mm256_mullo_epi32;
}

macro_rules! with_a_constant {
    ($($trait:ident $method:ident;)*) => {$(
        impl $trait<u32> for U32s {
            type Output = Self;

            #[inline(always)]
            fn $method(self, constant: u32) -> Self {
                self.$method(self.with(constant))
            }
        }
    )*};
}
with_a_constant! {
    Add add;
    BitAnd bitand;
    BitOr bitor;
}

impl Shr<u32> for U32s {
    type Output = Self;

    #[inline(always)]
    fn shr(self, bits: u32) -> Self {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        Self(unsafe { _mm256_srl_epi32(self.0, _mm_cvtsi32_si128(bits.cast_signed())) })
    }
}

impl Word for U32s {
    #[inline(always)]
    fn plus(self, constant: u32) -> Self {
        self + constant
    }
    #[inline(always)]
    fn times(self, constant: u32) -> Self {
        self * self.with(constant)
    }
    #[inline(always)]
    fn folded(self, bits: u32) -> Self {
        self ^ self >> bits
    }
}

impl Shl<u32> for U32s {
    type Output = Self;

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        Self(unsafe { _mm256_sll_epi32(self.0, _mm_cvtsi32_si128(bits.cast_signed())) })
    }
}

impl Number for F32s {
    type Wide = F64s;

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: the operands exist, so the CPU has AVX2 (see `F32s`).
        Self(unsafe { _mm256_fmadd_ps(self.0, a.0, b.0) })
    }

    #[inline(always)]
    fn minus_product(self, a: Self, b: Self) -> Self {
        // SAFETY: the operands exist, so the CPU has AVX2 (see `F32s`).
        Self(unsafe { _mm256_fnmadd_ps(a.0, b.0, self.0) })
    }

    #[inline(always)]
    fn normal_or_zero(self) -> Self {
        let size = self.bits() & i32::MAX.cast_unsigned();
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`). As integers subnormal floats are smaller than all others.
        let normal = U32s(unsafe { _mm256_cmpgt_epi32(size.0, _mm256_set1_epi32(0x007F_FFFF)) });
        (self.bits() & normal).floats()
    }

    #[inline(always)]
    fn positive_normal_or_zero(self) -> Self {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        unsafe {
            let normal = _mm256_cmp_ps::<_CMP_NLT_UQ>(self.0, _mm256_set1_ps(f32::MIN_POSITIVE));
            Self(_mm256_and_ps(self.0, normal))
        }
    }

    #[inline(always)]
    fn widen(self) -> F64s {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        unsafe {
            let upper = _mm256_extractf128_ps::<1>(self.0);
            F64s([_mm256_cvtps_pd(_mm256_castps256_ps128(self.0)), _mm256_cvtps_pd(upper)])
        }
    }

    #[inline(always)]
    fn round(F64s([low, high]): F64s) -> Self {
        // SAFETY: the numbers exist, so the CPU has AVX2 (see `F32s`).
        Self(unsafe { _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low)) })
    }

    #[inline(always)]
    fn wide(self, constant: f64) -> F64s {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        F64s([unsafe { _mm256_set1_pd(constant) }; 2])
    }
}

impl F32s {
    /// `value` eight times.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    pub unsafe fn splat(value: f32) -> Self {
        // SAFETY: that is what the caller promises.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    pub fn bits(self) -> U32s {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        U32s(unsafe { _mm256_castps_si256(self.0) })
    }

    /// Whether a number of either is NaN.
    #[inline(always)]
    pub fn any_nan(self, other: Self) -> bool {
        // SAFETY: the operands exist, so the CPU has AVX2 (see `F32s`).
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, other.0)) != 0 }
    }

    /// `yes` where this is NaN, else `no`.
    #[inline(always)]
    pub fn where_nan(self, yes: U32s, no: U32s) -> U32s {
        // SAFETY: the operands exist, so the CPU has AVX2 (see `F32s`).
        unsafe {
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0);
            Self(_mm256_blendv_ps(no.floats().0, yes.floats().0, nan)).bits()
        }
    }

    /// # Safety
    /// The CPU has AVX2, and sixteen float32 are readable from the pointer on.
    #[inline(always)]
    pub unsafe fn read(from: *const f32) -> Block<Self> {
        // SAFETY: that is what the caller promises.
        unsafe {
            // Elements 0–3, 8–11 and 4–7, 12–15.
            let [a, b] = both!(I => {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(from.add(4 * I)));
                _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.add(4 * I + 8)))
            });
            [Self(_mm256_shuffle_ps::<0x88>(a, b)), Self(_mm256_shuffle_ps::<0xDD>(a, b))]
        }
    }

    /// # Safety
    /// Sixteen float32 are writable from the pointer on.
    #[inline(always)]
    pub unsafe fn write([even, odd]: Block<Self>, to: *mut f32) {
        // SAFETY: the caller promises the elements; the block exists, so the CPU has AVX2.
        unsafe {
            let halves = [_mm256_unpacklo_ps(even.0, odd.0), _mm256_unpackhi_ps(even.0, odd.0)];
            for (vector, at) in halves.into_iter().zip([0, 4]) {
                _mm_storeu_ps(to.add(at), _mm256_castps256_ps128(vector));
                _mm_storeu_ps(to.add(at + 8), _mm256_extractf128_ps::<1>(vector));
            }
        }
    }

    /// A block's elements in the order of memory, the first eight and the last eight.
    #[inline(always)]
    pub fn in_order([even, odd]: Block<Self>) -> [Self; 2] {
        // SAFETY: the block exists, so the CPU has AVX2 (see `F32s`).
        unsafe {
            // Elements 0–3, 8–11 and 4–7, 12–15.
            let (a, b) = (_mm256_unpacklo_ps(even.0, odd.0), _mm256_unpackhi_ps(even.0, odd.0));
            [Self(_mm256_permute2f128_ps::<0x20>(a, b)), Self(_mm256_permute2f128_ps::<0x31>(a, b))]
        }
    }

    /// Whether a number of the block is as large.
    #[inline(always)]
    pub fn any_at_least(block: Block<Self>, low: f32) -> bool {
        // SAFETY: the block exists, so the CPU has AVX2 (see `F32s`).
        unsafe {
            let low = _mm256_set1_ps(low);
            let [even, odd] = both!(I => _mm256_cmp_ps::<_CMP_GE_OQ>(block[I].0, low));
            _mm256_movemask_ps(_mm256_or_ps(even, odd)) != 0
        }
    }

    /// Whether each number of the block lies between two; no NaN does.
    #[inline(always)]
    pub fn all_within(block: Block<Self>, low: f32, high: f32) -> bool {
        // SAFETY: the block exists, so the CPU has AVX2 (see `F32s`).
        unsafe {
            let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
            let [even, odd] = both!(I => _mm256_and_ps(
                _mm256_cmp_ps::<_CMP_GE_OQ>(block[I].0, low),
                _mm256_cmp_ps::<_CMP_LE_OQ>(block[I].0, high),
            ));
            _mm256_movemask_ps(_mm256_and_ps(even, odd)) == 0xFF
        }
    }
}

impl U32s {
    /// `constant` eight times.
    #[inline(always)]
    pub fn with(self, constant: u32) -> Self {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        Self(unsafe { _mm256_set1_epi32(constant.cast_signed()) })
    }

    /// Whether all are a float's 0 or −0.
    #[inline(always)]
    pub fn are_zeros(self) -> bool {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        unsafe { _mm256_testz_si256(self.0, _mm256_set1_epi32(i32::MAX)) == 1 }
    }

    #[inline(always)]
    pub fn floats(self) -> F32s {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        F32s(unsafe { _mm256_castsi256_ps(self.0) })
    }

    /// The upper halves as signed numbers.
    #[inline(always)]
    pub fn signed_half(self) -> Self {
        // SAFETY: `self` exists, so the CPU has AVX2 (see `F32s`).
        Self(unsafe { _mm256_srai_epi32::<16>(self.0) })
    }

    /// Sixteen 16-bit elements, each as the upper half of a word whose lower half is 0.
    ///
    /// # Safety
    /// The CPU has AVX2, and sixteen elements are readable from the pointer on.
    #[inline(always)]
    pub unsafe fn read_upper(from: *const u16) -> Block<Self> {
        // SAFETY: that is what the caller promises.
        let pairs = unsafe { Self(_mm256_loadu_si256(from.cast())) };
        [pairs << 16, pairs & 0xFFFF_0000]
    }

    /// The upper halves of the words, as sixteen 16-bit elements.
    ///
    /// # Safety
    /// Sixteen elements are writable from the pointer on.
    #[inline(always)]
    pub unsafe fn write_upper([even, odd]: Block<Self>, to: *mut u16) {
        // SAFETY: the caller promises the elements; the block exists, so the CPU has AVX2.
        unsafe { _mm256_storeu_si256(to.cast(), _mm256_blend_epi16::<0xAA>((even >> 16).0, odd.0)) };
    }

    /// The lower halves.
    ///
    /// # Safety
    /// As for [`Self::write_upper`].
    #[inline(always)]
    pub unsafe fn write_lower([even, odd]: Block<Self>, to: *mut u16) {
        // SAFETY: the caller promises the elements; the block exists, so the CPU has AVX2.
        unsafe { _mm256_storeu_si256(to.cast(), _mm256_blend_epi16::<0xAA>(even.0, (odd << 16).0)) };
    }

    /// The numbers of a block's eight pairs of elements, from `first` on.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    pub unsafe fn count_from(first: u32) -> Self {
        // SAFETY: that is what the caller promises.
        unsafe { Self(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) + first }
    }
}

/// Eight float64, four and four; as [`F32s`].
#[derive(Clone, Copy, Debug)]
pub struct F64s([__m256d; 2]);

impl Add for F64s {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: the operands exist, so the CPU has AVX2 (see `F32s`).
        Self(unsafe { both!(I => _mm256_add_pd(self.0[I], other.0[I])) })
    }
}

impl Mul for F64s {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: the operands exist, so the CPU has AVX2 (see `F32s`).
        Self(unsafe { both!(I => _mm256_mul_pd(self.0[I], other.0[I])) })
    }
}

impl F64s {
    /// # Safety
    /// The CPU has AVX2, and eight float64 are readable from the pointer on.
    #[inline(always)]
    pub unsafe fn read(from: *const f64) -> Self {
        // SAFETY: that is what the caller promises.
        Self(unsafe { both!(I => _mm256_loadu_pd(from.add(4 * I))) })
    }

    /// # Safety
    /// Eight float64 are writable from the pointer on.
    #[inline(always)]
    pub unsafe fn write(self, to: *mut f64) {
        // SAFETY: the caller promises the numbers; `self` exists, so the CPU has AVX2.
        unsafe { both!(I => _mm256_storeu_pd(to.add(4 * I), self.0[I])) };
    }

    /// Eight float32, widened: half the shuffles that [`F32s::widen`] takes.
    ///
    /// # Safety
    /// The CPU has AVX2, and eight float32 are readable from the pointer on.
    #[inline(always)]
    pub unsafe fn widened(from: *const f32) -> Self {
        // SAFETY: that is what the caller promises.
        Self(unsafe { both!(I => _mm256_cvtps_pd(_mm_loadu_ps(from.add(4 * I)))) })
    }
}

impl F32s {
    /// Eight adjacent elements, unlike a block's.
    ///
    /// # Safety
    /// The CPU has AVX2, and eight float32 are readable from the pointer on.
    #[inline(always)]
    pub unsafe fn load(from: *const f32) -> Self {
        // SAFETY: that is what the caller promises.
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    /// # Safety
    /// Eight float32 are writable from the pointer on.
    #[inline(always)]
    pub unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises the numbers; `self` exists, so the CPU has AVX2.
        unsafe { _mm256_storeu_ps(to, self.0) };
    }
}
