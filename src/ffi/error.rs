//! Errors as objects that the caller owns.

use std::ffi::{CStr, c_char};
use std::fmt::Write;

use super::types::*;
use crate::error::{Error, Remedy, StateError, Status};
use crate::reserve::fallible;

/// Why a call failed: a status, and a message that names the argument, what was expected and what was given.
///
/// A function that fails stores one through its last parameter, unless that is NULL; the caller owns it and frees it
/// with `maw_error_free`. It does not depend on any handle or thread.
pub struct maw_error {
    status: Status,
    message: Text,
}

enum Text {
    Owned(Vec<u8>),
    Static(&'static CStr),
}

/// The errors of a status that there is no memory to explain.
static WITHOUT_MEMORY: [maw_error; 14] = {
    const fn of(status: Status) -> maw_error {
        let text = match status {
            Status::OutOfMemory => c"out of memory",
            _ => c"(no memory for the message of this error)",
        };
        maw_error { status, message: Text::Static(text) }
    }
    [
        of(Status::InvalidArgument),
        of(Status::InvalidState),
        of(Status::Unsupported),
        of(Status::Busy),
        of(Status::NotFinite),
        of(Status::OutOfMemory),
        of(Status::Panic),
        of(Status::NotFound),
        of(Status::ParamsChanged),
        of(Status::Io),
        of(Status::Corrupt),
        of(Status::Mismatch),
        of(Status::Cuda),
        of(Status::Reduction),
    ]
};

/// That of a status.
fn without_memory(status: Status) -> &'static maw_error {
    WITHOUT_MEMORY.iter().find(|known| known.status == status).expect("all are there")
}

/// Stores the error, if the caller wants it, and returns the status.
///
/// # Safety
/// `slot` is NULL or valid for a write of a pointer.
pub(super) unsafe fn fail(call: &str, slot: *mut *mut maw_error, error: &Error) -> maw_status {
    let status = error.status();
    if !slot.is_null() {
        let object = match error {
            Error::OutOfMemory => None,
            error => fallible(|| object(call, error)),
        };
        let object = object.unwrap_or_else(|| std::ptr::from_ref(without_memory(status)).cast_mut());
        // SAFETY: `slot` is not NULL here, and valid for a write.
        unsafe { slot.write(object) };
    }
    status as maw_status
}

/// An object for the caller; `None` without memory.
fn object(call: &str, error: &Error) -> Option<*mut maw_error> {
    let mut length = Length(0);
    write_message(&mut length, call, error).ok()?;
    let mut text = Vec::new();
    text.try_reserve_exact(length.0 + 1).ok()?;
    let mut text = Bytes(text);
    write_message(&mut text, call, error).ok()?;
    let mut text = text.0;
    text.iter_mut().filter(|byte| **byte == 0).for_each(|nul| *nul = b' ');
    text.push(0);
    let mut object = Vec::new();
    object.try_reserve_exact(1).ok()?;
    object.push(maw_error { status: error.status(), message: Text::Owned(text) });
    Some(Box::into_raw(object.into_boxed_slice()).cast())
}

/// Takes text and counts its bytes.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Takes text for which there is room.
struct Bytes(Vec<u8>);

impl Write for Bytes {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The message for a user of C, with the header's names of functions and constants. Allocates nothing.
fn write_message(out: &mut dyn Write, call: &str, error: &Error) -> std::fmt::Result {
    match error {
        Error::State(state) => match (state, call) {
            (StateError::NoTensors, _) => {
                write!(out, "{call}: no tensors are registered; call maw_add_param_group first")
            }
            (StateError::NotPrepared, _) => write!(out, "{call}: call maw_prepare (or make a step) first"),
            (StateError::MetaUpdateOpen, _) => {
                write!(out, "{call}: a meta-update is open; answer its requests or call maw_meta_abort first")
            }
            (StateError::NoMetaUpdateOpen, "maw_meta_abort") => write!(out, "{call}: no meta-update is open"),
            (StateError::NoMetaUpdateOpen, _) => {
                write!(out, "{call}: no meta-update is open; call maw_meta_begin first")
            }
            _ => write!(out, "{call}: {state}"),
        },
        Error::Mismatch { what, remedy } => {
            let remedy = match remedy {
                Remedy::Choose => {
                    "MAW_LOAD_FILE_WINS takes the file's values, MAW_LOAD_OWN_WINS keeps those of this optimizer"
                }
                Remedy::Register => "register the tensors, groups and options of the file in a new optimizer",
                Remedy::Partial => {
                    "register the tensors and groups of the file in a new optimizer, or load what both have with \
                     MAW_LOAD_PARTIAL"
                }
                Remedy::AttentionAlone => "load it with MAW_ATTENTION_ONLY",
            };
            write!(out, "the checkpoint does not fit: {what}; {remedy}")
        }
        Error::AnnouncedGradientMissing { .. } => write!(out, "{error} by maw_observe_gradient"),
        Error::ParamsChanged { name } => {
            write!(
                out,
                "tensor '{name}' changed since the last step without MAW_STEP_PARAMS_CHANGED (verify_params is on)"
            )
        }
        Error::OtherHalves { name } => {
            write!(
                out,
                "tensor '{name}' is not the parameter that the loaded checkpoint has the remainder of: load the model's weights \
                 of that checkpoint, or make a step with MAW_STEP_PARAMS_CHANGED, which makes the masters from the new values"
            )
        }
        Error::CapturingBeside => write!(out, "{error} (an optimizer's until maw_set_stream)"),
        Error::CapturedOtherwise => write!(out, "{error} (when loading: MAW_LOAD_OWN_WINS)"),
        Error::CapturedTensors => write!(out, "{error} (MAW_LOAD_PARTIAL)"),
        _ => write!(out, "{error}"),
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
        Text::Owned(text) => text.as_ptr().cast(),
        Text::Static(text) => text.as_ptr(),
    })
}

/// Frees an error; does nothing for NULL. Any thread.
///
/// # Safety
/// `error` is NULL or a live error object, which is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_error_free(error: *mut maw_error) {
    if !error.is_null() && !WITHOUT_MEMORY.as_ptr_range().contains(&error.cast_const()) {
        // SAFETY: every other error came from `Box::into_raw` in `object`, and the caller frees it once.
        drop(unsafe { Box::from_raw(error) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::maw_status_name;

    #[test]
    fn every_status_of_a_failure_has_an_error_without_a_message() {
        // SAFETY: names of statuses are static.
        let name = |status| unsafe { CStr::from_ptr(maw_status_name(status)) };
        let known: Vec<maw_status> = (-100..0).filter(|status| name(*status) != c"unknown status").collect();
        let mut without: Vec<maw_status> = WITHOUT_MEMORY.iter().map(|error| error.status as maw_status).collect();
        without.sort_unstable();
        assert_eq!(without, known);
    }
}
