//! Learning from steps alone, averages, and AdamW on the attention module: what no golden case has.

mod common;

use common::handle::{Handle, Outcome, Spec, default_options, options, preset as set_preset, step_options};
use common::model::{DTYPES, HALVES, Model, PRECISIONS};
use common::tensor::{Tensor, bits, float_bits};
use common::toy::{Toy, horizon_options, phi_bits, small_options};
use metaadamw::ffi::*;

const N: f64 = 5.0;

fn averages(handle: &mut Handle, params: &[Tensor]) -> Vec<Tensor> {
    params.iter().enumerate().map(|(i, like)| handle.average(i, like).expect("an average")).collect()
}

/// What changes when the module learns.
fn phi(handle: &Handle) -> Vec<f64> {
    handle.phi().expect("Φ can be read").into_iter().flat_map(|(_, values)| values).collect()
}

/// θ̄ + (θ − θ̄)/N in the precision of an average.
fn followed(average: &Tensor, param: &[f64]) -> Vec<f64> {
    let share = 1.0 / N;
    let next = |(a, p): (&f64, &f64)| match average {
        Tensor::F64(_) => a + (p - a) * share,
        _ => f64::from(*a as f32 + (*p as f32 - *a as f32) * share as f32),
    };
    average.values().iter().zip(param).map(next).collect()
}

/// AdamW with averages, of every dtype and precision.
fn averaging_models() -> impl Iterator<Item = Model> {
    let wide = [(MAW_FLOAT32, MAW_PRECISION_NEAREST), (MAW_FLOAT64, MAW_PRECISION_NEAREST)];
    wide.into_iter().chain(PRECISIONS).map(|(dtype, precision)| {
        let grad_dtype = if dtype == MAW_FLOAT64 { MAW_FLOAT64 } else { MAW_FLOAT32 };
        let options = maw_options { modulation: 0, horizon: N as u64, ..small_options() };
        Model { options, ..Model::new(dtype, grad_dtype, precision) }
    })
}

#[test]
fn averages_follow_the_parameters_or_masters_of_every_dtype_and_precision() {
    for model in averaging_models() {
        let (dtype, precision) = (model.dtype, model.group.precision);
        let (mut handle, mut params) = (model.handle(), model.start());
        let has_masters = [MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER].contains(&precision);
        let mut expected: Vec<Vec<f64>> = params.iter().map(Tensor::values).collect();
        for step in 0..7 {
            let grads = model.gradients(step);
            handle.step(&mut params, &grads).expect("a step");
            for (i, expected) in expected.iter_mut().enumerate() {
                let exact: Vec<f64> = if has_masters {
                    handle.masters(i, &params[i]).expect("masters").iter().map(|x| f64::from(*x)).collect()
                } else {
                    params[i].values()
                };
                let average = handle.average(i, &params[i]).expect("an average");
                if grads[i].is_some() {
                    let before = Tensor::new(average.dtype(), expected);
                    *expected = followed(&before, &exact);
                }
                let what = format!("dtype {dtype}, precision {precision}, step {step}, tensor {i}");
                assert_eq!(float_bits(&average.values()), float_bits(expected), "{what}");
            }
        }
    }
}

#[test]
fn bfloat16_averages_have_the_right_mean() {
    let mut model = Model::new(MAW_FLOAT32, MAW_FLOAT32, MAW_PRECISION_NEAREST);
    model.options = maw_options { modulation: 0, horizon: N as u64, ..small_options() };
    let exact = model.clone();
    model.options.average_dtype = MAW_BFLOAT16;
    let run = |model: &Model| {
        let (mut handle, mut params) = (model.handle(), model.start());
        model.train(&mut handle, &mut params, 0..20);
        let average = handle.average(3, &params[3]).expect("an average").values();
        (bits(&params), average)
    };
    let ((params, expected), (same, got)) = (run(&exact), run(&model));
    assert_eq!(params, same, "the averages have no influence on the parameters");
    let n = got.len() as f64;
    let errors: Vec<f64> = got.iter().zip(&expected).map(|(got, expected)| got - expected).collect();
    let (mean, largest) = (errors.iter().sum::<f64>() / n, errors.iter().fold(0.0, |a: f64, b| a.max(b.abs())));
    // Rounded to nearest an average of N = 5 would be off by up to two units in the last place, each 2⁻⁹ of 0.5 and more.
    let deviation = (errors.iter().map(|e| e * e).sum::<f64>() / n).sqrt();
    assert!(largest > 0.0 && largest < 0.05, "{largest}");
    assert!(mean.abs() < 4.0 * deviation / n.sqrt(), "mean error {mean:e}, deviation {deviation:e} of {n} elements");
}

