//! `list`: the plan, and what of it is done. And the choice by `--only`.

use std::path::Path;

use super::arguments::Arguments;
use super::matrix::{self, Run, Stage};
use super::resolve::Logs;
use super::scales;
use super::times::{Times, human};

/// Each line of `--only` allows some values of one field or several: `method=adamw,task=etth1`; a value without a field
/// belongs to the field before it: `seed=1,2`.
pub struct Filter(Vec<(String, Vec<String>)>);

const FIELDS: [&str; 5] = ["task", "stage", "method", "setting", "seed"];

impl Filter {
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut fields: Vec<(String, Vec<String>)> = Vec::new();
        for text in texts {
            let mut field: Option<&str> = None;
            for part in text.split(',') {
                let value = match part.split_once('=') {
                    Some((name, value)) if FIELDS.contains(&name) => {
                        field = Some(name);
                        value
                    }
                    Some((name, _)) => {
                        return Err(format!("--only: expected one of {}, not {name}", FIELDS.join(", ")));
                    }
                    None => part,
                };
                let name = field.ok_or_else(|| format!("--only: expected FIELD=VALUE,..., not {text}"))?;
                if value.is_empty() {
                    return Err(format!("--only: expected a value of {name} in {text}"));
                }
                match fields.iter_mut().find(|(known, _)| known == name) {
                    Some((_, values)) => values.push(value.to_owned()),
                    None => fields.push((name.to_owned(), vec![value.to_owned()])),
                }
            }
        }
        Ok(Self(fields))
    }

    fn has(&self, run: &Run) -> bool {
        self.0.iter().all(|(field, values)| values.contains(&value(run, field)))
    }
}

fn value(run: &Run, field: &str) -> String {
    match field {
        "task" => run.size.task.to_owned(),
        "stage" => run.stage.name().to_owned(),
        "method" => run.method.to_owned(),
        // As in names of logs: lists have commas.
        "setting" => run.setting.replace(',', "_"),
        _ => run.seed.to_string(),
    }
}

/// # Errors
/// A value that no run has.
pub fn selected(runs: &[Run], filter: &Filter) -> Result<Vec<bool>, String> {
    for (field, values) in &filter.0 {
        for wanted in values {
            if !runs.iter().any(|run| value(run, field) == *wanted) {
                let mut known: Vec<String> = runs.iter().map(|run| value(run, field)).collect();
                known.sort();
                known.dedup();
                return Err(format!("--only: expected {field} to be one of {}, not {wanted}", known.join(", ")));
            }
        }
    }
    Ok(runs.iter().map(|run| filter.has(run)).collect())
}

/// Runs that differ only in the seed (tuning: and in the rate).
#[derive(Default)]
struct Row {
    title: String,
    runs: usize,
    done: usize,
    begun: usize,
    waits: Option<String>,
}

pub fn command(arguments: &[String]) -> Result<bool, String> {
    let arguments = Arguments::parse(arguments, &["logs", "scale", "only"], &["runs"])?;
    let scale = scales::scale(arguments.text("scale").unwrap_or("two-cores"))?;
    let runs = matrix::runs(scale);
    let chosen = selected(&runs, &Filter::parse(arguments.all("only"))?)?;
    let logs = Logs::read(Path::new(arguments.needed("logs")?), scale)?;
    let times = Times::read(&logs.folder);
    let (mut rows, mut left): (Vec<Row>, f64) = (Vec::new(), 0.0);
    let each = arguments.text("runs").is_some();
    for ((run, resolved), _) in runs.iter().zip(logs.resolve_all(&runs)).zip(&chosen).filter(|(_, chosen)| **chosen) {
        let title = if each {
            resolved.as_ref().map_or_else(|_| run.title(), |resolved| resolved.name.clone())
        } else {
            let setting = if run.stage == Stage::Tuning { "" } else { &run.setting };
            format!("{:10} {:9} {:18} {setting}", run.size.task, run.stage.name(), run.method)
        };
        let known = rows.iter().position(|row| row.title == title && !each);
        let at = known.unwrap_or_else(|| {
            rows.push(Row { title, ..Row::default() });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.runs += 1;
        match resolved {
            Ok(resolved) if logs.end(&resolved.name).is_some() => row.done += 1,
            Ok(resolved) => {
                row.begun += usize::from(logs.logs.contains_key(&resolved.name));
                left += times.left(run, &resolved.name).unwrap_or(0.0);
            }
            Err(other) => {
                left += times.whole(run).unwrap_or(0.0);
                row.waits = Some(other);
            }
        }
    }
    for row in &rows {
        let waits = row.waits.as_ref().map_or(String::new(), |other| format!(", waits for {other}"));
        let begun = if row.begun > 0 { format!(", {} begun", row.begun) } else { String::new() };
        println!("{:60} {:3} of {:3} done{begun}{waits}", row.title, row.done, row.runs);
    }
    for stage in Stage::ALL {
        let of = |i: &usize| chosen[*i] && runs[*i].stage == stage;
        println!("{}: {} runs", stage.name(), (0..runs.len()).filter(of).count());
    }
    let done: usize = rows.iter().map(|row| row.done).sum();
    let all: usize = rows.iter().map(|row| row.runs).sum();
    println!("{done} of {all} done; about {} of process time left, where estimates exist", human(left));
    Ok(true)
}
