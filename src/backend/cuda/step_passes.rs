//! Single passes that the host waits for: of a step that it drives itself, and access to moments, masters and averages.
//!
//! Such a pass cannot fail by its signature. The first failure is remembered, sums are NaN from then on, and whoever
//! made the passes asks [`crate::backend::Backend::health`] before their results count.

use std::ffi::c_void;
use std::ptr::from_ref;

use super::Cuda;
use super::abi::{self, BLOCK, Coefficients, DECIDER, flags};
use super::device::Kernel;
use super::driver::Address;
use super::queue::Queue;
use crate::backend::{Part, Products, StepPasses};
use crate::error::Result;
use crate::model::coefficients;
use crate::model::host_buffers::{CheckedGradient, CheckedGrads, CheckedParams};
use crate::model::stats::{GradientSums, StateSums};
use crate::numeric::half::{self, BF16, F16, Half};

const NO_GRADIENT_SUMS: GradientSums = GradientSums { square: f64::NAN, with_momentum: f64::NAN, zeros: f64::NAN };
const NO_STATE_SUMS: StateSums =
    StateSums { param: f64::NAN, exp_avg: f64::NAN, exp_avg_sq: f64::NAN, exp_avg_zeros: f64::NAN };

/// Elements of remainders that are copied at a time.
const PIECE: usize = 16 << 10;

impl Cuda {
    /// Runs `work`, unless something failed before, and remembers what fails.
    pub(super) fn attempt<T>(&mut self, work: impl FnOnce(&mut Self, &Queue) -> Result<T>) -> Option<T> {
        if self.failure.get_mut().is_some() {
            return None;
        }
        let device = self.device.clone();
        self.busy = true;
        match device.queue(self.stream).and_then(|queue| work(self, &queue)) {
            Ok(value) => Some(value),
            Err(error) => {
                *self.failure.get_mut() = Some(error);
                None
            }
        }
    }

    /// Lets passes see these pointers; those of the other array stay.
    pub(super) fn pass_over(
        &mut self,
        queue: &Queue,
        params: Option<CheckedParams>,
        grads: Option<&[*const c_void]>,
    ) -> Result<()> {
        let n = self.sizes.len();
        let mut new = self.pass_table.pointers().to_vec();
        for (to, from) in new[..n].iter_mut().zip(params.iter().flat_map(|p| p.pointers())) {
            *to = from.addr() as Address;
        }
        for (to, from) in new[n..].iter_mut().zip(grads.into_iter().flatten()) {
            *to = from.addr() as Address;
        }
        if new == self.pass_table.pointers() { Ok(()) } else { self.pass_table.set(queue, new.into_iter()) }
    }

    /// What a step or a pass must write before anyone reads it, made unusable. (The sums of the state are carried.)
    #[cfg(feature = "fault-injection")]
    pub(super) fn poison(&self, queue: &Queue, decides: bool) -> Result<()> {
        let arrays = &self.model.arrays;
        arrays.gradient_slots.poison(queue)?;
        arrays.gradient_totals.poison(queue)?;
        arrays.state_totals.poison(queue)?;
        arrays.displacement_slots.poison(queue)?;
        arrays.displacement_totals.poison(queue)?;
        if decides {
            arrays.statistics.poison(queue)?;
            arrays.next_features.poison(queue)?;
            arrays.next_factors.poison(queue)?;
            arrays.coefficients.poison(queue)?;
            arrays.init_master.poison(queue)?;
            arrays.init_average.poison(queue)?;
        }
        Ok(())
    }

    /// One pass over all chunks; `others` are the kernel's arguments after the first.
    ///
    /// # Safety
    /// The arguments are the kernel's.
    pub(super) unsafe fn pass(&self, queue: &Queue, kernel: Kernel, others: &[*const c_void]) -> Result<()> {
        #[cfg(feature = "fault-injection")]
        self.poison(queue, false)?;
        if self.shards.is_some() {
            // What a pass leaves out is no number that the processes could stumble over.
            let slots = self.model.arrays.gradient_slots;
            // SAFETY: the array is as long.
            unsafe { queue.zero(slots.address, slots.len * size_of::<f64>())? };
        }
        let arguments = self.pass_table.arguments();
        let all: Vec<*const c_void> =
            std::iter::once(from_ref(&arguments).cast()).chain(others.iter().copied()).collect();
        // SAFETY: the arguments are the kernel's.
        unsafe { queue.launch(kernel, self.blocks(), BLOCK, &all) }
    }

