//! A chunk as tiles, which stay in the first-level cache, and the driver that runs a kernel over them.

use super::sums_f64::{LANES, Sum};
use crate::numeric::simd::Kernel;
use crate::numeric::stochastic_rounding::RUN;

/// Elements of a tile; a multiple of [`LANES`], so that tiles do not shift lanes.
pub const TILE: usize = 512;
const _: () = assert!(TILE.is_multiple_of(LANES) && TILE == RUN);

/// Work on tiles that ends in N sums.
pub trait Tiles<const N: usize> {
    /// Handles elements `at .. at + len` (len ≤ [`TILE`]) and adds to the sums.
    ///
    /// # Safety
    /// The kernel's pointers are valid for these elements, do not overlap, and no other thread touches them.
    unsafe fn tile(&self, at: usize, len: usize, sums: &mut [Sum; N]);
}

/// Runs a kernel over a chunk of `len` elements.
#[derive(Debug)]
pub struct Drive<K, const N: usize> {
    kernel: K,
    len: usize,
}

impl<K: Tiles<N>, const N: usize> Drive<K, N> {
    /// # Safety
    /// Until the drive has run, the kernel's pointers are valid for `len` elements, do not overlap, and no other thread
    /// touches these elements.
    pub unsafe fn new(kernel: K, len: usize) -> Self {
        Self { kernel, len }
    }
}

impl<K: Tiles<N>, const N: usize> Kernel for Drive<K, N> {
    type Output = [f64; N];

    #[inline(always)]
    fn run(self) -> [f64; N] {
        let mut sums = [Sum::ZERO; N];
        let mut at = 0;
        while at < self.len {
            let len = TILE.min(self.len - at);
            // SAFETY: at + len ≤ self.len, and `new`'s promise.
            unsafe { self.kernel.tile(at, len, &mut sums) };
            at += len;
        }
        sums.map(Sum::total)
    }
}
