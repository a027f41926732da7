//! The meta-update's passes: copies of θ and gradients, θ′ and its neighbours, products with what θ′ is made of.

use std::ffi::c_void;
use std::marker::PhantomData;

use super::chunks::Chunk;
use super::kernels::adamw::Scalars;
use super::kernels::load_store::{Read, Write};
use super::kernels::meta::{
    DRIFT, Difference, KeptProbeKernel, MovedKernel, Origin, ProbeKernel, STAY, STEP, StrideKernel, Way,
};
use super::kernels::number::{Float, Number};
use super::step_passes::{gradient, sums_with};
use super::storage::Storage;
use super::{Cpu, Kind, Shared, State, by_dtype, drive, from};
use crate::backend::{
    Alignment, Cotangent, Direction, GradientSlot, MetaPasses, PerturbedPoint, Projection, TrialStep,
};
use crate::error::Result;
use crate::model::coefficients::Coefficients;
use crate::model::dtype::DType;
use crate::model::groups::Tensor;
use crate::model::host_buffers::{CheckedGrads, CheckedParams};
use crate::model::stats::GradientSums;

/// What a meta-update holds beside what is always kept: θ, and two vectors with the gradients' dtypes.
///
/// These are g and g′. But where a gradient has the type that is computed in, what is made of them takes their places as
/// soon as it can: r that of g′ from θ′ on, the stride along w that of g once w is known. Nothing is then computed twice.
/// Not so for a forward difference, which is taken from g′.
#[derive(Debug)]
pub struct MetaStorage {
    saved: Storage,
    kept: [Option<Storage>; 2],
    forward: bool,
}

