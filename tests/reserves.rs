//! A reserve is at least twice as large as what is allocated in it when the system refuses everything: over models of all
//! shapes, and files that fit, do not fit, and are made to need memory.

mod common;

use common::calls::Answer;
use common::checkpoint::{Checkpoint, file};
use common::handle::{Failure, Handle, Spec, options, param_group};
use common::tensor::Tensor;
use metaadamw::ffi::*;
use metaadamw::reserve::watch::{self, Event};
use serde_json::{Map, Value, json};
use std::cell::{Cell, RefCell};

/* ----------------------------------------------------------------- refusing ---- */

#[derive(Clone, Copy, Default)]
struct Worst {
    /// Used bytes of how many.
    used: usize,
    size: usize,
    reserves: usize,
}

/// What is refused on this thread.
#[derive(Clone, Copy, PartialEq)]
enum Refused {
    Nothing,
    /// What a reserve can take.
    Allocations,
    Reserves,
}

thread_local! {
    static REFUSED: Cell<Refused> = const { Cell::new(Refused::Nothing) };
    static TOO_SMALL: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static WORST: Cell<Worst> = const { Cell::new(Worst { used: 0, size: 1, reserves: 0 }) };
}

/// Refuses, and notes how much of each reserve was needed.
fn watcher(event: Event) -> bool {
    match event {
        Event::Returned { size, used } if REFUSED.get() == Refused::Allocations => {
            let mut worst = WORST.get();
            worst.reserves += 1;
            if used as f64 * worst.size as f64 > worst.used as f64 * size as f64 {
                (worst.used, worst.size) = (used, size);
            }
            WORST.set(worst);
            true
        }
        Event::Allocated(_) | Event::Moved(..) => !(REFUSED.get() == Refused::Allocations && watch::in_reserve()),
        Event::Reserve(_) => REFUSED.get() != Refused::Reserves,
        _ => true,
    }
}

/// The largest share of its reserves that some work needs.
fn needs<T>(model: &str, what: &str, work: impl FnOnce() -> T) -> T {
    watch::set(watcher);
    WORST.set(Worst { used: 0, size: 1, reserves: 0 });
    REFUSED.set(Refused::Allocations);
    let result = work();
    REFUSED.set(Refused::Nothing);
    let Worst { used, size, reserves } = WORST.get();
    let share = used as f64 / size as f64;
    println!("{model}: {what}: {:.1} % of {size} bytes, {reserves} reserves", 100.0 * share);
    if share > 0.5 {
        let text = format!("{model}: {what} needs {used} bytes of a reserve of {size}");
        TOO_SMALL.with_borrow_mut(|found| found.push(text));
    }
    result
}

