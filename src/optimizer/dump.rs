//! The state as JSON for people and plots: what is my optimizer doing? `docs/state.md` is its schema.
//!
//! Floats are written with as many digits as bring them back exactly; what is not finite is null.

use std::fmt::Write;

use super::Optimizer;
use super::prepared::Prepared;
use serde_json::{Map, Value, json};

use crate::checkpoint::options_to_json;
use crate::meta::uncertainty;
use crate::meta::{Batch, Kind, Meta, MetaResult, Outcome};
use crate::model::groups::Groups;
use crate::model::registration::Registration;
use crate::model::report::{Skip, Times};
use crate::modulation::{Factors, Modulation};
use crate::run::Run;

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

/// Where the time went; `None` before any was measured.
fn times_sentence(times: &Times) -> Option<String> {
    let parts = [
        ("statistics", times.statistics),
        ("factors", times.factors),
        ("update", times.update),
        ("meta-updates", times.meta),
    ];
    let all: f64 = parts.iter().map(|(_, time)| time.as_secs_f64()).sum();
    if all == 0.0 {
        return None;
    }
    let (value, digits, unit) = match all {
        s if s < 1e-3 => (s * 1e6, 0, "µs"),
        s if s < 1.0 => (s * 1e3, 1, "ms"),
        s => (s, 1, "s"),
    };
    // With room for any times: how often a growing string is moved would depend on their digits.
    let mut sentence = String::with_capacity(TIMES_ROOM);
    write!(sentence, "{value:.digits$} {unit} inside the library: ").expect("there is room");
    for (i, (name, time)) in parts.iter().enumerate() {
        let end = if i + 1 < parts.len() { ", " } else { "." };
        write!(sentence, "{name} {:.0} %{end}", 100.0 * time.as_secs_f64() / all).expect("there is room");
    }
    Some(sentence)
}

const TIMES_ROOM: usize = 128;

/// "0.981 ('a') to 1.043 ('b')".
fn spread(factors: &[f64], groups: &Groups) -> String {
    let name = |g: usize| groups.groups[g].name.as_str();
    let by = |a: &usize, b: &usize| factors[*a].total_cmp(&factors[*b]);
    let all = 0..factors.len();
    match (all.clone().min_by(by), all.max_by(by)) {
        (Some(least), Some(most)) if factors[least] != factors[most] => {
            format!("{:.4} ('{}') to {:.4} ('{}')", factors[least], name(least), factors[most], name(most))
        }
        (Some(only), _) => format!("{:.4}", factors[only]),
        _ => "nothing".to_owned(),
    }
}

/// A float, or null where JSON has none.
fn number(x: f64) -> Value {
    json!(x.is_finite().then_some(x))
}

fn numbers<'a>(values: impl IntoIterator<Item = &'a f64>) -> Value {
    values.into_iter().map(|x| number(*x)).collect()
}

impl Optimizer {
    /// The state as a JSON object.
    ///
    /// # Errors
    /// An unprepared optimizer that cannot be prepared.
    pub fn dump_state(&mut self) -> crate::Result<String> {
        self.with_prepared(|mut p| {
            p.sync()?;
            p.within(80, |p| {
                let Prepared { registration, run, meta, .. } = p;
                run.backend.first_moment_sums(&mut run.state.state_sums);
                let state = Dump { registration, run, meta }.state();
                // In one piece: how often a growing string is moved would depend on the digits of times.
                let mut length = Length(0);
                write!(length, "{state:#}").expect("it counts");
                let mut json = String::with_capacity(length.0 + 1); // for C's NUL
                write!(json, "{state:#}").expect("there is room");
                Ok(json)
            })
        })
    }
}

/// Counts the bytes that are written.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// What is written.
struct Dump<'a> {
    registration: &'a Registration,
    run: &'a Run,
    meta: &'a Meta,
}

