//! The meta-update as ask and tell: what is asked for and in which order, when one is due, and that θ is restored bit
//! for bit however it ends. Invalid calls are tested in `meta_misuse.rs`.

mod common;

use common::calls::{Answer, meta_due_of_null};
use common::handle::Handle;
use common::tensor::{Tensor, bits};
use common::toy::{Toy, phi_bits, small_options, snapshot};
use metaadamw::ffi::*;

/// A trained toy, ready for a meta-update.
fn trained(options: &maw_options) -> (Toy, Handle, Vec<Tensor>) {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(options), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 4);
    (toy, handle, params)
}

// What is asked for.

type Asked = (i32, i32, u64);

const TRAIN_1: Asked = (MAW_META_GRADIENT, MAW_BATCH_TRAIN_1, 0);
const TRAIN_1_LOSS: Asked = (MAW_META_LOSS, MAW_BATCH_TRAIN_1, 0);
const VALIDATION_LOSS: Asked = (MAW_META_LOSS, MAW_BATCH_VALIDATION, 0);
const TRAIN_2: Asked = (MAW_META_GRADIENT, MAW_BATCH_TRAIN_2, 0);

/// The validation batch of request `first` again, at θ′.
const fn validation_again(first: u64) -> Asked {
    (MAW_META_GRADIENT, MAW_BATCH_VALIDATION, first)
}

/// B2 of request `first` again, for a difference.
const fn train_2_again(first: u64) -> Asked {
    (MAW_META_GRADIENT, MAW_BATCH_TRAIN_2, first)
}

const PAPER: [(i32, &[Asked]); 4] = [
    (MAW_OBJECTIVE_COMBINED, &[TRAIN_1, VALIDATION_LOSS, TRAIN_2, validation_again(2)]),
    (MAW_OBJECTIVE_GRADIENT, &[TRAIN_1, TRAIN_2]),
    (MAW_OBJECTIVE_LOSS_DECREASE, &[TRAIN_1, VALIDATION_LOSS, validation_again(2)]),
    (MAW_OBJECTIVE_GEN_GAP, &[TRAIN_1, VALIDATION_LOSS]),
];
/// Without a step on B1, its gradient is needed for the gradient alignment only.
const REFERENCE: [(i32, &[Asked]); 4] = [
    (MAW_OBJECTIVE_COMBINED, &[TRAIN_1, VALIDATION_LOSS, TRAIN_2, validation_again(2)]),
    (MAW_OBJECTIVE_GRADIENT, &[TRAIN_1, TRAIN_2]),
    (MAW_OBJECTIVE_LOSS_DECREASE, &[VALIDATION_LOSS, validation_again(1)]),
    (MAW_OBJECTIVE_GEN_GAP, &[TRAIN_1_LOSS, VALIDATION_LOSS]),
];
const DIFFERENCES: [(i32, usize); 3] =
    [(MAW_DIFFERENCE_CENTRAL, 2), (MAW_DIFFERENCE_FORWARD, 1), (MAW_DIFFERENCE_FIRST_ORDER, 0)];

#[test]
fn each_objective_asks_for_exactly_what_it_needs() {
    for (semantics, sequences) in [(MAW_PAPER, PAPER), (MAW_REFERENCE, REFERENCE)] {
        for (objective, sequence) in sequences {
            for (difference, evaluations) in DIFFERENCES {
                let mut expected = sequence.to_vec();
                if let Some(first) = sequence.iter().position(|&asked| asked == TRAIN_2) {
                    expected.extend(vec![train_2_again(first as u64 + 1); evaluations]);
                }
                let (toy, mut handle, mut params) =
                    trained(&maw_options { semantics, objective, difference, ..small_options() });
                let (mut asked, mut ids) = (Vec::new(), Vec::new());
                let result = handle.meta_update(&mut params, |request, params| {
                    asked.push((request.kind, request.batch, request.replay));
                    ids.push(request.id);
                    toy.answer(request, params)
                });
                let result = result.expect("a meta-update");
                let what = format!("semantics {semantics}, objective {objective}, difference {difference}");
                assert_eq!(asked, expected, "{what}");
                assert_eq!(ids, (1..=expected.len() as u64).collect::<Vec<_>>(), "{what}");
                assert_eq!((result.outcome, result.evaluations), (MAW_OUTCOME_UPDATED, ids.len() as u32), "{what}");
            }
        }
    }
}

