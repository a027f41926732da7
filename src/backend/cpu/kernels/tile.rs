//! A chunk as tiles, which stay in the first-level cache, and the loop that runs a kernel over them.

use std::ops::Range;

use super::sums_f64::{LANES, Sum};
use crate::numeric::stochastic_rounding::RUN;

/// Elements of a tile; a multiple of [`LANES`], so that an element's lane does not depend on the tiles.
pub const TILE: usize = 512;
const _: () = assert!(TILE.is_multiple_of(LANES) && TILE == RUN);

/// Work on a chunk that ends in N sums.
pub trait ChunkKernel<const N: usize> {
    /// Memory for tiles that are not used in place.
    type Buffers;

    /// Such memory.
    fn buffers() -> Self::Buffers;

    /// Does the work on the elements from `start` on, adds to the sums, and returns how many it did: a tile or, where that
    /// is cheaper, several, or the tile that is left, but at most `left`.
    fn advance(&mut self, start: usize, left: usize, buffers: &mut Self::Buffers, sums: &mut [Sum; N]) -> usize;
}

/// The next tile of a chunk.
pub fn tile(start: usize, left: usize) -> Range<usize> {
    start..start + TILE.min(left)
}

/// Runs a kernel over a chunk of `len` elements.
///
/// Not inlined: the buffers of all types would be side by side on the caller's stack.
#[inline(never)]
pub fn run<K: ChunkKernel<N>, const N: usize>(mut kernel: K, len: usize) -> [f64; N] {
    let (mut sums, mut buffers) = ([Sum::ZERO; N], K::buffers());
    let mut start = 0;
    while start < len {
        start += kernel.advance(start, len - start, &mut buffers, &mut sums);
    }
    sums.map(Sum::total)
}
