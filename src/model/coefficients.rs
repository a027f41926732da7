//! α, β, learning rate, decay, bias corrections → the scalars a backend needs; the AdamW formula itself.
//!
//! An element's ratio is r = m/(√v + ε√(1−β₂ᵗ)): both bias corrections are in the step size, as at the end of section 2 of
//! Kingma & Ba 2014, so m̂/(√v̂ + ε) = r·√(1−β₂ᵗ)/(1−β₁ᵗ) and no element is multiplied by them.

use crate::model::options::{ParamGroup, Semantics};
use crate::numeric::math;

/// What one tensor's update is computed from, in f64; a backend rounds each to the tensor's dtype once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    /// Multiplies the host's gradient: clipping / grad_scale.
    pub gradient: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε √(1 − β₂ᵗ).
    pub eps: f64,
    /// η α √(1 − β₂ᵗ)/(1 − β₁ᵗ).
    pub step_size: f64,
    /// η α β λ (`reference`: divided by 1 − β₁ᵗ). Not 1 − η α β λ: in float32 that would round most of it away.
    pub decay: f64,
    /// Of the random bits of stochastic rounding, where the tensor or its moments have it.
    pub key: u64,
}

impl Coefficients {
    /// For a tensor's `step`-th update (from 1 on) with its group's factors.
    #[must_use]
    pub fn new(group: &ParamGroup, semantics: Semantics, step: u64, (alpha, beta): (f64, f64), gradient: f64) -> Self {
        let [correction1, root2] = corrections(group, step);
        let decay = group.lr * alpha * beta * group.weight_decay;
        Self {
            gradient,
            beta1: group.beta1,
            beta2: group.beta2,
            eps: group.eps * root2,
            step_size: group.lr * alpha * root2 / correction1,
            decay: match semantics {
                Semantics::Paper => decay,
                Semantics::Reference => decay / correction1,
            },
            key: 0,
        }
    }

    /// The same with a key.
    #[must_use]
    pub fn with_key(self, key: u64) -> Self {
        Self { key, ..self }
    }
}

/// 1 − β₁ᵗ and √(1 − β₂ᵗ).
fn corrections(group: &ParamGroup, step: u64) -> [f64; 2] {
    [1.0 - math::powi(group.beta1, step), (1.0 - math::powi(group.beta2, step)).sqrt()]
}

/// ∂θ′/∂α = −(η√(1−β₂ᵗ)/(1−β₁ᵗ))·r − (η β λ′)·θ and ∂θ′/∂β = −(η α λ′)·θ: eq. 4, differentiated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slopes {
    /// Factor of r in ∂θ′/∂α.
    pub alpha_ratio: f64,
    /// Factor of θ in ∂θ′/∂α.
    pub alpha_param: f64,
    /// Factor of θ in ∂θ′/∂β; 0 in `reference`, which does not teach β.
    pub beta_param: f64,
}

impl Slopes {
    /// At the same point as [`Coefficients::new`].
    #[must_use]
    pub fn new(group: &ParamGroup, semantics: Semantics, step: u64, (alpha, beta): (f64, f64)) -> Self {
        let [correction1, root2] = corrections(group, step);
        let decay = match semantics {
            Semantics::Paper => group.weight_decay,
            Semantics::Reference => group.weight_decay / correction1,
        };
        Self {
            alpha_ratio: -group.lr * root2 / correction1,
            alpha_param: -group.lr * beta * decay,
            beta_param: match semantics {
                Semantics::Paper => -group.lr * alpha * decay,
                Semantics::Reference => 0.0,
            },
        }
    }
}
