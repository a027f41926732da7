//! Shards: this process's sums are packed into a buffer on the device, among those of the whole model, and the host's callback
//! enqueues their sum over the processes.

use std::ffi::c_void;
use std::ptr::from_ref;
use std::sync::Arc;

use super::Cuda;
use super::abi::{self, DECIDER, Failure, GRADIENT_SUMS, STATE_SUMS, flags};
use super::device::Device;
use super::driver::Address;
use super::memory::{Array, Memory};
use super::queue::{Queue, Stream};
use crate::backend::{Agreement, AllReduce, Backend, Collective, HEADER, Summands, unanimous, write_header};
use crate::error::{Error, ReductionError, Result};
use crate::model::groups::{Shard, Tensor};
use crate::model::host_buffers::CheckedGrads;
use crate::model::name::Name;
use crate::model::stats::{GradientSums, StateSums};

/// Elements that checkpoints share numbers of.
const CHUNK: usize = Shard::ALIGNMENT as usize;
/// Numbers that they share of them.
const WORDS: usize = 4;

/// What a process keeps beside its chunks.
#[derive(Debug)]
pub(super) struct Shards {
    all_reduce: AllReduce,
    /// Of the last call that the host made.
    agreement: Agreement,
    /// The buffer, as the host saw it last.
    buffer: Vec<f64>,
    /// By the buffer.
    gradient_totals: Vec<f64>,
    state_totals: Vec<f64>,
    names: Vec<Name>,
    /// Processes that have elements of each tensor; all of them where it has none.
    owners: Vec<f64>,
    /// First piece of each tensor that checkpoints share numbers of, the first of this process's, and how many it has.
    pieces: Vec<[usize; 3]>,
    /// Of a pass that could not tell.
    failure: Option<ReductionError>,
    /// Steps of the device's that were not made, of which the host knows, and of which it knew before it was last told.
    told: u64,
    told_before: u64,
}

/// Lets the others know of a preparation that failed before there was a buffer.
pub fn refuse_alone(device: &Arc<Device>, stream: *mut c_void, all_reduce: &mut AllReduce, agreement: &Agreement) {
    let mut header = [0.0; HEADER];
    let mut refuse = || {
        let queue = device.queue(Stream::new(stream))?;
        queue.refuse_capture("preparing the optimizer")?;
        let (_memory, buffer) = Memory::with_arrays(device, |layout| layout.array::<f64>(HEADER))?;
        exchange(&queue, buffer, all_reduce, &mut header, agreement, true)
    };
    // What this process has to say is its own error.
    let _ = refuse();
}

/// One call with numbers of the host's.
fn exchange(
    queue: &Queue,
    buffer: Array<f64>,
    all_reduce: &mut AllReduce,
    numbers: &mut [f64],
    agreement: &Agreement,
    refuses: bool,
) -> Result<()> {
    write_header(numbers, agreement, refuses);
    buffer.write(queue, 0, numbers)?;
    all_reduce.call(Summands::Device { address: buffer.address, len: numbers.len() })?;
    // SAFETY: as many bytes were written there.
    unsafe { queue.download(buffer.address, bytemuck::cast_slice_mut(numbers))? };
    Ok(all_reduce.check(numbers, agreement)?)
}

impl Shards {
    fn new(all_reduce: AllReduce, tensors: &[Tensor], agreement: &Agreement, length: usize) -> Self {
        let mut end = 0;
        let pieces = tensors.iter().map(|tensor| {
            let first = end;
            end += tensor.whole_numel.div_ceil(CHUNK);
            [first, first + tensor.offset / CHUNK, tensor.numel.div_ceil(CHUNK)]
        });
        Self {
            all_reduce,
            agreement: *agreement,
            pieces: pieces.collect(),
            buffer: vec![0.0; length],
            gradient_totals: vec![0.0; GRADIENT_SUMS * tensors.len()],
            state_totals: vec![0.0; STATE_SUMS * tensors.len()],
            names: tensors.iter().map(|tensor| tensor.spec.name.clone()).collect(),
            owners: Vec::new(),
            failure: None,
            told: 0,
            told_before: 0,
        }
    }

