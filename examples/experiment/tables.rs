//! The tables of a task, in Markdown.

use super::matrix::{CONTROLS, GRID, METHODS, RATE, Stage};
use super::results::{self, Measure, Row, Task};
use super::scales::paper_of;
use super::statistics::mean;
use super::words::{difference, sentence, spread, unit, value, verdict};

/// Pairs that sentences compare, the more important ones first.
const PAIRS: [(&str, &str); 9] = [
    ("metaadamw", "adamw"),
    ("metaadamw", "adamw_tuned"),
    ("metaadamw_identity", "adamw"),
    ("horizon", "adamw"),
    ("horizon_tuned", "adamw_tuned"),
    ("adamw_cosine", "adamw_tuned"),
    ("schedule_free", "adamw_tuned"),
    ("metaadamw", "factors_mean"),
    ("metaadamw", "lr_mean_alpha"),
];

/// Of the summary over the tasks.
const SUMMARY: [(&str, &str); 4] =
    [("metaadamw", "adamw"), ("metaadamw", "adamw_tuned"), ("horizon", "adamw"), ("horizon_tuned", "adamw_tuned")];

/// Text, and how many intervals it has.
#[derive(Default)]
pub struct Page {
    pub text: String,
    pub intervals: usize,
}

impl Page {
    pub fn line(&mut self, line: &str) {
        self.text += line;
        self.text.push('\n');
    }

