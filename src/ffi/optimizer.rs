//! Creating and freeing, registering, stepping, setters.

use std::ffi::{CStr, c_void};

use super::error::{clear, fail, maw_error};
use super::handle::{call, free, maw_optimizer, quietly};
use super::options::{Known, choose, to_options};
use super::pointers::{check, slice, text};
use super::structs::{Out, read, read_array};
use super::types::*;
use crate::error::{Error, Result, StateError};
use crate::model::dtype::{DType, Precision};
use crate::model::groups::TensorSpec;
use crate::model::host_buffers::{Gradient, Grads, Params};
use crate::model::name::Name;
use crate::model::options::{LayerKind, Options, ParamGroup};
use crate::model::report::{Skip, StepOptions, StepReport};
use crate::optimizer::{Log, LogLevel, Optimizer};

/// Creates an optimizer without tensors.
///
/// `options`: NULL for all defaults. `optimizer`: out, freed with `maw_optimizer_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the field that is not usable; `MAW_UNSUPPORTED` for a device or a field of a
/// newer header. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_optimizer_create(
    options: *const maw_options,
    optimizer: *mut *mut maw_optimizer,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        clear(error);
        let created = quietly(|| {
            check(optimizer, "optimizer")?;
            let options = if options.is_null() { Options::default() } else { to_options(&read(options, "options")?)? };
            Optimizer::new(options)
        });
        match created {
            Ok(created) => {
                optimizer.write(maw_optimizer::boxed(created));
                MAW_OK
            }
            Err(e) => fail("maw_optimizer_create", error, &e),
        }
    }
}

/// Frees an optimizer and all that it lent; does nothing for NULL.
///
/// `MAW_OK`; `MAW_BUSY` while another call runs, and nothing is freed then; `MAW_INVALID_ARGUMENT` for a handle that was
/// freed before, where that can be told. A meta-update that is open leaves the host's parameters where they are: call
/// `maw_meta_abort` first. On CUDA the stream's work is waited for, so it must not be being captured, and a graph with a
/// step of this optimizer must not be replayed afterwards.
///
/// # Safety
/// `optimizer` is NULL or a handle, which is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_optimizer_free(optimizer: *mut maw_optimizer) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe { free(optimizer) }
}

const DTYPES: [Known<DType>; 4] = [
    ("MAW_FLOAT32", MAW_FLOAT32, DType::F32),
    ("MAW_FLOAT64", MAW_FLOAT64, DType::F64),
    ("MAW_BFLOAT16", MAW_BFLOAT16, DType::BF16),
    ("MAW_FLOAT16", MAW_FLOAT16, DType::F16),
];

/// A dtype, or what 0 means.
fn dtype_or(field: &str, number: i32, default: DType) -> Result<DType> {
    if number == 0 { Ok(default) } else { choose(field, number, &DTYPES) }
}

fn param_group(group: &maw_param_group) -> Result<ParamGroup> {
    let precisions = [
        ("MAW_PRECISION_NEAREST", MAW_PRECISION_NEAREST, Precision::Nearest),
        ("MAW_PRECISION_MASTER", MAW_PRECISION_MASTER, Precision::Master),
        ("MAW_PRECISION_REMAINDER", MAW_PRECISION_REMAINDER, Precision::Remainder),
        ("MAW_PRECISION_STOCHASTIC", MAW_PRECISION_STOCHASTIC, Precision::Stochastic),
    ];
    let moments = |number| {
        choose(
            "group.moment_dtype",
            number,
            &[("MAW_FLOAT32", MAW_FLOAT32, DType::F32), ("MAW_BFLOAT16", MAW_BFLOAT16, DType::BF16)],
        )
    };
    Ok(ParamGroup {
        lr: group.lr,
        beta1: group.beta1,
        beta2: group.beta2,
        eps: group.eps,
        weight_decay: group.weight_decay,
        precision: choose("group.precision", group.precision, &precisions)?,
        moment_dtype: if group.moment_dtype == 0 { None } else { Some(moments(group.moment_dtype)?) },
    })
}

