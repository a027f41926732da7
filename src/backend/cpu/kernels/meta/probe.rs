//! Products with the derivatives of θ′, and perturbed points.

use std::ops::Range;

use super::direction::{DirectionOf, Perturbation};
use super::trial::{Origin, OtherBuffers, Trial, TrialParams, other_buffers};
use crate::backend::cpu::kernels::adamw::Scalars;
use crate::backend::cpu::kernels::elements::{Buffer, Elements, ElementsMut};
use crate::backend::cpu::kernels::load_store::Param;
use crate::backend::cpu::kernels::number::Float;
use crate::backend::cpu::kernels::sums_f64::{Sum, dot, dots};
use crate::backend::cpu::kernels::tile::{ChunkKernel, tile};
use crate::numeric::simd::{self, Kernel};

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
        ([g, g2], x): ([&mut Buffer<T>; 2], &mut Buffer<f64>),
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

/// Memory of a [`ProbeKernel`]; as little as it can do with, since it is on the caller's stack.
pub struct ProbeBuffers<T> {
    param: Buffer<T>,
    ratio: Buffer<T>,
    trial_param: Buffer<T>,
    /// g and the moments; when θ′ has been computed, the gradients of x; then those of the direction and the perturbation;
    /// then what was stored, the step and the perturbation.
    others: OtherBuffers<T>,
    cotangent: Buffer<f64>,
}

impl<T: Float> ChunkKernel<3> for ProbeKernel<'_, T> {
    type Buffers = ProbeBuffers<T>;

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        ProbeBuffers {
            param: Buffer::new(),
            ratio: Buffer::new(),
            trial_param: Buffer::new(),
            others: other_buffers(),
            cotangent: Buffer::new(),
        }
    }

    fn advance(&mut self, start: usize, left: usize, buffers: &mut Self::Buffers, sums: &mut [Sum; 3]) -> usize {
        let (range, [with_ratio, with_param, step_product]) = (tile(start, left), sums);
        let ProbeBuffers { param, ratio, trial_param, others, cotangent } = buffers;
        let (p, ratio, trial_param) =
            self.point.load(range.clone(), self.perturb.is_some(), others, [param, ratio, trial_param]);
        let [first, second, perturbation] = others;
        if let Some(x) = self.cotangent {
            x.project(range.clone(), (p, ratio), ([first, second], cotangent), [with_ratio, with_param]);
        }
        if let Some((source, out)) = &mut self.perturb {
            let perturbation = source.load(range.clone(), [first, second], perturbation);
            let (stored, step) = (first, second);
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
        others: &mut OtherBuffers<T>,
        [param_buffer, ratio, trial_param]: [&'b mut Buffer<T>; 3],
    ) -> (&'b [T], &'b [T], &'b [T]) {
        let len = range.len();
        match self {
            Self::Computed(origin) => {
                let ratio = ratio.first(if origin.trial == Trial::None { 0 } else { len });
                let trial_param = trial_param.first(len);
                let p = origin.trial_point(range, (param_buffer, others), ratio, trial_param);
                (p, ratio, trial_param)
            }
            Self::Stored { param, ratio: None, .. } => {
                let p = param.model.as_elements().load(range, param_buffer);
                (p, &[], p)
            }
            Self::Stored { param, s, ratio: Some(ratio) } => {
                let (ratio, round) = (&ratio[range.clone()], param.rounding_to_model());
                let p = &*param.load(range, param_buffer);
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
    fn load<'b>(&self, range: Range<usize>, direction_buffers: [&mut Buffer<T>; 2], out: &'b mut Buffer<T>) -> &'b [T] {
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
