//! One process of `train`, and signals.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Time for a process to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(20);

pub struct Process {
    child: Child,
    pub started: Instant,
    errors: PathBuf,
}

impl Process {
    /// None if a process that an earlier call left behind still makes this run. What it writes to stderr goes to a file
    /// that it holds locked, from whoever started it, to its end.
    pub fn start(command: &mut Command, errors: &Path) -> Result<Option<Self>, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", errors.display());
        // Not truncated before the lock.
        let file = OpenOptions::new().create(true).append(true).open(errors).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).map_err(failed)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(file));
        let child = command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        // Else the command would keep the lock after the process.
        command.stderr(Stdio::null());
        Ok(Some(Self { child, started: Instant::now(), errors: errors.to_owned() }))
    }

    /// None while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|error| format!("waiting for a run: {error}"))
    }

    /// The end of what it wrote to stderr.
    pub fn errors(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.errors).and_then(|mut file| file.read_to_end(&mut text));
        let text = read.map(|_| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n    ")
    }

    /// Removes what it wrote to stderr if that is nothing.
    pub fn tidy(&self) {
        if fs::metadata(&self.errors).is_ok_and(|file| file.len() == 0) {
            let _ = fs::remove_file(&self.errors);
        }
    }

    fn terminate(&self) {
        let id = self.child.id();
        // It may have ended meanwhile; its id is ours until it was waited for.
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).stderr(Stdio::null()).status();
    }
}

/// Ends these, gently first.
pub fn stop(processes: &mut [&mut Process]) -> Result<(), String> {
    for process in &*processes {
        process.terminate();
    }
    let until = Instant::now() + GRACE;
    for process in processes {
        while process.ended()?.is_none() {
            if Instant::now() > until {
                process.child.kill().map_err(|error| format!("ending a run: {error}"))?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}
