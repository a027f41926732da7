//! The log: what is worth telling, and to whom.

use crate::checkpoint::LoadReport;
use crate::meta::Outcome;
use crate::model::groups::Tensor;
use crate::model::name::Name;
use crate::model::report::Skips;

/// How much a message of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Worth knowing.
    Info,
    /// Probably not meant.
    Warning,
}

/// Names that a message lists.
const SHOWN: usize = 8;

/// Receives the messages of one optimizer, on the thread that caused them.
pub type Log = Box<dyn FnMut(LogLevel, &str) + Send>;

/// Whoever hears the messages, if anyone does. Messages are made only then.
#[derive(Default)]
pub(crate) struct Logger(pub Option<Log>);

impl Logger {
    pub fn warn(&mut self, message: impl FnOnce() -> String) {
        self.say(LogLevel::Warning, message);
    }

    fn say(&mut self, level: LogLevel, message: impl FnOnce() -> String) {
        if let Some(log) = &mut self.0 {
            log(level, &message());
        }
    }

    /// Tells which values of a file hold from now on, and what a partial load left out.
    pub fn loaded(&mut self, report: &LoadReport) {
        if !report.settings.is_empty() {
            let settings = report.settings.join("; ");
            self.say(LogLevel::Info, || format!("loaded; the file's values hold: {settings}"));
        }
        for (names, what) in [
            (&report.missing_tensors, "tensors that are not in the file start at step 0"),
            (&report.unexpected_tensors, "tensors of the file that are not registered were left out"),
            (&report.missing_groups, "modulation groups are not in the file"),
            (&report.unexpected_groups, "modulation groups of the file were left out"),
        ] {
            if !names.is_empty() {
                let first: Vec<&str> = names.iter().take(SHOWN).map(Name::as_str).collect();
                let more = if names.len() > SHOWN { ", …" } else { "" };
                let (count, first) = (names.len(), first.join("', '"));
                self.say(LogLevel::Info, || format!("loaded in part; {count} {what}: '{first}'{more}"));
            }
        }
    }

    /// Tells of `count` steps that were skipped, and why the last was.
    pub fn skipped(&mut self, count: u64, skips: &Skips, tensors: &[Tensor]) {
        let Some((reason, tensor, _)) = skips.last else { return };
        self.warn(|| {
            let what = reason.describe(tensor.map(|i| &tensors[i]));
            match count {
                1 => format!("step skipped: {what} is not finite"),
                n => format!("{n} steps skipped, the last because {what} is not finite"),
            }
        });
    }

    /// Tells of a change of the host's parameters that a step undid.
    pub fn overwritten(&mut self, tensor: &Tensor) {
        self.warn(|| {
            format!(
                "the parameters changed since the last step, and the step was not told: it updated the masters, which did \
                 not change, and has overwritten the new values; the first such tensor is '{}'",
                tensor.name()
            )
        });
    }

    /// Tells of a meta-update that was abandoned.
    pub fn abandoned(&mut self, outcome: Outcome) {
        self.warn(|| format!("meta-update abandoned: {outcome:?}"));
    }
}