/// # Safety
/// The tensor's pointers are NULL or valid as described at [`maw_tensor`].
unsafe fn tensor_spec(i: usize, tensor: &maw_tensor) -> Result<TensorSpec> {
    // SAFETY: the caller's promise.
    let text = |pointer, argument| unsafe { text(pointer, argument) };
    let name = Name::new(&format!("tensors[{i}].name"), text(tensor.name, "tensors[].name")?)?;
    let field = |what: &str| format!("{what} of tensor '{name}'");
    if tensor.ndim > 64 {
        return Err(Error::range(field("ndim"), tensor.ndim, "at most 64"));
    }
    // SAFETY: the caller's promise.
    let shape = unsafe { slice(tensor.shape, tensor.ndim as usize, "tensors[].shape") }?.to_vec();
    let dtype = choose(&field("dtype"), tensor.dtype, &DTYPES)?;
    let grad_dtype = dtype_or(&field("grad_dtype"), tensor.grad_dtype, dtype)?;
    let modulation_group = if tensor.modulation_group.is_null() {
        None
    } else {
        let bytes = text(tensor.modulation_group, "tensors[].modulation_group")?;
        Some(Name::new(&field("modulation_group"), bytes)?)
    };
    let kinds = [
        ("MAW_LAYER_UNKNOWN", MAW_LAYER_UNKNOWN, LayerKind::Unknown),
        ("MAW_LAYER_LINEAR", MAW_LAYER_LINEAR, LayerKind::Linear),
        ("MAW_LAYER_EMBEDDING", MAW_LAYER_EMBEDDING, LayerKind::Embedding),
        ("MAW_LAYER_ATTENTION", MAW_LAYER_ATTENTION, LayerKind::Attention),
        ("MAW_LAYER_LAYERNORM", MAW_LAYER_LAYERNORM, LayerKind::LayerNorm),
    ];
    let layer_kind = choose(&field("layer_kind"), tensor.layer_kind, &kinds)?;
    Ok(TensorSpec { name, shape, dtype, grad_dtype, layer_kind, modulation_group })
}

/// Registers tensors that share hyper-parameters.
///
/// `tensors`: `count` descriptions, at least one; names and shapes are copied. Each later call passes one pointer for
/// every registered tensor, in the order of registration over all groups. `index`: out, the group's number from 0 on;
/// may be NULL.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the field, and the tensor that it does not suit, or both groups of a duplicate
/// name; `MAW_UNSUPPORTED` for a field of a newer header;
/// `MAW_INVALID_STATE` after registration ended. On failure none of the tensors is registered.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_add_param_group(
    optimizer: *mut maw_optimizer,
    group: *const maw_param_group,
    tensors: *const maw_tensor,
    count: usize,
    index: *mut u32,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_add_param_group", optimizer, error, |optimizer| {
            let group = read(group, "group")?;
            if !index.is_null() {
                check(index, "index")?;
            }
            let specs = read_array(tensors, count, "tensors")?
                .iter()
                .enumerate()
                .map(|(i, tensor)| tensor_spec(i, tensor))
                .collect::<Result<Vec<_>>>()?;
            let group = param_group(&group)?;
            let added = optimizer.add_param_group(group, specs)?;
            if !index.is_null() {
                index.write(u32::try_from(added).expect("fewer groups than 2³²"));
            }
            Ok(())
        })
    }
}

/// Ends registration: forms the modulation groups, draws the attention module from the seed, allocates everything.
///
/// The first step or meta-update does it by itself; a second call does nothing. Afterwards a step with `threads` = 1
/// allocates nothing. Memory: two moments of float32 (float64 for float64 tensors; bfloat16 where the group says so),
/// masters or remainders where the group has them, and little more.
/// `MAW_OK`; `MAW_INVALID_STATE` without tensors or while a meta-update is open; `MAW_INVALID_ARGUMENT` for a
/// `feature_dim` below the features' length; `MAW_OUT_OF_MEMORY`. On failure registration stays open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_prepare(optimizer: *mut maw_optimizer, error: *mut *mut maw_error) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe { call("maw_prepare", optimizer, error, Optimizer::prepare) }
}

/// One step: updates, in place, every parameter whose gradient is given.
///
/// `params`, `grads`: `count` pointers each, one a tensor in registration order, to contiguous elements of the tensor's
/// `dtype` and `grad_dtype`, aligned to them; `count` must be the number of registered tensors. A NULL gradient: none in this step, the
/// tensor is not updated and counts as 0 in the features. A tensor without elements may have NULL. Parameters overlap
/// neither each other nor a gradient. No pointer is kept; addresses may differ from call to call.
/// On CUDA they are pointers to memory of the handle's device, managed memory included, and the step is enqueued on the
/// handle's stream. A pointer is looked up when it is new to its tensor and not again: if that memory was freed and the
/// host has other memory there now, a kernel fails, or worse. A step captured into a CUDA graph keeps its pointers.
/// `options`: may be NULL. `report`: out, may be NULL; untouched on failure.
/// `MAW_OK`, also for a step that was skipped because something is not finite (the report says what);
/// `MAW_NOT_FINITE` instead under `MAW_NONFINITE_ERROR`; `MAW_INVALID_ARGUMENT` names the pointer;
/// `MAW_INVALID_STATE` while a meta-update is open and after 2^53 - 1 steps; `MAW_PARAMS_CHANGED` under `verify_params`. On
/// failure nothing is changed, but gradients that were announced are forgotten.
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
    // SAFETY: the caller's promise.
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
            step(optimizer).inspect_err(|_| optimizer.discard_announced())
        })
    }
}

/// The report of a step after it was enqueued: on CUDA a step runs later, and `maw_step` waits for it only if it is
/// given a report. Counts tell which step it is of: `step` + `skipped_steps` steps were made.
///
/// `flags`: 0 = of the newest step that is decided by now, without waiting; `MAW_FETCH_WAIT` = of the last that was
/// enqueued, or replayed in a CUDA graph, on the handle's stream; no other stream is waited for. On the CPU both are the
/// last step's. `report`: out; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before any step is decided, and with `MAW_FETCH_WAIT` while the
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
    // SAFETY: the caller's promise.
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

