//! The state as JSON for people and plots: what is my optimizer doing? `docs/state.md` is its schema.
//!
//! Floats are written with as many digits as bring them back exactly; what is not finite is null.

use serde_json::{Map, Value, json};

use crate::checkpoint::options_to_json;
use crate::meta::uncertainty;
use crate::meta::{Batch, Kind, MetaResult, Outcome};
use crate::model::report::Skip;
use crate::modulation::{Factors, Modulation};
use crate::optimizer::{Optimizer, Prepared};

/// Number of the schema; it grows when a field changes its meaning or goes, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

const REASONS: [(&str, Skip); 5] = [
    ("gradient", Skip::Gradient),
    ("parameter", Skip::Parameter),
    ("moment", Skip::Moment),
    ("feature", Skip::Feature),
    ("factor", Skip::Factor),
];

fn word(reason: Skip) -> &'static str {
    REASONS.iter().find(|(_, r)| *r == reason).map_or("state", |(name, _)| name)
}

/// With a unit in which the number is easy to read.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// "0.981 ('a') to 1.043 ('b')".
fn spread(factors: &[f64], p: &Prepared) -> String {
    let name = |g: usize| p.groups.groups[g].name.as_str();
    let by = |a: &usize, b: &usize| factors[*a].total_cmp(&factors[*b]);
    let groups = 0..factors.len();
    match (groups.clone().min_by(by), groups.max_by(by)) {
        (Some(least), Some(most)) if factors[least] != factors[most] => {
            format!("{:.4} ('{}') to {:.4} ('{}')", factors[least], name(least), factors[most], name(most))
        }
        (Some(all), _) => format!("{:.4}", factors[all]),
        _ => "nothing".to_owned(),
    }
}

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
        self.sync()?;
        let p = self.prepared.as_mut().expect("prepared above");
        p.backend.first_moment_sums(&mut p.state);
        let p = self.prepared.as_ref().expect("prepared above");
        let state = json!({
            "schema": "metaadamw.state",
            "schema_version": SCHEMA_VERSION,
            "library_version": env!("CARGO_PKG_VERSION"),
            "summary": self.summary(p),
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

    /// The state in sentences.
    fn summary(&self, p: &Prepared) -> Vec<String> {
        let mut told = vec![self.steps_told(p)];
        told.push(match p.modulation.as_ref().map(|m| m.last()) {
            None => "Modulation is off: this is plain AdamW.".to_owned(),
            Some(None) => "No factors yet: they come with the first step.".to_owned(),
            Some(Some((_, factors))) => format!(
                "Learning rates are multiplied by {}, weight decays by {}.",
                spread(&factors.alpha, p),
                spread(&factors.beta, p)
            ),
        });
        if p.modulation.is_some() {
            told.push(self.meta_told(p));
        }
        let times = p.times;
        let parts = [
            ("statistics", times.statistics),
            ("factors", times.factors),
            ("update", times.update),
            ("meta-updates", times.meta),
        ];
        let all: f64 = parts.iter().map(|(_, time)| time.as_secs_f64()).sum();
        if all > 0.0 {
            let share = |(name, time): &(&str, std::time::Duration)| {
                format!("{name} {:.0} %", 100.0 * time.as_secs_f64() / all)
            };
            told.push(format!(
                "{} inside the library: {}.",
                duration(all),
                parts.iter().map(share).collect::<Vec<_>>().join(", ")
            ));
        }
        told
    }

    fn steps_told(&self, p: &Prepared) -> String {
        let skipped = match (p.skips.total(), p.skips.last) {
            (0, _) => "none skipped".to_owned(),
            (n, None) => format!("{n} skipped"),
            (n, Some((reason, tensor, after))) => {
                let of = tensor.map(|i| format!(" of '{}'", self.tensors[i].name())).unwrap_or_default();
                format!("{n} skipped, the last after step {after}: the {}{of} was not finite", word(reason))
            }
        };
        let steps = if p.steps == 1 { "step" } else { "steps" };
        format!("{} {steps} applied, {skipped}.", p.steps)
    }

    fn meta_told(&self, p: &Prepared) -> String {
        let result = p.meta.result();
        let now = match p.meta.open_request() {
            Some((request, _)) => format!("one is open and waits for the answer to request {}", request.id),
            None if self.meta_due() => "one is due now".to_owned(),
            None => match self.next_due(p) {
                Some(step) => format!("the next is due at step {step}"),
                None => "no more are due".to_owned(),
            },
        };
        let last = match result.outcome {
            Outcome::None => String::new(),
            Outcome::Updated => format!(" (the last at step {}, objective {:.4e})", result.step, result.loss_meta),
            other => format!(" (the last attempt, at step {}, ended as {})", result.step, json!(other)),
        };
        let made = if result.updates == 1 { "1 meta-update" } else { &format!("{} meta-updates", result.updates) };
        format!("{made} made{last}; {now}.")
    }

    /// The first step from now on at which a meta-update is due; `None` without modulation.
    fn next_due(&self, p: &Prepared) -> Option<u64> {
        p.modulation.as_ref()?;
        let interval = self.options.meta_interval;
        let from = p.steps.max(self.options.meta_warmup).max(1);
        let next = from.checked_next_multiple_of(interval)?;
        if next == p.steps && p.meta.done_at() == Some(p.steps) { next.checked_add(interval) } else { Some(next) }
    }

    fn skipped(&self, p: &Prepared) -> Value {
        let by_reason: Map<String, Value> = REASONS
            .iter()
            .map(|(name, reason)| ((*name).to_owned(), json!(p.skips.by_reason[*reason as usize])))
            .collect();
        let last = p.skips.last.map(|(reason, tensor, step)| {
            json!({ "reason": word(reason), "tensor": tensor.map(|i| self.tensors[i].name()), "after_step": step })
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
            let factor = |of: fn(&Factors) -> &[f64]| last.map(|(_, (_, factors))| number(of(factors)[g]));
            json!({
                "name": p.groups.groups[g].name.as_str(),
                "alpha": factor(|f| &f.alpha),
                "beta": factor(|f| &f.beta),
                "lambda1": factor(|f| &f.lambda1),
                "lambda2": factor(|f| &f.lambda2),
                "features": last.map(|(dim, (features, _))| numbers(&features[g * dim..(g + 1) * dim])),
                "tensors": tensors,
            })
        };
        (0..p.groups.groups.len()).map(group).collect()
    }

    fn tensor_json(&self, p: &Prepared, i: usize) -> Value {
        let tensor = &self.tensors[i];
        let known = p.carried.then_some(&p.state[i]);
        let group = &self.param_groups[tensor.param_group];
        let factors = match &p.modulation {
            None => Some((1.0, 1.0)),
            Some(modulation) => modulation.last().map(|(_, factors)| factors.of(p.groups.of_tensor[i])),
        };
        json!({
            "name": tensor.name(),
            "shape": tensor.spec.shape,
            "dtype": tensor.spec.dtype,
            "grad_dtype": tensor.spec.grad_dtype,
            "moment_dtype": tensor.moment_dtype,
            "precision": tensor.precision,
            "param_group": tensor.param_group,
            "step": p.tensor_steps[i],
            "effective_lr": factors.map(|(alpha, _)| number(group.lr * alpha)),
            "effective_weight_decay": factors.map(|(_, beta)| number(group.weight_decay * beta)),
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
            "next_due_at": self.next_due(p),
            "open": p.meta.open_request().map(|(request, answered)| json!({
                "request": request.id,
                "kind": match request.kind { Kind::Loss => "loss", Kind::Gradient => "gradient" },
                "batch": match request.batch {
                    Batch::Train1 => "train_1",
                    Batch::Train2 => "train_2",
                    Batch::Validation => "validation",
                },
                "replay": request.replay,
                "answered": answered,
            })),
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
