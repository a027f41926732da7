//! The step's passes: sums of the gradients ahead of it, the update, sums of the state.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::chunks::Chunk;
use super::kernels::adamw::Scalars;
use super::kernels::elements::Elements;
use super::kernels::gradient_sums::GradientKernel;
use super::kernels::load_store::Moments;
use super::kernels::number::Float;
use super::kernels::state_sums::StateKernel;
use super::kernels::step::{CopyAverage, PlainKernel, Step, UpdateKernel};
use super::kernels::tile::run;
use super::{CHUNK, Cpu, FirstMomentSum, NO_TENSOR, State, SyncPointers, TensorTypes, chunk_start, with_compute_type};
use crate::backend::{Part, Products, StepPasses};
use crate::model::coefficients::Coefficients;
use crate::model::dtype::{DType, Precision};
use crate::model::host_buffers::{CheckedGradient, CheckedGrads, CheckedParams};
use crate::model::stats::{GradientSums, StateSums};
use crate::numeric::half::{self, BF16, F16, Half};
use crate::numeric::stochastic_rounding::{RoundingBits, SPAN, Use};

const _: () = assert!(CHUNK == SPAN, "a chunk has one key of random bits");

/// Which sums of a chunk of a gradient are wanted.
#[derive(Clone, Copy)]
pub(super) struct WantedSums {
    /// Σ m², with momentum.
    pub first_moment: bool,
    /// The number of zeros.
    pub zeros: bool,
}

/// Σ g², Σ g·m if there is an m, which may be any vector, zeros, and Σ m² of a chunk.
pub(super) fn gradient_sums(
    g: Elements<'_>,
    m: Option<Elements<'_>>,
    chunk: Chunk,
    types: TensorTypes,
    WantedSums { first_moment, zeros }: WantedSums,
) -> [f64; 4] {
    let low_precision = types.has_low_precision();
    with_compute_type!(types, T => {
        run(GradientKernel::<T> { g, m, low_precision, first_moment, zeros, compute: PhantomData }, chunk.len)
    })
}

impl Cpu {
    /// The sums of a tensor's gradient, which a pass has just taken.
    fn total_gradient_sums(&mut self, tensor: usize, with_momentum: bool) -> GradientSums {
        let [square, product, zeros, first_moment] = self.chunks.total(tensor);
        if with_momentum && self.types[tensor].sums_first_moment_early(self.zeros) {
            self.first_moment_sums[tensor] = FirstMomentSum::WithGradientSums(first_moment);
        }
        GradientSums { square, with_momentum: product, zeros }
    }

    /// Σ m² of the `wanted` tensors.
    fn pass_over_first_moments(&self, wanted: impl Fn(usize) -> bool + Sync) {
        let state = self.state();
        self.pass(wanted, |chunk, types| {
            // SAFETY: a chunk belongs to one thread.
            let Moments { m, .. } = unsafe { state.moments(types, chunk) };
            // As if it were a gradient.
            gradient_sums(m.as_elements(), None, chunk, types, WantedSums { first_moment: false, zeros: false })
        });
    }

    /// Of shards, Σ m² of tensors that are `without` a gradient: where those with one have it from that one's pass, none
    /// waits for the next.
    fn sum_first_moments(&mut self, without: impl Fn(usize) -> bool + Sync, with_momentum: bool) {
        let zeros = self.zeros;
        let early = |types: TensorTypes| with_momentum && types.sums_first_moment_early(zeros);
        let wanted = |tensor: usize, types: TensorTypes| early(types) && without(tensor);
        if self.types.iter().enumerate().any(|(tensor, types)| wanted(tensor, *types)) {
            self.pass_over_first_moments(|tensor| wanted(tensor, self.types[tensor]));
            self.keep_first_moment_sums(wanted);
        }
        for (sum, types) in self.first_moment_sums.iter_mut().zip(&self.types) {
            if early(*types) {
                *sum = FirstMomentSum::WithGradientSums(0.0); // among the shards' sums
            }
        }
    }

    /// Of shards: the sums of an update's new state until the next call of the host's reduction; its products at once.
    fn keep_update_sums(&mut self, updated: impl Fn(usize) -> bool, products: Products) {
        self.keep_state_sums(&updated);
        for tensor in self.tensors().filter(|&tensor| updated(tensor)) {
            let sum = &mut self.first_moment_sums[tensor];
            let left = products.momentum.is_none() && *sum != FirstMomentSum::InStateSums;
            *sum = if left { FirstMomentSum::Pending } else { FirstMomentSum::InStateSums };
        }
        if products.momentum.is_none() && products.displacements.is_none() {
            return;
        }
        self.reduce_products(&updated);
        let Products { mut momentum, mut displacements } = products;
        for tensor in self.tensors().filter(|&tensor| updated(tensor)) {
            let [product, displacement] = self.total(tensor);
            if let Some(momentum) = &mut momentum {
                momentum[tensor] = product;
            }
            if let Some(displacements) = &mut displacements {
                displacements[tensor] = displacement;
            }
        }
    }

