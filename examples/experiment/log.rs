//! Logs of `train`: JSON lines, a start, an epoch each, an end. Readers ignore what they do not know.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// Alpha and beta of each modulation group.
pub type Factors = BTreeMap<String, [f64; 2]>;

pub struct Epoch {
    pub epoch: u64,
    pub selection: Option<f64>,
    pub test: Option<f64>,
    /// Training so far.
    pub seconds: f64,
}

pub struct End {
    pub reason: String,
    pub selection: Option<f64>,
    /// At the best epoch.
    pub test: Option<f64>,
    /// Of the averages of the parameters.
    pub average: Option<f64>,
    pub seconds: f64,
    pub optimizer_seconds: Option<f64>,
    pub meta_seconds: Option<f64>,
    pub factors: Option<Factors>,
}

/// The content of one log without its dumps of the optimizer's state.
#[derive(Default)]
pub struct Log {
    /// The first line's, `settings` included.
    pub start: Object,
    pub metric: String,
    pub epochs: Vec<Epoch>,
    pub meta_interval: Option<u64>,
    /// None: the run is not finished.
    pub end: Option<End>,
}

impl Log {
    /// # Errors
    /// A message with the file, the line and what was expected there.
    pub fn read(file: &Path) -> Result<Self, String> {
        let name = file.display();
        let text = fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
        Self::parse(&text).map_err(|(line, message)| format!("{name}:{line}: {message}"))
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut log = Self::default();
        for (line, object) in lines(text)? {
            log.take(object).map_err(|message| (line, message))?;
        }
        Ok(log)
    }

    fn take(&mut self, object: Object) -> Result<(), String> {
        let event = text(&object, "event")?;
        if self.start.is_empty() && event != "start" {
            return Err(format!("expected the \"start\" first, not \"{event}\""));
        }
        match event {
            // A second one continues the run.
            "start" => {
                text(&object, "metric")?.clone_into(&mut self.metric);
                if !["MSE", "perplexity", "accuracy"].contains(&self.metric.as_str()) {
                    return Err(format!("\"metric\": expected MSE, perplexity or accuracy, not {}", self.metric));
                }
                self.start = object;
            }
            "epoch" => {
                let epoch = Epoch {
                    epoch: object.get("epoch").and_then(Value::as_u64).ok_or("\"epoch\": expected a whole number")?,
                    selection: number(&object, "selection")?,
                    test: number(&object, "test")?,
                    seconds: needed(&object, "seconds")?,
                };
                // A run that was continued may have repeated what came after its checkpoint.
                self.epochs.retain(|earlier| earlier.epoch < epoch.epoch);
                let interval = object.get("state").and_then(|state| state["options"]["meta_interval"].as_u64());
                self.meta_interval = self.meta_interval.or(interval);
                self.epochs.push(epoch);
                self.end = None;
            }
            "end" => {
                self.end = Some(End {
                    reason: text(&object, "reason")?.to_owned(),
                    selection: number(&object, "selection")?,
                    test: number(&object, "test")?,
                    average: number(&object, "test_average")?,
                    seconds: needed(&object, "seconds")?,
                    optimizer_seconds: number(&object, "optimizer_seconds")?,
                    meta_seconds: number(&object, "meta_seconds")?,
                    factors: factors(&object)?,
                });
            }
            _ => {}
        }
        Ok(())
    }

    pub fn lower_is_better(&self) -> bool {
        self.metric != "accuracy"
    }

    /// A setting by its flag's name.
    pub fn setting(&self, flag: &str) -> Option<&Value> {
        let settings = self.start.get("settings")?.as_object()?;
        settings.get(flag).or_else(|| settings.get(&flag.replace('-', "_"))).filter(|value| !value.is_null())
    }
}

/// The objects with their lines. A last line without its end is one that a kill interrupted.
pub fn lines(text: &str) -> Result<Vec<(usize, Object)>, (usize, String)> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let rows = whole.lines().enumerate().filter(|(_, row)| !row.trim().is_empty());
    let parse = |(i, row): (usize, &str)| {
        let object = serde_json::from_str(row);
        object.map(|object| (i + 1, object)).map_err(|error| (i + 1, format!("expected a JSON object: {error}")))
    };
    rows.map(parse).collect()
}

fn text<'a>(object: &'a Object, name: &str) -> Result<&'a str, String> {
    object.get(name).and_then(Value::as_str).ok_or_else(|| format!("\"{name}\": expected a string"))
}

/// None where it is missing, or null, which is a number that is not finite.
fn number(object: &Object, name: &str) -> Result<Option<f64>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_f64().map(Some).ok_or_else(|| format!("\"{name}\": expected a number or null, not {value}"))
        }
    }
}

fn needed(object: &Object, name: &str) -> Result<f64, String> {
    number(object, name)?.ok_or_else(|| format!("\"{name}\": expected a number"))
}

fn factors(object: &Object) -> Result<Option<Factors>, String> {
    let Some(groups) = object.get("mean_factors").filter(|groups| !groups.is_null()) else { return Ok(None) };
    let pair = |value: &Value| Some([value.get(0)?.as_f64()?, value.get(1)?.as_f64()?]);
    let groups = groups.as_object().and_then(|groups| {
        groups.iter().map(|(name, value)| Some((name.clone(), pair(value)?))).collect::<Option<Factors>>()
    });
    groups.map(Some).ok_or_else(|| "\"mean_factors\": expected [alpha, beta] of each group".to_owned())
}