#[test]
fn averages_without_modulation_change_no_bit_of_adamw() {
    for dtype in DTYPES {
        let grad_dtype = if dtype == MAW_FLOAT64 { MAW_FLOAT64 } else { MAW_FLOAT32 };
        for nonfinite in [MAW_NONFINITE_SKIP, MAW_NONFINITE_PROPAGATE] {
            let run = |horizon| {
                let mut model = Model::new(dtype, grad_dtype, MAW_PRECISION_NEAREST);
                model.options = maw_options { modulation: 0, nonfinite, horizon, ..small_options() };
                let (mut handle, mut params) = (model.handle(), model.start());
                model.train(&mut handle, &mut params, 0..4);
                (bits(&params), model.state_bits(&mut handle))
            };
            assert!(run(0) == run(3), "dtype {dtype}, nonfinite {nonfinite}");
        }
    }
}

#[test]
fn a_swap_brings_the_averages_and_the_next_one_the_same_bits_back() {
    for model in averaging_models() {
        let (dtype, precision) = (model.dtype, model.group.precision);
        let (mut handle, mut params) = (model.handle(), model.start());
        let start = bits(&params);
        handle.swap_averages(&mut params).expect("before the first step");
        assert_eq!(bits(&params), start, "the averages begin as the parameters");
        handle.swap_averages(&mut params).expect("back");
        model.train(&mut handle, &mut params, 0..3);
        let (theta, file) = (bits(&params), handle.save_bytes(0).expect("saved"));
        let means = averages(&mut handle, &params);
        handle.swap_averages(&mut params).expect("swapped");
        let rounded: Vec<Tensor> = means.iter().map(|mean| Tensor::new(dtype, &mean.values())).collect();
        assert_eq!(bits(&params), bits(&rounded), "dtype {dtype}, precision {precision}");
        assert_ne!(bits(&params), theta);
        assert_eq!(bits(&averages(&mut handle, &params)), bits(&means), "they can be read meanwhile");
        params[0].set(0, 17.0); // whatever is in them
        handle.swap_averages(&mut params).expect("back");
        assert_eq!(bits(&params), theta, "dtype {dtype}, precision {precision}");
        assert!(handle.save_bytes(0).expect("saved") == file, "nothing has changed");
        model.train(&mut handle, &mut params, 3..5);
    }
}

#[test]
fn while_the_averages_are_swapped_in_nothing_but_getters_works() {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&horizon_options()), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 3);
    let file = handle.save_bytes(0).expect("saved");
    handle.swap_averages(&mut params).expect("swapped");
    type Call = fn(&Toy, &mut Handle, &mut [Tensor], &[u8]) -> Outcome<()>;
    let refused: [(&str, Call); 9] = [
        ("step", |toy, handle, params, _| {
            let grads = toy.gradients(0, params);
            handle.step(params, &grads).map(drop)
        }),
        ("observe", |toy, handle, params, _| {
            let grads = toy.gradients(0, params);
            handle.observe(0, grads[0].as_ref().expect("a gradient"))
        }),
        ("begin", |_, handle, params, _| handle.begin(params).map(drop)),
        ("save", |_, handle, _, _| handle.save_bytes(0).map(drop)),
        ("load", |_, handle, _, file| handle.load_bytes(file, 0)),
        ("set_lr", |_, handle, _, _| handle.set_lr(0, 0.1)),
        ("reset", |_, handle, _, _| handle.reset(MAW_RESET_MOMENTS)),
        ("state", |toy, handle, _, _| handle.tensor_state(0, &toy.specs[0]).map(drop)),
        ("add", |_, handle, _, _| handle.add_tensors(0, &[Spec::new("later", &[2], MAW_FLOAT32)])),
    ];
    for (name, call) in refused {
        let failure = call(&toy, &mut handle, &mut params, &file).expect_err(name);
        assert_eq!(failure.status, MAW_INVALID_STATE, "{name}: {failure:?}");
        assert!(failure.message.contains("averages") && failure.message.contains("swap"), "{name}: {failure:?}");
    }
    handle.factors().expect("a getter");
    assert_eq!(handle.steps().expect("a getter"), 3);
    handle.swap_averages(&mut params).expect("back");
    assert!(handle.save_bytes(0).expect("saved") == file);
}

