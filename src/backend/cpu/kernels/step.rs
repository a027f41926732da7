//! The AdamW step on a chunk, for every combination of dtypes.
//!
//! The combinations that most models have are specialised in [`arch`]; the loop here is compiled once for f32 and once for
//! f64, and serves all others.

use std::ops::Range;

use super::adamw::Scalars;
use super::average::Average;
use super::elements::{Buffer, Elements};
use super::gradient_sums::Zeros;
use super::load_store::{Moments, Param};
use super::number::Float;
use super::state_sums::{AddStateSums, StateSums};
use super::sums_f64::{Sum, scaled_dot};
use super::tile::{ChunkKernel, TILE, tile};
use crate::backend::cpu::arch::{self, Done};
use crate::numeric::simd::{self, Kernel};
use crate::numeric::stochastic_rounding::RoundingBits;

/// An AdamW step's operands.
#[derive(Debug)]
pub struct Step<'a, T> {
    /// Parameter.
    pub param: Param<'a>,
    /// Gradient.
    pub g: Elements<'a>,
    /// Moments.
    pub moments: Moments<'a>,
    /// Scalars.
    pub s: Scalars<T>,
    /// For stochastic rounding of the parameter and of the moments.
    pub random: [RoundingBits; 2],
    /// Index in the chunk of the first element here.
    pub start: usize,
    /// Average, if there is one.
    pub average: Option<Average<'a, T>>,
}

/// Of the parameter, the gradient and the moments; that of the average is the gradient's or the first moment's, which are
/// not needed with it.
type StepBuffers<T> = [Buffer<T>; 4];

#[inline(always)]
fn step_buffers<T: Float>() -> StepBuffers<T> {
    [Buffer::new(), Buffer::new(), Buffer::new(), Buffer::new()]
}

impl<T: Float> Step<'_, T> {
    /// Whether a specialisation moves the average too, if the step is followed by these sums.
    fn average_is_specialised(&self, left: usize, first_moment: bool) -> bool {
        T::HAS_HALF && left >= TILE && arch::moves_average(&self.param, self.g, &self.moments, first_moment)
    }

    /// The step on as many whole tiles as a specialisation takes; with the average if it is specialised.
    fn specialised(
        &mut self,
        start: usize,
        left: usize,
        first_moment: bool,
        sums: Option<[&mut Sum; 3]>,
        displacement: Option<&mut Sum>,
    ) -> Done {
        if !T::HAS_HALF || left < TILE {
            return Done::NOTHING;
        }
        let range = start..start + left;
        let with_average = sums.is_some() && self.average_is_specialised(left, first_moment);
        let step = Step {
            param: self.param.part(range.clone()),
            g: self.g.part(range.clone()),
            moments: self.moments.part(range.clone()),
            s: self.s.map(T::to_f32),
            random: self.random,
            start: self.start + start,
            average: self.average.as_mut().filter(|_| with_average).map(|average| average.part(range)),
        };
        arch::step(step, first_moment, sums, displacement)
    }

    /// The step on a tile, and the sums of the state that it leaves.
    fn update(&mut self, range: Range<usize>, buffers: &mut StepBuffers<T>, mut sums: Option<StateSums<'_>>) {
        let [p, g, m, v] = buffers;
        let is_stored = self.param.model.is_half() || self.moments.are_half();
        let sums_of_update = if is_stored { None } else { sums.take() };
        {
            let (p, g) = (self.param.load(range.clone(), p), self.g.load(range.clone(), g));
            let [m, v] = self.moments.load(range.clone(), [m, v]);
            simd::run_up_to_avx2(Update { s: self.s, p, g, m, v, sums: sums_of_update });
        }
        if is_stored {
            let [for_param, for_moments] = self.random;
            self.param.store(range.clone(), p, for_param);
            self.moments.store(range.clone(), [&mut *m, &mut *v], for_moments);
        }
        if let Some(sums) = sums {
            self.add_state_sums(range, buffers, sums);
        }
    }

    /// sum += Σ g·(θ − θ̄) of a tile that is about to be updated.
    fn add_displacement(&mut self, range: Range<usize>, [p, g, m, _]: &mut StepBuffers<T>, sum: &mut Sum) {
        if let Some(average) = &mut self.average {
            let (p, g) = (self.param.load(range.clone(), p), self.g.load(range.clone(), g));
            average.add_displacement(range, g, p, m, sum);
        }
    }

    /// The average follows a tile that was updated.
    fn follow(&mut self, range: Range<usize>, [p, g, ..]: &mut StepBuffers<T>) {
        if let Some(average) = &mut self.average {
            let p = self.param.load(range.clone(), p);
            average.follow(range, p, g);
        }
    }

    /// Elements that are worked on at a time: with an average its parameter must be still in the cache.
    fn left(&self, start: usize, left: usize) -> usize {
        if self.average.is_some() { tile(start, left).len() } else { left }
    }

    /// Whether there is nothing to convert.
    fn is_in_place(&self) -> bool {
        T::in_place(self.g).is_some() && !self.param.model.is_half() && !self.moments.are_half()
    }

    /// Loads a tile of the state.
    fn load_state(&mut self, range: Range<usize>, [p, _, m, v]: &mut StepBuffers<T>) {
        self.param.load(range.clone(), p);
        self.moments.load(range, [m, v]);
    }

    /// Adds the sums of a tile of the state that was loaded or updated.
    fn add_state_sums(&mut self, range: Range<usize>, [p, _, m, v]: &mut StepBuffers<T>, sums: StateSums<'_>) {
        let p = self.param.tile(range.clone(), p);
        let [m, v] = self.moments.tiles(range, [m, v]);
        simd::run_up_to_avx2(AddStateSums { sums, p, m, v });
    }
}

