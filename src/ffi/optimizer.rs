//! Creating and freeing, preparing, stepping, resetting, stream and log.

use std::ffi::{CStr, c_char, c_void};

use super::error::{clear, fail, maw_error};
use super::handle::{as_host, call, free, maw_optimizer, quietly};
use super::options::to_options;
use super::pointers::{check, slice};
use super::structs::{Out, read};
use super::types::*;
use crate::error::{Error, Result, StateError};
use crate::model::host_buffers::{Gradient, Grads, Params};
use crate::model::options::Options;
use crate::model::report::{Skip, StepOptions, StepReport};
use crate::optimizer::{Log, LogLevel, Optimizer};
use crate::reserve;

/// What creating a handle allocates at most, without what a device needs.
const MEMORY_OF_CREATION: usize = 64 << 10;

/// Creates an optimizer without tensors.
///
/// `options`: NULL for the defaults. `optimizer`: out, freed with `maw_optimizer_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the invalid field; `MAW_UNSUPPORTED` for a field of a newer header, and
/// without a suitable CUDA driver or device; `MAW_CUDA_ERROR`. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_optimizer_create(
    options: *const maw_options,
    optimizer: *mut *mut maw_optimizer,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        clear(error);
        let create = || {
            check(optimizer, "optimizer")?;
            let options = if options.is_null() { Options::default() } else { to_options(&read(options, "options")?)? };
            optimizer.write(maw_optimizer::boxed(Optimizer::new(options)?)?);
            Ok(())
        };
        match reserve::with(MEMORY_OF_CREATION, || quietly(create)) {
            Ok(()) => MAW_OK,
            Err(e) => fail("maw_optimizer_create", error, &e),
        }
    }
}

/// Frees an optimizer and everything borrowed from it; does nothing for NULL.
///
/// An open meta-update leaves trial values in the host's parameters: call `maw_meta_abort` first. On CUDA this waits
/// for the stream, which must not be being captured; graphs with a step of this optimizer must not be replayed
/// afterwards.
/// `MAW_OK`; `MAW_BUSY` while another call runs: nothing is freed; `MAW_INVALID_ARGUMENT` for a handle that was freed
/// before, if that can be detected.
///
/// # Safety
/// `optimizer` is NULL or a handle, which is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_optimizer_free(optimizer: *mut maw_optimizer) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { free(optimizer) }
}

/// Prepares the registered tensors: forms the modulation groups, draws the attention module from the seed, allocates all
/// memory.
///
/// Optional, but with `maw_set_reduction`, whose processes call it together: the first call that needs it does the same. A
/// second call does nothing. Tensors can still be added and removed
/// (`maw_add_tensors`). Afterwards a step on the CPU with
/// `threads` = 1 does not allocate. Memory: the two moments in their dtype, masters or remainders if the param group
/// has them, and less than 1 % more for large models.
/// `MAW_OK`; `MAW_INVALID_STATE` without tensors or while a meta-update is open; `MAW_INVALID_ARGUMENT` for a
/// `feature_dim` below the features' length, and where shards and a reduction do not go together; `MAW_UNSUPPORTED` for
/// names and options that are too long for the header of a checkpoint (100 MB), so that saving cannot fail for that;
/// `MAW_REDUCTION`; `MAW_OUT_OF_MEMORY`. On failure nothing is changed.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_prepare(optimizer: *mut maw_optimizer, error: *mut *mut maw_error) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { call("maw_prepare", optimizer, error, Optimizer::prepare) }
}