#[test]
fn averages_that_are_not_there_are_refused() {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&small_options()), toy.start.clone());
    for failure in [
        handle.average(0, &toy.start[0]).expect_err("there are none"),
        handle.swap_averages(&mut params).expect_err("there are none"),
    ] {
        assert_eq!(failure.status, MAW_INVALID_STATE);
        assert!(failure.message.contains("options.horizon"), "{failure:?}");
    }
    let mut handle = toy.handle(&maw_options { horizon: 2, ..small_options() });
    let failure = handle.average(0, &toy.start[0]).expect_err("not begun");
    assert_eq!(failure.status, MAW_INVALID_STATE, "{failure:?}");
    let failure = handle.average(17, &toy.start[0]).expect_err("no such tensor");
    assert_eq!(failure.status, MAW_NOT_FOUND, "{failure:?}");
    let failure = handle.average(0, &toy.start[1]).expect_err("another length");
    assert_eq!(failure.status, MAW_INVALID_ARGUMENT, "{failure:?}");
}

#[test]
fn an_asked_meta_update_after_a_swap_is_that_of_a_run_without_one() {
    let toy = Toy::small();
    let options = maw_options { horizon: 3, ..small_options() };
    let run = |swaps: usize| {
        let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
        for step in 0..4 {
            toy.train(&mut handle, &mut params, step, 1);
            (0..2 * swaps).for_each(|_| handle.swap_averages(&mut params).expect("swapped"));
            let result = toy.meta_update(&mut handle, &mut params).expect("a meta-update");
            assert_eq!(result.outcome, MAW_OUTCOME_UPDATED);
        }
        (bits(&params), phi_bits(&handle))
    };
    assert_eq!(run(0), run(2));
}

#[test]
fn parameters_that_changed_let_the_averages_begin_anew_and_the_sums_stay() {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&horizon_options()), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 3);
    let sums = |handle: &mut Handle| handle.dumped()["horizon"].clone();
    let before = sums(&mut handle);
    assert_eq!(before["steps"], 2, "{before}");
    params.iter_mut().filter(|p| p.len() > 0).for_each(|p| p.set(0, 0.75));
    let changed = maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() };
    // A step that is skipped leaves it for the next.
    let mut grads = toy.gradients(0, &params);
    let old = averages(&mut handle, &params);
    grads[0].as_mut().expect("a gradient").set(0, f64::NAN);
    assert_eq!(handle.step_with(&mut params, &grads, &changed).expect("skipped").skipped, 1);
    assert_eq!(sums(&mut handle), before, "a skipped step changes none of it");
    let theta: Vec<Vec<f64>> = params.iter().map(Tensor::values).collect();
    let mut grads = toy.gradients(0, &params);
    grads[1] = None;
    handle.step(&mut params, &grads).expect("a step");
    let after = averages(&mut handle, &params);
    for (i, average) in after.iter().enumerate() {
        // From before this step's update: h is 0, so the sums are what they were.
        let start = Tensor::new(average.dtype(), &theta[i]);
        let expected = if i == 1 { theta[i].clone() } else { followed(&start, &params[i].values()) };
        assert_eq!(float_bits(&average.values()), float_bits(&expected), "tensor {i}");
    }
    assert_ne!(bits(&old), bits(&after));
    // It was the third step of meta_interval, and its own products were 0: Φ learned from the sums that there were.
    assert_eq!(sums(&mut handle)["steps"], 0);
    let kept: Vec<f64> = before["sums"].as_array().expect("sums").iter().map(|h| h.as_f64().expect("finite")).collect();
    let norm = kept.iter().map(|h| h * h).sum::<f64>().sqrt();
    let d_alpha = handle.meta_gradient("alpha", kept.len()).expect("it has learned");
    for ((d, alpha), h) in d_alpha.iter().zip(handle.factors().expect("factors").alpha).zip(&kept) {
        assert!((d * alpha - h / norm).abs() < 1e-12, "{d} · {alpha} is not {h} / {norm}");
    }
}

