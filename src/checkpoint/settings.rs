//! Options and param groups in a checkpoint: words and whole numbers as JSON, floats as float64 tensors.
//!
//! A decimal float would be exact only by luck of its printer; a tensor is exact in every reader.

use serde_json::{Map, Number, Value, json};

use crate::error::{Error, Result};
use crate::model::options::{Objective, Options, ParamGroup, Weighting};

/// Options that decide what the state means: they must be equal.
const STRUCTURAL: [&str; 12] = [
    "semantics",
    "feature_version",
    "grouping",
    "modulation",
    "use_v_norms",
    "include_time_step",
    "use_feature_gating",
    "group_embed_dim",
    "feature_dim",
    "attn_heads",
    "attn_layers",
    "attn_hidden_dim",
];
/// Options that decide what the attention module reads, as far as its tensors' shapes do not say so.
const READING: [&str; 4] = ["feature_version", "use_v_norms", "include_time_step", "attn_heads"];
/// Options that have a setter.
const SETTABLE: [&str; 2] = ["max_grad_norm", "priorities"];
/// Options that a file lacks where they have their default, as files of version 0.1 do.
const LATER: [&str; 5] = ["alpha_log_range", "beta_log_range", "horizon", "meta_optimizer", "average_dtype"];
/// The floats among them.
pub const LATER_FLOATS: [&str; 2] = ["alpha_log_range", "beta_log_range"];
/// Options that there is a state for if they are not the default: averages; moments of Φ.
const WITH_STATE: [&str; 2] = ["horizon", "meta_optimizer"];
/// Options of the machine, not of the run: they are not saved.
const LOCAL: [&str; 3] = ["threads", "verify_params", "device"];

/// Float options by name; an array of three is one entry.
pub type Floats = Vec<(String, Vec<f64>)>;

/// Whose steering options hold after loading, where they differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// The file's, of those that have a setter: a schedule has moved them. Any other difference is an error.
    #[default]
    Settable,
    /// Every difference is an error.
    Strict,
    /// The file's.
    File,
    /// The optimizer's own.
    Own,
}

impl OnConflict {
    /// Whether a difference in a value is an error. `settable`: whether the value has a setter.
    fn refuses(self, settable: bool) -> bool {
        match self {
            Self::Settable => !settable,
            Self::Strict => true,
            Self::File | Self::Own => false,
        }
    }
}

/// The options as a JSON object, floats included.
#[must_use]
pub fn to_json(options: &Options) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(map)) => map,
        other => unreachable!("options are a plain struct: {other:?}"),
    }
}

/// The options without floats, and the floats by name.
#[must_use]
pub fn split(options: &Options) -> (Map<String, Value>, Floats) {
    let mut words = to_json(options);
    for name in LOCAL {
        words.remove(name);
    }
    let defaults = to_json(&Options::default());
    words.retain(|name, value| !LATER.contains(&name.as_str()) || *value != defaults[name]);
    let mut floats = Vec::new();
    words.retain(|name, value| {
        let numbers = match value {
            Value::Number(n) if n.is_f64() => Some(vec![n.as_f64().expect("is_f64")]),
            Value::Array(values) if values.iter().all(Value::is_f64) => {
                Some(values.iter().filter_map(Value::as_f64).collect())
            }
            _ => None,
        };
        let is_word = numbers.is_none();
        floats.extend(numbers.map(|numbers| (name.clone(), numbers)));
        is_word
    });
    (words, floats)
}

/// Puts the options together again; what is local is `own`'s.
///
/// # Errors
/// [`Error::Corrupt`] names what is missing, unknown or out of range.
pub fn join(mut words: Map<String, Value>, floats: &[(String, Vec<f64>)], own: &Options) -> Result<Options> {
    let corrupt = |what: String| Error::Corrupt { what };
    for (name, numbers) in floats {
        let number = |x: &f64| {
            Number::from_f64(*x).map(Value::Number).ok_or_else(|| corrupt(format!("its option {name} is {x}")))
        };
        let value = match &numbers[..] {
            [one] => number(one)?,
            several => Value::Array(several.iter().map(number).collect::<Result<_>>()?),
        };
        if words.insert(name.clone(), value).is_some() {
            return Err(corrupt(format!("its option {name} is there twice")));
        }
    }
    let local = to_json(own);
    for name in LOCAL {
        if words.insert(name.to_owned(), local[name].clone()).is_some() {
            return Err(corrupt(format!("its option {name} is not one of a file")));
        }
    }
    let options: Options =
        serde_json::from_value(Value::Object(words)).map_err(|e| corrupt(format!("its options: {e}")))?;
    options.validate().map_err(|e| corrupt(format!("its options: {e}")))?;
    Ok(options)
}

