//! What the golden cases do not cover: values that are not finite other than gradients, the default
//! limit of the log-variances, two meta-updates in a row. Names beyond the cases' are in `names.rs`.

mod common;

use common::handle::{Handle, Spec, step_options};
use common::tensor::{Tensor, bits};
use common::toy::{Toy, phi_bits, small_options, snapshot};
use metaadamw::ffi::*;

// Not finite.

/// Every element of the toy's tensors in this dtype.
fn toy_of(dtype: i32) -> Toy {
    let names = ["embed.weight", "layers.0.attn.weight", "layers.0.attn.bias", "layers.1.mlp.weight", "head.weight"];
    let shapes: [&[u64]; 5] = [&[5, 3], &[3, 3], &[3], &[2, 3], &[4]];
    Toy::new(names.iter().zip(shapes).map(|(name, shape)| Spec::new(name, shape, dtype)).collect(), 6)
}

const DTYPES: [i32; 2] = [MAW_FLOAT32, MAW_FLOAT64];

fn changed() -> maw_step_options {
    maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() }
}

/// After four steps, `spoil` breaks something; the next step must be skipped for `reason`, name `tensor` and change
/// nothing. When `spoil`'s change is undone, training continues as if there had been no skipped step.
fn is_skipped(dtype: i32, reason: i32, tensor: u64, spoil: impl Fn(&mut Handle, &mut [Tensor], &mut [Option<Tensor>])) {
    let toy = toy_of(dtype);
    let (mut handle, mut params) = (toy.handle(&small_options()), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 4);
    let (good, before, phi) = (params.clone(), snapshot(&handle, &params), handle.phi().expect("prepared"));

    let mut grads = toy.gradients(4, &params);
    spoil(&mut handle, &mut params, &mut grads);
    let spoiled = bits(&params);
    let report = handle.step_with(&mut params, &grads, &changed()).expect("skipping is no failure");
    let seen = (report.skipped, report.skip_reason, report.nonfinite_tensor, report.step, report.skipped_steps);
    assert_eq!(seen, (1, reason, tensor, 4, 1), "skipped, reason, tensor, steps, skipped steps of dtype {dtype}");
    assert_eq!(bits(&params), spoiled, "a skipped step writes no parameter");
    assert_eq!(handle.steps(), Ok(4));

    params.clone_from_slice(&good);
    handle.set_phi(&phi).expect("Φ as it was");
    assert_eq!(snapshot(&handle, &params), before, "features and factors are those of the last applied step");
    let grads = toy.gradients(4, &params);
    handle.step_with(&mut params, &grads, &changed()).expect("a good step");

    let (mut undisturbed, mut expected) = (toy.handle(&small_options()), toy.start.clone());
    toy.train(&mut undisturbed, &mut expected, 0, 5);
    assert_eq!(snapshot(&handle, &params), snapshot(&undisturbed, &expected), "moments and counts were not changed");
}

#[test]
fn a_step_with_a_parameter_that_is_not_finite_is_skipped() {
    for dtype in DTYPES {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            is_skipped(dtype, MAW_SKIP_PARAMETER, 2, |_, params, _| params[2].set(1, bad));
            // The first in registration order is named.
            is_skipped(dtype, MAW_SKIP_PARAMETER, 1, |_, params, _| {
                params[3].set(0, bad);
                params[1].set(8, bad);
            });
        }
    }
}

#[test]
fn a_parameter_without_a_gradient_is_checked_too() {
    is_skipped(MAW_FLOAT64, MAW_SKIP_PARAMETER, 2, |_, params, grads| {
        params[2].set(0, f64::NAN);
        grads[2] = None;
    });
}

#[test]
fn a_gradient_so_large_that_a_moment_would_not_be_finite_is_skipped() {
    is_skipped(MAW_FLOAT32, MAW_SKIP_GRADIENT, 3, |_, _, grads| grads[3].as_mut().expect("has one").set(2, 1e38));
    is_skipped(MAW_FLOAT64, MAW_SKIP_GRADIENT, 3, |_, _, grads| grads[3].as_mut().expect("has one").set(2, 1e300));
}

#[test]
fn finite_parameters_whose_norm_is_not_are_skipped_too() {
    is_skipped(MAW_FLOAT64, MAW_SKIP_PARAMETER, 1, |_, params, _| params[1].set(0, 1e300));
}

