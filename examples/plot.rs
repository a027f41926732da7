//! Draws training logs as an SVG file: losses above, the factors α and β of each modulation group below. Or, with `rates`,
//! losses against learning rates (plot/rates.rs), or, with `spread`, any lines with their spread (plot/spread.rs).
//!
//! ```text
//! cargo run --release --bin metaadamw-plot -- LOG.jsonl OUT.svg
//! cargo run --release --bin metaadamw-plot -- rates DATA.jsonl OUT.svg
//! cargo run --release --bin metaadamw-plot -- spread DATA.jsonl OUT.svg
//! ```
//!
//! The log contains JSON objects, usually one per line (several lines, as `maw_dump_state` writes them, are allowed).
//! An object is a dump of `maw_dump_state`, or a line of the host's with some of these fields:
//!
//! ```text
//! {"run": "MetaAdamW", "seed": 1, "epoch": 3, "series": "CO₂", "unit": "ppm²",
//!  "train_loss": 0.12, "validation_loss": 0.14, "state": {…a dump…}}
//! ```
//!
//! Time is `epoch`, or the dump's `step` where no object has an epoch. Runs are drawn with the mean of their seeds.
//! The factors are those of the first run, in the order of names, whose dumps have some (modulation is on), and of its
//! first seed. Factors change with every step: dumps of the same epoch are drawn as their mean; long sequences of dumps
//! without epochs as they are, thin, and as a moving mean, bold.

use std::process::ExitCode;
use std::{env, fs};

#[path = "plot/pictures.rs"]
mod pictures;

use pictures::{draw, rates, spread};

const USAGE: &str = "\
usage: metaadamw-plot LOG.jsonl OUT.svg
       metaadamw-plot rates DATA.jsonl OUT.svg
       metaadamw-plot spread DATA.jsonl OUT.svg";

/// A picture of a file's lines.
type Draw = fn(&str, &str) -> Result<String, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (draw, log, out): (Draw, _, _) = match arguments.as_slice() {
        [log, out] => (draw, log, out),
        [kind, data, out] if kind == "rates" => (rates::draw, data, out),
        [kind, data, out] if kind == "spread" => (spread::draw, data, out),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let drawn = fs::read_to_string(log)
        .map_err(|error| format!("{log}: {error}"))
        .and_then(|text| draw(log, &text))
        .and_then(|svg| fs::write(out, svg).map_err(|error| format!("{out}: {error}")));
    match drawn {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("metaadamw-plot: {message}");
            ExitCode::FAILURE
        }
    }
}
