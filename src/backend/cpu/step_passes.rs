//! The step's passes: sums of the gradients ahead of it, the update, sums of the state.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::Range;

use super::chunks::Chunk;
use super::kernels::adamw::Scalars;
use super::kernels::step::{
    DesyncedKernel, GradientKernel, InitMastersKernel, PlainKernel, StateKernel, Step, UpdateKernel,
};
use super::{CHUNK, Cpu, Kind, OfM, Read, Shared, State, by_dtype, drive, from};
use crate::backend::{Part, StepPasses};
use crate::model::coefficients::Coefficients;
use crate::model::dtype::{DType, Precision};
use crate::model::host_buffers::{CheckedGradient, CheckedGrads, CheckedParams};
use crate::model::stats::{GradientSums, StateSums};
use crate::numeric::half::{self, BF16, F16, Half};
use crate::numeric::stochastic_rounding::{RoundingBits, SPAN, Use};

const _: () = assert!(CHUNK == SPAN, "a chunk has one key of random bits");

/// Σ g², Σ g·m, m being any vector, and, if wanted, zeros of a chunk of a gradient.
pub(super) fn sums_with(g: Read, m: Read, chunk: Chunk, kind: Kind, zeros: bool) -> [f64; 3] {
    let [square, product, zeros, _] = sums::<true>(g, m, chunk, kind, zeros, false);
    [square, product, zeros]
}

/// The same, and, if wanted, Σ m².
fn sums<const MOMENTUM: bool>(g: Read, m: Read, chunk: Chunk, kind: Kind, zeros: bool, of_m: bool) -> [f64; 4] {
    by_dtype!(kind, T => {
        let (short, compute) = (kind.is_short(), PhantomData);
        // SAFETY: the host's gradient and our vector have the tensor's size and the dtypes of its kind.
        unsafe {
            if zeros {
                drive(chunk, GradientKernel::<T, MOMENTUM, true> { g, m, short, of_m, compute })
            } else {
                drive(chunk, GradientKernel::<T, MOMENTUM, false> { g, m, short, of_m, compute })
            }
        }
    })
}

impl Cpu {
    /// The sums of a tensor's gradient, which a pass has just taken.
    fn told(&mut self, tensor: usize, with_momentum: bool) -> GradientSums {
        let [square, product, zeros, of_m] = self.chunks.total(tensor);
        if with_momentum && self.kinds[tensor].sums_m_early(self.zeros) {
            self.of_m[tensor] = OfM::Summed(of_m);
        }
        GradientSums { square, with_momentum: product, zeros }
    }