    /// Takes the sums of the gradients at `host(tensor)` over these chunks of the `wanted` tensors.
    fn sum_gradients(
        &self,
        chunks: Range<usize>,
        wanted: impl Fn(usize) -> bool + Sync,
        host: impl Fn(usize) -> *const c_void + Sync,
        with_momentum: bool,
    ) {
        let (state, zeros) = (self.state(), self.zeros);
        self.pass_over(chunks, wanted, |chunk, types| {
            // SAFETY: the checker found the gradient to have the tensor's size and dtype; a chunk belongs to one thread.
            let (g, moments) = unsafe { (gradient(host(chunk.tensor), chunk, types), state.moments(types, chunk)) };
            let first_moment = with_momentum && types.sums_first_moment_early(zeros);
            let m = with_momentum.then(|| moments.m.as_elements());
            gradient_sums(g, m, chunk, types, WantedSums { first_moment, zeros })
        });
    }
}

/// A chunk of the host's gradient.
///
/// # Safety
/// It has the tensor's size and dtype and is not written for `'a`.
pub(super) unsafe fn gradient<'a>(host: *const c_void, chunk: Chunk, types: TensorTypes) -> Elements<'a> {
    // SAFETY: the caller promises the gradient, in which the chunk lies.
    unsafe { Elements::new(chunk_start(host.cast_mut(), types.grad, chunk), types.grad, chunk.len) }
}

/// The host's parameters and gradients and the backend's state, for a pass's threads.
#[derive(Clone, Copy)]
struct Operands<'a> {
    params: SyncPointers<'a, *mut c_void>,
    grads: SyncPointers<'a, *const c_void>,
    state: State<'a>,
}

impl<'a> Operands<'a> {
    /// A chunk's.
    ///
    /// # Safety
    /// For `'a` nobody else touches the chunk, and the tensor has a gradient.
    unsafe fn step<T: Float>(&self, chunk: Chunk, types: TensorTypes, c: &Coefficients) -> Step<'a, T> {
        let random = |purpose| RoundingBits::new(c.key, chunk.place, purpose);
        // SAFETY: the checker found parameters and gradients to have the tensors' sizes and dtypes and not to overlap; the
        // caller promises the rest.
        unsafe {
            Step {
                param: self.state.param(types, chunk, self.params.of(chunk.tensor)),
                g: gradient(self.grads.of(chunk.tensor), chunk, types),
                moments: self.state.moments(types, chunk),
                s: Scalars::new(c, types.has_low_precision()),
                random: [random(Use::Param), random(Use::Moments)],
                start: 0,
                average: self.state.average(types, chunk, c.key),
            }
        }
    }
}

/// Remembers the first tensor whose parameter this step overwrites although somebody changed it.
fn note_change<T: Float>(overwritten: &AtomicUsize, chunk: Chunk, step: &Step<'_, T>) {
    if step.param.is_changed() {
        overwritten.fetch_min(chunk.tensor, Ordering::Relaxed);
    }
}

impl Cpu {
    fn operands<'a>(&'a self, params: CheckedParams<'a>, grads: CheckedGrads<'a>) -> Operands<'a> {
        Operands { params: SyncPointers(params.pointers()), grads: SyncPointers(grads.pointers()), state: self.state() }
    }
}

impl Cpu {
    /// [`CopyAverage`] of the `wanted` tensors.
    fn copy_averages(&self, params: CheckedParams, wanted: &[bool], into_param: bool) {
        let (state, host) = (self.state(), SyncPointers(params.pointers()));
        self.pass(
            |tensor| wanted[tensor],
            |chunk, types| {
                with_compute_type!(types, T => {
                    // SAFETY: as in `state_sums`.
                    let (param, average) = unsafe {
                        (state.param(types, chunk, host.of(chunk.tensor)), state.average::<T>(types, chunk, 0))
                    };
                    let param = if into_param { param.into_model_param() } else { param };
                    average.map_or([], |average| run(CopyAverage { param, average, into_param }, chunk.len))
                })
            },
        );
    }
}

impl StepPasses for Cpu {
    fn gradient_sums(
        &mut self,
        grads: CheckedGrads,
        with_momentum: bool,
        wanted: &(dyn Fn(usize) -> bool + Sync),
        out: &mut [GradientSums],
    ) {
        let g = SyncPointers(grads.pointers());
        let chosen = |tensor: usize| !g.of(tensor).is_null() && wanted(tensor);
        self.sum_gradients(0..self.chunks.len(), chosen, |tensor| g.of(tensor), with_momentum);
        if self.shards.is_some() {
            self.keep_gradient_sums(chosen, wanted);
            self.sum_first_moments(|tensor| wanted(tensor) && !chosen(tensor), with_momentum);
            return;
        }
        for tensor in self.tensors().filter(|&t| chosen(t)) {
            out[tensor] = self.total_gradient_sums(tensor, with_momentum);
        }
    }