#[test]
fn groups_that_stand_still_teach_nothing() {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&horizon_options()), toy.start.clone());
    let before = phi_bits(&handle);
    let none: Vec<Option<Tensor>> = params.iter().map(|_| None).collect();
    for _ in 0..9 {
        handle.step(&mut params, &none).expect("a step");
    }
    assert!(phi_bits(&handle) == before, "Φ did not even decay");
    assert_eq!(handle.result().expect("a result").outcome, MAW_OUTCOME_NONE);
    let horizon = handle.dumped()["horizon"].clone();
    assert_eq!(horizon["steps"], 2, "steps without a gradient count: 8 after the warm-up, 3 a time");
    // What moves first has no displacement yet.
    toy.train(&mut handle, &mut params, 0, 6);
    assert!(phi_bits(&handle) != before);
}

#[test]
fn an_attention_module_that_would_not_be_finite_stays_as_it_is() {
    let toy = Toy::small();
    let options = maw_options { meta_lr: 1e308, meta_weight_decay: 10.0, ..horizon_options() };
    let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
    let before = handle.save_bytes(MAW_ATTENTION_ONLY).expect("saved");
    toy.train(&mut handle, &mut params, 0, 8);
    assert!(handle.save_bytes(MAW_ATTENTION_ONLY).expect("saved") == before);
    let result = handle.result().expect("a result");
    assert_eq!((result.outcome, result.updates, result.step), (MAW_OUTCOME_META_GRADIENT_NOT_FINITE, 0, 7));
    let dump = handle.dumped();
    assert_eq!(dump["horizon"]["learned"], 0, "{dump}");
}

#[test]
fn there_are_no_meta_updates_while_the_module_learns_from_steps() {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&horizon_options()), toy.start.clone());
    for step in 0..7 {
        toy.train(&mut handle, &mut params, step, 1);
        assert_eq!(handle.meta_due(), 0);
    }
    let failure = handle.begin(&mut params).expect_err("it asks nothing");
    assert_eq!(failure.status, MAW_INVALID_STATE, "{failure:?}");
    let result = handle.result().expect("a result");
    assert_eq!((result.outcome, result.updates, result.step, result.evaluations), (MAW_OUTCOME_UPDATED, 2, 7, 0));
    assert!(result.loss_train.is_nan() && result.term_gradient.is_nan() && result.loss_meta.is_nan());
    let groups = handle.group_count().expect("groups");
    let d_alpha = handle.meta_gradient("alpha", groups).expect("it has learned");
    assert!(d_alpha.iter().any(|d| *d != 0.0));
    for name in ["beta", "lambda1", "lambda2"] {
        assert!(handle.meta_gradient(name, groups).expect("a gradient").iter().all(|d| *d == 0.0), "{name}");
    }
}

#[test]
fn from_the_identity_beta_stays_1_and_alpha_moves_against_what_went_too_far() {
    let toy = Toy::small();
    let options = maw_options { init: MAW_INIT_IDENTITY, ..horizon_options() };
    let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
    for step in 0..12 {
        toy.train(&mut handle, &mut params, step, 1);
        let factors = handle.factors().expect("factors");
        assert!(factors.beta.iter().all(|b| b.to_bits() == 1_f64.to_bits()), "{factors:?}");
        let moved = factors.alpha.iter().any(|a| *a != 1.0);
        assert_eq!(moved, step > 3, "the first time that it learns is after step 4: {factors:?}");
        assert!(factors.alpha.iter().all(|a| (0.25..=4.0).contains(a)), "within alpha_log_range: {factors:?}");
    }
}

