//! examples/experiment.rs, with a shell script in place of `train`.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A folder with logs of its own, at the smallest scale.
struct Experiment {
    folder: PathBuf,
}

impl Experiment {
    fn new(test: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&folder); // of an earlier run
        fs::create_dir_all(&folder).expect("a folder of ours");
        Self { folder }
    }

    fn logs(&self) -> PathBuf {
        self.folder.join("logs/smoke/etth1")
    }

    fn run(&self, only: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metaadamw-experiment"));
        command.arg("run").arg("--train").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/experiment/train.sh"));
        command.args(["--data", "data", "--logs", "logs", "--scale", "smoke", "--jobs", "2", "--only", "task=etth1"]);
        command.args(only.iter().flat_map(|only| ["--only", only]));
        command.env("FAKE_CALLS", self.folder.join("calls")).current_dir(&self.folder);
        command
    }

    fn other(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metaadamw-experiment"));
        command.args(arguments).current_dir(&self.folder).output().expect("it starts")
    }

    fn report(&self) -> String {
        let output = self.other(&["report", "--logs", "logs", "--out", "results.md", "--pictures", "pictures"]);
        assert!(output.status.success(), "{}", errors(&output));
        fs::read_to_string(self.folder.join("results.md")).expect("written")
    }

    /// The command lines of `train` so far.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Test metric in the end of a log.
    fn test(&self, name: &str) -> f64 {
        let text = fs::read_to_string(self.logs().join(format!("{name}.jsonl"))).expect(name);
        let end: Value = serde_json::from_str(text.lines().last().expect("not empty")).expect("JSON");
        assert_eq!(end["event"], "end", "{name}");
        end["test"].as_f64().expect("finite")
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The cells of the row that begins with this one.
fn row(page: &str, first: &str, table: &str) -> Vec<String> {
    let after = &page[page.find(table).unwrap_or_else(|| panic!("{table} in {page}"))..];
    let line =
        after.lines().find(|line| line.starts_with(&format!("| {first} |"))).unwrap_or_else(|| panic!("{first}"));
    line.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// By the last line of `list`.
fn assert_all_are_done(list: &str) {
    let (done, all) = list.lines().find_map(|line| line.split_once(" done;")?.0.split_once(" of ")).expect("it counts");
    assert!(done == all && all != "0", "{list}");
}

#[test]
fn what_runs_need_is_made_first_and_filled_in() {
    let experiment = Experiment::new("experiment_order");
    let output = experiment.run(&[]).output().expect("it starts");
    assert!(output.status.success(), "{}{}", text(&output), errors(&output));
    let calls = experiment.calls();
    let first = |part: &str| calls.iter().position(|call| call.contains(part)).unwrap_or_else(|| panic!("{part}"));
    let tuning = calls.iter().rposition(|call| call.contains("etth1/tuning-adamw_tuned-")).expect("tuning");
    // The script is best at 0.001, one step of the grid above the paper's rate.
    assert!(tuning < first("adamw_tuned-lr0.001-seed1.jsonl"));
    assert!(first("/metaadamw-lr0.0005-seed1.jsonl") < first("factors_mean-lr0.0005-seed1.jsonl"));
    let factors = fs::read_to_string(experiment.logs().join("factors-seed1.txt")).expect("written");
    assert_eq!(factors, "ffn.middle.bias 0.8 1.1\nffn.middle.weight 1.1 0.9\n");
    let mean = &calls[first("lr_mean_alpha-lr0.0005-seed1.jsonl")];
    assert!(mean.contains(&format!("--lr-factor {}", f64::midpoint(0.8, 1.1))), "{mean}");
    // A quarter of the script's 40.
    assert!(calls[first("meta-interval-x0.25")].contains("--meta-interval 10 "));
    // At the tuned rate the curve is the method's own run.
    assert!(!calls.iter().any(|call| call.contains("adamw_tuned-rate-x1-")));
    // Nothing is made twice, and the second call has nothing to do.
    let mut sorted = calls.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), calls.len());
    assert!(experiment.run(&[]).status().expect("it starts").success());
    assert_eq!(experiment.calls().len(), calls.len());
    let list = text(&experiment.other(&["list", "--logs", "logs", "--scale", "smoke", "--only", "task=etth1"]));
    assert_all_are_done(&list);
}

