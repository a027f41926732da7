//! The averages of the parameters.

use std::ffi::c_void;

use super::error::maw_error;
use super::handle::{call, call_synced, maw_optimizer};
use super::pointers::slice;
use super::tensor_state::{bytes_of, check_elements};
use super::types::maw_status;
use crate::model::host_buffers::Params;
use crate::reserve;

/// Copies the average of one tensor's parameter, or of its masters. For `maw_options.horizon` ≥ 2.
///
/// `tensor`: its index in registration order. `values`: out, `count` floats, or doubles for a float64 tensor, whatever the
/// average's own dtype. `count`: the tensor's number of elements.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` without averages, before the first step after the
/// tensor came (its average begins as the parameter), and while a meta-update is open; `MAW_CUDA_ERROR`. On failure nothing
/// is written.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_average_get(
    optimizer: *mut maw_optimizer,
    tensor: usize,
    values: *mut c_void,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call_synced("maw_average_get", optimizer, error, |optimizer| {
            optimizer.begin_average()?;
            let (bytes, size) = bytes_of(optimizer, tensor, count)?;
            check_elements(values, bytes, size, "values")?;
            if !optimizer.is_on_device() {
                let out = if count == 0 { &mut [] } else { std::slice::from_raw_parts_mut(values.cast::<u8>(), bytes) };
                return optimizer.read_average(tensor, out);
            }
            // Reading from a device can fail in the middle.
            let mut copy: Vec<u8> = reserve::defaults(bytes)?;
            optimizer.read_average(tensor, &mut copy)?;
            values.cast::<u8>().copy_from_nonoverlapping(copy.as_ptr(), bytes);
            Ok(())
        })
    }
}

/// Writes the averages into the host's parameters, rounded to nearest, for an evaluation; the next call writes the
/// parameters back, bit for bit. For `maw_options.horizon` ≥ 2. Prepares the optimizer if needed.
///
/// `params`: as in `maw_step`; read by the first call, overwritten by the second, whatever is in them then. The averages
/// themselves do not change. A tensor that has made no step yet keeps its parameter.
/// Between the two calls only getters, `maw_average_get` and freeing work; other calls return `MAW_INVALID_STATE`. Freeing
/// leaves the averages in the host's parameters. Memory: a copy of the parameters, which the library uses again as that of a
/// meta-update (`maw_meta_begin`).
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the pointer; `MAW_INVALID_STATE` without averages and while a meta-update is open;
/// `MAW_OUT_OF_MEMORY`. On failure nothing is changed.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_average_swap(
    optimizer: *mut maw_optimizer,
    params: *const *mut c_void,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_average_swap", optimizer, error, |optimizer| {
            optimizer.swap_averages(&Params::from_raw(slice(params, count, "params")?))
        })
    }
}
