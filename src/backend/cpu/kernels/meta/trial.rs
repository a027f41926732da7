//! θ′, a step away from θ.

use std::ops::Range;

use crate::backend::cpu::kernels::adamw::Scalars;
use crate::backend::cpu::kernels::elements::{Buffer, Elements, ElementsMut};
use crate::backend::cpu::kernels::load_store::{Moments, Param};
use crate::backend::cpu::kernels::number::Float;
use crate::backend::cpu::kernels::sums_f64::{Sum, square};
use crate::backend::cpu::kernels::tile::{ChunkKernel, tile};
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

/// For g and the moments.
pub(super) type OtherBuffers<T> = [Buffer<T>; 3];

#[inline(always)]
pub(super) fn other_buffers<T: Float>() -> OtherBuffers<T> {
    [Buffer::new(), Buffer::new(), Buffer::new()]
}

impl<T: Float> Origin<'_, T> {
    /// Returns θ, or its masters, of a tile, and writes the ratio r and θ′: the same bits in every pass. Where θ′ = θ there
    /// is no r.
    pub(super) fn trial_point<'b>(
        &'b mut self,
        range: Range<usize>,
        (p, [g, m, v]): (&'b mut Buffer<T>, &mut OtherBuffers<T>),
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
pub(super) struct TrialParams<'a, T> {
    pub s: Scalars<T>,
    pub trial_param: &'a mut [T],
    pub p: &'a [T],
    pub ratio: &'a [T],
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
    type Buffers = ([Buffer<T>; 3], OtherBuffers<T>);

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        ([Buffer::new(), Buffer::new(), Buffer::new()], other_buffers())
    }

    fn advance(&mut self, start: usize, left: usize, buffers: &mut Self::Buffers, sums: &mut [Sum; 1]) -> usize {
        let (range, ([param, ratio, trial_param], others)) = (tile(start, left), buffers);
        let ratio = match &mut self.ratio {
            Some(stored) => &mut stored[range.clone()],
            None => ratio.first(range.len()),
        };
        let point = self.out.tile(range.clone(), trial_param);
        self.origin.trial_point(range.clone(), (param, others), ratio, point);
        simd::run_up_to_avx2(Square(point, &mut sums[0]));
        self.out.store(range.clone(), trial_param);
        range.len()
    }
}
