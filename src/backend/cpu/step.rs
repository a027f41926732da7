//! The step's passes: sums of the gradients ahead of it, the update, sums of the state.

use std::ffi::c_void;
use std::marker::PhantomData;

use super::chunks::Chunk;
use super::kernels::{
    BeginKernel, GradientKernel, PlainKernel, Scalars, StateKernel, Step, StrangersKernel, UpdateKernel,
};
use super::{CHUNK, Cpu, Kind, Read, Shared, State, by_dtype, drive, from};
use crate::backend::{Part, StepPasses};
use crate::buffers::{Gradient, Grads, Params};
use crate::config::{DType, Precision};
use crate::half::{self, BF16, F16, Half};
use crate::noise::{Noise, SPAN, Use};
use crate::stats::{GradientSums, StateSums};
use crate::update::Coefficients;

const _: () = assert!(CHUNK == SPAN, "a chunk has one key of random bits");

/// Σ g², Σ g·m, m being any vector, and, if wanted, zeros of a chunk of a gradient.
pub(super) fn sums_with(g: Read, m: Read, chunk: Chunk, kind: Kind, zeros: bool) -> [f64; 3] {
    sums::<true>(g, m, chunk, kind, zeros)
}

fn sums<const MOMENTUM: bool>(g: Read, m: Read, chunk: Chunk, kind: Kind, zeros: bool) -> [f64; 3] {
    by_dtype!(kind, T => {
        let (short, compute) = (kind.is_short(), PhantomData);
        // SAFETY: the host's gradient and our vector have the tensor's size and the dtypes of its kind.
        unsafe {
            if zeros {
                drive(chunk, GradientKernel::<T, MOMENTUM, true> { g, m, short, compute })
            } else {
                drive(chunk, GradientKernel::<T, MOMENTUM, false> { g, m, short, compute })
            }
        }
    })
}

impl Cpu {
    /// What takes the sums of one chunk of a gradient that begins at the pointer.
    fn gradient_kernel(&self, with_momentum: bool) -> impl Fn(*const c_void, Chunk, Kind) -> [f64; 3] + Sync + use<'_> {
        let (state, zeros) = (self.state(), self.zeros);
        move |host, chunk, kind| {
            let (g, m) = (gradient(host, chunk, kind), state.moments(kind, chunk).first());
            if with_momentum { sums_with(g, m, chunk, kind, zeros) } else { sums::<false>(g, m, chunk, kind, zeros) }
        }
    }
}

/// A chunk of the host's gradient.
pub(super) fn gradient(host: *const c_void, chunk: Chunk, kind: Kind) -> Read {
    Read { at: from(host.cast_mut(), kind.grad, chunk), dtype: kind.grad }
}

/// The host's parameters and gradients, and what is kept, for a pass's threads.
#[derive(Clone, Copy)]
struct Operands<'a> {
    params: Shared<'a, *mut c_void>,
    grads: Shared<'a, *const c_void>,
    state: State<'a>,
}

impl Operands<'_> {
    fn step<T: super::float::Float>(&self, chunk: Chunk, kind: Kind, c: &Coefficients) -> Step<T> {
        let noise = |purpose| Noise::new(c.key, chunk.start / CHUNK, purpose);
        Step {
            p: self.state.weights(kind, chunk, self.params.at(chunk.tensor)),
            g: gradient(self.grads.at(chunk.tensor), chunk, kind),
            moments: self.state.moments(kind, chunk),
            s: Scalars::new(c),
            noise: [noise(Use::Param), noise(Use::Moments)],
        }
    }
}

impl StepPasses for Cpu {
    fn gradient_sums(
        &mut self,
        grads: &Grads,
        with_momentum: bool,
        wanted: &(dyn Fn(usize) -> bool + Sync),
        out: &mut [GradientSums],
    ) {
        let g = Shared(grads.pointers());
        let chosen = |tensor: usize| !g.at(tensor).is_null() && wanted(tensor);
        let sums = self.gradient_kernel(with_momentum);
        self.pass(chosen, |chunk, kind| sums(g.at(chunk.tensor), chunk, kind));
        for tensor in self.tensors().filter(|&t| chosen(t)) {
            out[tensor] = gradient_sums(self.chunks.total(tensor));
        }
    }

    fn gradient_sums_of(&mut self, tensor: usize, host: &Gradient, with_momentum: bool) -> GradientSums {
        let g = [host.pointer()];
        let g = Shared(&g);
        let sums = self.gradient_kernel(with_momentum);
        self.pass_over(self.chunks.of(tensor), |_| true, |chunk, kind| sums(g.at(0), chunk, kind));
        gradient_sums(self.chunks.total(tensor))
    }

    fn state_sums(&mut self, params: &Params, shown: &[bool], out: &mut [StateSums]) {
        let (state, zeros) = (self.state(), self.zeros);
        let host = Shared(params.pointers());
        self.pass(
            |_| true,
            |chunk, kind| {
                by_dtype!(kind, T => {
                    let p = state.weights(kind, chunk, host.at(chunk.tensor));
                    let p = if shown[chunk.tensor] { p.as_shown() } else { p };
                    let moments = state.moments(kind, chunk);
                    let compute = PhantomData;
                    // SAFETY: the host's parameter and what we keep have the tensor's size and the dtypes of its kind.
                    unsafe {
                        if zeros {
                            drive(chunk, StateKernel::<T, true> { p, moments, compute })
                        } else {
                            drive(chunk, StateKernel::<T, false> { p, moments, compute })
                        }
                    }
                })
            },
        );
        for tensor in self.tensors() {
            out[tensor] = state_sums(self.chunks.total(tensor));
        }
    }

