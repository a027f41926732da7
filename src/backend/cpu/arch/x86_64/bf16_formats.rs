//! How bfloat16 parameters and moments are read, rounded and written, in AVX2: the bits of `numeric/half.rs`.
//!
//! NaNs, whose payload rounding must not carry into, are tested for two vectors at a time and fixed in a function apart.

use super::vector::{Block, F32s, U32s, both};

/// How a parameter is read and written.
pub(super) trait ParamFormat {
    /// What is stored beside each element.
    type Beside;
    /// Whether it is rounded stochastically.
    const STOCHASTIC: bool = false;

    /// The values that an update starts from.
    ///
    /// # Safety
    /// The CPU has AVX2, and a block is readable from both pointers on.
    unsafe fn read(model: *const u16, beside: *const Self::Beside) -> Block<F32s>;

    /// Writes new values, computed from moments of format M, and returns those that are stored.
    ///
    /// # Safety
    /// A block is writable from both pointers on.
    unsafe fn write<M: MomentFormat>(
        model: *mut u16,
        beside: *mut Self::Beside,
        values: Block<F32s>,
        random: Block<U32s>,
    ) -> Block<F32s>;
}

/// Rounded to nearest.
pub(super) struct Nearest;
/// Rounded stochastically.
pub(super) struct Stochastic;
/// A float32 master beside it.
pub(super) struct Master;
/// The low half of the master beside it.
pub(super) struct Remainder;

/// Makes the NaNs in `rounded` quiet ones with the upper half of their payload.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2")]
fn fix_nans(values: &Block<F32s>, rounded: &mut Block<U32s>) {
    for (rounded, value) in rounded.iter_mut().zip(values) {
        *rounded = value.where_nan(value.bits() | 0x0040_0000, *rounded);
    }
}

/// Adds the carry below the upper half, which then is rounded, except in NaNs.
#[inline(always)]
fn add_carry(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
    both!(I => values[I].bits() + carry[I])
}

/// The same with NaNs.
#[inline(always)]
fn round(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
    let mut rounded = add_carry(values, carry);
    if values[0].any_nan(values[1]) {
        // SAFETY: that `values` exist shows that the CPU has AVX2.
        unsafe { fix_nans(&values, &mut rounded) };
    }
    rounded
}

/// The low-precision copies of masters: half a unit is added.
#[inline(always)]
fn from_masters(masters: Block<F32s>) -> Block<U32s> {
    round(masters, both!(I => masters[I].bits().with(0x8000)))
}

/// The values of the upper halves.
#[inline(always)]
fn stored_values(rounded: Block<U32s>) -> Block<F32s> {
    both!(I => (rounded[I] & 0xFFFF_0000).floats())
}

/// # Safety
/// The CPU has AVX2, and a block is readable from the pointer on.
#[inline(always)]
pub(super) unsafe fn read_bf16(from: *const u16) -> Block<F32s> {
    // SAFETY: the caller promises AVX2 and a block.
    let words = unsafe { U32s::read_upper(from) };
    both!(I => words[I].floats())
}

impl ParamFormat for Nearest {
    type Beside = ();
    #[inline(always)]
    unsafe fn read(model: *const u16, _: *const ()) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { read_bf16(model) }
    }
    #[inline(always)]
    unsafe fn write<M: MomentFormat>(model: *mut u16, _: *mut (), values: Block<F32s>, _: Block<U32s>) -> Block<F32s> {
        let rounded = M::round_param(values, both!(I => (values[I].bits() >> 16 & 1) + 0x7FFF));
        // SAFETY: the caller promises a writable block.
        unsafe { U32s::write_upper(rounded, model) };
        stored_values(rounded)
    }
}

impl ParamFormat for Stochastic {
    type Beside = ();
    const STOCHASTIC: bool = true;
    #[inline(always)]
    unsafe fn read(model: *const u16, _: *const ()) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { read_bf16(model) }
    }
    #[inline(always)]
    unsafe fn write<M: MomentFormat>(
        model: *mut u16,
        _: *mut (),
        values: Block<F32s>,
        random: Block<U32s>,
    ) -> Block<F32s> {
        let rounded = M::round_param(values, random);
        // SAFETY: the caller promises a writable block.
        unsafe { U32s::write_upper(rounded, model) };
        stored_values(rounded)
    }
}

