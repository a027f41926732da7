//! The meta-update's passes: what the CPU's do, kernel by kernel.

use std::ptr::from_ref;

use super::Cuda;
use super::abi::{self, GRADIENT_SUMS};
use super::device::{Kernel, Queue};
use super::device_step::flags;
use super::driver::Address;
use super::memory::{Array, Memory, Plan};
use crate::backend::{
    Alignment, Cotangent, Direction, GradientSlot, MetaPasses, PerturbedPoint, Projection, StepPasses, TrialStep,
};
use crate::error::Result;
use crate::model::groups::Tensor;
use crate::model::host_buffers::{CheckedGrads, CheckedParams};
use crate::model::stats::GradientSums;

/// What a meta-update holds beside the moments.
#[derive(Debug)]
pub struct MetaMemory {
    /// θ of each tensor.
    saved: Vec<Address>,
    /// Gradients of each tensor, by [`GradientSlot`]; θ's addresses where none is kept and no kernel reads.
    kept: [Vec<Address>; 2],
    on_device: Array<abi::Meta>,
    trials: Array<abi::Move>,
    directions: Array<abi::Direction>,
    _memory: Memory,
}

impl MetaMemory {
    fn new(cuda: &Cuda, queue: &Queue, slots: &[GradientSlot]) -> Result<Self> {
        let n = cuda.sizes.len();
        let mut plan = Plan::default();
        let mut buffers = |bytes: fn(&super::Sizes) -> usize| {
            cuda.sizes.iter().map(|s| plan.array::<u8>(bytes(s))).collect::<Result<Vec<_>>>()
        };
        let saved = buffers(|s| s.param)?;
        let mut kept = [None, None];
        for slot in slots {
            kept[*slot as usize] = Some(buffers(|s| s.grad)?);
        }
        let tables = plan.array::<Address>(3 * n)?;
        let (on_device, trials, directions) = (plan.array(1)?, plan.array(n)?, plan.array(n)?);
        let memory = plan.allocate(&cuda.device)?;

        let place = |planned: Vec<super::memory::Planned<u8>>| -> Vec<Address> {
            planned.into_iter().map(|p| p.within(&memory).address).collect()
        };
        let saved = place(saved);
        let kept = kept.map(|slot| slot.map_or_else(|| saved.clone(), place));
        let tables = tables.within(&memory);
        let table = |i: usize| tables.address + (i * n * size_of::<Address>()) as Address;
        let new = Self {
            on_device: on_device.within(&memory),
            trials: trials.within(&memory),
            directions: directions.within(&memory),
            saved,
            kept,
            _memory: memory,
        };
        tables.write(queue, 0, &[&new.saved[..], &new.kept[0], &new.kept[1]].concat())?;
        let meta = abi::Meta {
            saved: table(0),
            kept: [table(1), table(2)],
            moves: new.trials.address,
            directions: new.directions.address,
        };
        new.on_device.write(queue, 0, &[meta])?;
        Ok(new)
    }
}

impl Cuda {
    fn meta(&self) -> &MetaMemory {
        self.meta.as_ref().expect("the optimizer calls begin_meta first")
    }

    fn write_moves(&self, queue: &Queue, trials: &[TrialStep]) -> Result<()> {
        self.meta().trials.write(queue, 0, &trials.iter().map(abi::Move::from).collect::<Vec<_>>())
    }

    fn write_directions(&self, queue: &Queue, directions: &[Direction]) -> Result<()> {
        let table: Vec<abi::Direction> =
            directions.iter().map(|d| abi::Direction { train2: d.train2, train1: d.train1 }).collect();
        self.meta().directions.write(queue, 0, &table)
    }

    /// One pass; `numbers` follow world and meta. The sums of each tensor, NaN if the driver failed.
    fn meta_sums(
        &mut self,
        kernel: Kernel,
        numbers: &[f64],
        prepare: impl FnOnce(&mut Self, &Queue) -> Result<()>,
    ) -> Vec<f64> {
        let sums = self.attempt(|cuda, queue| {
            prepare(cuda, queue)?;
            let meta = cuda.meta().on_device.address;
            let arguments: Vec<_> =
                std::iter::once(from_ref(&meta).cast()).chain(numbers.iter().map(|x| from_ref(x).cast())).collect();
            // SAFETY: the arguments are those of kernels.cu.
            unsafe { cuda.pass(queue, kernel, &arguments)? };
            cuda.totals(queue, flags::GRADIENTS)
        });
        sums.unwrap_or_else(|| vec![f64::NAN; self.sizes.len() * GRADIENT_SUMS])
    }
}

/// The first sum of every tensor.
fn first(sums: &[f64], out: &mut [f64]) {
    for (out, sums) in out.iter_mut().zip(sums.chunks_exact(GRADIENT_SUMS)) {
        *out = sums[0];
    }
}

impl MetaPasses for Cuda {
    fn begin_meta(
        &mut self,
        _tensors: &[Tensor],
        params: CheckedParams,
        kept: &[GradientSlot],
        _forward: bool,
    ) -> Result<()> {
        self.begin_with(params, kept)
    }