fn check() {
    let found = TOO_SMALL.take();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/* ------------------------------------------------------------------- models ---- */

struct Model {
    name: &'static str,
    options: maw_options,
    group: maw_param_group,
    /// Of each param group.
    specs: Vec<Vec<Spec>>,
}

fn base() -> maw_options {
    maw_options { attn_layers: 1, attn_hidden_dim: 4, attn_heads: 1, threads: 1, ..options() }
}

/// `count` tensors whose names have `length` bytes, all but the number this character.
fn named(count: usize, length: usize, fill: char) -> Vec<Spec> {
    let name = |i: usize| {
        let number = format!("layers.{i}.weight");
        let rest = length.saturating_sub(number.len()) / fill.len_utf8();
        number + &fill.to_string().repeat(rest)
    };
    (0..count).map(|i| Spec::new(&name(i), &[2, 1], MAW_FLOAT32)).collect()
}

fn in_groups(count: usize, groups: usize) -> Vec<Spec> {
    named(count, 0, 'x').into_iter().enumerate().map(|(i, spec)| spec.in_group(&format!("g{}", i % groups))).collect()
}

fn models() -> Vec<Model> {
    let model = |name, options, specs| Model { name, options, group: param_group(), specs };
    let custom = maw_options { grouping: MAW_GROUPING_CUSTOM, ..base() };
    let by_param_group = maw_options { grouping: MAW_GROUPING_BY_PARAM_GROUP, ..base() };
    let large = maw_options {
        attn_layers: 6,
        attn_hidden_dim: 256,
        feature_version: MAW_FEATURES_ENHANCED,
        group_embed_dim: 32,
        use_feature_gating: 1,
        semantics: MAW_REFERENCE,
        ..options()
    };
    let each_alone = |count: usize| named(count, 0, 'x').into_iter().map(|spec| vec![spec]).collect();
    let dimensions = |spec: Spec| Spec { shape: vec![1; 64], ..spec };
    let half = |spec: Spec| Spec { dtype: MAW_BFLOAT16, ..spec };
    vec![
        model("one tensor", base(), vec![named(1, 0, 'x')]),
        model("one tensor, modulation off", maw_options { modulation: 0, ..base() }, vec![named(1, 0, 'x')]),
        model("100 tensors", base(), vec![named(100, 0, 'x')]),
        model("10,000 tensors", base(), vec![named(10_000, 0, 'x')]),
        model("1,000 names of 1,000 bytes", base(), vec![named(1_000, 1_000, 'x')]),
        model("1,000 names of quotation marks", base(), vec![named(1_000, 1_000, '"')]),
        model("names of two-byte letters", base(), vec![named(100, 1_000, 'é')]),
        model("64 dimensions", base(), vec![named(500, 0, 'x').into_iter().map(dimensions).collect()]),
        model("400 modulation groups", custom, vec![in_groups(400, 400)]),
        model("5,000 tensors in two modulation groups", custom, vec![in_groups(5_000, 2)]),
        model("300 param groups that are modulation groups", by_param_group, each_alone(300)),
        model("2,000 param groups", base(), each_alone(2_000)),
        model("a large attention module", large, vec![named(50, 0, 'x')]),
        Model {
            group: maw_param_group { precision: MAW_PRECISION_MASTER, moment_dtype: MAW_BFLOAT16, ..param_group() },
            ..model("bfloat16 with masters", base(), vec![named(200, 0, 'x').into_iter().map(half).collect()])
        },
        Model {
            options: maw_options { threads: 8, ..base() },
            ..model("eight threads", base(), vec![vec![Spec::new("w", &[300_000], MAW_FLOAT32)]])
        },
        model("a million elements a tensor", base(), vec![vec![Spec::new("w", &[8, 1_000_000], MAW_BFLOAT16)]]),
    ]
}

/// Another model, none of whose tensors are those of the first.
fn other() -> Handle {
    let options = maw_options { alpha_range: 0.3, meta_interval: 7, max_grad_norm: 2.0, ..base() };
    let mut handle = Handle::new(&options).expect("good options");
    let specs: Vec<Spec> = (0..30).map(|i| Spec::new(&format!("other.{i}"), &[2], MAW_FLOAT32)).collect();
    handle.add(&maw_param_group { lr: 0.3, eps: 1e-5, ..param_group() }, &specs).expect("good tensors");
    handle.prepare().expect("all is registered");
    handle
}

impl Model {
    fn created(&self) -> Handle {
        let mut handle = needs(self.name, "create", || Handle::new(&self.options)).expect("good options");
        let adding = "add_param_group";
        needs(self.name, adding, || self.specs.iter().try_for_each(|specs| handle.add(&self.group, specs).map(drop)))
            .expect("good tensors");
        handle
    }

    fn tensors(&self, value: f64) -> Vec<Tensor> {
        self.specs.iter().flatten().map(|spec| Tensor::new(spec.dtype, &vec![value; spec.len()])).collect()
    }

    fn life(&self) {
        let (model, modulation) = (self.name, self.options.modulation == 1);
        let mut handle = self.created();
        let mut params = self.tensors(0.5);
        let grads: Vec<_> = self.tensors(0.25).into_iter().map(Some).collect();
        needs(model, "prepare", || handle.prepare()).expect("all is registered");
        needs(model, "step", || handle.step(&mut params, &grads)).expect("a step");
        needs(model, "observe", || handle.observe(0, grads[0].as_ref().expect("it is there"))).expect("observed");
        needs(model, "step", || handle.step(&mut params, &grads)).expect("a step");
        if modulation {
            let answer = |request: &maw_meta_request, _: &[Tensor]| Answer {
                loss: 1.0 + f64::from(request.batch),
                grads: Some(grads.clone()),
                grad_scale: 1.0,
            };
            needs(model, "meta-update", || handle.meta_update(&mut params, answer)).expect("a meta-update");
        }
        if self.options.threads == 1 && params.len() > 1 || params[0].len() < 100 {
            needs(model, "dump", || handle.dump()).expect("a dump");
        }
        self.files(&mut handle);
        needs(model, "factors", || handle.factors()).expect("a step was made");
        needs(model, "reset", || handle.reset(MAW_RESET_MOMENTS | MAW_RESET_ATTENTION)).expect("prepared");
        needs(model, "free", || drop(handle));
    }

    fn files(&self, handle: &mut Handle) {
        let model = self.name;
        let saved = needs(model, "save", || handle.save_bytes(0)).expect("saved");
        needs(model, "load", || handle.load_bytes(&saved, 0)).expect("it fits");
        needs(model, "load the attention module", || handle.load_bytes(&saved, MAW_ATTENTION_ONLY)).expect("it fits");
        let mut other = other();
        let foreign = other.save_bytes(0).expect("saved");
        let refused =
            |outcome: Result<(), Failure>| assert_eq!(outcome.expect_err("it does not fit").status, MAW_MISMATCH);
        refused(needs(model, "load into another", || other.load_bytes(&saved, 0)));
        refused(needs(model, "load another", || handle.load_bytes(&foreign, 0)));
        if self.specs.iter().map(Vec::len).sum::<usize>() > 2_000 {
            return; // a file of so many tensors takes this test long to change
        }
        // Every param group and many options differ.
        let mut steered = Checkpoint::parse(&saved);
        for part in steered.parts.iter_mut().filter(|part| part.name.starts_with("param_groups.")) {
            let values = part.bytes.chunks_exact(8).flat_map(|_| 1e-3_f64.to_le_bytes()).collect();
            part.bytes = values;
        }
        let steered = steered.bytes();
        refused(needs(model, "load with differences", || handle.load_bytes(&steered, MAW_LOAD_STRICT)));
        let messages = handle.logged().expect("a log");
        needs(model, "load what differs", || handle.load_bytes(&steered, MAW_LOAD_FILE_WINS)).expect("it is taken");
        assert_eq!(messages.lock().expect("no panic").len(), 1);
    }
}

#[test]
fn a_call_needs_at_most_half_of_its_reserve() {
    models().iter().for_each(Model::life);
    check();
}

/// Headers that are made to need memory.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let saved = other().save_bytes(0).expect("saved");
    let good = Checkpoint::parse(&saved);
    let with = |header: &str| file(header.as_bytes(), &[0; 16]);
    let tensors = |count: usize, name: &dyn Fn(usize) -> String, shape: &str| {
        let one = |i: usize| format!("\"{}\":{{\"dtype\":\"U8\",\"shape\":[{shape}],\"data_offsets\":[0,0]}}", name(i));
        format!("{{{}}}", (0..count).map(one).collect::<Vec<_>>().join(","))
    };
    let description = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut changed = good.clone();
        change(changed.description.as_object_mut().expect("an object"));
        changed.bytes()
    };
    let zeros = vec!["0"; 64].join(",");
    let group = "g".repeat(500_000);
    vec![
        ("short names", with(&tensors(100_000, &|i| format!("{i:x}"), "0"))),
        ("64 dimensions", with(&tensors(20_000, &|i| format!("{i:x}"), &zeros))),
        ("one long name", with(&tensors(2, &|_| "\\u0001".repeat(1_000_000), "0"))),
        ("long names", with(&tensors(200, &|i| format!("{i}").repeat(5_000), "0"))),
        ("nesting", with(&("{\"a\":".to_owned() + &"[".repeat(1_000_000)))),
        ("escapes", with(&format!("{{\"__metadata__\":{{\"metaadamw\":\"{}\"}}}}", "\\u0041".repeat(500_000)))),
        ("long groups", description(&|d| d["groups"] = json!(vec![group.as_str(); 4]))),
        ("many groups", description(&|d| d["groups"] = json!(vec!["g"; 100_000]))),
        (
            "many tensors",
            description(&|d| {
                let first = d["tensors"][0].clone();
                d["tensors"] = vec![first; 20_000].into();
            }),
        ),
        (
            "many options",
            description(&|d| d["options"] = (0..300).map(|i| (format!("o{i}"), json!("w".repeat(250)))).collect()),
        ),
    ]
}

#[test]
fn a_hostile_file_needs_at_most_half_of_its_reserve() {
    let mut handle = other();
    for (name, bytes) in hostile() {
        needs("a hostile file", name, || handle.load_bytes(&bytes, 0)).expect_err("it is hostile");
    }
    check();
}

#[test]
fn without_a_reserve_nothing_is_done() {
    watch::set(watcher);
    let mut handle = other();
    let before = handle.save_bytes(0).expect("saved");
    REFUSED.set(Refused::Reserves);
    let outcomes = [handle.dump().map(drop), handle.save_bytes(0).map(drop), handle.load_bytes(&before, 0)];
    REFUSED.set(Refused::Nothing);
    for outcome in outcomes {
        assert_eq!(outcome.expect_err("there is no reserve").status, MAW_OUT_OF_MEMORY);
    }
    assert_eq!(handle.save_bytes(0).expect("saved"), before);
}