impl ParamFormat for Master {
    type Beside = f32;
    #[inline(always)]
    unsafe fn read(_: *const u16, masters: *const f32) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { F32s::read(masters) }
    }
    #[inline(always)]
    unsafe fn write<M: MomentFormat>(
        model: *mut u16,
        masters: *mut f32,
        values: Block<F32s>,
        _: Block<U32s>,
    ) -> Block<F32s> {
        // SAFETY: the caller promises writable blocks.
        unsafe {
            F32s::write(values, masters);
            U32s::write_upper(from_masters(values), model);
        }
        values
    }
}

impl ParamFormat for Remainder {
    type Beside = u16;
    #[inline(always)]
    unsafe fn read(model: *const u16, remainders: *const u16) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block from both pointers on.
        let (copy, low) = unsafe { (U32s::read_upper(model), U32s::read_upper(remainders)) };
        both!(I => (copy[I] + low[I].signed_half()).floats())
    }
    #[inline(always)]
    unsafe fn write<M: MomentFormat>(
        model: *mut u16,
        remainders: *mut u16,
        values: Block<F32s>,
        _: Block<U32s>,
    ) -> Block<F32s> {
        let low = both!(I => values[I].where_nan(values[I].bits().with(0), values[I].bits() & 0xFFFF));
        // SAFETY: the caller promises writable blocks.
        unsafe {
            U32s::write_upper(from_masters(values), model);
            U32s::write_lower(low, remainders);
        }
        values
    }
}

/// How a moment is read and written.
pub(super) trait MomentFormat: Sized {
    /// Whether it is rounded stochastically.
    const STOCHASTIC: bool;

    /// # Safety
    /// The CPU has AVX2, and a block is readable from the pointer on.
    unsafe fn read(from: *const Self) -> Block<F32s>;

    /// Writes new values of both moments and returns those that are stored.
    ///
    /// # Safety
    /// A block is writable from both pointers on.
    unsafe fn write(to: [*mut Self; 2], values: [Block<F32s>; 2], random: Block<U32s>) -> [Block<F32s>; 2];

    /// Parameters that were computed from such moments, rounded to 16 bits with this carry.
    fn round_param(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s>;
}

impl MomentFormat for f32 {
    const STOCHASTIC: bool = false;
    #[inline(always)]
    unsafe fn read(from: *const f32) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { F32s::read(from) }
    }
    #[inline(always)]
    unsafe fn write([m, v]: [*mut f32; 2], values: [Block<F32s>; 2], _: Block<U32s>) -> [Block<F32s>; 2] {
        // SAFETY: the caller promises writable blocks.
        unsafe {
            F32s::write(values[0], m);
            F32s::write(values[1], v);
        }
        values
    }
    #[inline(always)]
    fn round_param(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
        round(values, carry)
    }
}

/// bfloat16.
impl MomentFormat for u16 {
    const STOCHASTIC: bool = true;
    #[inline(always)]
    unsafe fn read(from: *const u16) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { read_bf16(from) }
    }
    #[inline(always)]
    unsafe fn write(to: [*mut u16; 2], values: [Block<F32s>; 2], random: Block<U32s>) -> [Block<F32s>; 2] {
        let stored = both!(I => Self::round_param(values[I], random));
        // SAFETY: the caller promises writable blocks.
        unsafe {
            U32s::write_upper(stored[0], to[0]);
            U32s::write_upper(stored[1], to[1]);
        }
        [stored_values(stored[0]), stored_values(stored[1])]
    }
    #[inline(always)]
    fn round_param(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
        // Computed from bfloat16 alone, a NaN's lower half is 0: nothing is carried into the upper one.
        add_carry(values, carry)
    }
}
