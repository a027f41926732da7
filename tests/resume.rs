//! A run that is saved, loaded and continued equals the uninterrupted one bit for bit, wherever it was interrupted:
//! after each step and after each meta-update. What must match, and which options are used, is tested in
//! `checkpoints.rs`.

mod common;

use common::calls::Factors;
use common::handle::{Handle, Spec, options, param_group};
use common::tensor::{Tensor, bits, float_bits};
use common::toy::{Toy, factor_bits, horizon_options, phi_bits, small_options};
use metaadamw::ffi::*;

/// A training run as a fixed sequence of events: steps, with missing gradients, skipped, after changes of learning
/// rates and priorities, with observed gradients; and meta-updates.
struct Scenario {
    toy: Toy,
    options: maw_options,
    reload: maw_options,
}

const EVENTS: usize = 18;

/// Everything observable of a run.
#[derive(Debug, PartialEq)]
struct Seen {
    params: Vec<Vec<u64>>,
    states: Vec<(Vec<u64>, Vec<u64>, u64)>,
    features: Option<Vec<u64>>,
    factors: Option<[Vec<u64>; 4]>,
    phi: Vec<(String, Vec<u64>)>,
    steps: u64,
    skipped: u64,
    hyper: Vec<u64>,
    due: u32,
}

impl Scenario {
    fn new(options: maw_options) -> Self {
        let mut toy = Toy::small();
        if options.grouping == MAW_GROUPING_CUSTOM {
            for (i, spec) in toy.specs.iter_mut().enumerate() {
                spec.modulation_group = Some(["red", "blue"][i % 2].to_owned());
            }
        }
        Self { toy, options, reload: options }
    }

    /// A prepared optimizer with two param groups.
    fn handle(&self, options: &maw_options) -> Handle {
        let mut handle = Handle::new(options).expect("the options are good");
        let (first, second) = self.toy.specs.split_at(2);
        handle.add(&maw_param_group { lr: 0.02, weight_decay: 0.1, ..param_group() }, first).expect("good tensors");
        handle.add(&maw_param_group { lr: 0.01, beta2: 0.99, ..param_group() }, second).expect("good tensors");
        handle.prepare().expect("all is registered");
        handle
    }

    /// Runs event number `event`; every third is a meta-update.
    fn happen(&self, event: usize, handle: &mut Handle, params: &mut [Tensor]) {
        if event % 3 == 2 && self.options.modulation == 1 && self.options.objective != MAW_OBJECTIVE_HORIZON {
            self.toy.meta_update(handle, params).expect("a meta-update");
            return;
        }
        let mut grads = self.toy.gradients(event, params);
        match event {
            4 => handle.set_lr(MAW_ALL_GROUPS, 0.013).expect("a learning rate"),
            7 => handle.set_weight_decay(1, 0.03).expect("a decay"),
            9 => handle.set_priorities([0.5, 2.0, 1.0]).expect("priorities"),
            10 => grads.iter_mut().flatten().take(1).for_each(|g| g.set(0, f64::NAN)),
            12 => handle.observe(0, grads[0].as_ref().expect("it has a gradient")).expect("announced"),
            13 => grads.fill(None),
            _ => {}
        }
        let report = handle.step(params, &grads).expect("a step");
        assert_eq!(report.skipped == 1, event == 10, "event {event}: {report:?}");
    }

    fn see(&self, handle: &mut Handle, params: &[Tensor]) -> Seen {
        let specs = self.toy.specs.iter().enumerate();
        let states = specs.map(|(i, spec)| handle.tensor_state(i, spec).expect("a tensor").bits()).collect();
        let modulated = self.options.modulation == 1;
        let mut hyper: Vec<f64> = handle.priorities().expect("priorities").to_vec();
        for group in 0..2 {
            hyper.extend([handle.lr(group).expect("a group"), handle.weight_decay(group).expect("a group")]);
        }
        let dump: serde_json::Value = serde_json::from_str(&handle.dump().expect("a dump")).expect("JSON");
        Seen {
            params: bits(params),
            states,
            features: handle.features().ok().filter(|_| modulated).map(|x| float_bits(&x)),
            factors: handle.factors().ok().map(|f| factor_bits(&f)),
            phi: if modulated { phi_bits(handle) } else { Vec::new() },
            steps: handle.steps().expect("a count"),
            skipped: dump["skipped_steps"]["total"].as_u64().expect("a count"),
            hyper: float_bits(&hyper),
            due: handle.meta_due(),
        }
    }