#[test]
fn request_numbers_go_on_over_all_meta_updates_of_a_handle() {
    let (toy, mut handle, mut params) = trained(&small_options());
    let request = handle.begin(&mut params).expect("the first");
    assert_eq!((request.id, request.replay), (1, 0));
    handle.abort(&mut params).expect("one is open");
    let mut asked = Vec::new();
    let whole = handle.meta_update(&mut params, |request, params| {
        asked.push((request.id, request.replay));
        toy.answer(request, params)
    });
    whole.expect("the second");
    assert_eq!(asked, [(2, 0), (3, 0), (4, 0), (5, 3), (6, 4), (7, 4)]);
}

// How it ends.

/// How many requests the default meta-update makes.
const REQUESTS: usize = 6;

/// A meta-update that `spoil`s the answer to request `at` (counted from 0) or aborts there; afterwards θ must be
/// restored.
fn ended(
    at: usize,
    spoil: Option<&dyn Fn(&mut Answer) -> bool>,
    toy: &Toy,
    handle: &mut Handle,
    params: &mut [Tensor],
) -> bool {
    let mut request = handle.begin(params).expect("begin");
    for _ in 0..at {
        let answer = toy.answer(&request, params);
        request = handle.tell(request.id, &answer, params).expect("a good answer");
    }
    let mut answer = toy.answer(&request, params);
    match spoil {
        None => handle.abort(params).expect("one is open"),
        Some(spoil) if spoil(&mut answer) => {
            let done = handle.tell(request.id, &answer, params).expect("a meta-update may fail, the call does not");
            assert_eq!((done.kind, done.id, done.batch, done.replay), (MAW_META_DONE, 0, 0, 0));
        }
        Some(_) => {
            handle.abort(params).expect("one is open");
            return false;
        }
    }
    true
}

/// After training, an unfinished meta-update: θ and Φ are as before, and training continues as if there had been none.
fn leaves_no_trace(outcome: i32, spoil: Option<&dyn Fn(&mut Answer) -> bool>) {
    for semantics in [MAW_PAPER, MAW_REFERENCE] {
        let options = maw_options { semantics, ..small_options() };
        let (toy, mut undisturbed, mut expected) = trained(&options);
        let phi = phi_bits(&undisturbed);
        toy.train(&mut undisturbed, &mut expected, 4, 3);
        toy.meta_update(&mut undisturbed, &mut expected).expect("a meta-update");
        let mut tried = 0;
        for at in 0..REQUESTS {
            let (toy, mut handle, mut params) = trained(&options);
            let theta = bits(&params);
            let done = ended(at, spoil, &toy, &mut handle, &mut params);
            let what = format!("semantics {semantics}, request {at}");
            assert_eq!(bits(&params), theta, "{what}: θ comes back bit for bit");
            assert_eq!(phi_bits(&handle), phi, "{what}: Φ is as it was");
            if done {
                tried += 1;
                let result = handle.result().expect("one has ended");
                let told = at as u32 + u32::from(spoil.is_some());
                let seen = (result.outcome, result.updates, result.step, result.evaluations);
                assert_eq!(seen, (outcome, 0, 4, told), "{what}: outcome, updates, step, evaluations");
            }
            toy.train(&mut handle, &mut params, 4, 3);
            toy.meta_update(&mut handle, &mut params).expect("a meta-update");
            assert_eq!(snapshot(&handle, &params), snapshot(&undisturbed, &expected), "{what}");
        }
        assert!(tried >= 4, "only {tried} requests could be spoiled");
    }
}

#[test]
fn an_abort_at_any_request_leaves_no_trace() {
    leaves_no_trace(MAW_OUTCOME_ABORTED, None);
}

#[test]
fn a_loss_that_is_not_finite_at_any_request_leaves_no_trace() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let spoil = |answer: &mut Answer| {
            answer.loss = bad;
            true
        };
        leaves_no_trace(MAW_OUTCOME_LOSS_NOT_FINITE, Some(&spoil));
    }
}

#[test]
fn a_gradient_that_is_not_finite_at_any_request_leaves_no_trace() {
    for (bad, tensor) in [(f64::NAN, 0), (f64::INFINITY, 3), (f64::NEG_INFINITY, 5)] {
        let spoil = |answer: &mut Answer| {
            let gradient = answer.grads.as_mut().and_then(|grads| grads[tensor].as_mut());
            gradient.map(|gradient| gradient.set(0, bad)).is_some()
        };
        leaves_no_trace(MAW_OUTCOME_GRADIENT_NOT_FINITE, Some(&spoil));
    }
}