    fn votes(&self) -> &[f64] {
        &self.buffer[HEADER..HEADER + self.names.len()]
    }

    /// What the device found out, once.
    fn tell(&mut self, found: Failure) -> Option<ReductionError> {
        let new = found.count > self.told;
        (self.told_before, self.told) = (self.told, found.count);
        new.then(|| {
            found.error(&self.all_reduce, |tensor| self.names.get(tensor).map_or_else(String::new, Name::to_string))
        })
    }
}

impl Cuda {
    /// Joins the processes: they find out whether they have the same model, and each element once.
    pub(super) fn join_with(&mut self, all_reduce: AllReduce, tensors: &[Tensor], agreement: &Agreement) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        queue.refuse_capture("preparing the optimizer")?;
        let arrays = self.model.arrays;
        let mut shards = Shards::new(all_reduce, tensors, agreement, arrays.reduction.len);
        let before = shards.all_reduce.calls();
        // Without a body first: it is as long on every process, whatever tensors they have.
        let header = &mut shards.buffer[..HEADER];
        let mut joined = exchange(&queue, arrays.reduction, &mut shards.all_reduce, header, agreement, false);
        if joined.is_ok() {
            let (votes, sums) = shards.buffer[HEADER..].split_at_mut(tensors.len());
            for ((vote, tensor), [_, first, count]) in votes.iter_mut().zip(tensors).zip(&shards.pieces) {
                *vote = f64::from(u8::from(tensor.numel > 0 || tensor.whole_numel == 0));
                sums[*first..first + count].fill(1.0);
            }
            joined = exchange(&queue, arrays.reduction, &mut shards.all_reduce, &mut shards.buffer, agreement, false);
        }
        if !matches!(joined, Ok(()) | Err(Error::Reduction(_))) && shards.all_reduce.calls() == before + 1 {
            // The driver failed here, and the others are in the second call. What this process has to say is its own error.
            let _ = exchange(&queue, arrays.reduction, &mut shards.all_reduce, &mut shards.buffer, agreement, true);
        }
        joined?;
        let sums = &shards.buffer[HEADER + tensors.len()..];
        for (tensor, [first, ..]) in tensors.iter().zip(&shards.pieces) {
            let all = &sums[*first..first + tensor.whole_numel.div_ceil(CHUNK)];
            if let Some(piece) = all.iter().position(|owners| *owners != 1.0) {
                let (name, offset, got) = (tensor.name().to_string(), (piece * CHUNK) as u64, all[piece].to_string());
                return Err(ReductionError::Shards { name, offset, got }.into());
            }
        }
        shards.owners = shards.votes().to_vec();
        arrays.owners.write(&queue, 0, &shards.owners)?;
        arrays.processes.write(&queue, 0, &[shards.all_reduce.processes().unwrap_or(1.0)])?;
        queue.wait()?;
        self.shards = Some(shards);
        Ok(())
    }

    /// Enqueues what this process brings, and the host's sum over all.
    pub(super) fn enqueue_reduction(
        &mut self,
        queue: &Queue,
        arguments: Address,
        own: &abi::Agreement,
        which: u32,
    ) -> Result<()> {
        let Some(shards) = &mut self.shards else { return Ok(()) };
        let buffer = self.model.arrays.reduction;
        let blocks = self.model.arguments.chunk_count.div_ceil(DECIDER).clamp(1, self.device.processors);
        let all = [from_ref(&arguments).cast(), from_ref(own).cast(), from_ref(&which).cast()];
        // SAFETY: the buffer is as long; the arguments are those of kernels.cu.
        unsafe {
            queue.zero(buffer.address, buffer.len * size_of::<f64>())?;
            queue.launch(self.kernels.pack, blocks, DECIDER, &all)?;
        }
        Ok(shards.all_reduce.call(Summands::Device { address: buffer.address, len: buffer.len })?)
    }

    /// One call that the host waits for: then it has the buffer and the totals.
    fn reduce_now(&mut self, queue: &Queue, agreement: &Agreement, which: u32) -> Result<()> {
        #[cfg(feature = "fault-injection")]
        for totals in [self.model.arrays.gradient_totals, self.model.arrays.state_totals] {
            totals.poison(queue)?;
        }
        self.enqueue_reduction(queue, self.pass_table.arguments(), &agreement.into(), which)?;
        let buffer = self.model.arrays.reduction.address;
        let gradient_totals = self.totals(queue, flags::GRADIENTS)?;
        let state_totals = self.totals(queue, flags::STATE)?;
        let Some(shards) = &mut self.shards else { return Ok(()) };
        // SAFETY: it is as long.
        unsafe { queue.download(buffer, bytemuck::cast_slice_mut(&mut shards.buffer))? };
        shards.all_reduce.check(&shards.buffer, agreement)?;
        (shards.gradient_totals, shards.state_totals) = (gradient_totals, state_totals);
        Ok(())
    }

    /// The sums of a pass over all processes, under the last agreement. If that fails they are NaN.
    pub(super) fn reduce_pass(&mut self, queue: &Queue, which: u32) -> Result<()> {
        let Some(agreement) = self.shards.as_ref().map(|shards| shards.agreement) else { return Ok(()) };
        let reduced = self.reduce_now(queue, &agreement, which);
        let Some(shards) = &mut self.shards else { return Ok(()) };
        match reduced {
            Err(Error::Reduction(failure)) => {
                shards.failure.get_or_insert(failure);
                shards.gradient_totals.fill(f64::NAN);
                Ok(())
            }
            other => other,
        }
    }

    /// The totals of the gradients' sums, or of what stood in their place: of the last pass.
    pub(super) fn pass_totals(&mut self, queue: &Queue) -> Result<Vec<f64>> {
        self.reduce_pass(queue, flags::GRADIENTS)?;
        match &self.shards {
            Some(shards) => Ok(shards.gradient_totals.clone()),
            None => self.totals(queue, flags::GRADIENTS),
        }
    }

    /// The products of an update, over all processes: of each tensor with the momentum, and with the displacement.
    pub(super) fn reduced_products(&mut self, queue: &Queue) -> Result<Vec<f64>> {
        self.reduce_pass(queue, flags::PRODUCTS)?;
        Ok(self.shards.as_ref().map_or_else(Vec::new, |shards| shards.gradient_totals.clone()))
    }

    /// Why steps of the device's were not made, once.
    pub(super) fn tell_failure(&mut self, found: Failure) -> Result<()> {
        self.shards.as_mut().and_then(|shards| shards.tell(found)).map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// A call, whose failures are its own. If it fails before the sum, the others hear of it.
    fn meet(&mut self, agreement: &Agreement, work: impl FnOnce(&mut Self, &Queue) -> Result<()>) -> Result<()> {
        let before = self.calls();
        let met = self.health().and_then(|()| {
            self.busy = true;
            let device = self.device.clone();
            let queue = device.queue(self.stream)?;
            work(self, &queue)
        });
        if met.is_err() && self.calls() == before {
            self.refuse(agreement);
        }
        match met {
            Err(Error::Reduction(_)) => met,
            _ => self.breaks(met),
        }
    }

    /// A pass that ends with a sum over the processes. If it fails before that, the others hear of it.
    pub(super) fn attempt_together<T>(&mut self, work: impl FnOnce(&mut Self, &Queue) -> Result<T>) -> Option<T> {
        let before = self.calls();
        let done = self.attempt(work);
        if done.is_none()
            && let Some(shards) = &mut self.shards
        {
            shards.gradient_totals.fill(f64::NAN);
            let agreement = shards.agreement;
            if self.calls() == before {
                self.refuse(&agreement);
            }
        }
        done
    }
}

