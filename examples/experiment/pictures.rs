//! The page's pictures, drawn by examples/plot.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::log::{Epoch, lines};
use super::matrix::{CURVES, METHODS, RATE, Stage};
use super::plot::{draw, rates as rate_curves, spread};
use super::resolve::Logs;
use super::results::{Row, Task, test};
use super::scales::paper_of;

/// Accuracies are drawn as errors: then lower is better everywhere.
fn cost(task: &Task, value: f64) -> f64 {
    if task.lower_is_better() { value } else { 1.0 - value }
}

fn quantity<'a>(task: &'a Task) -> &'a str {
    if task.lower_is_better() { &task.metric } else { "1 − accuracy" }
}

/// Metrics of the methods over epochs, up to the last epoch of the seed that ends first.
pub fn epochs(task: &Task) -> Result<Option<String>, String> {
    let mut text = String::new();
    type Pick = fn(&Epoch) -> Option<f64>;
    let test: Pick = |epoch| epoch.test;
    for (panel, pick) in [("Test metric", test), ("Selection metric", |epoch| epoch.selection)] {
        for row in METHODS.iter().filter_map(|method| task.row(method)) {
            let last = row.finished.values().filter_map(|log| log.epochs.last()).map(|epoch| epoch.epoch).min();
            let mut points: BTreeMap<u64, Vec<Option<f64>>> = BTreeMap::new();
            for epoch in row.finished.values().flat_map(|log| &log.epochs).filter(|epoch| Some(epoch.epoch) <= last) {
                points.entry(epoch.epoch).or_default().push(pick(epoch).map(|value| cost(task, value)));
            }
            for (epoch, values) in points {
                let line = json!({
                    "title": paper_of(task.size.task).title, "panel": panel, "unit": quantity(task), "along": "epoch",
                    "line": row.method, "at": epoch, "values": values,
                });
                text += &format!("{line}\n");
            }
        }
    }
    if text.is_empty() { Ok(None) } else { spread::draw(task.size.task, &text).map(Some) }
}

/// The first seed of metaadamw that is finished, with its lines that are epochs.
fn meta_run(task: &Task, logs: &Logs) -> Result<Option<(u64, Vec<Value>)>, String> {
    let Some(seed) = task.row("metaadamw").and_then(|row| row.finished.keys().next().copied()) else { return Ok(None) };
    let run = super::matrix::Run::new(task.size, Stage::Main, "metaadamw", seed);
    let file = logs.file(&logs.resolve(&run)?.name);
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let objects = lines(&text).map_err(|(line, message)| format!("{}:{line}: {message}", file.display()))?;
    let mut epochs: BTreeMap<u64, Value> = BTreeMap::new();
    for (_, object) in objects {
        if let Some(epoch) = object.get("epoch").and_then(Value::as_u64) {
            epochs.insert(epoch, Value::Object(object));
        }
    }
    Ok(Some((seed, epochs.into_values().collect())))
}

/// Losses and factors of one run: the factors are means over the epoch's steps.
pub fn factors(task: &Task, logs: &Logs) -> Result<Option<(u64, String)>, String> {
    let Some((seed, epochs)) = meta_run(task, logs)? else { return Ok(None) };
    let (mut text, mut any) = (String::new(), false);
    for line in &epochs {
        let means = line["mean_factors"].as_object().map(|groups| {
            let group = |(name, pair): (&String, &Value)| json!({ "name": name, "alpha": pair[0], "beta": pair[1] });
            groups.iter().map(group).collect::<Vec<_>>()
        });
        let state = means.map(|groups| {
            let state = &line["state"];
            let interval = json!({ "meta_interval": state["options"]["meta_interval"] });
            json!({ "modulation_groups": groups, "meta": { "updates": state["meta"]["updates"] }, "options": interval })
        });
        any |= state.is_some();
        let drawn = json!({
            "run": "metaadamw", "seed": seed, "epoch": line["epoch"], "series": paper_of(task.size.task).title,
            "train_loss": line["train_loss"], "validation_loss": line["validation_loss"], "state": state,
        });
        text += &format!("{drawn}\n");
    }
    if !any {
        return Ok(None);
    }
    draw(task.size.task, &text).map(|svg| Some((seed, svg)))
}

/// HUW's weights of the terms, of one run.
pub fn weights(task: &Task, logs: &Logs) -> Result<Option<String>, String> {
    let Some((seed, epochs)) = meta_run(task, logs)? else { return Ok(None) };
    let mut text = String::new();
    for line in &epochs {
        let huw = &line["state"]["uncertainty"];
        let (Some(terms), Some(weights)) = (huw["terms"].as_array(), huw["weights"].as_array()) else { continue };
        for (term, weight) in terms.iter().zip(weights) {
            let point = json!({
                "title": paper_of(task.size.task).title, "unit": "weight", "along": "epoch", "line": term,
                "panel": format!("Weights of the terms, metaadamw, seed {seed}"), "at": line["epoch"], "values": [weight],
            });
            text += &format!("{point}\n");
        }
    }
    if text.is_empty() { Ok(None) } else { spread::draw(task.size.task, &text).map(Some) }
}

/// Curves of rates, a diagram a task.
pub fn rates(tasks: &[Task]) -> Result<Option<String>, String> {
    let mut text = String::new();
    for task in tasks {
        for method in CURVES {
            let of_method = |row: &&Row| row.stage == Stage::Rates && row.method == method && !row.finished.is_empty();
            let rows: Vec<&Row> = task.rows.iter().filter(of_method).collect();
            // Two rates are those of methods; a curve has more.
            for row in rows.iter().filter(|_| rows.len() > 2) {
                let rate = row.finished.values().find_map(|log| log.setting("lr")?.as_f64());
                let Some(rate) = rate else { continue };
                let values: Vec<Option<f64>> = row
                    .finished
                    .iter()
                    .map(|(seed, log)| test(task, *seed, log).map(|value| cost(task, value)))
                    .collect();
                let line = json!({
                    "title": format!("Test metric around the tuned rate (the paper's: {RATE})"),
                    "panel": paper_of(task.size.task).title, "unit": quantity(task), "quantity": "test",
                    "line": method, "rate": rate, "values": values,
                });
                text += &format!("{line}\n");
            }
        }
    }
    if text.is_empty() { Ok(None) } else { rate_curves::draw("rates", &text).map(Some) }
}