#[test]
fn a_finished_meta_update_changes_nothing_but_the_attention_module() {
    for semantics in [MAW_PAPER, MAW_REFERENCE] {
        let options = maw_options { semantics, ..small_options() };
        let (toy, mut updated, mut params) = trained(&options);
        let theta = bits(&params);
        toy.meta_update(&mut updated, &mut params).expect("a meta-update");
        assert_eq!(bits(&params), theta, "θ comes back bit for bit");
        let phi = updated.phi().expect("prepared");
        let (_, mut other, mut expected) = trained(&options);
        assert_ne!(phi_bits(&updated), phi_bits(&other), "Φ moved");
        other.set_phi(&phi).expect("Φ from there");
        toy.train(&mut updated, &mut params, 4, 3);
        toy.train(&mut other, &mut expected, 4, 3);
        assert_eq!(snapshot(&updated, &params), snapshot(&other, &expected));
    }
}

#[test]
fn a_parameter_that_is_not_finite_abandons_the_meta_update_and_is_restored() {
    let (toy, mut handle, mut params) = trained(&small_options());
    params[1].set(2, f64::NAN);
    let (theta, phi) = (bits(&params), phi_bits(&handle));
    // The host's loss stays finite: only the library can detect the parameter.
    let honest = toy.start.clone();
    let result = handle.meta_update(&mut params, |request, _| toy.answer(request, &honest)).expect("ends, not fails");
    assert_eq!(result.outcome, MAW_OUTCOME_STATE_NOT_FINITE);
    assert_eq!(bits(&params), theta);
    assert_eq!(phi_bits(&handle), phi);
}

// What an answer may be.

#[test]
fn gradients_with_a_loss_scale_give_the_bits_of_unscaled_ones() {
    for semantics in [MAW_PAPER, MAW_REFERENCE] {
        let options = maw_options { semantics, max_grad_norm: 0.1, ..small_options() };
        let run = |scale: f64| {
            let (toy, mut handle, mut params) = trained(&options);
            let result = handle.meta_update(&mut params, |request, params| {
                let mut answer = toy.answer(request, params);
                answer.grad_scale = scale;
                for gradient in answer.grads.iter_mut().flatten().flatten() {
                    *gradient = gradient.scaled(scale);
                }
                answer
            });
            assert_eq!(result.expect("a meta-update").outcome, MAW_OUTCOME_UPDATED);
            snapshot(&handle, &params)
        };
        assert_eq!(run(128.0), run(1.0), "128 is a power of two, so nothing is rounded");
    }
}

/// A whole meta-update in which tensor 1 has no gradient, or one of zeros, on one batch; and that tensor at θ′.
fn without_a_gradient(batch: i32, zeros: bool) -> (common::toy::Snapshot, Vec<u64>, Vec<u64>) {
    let (toy, mut handle, mut params) = trained(&small_options());
    let theta = params[1].bits();
    let mut moved = Vec::new();
    let result = handle.meta_update(&mut params, |request, params| {
        if request.batch == MAW_BATCH_TRAIN_2 && request.replay == 0 {
            moved = params[1].bits();
        }
        let mut answer = toy.answer(request, params);
        if let Some(grads) = answer.grads.as_mut().filter(|_| request.batch == batch) {
            grads[1] = zeros.then(|| params[1].scaled(0.0));
        }
        answer
    });
    assert_eq!(result.expect("a meta-update").outcome, MAW_OUTCOME_UPDATED);
    (snapshot(&handle, &params), theta, moved)
}

#[test]
fn a_missing_gradient_at_the_moved_parameters_counts_as_zero() {
    for batch in [MAW_BATCH_TRAIN_2, MAW_BATCH_VALIDATION] {
        assert_eq!(without_a_gradient(batch, false), without_a_gradient(batch, true), "batch {batch}");
    }
}

#[test]
fn a_tensor_without_a_gradient_on_the_first_batch_stays_where_it_is() {
    let (_, theta, moved) = without_a_gradient(MAW_BATCH_TRAIN_1, false);
    assert_eq!(moved, theta);
    let (_, theta, moved) = without_a_gradient(MAW_BATCH_TRAIN_1, true);
    assert_ne!(moved, theta, "a gradient of zeros is one: momentum and decay go on");
}

// When one is due.

#[test]
fn a_meta_update_is_due_at_each_interval_from_the_warm_up_on() {
    let due_at = |meta_warmup: u64, meta_interval: u64| -> Vec<usize> {
        let toy = Toy::small();
        let options = maw_options { meta_warmup, meta_interval, ..small_options() };
        let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
        assert_eq!(handle.meta_due(), 0, "never before the first step");
        let mut due = Vec::new();
        for step in 0..12 {
            toy.train(&mut handle, &mut params, step, 1);
            assert_eq!(handle.meta_due(), handle.meta_due(), "asking changes nothing");
            if handle.meta_due() == 1 {
                due.push(step + 1);
            }
        }
        due
    };
    assert_eq!(due_at(0, 3), [3, 6, 9, 12]);
    assert_eq!(due_at(4, 3), [6, 9, 12]);
    assert_eq!(due_at(6, 3), [6, 9, 12]);
    assert_eq!(due_at(11, 1), [11, 12]);
    assert_eq!(due_at(0, 13), [] as [usize; 0]);
    assert_eq!(meta_due_of_null(), 0);
}

