//! The meta-update's loops over a chunk: θ′, perturbed points, and products with the derivatives of θ′.
//!
//! θ′ is what would be stored: rounded to nearest in the parameter's dtype, also where a step would round stochastically;
//! where there are masters, it is the low-precision copy of the new master.
//!
//! The direction w is computed in float64. The perturbation r·w is rounded to the type that is computed in, since it is
//! added to θ′ there: for float32 an error of 6·10⁻⁸ of an element in a difference that is good to 10⁻³.

use std::ops::Range;

use super::adamw::Scalars;
use super::load_store::{Buffer, Elements, ElementsMut, Moments, Param};
use super::number::Float;
use super::sums_f64::{Sum, dot, dots, square};
use super::tile::{ChunkKernel, tile};
use crate::backend::Direction;
use crate::numeric::simd::{self, Kernel};

/// How θ′ is computed from θ: [`crate::backend::TrialStep`] without its coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// θ′ = θ.
    None,
    /// One step with g.
    Gradient,
    /// One step with the moments as they are.
    Moments,
}

/// What θ′ is computed from.
#[derive(Debug)]
pub struct Origin<'a, T> {
    /// θ as saved, and its masters.
    pub param: Param<'a>,
    /// g of B1; only read for [`Trial::Gradient`].
    pub g: Elements<'a>,
    /// Moments.
    pub moments: Moments<'a>,
    /// Scalars.
    pub s: Scalars<T>,
    /// How.
    pub trial: Trial,
}

/// For the parameter, g and the moments.
type OriginBuffers<T> = [Buffer<T>; 4];

#[inline(always)]
fn origin_buffers<T: Float>() -> OriginBuffers<T> {
    [Buffer::new(), Buffer::new(), Buffer::new(), Buffer::new()]
}

impl<T: Float> Origin<'_, T> {
    /// Returns θ, or its masters, of a tile, and writes the ratio r and θ′: the same bits in every pass. Where θ′ = θ there
    /// is no r.
    fn trial_point<'b>(
        &'b mut self,
        range: Range<usize>,
        [p, g, m, v]: &'b mut OriginBuffers<T>,
        ratio: &mut [T],
        trial_param: &mut [T],
    ) -> &'b [T] {
        if self.trial == Trial::None {
            let p = self.param.model.as_elements().load(range, p);
            trial_param.copy_from_slice(p);
            return p;
        }
        let g = (self.trial == Trial::Gradient).then(|| self.g.load(range.clone(), g));
        let [m, v] = self.moments.load(range.clone(), [m, v]);
        simd::run_up_to_avx2(Ratios { s: self.s, ratio, g, m, v });
        let round = self.param.rounding_to_model();
        let p = self.param.load(range, p);
        simd::run_up_to_avx2(TrialParams { s: self.s, trial_param, p, ratio });
        round.apply(trial_param);
        p
    }
}

/// r of one step with g, or with the moments as they are.
struct Ratios<'a, T> {
    s: Scalars<T>,
    ratio: &'a mut [T],
    g: Option<&'a [T]>,
    m: &'a [T],
    v: &'a [T],
}

impl<T: Float> Kernel for Ratios<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { s, ratio, g, m, v } = self;
        match g {
            // Float64 is always exact.
            Some(g) if s.exact || !T::HAS_HALF => ratios::<T, true>(s, ratio, g, m, v),
            Some(g) => ratios::<T, false>(s, ratio, g, m, v),
            None => {
                for ((ratio, m), v) in ratio.iter_mut().zip(m).zip(v) {
                    *ratio = s.ratio(*m, *v);
                }
            }
        }
    }
}

#[inline(always)]
fn ratios<T: Float, const EXACT: bool>(s: Scalars<T>, ratio: &mut [T], g: &[T], m: &[T], v: &[T]) {
    for (((ratio, g), m), v) in ratio.iter_mut().zip(g).zip(m).zip(v) {
        let (m, v) = s.moments::<EXACT>(*g, *m, *v);
        *ratio = s.ratio(m, v);
    }
}

