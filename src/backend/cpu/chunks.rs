//! Tensors cut into chunks of a fixed size, and one slot of partial sums for each: added up in a fixed order.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements of a chunk. A power of two, so that chunks keep the alignment of the tensor. Another number changes the last
/// bits of every sum, and so of every run.
pub const CHUNK: usize = 32_768;

/// A part of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// Its tensor.
    pub tensor: usize,
    /// First element in the host's and the backend's buffers.
    pub start: usize,
    /// Number of the chunk in its tensor, which begins before these buffers where they are a shard.
    pub place: usize,
    /// Number of elements, 1 to [`CHUNK`].
    pub len: usize,
}

/// Sums of one chunk in one pass.
pub const SUMS: usize = 6;

/// All chunks in order, and their sums.
#[derive(Debug)]
pub struct Chunks {
    chunks: Vec<Chunk>,
    /// Index of the first chunk of each tensor, and the end.
    first: Vec<usize>,
    /// f64 bits, so that threads can write side by side.
    slots: Vec<[AtomicU64; SUMS]>,
}

impl Chunks {
    /// For tensors of these lengths, or shards of them that begin with the chunk of that number; one without elements has no
    /// chunk.
    #[must_use]
    pub fn new(shards: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut chunks = Vec::new();
        let mut first = vec![0];
        for (tensor, (length, place)) in shards.into_iter().enumerate() {
            chunks.extend((0..length).step_by(CHUNK).map(|start| Chunk {
                tensor,
                start,
                place: place + start / CHUNK,
                len: CHUNK.min(length - start),
            }));
            first.push(chunks.len());
        }
        let slots = chunks.iter().map(|_| Default::default()).collect();
        Self { chunks, first, slots }
    }

    /// Number of chunks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// The `i`-th chunk.
    #[must_use]
    pub fn get(&self, i: usize) -> Chunk {
        self.chunks[i]
    }

    /// The chunks of a tensor.
    #[must_use]
    pub fn of(&self, tensor: usize) -> Range<usize> {
        self.first[tensor]..self.first[tensor + 1]
    }

    /// Writes the sums of chunk `i`.
    pub fn put<const N: usize>(&self, i: usize, sums: [f64; N]) {
        for (slot, sum) in self.slots[i].iter().zip(sums) {
            slot.store(sum.to_bits(), Ordering::Relaxed);
        }
    }

    /// The first sums of chunk `i`.
    #[must_use]
    pub fn sums<const N: usize>(&self, i: usize) -> [f64; N] {
        std::array::from_fn(|j| f64::from_bits(self.slots[i][j].load(Ordering::Relaxed)))
    }

    /// The sums of a tensor: its chunks', one after the other.
    #[must_use]
    pub fn total<const N: usize>(&self, tensor: usize) -> [f64; N] {
        let mut total = [0.0; N];
        for slot in &self.slots[self.of(tensor)] {
            for (total, sum) in total.iter_mut().zip(slot) {
                *total += f64::from_bits(sum.load(Ordering::Relaxed));
            }
        }
        total
    }
}
