//! The meta-update's passes: copies of θ and gradients, θ′ and its neighbours, products with what θ′ is made of.

use std::ffi::c_void;

use super::chunks::Chunk;
use super::float::Float;
use super::kernels::{
    AlignmentKernel, DRIFT, In, MovedKernel, Origin, PerturbedKernel, ProjectKernel, STAY, STEP, Scalars,
    StepMadeKernel, Way,
};
use super::storage::Storage;
use super::{Cpu, Kind, Shared, State, by_dtype, drive, start, start_mut};
use crate::backend::{Alignment, Direction, Kept, MetaPasses, Move, Probe, Projection};
use crate::buffers::{Grads, Params};
use crate::config::DType;
use crate::error::{Error, Result};
use crate::groups::Tensor;
use crate::update::Coefficients;

/// What a meta-update holds beside the moments.
#[derive(Debug)]
pub struct MetaStorage {
    saved: Storage,
    kept: [Option<Storage>; 3],
}

impl MetaStorage {
    /// The kept gradient's buffer, or θ's as a stand-in that no kernel reads.
    fn kept(&self, slot: Kept, tensor: usize) -> *const c_void {
        self.kept[slot as usize].as_ref().unwrap_or(&self.saved).pointer(tensor).cast_const()
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
    fn kept<T>(&self, slot: Kept, chunk: Chunk) -> In<T> {
        start(self.meta.kept(slot, chunk.tensor), chunk)
    }

    fn origin<T: Float>(&self, chunk: Chunk, how: &Move) -> Origin<T> {
        Origin {
            p: start(self.meta.saved.pointer(chunk.tensor), chunk),
            g: self.kept(Kept::Train1, chunk),
            m: start(self.state.exp_avg.pointer(chunk.tensor), chunk),
            v: start(self.state.exp_avg_sq.pointer(chunk.tensor), chunk),
            s: scalars(how),
        }
    }

    fn way<T>(&self, chunk: Chunk, direction: &Direction) -> Way<T> {
        Way {
            g: self.kept(Kept::Train1, chunk),
            g2: self.kept(Kept::Train2, chunk),
            train1: direction.train1,
            train2: direction.train2,
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

impl Cpu {
    fn view(&self) -> View<'_> {
        View { state: self.state(), meta: self.meta.as_ref().expect("the optimizer calls begin_meta first") }
    }

    /// Copies chunk by chunk from `from` to `to`, zeros where `from` is NULL.
    fn copy(&self, from: impl Fn(usize) -> *const c_void + Sync, to: impl Fn(usize) -> *mut c_void + Sync) {
        self.pass(
            |_| true,
            |chunk, kind| {
                let bytes = kind.dtype.size();
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
        let plain = |k: &Kind| !k.dtype.is_half() && k.grad == k.dtype && k.moments == k.dtype;
        if !self.kinds.iter().all(plain) {
            return Err(Error::Unsupported { what: "a meta-update with 16-bit tensors".to_owned() });
        }
        let mut storage =
            MetaStorage { saved: Storage::zeros(tensors.iter().map(Tensor::bytes))?, kept: [None, None, None] };
        for slot in kept {
            storage.kept[*slot as usize] = Some(Storage::zeros(tensors.iter().map(Tensor::bytes))?);
        }
        let p = Shared(params.pointers());
        let saved = Shared(storage.saved.pointers());
        self.copy(|tensor| p.at(tensor).cast_const(), |tensor| saved.at(tensor));
        self.meta = Some(storage);
        Ok(())
    }

    fn restore(&mut self, params: &Params) {
        let p = Shared(params.pointers());
        let saved = Shared(self.view().meta.saved.pointers());
        self.copy(|tensor| saved.at(tensor).cast_const(), |tensor| p.at(tensor));
    }

    fn end_meta(&mut self) {
        self.meta = None;
    }

    fn keep(&mut self, grads: &Grads, slot: Kept) {
        let g = Shared(grads.pointers());
        let kept = self.view().meta.kept[slot as usize].as_ref();
        let kept = Shared(kept.expect("begin_meta was told of the slot").pointers());
        self.copy(|tensor| g.at(tensor), |tensor| kept.at(tensor));
    }

    fn write_moved(&mut self, params: &Params, moves: &[Move], out: &mut [f64]) {
        let (view, p) = (self.view(), Shared(params.pointers()));
        self.pass(
            |_| true,
            |chunk, kind| {
                let how = &moves[chunk.tensor];
                by_dtype!(kind, T => by_move!(how, MODE => {
                    let origin = view.origin::<T>(chunk, how);
                    let out = start_mut(p.at(chunk.tensor), chunk);
                    // SAFETY: our buffers and the host's have the tensor's size and dtype.
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
                    let (g, g2) = (view.kept::<T>(Kept::Train1, chunk), view.kept::<T>(Kept::Train2, chunk));
                    // SAFETY: our buffers have the tensor's size and dtype.
                    unsafe { drive(chunk, AlignmentKernel { g, g2 }) }
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
                // SAFETY: our buffers have the tensor's size and dtype.
                by_dtype!(kind, T => unsafe { drive::<_, 1>(chunk, view.way::<T>(chunk, direction)) })
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
                        origin: view.origin(chunk, how),
                        way: view.way(chunk, direction),
                        radius,
                        out: start_mut(p.at(chunk.tensor), chunk),
                    };
                    // SAFETY: our buffers and the host's have the tensor's size and dtype.
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
                        origin: view.origin(chunk, how),
                        way: view.way(chunk, direction),
                        plus,
                        minus,
                    };
                    // SAFETY: our buffers have the tensor's size and dtype.
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
                    let origin = view.origin::<T>(chunk, how);
                    let s = scalars(how);
                    let missing = host.at(chunk.tensor).is_null();
                    let b = (!missing).then(|| start::<T>(host.at(chunk.tensor), chunk));
                    // SAFETY: our buffers and the host's have the tensor's size and dtype.
                    unsafe {
                        match probe {
                            Probe::Host(host) => {
                                let a = origin.p; // not read
                                drive(chunk, ProjectKernel::<T, MODE, false> { origin, s, a, b, kept: 0.0, host })
                            }
                            Probe::Difference { of, kept, host } => {
                                let a = view.kept(of, chunk);
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
