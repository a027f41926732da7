//! Saving and loading.

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::bytes::{give, maw_bytes};
use super::error::maw_error;
use super::handle::{call, maw_optimizer};
use super::pointers::{check, path_bytes, put, slice};
use super::types::*;
use crate::checkpoint::{Contents, LoadOptions, LoadReport, OnConflict};
use crate::error::{Error, Result};
use crate::model::name::Name;
use crate::optimizer::Optimizer;

fn contents(flags: u32, known: u32) -> Result<Contents> {
    if flags & !known != 0 {
        return Err(Error::range("flags", flags, format!("a combination of the bits {known:#x}")));
    }
    Ok(if flags & MAW_ATTENTION_ONLY != 0 { Contents::Attention } else { Contents::Run })
}

fn load_options(flags: u32) -> Result<LoadOptions> {
    Ok(LoadOptions { on_conflict: on_conflict(flags)?, partial: flags & MAW_LOAD_PARTIAL != 0 })
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

const LOAD_FLAGS: u32 =
    MAW_ATTENTION_ONLY | MAW_LOAD_FILE_WINS | MAW_LOAD_OWN_WINS | MAW_LOAD_STRICT | MAW_LOAD_PARTIAL;

/// Saves the run to a safetensors file: moments, masters, step counts, attention module, options, current
/// hyper-parameters, counters. Parameters are not saved; that is up to the host. Prepares the optimizer if needed.
///
/// `path`: NUL-terminated; its folder must exist. `flags`: 0, or `MAW_ATTENTION_ONLY` to save only the attention module.
/// Atomic and durable: the data is written to a temporary file in the same folder, synced, and renamed over the old
/// file; then the folder is synced. On failure the old file is unchanged, or the new one is complete. A symbolic link is
/// followed, also to a file that does not exist yet; permissions, and where that is allowed the owner, are preserved. A
/// folder that cannot be read or synced is no failure. A process that is killed may leave `.metaadamw-…` in the folder;
/// the next save to that path removes it. Format: docs/checkpoint_format.md.
/// With shards (`maw_set_reduction`) all processes call it for a file that all see under this path: each writes the part that
/// it has, and the file has the bytes that one process with the whole model would write. If one fails or is killed, the file
/// is the old one. With `MAW_ATTENTION_ONLY`, which is the same on all, one process saves alone.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO` names the operation that failed; `MAW_REDUCTION`; `MAW_INVALID_STATE` while a
/// meta-update is open.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_save_file", optimizer, error, |optimizer| {
            let save = |optimizer: &mut Optimizer| {
                let path = Path::new(OsStr::from_bytes(path_bytes(path)?));
                optimizer.save_file(path, contents(flags, MAW_ATTENTION_ONLY)?)
            };
            if flags == MAW_ATTENTION_ONLY { save(optimizer) } else { optimizer.together(save) }
        })
    }
}