impl Collective for Cuda {
    fn reduce(&mut self, agreement: &Agreement, grads: Option<CheckedGrads>) -> Result<()> {
        self.meet(agreement, |cuda, queue| {
            let nothing = vec![std::ptr::null(); cuda.sizes.len()];
            cuda.pass_over(queue, None, Some(grads.map_or(&nothing[..], CheckedGrads::pointers)))?;
            if let Some(shards) = &mut cuda.shards {
                shards.failure = None;
                shards.agreement = *agreement;
            }
            cuda.reduce_now(queue, agreement, flags::GRADIENTS | flags::STATE | flags::VOTES | flags::PRESENT)
        })
    }

    fn reduce_again(&mut self) {
        self.attempt_together(|cuda, queue| cuda.reduce_pass(queue, flags::GRADIENTS | flags::PRESENT));
    }

    fn refuse(&mut self, agreement: &Agreement) {
        // The host throws a capture away that a call failed in.
        if !matches!(self.device.queue(self.stream).and_then(|queue| queue.is_capturing()), Ok(false)) {
            return;
        }
        self.busy = true;
        let (device, arguments) = (self.device.clone(), self.pass_table.arguments());
        let own = abi::Agreement { refuses: 1, ..agreement.into() };
        // What this process has to say is its own error. It says so too after the driver failed: the others wait.
        let _ = device.queue(self.stream).and_then(|queue| self.enqueue_reduction(&queue, arguments, &own, 0));
    }

