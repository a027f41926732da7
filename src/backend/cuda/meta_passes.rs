//! The meta-update's passes: what the CPU's do, kernel by kernel.

use std::ptr::from_ref;

use super::Cuda;
use super::abi::GRADIENT_SUMS;
use super::device::Kernel;
use super::driver::Address;
use super::meta_memory::MetaMemory;
use super::queue::Queue;
use crate::backend::{
    Alignment, Backend, Cotangent, Direction, GradientSlot, MetaPasses, PerturbedPoint, Projection, StepPasses,
    TrialStep,
};
use crate::error::Result;
use crate::model::groups::Tensor;
use crate::model::host_buffers::{CheckedGrads, CheckedParams};
use crate::model::stats::GradientSums;

impl Cuda {
    fn meta(&self) -> &MetaMemory {
        self.meta.as_ref().expect("the optimizer calls begin_meta first")
    }

    /// One pass; `numbers` are the kernel's arguments after the first two. The sums of each tensor, NaN if the driver failed.
    fn meta_sums(
        &mut self,
        kernel: Kernel,
        numbers: &[f64],
        prepare: impl FnOnce(&mut Self, &Queue) -> Result<()>,
    ) -> Vec<f64> {
        let sums = self.attempt_together(|cuda, queue| {
            prepare(cuda, queue)?;
            let meta = cuda.meta().arguments();
            let arguments: Vec<_> =
                std::iter::once(from_ref(&meta).cast()).chain(numbers.iter().map(|x| from_ref(x).cast())).collect();
            // SAFETY: the arguments are those of kernels.cu.
            unsafe { cuda.pass(queue, kernel, &arguments)? };
            cuda.pass_totals(queue)
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
        slots: &[GradientSlot],
        _forward: bool,
    ) -> Result<()> {
        self.begin_with(params, slots)
    }

    fn restore_params(&mut self, params: CheckedParams) {
        // Whatever failed before: as long as the device copies, θ comes back.
        let earlier = self.failure.get_mut().take();
        self.attempt(|cuda, queue| {
            for ((saved, host), size) in cuda.meta().saved_params.iter().zip(params.pointers()).zip(&cuda.sizes) {
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
        self.store(grads, GradientSlot::Train1);
        StepPasses::gradient_sums(self, grads, true, &|_| true, out);
        if let Some(collective) = self.collective() {
            collective.reduce_again();
            collective.gradient_sums(out);
        }
    }

    fn gradient_alignment(&mut self, grads: CheckedGrads, out: &mut [Alignment]) {
        self.store(grads, GradientSlot::Train2);
        let sums = self.meta_sums(self.kernels.alignment, &[], |_, _| Ok(()));
        for (out, sums) in out.iter_mut().zip(sums.chunks_exact(GRADIENT_SUMS)) {
            *out = Alignment { square: sums[0], product: sums[1] };
        }
    }

    fn write_trial_params(&mut self, params: CheckedParams, trials: &[TrialStep], out: &mut [f64]) {
        let sums = self.meta_sums(self.kernels.write_trial, &[], |cuda, queue| {
            cuda.pass_over(queue, Some(params), None)?;
            cuda.meta().write_trials(queue, trials)
        });
        first(&sums, out);
    }

    fn direction_norm_squared(&mut self, _grads: CheckedGrads, directions: &[Direction], out: &mut [f64]) {
        let kernel = self.kernels.direction_norm_squared;
        let sums = self.meta_sums(kernel, &[], |cuda, queue| cuda.meta().write_directions(queue, directions));
        first(&sums, out);
    }

    fn store_direction(&mut self, _grads: CheckedGrads, _directions: &[Direction], _radius: f64) {
        // Both gradients are stored already.
    }

    fn write_perturbed(
        &mut self,
        params: CheckedParams,
        trials: &[TrialStep],
        point: PerturbedPoint,
        step_products: &mut [f64],
    ) {
        let sums = self.meta_sums(self.kernels.write_perturbed, &[point.radius], |cuda, queue| {
            cuda.pass_over(queue, Some(params), None)?;
            cuda.meta().write_trials(queue, trials)?;
            cuda.meta().write_directions(queue, point.directions)
        });
        first(&sums, step_products);
    }

    fn project(&mut self, grads: CheckedGrads, x: Cotangent, trials: &[TrialStep], out: &mut [Projection]) {
        let (differs, host, train2) = match x {
            Cotangent::Gradient(host) => (0_u32, host, 0.0),
            Cotangent::GradientDifference { host, train2 } => (1, host, train2),
        };
        let sums = self.attempt_together(|cuda, queue| {
            cuda.pass_over(queue, None, Some(grads.pointers()))?;
            cuda.meta().write_trials(queue, trials)?;
            let meta = cuda.meta().arguments();
            let arguments =
                [from_ref(&meta).cast(), from_ref(&differs).cast(), from_ref(&host).cast(), from_ref(&train2).cast()];
            // SAFETY: the arguments are those of kernels.cu.
            unsafe { cuda.pass(queue, cuda.kernels.project, &arguments)? };
            cuda.pass_totals(queue)
        });
        let sums = sums.unwrap_or_else(|| vec![f64::NAN; self.sizes.len() * GRADIENT_SUMS]);
        for (out, sums) in out.iter_mut().zip(sums.chunks_exact(GRADIENT_SUMS)) {
            *out = Projection { ratio: sums[0], param: sums[1] };
        }
    }
}

impl Cuda {
    /// Stores the host's gradients; zeros where one is missing.
    fn store(&mut self, grads: CheckedGrads, slot: GradientSlot) {
        self.attempt(|cuda, queue| {
            let to = &cuda.meta().gradients[slot as usize];
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

    fn begin_with(&mut self, params: CheckedParams, slots: &[GradientSlot]) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        queue.refuse_capture("a meta-update")?;
        let memory = MetaMemory::new(&self.device, &queue, &self.sizes, slots)?;
        for ((saved, host), size) in memory.saved_params.iter().zip(params.pointers()).zip(&self.sizes) {
            // SAFETY: both are buffers of the tensor's size, one the host's (checked) and one ours.
            unsafe { queue.copy(*saved, host.addr() as Address, size.param)? };
        }
        queue.wait()?;
        self.meta = Some(memory);
        Ok(())
    }
}
