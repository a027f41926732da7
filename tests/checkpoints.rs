//! What a checkpoint must have in common with the optimizer that loads it, which options are used where they may
//! differ, the attention module alone, one tensor's state, and the file as read by other programs. That a resumed run
//! has the same bits is tested in `resume.rs`; damaged files in `hostile.rs`.

mod common;

use common::checkpoint::{Checkpoint, split};
use common::handle::{Failure, Handle, Spec, param_group};
use common::saved::State;
use common::tensor::{Tensor, bits, float_bits};
use common::toy::{Random, Toy, phi_bits, small_options, snapshot};
use metaadamw::ffi::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A trained optimizer and its file.
fn trained(options: &maw_options) -> (Toy, Handle, Vec<Tensor>) {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(options), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 4);
    toy.meta_update(&mut handle, &mut params).expect("a meta-update");
    toy.train(&mut handle, &mut params, 4, 1);
    (toy, handle, params)
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder); // it may not be there
    fs::create_dir_all(&folder).expect("the test folder can be written to");
    folder
}

/// Loading fails with `status`, says all of `texts`, and changes nothing that can be saved.
fn refuses(handle: &mut Handle, file: &[u8], flags: u32, status: i32, texts: &[&str]) -> Failure {
    let before = handle.save_bytes(0).expect("saved");
    let failure = handle.load_bytes(file, flags).expect_err("it does not fit");
    assert_eq!(failure.status, status, "{failure:?}");
    for text in texts {
        assert!(failure.message.contains(text), "{text:?} is not in {:?}", failure.message);
    }
    assert_eq!(handle.save_bytes(0).expect("saved"), before, "{failure:?} changed something");
    failure
}

const ANY_FLAGS: [u32; 4] = [0, MAW_LOAD_STRICT, MAW_LOAD_FILE_WINS, MAW_LOAD_OWN_WINS];

// Models.

fn registered(specs: &[Spec], options: &maw_options) -> Handle {
    let mut handle = Handle::new(options).expect("the options are good");
    handle.add(&maw_param_group { lr: 0.02, weight_decay: 0.1, ..param_group() }, specs).expect("good tensors");
    handle.prepare().expect("all is registered");
    handle
}

#[test]
fn another_model_is_refused_with_the_first_differences() {
    let (toy, mut handle, _) = trained(&small_options());
    let file = handle.save_bytes(0).expect("saved");
    let changed = |change: &dyn Fn(&mut Vec<Spec>)| {
        let mut specs = toy.specs.clone();
        change(&mut specs);
        registered(&specs, &small_options())
    };
    for flags in ANY_FLAGS {
        let refused = |change: &dyn Fn(&mut Vec<Spec>), texts: &[&str]| {
            refuses(&mut changed(change), &file, flags, MAW_MISMATCH, texts);
        };
        refused(&|s| s[0].shape = vec![3, 5], &["tensor 'embed.weight': shape [5, 3] in the file, [3, 5] here"]);
        refused(&|s| s[0].dtype = MAW_FLOAT64, &["tensor 'embed.weight': dtype F32 in the file, F64 here"]);
        refused(&|s| s[5].name = "tail".into(), &["'tail' is not in the file", "'head' is only in the file"]);
        refused(
            &|s| s.truncate(4),
            &["6 tensors in the file, 4 here", "'layers.1.mlp.bias' is only in the file", "'head' is only in the file"],
        );
        refused(
            &|s| s.push(Spec::new("more", &[2], MAW_FLOAT32)),
            &["6 tensors in the file, 7 here", "'more' is not in the file"],
        );
    }
}

#[test]
fn only_the_first_differences_of_many_are_listed() {
    let many =
        |prefix: &str| (0..40).map(|i| Spec::new(&format!("{prefix}{i}"), &[2], MAW_FLOAT32)).collect::<Vec<_>>();
    let file = registered(&many("a"), &small_options()).save_bytes(0).expect("saved");
    let failure = refuses(
        &mut registered(&many("b"), &small_options()),
        &file,
        0,
        MAW_MISMATCH,
        &["tensor 'b0' is not in the file", "and 7"],
    );
    assert!(failure.message.len() < 1000, "{failure:?}");
}

