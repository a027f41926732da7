//! The step's passes: sums of the gradients ahead of it, the update, sums of the state.

use std::ffi::c_void;

use super::chunks::Chunk;
use super::kernels::{GradientKernel, PlainKernel, Scalars, StateKernel, UpdateKernel};
use super::{Cpu, Shared, by_dtype, drive, start, start_mut};
use crate::backend::{Moment, StepPasses};
use crate::buffers::{Gradient, Grads, Params};
use crate::config::DType;
use crate::stats::{GradientSums, StateSums};
use crate::update::Coefficients;

impl Cpu {
    /// What takes the sums of one chunk of a gradient that begins at the pointer.
    fn gradient_kernel(
        &self,
        with_momentum: bool,
    ) -> impl Fn(*const c_void, Chunk, DType) -> [f64; 3] + Sync + use<'_> {
        let (moments, zeros) = (self.moments(), self.zeros);
        move |host, chunk, dtype| {
            by_dtype!(dtype, T => {
                let g = start::<T>(host, chunk);
                let m = moments.m::<T>(chunk).read_only();
                // SAFETY: the host's gradient and our moment have the tensor's size and dtype.
                unsafe {
                    match (with_momentum, zeros) {
                        (false, false) => drive(chunk, GradientKernel::<T, false, false> { g, m }),
                        (false, true) => drive(chunk, GradientKernel::<T, false, true> { g, m }),
                        (true, false) => drive(chunk, GradientKernel::<T, true, false> { g, m }),
                        (true, true) => drive(chunk, GradientKernel::<T, true, true> { g, m }),
                    }
                }
            })
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
        self.pass(chosen, |chunk, dtype| sums(g.at(chunk.tensor), chunk, dtype));
        for tensor in self.tensors().filter(|&t| chosen(t)) {
            out[tensor] = gradient(self.chunks.total(tensor));
        }
    }

    fn gradient_sums_of(&mut self, tensor: usize, host: &Gradient, with_momentum: bool) -> GradientSums {
        let g = [host.pointer()];
        let g = Shared(&g);
        let sums = self.gradient_kernel(with_momentum);
        self.pass_over(self.chunks.of(tensor), |_| true, |chunk, dtype| sums(g.at(0), chunk, dtype));
        gradient(self.chunks.total(tensor))
    }

    fn state_sums(&mut self, params: &Params, out: &mut [StateSums]) {
        let (moments, zeros) = (self.moments(), self.zeros);
        let p = Shared(params.pointers());
        self.pass(
            |_| true,
            |chunk, dtype| {
                by_dtype!(dtype, T => {
                    let p = start::<T>(p.at(chunk.tensor), chunk);
                    let (m, v) = (moments.m::<T>(chunk).read_only(), moments.v::<T>(chunk).read_only());
                    // SAFETY: the host's parameter and our moments have the tensor's size and dtype.
                    unsafe {
                        if zeros {
                            drive(chunk, StateKernel::<T, true> { p, m, v })
                        } else {
                            drive(chunk, StateKernel::<T, false> { p, m, v })
                        }
                    }
                })
            },
        );
        for tensor in self.tensors() {
            out[tensor] = state(self.chunks.total(tensor));
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
        let (moments, zeros, with_momentum) = (self.moments(), self.zeros, momentum.is_some());
        let (p, g) = (Shared(params.pointers()), Shared(grads.pointers()));
        self.pass(
            |tensor| coefficients[tensor].is_some(),
            |chunk, dtype| {
                let c = coefficients[chunk.tensor].as_ref().expect("a wanted tensor");
                by_dtype!(dtype, T => {
                    let (p, g) = (start_mut(p.at(chunk.tensor), chunk), start(g.at(chunk.tensor), chunk));
                    let (m, v) = (moments.m(chunk), moments.v(chunk));
                    let s = Scalars::<T>::new(c);
                    // SAFETY: the host's parameter and gradient and our moments have the tensor's size and dtype,
                    // and the checker found that they do not overlap.
                    unsafe {
                        match (zeros, with_momentum) {
                            (false, false) => drive(chunk, UpdateKernel::<T, false, false> { p, g, m, v, s }),
                            (true, false) => drive(chunk, UpdateKernel::<T, true, false> { p, g, m, v, s }),
                            (false, true) => drive(chunk, UpdateKernel::<T, false, true> { p, g, m, v, s }),
                            (true, true) => drive(chunk, UpdateKernel::<T, true, true> { p, g, m, v, s }),
                        }
                    }
                })
            },
        );
        let updated = || self.tensors().filter(|&t| coefficients[t].is_some());
        for tensor in updated() {
            let [param, exp_avg, exp_avg_sq, exp_avg_zeros, _] = self.chunks.total::<5>(tensor);
            out[tensor] = state([param, exp_avg, exp_avg_sq, exp_avg_zeros]);
        }
        if let Some(momentum) = momentum {
            for tensor in updated() {
                momentum[tensor] = self.chunks.total::<5>(tensor)[4];
            }
        }
    }

    fn update_plain(&mut self, params: &Params, grads: &Grads, coefficients: &[Option<Coefficients>]) {
        let moments = self.moments();
        let (p, g) = (Shared(params.pointers()), Shared(grads.pointers()));
        self.pass(
            |tensor| coefficients[tensor].is_some(),
            |chunk, dtype| {
                let c = coefficients[chunk.tensor].as_ref().expect("a wanted tensor");
                by_dtype!(dtype, T => {
                    let kernel = PlainKernel::<T> {
                        p: start_mut(p.at(chunk.tensor), chunk),
                        g: start(g.at(chunk.tensor), chunk),
                        m: moments.m(chunk),
                        v: moments.v(chunk),
                        s: Scalars::new(c),
                    };
                    // SAFETY: as in `update`.
                    unsafe { drive(chunk, kernel) }
                })
            },
        );
    }

    fn reset_moments(&mut self) {
        self.exp_avg.clear();
        self.exp_avg_sq.clear();
    }

    fn read_moment(&self, moment: Moment, tensor: usize, offset: usize, out: &mut [u8]) {
        let storage = match moment {
            Moment::ExpAvg => &self.exp_avg,
            Moment::ExpAvgSq => &self.exp_avg_sq,
        };
        out.copy_from_slice(&storage.bytes(tensor)[offset..offset + out.len()]);
    }

    fn write_moment(&mut self, moment: Moment, tensor: usize, offset: usize, bytes: &[u8]) {
        let storage = match moment {
            Moment::ExpAvg => &mut self.exp_avg,
            Moment::ExpAvgSq => &mut self.exp_avg_sq,
        };
        storage.bytes_mut(tensor)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

fn gradient([square, with_momentum, zeros]: [f64; 3]) -> GradientSums {
    GradientSums { square, with_momentum, zeros }
}

fn state([param, exp_avg, exp_avg_sq, exp_avg_zeros]: [f64; 4]) -> StateSums {
    StateSums { param, exp_avg, exp_avg_sq, exp_avg_zeros }
}
