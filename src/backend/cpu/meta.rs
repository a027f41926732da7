//! The meta-update's passes: copies of θ and gradients, θ′ and its neighbours, products with what θ′ is made of.

use std::ffi::c_void;
use std::marker::PhantomData;

use super::chunks::Chunk;
use super::float::Float;
use super::kernels::Scalars;
use super::meta_kernels::{DRIFT, KeepKernel, MovedKernel, Origin, ProbeKernel, STAY, STEP, Sight, Visit, Way};
use super::operand::{Read, Write};
use super::storage::Storage;
use super::{Cpu, Kind, Shared, State, by_dtype, drive, from};
use crate::backend::{Alignment, Direction, Kept, MetaPasses, Move, Neighbour, Probe, Projection};
use crate::buffers::{Grads, Params};
use crate::config::DType;
use crate::error::Result;
use crate::groups::Tensor;
use crate::stats::GradientSums;
use crate::update::Coefficients;

/// What a meta-update holds beside what is always kept: θ, and gradients in their own dtype.
#[derive(Debug)]
pub struct MetaStorage {
    saved: Storage,
    kept: [Option<Storage>; 2],
}

impl MetaStorage {
    /// One optimizer's options decide what is kept, so that every meta-update of it can use the same memory.
    fn new(tensors: &[Tensor], kept: &[Kept]) -> Result<Self> {
        let mut storage = Self { saved: Storage::zeros(tensors.iter().map(Tensor::bytes))?, kept: [None, None] };
        for slot in kept {
            storage.kept[*slot as usize] = Some(Storage::zeros(tensors.iter().map(Tensor::gradient_bytes))?);
        }
        Ok(storage)
    }

    /// Lets the system have all of it; false where it must be given back instead.
    fn lend(&mut self) -> bool {
        self.saved.lend() && self.kept.iter_mut().flatten().all(Storage::lend)
    }

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

    /// Copies parameters chunk by chunk.
    fn copy(&self, from: Shared<*mut c_void>, to: Shared<*mut c_void>) {
        self.pass(
            |_| true,
            |chunk, kind| {
                let place = |base| output(base, chunk, kind);
                let (from, to) = (place(from.at(chunk.tensor)), place(to.at(chunk.tensor)));
                // SAFETY: both are buffers of the tensor's size and dtype (host's, checked, and ours) and do not overlap; a
                // chunk belongs to one thread.
                unsafe { Read { at: from.at, dtype: kind.dtype }.copy_to(to, 0, chunk.len) };
                []
            },
        );
    }
}

impl MetaPasses for Cpu {
    fn begin_meta(&mut self, tensors: &[Tensor], params: &Params, kept: &[Kept]) -> Result<()> {
        let storage = match self.lent.take() {
            Some(lent) => lent,
            None => MetaStorage::new(tensors, kept)?,
        };
        let p = Shared(params.pointers());
        let saved = Shared(storage.saved.pointers());
        self.copy(p, saved);
        self.meta = Some(storage);
        Ok(())
    }

    fn restore(&mut self, params: &Params) {
        let p = Shared(params.pointers());
        let saved = Shared(self.view().meta.saved.pointers());
        self.copy(saved, p);
    }

    fn end_meta(&mut self) {
        self.lent = self.meta.take().and_then(|mut meta| meta.lend().then_some(meta));
    }

    fn keep_train1(&mut self, grads: &Grads, out: &mut [GradientSums]) {
        self.keep(grads, Kept::Train1, |view, chunk, kind| view.state.moments(kind, chunk).first());
        for tensor in self.tensors().filter(|&t| grads.has(t)) {
            let [square, with_momentum, zeros] = self.chunks.total(tensor);
            out[tensor] = GradientSums { square, with_momentum, zeros };
        }
    }

