//! The meta-update's passes: copies of θ and gradients, θ′ and perturbed points, products with the derivatives of θ′.

use std::ffi::c_void;
use std::marker::PhantomData;

use super::chunks::Chunk;
use super::kernels::adamw::Scalars;
use super::kernels::elements::{Elements, ElementsMut};
use super::kernels::meta::{
    ChunkCotangent, DirectionNormKernel, DirectionOf, Origin, PerturbationSource, Point, ProbeKernel,
    StorePerturbationKernel, Trial, TrialKernel,
};
use super::kernels::number::Float;
use super::kernels::tile::run;
use super::step_passes::{WantedSums, gradient, gradient_sums};
use super::storage::Storage;
use super::{Cpu, State, SyncPointers, TensorTypes, chunk_mut, chunk_start, with_compute_type};
use crate::backend::{
    Alignment, Cotangent, Direction, GradientSlot, MetaPasses, PerturbedPoint, Projection, TrialStep,
};
use crate::error::Result;
use crate::model::coefficients::Coefficients;
use crate::model::dtype::DType;
use crate::model::groups::Tensor;
use crate::model::host_buffers::{CheckedGrads, CheckedParams};
use crate::model::stats::GradientSums;

/// A meta-update's memory: a copy of θ, and two vectors with the gradients' dtypes.
///
/// These are g and g′. But where a gradient has the type that is computed in, they are replaced as soon as possible: g′ by r,
/// which is known with θ′, and g by the perturbation r·w, once w is known. So nothing is computed twice. A forward
/// difference needs g′ itself.
#[derive(Debug)]
pub struct MetaStorage {
    params: Storage,
    gradients: [Option<Storage>; 2],
    forward: bool,
}

impl MetaStorage {
    /// `slots` and `forward` follow from an optimizer's options, so all of its meta-updates can use the same memory, and swaps
    /// of its averages too.
    fn new(tensors: &[Tensor], slots: &[GradientSlot], forward: bool) -> Result<Self> {
        let params = Storage::zeros(tensors.iter().map(Tensor::bytes))?;
        let mut gradients = [None, None];
        for slot in slots {
            gradients[*slot as usize] = Some(Storage::zeros(tensors.iter().map(Tensor::gradient_bytes))?);
        }
        Ok(Self { params, gradients, forward })
    }

    /// [`Storage::advise_free`] of all of it; false where it must be given back instead.
    fn advise_free(&mut self) -> bool {
        self.params.advise_free() && self.gradients.iter_mut().flatten().all(Storage::advise_free)
    }
}

/// What the kernels read and write beside the host's buffers, for a pass's threads.
#[derive(Clone, Copy)]
struct View<'a> {
    state: State<'a>,
    meta: &'a MetaStorage,
}

