//! Shards: the sums of this process's chunks among those of the whole model, and their totals over all processes.

use super::chunks::CHUNK;
use super::{Cpu, TensorTypes};
use crate::backend::{Agreement, AllReduce, Collective, HEADER, unanimous};
use crate::error::{ReductionError, Result};
use crate::model::groups::Tensor;
use crate::model::host_buffers::CheckedGrads;
use crate::model::stats::{GradientSums, StateSums};

/// Sums of a chunk's state, and of its gradient or of another pass.
type Sums = [f64; 4];

/// Numbers of a chunk in the buffer: both of them.
const WORDS: usize = 8;

/// What a process keeps beside its chunks.
#[derive(Debug)]
pub(super) struct Shards {
    all_reduce: AllReduce,
    /// Of the last call.
    agreement: Agreement,
    /// Header, votes, and the sums of every chunk of the model: as sent, then as summed.
    buffer: Vec<f64>,
    /// First chunk of each tensor in the buffer, and the end.
    first: Vec<usize>,
    /// First of this process's chunks of each tensor in the buffer.
    own: Vec<usize>,
    /// Processes that have elements of each tensor; all of them where it has none.
    owners: Vec<f64>,
    /// Of this process's chunks.
    state: Vec<Sums>,
    gradients: Vec<Sums>,
    /// Σ θ² as it was before the state's sums were taken anew.
    kept: Vec<f64>,
    /// Of a pass that could not tell.
    failure: Option<ReductionError>,
}

impl Shards {
    /// Joins the processes: they find out whether they have the same model, and each element once.
    ///
    /// # Errors
    /// [`crate::Error::Reduction`].
    pub fn join(mut all_reduce: AllReduce, tensors: &[Tensor], agreement: &Agreement) -> Result<Self> {
        // Without a body first: it is as long on every process, whatever tensors they have.
        all_reduce.sum(&mut [0.0; HEADER], agreement, false)?;
        let mut first = vec![0];
        first.extend(tensors.iter().scan(0, |end, tensor| {
            *end += tensor.whole_numel.div_ceil(CHUNK);
            Some(*end)
        }));
        let own: Vec<usize> = tensors.iter().zip(&first).map(|(tensor, first)| first + tensor.offset / CHUNK).collect();
        let chunks = tensors.iter().map(|tensor| tensor.numel.div_ceil(CHUNK)).sum();
        let length = HEADER + tensors.len() + WORDS * first[tensors.len()];
        let mut shards = Self {
            all_reduce,
            agreement: *agreement,
            buffer: vec![0.0; length],
            first,
            own,
            owners: Vec::new(),
            state: vec![[0.0; 4]; chunks],
            gradients: vec![[0.0; 4]; chunks],
            kept: vec![0.0; chunks],
            failure: None,
        };
        shards.find_owners(tensors)?;
        Ok(shards)
    }

    fn find_owners(&mut self, tensors: &[Tensor]) -> Result<()> {
        for (i, tensor) in tensors.iter().enumerate() {
            self.buffer[HEADER + i] = f64::from(u8::from(tensor.numel > 0 || tensor.whole_numel == 0));
            for chunk in self.own[i]..self.own[i] + tensor.numel.div_ceil(CHUNK) {
                self.slot_mut(chunk)[0] = 1.0;
            }
        }
        let agreement = self.agreement;
        self.all_reduce.sum(&mut self.buffer, &agreement, false)?;
        for (i, tensor) in tensors.iter().enumerate() {
            let chunks = self.first[i]..self.first[i + 1];
            if let Some(chunk) = chunks.clone().find(|chunk| self.slot(*chunk)[0] != 1.0) {
                let offset = ((chunk - chunks.start) * CHUNK) as u64;
                let (name, got) = (tensor.name().to_owned(), self.slot(chunk)[0].to_string());
                return Err(ReductionError::Shards { name, offset, got }.into());
            }
        }
        self.owners = self.votes().to_vec();
        Ok(())
    }

    fn votes(&self) -> &[f64] {
        &self.buffer[HEADER..HEADER + self.own.len()]
    }

    fn slot(&self, chunk: usize) -> &[f64] {
        let start = HEADER + self.own.len() + WORDS * chunk;
        &self.buffer[start..start + WORDS]
    }

