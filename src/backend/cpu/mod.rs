//! The backend on host memory: chunks × threads × instruction sets.
#![allow(unsafe_code, reason = "turns checked host pointers into kernels' pointers; each use says why it holds")]

mod arch;
mod chunks;
mod kernels;
mod meta_passes;
mod process;
mod step_passes;
mod storage;
mod threads;

use std::ffi::c_void;
use std::ops::Range;

use self::chunks::{Chunk, Chunks};
use self::kernels::load_store::{Moments, Read, Weights};
use self::kernels::tile::{Drive, Tiles};
use self::meta_passes::MetaStorage;
use self::storage::Storage;
use self::threads::Threads;
use crate::backend::Backend;
use crate::error::Result;
use crate::model::dtype::{DType, Precision};
use crate::model::groups::Tensor;
use crate::numeric::simd;

pub use self::chunks::CHUNK;
pub use self::process::generation;
pub use self::threads::THREAD_NAME;

/// Below so many elements a fork and a join cost more than they bring; the caller's thread does the work.
const SMALL: usize = 1 << 18;

/// Moments and passes on host memory.
#[derive(Debug)]
pub struct Cpu {
    kinds: Vec<Kind>,
    exp_avg: Storage,
    exp_avg_sq: Storage,
    /// Masters or remainders.
    masters: Storage,
    chunks: Chunks,
    threads: Threads,
    /// Whether `enhanced` features want zeros counted.
    zeros: bool,
    /// One a tensor.
    of_m: Vec<OfM>,
    meta: Option<MetaStorage>,
    /// The last meta-update's memory, lent to the system: fresh pages would cost more than their use.
    lent: Option<MetaStorage>,
}

/// What became of a tensor's Σ m². Whoever changes m but by an update has the sums of the state taken before the next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OfM {
    /// It was told with the other sums of the state.
    Told,
    /// It was taken with the gradient's sums.
    Summed(f64),
    /// An update left it for the next gradient's sums.
    Left,
}

/// What a tensor's elements are.
#[derive(Clone, Copy, Debug)]
struct Kind {
    dtype: DType,
    grad: DType,
    moments: DType,
    precision: Precision,
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

/// Calls `$call::<T>` with the type that the tensor is computed in.
macro_rules! by_dtype {
    ($kind:expr, $T:ident => $call:expr) => {
        match $kind.dtype.compute() {
            DType::F64 => {
                type $T = f64;
                $call
            }
            _ => {
                type $T = f32;
                $call
            }
        }
    };
}

use by_dtype;

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
        let moments = |t: &Tensor| t.numel * t.moment_dtype.size();
        let masters = |t: &Tensor| t.master_dtype().map_or(0, |dtype| t.numel * dtype.size());
        let small = tensors.iter().map(|t| t.numel).sum::<usize>() < SMALL;
        Ok(Self {
            kinds: tensors.iter().map(Kind::new).collect(),
            exp_avg: Storage::zeros(tensors.iter().map(moments))?,
            exp_avg_sq: Storage::zeros(tensors.iter().map(moments))?,
            masters: Storage::zeros(tensors.iter().map(masters))?,
            chunks: Chunks::new(tensors.iter().map(|t| t.numel)),
            threads: Threads::new(if small { 1 } else { threads }),
            zeros,
            of_m: vec![OfM::Told; tensors.len()],
            meta: None,
            lent: None,
        })
    }

    /// One pass: `work` on every chunk of the tensors that `wanted` names, in any order, its sums into the slots.
    fn pass<const N: usize>(
        &self,
        wanted: impl Fn(usize) -> bool + Sync,
        work: impl Fn(Chunk, Kind) -> [f64; N] + Sync,
    ) {
        self.pass_over(0..self.chunks.len(), wanted, work);
    }

    fn pass_over<const N: usize>(
        &self,
        range: Range<usize>,
        wanted: impl Fn(usize) -> bool + Sync,
        work: impl Fn(Chunk, Kind) -> [f64; N] + Sync,
    ) {
        let (chunks, kinds) = (&self.chunks, &self.kinds);
        self.threads.run(range, chunks.len(), |i| {
            let chunk = chunks.get(i);
            if wanted(chunk.tensor) {
                chunks.put(i, work(chunk, kinds[chunk.tensor]));
            }
        });
    }

    fn tensors(&self) -> Range<usize> {
        0..self.kinds.len()
    }

    /// What is kept, for a pass's threads.
    fn state(&self) -> State<'_> {
        State { exp_avg: &self.exp_avg, exp_avg_sq: &self.exp_avg_sq, masters: &self.masters }
    }
}

impl Backend for Cpu {}

impl Kind {
    /// Whether moments or gradients have 16 bits.
    fn is_short(self) -> bool {
        self.dtype != DType::F64 && (self.grad.is_half() || self.moments.is_half())
    }

    /// Whether Σ m² is taken with the gradient's sums and momentum, a pass that waits for memory, and not by the update,
    /// which calculates. Float32's has time for both. `zeros`: whether they are counted.
    fn sums_m_early(self, zeros: bool) -> bool {
        self.is_short() && !zeros
    }

    fn new(tensor: &Tensor) -> Self {
        Self {
            dtype: tensor.spec.dtype,
            grad: tensor.spec.grad_dtype,
            moments: tensor.moment_dtype,
            precision: tensor.precision,
        }
    }
}

/// What the backend keeps of each tensor.
#[derive(Clone, Copy)]
struct State<'a> {
    exp_avg: &'a Storage,
    exp_avg_sq: &'a Storage,
    masters: &'a Storage,
}

// SAFETY: as for `Shared`.
unsafe impl Sync for State<'_> {}

/// Where a chunk begins in a buffer of elements of this type.
fn from(base: *mut c_void, dtype: DType, chunk: Chunk) -> *mut c_void {
    // `wrapping_byte_add` only to stay safe: the chunk lies inside its tensor.
    base.wrapping_byte_add(chunk.start * dtype.size())
}

impl State<'_> {
    fn moments(&self, kind: Kind, chunk: Chunk) -> Moments {
        let at = |storage: &Storage| from(storage.pointer(chunk.tensor), kind.moments, chunk);
        Moments { m: at(self.exp_avg), v: at(self.exp_avg_sq), dtype: kind.moments, short: kind.is_short() }
    }

    fn weights(&self, kind: Kind, chunk: Chunk, host: *mut c_void) -> Weights {
        let beside = match kind.precision {
            Precision::Master => DType::F32,
            _ => kind.dtype,
        };
        Weights {
            host: from(host, kind.dtype, chunk),
            dtype: kind.dtype,
            beside: from(self.masters.pointer(chunk.tensor), beside, chunk),
            precision: kind.precision,
        }
    }
}