#[test]
fn a_model_of_thousands_of_other_tensors_is_refused_with_its_number() {
    let many: Vec<Spec> = (0..3000).map(|i| Spec::new(&format!("layers.{i}.w"), &[1], MAW_FLOAT32)).collect();
    let file = registered(&many, &small_options()).save_bytes(0).expect("saved");
    let (_, mut handle, _) = trained(&small_options());
    refuses(&mut handle, &file, 0, MAW_MISMATCH, &["in the file"]);
}

#[test]
fn other_param_groups_and_modulation_groups_are_refused() {
    let toy = Toy::small();
    let grouped = |at: usize| {
        let mut handle = Handle::new(&small_options()).expect("the options are good");
        let (first, second) = toy.specs.split_at(at);
        handle.add(&param_group(), first).expect("good tensors");
        handle.add(&param_group(), second).expect("good tensors");
        handle
    };
    let file = grouped(2).save_bytes(0).expect("saved");
    let text = "tensor 'layers.0.attn.bias': param group 1 in the file, 0 here";
    refuses(&mut grouped(3), &file, 0, MAW_MISMATCH, &[text]);
    let one = toy.handle(&small_options()).save_bytes(0).expect("saved");
    refuses(&mut grouped(5), &one, 0, MAW_MISMATCH, &["tensor 'head': param group 0 in the file, 1 here"]);

    let custom = |names: [&str; 6]| {
        let specs: Vec<Spec> = toy.specs.iter().zip(names).map(|(s, group)| s.clone().in_group(group)).collect();
        registered(&specs, &maw_options { grouping: MAW_GROUPING_CUSTOM, ..small_options() })
    };
    let file = custom(["a", "a", "a", "b", "b", "b"]).save_bytes(0).expect("saved");
    for flags in ANY_FLAGS {
        let text = "tensor 'layers.0.attn.bias': modulation group a in the file, b here";
        refuses(&mut custom(["a", "a", "b", "b", "b", "b"]), &file, flags, MAW_MISMATCH, &[text]);
        let mut renamed = custom(["a", "a", "a", "c", "c", "c"]);
        refuses(&mut renamed, &file, flags, MAW_MISMATCH, &["only in the file: 'b'; only here: 'c'"]);
    }
}

// Options.