/// The AdamW step on a tile; the sums are of the new values, before they are rounded to 16 bits.
struct Update<'a, T> {
    s: Scalars<T>,
    p: &'a mut [T],
    g: &'a [T],
    m: &'a mut [T],
    v: &'a mut [T],
    sums: Option<StateSums<'a>>,
}

impl<T: Float> Kernel for Update<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { s, p, g, m, v, sums } = self;
        // Float64 is always exact.
        if s.exact || !T::HAS_HALF {
            update::<T, true>(s, p, g, m, v);
        } else {
            update::<T, false>(s, p, g, m, v);
        }
        if let Some(sums) = sums {
            sums.add(p, m, v);
        }
    }
}

/// Each slice is a parameter of its own, so that the compiler knows that none overlaps another.
#[inline(always)]
fn update<T: Float, const EXACT: bool>(s: Scalars<T>, p: &mut [T], g: &[T], m: &mut [T], v: &mut [T]) {
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        (*m, *v) = s.moments::<EXACT>(*g, *m, *v);
        *p = s.param::<EXACT>(*p, s.ratio(*m, *v));
    }
}

/// Adds Σ (factor·g)·m.
struct EffectiveDot<'a, T>(&'a [T], T, &'a [T], &'a mut Sum);

impl<T: Float> Kernel for EffectiveDot<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        scaled_dot(self.0, self.1, self.2, self.3);
    }
}

/// The AdamW step; Σ θ², Σ m², Σ v² and zeros of m of the state that it leaves, and Σ g·m of the effective gradient with
/// the new m.
#[derive(Debug)]
pub struct UpdateKernel<'a, T> {
    /// Operands.
    pub step: Step<'a, T>,
    /// Whether Σ m² is wanted.
    pub first_moment: bool,
    /// Whether zeros are counted.
    pub zeros: bool,
    /// Whether Σ g·m is wanted.
    pub with_momentum: bool,
    /// Whether Σ g·(θ − θ̄) is wanted.
    pub with_displacement: bool,
}