    /// The totals of what the last pass left in the gradients' slots, the state's or those of displacements.
    pub(super) fn totals(&self, queue: &Queue, which: u32) -> Result<Vec<f64>> {
        let arguments = self.pass_table.arguments();
        let all = [from_ref(&arguments).cast(), from_ref(&which).cast()];
        // SAFETY: the arguments are those of kernels.cu.
        unsafe { queue.launch(self.kernels.totals, 1, DECIDER, &all)? };
        let arrays = &self.model.arrays;
        match which {
            flags::STATE => arrays.state_totals.read(queue),
            flags::DISPLACEMENTS => arrays.displacement_totals.read(queue),
            _ => arrays.gradient_totals.read(queue),
        }
    }

    fn gradient_pass(
        &mut self,
        queue: &Queue,
        grads: &[*const c_void],
        with_momentum: bool,
    ) -> Result<Vec<GradientSums>> {
        self.pass_over(queue, None, Some(grads))?;
        let which = flags::GRADIENTS | if with_momentum { flags::MOMENTUM } else { 0 };
        // SAFETY: the arguments are those of kernels.cu.
        unsafe { self.pass(queue, self.kernels.statistics, &[from_ref(&which).cast()])? };
        if self.shards.is_some() {
            return Ok(vec![GradientSums::default(); self.sizes.len()]); // once the processes meet
        }
        let totals = self.totals(queue, flags::GRADIENTS)?;
        Ok(totals.chunks_exact(abi::GRADIENT_SUMS).map(abi::gradient_sums).collect())
    }

    fn update_pass(
        &mut self,
        queue: &Queue,
        kernel: Kernel,
        (params, grads): (CheckedParams, CheckedGrads),
        coefficients: &[Option<coefficients::Coefficients>],
    ) -> Result<()> {
        self.pass_over(queue, Some(params), Some(grads.pointers()))?;
        let table: Vec<Coefficients> =
            coefficients.iter().map(|c| c.as_ref().map_or_else(Coefficients::default, Into::into)).collect();
        let arrays = &self.model.arrays;
        arrays.coefficients.write(queue, 0, &table)?;
        arrays.init_master.write(queue, 0, &vec![0; arrays.init_master.len])?;
        arrays.init_average.write(queue, 0, &vec![0; arrays.init_average.len])?;
        arrays.settings.write(queue, 0, &[self.settings])?;
        let mut state = arrays.state.read(queue)?[0];
        (state.apply, state.slots_have_momentum) = (1, 0);
        arrays.state.write(queue, 0, &[state])?;
        // SAFETY: the arguments are those of kernels.cu.
        unsafe { self.pass(queue, kernel, &[]) }
    }

    /// An update of shards: the sums of the new state stay until the processes meet, the products are reduced at once.
    fn update_shards(
        &mut self,
        buffers: (CheckedParams, CheckedGrads),
        coefficients: &[Option<coefficients::Coefficients>],
        products: Products,
    ) {
        let Products { momentum, displacements } = products;
        let wants = momentum.is_some() || displacements.is_some();
        let update = |cuda: &mut Self, queue: &Queue| {
            let kernels = cuda.kernels;
            let kernel = if cuda.policy.counting { kernels.update_counting } else { kernels.update };
            cuda.update_pass(queue, kernel, buffers, coefficients)?;
            if wants { cuda.reduced_products(queue) } else { queue.wait().map(|()| Vec::new()) }
        };
        let totals = if wants { self.attempt_together(update) } else { self.attempt(update) };
        for (k, out) in [momentum, displacements].into_iter().enumerate().filter_map(|(k, out)| Some((k, out?))) {
            for i in (0..out.len()).filter(|i| coefficients[*i].is_some()) {
                out[i] = totals.as_ref().map_or(f64::NAN, |totals| totals[i * abi::GRADIENT_SUMS + k]);
            }
        }
    }

    /// A pass over the averages of the `wanted` tensors.
    fn average_pass(&mut self, kernel: Kernel, params: CheckedParams, wanted: &[bool]) {
        self.attempt(|cuda, queue| {
            cuda.pass_over(queue, Some(params), None)?;
            let wanted: Vec<u32> = wanted.iter().map(|wanted| u32::from(*wanted)).collect();
            cuda.model.arrays.init_average.write(queue, 0, &wanted)?;
            // SAFETY: the arguments are those of kernels.cu.
            unsafe { cuda.pass(queue, kernel, &[])? };
            queue.wait()
        });
    }