type Change = (&'static str, fn(&mut maw_options));

const STRUCTURAL: [Change; 13] = [
    ("semantics", |o| o.semantics = MAW_REFERENCE),
    ("feature_version", |o| o.feature_version = MAW_FEATURES_NORM_BASIC),
    ("feature_version", |o| o.feature_version = MAW_FEATURES_ENHANCED),
    ("grouping", |o| o.grouping = MAW_GROUPING_BY_PARAM_GROUP),
    ("modulation", |o| o.modulation = 0),
    ("use_v_norms", |o| o.use_v_norms = 0),
    ("include_time_step", |o| o.include_time_step = 0),
    ("use_feature_gating", |o| o.use_feature_gating = 1),
    ("feature_dim", |o| o.feature_dim = 12),
    ("attn_heads", |o| o.attn_heads = 3),
    ("attn_layers", |o| o.attn_layers = 1),
    ("attn_hidden_dim", |o| o.attn_hidden_dim = 9),
    ("weighting", |o| o.weighting = MAW_WEIGHTING_SUM),
];

const LATER_STEPS_ONLY: [Change; 23] = [
    ("seed", |o| o.seed = 8),
    ("total_steps", |o| o.total_steps = 0),
    ("meta_interval", |o| o.meta_interval = 3),
    ("meta_warmup", |o| o.meta_warmup = 3),
    ("alpha_range", |o| o.alpha_range = 0.5),
    ("beta_range", |o| o.beta_range = 0.5),
    ("meta_lr", |o| o.meta_lr = 0.5),
    ("meta_weight_decay", |o| o.meta_weight_decay = 0.5),
    ("feature_gating_sparsity", |o| o.feature_gating_sparsity = 0.5),
    ("priorities", |o| o.priorities[1] = 0.5),
    ("fixed_weights", |o| o.fixed_weights[2] = 0.5),
    ("huw_initial_log_var", |o| o.huw_initial_log_var = 0.5),
    ("log_var_limit", |o| o.log_var_limit = 0.5),
    ("difference_scale", |o| o.difference_scale = 0.5),
    ("max_grad_norm", |o| o.max_grad_norm = 0.5),
    ("init", |o| o.init = MAW_INIT_IDENTITY),
    ("objective", |o| o.objective = MAW_OBJECTIVE_GRADIENT),
    ("huw_kinds", |o| o.huw_kinds[0] = MAW_KIND_CLASSIFICATION),
    ("difference", |o| o.difference = MAW_DIFFERENCE_FORWARD),
    ("nonfinite", |o| o.nonfinite = MAW_NONFINITE_ERROR),
    ("alpha_log_range", |o| o.alpha_log_range = 2.0),
    ("beta_log_range", |o| o.beta_log_range = 2.0),
    ("group_embed_dim", |_| {}), // structural with embeddings only: see below
];

#[test]
fn structural_options_must_be_equal_whatever_the_flags() {
    let (toy, mut handle, _) = trained(&small_options());
    let file = handle.save_bytes(0).expect("saved");
    for (name, change) in STRUCTURAL {
        let mut options = small_options();
        change(&mut options);
        for flags in ANY_FLAGS {
            refuses(&mut toy.handle(&options), &file, flags, MAW_MISMATCH, &[&format!("options.{name}: ")]);
        }
    }
    let enhanced = maw_options { feature_version: MAW_FEATURES_ENHANCED, ..small_options() };
    let file = toy.handle(&enhanced).save_bytes(0).expect("saved");
    let mut wider = toy.handle(&maw_options { group_embed_dim: 5, ..enhanced });
    refuses(&mut wider, &file, 0, MAW_MISMATCH, &["options.group_embed_dim: 4 in the file, 5 here"]);
}

/// The options in the dump.
fn options_of(handle: &mut Handle) -> serde_json::Value {
    let dump: serde_json::Value = serde_json::from_str(&handle.dump().expect("a dump")).expect("JSON");
    dump["options"].clone()
}

#[test]
fn options_that_affect_only_later_steps_may_differ_with_a_flag() {
    let (toy, mut handle, _) = trained(&small_options());
    let (file, of_file) = (handle.save_bytes(0).expect("saved"), options_of(&mut handle));
    for (name, change) in LATER_STEPS_ONLY {
        let mut options = small_options();
        change(&mut options);
        let fresh = || toy.handle(&options);
        let own = options_of(&mut fresh());
        if own != of_file {
            let texts = [format!("options.{name}: "), "MAW_LOAD_FILE_WINS".to_owned()];
            let texts = texts.each_ref().map(String::as_str);
            refuses(&mut fresh(), &file, MAW_LOAD_STRICT, MAW_MISMATCH, &texts);
            if ["max_grad_norm", "priorities"].contains(&name) {
                let mut other = fresh();
                other.load_bytes(&file, 0).expect("it has a setter");
                assert_eq!(options_of(&mut other), of_file);
            } else {
                refuses(&mut fresh(), &file, 0, MAW_MISMATCH, &texts);
            }
        }
        for (flags, winner) in [(MAW_LOAD_FILE_WINS, &of_file), (MAW_LOAD_OWN_WINS, &own)] {
            let mut other = fresh();
            other.load_bytes(&file, flags).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(&options_of(&mut other), winner, "{name}, flags {flags}");
            assert_eq!(phi_bits(&other), phi_bits(&handle), "{name}");
        }
    }
}

#[test]
fn every_option_is_in_one_of_the_lists_or_belongs_to_the_machine() {
    let (_, mut handle, _) = trained(&small_options());
    for name in options_of(&mut handle).as_object().expect("options").keys() {
        let known = STRUCTURAL.iter().chain(&LATER_STEPS_ONLY).any(|(known, _)| known == name);
        let of_the_machine = ["threads", "verify_params", "device"];
        let with_a_state = ["horizon", "meta_optimizer", "average_dtype"]; // tests/horizon.rs
        let elsewhere = of_the_machine.iter().chain(&with_a_state).any(|known| known == name);
        assert!(known || elsewhere, "{name} is tested nowhere");
    }
}

#[test]
fn the_flag_also_chooses_between_hyper_parameters() {
    let (toy, mut handle, _) = trained(&small_options());
    handle.set_lr(0, 0.007).expect("a learning rate");
    let file = handle.save_bytes(0).expect("saved");
    refuses(
        &mut toy.handle(&small_options()),
        &file,
        MAW_LOAD_STRICT,
        MAW_MISMATCH,
        &["param group 0: lr 0.007 in the file, 0.02 here", "MAW_LOAD_FILE_WINS"],
    );
    for (flags, lr) in [(0, 0.007), (MAW_LOAD_FILE_WINS, 0.007), (MAW_LOAD_OWN_WINS, 0.02)] {
        let mut other = toy.handle(&small_options());
        other.load_bytes(&file, flags).expect("it fits");
        assert_eq!(other.lr(0).expect("a group"), lr);
    }
    let mut both = toy.handle(&small_options());
    refuses(&mut both, &file, MAW_LOAD_FILE_WINS | MAW_LOAD_OWN_WINS, MAW_INVALID_ARGUMENT, &["flags"]);
    refuses(&mut both, &file, MAW_LOAD_FILE_WINS | MAW_LOAD_STRICT, MAW_INVALID_ARGUMENT, &["flags"]);
    refuses(&mut both, &file, 32, MAW_INVALID_ARGUMENT, &["flags"]);
    assert_eq!(both.save_bytes(MAW_LOAD_FILE_WINS).expect_err("not a flag of saving").status, MAW_INVALID_ARGUMENT);
}

// The attention module alone.

#[test]
fn an_attention_module_moves_into_another_model() {
    let (_, mut handle, _) = trained(&small_options());
    let alone = handle.save_bytes(MAW_ATTENTION_ONLY).expect("saved");
    let whole = handle.save_bytes(0).expect("saved");
    assert!(alone.len() < whole.len());
    for file in [&alone, &whole] {
        let specs = [Spec::new("another.weight", &[7], MAW_FLOAT32), Spec::new("another.bias", &[2], MAW_FLOAT32)];
        let mut other = registered(&specs, &maw_options { seed: 1, meta_lr: 0.5, ..small_options() });
        let mut params = [Tensor::new(MAW_FLOAT32, &[1.0; 7]), Tensor::new(MAW_FLOAT32, &[1.0; 2])];
        let grads = params.clone().map(Some);
        other.step(&mut params, &grads).expect("a step");
        let (steps, state) = (other.steps(), other.tensor_state(0, &specs[0]).expect("a tensor").bits());
        assert_ne!(phi_bits(&other), phi_bits(&handle));
        other.load_bytes(file, MAW_ATTENTION_ONLY).expect("it fits");
        assert_eq!(phi_bits(&other), phi_bits(&handle));
        assert_eq!((other.steps(), other.tensor_state(0, &specs[0]).expect("a tensor").bits()), (steps, state));
    }
    refuses(&mut handle, &alone, 0, MAW_MISMATCH, &["the file holds an attention module alone"]);
}

#[test]
fn an_attention_module_with_other_inputs_is_refused() {
    let (toy, mut handle, _) = trained(&small_options());
    for (name, change) in STRUCTURAL {
        let mut options = small_options();
        change(&mut options);
        let mut other = toy.handle(&options);
        for whole in [0, MAW_ATTENTION_ONLY] {
            let file = handle.save_bytes(whole).expect("saved");
            // Semantics and grouping do not change what a token is; the rest does, or there is another module.
            if ["semantics", "grouping"].contains(&name) {
                toy.handle(&options).load_bytes(&file, MAW_ATTENTION_ONLY).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            } else {
                refuses(&mut other, &file, MAW_ATTENTION_ONLY, MAW_MISMATCH, &["in the file"]);
            }
        }
    }
}

#[test]
fn with_embeddings_an_attention_module_needs_the_same_groups() {
    let enhanced = maw_options { feature_version: MAW_FEATURES_ENHANCED, ..small_options() };
    let (toy, mut handle, _) = trained(&enhanced);
    let file = handle.save_bytes(MAW_ATTENTION_ONLY).expect("saved");
    toy.handle(&enhanced).load_bytes(&file, MAW_ATTENTION_ONLY).expect("it fits");
    let mut specs = toy.specs.clone();
    specs[5].name = "norm".into();
    let mut other = registered(&specs, &enhanced);
    let says = ["modulation groups in the file", "MAW_LOAD_PARTIAL"];
    refuses(&mut other, &file, MAW_ATTENTION_ONLY, MAW_MISMATCH, &says);
    // Also where their number is another; then what both have is a way.
    let mut more = registered(&[&specs[..], &[Spec::new("more.mlp", &[2, 2], MAW_FLOAT32)]].concat(), &enhanced);
    refuses(&mut more, &file, MAW_ATTENTION_ONLY, MAW_MISMATCH, &says);
    for into in [&mut other, &mut more] {
        into.load_bytes(&file, MAW_ATTENTION_ONLY | MAW_LOAD_PARTIAL).expect("what both have");
        let gates = |handle: &Handle| handle.attention("output_proj.bias", 4).expect("always there");
        assert_eq!(gates(into), gates(&handle));
        assert!(into.load_report()[0].is_empty() && !into.load_report()[2].is_empty(), "{:?}", into.load_report());
    }
}

// During a meta-update.

#[test]
fn while_a_meta_update_is_open_nothing_is_saved_loaded_or_set() {
    let (toy, mut handle, mut params) = trained(&small_options());
    let file = handle.save_bytes(0).expect("saved");
    let state = handle.tensor_state(0, &toy.specs[0]).expect("a tensor");
    let before = snapshot(&handle, &params);
    let path = scratch("open").join("file");
    handle.begin(&mut params).expect("begun");
    let refused = [
        ("maw_save_file", handle.save_file(&path, 0).expect_err("open")),
        ("maw_save_bytes", handle.save_bytes(0).expect_err("open")),
        ("maw_save_bytes", handle.save_bytes(MAW_ATTENTION_ONLY).expect_err("open")),
        ("maw_load_file", handle.load_file(&path, 0).expect_err("open")),
        ("maw_load_bytes", handle.load_bytes(&file, 0).expect_err("open")),
        ("maw_load_bytes", handle.load_bytes(&file, MAW_ATTENTION_ONLY).expect_err("open")),
        ("maw_tensor_state_get", handle.tensor_state(0, &toy.specs[0]).expect_err("open")),
        ("maw_tensor_state_set", handle.set_tensor_state(0, &state).expect_err("open")),
    ];
    for (call, failure) in refused {
        assert_eq!(failure.status, MAW_INVALID_STATE, "{call}: {failure:?}");
        assert!(failure.message.starts_with(&format!("{call}: a meta-update is open")), "{failure:?}");
    }
    assert!(!path.exists());
    handle.dump().expect("a dump works at any time");
    handle.abort(&mut params).expect("aborted");
    assert_eq!(snapshot(&handle, &params).phi, before.phi);
    assert_eq!(bits(&params), before.params);
}

// One tensor's state.

#[test]
fn an_invalid_state_is_refused_and_changes_nothing() {
    let (toy, mut handle, _) = trained(&small_options());
    let before = handle.save_bytes(0).expect("saved");
    for (tensor, spec) in toy.specs.iter().enumerate() {
        let good = handle.tensor_state(tensor, spec).expect("a tensor");
        let last = spec.len() - 1;
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut state = good.clone();
            state.exp_avg.set(last, bad);
            let failure = handle.set_tensor_state(tensor, &state).expect_err("not finite");
            assert_eq!(failure.status, MAW_INVALID_ARGUMENT);
            let text = format!("exp_avg[{last}] of tensor '{}' is", spec.name);
            assert!(failure.message.contains(&text), "{failure:?}");
        }
        for bad in [f64::NAN, f64::INFINITY, -1e-30] {
            let mut state = good.clone();
            state.exp_avg_sq.set(last, bad);
            let failure = handle.set_tensor_state(tensor, &state).expect_err("not a second moment");
            assert_eq!(failure.status, MAW_INVALID_ARGUMENT);
            let text = format!("exp_avg_sq[{last}] of tensor '{}' is", spec.name);
            assert!(failure.message.contains(&text), "{failure:?}");
        }
        for step in [u64::MAX, (1 << 53) + 1] {
            let failure = handle.set_tensor_state(tensor, &State { step, ..good.clone() }).expect_err("too many");
            assert_eq!(failure.status, MAW_INVALID_ARGUMENT);
            assert!(failure.message.starts_with("step is"), "{failure:?}");
        }
    }
    assert_eq!(handle.save_bytes(0).expect("saved"), before);
    let wrong = State { exp_avg: Tensor::F32(vec![]), exp_avg_sq: Tensor::F32(vec![]), step: 0 };
    assert_eq!(handle.set_tensor_state(0, &wrong).expect_err("a count").status, MAW_INVALID_ARGUMENT);
    assert_eq!(handle.set_tensor_state(6, &wrong).expect_err("a number").status, MAW_NOT_FOUND);
}

