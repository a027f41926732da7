//! What a host or plain bad luck can bring, beside what the misuse table has: values at the edge of what is finite, failed
//! steps, names that are too much for a file.

mod common;

use common::calls::Answer;
use common::handle::{Handle, Spec, param_group, step_options};
use common::tensor::{Tensor, bits};
use common::toy::{Toy, phi_bits, small_options};
use metaadamw::ffi::*;

#[test]
fn without_gradients_the_norm_is_plain_zero() {
    let toy = Toy::small();
    for max_grad_norm in [0.0, 1.0] {
        let mut handle = toy.handle(&maw_options { max_grad_norm, ..small_options() });
        let none: Vec<Option<Tensor>> = toy.specs.iter().map(|_| None).collect();
        let report = handle.step(&mut toy.start.clone(), &none).expect("a step without gradients counts");
        assert_eq!(report.grad_norm.to_bits(), 0.0_f64.to_bits());
        assert_eq!(report.clip_factor, 1.0);
    }
}

/// PyTorch's clip_grad_norm_: the coefficient of a norm that is NaN is NaN, of an infinite one 0.
#[test]
fn clipping_by_a_norm_that_is_not_finite_reaches_every_tensor_where_nobody_checks() {
    let toy = Toy::small();
    let plain =
        maw_options { modulation: 0, nonfinite: MAW_NONFINITE_PROPAGATE, max_grad_norm: 1.0, ..small_options() };
    for (value, others_are_nan) in [(f64::NAN, true), (f64::INFINITY, false)] {
        let (mut handle, mut params) = (toy.handle(&plain), toy.start.clone());
        let mut grads = toy.gradients(0, &params);
        grads[3].as_mut().expect("it has a gradient").set(0, value);
        let report = handle.step(&mut params, &grads).expect("nobody checks");
        assert_eq!(report.clip_factor.is_nan(), others_are_nan);
        for (i, param) in params.iter().enumerate() {
            let nans = param.values().iter().filter(|x| x.is_nan()).count();
            let expected = if others_are_nan { param.len() } else { usize::from(i == 3) };
            assert_eq!(nans, expected, "tensor {i} with a gradient of {value}");
        }
    }
}

#[test]
fn clipping_still_names_the_tensor_whose_gradient_is_not_finite() {
    let toy = Toy::small();
    for nonfinite in [MAW_NONFINITE_SKIP, MAW_NONFINITE_ERROR] {
        let options = maw_options { max_grad_norm: 0.5, nonfinite, ..small_options() };
        let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
        let mut grads = toy.gradients(0, &params);
        grads[3].as_mut().expect("it has a gradient").set(1, f64::NAN);
        match handle.step(&mut params, &grads) {
            Ok(report) => assert_eq!((report.skipped, report.nonfinite_tensor), (1, 3)),
            Err(failure) => assert!(failure.message.contains("layers.1.mlp.weight"), "{failure:?}"),
        }
        assert_eq!(bits(&params), bits(&toy.start));
    }
}

#[test]
fn a_meta_update_that_would_make_the_attention_module_infinite_changes_nothing() {
    let toy = Toy::small();
    for (meta_lr, log_var_limit) in [(1e308, 10.0), (f64::MAX, 0.0)] {
        let options = maw_options { meta_lr, log_var_limit, meta_weight_decay: 1e3, ..small_options() };
        let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
        toy.train(&mut handle, &mut params, 0, 2);
        let before = phi_bits(&handle);
        let result = toy.meta_update(&mut handle, &mut params).expect("it ends by itself");
        assert_eq!(result.outcome, MAW_OUTCOME_META_GRADIENT_NOT_FINITE);
        assert_eq!(result.updates, 0);
        assert!(phi_bits(&handle) == before, "Φ changed");
        let file = handle.save_bytes(0).expect("saved");
        handle.load_bytes(&file, 0).expect("what was saved loads");
    }
}

