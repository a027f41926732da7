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
    let square: f64 = sums.clone().map(|(_, s)| s.square).sum();
    let norm = square.sqrt() * unscale;
    let clip = if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
    let factor = clip * unscale;
    let unusable = |i: usize, s: &GradientSums| {
        let max = tensors[i].moment_dtype.max_square();
        !(s.square.is_finite() && s.scaled(factor).square <= max)
    };
    let mut culprits = sums.filter(|(i, s)| unusable(*i, s)).map(|(i, _)| i);
    let broken = match culprits.next() {
        Some(i) => Some(Some(i)),
        None if !(norm.is_finite() && factor.is_finite()) => Some(None),
        None => None,
    };
    EffectiveGradient { norm, clip, factor, broken }
}
