//! The meta-update's passes: copies of θ and gradients, θ′ and its neighbours, products with what θ′ is made of.

use std::ffi::c_void;
use std::marker::PhantomData;

use super::chunks::Chunk;
use super::float::Float;
use super::kernels::Scalars;
use super::meta_kernels::{
    AlignmentKernel, DRIFT, MovedKernel, Origin, PerturbedKernel, ProjectKernel, STAY, STEP, StepMadeKernel, Way,
};
use super::operand::{Read, Write};
use super::storage::Storage;
use super::{Cpu, Kind, Shared, State, by_dtype, drive, from};
use crate::backend::{Alignment, Direction, Kept, MetaPasses, Move, Probe, Projection};
use crate::buffers::{Grads, Params};
use crate::config::DType;
use crate::error::Result;
use crate::groups::Tensor;
use crate::update::Coefficients;

/// What a meta-update holds beside what is always kept: θ, and gradients in their own dtype.
#[derive(Debug)]
pub struct MetaStorage {
    saved: Storage,
    kept: [Option<Storage>; 3],
}

impl MetaStorage {
    /// The kept gradient's buffer, or NULL, which no kernel reads.
    fn kept(&self, slot: Kept, tensor: usize) -> *mut c_void {
        self.kept[slot as usize].as_ref().map_or(std::ptr::null_mut(), |kept| kept.pointer(tensor))
    }
}

/// What the kernels start from, for a pass's threads.
#[derive(Clone, Copy)]
struct View<'a> {
    state: State<'a>,
    meta: &'a MetaStorage,
}

// SAFETY: as for `Shared`: a chunk belongs to one thread.
unsafe impl Sync for View<'_> {}

impl View<'_> {
    fn kept(&self, slot: Kept, chunk: Chunk, kind: Kind) -> Read {
        Read { at: from(self.meta.kept(slot, chunk.tensor), kind.grad, chunk), dtype: kind.grad }
    }

    fn origin<T: Float>(&self, chunk: Chunk, kind: Kind, how: &Move) -> Origin<T> {
        Origin {
            p: self.state.weights(kind, chunk, self.meta.saved.pointer(chunk.tensor)),
            g: self.kept(Kept::Train1, chunk, kind),
            moments: self.state.moments(kind, chunk),
            s: scalars(how),
        }
    }

    fn way<T>(&self, chunk: Chunk, kind: Kind, direction: &Direction) -> Way<T> {
        Way {
            g: self.kept(Kept::Train1, chunk, kind),
            g2: self.kept(Kept::Train2, chunk, kind),
            train1: direction.train1,
            train2: direction.train2,
            compute: PhantomData,
        }
    }
}

/// A tensor that stays has none: its kernels do not read them.
fn scalars<T: Float>(how: &Move) -> Scalars<T> {
    const UNUSED: Coefficients = Coefficients {
        gradient: 0.0,
        beta1: 0.0,
        beta2: 0.0,
        second_moment: 0.0,
        eps: 1.0,
        step_size: 0.0,
        decay: 0.0,
        key: 0,
    };
    match how {
        Move::Step(c) | Move::Drift(c) => Scalars::new(c),
        Move::Stay => Scalars::new(&UNUSED),
    }
}

/// Chooses the kernel's MODE by how the tensor moves.
macro_rules! by_move {
    ($how:expr, $MODE:ident => $call:expr) => {
        match $how {
            Move::Stay => {
                const $MODE: u8 = STAY;
                $call
            }
            Move::Step(_) => {
                const $MODE: u8 = STEP;
                $call
            }
            Move::Drift(_) => {
                const $MODE: u8 = DRIFT;
                $call
            }
        }
    };
}

fn output(host: *mut c_void, chunk: Chunk, kind: Kind) -> Write {
    Write { at: from(host, kind.dtype, chunk), dtype: kind.dtype }
}