    /// The address of a tensor's part from byte `offset` on, `bytes` long.
    fn part(&self, part: Part, tensor: usize, offset: usize, bytes: usize) -> Address {
        let sizes = self.sizes[tensor];
        let size = match part {
            Part::ExpAvg | Part::ExpAvgSq => sizes.moment,
            Part::Master => sizes.master,
            Part::Average => sizes.average,
        };
        assert!(offset + bytes <= size, "within the tensor's state");
        self.state.address(part, tensor) + offset as Address
    }
}

impl StepPasses for Cuda {
    fn gradient_sums(
        &mut self,
        grads: CheckedGrads,
        with_momentum: bool,
        wanted: &(dyn Fn(usize) -> bool + Sync),
        out: &mut [GradientSums],
    ) {
        let sums = self.attempt(|cuda, queue| cuda.gradient_pass(queue, grads.pointers(), with_momentum));
        for (i, out) in out.iter_mut().enumerate().filter(|(i, _)| grads.has(*i) && wanted(*i)) {
            *out = sums.as_ref().map_or(NO_GRADIENT_SUMS, |sums| sums[i]);
        }
    }

    fn gradient_sums_of(&mut self, gradient: CheckedGradient, with_momentum: bool) -> GradientSums {
        let mut alone = vec![std::ptr::null(); self.sizes.len()];
        alone[gradient.tensor()] = gradient.pointer();
        self.attempt(|cuda, queue| cuda.gradient_pass(queue, &alone, with_momentum))
            .map_or(NO_GRADIENT_SUMS, |sums| sums[gradient.tensor()])
    }

    fn state_sums(&mut self, params: CheckedParams, uninitialized: &[bool], out: &mut [StateSums]) {
        let totals = self.attempt(|cuda, queue| {
            cuda.pass_over(queue, Some(params), None)?;
            let master_initialized: Vec<u32> =
                uninitialized.iter().map(|uninitialized| u32::from(!uninitialized)).collect();
            cuda.model.arrays.master_initialized.write(queue, 0, &master_initialized)?;
            let which = flags::STATE;
            // SAFETY: the arguments are those of kernels.cu.
            unsafe { cuda.pass(queue, cuda.kernels.statistics, &[from_ref(&which).cast()])? };
            if cuda.shards.is_some() { queue.wait().map(|()| None) } else { cuda.totals(queue, flags::STATE).map(Some) }
        });
        if matches!(totals, Some(None)) {
            return; // once the processes meet
        }
        let totals = totals.flatten();
        for (i, out) in out.iter_mut().enumerate() {
            let own = i * abi::STATE_SUMS..(i + 1) * abi::STATE_SUMS;
            *out = totals.as_ref().map_or(NO_STATE_SUMS, |totals| abi::state_sums(&totals[own]));
        }
    }

    fn init_masters(&mut self, params: CheckedParams, wanted: &[bool]) {
        self.attempt(|cuda, queue| {
            cuda.pass_over(queue, Some(params), None)?;
            let init_master: Vec<u32> =
                wanted.iter().zip(&cuda.sizes).map(|(wanted, size)| u32::from(*wanted && size.master > 0)).collect();
            cuda.model.arrays.init_master.write(queue, 0, &init_master)?;
            // SAFETY: the arguments are those of kernels.cu.
            unsafe { cuda.pass(queue, cuda.kernels.init_masters, &[]) }
        });
    }

    fn init_averages(&mut self, params: CheckedParams, wanted: &[bool]) {
        self.average_pass(self.kernels.init_averages, params, wanted);
    }

    fn write_averages(&mut self, params: CheckedParams, wanted: &[bool]) {
        self.average_pass(self.kernels.write_averages, params, wanted);
    }

    fn first_desynced(&mut self, params: CheckedParams, wanted: &[bool]) -> Option<usize> {
        let counts = self.attempt(|cuda, queue| {
            cuda.pass_over(queue, Some(params), None)?;
            // SAFETY: the arguments are those of kernels.cu.
            unsafe { cuda.pass(queue, cuda.kernels.count_desynced, &[])? };
            cuda.totals(queue, flags::GRADIENTS)
        })?;
        wanted.iter().zip(counts.chunks_exact(abi::GRADIENT_SUMS)).position(|(wanted, sums)| *wanted && sums[0] > 0.0)
    }

