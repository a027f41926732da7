//! Invalid calls during a meta-update: each has a defined result, leaves the request open and writes nothing.

mod common;

use common::calls::{Answer, Tell};
use common::handle::{Failure, Handle, Outcome, Spec, meta_answer, meta_request, param_group};
use common::tensor::{Tensor, bits};
use common::toy::{Snapshot, Toy, phi_bits, small_options, snapshot};
use metaadamw::ffi::*;

fn trained() -> (Toy, Handle, Vec<Tensor>) {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(&small_options()), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 4);
    (toy, handle, params)
}

fn refused<T>(status: i32, outcome: Outcome<T>, what: &str) {
    match outcome {
        Err(Failure { status: got, message }) => {
            assert_eq!(got, status, "{what}: {message}");
            assert!(!message.is_empty(), "{what}: the failure says why");
        }
        Ok(_) => panic!("{what} was not refused"),
    }
}

/// The result of an undisturbed meta-update.
fn undisturbed() -> Snapshot {
    let (toy, mut handle, mut params) = trained();
    toy.meta_update(&mut handle, &mut params).expect("a meta-update");
    snapshot(&handle, &params)
}

/// A meta-update that is interrupted at each request by `disturb`, which must change nothing.
fn is_not_disturbed(disturb: impl Fn(&Toy, &mut Handle, &mut [Tensor], &maw_meta_request)) {
    let (toy, mut handle, mut params) = trained();
    let mut request = handle.begin(&mut params).expect("begin");
    while request.kind != MAW_META_DONE {
        let (written, phi) = (bits(&params), phi_bits(&handle));
        disturb(&toy, &mut handle, &mut params, &request);
        assert_eq!(bits(&params), written, "request {}: something was written", request.id);
        assert_eq!(phi_bits(&handle), phi, "request {}: Φ changed", request.id);
        let answer = toy.answer(&request, &params);
        request = handle.tell(request.id, &answer, &mut params).expect("the request is still open");
    }
    assert_eq!(snapshot(&handle, &params), undisturbed());
}

/// Answers with one thing wrong; the next request must not be written.
fn tell_wrongly<'a>(
    what: &str,
    handle: &mut Handle,
    request: &maw_meta_request,
    answer: &'a Answer,
    params: &'a mut [Tensor],
    spoil: impl FnOnce(&mut Tell<'a>),
) {
    let answered = maw_meta_answer { request_id: request.id, loss: answer.loss, grad_scale: 1.0, ..meta_answer() };
    let count = params.len();
    let mut next = maw_meta_request { id: 4242, replay: 4242, kind: 4242, batch: 4242, ..meta_request() };
    let mut tell =
        Tell { answer: Some(answered), params: Some(params), grads: answer.grads.as_deref(), count, request: None };
    spoil(&mut tell);
    let outcome = handle.tell_raw(Tell { request: Some(&mut next), ..tell });
    refused(MAW_INVALID_ARGUMENT, outcome, what);
    assert_eq!(
        (next.id, next.replay, next.kind, next.batch),
        (4242, 4242, 4242, 4242),
        "{what}: an output was written"
    );
}

#[test]
fn an_answer_with_a_wrong_argument_leaves_the_request_open() {
    is_not_disturbed(|toy, handle, params, request| {
        let answer = toy.answer(request, params);
        let mut wrong = |what: &str, spoil: &dyn Fn(&mut Tell<'_>)| {
            tell_wrongly(what, handle, request, &answer, params, |tell| spoil(tell));
        };
        let id = |id: u64| move |tell: &mut Tell<'_>| tell.answer.as_mut().expect("is there").request_id = id;
        wrong("the number of no request", &id(0));
        wrong("a number that is yet to come", &id(request.id + 1));
        if request.id > 1 {
            wrong("the number of an answered request", &id(request.id - 1));
            wrong("the number of the first request", &id(1));
        }
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let spoil = |tell: &mut Tell<'_>| tell.answer.as_mut().expect("is there").grad_scale = scale;
            wrong(&format!("grad_scale {scale}"), &spoil);
        }
        wrong("no answer", &|tell| tell.answer = None);
        wrong("no parameters", &|tell| tell.params = None);
        wrong("a tensor too few", &|tell| tell.count -= 1);
        wrong("a tensor too many", &|tell| tell.count += 1);
        wrong("no tensor", &|tell| tell.count = 0);
        if request.kind == MAW_META_GRADIENT {
            wrong("no gradients, though they are asked for", &|tell| tell.grads = None);
        }
    });
}

#[test]
fn an_answer_with_null_for_the_next_request_leaves_the_request_open() {
    is_not_disturbed(|toy, handle, params, request| {
        let answer = toy.answer(request, params);
        let answered = maw_meta_answer { request_id: request.id, loss: answer.loss, ..meta_answer() };
        let count = params.len();
        let grads = answer.grads.as_deref();
        let outcome =
            handle.tell_raw(Tell { answer: Some(answered), params: Some(params), grads, count, request: None });
        refused(MAW_INVALID_ARGUMENT, outcome, "no request");
    });
}