impl Cpu {
    fn view(&self) -> View<'_> {
        View { state: self.state(), meta: self.meta.as_ref().expect("the optimizer calls begin_meta first") }
    }

    /// Copies chunk by chunk from `from` to `to`, elements of the type that `dtype` tells; zeros where `from` is NULL.
    fn copy(
        &self,
        dtype: impl Fn(Kind) -> DType + Sync,
        from: impl Fn(usize) -> *const c_void + Sync,
        to: impl Fn(usize) -> *mut c_void + Sync,
    ) {
        self.pass(
            |_| true,
            |chunk, kind| {
                let bytes = dtype(kind).size();
                let at = chunk.start * bytes;
                let source = from(chunk.tensor);
                // SAFETY: both are buffers of the tensor's size (host's, checked, or ours) and do not overlap, since
                // one is the host's and the other ours; a chunk belongs to one thread.
                unsafe {
                    let target = to(chunk.tensor).cast::<u8>().add(at);
                    if source.is_null() {
                        target.write_bytes(0, chunk.len * bytes);
                    } else {
                        target.copy_from_nonoverlapping(source.cast::<u8>().add(at), chunk.len * bytes);
                    }
                }
                []
            },
        );
    }
}

impl MetaPasses for Cpu {
    fn begin_meta(&mut self, tensors: &[Tensor], params: &Params, kept: &[Kept]) -> Result<()> {
        let mut storage =
            MetaStorage { saved: Storage::zeros(tensors.iter().map(Tensor::bytes))?, kept: [None, None, None] };
        for slot in kept {
            storage.kept[*slot as usize] = Some(Storage::zeros(tensors.iter().map(Tensor::gradient_bytes))?);
        }
        let p = Shared(params.pointers());
        let saved = Shared(storage.saved.pointers());
        self.copy(|kind| kind.dtype, |tensor| p.at(tensor).cast_const(), |tensor| saved.at(tensor));
        self.meta = Some(storage);
        Ok(())
    }

    fn restore(&mut self, params: &Params) {
        let p = Shared(params.pointers());
        let saved = Shared(self.view().meta.saved.pointers());
        self.copy(|kind| kind.dtype, |tensor| saved.at(tensor).cast_const(), |tensor| p.at(tensor));
    }

    fn end_meta(&mut self) {
        self.meta = None;
    }

    fn keep(&mut self, grads: &Grads, slot: Kept) {
        let g = Shared(grads.pointers());
        let kept = self.view().meta.kept[slot as usize].as_ref();
        let kept = Shared(kept.expect("begin_meta was told of the slot").pointers());
        self.copy(|kind| kind.grad, |tensor| g.at(tensor), |tensor| kept.at(tensor));
    }

    fn write_moved(&mut self, params: &Params, moves: &[Move], out: &mut [f64]) {
        let (view, p) = (self.view(), Shared(params.pointers()));
        self.pass(
            |_| true,
            |chunk, kind| {
                let how = &moves[chunk.tensor];
                by_dtype!(kind, T => by_move!(how, MODE => {
                    let origin = view.origin::<T>(chunk, kind, how);
                    let out = output(p.at(chunk.tensor), chunk, kind);
                    // SAFETY: our buffers and the host's have the tensor's size and the dtypes of its kind.
                    unsafe { drive(chunk, MovedKernel::<T, MODE> { origin, out }) }
                }))
            },
        );
        self.totals(out);
    }

    fn alignment(&mut self, out: &mut [Alignment]) {
        let view = self.view();
        self.pass(
            |_| true,
            |chunk, kind| {
                by_dtype!(kind, T => {
                    let (g, g2) = (view.kept(Kept::Train1, chunk, kind), view.kept(Kept::Train2, chunk, kind));
                    // SAFETY: our buffers have the tensor's size and the dtypes of its kind.
                    unsafe { drive(chunk, AlignmentKernel::<T> { g, g2, compute: PhantomData }) }
                })
            },
        );
        for (tensor, out) in out.iter_mut().enumerate() {
            let [square, product] = self.chunks.total(tensor);
            *out = Alignment { square, product };
        }
    }