#[test]
fn only_chooses_and_names_what_is_left_out() {
    let experiment = Experiment::new("experiment_only");
    let output = experiment.run(&["method=adamw,adamw_tuned,seed=1,2"]).output().expect("it starts");
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(experiment.calls().len(), 2, "adamw needs nothing: {:?}", experiment.calls());
    assert!(text(&output).contains("runs wait for etth1 tuning adamw_tuned lr0.000125 seed 101"), "{}", text(&output));
    let output = experiment.run(&["method=adam"]).output().expect("it starts");
    let message = errors(&output);
    assert!(
        message.contains("--only: expected method to be one of adamw, ") && message.contains("not adam"),
        "{message}"
    );
    let message = errors(&experiment.run(&["methods=adamw"]).output().expect("it starts"));
    assert!(message.contains("expected one of task, stage, method, setting, seed, not methods"), "{message}");
}

#[test]
fn a_run_that_was_killed_continues_and_one_that_still_runs_is_left_alone() {
    let experiment = Experiment::new("experiment_killed");
    let mut killed = experiment.run(&["method=adamw"]).env("FAKE_SECONDS", "1.2").spawn().expect("it starts");
    let log = experiment.logs().join("adamw-lr0.0005-seed1.jsonl");
    let until = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(&log).unwrap_or_default().lines().count() < 2 {
        assert!(Instant::now() < until, "no epoch");
        std::thread::sleep(Duration::from_millis(20));
    }
    killed.kill().expect("ours");
    killed.wait().expect("ours");
    // Its children still run: they are not started a second time, but waited for.
    let output = experiment.run(&["method=adamw"]).output().expect("it starts");
    assert!(text(&output).contains("another process makes it"), "{}", text(&output));
    assert!(output.status.success());
    assert_eq!(experiment.calls().len(), 2);
    // As if all had been killed after the first epoch.
    let whole = fs::read_to_string(&log).expect("there");
    let part: Vec<&str> = whole.lines().take(2).collect();
    fs::write(&log, part.join("\n") + "\n{\"event\":\"epo").expect("ours");
    fs::write(log.with_extension("checkpoint"), "1").expect("ours");
    let list =
        text(&experiment.other(&["list", "--logs", "logs", "--scale", "smoke", "--only", "method=adamw", "--runs"]));
    assert!(list.contains("1 begun"), "{list}");
    // The script, like `train`, goes on in the log: what is half a line is its to remove.
    fs::write(&log, part.join("\n") + "\n").expect("ours");
    assert!(experiment.run(&["method=adamw"]).status().expect("it starts").success());
    let calls = experiment.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls[2].ends_with("--resume") && calls[2].contains("seed1.jsonl"), "{}", calls[2]);
    assert_eq!(fs::read_to_string(&log).expect("there"), whole);
}

#[test]
fn minutes_stop_what_runs_and_the_next_call_goes_on() {
    let experiment = Experiment::new("experiment_minutes");
    let started = Instant::now();
    let output = experiment
        .run(&["stage=tuning"])
        .args(["--minutes", "0.05"])
        .env("FAKE_SECONDS", "1")
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", errors(&output));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let (begun, said) = (experiment.calls().len(), text(&output));
    assert!((2..8).contains(&begun), "{begun}");
    // With two seconds a run and three in all, the last ones would not end: they are not begun, or stopped.
    let done = said.lines().filter(|line| line.contains(": test ")).count();
    let stopped = said.lines().filter(|line| line.starts_with("stopped: ")).count();
    assert_eq!(done + stopped, begun, "{said}");
    assert!(experiment.run(&["stage=tuning"]).status().expect("it starts").success());
    let list =
        text(&experiment.other(&["list", "--logs", "logs", "--scale", "smoke", "--only", "task=etth1,stage=tuning"]));
    assert_all_are_done(&list);
}

