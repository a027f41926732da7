//! How the combined objective weighs its terms: homoscedastic uncertainty with priorities (eq. 13), fixed, or sum.

use crate::model::options::{Options, TermKind, Weighting};
use crate::numeric::math;

/// Terms in the order of every array of three: gradient alignment, loss decrease, generalization gap.
pub const TERMS: usize = 3;

/// A weighted sum of the terms and its derivatives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighted {
    /// The sum.
    pub value: f64,
    /// By each term.
    pub d_terms: [f64; TERMS],
    /// By each log-variance; 0 without HUW.
    pub d_log_vars: [f64; TERMS],
}

/// HUW: Σ h (e^(−s) L + s p), with h = ½ for regression (eq. 13) and 1 for classification (the remark under it).
#[must_use]
pub fn weigh(options: &Options, log_vars: Option<&[f64]>, terms: [f64; TERMS]) -> Weighted {
    let mut weighted = Weighted { value: 0.0, d_terms: [1.0; TERMS], d_log_vars: [0.0; TERMS] };
    for (i, term) in terms.into_iter().enumerate() {
        match (options.weighting, log_vars) {
            (Weighting::Huw, Some(log_vars)) => {
                let (s, p) = (log_vars[i], options.priorities[i]);
                let h = match options.huw_kinds[i] {
                    TermKind::Regression => 0.5,
                    TermKind::Classification => 1.0,
                };
                let precision = math::exp(-s);
                weighted.value += h * (precision * term + s * p);
                weighted.d_terms[i] = h * precision;
                weighted.d_log_vars[i] = h * (p - precision * term);
            }
            (Weighting::Fixed, _) => {
                weighted.value += options.fixed_weights[i] * term;
                weighted.d_terms[i] = options.fixed_weights[i];
            }
            _ => weighted.value += term,
        }
    }
    weighted
}

/// Keeps a log-variance within ±limit; a term that stays negative would drive its own to −∞. 0 = no limit.
#[must_use]
pub fn limit(log_var: f64, limit: f64) -> f64 {
    if limit > 0.0 { log_var.clamp(-limit, limit) } else { log_var }
}