// SAFETY: as for `SyncPointers`.
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// A chunk of a stored gradient, or of what replaced it; nothing if this meta-update stores none.
    ///
    /// # Safety
    /// For `'a` nobody else touches it.
    unsafe fn stored_mut(&self, slot: GradientSlot, chunk: Chunk, types: TensorTypes) -> ElementsMut<'a> {
        match &self.meta.gradients[slot as usize] {
            // SAFETY: `MetaStorage::new` took storage of the gradients' sizes and dtypes; the caller promises the rest.
            Some(storage) => unsafe { chunk_mut(storage.pointer(chunk.tensor), types.grad, chunk) },
            None => ElementsMut::F32(&mut []),
        }
    }

    /// The same, to be read.
    ///
    /// # Safety
    /// For `'a` nobody writes it.
    unsafe fn stored(&self, slot: GradientSlot, chunk: Chunk, types: TensorTypes) -> Elements<'a> {
        match &self.meta.gradients[slot as usize] {
            // SAFETY: as in `stored_mut`.
            Some(storage) => unsafe {
                let first = chunk_start(storage.pointer(chunk.tensor), types.grad, chunk);
                Elements::new(first, types.grad, chunk.len)
            },
            None => Elements::NONE,
        }
    }

    /// Whether r and the perturbation replace the stored gradients.
    fn replaces_gradients(&self, types: TensorTypes) -> bool {
        !self.meta.forward && types.grad == types.param.compute() && self.meta.gradients.iter().all(Option::is_some)
    }

    /// # Safety
    /// For `'a` nobody else touches the chunk.
    unsafe fn origin<T: Float>(&self, chunk: Chunk, types: TensorTypes, step: &TrialStep) -> Origin<'a, T> {
        // SAFETY: `MetaStorage::new` took storage of the parameters' sizes and dtypes; the caller promises the rest.
        unsafe {
            Origin {
                param: self.state.param(types, chunk, self.meta.params.pointer(chunk.tensor)),
                g: self.stored(GradientSlot::Train1, chunk, types),
                moments: self.state.moments(types, chunk),
                s: scalars(step, types),
                trial: match step {
                    TrialStep::None => Trial::None,
                    TrialStep::Gradient(_) => Trial::Gradient,
                    TrialStep::Moments(_) => Trial::Moments,
                },
            }
        }
    }

    /// The point, r being stored.
    ///
    /// # Safety
    /// As for [`Self::origin`]; r, that is [`Self::replaces_gradients`], was stored.
    unsafe fn stored_point<T: Float>(&self, chunk: Chunk, types: TensorTypes, step: &TrialStep) -> Point<'a, T> {
        // SAFETY: as in `origin`.
        let (param, ratio) = unsafe {
            let param = self.state.param(types, chunk, self.meta.params.pointer(chunk.tensor));
            (param, self.stored(GradientSlot::Train2, chunk, types))
        };
        let ratio = (*step != TrialStep::None).then(|| T::in_place(ratio).expect("r has the type that is computed in"));
        Point::Stored { param, s: scalars(step, types), ratio }
    }

    /// Stores a chunk of the host's gradient, 0 where it has none, and returns it.
    ///
    /// # Safety
    /// For `'a` nobody else touches the stored gradient's chunk.
    unsafe fn store(
        &self,
        host: Option<Elements<'a>>,
        slot: GradientSlot,
        chunk: Chunk,
        types: TensorTypes,
    ) -> Option<Elements<'a>> {
        // The whole chunk at once: the system's copy then does not read the lines that it overwrites.
        // SAFETY: that is what the caller promises.
        match (unsafe { self.stored_mut(slot, chunk, types) }, host) {
            (ElementsMut::F32(to), Some(Elements::F32(g))) => to.copy_from_slice(g),
            (ElementsMut::F64(to), Some(Elements::F64(g))) => to.copy_from_slice(g),
            (ElementsMut::BF16(to), Some(Elements::BF16(g))) | (ElementsMut::F16(to), Some(Elements::F16(g))) => {
                to.copy_from_slice(g);
            }
            (ElementsMut::F32(to), _) => to.fill(0.0),
            (ElementsMut::F64(to), _) => to.fill(0.0),
            (ElementsMut::BF16(to) | ElementsMut::F16(to), _) => to.fill(0),
        }
        host
    }
}

/// A chunk of the host's gradient, if it has one.
///
/// # Safety
/// It has the tensor's size and dtype and is not written for `'a`.
unsafe fn present<'a>(host: *const c_void, chunk: Chunk, types: TensorTypes) -> Option<Elements<'a>> {
    // SAFETY: that is what the caller promises.
    (!host.is_null()).then(|| unsafe { gradient(host, chunk, types) })
}

/// Of a tensor with θ′ = θ they are not used.
fn scalars<T: Float>(step: &TrialStep, types: TensorTypes) -> Scalars<T> {
    const UNUSED: Coefficients =
        Coefficients { gradient: 0.0, beta1: 0.0, beta2: 0.0, eps: 1.0, step_size: 0.0, decay: 0.0, key: 0 };
    match step {
        TrialStep::Gradient(c) | TrialStep::Moments(c) => Scalars::new(c, types.has_low_precision()),
        TrialStep::None => Scalars::new(&UNUSED, types.has_low_precision()),
    }
}

