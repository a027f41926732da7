//! examples/plot.rs: what it draws, and its errors for logs that it cannot draw. tests/cpp.rs draws the demo's log.

#[path = "common/compile.rs"]
mod compile;

use compile::{run, scratch};
use metaadamw::model::dtype::DType;
use metaadamw::{Grads, Optimizer, Options, ParamGroup, Params, Slice, SliceMut, StepOptions, TensorSpec};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// The picture of a log with this content.
fn drawn(test: &str, log: &str) -> String {
    let folder = scratch(test);
    fs::write(folder.join("log.jsonl"), log).expect("ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_metaadamw-plot"));
    run(command.args(["log.jsonl", "out.svg"]).current_dir(&folder));
    let svg = fs::read_to_string(folder.join("out.svg")).expect("the tool wrote it");
    well_formed(&svg);
    svg
}

/// Elements close in the order in which they opened, attributes are quoted, and every number is one.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a lone > in {:?}", &rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        assert!(tag.matches('"').count().is_multiple_of(2) && !tag.contains(['<', '&']), "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a name"));
        }
        assert!(!tag.contains("NaN") && !tag.contains("inf"), "{tag}");
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty() && rest.trim().is_empty() && svg.starts_with("<svg xmlns="), "{open:?} {rest}");
    for part in svg.split('&').skip(1) {
        assert!(["amp;", "lt;", "gt;"].iter().any(|entity| part.starts_with(entity)), "{part}");
    }
}

/// How many curves have this colour and width.
fn curves(svg: &str, look: &str) -> usize {
    svg.lines().filter(|line| line.contains(look) && line.contains('L')).count()
}

/// Dumps after each of some real steps, as any host of the library writes them.
fn dumps(modulation: bool, steps: usize) -> Vec<String> {
    let mut optimizer = Optimizer::new(Options { modulation, ..Options::default() }).expect("good options");
    let tensor = |name: &str, length: u64| TensorSpec::new(name, &[length], DType::F64).expect("a good name");
    let tensors = vec![tensor("layers.0.weight", 4), tensor("layers.0.bias", 2)];
    optimizer.add_param_group(ParamGroup::default(), tensors).expect("good tensors");
    let (mut weight, mut bias) = ([0.5, -0.2, 0.1, 0.3], [0.1, 0.2]);
    let step = |i: usize| {
        let gradients = (weight.map(|w| w + (i as f64).sin()), bias);
        let params = Params::new([SliceMut::F64(&mut weight), SliceMut::F64(&mut bias)]);
        let grads = Grads::new([Some(Slice::F64(&gradients.0)), Some(Slice::F64(&gradients.1))]);
        optimizer.step(&params, &grads, &StepOptions::default()).expect("a step");
        optimizer.dump_state().expect("prepared")
    };
    (0..steps).map(step).collect()
}

fn parsed(dump: &str) -> Value {
    serde_json::from_str(dump).expect("a dump is JSON")
}

#[test]
fn losses_of_two_runs_are_drawn_with_the_mean_of_the_seeds_and_factors_with_the_mean_of_the_epoch() {
    let mut log = String::new();
    for (run, states) in [("MetaAdamW", dumps(true, 6)), ("AdamW", dumps(false, 6))] {
        for seed in 1..=2 {
            for (i, state) in states.iter().enumerate() {
                let mut line = json!({ "run": run, "seed": seed, "epoch": i / 2 + 1, "state": parsed(state) });
                if i % 2 == 1 {
                    line["series"] = json!("waves <&> \"tides\"");
                    line["unit"] = json!("m²");
                    line["train_loss"] = json!(1.0 / (i + seed) as f64);
                    line["validation_loss"] = if i == 3 { Value::Null } else { json!(2.0 / (i + seed) as f64) };
                }
                log += &format!("{line}\n");
            }
        }
    }
    let svg = drawn("plot-runs", &log);
    for wanted in [
        "waves &lt;&amp;&gt; \"tides\", 2 seeds; 0 meta-updates a run",
        "Training loss",
        "Validation loss",
        "loss (m²)",
        "α, factor of the learning rate (seed 1)",
        "β, mean of the epoch's dumps",
        ">epoch<",
        ">AdamW<",
        ">MetaAdamW<",
        "1 = AdamW's",
    ] {
        assert!(svg.contains(wanted), "{wanted}: {svg}");
    }
    for colour in ["#00436b", "#d55e00"] {
        let (bold, thin) = ("\" stroke-width=\"2.4\"", "\" stroke-width=\"0.8\"");
        // In the diagram of validation there is a gap around the loss that was not finite: no line is left there.
        assert_eq!(curves(&svg, &format!("{colour}{bold}")), 1, "{svg}");
        assert_eq!(curves(&svg, &format!("{colour}{thin}")), 2, "{svg}");
    }
    for group in parsed(&dumps(true, 1)[0])["modulation_groups"].as_array().expect("a list") {
        let name = group["name"].as_str().expect("a name");
        assert!(svg.contains(&format!(">{name}<")), "{name}: {svg}");
    }
    let mut mixed: Vec<&str> = log.lines().collect();
    mixed.reverse();
    assert_eq!(drawn("plot-mixed", &mixed.join("\n")), svg, "runs in threads may write in any order");
}

