//! The dump: docs/state.md lists every key and no other, in every state of an optimizer.

mod common;

use common::handle::{Handle, param_group};
use common::tensor::Tensor;
use common::toy::{Toy, horizon_options, small_options};
use metaadamw::ffi::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A dump in each state, by name.
fn dumps() -> Vec<(&'static str, Value)> {
    let toy = Toy::small();
    let mut dumps = Vec::new();
    let (mut handle, mut params) =
        (toy.handle(&maw_options { meta_interval: 2, ..small_options() }), toy.start.clone());
    dumps.push(("before the first step", handle.dumped()));
    toy.train(&mut handle, &mut params, 0, 2);
    dumps.push(("a meta-update is due", handle.dumped()));
    let request = handle.begin(&mut params).expect("begun");
    dumps.push(("a meta-update is open", handle.dumped()));
    let answer = toy.answer(&request, &params);
    handle.tell(request.id, &answer, &mut params).expect("told");
    dumps.push(("one answer was given", handle.dumped()));
    handle.abort(&mut params).expect("aborted");
    dumps.push(("a meta-update was abandoned", handle.dumped()));
    toy.meta_update(&mut handle, &mut params).expect("a meta-update");
    dumps.push(("a meta-update was made", handle.dumped()));
    let mut grads = toy.gradients(3, &params);
    grads[1].as_mut().expect("it has a gradient").set(0, f64::NAN);
    assert_eq!(handle.step(&mut params, &grads).expect("a step").skipped, 1);
    dumps.push(("a step was skipped", handle.dumped()));

    let file = handle.save_bytes(0).expect("saved");
    let mut loaded = toy.handle(&maw_options { meta_interval: 2, ..small_options() });
    loaded.load_bytes(&file, 0).expect("it fits");
    dumps.push(("loaded", loaded.dumped()));

    let enhanced = maw_options { feature_version: MAW_FEATURES_ENHANCED, use_feature_gating: 1, ..small_options() };
    let (mut handle, mut params) = (toy.handle(&enhanced), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 1);
    dumps.push(("with embeddings", handle.dumped()));
    let (mut handle, mut params) = (toy.handle(&maw_options { modulation: 0, ..small_options() }), toy.start.clone());
    dumps.push(("modulation off, before the first step", handle.dumped()));
    toy.train(&mut handle, &mut params, 0, 1);
    dumps.push(("modulation off", handle.dumped()));
    let (mut handle, mut params) = (toy.handle(&horizon_options()), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 6);
    dumps.push(("learning from steps", handle.dumped()));
    let mut unprepared = Handle::new(&maw_options { weighting: MAW_WEIGHTING_SUM, ..small_options() }).expect("good");
    unprepared.add(&param_group(), &toy.specs).expect("good tensors");
    dumps.push(("unprepared, without uncertainty weighting", unprepared.dumped()));
    dumps
}

fn of<'a>(dumps: &'a [(&str, Value)], state: &str) -> &'a Value {
    &dumps.iter().find(|(name, _)| *name == state).unwrap_or_else(|| panic!("no {state}")).1
}

/// Paths of all keys: `meta.last.losses.train`, `param_groups[].lr`.
fn keys(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                all.insert(path.clone());
                keys(value, &path, all);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, &format!("{path}[]"), all)),
        _ => {}
    }
}

/// The keys in the tables of docs/state.md: the first column, between backticks.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/state.md")).expect("the page");
    let cell = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    page.lines().filter_map(cell).collect()
}

#[test]
fn the_page_names_every_key_of_every_dump_and_no_other() {
    let mut found = BTreeSet::new();
    for (_, dump) in dumps() {
        keys(&dump, "", &mut found);
    }
    let documented = documented();
    let missing: Vec<_> = found.difference(&documented).collect();
    let extra: Vec<_> = documented.difference(&found).collect();
    assert!(missing.is_empty(), "docs/state.md does not name {missing:#?}");
    assert!(extra.is_empty(), "docs/state.md names what no dump has: {extra:#?}");
}