#[test]
fn a_run_that_fails_is_shown_and_the_matrix_goes_on() {
    let experiment = Experiment::new("experiment_fails");
    let output = experiment.run(&["stage=tuning,main"]).env("FAKE_FAIL", "tuning-schedule_free-lr0.001").output();
    let output = output.expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    let message = errors(&output);
    assert!(message.contains("tuning schedule_free lr0.001 seed 101: failed"), "{message}");
    assert!(message.contains("exit status: 3") && message.contains("train: no data for etth1"), "{message}");
    // All but the failed one and the two that need it.
    assert_eq!(
        text(&output).lines().filter(|line| line.contains(": test ")).count(),
        3 * 8 - 1 + 14,
        "{}",
        text(&output)
    );
    assert!(text(&output).contains("2 runs wait for etth1 tuning schedule_free lr0.001 seed 101"), "{}", text(&output));
    // It is made again by the next call.
    assert!(experiment.run(&["stage=tuning,main"]).status().expect("it starts").success());
}

#[test]
fn the_numbers_of_the_page_are_those_of_the_logs() {
    let experiment = Experiment::new("experiment_numbers");
    assert!(experiment.run(&[]).status().expect("it starts").success());
    let page = experiment.report();
    // Paired differences of two seeds, by hand: Student's quantile for one degree of freedom is tan(0.475 π).
    let [one, two] = [1, 2].map(|seed| {
        let of = |name: &str| experiment.test(&format!("{name}-lr0.0005-seed{seed}"));
        of("metaadamw") - of("adamw")
    });
    let mean = f64::midpoint(one, two);
    let half = (0.475 * std::f64::consts::PI).tan() * (one - two).abs() / 2.0;
    let cells = row(&page, "`metaadamw`", "| method | rate");
    let sign = |value: f64| format!("{}{:.2}", if value < 0.0 { "−" } else { "+" }, value.abs());
    assert_eq!(cells[5], format!("{} ({} to {})", sign(mean), sign(mean - half), sign(mean + half)));
    assert_eq!(cells[2], "0.0005");
    let [one, two] = [1, 2].map(|seed| experiment.test(&format!("metaadamw-lr0.0005-seed{seed}")));
    let deviation = (one - two).abs() / 2f64.sqrt();
    assert_eq!(cells[4], format!("{:.3} ± {deviation:.3}", f64::midpoint(one, two)));
    let reach = mean.abs() + half;
    assert!(page.contains(&format!("`metaadamw` against `adamw`: level within ±{reach:.2} (2 seeds).")), "{page}");
    // Seconds and epochs are the script's: two epochs of two seconds, half of it in the optimizer.
    let cells = row(&page, "`adamw`", "| method | epochs");
    assert_eq!(cells[2..9], ["2.0", "4.0", "2 of 2", "2.0", "4.0", "50.0 %", "12.5 %"]);
    // The paper's own table, and its pictures.
    let cells = row(&page, "ETTh1, MSE", "| task | paper");
    assert_eq!(cells[2..5], ["0.006147", "0.005885", "4.3 % better, one seed"]);
    for name in ["etth1-epochs", "etth1-factors", "etth1-huw", "rates"] {
        let svg = fs::read_to_string(experiment.folder.join(format!("pictures/smoke-{name}.svg"))).expect(name);
        assert!(svg.starts_with("<svg") && !svg.contains("NaN"), "{name}");
        assert!(page.contains(&format!("(pictures/smoke-{name}.svg)")), "{name}");
    }
}