/// One step: updates in place every parameter that has a gradient. Prepares the optimizer if needed.
///
/// `params`, `grads`: `count` pointers each, one per tensor in registration order, to contiguous elements of the
/// tensor's `dtype` and `grad_dtype`, aligned to their size. `count`: the number of registered tensors. A NULL
/// gradient: the tensor is not updated in this step and has gradient 0 in the features. A tensor without elements, or a
/// shard without, may have NULL. Parameters must not overlap each other or a gradient. Pointers are not stored; they may differ from call
/// to call.
/// A moment that would be subnormal becomes 0: subnormal moments never decay to 0 and make a step slow.
/// On CUDA the pointers are to memory of the handle's device, managed memory included, and the step is enqueued on the
/// handle's stream; with a report, the call waits for it. Under `MAW_OBJECTIVE_HORIZON` it also waits after each
/// `meta_interval`-th step, since the attention module learns on the host, and no step can be captured into a CUDA
/// graph (`MAW_INVALID_STATE`). A pointer is checked only when it is new to its tensor: if its memory was freed in
/// between, the kernel fails or accesses whatever is there now. A CUDA graph has the pointers of the capture.
/// `options`: may be NULL. `report`: out, may be NULL; untouched on failure.
/// `MAW_OK`, also for a skipped step (the report gives the reason); `MAW_NOT_FINITE` instead under
/// `MAW_NONFINITE_ERROR`; `MAW_INVALID_ARGUMENT` names the pointer; `MAW_INVALID_STATE` while a meta-update is open and
/// after 2^53 - 1 steps; `MAW_PARAMS_CHANGED` under `verify_params`, and in the first step after a load if a
/// parameter is not the one that the file has the remainder of (`MAW_PRECISION_REMAINDER`), unless `options` say that it
/// changed; `MAW_UNSUPPORTED` for a field of a newer header; `MAW_REDUCTION`. On failure nothing is changed, but gradients
/// that were announced are discarded.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_step(
    optimizer: *mut maw_optimizer,
    params: *const *mut c_void,
    grads: *const *const c_void,
    count: usize,
    options: *const maw_step_options,
    report: *mut maw_step_report,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_step", optimizer, error, |optimizer| {
            let step = |optimizer: &mut Optimizer| {
                let params = Params::from_raw(slice(params, count, "params")?);
                let grads = Grads::from_raw(slice(grads, count, "grads")?);
                let options =
                    if options.is_null() { StepOptions::default() } else { step_options(&read(options, "options")?)? };
                let out = Out::optional(report, "report")?;
                let report = optimizer.enqueue_step(&params, &grads, &options, out.is_some())?;
                if let (Some(out), Some(report)) = (out, report) {
                    out.write(&c_report(&report));
                }
                Ok(())
            };
            // Also where an argument is wrong: the next call may bring other gradients.
            optimizer.together(step).inspect_err(|_| optimizer.discard_announced())
        })
    }
}

/// The report of the last step. For CUDA, where `maw_step` without a report only enqueues the step; on the CPU it is the
/// report of the last call. `step` + `skipped_steps` is the number of the step that the report is of.
///
/// `flags`: 0 = the newest step for which the device has decided whether to apply it, without waiting; `MAW_FETCH_WAIT`
/// = the last step enqueued, or replayed in a CUDA graph, on the handle's stream; it waits for this stream only.
/// `report`: out; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` if there is no such step, and with `MAW_FETCH_WAIT` while the
/// stream is being captured; `MAW_CUDA_ERROR`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_step_report_fetch(
    optimizer: *mut maw_optimizer,
    flags: u32,
    report: *mut maw_step_report,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_step_report_fetch", optimizer, error, |optimizer| {
            if flags & !MAW_FETCH_WAIT != 0 {
                return Err(Error::range("flags", flags, "0 or MAW_FETCH_WAIT"));
            }
            let out = Out::new(report, "report")?;
            let found = optimizer.step_report(flags & MAW_FETCH_WAIT != 0)?.ok_or(StateError::NoReport)?;
            out.write(&c_report(&found));
            Ok(())
        })
    }
}

fn step_options(options: &maw_step_options) -> Result<StepOptions> {
    if options.flags & !MAW_STEP_PARAMS_CHANGED != 0 {
        return Err(Error::range("step_options.flags", options.flags, "0 or MAW_STEP_PARAMS_CHANGED"));
    }
    if options.reserved != 0 {
        return Err(Error::range("step_options.reserved", options.reserved, "0"));
    }
    Ok(StepOptions {
        grad_scale: options.grad_scale,
        params_changed: options.flags & MAW_STEP_PARAMS_CHANGED != 0,
        device_grad_scale: options.device_grad_scale.addr() as u64,
        found_inf: options.found_inf.addr() as u64,
    })
}

fn c_report(report: &StepReport) -> maw_step_report {
    maw_step_report {
        struct_size: size_of::<maw_step_report>(),
        step: report.step,
        skipped_steps: report.skipped_steps,
        grad_norm: report.grad_norm,
        clip_factor: report.clip_factor,
        nonfinite_tensor: report.nonfinite_tensor.map_or(MAW_NO_TENSOR, |i| i as u64),
        skipped: report.skipped.is_some().into(),
        skip_reason: match report.skipped {
            None => MAW_SKIP_NONE,
            Some(Skip::Gradient) => MAW_SKIP_GRADIENT,
            Some(Skip::Parameter) => MAW_SKIP_PARAMETER,
            Some(Skip::Moment) => MAW_SKIP_MOMENT,
            Some(Skip::Feature) => MAW_SKIP_FEATURE,
            Some(Skip::Factor) => MAW_SKIP_FACTOR,
        },
    }
}

