//! `run`: makes what is not finished, some at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::arguments::Arguments;
use super::list::{Filter, selected};
use super::matrix::{self, Run};
use super::process::{Process, stop};
use super::resolve::{Logs, Resolved, check};
use super::scales;
use super::times::{Times, human};

/// How often a run of another process is looked at.
const AGAIN: Duration = Duration::from_secs(2);

struct Runner {
    train: String,
    data: String,
    device: String,
    threads: usize,
    jobs: usize,
    /// Seconds of this call.
    limit: Option<f64>,
    began: Instant,
    /// All of the plan; names depend on all.
    runs: Vec<Run>,
    chosen: Vec<bool>,
    logs: Logs,
    times: Times,
    resolved: Vec<Result<Resolved, String>>,
    running: BTreeMap<String, (usize, Process)>,
    failed: BTreeSet<String>,
    /// Made by processes of other calls: looked at again from time to time.
    elsewhere: BTreeMap<String, Instant>,
    done: usize,
}

pub fn command(arguments: &[String]) -> Result<bool, String> {
    let names = ["train", "data", "logs", "scale", "jobs", "threads", "only", "device", "minutes"];
    let arguments = Arguments::parse(arguments, &names, &[])?;
    let scale = scales::scale(arguments.text("scale").unwrap_or("two-cores"))?;
    let device = arguments.text("device").unwrap_or("cpu");
    if !["cpu", "cuda"].contains(&device) {
        return Err(format!("--device: expected cpu or cuda, not {device}"));
    }
    let train = arguments.needed("train")?;
    if !Path::new(train).is_file() {
        return Err(format!("--train: expected the program, examples/libtorch/tasks builds it; no file {train}"));
    }
    let threads = arguments.number("threads", "a whole number")?.map_or(1, |n: u32| n as usize);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.number("jobs", "a whole number")?.map_or((cores / threads).max(1), |n: u32| n as usize);
    let runs = matrix::runs(scale);
    let chosen = selected(&runs, &Filter::parse(arguments.all("only"))?)?;
    let logs = Logs::read(Path::new(arguments.needed("logs")?), scale)?;
    for size in scale.tasks {
        let folder = logs.folder.join(size.task);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let times = Times::read(&logs.folder);
    let runner = Runner {
        train: train.to_owned(),
        data: arguments.needed("data")?.to_owned(),
        device: device.to_owned(),
        threads,
        jobs,
        limit: arguments.number::<f64>("minutes", "a number")?.map(|minutes| 60.0 * minutes),
        began: Instant::now(),
        runs,
        chosen,
        logs,
        times,
        resolved: Vec::new(),
        running: BTreeMap::new(),
        failed: BTreeSet::new(),
        elsewhere: BTreeMap::new(),
        done: 0,
    };
    runner.run()
}

impl Runner {
    fn run(mut self) -> Result<bool, String> {
        let stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let registered = signal_hook::flag::register(signal, Arc::clone(&stopped));
            registered.map_err(|error| format!("signals: {error}"))?;
        }
        self.resolve()?;
        say(&self.standing());
        let result = self.all(&stopped);
        // Also after an error: no process stays behind.
        let mut processes: Vec<&mut Process> = self.running.values_mut().map(|(_, process)| process).collect();
        stop(&mut processes)?;
        for (name, (_, process)) in std::mem::take(&mut self.running) {
            self.logs.refresh(&name)?;
            let finished = self.logs.end(&name).is_some();
            self.times.add(&name, process.started.elapsed().as_secs_f64(), finished)?;
            println!("stopped: {name}{}", if finished { ", just finished" } else { "; the next call continues it" });
        }
        result?;
        self.resolve()?;
        self.summary();
        Ok(self.failed.is_empty())
    }

    /// Until all is done, or it is time to stop.
    fn all(&mut self, stopped: &AtomicBool) -> Result<(), String> {
        loop {
            let ended = self.collect()?;
            if stopped.load(Ordering::Relaxed) || self.time_left().is_some_and(|left| left <= 0.0) {
                return Ok(());
            }
            if ended {
                self.resolve()?;
            }
            while self.running.len() < self.jobs && self.start_next()? {}
            if self.running.is_empty() && self.elsewhere.is_empty() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn time_left(&self) -> Option<f64> {
        self.limit.map(|limit| limit - self.began.elapsed().as_secs_f64())
    }

    fn resolve(&mut self) -> Result<(), String> {
        self.resolved = self.logs.resolve_all(&self.runs);
        for (resolved, _) in self.resolved.iter().zip(&self.chosen).filter(|(_, chosen)| **chosen) {
            if let Ok(resolved) = resolved {
                check(&self.logs, resolved)?;
            }
        }
        Ok(())
    }

    /// Takes what has ended; whether something has.
    fn collect(&mut self) -> Result<bool, String> {
        let mut ended = Vec::new();
        for (name, (_, process)) in &mut self.running {
            if let Some(status) = process.ended()? {
                ended.push((name.clone(), status));
            }
        }
        for (name, status) in &ended {
            let (run, process) = self.running.remove(name).expect("it was there");
            let title = self.runs[run].title();
            let seconds = process.started.elapsed().as_secs_f64();
            let damaged = self.logs.refresh(name).err();
            let end = self.logs.end(name).filter(|_| status.success() && damaged.is_none());
            self.times.add(name, seconds, end.is_some())?;
            if let Some(end) = end {
                process.tidy();
                let test = end.test.map_or("not finite".to_owned(), |test| format!("{test:.6}"));
                self.done += 1;
                say(&format!("{title}: test {test} ({}), {}. {}", end.reason, human(seconds), self.standing()));
            } else {
                let why = damaged.unwrap_or_else(|| {
                    let no_end = if status.success() { ", without an end in its log" } else { "" };
                    format!("{status}{no_end}\n    {}", process.errors())
                });
                eprintln!("{title}: failed after {}: {why}", human(seconds));
                self.failed.insert(name.clone());
            }
        }
        Ok(!ended.is_empty())
    }

    /// Starts the first run that can start and is worth it; false if there is none.
    fn start_next(&mut self) -> Result<bool, String> {
        for i in 0..self.runs.len() {
            let Ok(resolved) = self.resolved[i].clone() else { continue };
            let name = resolved.name.clone();
            let known = self.running.contains_key(&name) || self.failed.contains(&name);
            let elsewhere = self.elsewhere.get(&name).is_some_and(|last| last.elapsed() < AGAIN);
            if !self.chosen[i] || known || elsewhere || self.logs.end(&name).is_some() {
                continue;
            }
            // Another process may have made it meanwhile.
            self.logs.refresh(&name)?;
            if self.logs.end(&name).is_some() {
                self.elsewhere.remove(&name);
                self.resolve()?;
                return self.start_next();
            }
            if let (Some(left), Some(limit)) = (self.time_left(), self.limit) {
                // What is longer than a whole call is made in parts.
                let needed = self.times.left(&self.runs[i], &name).unwrap_or(0.0);
                if needed > left && needed <= limit {
                    continue;
                }
            }
            if let Some(process) = self.start(&self.runs[i], &resolved)? {
                self.elsewhere.remove(&name);
                self.running.insert(name, (i, process));
                return Ok(true);
            }
            if self.elsewhere.insert(name, Instant::now()).is_none() {
                say(&format!("{}: another process makes it", self.runs[i].title()));
            }
        }
        Ok(false)
    }

    fn start(&self, run: &Run, resolved: &Resolved) -> Result<Option<Process>, String> {
        let log = self.logs.file(&resolved.name);
        let mut command = Command::new(&self.train);
        for (flag, value) in &resolved.flags {
            command.arg(format!("--{flag}")).arg(value);
            if *flag == "factors" {
                self.logs.write_factors(run, Path::new(value))?;
            }
        }
        command.arg("--data").arg(&self.data).arg("--log").arg(&log);
        command.args(["--device", &self.device, "--threads", &self.threads.to_string()]);
        if log.exists() {
            command.arg("--resume");
        }
        Process::start(&mut command, &log.with_extension("stderr"))
    }

    /// How much is done, and how long the rest takes.
    fn standing(&self) -> String {
        let mut seen = BTreeSet::new();
        let (mut done, mut seconds, mut unknown) = (0, 0.0, BTreeSet::new());
        for (i, run) in self.runs.iter().enumerate().filter(|(i, _)| self.chosen[*i]) {
            // Names of runs that wait are not known: each counts.
            let name = self.resolved[i].as_ref().map_or_else(|_| run.title(), |resolved| resolved.name.clone());
            if !seen.insert(name.clone()) {
                continue;
            }
            if self.logs.end(&name).is_some() {
                done += 1;
            } else if let Some(left) = self.times.left(run, &name) {
                seconds += left;
            } else {
                unknown.insert(run.size.task);
            }
        }
        let unknown: Vec<&str> = unknown.into_iter().collect();
        let but = match unknown.as_slice() {
            [] => String::new(),
            tasks => format!(", and {}, of which no run is finished", tasks.join(", ")),
        };
        format!("[{done} of {} done; about {} left{but}]", seen.len(), human(seconds / self.jobs as f64))
    }

    fn summary(&self) {
        say(&format!("{} made in {}. {}", self.done, human(self.began.elapsed().as_secs_f64()), self.standing()));
        let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
        for (resolved, _) in self.resolved.iter().zip(&self.chosen).filter(|(_, chosen)| **chosen) {
            if let Err(other) = resolved {
                *waiting.entry(other).or_default() += 1;
            }
        }
        for (other, runs) in waiting {
            say(&format!("{runs} runs wait for {other}"));
        }
        if !self.failed.is_empty() {
            eprintln!("{} runs failed:", self.failed.len());
            for name in &self.failed {
                eprintln!("    {}", self.logs.file(name).display());
            }
        }
    }
}

/// A reader that goes away does not end the matrix.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