#[test]
fn before_preparation_a_state_that_is_refused_leaves_registration_open() {
    let toy = Toy::small();
    let mut handle = Handle::new(&small_options()).expect("the options are good");
    handle.add(&param_group(), &toy.specs[..2]).expect("good tensors");
    let state = State { exp_avg: Tensor::F32(vec![f32::NAN; 15]), exp_avg_sq: Tensor::F32(vec![0.0; 15]), step: 1 };
    handle.set_tensor_state(0, &state).expect_err("not finite");
    handle.add(&param_group(), &toy.specs[2..]).expect("registration is still open");
}

#[test]
fn moments_whose_norm_is_not_finite_make_steps_be_skipped_and_can_be_saved() {
    let (toy, mut handle, mut params) = trained(&small_options());
    let mut state = handle.tensor_state(1, &toy.specs[1]).expect("a tensor");
    let good = state.clone();
    for large in [|s: &mut State| s.exp_avg.set(0, 1e200), |s: &mut State| s.exp_avg_sq.set(0, 1e200)] {
        large(&mut state);
        handle.set_tensor_state(1, &state).expect("finite values");
        let before = bits(&params);
        let grads = toy.gradients(6, &params);
        let report = handle.step(&mut params, &grads).expect("a step");
        assert_eq!((report.skip_reason, report.nonfinite_tensor), (MAW_SKIP_MOMENT, 1), "{report:?}");
        assert_eq!(bits(&params), before);
        let file = handle.save_bytes(0).expect("saved");
        let mut other = toy.handle(&small_options());
        other.load_bytes(&file, 0).expect("it fits");
        let report = other.step(&mut params.clone(), &grads).expect("a step");
        assert_eq!(report.skip_reason, MAW_SKIP_MOMENT, "{report:?}");
        state = good.clone();
    }
    handle.set_tensor_state(1, &good).expect("as before");
    let grads = toy.gradients(6, &params);
    assert_eq!(handle.step(&mut params, &grads).expect("a step").skipped, 0);
}