    /// Takes the sums of the gradients at `host(tensor)` over these chunks of the tensors that are `wanted`.
    fn sum_gradients(
        &self,
        chunks: Range<usize>,
        wanted: impl Fn(usize) -> bool + Sync,
        host: impl Fn(usize) -> *const c_void + Sync,
        with_momentum: bool,
    ) {
        let (state, zeros) = (self.state(), self.zeros);
        self.pass_over(chunks, wanted, |chunk, kind| {
            let (g, m) = (gradient(host(chunk.tensor), chunk, kind), state.moments(kind, chunk).first());
            if with_momentum {
                sums::<true>(g, m, chunk, kind, zeros, kind.sums_m_early(zeros))
            } else {
                sums::<false>(g, m, chunk, kind, zeros, false)
            }
        });
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
    fn step<T: super::kernels::number::Float>(&self, chunk: Chunk, kind: Kind, c: &Coefficients) -> Step<T> {
        let noise = |purpose| RoundingBits::new(c.key, chunk.start / CHUNK, purpose);
        Step {
            p: self.state.weights(kind, chunk, self.params.at(chunk.tensor)),
            g: gradient(self.grads.at(chunk.tensor), chunk, kind),
            moments: self.state.moments(kind, chunk),
            s: Scalars::new(c, kind.is_short()),
            noise: [noise(Use::Param), noise(Use::Moments)],
        }
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
        let g = Shared(grads.pointers());
        let chosen = |tensor: usize| !g.at(tensor).is_null() && wanted(tensor);
        self.sum_gradients(0..self.chunks.len(), chosen, |tensor| g.at(tensor), with_momentum);
        for tensor in self.tensors().filter(|&t| chosen(t)) {
            out[tensor] = self.told(tensor, with_momentum);
        }
    }

    fn gradient_sums_of(&mut self, gradient: CheckedGradient, with_momentum: bool) -> GradientSums {
        let (tensor, g) = (gradient.tensor(), [gradient.pointer()]);
        let g = Shared(&g);
        self.sum_gradients(self.chunks.of(tensor), |_| true, |_| g.at(0), with_momentum);
        self.told(tensor, with_momentum)
    }

    fn state_sums(&mut self, params: CheckedParams, uninitialized: &[bool], out: &mut [StateSums]) {
        let (state, zeros) = (self.state(), self.zeros);
        let host = Shared(params.pointers());
        self.pass(
            |_| true,
            |chunk, kind| {
                by_dtype!(kind, T => {
                    let p = state.weights(kind, chunk, host.at(chunk.tensor));
                    let p = if uninitialized[chunk.tensor] { p.as_shown() } else { p };
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
        self.of_m.fill(OfM::Told);
    }

    fn init_masters(&mut self, params: CheckedParams, wanted: &[bool]) {
        let (state, host) = (self.state(), Shared(params.pointers()));
        self.pass(
            |tensor| wanted[tensor] && self.kinds[tensor].precision.has_master(),
            |chunk, kind| {
                let kernel = InitMastersKernel(state.weights(kind, chunk, host.at(chunk.tensor)));
                // SAFETY: the host's parameter and our masters have the tensor's size.
                unsafe { drive(chunk, kernel) }
            },
        );
    }

    fn first_desynced(&mut self, params: CheckedParams, wanted: &[bool]) -> Option<usize> {
        let (state, host) = (self.state(), Shared(params.pointers()));
        let has_master = |tensor: usize| wanted[tensor] && self.kinds[tensor].precision == Precision::Master;
        self.pass(has_master, |chunk, kind| {
            let kernel = DesyncedKernel(state.weights(kind, chunk, host.at(chunk.tensor)));
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
            let show = if dtype == DType::BF16 { BF16::from_master } else { F16::from_master };
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
        params: CheckedParams,
        grads: CheckedGrads,
        coefficients: &[Option<Coefficients>],
        out: &mut [StateSums],
        momentum: Option<&mut [f64]>,
    ) {
        let (zeros, with_momentum, of_m) = (self.zeros, momentum.is_some(), &self.of_m);
        let leaves = |of_m: OfM| !with_momentum && of_m != OfM::Told;
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
                            _ if leaves(of_m[chunk.tensor]) => drive(chunk, UpdateKernel::<T, false, false, false>(step)),
                            (false, false) => drive(chunk, UpdateKernel::<T, false, false, true>(step)),
                            (true, false) => drive(chunk, UpdateKernel::<T, true, false, true>(step)),
                            (false, true) => drive(chunk, UpdateKernel::<T, false, true, true>(step)),
                            (true, true) => drive(chunk, UpdateKernel::<T, true, true, true>(step)),
                        }
                    }
                })
            },
        );
        let mut momentum = momentum;
        for tensor in self.tensors().filter(|&t| coefficients[t].is_some()) {
            let [param, exp_avg, exp_avg_sq, exp_avg_zeros, product] = self.chunks.total(tensor);
            if let Some(momentum) = &mut momentum {
                momentum[tensor] = product;
            }
            if leaves(self.of_m[tensor]) {
                self.of_m[tensor] = OfM::Left;
                out[tensor] = StateSums { param, exp_avg_sq, ..out[tensor] };
            } else {
                self.of_m[tensor] = OfM::Told;
                out[tensor] = state_sums([param, exp_avg, exp_avg_sq, exp_avg_zeros]);
            }
        }
    }

    fn first_moment_sums(&mut self, out: &mut [StateSums]) {
        // Of tensors that have no gradient now.
        if self.of_m.contains(&OfM::Left) {
            let state = self.state();
            self.pass(
                |tensor| self.of_m[tensor] == OfM::Left,
                |chunk, kind| {
                    let m = state.moments(kind, chunk).first();
                    // As if it were a gradient.
                    sums::<false>(m, m, chunk, kind, false, false)
                },
            );
        }
        for ((tensor, of_m), out) in self.of_m.iter_mut().enumerate().zip(out) {
            if *of_m == OfM::Left {
                let [square] = self.chunks.total(tensor);
                *of_m = OfM::Summed(square);
            }
            if let OfM::Summed(square) = *of_m {
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

fn state_sums([param, exp_avg, exp_avg_sq, exp_avg_zeros]: [f64; 4]) -> StateSums {
    StateSums { param, exp_avg, exp_avg_sq, exp_avg_zeros }
}
