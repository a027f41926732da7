//! What finished runs of a task show: values by method and seed.

use std::collections::BTreeMap;

use super::log::{Epoch, Log};
use super::matrix::{self, Run, Stage};
use super::resolve::Logs;
use super::scales::{Scale, Size};
use super::statistics::Interval;

/// Runs of a method, or of an ablation, by seed.
pub struct Row<'a> {
    pub stage: Stage,
    pub method: &'static str,
    pub setting: String,
    pub planned: usize,
    pub begun: usize,
    pub finished: BTreeMap<u64, &'a Log>,
}

pub struct Task<'a> {
    pub size: Size,
    pub metric: String,
    pub rows: Vec<Row<'a>>,
    /// Of `matrix::TUNED`, where known.
    pub tuned: BTreeMap<&'static str, f64>,
}

/// A number of a run, for a seed of a method.
pub type Measure = fn(&Task, u64, &Log) -> Option<f64>;

/// All tasks of which there is a log.
pub fn tasks<'a>(scale: &Scale, logs: &'a Logs) -> Vec<Task<'a>> {
    let runs = matrix::runs(scale);
    let resolved = logs.resolve_all(&runs);
    let mut tasks: Vec<Task> = Vec::new();
    for size in scale.tasks {
        let prefix = format!("{}/", size.task);
        let Some((_, first)) = logs.logs.iter().find(|(name, _)| name.starts_with(&prefix)) else { continue };
        let tuned = matrix::TUNED.iter().filter_map(|method| Some((*method, logs.tuned(*size, method).ok()?)));
        let mut task = Task { size: *size, metric: first.metric.clone(), rows: Vec::new(), tuned: tuned.collect() };
        for (run, resolved) in runs.iter().zip(&resolved).filter(|(run, _)| run.size.task == size.task) {
            if run.stage != Stage::Tuning {
                task.count(
                    run,
                    resolved.as_ref().ok().and_then(|resolved| Some((logs.logs.get(&resolved.name)?, run.seed))),
                );
            }
        }
        tasks.push(task);
    }
    tasks
}

impl<'a> Task<'a> {
    fn count(&mut self, run: &Run, log: Option<(&'a Log, u64)>) {
        let (stage, method, setting) = (run.stage, run.method, run.setting.clone());
        let same = |row: &Row| (row.stage, row.method, &row.setting) == (stage, method, &setting);
        let at = self.rows.iter().position(same).unwrap_or_else(|| {
            self.rows.push(Row {
                stage,
                method,
                setting: setting.clone(),
                planned: 0,
                begun: 0,
                finished: BTreeMap::new(),
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        row.planned += 1;
        if let Some((log, seed)) = log {
            if log.end.is_some() {
                row.finished.insert(seed, log);
            } else {
                row.begun += 1;
            }
        }
    }

    pub fn lower_is_better(&self) -> bool {
        self.metric != "accuracy"
    }

    /// Above 0: the first is better than the second.
    pub fn improvement(&self, value: f64, than: f64) -> f64 {
        if self.lower_is_better() { than - value } else { value - than }
    }

    pub fn row(&self, method: &str) -> Option<&Row<'a>> {
        self.rows.iter().find(|row| row.method == method && row.setting.is_empty())
    }

    /// Finite values by seed.
    pub fn values(&self, row: &Row, measure: Measure) -> BTreeMap<u64, f64> {
        let values = row.finished.iter().map(|(seed, log)| (*seed, measure(self, *seed, log)));
        values.filter_map(|(seed, value)| Some((seed, value.filter(|value| value.is_finite())?))).collect()
    }

    /// Improvements over another row in the seeds that both have.
    pub fn improvements(&self, row: &Row, base: &Row, measure: Measure) -> Option<(Interval, usize)> {
        let (ours, base) = (self.values(row, measure), self.values(base, measure));
        let pairs = ours.iter().filter_map(|(seed, value)| Some(self.improvement(*value, *base.get(seed)?)));
        let differences: Vec<f64> = pairs.collect();
        Interval::of(&differences).map(|interval| (interval, differences.len()))
    }
}

/// Test metric at the epoch that is best by the selection metric.
pub fn test(_: &Task, _: u64, log: &Log) -> Option<f64> {
    log.end.as_ref()?.test
}

/// Of the averages of the parameters.
pub fn average(_: &Task, _: u64, log: &Log) -> Option<f64> {
    log.end.as_ref()?.average
}

/// The same within the time that AdamW's run of the same seed took.
pub fn test_in_time(task: &Task, seed: u64, log: &Log) -> Option<f64> {
    let time = task.row("adamw")?.finished.get(&seed)?.end.as_ref()?.seconds;
    let within = log.epochs.iter().filter(|epoch| epoch.seconds <= time && epoch.selection.is_some());
    let better = |best: &'_ Epoch, next: &'_ Epoch| {
        task.improvement(next.selection.unwrap_or(f64::NAN), best.selection.unwrap_or(f64::NAN)) > 0.0
    };
    within.reduce(|best, next| if better(best, next) { next } else { best })?.test
}

/// The first epoch that is as good as the best of AdamW's run of the same seed, by the selection metric.
fn reached<'a>(task: &Task, seed: u64, log: &'a Log) -> Option<&'a Epoch> {
    let target = task.row("adamw")?.finished.get(&seed)?.end.as_ref()?.selection?;
    log.epochs.iter().find(|epoch| epoch.selection.is_some_and(|value| task.improvement(value, target) >= 0.0))
}

pub fn epochs_to_reach(task: &Task, seed: u64, log: &Log) -> Option<f64> {
    reached(task, seed, log).map(|epoch| epoch.epoch as f64)
}

pub fn seconds_to_reach(task: &Task, seed: u64, log: &Log) -> Option<f64> {
    reached(task, seed, log).map(|epoch| epoch.seconds)
}

pub fn epochs(_: &Task, _: u64, log: &Log) -> Option<f64> {
    log.epochs.last().map(|epoch| epoch.epoch as f64)
}

pub fn seconds(_: &Task, _: u64, log: &Log) -> Option<f64> {
    Some(log.end.as_ref()?.seconds)
}

pub fn optimizer_share(_: &Task, _: u64, log: &Log) -> Option<f64> {
    let end = log.end.as_ref()?;
    Some(end.optimizer_seconds? / end.seconds)
}

pub fn meta_share(_: &Task, _: u64, log: &Log) -> Option<f64> {
    let end = log.end.as_ref()?;
    Some(end.meta_seconds? / end.seconds)
}
