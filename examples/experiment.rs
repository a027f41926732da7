//! Reproduces the paper's five tasks: runs a matrix of tasks, methods, seeds and ablations with `train`
//! (examples/libtorch/tasks), and writes what came out as a page with pictures.
//!
//! ```text
//! cargo run --release --features experiment --bin metaadamw-experiment -- run --train PATH/train --data DIR --logs DIR
//! cargo run --release --features experiment --bin metaadamw-experiment -- list --logs DIR
//! cargo run --release --features experiment --bin metaadamw-experiment -- report --logs DIR --out docs/results.md
//! ```
//!
//! A run has one log, LOGS/SCALE/TASK/RUN.jsonl, and is finished when its last line says so. A call does what is not
//! finished. experiment/scales.rs has the sizes, experiment/matrix.rs the methods and experiment/ablations.rs the ablations.

use std::env;
use std::process::ExitCode;

#[path = "experiment/ablations.rs"]
mod ablations;
#[path = "experiment/arguments.rs"]
mod arguments;
#[path = "experiment/condense.rs"]
mod condense;
#[path = "experiment/list.rs"]
mod list;
#[path = "experiment/log.rs"]
mod log;
#[path = "experiment/matrix.rs"]
mod matrix;
#[path = "experiment/pictures.rs"]
mod pictures;
#[path = "plot/pictures.rs"]
mod plot;
#[path = "experiment/process.rs"]
mod process;
#[path = "experiment/report.rs"]
mod report;
#[path = "experiment/resolve.rs"]
mod resolve;
#[path = "experiment/results.rs"]
mod results;
#[path = "experiment/runner.rs"]
mod runner;
#[path = "experiment/scales.rs"]
mod scales;
#[path = "experiment/statistics.rs"]
mod statistics;
#[path = "experiment/tables.rs"]
mod tables;
#[path = "experiment/times.rs"]
mod times;
#[path = "experiment/words.rs"]
mod words;

const USAGE: &str = "\
usage: metaadamw-experiment run --train PROGRAM --data DIR --logs DIR [--scale NAME] [--jobs N] [--threads N]
                                [--only FIELD=VALUE,...]... [--device cpu|cuda] [--minutes M]
       metaadamw-experiment list --logs DIR [--scale NAME] [--only FIELD=VALUE,...]... [--runs]
       metaadamw-experiment condense --logs DIR --out DIR
       metaadamw-experiment report --logs DIR --out FILE.md [--scale NAME] [--pictures DIR]
fields of --only: task, stage, method, setting, seed";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.split_first().map(|(command, rest)| (command.as_str(), rest)) {
        Some(("run", rest)) => runner::command(rest),
        Some(("list", rest)) => list::command(rest),
        Some(("condense", rest)) => condense::command(rest),
        Some(("report", rest)) => report::command(rest),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        // Said already: runs failed.
        Ok(false) => ExitCode::from(2),
        Err(message) => {
            eprintln!("metaadamw-experiment: {message}");
            ExitCode::FAILURE
        }
    }
}