/// m, v and Φ by the rule, from the gradients that the library reports.
#[test]
fn with_adamw_the_module_takes_the_steps_of_the_rule_under_every_objective() {
    let toy = Toy::small();
    for objective in
        [MAW_OBJECTIVE_COMBINED, MAW_OBJECTIVE_GRADIENT, MAW_OBJECTIVE_LOSS_DECREASE, MAW_OBJECTIVE_GEN_GAP]
    {
        let options =
            maw_options { objective, meta_optimizer: MAW_META_ADAMW, meta_weight_decay: 0.3, ..small_options() };
        let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
        let names = handle.attention_sizes().expect("Φ");
        let mut expected = phi(&handle);
        let (mut m, mut v) = (vec![0.0; expected.len()], vec![0.0; expected.len()]);
        for k in 1..4 {
            toy.train(&mut handle, &mut params, k as usize, 1);
            toy.meta_update(&mut handle, &mut params).expect("a meta-update");
            let mut i = 0;
            for (name, size) in &names {
                for d in handle.meta_gradient(name, *size).expect("a gradient") {
                    m[i] = 0.9 * m[i] + 0.1 * d;
                    v[i] = 0.99 * v[i] + 0.01 * d * d;
                    let decay = if name == "log_vars" { 0.0 } else { options.meta_weight_decay };
                    let ratio = m[i] / (1.0 - 0.9_f64.powi(k)) / ((v[i] / (1.0 - 0.99_f64.powi(k))).sqrt() + 1e-8);
                    expected[i] -= options.meta_lr * (ratio + decay * expected[i]);
                    i += 1;
                }
            }
            for (i, (got, expected)) in phi(&handle).iter().zip(&expected).enumerate() {
                assert!((got - expected).abs() <= 1e-12 * (1.0 + expected.abs()), "objective {objective}, {k}, {i}");
            }
        }
    }
}

#[test]
fn with_adamw_the_norms_are_no_part_of_the_objective_and_the_gates_are() {
    let toy = Toy::small();
    let loss_meta = |options: &maw_options| {
        let (mut handle, mut params) = (toy.handle(options), toy.start.clone());
        toy.train(&mut handle, &mut params, 0, 2);
        toy.meta_update(&mut handle, &mut params).expect("a meta-update").loss_meta
    };
    let base = maw_options { use_feature_gating: 1, meta_optimizer: MAW_META_ADAMW, ..small_options() };
    let with = |meta_weight_decay, feature_gating_sparsity| {
        loss_meta(&maw_options { meta_weight_decay, feature_gating_sparsity, ..base })
    };
    assert_eq!(with(0.0, 0.0).to_bits(), with(0.7, 0.0).to_bits());
    assert!(with(0.0, 0.5) > with(0.0, 0.0));
}

#[test]
fn resets_reset_what_belongs_to_them() {
    let toy = Toy::small();
    let trained = || {
        let (mut handle, mut params) = (toy.handle(&horizon_options()), toy.start.clone());
        toy.train(&mut handle, &mut params, 0, 6);
        (handle, params)
    };
    let fresh = phi_bits(&toy.handle(&horizon_options()));
    let (mut handle, params) = trained();
    let learned = phi_bits(&handle);
    handle.reset(MAW_RESET_MOMENTS).expect("reset");
    let failure = handle.average(0, &params[0]).expect_err("it has to begin again");
    assert_eq!(failure.status, MAW_INVALID_STATE);
    assert!(phi_bits(&handle) == learned);
    assert_eq!(
        (handle.dumped()["horizon"]["steps"].clone(), handle.dumped()["horizon"]["learned"].clone()),
        (0.into(), 1.into())
    );
    let (mut handle, params) = trained();
    let before = averages(&mut handle, &params);
    handle.reset(MAW_RESET_ATTENTION).expect("reset");
    assert_eq!(bits(&averages(&mut handle, &params)), bits(&before));
    assert!(phi_bits(&handle) == fresh);
    assert_eq!(
        (handle.dumped()["horizon"]["steps"].clone(), handle.dumped()["horizon"]["learned"].clone()),
        (0.into(), 0.into())
    );
    // Both: as a new optimizer.
    let (mut handle, _) = trained();
    handle.reset(MAW_RESET_MOMENTS | MAW_RESET_ATTENTION).expect("reset");
    let mut params = toy.start.clone();
    toy.train(&mut handle, &mut params, 0, 6);
    assert_eq!(bits(&params), bits(&trained().1));
}