/// θ′ before it is rounded.
struct TrialParams<'a, T> {
    s: Scalars<T>,
    trial_param: &'a mut [T],
    p: &'a [T],
    ratio: &'a [T],
}

impl<T: Float> Kernel for TrialParams<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { s, trial_param, p, ratio } = self;
        if s.exact || !T::HAS_HALF {
            params::<T, true>(s, trial_param, p, ratio);
        } else {
            params::<T, false>(s, trial_param, p, ratio);
        }
    }
}

#[inline(always)]
fn params<T: Float, const EXACT: bool>(s: Scalars<T>, trial_param: &mut [T], p: &[T], ratio: &[T]) {
    for ((trial_param, p), ratio) in trial_param.iter_mut().zip(p).zip(ratio) {
        *trial_param = s.param::<EXACT>(*p, *ratio);
    }
}

/// Adds Σ a².
struct Square<'a, T>(&'a [T], &'a mut Sum);

impl<T: Float> Kernel for Square<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        square(self.0, self.1);
    }
}

/// Writes θ′; Σ θ′².
#[derive(Debug)]
pub struct TrialKernel<'a, T> {
    /// What θ′ is computed from.
    pub origin: Origin<'a, T>,
    /// Where r is stored, if it is.
    pub ratio: Option<&'a mut [T]>,
    /// The host's parameter.
    pub out: ElementsMut<'a>,
}

impl<T: Float> ChunkKernel<1> for TrialKernel<'_, T> {
    type Buffers = (OriginBuffers<T>, [Buffer<T>; 2]);

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        (origin_buffers(), [Buffer::new(), Buffer::new()])
    }

    fn advance(&mut self, start: usize, left: usize, buffers: &mut Self::Buffers, sums: &mut [Sum; 1]) -> usize {
        let (range, (origin, [ratio, trial_param])) = (tile(start, left), buffers);
        let ratio = match &mut self.ratio {
            Some(stored) => &mut stored[range.clone()],
            None => ratio.first(range.len()),
        };
        let point = self.out.tile(range.clone(), trial_param);
        self.origin.trial_point(range.clone(), origin, ratio, point);
        simd::run_up_to_avx2(Square(point, &mut sums[0]));
        self.out.store(range.clone(), trial_param);
        range.len()
    }
}

/// The direction w of the Hessian product, from the stored g and, where there is one, g′.
#[derive(Clone, Copy, Debug)]
pub struct DirectionOf<'a> {
    /// g of B1.
    pub g: Elements<'a>,
    /// g′ of B2.
    pub g2: Option<Elements<'a>>,
    /// Their factors.
    pub factors: Direction,
}

/// A tile of [`DirectionOf`].
#[derive(Clone, Copy)]
struct DirectionTile<'a, T> {
    g: &'a [T],
    g2: Option<&'a [T]>,
    factors: Direction,
}

impl DirectionOf<'_> {
    fn load<'b, T: Float>(&'b self, range: Range<usize>, [g, g2]: &'b mut [Buffer<T>; 2]) -> DirectionTile<'b, T> {
        let (g, g2) = (self.g.load(range.clone(), g), self.g2.map(|all| all.load(range, g2)));
        DirectionTile { g, g2, factors: self.factors }
    }
}

impl<T: Float> DirectionTile<'_, T> {
    /// `f(w)` of each element, into `out`.
    #[inline(always)]
    fn map<U>(self, out: &mut [U], f: impl Fn(f64) -> U) {
        let Direction { train1, train2 } = self.factors;
        match self.g2 {
            Some(g2) => {
                for ((out, g), g2) in out.iter_mut().zip(self.g).zip(g2) {
                    *out = f(train2 * g2.widen() + train1 * g.widen());
                }
            }
            None => {
                for (out, g) in out.iter_mut().zip(self.g) {
                    *out = f(train1 * g.widen());
                }
            }
        }
    }
}

/// Adds Σ w².
struct DirectionSquare<'a, T> {
    direction: DirectionTile<'a, T>,
    w: &'a mut [f64],
    sum: &'a mut Sum,
}

impl<T: Float> Kernel for DirectionSquare<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.direction.map(self.w, |w| w);
        square(self.w, self.sum);
    }
}

