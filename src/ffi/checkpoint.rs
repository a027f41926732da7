//! Saving and loading, the dump, one tensor's state and masters.

use std::ffi::{OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::maw_error;
use super::handle::{call, look, maw_optimizer};
use super::pointers::{check, path_bytes, slice};
use super::types::*;
use crate::backend::Part;
use crate::checkpoint::{Contents, Winner};
use crate::error::{Error, Result};
use crate::optimizer::{Optimizer, not_found};

/// Bytes that the library made and the caller owns; freed with `maw_bytes_free`.
pub struct maw_bytes(Vec<u8>);

/// The first byte; NULL for NULL. Borrowed: valid until the object is freed. JSON has a NUL behind its last byte.
///
/// # Safety
/// `bytes` is NULL or a live object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_bytes_data(bytes: *const maw_bytes) -> *const u8 {
    // SAFETY: the caller's promise.
    unsafe { bytes.as_ref() }.map_or(std::ptr::null(), |b| b.0.as_ptr())
}

/// The number of bytes, without the NUL behind JSON; 0 for NULL.
///
/// # Safety
/// `bytes` is NULL or a live object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_bytes_size(bytes: *const maw_bytes) -> usize {
    // SAFETY: the caller's promise; `give` put a NUL behind the bytes.
    unsafe { bytes.as_ref() }.map_or(0, |b| b.0.len() - 1)
}

/// Frees bytes; does nothing for NULL. Any thread, once.
///
/// # Safety
/// `bytes` is NULL or a live object, which is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_bytes_free(bytes: *mut maw_bytes) {
    if !bytes.is_null() {
        // SAFETY: it came from `give`, and the caller frees it once.
        drop(unsafe { Box::from_raw(bytes) });
    }
}

/// Hands bytes to the caller, with a NUL behind them.
///
/// # Safety
/// `out` is valid for a write.
unsafe fn give(mut bytes: Vec<u8>, out: *mut *mut maw_bytes) {
    bytes.push(0);
    // SAFETY: the caller's promise.
    unsafe { out.write(Box::into_raw(Box::new(maw_bytes(bytes)))) };
}

fn contents(flags: u32, known: u32) -> Result<Contents> {
    if flags & !known != 0 {
        return Err(Error::range("flags", flags, format!("a combination of the bits {known:#x}")));
    }
    Ok(if flags & MAW_ATTENTION_ONLY != 0 { Contents::Attention } else { Contents::Run })
}

fn winner(flags: u32) -> Result<Winner> {
    match (flags & MAW_LOAD_FILE_WINS != 0, flags & MAW_LOAD_OWN_WINS != 0) {
        (false, false) => Ok(Winner::Nobody),
        (true, false) => Ok(Winner::File),
        (false, true) => Ok(Winner::Own),
        (true, true) => Err(Error::range("flags", flags, "MAW_LOAD_FILE_WINS or MAW_LOAD_OWN_WINS, not both")),
    }
}

const LOAD_FLAGS: u32 = MAW_ATTENTION_ONLY | MAW_LOAD_FILE_WINS | MAW_LOAD_OWN_WINS;