    fn direction_square(&mut self, directions: &[Direction], out: &mut [f64]) {
        let view = self.view();
        self.pass(
            |_| true,
            |chunk, kind| {
                let direction = &directions[chunk.tensor];
                // SAFETY: our buffers have the tensor's size and the dtypes of its kind.
                by_dtype!(kind, T => unsafe { drive::<_, 1>(chunk, view.way::<T>(chunk, kind, direction)) })
            },
        );
        self.totals(out);
    }

    fn write_perturbed(&mut self, params: &Params, moves: &[Move], directions: &[Direction], radius: f64) {
        let (view, p) = (self.view(), Shared(params.pointers()));
        self.pass(
            |_| true,
            |chunk, kind| {
                let (how, direction) = (&moves[chunk.tensor], &directions[chunk.tensor]);
                by_dtype!(kind, T => by_move!(how, MODE => {
                    let kernel = PerturbedKernel::<T, MODE> {
                        origin: view.origin(chunk, kind, how),
                        way: view.way(chunk, kind, direction),
                        radius,
                        out: output(p.at(chunk.tensor), chunk, kind),
                    };
                    // SAFETY: our buffers and the host's have the tensor's size and the dtypes of its kind.
                    unsafe { drive(chunk, kernel) }
                }))
            },
        );
    }

    fn step_made(&mut self, moves: &[Move], directions: &[Direction], plus: f64, minus: f64, out: &mut [f64]) {
        let view = self.view();
        self.pass(
            |_| true,
            |chunk, kind| {
                let (how, direction) = (&moves[chunk.tensor], &directions[chunk.tensor]);
                by_dtype!(kind, T => by_move!(how, MODE => {
                    let kernel = StepMadeKernel::<T, MODE> {
                        origin: view.origin(chunk, kind, how),
                        way: view.way(chunk, kind, direction),
                        plus,
                        minus,
                    };
                    // SAFETY: our buffers have the tensor's size and the dtypes of its kind.
                    unsafe { drive(chunk, kernel) }
                }))
            },
        );
        self.totals(out);
    }

    fn project(&mut self, grads: &Grads, probe: Probe, moves: &[Move], out: &mut [Projection]) {
        let (view, host) = (self.view(), Shared(grads.pointers()));
        self.pass(
            |_| true,
            |chunk, kind| {
                let how = &moves[chunk.tensor];
                by_dtype!(kind, T => by_move!(how, MODE => {
                    let origin = view.origin::<T>(chunk, kind, how);
                    let s = scalars(how);
                    let b = host.at(chunk.tensor).cast_mut();
                    let b = (!b.is_null()).then(|| Read { at: from(b, kind.grad, chunk), dtype: kind.grad });
                    // SAFETY: our buffers and the host's have the tensor's size and the dtypes of its kind.
                    unsafe {
                        match probe {
                            Probe::Host(host) => {
                                let a = origin.g; // not read
                                drive(chunk, ProjectKernel::<T, MODE, false> { origin, s, a, b, kept: 0.0, host })
                            }
                            Probe::Difference { of, kept, host } => {
                                let a = view.kept(of, chunk, kind);
                                drive(chunk, ProjectKernel::<T, MODE, true> { origin, s, a, b, kept, host })
                            }
                        }
                    }
                }))
            },
        );
        for (tensor, out) in out.iter_mut().enumerate() {
            let [square, ratio, param] = self.chunks.total(tensor);
            *out = Projection { square, ratio, param };
        }
    }
}

impl Cpu {
    /// The first sum of every tensor.
    fn totals(&self, out: &mut [f64]) {
        for (tensor, out) in out.iter_mut().enumerate() {
            [*out] = self.chunks.total(tensor);
        }
    }
}