#[test]
fn moments_of_many_buffers_are_saved_loaded_and_checked_to_the_last_element() {
    let specs = [Spec::new("large", &[300_001], MAW_FLOAT32), Spec::new("double", &[100_003], MAW_FLOAT64)];
    let mut random = Random(3);
    let mut handle = registered(&specs, &small_options());
    for (i, spec) in specs.iter().enumerate() {
        let mut exp_avg_sq: Vec<f64> = random.values(spec.len(), 1.0).iter().map(|x| x * x).collect();
        exp_avg_sq[7] = -0.0;
        let exp_avg = Tensor::new(spec.dtype, &random.values(spec.len(), 1.0));
        let state = State { exp_avg, exp_avg_sq: Tensor::new(spec.dtype, &exp_avg_sq), step: 3 };
        handle.set_tensor_state(i, &state).expect("a state");
    }
    let file = handle.save_bytes(0).expect("saved");
    let mut other = registered(&specs, &small_options());
    other.load_bytes(&file, 0).expect("it fits");
    assert!(other.save_bytes(0).expect("saved") == file);
    let checkpoint = Checkpoint::parse(&file);
    for (i, spec) in specs.iter().enumerate() {
        let size = if spec.dtype == MAW_FLOAT32 { 4 } else { 8 };
        for (prefix, bad) in
            [("exp_avg", f64::NAN), ("exp_avg", f64::INFINITY), ("exp_avg_sq", -1.0), ("exp_avg_sq", f64::NAN)]
        {
            for at in [0, 65_535, 65_536, spec.len() - 1] {
                let mut hostile = checkpoint.clone();
                let name = format!("{prefix}.{}", specs[i].name);
                let bytes = if size == 4 { (bad as f32).to_le_bytes().to_vec() } else { bad.to_le_bytes().to_vec() };
                hostile.part(&name).bytes[at * size..(at + 1) * size].copy_from_slice(&bytes);
                let failure = other.load_bytes(&hostile.bytes(), 0).expect_err("not a moment");
                assert_eq!(failure.status, MAW_CORRUPT);
                assert!(failure.message.contains(&format!("'{name}' has a value")), "{failure:?}");
            }
        }
    }
    assert!(other.save_bytes(0).expect("saved") == file);
}

