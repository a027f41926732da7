//! The optimizer's own counts.

use super::error::maw_error;
use super::handle::{call, call_synced, maw_optimizer};
use super::structs::{Out, read};
use super::types::*;
use crate::optimizer::Counters;

/// The optimizer's own counts, of steps, meta-updates and skipped steps.
///
/// `counters`: out. Before preparation all are 0.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while the stream is being captured; `MAW_CUDA_ERROR`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_counters_get(
    optimizer: *const maw_optimizer,
    counters: *mut maw_counters,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call_synced("maw_counters_get", optimizer, error, |optimizer| {
            let out = Out::new(counters, "counters")?;
            let Counters { steps, skipped_steps, meta_updates, meta_done_at } = optimizer.counters();
            let [gradient, parameter, moment, feature, factor] = skipped_steps;
            out.write(&maw_counters {
                struct_size: size_of::<maw_counters>(),
                step: steps,
                meta_updates,
                meta_done_at: meta_done_at.unwrap_or(MAW_NO_STEP),
                skipped_gradient: gradient,
                skipped_parameter: parameter,
                skipped_moment: moment,
                skipped_feature: feature,
                skipped_factor: factor,
            });
            Ok(())
        })
    }
}

/// Sets the optimizer's own counts, after the state of its tensors was set (`maw_tensor_state_set`): a run that moves here
/// then goes on as it would have there. Prepares the optimizer if needed. What the last meta-update was is forgotten.
///
/// `counters`: every field is taken.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the count; `MAW_INVALID_STATE` while a meta-update is open, without tensors or
/// while the stream is being captured; `MAW_CUDA_ERROR`; `MAW_OUT_OF_MEMORY`. On failure nothing is changed.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_counters_set(
    optimizer: *mut maw_optimizer,
    counters: *const maw_counters,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_counters_set", optimizer, error, |optimizer| {
            let c = read(counters, "counters")?;
            optimizer.set_counters(Counters {
                steps: c.step,
                skipped_steps: [
                    c.skipped_gradient,
                    c.skipped_parameter,
                    c.skipped_moment,
                    c.skipped_feature,
                    c.skipped_factor,
                ],
                meta_updates: c.meta_updates,
                meta_done_at: (c.meta_done_at != MAW_NO_STEP).then_some(c.meta_done_at),
            })
        })
    }
}