/// The perturbation radius·w, rounded to the type that is computed in.
struct Perturbation<'a, T> {
    direction: DirectionTile<'a, T>,
    radius: f64,
    out: &'a mut [T],
}

impl<T: Float> Kernel for Perturbation<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.direction.map(self.out, |w| T::round(self.radius * w));
    }
}

/// Σ w².
#[derive(Debug)]
pub struct DirectionNormKernel<'a, T> {
    /// w.
    pub direction: DirectionOf<'a>,
    /// The type that is computed in.
    pub compute: std::marker::PhantomData<T>,
}

impl<T: Float> ChunkKernel<1> for DirectionNormKernel<'_, T> {
    type Buffers = ([Buffer<T>; 2], Buffer<f64>);

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        ([Buffer::new(), Buffer::new()], Buffer::new())
    }

    fn advance(&mut self, start: usize, left: usize, buffers: &mut Self::Buffers, sums: &mut [Sum; 1]) -> usize {
        let (range, (buffers, w)) = (tile(start, left), buffers);
        let (direction, w) = (self.direction.load(range.clone(), buffers), w.first(range.len()));
        simd::run_up_to_avx2(DirectionSquare { direction, w, sum: &mut sums[0] });
        range.len()
    }
}

/// Replaces g by the perturbation.
#[derive(Debug)]
pub struct StorePerturbationKernel<'a, T> {
    /// The stored g of B1.
    pub g: &'a mut [T],
    /// g′ of B2.
    pub g2: Option<Elements<'a>>,
    /// Their factors in w.
    pub factors: Direction,
    /// The perturbation is radius·w.
    pub radius: f64,
}

impl<T: Float> ChunkKernel<0> for StorePerturbationKernel<'_, T> {
    type Buffers = [Buffer<T>; 2];

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        [Buffer::new(), Buffer::new()]
    }

    fn advance(&mut self, start: usize, left: usize, [g2, out]: &mut Self::Buffers, _: &mut [Sum; 0]) -> usize {
        let range = tile(start, left);
        let (g, out) = (&mut self.g[range.clone()], out.first(range.len()));
        let g2 = self.g2.map(|all| all.load(range.clone(), g2));
        let direction = DirectionTile { g, g2, factors: self.factors };
        simd::run_up_to_avx2(Perturbation { direction, radius: self.radius, out });
        g.copy_from_slice(out);
        range.len()
    }
}

/// The cotangent x of a chunk: see [`crate::backend::Cotangent`]. The host's gradient is 0 where it has none.
#[derive(Clone, Copy, Debug)]
pub enum ChunkCotangent<'a> {
    /// The host's gradient.
    Gradient(Option<Elements<'a>>),
    /// `factor`·(the host's gradient) − `train2_factor`·g′.
    Difference {
        /// The host's gradient.
        host: Option<Elements<'a>>,
        /// Its factor.
        factor: f64,
        /// g′.
        train2: Elements<'a>,
        /// Its factor.
        train2_factor: f64,
    },
}

/// Adds Σ x·r and Σ x·θ. `ratio` is empty where θ′ = θ.
struct Project<'a, T> {
    x: &'a [T],
    p: &'a [T],
    ratio: &'a [T],
    with_ratio: &'a mut Sum,
    with_param: &'a mut Sum,
}

impl<T: Float> Kernel for Project<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        if self.ratio.is_empty() {
            dot(self.x, self.p, self.with_param);
        } else {
            dots(self.x, (self.ratio, self.p), self.with_ratio, self.with_param);
        }
    }
}

/// The same for x = factor·host − `train2_factor`·g′.
struct ProjectDifference<'a, T> {
    host: Option<&'a [T]>,
    factor: f64,
    train2: &'a [T],
    train2_factor: f64,
    x: &'a mut [f64],
    p: &'a [T],
    ratio: &'a [T],
    with_ratio: &'a mut Sum,
    with_param: &'a mut Sum,
}

