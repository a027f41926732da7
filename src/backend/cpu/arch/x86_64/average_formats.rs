//! How a parameter's average is read, moved after the parameter and written, in AVX2.

use super::bf16_formats::{ParamFormat, Stochastic, read_bf16};
use super::random_blocks::RandomBlocks;
use super::vector::{Block, F32s, both};

/// A type in memory.
pub(super) trait AverageFormat: Copy {
    /// Whether there is an average.
    const EXISTS: bool;

    /// A block's averages in the order of memory, the first eight and the last eight.
    ///
    /// # Safety
    /// The CPU has AVX2, and a block is readable from the pointer on.
    unsafe fn load(from: *const Self) -> Block<F32s>;

    /// θ̄ ← θ̄ + (θ − θ̄)·share of a block.
    ///
    /// # Safety
    /// The CPU has AVX2, and from the pointers on a block of averages is writable, one of parameters readable.
    unsafe fn follow(average: *mut Self, param: *const f32, share: F32s, random: &mut RandomBlocks);
}

/// There is none.
#[derive(Clone, Copy)]
pub(super) struct NoAverage;

impl AverageFormat for NoAverage {
    const EXISTS: bool = false;
    #[inline(always)]
    unsafe fn load(_: *const Self) -> Block<F32s> {
        unreachable!("nothing is read where there is no average")
    }
    #[inline(always)]
    unsafe fn follow(_: *mut Self, _: *const f32, _: F32s, _: &mut RandomBlocks) {}
}

#[inline(always)]
fn moved(average: Block<F32s>, param: Block<F32s>, share: F32s) -> Block<F32s> {
    both!(I => average[I] + (param[I] - average[I]) * share)
}

impl AverageFormat for f32 {
    const EXISTS: bool = true;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { both!(I => F32s::load(from.add(8 * I))) }
    }
    #[inline(always)]
    unsafe fn follow(average: *mut f32, param: *const f32, share: F32s, _: &mut RandomBlocks) {
        // SAFETY: the caller promises AVX2 and both blocks.
        unsafe {
            let new = moved(Self::load(average), Self::load(param), share);
            both!(I => new[I].store(average.add(8 * I)));
        }
    }
}

/// bfloat16, rounded stochastically.
impl AverageFormat for u16 {
    const EXISTS: bool = true;
    #[inline(always)]
    unsafe fn load(from: *const u16) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        F32s::in_order(unsafe { read_bf16(from) })
    }
    #[inline(always)]
    unsafe fn follow(average: *mut u16, param: *const f32, share: F32s, random: &mut RandomBlocks) {
        // SAFETY: the caller promises AVX2 and both blocks; a float32 moment says that NaNs may come.
        unsafe {
            let new = moved(read_bf16(average), F32s::read(param), share);
            Stochastic::write::<f32>(average, std::ptr::dangling_mut(), new, random.next::<true>());
        }
    }
}