    fn read_masters(&self, tensor: usize, model_param: &[u16], out: &mut [f32]) {
        if self.sizes[tensor].master == size_of_val(out) {
            self.read(Part::Master, tensor, 0, bytemuck::cast_slice_mut(out));
            return;
        }
        let mut low = [0_u16; PIECE];
        for (i, (out, model_param)) in out.chunks_mut(PIECE).zip(model_param.chunks(PIECE)).enumerate() {
            let low = &mut low[..out.len()];
            self.read(Part::Master, tensor, i * size_of::<[u16; PIECE]>(), bytemuck::cast_slice_mut(low));
            for ((out, copy), low) in out.iter_mut().zip(model_param).zip(low) {
                *out = half::join(*copy, *low);
            }
        }
    }

    fn write_masters(&mut self, tensor: usize, values: &[f32], model_param: &mut [u16]) {
        if self.sizes[tensor].master == size_of_val(values) {
            self.write(Part::Master, tensor, 0, bytemuck::cast_slice(values));
            let round = if self.sizes[tensor].is_bf16 { BF16::from_master } else { F16::from_master };
            model_param.iter_mut().zip(values).for_each(|(copy, value)| *copy = round(*value));
            return;
        }
        let mut low = [0_u16; PIECE];
        for (i, (values, model_param)) in values.chunks(PIECE).zip(model_param.chunks_mut(PIECE)).enumerate() {
            let low = &mut low[..values.len()];
            for ((low, copy), value) in low.iter_mut().zip(model_param).zip(values) {
                (*copy, *low) = half::split(*value);
            }
            self.write(Part::Master, tensor, i * size_of::<[u16; PIECE]>(), bytemuck::cast_slice(low));
        }
    }

    fn update(
        &mut self,
        params: CheckedParams,
        grads: CheckedGrads,
        coefficients: &[Option<coefficients::Coefficients>],
        state: &mut [StateSums],
        products: Products,
    ) {
        if self.shards.is_some() {
            return self.update_shards((params, grads), coefficients, products);
        }
        let wants = products.displacements.is_some();
        let totals = self.attempt(|cuda, queue| {
            let kernels = cuda.kernels;
            let kernel = if cuda.policy.counting { kernels.update_counting } else { kernels.update };
            cuda.update_pass(queue, kernel, (params, grads), coefficients)?;
            let displacements = if wants { cuda.totals(queue, flags::DISPLACEMENTS)? } else { Vec::new() };
            Ok((cuda.totals(queue, flags::STATE)?, displacements))
        });
        let own = |i: usize| totals.as_ref().map(|(t, _)| &t[i * abi::STATE_SUMS..(i + 1) * abi::STATE_SUMS]);
        let Products { mut momentum, mut displacements } = products;
        for i in (0..state.len()).filter(|i| coefficients[*i].is_some()) {
            state[i] = own(i).map_or(NO_STATE_SUMS, abi::state_sums);
            if let Some(products) = &mut momentum {
                products[i] = own(i).map_or(f64::NAN, |sums| sums[4]);
            }
            if let Some(products) = &mut displacements {
                products[i] = totals.as_ref().map_or(f64::NAN, |(_, totals)| totals[i]);
            }
        }
    }

    fn update_without_sums(
        &mut self,
        params: CheckedParams,
        grads: CheckedGrads,
        coefficients: &[Option<coefficients::Coefficients>],
    ) {
        self.attempt(|cuda, queue| {
            cuda.update_pass(queue, cuda.kernels.update_unchecked, (params, grads), coefficients)?;
            queue.wait()
        });
    }

    fn take_overwritten(&mut self) -> Option<usize> {
        self.overwritten.take()
    }

    fn reset_moments(&mut self) {
        self.attempt(|cuda, queue| cuda.state.zero_moments(queue));
    }

    fn read(&self, part: Part, tensor: usize, offset: usize, out: &mut [u8]) {
        let from = self.part(part, tensor, offset, out.len());
        // SAFETY: as many bytes lie there.
        let read = self.device.queue(self.stream).and_then(|queue| unsafe { queue.download(from, out) });
        if let Err(error) = read {
            self.failure.lock().get_or_insert(error);
        }
    }

    fn write(&mut self, part: Part, tensor: usize, offset: usize, bytes: &[u8]) {
        let to = self.part(part, tensor, offset, bytes.len());
        // SAFETY: as many bytes lie there.
        self.attempt(|_, queue| unsafe { queue.upload_and_wait(to, bytes) });
    }
}