#[test]
fn dumps_alone_are_drawn_over_their_steps_on_one_line_each_or_as_the_library_writes_them() {
    let few = dumps(true, 5);
    let lines: Vec<String> = few.iter().map(|dump| parsed(dump).to_string()).collect();
    let svg = drawn("plot-lines", &lines.join("\n"));
    assert_eq!(drawn("plot-pretty", &few.join("\n")), svg);
    assert!(svg.contains(">step<") && !svg.contains("loss") && svg.contains(">α<"), "{svg}");
    let many = drawn("plot-many", &dumps(true, 200).join("\n"));
    assert!(many.contains("β, thin: each dump, bold: mean of 11"), "{many}");
    assert_eq!(curves(&many, "stroke-width=\"0.6\""), curves(&svg, "stroke-width=\"1.6\""), "{many}");
}

#[test]
fn a_run_of_another_optimizer_needs_no_state() {
    let log = "{\"epoch\": 1, \"train_loss\": 2.5}\n{\"epoch\": 2, \"train_loss\": 1e300}\n";
    let svg = drawn("plot-foreign", log);
    assert!(svg.contains("Training loss") && !svg.contains('α') && !svg.contains("Validation"), "{svg}");
}

#[test]
fn forty_groups_with_long_names_fit_in_the_legend() {
    let group = |i: usize| json!({ "name": format!("encoder.block_{i}.attention.weight"), "alpha": 1.0, "beta": null });
    let groups: Vec<Value> = (0..40).map(group).collect();
    let dump = |step: usize| json!({ "step": step, "modulation_groups": groups }).to_string();
    let svg = drawn("plot-groups", &[dump(1), dump(2)].join("\n"));
    assert_eq!(svg.matches("encoder.block").count(), 40);
}

#[test]
fn losses_are_drawn_against_rates_with_a_band_and_without_what_is_far_above() {
    let line = |panel: &str, line: &str, rate: f64, values: [Option<f64>; 3]| {
        format!("{}\n", json!({ "panel": panel, "unit": "nats", "line": line, "rate": rate, "values": values }))
    };
    let mut data = Vec::new();
    for panel in ["Text", "Waves", "Tides"] {
        for (i, rate) in [1e-4, 1e-3, 1e-2].into_iter().enumerate() {
            data.push(line(panel, "first", rate, [Some(1.0), Some(1.5), Some(1.2 + i as f64)]));
            data.push(line(panel, "second", rate, [Some(1.1), None, Some(if i == 2 { 1e30 } else { 1.3 })]));
        }
    }
    let svg = rates_drawn("plot-rates", &data.concat()).expect("good data");
    for wanted in [">Text<", ">Waves<", ">Tides<", ">first<", ">second<", ">learning rate<", ">loss (nats)<", ">1e-3<"]
    {
        assert!(svg.contains(wanted), "{wanted}: {svg}");
    }
    assert_eq!(svg.matches("fill-opacity=\"0.12\"").count(), 6, "a band for each line of each diagram");
    for colour in ["#00436b", "#d55e00"] {
        assert_eq!(curves(&svg, &format!("{colour}\" stroke-width=\"2.4\"")), 3, "{svg}");
    }
    assert!(svg.contains("M85.0 287.7L"), "the median of the first line at the first rate is 1.2: {svg}");
    // What is above three times the least, 1, is outside.
    let numbers: Vec<&str> = svg.lines().filter(|line| line.contains("text-anchor=\"end\"")).collect();
    let highest =
        numbers.iter().filter_map(|line| line.split(['>', '<']).nth(2)?.parse::<f64>().ok()).fold(0.0, f64::max);
    assert_eq!(highest, 3.5, "{numbers:?}");
    for (data, wanted) in [
        (String::new(), "data.jsonl: nothing to draw"),
        ("{\"panel\": \"a\"}".to_owned(), "data.jsonl:1: expected a \"unit\""),
        (line("a", "b", 0.0, [None; 3]), "data.jsonl:1: \"rate\": expected a number above 0"),
        (line("a", "b", 1.0, [None; 3]), "data.jsonl: \"a\": expected a loss that is finite"),
        (line("a", "b", 1.0, [Some(1.0); 3]).repeat(2), "data.jsonl:2: a second time \"b\" at 1 in \"a\""),
        (
            line("a", "b", 1.0, [Some(1.0); 3]).replace("[1.0,1.0,1.0]", "[]"),
            "\"values\": expected a list with at least",
        ),
        (line("a", "b", 1.0, [Some(1.0); 3]).replace("[1.0,", "[true,"), "expected numbers or null, not true"),
        ((0..9).map(|i| line("a", &i.to_string(), 1.0, [Some(1.0); 3])).collect(), "9 lines; expected at most 8"),
    ] {
        let printed = rates_drawn("plot-rates-refused", &data).expect_err(wanted);
        assert!(printed.contains(wanted), "{wanted}: {printed}");
    }
}

