//! The same bits for any number of threads, any instruction set, and carried or recomputed sums.
//!
//! Parameters, features, factors and the attention module after steps and a meta-update. The tensors are large enough
//! for several chunks (of 32,768 elements) and for threads (262,144 elements in all), in both dtypes, with lengths that
//! no vector width divides.

mod common;

use common::handle::{Handle, Spec, step_options};
use common::tensor::Tensor;
use common::toy::{Snapshot, Toy, horizon_options, small_options, snapshot};
use metaadamw::ffi::*;
use metaadamw::numeric::simd;

fn large() -> Toy {
    let specs = vec![
        Spec::new("embed.weight", &[150_003, 1], MAW_FLOAT32),
        Spec::new("layers.0.attn.weight", &[700, 100], MAW_FLOAT64),
        Spec::new("layers.0.attn.bias", &[7], MAW_FLOAT32),
        Spec::new("layers.1.mlp.weight", &[257, 129], MAW_FLOAT32),
        Spec::new("layers.1.mlp.bias", &[1], MAW_FLOAT64),
        Spec::new("norm.weight", &[32_768], MAW_FLOAT64),
        Spec::new("head.weight", &[5, 3], MAW_FLOAT64),
    ];
    Toy::new(specs, 2)
}

/// Together these use every kind of sum.
fn configurations() -> Vec<maw_options> {
    let small = small_options();
    vec![
        maw_options { feature_version: MAW_FEATURES_BASIC_PLUS, attn_heads: 1, max_grad_norm: 0.5, ..small },
        maw_options { feature_version: MAW_FEATURES_ENHANCED, semantics: MAW_REFERENCE, attn_heads: 2, ..small },
        maw_options { meta_interval: 2, ..horizon_options() },
        maw_options { average_dtype: MAW_BFLOAT16, max_grad_norm: 0.5, meta_interval: 2, ..horizon_options() },
    ]
}

/// Three steps, a meta-update, two steps; a snapshot after each.
fn run(options: &maw_options, step: impl Fn(&mut Handle, &mut [Tensor], &[Option<Tensor>])) -> Vec<Snapshot> {
    let toy = large();
    let (mut handle, mut params) = (toy.handle(options), toy.start.clone());
    let mut snapshots = Vec::new();
    for number in 0..5 {
        let mut grads = toy.gradients(number, &params);
        grads[3].as_mut().expect("has one").set(number, 0.0);
        step(&mut handle, &mut params, &grads);
        snapshots.push(snapshot(&handle, &params));
        if number == 2 && options.objective != MAW_OBJECTIVE_HORIZON {
            let result = toy.meta_update(&mut handle, &mut params).expect("a meta-update");
            assert_eq!(result.outcome, MAW_OUTCOME_UPDATED);
            snapshots.push(snapshot(&handle, &params));
        }
    }
    snapshots
}

fn plain_step(handle: &mut Handle, params: &mut [Tensor], grads: &[Option<Tensor>]) {
    let report = handle.step(params, grads).expect("a step");
    assert_eq!(report.skipped, 0, "{report:?}");
}

/// Says where two runs differ, without printing 200,000 parameters.
fn assert_same(got: &[Snapshot], expected: &[Snapshot], what: &str) {
    assert_eq!(got.len(), expected.len());
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!(a.features == b.features, "{what}: the features of snapshot {i} differ");
        assert!(a.factors == b.factors, "{what}: the factors of snapshot {i} differ");
        assert!(a.phi == b.phi, "{what}: the attention module of snapshot {i} differs");
        for (t, (a, b)) in a.params.iter().zip(&b.params).enumerate() {
            let at = a.iter().zip(b).position(|(a, b)| a != b);
            assert!(at.is_none(), "{what}: tensor {t} of snapshot {i} differs at element {at:?}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for options in configurations() {
        let one = run(&maw_options { threads: 1, ..options }, plain_step);
        for threads in [2, 7, 0] {
            let many = run(&maw_options { threads, ..options }, plain_step);
            assert_same(&many, &one, &format!("{threads} threads"));
        }
    }
}

/// The parameters after three steps without modulation, with gradients of all kinds. NaNs are replaced by 0, since
/// their payload is not specified.
fn unmodulated() -> Vec<Vec<u64>> {
    let toy = large();
    let options = maw_options { modulation: 0, nonfinite: MAW_NONFINITE_PROPAGATE, ..small_options() };
    let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
    for number in 0..3 {
        let mut grads = toy.gradients(number, &params);
        for (i, value) in [f64::INFINITY, -1e-42, 3e19, -0.0].into_iter().enumerate() {
            grads[0].as_mut().expect("has one").set(70_000 + 100 * i + number, value);
        }
        plain_step(&mut handle, &mut params, &grads);
    }
    let bits = |x: f64| if x.is_nan() { 0 } else { x.to_bits() };
    params.iter().map(|tensor| tensor.values().into_iter().map(bits).collect()).collect()
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let levels = simd::available();
    assert!(!levels.is_empty(), "there is always the plain version");
    for options in configurations() {
        let mut first = None;
        for &level in &levels {
            simd::force(Some(level));
            let got = run(&options, plain_step);
            assert_same(&got, first.get_or_insert_with(|| got.clone()), &format!("{level:?}"));
        }
    }
    let mut first = None;
    for &level in &levels {
        simd::force(Some(level));
        let got = unmodulated();
        assert!(got == *first.get_or_insert_with(|| got.clone()), "{level:?}, without modulation");
    }
    simd::force(None);
    println!("compared: {levels:?}");
}

#[test]
fn sums_that_are_carried_over_equal_recomputed_ones() {
    for options in configurations() {
        let carried = run(&options, plain_step);
        // Averages would begin anew.
        if options.horizon == 0 {
            let recomputed = run(&options, |handle, params, grads| {
                let changed = maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() };
                handle.step_with(params, grads, &changed).expect("a step");
            });
            assert_same(&recomputed, &carried, "recomputed, as the parameters are said to have changed");
        }
        let verified = run(&maw_options { verify_params: 1, ..options }, plain_step);
        assert_same(&verified, &carried, "verified");
    }
}