/// The largest gradient that is applied must not lead to a moment that makes every later step be skipped.
#[test]
fn no_gradient_that_is_applied_makes_a_moment_that_is_not_finite() {
    is_skipped(MAW_FLOAT64, MAW_SKIP_GRADIENT, 3, |_, _, grads| grads[3].as_mut().expect("has one").set(2, 1e150));
    for (dtype, largest) in [(MAW_FLOAT32, 1e19), (MAW_FLOAT64, 1e76)] {
        let toy = toy_of(dtype);
        let (mut handle, mut params) = (toy.handle(&small_options()), toy.start.clone());
        let mut grads = toy.gradients(3, &params);
        grads[3].as_mut().expect("has one").set(2, largest);
        assert_eq!(handle.step(&mut params, &grads).expect("a large gradient").skipped, 0);
        let grads = toy.gradients(4, &params);
        assert_eq!(handle.step(&mut params, &grads).expect("a good step").skipped, 0);
    }
}

#[test]
fn a_factor_that_is_not_finite_names_no_tensor() {
    is_skipped(MAW_FLOAT32, MAW_SKIP_FACTOR, MAW_NO_TENSOR, |handle, _, _| {
        let name = "encoder.layers.0.linear2.weight";
        let size =
            handle.attention_sizes().expect("prepared").into_iter().find(|(n, _)| n == name).expect("is there").1;
        let huge: Vec<f64> = (0..size).map(|i| if i % 2 == 0 { 1e308 } else { -1e308 }).collect();
        handle.set_attention(name, &huge).expect("finite values");
    });
}

#[test]
fn a_parameter_that_is_not_finite_is_found_by_the_first_step() {
    let toy = toy_of(MAW_FLOAT32);
    let (mut handle, mut params) = (toy.handle(&small_options()), toy.start.clone());
    let grads = toy.gradients(0, &params);
    params[4].set(3, f64::NAN);
    let report = handle.step(&mut params, &grads).expect("skipping is no failure");
    assert_eq!((report.skip_reason, report.nonfinite_tensor, report.step), (MAW_SKIP_PARAMETER, 4, 0));
    assert_eq!(handle.factors().expect_err("no step was applied").status, MAW_INVALID_STATE);
}

#[test]
fn on_request_a_step_that_is_not_finite_fails_with_a_message_that_names_the_tensor() {
    let options = maw_options { nonfinite: MAW_NONFINITE_ERROR, ..small_options() };
    for dtype in DTYPES {
        let toy = toy_of(dtype);
        let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
        toy.train(&mut handle, &mut params, 0, 4);
        let (before, good) = (snapshot(&handle, &params), params[2].clone());
        let grads = toy.gradients(4, &params);
        params[2].set(1, f64::NAN);
        let failure = handle.step_with(&mut params, &grads, &changed()).expect_err("not finite");
        assert_eq!(failure.status, MAW_NOT_FINITE, "{failure:?}");
        assert!(failure.message.contains("layers.0.attn.bias"), "{failure:?}");
        assert!(failure.message.contains("parameter"), "{failure:?}");

        params[2] = good;
        let mut bad = grads.clone();
        bad[3].as_mut().expect("has one").set(0, f64::INFINITY);
        let failure = handle.step(&mut params, &bad).expect_err("not finite");
        assert_eq!(failure.status, MAW_NOT_FINITE, "{failure:?}");
        assert!(failure.message.contains("layers.1.mlp.weight"), "{failure:?}");
        assert!(failure.message.contains("gradient"), "{failure:?}");
        assert_eq!(snapshot(&handle, &params), before, "a failure changes nothing");

        let report = handle.step_with(&mut params, &grads, &changed()).expect("a good step");
        assert_eq!((report.step, report.skipped_steps), (5, 0), "a failure is not counted as a skipped step");
    }
}

#[test]
fn without_modulation_a_gradient_that_is_not_finite_is_skipped_all_the_same() {
    let toy = toy_of(MAW_FLOAT32);
    let (mut handle, mut params) = (toy.handle(&maw_options { modulation: 0, ..small_options() }), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 2);
    let (before, mut grads) = (bits(&params), toy.gradients(3, &params));
    grads[1].as_mut().expect("has one").set(4, f64::NAN);
    let report = handle.step(&mut params, &grads).expect("skipping is no failure");
    let seen = (report.skipped, report.skip_reason, report.nonfinite_tensor, report.step);
    assert_eq!(seen, (1, MAW_SKIP_GRADIENT, 1, 2));
    assert_eq!(bits(&params), before);
}