impl<T: Float> Kernel for ProjectDifference<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (x, g) in self.x.iter_mut().zip(self.train2) {
            *x = -(self.train2_factor * g.widen());
        }
        for (x, g) in self.x.iter_mut().zip(self.host.unwrap_or_default()) {
            *x += self.factor * g.widen();
        }
        dot(&self.x[..self.ratio.len()], self.ratio, self.with_ratio);
        dot(self.x, self.p, self.with_param);
    }
}

impl ChunkCotangent<'_> {
    /// Adds a tile's Σ x·r and Σ x·θ.
    fn project<T: Float>(
        self,
        range: Range<usize>,
        (p, ratio): (&[T], &[T]),
        ([g, g2], x): &mut ([Buffer<T>; 2], Buffer<f64>),
        [with_ratio, with_param]: [&mut Sum; 2],
    ) {
        match self {
            Self::Gradient(None) => {}
            Self::Gradient(Some(host)) => {
                let x = host.load(range, g);
                simd::run_up_to_avx2(Project { x, p, ratio, with_ratio, with_param });
            }
            Self::Difference { host, factor, train2, train2_factor } => {
                let host = host.map(|host| host.load(range.clone(), g));
                let train2 = train2.load(range.clone(), g2);
                let x = x.first(range.len());
                simd::run_up_to_avx2(ProjectDifference {
                    host,
                    factor,
                    train2,
                    train2_factor,
                    x,
                    p,
                    ratio,
                    with_ratio,
                    with_param,
                });
            }
        }
    }
}

/// out = a + b.
struct Add<'a, T>(&'a [T], &'a [T], &'a mut [T]);

impl<T: Float> Kernel for Add<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((a, b), out) in self.0.iter().zip(self.1).zip(self.2) {
            *out = *a + *b;
        }
    }
}

/// out = factor·a.
struct Scale<'a, T>(&'a [T], T, &'a mut [T]);

impl<T: Float> Kernel for Scale<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (a, out) in self.0.iter().zip(self.2) {
            *out = *a * self.1;
        }
    }
}

/// Adds ⟨stored − θ′, perturbation⟩.
struct StepProduct<'a, T> {
    stored: &'a [T],
    trial_param: &'a [T],
    perturbation: &'a [T],
    step: &'a mut [T],
    sum: &'a mut Sum,
}

impl<T: Float> Kernel for StepProduct<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((step, stored), trial_param) in self.step.iter_mut().zip(self.stored).zip(self.trial_param) {
            *step = *stored - *trial_param;
        }
        dot(self.step, self.perturbation, self.sum);
    }
}

/// Where θ, r and θ′ come from.
#[derive(Debug)]
pub enum Point<'a, T> {
    /// They are computed anew.
    Computed(Origin<'a, T>),
    /// r is stored; there is none where θ′ = θ.
    Stored {
        /// θ as saved, and its masters.
        param: Param<'a>,
        /// Scalars.
        s: Scalars<T>,
        /// r.
        ratio: Option<&'a [T]>,
    },
}

/// Where the perturbation comes from.
#[derive(Clone, Copy, Debug)]
pub enum PerturbationSource<'a, T> {
    /// radius·w, computed anew.
    Computed {
        /// w.
        direction: DirectionOf<'a>,
        /// r of the finite difference, or −r.
        radius: f64,
    },
    /// ±1 times a stored one.
    Stored {
        /// The perturbation at r.
        perturbation: &'a [T],
        /// 1 or −1.
        sign: T,
    },
}

/// Σ x·r and Σ x·θ, if there is an x; and writes θ′ + perturbation, if there is one, and ⟨what was written − θ′,
/// perturbation⟩.
#[derive(Debug)]
pub struct ProbeKernel<'a, T> {
    /// Where.
    pub point: Point<'a, T>,
    /// x.
    pub cotangent: Option<ChunkCotangent<'a>>,
    /// The perturbation, and the host's parameter.
    pub perturb: Option<(PerturbationSource<'a, T>, ElementsMut<'a>)>,
}

