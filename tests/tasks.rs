//! The paper's five tasks (examples/libtorch/tasks), where libtorch is installed: a few steps of each on data of the test's
//! own, in the formats in which the data sets are published, and on the real data where that lies beside the repository.
#![cfg(target_os = "linux")]

#[path = "common/cmake.rs"]
mod cmake;
#[path = "common/compile.rs"]
mod compile;

use cmake::{Temporary, built};
use compile::{root, run};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

fn train(task: &str, data: &Path, log: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(built("examples/libtorch/tasks", "tasks").join("train"));
    command.env("OMP_NUM_THREADS", "1").env("OMP_WAIT_POLICY", "passive");
    command.args(["--task", task, "--data"]).arg(data).arg("--log").arg(log).args(more);
    command
}

/// The lines of a log, without what the clock says.
fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    let parse = |line: &str| -> Value { serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")) };
    let mut lines: Vec<Value> = text.lines().map(parse).collect();
    for line in lines.iter_mut().filter_map(Value::as_object_mut) {
        line.retain(|name, _| !name.ends_with("seconds"));
        if let Some(Value::Object(state)) = line.get_mut("state") {
            state.retain(|name, _| name != "seconds" && name != "summary");
            // What the last meta-update did is not in a checkpoint.
            if let Some(Value::Object(meta)) = state.get_mut("meta") {
                meta.remove("last");
            }
        }
    }
    lines
}

/// Words of a language in which each is followed by one of two.
fn text(lines: usize, words: usize, offset: usize) -> String {
    let mut text = String::new();
    for line in 0..lines {
        for word in 0..words {
            let _ = write!(text, "word{} ", (line * 7 + offset + word * (3 + line % 2)) % 61);
        }
        text.push('\n');
    }
    text
}

/// Small data sets in the published formats, for one test.
fn data(test: &str) -> Temporary {
    let folder = Temporary::new(&format!("tasks-data-{test}"));
    let write = |path: &str, content: &[u8]| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("in a folder of ours");
        fs::write(path, content).expect("in a folder of ours");
    };
    let mut series = "date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT\n".to_owned();
    for hour in 0..1500 {
        let _ = writeln!(series, "2016-07-01 00:00:00,1,2,3,4,5,6,{}", (f64::from(hour) * 0.1).sin() * 9.0 + 20.0);
    }
    write("ETTh1.csv", series.as_bytes());
    for (part, lines) in [("train", 400), ("valid", 200), ("test", 100)] {
        write(&format!("wikitext-2/wiki.{part}.tokens"), text(lines, 20, lines).as_bytes());
    }
    for (part, lines) in [("train", 200), ("val", 40), ("test_2016_flickr", 30)] {
        write(&format!("multi30k/{part}.de"), text(lines, 9, 5).as_bytes());
        write(&format!("multi30k/{part}.en"), text(lines, 8, 11).as_bytes());
    }
    for batch in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        let image = |i: usize| [vec![(i % 10) as u8], vec![(i % 10 * 25) as u8; 3072]].concat();
        write(&format!("cifar-10-batches-bin/{batch}.bin"), &(0..60).flat_map(image).collect::<Vec<u8>>());
    }
    for part in ["train", "test"] {
        for (label, word) in [("pos", "good"), ("neg", "bad")] {
            for i in 0..120 {
                let review = format!("A {word} film.<br /><br />{}", text(1, 30, i));
                write(&format!("aclImdb/{part}/{label}/{i}_7.txt"), review.as_bytes());
            }
        }
    }
    folder
}

const TASKS: [&str; 5] = ["etth1", "wikitext2", "multi30k", "cifar10", "imdb"];

/// Trains for 30 steps, with meta-updates on the way; the loss falls.
fn smoke(task: &str, data: &Path, limit: &str) {
    let folder = Temporary::new(&format!("tasks-{task}"));
    let log = folder.join("log.jsonl");
    let narrow =
        ["--width", "0.125", "--limit", limit, "--batch", "8", "--epochs", "1000", "--patience", "0", "--lr", "3e-3"];
    let meta = ["--optimizer", "metaadamw", "--steps", "30", "--meta-interval", "10", "--meta-warmup", "1"];
    run(&mut train(task, data, &log, &[&narrow[..], &meta].concat()));
    let lines = lines(&log);
    let (first, last) = (&lines[1], &lines[lines.len() - 2]);
    assert_eq!(last["step"], 30.0, "{task}");
    assert_eq!(last["state"]["meta"]["updates"], 3, "{task}: {}", last["state"]["meta"]);
    assert_eq!(lines[lines.len() - 1]["reason"], "steps", "{task}");
    for field in ["train_loss", "validation_loss", "selection", "test_loss", "test"] {
        assert!(last[field].as_f64().is_some_and(f64::is_finite), "{task}: {field} is {}", last[field]);
    }
    // With one epoch alone there is no earlier loss; untrained, classes and words are guesses.
    if lines.len() > 3 {
        let loss = |line: &Value| line["train_loss"].as_f64().expect("it is a number");
        assert!(loss(last) < loss(first), "{task}: the loss went from {} to {}", loss(first), loss(last));
    }
}

#[test]
#[ignore = "needs libtorch; scripts/test.sh runs it where that is installed"]
fn every_task_trains_for_thirty_steps() {
    let data = data("thirty");
    for task in TASKS {
        smoke(task, &data.0, "1");
    }
}