/// Announces a gradient as soon as the backward pass has it, while it is still in the cache: the next step then need
/// not read it ahead of the update. Optional, and the same bits either way.
///
/// `tensor`: its number in registration order. `gradient`: as in `maw_step`, not NULL, final: it must be unchanged when
/// it is passed to the step. Not kept. A second call for a tensor replaces the first; a step, failed or not, and any call
/// but this one and getters discards what was announced.
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
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_observe_gradient", optimizer, error, |optimizer| {
            optimizer.observe_gradient(tensor, &Gradient::from_raw(gradient))
        })
    }
}

fn group_index(group: u32) -> Option<usize> {
    (group != MAW_ALL_GROUPS).then_some(group as usize)
}

/// Sets the learning rate of one param group, or of every one for `MAW_ALL_GROUPS`. Takes effect at the next step.
///
/// `lr`: finite, ≥ 0.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` while a meta-update is open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_lr(
    optimizer: *mut maw_optimizer,
    group: u32,
    lr: f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe { call("maw_set_lr", optimizer, error, |optimizer| optimizer.set_lr(group_index(group), lr)) }
}

/// Sets the weight decay of one param group, or of every one for `MAW_ALL_GROUPS`. As `maw_set_lr`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_weight_decay(
    optimizer: *mut maw_optimizer,
    group: u32,
    weight_decay: f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_set_weight_decay", optimizer, error, |optimizer| {
            optimizer.set_weight_decay(group_index(group), weight_decay)
        })
    }
}

/// Sets HUW's priorities of gradient alignment, loss decrease and generalization gap. Takes effect at the next meta-update.
///
/// `priorities`: three numbers, each finite and ≥ 0; copied.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_priorities(
    optimizer: *mut maw_optimizer,
    priorities: *const f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_set_priorities", optimizer, error, |optimizer| {
            let values = slice(priorities, 3, "priorities")?;
            optimizer.set_priorities([values[0], values[1], values[2]])
        })
    }
}

/// Starts anew.
///
/// `what`: `MAW_RESET_MOMENTS` (moments and all step counts), `MAW_RESET_ATTENTION` (the attention module as the seed
/// made it), or both.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` for 0 or other bits; `MAW_INVALID_STATE` before preparation or while a meta-update is
/// open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_reset(optimizer: *mut maw_optimizer, what: u32, error: *mut *mut maw_error) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_reset", optimizer, error, |optimizer| {
            if what == 0 || what & !(MAW_RESET_MOMENTS | MAW_RESET_ATTENTION) != 0 {
                return Err(Error::range("what", what, "MAW_RESET_MOMENTS, MAW_RESET_ATTENTION or both"));
            }
            optimizer.reset(what & MAW_RESET_MOMENTS != 0, what & MAW_RESET_ATTENTION != 0)
        })
    }
}

/// The CUDA stream (`CUstream`, `cudaStream_t`) on which every later call of this handle enqueues its work, setters
/// included; NULL (the start) is the legacy default stream. On the CPU it must stay NULL.
///
/// The stream is the host's: it must live as long as it is set. What this handle enqueued on the stream that it leaves is
/// waited for. Setters, getters and `MAW_FETCH_WAIT` come after what is on this stream and know of no other: a graph with
/// a step of this handle is replayed here, or the host orders the streams by events of its own.
/// `MAW_OK`; `MAW_UNSUPPORTED` for a stream on the CPU; `MAW_INVALID_STATE` with work in a capture of the stream that is
/// left; `MAW_CUDA_ERROR` for what is no stream.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_stream(
    optimizer: *mut maw_optimizer,
    stream: *mut c_void,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe { call("maw_set_stream", optimizer, error, |optimizer| optimizer.set_stream(stream)) }
}

/// Hears this handle's messages from now on: skipped steps, abandoned meta-updates, options that are probably not meant.
///
/// `callback`: NULL silences. It runs on the thread of the call that caused the message, must not unwind, and gets
/// `MAW_BUSY` from calls on the same handle. `user_data`: passed on, not touched; it must stay valid, and usable from
/// whichever thread calls, until another callback is set or the handle is freed.
/// `MAW_OK`; `MAW_INVALID_STATE` while a meta-update is open.
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
    let log = callback.map(|callback| -> Log {
        Box::new(move |level, message| {
            let user_data = &user_data;
            let level = match level {
                LogLevel::Info => MAW_LOG_INFO,
                LogLevel::Warning => MAW_LOG_WARNING,
            };
            let text = [message.as_bytes(), b"\0"].concat();
            let text = CStr::from_bytes_until_nul(&text).expect("a NUL was added");
            // SAFETY: the caller's promise about callback and user_data.
            unsafe { callback(level, text.as_ptr(), user_data.0) };
        })
    });
    // SAFETY: the caller's promise.
    unsafe { call("maw_set_log", optimizer, error, |optimizer| optimizer.set_log(log)) }
}
