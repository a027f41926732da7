//! What the passes of a meta-update take and give.

use crate::model::coefficients::Coefficients;

/// A gradient that a meta-update stores, or what takes its place where that is all that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientSlot {
    /// g of B1 at θ.
    Train1,
    /// g′ of B2 at θ′.
    Train2,
}

/// How a tensor's θ′ is made from θ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrialStep {
    /// θ′ = θ.
    None,
    /// One step with the stored gradient of B1 (`paper`).
    Gradient(Coefficients),
    /// One step with the moments as they are (`reference`).
    Moments(Coefficients),
}

/// w = `train2`·g′ + `train1`·g for the tensors of one group, on the gradients as the host gave them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Direction {
    /// Factor of g′.
    pub train2: f64,
    /// Factor of g.
    pub train1: f64,
}

/// The cotangent x of the products ⟨x, ∂θ′/∂α⟩ and ⟨x, ∂θ′/∂β⟩.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cotangent {
    /// The host's gradients, times a factor.
    Gradient(f64),
    /// `host`·(the host's gradients) − `train2`·g′, element by element: so close together their products would cancel.
    GradientDifference {
        /// Factor of the host's.
        host: f64,
        /// Factor of g′.
        train2: f64,
    },
}

/// θ′ + `radius`·w.
#[derive(Clone, Copy, Debug)]
pub struct PerturbedPoint<'a> {
    /// w of each tensor.
    pub directions: &'a [Direction],
    /// r of the finite difference, or −r.
    pub radius: f64,
}

/// Products of a [`Cotangent`] x with what θ′ is made of, of one tensor. One of them is not finite where x is not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Projection {
    /// Σ x·r, r being the ratio of [`crate::model::coefficients`]; 0 where θ′ = θ.
    pub ratio: f64,
    /// Σ x·θ.
    pub param: f64,
}

/// Σ g′² and Σ g·g′ of one tensor, as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Alignment {
    /// Σ g′².
    pub square: f64,
    /// Σ g·g′.
    pub product: f64,
}