    fn slot_mut(&mut self, chunk: usize) -> &mut [f64] {
        let start = HEADER + self.own.len() + WORDS * chunk;
        &mut self.buffer[start..start + WORDS]
    }

    /// Fills the buffer for a call.
    fn fill(&mut self, chunks_of: impl Fn(usize) -> std::ops::Range<usize>, vote: impl Fn(usize) -> bool) {
        self.buffer.fill(0.0);
        for tensor in 0..self.own.len() {
            let own = chunks_of(tensor);
            let votes = !own.is_empty() || self.first[tensor] == self.first[tensor + 1];
            self.buffer[HEADER + tensor] = f64::from(u8::from(votes && vote(tensor)));
            for (place, chunk) in own.enumerate() {
                let (state, gradients) = (self.state[chunk], self.gradients[chunk]);
                let slot = self.slot_mut(self.own[tensor] + place);
                slot[..4].copy_from_slice(&state);
                slot[4..].copy_from_slice(&gradients);
            }
        }
    }

    /// `N` sums of a tensor from the `from`-th on: those of its chunks, one after the other.
    fn total<const N: usize>(&self, tensor: usize, from: usize) -> [f64; N] {
        let mut total = [0.0; N];
        for chunk in self.first[tensor]..self.first[tensor + 1] {
            for (total, sum) in total.iter_mut().zip(&self.slot(chunk)[from..]) {
                *total += sum;
            }
        }
        total
    }
}

impl Cpu {
    /// Keeps a pass's sums of the gradients of these tensors until the processes reduce; 0 of `without`.
    pub(super) fn keep_gradient_sums(&mut self, kept: impl Fn(usize) -> bool, without: impl Fn(usize) -> bool) {
        let Some(shards) = &mut self.shards else { return };
        for tensor in 0..self.types.len() {
            for chunk in self.chunks.of(tensor) {
                if kept(tensor) {
                    shards.gradients[chunk] = self.chunks.sums(chunk);
                } else if without(tensor) {
                    shards.gradients[chunk] = [0.0; 4];
                }
            }
        }
    }

    /// Keeps a pass's sums of the state.
    pub(super) fn keep_state_sums(&mut self, kept: impl Fn(usize) -> bool) {
        let Some(shards) = &mut self.shards else { return };
        for tensor in (0..self.types.len()).filter(|&tensor| kept(tensor)) {
            for chunk in self.chunks.of(tensor) {
                shards.state[chunk] = self.chunks.sums(chunk);
            }
        }
    }

    /// Keeps Σ m² of tensors without a gradient where those with one have it from the gradient's pass.
    pub(super) fn keep_first_moment_sums(&mut self, kept: impl Fn(usize, TensorTypes) -> bool) {
        let Some(shards) = &mut self.shards else { return };
        for tensor in (0..self.types.len()).filter(|&tensor| kept(tensor, self.types[tensor])) {
            for chunk in self.chunks.of(tensor) {
                [shards.gradients[chunk][3]] = self.chunks.sums(chunk);
            }
        }
    }

    /// The products of an update, which come behind its sums of the state: over all processes.
    pub(super) fn reduce_products(&mut self, updated: impl Fn(usize) -> bool) {
        let Some(shards) = &mut self.shards else { return };
        for tensor in 0..self.types.len() {
            for chunk in self.chunks.of(tensor) {
                let [.., product, displacement]: [f64; 6] = self.chunks.sums(chunk);
                let own = updated(tensor);
                shards.gradients[chunk] = if own { [product, displacement, 0.0, 0.0] } else { [0.0; 4] };
            }
        }
        self.reduce_kept();
    }

    /// After a pass whose sums are wanted at once: over all processes. If that fails they are NaN.
    pub(super) fn reduce_pass(&mut self) {
        self.keep_gradient_sums(|_| true, |_| false);
        self.reduce_kept();
    }

    fn reduce_kept(&mut self) {
        let Self { shards: Some(shards), chunks, .. } = self else { return };
        shards.fill(|tensor| chunks.of(tensor), |_| false);
        let agreement = shards.agreement;
        if let Err(error) = shards.all_reduce.sum(&mut shards.buffer, &agreement, false) {
            shards.failure.get_or_insert(error);
            shards.buffer.fill(f64::NAN);
        }
    }