impl MetaStorage {
    /// One optimizer's options decide what is kept, so that every meta-update of it can use the same memory.
    fn new(tensors: &[Tensor], kept: &[GradientSlot], forward: bool) -> Result<Self> {
        let mut storage =
            Self { saved: Storage::zeros(tensors.iter().map(Tensor::bytes))?, kept: [None, None], forward };
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
    fn kept(&self, slot: GradientSlot, tensor: usize) -> *mut c_void {
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
    fn kept(&self, slot: GradientSlot, chunk: Chunk, kind: Kind) -> Read {
        Read { at: from(self.meta.kept(slot, chunk.tensor), kind.grad, chunk), dtype: kind.grad }
    }

    /// Whether r and the stride are kept.
    fn keeps_ratio(&self, kind: Kind) -> bool {
        !self.meta.forward && kind.grad == kind.dtype.compute() && self.meta.kept.iter().all(Option::is_some)
    }

    fn origin<T: Float>(&self, chunk: Chunk, kind: Kind, trial: &TrialStep) -> Origin<T> {
        Origin {
            p: self.state.weights(kind, chunk, self.meta.saved.pointer(chunk.tensor)),
            g: self.kept(GradientSlot::Train1, chunk, kind),
            moments: self.state.moments(kind, chunk),
            s: scalars(trial, kind),
        }
    }

    fn way<T>(&self, chunk: Chunk, kind: Kind, g2: Option<Read>, direction: &Direction) -> Way<T> {
        Way {
            g: self.kept(GradientSlot::Train1, chunk, kind),
            g2,
            train1: direction.train1,
            train2: direction.train2,
            compute: PhantomData,
        }
    }
}

/// A chunk of the host's gradient, if it has one.
fn present(host: *const c_void, chunk: Chunk, kind: Kind) -> Option<Read> {
    (!host.is_null()).then(|| gradient(host, chunk, kind))
}

/// A tensor that stays has none: its kernels do not read them.
fn scalars<T: Float>(trial: &TrialStep, kind: Kind) -> Scalars<T> {
    const UNUSED: Coefficients =
        Coefficients { gradient: 0.0, beta1: 0.0, beta2: 0.0, eps: 1.0, step_size: 0.0, decay: 0.0, key: 0 };
    match trial {
        TrialStep::Gradient(c) | TrialStep::Moments(c) => Scalars::new(c, kind.is_short()),
        TrialStep::None => Scalars::new(&UNUSED, kind.is_short()),
    }
}

/// Chooses the kernel's MODE by trial the tensor trials.
macro_rules! by_move {
    ($trial:expr, $MODE:ident => $call:expr) => {
        match $trial {
            TrialStep::None => {
                const $MODE: u8 = STAY;
                $call
            }
            TrialStep::Gradient(_) => {
                const $MODE: u8 = STEP;
                $call
            }
            TrialStep::Moments(_) => {
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
    fn begin_meta(
        &mut self,
        tensors: &[Tensor],
        params: CheckedParams,
        kept: &[GradientSlot],
        forward: bool,
    ) -> Result<()> {
        let storage = match self.lent.take() {
            Some(lent) => MetaStorage { forward, ..lent },
            None => MetaStorage::new(tensors, kept, forward)?,
        };
        let p = Shared(params.pointers());
        let saved = Shared(storage.saved.pointers());
        self.copy(p, saved);
        self.meta = Some(storage);
        Ok(())
    }

    fn restore_params(&mut self, params: CheckedParams) {
        let p = Shared(params.pointers());
        let saved = Shared(self.view().meta.saved.pointers());
        self.copy(saved, p);
    }

    fn end_meta(&mut self) {
        self.lent = self.meta.take().and_then(|mut meta| meta.lend().then_some(meta));
    }

    fn store_train1_gradient(&mut self, grads: CheckedGrads, out: &mut [GradientSums]) {
        let (view, host, zeros) = (self.view(), Shared(grads.pointers()), self.zeros);
        self.pass(
            |_| true,
            |chunk, kind| {
                let Some(g) = view.keep(host.at(chunk.tensor), GradientSlot::Train1, chunk, kind) else {
                    return [0.0; 3];
                };
                sums_with(g, view.state.moments(kind, chunk).first(), chunk, kind, zeros)
            },
        );
        for tensor in self.tensors().filter(|&t| grads.has(t)) {
            let [square, with_momentum, zeros] = self.chunks.total(tensor);
            out[tensor] = GradientSums { square, with_momentum, zeros };
        }
    }

    fn write_trial_params(&mut self, params: CheckedParams, trials: &[TrialStep], out: &mut [f64]) {
        let (view, p) = (self.view(), Shared(params.pointers()));
        self.pass(
            |_| true,
            |chunk, kind| {
                let trial = &trials[chunk.tensor];
                let ratio = view.keeps_ratio(kind).then(|| view.kept(GradientSlot::Train2, chunk, kind).to_write());
                by_dtype!(kind, T => by_move!(trial, MODE => {
                    let origin = view.origin::<T>(chunk, kind, trial);
                    let out = output(p.at(chunk.tensor), chunk, kind);
                    // SAFETY: our buffers and the host's have the tensor's size and the dtypes of its kind.
                    unsafe { drive(chunk, MovedKernel::<T, MODE> { origin, ratio, out }) }
                }))
            },
        );
        self.totals(out);
    }

    fn gradient_alignment(&mut self, grads: CheckedGrads, out: &mut [Alignment]) {
        let (view, host) = (self.view(), Shared(grads.pointers()));
        self.pass(
            |_| true,
            |chunk, kind| {
                let host = host.at(chunk.tensor);
                let g2 = if view.keeps_ratio(kind) {
                    present(host, chunk, kind)
                } else {
                    view.keep(host, GradientSlot::Train2, chunk, kind)
                };
                g2.map_or([0.0; 3], |g2| {
                    sums_with(g2, view.kept(GradientSlot::Train1, chunk, kind), chunk, kind, false)
                })
            },
        );
        for (tensor, out) in out.iter_mut().enumerate() {
            let [square, product] = self.chunks.total(tensor);
            *out = Alignment { square, product };
        }
    }

    fn direction_norm_squared(&mut self, grads: CheckedGrads, directions: &[Direction], out: &mut [f64]) {
        let (view, host) = (self.view(), Shared(grads.pointers()));
        self.pass(
            |_| true,
            |chunk, kind| {
                let (g2, direction) = (present(host.at(chunk.tensor), chunk, kind), &directions[chunk.tensor]);
                // SAFETY: our buffers and the host's have the tensor's size and the dtypes of its kind.
                by_dtype!(kind, T => unsafe { drive::<_, 1>(chunk, view.way::<T>(chunk, kind, g2, direction)) })
            },
        );
        self.totals(out);
    }

    fn store_direction(&mut self, grads: CheckedGrads, directions: &[Direction], radius: f64) {
        let (view, host) = (self.view(), Shared(grads.pointers()));
        self.pass(
            |tensor| view.keeps_ratio(self.kinds[tensor]),
            |chunk, kind| {
                let (g2, direction) = (present(host.at(chunk.tensor), chunk, kind), &directions[chunk.tensor]);
                by_dtype!(kind, T => {
                    let way = view.way::<T>(chunk, kind, g2, direction);
                    // SAFETY: as above; g has type T.
                    unsafe { drive(chunk, StrideKernel { way, radius }) }
                })
            },
        );
    }

    fn write_perturbed(
        &mut self,
        params: CheckedParams,
        trials: &[TrialStep],
        neighbour: PerturbedPoint,
        made: &mut [f64],
    ) {
        self.probe::<false, true>(None, Some((params, neighbour)), trials);
        self.made(neighbour, made);
    }

    fn project(&mut self, grads: CheckedGrads, x: Cotangent, trials: &[TrialStep], out: &mut [Projection]) {
        self.probe::<true, false>(Some((grads, x)), None, trials);
        self.projections(x, out);
    }

    fn project_and_write_perturbed(
        &mut self,
        look: (CheckedGrads, Cotangent),
        params: CheckedParams,
        trials: &[TrialStep],
        neighbour: PerturbedPoint,
        (projections, made): (&mut [Projection], &mut [f64]),
    ) {
        self.probe::<true, true>(Some(look), Some((params, neighbour)), trials);
        self.projections(look.1, projections);
        self.made(neighbour, made);
    }
}

impl View<'_> {
    /// Keeps a chunk of the host's gradient, 0 where it has none, and answers it.
    fn keep(&self, host: *const c_void, slot: GradientSlot, chunk: Chunk, kind: Kind) -> Option<Read> {
        let kept = self.kept(slot, chunk, kind).to_write();
        let g = present(host, chunk, kind);
        // All at once: the system's copy then does not read the lines that it overwrites.
        // SAFETY: both have the tensor's size and the same dtype; a chunk belongs to one thread.
        unsafe {
            match g {
                Some(g) => g.copy_to(kept, 0, chunk.len),
                None => kept.at.cast::<u8>().write_bytes(0, chunk.len * kind.grad.size()),
            }
        }
        g
    }
}

impl Cpu {
    /// The pass behind the products and the neighbours.
    fn probe<const LOOK: bool, const VISIT: bool>(
        &self,
        look: Option<(CheckedGrads, Cotangent)>,
        visit: Option<(CheckedParams, PerturbedPoint)>,
        trials: &[TrialStep],
    ) {
        let view = self.view();
        let host = look.map(|(grads, _)| Shared(grads.pointers()));
        let x = look.map(|(_, x)| x);
        let params = visit.map(|(params, _)| Shared(params.pointers()));
        let (directions, radius) = visit.map_or((&[][..], 0.0), |(_, to)| (to.directions, to.radius));
        self.pass(
            |_| true,
            |chunk, kind| {
                let trial = &trials[chunk.tensor];
                let host = host.and_then(|host| present(host.at(chunk.tensor), chunk, kind));
                let out = params.map_or(std::ptr::null_mut(), |params| params.at(chunk.tensor));
                let out = output(out, chunk, kind);
                let kept = |slot| view.kept(slot, chunk, kind);
                // SAFETY, everywhere: our buffers and the host's have the tensor's size and the dtypes of its kind; what
                // is not there is not read.
                by_dtype!(kind, T => {
                    if !view.keeps_ratio(kind) {
                        let difference = match x {
                            Some(Cotangent::GradientDifference { host, train2: factor }) => {
                                Some(Difference { host, train2: kept(GradientSlot::Train2), factor })
                            }
                            _ => None,
                        };
                        let direction = directions.get(chunk.tensor).copied().unwrap_or_default();
                        let way = view.way(chunk, kind, Some(kept(GradientSlot::Train2)), &direction);
                        return by_move!(trial, MODE => {
                            let origin = view.origin::<T>(chunk, kind, trial);
                            // SAFETY: as above.
                            unsafe { drive(chunk, ProbeKernel::<T, MODE, LOOK, VISIT> { origin, host, difference, way, radius, out }) }
                        });
                    }
                    let Origin { p, s, .. } = view.origin::<T>(chunk, kind, trial);
                    let (ratio, stride) = (kept(GradientSlot::Train2), kept(GradientSlot::Train1));
                    let sign = <T as Number>::round(radius.signum());
                    // SAFETY: as above; r and the stride have type T.
                    unsafe {
                        if *trial == TrialStep::None {
                            drive(chunk, KeptProbeKernel::<T, false, LOOK, VISIT> { p, s, ratio, host, stride, sign, out })
                        } else {
                            drive(chunk, KeptProbeKernel::<T, true, LOOK, VISIT> { p, s, ratio, host, stride, sign, out })
                        }
                    }
                })
            },
        );
    }

    fn projections(&self, x: Cotangent, out: &mut [Projection]) {
        let factor = match x {
            Cotangent::Gradient(factor) => factor,
            Cotangent::GradientDifference { .. } => 1.0, // in x
        };
        for (tensor, out) in out.iter_mut().enumerate() {
            let [ratio, param] = self.chunks.total(tensor);
            *out = Projection { ratio: ratio * factor, param: param * factor };
        }
    }

    /// ⟨δ, w⟩ from ⟨δ, stride⟩.
    fn made(&self, neighbour: PerturbedPoint, out: &mut [f64]) {
        for (tensor, out) in out.iter_mut().enumerate() {
            let [_, _, with_stride] = self.chunks.total(tensor);
            *out = with_stride / neighbour.radius;
        }
    }

    /// The first sum of every tensor.
    fn totals(&self, out: &mut [f64]) {
        for (tensor, out) in out.iter_mut().enumerate() {
            [*out] = self.chunks.total(tensor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::groups::TensorSpec;
    use crate::model::host_buffers::{Checker, Grads, Params, Slice, SliceMut};
    use crate::model::name::Name;
    use crate::model::options::{LayerKind, ParamGroup};

    #[test]
    fn a_perturbed_point_is_one_rounding_away_and_tells_the_step_that_rounding_made() {
        let vector =
            |seed: usize| -> Vec<f32> { (0..700).map(|i| ((i + seed) * 7919 % 1000) as f32 / 500.0 - 1.0).collect() };
        let (g, g2) = (vector(3), vector(400));
        let theta: Vec<f32> = vector(77).iter().map(|x| 1.5 + 0.4 * x).collect();
        let direction = Direction { train2: 0.3, train1: -0.7 };
        // A step of about half a unit in the last place of θ.
        let radius = 1e-7;
        let w: Vec<f64> = g.iter().zip(&g2).map(|(g, g2)| 0.3 * f64::from(*g2) - 0.7 * f64::from(*g)).collect();
        for forward in [false, true] {
            let spec = TensorSpec {
                name: Name::new("name", b"w").expect("a name"),
                shape: vec![700],
                dtype: DType::F32,
                grad_dtype: DType::F32,
                layer_kind: LayerKind::Unknown,
                modulation_group: None,
            };
            let tensors = [Tensor::new(spec, 0, &ParamGroup::default()).expect("a tensor")];
            let mut cpu = Cpu::new(&tensors, 1, false).expect("memory");
            let (mut host, slots) = (theta.clone(), [GradientSlot::Train1, GradientSlot::Train2]);
            let (all, mut checker) = (Params::new([SliceMut::F32(&mut host)]), Checker::new(1));
            let grads = [&g, &g2].map(|g| Grads::new([Some(Slice::F32(g))]));
            let [(params, g), (_, g2)] = grads.each_ref().map(|grads| {
                let buffers = checker.check(&tensors, &all, Some(grads)).expect("they fit");
                (buffers.params, buffers.grads.expect("some were passed"))
            });
            cpu.begin_meta(&tensors, params, &slots, forward).expect("memory");
            cpu.store_train1_gradient(g, &mut [GradientSums::default()]);
            cpu.write_trial_params(params, &[TrialStep::None], &mut [0.0]);
            cpu.gradient_alignment(g2, &mut [Alignment::default()]);
            cpu.store_direction(g2, &[direction], radius);
            for sign in [1.0, -1.0] {
                let point = PerturbedPoint { directions: &[direction], radius: sign * radius };
                let mut step_products = [0.0];
                cpu.write_perturbed(params, &[TrialStep::None], point, &mut step_products);
                let (mut exact, mut asked) = (0.0, 0.0);
                // SAFETY: no pass is under way, and the buffer lives.
                #[allow(unsafe_code, reason = "the pass wrote behind the borrow")]
                let stored = unsafe { std::slice::from_raw_parts(params.pointers()[0].cast::<f32>(), 700) };
                for ((stored, theta), w) in stored.iter().zip(&theta).zip(&w) {
                    assert_eq!(*stored, theta + (sign * radius * w) as f32);
                    exact += (f64::from(*stored) - f64::from(*theta)) * w;
                    asked += sign * radius * w * w;
                }
                assert!((step_products[0] / exact - 1.0).abs() < 1e-6, "{} instead of {exact}", step_products[0]);
                assert!((exact / asked - 1.0).abs() > 0.01, "rounding does not show: {exact} and {asked}");
            }
        }
    }
}
