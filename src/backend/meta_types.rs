//! What the passes of a meta-update take and give.

use crate::model::coefficients::Coefficients;

/// A gradient that a meta-update keeps, or what it makes of it where that is all that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Of B1 at θ.
    Train1,
    /// Of B2 at θ′.
    Train2,
}

/// How θ′ is made from θ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Move {
    /// The tensor stays.
    Stay,
    /// One step with the kept gradient of B1 (`paper`).
    Step(Coefficients),
    /// One step with the moments as they are (`reference`).
    Drift(Coefficients),
}

/// w = `train2`·g′ + `train1`·g for the tensors of one group, on the gradients as the host gave them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Direction {
    /// Factor of g′.
    pub train2: f64,
    /// Factor of g.
    pub train1: f64,
}

/// The vector x whose products with ∂θ′/∂α and ∂θ′/∂β are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Probe {
    /// The host's gradients, times a factor.
    Host(f64),
    /// `host`·(the host's gradients) − `train2`·g′, element by element: so close together their products would cancel.
    Difference {
        /// Factor of the host's.
        host: f64,
        /// Factor of g′.
        train2: f64,
    },
}

/// A neighbour of θ′ on the line along w.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour<'a> {
    /// w of each tensor.
    pub directions: &'a [Direction],
    /// The neighbour is θ′ + `radius`·w.
    pub radius: f64,
}

/// Products of a [`Probe`] x with what θ′ is made of, of one tensor. One of them is not finite where x is not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Projection {
    /// Σ x·r, r being the ratio of `update.rs`; 0 where the tensor stays.
    pub ratio: f64,
    /// Σ x·θ.
    pub param: f64,
}

/// Σ g′² and Σ g·g′ of one tensor, as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Alignment {
    /// Σ g′².
    pub square: f64,
    /// Σ g·g′.
    pub product: f64,
}
