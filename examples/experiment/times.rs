//! How long runs took, for what is left: LOGS/SCALE/times.jsonl has a line for each part of a run.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::matrix::Run;

#[derive(Default)]
pub struct Times {
    file: PathBuf,
    /// Seconds so far, and whether the run is finished.
    runs: BTreeMap<String, (f64, bool)>,
}

impl Times {
    pub fn read(folder: &Path) -> Self {
        let mut times = Self { file: folder.join("times.jsonl"), runs: BTreeMap::new() };
        // Only estimates depend on it: a damaged line is as good as none.
        for line in fs::read_to_string(&times.file).unwrap_or_default().lines() {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            if let (Some(run), Some(seconds)) = (value["run"].as_str(), value["seconds"].as_f64()) {
                times.count(run, seconds, value["finished"] == true);
            }
        }
        times
    }

    fn count(&mut self, run: &str, seconds: f64, finished: bool) {
        let entry = self.runs.entry(run.to_owned()).or_default();
        *entry = (entry.0 + seconds, entry.1 || finished);
    }

    pub fn add(&mut self, run: &str, seconds: f64, finished: bool) -> Result<(), String> {
        self.count(run, seconds, finished);
        let line = json!({ "run": run, "seconds": seconds, "finished": finished });
        let file = OpenOptions::new().create(true).append(true).open(&self.file);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.map_err(|error| format!("{}: {error}", self.file.display()))
    }

    /// Seconds that the unfinished run still needs: the mean of finished runs of its task and method, else of its task.
    pub fn left(&self, run: &Run, name: &str) -> Option<f64> {
        let so_far = self.runs.get(name).map_or(0.0, |(seconds, _)| *seconds);
        self.whole(run).map(|whole| (whole - so_far).max(0.1 * whole))
    }

    pub fn whole(&self, run: &Run) -> Option<f64> {
        let task = format!("{}/", run.size.task);
        let method = [format!("{task}{}-", run.method), format!("{task}tuning-{}-", run.method)];
        let mean = |fits: &dyn Fn(&str) -> bool| {
            let fitting = self.runs.iter().filter(|(name, (_, finished))| *finished && fits(name));
            let seconds: Vec<f64> = fitting.map(|(_, (seconds, _))| *seconds).collect();
            (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
        };
        let same = |name: &str| method.iter().any(|start| name.starts_with(start));
        mean(&same).or_else(|| mean(&|name| name.starts_with(&task)))
    }
}

/// `2 h 5 min`
pub fn human(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5970.0 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}