    /// The whole run, interrupted after each event and continued by a new optimizer.
    fn resumes_everywhere(&self, what: &str) {
        let (mut handle, mut params) = (self.handle(&self.options), self.toy.start.clone());
        let mut cuts = vec![(handle.save_bytes(0).expect("saved"), params.clone())];
        let mut seen = vec![self.see(&mut handle, &params)];
        for event in 0..EVENTS {
            self.happen(event, &mut handle, &mut params);
            cuts.push((handle.save_bytes(0).expect("saved"), params.clone()));
            seen.push(self.see(&mut handle, &params));
        }
        let (last, _) = cuts.last().expect("there is a last").clone();
        for (cut, (file, params)) in cuts.into_iter().enumerate() {
            let (mut handle, mut params) = (self.handle(&self.reload), params);
            handle.load_bytes(&file, MAW_LOAD_FILE_WINS).expect("it fits");
            assert_eq!(handle.save_bytes(0).expect("saved"), file, "{what}, cut {cut}: loaded and saved again");
            assert_eq!(self.see(&mut handle, &params), seen[cut], "{what}, cut {cut}: loaded");
            for event in cut..EVENTS {
                self.happen(event, &mut handle, &mut params);
                assert_eq!(self.see(&mut handle, &params), seen[event + 1], "{what}, cut {cut}, after event {event}");
            }
            assert_eq!(handle.save_bytes(0).expect("saved"), last, "{what}, cut {cut}: the last file");
        }
    }
}

fn base() -> maw_options {
    maw_options { meta_interval: 2, ..small_options() }
}

const VERSIONS: [(i32, &str); 6] = [
    (MAW_FEATURES_BASIC, "basic"),
    (MAW_FEATURES_BASIC_PLUS, "basic plus"),
    (MAW_FEATURES_ENHANCED, "enhanced"),
    (MAW_FEATURES_NORM_BASIC, "norm basic"),
    (MAW_FEATURES_NORM_BASIC_PLUS, "norm basic plus"),
    (MAW_FEATURES_NORM_LOG, "norm log"),
];

#[test]
fn every_feature_version_resumes_with_the_papers_semantics() {
    for (feature_version, name) in VERSIONS {
        Scenario::new(maw_options { feature_version, ..base() }).resumes_everywhere(name);
    }
}

#[test]
fn every_feature_version_resumes_with_the_programs_semantics() {
    for (feature_version, name) in VERSIONS {
        Scenario::new(maw_options { feature_version, semantics: MAW_REFERENCE, ..base() }).resumes_everywhere(name);
    }
}

#[test]
fn gates_embeddings_clipping_and_padding_resume() {
    for semantics in [MAW_PAPER, MAW_REFERENCE] {
        let options = maw_options {
            semantics,
            feature_version: MAW_FEATURES_ENHANCED,
            use_feature_gating: 1,
            group_embed_dim: 3,
            feature_dim: 20,
            attn_heads: 3,
            max_grad_norm: 0.5,
            total_steps: 0,
            ..base()
        };
        Scenario::new(options).resumes_everywhere("gates");
    }
}

#[test]
fn every_grouping_resumes() {
    for grouping in [MAW_GROUPING_BY_PARAM_GROUP, MAW_GROUPING_CUSTOM] {
        let options = maw_options { grouping, feature_version: MAW_FEATURES_ENHANCED, ..base() };
        Scenario::new(options).resumes_everywhere("grouping");
    }
}

#[test]
fn every_objective_and_weighting_resumes() {
    for objective in [MAW_OBJECTIVE_GRADIENT, MAW_OBJECTIVE_LOSS_DECREASE, MAW_OBJECTIVE_GEN_GAP] {
        Scenario::new(maw_options { objective, ..base() }).resumes_everywhere("objective");
    }
    for weighting in [MAW_WEIGHTING_FIXED, MAW_WEIGHTING_SUM] {
        Scenario::new(maw_options { weighting, ..base() }).resumes_everywhere("weighting");
    }
}

#[test]
fn what_is_learned_from_steps_resumes() {
    for options in [
        horizon_options(),
        maw_options { average_dtype: MAW_BFLOAT16, ..horizon_options() },
        maw_options { semantics: MAW_REFERENCE, use_feature_gating: 1, meta_interval: 1, ..horizon_options() },
        maw_options { feature_version: MAW_FEATURES_ENHANCED, max_grad_norm: 0.5, ..horizon_options() },
    ] {
        Scenario::new(options).resumes_everywhere("horizon");
    }
}

