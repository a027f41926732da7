//! One model over several processes: the host's reduction.

use std::ffi::c_void;
use std::sync::Arc;

use super::error::maw_error;
use super::handle::{as_host, call, maw_optimizer};
use super::types::{maw_reduction_callback, maw_status};
use crate::backend::{Callback, Summands};

/// Makes this process one of several that share a model, each with a part of every tensor (`maw_tensor.sharded`): ZeRO-1,
/// FSDP. Before preparation; chapter "Several processes".
///
/// `callback`: see `maw_reduction_callback`; NULL: this process is alone (the default). `user_data`: passed to the callback;
/// both must stay valid until the handle is freed or another callback is set.
/// Every process registers the same tensors in the same order, all with `sharded` = 1, under the same options (`threads` may
/// differ), calls `maw_prepare`, which finds out whether the parts make up the whole, and then makes the same steps and
/// meta-updates with the same losses, learning rates and scales; gradients are those of the parts. The parameters, factors and
/// attention module then have the bits of a single process that has all. A process that has none of a tensor's
/// elements passes NULL for its gradient, or any pointer; it follows those that have some. (Of a tensor that has none at all,
/// all pass the same.)
/// The callback is called twice by `maw_prepare`; once a step, twice if `MAW_OBJECTIVE_HORIZON` or `MAW_REFERENCE` needs it,
/// and on CUDA in the first step after a file with `MAW_PRECISION_REMAINDER` was loaded;
/// once by `maw_meta_begin`; a few times by `maw_meta_tell`; four times by `maw_save_file`; once by `maw_load_file`. The buffer
/// has 8 doubles per 32,768 elements of the whole model (on CUDA per 4,096 if the model is small), 1 per tensor and 44. Where a
/// call fails on one process because of its arguments, it fails on all others with `MAW_REDUCTION`, so that none waits for it;
/// not so a call with an unusable or busy handle.
/// Setters are called on all processes, those of a tensor's state also where a process has nothing of it. A callback that
/// fails must fail on all: where some got their sums, they have made the step.
/// Not with shards: `verify_params`, `maw_save_bytes` of a run, tensors that come or go after preparation. Under
/// `MAW_NONFINITE_PROPAGATE` no pass is saved, and the report has the gradients' norm. On CUDA a step under
/// `MAW_OBJECTIVE_HORIZON` or `MAW_REFERENCE` waits for the device: it cannot be captured, and takes no `device_grad_scale` or
/// `found_inf`.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` after preparation.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_reduction(
    optimizer: *mut maw_optimizer,
    callback: maw_reduction_callback,
    user_data: *mut c_void,
    error: *mut *mut maw_error,
) -> maw_status {
    struct UserData(*mut c_void);
    // SAFETY: the caller promises that it may be used from the threads that call.
    unsafe impl Send for UserData {}
    // SAFETY: as above; one call at a time comes through the handle.
    unsafe impl Sync for UserData {}
    let user_data = UserData(user_data);
    let reduction = |callback: unsafe extern "C" fn(*mut f64, usize, *mut c_void) -> i32| -> Arc<Callback> {
        Arc::new(move |summands| {
            let user_data = &user_data;
            let (values, count) = match summands {
                Summands::Host(values) => (values.as_mut_ptr(), values.len()),
                Summands::Device { address, len } => (std::ptr::with_exposed_provenance_mut(address as usize), len),
            };
            // SAFETY: the caller's promise about callback and user_data.
            as_host(|| unsafe { callback(values, count, user_data.0) })
        })
    };
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { call("maw_set_reduction", optimizer, error, |optimizer| optimizer.set_reduction(callback.map(reduction))) }
}
