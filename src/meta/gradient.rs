//! ∂L/∂α, ∂L/∂β → the encoder's gradient with regularisation → the SGD step on Φ.

use super::uncertainty::{self, Weighted};
use crate::model::options::{Objective, Options, Semantics};
use crate::modulation::{Factors, Modulation};

/// Derivatives of the meta-objective, regularisation included.
#[derive(Clone, Debug)]
pub struct MetaGradient {
    /// By the factors of each group.
    pub factors: Factors,
    /// By Φ, in its own layout.
    pub phi: Vec<f64>,
}

impl MetaGradient {
    /// From the derivatives by the factors and the weighted terms; and what the regularisation adds to the loss.
    #[must_use]
    pub fn new(
        options: &Options,
        modulation: &mut Modulation,
        mut factors: Factors,
        weighted: &Weighted,
    ) -> (Self, f64) {
        let mut phi = vec![0.0; modulation.attention.values().len()];
        modulation.backward(&mut factors, &mut phi);
        let attention = &modulation.attention;
        if options.objective == Objective::Combined
            && let Some(range) = attention.log_vars_range()
        {
            phi[range].copy_from_slice(&weighted.d_log_vars);
        }
        let mut penalty = 0.0;
        // Norms of the encoder's tensors and of the output matrix: norms, not squares.
        let regularised = |name: &str| name.starts_with("encoder.") || name == "output_proj.weight";
        for entry in attention.entries().iter().filter(|e| regularised(&e.name)) {
            let values = &attention.values()[entry.range.clone()];
            let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
            penalty += options.meta_weight_decay * norm;
            if norm > 0.0 {
                for (d, x) in phi[entry.range.clone()].iter_mut().zip(values) {
                    *d += options.meta_weight_decay * x / norm;
                }
            }
        }
        if let (Some(gates), Some(range)) = (attention.gates(), attention.gates_range()) {
            for (d, gate) in phi[range].iter_mut().zip(gates) {
                penalty += options.feature_gating_sparsity * gate.abs();
                if *gate != 0.0 {
                    *d += options.feature_gating_sparsity * gate.signum();
                }
            }
        }
        (Self { factors, phi }, penalty)
    }

    /// One SGD step on every learnable value; `reference` never changes the gates. False, and nothing changed, where a
    /// value would not be finite.
    #[must_use]
    pub fn apply(&self, options: &Options, modulation: &mut Modulation) -> bool {
        let attention = &mut modulation.attention;
        let fixed = match options.semantics {
            Semantics::Reference => attention.gates_range(),
            Semantics::Paper => None,
        }
        .unwrap_or(0..0);
        let step = |(i, (value, d)): (usize, (&f64, &f64))| {
            if fixed.contains(&i) { *value } else { value - options.meta_lr * d }
        };
        let mut phi: Vec<f64> = attention.values().iter().zip(&self.phi).enumerate().map(step).collect();
        if options.objective == Objective::Combined
            && let Some(range) = attention.log_vars_range()
        {
            uncertainty::limit(&mut phi[range], options.log_var_limit);
        }
        let finite = phi.iter().all(|x| x.is_finite());
        if finite {
            attention.values_mut().copy_from_slice(&phi);
        }
        finite
    }
}
