//! The meta-update: begin, tell, abort, result and gradient.

use std::ffi::{c_char, c_void};

use super::error::maw_error;
use super::handle::{ask, call, maw_optimizer};
use super::pointers::{copy_out, lookup, slice};
use super::structs::{Out, read};
use super::types::*;
use crate::error::Error;
use crate::meta::{Answer, Batch, Kind, MetaResult, Outcome, Request};
use crate::model::host_buffers::{Grads, Params};
use crate::optimizer::Optimizer;

/// 1 if a meta-update is due, else 0 (also for NULL and for a busy or poisoned handle).
///
/// Due: the number of applied steps is ≥ `meta_warmup` and a multiple of `meta_interval`, not 0, and no meta-update has
/// ended at this number; never under `MAW_OBJECTIVE_HORIZON`. On CUDA it waits for the enqueued steps if one could be due
/// after them. What it then finds to have failed it cannot tell: it returns 0, and the next call that waits tells it.
///
/// # Safety
/// `optimizer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_meta_due(optimizer: *const maw_optimizer) -> u32 {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { ask(optimizer, Optimizer::meta_due_or_later) }.unwrap_or(false).into()
}

/// Begins a meta-update, due or not, and returns the first request. Prepares the optimizer if needed.
///
/// `params`: as in `maw_step`; copied now, and overwritten until the meta-update ends. `request`: out; see
/// `maw_meta_request` for the loop.
/// Memory during a meta-update: a copy of the parameters and up to two copies of the gradients. The next meta-update
/// uses it again; until then the system may reclaim it (on Linux by `MADV_FREE`: the pages count as resident until
/// reclaimed).
/// `MAW_OK`, also if the state is not finite: the request is then `MAW_META_DONE`; `MAW_INVALID_ARGUMENT`;
/// `MAW_INVALID_STATE` if one is open, modulation is off or the module learns from steps (`MAW_OBJECTIVE_HORIZON`); `MAW_PARAMS_CHANGED` under `verify_params`, and after a load as
/// for `maw_step`; `MAW_REDUCTION`; `MAW_OUT_OF_MEMORY`. On failure no meta-update is open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_meta_begin(
    optimizer: *mut maw_optimizer,
    params: *const *mut c_void,
    count: usize,
    request: *mut maw_meta_request,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_meta_begin", optimizer, error, |optimizer| {
            optimizer.together(|optimizer| {
                let params = Params::from_raw(slice(params, count, "params")?);
                let out = Out::new(request, "request")?;
                let next = optimizer.meta_begin(&params)?;
                out.write(&c_request(next));
                Ok(())
            })
        })
    }
}

/// Answers the open request and returns the next one.
///
/// `answer`: the request's id, the loss, and the loss scale of the gradients. `params`: as in `maw_step`; written, not
/// read. `grads`: as in `maw_step`; may be NULL if the request was for the loss only. `request`: out.
/// If a loss, gradient or direction is not finite, the meta-update is abandoned: the parameters are restored, the
/// attention module is unchanged, the request is `MAW_META_DONE`, and the result gives the reason.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` for a wrong or repeated id and for invalid pointers: the request stays open and
/// nothing is written; `MAW_UNSUPPORTED` for a field of a newer header; `MAW_INVALID_STATE` if none is open;
/// `MAW_REDUCTION`: if the processes' answers differ or one was refused, the request stays open, as after any other failure;
/// if sums are missing, the meta-update is aborted (`MAW_OUTCOME_ABORTED`) and the parameters are restored.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_meta_tell(
    optimizer: *mut maw_optimizer,
    answer: *const maw_meta_answer,
    params: *const *mut c_void,
    grads: *const *const c_void,
    count: usize,
    request: *mut maw_meta_request,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_meta_tell", optimizer, error, |optimizer| {
            optimizer.together(|optimizer| {
                let answer = read(answer, "answer")?;
                let params = Params::from_raw(slice(params, count, "params")?);
                let grads = if grads.is_null() { None } else { Some(Grads::from_raw(slice(grads, count, "grads")?)) };
                let out = Out::new(request, "request")?;
                let answer = Answer { request_id: answer.request_id, loss: answer.loss, grad_scale: answer.grad_scale };
                let next = optimizer.meta_tell(&answer, &params, grads.as_ref())?;
                out.write(&c_request(next));
                Ok(())
            })
        })
    }
}

