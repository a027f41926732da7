//! Saving and loading.

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::bytes::{give, maw_bytes};
use super::error::maw_error;
use super::handle::{call, maw_optimizer};
use super::pointers::{check, path_bytes, slice};
use super::types::*;
use crate::checkpoint::{Contents, OnConflict};
use crate::error::{Error, Result};

fn contents(flags: u32, known: u32) -> Result<Contents> {
    if flags & !known != 0 {
        return Err(Error::range("flags", flags, format!("a combination of the bits {known:#x}")));
    }
    Ok(if flags & MAW_ATTENTION_ONLY != 0 { Contents::Attention } else { Contents::Run })
}

fn on_conflict(flags: u32) -> Result<OnConflict> {
    match (flags & MAW_LOAD_FILE_WINS != 0, flags & MAW_LOAD_OWN_WINS != 0) {
        (false, false) => Ok(OnConflict::Fail),
        (true, false) => Ok(OnConflict::File),
        (false, true) => Ok(OnConflict::Own),
        (true, true) => Err(Error::range("flags", flags, "MAW_LOAD_FILE_WINS or MAW_LOAD_OWN_WINS, not both")),
    }
}

const LOAD_FLAGS: u32 = MAW_ATTENTION_ONLY | MAW_LOAD_FILE_WINS | MAW_LOAD_OWN_WINS;

/// Saves the run to a safetensors file: moments, masters, step counts, attention module, options, current
/// hyper-parameters, counters. Parameters are not saved; that is up to the host. Prepares the optimizer if needed.
///
/// `path`: NUL-terminated; its folder must exist. `flags`: 0, or `MAW_ATTENTION_ONLY` to save only the attention module.
/// Atomic and durable: the data is written to a temporary file in the same folder, synced, and renamed over the old
/// file; then the folder is synced. On failure the old file is unchanged, or the new one is complete. A symbolic link is
/// followed; file permissions are preserved. Format: docs/checkpoint_format.md.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO` names the operation that failed; `MAW_INVALID_STATE` while a meta-update
/// is open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_save_file(
    optimizer: *mut maw_optimizer,
    path: *const c_char,
    flags: u32,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_save_file", optimizer, error, |optimizer| {
            let path = Path::new(OsStr::from_bytes(path_bytes(path)?));
            optimizer.save_file(path, contents(flags, MAW_ATTENTION_ONLY)?)
        })
    }
}

/// As `maw_save_file`, to memory.
///
/// `bytes`: out, freed with `maw_bytes_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_save_bytes(
    optimizer: *mut maw_optimizer,
    flags: u32,
    bytes: *mut *mut maw_bytes,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_save_bytes", optimizer, error, |optimizer| {
            check(bytes, "bytes")?;
            let saved = optimizer.save_bytes(contents(flags, MAW_ATTENTION_ONLY)?)?;
            give(saved, bytes);
            Ok(())
        })
    }
}

/// Loads a saved run, whichever language saved it, into an optimizer with the same tensors, registered in any order. If
/// the order is the same, training continues with the same bits as without the interruption. Prepares the optimizer if
/// needed.
///
/// `path`: NUL-terminated. `flags`: 0 or a combination of the flags below. With 0 names, shapes, dtypes, param groups,
/// modulation groups and options must be equal.
/// - `MAW_LOAD_FILE_WINS` or `MAW_LOAD_OWN_WINS`, not both: options that affect only later steps may differ
///   (hyper-parameters of param groups, ranges, intervals, weights and priorities of the meta-objective, clipping …).
///   The file's, or the optimizer's own, are used afterwards.
/// - `MAW_ATTENTION_ONLY`: only the attention module is loaded, from either kind of file. What it reads must be equal:
///   feature columns, heads, the shapes of its tensors; with embeddings the groups.
///
/// `device`, `device_index`, `threads` and `verify_params` are not saved. The file must not change during the call. The
/// whole file is checked before anything is changed; only if reading it the second time fails is the optimizer reset.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO`; `MAW_CORRUPT` for a damaged file (a checksum covers all of it) or another
/// kind of file; `MAW_UNSUPPORTED` for another format version; `MAW_MISMATCH` lists the first differences;
/// `MAW_INVALID_STATE` while a meta-update is open, and under `MAW_LOAD_FILE_WINS` if a step was captured into a CUDA
/// graph whose replays could not follow the file's options: clipping or checks where the capture had none, or
/// `MAW_NONFINITE_ERROR`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_load_file(
    optimizer: *mut maw_optimizer,
    path: *const c_char,
    flags: u32,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_load_file", optimizer, error, |optimizer| {
            let path = Path::new(OsStr::from_bytes(path_bytes(path)?));
            optimizer.load_file(path, contents(flags, LOAD_FLAGS)?, on_conflict(flags)?)
        })
    }
}

/// As `maw_load_file`, from memory.
///
/// `data`: `size` bytes, used during the call only.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_load_bytes(
    optimizer: *mut maw_optimizer,
    data: *const u8,
    size: usize,
    flags: u32,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_load_bytes", optimizer, error, |optimizer| {
            check(data, "data")?;
            optimizer.load_bytes(slice(data, size, "data")?, contents(flags, LOAD_FLAGS)?, on_conflict(flags)?)
        })
    }
}