#[test]
fn a_failed_step_forgets_what_was_announced() {
    let toy = Toy::small();
    let options = maw_options { nonfinite: MAW_NONFINITE_ERROR, ..small_options() };
    let good = toy.gradients(0, &toy.start);
    let expected = {
        let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
        handle.step(&mut params, &good).expect("a step");
        bits(&params)
    };
    let mut bad = good.clone();
    bad[0].as_mut().expect("it has a gradient").set(0, f64::NAN);
    let mut missing = good.clone();
    missing[1] = None;
    let wrong_scale = maw_step_options { grad_scale: -1.0, ..step_options() };
    type Fail<'a> = &'a dyn Fn(&mut Handle, &mut [Tensor]) -> i32;
    let fails: [Fail; 3] = [
        &|handle, params| handle.step(params, &bad).expect_err("a NaN").status,
        &|handle, params| handle.step(params, &missing).expect_err("announced and missing").status,
        &|handle, params| handle.step_with(params, &good, &wrong_scale).expect_err("no scale").status,
    ];
    for (i, fail) in fails.iter().enumerate() {
        let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
        // Other gradients than those of the next step, and one that is not finite.
        handle.observe(0, bad[0].as_ref().expect("it has a gradient")).expect("announced");
        handle.observe(1, &good[1].as_ref().expect("it has a gradient").scaled(3.0)).expect("announced");
        let status = fail(&mut handle, &mut params);
        assert!([MAW_NOT_FINITE, MAW_INVALID_ARGUMENT].contains(&status), "way {i}: {status}");
        handle.step(&mut params, &good).unwrap_or_else(|e| panic!("way {i}: the next step fails: {e:?}"));
        assert_eq!(bits(&params), expected, "way {i}: old sums were used");
    }
}

#[test]
fn names_that_no_file_can_hold_are_refused_before_anything_is_trained() {
    // 20,000 names of 1,024 bytes: 20 MB, and five times so in a header of at most 100 MB.
    let name = |i: usize| format!("{i:06}.{}", "\"".repeat(1017));
    let specs: Vec<Spec> = (0..20_000).map(|i| Spec::new(&name(i), &[1], MAW_FLOAT32)).collect();
    let mut handle = Handle::new(&small_options()).expect("good options");
    handle.add(&param_group(), &specs).expect("good names");
    let failure = handle.prepare().expect_err("a run that could not be saved");
    assert_eq!(failure.status, MAW_UNSUPPORTED, "{failure:?}");
    assert!(failure.message.contains("header"), "{failure:?}");
    handle.add(&param_group(), &[Spec::new("another", &[1], MAW_FLOAT32)]).expect("registration is open as before");
}

#[test]
fn long_names_that_a_file_can_hold_are_saved() {
    let name = |i: usize| format!("{i:06}.{}", "x".repeat(1017));
    let specs: Vec<Spec> = (0..9_000).map(|i| Spec::new(&name(i), &[1], MAW_FLOAT32)).collect();
    let mut handle = Handle::new(&small_options()).expect("good options");
    handle.add(&param_group(), &specs).expect("good names");
    handle.prepare().expect("a run that can be saved");
    let file = handle.save_bytes(0).expect("saved");
    handle.load_bytes(&file, 0).expect("what was saved loads");
}

#[test]
fn a_number_in_a_message_is_readable_and_a_constant_has_its_name() {
    let refused = |group: maw_param_group, spec: Spec| {
        let mut handle = Handle::new(&small_options()).expect("good options");
        handle.add(&group, &[spec]).expect_err("an unusable value").message
    };
    let w = || Spec::new("w", &[1], MAW_FLOAT32);
    let message = refused(maw_param_group { eps: 1e-320, ..param_group() }, w());
    assert!(message.contains("group.eps is 1e-320") && message.len() < 100, "{message}");
    let message = refused(maw_param_group { lr: -1e300, ..param_group() }, w());
    assert!(message.contains("group.lr is -1e300"), "{message}");
    let message = refused(param_group(), Spec { dtype: 9, ..w() });
    assert!(message.contains("is 9") && message.contains("MAW_FLOAT32 (1)"), "{message}");
    let message = refused(maw_param_group { precision: 77, ..param_group() }, w());
    assert!(message.contains("MAW_PRECISION_MASTER (1)"), "{message}");
}

#[test]
fn a_files_text_reaches_no_message_with_control_characters() {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&small_options()), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 1);
    let file = handle.save_bytes(0).expect("saved");
    let mut hostile = common::checkpoint::Checkpoint::parse(&file);
    hostile.part("exp_avg.head").name = "exp_avg.\u{1b}[31mred\nline".to_owned();
    let failure = handle.load_bytes(&hostile.bytes(), 0).expect_err("no such tensor");
    assert!(!failure.message.chars().any(char::is_control), "{:?}", failure.message);
    assert!(failure.message.contains("[31mred"), "{:?}", failure.message);
}

#[test]
fn an_abandoned_meta_update_is_logged_once() {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&small_options()), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 1);
    let messages = handle.logged().expect("a log");
    let request = handle.begin(&mut params).expect("begun");
    let not_finite = Answer { loss: f64::NAN, ..toy.answer(&request, &params) };
    handle.tell(request.id, &not_finite, &mut params).expect("abandoned");
    let request = handle.begin(&mut params).expect("begun again");
    handle.tell(request.id + 1, &Answer::loss(0.0), &mut params).expect_err("another id");
    handle.abort(&mut params).expect("aborted");
    let messages = messages.lock().expect("no panic");
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].1.contains("abandoned"), "{messages:?}");
}
