//! The backend on host memory: chunks × threads × instruction sets.
#![allow(unsafe_code, reason = "makes slices of checked host pointers; each use says who checked")]

mod arch;
mod chunks;
mod kernels;
mod meta_passes;
mod pool;
mod process;
mod shards;
mod signals;
mod step_passes;
mod storage;
mod threads;

use std::ffi::c_void;
use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use self::chunks::{Chunk, Chunks};
use self::kernels::average::Average;
use self::kernels::elements::ElementsMut;
use self::kernels::load_store::{Moments, Param, ParamPrecision};
use self::kernels::number::Float;
use self::meta_passes::MetaStorage;
use self::shards::Shards;
use self::storage::Storage;
use self::threads::Threads;
use crate::backend::{Agreement, AllReduce, Backend, Collective, ModelChange, StepPasses};
use crate::error::Result;
use crate::model::dtype::{DType, Precision};
use crate::model::groups::Tensor;
use crate::model::options::Options;
use crate::numeric::stochastic_rounding::{RoundingBits, Use};

pub use self::chunks::CHUNK;
pub use self::pool::is_pool_thread;
pub use self::process::generation;

/// Models with fewer elements are handled by the caller's thread alone: a fork and a join would cost more than they save.
const SMALL: usize = 1 << 18;

/// In place of a tensor's index.
const NO_TENSOR: usize = usize::MAX;

/// Threads that a model under these options may have at most.
pub fn threads(options: &Options) -> usize {
    match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    }
}

/// Threads that these tensors get.
fn threads_for(tensors: &[Tensor], options: &Options) -> usize {
    if tensors.iter().map(|t| t.numel).sum::<usize>() < SMALL { 1 } else { threads(options) }
}

/// Zeros for both moments, the masters and the averages of tensors.
fn storage<'a>(tensors: impl Iterator<Item = &'a Tensor> + Clone, options: &Options) -> Result<[Storage; 4]> {
    let moments = || Storage::zeros(tensors.clone().map(|t| t.numel * t.moment_dtype.size()));
    let masters = tensors.clone().map(|t| t.master_dtype().map_or(0, |dtype| t.numel * dtype.size()));
    let averages = tensors.clone().map(|t| options.average_of(t.spec.dtype).map_or(0, |dtype| t.numel * dtype.size()));
    Ok([moments()?, moments()?, Storage::zeros(masters)?, Storage::zeros(averages)?])
}

/// Moments and passes on host memory.
#[derive(Debug)]
pub struct Cpu {
    types: Vec<TensorTypes>,
    exp_avg: Storage,
    exp_avg_sq: Storage,
    /// Masters or remainders.
    masters: Storage,
    averages: Storage,
    /// 1/N, a step's share in an average.
    average_share: f64,
    chunks: Chunks,
    threads: Threads,
    /// Whether `enhanced` features need zeros counted.
    zeros: bool,
    /// See [`crate::backend::StepPasses::take_overwritten`]; [`NO_TENSOR`] if there is none.
    overwritten: AtomicUsize,
    /// One a tensor.
    first_moment_sums: Vec<FirstMomentSum>,
    meta: Option<MetaStorage>,
    /// The last meta-update's memory, which the system may take (MADV_FREE). Fresh pages would cost more than their use.
    free_meta: Option<MetaStorage>,
    /// Where other processes have the rest of the tensors.
    shards: Option<Shards>,
}

/// Where a tensor's Σ m² is. Whoever changes m other than by an update has the sums of the state taken before the next one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum FirstMomentSum {
    /// With the other sums of the state.
    InStateSums,
    /// It was taken with the gradient's sums.
    WithGradientSums(f64),
    /// Not taken yet: an update left it to the next gradient's sums.
    Pending,
}

/// The types of a tensor's elements.
#[derive(Clone, Copy, Debug)]
struct TensorTypes {
    param: DType,
    grad: DType,
    moments: DType,
    average: Option<DType>,
    precision: Precision,
}

/// One pointer a tensor, for a pass's threads.
#[derive(Clone, Copy)]
struct SyncPointers<'a, P>(&'a [P]);

// SAFETY: a thread uses a pointer only for the elements of its chunk, and chunks of a pass do not share elements.
unsafe impl<P> Sync for SyncPointers<'_, P> {}

impl<P: Copy> SyncPointers<'_, P> {
    fn of(&self, tensor: usize) -> P {
        self.0[tensor]
    }
}