    fn keep_train2(&mut self, grads: &Grads, out: &mut [Alignment]) {
        self.keep(grads, Kept::Train2, |view, chunk, kind| view.kept(Kept::Train1, chunk, kind));
        for (tensor, out) in out.iter_mut().enumerate() {
            let [square, product] = self.chunks.total(tensor);
            *out = Alignment { square, product };
        }
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

    fn write_neighbour(&mut self, params: &Params, moves: &[Move], neighbour: Neighbour, made: &mut [f64]) {
        self.probe::<false, true>(None, Some((params, neighbour)), moves);
        self.made(made);
    }

    fn project(&mut self, grads: &Grads, probe: Probe, moves: &[Move], out: &mut [Projection]) {
        self.probe::<true, false>(Some((grads, probe)), None, moves);
        self.projections(out);
    }

    fn project_and_write_neighbour(
        &mut self,
        look: (&Grads, Probe),
        params: &Params,
        moves: &[Move],
        neighbour: Neighbour,
        (projections, made): (&mut [Projection], &mut [f64]),
    ) {
        self.probe::<true, true>(Some(look), Some((params, neighbour)), moves);
        self.projections(projections);
        self.made(made);
    }
}

impl Cpu {
    /// Keeps gradients (0 where one is missing) and takes their products with another vector.
    fn keep(&self, grads: &Grads, slot: Kept, other: impl Fn(View, Chunk, Kind) -> Read + Sync) {
        let (view, g, zeros) = (self.view(), Shared(grads.pointers()), self.zeros);
        self.pass(
            |_| true,
            |chunk, kind| {
                let host = g.at(chunk.tensor).cast_mut();
                let kept = Write { at: view.kept(slot, chunk, kind).at.cast_mut(), dtype: kind.grad };
                if host.is_null() {
                    // SAFETY: our buffer has the tensor's size and gradient's dtype; a chunk belongs to one thread.
                    unsafe { kept.at.cast::<u8>().write_bytes(0, chunk.len * kind.grad.size()) };
                    return [0.0; 3];
                }
                let g = Read { at: from(host, kind.grad, chunk), dtype: kind.grad };
                let other = other(view, chunk, kind);
                by_dtype!(kind, T => {
                    // SAFETY: our buffers and the host's have the tensor's size and the dtypes of its kind.
                    unsafe {
                        if zeros {
                            drive(chunk, KeepKernel::<T, true> { g, kept, other, compute: PhantomData })
                        } else {
                            drive(chunk, KeepKernel::<T, false> { g, kept, other, compute: PhantomData })
                        }
                    }
                })
            },
        );
    }

    /// The pass behind the products and the neighbours.
    fn probe<const LOOK: bool, const VISIT: bool>(
        &self,
        look: Option<(&Grads, Probe)>,
        visit: Option<(&Params, Neighbour)>,
        moves: &[Move],
    ) {
        const NOWHERE: Direction = Direction { train2: 0.0, train1: 0.0 };
        let view = self.view();
        let host = look.map(|(grads, _)| Shared(grads.pointers()));
        let probe = look.map_or(Probe::Host(0.0), |(_, probe)| probe);
        let params = visit.map(|(params, _)| Shared(params.pointers()));
        let neighbour = visit.map(|(_, neighbour)| neighbour);
        self.pass(
            |_| true,
            |chunk, kind| {
                let how = &moves[chunk.tensor];
                let b = host.map_or(std::ptr::null_mut(), |host| host.at(chunk.tensor).cast_mut());
                let b = (!b.is_null()).then(|| Read { at: from(b, kind.grad, chunk), dtype: kind.grad });
                let sight = match probe {
                    Probe::Host(host_factor) => Sight { host: b, host_factor, train2: None, train2_factor: 0.0 },
                    Probe::Difference { host, train2 } => Sight {
                        host: b,
                        host_factor: host,
                        train2: Some(view.kept(Kept::Train2, chunk, kind)),
                        train2_factor: train2,
                    },
                };
                let out = params.map_or(std::ptr::null_mut(), |params| params.at(chunk.tensor));
                let out = output(out, chunk, kind);
                let direction = neighbour.map_or(NOWHERE, |neighbour| neighbour.directions[chunk.tensor]);
                let radius = neighbour.map_or(0.0, |neighbour| neighbour.radius);
                by_dtype!(kind, T => by_move!(how, MODE => {
                    let origin = view.origin::<T>(chunk, kind, how);
                    let visit = Visit { way: view.way(chunk, kind, &direction), radius, out };
                    // SAFETY: our buffers and the host's have the tensor's size and the dtypes of its kind; what is
                    // not there is not read.
                    unsafe { drive(chunk, ProbeKernel::<T, MODE, LOOK, VISIT> { origin, sight, visit }) }
                }))
            },
        );
    }

    fn projections(&self, out: &mut [Projection]) {
        for (tensor, out) in out.iter_mut().enumerate() {
            let [ratio, param] = self.chunks.total(tensor);
            *out = Projection { ratio, param };
        }
    }

    fn made(&self, out: &mut [f64]) {
        for (tensor, out) in out.iter_mut().enumerate() {
            let [_, _, made] = self.chunks.total(tensor);
            *out = made;
        }
    }

    /// The first sum of every tensor.
    fn totals(&self, out: &mut [f64]) {
        for (tensor, out) in out.iter_mut().enumerate() {
            [*out] = self.chunks.total(tensor);
        }
    }
}
