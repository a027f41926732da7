//! How far a meta-update with 16-bit parameters may be from an exact one.
//!
//! Masters are float32 and steps are as exact as with float32 tensors. In a meta-update the host evaluates at parameters
//! that were rounded to 16 bits: θ, θ′, and θ′ ± r·w. Each rounding changes an element by at most u of it, u being the unit
//! roundoff (2^-8 for bfloat16, 2^-11 for float16), whatever the others do. To first order an output's error is Σ Jᵢ δᵢ over
//! the roundings of all elements at all points, with |δᵢ| ≤ u: its standard deviation is at most u·‖J‖/√3, as of uniform
//! errors. ‖J‖ comes from the formulas themselves: the library with float64 tensors is run with a host that evaluates at
//! θ·(1 ± u), with random signs, and u·‖J‖ is the root of the mean square of what that changes. (For signs sᵢ that are
//! independent the mean of (Σ Jᵢ sᵢ)² is ‖J‖².) Six standard deviations are allowed.
//!
//! Two errors are not roundings: the difference of gradients is taken over r = 3e-2·…, not over an infinitesimal step. Its
//! error is that of the same run without roundings. And the host's buffers at θ′ are themselves off by u.

use super::calls::Answer;
use super::tensor::Tensor;
use super::toy::Random;
use metaadamw::ffi::*;
use std::collections::BTreeMap;

/// `difference_scale` of 16-bit parameters, by default.
const DIFFERENCE_SCALE: f64 = 3e-2;
/// Runs with random signs: the estimate of ‖J‖ is then at least half of it, but for one output in 100,000.
const RUNS: u64 = 32;
/// Six standard deviations of errors that are uniform within ±u, relative to u.
const ALLOWED: f64 = 3.464;

/// Where a request is to be evaluated.
#[derive(Clone, Copy, PartialEq)]
pub enum Place {
    Theta,
    Moved,
    Difference,
}

pub fn place_of(request: &maw_meta_request) -> Place {
    match (request.batch, request.replay) {
        (MAW_BATCH_TRAIN_2, 0) => Place::Moved,
        (MAW_BATCH_TRAIN_2, _) => Place::Difference,
        (MAW_BATCH_VALIDATION, replay) if replay != 0 => Place::Moved,
        _ => Place::Theta,
    }
}

/// The numbers of a run, by their kind and the name under which they are compared.
pub type Numbers = BTreeMap<(&'static str, String), Vec<f64>>;

/// What a run with 16-bit parameters is compared with.
#[derive(Default)]
pub struct Oracle {
    pub exact: Numbers,
    bounds: BTreeMap<(&'static str, String), f64>,
    unit: f64,
}

impl Oracle {
    /// `run`: the numbers with float64 tensors, this `difference_scale` and this host.
    pub fn new(unit: f64, run: impl Fn(f64, Option<Rounding>) -> Numbers) -> Self {
        let (exact, undisturbed) = (run(0.0, None), run(DIFFERENCE_SCALE, None));
        let mut squares: BTreeMap<_, Vec<f64>> =
            undisturbed.iter().map(|(name, values)| (name, vec![0.0; values.len()])).collect();
        for seed in 0..RUNS {
            for (name, values) in run(DIFFERENCE_SCALE, Some(Rounding::new(unit, seed))) {
                let base = &undisturbed[&name];
                let squares = squares.get_mut(&name).expect("every run has the same numbers");
                for ((square, value), base) in squares.iter_mut().zip(&values).zip(base) {
                    *square += (value - base).powi(2) / RUNS as f64;
                }
            }
        }
        let bound = |(name, squares): (&(&'static str, String), Vec<f64>)| {
            let errors = squares.iter().zip(&undisturbed[name]).zip(&exact[name]);
            let most = errors.map(|((square, base), exact)| ALLOWED * square.sqrt() + (base - exact).abs());
            (name.clone(), most.fold(0.0, f64::max))
        };
        let bounds = squares.into_iter().map(bound).collect();
        Self { exact, bounds, unit }
    }

    /// What a number may be off relative to `scale`, beyond the tolerance of float32.
    pub fn tolerance(&self, name: &(&'static str, String), scale: f64) -> f64 {
        let own = if name.0 == "moved" { self.unit } else { 0.0 };
        own + self.bounds.get(name).map_or(0.0, |bound| bound / scale)
    }
}

/// A point: the parameters, what they were rounded by, and the gradients there.
type Point = (Vec<Vec<f64>>, Vec<Vec<f64>>, Vec<Option<Tensor>>);

/// A host whose parameters are rounded: each by u, up or down at random, the same at every evaluation of a point.
pub struct Rounding {
    unit: f64,
    seed: u64,
    /// θ′ + r·w, until θ′ − r·w is answered.
    plus: Option<Point>,
}

impl Rounding {
    pub fn new(unit: f64, seed: u64) -> Self {
        Self { unit, seed, plus: None }
    }

    /// The host's answer at rounded parameters.
    pub fn answer(
        &mut self,
        request: &maw_meta_request,
        params: &[Tensor],
        evaluate: impl FnOnce(&[Tensor]) -> Answer,
    ) -> Answer {
        let place = place_of(request);
        let point = match place {
            Place::Theta => 0,
            Place::Moved => 1,
            Place::Difference => 2 + u64::from(self.plus.is_some()),
        };
        let mut random = Random(4 * self.seed + point);
        let exact: Vec<Vec<f64>> = params.iter().map(Tensor::values).collect();
        let by: Vec<Vec<f64>> =
            exact.iter().map(|x| x.iter().map(|x| x * self.unit.copysign(random.next())).collect()).collect();
        let rounded = |(x, by): (&Vec<f64>, &Vec<f64>)| x.iter().zip(by).map(|(x, by)| x + by).collect::<Vec<_>>();
        let at: Vec<Tensor> =
            exact.iter().zip(&by).map(rounded).zip(params).map(|(x, p)| Tensor::new(p.dtype(), &x)).collect();
        let mut answer = evaluate(&at);
        if place == Place::Difference {
            let grads = answer.grads.as_mut().expect("a gradient was asked for");
            match self.plus.take() {
                None => self.plus = Some((exact, by, grads.clone())),
                Some(plus) => divide(&plus, (&exact, &by), grads),
            }
        }
        answer
    }
}

/// The library divides the difference of gradients by the step that rounding really made, ⟨δ, w⟩/‖w‖². Here it does not see
/// the rounding, so the host divides the difference by the ratio of that step to the one that the library sees.
fn divide(
    (plus, plus_by, plus_grads): &Point,
    (minus, minus_by): (&[Vec<f64>], &[Vec<f64>]),
    grads: &mut [Option<Tensor>],
) {
    let flat = |values: &[Vec<f64>]| values.concat();
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let step = apart(&flat(plus), &flat(minus));
    let rounding = apart(&flat(plus_by), &flat(minus_by));
    let ratio = 1.0 + dot(&rounding, &step) / dot(&step, &step);
    for (minus, plus) in grads.iter_mut().zip(plus_grads) {
        let (Some(m), Some(p)) = (minus.as_ref(), plus) else { continue };
        let values: Vec<f64> = p.values().iter().zip(m.values()).map(|(p, m)| p - (p - m) / ratio).collect();
        *minus = Some(Tensor::new(m.dtype(), &values));
    }
}