/// Memory of a [`ProbeKernel`].
pub struct ProbeBuffers<T> {
    origin: OriginBuffers<T>,
    ratio: Buffer<T>,
    trial_param: Buffer<T>,
    cotangent: ([Buffer<T>; 2], Buffer<f64>),
    direction: [Buffer<T>; 2],
    perturbation: Buffer<T>,
    stored: Buffer<T>,
    step: Buffer<T>,
}

impl<T: Float> ChunkKernel<3> for ProbeKernel<'_, T> {
    type Buffers = ProbeBuffers<T>;

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        ProbeBuffers {
            origin: origin_buffers(),
            ratio: Buffer::new(),
            trial_param: Buffer::new(),
            cotangent: ([Buffer::new(), Buffer::new()], Buffer::new()),
            direction: [Buffer::new(), Buffer::new()],
            perturbation: Buffer::new(),
            stored: Buffer::new(),
            step: Buffer::new(),
        }
    }

    fn advance(&mut self, start: usize, left: usize, buffers: &mut Self::Buffers, sums: &mut [Sum; 3]) -> usize {
        let (range, [with_ratio, with_param, step_product]) = (tile(start, left), sums);
        let ProbeBuffers { origin, ratio, trial_param, cotangent, direction, perturbation, stored, step } = buffers;
        let (p, ratio, trial_param) =
            self.point.load(range.clone(), self.perturb.is_some(), origin, [ratio, trial_param]);
        if let Some(x) = self.cotangent {
            x.project(range.clone(), (p, ratio), cotangent, [with_ratio, with_param]);
        }
        if let Some((source, out)) = &mut self.perturb {
            let perturbation = source.load(range.clone(), direction, perturbation);
            simd::run_up_to_avx2(Add(trial_param, perturbation, out.tile(range.clone(), stored)));
            out.store(range.clone(), stored);
            let (stored, step) = (out.tile(range.clone(), stored), step.first(range.len()));
            simd::run_up_to_avx2(StepProduct { stored, trial_param, perturbation, step, sum: step_product });
        }
        range.len()
    }
}

impl<T: Float> Point<'_, T> {
    /// θ, or its masters, r, which is empty where θ′ = θ, and, if it is wanted, θ′ of a tile.
    fn load<'b>(
        &'b mut self,
        range: Range<usize>,
        wants_trial_param: bool,
        origin_buffers: &'b mut OriginBuffers<T>,
        [ratio, trial_param]: [&'b mut Buffer<T>; 2],
    ) -> (&'b [T], &'b [T], &'b [T]) {
        let len = range.len();
        match self {
            Self::Computed(origin) => {
                let ratio = ratio.first(if origin.trial == Trial::None { 0 } else { len });
                let trial_param = trial_param.first(len);
                let p = origin.trial_point(range, origin_buffers, ratio, trial_param);
                (p, ratio, trial_param)
            }
            Self::Stored { param, ratio: None, .. } => {
                let p = param.model.as_elements().load(range, &mut origin_buffers[0]);
                (p, &[], p)
            }
            Self::Stored { param, s, ratio: Some(ratio) } => {
                let (ratio, round) = (&ratio[range.clone()], param.rounding_to_model());
                let p = &*param.load(range, &mut origin_buffers[0]);
                if !wants_trial_param {
                    return (p, ratio, &[]);
                }
                let trial_param = trial_param.first(len);
                simd::run_up_to_avx2(TrialParams { s: *s, trial_param, p, ratio });
                round.apply(trial_param);
                (p, ratio, trial_param)
            }
        }
    }
}

impl<T: Float> PerturbationSource<'_, T> {
    /// The perturbation of a tile.
    fn load<'b>(
        &'b self,
        range: Range<usize>,
        direction_buffers: &'b mut [Buffer<T>; 2],
        out: &'b mut Buffer<T>,
    ) -> &'b [T] {
        let out = out.first(range.len());
        match self {
            Self::Computed { direction, radius } => {
                let direction = direction.load(range, direction_buffers);
                simd::run_up_to_avx2(Perturbation { direction, radius: *radius, out });
            }
            Self::Stored { perturbation, sign } => {
                simd::run_up_to_avx2(Scale(&perturbation[range], *sign, out));
            }
        }
        out
    }
}