/// Evaluates `$call` with `$T` as the type that the tensor is computed in.
macro_rules! with_compute_type {
    ($types:expr, $T:ident => $call:expr) => {
        match $types.param.compute() {
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

use with_compute_type;

impl Cpu {
    /// Moments of 0 for these tensors.
    ///
    /// # Errors
    /// [`crate::error::Error::OutOfMemory`].
    pub fn new(tensors: &[Tensor], options: &Options, zeros: bool) -> Result<Self> {
        let [exp_avg, exp_avg_sq, masters, averages] = storage(tensors.iter(), options)?;
        Ok(Self {
            types: TensorTypes::of(tensors, options),
            exp_avg,
            exp_avg_sq,
            masters,
            averages,
            average_share: options.average_share(),
            chunks: Chunks::new(tensors.iter().map(|t| (t.numel, t.offset / CHUNK))),
            threads: Threads::new(threads_for(tensors, options)),
            zeros,
            overwritten: AtomicUsize::new(NO_TENSOR),
            first_moment_sums: vec![FirstMomentSum::InStateSums; tensors.len()],
            meta: None,
            free_meta: None,
            shards: None,
        })
    }

    /// One pass: `work` on every chunk of the `wanted` tensors, in any order, its sums into the slots.
    fn pass<const N: usize>(
        &self,
        wanted: impl Fn(usize) -> bool + Sync,
        work: impl Fn(Chunk, TensorTypes) -> [f64; N] + Sync,
    ) {
        self.pass_over(0..self.chunks.len(), wanted, work);
    }

    fn pass_over<const N: usize>(
        &self,
        range: Range<usize>,
        wanted: impl Fn(usize) -> bool + Sync,
        work: impl Fn(Chunk, TensorTypes) -> [f64; N] + Sync,
    ) {
        let (chunks, types) = (&self.chunks, &self.types);
        self.threads.run(range, chunks.len(), |i| {
            let chunk = chunks.get(i);
            if wanted(chunk.tensor) {
                chunks.put(i, work(chunk, types[chunk.tensor]));
            }
        });
    }

    fn tensors(&self) -> Range<usize> {
        0..self.types.len()
    }

    /// The tensors' state, for a pass's threads.
    fn state(&self) -> State<'_> {
        State {
            exp_avg: &self.exp_avg,
            exp_avg_sq: &self.exp_avg_sq,
            masters: &self.masters,
            averages: &self.averages,
            average_share: self.average_share,
        }
    }
}

impl Backend for Cpu {
    fn change_model(&mut self, ModelChange { options, tensors, from, .. }: ModelChange) -> Result<()> {
        let new = tensors.iter().zip(from).filter(|(_, from)| from.is_none()).map(|(tensor, _)| tensor);
        let [exp_avg, exp_avg_sq, masters, averages] = storage(new, options)?;
        self.exp_avg.reregister(from, exp_avg);
        self.exp_avg_sq.reregister(from, exp_avg_sq);
        self.masters.reregister(from, masters);
        self.averages.reregister(from, averages);
        self.types = TensorTypes::of(tensors, options);
        self.chunks = Chunks::new(tensors.iter().map(|t| (t.numel, t.offset / CHUNK)));
        let wanted = threads_for(tensors, options);
        if wanted != self.threads.wanted() {
            self.threads = Threads::new(wanted);
        }
        let overwritten = self.take_overwritten().and_then(|tensor| from.iter().position(|from| *from == Some(tensor)));
        self.overwritten = AtomicUsize::new(overwritten.unwrap_or(NO_TENSOR));
        // The sums of the state are taken anew.
        self.first_moment_sums = vec![FirstMomentSum::InStateSums; tensors.len()];
        self.free_meta = None;
        Ok(())
    }

    fn apply_options(&mut self, options: &Options) {
        self.average_share = options.average_share();
    }

    fn join(&mut self, all_reduce: AllReduce, tensors: &[Tensor], agreement: &Agreement) -> Result<()> {
        self.shards = Some(Shards::join(all_reduce, tensors, agreement)?);
        Ok(())
    }

    fn collective(&mut self) -> Option<&mut dyn Collective> {
        if self.shards.is_some() { Some(self) } else { None }
    }

    fn sum_order(&self, tensor: usize) -> u32 {
        if self.types[tensor].has_low_precision() { 2 } else { 1 }
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads.count())
    }

    fn refused_threads(&self) -> Option<String> {
        self.threads.refusal()
    }
}

impl TensorTypes {
    fn of(tensors: &[Tensor], options: &Options) -> Vec<Self> {
        tensors.iter().map(|tensor| Self::new(tensor, options)).collect()
    }

    fn new(tensor: &Tensor, options: &Options) -> Self {
        Self {
            param: tensor.spec.dtype,
            grad: tensor.spec.grad_dtype,
            moments: tensor.moment_dtype,
            average: options.average_of(tensor.spec.dtype),
            precision: tensor.precision,
        }
    }

    /// Whether moments or gradients have 16 bits.
    fn has_low_precision(self) -> bool {
        self.param != DType::F64 && (self.grad.is_half() || self.moments.is_half())
    }

    /// Whether Σ m² is taken with the gradient's sums and momentum, in a pass that waits for memory, and not by the update,
    /// which computes. Float32's update has time for both. `zeros`: whether they are counted.
    fn sums_first_moment_early(self, zeros: bool) -> bool {
        self.has_low_precision() && !zeros
    }
}

/// The backend's state of each tensor.
#[derive(Clone, Copy)]
struct State<'a> {
    exp_avg: &'a Storage,
    exp_avg_sq: &'a Storage,
    masters: &'a Storage,
    averages: &'a Storage,
    average_share: f64,
}

