//! The state as JSON.

use super::bytes::{give, maw_bytes};
use super::error::maw_error;
use super::handle::{call, maw_optimizer};
use super::pointers::check;
use super::types::maw_status;

/// The state of the optimizer as JSON, for people, plots and logs: options, param groups, modulation groups with their
/// tensors, features and factors, meta-updates, uncertainty weights, skipped steps with their reasons, times. The schema
/// is docs/state.md. Allowed while a meta-update is open. Prepares the optimizer if needed.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_dump_state", optimizer, error, |optimizer| {
            check(json, "json")?;
            let state = optimizer.dump_state()?;
            give(state.into_bytes(), json);
            Ok(())
        })
    }
}
