//! Options and report of a step, why steps were skipped, where the time went.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

use crate::model::groups::Tensor;

/// Most steps of a run: every count up to here, and the next, is exact in float64.
pub const MAX_STEPS: u64 = (1 << 53) - 1;

/// Options of a single step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// The gradients are this many times too large.
    pub grad_scale: f64,
    /// The host changed parameters since the last step.
    pub params_changed: bool,
    /// Address of a float in device memory that takes the place of `grad_scale`, or 0. CUDA only.
    pub device_grad_scale: u64,
    /// Address of a float in device memory, or 0: if it is not 0 when the step is made, the step is skipped. CUDA only.
    pub found_inf: u64,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self { grad_scale: 1.0, params_changed: false, device_grad_scale: 0, found_inf: 0 }
    }
}

/// Why a step was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// A gradient, or the moment that it would make, is not finite.
    Gradient,
    /// A parameter is not finite.
    Parameter,
    /// A moment is not finite.
    Moment,
    /// A feature is not finite.
    Feature,
    /// A factor is not finite.
    Factor,
}

impl Skip {
    /// For a message, with the tensor's name where there is one.
    pub(crate) fn describe(self, tensor: Option<&Tensor>) -> String {
        let what = match self {
            Self::Gradient => "the gradient",
            Self::Parameter => "the parameter",
            Self::Moment => "a moment",
            Self::Feature => "a feature",
            Self::Factor => "a factor",
        };
        match tensor {
            Some(tensor) => format!("{what} of tensor '{}'", tensor.name()),
            None => what.to_owned(),
        }
    }
}

/// Steps that were skipped, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skips {
    /// In the order of [`Skip`].
    pub by_reason: [u64; 5],
    /// The last: why, the tensor to blame, applied steps then.
    pub last: Option<(Skip, Option<usize>, u64)>,
}

impl Skips {
    pub(crate) fn count(&mut self, reason: Skip, tensor: Option<usize>, steps: u64) {
        self.by_reason[reason as usize] += 1;
        self.last = Some((reason, tensor, steps));
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason.iter().sum()
    }
}

/// Time spent in applied and skipped steps, by part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// Checks, sums of gradients and state.
    pub statistics: Duration,
    /// Features and attention module.
    pub factors: Duration,
    /// The update of the tensors.
    pub update: Duration,
    /// The library's own part of meta-updates.
    pub meta: Duration,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Applied steps so far.
    pub step: u64,
    /// Skipped steps so far.
    pub skipped_steps: u64,
    /// Norm of all gradients after unscaling, before clipping.
    pub grad_norm: f64,
    /// What clipping multiplied by.
    pub clip_factor: f64,
    /// Why it was skipped, if it was.
    pub skipped: Option<Skip>,
    /// First tensor to blame.
    pub nonfinite_tensor: Option<usize>,
}

/// The counts of a run: what a checkpoint holds of it beside its tensors, and what moves with it to another optimizer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Applied steps.
    pub steps: u64,
    /// Skipped ones, in the order of [`Skip`].
    pub skipped_steps: [u64; 5],
    /// Meta-updates that changed Φ.
    pub meta_updates: u64,
    /// The step at which the last one was done or abandoned.
    pub meta_done_at: Option<u64>,
}

impl Counters {
    /// No number that a run cannot have. `field` says which count it is.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn check(&self, field: impl Fn(&str) -> String) -> Result<()> {
        let skips = ["gradient", "parameter", "moment", "feature", "factor"].map(|reason| format!("skipped_{reason}"));
        let counts = [("step", self.steps), ("meta_updates", self.meta_updates)];
        let counts = counts.into_iter().chain(skips.iter().map(String::as_str).zip(self.skipped_steps));
        for (name, count) in counts {
            if count > MAX_STEPS {
                return Err(Error::range(field(name), count, "at most 2^53 - 1"));
            }
        }
        match self.meta_done_at {
            Some(at) if at > self.steps => {
                Err(Error::range(field("meta_done_at"), at, format!("at most step, {}", self.steps)))
            }
            _ => Ok(()),
        }
    }
}