/// Saves the run to a safetensors file: moments, step counts, the attention module, options, hyper-parameters as they are
/// now, counters. The parameters are the host's to save. Prepares an optimizer that is not.
///
/// `path`: NUL-terminated; its folder must exist. `flags`: 0, or `MAW_ATTENTION_ONLY` for the attention module alone.
/// Durable: written beside the old file, synced, renamed over it, and the folder synced. Whatever fails, the file is the
/// old one or the new one. A symbolic link is followed; permissions are kept. The format: docs/checkpoint_format.md.
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
        call(optimizer, error, |optimizer| {
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
        call(optimizer, error, |optimizer| {
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
/// `path`: NUL-terminated. `flags`: 0 = names, shapes, dtypes, param groups, modulation groups and options must be equal;
/// `MAW_LOAD_FILE_WINS` or `MAW_LOAD_OWN_WINS` allow options that only steer the future to differ (hyper-parameters of
/// param groups, ranges, intervals, the meta-objective's weights and priorities, clipping …) and say whose hold
/// afterwards; `MAW_ATTENTION_ONLY`: nothing but the attention module is loaded, from either kind of file, and what it
/// reads must be equal (feature columns, heads, the shapes of its tensors; with embeddings the groups).
/// `threads` and `verify_params` are not saved. The file must not be written to meanwhile.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO`; `MAW_CORRUPT` for a damaged file (a checksum covers all of it) or another
/// kind of file; `MAW_UNSUPPORTED` for another format version; `MAW_MISMATCH` lists the first differences;
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
        call(optimizer, error, |optimizer| {
            let path = Path::new(OsStr::from_bytes(path_bytes(path)?));
            optimizer.load_file(path, contents(flags, LOAD_FLAGS)?, winner(flags)?)
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
        call(optimizer, error, |optimizer| {
            check(data, "data")?;
            optimizer.load_bytes(slice(data, size, "data")?, contents(flags, LOAD_FLAGS)?, winner(flags)?)
        })
    }
}

/// What the optimizer is doing, as JSON (docs/state.md is its schema): options, param groups, modulation groups with their
/// tensors, features and factors, meta-updates, uncertainty weights, skipped steps and why, time by part. Works while a
/// meta-update is open. Prepares an optimizer that is not.
///
/// `json`: out, UTF-8, freed with `maw_bytes_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` without tensors.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_dump_state(
    optimizer: *mut maw_optimizer,
    json: *mut *mut maw_bytes,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call(optimizer, error, |optimizer| {
            check(json, "json")?;
            let state = optimizer.dump_state()?;
            give(state.into_bytes(), json);
            Ok(())
        })
    }
}

/// The size in bytes of `count` elements of a tensor's state, and of one.
fn bytes_of(optimizer: &Optimizer, tensor: usize, count: usize) -> Result<(usize, usize)> {
    let tensors = optimizer.tensors();
    let known = tensors.get(tensor).ok_or_else(|| not_found("tensor", tensor, tensors.len()))?;
    crate::optimizer::check_length("count", count, known.numel, "elements of that tensor")?;
    let size = known.spec.dtype.compute().size();
    Ok((count * size, size))
}

/// Neither NULL (unless empty) nor misaligned.
fn check_elements(pointer: *const c_void, count: usize, size: usize, argument: &'static str) -> Result<()> {
    if pointer.is_null() && count > 0 {
        return Err(Error::Null { argument });
    }
    if !pointer.addr().is_multiple_of(size) {
        return Err(Error::range(argument, "a misaligned pointer", format!("a multiple of {size}")));
    }
    Ok(())
}

/// Copies the moments and the step count of one tensor, so that a run can move to another Adam.
///
/// `tensor`: its number in registration order. `exp_avg`, `exp_avg_sq`: out, `count` floats, or doubles for a float64 tensor,
/// whatever the moments' own dtype; may be NULL if not wanted. `step`: out, updates of this tensor so far; may be NULL.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or while a meta-update is open;
/// `MAW_CUDA_ERROR`. On failure nothing is written.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_tensor_state_get(
    optimizer: *mut maw_optimizer,
    tensor: usize,
    exp_avg: *mut c_void,
    exp_avg_sq: *mut c_void,
    count: usize,
    step: *mut u64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        look(optimizer, error, |optimizer| {
            optimizer.changeable("maw_tensor_state_get")?;
            let steps = optimizer.tensor_step(tensor)?;
            let (bytes, size) = bytes_of(optimizer, tensor, count)?;
            let outputs = [(exp_avg, Part::ExpAvg, "exp_avg"), (exp_avg_sq, Part::ExpAvgSq, "exp_avg_sq")];
            let wanted = || outputs.iter().filter(|(pointer, ..)| !pointer.is_null());
            for (pointer, _, argument) in wanted() {
                check_elements(*pointer, bytes, size, argument)?;
            }
            if !step.is_null() {
                check(step, "step")?;
            }
            // Reading from a device can fail between the two.
            let read = |(_, moment, _): &(_, Part, _)| {
                let mut copy = vec![0; bytes];
                optimizer.read_moment(*moment, tensor, &mut copy).map(|()| copy)
            };
            let copies: Vec<Vec<u8>> =
                if optimizer.is_on_device() { wanted().map(read).collect::<Result<_>>()? } else { Vec::new() };
            for (i, (pointer, moment, _)) in wanted().enumerate() {
                let out = std::slice::from_raw_parts_mut(pointer.cast::<u8>(), bytes);
                match copies.get(i) {
                    Some(copy) => out.copy_from_slice(copy),
                    None => optimizer.read_moment(*moment, tensor, out)?,
                }
            }
            if !step.is_null() {
                step.write(steps);
            }
            Ok(())
        })
    }
}

