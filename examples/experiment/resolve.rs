//! From the plan to commands: what other runs decide is filled in as soon as they are finished.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::log::{End, Factors, Log};
use super::matrix::{self, GRID, Need, RATE, Run, Stage};
use super::scales::{Scale, Size};

/// The logs of a scale, by the names of their files below its folder without ".jsonl": `etth1/adamw-lr0.0005-seed1`.
pub struct Logs {
    pub folder: PathBuf,
    pub logs: BTreeMap<String, Log>,
}

/// What of a run is known.
#[derive(Clone)]
pub struct Resolved {
    /// Name of its log, as in `Logs`. Runs with the same flags have the same: that of the first.
    pub name: String,
    pub flags: Vec<(&'static str, String)>,
}

/// Why a run cannot start yet: the run that it needs, and as which runs that can be selected.
pub type Waits = String;

impl Logs {
    /// # Errors
    /// A damaged log, with its line.
    pub fn read(folder: &Path, scale: &Scale) -> Result<Self, String> {
        let mut logs = Self { folder: folder.join(scale.name), logs: BTreeMap::new() };
        for size in scale.tasks {
            let Ok(files) = fs::read_dir(logs.folder.join(size.task)) else { continue };
            for file in files {
                let path = file.map_err(|error| format!("{}: {error}", logs.folder.display()))?.path();
                if path.extension().is_some_and(|end| end == "jsonl") {
                    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                    logs.logs.insert(format!("{}/{stem}", size.task), Log::read(&path)?);
                }
            }
        }
        Ok(logs)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.jsonl"))
    }

    /// Reads one of them again.
    pub fn refresh(&mut self, name: &str) -> Result<(), String> {
        let file = self.file(name);
        if file.exists() {
            self.logs.insert(name.to_owned(), Log::read(&file)?);
        }
        Ok(())
    }

    pub fn end(&self, name: &str) -> Option<&End> {
        self.logs.get(name)?.end.as_ref()
    }

    /// The finished run of this plan's run, else why there is none.
    fn finished(&self, run: &Run) -> Result<(&Log, &End), Waits> {
        let resolved = self.resolve(run)?;
        let log = self.logs.get(&resolved.name);
        log.and_then(|log| Some((log, log.end.as_ref()?))).ok_or_else(|| run.title())
    }