impl Cpu {
    fn view(&self) -> View<'_> {
        View { state: self.state(), meta: self.meta.as_ref().expect("the optimizer calls begin_meta first") }
    }

    /// Copies parameters chunk by chunk.
    fn copy_params(&self, from: SyncPointers<*mut c_void>, to: SyncPointers<*mut c_void>) {
        self.pass(
            |_| true,
            |chunk, types| {
                let bytes = chunk.len * types.param.size();
                let start = |base| chunk_start(base, types.param, chunk).cast::<u8>();
                // SAFETY: one is the host's, which the checker found to have the tensor's size and dtype, the other is our
                // copy with the same; they do not overlap, and a chunk belongs to one thread.
                unsafe {
                    let from = std::slice::from_raw_parts(start(from.of(chunk.tensor)), bytes);
                    std::slice::from_raw_parts_mut(start(to.of(chunk.tensor)), bytes).copy_from_slice(from);
                }
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
        slots: &[GradientSlot],
        forward: bool,
    ) -> Result<()> {
        // That of a swap of the averages has fewer slots than a meta-update needs.
        let has_slots = |storage: &MetaStorage| slots.iter().all(|slot| storage.gradients[*slot as usize].is_some());
        let storage = match self.free_meta.take().filter(has_slots) {
            Some(storage) => MetaStorage { forward, ..storage },
            None => MetaStorage::new(tensors, slots, forward)?,
        };
        self.copy_params(SyncPointers(params.pointers()), SyncPointers(storage.params.pointers()));
        self.meta = Some(storage);
        Ok(())
    }

    fn restore_params(&mut self, params: CheckedParams) {
        let saved = SyncPointers(self.view().meta.params.pointers());
        self.copy_params(saved, SyncPointers(params.pointers()));
    }

    fn end_meta(&mut self) {
        self.free_meta = self.meta.take().and_then(|mut meta| meta.advise_free().then_some(meta));
    }

    fn store_train1_gradient(&mut self, grads: CheckedGrads, out: &mut [GradientSums]) {
        let (view, host, zeros) = (self.view(), SyncPointers(grads.pointers()), self.zeros);
        self.pass(
            |_| true,
            |chunk, types| {
                // SAFETY: the checker found the gradients to have the tensors' sizes and dtypes; a chunk belongs to one
                // thread.
                let (g, moments) = unsafe {
                    let g = present(host.of(chunk.tensor), chunk, types);
                    (view.store(g, GradientSlot::Train1, chunk, types), view.state.moments(types, chunk))
                };
                let wanted = WantedSums { first_moment: false, zeros };
                g.map_or([0.0; 4], |g| gradient_sums(g, Some(moments.m.as_elements()), chunk, types, wanted))
            },
        );
        self.reduce_pass();
        for tensor in self.tensors().filter(|&t| self.shards.is_some() || grads.has(t)) {
            let [square, with_momentum, zeros] = self.total(tensor);
            out[tensor] = GradientSums { square, with_momentum, zeros };
        }
    }

    fn write_trial_params(&mut self, params: CheckedParams, trials: &[TrialStep], out: &mut [f64]) {
        let (view, host) = (self.view(), SyncPointers(params.pointers()));
        self.pass(
            |_| true,
            |chunk, types| {
                let step = &trials[chunk.tensor];
                // SAFETY: the checker found the parameters to have the tensors' sizes and dtypes; a chunk belongs to one
                // thread.
                let (mut ratio, out) = unsafe {
                    let ratio = view.replaces_gradients(types).then(|| view.stored_mut(GradientSlot::Train2, chunk, types));
                    (ratio, chunk_mut(host.of(chunk.tensor), types.param, chunk))
                };
                with_compute_type!(types, T => {
                    // SAFETY: as above.
                    let origin = unsafe { view.origin::<T>(chunk, types, step) };
                    let ratio = ratio.as_mut().map(|r| T::in_place_mut(r).expect("it has the type that is computed in"));
                    run(TrialKernel { origin, ratio, out }, chunk.len)
                })
            },
        );
        self.reduce_pass();
        self.first_totals(out);
    }

    fn gradient_alignment(&mut self, grads: CheckedGrads, out: &mut [Alignment]) {
        let (view, host) = (self.view(), SyncPointers(grads.pointers()));
        self.pass(
            |_| true,
            |chunk, types| {
                // SAFETY: as in `store_train1_gradient`.
                let (g, g2) = unsafe {
                    let mut g2 = present(host.of(chunk.tensor), chunk, types);
                    if !view.replaces_gradients(types) {
                        g2 = view.store(g2, GradientSlot::Train2, chunk, types);
                    }
                    (view.stored(GradientSlot::Train1, chunk, types), g2)
                };
                let wanted = WantedSums { first_moment: false, zeros: false };
                g2.map_or([0.0; 4], |g2| gradient_sums(g2, Some(g), chunk, types, wanted))
            },
        );
        self.reduce_pass();
        for (tensor, out) in out.iter_mut().enumerate() {
            let [square, product] = self.total(tensor);
            *out = Alignment { square, product };
        }
    }

    fn direction_norm_squared(&mut self, grads: CheckedGrads, directions: &[Direction], out: &mut [f64]) {
        let (view, host) = (self.view(), SyncPointers(grads.pointers()));
        self.pass(
            |_| true,
            |chunk, types| {
                // SAFETY: as in `store_train1_gradient`.
                let (g, g2) = unsafe {
                    (view.stored(GradientSlot::Train1, chunk, types), present(host.of(chunk.tensor), chunk, types))
                };
                let direction = DirectionOf { g, g2, factors: directions[chunk.tensor] };
                with_compute_type!(types, T => {
                    run(DirectionNormKernel::<T> { direction, compute: PhantomData }, chunk.len)
                })
            },
        );
        self.reduce_pass();
        self.first_totals(out);
    }

    fn store_direction(&mut self, grads: CheckedGrads, directions: &[Direction], radius: f64) {
        let (view, host) = (self.view(), SyncPointers(grads.pointers()));
        self.pass(
            |tensor| view.replaces_gradients(self.types[tensor]),
            |chunk, types| {
                let factors = directions[chunk.tensor];
                // SAFETY: as in `store_train1_gradient`.
                let (mut g, g2) = unsafe {
                    (view.stored_mut(GradientSlot::Train1, chunk, types), present(host.of(chunk.tensor), chunk, types))
                };
                with_compute_type!(types, T => {
                    let g = T::in_place_mut(&mut g).expect("such gradients have the type that is computed in");
                    run(StorePerturbationKernel::<T> { g, g2, factors, radius }, chunk.len)
                })
            },
        );
    }

    fn write_perturbed(
        &mut self,
        params: CheckedParams,
        trials: &[TrialStep],
        point: PerturbedPoint,
        step_products: &mut [f64],
    ) {
        self.probe(None, Some((params, point)), trials);
        self.step_products(point, step_products);
    }

    fn project(&mut self, grads: CheckedGrads, x: Cotangent, trials: &[TrialStep], out: &mut [Projection]) {
        self.probe(Some((grads, x)), None, trials);
        self.projections(x, out);
    }

    fn project_and_write_perturbed(
        &mut self,
        (grads, x): (CheckedGrads, Cotangent),
        params: CheckedParams,
        trials: &[TrialStep],
        point: PerturbedPoint,
        (projections, step_products): (&mut [Projection], &mut [f64]),
    ) {
        self.probe(Some((grads, x)), Some((params, point)), trials);
        self.projections(x, projections);
        self.step_products(point, step_products);
    }
}

/// What a probe reads and writes, for a pass's threads.
#[derive(Clone, Copy)]
struct Probe<'a> {
    view: View<'a>,
    cotangent: Option<(SyncPointers<'a, *const c_void>, Cotangent)>,
    perturb: Option<(SyncPointers<'a, *mut c_void>, PerturbedPoint<'a>)>,
}

impl<'a> Probe<'a> {
    /// x of a chunk.
    ///
    /// # Safety
    /// The checker found the host's gradients to have the tensors' sizes and dtypes; for `'a` nobody writes the chunk.
    unsafe fn cotangent(&self, chunk: Chunk, types: TensorTypes) -> Option<ChunkCotangent<'a>> {
        let (host, x) = self.cotangent?;
        // SAFETY: that is what the caller promises.
        let host = unsafe { present(host.of(chunk.tensor), chunk, types) };
        Some(match x {
            Cotangent::Gradient(_) => ChunkCotangent::Gradient(host),
            Cotangent::GradientDifference { host: factor, train2: train2_factor } => {
                // SAFETY: that is what the caller promises.
                let train2 = unsafe { self.view.stored(GradientSlot::Train2, chunk, types) };
                ChunkCotangent::Difference { host, factor, train2, train2_factor }
            }
        })
    }

    /// Where θ′ and the perturbation of a chunk come from, and the host's parameter.
    ///
    /// # Safety
    /// The checker found the host's parameters to have the tensors' sizes and dtypes; for `'a` nobody else touches the
    /// chunk.
    unsafe fn kernel<T: Float>(&self, chunk: Chunk, types: TensorTypes, step: &TrialStep) -> ProbeKernel<'a, T> {
        let (view, replaced) = (self.view, self.view.replaces_gradients(types));
        // SAFETY: that is what the caller promises; where gradients are replaced, the passes before stored r and the
        // perturbation.
        unsafe {
            let point = if replaced {
                view.stored_point(chunk, types, step)
            } else {
                Point::Computed(view.origin(chunk, types, step))
            };
            let perturb = self.perturb.map(|(params, PerturbedPoint { directions, radius })| {
                let g = view.stored(GradientSlot::Train1, chunk, types);
                let source = if replaced {
                    let perturbation = T::in_place(g).expect("it has the type that is computed in");
                    PerturbationSource::Stored { perturbation, sign: T::round(radius.signum()) }
                } else {
                    let g2 = Some(view.stored(GradientSlot::Train2, chunk, types));
                    let direction = DirectionOf { g, g2, factors: directions[chunk.tensor] };
                    PerturbationSource::Computed { direction, radius }
                };
                (source, chunk_mut(params.of(chunk.tensor), types.param, chunk))
            });
            ProbeKernel { point, cotangent: self.cotangent(chunk, types), perturb }
        }
    }
}

