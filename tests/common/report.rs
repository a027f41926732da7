//! Compares numbers with what is expected, and remembers the worst error of each kind of quantity.

use std::collections::BTreeMap;
use std::io::Write;

/// Numbers that must be equal within `tolerance` of `scale`.
pub struct Check<'a> {
    /// Kind of quantity, for the table at the end.
    pub kind: &'static str,
    /// Tensor and step, for people.
    pub place: String,
    pub got: &'a [f64],
    pub expected: &'a [f64],
    /// Usually the largest magnitude expected; 0 = must be met exactly.
    pub scale: f64,
    pub tolerance: f64,
}

#[derive(Default)]
struct Worst {
    checks: usize,
    error: f64,
    tolerance: f64,
    place: String,
}

/// All checks of one test.
#[derive(Default)]
pub struct Report {
    /// Prefix of each message: case, dtype, difference mode.
    pub subject: String,
    pub failures: Vec<String>,
    worst: BTreeMap<&'static str, Worst>,
}

/// The largest magnitude.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// Infinite where exactly one is NaN or the lengths differ; equal values, infinities too, are 0 apart.
fn distance(got: &[f64], expected: &[f64]) -> f64 {
    if got.len() != expected.len() {
        return f64::INFINITY;
    }
    let apart = |(a, b): (&f64, &f64)| match (a - b).abs() {
        _ if a == b => 0.0,
        error if error.is_nan() => f64::INFINITY,
        error => error,
    };
    got.iter().zip(expected).map(apart).fold(0.0, f64::max)
}

impl Report {
    pub fn close(&mut self, check: Check<'_>) {
        let absolute = distance(check.got, check.expected);
        let error = if absolute == 0.0 { 0.0 } else { absolute / check.scale };
        let worst = self.worst.entry(check.kind).or_default();
        worst.checks += 1;
        let ratio = |error: f64, tolerance: f64| if error == 0.0 { 0.0 } else { error / tolerance };
        if worst.checks == 1 || ratio(error, check.tolerance) > ratio(worst.error, worst.tolerance) {
            worst.error = error;
            worst.tolerance = check.tolerance;
            worst.place = format!("{}, {}", self.subject, check.place);
        }
        if absolute > check.tolerance * check.scale {
            let Check { kind, place, scale, tolerance, got, expected } = check;
            let sizes = if got.len() == expected.len() {
                String::new()
            } else {
                format!(" ({} numbers, expected {})", got.len(), expected.len())
            };
            self.failures.push(format!(
                "{}, {place} ({kind}): error {error:.2e}, tolerance {tolerance:.0e}, both relative to {scale:.3e}{sizes}",
                self.subject
            ));
        }
    }

    /// A condition that must hold.
    pub fn holds(&mut self, what: bool, message: impl FnOnce() -> String) {
        if !what {
            self.failures.push(format!("{}, {}", self.subject, message()));
        }
    }

    /// Prints the worst error of each kind, past the test harness's capture.
    pub fn print(&self, title: &str) {
        let mut text = format!(
            "\n{title}\n{:<12} {:>7} {:>9} {:>9} {:>7}  worst at\n",
            "", "checks", "error", "tolerance", "ratio"
        );
        for (kind, worst) in &self.worst {
            let ratio = if worst.error == 0.0 { 0.0 } else { worst.error / worst.tolerance };
            text += &format!(
                "{kind:<12} {:>7} {:>9.1e} {:>9.0e} {ratio:>7.4}  {}\n",
                worst.checks, worst.error, worst.tolerance, worst.place
            );
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Panics with the first failures, if there are any.
    pub fn finish(&self) {
        let shown = self.failures.iter().take(25).cloned().collect::<Vec<_>>().join("\n  ");
        assert!(self.failures.is_empty(), "{} failures, the first are\n  {shown}", self.failures.len());
    }
}