/// Computes the norms of a gradient as soon as the backward pass has it, while it is still in the cache; the next step
/// then need not read it twice. Optional; the result has the same bits with and without. Prepares the optimizer if
/// needed.
///
/// `tensor`: its index in registration order. `gradient`: as in `maw_step`, not NULL; its values must be the same when
/// it is passed to the step. The pointer is not stored. A second call for a tensor replaces the first. A step, also one
/// that fails, setters, loading and saving, meta-updates and reading a tensor's state or masters discard it.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_observe_gradient(
    optimizer: *mut maw_optimizer,
    tensor: usize,
    gradient: *const c_void,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_observe_gradient", optimizer, error, |optimizer| {
            optimizer.observe_gradient(tensor, &Gradient::from_raw(gradient))
        })
    }
}

/// Resets the optimizer.
///
/// `what`: `MAW_RESET_MOMENTS` (moments and all step counts to 0), `MAW_RESET_ATTENTION` (the attention module to its
/// initial values), or both.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` for 0 or other bits; `MAW_INVALID_STATE` before preparation or while a meta-update is
/// open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_reset(optimizer: *mut maw_optimizer, what: u32, error: *mut *mut maw_error) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_reset", optimizer, error, |optimizer| {
            if what == 0 || what & !(MAW_RESET_MOMENTS | MAW_RESET_ATTENTION) != 0 {
                return Err(Error::range("what", what, "MAW_RESET_MOMENTS, MAW_RESET_ATTENTION or both"));
            }
            optimizer.reset(what & MAW_RESET_MOMENTS != 0, what & MAW_RESET_ATTENTION != 0)
        })
    }
}

/// Sets the CUDA stream on which all later calls of this handle enqueue their work, setters included.
///
/// `stream`: a `CUstream` or `cudaStream_t`, owned by the host, which must not destroy it while it is set; NULL (the
/// default) is the legacy default stream. On the CPU it must be NULL. The call waits for this handle's work on the
/// previous stream. Setters, getters and `MAW_FETCH_WAIT` are ordered after the work on this stream only: replay graphs
/// with steps of this handle on it, or order the streams by events.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` for a stream on the CPU; `MAW_INVALID_STATE` while this handle has
/// work in a capture of the previous stream; `MAW_CUDA_ERROR` if it is not a stream.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_stream(
    optimizer: *mut maw_optimizer,
    stream: *mut c_void,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { call("maw_set_stream", optimizer, error, |optimizer| optimizer.set_stream(stream)) }
}

/// Sets the callback that receives this handle's messages: skipped steps, changes of parameters that a step overwrote,
/// abandoned meta-updates, options that are probably unintended, layers without a number.
///
/// `callback`: see `maw_log_callback`; NULL turns messages off (the default). `user_data`: passed to the callback; it must
/// stay valid, and usable from any thread that calls, until another callback is set or the handle is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_log(
    optimizer: *mut maw_optimizer,
    callback: maw_log_callback,
    user_data: *mut c_void,
    error: *mut *mut maw_error,
) -> maw_status {
    struct UserData(*mut c_void);
    // SAFETY: the caller promises that it may be used from the threads that call.
    unsafe impl Send for UserData {}
    let user_data = UserData(user_data);
    let log = |callback: unsafe extern "C" fn(i32, *const c_char, *mut c_void)| -> Log {
        Box::new(move |level, message| {
            let user_data = &user_data;
            let level = match level {
                LogLevel::Info => MAW_LOG_INFO,
                LogLevel::Warning => MAW_LOG_WARNING,
            };
            let text = [message.as_bytes(), b"\0"].concat();
            let text = CStr::from_bytes_until_nul(&text).expect("a NUL was added");
            // SAFETY: the caller's promise about callback and user_data.
            as_host(|| unsafe { callback(level, text.as_ptr(), user_data.0) });
        })
    };
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { call("maw_set_log", optimizer, error, |optimizer| optimizer.set_log(callback.map(log))) }
}