    fn calls(&self) -> u64 {
        self.shards.as_ref().map_or(0, |shards| shards.all_reduce.calls())
    }

    fn share(&mut self, agreement: &Agreement, own: &mut dyn FnMut(usize, usize) -> [f64; 4]) -> Result<()> {
        self.meet(agreement, |cuda, queue| {
            let buffer = cuda.model.arrays.reduction;
            let Some(shards) = &mut cuda.shards else { return Ok(()) };
            shards.buffer.fill(0.0);
            for (tensor, [begin, first, count]) in shards.pieces.iter().enumerate() {
                for piece in *first..first + count {
                    let at = HEADER + WORDS * piece;
                    shards.buffer[at..at + WORDS].copy_from_slice(&own(tensor, piece - begin));
                }
            }
            exchange(queue, buffer, &mut shards.all_reduce, &mut shards.buffer, agreement, false)
        })
    }

    fn shared(&self, tensor: usize, chunk: usize) -> [f64; 4] {
        self.shards.as_ref().map_or([0.0; 4], |shards| {
            let at = HEADER + WORDS * (shards.pieces[tensor][0] + chunk);
            std::array::from_fn(|i| shards.buffer[at + i])
        })
    }

    fn tell_again(&mut self) {
        if let Some(shards) = self.shards.as_mut().filter(|shards| shards.told_before < shards.told) {
            shards.told = shards.told_before;
            self.busy = true; // so that who wants the state asks the device
        }
    }

    fn take_failure(&mut self) -> Option<ReductionError> {
        self.shards.as_mut().and_then(|shards| shards.failure.take())
    }

    fn keep_param_sums(&mut self) {
        let arrays = self.model.arrays;
        self.copy_state_slots(arrays.kept_state_slots, arrays.state_slots);
    }

    fn recall_param_sums(&mut self) {
        let arrays = self.model.arrays;
        self.copy_state_slots(arrays.state_slots, arrays.kept_state_slots);
    }

    fn has_gradient(&self, tensor: usize) -> Option<bool> {
        let shards = self.shards.as_ref()?;
        unanimous(shards.votes()[tensor], shards.owners[tensor])
    }

    fn gradient_sums(&self, out: &mut [GradientSums]) {
        let Some(shards) = &self.shards else { return };
        for (out, totals) in out.iter_mut().zip(shards.gradient_totals.chunks_exact(GRADIENT_SUMS)) {
            *out = abi::gradient_sums(totals);
        }
    }

    fn state_sums(&self, _after_gradients: bool, out: &mut [StateSums]) {
        let Some(shards) = &self.shards else { return };
        for (out, totals) in out.iter_mut().zip(shards.state_totals.chunks_exact(STATE_SUMS)) {
            *out = abi::state_sums(totals);
        }
    }
}

impl Cuda {
    fn copy_state_slots(&mut self, to: Array<f64>, from: Array<f64>) {
        // SAFETY: both are as long.
        self.attempt(|_, queue| unsafe { queue.copy(to.address, from.address, from.len * size_of::<f64>()) });
    }
}