#[test]
fn whatever_changes_the_optimizer_is_refused_while_a_request_is_open() {
    is_not_disturbed(|toy, handle, params, _| {
        let state = |outcome, what| refused(MAW_INVALID_STATE, outcome, what);
        let grads = toy.gradients(4, params);
        state(handle.step(params, &grads).map(drop), "step");
        state(handle.begin(params).map(drop), "begin");
        state(handle.observe(0, grads[0].as_ref().expect("has one")), "observe");
        state(handle.prepare(), "prepare");
        state(handle.add(&param_group(), &[Spec::new("late", &[2], MAW_FLOAT32)]).map(drop), "add");
        state(handle.set_lr(MAW_ALL_GROUPS, 0.5), "set_lr");
        state(handle.set_weight_decay(0, 0.5), "set_weight_decay");
        state(handle.set_priorities([3.0; 3]), "set_priorities");
        state(handle.set_attention("output_proj.bias", &[0.5; 4]), "attention_set");
        for what in [MAW_RESET_MOMENTS, MAW_RESET_ATTENTION, MAW_RESET_MOMENTS | MAW_RESET_ATTENTION] {
            state(handle.reset(what), "reset");
        }
    });
}

#[test]
fn getters_work_while_a_request_is_open() {
    is_not_disturbed(|toy, handle, _, _| {
        assert_eq!(handle.steps(), Ok(4));
        assert_eq!(handle.tensor_count(), Ok(toy.specs.len()));
        assert_eq!(handle.param_group_count(), Ok(1));
        assert_eq!(handle.lr(0), Ok(0.02));
        assert_eq!(handle.weight_decay(0), Ok(0.1));
        assert_eq!(handle.priorities(), Ok([1.0; 3]));
        let groups = handle.group_count().expect("prepared");
        assert!(handle.tensor_group(0).expect("prepared") < groups);
        assert!(!handle.group_name(groups - 1).expect("prepared").is_empty());
        assert_eq!(handle.factors().expect("steps were made").alpha.len(), groups);
        let features = handle.features().expect("steps were made");
        assert_eq!(features.len(), groups * handle.feature_dim().expect("prepared"));
        assert_eq!(handle.result().expect("may be asked for").outcome, MAW_OUTCOME_NONE);
        handle.meta_due();
    });
}

#[test]
fn without_an_open_request_answers_and_aborts_are_refused() {
    let (toy, mut handle, mut params) = trained();
    let refuse_both = |handle: &mut Handle, params: &mut [Tensor], when: &str| {
        refused(MAW_INVALID_STATE, handle.abort(params), when);
        refused(MAW_INVALID_STATE, handle.tell(1, &Answer::loss(1.0), params), when);
    };
    refuse_both(&mut handle, &mut params, "before the first");
    toy.meta_update(&mut handle, &mut params).expect("a meta-update");
    refuse_both(&mut handle, &mut params, "after one is done");
    handle.begin(&mut params).expect("begin");
    handle.abort(&mut params).expect("one is open");
    refuse_both(&mut handle, &mut params, "after an abort");
}

#[test]
fn a_meta_update_cannot_begin_with_the_wrong_number_of_tensors() {
    let (_, mut handle, mut params) = trained();
    let before = bits(&params);
    refused(MAW_INVALID_ARGUMENT, handle.begin(&mut params[1..]), "a tensor too few");
    assert_eq!(bits(&params), before);
    refused(MAW_INVALID_STATE, handle.abort(&mut params), "none was begun");
}

#[test]
fn before_the_first_meta_update_the_result_says_so_and_there_is_no_gradient() {
    let (_, handle, _) = trained();
    let result = handle.result().expect("may be asked for");
    assert_eq!((result.outcome, result.updates, result.evaluations), (MAW_OUTCOME_NONE, 0, 0));
    let groups = handle.group_count().expect("prepared");
    refused(MAW_INVALID_STATE, handle.meta_gradient("alpha", groups), "no meta-update yet");
}

#[test]
fn the_addresses_of_the_parameters_may_change_between_calls() {
    let (toy, mut handle, mut params) = trained();
    let mut request = handle.begin(&mut params).expect("begin");
    let mut old_buffers = Vec::new();
    while request.kind != MAW_META_DONE {
        let answer = toy.answer(&request, &params);
        // The old buffers stay alive, so that the new ones have other addresses.
        let moved = params.clone();
        old_buffers.push(std::mem::replace(&mut params, moved));
        request = handle.tell(request.id, &answer, &mut params).expect("an answer");
    }
    assert_eq!(snapshot(&handle, &params), undisturbed());
    assert_eq!(old_buffers.len(), 6);
}
