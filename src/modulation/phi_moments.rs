//! AdamW on the attention module's parameters Φ: its two moments and the count of its steps.
//!
//! Betas 0.9 and 0.99, eps 1e-8, decoupled decay; in float64, value by value.

use std::ops::Range;

use super::attention::{Attention, take_rows};
use crate::numeric::math;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;
const EPS: f64 = 1e-8;

/// In the layout of Φ.
#[derive(Clone, Debug, PartialEq)]
pub struct PhiMoments {
    /// First moment.
    pub exp_avg: Vec<f64>,
    /// Second moment.
    pub exp_avg_sq: Vec<f64>,
    /// Steps so far.
    pub step: u64,
}

/// What a step of Φ is made of.
#[derive(Clone, Debug)]
pub struct PhiStep<'a> {
    /// The gradient, in the layout of Φ.
    pub gradient: &'a [f64],
    /// Learning rate.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Values that are not changed.
    pub fixed: Range<usize>,
    /// Values that do not decay.
    pub undecayed: Range<usize>,
}

impl PhiMoments {
    /// Of so many values, before the first step.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self { exp_avg: vec![0.0; length], exp_avg_sq: vec![0.0; length], step: 0 }
    }

    /// Back to the start.
    pub fn reset(&mut self) {
        self.exp_avg.fill(0.0);
        self.exp_avg_sq.fill(0.0);
        self.step = 0;
    }

    /// Takes over those of an attention module with other groups, of which group i was `rows[i]`; a new group's embedding
    /// has moments of 0.
    pub fn continue_from(&mut self, old: &Self, own: &Attention, theirs: &Attention, rows: &[Option<usize>]) {
        self.step = old.step;
        let embeddings = own.embeddings_range();
        for entry in own.entries() {
            let from = theirs.range(&entry.name).expect("only the number of groups differs");
            for (new, old) in [(&mut self.exp_avg, &old.exp_avg), (&mut self.exp_avg_sq, &old.exp_avg_sq)] {
                let (new, old) = (&mut new[entry.range.clone()], &old[from.clone()]);
                if Some(&entry.range) == embeddings.as_ref() {
                    take_rows(old, entry.columns, rows, new, |_, row| row.fill(0.0));
                } else {
                    new.copy_from_slice(old);
                }
            }
        }
    }

    /// One step of `phi`. False, and nothing changed, where a value would not be finite. `adjust` is applied to the new Φ.
    /// Allocates nothing: every value is computed twice.
    #[must_use]
    pub fn step(&mut self, phi: &mut [f64], step: &PhiStep, adjust: impl Fn(usize, f64) -> f64) -> bool {
        let count = self.step + 1;
        let corrections = [1.0 - math::powi(BETA1, count), 1.0 - math::powi(BETA2, count)];
        let new = |i: usize, phi: f64, m: f64, v: f64| {
            let d = step.gradient[i];
            let (m, v) = (BETA1 * m + (1.0 - BETA1) * d, BETA2 * v + (1.0 - BETA2) * (d * d));
            let ratio = (m / corrections[0]) / ((v / corrections[1]).sqrt() + EPS);
            let decay = if step.undecayed.contains(&i) { 0.0 } else { step.weight_decay };
            let moved = adjust(i, phi - step.lr * (ratio + decay * phi));
            (if step.fixed.contains(&i) { phi } else { moved }, m, v)
        };
        let finite = (0..phi.len()).all(|i| {
            let (phi, m, v) = new(i, phi[i], self.exp_avg[i], self.exp_avg_sq[i]);
            phi.is_finite() && m.is_finite() && v.is_finite()
        });
        if finite {
            for (i, phi) in phi.iter_mut().enumerate() {
                (*phi, self.exp_avg[i], self.exp_avg_sq[i]) = new(i, *phi, self.exp_avg[i], self.exp_avg_sq[i]);
            }
            self.step = count;
        }
        finite
    }
}