#[test]
fn averages_and_moments_of_the_attention_module_resume_under_the_other_objectives() {
    let learning = maw_options { meta_optimizer: MAW_META_ADAMW, horizon: 7, beta_log_range: 2.0, ..base() };
    for options in [learning, maw_options { modulation: 0, horizon: 3, ..base() }] {
        Scenario::new(options).resumes_everywhere("averages");
    }
}

#[test]
fn without_modulation_a_run_resumes() {
    Scenario::new(maw_options { modulation: 0, ..base() }).resumes_everywhere("modulation off");
}

#[test]
fn a_run_resumes_with_other_threads_and_with_verified_parameters() {
    let mut scenario = Scenario::new(maw_options { threads: 1, ..base() });
    scenario.reload = maw_options { threads: 3, verify_params: 1, ..base() };
    scenario.resumes_everywhere("threads");
}

#[test]
fn with_file_wins_the_files_options_are_used_afterwards() {
    let mut scenario = Scenario::new(maw_options { alpha_range: 0.7, total_steps: 40, max_grad_norm: 0.3, ..base() });
    scenario.reload = maw_options {
        alpha_range: 1.5,
        beta_range: 0.1,
        total_steps: 0,
        max_grad_norm: 0.0,
        meta_interval: 77,
        meta_lr: 0.5,
        seed: 99,
        ..base()
    };
    scenario.resumes_everywhere("the file wins");
}

#[test]
fn an_abandoned_meta_update_is_not_due_again_after_loading() {
    let scenario = Scenario::new(base());
    let (mut handle, mut params) = (scenario.handle(&base()), scenario.toy.start.clone());
    scenario.toy.train(&mut handle, &mut params, 0, 2);
    assert_eq!(handle.meta_due(), 1);
    let before = handle.save_bytes(0).expect("saved");
    handle.begin(&mut params).expect("begun");
    handle.abort(&mut params).expect("aborted");
    let after = handle.save_bytes(0).expect("saved");
    for (file, due) in [(before, 1), (after, 0)] {
        let mut other = scenario.handle(&base());
        other.load_bytes(&file, 0).expect("it fits");
        assert_eq!(other.meta_due(), due);
    }
}

#[test]
fn saving_does_not_disturb_a_run_and_gives_the_same_bytes_each_time() {
    let scenario = Scenario::new(base());
    let run = |saves: usize| {
        let (mut handle, mut params) = (scenario.handle(&base()), scenario.toy.start.clone());
        for event in 0..EVENTS {
            if event == 12 && saves > 0 {
                // Saving discards observed gradients; the step then computes the sums itself.
                let grads = scenario.toy.gradients(event, &params);
                handle.observe(0, grads[0].as_ref().expect("it has a gradient")).expect("announced");
            }
            let files: Vec<_> = (0..saves).map(|_| handle.save_bytes(0).expect("saved")).collect();
            assert!(files.windows(2).all(|pair| pair[0] == pair[1]));
            scenario.happen(event, &mut handle, &mut params);
        }
        scenario.see(&mut handle, &params)
    };
    assert_eq!(run(0), run(3));
}

#[test]
fn a_file_and_bytes_are_the_same() {
    let scenario = Scenario::new(base());
    let (mut handle, mut params) = (scenario.handle(&base()), scenario.toy.start.clone());
    (0..5).for_each(|event| scenario.happen(event, &mut handle, &mut params));
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("a_file_and_bytes.safetensors");
    for flags in [0, MAW_ATTENTION_ONLY] {
        handle.save_file(&path, flags).expect("saved");
        assert_eq!(std::fs::read(&path).expect("it is there"), handle.save_bytes(flags).expect("saved"));
        let mut other = scenario.handle(&base());
        other.load_file(&path, flags | MAW_LOAD_FILE_WINS).expect("it fits");
        assert_eq!(phi_bits(&other), phi_bits(&handle));
    }
}

/// A model whose second registration has its tensors in another order.
fn ordered(order: &[usize], options: &maw_options) -> (Vec<Spec>, Handle) {
    let specs = Toy::small().specs;
    let specs: Vec<Spec> = order.iter().map(|&i| specs[i].clone()).collect();
    let mut handle = Handle::new(options).expect("the options are good");
    handle.add(&maw_param_group { lr: 0.02, weight_decay: 0.1, ..param_group() }, &specs).expect("good tensors");
    handle.prepare().expect("all is registered");
    (specs, handle)
}

