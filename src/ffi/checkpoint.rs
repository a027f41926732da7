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
    match flags & (MAW_LOAD_FILE_WINS | MAW_LOAD_OWN_WINS | MAW_LOAD_STRICT) {
        0 => Ok(OnConflict::Settable),
        MAW_LOAD_STRICT => Ok(OnConflict::Strict),
        MAW_LOAD_FILE_WINS => Ok(OnConflict::File),
        MAW_LOAD_OWN_WINS => Ok(OnConflict::Own),
        _ => {
            let expected = "at most one of MAW_LOAD_FILE_WINS, MAW_LOAD_OWN_WINS and MAW_LOAD_STRICT";
            Err(Error::range("flags", flags, expected))
        }
    }
}

const LOAD_FLAGS: u32 = MAW_ATTENTION_ONLY | MAW_LOAD_FILE_WINS | MAW_LOAD_OWN_WINS | MAW_LOAD_STRICT;

/// Saves the run to a safetensors file: moments, step counts, the attention module, options, hyper-parameters as they are
/// now, counters. The parameters are the host's to save. Prepares an optimizer that is not.
///
/// `path`: NUL-terminated; its folder must exist. `flags`: 0, or `MAW_ATTENTION_ONLY` for the attention module alone.
/// Durable: written beside the old file, synced, renamed over it, and the folder synced. Whatever fails, the file is the
/// old one or the new one. A symbolic link is followed, also to a file that is not there yet; permissions, and where that is
/// allowed the owner, are kept. A folder that cannot be read or synced is no failure. A process that is killed may leave
/// `.metaadamw-…` beside the file; the next save to that path removes it. The format: docs/checkpoint_format.md.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO` says which operation failed; `MAW_INVALID_STATE` while a meta-update is open.
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

/// As `maw_save_file`, into memory.
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

/// Loads a run that any language saved into an optimizer with the same tensors, registered in any order; a run that is
/// trained on equals the uninterrupted one bit for bit if the order is the same. Prepares an optimizer that is not.
///
/// `path`: NUL-terminated. Names, shapes, dtypes, param groups, modulation groups and the options that give the state its
/// meaning must be equal. `flags`: 0 = of what has a setter (learning rate, weight decay, priorities: a schedule has moved
/// them) the file's values hold afterwards, and the log tells which differed; all other options must be equal.
/// `MAW_LOAD_FILE_WINS` or `MAW_LOAD_OWN_WINS` allow every option that only steers the future to differ (betas and eps,
/// ranges, intervals, the meta-objective's weights, clipping …) and say whose hold afterwards. `MAW_LOAD_STRICT`: nothing may
/// differ. At most one of the three. `MAW_ATTENTION_ONLY`: nothing but the attention module is loaded, from either kind of
/// file, and what it reads must be equal (feature columns, heads, the shapes of its tensors; with embeddings the groups).
/// `threads` and `verify_params` are not saved. The file must not be written to meanwhile.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO`; `MAW_CORRUPT` for a damaged file (a checksum covers all of it) or another
/// kind of file; `MAW_UNSUPPORTED` for another format version; `MAW_MISMATCH` lists the first differences and what helps;
/// `MAW_INVALID_STATE` while a meta-update is open, and under `MAW_LOAD_FILE_WINS` after a step was captured into a CUDA
/// graph whose replays could not follow the file's options: under a file with clipping or checks where it was captured
/// without any, or with `MAW_NONFINITE_ERROR`. Everything is checked before anything is changed; only if the disk
/// fails between the check and the second reading is the optimizer reset.
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
/// `data`: `size` bytes; not kept.
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