#[test]
fn a_changed_parameter_is_found_when_parameters_are_verified() {
    let toy = large();
    for verify_params in [0, 1] {
        let mut handle = toy.handle(&maw_options { verify_params, ..small_options() });
        let mut params = toy.start.clone();
        toy.train(&mut handle, &mut params, 0, 2);
        let before = snapshot(&handle, &params);
        let old = params[3].values()[33_000];
        params[3].set(33_000, old + 1.0);
        let grads = toy.gradients(2, &params);
        if verify_params == 1 {
            let failure = handle.step(&mut params, &grads).expect_err("changed behind its back");
            assert_eq!(failure.status, MAW_PARAMS_CHANGED, "{failure:?}");
            assert!(failure.message.contains("layers.1.mlp.weight"), "{failure:?}");
            params[3].set(33_000, old);
            assert_same(&[snapshot(&handle, &params)], &[before], "after the failure");
            params[3].set(33_000, old + 1.0);
        }
        let changed = maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() };
        let report = handle.step_with(&mut params, &grads, &changed).expect("announced");
        assert_eq!((report.skipped, report.step), (0, 3));
    }
}

#[test]
fn gradients_that_are_observed_beforehand_give_the_same_bits() {
    for options in configurations() {
        let expected = run(&options, plain_step);
        let all = run(&options, |handle, params, grads| {
            for (i, gradient) in grads.iter().enumerate().rev() {
                if let Some(gradient) = gradient {
                    handle.observe(i, gradient).expect("observe");
                }
            }
            plain_step(handle, params, grads);
        });
        assert_same(&all, &expected, "all observed, last to first");
        let replaced = run(&options, |handle, params, grads| {
            for i in [0, 3] {
                let gradient = grads[i].as_ref().expect("has one");
                handle.observe(i, &gradient.scaled(3.0)).expect("observe");
                handle.observe(i, gradient).expect("the second call replaces the first");
            }
            plain_step(handle, params, grads);
        });
        assert_same(&replaced, &expected, "some observed, each twice");
        let discarded = run(&options, |handle, params, grads| {
            handle.observe(0, &grads[0].as_ref().expect("has one").scaled(3.0)).expect("observe");
            let lr = handle.lr(0).expect("a getter");
            handle.set_lr(0, lr).expect("a setter discards what was announced");
            plain_step(handle, params, grads);
        });
        assert_same(&discarded, &expected, "observed and discarded");
    }
}

#[test]
fn observed_gradients_are_unscaled_and_clipped_like_any() {
    for options in configurations() {
        let scaled = maw_step_options { grad_scale: 128.0, ..step_options() };
        let expected = run(&options, plain_step);
        let got = run(&options, |handle, params, grads| {
            let large: Vec<Option<Tensor>> = grads.iter().map(|g| g.as_ref().map(|g| g.scaled(128.0))).collect();
            for (i, gradient) in large.iter().enumerate() {
                if let Some(gradient) = gradient {
                    handle.observe(i, gradient).expect("observe");
                }
            }
            handle.step_with(params, &large, &scaled).expect("a step");
        });
        assert_same(&got, &expected, "scaled by a power of two and observed");
    }
}
