//! The state as JSON for people and plots: what is my optimizer doing? `docs/state.md` is its schema.
//!
//! Floats are written with as many digits as bring them back exactly; what is not finite is null.

use serde_json::{Map, Value, json};

use crate::checkpoint::options_to_json;
use crate::meta::MetaResult;
use crate::meta::uncertainty;
use crate::modulation::Modulation;
use crate::optimizer::{Optimizer, Prepared, Skip};

/// Number of the schema; it grows when a field changes its meaning or goes, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

const REASONS: [(&str, Skip); 5] = [
    ("gradient", Skip::Gradient),
    ("parameter", Skip::Parameter),
    ("moment", Skip::Moment),
    ("feature", Skip::Feature),
    ("factor", Skip::Factor),
];

/// A float, or null where JSON has none.
fn number(x: f64) -> Value {
    json!(x.is_finite().then_some(x))
}

fn numbers(values: &[f64]) -> Value {
    values.iter().map(|x| number(*x)).collect()
}

impl Optimizer {
    /// The state as a JSON object.
    ///
    /// # Errors
    /// An unprepared optimizer that cannot be prepared.
    pub fn dump_state(&mut self) -> crate::Result<String> {
        if self.prepared.is_none() {
            self.prepare()?;
        }
        let p = self.prepared.as_ref().expect("prepared above");
        let state = json!({
            "schema": "metaadamw.state",
            "schema_version": SCHEMA_VERSION,
            "library_version": env!("CARGO_PKG_VERSION"),
            "step": p.steps,
            "skipped_steps": self.skipped(p),
            "options": Value::Object(options_to_json(&self.options)),
            "param_groups": self.param_groups_json(),
            "feature_columns": p.modulation.as_ref().map(Modulation::feature_columns),
            "modulation_groups": self.modulation_groups_json(p),
            "uncertainty": self.uncertainty_json(p),
            "meta": self.meta_json(p),
            "seconds": {
                "statistics": p.times.statistics.as_secs_f64(),
                "factors": p.times.factors.as_secs_f64(),
                "update": p.times.update.as_secs_f64(),
                "meta": p.times.meta.as_secs_f64(),
            },
        });
        Ok(format!("{state:#}"))
    }

    fn skipped(&self, p: &Prepared) -> Value {
        let by_reason: Map<String, Value> = REASONS
            .iter()
            .map(|(name, reason)| ((*name).to_owned(), json!(p.skips.by_reason[*reason as usize])))
            .collect();
        let last = p.skips.last.map(|(reason, tensor, step)| {
            let name = REASONS.iter().find(|(_, r)| *r == reason).map(|(name, _)| *name);
            json!({ "reason": name, "tensor": tensor.map(|i| self.tensors[i].name()), "after_step": step })
        });
        json!({ "total": p.skips.total(), "by_reason": by_reason, "last": last })
    }

    fn param_groups_json(&self) -> Value {
        let tensors = |i: usize| self.tensors.iter().filter(|t| t.param_group == i).count();
        self.param_groups
            .iter()
            .enumerate()
            .map(|(i, g)| {
                json!({
                    "lr": g.lr,
                    "beta1": g.beta1,
                    "beta2": g.beta2,
                    "eps": g.eps,
                    "weight_decay": g.weight_decay,
                    "tensors": tensors(i),
                })
            })
            .collect()
    }

    fn modulation_groups_json(&self, p: &Prepared) -> Value {
        let last = p.modulation.as_ref().and_then(|m| m.last().map(|last| (m.feature_dim(), last)));
        let group = |g: usize| {
            let tensors: Vec<Value> = p.groups.groups[g].tensors.iter().map(|&i| self.tensor_json(p, i)).collect();
            let mut group = json!({ "name": p.groups.groups[g].name.as_str(), "tensors": tensors });
            if let Some((dim, (features, factors))) = last {
                group["alpha"] = number(factors.alpha[g]);
                group["beta"] = number(factors.beta[g]);
                group["lambda1"] = number(factors.lambda1[g]);
                group["lambda2"] = number(factors.lambda2[g]);
                group["features"] = numbers(&features[g * dim..(g + 1) * dim]);
            }
            group
        };
        (0..p.groups.groups.len()).map(group).collect()
    }

    fn tensor_json(&self, p: &Prepared, i: usize) -> Value {
        let tensor = &self.tensors[i];
        let known = p.carried.then_some(&p.state[i]);
        json!({
            "name": tensor.name(),
            "shape": tensor.spec.shape,
            "dtype": tensor.spec.dtype,
            "param_group": tensor.param_group,
            "step": p.tensor_steps[i],
            "norms": known.map(|s| json!({
                "param": number(s.param.sqrt()),
                "exp_avg": number(s.exp_avg.sqrt()),
                "exp_avg_sq": number(s.exp_avg_sq.sqrt()),
            })),
        })
    }

    fn uncertainty_json(&self, p: &Prepared) -> Value {
        let log_vars = p.modulation.as_ref().and_then(|m| m.attention.log_vars());
        log_vars.map_or(Value::Null, |log_vars| {
            let weights = uncertainty::weigh(&self.options, Some(log_vars), [0.0; uncertainty::TERMS]).d_terms;
            json!({
                "terms": ["gradient_alignment", "loss_decrease", "gen_gap"],
                "log_vars": numbers(log_vars),
                "weights": numbers(&weights),
                "priorities": numbers(&self.options.priorities),
            })
        })
    }

    fn meta_json(&self, p: &Prepared) -> Value {
        let MetaResult { step, updates, losses, terms, loss_meta, evaluations, idle_groups, outcome } =
            *p.meta.result();
        json!({
            "updates": updates,
            "due": self.meta_due(),
            "last": {
                "outcome": outcome,
                "step": step,
                "evaluations": evaluations,
                "idle_groups": idle_groups,
                "losses": {
                    "train": number(losses.train),
                    "validation": number(losses.validation),
                    "train_moved": number(losses.train_moved),
                    "validation_moved": number(losses.validation_moved),
                },
                "terms": {
                    "gradient_alignment": number(terms[0]),
                    "loss_decrease": number(terms[1]),
                    "gen_gap": number(terms[2]),
                },
                "loss": number(loss_meta),
                "gradient": p.meta.gradient().map(|g| json!({
                    "alpha": numbers(&g.factors.alpha),
                    "beta": numbers(&g.factors.beta),
                })),
            },
        })
    }
}