// SAFETY: as for `SyncPointers`.
unsafe impl Sync for State<'_> {}

/// The first element of a chunk in a buffer of elements of this type.
fn chunk_start(base: *mut c_void, dtype: DType, chunk: Chunk) -> *mut c_void {
    // `wrapping_byte_add` only because it is safe: the chunk lies inside its tensor.
    base.wrapping_byte_add(chunk.start * dtype.size())
}

/// A chunk of a tensor's buffer.
///
/// # Safety
/// `base` points to a buffer of the tensor's size and of this dtype, and for `'a` nobody else touches the chunk.
unsafe fn chunk_mut<'a>(base: *mut c_void, dtype: DType, chunk: Chunk) -> ElementsMut<'a> {
    // SAFETY: the caller promises the buffer, in which the chunk lies.
    unsafe { ElementsMut::new(chunk_start(base, dtype, chunk), dtype, chunk.len) }
}

impl<'a> State<'a> {
    /// A chunk's moments.
    ///
    /// # Safety
    /// For `'a` nobody else touches them.
    unsafe fn moments(&self, types: TensorTypes, chunk: Chunk) -> Moments<'a> {
        let (m, v) = (self.exp_avg.pointer(chunk.tensor), self.exp_avg_sq.pointer(chunk.tensor));
        // SAFETY: `Cpu::new` took storage of the tensors' sizes and moments' dtypes; the caller promises the rest.
        let [m, v] = unsafe { [chunk_mut(m, types.moments, chunk), chunk_mut(v, types.moments, chunk)] };
        Moments { m, v, low_precision: types.has_low_precision() }
    }

    /// A chunk's average, if there is one; `key`: of the random bits of stochastic rounding.
    ///
    /// # Safety
    /// For `'a` nobody else touches it.
    unsafe fn average<T: Float>(&self, types: TensorTypes, chunk: Chunk, key: u64) -> Option<Average<'a, T>> {
        let base = self.averages.pointer(chunk.tensor);
        types.average.map(|dtype| Average {
            // SAFETY: `Cpu::new` took storage of the tensors' sizes and averages' dtypes; the caller promises the rest.
            elements: unsafe { chunk_mut(base, dtype, chunk) },
            share: T::round(self.average_share),
            random: RoundingBits::new(key, chunk.place, Use::Average),
        })
    }

    /// A chunk's parameter, `model` being that of the host or a copy.
    ///
    /// # Safety
    /// `model` points to a buffer of the tensor's size and dtype, and for `'a` nobody else touches the chunk.
    unsafe fn param(&self, types: TensorTypes, chunk: Chunk, model: *mut c_void) -> Param<'a> {
        let beside = |dtype| chunk_start(self.masters.pointer(chunk.tensor), dtype, chunk);
        // SAFETY: the caller promises the model's buffer; `Cpu::new` took storage of the tensors' sizes for what their
        // precision needs.
        unsafe {
            Param {
                model: chunk_mut(model, types.param, chunk),
                precision: match types.precision {
                    Precision::Nearest => ParamPrecision::Nearest,
                    Precision::Stochastic => ParamPrecision::Stochastic,
                    Precision::Master => {
                        ParamPrecision::Master(std::slice::from_raw_parts_mut(beside(DType::F32).cast(), chunk.len))
                    }
                    Precision::Remainder => {
                        ParamPrecision::Remainder(std::slice::from_raw_parts_mut(beside(types.param).cast(), chunk.len))
                    }
                },
            }
        }
    }
}
