//! Errors as objects that the caller owns.

use std::ffi::{CStr, CString, c_char};

use super::types::*;
use crate::error::{Error, Remedy, StateError, Status};

/// Why a call failed: a status, and a message that names the argument, what was expected and what was given.
///
/// A function that fails stores one through its last parameter, unless that is NULL; the caller owns it and frees it
/// with `maw_error_free`. It does not depend on any handle or thread.
pub struct maw_error {
    status: Status,
    message: Text,
}

enum Text {
    Owned(CString),
    Static(&'static CStr),
}

static OUT_OF_MEMORY: maw_error = maw_error { status: Status::OutOfMemory, message: Text::Static(c"out of memory") };

/// Stores the error, if the caller wants it, and returns the status.
///
/// # Safety
/// `slot` is NULL or valid for a write of a pointer.
pub(super) unsafe fn fail(call: &str, slot: *mut *mut maw_error, error: &Error) -> maw_status {
    let status = error.status();
    if !slot.is_null() {
        let object = match error {
            Error::OutOfMemory => std::ptr::from_ref(&OUT_OF_MEMORY).cast_mut(),
            error => {
                let text = message(call, error).replace('\0', " ");
                let message = CString::new(text).expect("NULs were replaced");
                Box::into_raw(Box::new(maw_error { status, message: Text::Owned(message) }))
            }
        };
        // SAFETY: `slot` is not NULL here, and valid for a write.
        unsafe { slot.write(object) };
    }
    status as maw_status
}

/// The message for a user of C, with the header's names of functions and constants.
fn message(call: &str, error: &Error) -> String {
    match error {
        Error::State(state) => match (state, call) {
            (StateError::RegistrationEnded, _) => {
                format!(
                    "{call}: registration ended with maw_prepare or the first step; register all tensors before, or move the run \
                     to a new optimizer with maw_tensor_state_get and maw_tensor_state_set"
                )
            }
            (StateError::NoTensors, _) => format!("{call}: no tensors are registered; call maw_add_param_group first"),
            (StateError::NotPrepared, _) => format!("{call}: call maw_prepare (or make a step) first"),
            (StateError::MetaUpdateOpen, _) => {
                format!("{call}: a meta-update is open; answer its requests or call maw_meta_abort first")
            }
            (StateError::NoMetaUpdateOpen, "maw_meta_abort") => format!("{call}: no meta-update is open"),
            (StateError::NoMetaUpdateOpen, _) => format!("{call}: no meta-update is open; call maw_meta_begin first"),
            _ => format!("{call}: {state}"),
        },
        Error::Mismatch { what, remedy } => {
            let remedy = match remedy {
                Remedy::Choose => {
                    "MAW_LOAD_FILE_WINS takes the file's values, MAW_LOAD_OWN_WINS keeps those of this optimizer"
                }
                Remedy::Register => "register the tensors, groups and options of the file in a new optimizer",
                Remedy::AttentionAlone => "load it with MAW_ATTENTION_ONLY",
            };
            format!("the checkpoint does not fit: {what}; {remedy}")
        }
        Error::AnnouncedGradientMissing { .. } => format!("{error} by maw_observe_gradient"),
        Error::ParamsChanged { name } => {
            format!("tensor '{name}' changed since the last step without MAW_STEP_PARAMS_CHANGED (verify_params is on)")
        }
        Error::OtherHalves { name } => {
            format!(
                "tensor '{name}' is not the parameter that the loaded checkpoint has the remainder of: load the model's weights \
                 of that checkpoint, or make a step with MAW_STEP_PARAMS_CHANGED, which makes the masters from the new values"
            )
        }
        Error::CapturingBeside => format!("{error} (an optimizer's until maw_set_stream)"),
        Error::CapturedOtherwise => format!("{error} (MAW_LOAD_OWN_WINS)"),
        _ => error.to_string(),
    }
}

/// Sets the caller's error to NULL on entry.
///
/// # Safety
/// As for [`fail`].
pub(super) unsafe fn clear(slot: *mut *mut maw_error) {
    if !slot.is_null() {
        // SAFETY: `slot` is not NULL here, and valid for a write.
        unsafe { slot.write(std::ptr::null_mut()) };
    }
}

/// The status of an error; `MAW_OK` for NULL. Any thread.
///
/// # Safety
/// `error` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_error_code(error: *const maw_error) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { error.as_ref() }.map_or(MAW_OK, |e| e.status as maw_status)
}

/// The message of an error: one line of UTF-8, "" for NULL. Borrowed: valid until the error is freed. Any thread.
///
/// # Safety
/// `error` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_error_message(error: *const maw_error) -> *const c_char {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |e| match &e.message {
        Text::Owned(text) => text.as_ptr(),
        Text::Static(text) => text.as_ptr(),
    })
}

/// Frees an error; does nothing for NULL. Any thread.
///
/// # Safety
/// `error` is NULL or a live error object, which is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_error_free(error: *mut maw_error) {
    if !error.is_null() && !std::ptr::eq(error, &raw const OUT_OF_MEMORY) {
        // SAFETY: every other error came from `Box::into_raw` in `fail`, and the caller frees it once.
        drop(unsafe { Box::from_raw(error) });
    }
}