#[test]
#[ignore = "needs libtorch; scripts/test.sh runs it where that is installed"]
fn every_task_trains_on_the_real_data_where_that_lies_beside_the_repository() {
    let data = root().join("../shared/data");
    if data.is_dir() {
        for (task, limit) in TASKS.into_iter().zip(["0.02", "0.002", "0.01", "0.005", "0.01"]) {
            smoke(task, &data, limit);
        }
    }
}

/// A run that is killed after its second epoch and continued has the lines of one that is not.
#[test]
#[ignore = "needs libtorch; scripts/test.sh runs it where that is installed"]
fn a_killed_run_continues_bit_for_bit() {
    let data = data("resume");
    let folder = Temporary::new("tasks-resume");
    let ways: [&[&str]; 3] = [
        &["--optimizer", "metaadamw", "--average", "50", "--meta-interval", "7"],
        &["--optimizer", "schedule_free"],
        &["--optimizer", "torch_adamw", "--schedule", "cosine"],
    ];
    for (i, way) in ways.into_iter().enumerate() {
        let common = ["--width", "0.25", "--batch", "32", "--limit", "0.5", "--epochs", "4", "--patience", "4"];
        let more = [&common[..], way].concat();
        let log = |name: &str| -> PathBuf { folder.join(&format!("{name}{i}.jsonl")) };
        let (whole, killed) = (log("whole"), log("killed"));
        run(&mut train("etth1", &data.0, &whole, &more));
        let mut child =
            train("etth1", &data.0, &killed, &more).stderr(Stdio::null()).spawn().expect("it was just built");
        while fs::read_to_string(&killed).map_or(0, |text| text.lines().count()) < 3
            && child.try_wait().is_ok_and(|end| end.is_none())
        {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        child.wait().expect("it was started");
        run(&mut train("etth1", &data.0, &killed, &[&more[..], &["--resume"]].concat()));
        assert_eq!(lines(&killed), lines(&whole), "{way:?}");
        // It is over, and says so.
        assert!(!train("etth1", &data.0, &killed, &more).output().expect("it runs").status.success());
    }
}

#[test]
#[ignore = "needs libtorch; scripts/test.sh runs it where that is installed"]
fn what_is_wrong_with_a_call_is_named() {
    let data = data("wrong");
    let folder = Temporary::new("tasks-wrong");
    let log = folder.join("log.jsonl");
    let said = |task: &str, data: &Path, more: &[&str]| {
        let output = train(task, data, &log, more).output().expect("it was just built");
        assert!(!output.status.success(), "{task} {more:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (more, expected) in [
        (&["--widht", "1"][..], "--widht"),
        (&["--width", "0"], "--width"),
        (&["--limit", "1.5"], "--limit"),
        (&["--lr", "fast"], "--lr 'fast'"),
        (&["--epochs", "2.5"], "--epochs"),
        (&["--seed", "-1"], "--seed '-1'"),
        (&["--layers", "1e10"], "from 0 to 1e9"),
        (&["--features", "none"], "norm_log"),
        (&["--priorities", "1,2"], "--priorities"),
        (&["--preset", "none"], "--preset"),
        (&["--device", "tpu9"], "tpu9"),
        (&["--factors", "/nowhere/factors"], "/nowhere/factors"),
        (&["--seed"], "--seed"),
    ] {
        let said = said("etth1", &data.0, more);
        assert!(said.contains(expected), "{more:?}: {said}");
    }
    assert!(said("mnist", &data.0, &[]).contains("wikitext2"));
    for (task, published) in
        TASKS.into_iter().zip(["ETDataset", "wiki.train.tokens", "train.de", "data_batch_1.bin", "pos"])
    {
        let said = said(task, &folder.join("nothing"), &[]);
        assert!(said.contains(published) && said.contains("http"), "{task}: {said}");
    }
    assert!(!log.exists(), "a refused run leaves no log");
}

/// Fixed factors of 1 are AdamW's; those of one group change the run.
#[test]
#[ignore = "needs libtorch; scripts/test.sh runs it where that is installed"]
fn fixed_factors_of_one_are_adamw() {
    let data = data("factors");
    let folder = Temporary::new("tasks-factors");
    let common = ["--width", "0.25", "--batch", "32", "--limit", "0.5", "--epochs", "2"];
    let with = |name: &str, more: &[&str]| {
        let log = folder.join(name);
        run(&mut train("etth1", &data.0, &log, &[&common[..], more].concat()));
        lines(&log)
    };
    let metaadamw = with("metaadamw.jsonl", &["--optimizer", "metaadamw", "--meta-interval", "5"]);
    let groups = metaadamw[1]["mean_factors"].as_object().expect("they are modulated");
    let file = |alpha: &str| {
        let lines: String = groups.keys().map(|group| format!("{group} {alpha} 1\n")).collect();
        let file = folder.join("factors");
        fs::write(&file, lines).expect("in a folder of ours");
        file.to_str().expect("it is UTF-8").to_owned()
    };
    let test = |lines: &[Value]| lines[lines.len() - 1]["test"].as_f64().expect("it is a number");
    let adamw = test(&with("adamw.jsonl", &["--optimizer", "adamw"]));
    let ones = test(&with("ones.jsonl", &["--optimizer", "metaadamw", "--factors", &file("1")]));
    let twos = test(&with("twos.jsonl", &["--optimizer", "metaadamw", "--factors", &file("2")]));
    let doubled = test(&with("doubled.jsonl", &["--optimizer", "adamw", "--lr-factor", "2"]));
    assert_eq!(ones, adamw);
    assert_eq!(twos, doubled);
    assert_ne!(twos, adamw);
}