#[test]
fn a_loaded_attention_module_learns_from_the_start() {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&horizon_options()), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 9);
    let module = handle.save_bytes(MAW_ATTENTION_ONLY).expect("saved");
    let mut other = toy.handle(&horizon_options());
    other.load_bytes(&module, MAW_ATTENTION_ONLY).expect("it fits");
    assert!(phi_bits(&other) == phi_bits(&handle));
    handle.load_bytes(&module, MAW_ATTENTION_ONLY).expect("it fits");
    assert_eq!(handle.dumped()["horizon"]["learned"], 0);
}

/// The status and message of loading a file of one optimizer into another.
fn load(file: &maw_options, own: &maw_options, flags: u32) -> Outcome<()> {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(file), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 3);
    let bytes = handle.save_bytes(0).expect("saved");
    let mut other = toy.handle(own);
    let before = other.save_bytes(0).expect("saved");
    let loaded = other.load_bytes(&bytes, flags);
    if loaded.is_err() {
        assert!(other.save_bytes(0).expect("saved") == before, "nothing is changed");
    } else {
        toy.train(&mut other, &mut params, 3, 4);
    }
    loaded
}

#[test]
fn a_file_with_a_state_that_the_optimizer_lacks_is_refused_and_says_so() {
    let small = maw_options { weighting: MAW_WEIGHTING_SUM, ..small_options() };
    let averaging = maw_options { horizon: 5, ..small };
    let adamw = maw_options { meta_optimizer: MAW_META_ADAMW, ..small };
    let horizon = maw_options { feature_version: MAW_FEATURES_BASIC, alpha_log_range: 0.0, ..horizon_options() };
    let horizon = maw_options { weighting: MAW_WEIGHTING_SUM, ..horizon };
    let half = maw_options { average_dtype: MAW_BFLOAT16, ..averaging };
    let cases = [
        (averaging, small, "options.horizon: 5 in the file, 0 here"),
        (adamw, small, "options.meta_optimizer"),
        (horizon, maw_options { horizon: 5, ..adamw }, "options.objective"),
        (averaging, half, "options.average_dtype"),
        (half, averaging, "options.average_dtype"),
    ];
    for (file, own, message) in cases {
        for flags in [0, MAW_LOAD_FILE_WINS, MAW_LOAD_OWN_WINS, MAW_LOAD_STRICT, MAW_LOAD_PARTIAL] {
            let failure = load(&file, &own, flags).expect_err(message);
            assert_eq!(failure.status, MAW_MISMATCH, "{failure:?}");
            assert!(failure.message.contains(message), "{failure:?}");
        }
    }
    // The other way round it begins anew, if that is said.
    for (file, own, message) in cases.into_iter().filter(|(_, _, message)| !message.contains("average_dtype")) {
        for flags in [0, MAW_LOAD_FILE_WINS, MAW_LOAD_STRICT] {
            let failure = load(&own, &file, flags).expect_err(message);
            assert_eq!(failure.status, MAW_MISMATCH, "{failure:?}");
        }
        load(&own, &file, MAW_LOAD_OWN_WINS).unwrap_or_else(|e| panic!("{message}: {e:?}"));
    }
}

#[test]
fn the_horizon_itself_may_differ_with_a_flag() {
    let own = maw_options { horizon: 50, ..horizon_options() };
    assert_eq!(load(&horizon_options(), &own, 0).expect_err("a difference").status, MAW_MISMATCH);
    for (flags, expected) in [(MAW_LOAD_FILE_WINS, 5.0), (MAW_LOAD_OWN_WINS, 50.0)] {
        let toy = Toy::small();
        let (mut handle, mut params) = (toy.handle(&horizon_options()), toy.start.clone());
        toy.train(&mut handle, &mut params, 0, 3);
        let bytes = handle.save_bytes(0).expect("saved");
        let mut other = toy.handle(&own);
        other.load_bytes(&bytes, flags).expect("it fits");
        let before = averages(&mut other, &params);
        toy.train(&mut other, &mut params, 3, 1);
        let after = averages(&mut other, &params);
        // float64
        let (a, b, p) = (before[1].values(), after[1].values(), params[1].values());
        for i in 0..a.len() {
            let share = (b[i] - a[i]) / (p[i] - a[i]);
            assert!((share * expected - 1.0).abs() < 1e-9, "flags {flags}: {share}");
        }
    }
}