/// As `maw_save_file`, to memory.
///
/// `bytes`: out, freed with `maw_bytes_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` for the run of shards, of which no process has the whole;
/// `MAW_INVALID_STATE` while a meta-update is open; `MAW_OUT_OF_MEMORY`.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
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
/// `path`: NUL-terminated. `flags`: 0 or a combination of the flags below. Names, shapes, dtypes, param groups,
/// modulation groups and options must be equal. With 0, options that have a setter (those of param groups,
/// clipping, priorities: a schedule may have changed them) are taken from the file, and the log lists those that differed.
/// - `MAW_LOAD_FILE_WINS` or `MAW_LOAD_OWN_WINS`: options that affect only later steps may differ (hyper-parameters of
///   param groups, clipping, ranges, intervals, weights and priorities of the meta-objective …). The file's, or the
///   optimizer's own, are used afterwards.
/// - `MAW_LOAD_STRICT`: all options must be equal. At most one of these three.
/// - `MAW_ATTENTION_ONLY`: only the attention module is loaded, from either kind of file. What it reads must be equal:
///   feature columns, heads, the shapes of its tensors; with embeddings the groups.
/// - `MAW_LOAD_PARTIAL`: for a model that has gained or lost tensors. Those of one name must have the same shape, dtype,
///   moments and precision. Tensors that the file does not have start at step 0, and the optimizer's counts are the file's.
///   Embeddings go by the names of modulation groups; those that the file does not have are drawn from the seed and the
///   name, as in `maw_add_tensors`. Where the file has another number of param groups, the optimizer's hyper-parameters of
///   param groups stay. If the modulation groups are not the same, factors are unknown until the next step.
///
/// Under `MAW_PRECISION_REMAINDER` the host's parameters must be those of the file's step: the next step or meta-update
/// compares them, and returns `MAW_PARAMS_CHANGED` if they are not. `device`, `device_index`, `threads` and `verify_params`
/// are not saved. With shards all processes load the same file together, whichever number of processes, or one with the whole
/// model, saved it; each reads all of it and takes its part. The file must not change during the call. The
/// whole file is checked before anything is changed; only if reading it the second time fails is the optimizer reset.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO`; `MAW_CORRUPT` for a damaged file (a checksum covers all of it) or another
/// kind of file; `MAW_UNSUPPORTED` for another format version; `MAW_MISMATCH` lists the first differences and the flag or call
/// that resolves them; `MAW_REDUCTION`; `MAW_INVALID_STATE` while a meta-update is open, and under `MAW_LOAD_FILE_WINS` if a step
/// was captured into a CUDA graph whose replays could not follow the file's options: clipping or checks where the
/// capture had none, or `MAW_NONFINITE_ERROR`.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_load_file", optimizer, error, |optimizer| {
            optimizer.together(|optimizer| {
                let path = Path::new(OsStr::from_bytes(path_bytes(path)?));
                optimizer.load_file(path, contents(flags, LOAD_FLAGS)?, load_options(flags)?)
            })
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_load_bytes", optimizer, error, |optimizer| {
            optimizer.together(|optimizer| {
                check(data, "data")?;
                optimizer.load_bytes(slice(data, size, "data")?, contents(flags, LOAD_FLAGS)?, load_options(flags)?)
            })
        })
    }
}

fn reported(report: &LoadReport, which: u32) -> Result<&[Name]> {
    Ok(match which {
        MAW_LOAD_MISSING_TENSORS => &report.missing_tensors,
        MAW_LOAD_UNEXPECTED_TENSORS => &report.unexpected_tensors,
        MAW_LOAD_MISSING_GROUPS => &report.missing_groups,
        MAW_LOAD_UNEXPECTED_GROUPS => &report.unexpected_groups,
        _ => return Err(Error::range("which", which, "MAW_LOAD_MISSING_TENSORS … MAW_LOAD_UNEXPECTED_GROUPS")),
    })
}

/// The number of names that only the file or only the optimizer had in the last load with `MAW_LOAD_PARTIAL`; 0 after
/// another load, and before one.
///
/// `which`: `MAW_LOAD_MISSING_TENSORS` …. `count`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_load_report_count(
    optimizer: *const maw_optimizer,
    which: u32,
    count: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_load_report_count", optimizer, error, |optimizer| {
            put(count, reported(optimizer.load_report(), which)?.len(), "count")
        })
    }
}

/// One of the names that `maw_load_report_count` counts.
///
/// `which`: as there. `index`: from 0, in the order of registration or of the file. `name`: out, borrowed: valid until the
/// next load, or the optimizer is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_load_report_name(
    optimizer: *const maw_optimizer,
    which: u32,
    index: usize,
    name: *mut *const c_char,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_load_report_name", optimizer, error, |optimizer| {
            let names = reported(optimizer.load_report(), which)?;
            let found = names.get(index).ok_or_else(|| Error::no_index("name of a load", index, names.len()))?;
            put(name, found.as_c_str().as_ptr(), "name")
        })
    }
}