    fn begin_masters(&mut self, params: &Params, wanted: &[bool]) {
        let (state, host) = (self.state(), Shared(params.pointers()));
        self.pass(
            |tensor| wanted[tensor] && self.kinds[tensor].precision.has_master(),
            |chunk, kind| {
                let kernel = BeginKernel(state.weights(kind, chunk, host.at(chunk.tensor)));
                // SAFETY: the host's parameter and our masters have the tensor's size.
                unsafe { drive(chunk, kernel) }
            },
        );
    }

    fn stranger(&mut self, params: &Params, wanted: &[bool]) -> Option<usize> {
        let (state, host) = (self.state(), Shared(params.pointers()));
        let has_master = |tensor: usize| wanted[tensor] && self.kinds[tensor].precision == Precision::Master;
        self.pass(has_master, |chunk, kind| {
            let kernel = StrangersKernel(state.weights(kind, chunk, host.at(chunk.tensor)));
            // SAFETY: the host's parameter and our masters have the tensor's size.
            unsafe { drive(chunk, kernel) }
        });
        self.tensors().find(|&tensor| has_master(tensor) && self.chunks.total::<1>(tensor) != [0.0])
    }

    fn read_masters(&self, tensor: usize, shown: &[u16], out: &mut [f32]) {
        let kept = self.masters.bytes(tensor);
        if self.kinds[tensor].precision == Precision::Master {
            out.copy_from_slice(bytemuck::cast_slice(kept));
            return;
        }
        let low: &[u16] = bytemuck::cast_slice(kept);
        for ((out, shown), low) in out.iter_mut().zip(shown).zip(low) {
            *out = half::join(*shown, *low);
        }
    }

    fn write_masters(&mut self, tensor: usize, values: &[f32], shown: &mut [u16]) {
        let Kind { dtype, precision, .. } = self.kinds[tensor];
        let kept = self.masters.bytes_mut(tensor);
        if precision == Precision::Master {
            kept.copy_from_slice(bytemuck::cast_slice(values));
            let show = if dtype == DType::BF16 { BF16::of_master } else { F16::of_master };
            shown.iter_mut().zip(values).for_each(|(shown, value)| *shown = show(*value));
            return;
        }
        let low: &mut [u16] = bytemuck::cast_slice_mut(kept);
        for ((low, shown), value) in low.iter_mut().zip(shown).zip(values) {
            (*shown, *low) = half::split(*value);
        }
    }

    fn update(
        &mut self,
        params: &Params,
        grads: &Grads,
        coefficients: &[Option<Coefficients>],
        out: &mut [StateSums],
        momentum: Option<&mut [f64]>,
    ) {
        let (zeros, with_momentum) = (self.zeros, momentum.is_some());
        let operands =
            Operands { params: Shared(params.pointers()), grads: Shared(grads.pointers()), state: self.state() };
        self.pass(
            |tensor| coefficients[tensor].is_some(),
            |chunk, kind| {
                let c = coefficients[chunk.tensor].as_ref().expect("a wanted tensor");
                by_dtype!(kind, T => {
                    let step = operands.step::<T>(chunk, kind, c);
                    // SAFETY: the host's parameter and gradient and what we keep have the tensor's size and the dtypes
                    // of its kind, and the checker found that they do not overlap.
                    unsafe {
                        match (zeros, with_momentum) {
                            (false, false) => drive(chunk, UpdateKernel::<T, false, false>(step)),
                            (true, false) => drive(chunk, UpdateKernel::<T, true, false>(step)),
                            (false, true) => drive(chunk, UpdateKernel::<T, false, true>(step)),
                            (true, true) => drive(chunk, UpdateKernel::<T, true, true>(step)),
                        }
                    }
                })
            },
        );
        let updated = || self.tensors().filter(|&t| coefficients[t].is_some());
        for tensor in updated() {
            let [param, exp_avg, exp_avg_sq, exp_avg_zeros, _] = self.chunks.total::<5>(tensor);
            out[tensor] = state_sums([param, exp_avg, exp_avg_sq, exp_avg_zeros]);
        }
        if let Some(momentum) = momentum {
            for tensor in updated() {
                momentum[tensor] = self.chunks.total::<5>(tensor)[4];
            }
        }
    }

    fn update_plain(&mut self, params: &Params, grads: &Grads, coefficients: &[Option<Coefficients>]) {
        let operands =
            Operands { params: Shared(params.pointers()), grads: Shared(grads.pointers()), state: self.state() };
        self.pass(
            |tensor| coefficients[tensor].is_some(),
            |chunk, kind| {
                let c = coefficients[chunk.tensor].as_ref().expect("a wanted tensor");
                // SAFETY: as in `update`.
                by_dtype!(kind, T => unsafe { drive(chunk, PlainKernel(operands.step::<T>(chunk, kind, c))) })
            },
        );
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
        };
        out.copy_from_slice(&storage.bytes(tensor)[offset..offset + out.len()]);
    }

    fn write(&mut self, part: Part, tensor: usize, offset: usize, bytes: &[u8]) {
        let storage = match part {
            Part::ExpAvg => &mut self.exp_avg,
            Part::ExpAvgSq => &mut self.exp_avg_sq,
            Part::Master => &mut self.masters,
        };
        storage.bytes_mut(tensor)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

fn gradient_sums([square, with_momentum, zeros]: [f64; 3]) -> GradientSums {
    GradientSums { square, with_momentum, zeros }
}

fn state_sums([param, exp_avg, exp_avg_sq, exp_avg_zeros]: [f64; 4]) -> StateSums {
    StateSums { param, exp_avg, exp_avg_sq, exp_avg_zeros }
}
