//! Unscaling and clipping by global norm, from sums of the gradients alone: no pass over the data.

use crate::model::groups::Tensor;
use crate::model::stats::GradientSums;

/// The gradient's norm, and what brings the host's to the effective one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EffectiveGradient {
    /// After unscaling, before clipping.
    pub norm: f64,
    /// Clipping.
    pub clip: f64,
    /// clip / grad_scale.
    pub factor: f64,
    /// A tensor whose gradient is not finite, or would make a moment that is not; or `None` if only the whole is.
    pub broken: Option<Option<usize>>,
}

/// Unscaling and clipping as torch's `clip_grad_norm_`: min(1, max_norm/(norm + 1e-6)).
pub(crate) fn effective_gradient<'a>(
    tensors: &[Tensor],
    sums: impl Iterator<Item = (usize, &'a GradientSums)> + Clone,
    grad_scale: f64,
    max_norm: f64,
) -> EffectiveGradient {
    let unscale = 1.0 / grad_scale;
    // An empty sum would be −0.
    let square = sums.clone().map(|(_, s)| s.square).fold(0.0, |total, square| total + square);
    let norm = square.sqrt() * unscale;
    // A NaN stays one, as in PyTorch: every tensor then becomes NaN where nobody checks.
    let clip = max_norm / (norm + 1e-6);
    let clip = if max_norm <= 0.0 || clip >= 1.0 { 1.0 } else { clip };
    let factor = clip * unscale;
    let unusable = |i: usize, s: &GradientSums| {
        let max = tensors[i].moment_dtype.max_square();
        // A factor that is NaN blames no one: the tensor that made it so has a NaN of its own.
        !(s.square.is_finite() && (factor.is_nan() || s.scaled(factor).square <= max))
    };
    let mut culprits = sums.filter(|(i, s)| unusable(*i, s)).map(|(i, _)| i);
    let broken = match culprits.next() {
        Some(i) => Some(Some(i)),
        None if !(norm.is_finite() && factor.is_finite()) => Some(None),
        None => None,
    };
    EffectiveGradient { norm, clip, factor, broken }
}