impl Cpu {
    /// The pass behind the products and the perturbed points.
    fn probe(
        &mut self,
        project: Option<(CheckedGrads, Cotangent)>,
        perturb: Option<(CheckedParams, PerturbedPoint)>,
        trials: &[TrialStep],
    ) {
        let probe = Probe {
            view: self.view(),
            cotangent: project.map(|(grads, x)| (SyncPointers(grads.pointers()), x)),
            perturb: perturb.map(|(params, point)| (SyncPointers(params.pointers()), point)),
        };
        self.pass(
            |_| true,
            |chunk, types| {
                let step = &trials[chunk.tensor];
                // SAFETY: `CheckedGrads` and `CheckedParams` are made by the checker; a chunk belongs to one thread.
                with_compute_type!(types, T => run(unsafe { probe.kernel::<T>(chunk, types, step) }, chunk.len))
            },
        );
        self.reduce_pass();
    }

    fn projections(&self, x: Cotangent, out: &mut [Projection]) {
        let factor = match x {
            Cotangent::Gradient(factor) => factor,
            Cotangent::GradientDifference { .. } => 1.0, // in x
        };
        for (tensor, out) in out.iter_mut().enumerate() {
            let [ratio, param] = self.total(tensor);
            *out = Projection { ratio: ratio * factor, param: param * factor };
        }
    }

    /// ⟨δ, w⟩ from ⟨δ, radius·w⟩.
    fn step_products(&self, point: PerturbedPoint, out: &mut [f64]) {
        for (tensor, out) in out.iter_mut().enumerate() {
            let [_, _, with_perturbation] = self.total(tensor);
            *out = with_perturbation / point.radius;
        }
    }

    /// The first sum of every tensor.
    fn first_totals(&self, out: &mut [f64]) {
        for (tensor, out) in out.iter_mut().enumerate() {
            [*out] = self.total(tensor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::groups::TensorSpec;
    use crate::model::host_buffers::{Checker, Grads, Params, Slice, SliceMut};
    use crate::model::options::{Options, ParamGroup};

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
            let spec = TensorSpec::new("w", &[700], DType::F32).expect("a name");
            let tensors = [Tensor::new(spec, 0, &ParamGroup::default()).expect("a tensor")];
            let mut cpu = Cpu::new(&tensors, &Options { threads: 1, ..Options::default() }, false).expect("memory");
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