fn c_request(request: Option<Request>) -> maw_meta_request {
    let done = maw_meta_request {
        struct_size: size_of::<maw_meta_request>(),
        id: 0,
        replay: 0,
        kind: MAW_META_DONE,
        batch: 0,
        seed: 0,
    };
    request.map_or(done, |request| maw_meta_request {
        id: request.id,
        replay: request.replay.unwrap_or(0),
        kind: match request.kind {
            Kind::Loss => MAW_META_LOSS,
            Kind::Gradient => MAW_META_GRADIENT,
        },
        batch: match request.batch {
            Batch::Train1 => MAW_BATCH_TRAIN_1,
            Batch::Train2 => MAW_BATCH_TRAIN_2,
            Batch::Validation => MAW_BATCH_VALIDATION,
        },
        seed: request.seed,
        ..done
    })
}

/// Aborts the open meta-update: the parameters are restored bit for bit, the attention module is unchanged.
///
/// With shards it is each process's own. Where one cannot evaluate, it passes NULL for `answer` to `maw_meta_tell`, so that the
/// others hear of it, and then all abort.
///
/// `params`: as in `maw_step`.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` if none is open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_meta_abort(
    optimizer: *mut maw_optimizer,
    params: *const *mut c_void,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_meta_abort", optimizer, error, |optimizer| {
            optimizer.meta_abort(&Params::from_raw(slice(params, count, "params")?))
        })
    }
}

/// The result of the last meta-update; its outcome is `MAW_OUTCOME_NONE` before the first.
///
/// `result`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_meta_result_get(
    optimizer: *const maw_optimizer,
    result: *mut maw_meta_result,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_meta_result_get", optimizer, error, |optimizer| {
            let out = Out::new(result, "result")?;
            out.write(&c_result(optimizer.meta_result()?));
            Ok(())
        })
    }
}

fn c_result(result: &MetaResult) -> maw_meta_result {
    let [term_gradient, term_loss_decrease, term_gen_gap] = result.terms;
    maw_meta_result {
        struct_size: size_of::<maw_meta_result>(),
        step: result.step,
        updates: result.updates,
        loss_train: result.losses.train,
        loss_validation: result.losses.validation,
        loss_train_moved: result.losses.train_moved,
        loss_validation_moved: result.losses.validation_moved,
        term_gradient,
        term_loss_decrease,
        term_gen_gap,
        loss_meta: result.loss_meta,
        evaluations: result.evaluations,
        idle_groups: result.idle_groups,
        outcome: match result.outcome {
            Outcome::None => MAW_OUTCOME_NONE,
            Outcome::Updated => MAW_OUTCOME_UPDATED,
            Outcome::Aborted => MAW_OUTCOME_ABORTED,
            Outcome::LossNotFinite => MAW_OUTCOME_LOSS_NOT_FINITE,
            Outcome::GradientNotFinite => MAW_OUTCOME_GRADIENT_NOT_FINITE,
            Outcome::StateNotFinite => MAW_OUTCOME_STATE_NOT_FINITE,
            Outcome::DirectionNotFinite => MAW_OUTCOME_DIRECTION_NOT_FINITE,
            Outcome::MetaGradientNotFinite => MAW_OUTCOME_META_GRADIENT_NOT_FINITE,
        },
        reserved: 0,
    }
}

/// The gradient of the meta-objective, regularization included, in the last meta-update with `MAW_OUTCOME_UPDATED`.
///
/// `name`: a tensor of the attention module, or "alpha", "beta", "lambda1", "lambda2" (one value per modulation group).
/// `values`: out, `count` doubles, row-major; `count` = the size of that tensor.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before the first such meta-update.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_meta_gradient(
    optimizer: *const maw_optimizer,
    name: *const c_char,
    values: *mut f64,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_meta_gradient", optimizer, error, |optimizer| {
            let name = lookup(name, "name")?;
            let gradient = optimizer.meta_gradient()?;
            let of_phi = || {
                let modulation = optimizer.modulation().ok().flatten()?;
                modulation.attention.range(name).map(|range| &gradient.phi[range])
            };
            let found = gradient.factors.named(name).or_else(of_phi).ok_or_else(|| Error::no_attention_tensor(name))?;
            copy_out(found, values, count, "values", "values of that name")
        })
    }
}
