//! One tensor's state: moments, step count, masters.

use std::ffi::c_void;

use super::error::maw_error;
use super::handle::{call, call_synced, maw_optimizer};
use super::pointers::{check, slice};
use super::types::maw_status;
use crate::backend::Part;
use crate::error::{Error, Result};
use crate::optimizer::Optimizer;

/// The size in bytes of `count` elements of a tensor's state, and of one.
pub(super) fn bytes_of(optimizer: &Optimizer, tensor: usize, count: usize) -> Result<(usize, usize)> {
    let known = optimizer.tensor(tensor)?;
    Error::length("count", count, known.numel, "elements of that tensor")?;
    let size = known.spec.dtype.compute().size();
    Ok((count * size, size))
}

/// Neither NULL (unless empty) nor misaligned.
pub(super) fn check_elements(pointer: *const c_void, count: usize, size: usize, argument: &'static str) -> Result<()> {
    if pointer.is_null() && count > 0 {
        return Err(Error::Null { argument });
    }
    if !pointer.addr().is_multiple_of(size) {
        return Err(Error::range(argument, "a misaligned pointer", format!("a multiple of {size}")));
    }
    Ok(())
}

/// Copies the moments and the step count of one tensor, to continue its run with another Adam implementation.
///
/// `tensor`: its index in registration order. `exp_avg`, `exp_avg_sq`: out, `count` floats, or doubles for a float64
/// tensor, whatever the moments' own dtype; each may be NULL. `count`: the tensor's number of elements. `step`: out,
/// the tensor's number of updates so far; may be NULL.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or while a meta-update is
/// open; `MAW_CUDA_ERROR`. On failure nothing is written.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call_synced("maw_tensor_state_get", optimizer, error, |optimizer| {
            optimizer.begin_tensor_state()?;
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

/// Sets the moments and the step count of one tensor, to continue a run of another Adam implementation. The optimizer's
/// own step count becomes at least `step`. Prepares the optimizer if needed.
///
/// `tensor`: its index in registration order. `exp_avg`, `exp_avg_sq`: `count` floats, or doubles for a float64 tensor,
/// finite, `exp_avg_sq` ≥ 0; copied, and rounded to nearest if the moments are bfloat16. `count`: the tensor's number
/// of elements. `step`: the tensor's number of updates so far, at most 2^53 - 1.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT` names the value; `MAW_INVALID_STATE` while a meta-update is open.
/// On failure nothing is changed.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_tensor_state_set", optimizer, error, |optimizer| {
            let (bytes, size) = bytes_of(optimizer, tensor, count)?;
            check_elements(exp_avg, bytes, size, "exp_avg")?;
            check_elements(exp_avg_sq, bytes, size, "exp_avg_sq")?;
            let read = |pointer: *const c_void, argument| slice(pointer.cast::<u8>(), bytes, argument);
            let (m, v) = (read(exp_avg, "exp_avg")?, read(exp_avg_sq, "exp_avg_sq")?);
            optimizer.set_tensor_state(tensor, m, v, step)
        })
    }
}

/// Sets the float32 masters of one tensor, to start from float32 weights, and writes them, rounded, to the host's
/// 16-bit parameter. For `MAW_PRECISION_MASTER` and `MAW_PRECISION_REMAINDER`. Prepares the optimizer if needed.
///
/// `tensor`: its index in registration order. `values`: `count` finite floats, copied. `count`: the tensor's number of
/// elements. `param`: out, the host's parameter as in `maw_step`.
/// `MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT` names the value;
/// `MAW_INVALID_STATE` while a meta-update is open. On failure nothing is changed.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_master_set", optimizer, error, |optimizer| {
            optimizer.begin_tensor_state()?;
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

/// Copies the float32 masters of one tensor. For `MAW_PRECISION_MASTER` and `MAW_PRECISION_REMAINDER`.
///
/// `tensor`: its index in registration order. `param`: the host's parameter as in `maw_step`; read under
/// `MAW_PRECISION_REMAINDER`, where it is half of each master, else it may be NULL. `values`: out, `count` floats.
/// `count`: the tensor's number of elements.
/// `MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a
/// meta-update is open, and before the masters are initialized, by the first step (from the parameters) or by
/// `maw_master_set`; `MAW_CUDA_ERROR`. On failure nothing is written.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call_synced("maw_master_get", optimizer, error, |optimizer| {
            optimizer.begin_tensor_state()?;
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