    /// The rate with the best selection metric, mean over the tuning seeds; the smaller one of two that are equal.
    pub fn tuned(&self, size: Size, method: &'static str) -> Result<f64, Waits> {
        let mut best: Option<(f64, f64)> = None;
        for rate in GRID.map(|factor| RATE * factor) {
            let mut cost = 0.0;
            for seed in matrix::tuning_seeds(&size) {
                let (log, end) = self.finished(&matrix::tuning(size, method, rate, seed))?;
                let sign = if log.lower_is_better() { 1.0 } else { -1.0 };
                cost += end.selection.map_or(f64::INFINITY, |value| sign * value);
            }
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, rate));
            }
        }
        let finite = best.filter(|(cost, _)| cost.is_finite()).map(|(_, rate)| rate);
        finite.ok_or_else(|| format!("{} tuning {method}, which has no finite result at any rate", size.task))
    }

    /// Mean factors of the same seed's metaadamw.
    fn factors(&self, run: &Run) -> Result<&Factors, Waits> {
        let other = Run::new(run.size, Stage::Main, "metaadamw", run.seed);
        let (_, end) = self.finished(&other)?;
        end.factors.as_ref().ok_or_else(|| format!("\"mean_factors\" in the end of {}", other.title()))
    }

    /// The flags, and a name of its own.
    pub fn resolve(&self, run: &Run) -> Result<Resolved, Waits> {
        let size = &run.size;
        let mut flags: Vec<(&'static str, String)> = vec![
            ("task", size.task.to_owned()),
            ("seed", run.seed.to_string()),
            ("limit", size.limit.to_string()),
            ("width", size.width.to_string()),
            ("epochs", size.epochs.to_string()),
            ("patience", size.patience.to_string()),
        ];
        flags.retain(|(flag, _)| !run.flags.iter().any(|(own, _)| own == flag));
        flags.extend(run.flags.iter().cloned());
        for need in &run.needs {
            flags.push(match *need {
                Need::Rate(method, times) => ("lr", (self.tuned(*size, method)? * times).to_string()),
                Need::Interval(times) => {
                    let other = Run::new(*size, Stage::Main, "metaadamw", run.seed);
                    let interval = self.finished(&other)?.0.meta_interval;
                    let interval = interval.ok_or_else(|| format!("a \"state\" in the log of {}", other.title()))?;
                    ("meta-interval", ((interval as f64 * times).round() as u64).max(1).to_string())
                }
                Need::MeanAlpha => {
                    let factors = self.factors(run)?;
                    let sum: f64 = factors.values().map(|[alpha, _]| alpha).sum();
                    ("lr-factor", (sum / factors.len() as f64).to_string())
                }
                Need::Factors => {
                    self.factors(run)?;
                    let file = format!("{}/factors-seed{}.txt", size.task, run.seed);
                    ("factors", self.folder.join(file).display().to_string())
                }
            });
        }
        Ok(Resolved { name: name(run, &flags), flags })
    }

    /// The file that `--factors` names, with a line a group.
    pub fn write_factors(&self, run: &Run, file: &Path) -> Result<(), String> {
        let line = |(group, [alpha, beta]): (&String, &[f64; 2])| format!("{group} {alpha} {beta}\n");
        let text: String = self.factors(run)?.iter().map(line).collect();
        fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// All runs of a plan, each under the name of the first with the same flags.
    pub fn resolve_all(&self, runs: &[Run]) -> Vec<Result<Resolved, Waits>> {
        let mut first: BTreeMap<Vec<(&str, String)>, String> = BTreeMap::new();
        let mut one = |run| {
            let mut resolved: Resolved = self.resolve(run)?;
            let mut key = resolved.flags.clone();
            key.sort();
            resolved.name = first.entry(key).or_insert(resolved.name).clone();
            Ok(resolved)
        };
        runs.iter().map(&mut one).collect()
    }
}

/// `etth1/tuning-adamw_cosine-lr0.001-seed101`
fn name(run: &Run, flags: &[(&str, String)]) -> String {
    let mut parts = vec![run.method.to_owned()];
    if run.stage == Stage::Tuning {
        parts.insert(0, "tuning".to_owned());
    }
    if !run.setting.is_empty() && run.stage != Stage::Tuning {
        parts.push(run.setting.replace(',', "_"));
    }
    parts.extend(flags.iter().filter(|(flag, _)| *flag == "lr").map(|(_, rate)| format!("lr{rate}")));
    parts.push(format!("seed{}", run.seed));
    format!("{}/{}", run.size.task, parts.join("-"))
}

/// # Errors
/// A log that was made with other numbers than the plan's now.
pub fn check(logs: &Logs, resolved: &Resolved) -> Result<(), String> {
    let Some(log) = logs.logs.get(&resolved.name) else { return Ok(()) };
    for (flag, planned) in &resolved.flags {
        let Some(made) = log.setting(flag) else { continue };
        let same = match (made.as_f64(), planned.parse::<f64>()) {
            (Some(made), Ok(planned)) => (made - planned).abs() <= 1e-6 * planned.abs(),
            // Lists may be written in other ways.
            (None, _) => made.as_str().is_none_or(|made| made == planned),
            (Some(_), Err(_)) => true,
        };
        // Under a cosine there is no patience.
        if !same && *flag != "patience" && *flag != "factors" {
            let file = logs.file(&resolved.name);
            return Err(format!(
                "{}: made with --{flag} {made}, but the plan has {planned}: move the log and its checkpoint away",
                file.display()
            ));
        }
    }
    Ok(())
}
