//! The random bits of stochastic rounding, a block at a time.

use super::vector::{BLOCK, Block, U32s};
use crate::numeric::stochastic_rounding::{INCREMENT, RoundingBits, hash};

/// One block after the other.
pub(super) struct RandomBlocks {
    term: U32s,
    increment: U32s,
}

impl RandomBlocks {
    /// Those of a chunk from its element `start` on.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    pub unsafe fn new(random: RoundingBits, start: usize) -> Self {
        // SAFETY: the caller promises AVX2.
        let pairs = unsafe { U32s::count_from((start / 2) as u32) };
        Self { term: random.term(pairs), increment: pairs.with(INCREMENT.wrapping_mul(BLOCK as u32 / 2)) }
    }

    /// Those of the next block; zeros if they are not WANTED.
    #[inline(always)]
    pub fn next<const WANTED: bool>(&mut self) -> Block<U32s> {
        if !WANTED {
            return [self.increment.with(0); 2];
        }
        let word = hash(self.term);
        self.term = self.term + self.increment;
        [word & 0xFFFF, word >> 16]
    }
}