    fn restore_params(&mut self, params: CheckedParams) {
        // Whatever failed before: as long as the device copies, θ comes back.
        let earlier = self.failure.get_mut().take();
        self.attempt(|cuda, queue| {
            for ((saved, host), size) in cuda.meta().saved.iter().zip(params.pointers()).zip(&cuda.sizes) {
                // SAFETY: both are buffers of the tensor's size, one the host's (checked) and one ours.
                unsafe { queue.copy(host.addr() as Address, *saved, size.param)? };
            }
            queue.wait()
        });
        if let Some(error) = earlier {
            *self.failure.get_mut() = Some(error);
        }
    }

    fn end_meta(&mut self) {
        self.meta = None;
    }

    fn store_train1_gradient(&mut self, grads: CheckedGrads, out: &mut [GradientSums]) {
        self.keep(grads, GradientSlot::Train1);
        self.gradient_sums(grads, true, &|_| true, out);
    }

    fn gradient_alignment(&mut self, grads: CheckedGrads, out: &mut [Alignment]) {
        self.keep(grads, GradientSlot::Train2);
        let sums = self.meta_sums(self.kernels.alignment, &[], |_, _| Ok(()));
        for (out, sums) in out.iter_mut().zip(sums.chunks_exact(GRADIENT_SUMS)) {
            *out = Alignment { square: sums[0], product: sums[1] };
        }
    }

    fn write_trial_params(&mut self, params: CheckedParams, trials: &[TrialStep], out: &mut [f64]) {
        let sums = self.meta_sums(self.kernels.moved, &[], |cuda, queue| {
            cuda.pass_over(queue, Some(params), None)?;
            cuda.write_moves(queue, trials)
        });
        first(&sums, out);
    }

    fn direction_norm_squared(&mut self, _grads: CheckedGrads, directions: &[Direction], out: &mut [f64]) {
        let kernel = self.kernels.direction_norm_squared;
        let sums = self.meta_sums(kernel, &[], |cuda, queue| cuda.write_directions(queue, directions));
        first(&sums, out);
    }

    fn store_direction(&mut self, _grads: CheckedGrads, _directions: &[Direction], _radius: f64) {
        // Both gradients are kept already.
    }

    fn write_perturbed(
        &mut self,
        params: CheckedParams,
        trials: &[TrialStep],
        neighbour: PerturbedPoint,
        made: &mut [f64],
    ) {
        let sums = self.meta_sums(self.kernels.neighbour, &[neighbour.radius], |cuda, queue| {
            cuda.pass_over(queue, Some(params), None)?;
            cuda.write_moves(queue, trials)?;
            cuda.write_directions(queue, neighbour.directions)
        });
        first(&sums, made);
    }

    fn project(&mut self, grads: CheckedGrads, x: Cotangent, trials: &[TrialStep], out: &mut [Projection]) {
        let (differs, host, train2) = match x {
            Cotangent::Gradient(host) => (0_u32, host, 0.0),
            Cotangent::GradientDifference { host, train2 } => (1, host, train2),
        };
        let sums = self.attempt(|cuda, queue| {
            cuda.pass_over(queue, None, Some(grads.pointers()))?;
            cuda.write_moves(queue, trials)?;
            let meta = cuda.meta().on_device.address;
            let arguments =
                [from_ref(&meta).cast(), from_ref(&differs).cast(), from_ref(&host).cast(), from_ref(&train2).cast()];
            // SAFETY: the arguments are those of kernels.cu.
            unsafe { cuda.pass(queue, cuda.kernels.project, &arguments)? };
            cuda.totals(queue, flags::GRADIENTS)
        });
        let sums = sums.unwrap_or_else(|| vec![f64::NAN; self.sizes.len() * GRADIENT_SUMS]);
        for (out, sums) in out.iter_mut().zip(sums.chunks_exact(GRADIENT_SUMS)) {
            *out = Projection { ratio: sums[0], param: sums[1] };
        }
    }
}

impl Cuda {
    /// Copies the host's gradients; zeros where one is missing.
    fn keep(&mut self, grads: CheckedGrads, slot: GradientSlot) {
        self.attempt(|cuda, queue| {
            let to = &cuda.meta().kept[slot as usize];
            for ((to, host), size) in to.iter().zip(grads.pointers()).zip(&cuda.sizes) {
                // SAFETY: both are buffers of the gradient's size, one the host's (checked) and one ours.
                unsafe {
                    if host.is_null() {
                        queue.zero(*to, size.grad)?;
                    } else {
                        queue.copy(*to, host.addr() as Address, size.grad)?;
                    }
                }
            }
            Ok(())
        });
    }

    fn begin_with(&mut self, params: CheckedParams, kept: &[GradientSlot]) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        Self::refuse_capture(&queue, "a meta-update")?;
        let memory = MetaMemory::new(self, &queue, kept)?;
        for ((saved, host), size) in memory.saved.iter().zip(params.pointers()).zip(&self.sizes) {
            // SAFETY: both are buffers of the tensor's size, one the host's (checked) and one ours.
            unsafe { queue.copy(*saved, host.addr() as Address, size.param)? };
        }
        queue.wait()?;
        self.meta = Some(memory);
        Ok(())
    }
}