    fn row(&mut self, cells: &[String]) {
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    fn head(&mut self, cells: &[&str]) {
        self.row(&cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
        self.line(&format!("|{}", " --- |".repeat(cells.len())));
    }

    /// Difference to a base with its interval; nothing for the base itself.
    fn against(&mut self, task: &Task, row: &Row, base: &str, measure: Measure) -> String {
        let base = task.row(base).filter(|base| !std::ptr::eq(*base, row));
        let Some((interval, _)) = base.and_then(|base| task.improvements(row, base, measure)) else {
            return "–".to_owned();
        };
        self.intervals += usize::from(interval.half.is_some());
        difference(task, &interval)
    }

    pub fn methods(&mut self, task: &Task) {
        let metric = format!("test {}", task.metric);
        let with = |text: &str| format!("{text}, 95 %");
        let (adamw, tuned) = (with("− `adamw`"), with("− `adamw_tuned`"));
        let head = ["method", "rate", "seeds", &metric, &adamw, &tuned, "in `adamw`'s time", "− `adamw`, in its time"];
        self.head(&head);
        for row in METHODS.iter().filter_map(|method| task.row(method)) {
            let rate = row.finished.values().next().and_then(|log| log.setting("lr")).map(ToString::to_string);
            let list = |measure| task.values(row, measure).into_values().collect::<Vec<_>>();
            let cells = [
                format!("`{}`", row.method),
                rate.unwrap_or_else(|| "–".to_owned()),
                seeds(task, row),
                spread(task, &list(results::test)),
                self.against(task, row, "adamw", results::test),
                self.against(task, row, "adamw_tuned", results::test),
                spread(task, &list(results::test_in_time)),
                self.against(task, row, "adamw", results::test_in_time),
            ];
            self.row(&cells);
            let averages = list(results::average);
            if !averages.is_empty() {
                let blank = || "–".to_owned();
                let name = format!("`{}`, averages", row.method);
                let count = averages.len().to_string();
                self.row(&[name, blank(), count, spread(task, &averages), blank(), blank(), blank(), blank()]);
            }
        }
    }

    pub fn costs(&mut self, task: &Task) {
        self.head(&[
            "method",
            "epochs",
            "seconds",
            "reached `adamw`'s best selection value",
            "epochs to it",
            "seconds to it",
            "of the time: optimizer",
            "meta-updates",
        ]);
        for row in METHODS.iter().filter_map(|method| task.row(method)) {
            let list = |measure| task.values(row, measure).into_values().collect::<Vec<_>>();
            let plain = |measure, digits: usize| match list(measure).as_slice() {
                [] => "–".to_owned(),
                all => format!("{:.digits$}", mean(all)),
            };
            let percent = |measure| match list(measure).as_slice() {
                [] => "–".to_owned(),
                all => format!("{:.1} %", 100.0 * mean(all)),
            };
            let reached = list(results::epochs_to_reach).len();
            self.row(&[
                format!("`{}`", row.method),
                plain(results::epochs, 1),
                plain(results::seconds, 1),
                format!("{reached} of {}", row.finished.len()),
                plain(results::epochs_to_reach, 1),
                plain(results::seconds_to_reach, 1),
                percent(results::optimizer_share),
                percent(results::meta_share),
            ]);
        }
    }

    /// One thing changed, and the controls, against metaadamw.
    pub fn ablations(&mut self, task: &Task) {
        let rows: Vec<&Row> =
            task.rows.iter().filter(|row| row.stage == Stage::Ablation && !row.finished.is_empty()).collect();
        let (Some(base), false) = (task.row("metaadamw"), rows.is_empty()) else { return };
        self.line(
            "\nMetaAdamW with one thing changed (`factors_mean`: α and β fixed to the means of the same seed's run;",
        );
        self.line("`lr_mean_alpha`: AdamW, its rate times the mean α of that run). Differences are to `metaadamw`.\n");
        let metric = format!("test {}", task.metric);
        self.head(&["change", "seeds", &metric, "− `metaadamw`, 95 %", "which is"]);
        for row in std::iter::once(base).chain(rows) {
            let name = match row.setting.as_str() {
                "" => format!("`{}`", row.method),
                setting => setting.to_owned(),
            };
            let values: Vec<f64> = task.values(row, results::test).into_values().collect();
            let pair = task.improvements(row, base, results::test).filter(|_| !std::ptr::eq(row, base));
            let which = pair.map_or("–".to_owned(), |(interval, _)| verdict(task, &interval));
            let cells = [
                name,
                seeds(task, row),
                spread(task, &values),
                self.against(task, row, "metaadamw", results::test),
                which,
            ];
            self.row(&cells);
        }
    }

    pub fn sentences(&mut self, task: &Task) {
        let measures: [(Measure, &str, usize); 2] = [
            (results::test, "With early stopping", PAIRS.len()),
            // The controls have another purpose.
            (results::test_in_time, "Within `adamw`'s time", PAIRS.len() - CONTROLS.len()),
        ];
        self.line("");
        for (measure, how, pairs) in measures {
            for (method, base) in &PAIRS[..pairs] {
                if let (Some(row), Some(base)) = (task.row(method), task.row(base))
                    && let Some(text) = sentence(task, row, base, measure, how)
                {
                    self.line(&format!("- {text}"));
                }
            }
        }
    }

    /// The paper's table beside ours, a line a task.
    pub fn paper(&mut self, tasks: &[Task]) {
        self.head(&[
            "task",
            "paper: AdamW",
            "MetaAdamW",
            "which is",
            "here: `paper_adamw`",
            "`paper_metaadamw`",
            "which is",
        ]);
        for task in tasks {
            let paper = paper_of(task.size.task);
            let change = task.improvement(paper.metaadamw, paper.adamw);
            let word = if change > 0.0 { "better" } else { "worse" };
            let (adamw, meta) = (task.row("paper_adamw"), task.row("paper_metaadamw"));
            let of = |row: Option<&Row>| {
                let values = row.map(|row| task.values(row, results::test).into_values().collect::<Vec<_>>());
                let count = values.as_ref().map_or(0, Vec::len);
                let plural = if count == 1 { "seed" } else { "seeds" };
                values.map_or("–".to_owned(), |all| format!("{} ({count} {plural})", spread(task, &all)))
            };
            let pair = adamw.zip(meta).and_then(|(adamw, meta)| task.improvements(meta, adamw, results::test));
            self.intervals += usize::from(pair.is_some_and(|(interval, _)| interval.half.is_some()));
            self.row(&[
                format!("{}, {}", paper.title, task.metric),
                value(task, paper.adamw),
                value(task, paper.metaadamw),
                format!("{:.1} % {word}, one seed", 100.0 * change.abs() / paper.adamw),
                of(adamw),
                of(meta),
                pair.map_or("–".to_owned(), |(interval, _)| verdict(task, &interval)),
            ]);
        }
    }

    pub fn summary(&mut self, tasks: &[Task]) {
        let pairs: Vec<String> = SUMMARY.iter().map(|(method, base)| format!("`{method}` against `{base}`")).collect();
        self.head(&std::iter::once("task").chain(pairs.iter().map(String::as_str)).collect::<Vec<_>>());
        for task in tasks {
            let mut cells = vec![format!("{}, {}", paper_of(task.size.task).title, task.metric)];
            cells.extend(SUMMARY.iter().map(|(method, base)| {
                let pair = task.row(method).zip(task.row(base));
                let found = pair.and_then(|(row, base)| task.improvements(row, base, results::test));
                found.map_or("–".to_owned(), |(interval, seeds)| {
                    format!("{}; seeds: {seeds}", verdict(task, &interval))
                })
            }));
            self.row(&cells);
        }
    }

    /// Tuned rates; a rate at an end of the grid may not be the best.
    pub fn tuned(&mut self, task: &Task) {
        let ends = [GRID[0], GRID[GRID.len() - 1]].map(|factor| RATE * factor);
        let text: Vec<String> = task
            .tuned
            .iter()
            .map(|(method, rate)| {
                let end = if ends.contains(rate) { " (the end of the grid: better ones may lie beyond)" } else { "" };
                format!("`{method}` {rate}{end}")
            })
            .collect();
        if !text.is_empty() {
            self.line(&format!("Tuned rates, best by the selection metric: {}.", text.join(", ")));
        }
    }

    /// The data's parts, the model, and what the paper has.
    pub fn reduced(&mut self, task: &Task) {
        let size = &task.size;
        let Some(log) = task.rows.iter().flat_map(|row| row.finished.values()).next() else { return };
        let start = |name: &str| log.start.get(name).map_or("?".to_owned(), ToString::to_string);
        let examples = |part: &str| log.start.get("examples").map_or("?".to_owned(), |all| all[part].to_string());
        let reduced = match (size.limit < 1.0, size.width < 1.0) {
            (false, false) => "All of the data, the paper's model".to_owned(),
            (true, false) => format!("{} % of the data, the paper's model", 100.0 * size.limit),
            (false, true) => format!("All of the data, {} of the model's width", size.width),
            (true, true) => format!("{} % of the data, {} of the model's width", 100.0 * size.limit, size.width),
        };
        self.line(&format!(
            "{reduced}: {} parameters; {} examples for training, {} for meta-updates, {} for selection, {} for the test.",
            start("parameters"),
            examples("train"),
            examples("meta"),
            examples("selection"),
            examples("test")
        ));
        self.line(&format!(
            "At most {} epochs of {} steps; a run ends after {} epochs without improvement (`adamw_cosine`: after all).",
            size.epochs,
            start("steps_per_epoch"),
            size.patience
        ));
        let of_all =
            task.rows.iter().flat_map(|row| row.finished.values()).filter_map(|log| log.start.get("torch")?.as_str());
        let versions: std::collections::BTreeSet<&str> = of_all.collect();
        self.line(&format!("libtorch {}.", versions.into_iter().collect::<Vec<_>>().join(" and ")));
    }
}

/// `3`, or `2 of 3` where runs are missing or not finite.
fn seeds(task: &Task, row: &Row) -> String {
    let finite = task.values(row, results::test).len();
    let diverged = row.finished.len() - finite;
    let diverged = if diverged > 0 { format!(", {diverged} not finite") } else { String::new() };
    if finite == row.planned { format!("{finite}") } else { format!("{finite} of {}{diverged}", row.planned) }
}

/// Whether lower or higher is better, in words.
pub fn direction(task: &Task) -> String {
    if task.lower_is_better() {
        format!("lower {} is better", task.metric)
    } else {
        format!("higher {} is better; differences in points of{}", task.metric, unit(task))
    }
}
