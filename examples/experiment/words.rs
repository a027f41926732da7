//! Numbers and intervals as text: no sentence says more than its interval.

use super::results::{Measure, Row, Task};
use super::statistics::{Interval, Verdict, deviation, mean};

/// Accuracies are percent.
fn scale(task: &Task) -> f64 {
    if task.lower_is_better() { 1.0 } else { 100.0 }
}

/// With as many digits as a number of this size says anything in.
fn digits(size: f64) -> usize {
    if size > 0.0 && size.is_finite() { (1.0 - size.log10().floor()).clamp(0.0, 9.0) as usize } else { 4 }
}

pub fn unit(task: &Task) -> &'static str {
    if task.lower_is_better() { "" } else { " %" }
}

/// Of the metric.
pub fn value(task: &Task, value: f64) -> String {
    let value = scale(task) * value;
    let text = format!("{value:.*}", digits(value / 1000.0));
    format!("{}{}", text.trim_end_matches('0').trim_end_matches('.'), unit(task))
}

/// `1.234 ± 0.012`
pub fn spread(task: &Task, values: &[f64]) -> String {
    match values {
        [] => "–".to_owned(),
        [one] => value(task, *one),
        all => {
            let (mean, deviation) = (scale(task) * mean(all), scale(task) * deviation(all));
            let digits = digits(deviation.max(1e-5 * mean.abs()));
            format!("{mean:.digits$} ± {deviation:.digits$}{}", unit(task))
        }
    }
}

/// A signed difference of the metric with its interval, lower is better where the metric says so: `−0.012 (−0.020 to −0.004)`.
pub fn difference(task: &Task, improvement: &Interval) -> String {
    let sign = if task.lower_is_better() { -scale(task) } else { scale(task) };
    let mean = sign * improvement.mean;
    let Some(half) = improvement.half.map(|half| half * scale(task)) else {
        return signed(mean, digits(mean.abs()));
    };
    let digits = digits(half.max(0.01 * mean.abs()));
    let (low, high) = (signed(mean - half, digits), signed(mean + half, digits));
    format!("{} ({low} to {high})", signed(mean, digits))
}

fn signed(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    let zero = text.chars().all(|c| c == '0' || c == '.');
    let sign = if zero {
        ""
    } else if value < 0.0 {
        "−"
    } else {
        "+"
    };
    format!("{sign}{text}")
}

/// `better by 0.012 (95 %: 0.004 to 0.020)`
pub fn verdict(task: &Task, improvement: &Interval) -> String {
    let unit = if task.lower_is_better() { "" } else { " points" };
    let Interval { mean, half } = *improvement;
    let (mean, half) = (scale(task) * mean, scale(task) * half.unwrap_or(0.0));
    let size = mean.abs();
    let digits = digits(half.max(0.01 * size));
    let (low, high) = (size - half, size + half);
    match improvement.verdict() {
        Verdict::Better => format!("better by {size:.digits$}{unit} (95 %: {low:.digits$} to {high:.digits$})"),
        Verdict::Worse => format!("worse by {size:.digits$}{unit} (95 %: {low:.digits$} to {high:.digits$})"),
        Verdict::Level => format!("level within ±{high:.digits$}{unit}"),
        Verdict::Same => "the same in every seed".to_owned(),
        Verdict::Open => {
            format!("different by {}{unit} in the only seed, which decides nothing", signed(mean, digits))
        }
    }
}

/// `MetaAdamW is … AdamW: …` for a pair of rows; None without common seeds.
pub fn sentence(task: &Task, row: &Row, base: &Row, measure: Measure, how: &str) -> Option<String> {
    let (interval, seeds) = task.improvements(row, base, measure)?;
    let plural = if seeds == 1 { "seed" } else { "seeds" };
    Some(format!("{how}, `{}` against `{}`: {} ({seeds} {plural}).", row.method, base.method, verdict(task, &interval)))
}