#[test]
fn no_second_meta_update_is_due_at_the_same_step() {
    let options = maw_options { meta_interval: 2, ..small_options() };
    let fail = |answer: &mut Answer| {
        answer.loss = f64::NAN;
        true
    };
    for way in ["done", "abandoned", "aborted"] {
        let (toy, mut handle, mut params) = trained(&options);
        assert_eq!(handle.meta_due(), 1);
        match way {
            "done" => assert!(toy.meta_update(&mut handle, &mut params).is_ok()),
            "abandoned" => assert!(ended(2, Some(&fail), &toy, &mut handle, &mut params)),
            _ => assert!(ended(1, None, &toy, &mut handle, &mut params)),
        }
        assert_eq!(handle.meta_due(), 0, "not twice at one step: {way}");
        // A skipped step does not count as a new one.
        let mut grads = toy.gradients(4, &params);
        grads[0].as_mut().expect("has one").set(0, f64::NAN);
        assert_eq!(handle.step(&mut params, &grads).expect("skipped").skipped, 1);
        assert_eq!(handle.meta_due(), 0);
        toy.train(&mut handle, &mut params, 4, 1);
        assert_eq!(handle.meta_due(), 0);
        toy.train(&mut handle, &mut params, 5, 1);
        assert_eq!(handle.meta_due(), 1);
    }
}

#[test]
fn a_meta_update_may_begin_when_none_is_due() {
    let (toy, mut handle, mut params) = trained(&maw_options { meta_interval: 5, ..small_options() });
    assert_eq!(handle.meta_due(), 0);
    assert_eq!(toy.meta_update(&mut handle, &mut params).expect("allowed").outcome, MAW_OUTCOME_UPDATED);
    toy.train(&mut handle, &mut params, 4, 1);
    assert_eq!(handle.meta_due(), 1, "step 5 has its own");
}

#[test]
fn a_meta_update_discards_gradients_that_were_announced_before_it() {
    let run = |announce: bool| {
        let (toy, mut handle, mut params) = trained(&small_options());
        let grads = toy.gradients(4, &params);
        if announce {
            handle.observe(0, &grads[0].as_ref().expect("has one").scaled(3.0)).expect("observe");
        }
        handle.begin(&mut params).expect("a meta-update");
        handle.abort(&mut params).expect("its end");
        handle.step(&mut params, &grads).expect("a step");
        snapshot(&handle, &params)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_missing_gradient_counts_as_zero_even_if_the_last_meta_update_stored_one() {
    let phi_after = |missing: bool| {
        let (toy, mut handle, mut params) = trained(&small_options());
        toy.meta_update(&mut handle, &mut params).expect("the first, with every gradient");
        let second = handle.meta_update(&mut params, |request, params| {
            let mut answer = toy.answer(request, params);
            if request.batch == MAW_BATCH_TRAIN_2
                && let Some(grads) = &mut answer.grads
            {
                let zeros = |g: &Tensor| Tensor::new(g.dtype(), &vec![0.0; g.len()]);
                grads[3] = if missing { None } else { grads[3].as_ref().map(zeros) };
            }
            answer
        });
        assert_eq!(second.expect("the second").outcome, MAW_OUTCOME_UPDATED);
        phi_bits(&handle)
    };
    assert_eq!(phi_after(true), phi_after(false));
}

#[test]
fn the_features_of_a_meta_update_count_the_zeros_of_b1s_gradient() {
    let (toy, mut handle, mut params) =
        trained(&maw_options { feature_version: MAW_FEATURES_ENHANCED, ..small_options() });
    let result = handle.meta_update(&mut params, |request, params| {
        let mut answer = toy.answer(request, params);
        if request.batch == MAW_BATCH_TRAIN_1
            && let Some(Some(Tensor::F32(embedding))) = answer.grads.as_mut().map(|grads| &mut grads[0])
        {
            embedding[..12].fill(0.0);
        }
        answer
    });
    assert_eq!(result.expect("a meta-update").outcome, MAW_OUTCOME_UPDATED);
    // Mean share of zeros in g of the first group, whose one tensor has 15 elements.
    assert_eq!(handle.features().expect("evaluated")[4], 12.0 / 15.0);
}
