//! Φ learns unasked: from the steps themselves, by the horizon objective.
//!
//! After every `meta_interval` steps: is the gradient with or against the way that the parameters came? A group whose
//! gradients point along the displacement from its average, Σ g·(θ − θ̄) > 0, went too far, and its ln α (or α) shall fall.
//! The derivatives by it are these sums, divided by their norm. Not in the paper; short-horizon bias: Wu et al., ICLR 2018.

use super::gradient::MetaGradient;
use super::objective::Losses;
use super::protocol::{MetaResult, Outcome};
use super::state::Meta;
use super::uncertainty::TERMS;
use crate::model::options::Options;
use crate::modulation::Factors;
use crate::run::Run;

/// The gradient of Φ, in memory that is there before the first step.
#[derive(Debug)]
pub(super) struct Learner {
    pub gradient: MetaGradient,
    /// Whether Φ has learned from it.
    pub learned: bool,
}

impl Meta {
    /// Makes room for what is learned from steps, if anything is.
    pub fn prepare_to_learn(&mut self, run: &Run) {
        let learner = |modulation: &crate::modulation::Modulation| Learner {
            gradient: MetaGradient {
                factors: Factors::constant(run.groups.groups.len(), 0.0),
                phi: vec![0.0; modulation.attention.values().len()],
            },
            learned: false,
        };
        self.learner = run.state.modulation.as_ref().filter(|_| run.state.horizon.is_some()).map(learner);
    }

    /// After an applied step, whose features and factors are still those that were evaluated last: Φ learns if it is time.
    /// Allocates nothing. Answers whether the state has changed, Φ with it or not.
    pub fn learn_from_steps(&mut self, options: &Options, run: &mut Run) -> bool {
        let state = &mut run.state;
        let (Some(horizon), Some(modulation), Some(learner)) =
            (&mut state.horizon, &mut state.modulation, &mut self.learner)
        else {
            return false;
        };
        if horizon.count < options.meta_interval {
            return false;
        }
        let Learner { gradient: MetaGradient { factors, phi }, .. } = learner;
        let [d_alpha, ..] = factors.columns();
        let norm = horizon.sums.iter().map(|h| h * h).sum::<f64>().sqrt();
        for ((d, h), alpha) in d_alpha.iter_mut().zip(&horizon.sums).zip(modulation.newest_alpha()) {
            // By ln α where that is what the module makes.
            let d_factor = h / norm;
            *d = if options.alpha_log_range > 0.0 { d_factor / alpha } else { d_factor };
        }
        horizon.reset();
        if norm == 0.0 {
            return true; // nothing to learn from: all groups stood still
        }
        phi.fill(0.0);
        let learned = norm.is_finite() && {
            modulation.backward(factors, phi);
            learner.gradient.apply(options, modulation)
        };
        learner.learned |= learned;
        self.result = MetaResult {
            step: state.steps,
            updates: self.result.updates + u64::from(learned),
            losses: Losses::default(),
            terms: [f64::NAN; TERMS],
            loss_meta: f64::NAN,
            evaluations: 0,
            idle_groups: 0,
            outcome: if learned { Outcome::Updated } else { Outcome::MetaGradientNotFinite },
        };
        self.done_at = Some(state.steps);
        if !learned {
            self.abandoned = Some(Outcome::MetaGradientNotFinite);
        }
        true
    }
}