/// Differences in structural options, read from the file's words: before anything else is taken from it. With the own
/// options a state that the file does not have begins anew.
#[must_use]
pub fn structural_differences(file: &Map<String, Value>, own: &Options, on_conflict: OnConflict) -> Vec<String> {
    let (ours, defaults) = (to_json(own), to_json(&Options::default()));
    let mut file = file.clone();
    for name in LATER {
        file.entry(name).or_insert_with(|| defaults[name].clone());
    }
    let is = |options: &Map<String, Value>, name: &str, value: Value| options.get(name) == Some(&value);
    let horizon = |options: &Map<String, Value>| is(options, "objective", json!(Objective::Horizon));
    let log_vars = |options: &Map<String, Value>| is(options, "weighting", json!(Weighting::Huw)) && !horizon(options);
    let has = |options: &Map<String, Value>, name: &str| options.get(name) != defaults.get(name);
    let mut differing = STRUCTURAL.to_vec();
    if log_vars(&file) != log_vars(&ours) {
        differing.extend(["weighting", "objective"]);
    }
    let lost = |theirs: bool, ours: bool| (theirs && !ours) || (ours && !theirs && on_conflict != OnConflict::Own);
    differing.extend(WITH_STATE.iter().filter(|name| lost(has(&file, name), has(&ours, name))));
    if lost(horizon(&file), horizon(&ours)) && !differing.contains(&"objective") {
        differing.push("objective");
    }
    if has(&file, "horizon") && has(&ours, "horizon") {
        differing.push("average_dtype");
    }
    named_differences(&differing, &file, own)
}

/// Differences in options that only steer the future: those that are refused, and the others.
#[must_use]
pub fn differences(file: &Options, own: &Options, on_conflict: OnConflict) -> [Vec<String>; 2] {
    let theirs = to_json(file);
    let names = theirs.keys().map(String::as_str).filter(|name| !LOCAL.contains(name));
    let (refused, taken): (Vec<&str>, Vec<&str>) = names.partition(|name| on_conflict.refuses(SETTABLE.contains(name)));
    [refused, taken].map(|names| named_differences(&names, &theirs, own))
}

/// The options that go with an attention module alone.
#[must_use]
pub fn of_attention(mut words: Map<String, Value>) -> Map<String, Value> {
    words.retain(|name, _| READING.contains(&name.as_str()));
    words
}

/// Differences in what an attention module reads.
#[must_use]
pub fn attention_differences(file: &Map<String, Value>, own: &Options) -> Vec<String> {
    named_differences(&READING, file, own)
}

fn named_differences(names: &[&str], file: &Map<String, Value>, own: &Options) -> Vec<String> {
    let ours = to_json(own);
    let text = |options: &Map<String, Value>, name: &str| options.get(name).map_or("missing".into(), Value::to_string);
    names
        .iter()
        .filter(|name| file.get(**name) != ours.get(**name))
        .map(|name| format!("options.{name}: {} in the file, {} here", text(file, name), text(&ours, name)))
        .collect()
}

/// One field of a param group: its name, and how to read and write it.
type GroupField = (&'static str, fn(&ParamGroup) -> f64, fn(&mut ParamGroup, f64));

/// The hyper-parameters of param groups, in the order of the file. Each has a setter.
pub const GROUP_FIELDS: [GroupField; 5] = [
    ("lr", |g| g.lr, |g, x| g.lr = x),
    ("beta1", |g| g.beta1, |g, x| g.beta1 = x),
    ("beta2", |g| g.beta2, |g, x| g.beta2 = x),
    ("eps", |g| g.eps, |g, x| g.eps = x),
    ("weight_decay", |g| g.weight_decay, |g, x| g.weight_decay = x),
];

/// Differences between as many param groups: those that are refused, and the others.
#[must_use]
pub fn group_differences(file: &[ParamGroup], own: &[ParamGroup], on_conflict: OnConflict) -> [Vec<String>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    for (i, (theirs, ours)) in file.iter().zip(own).enumerate() {
        for (name, get, _) in &GROUP_FIELDS {
            if get(theirs).to_bits() != get(ours).to_bits() {
                let text = format!("param group {i}: {name} {} in the file, {} here", get(theirs), get(ours));
                found[usize::from(!on_conflict.refuses(true))].push(text);
            }
        }
    }
    found
}