    fn gradient_sums_of(&mut self, gradient: CheckedGradient, with_momentum: bool) -> GradientSums {
        let (tensor, g) = (gradient.tensor(), [gradient.pointer()]);
        let g = SyncPointers(&g);
        self.sum_gradients(self.chunks.of(tensor), |_| true, |_| g.of(0), with_momentum);
        if self.shards.is_some() {
            self.keep_gradient_sums(|t| t == tensor, |_| false);
            return GradientSums::default();
        }
        self.total_gradient_sums(tensor, with_momentum)
    }

    fn state_sums(&mut self, params: CheckedParams, uninitialized: &[bool], out: &mut [StateSums]) {
        let (state, zeros) = (self.state(), self.zeros);
        let host = SyncPointers(params.pointers());
        self.pass(
            |_| true,
            |chunk, types| {
                // SAFETY: the checker found the parameters to have the tensors' sizes and dtypes; a chunk belongs to one
                // thread.
                let (param, moments) =
                    unsafe { (state.param(types, chunk, host.of(chunk.tensor)), state.moments(types, chunk)) };
                let param = if uninitialized[chunk.tensor] { param.into_model_param() } else { param };
                with_compute_type!(types, T => run(StateKernel::<T> { param, moments, zeros, compute: PhantomData }, chunk.len))
            },
        );
        self.first_moment_sums.fill(FirstMomentSum::InStateSums);
        if self.shards.is_some() {
            return self.keep_state_sums(|_| true);
        }
        for tensor in self.tensors() {
            out[tensor] = state_sums(self.chunks.total(tensor));
        }
    }

    fn init_masters(&mut self, params: CheckedParams, wanted: &[bool]) {
        let (state, host) = (self.state(), SyncPointers(params.pointers()));
        self.pass(
            |tensor| wanted[tensor] && self.types[tensor].precision.has_master(),
            |chunk, types| {
                // SAFETY: as in `state_sums`.
                unsafe { state.param(types, chunk, host.of(chunk.tensor)) }.init_masters();
                []
            },
        );
    }

    fn init_averages(&mut self, params: CheckedParams, wanted: &[bool]) {
        self.copy_averages(params, wanted, false);
    }

    fn write_averages(&mut self, params: CheckedParams, wanted: &[bool]) {
        self.copy_averages(params, wanted, true);
    }

    fn first_desynced(&mut self, params: CheckedParams, wanted: &[bool]) -> Option<usize> {
        let (state, host) = (self.state(), SyncPointers(params.pointers()));
        let has_master = |tensor: usize| wanted[tensor] && self.types[tensor].precision == Precision::Master;
        self.pass(has_master, |chunk, types| {
            // SAFETY: as in `state_sums`.
            let param = unsafe { state.param(types, chunk, host.of(chunk.tensor)) };
            [param.count_desynced() as f64]
        });
        self.tensors().find(|&tensor| has_master(tensor) && self.chunks.total::<1>(tensor) != [0.0])
    }

    fn read_masters(&self, tensor: usize, model_param: &[u16], out: &mut [f32]) {
        let masters = self.masters.bytes(tensor);
        if self.types[tensor].precision == Precision::Master {
            out.copy_from_slice(bytemuck::cast_slice(masters));
            return;
        }
        let remainders: &[u16] = bytemuck::cast_slice(masters);
        for ((out, copy), low) in out.iter_mut().zip(model_param).zip(remainders) {
            *out = half::join(*copy, *low);
        }
    }

    fn write_masters(&mut self, tensor: usize, values: &[f32], model_param: &mut [u16]) {
        let TensorTypes { param, precision, .. } = self.types[tensor];
        let masters = self.masters.bytes_mut(tensor);
        if precision == Precision::Master {
            masters.copy_from_slice(bytemuck::cast_slice(values));
            let from_master = if param == DType::BF16 { BF16::from_master } else { F16::from_master };
            model_param.iter_mut().zip(values).for_each(|(copy, value)| *copy = from_master(*value));
            return;
        }
        let remainders: &mut [u16] = bytemuck::cast_slice_mut(masters);
        for ((low, copy), value) in remainders.iter_mut().zip(model_param).zip(values) {
            (*copy, *low) = half::split(*value);
        }
    }