/// The picture of losses against rates, or what the tool says.
fn rates_drawn(test: &str, data: &str) -> Result<String, String> {
    let folder = scratch(test);
    fs::write(folder.join("data.jsonl"), data).expect("ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_metaadamw-plot"));
    let output = command.args(["rates", "data.jsonl", "out.svg"]).current_dir(&folder).output().expect("the tool runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let svg = fs::read_to_string(folder.join("out.svg")).expect("the tool wrote it");
    well_formed(&svg);
    Ok(svg)
}

#[test]
fn what_cannot_be_drawn_is_refused_with_file_line_and_what_was_expected() {
    let folder = scratch("plot-refused");
    let good = "{\"epoch\": 1, \"train_loss\": 1.0}\n";
    let groups = |names: &[&str]| {
        let groups: Vec<Value> = names.iter().map(|n| json!({ "name": n, "alpha": 1, "beta": 1 })).collect();
        json!({ "step": 1, "modulation_groups": groups }).to_string()
    };
    let runs: String = (0..9).map(|i| format!("{{\"run\": \"r{i}\", \"epoch\": 1, \"train_loss\": 1}}\n")).collect();
    for (log, wanted) in [
        (String::new(), "log.jsonl: nothing to draw: expected losses, or dumps"),
        ("garbage".to_owned(), "log.jsonl:1: expected a JSON object"),
        (format!("{good}\n[1, 2]\n"), "log.jsonl:3: expected a JSON object"),
        (format!("{good}{{\"epoch\": 2, \"train_"), "log.jsonl:2: expected a JSON object: EOF"),
        (format!("{good}{good}"), "log.jsonl:2: a second \"train_loss\" of this run and seed at 1"),
        (format!("{good}{{\"train_loss\": 1}}"), "log.jsonl:2: no \"epoch\" here, but an \"epoch\" in line 1"),
        ("{\"train_loss\": 1}".to_owned(), "log.jsonl:1: expected an \"epoch\", or a dump"),
        ("{\"epoch\": \"x\"}".to_owned(), "log.jsonl:1: \"epoch\": expected a number or null, not \"x\""),
        ("{\"epoch\": -1}".to_owned(), "log.jsonl:1: expected an \"epoch\" or \"step\" from 0 on"),
        ("{\"epoch\": 1, \"seed\": 0.5}".to_owned(), "log.jsonl:1: \"seed\": expected a whole number, not 0.5"),
        ("{\"epoch\": 1, \"run\": 5}".to_owned(), "log.jsonl:1: \"run\": expected a string, not 5"),
        ("{\"epoch\": 1, \"state\": {}}".to_owned(), "log.jsonl:1: \"state\": expected a dump of maw_dump_state"),
        (format!("{}\n{}", groups(&["a"]), groups(&["b"])), "log.jsonl:2: modulation groups [\"b\"], but earlier"),
        (dumps(false, 2).concat(), "nothing to draw"),
        (runs, "log.jsonl: 9 runs; expected at most 8"),
    ] {
        fs::write(folder.join("log.jsonl"), log).expect("ours");
        let mut command = Command::new(env!("CARGO_BIN_EXE_metaadamw-plot"));
        let output = command.args(["log.jsonl", "out.svg"]).current_dir(&folder).output().expect("the tool runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && printed.contains(wanted), "{wanted}: {printed}");
        assert!(!folder.join("out.svg").exists(), "{wanted}: nothing is written");
    }
    for (arguments, wanted) in [
        (vec!["none.jsonl", "out.svg"], "none.jsonl: "),
        (vec!["log.jsonl"], "usage: metaadamw-plot LOG.jsonl OUT.svg"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metaadamw-plot"));
        let output = command.args(&arguments).current_dir(&folder).output().expect("the tool runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && printed.contains(wanted), "{wanted}: {printed}");
    }
}