// Log-variances.

/// The log-variances after a meta-update with these start values, priorities and limit.
fn log_vars_after(start: [f64; 3], priorities: [f64; 3], options: &maw_options) -> Vec<f64> {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(options), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 4);
    handle.set_attention("log_vars", &start).expect("three numbers");
    handle.set_priorities(priorities).expect("priorities");
    let result = toy.meta_update(&mut handle, &mut params).expect("a meta-update");
    assert_eq!(result.outcome, MAW_OUTCOME_UPDATED);
    handle.attention("log_vars", 3).expect("HUW is on")
}

#[test]
fn log_variances_are_clamped_to_ten_by_default() {
    let options = small_options();
    assert_eq!(options.log_var_limit, 10.0);
    let low = log_vars_after([-9.0, 0.0, 5.0], [1e5, 1e5, 1e5], &options);
    assert_eq!(low, [-10.0; 3], "large priorities push down");
    // ds₃ = ½(p₃ − e^{−s₃} L_gap) with p₃ = 0: a positive gap pushes up, and hard where s₃ is low.
    let high = log_vars_after([0.0, 0.0, -10.0], [0.0; 3], &maw_options { meta_lr: 0.5, ..options });
    assert_eq!(high[2], 10.0, "{high:?}");
}

#[test]
fn a_log_variance_beyond_the_limit_is_brought_back_by_the_next_meta_update() {
    let after = log_vars_after([25.0, -3.0, 3.0], [1.0, 1.0, 1.0], &small_options());
    assert_eq!(after[0], 10.0, "{after:?}");
    assert!(after[1..].iter().all(|s| s.abs() < 10.0), "{after:?}");
}

#[test]
fn a_limit_of_zero_means_no_limit() {
    let after = log_vars_after([0.0; 3], [1e5, 1e5, 1e5], &maw_options { log_var_limit: 0.0, ..small_options() });
    assert!(after.iter().all(|&s| s < -1000.0), "{after:?}");
}

#[test]
fn with_another_objective_log_variances_are_neither_moved_nor_limited() {
    for objective in [MAW_OBJECTIVE_GRADIENT, MAW_OBJECTIVE_LOSS_DECREASE, MAW_OBJECTIVE_GEN_GAP] {
        let start = [20.0, -20.0, 0.5];
        assert_eq!(log_vars_after(start, [1.0; 3], &maw_options { objective, ..small_options() }), start);
    }
}

// Two meta-updates in a row.

#[test]
fn a_second_meta_update_equals_the_first_of_an_optimizer_with_the_updated_attention_module() {
    for semantics in [MAW_PAPER, MAW_REFERENCE] {
        let (toy, options) = (Toy::small(), maw_options { semantics, ..small_options() });
        let (mut twice, mut params) = (toy.handle(&options), toy.start.clone());
        toy.train(&mut twice, &mut params, 0, 4);
        let theta = bits(&params);
        toy.meta_update(&mut twice, &mut params).expect("the first");
        let (first_features, first_factors) = (twice.features(), twice.factors());
        let phi = twice.phi().expect("Φ after the first");
        let second = toy.meta_update(&mut twice, &mut params).expect("the second");
        assert_eq!((second.outcome, second.updates, second.step), (MAW_OUTCOME_UPDATED, 2, 4));
        assert_eq!(bits(&params), theta);
        assert_eq!(twice.features(), first_features, "its input did not change");
        assert_ne!(twice.factors(), first_factors, "Φ did");

        let (mut once, mut others) = (toy.handle(&options), toy.start.clone());
        toy.train(&mut once, &mut others, 0, 4);
        once.set_phi(&phi).expect("Φ from there");
        let result = toy.meta_update(&mut once, &mut others).expect("its only one");
        assert_eq!(result.loss_meta.to_bits(), second.loss_meta.to_bits());
        assert_eq!(phi_bits(&once), phi_bits(&twice));

        // Neither changed moments or step counts.
        toy.train(&mut twice, &mut params, 4, 3);
        toy.train(&mut once, &mut others, 4, 3);
        assert_eq!(snapshot(&twice, &params), snapshot(&once, &others));
    }
}