    /// The sums of a tensor that a pass has just taken, over all processes.
    pub(super) fn total<const N: usize>(&self, tensor: usize) -> [f64; N] {
        self.shards.as_ref().map_or_else(|| self.chunks.total(tensor), |shards| shards.total(tensor, 4))
    }
}

impl Collective for Cpu {
    fn reduce(&mut self, agreement: &Agreement, grads: Option<CheckedGrads>) -> Result<()> {
        let Self { shards: Some(shards), chunks, .. } = self else { return Ok(()) };
        shards.failure = None;
        shards.agreement = *agreement;
        shards.fill(|tensor| chunks.of(tensor), |tensor| grads.is_some_and(|grads| grads.has(tensor)));
        Ok(shards.all_reduce.sum(&mut shards.buffer, agreement, false)?)
    }

    fn reduce_again(&mut self) {
        self.reduce_kept();
    }

    fn refuse(&mut self, agreement: &Agreement) {
        let Some(shards) = &mut self.shards else { return };
        shards.buffer.fill(0.0);
        // What this process has to say is its own error.
        let _ = shards.all_reduce.sum(&mut shards.buffer, agreement, true);
    }

    fn calls(&self) -> u64 {
        self.shards.as_ref().map_or(0, |shards| shards.all_reduce.calls())
    }

    fn share(&mut self, agreement: &Agreement, own: &mut dyn FnMut(usize, usize) -> [f64; 4]) -> Result<()> {
        let Self { shards: Some(shards), chunks, .. } = self else { return Ok(()) };
        shards.buffer.fill(0.0);
        for tensor in 0..shards.own.len() {
            for place in 0..chunks.of(tensor).len() {
                let slot = shards.own[tensor] + place;
                let words = own(tensor, slot - shards.first[tensor]);
                shards.slot_mut(slot)[..4].copy_from_slice(&words);
            }
        }
        Ok(shards.all_reduce.sum(&mut shards.buffer, agreement, false)?)
    }

    fn shared(&self, tensor: usize, chunk: usize) -> [f64; 4] {
        self.shards.as_ref().map_or([0.0; 4], |shards| {
            let slot = shards.slot(shards.first[tensor] + chunk);
            std::array::from_fn(|i| slot[i])
        })
    }

    fn take_failure(&mut self) -> Option<ReductionError> {
        self.shards.as_mut().and_then(|shards| shards.failure.take())
    }

    fn keep_param_sums(&mut self) {
        let Some(shards) = &mut self.shards else { return };
        for (kept, [param, ..]) in shards.kept.iter_mut().zip(&shards.state) {
            *kept = *param;
        }
    }

    fn recall_param_sums(&mut self) {
        let Some(shards) = &mut self.shards else { return };
        for (kept, [param, ..]) in shards.kept.iter().zip(&mut shards.state) {
            *param = *kept;
        }
    }

    fn has_gradient(&self, tensor: usize) -> Option<bool> {
        let shards = self.shards.as_ref()?;
        unanimous(shards.votes()[tensor], shards.owners[tensor])
    }

    fn gradient_sums(&self, out: &mut [GradientSums]) {
        let Some(shards) = &self.shards else { return };
        for (tensor, out) in out.iter_mut().enumerate() {
            let [square, with_momentum, zeros] = shards.total(tensor, 4);
            *out = GradientSums { square, with_momentum, zeros };
        }
    }

    fn state_sums(&self, after_gradients: bool, out: &mut [StateSums]) {
        let Some(shards) = &self.shards else { return };
        for (tensor, out) in out.iter_mut().enumerate() {
            let [param, exp_avg, exp_avg_sq, exp_avg_zeros] = shards.total(tensor, 0);
            *out = StateSums { param, exp_avg, exp_avg_sq, exp_avg_zeros };
            if after_gradients && self.types[tensor].sums_first_moment_early(self.zeros) {
                let [.., first_moment] = shards.total::<4>(tensor, 4);
                out.exp_avg = first_moment;
            }
        }
    }
}