#[test]
fn a_state_has_the_same_keys_at_the_top_whatever_it_is() {
    let dumps = dumps();
    let top = |dump: &Value| dump.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let expected = top(&dumps[0].1);
    for (state, dump) in &dumps {
        assert_eq!(top(dump), expected, "{state}");
        assert_eq!(dump["schema"], "metaadamw.state");
        assert_eq!(dump["schema_version"], 1);
    }
}

#[test]
fn the_dump_says_what_the_optimizer_is_doing() {
    let dumps = dumps();
    println!("{:#}", of(&dumps, "a step was skipped")); // with --nocapture: an example for the page
    let says = |state: &str, text: &str| {
        let summary: Vec<String> = serde_json::from_value(of(&dumps, state)["summary"].clone()).expect("sentences");
        assert!(summary.iter().any(|sentence| sentence.contains(text)), "{state}: {text:?} is not in {summary:#?}");
    };
    says("before the first step", "0 steps applied, none skipped.");
    says("before the first step", "No factors yet");
    says("before the first step", "the next is due at step 2");
    says("a meta-update is due", "one is due now");
    says("a meta-update is open", "waits for the answer to request 1");
    says("a meta-update was abandoned", "ended as \"aborted\"");
    says("a meta-update was abandoned", "the next is due at step 4");
    says("a meta-update was made", "1 meta-update made (the last at step 2");
    says(
        "a step was skipped",
        "1 skipped, the last after step 2: the gradient of 'layers.0.attn.weight' was not finite",
    );
    says("loaded", "2 steps applied, 1 skipped.");
    says("learning from steps", "The attention module has learned once from steps, the last after step 4.");
    says("modulation off", "Modulation is off: this is plain AdamW.");
    says("modulation off", "inside the library");
}

#[test]
fn the_parts_of_a_dump_are_those_of_the_optimizer() {
    let dumps = dumps();
    let open = of(&dumps, "one answer was given");
    assert_eq!(open["meta"]["open"]["answered"], 1);
    assert_eq!(open["meta"]["open"]["batch"], "validation");
    assert_eq!(of(&dumps, "a meta-update was abandoned")["meta"]["open"], Value::Null);
    assert_eq!(of(&dumps, "a meta-update was abandoned")["meta"]["last"]["outcome"], "aborted");
    let skipped = &of(&dumps, "a step was skipped")["skipped_steps"];
    assert_eq!(skipped["by_reason"]["gradient"], 1);
    assert_eq!(skipped["last"]["tensor"], "layers.0.attn.weight");

    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&small_options()), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 3);
    let (state, factors) = (handle.dumped(), handle.factors().expect("stepped"));
    let groups = state["modulation_groups"].as_array().expect("groups");
    assert_eq!(groups.len(), factors.alpha.len());
    let close = |value: &Value, expected: f64| (value.as_f64().expect("a number") / expected - 1.0).abs() < 1e-14;
    for (g, group) in groups.iter().enumerate() {
        assert!(close(&group["alpha"], factors.alpha[g]) && close(&group["beta"], factors.beta[g]), "{group}");
        assert_eq!(group["features"].as_array().map(Vec::len), state["feature_columns"].as_array().map(Vec::len));
        for tensor in group["tensors"].as_array().expect("tensors") {
            assert!(close(&tensor["effective_lr"], 0.02 * factors.alpha[g]), "{tensor}");
            assert!(close(&tensor["effective_weight_decay"], 0.1 * factors.beta[g]), "{tensor}");
            let place = toy.specs.iter().position(|spec| tensor["name"] == spec.name.as_str()).expect("registered");
            let norm = |t: &Tensor| t.values().iter().map(|x| x * x).sum::<f64>().sqrt();
            assert!((tensor["norms"]["param"].as_f64().expect("a norm") / norm(&params[place]) - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn without_tensors_the_dump_is_refused() {
    let mut handle = Handle::new(&small_options()).expect("good options");
    assert_eq!(handle.dump().expect_err("no tensors").status, MAW_INVALID_STATE);
}