#[test]
fn tensors_registered_in_another_order_are_found_by_name_and_groups_too() {
    for semantics in [MAW_PAPER, MAW_REFERENCE] {
        let options = maw_options { semantics, feature_version: MAW_FEATURES_ENHANCED, ..base() };
        let toy = Toy::small();
        let (specs, mut handle) = ordered(&[0, 1, 2, 3, 4, 5], &options);
        let mut params = toy.start.clone();
        toy.train(&mut handle, &mut params, 0, 4);
        toy.meta_update(&mut handle, &mut params).expect("a meta-update");
        let file = handle.save_bytes(0).expect("saved");

        let order = [5, 3, 1, 4, 0, 2];
        let (moved_specs, mut moved) = ordered(&order, &options);
        moved.load_bytes(&file, 0).expect("it fits");
        for (place, &i) in order.iter().enumerate() {
            let (here, there) = (moved.tensor_state(place, &moved_specs[place]), handle.tensor_state(i, &specs[i]));
            assert_eq!(here.expect("a tensor").bits(), there.expect("a tensor").bits(), "{}", specs[i].name);
        }
        let groups = handle.group_count().expect("prepared");
        let names = |h: &Handle| (0..groups).map(|g| h.group_name(g).expect("a group")).collect::<Vec<_>>();
        let (old, new) = (names(&handle), names(&moved));
        assert_ne!(old, new, "the groups are in another order now");
        let (dim, width) = (handle.feature_dim().expect("prepared"), options.group_embed_dim as usize);
        let (old_features, new_features) = (handle.features().expect("stepped"), moved.features().expect("loaded"));
        let embeddings = |h: &Handle| h.attention("group_embeddings", groups * width).expect("it has them");
        let (old_embeddings, new_embeddings) = (embeddings(&handle), embeddings(&moved));
        let (old_factors, new_factors) = (handle.factors().expect("stepped"), moved.factors().expect("loaded"));
        let of = |f: &Factors, g: usize| [f.alpha[g], f.beta[g], f.lambda1[g], f.lambda2[g]];
        for (g, name) in new.iter().enumerate() {
            let was = old.iter().position(|n| n == name).expect("the same groups");
            let row = |values: &[f64], row: usize, width: usize| float_bits(&values[row * width..(row + 1) * width]);
            assert_eq!(row(&new_features, g, dim), row(&old_features, was, dim), "{name}");
            assert_eq!(row(&new_embeddings, g, width), row(&old_embeddings, was, width), "{name}");
            assert_eq!(of(&new_factors, g), of(&old_factors, was), "{name}");
        }

        // Sums are taken in another order now: the next step agrees except for the last bits.
        let grads = toy.gradients(5, &params);
        let mut moved_params: Vec<Tensor> = order.iter().map(|&i| params[i].clone()).collect();
        let moved_grads: Vec<Option<Tensor>> = order.iter().map(|&i| grads[i].clone()).collect();
        handle.step(&mut params, &grads).expect("a step");
        moved.step(&mut moved_params, &moved_grads).expect("a step");
        for (place, &i) in order.iter().enumerate() {
            for (a, b) in moved_params[place].values().iter().zip(params[i].values()) {
                assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()), "{}: {a} and {b}", specs[i].name);
            }
        }
        let factors = moved.factors().expect("stepped");
        for (g, name) in new.iter().enumerate() {
            let was = old.iter().position(|n| n == name).expect("the same groups");
            let expected = of(&handle.factors().expect("stepped"), was);
            let apart = of(&factors, g).iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-9, "{name}: {apart}");
        }
    }
}

#[test]
fn a_run_with_a_tensor_without_elements_resumes() {
    // The product of its lengths is 0, but a reader that multiplies from the left would overflow.
    let specs = [
        Spec::new("empty", &[1 << 40, 1 << 40, 0], MAW_FLOAT32),
        Spec::new("zero", &[0], MAW_FLOAT64),
        Spec::new("some", &[2], MAW_FLOAT32),
    ];
    let handle = || {
        let mut handle = Handle::new(&options()).expect("the options are good");
        handle.add(&param_group(), &specs).expect("good tensors");
        handle
    };
    let mut first = handle();
    let mut params = [(MAW_FLOAT32, 0), (MAW_FLOAT64, 0), (MAW_FLOAT32, 2)].map(|(d, n)| Tensor::new(d, &vec![1.0; n]));
    let grads = params.clone().map(Some);
    first.step(&mut params, &grads).expect("a step");
    let file = first.save_bytes(0).expect("saved");
    safetensors::SafeTensors::deserialize(&file).expect("it is valid");
    let mut second = handle();
    second.load_bytes(&file, 0).expect("it fits");
    assert_eq!(second.save_bytes(0).expect("saved"), file);
}
