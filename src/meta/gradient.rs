//! ∂L/∂α, ∂L/∂β → the encoder's gradient with regularisation → the step on Φ.

use super::uncertainty::{Weighted, limit};
use crate::model::options::{MetaOptimizer, Objective, Options, Semantics};
use crate::modulation::{Factors, Modulation, PhiStep};

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
    pub fn new(options: &Options, modulation: &mut Modulation, factors: Factors, weighted: &Weighted) -> (Self, f64) {
        let mut phi = vec![0.0; modulation.attention.values().len()];
        modulation.backward(&factors, &mut phi);
        let attention = &modulation.attention;
        if options.objective == Objective::Combined
            && let Some(range) = attention.log_vars_range()
        {
            phi[range].copy_from_slice(&weighted.d_log_vars);
        }
        let mut penalty = 0.0;
        // Norms of the encoder's tensors and of the output matrix: norms, not squares. AdamW decays instead.
        let by_norm = options.meta_optimizer == MetaOptimizer::Sgd;
        let regularised = |name: &str| by_norm && (name.starts_with("encoder.") || name == "output_proj.weight");
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

    /// One step on every learnable value; `reference` never changes the gates. False, and nothing changed, where a value
    /// would not be finite. With AdamW it allocates nothing.
    #[must_use]
    pub fn apply(&self, options: &Options, modulation: &mut Modulation) -> bool {
        let Modulation { attention, moments, .. } = modulation;
        let gates = if options.semantics == Semantics::Reference { attention.gates_range() } else { None };
        let fixed = gates.unwrap_or(0..0);
        let log_vars = attention.log_vars_range().unwrap_or(0..0);
        let moved_log_vars = if options.objective == Objective::Combined { log_vars.clone() } else { 0..0 };
        let limited = |i: usize, x: f64| if moved_log_vars.contains(&i) { limit(x, options.log_var_limit) } else { x };
        if let Some(moments) = moments {
            let step = PhiStep {
                gradient: &self.phi,
                lr: options.meta_lr,
                weight_decay: options.meta_weight_decay,
                fixed,
                undecayed: log_vars,
            };
            return moments.step(attention.values_mut(), &step, limited);
        }
        let step = |(i, (value, d)): (usize, (&f64, &f64))| {
            limited(i, if fixed.contains(&i) { *value } else { value - options.meta_lr * d })
        };
        let phi: Vec<f64> = attention.values().iter().zip(&self.phi).enumerate().map(step).collect();
        let finite = phi.iter().all(|x| x.is_finite());
        if finite {
            attention.values_mut().copy_from_slice(&phi);
        }
        finite
    }
}