#[test]
fn an_unchecked_run_may_have_moments_that_are_not_finite() {
    let plain = maw_options { modulation: 0, nonfinite: MAW_NONFINITE_PROPAGATE, ..small_options() };
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&plain), toy.start.clone());
    let mut grads = toy.gradients(0, &params);
    grads[0].as_mut().expect("it has a gradient").set(0, f64::NAN);
    handle.step(&mut params, &grads).expect("no check");
    let file = handle.save_bytes(0).expect("saved");
    let mut other = toy.handle(&plain);
    other.load_bytes(&file, 0).expect("it fits");
    assert_eq!(other.save_bytes(0).expect("saved"), file);
    let mut careful = toy.handle(&maw_options { nonfinite: MAW_NONFINITE_SKIP, ..plain });
    refuses(&mut careful, &file, MAW_LOAD_OWN_WINS, MAW_CORRUPT, &["'exp_avg.embed.weight' has a value"]);
    careful.load_bytes(&file, MAW_LOAD_FILE_WINS).expect("the file's policy is used then");
}

// The file as read by other programs.

#[test]
fn the_safetensors_crate_reads_it() {
    for semantics in [MAW_PAPER, MAW_REFERENCE] {
        let (toy, mut handle, _) = trained(&maw_options { semantics, ..small_options() });
        let file = handle.save_bytes(0).expect("saved");
        let tensors = safetensors::SafeTensors::deserialize(&file).expect("a safetensors file");
        for (i, spec) in toy.specs.iter().enumerate() {
            let state = handle.tensor_state(i, spec).expect("a tensor");
            for (prefix, moment) in [("exp_avg", state.exp_avg), ("exp_avg_sq", state.exp_avg_sq)] {
                let view = tensors.tensor(&format!("{prefix}.{}", spec.name)).expect("it is there");
                assert_eq!(view.shape(), spec.shape.iter().map(|n| *n as usize).collect::<Vec<_>>());
                let values: Vec<f64> = match moment {
                    Tensor::F32(_) => view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
                    _ => view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
                };
                assert_eq!(float_bits(&values), float_bits(&moment.values()), "{prefix}.{}", spec.name);
            }
            let step = tensors.tensor(&format!("step.{}", spec.name)).expect("it is there");
            assert_eq!(step.data(), state.step.to_le_bytes());
        }
        for (name, values) in handle.phi().expect("prepared") {
            let view = tensors.tensor(&format!("attention.{name}")).expect("it is there");
            assert_eq!(view.data(), values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        }
        let (_, data) = split(&file);
        let start = file.len() - data.len();
        for view in tensors.tensors().iter().map(|(_, view)| view) {
            let offset = view.data().as_ptr().addr() - file.as_ptr().addr();
            let size = view.dtype().bitsize() / 8;
            assert!(offset.is_multiple_of(size), "data of {size}-byte elements is aligned in the file");
        }
        assert!(start.is_multiple_of(8));
    }
}

#[test]
fn a_file_written_from_the_format_page_alone_is_loaded() {
    let (toy, mut handle, _) = trained(&maw_options { semantics: MAW_REFERENCE, ..small_options() });
    let file = handle.save_bytes(0).expect("saved");
    let mut rebuilt = Checkpoint::parse(&file);
    rebuilt.parts.reverse(); // the order of the tensors is free
    let mut other = toy.handle(&maw_options { semantics: MAW_REFERENCE, ..small_options() });
    other.load_bytes(&rebuilt.bytes(), 0).expect("it fits");
    assert_eq!(other.save_bytes(0).expect("saved"), file);
}

/// The Python of target/venv, which has safetensors and numpy; made on the first use.
fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("scripts/python.sh")).output().expect("scripts/python.sh can be run");
    let (printed, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{complaints}");
    PathBuf::from(printed.lines().last().expect("it names the program"))
}

#[test]
fn pythons_safetensors_package_reads_it() {
    if std::env::var_os("METAADAMW_NO_PYTHON").is_some() {
        return println!("left out: METAADAMW_NO_PYTHON is set");
    }
    let (toy, mut handle, _) = trained(&small_options());
    let path = scratch("python").join("run.safetensors");
    handle.save_file(&path, 0).expect("saved");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_checkpoint.py");
    let output = Command::new(python()).arg(program).arg(&path).output().expect("Python can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (i, spec) in toy.specs.iter().enumerate() {
        let state = handle.tensor_state(i, spec).expect("a tensor");
        for (prefix, moment) in [("exp_avg", &state.exp_avg), ("exp_avg_sq", &state.exp_avg_sq)] {
            let tensor = &printed["tensors"][format!("{prefix}.{}", spec.name)];
            assert_eq!(tensor["shape"], serde_json::json!(spec.shape));
            let found: Vec<u64> = serde_json::from_value(tensor["bits"].clone()).expect("numbers");
            assert_eq!(found, float_bits(&moment.values()), "{prefix}.{}", spec.name);
        }
    }
    assert_eq!(printed["description"]["counters"]["steps"], 5);
    assert_eq!(printed["checksum_is_right"], true);
}
