//! The backend on host memory: chunks × threads × instruction sets.
#![allow(unsafe_code, reason = "turns checked host pointers into kernels' pointers; each use says why it holds")]

mod chunks;
mod float;
mod kernels;
mod meta;
mod step;
mod storage;
mod sums;
mod threads;

use std::ffi::c_void;
use std::ops::Range;

use self::chunks::{Chunk, Chunks};
use self::kernels::{Drive, In, InOut, Tiles};
use self::meta::MetaStorage;
use self::storage::Storage;
use self::threads::Threads;
use crate::backend::Backend;
use crate::config::DType;
use crate::error::Result;
use crate::groups::Tensor;
use crate::simd;

pub use self::chunks::CHUNK;
pub use self::threads::THREAD_NAME;

/// Below so many elements a fork and a join cost more than they bring; the caller's thread does the work.
const SMALL: usize = 1 << 18;

/// Moments and passes on host memory.
#[derive(Debug)]
pub struct Cpu {
    dtypes: Vec<DType>,
    exp_avg: Storage,
    exp_avg_sq: Storage,
    chunks: Chunks,
    threads: Threads,
    /// Whether `enhanced` features want zeros counted.
    zeros: bool,
    meta: Option<MetaStorage>,
}

/// Lets a pass's closure carry raw pointers to the pool's threads.
#[derive(Clone, Copy)]
struct Shared<'a, P>(&'a [P]);

// SAFETY: each chunk is handled by one thread, and chunks of a pass do not share elements.
unsafe impl<P> Sync for Shared<'_, P> {}

impl<P: Copy> Shared<'_, P> {
    fn at(&self, tensor: usize) -> P {
        self.0[tensor]
    }
}

/// Calls `$call::<T>` with the tensor's element type.
macro_rules! by_dtype {
    ($dtype:expr, $T:ident => $call:expr) => {
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $call
            }
            DType::F64 => {
                type $T = f64;
                $call
            }
        }
    };
}

use by_dtype;

/// A chunk's first element.
fn start<T>(base: *const c_void, chunk: Chunk) -> In<T> {
    // `wrapping_add` only to stay safe: the chunk lies inside its tensor.
    In(base.cast::<T>().wrapping_add(chunk.start))
}

fn start_mut<T>(base: *mut c_void, chunk: Chunk) -> InOut<T> {
    InOut(base.cast::<T>().wrapping_add(chunk.start))
}

/// Runs one kernel over one chunk.
///
/// # Safety
/// The kernel's pointers start at the chunk's first element in buffers of its tensor's size and dtype.
unsafe fn drive<K: Tiles<N>, const N: usize>(chunk: Chunk, kernel: K) -> [f64; N] {
    // SAFETY: the caller's promise; a chunk belongs to one thread.
    simd::run(unsafe { Drive::new(kernel, chunk.len) })
}

impl Cpu {
    /// Moments of 0 for these tensors.
    ///
    /// # Errors
    /// [`crate::error::Error::OutOfMemory`].
    pub fn new(tensors: &[Tensor], threads: usize, zeros: bool) -> Result<Self> {
        let small = tensors.iter().map(|t| t.numel).sum::<usize>() < SMALL;
        Ok(Self {
            dtypes: tensors.iter().map(|t| t.spec.dtype).collect(),
            exp_avg: Storage::zeros(tensors.iter().map(Tensor::bytes))?,
            exp_avg_sq: Storage::zeros(tensors.iter().map(Tensor::bytes))?,
            chunks: Chunks::new(tensors.iter().map(|t| t.numel)),
            threads: Threads::new(if small { 1 } else { threads }),
            zeros,
            meta: None,
        })
    }

    /// One pass: `work` on every chunk of the tensors that `wanted` names, in any order, its sums into the slots.
    fn pass<const N: usize>(
        &self,
        wanted: impl Fn(usize) -> bool + Sync,
        work: impl Fn(Chunk, DType) -> [f64; N] + Sync,
    ) {
        self.pass_over(0..self.chunks.len(), wanted, work);
    }

    fn pass_over<const N: usize>(
        &self,
        range: Range<usize>,
        wanted: impl Fn(usize) -> bool + Sync,
        work: impl Fn(Chunk, DType) -> [f64; N] + Sync,
    ) {
        let (chunks, dtypes) = (&self.chunks, &self.dtypes);
        self.threads.run(range.len(), |i| {
            let i = range.start + i;
            let chunk = chunks.get(i);
            if wanted(chunk.tensor) {
                chunks.put(i, work(chunk, dtypes[chunk.tensor]));
            }
        });
    }

    fn tensors(&self) -> Range<usize> {
        0..self.dtypes.len()
    }

    fn moments(&self) -> Moments<'_> {
        Moments { exp_avg: &self.exp_avg, exp_avg_sq: &self.exp_avg_sq }
    }
}

impl Backend for Cpu {}

/// Both moments, for a pass's threads.
#[derive(Clone, Copy)]
struct Moments<'a> {
    exp_avg: &'a Storage,
    exp_avg_sq: &'a Storage,
}

// SAFETY: as for `Shared`.
unsafe impl Sync for Moments<'_> {}

impl Moments<'_> {
    fn m<T>(&self, chunk: Chunk) -> InOut<T> {
        start_mut(self.exp_avg.pointer(chunk.tensor), chunk)
    }

    fn v<T>(&self, chunk: Chunk) -> InOut<T> {
        start_mut(self.exp_avg_sq.pointer(chunk.tensor), chunk)
    }
}
