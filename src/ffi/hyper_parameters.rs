//! Hyper-parameters that can be set at any time: setters, and getters of what they are now.

use super::error::maw_error;
use super::handle::{call, maw_optimizer};
use super::pointers::{check, copy_out, put, slice};
use super::types::*;

fn group_index(group: u32) -> Option<usize> {
    (group != MAW_ALL_GROUPS).then_some(group as usize)
}

/// Sets the learning rate of one param group, or of all with `MAW_ALL_GROUPS`, from the next step on.
///
/// `lr`: finite, ≥ 0.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` while a meta-update is open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_lr(
    optimizer: *mut maw_optimizer,
    group: u32,
    lr: f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { call("maw_set_lr", optimizer, error, |optimizer| optimizer.set_lr(group_index(group), lr)) }
}

/// Sets the weight decay of one param group, or of all with `MAW_ALL_GROUPS`. As `maw_set_lr`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_weight_decay(
    optimizer: *mut maw_optimizer,
    group: u32,
    weight_decay: f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_set_weight_decay", optimizer, error, |optimizer| {
            optimizer.set_weight_decay(group_index(group), weight_decay)
        })
    }
}

/// Sets the decay rates of both moments of one param group, or of all with `MAW_ALL_GROUPS`, from the next step on.
///
/// `beta1`, `beta2`: 0 ≤ value < 1. The bias correction is computed with the new values and the tensor's step count, as in
/// PyTorch. As `maw_set_lr`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_betas(
    optimizer: *mut maw_optimizer,
    group: u32,
    beta1: f64,
    beta2: f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_set_betas", optimizer, error, |optimizer| optimizer.set_betas(group_index(group), beta1, beta2))
    }
}

/// Sets what is added to the square root of the second moment, of one param group or of all with `MAW_ALL_GROUPS`.
///
/// `eps`: finite and at least the smallest normal number that the group's tensors are computed in. As `maw_set_lr`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_eps(
    optimizer: *mut maw_optimizer,
    group: u32,
    eps: f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { call("maw_set_eps", optimizer, error, |optimizer| optimizer.set_eps(group_index(group), eps)) }
}

/// Sets the norm to which all gradients together are clipped, from the next step or meta-update on; 0: no clipping.
///
/// `max_grad_norm`: finite, ≥ 0.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open and, on CUDA, if a step was captured
/// into a graph that has no pass for clipping; `MAW_CUDA_ERROR`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_max_grad_norm(
    optimizer: *mut maw_optimizer,
    max_grad_norm: f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { call("maw_set_max_grad_norm", optimizer, error, |optimizer| optimizer.set_max_grad_norm(max_grad_norm)) }
}

/// Sets HUW's three priorities, of gradient alignment, loss decrease and generalization gap, from the next meta-update on.
///
/// `priorities`: three numbers, each finite and ≥ 0; copied.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_set_priorities(
    optimizer: *mut maw_optimizer,
    priorities: *const f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_set_priorities", optimizer, error, |optimizer| {
            let values = slice(priorities, 3, "priorities")?;
            optimizer.set_priorities([values[0], values[1], values[2]])
        })
    }
}

/// The current learning rate of a param group.
///
/// `lr`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_get_lr(
    optimizer: *const maw_optimizer,
    group: u32,
    lr: *mut f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_get_lr", optimizer, error, |optimizer| put(lr, optimizer.param_group(group as usize)?.lr, "lr"))
    }
}

/// The current weight decay of a param group.
///
/// `weight_decay`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_get_weight_decay(
    optimizer: *const maw_optimizer,
    group: u32,
    weight_decay: *mut f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_get_weight_decay", optimizer, error, |optimizer| {
            put(weight_decay, optimizer.param_group(group as usize)?.weight_decay, "weight_decay")
        })
    }
}

/// The current decay rates of a param group's moments.
///
/// `beta1`, `beta2`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_get_betas(
    optimizer: *const maw_optimizer,
    group: u32,
    beta1: *mut f64,
    beta2: *mut f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_get_betas", optimizer, error, |optimizer| {
            let group = optimizer.param_group(group as usize)?;
            check(beta2, "beta2")?;
            put(beta1, group.beta1, "beta1")?;
            put(beta2, group.beta2, "beta2")
        })
    }
}

/// The current eps of a param group.
///
/// `eps`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_get_eps(
    optimizer: *const maw_optimizer,
    group: u32,
    eps: *mut f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_get_eps", optimizer, error, |optimizer| put(eps, optimizer.param_group(group as usize)?.eps, "eps"))
    }
}

/// The norm to which all gradients together are clipped; 0: no clipping.
///
/// `max_grad_norm`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_get_max_grad_norm(
    optimizer: *const maw_optimizer,
    max_grad_norm: *mut f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_get_max_grad_norm", optimizer, error, |optimizer| {
            put(max_grad_norm, optimizer.options().max_grad_norm, "max_grad_norm")
        })
    }
}

/// HUW's current priorities of gradient alignment, loss decrease and generalization gap.
///
/// `priorities`: out, three doubles.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_get_priorities(
    optimizer: *const maw_optimizer,
    priorities: *mut f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_get_priorities", optimizer, error, |optimizer| {
            copy_out(&optimizer.options().priorities, priorities, 3, "priorities", "terms")
        })
    }
}