impl Dump<'_> {
    fn modulation(&self) -> Option<&Modulation> {
        self.run.state.modulation.as_ref()
    }

    fn is_due(&self) -> bool {
        self.meta.is_due(self.registration, self.run)
    }

    fn state(&self) -> Value {
        let times = self.run.times;
        json!({
            "schema": "metaadamw.state",
            "schema_version": SCHEMA_VERSION,
            "library_version": env!("CARGO_PKG_VERSION"),
            "summary": self.summary(),
            "step": self.run.state.steps,
            "skipped_steps": self.skipped(),
            "threads": self.run.backend.threads(),
            "options": Value::Object(options_to_json(&self.registration.options)),
            "param_groups": self.param_groups_json(),
            "feature_columns": self.modulation().map(Modulation::feature_columns),
            "modulation_groups": self.modulation_groups_json(),
            "uncertainty": self.uncertainty_json(),
            "meta": self.meta_json(),
            "horizon": self.horizon_json(),
            "seconds": {
                "statistics": times.statistics.as_secs_f64(),
                "factors": times.factors.as_secs_f64(),
                "update": times.update.as_secs_f64(),
                "meta": times.meta.as_secs_f64(),
            },
        })
    }

    /// The state in sentences.
    fn summary(&self) -> Vec<String> {
        let mut sentences = vec![self.steps_sentence()];
        sentences.push(match self.modulation().map(|m| m.last()) {
            None => "Modulation is off: this is plain AdamW.".to_owned(),
            Some(None) => "No factors yet: they come with the first step.".to_owned(),
            Some(Some((_, factors))) => format!(
                "Learning rates are multiplied by {}, weight decays by {}.",
                spread(&factors.alpha, &self.run.groups),
                spread(&factors.beta, &self.run.groups)
            ),
        });
        if self.modulation().is_some() {
            sentences.push(self.meta_sentence());
        }
        sentences.extend(times_sentence(&self.run.times));
        sentences
    }

    fn steps_sentence(&self) -> String {
        let skipped = match (self.run.state.skips.total(), self.run.state.skips.last) {
            (0, _) => "none skipped".to_owned(),
            (n, None) => format!("{n} skipped"),
            (n, Some((reason, tensor, after))) => {
                let of = tensor.map(|i| format!(" of '{}'", self.registration.tensors[i].name())).unwrap_or_default();
                format!("{n} skipped, the last after step {after}: the {}{of} was not finite", word(reason))
            }
        };
        let steps = if self.run.state.steps == 1 { "step" } else { "steps" };
        format!("{} {steps} applied, {skipped}.", self.run.state.steps)
    }

    fn meta_sentence(&self) -> String {
        let result = self.meta.result();
        if self.run.state.horizon.is_some() {
            let times = if result.updates == 1 { "once" } else { &format!("{} times", result.updates) };
            let last = if result.outcome == Outcome::Updated {
                format!(", the last after step {}", result.step)
            } else {
                String::new()
            };
            return format!("The attention module has learned {times} from steps{last}.");
        }
        let now = match self.meta.open_request() {
            Some((request, _)) => format!("one is open and waits for the answer to request {}", request.id),
            None if self.is_due() => "one is due now".to_owned(),
            None => match self.next_due() {
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

    /// The first step from now on at which a meta-update is due; `None` without modulation, and where none ever is.
    fn next_due(&self) -> Option<u64> {
        self.modulation().filter(|_| self.run.state.horizon.is_none())?;
        let interval = self.registration.options.meta_interval;
        let from = self.run.state.steps.max(self.registration.options.meta_warmup).max(1);
        let next = from.checked_next_multiple_of(interval)?;
        if next == self.run.state.steps && self.meta.done_at() == Some(self.run.state.steps) {
            next.checked_add(interval)
        } else {
            Some(next)
        }
    }

    fn skipped(&self) -> Value {
        let by_reason: Map<String, Value> = REASONS
            .iter()
            .map(|(name, reason)| ((*name).to_owned(), json!(self.run.state.skips.by_reason[*reason as usize])))
            .collect();
        let last = self.run.state.skips.last.map(|(reason, tensor, step)| {
            json!({ "reason": word(reason), "tensor": tensor.map(|i| self.registration.tensors[i].name()), "after_step": step })
        });
        json!({ "total": self.run.state.skips.total(), "by_reason": by_reason, "last": last })
    }

    fn param_groups_json(&self) -> Value {
        let tensors = |i: usize| self.registration.tensors.iter().filter(|t| t.param_group == i).count();
        self.registration
            .param_groups
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

    fn modulation_groups_json(&self) -> Value {
        let last = self.modulation().and_then(Modulation::last);
        let group = |g: usize| {
            let tensors: Vec<Value> = self.run.groups.groups[g].tensors.iter().map(|&i| self.tensor_json(i)).collect();
            let factor = |of: fn(&Factors) -> &[f64]| last.map(|(_, factors)| number(of(factors)[g]));
            json!({
                "name": self.run.groups.groups[g].name.as_str(),
                "alpha": factor(|f| &f.alpha),
                "beta": factor(|f| &f.beta),
                "lambda1": factor(|f| &f.lambda1),
                "lambda2": factor(|f| &f.lambda2),
                "features": last.map(|(features, _)| numbers(features.row(g))),
                "tensors": tensors,
            })
        };
        (0..self.run.groups.groups.len()).map(group).collect()
    }

    fn tensor_json(&self, i: usize) -> Value {
        let tensor = &self.registration.tensors[i];
        // Of a shard they are summed over the processes in the next step only.
        let known = self.run.state.sums_current && tensor.spec.shard.is_none();
        let known = known.then_some(&self.run.state.state_sums[i]);
        let group = &self.registration.param_groups[tensor.param_group];
        let factors = match self.modulation() {
            None => Some((1.0, 1.0)),
            Some(modulation) => modulation.last().map(|(_, factors)| factors.of(self.run.groups.of_tensor[i])),
        };
        json!({
            "name": tensor.name(),
            "shape": tensor.spec.shape,
            "dtype": tensor.spec.dtype,
            "grad_dtype": tensor.spec.grad_dtype,
            "moment_dtype": tensor.moment_dtype,
            "precision": tensor.precision,
            "param_group": tensor.param_group,
            "layer_kind": tensor.kind(self.registration.options.semantics),
            "layer": tensor.layer(),
            "step": self.run.state.tensor_steps[i],
            "effective_lr": factors.map(|(alpha, _)| number(group.lr * alpha)),
            "effective_weight_decay": factors.map(|(_, beta)| number(group.weight_decay * beta)),
            "norms": known.map(|s| json!({
                "param": number(s.param.sqrt()),
                "exp_avg": number(s.exp_avg.sqrt()),
                "exp_avg_sq": number(s.exp_avg_sq.sqrt()),
            })),
        })
    }

    fn uncertainty_json(&self) -> Value {
        let log_vars = self.modulation().and_then(|m| m.attention.log_vars());
        log_vars.map_or(Value::Null, |log_vars| {
            let weights =
                uncertainty::weigh(&self.registration.options, Some(log_vars), [0.0; uncertainty::TERMS]).d_terms;
            json!({
                "terms": ["gradient_alignment", "loss_decrease", "gen_gap"],
                "log_vars": numbers(log_vars),
                "weights": numbers(&weights),
                "priorities": numbers(&self.registration.options.priorities),
            })
        })
    }

    /// What the attention module learns from; null unless it learns from steps.
    fn horizon_json(&self) -> Value {
        let moments = self.modulation().and_then(|m| m.moments.as_ref());
        self.run.state.horizon.as_ref().map_or(Value::Null, |horizon| {
            json!({
                "steps": horizon.count,
                "sums": numbers(&horizon.sums),
                "learned": moments.map(|moments| moments.step),
            })
        })
    }

    fn meta_json(&self) -> Value {
        let MetaResult { step, updates, losses, terms, loss_meta, evaluations, idle_groups, outcome } =
            *self.meta.result();
        json!({
            "updates": updates,
            "due": self.is_due(),
            "next_due_at": self.next_due(),
            "open": self.meta.open_request().map(|(request, answered)| json!({
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
                "gradient": self.meta.gradient().map(|g| json!({
                    "alpha": numbers(&g.factors.alpha),
                    "beta": numbers(&g.factors.beta),
                })),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_times_make_their_sentence_outgrow_its_room() {
        for time in [1, 999, 1_000_000, 999_999_999, 1_000_000_000, u64::MAX / 4].map(Duration::from_nanos) {
            for lone in [Duration::ZERO, time] {
                let times = Times { statistics: time, factors: lone, update: lone, meta: lone };
                let sentence = times_sentence(&times).expect("there are times");
                assert_eq!(sentence.capacity(), TIMES_ROOM, "{sentence}");
            }
        }
        assert_eq!(times_sentence(&Times::default()), None);
    }
}