    fn update(
        &mut self,
        params: CheckedParams,
        grads: CheckedGrads,
        coefficients: &[Option<Coefficients>],
        out: &mut [StateSums],
        products: Products,
    ) {
        let Products { mut momentum, mut displacements } = products;
        let (with_momentum, with_displacement) = (momentum.is_some(), displacements.is_some());
        let (zeros, first_moment_sums) = (self.zeros, &self.first_moment_sums);
        let leaves = |sum: FirstMomentSum| !with_momentum && sum != FirstMomentSum::InStateSums;
        let (operands, overwritten) = (self.operands(params, grads), &self.overwritten);
        self.pass(
            |tensor| coefficients[tensor].is_some(),
            |chunk, types| {
                let c = coefficients[chunk.tensor].as_ref().expect("a wanted tensor");
                let first_moment = !leaves(first_moment_sums[chunk.tensor]);
                with_compute_type!(types, T => {
                    // SAFETY: a chunk belongs to one thread, and tensors with coefficients have a gradient.
                    let step = unsafe { operands.step::<T>(chunk, types, c) };
                    note_change(overwritten, chunk, &step);
                    run(UpdateKernel { step, first_moment, zeros, with_momentum, with_displacement }, chunk.len)
                })
            },
        );
        if self.shards.is_some() {
            return self
                .keep_update_sums(|tensor| coefficients[tensor].is_some(), Products { momentum, displacements });
        }
        for tensor in self.tensors().filter(|&t| coefficients[t].is_some()) {
            let [param, exp_avg, exp_avg_sq, exp_avg_zeros, product, displacement] = self.chunks.total(tensor);
            if let Some(momentum) = &mut momentum {
                momentum[tensor] = product;
            }
            if let Some(displacements) = &mut displacements {
                displacements[tensor] = displacement;
            }
            if leaves(self.first_moment_sums[tensor]) {
                self.first_moment_sums[tensor] = FirstMomentSum::Pending;
                out[tensor] = StateSums { param, exp_avg_sq, ..out[tensor] };
            } else {
                self.first_moment_sums[tensor] = FirstMomentSum::InStateSums;
                out[tensor] = state_sums([param, exp_avg, exp_avg_sq, exp_avg_zeros]);
            }
        }
    }

    fn first_moment_sums(&mut self, out: &mut [StateSums]) {
        if self.shards.is_some() {
            return; // they come with the other sums
        }
        // Of tensors that have no gradient now.
        if self.first_moment_sums.contains(&FirstMomentSum::Pending) {
            self.pass_over_first_moments(|tensor| self.first_moment_sums[tensor] == FirstMomentSum::Pending);
        }
        for ((tensor, sum), out) in self.first_moment_sums.iter_mut().enumerate().zip(out) {
            if *sum == FirstMomentSum::Pending {
                let [square] = self.chunks.total(tensor);
                *sum = FirstMomentSum::WithGradientSums(square);
            }
            if let FirstMomentSum::WithGradientSums(square) = *sum {
                out.exp_avg = square;
            }
        }
    }

    fn update_without_sums(
        &mut self,
        params: CheckedParams,
        grads: CheckedGrads,
        coefficients: &[Option<Coefficients>],
    ) {
        let (operands, overwritten) = (self.operands(params, grads), &self.overwritten);
        self.pass(
            |tensor| coefficients[tensor].is_some(),
            |chunk, types| {
                let c = coefficients[chunk.tensor].as_ref().expect("a wanted tensor");
                with_compute_type!(types, T => {
                    // SAFETY: as in `update`.
                    let step = unsafe { operands.step::<T>(chunk, types, c) };
                    note_change(overwritten, chunk, &step);
                    run(PlainKernel(step), chunk.len)
                })
            },
        );
    }

    fn take_overwritten(&mut self) -> Option<usize> {
        Some(std::mem::replace(self.overwritten.get_mut(), NO_TENSOR)).filter(|tensor| *tensor != NO_TENSOR)
    }

    fn reset_moments(&mut self) {
        self.exp_avg.clear();
        self.exp_avg_sq.clear();
    }

    fn read(&self, part: Part, tensor: usize, offset: usize, out: &mut [u8]) {
        let storage = match part {
            Part::ExpAvg => &self.exp_avg,
            Part::ExpAvgSq => &self.exp_avg_sq,
            Part::Master => &self.masters,
            Part::Average => &self.averages,
        };
        out.copy_from_slice(&storage.bytes(tensor)[offset..offset + out.len()]);
    }

    fn write(&mut self, part: Part, tensor: usize, offset: usize, bytes: &[u8]) {
        let storage = match part {
            Part::ExpAvg => &mut self.exp_avg,
            Part::ExpAvgSq => &mut self.exp_avg_sq,
            Part::Master => &mut self.masters,
            Part::Average => &mut self.averages,
        };
        storage.bytes_mut(tensor)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

fn state_sums([param, exp_avg, exp_avg_sq, exp_avg_zeros]: [f64; 4]) -> StateSums {
    StateSums { param, exp_avg, exp_avg_sq, exp_avg_zeros }
}