#[test]
fn a_file_without_the_new_options_is_that_of_an_older_version() {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&small_options()), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 3);
    let text = String::from_utf8_lossy(&handle.save_bytes(0).expect("saved")).into_owned();
    for name in ["horizon", "meta_optimizer", "average_dtype", "alpha_log_range", "beta_log_range"] {
        assert!(!text.contains(name), "{name} has its default");
    }
}

#[test]
fn options_that_do_not_fit_together_are_refused_by_name() {
    let base = horizon_options();
    let refused = [
        ("horizon", maw_options { horizon: 0, ..base }),
        ("horizon", maw_options { horizon: 1, ..base }),
        ("horizon", maw_options { horizon: 1, ..small_options() }),
        ("horizon", maw_options { horizon: 1, modulation: 0, ..small_options() }),
        ("horizon", maw_options { horizon: (1 << 32) + 1, ..base }),
        ("meta_optimizer", maw_options { meta_optimizer: MAW_META_SGD, ..base }),
        ("meta_optimizer", maw_options { meta_optimizer: 2, ..base }),
        ("average_dtype", maw_options { average_dtype: MAW_FLOAT16, ..base }),
        ("average_dtype", maw_options { average_dtype: MAW_FLOAT64, ..base }),
        ("alpha_log_range", maw_options { alpha_log_range: 1.0, ..base }),
        ("alpha_log_range", maw_options { alpha_log_range: 0.5, ..base }),
        ("alpha_log_range", maw_options { alpha_log_range: -2.0, ..base }),
        ("alpha_log_range", maw_options { alpha_log_range: f64::NAN, ..base }),
        ("beta_log_range", maw_options { beta_log_range: f64::INFINITY, ..base }),
        ("beta_log_range", maw_options { beta_log_range: 1e7, ..base }),
    ];
    for (name, options) in refused {
        let failure = Handle::new(&options).err().unwrap_or_else(|| panic!("{name} is refused"));
        assert_eq!(failure.status, MAW_INVALID_ARGUMENT, "{failure:?}");
        assert!(failure.message.contains(&format!("options.{name}")), "{name}: {failure:?}");
    }
    for options in [
        maw_options { modulation: 0, horizon: 0, ..base },
        maw_options { horizon: 2, ..base },
        maw_options { horizon: 1 << 32, ..base },
        maw_options { alpha_log_range: 1e6, beta_log_range: 1.0 + 1e-9, ..base },
    ] {
        Handle::new(&options).expect("it fits");
    }
}

#[test]
fn the_preset_is_the_defaults_but_for_what_it_names() {
    let mut preset = maw_options { seed: 77, ..default_options() };
    for other in [0, 2, -1] {
        assert_eq!((set_preset(&mut preset, other), preset.seed), (MAW_INVALID_ARGUMENT, 77));
    }
    assert_eq!(set_preset(&mut preset, MAW_PRESET_HORIZON), MAW_OK);
    let expected = maw_options {
        objective: MAW_OBJECTIVE_HORIZON,
        horizon: 1000,
        meta_optimizer: MAW_META_ADAMW,
        meta_lr: 1e-2,
        meta_weight_decay: 1e-4,
        meta_interval: 5,
        meta_warmup: 20,
        init: MAW_INIT_IDENTITY,
        feature_version: MAW_FEATURES_NORM_LOG,
        attn_layers: 2,
        alpha_log_range: 8.0,
        ..default_options()
    };
    assert_eq!(format!("{preset:?}"), format!("{expected:?}"));
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&maw_options { device: options().device, ..preset }), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 40);
    assert_eq!(handle.result().expect("a result").updates, 4);
}

/// 16-bit models too: no step is skipped, and α moves.
#[test]
fn models_of_16_bits_learn_from_steps() {
    for dtype in HALVES {
        for (precision, average_dtype) in [(MAW_PRECISION_MASTER, 0), (MAW_PRECISION_STOCHASTIC, MAW_BFLOAT16)] {
            let mut model = Model::new(dtype, dtype, precision);
            model.options = maw_options { average_dtype, ..horizon_options() };
            let (mut handle, mut params) = (model.handle(), model.start());
            let before = phi_bits(&handle);
            model.train(&mut handle, &mut params, 0..8);
            assert!(phi_bits(&handle) != before, "dtype {dtype}, precision {precision}");
        }
    }
}