/// Sets the moments and the step count of one tensor, so that a run can move here from another Adam. The optimizer's own
/// step count becomes at least `step`. Prepares an optimizer that is not.
///
/// `tensor`: its number in registration order. `exp_avg`, `exp_avg_sq`: `count` floats, or doubles for a float64 tensor, finite,
/// the second ≥ 0; copied, and rounded to nearest where the moments are bfloat16. `step`: updates of this tensor so far, at most 2^53.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT` names the value; `MAW_INVALID_STATE` while a meta-update is open. On
/// failure nothing is changed.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_tensor_state_set(
    optimizer: *mut maw_optimizer,
    tensor: usize,
    exp_avg: *const c_void,
    exp_avg_sq: *const c_void,
    count: usize,
    step: u64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call(optimizer, error, |optimizer| {
            let (bytes, size) = bytes_of(optimizer, tensor, count)?;
            check_elements(exp_avg, bytes, size, "exp_avg")?;
            check_elements(exp_avg_sq, bytes, size, "exp_avg_sq")?;
            let read = |pointer: *const c_void, argument| slice(pointer.cast::<u8>(), bytes, argument);
            let (m, v) = (read(exp_avg, "exp_avg")?, read(exp_avg_sq, "exp_avg_sq")?);
            optimizer.set_tensor_state(tensor, m, v, step)
        })
    }
}

/// Sets the float32 masters of one tensor, so that a run can start from float32 weights, and writes the 16-bit parameter that
/// shows them. Under `MAW_PRECISION_MASTER` or `MAW_PRECISION_REMAINDER`. Prepares an optimizer that is not.
///
/// `tensor`: its number in registration order. `values`: `count` finite floats, copied; `count` must be the number of its
/// elements. `param`: out, the host's parameter as in `maw_step`.
/// `MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT` names the value; `MAW_INVALID_STATE`
/// while a meta-update is open. On failure nothing is changed.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_master_set(
    optimizer: *mut maw_optimizer,
    tensor: usize,
    values: *const f32,
    param: *mut c_void,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call(optimizer, error, |optimizer| {
            optimizer.changeable("maw_master_set")?;
            check_elements(param, count, size_of::<u16>(), "param")?;
            check_elements(values.cast(), count, size_of::<f32>(), "values")?;
            optimizer.check_masters(tensor, count)?;
            let values = slice(values, count, "values")?;
            if let Some(mut copy) = optimizer.copy_of(param, count)? {
                optimizer.set_masters(tensor, values, &mut copy)?;
                return optimizer.copy_back(param, &copy);
            }
            let shown = if count == 0 { &mut [] } else { std::slice::from_raw_parts_mut(param.cast::<u16>(), count) };
            optimizer.set_masters(tensor, values, shown)
        })
    }
}

/// Copies the float32 masters of one tensor, under `MAW_PRECISION_MASTER` or `MAW_PRECISION_REMAINDER`.
///
/// `tensor`: its number in registration order. `param`: the host's parameter as in `maw_step`, read under
/// `MAW_PRECISION_REMAINDER`, whose masters are half in it; else it may be NULL. `values`: out, `count` floats; `count` must be
/// the number of its elements.
/// `MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before they have
/// begun (with the first step, as the widened parameters, or with `maw_master_set`) or while a meta-update is open;
/// `MAW_CUDA_ERROR`. On failure nothing is written.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_master_get(
    optimizer: *mut maw_optimizer,
    tensor: usize,
    param: *const c_void,
    values: *mut f32,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        look(optimizer, error, |optimizer| {
            optimizer.changeable("maw_master_get")?;
            check_elements(values.cast(), count, size_of::<f32>(), "values")?;
            check_elements(param, 0, size_of::<u16>(), "param")?;
            optimizer.check_masters(tensor, count)?;
            let copy = if param.is_null() { None } else { optimizer.copy_of(param, count)? };
            let shown = match &copy {
                Some(copy) => Some(&copy[..]),
                None if param.is_null() => None,
                None => Some(slice(param.cast::<u16>(), count, "param")?),
            };
            let out = if count == 0 { &mut [] } else { std::slice::from_raw_parts_mut(values, count) };
            optimizer.masters(tensor, shown, out)
        })
    }
}