#[test]
fn what_is_written_by_hand_stays_and_unfinished_or_damaged_logs_are_named() {
    let experiment = Experiment::new("experiment_page");
    assert!(experiment.run(&["method=adamw,metaadamw,stage=main"]).status().expect("it starts").success());
    let out = experiment.folder.join("results.md");
    let page = experiment.report();
    let edited = page.replace("Written by hand.", "It is level.").replace("Introduction:", "These are:");
    fs::write(&out, &edited).expect("ours");
    // One seed is not finished.
    let log = experiment.logs().join("metaadamw-lr0.0005-seed2.jsonl");
    let whole = fs::read_to_string(&log).expect("there");
    let lines: Vec<&str> = whole.lines().collect();
    fs::write(&log, format!("{}\n{}\n{}", lines[0], lines[1], &lines[2][..40])).expect("ours");
    let again = experiment.report();
    assert!(again.contains("It is level.") && again.contains("These are:"), "{again}");
    assert_eq!(row(&again, "`metaadamw`", "| method | rate")[3], "1 of 2");
    assert!(again.contains("in the only seed, which decides nothing (1 seed)."), "{again}");
    assert!(again.contains("runs are finished (1 more begun: not counted here)"), "{again}");
    // A damaged line that is not the last.
    fs::write(&log, format!("{}\n{}\n{}\n", lines[0], &lines[1][..40], lines[2])).expect("ours");
    let report = ["report", "--logs", "logs", "--out", "results.md"];
    let output = experiment.other(&report);
    assert!(!output.status.success());
    let message = errors(&output);
    assert!(message.contains("metaadamw-lr0.0005-seed2.jsonl:2: expected a JSON object"), "{message}");
    // Without the marks there is no place for the results.
    fs::write(&log, &whole).expect("ours");
    fs::write(&out, "# By hand\n").expect("ours");
    let message = errors(&experiment.other(&report));
    assert!(message.contains("results.md: expected the lines <!-- "), "{message}");
    assert_eq!(fs::read_to_string(&out).expect("there"), "# By hand\n");
}

#[test]
fn a_log_of_another_scale_is_not_taken_for_this_one() {
    let experiment = Experiment::new("experiment_other");
    assert!(experiment.run(&["method=adamw"]).status().expect("it starts").success());
    let log = experiment.logs().join("adamw-lr0.0005-seed1.jsonl");
    let text = fs::read_to_string(&log).expect("there");
    fs::write(&log, text.replace("\"limit\":0.02", "\"limit\":0.1")).expect("ours");
    let output = experiment.run(&["method=adamw"]).output().expect("it starts");
    let message = errors(&output);
    assert!(message.contains("made with --limit 0.1, but the plan has 0.02"), "{message}");
}

#[test]
fn condensed_logs_give_the_same_report_and_leave_nothing_to_do() {
    let experiment = Experiment::new("experiment_condense");
    assert!(experiment.run(&["stage=tuning,main,paper"]).status().expect("it starts").success());
    let page = experiment.report();
    let size = |folder: &str| -> u64 {
        let folder = experiment.folder.join(folder).join("smoke/etth1");
        let logs = fs::read_dir(folder).expect("it has logs").filter_map(Result::ok);
        logs.filter(|file| file.path().extension().is_some_and(|end| end == "jsonl"))
            .map(|file| file.metadata().expect("it exists").len())
            .sum()
    };
    let output = experiment.other(&["condense", "--logs", "logs", "--out", "small"]);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(size("small") < size("logs"));
    fs::rename(experiment.folder.join("logs"), experiment.folder.join("all")).expect("in a folder of ours");
    fs::rename(experiment.folder.join("small"), experiment.folder.join("logs")).expect("in a folder of ours");
    assert_eq!(experiment.report(), page);
    let calls = experiment.calls();
    assert!(experiment.run(&["stage=tuning,main,paper"]).status().expect("it starts").success());
    assert_eq!(experiment.calls(), calls);
    assert!(!experiment.other(&["condense", "--logs", "nothing", "--out", "small"]).status.success());
}
