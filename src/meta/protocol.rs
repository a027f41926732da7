//! What a meta-update asks, what a host answers, and how it ends.

use super::objective::Losses;
use super::uncertainty;

/// What the host has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// B1 at θ.
    Train1,
    /// The validation batch at θ.
    Validation,
    /// B2 at θ′.
    Train2,
    /// The validation batch at θ′.
    ValidationMoved,
    /// B2 at θ′ + r·w.
    Plus,
    /// B2 at θ′ − r·w.
    Minus,
}

/// What the host must evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The loss.
    Loss,
    /// The loss and the gradients.
    Gradient,
}

/// On which batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// B1.
    Train1,
    /// B2.
    Train2,
    /// The validation batch.
    Validation,
}

/// A question to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// From 1 on, never used twice.
    pub id: u64,
    /// What.
    pub kind: Kind,
    /// On which batch.
    pub batch: Batch,
    /// Request whose batch and random numbers must be used again.
    pub replay: Option<u64>,
    /// For the host's random numbers: the same for requests that replay one another, another for all others. A resumed run
    /// gets those of the uninterrupted one.
    pub seed: u64,
}

/// The host's answer; gradients stand in the buffers given with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Which request.
    pub request_id: u64,
    /// The plain loss.
    pub loss: f64,
    /// The gradients are this many times too large.
    pub grad_scale: f64,
}

/// How a meta-update ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// None has ended yet.
    #[default]
    None,
    /// Φ was updated.
    Updated,
    /// By the host.
    Aborted,
    /// A loss is not finite.
    LossNotFinite,
    /// A gradient is not finite.
    GradientNotFinite,
    /// A parameter, moment, feature, factor or θ′ is not finite.
    StateNotFinite,
    /// w is not finite, or its step vanished in rounding.
    DirectionNotFinite,
    /// The derivatives by Φ, or what a step along them would make of Φ, are not finite.
    MetaGradientNotFinite,
}

/// The last meta-update in numbers.
#[derive(Clone, Copy, Debug)]
pub struct MetaResult {
    /// Applied steps when it began.
    pub step: u64,
    /// Meta-updates that changed Φ so far.
    pub updates: u64,
    /// What the host answered.
    pub losses: Losses,
    /// Gradient alignment, loss decrease, generalization gap.
    pub terms: [f64; uncertainty::TERMS],
    /// The objective with its regularisation.
    pub loss_meta: f64,
    /// Answers of the host.
    pub evaluations: u32,
    /// Idle groups.
    pub idle_groups: u32,
    /// How it ended.
    pub outcome: Outcome,
}