impl<T: Float> ChunkKernel<6> for UpdateKernel<'_, T> {
    type Buffers = StepBuffers<T>;

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        step_buffers()
    }

    fn advance(&mut self, start: usize, left: usize, buffers: &mut Self::Buffers, sums: &mut [Sum; 6]) -> usize {
        let [of_p, of_m, of_v, of_zeros, products, displacements] = sums;
        // The sums after the step want the tile to be still in the cache.
        let left = if self.zeros || self.with_momentum { tile(start, left).len() } else { left };
        let (sums, displacements) = ([of_p, of_m, of_v], self.with_displacement.then_some(displacements));
        let done = if self.step.average_is_specialised(left, self.first_moment) {
            self.update(start, left, buffers, sums, displacements)
        } else {
            let left = self.step.left(start, left);
            if let Some(sum) = displacements {
                self.step.add_displacement(start..start + left, buffers, sum);
            }
            let done = self.update(start, left, buffers, sums, None);
            self.step.follow(start..start + done, buffers);
            done
        };
        let range = start..start + done;
        if self.zeros || self.with_momentum {
            let [_, g, m, v] = buffers;
            let [m, _] = self.step.moments.load(range.clone(), [m, v]);
            if self.zeros {
                simd::run_up_to_avx2(Zeros(m, of_zeros));
            }
            if self.with_momentum {
                let g = self.step.g.load(range.clone(), g);
                simd::run_up_to_avx2(EffectiveDot(g, self.step.s.gradient, m, products));
            }
        }
        done
    }
}

impl<T: Float> UpdateKernel<'_, T> {
    /// The step on as many elements as one specialisation takes, or on all, and the sums of the state that it leaves. Returns
    /// the number of elements.
    fn update(
        &mut self,
        start: usize,
        left: usize,
        buffers: &mut StepBuffers<T>,
        sums: [&mut Sum; 3],
        displacement: Option<&mut Sum>,
    ) -> usize {
        let (step, first_moment) = (&mut self.step, self.first_moment);
        let (low_precision, [of_p, of_m, of_v]) = (step.moments.low_precision, sums);
        let Done { elements, summed } =
            step.specialised(start, left, first_moment, Some([of_p, of_m, of_v]), displacement);
        let end = start + if elements > 0 { elements } else { left };
        // The tiles whose step or sums are missing.
        let missing = if elements == 0 { start } else { end - if summed { 0 } else { TILE } };
        for start in (missing..end).step_by(TILE) {
            let sums = StateSums { low_precision, first_moment, sums: [of_p, of_m, of_v] };
            if elements == 0 {
                step.update(tile(start, end - start), buffers, Some(sums));
            } else {
                step.load_state(tile(start, TILE), buffers);
                step.add_state_sums(tile(start, TILE), buffers, sums);
            }
        }
        end - start
    }
}

/// The AdamW step without sums.
#[derive(Debug)]
pub struct PlainKernel<'a, T>(pub Step<'a, T>);

impl<T: Float> ChunkKernel<0> for PlainKernel<'_, T> {
    type Buffers = StepBuffers<T>;

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        step_buffers()
    }

    fn advance(&mut self, start: usize, left: usize, buffers: &mut Self::Buffers, _: &mut [Sum; 0]) -> usize {
        let left = self.0.left(start, left);
        let done = self.0.specialised(start, left, false, None, None).elements;
        if done > 0 {
            self.0.follow(start..start + done, buffers);
            return done;
        }
        let range = if self.0.is_in_place() { start..start + left } else { tile(start, left) };
        self.0.update(range.clone(), buffers, None);
        self.0.follow(range.clone(), buffers);
        range.len()
    }
}

/// Makes the average equal to the parameter, or master; or the model's parameter to the average, rounded to nearest.
#[derive(Debug)]
pub struct CopyAverage<'a, T> {
    /// Parameter; without its master if it is written.
    pub param: Param<'a>,
    /// Average.
    pub average: Average<'a, T>,
    /// Whether the parameter is written.
    pub into_param: bool,
}

impl<T: Float> ChunkKernel<0> for CopyAverage<'_, T> {
    type Buffers = [Buffer<T>; 2];

    #[inline(always)]
    fn buffers() -> Self::Buffers {
        [Buffer::new(), Buffer::new()]
    }

    fn advance(&mut self, start: usize, left: usize, [p, a]: &mut Self::Buffers, _: &mut [Sum; 0]) -> usize {
        let range = tile(start, left);
        if self.into_param {
            let average = self.average.load(range.clone(), a);
            self.param.tile(range.clone(), p).copy_from_slice(average);
            self.param.model.store(range.clone(), p);
        } else {
            let p = self.param.load(range.clone(), p);
            self.average.init(range.clone(), p, a);
        }
        range.len()
    }
}
