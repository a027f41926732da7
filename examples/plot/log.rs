//! A training log as curves.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::input::{LARGE, number, objects, string};

/// The picture of a log with this content.
///
/// # Errors
/// A message with the file, the line and what was expected there.
pub fn draw(file: &str, text: &str) -> Result<String, String> {
    let mut log = Log::default();
    for (line, value) in objects(file, text)? {
        log.take(line, &value).map_err(|message| format!("{file}:{line}: {message}"))?;
    }
    log.picture().map_err(|message| format!("{file}: {message}"))
}

/// Points in the order of time; no value where it was not finite.
pub type Curve = Vec<(f64, Option<f64>)>;

/// The curves of one seed of a run.
#[derive(Default)]
pub struct Seed {
    pub train: Curve,
    pub validation: Curve,
    /// Names of the modulation groups, from the first dump with factors.
    pub groups: Vec<String>,
    pub alpha: Vec<Curve>,
    pub beta: Vec<Curve>,
    pub updates: u64,
    pub interval: Option<u64>,
}

/// One of the curves.
pub type Part = fn(&Seed) -> &Curve;

#[derive(Default)]
pub struct Log {
    pub runs: BTreeMap<String, BTreeMap<u64, Seed>>,
    pub series: Option<String>,
    pub unit: Option<String>,
    /// Whether the first object has an epoch, and where it is.
    pub epochs: Option<(bool, usize)>,
}

impl Log {
    pub fn take(&mut self, line: usize, value: &Value) -> Result<(), String> {
        let object = value.as_object().ok_or("expected a JSON object")?;
        let dump = match object.get("state") {
            Some(Value::Null) | None => is_dump(object).then_some(object),
            Some(Value::Object(state)) if is_dump(state) => Some(state),
            Some(_) => {
                return Err("\"state\": expected a dump of maw_dump_state, with \"modulation_groups\"".to_owned());
            }
        };
        let epoch = number(object, "epoch")?.filter(|_| !is_dump(object));
        let (epochs, first) = *self.epochs.get_or_insert((epoch.is_some(), line));
        if epochs != epoch.is_some() {
            let has = |yes| if yes { "an" } else { "no" };
            return Err(format!("{} \"epoch\" here, but {} \"epoch\" in line {first}", has(!epochs), has(epochs)));
        }
        let step = dump.map_or(Ok(None), |dump| number(dump, "step"))?;
        let time = epoch.or(step).ok_or("expected an \"epoch\", or a dump of maw_dump_state with a \"step\"")?;
        if !(0.0..=LARGE).contains(&time) {
            return Err(format!("expected an \"epoch\" or \"step\" from 0 on, not {time}"));
        }
        let seed = match object.get("seed") {
            None => 1,
            Some(seed) => seed.as_u64().ok_or_else(|| format!("\"seed\": expected a whole number, not {seed}"))?,
        };
        for (name, known) in [("series", &mut self.series), ("unit", &mut self.unit)] {
            if let Some(text) = string(object, name)? {
                known.get_or_insert_with(|| text.to_owned());
            }
        }
        let run = string(object, "run")?.unwrap_or("run").to_owned();
        let seed = self.runs.entry(run).or_default().entry(seed).or_default();
        for (name, curve) in [("train_loss", &mut seed.train), ("validation_loss", &mut seed.validation)] {
            if object.contains_key(name) {
                insert(curve, time, number(object, name)?)
                    .map_err(|()| format!("a second \"{name}\" of this run and seed at {time}"))?;
            }
        }
        dump.map_or(Ok(()), |dump| seed.take(time, dump))
    }
}

impl Seed {
    pub fn take(&mut self, time: f64, dump: &Map<String, Value>) -> Result<(), String> {
        let groups = dump["modulation_groups"].as_array().ok_or("\"modulation_groups\": expected a list")?;
        let meta = dump.get("meta").and_then(|meta| meta["updates"].as_u64()).unwrap_or(0);
        self.updates = self.updates.max(meta);
        self.interval = dump.get("options").and_then(|options| options["meta_interval"].as_u64());
        // There are none with modulation off and before the first step.
        let with_factors = groups.iter().any(|group| !group["alpha"].is_null());
        if !with_factors {
            return Ok(());
        }
        let names = groups.iter().map(|group| group["name"].as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
        let names = names.ok_or("\"modulation_groups\": expected a \"name\" in each")?;
        if self.groups.is_empty() {
            self.alpha.resize(names.len(), Curve::new());
            self.beta.resize(names.len(), Curve::new());
            self.groups = names;
        } else if self.groups != names {
            return Err(format!("modulation groups {names:?}, but earlier {:?}", self.groups));
        }
        for (g, group) in groups.iter().enumerate() {
            let group = group.as_object().ok_or("\"modulation_groups\": expected objects")?;
            for (name, curve) in [("alpha", &mut self.alpha[g]), ("beta", &mut self.beta[g])] {
                let value = number(group, name).map_err(|message| format!("group {}: {message}", self.groups[g]))?;
                let at = curve.partition_point(|(t, _)| *t <= time);
                curve.insert(at, (time, value));
            }
        }
        Ok(())
    }
}

pub fn is_dump(object: &Map<String, Value>) -> bool {
    object.contains_key("modulation_groups")
}

/// Inserts a point in the order of time; logs of several threads mix runs, but not the order within one.
pub fn insert(curve: &mut Curve, time: f64, value: Option<f64>) -> Result<(), ()> {
    let at = curve.partition_point(|(t, _)| *t < time);
    if curve.get(at).is_some_and(|(t, _)| *t == time) {
        return Err(());
    }
    curve.insert(at, (time, value));
    Ok(())
}
