//! Getters: hyper-parameters, counts, names, factors, features.

use std::ffi::c_char;

use super::error::maw_error;
use super::handle::{call, call_synced, maw_optimizer};
use super::pointers::{check, copy_out, put};
use super::types::maw_status;
use crate::error::{Error, StateError};

/// The learning rate of a param group as it is now.
///
/// `lr`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
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
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_get_lr", optimizer, error, |optimizer| put(lr, optimizer.param_group(group as usize)?.lr, "lr"))
    }
}

/// The weight decay of a param group as it is now.
///
/// `weight_decay`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
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
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_get_weight_decay", optimizer, error, |optimizer| {
            put(weight_decay, optimizer.param_group(group as usize)?.weight_decay, "weight_decay")
        })
    }
}

/// HUW's priorities as they are now.
///
/// `priorities`: out, three doubles. `MAW_OK`; `MAW_INVALID_ARGUMENT`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_get_priorities(
    optimizer: *const maw_optimizer,
    priorities: *mut f64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_get_priorities", optimizer, error, |optimizer| {
            copy_out(&optimizer.options().priorities, priorities, 3, "priorities", "terms")
        })
    }
}

/// Applied steps so far; skipped ones do not count.
///
/// `steps`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_step_count(
    optimizer: *const maw_optimizer,
    steps: *mut u64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe { call_synced("maw_step_count", optimizer, error, |optimizer| put(steps, optimizer.steps(), "steps")) }
}

/// Param groups registered so far.
///
/// `count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_param_group_count(
    optimizer: *const maw_optimizer,
    count: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_param_group_count", optimizer, error, |optimizer| put(count, optimizer.param_groups().len(), "count"))
    }
}

/// Tensors registered so far.
///
/// `count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_tensor_count(
    optimizer: *const maw_optimizer,
    count: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe { call("maw_tensor_count", optimizer, error, |optimizer| put(count, optimizer.tensors().len(), "count")) }
}

/// The name of a tensor.
///
/// `tensor`: its number in registration order. `name`: out, borrowed: unchanging, valid until the handle is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_tensor_name(
    optimizer: *const maw_optimizer,
    tensor: usize,
    name: *mut *const c_char,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_tensor_name", optimizer, error, |optimizer| {
            let found = optimizer.tensor(tensor)?;
            put(name, found.spec.name.as_c_str().as_ptr(), "name")
        })
    }
}

/// The modulation group of a tensor.
///
/// `tensor`: its number in registration order. `group`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_tensor_group(
    optimizer: *const maw_optimizer,
    tensor: usize,
    group: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_tensor_group", optimizer, error, |optimizer| {
            let of_tensor = &optimizer.groups()?.of_tensor;
            let found = of_tensor.get(tensor).ok_or_else(|| Error::no_index("tensor", tensor, of_tensor.len()))?;
            put(group, *found, "group")
        })
    }
}

/// Modulation groups: tokens of the attention module.
///
/// `count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_group_count(
    optimizer: *const maw_optimizer,
    count: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_group_count", optimizer, error, |optimizer| put(count, optimizer.groups()?.groups.len(), "count"))
    }
}

/// The name of a modulation group: "attention.shallow.weight" (kind, depth, bias or weight), "param_group.0", or what the
/// host called it.
///
/// `group`: its number. `name`: out, borrowed: unchanging, valid until the handle is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_group_name(
    optimizer: *const maw_optimizer,
    group: usize,
    name: *mut *const c_char,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_group_name", optimizer, error, |optimizer| {
            let groups = &optimizer.groups()?.groups;
            let found = groups.get(group).ok_or_else(|| Error::no_index("modulation group", group, groups.len()))?;
            put(name, found.name.as_c_str().as_ptr(), "name")
        })
    }
}

/// What scaled each modulation group: of the last applied step or begun meta-update, whichever came last. With
/// modulation off all are 1.
///
/// `alpha` (learning rate), `beta` (weight decay), `lambda1`, `lambda2` (of eq. 10): out, `count` doubles each, any of
/// them NULL if not wanted; `count` must be the number of modulation groups.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before the first step.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_factors(
    optimizer: *const maw_optimizer,
    alpha: *mut f64,
    beta: *mut f64,
    lambda1: *mut f64,
    lambda2: *mut f64,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call_synced("maw_factors", optimizer, error, |optimizer| {
            let factors = optimizer.factors()?;
            let outputs = [
                (alpha, &factors.alpha, "alpha"),
                (beta, &factors.beta, "beta"),
                (lambda1, &factors.lambda1, "lambda1"),
                (lambda2, &factors.lambda2, "lambda2"),
            ];
            Error::length("count", count, factors.alpha.len(), "modulation groups")?;
            let wanted = || outputs.iter().filter(|(pointer, ..)| !pointer.is_null());
            wanted().try_for_each(|(pointer, _, argument)| check(*pointer, argument))?;
            wanted().try_for_each(|(pointer, values, argument)| {
                copy_out(values, *pointer, count, argument, "modulation groups")
            })
        })
    }
}

/// D, the width of a token of the attention module: columns of `maw_features`.
///
/// `dim`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or with modulation off.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_feature_dim(
    optimizer: *const maw_optimizer,
    dim: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call("maw_feature_dim", optimizer, error, |optimizer| {
            let modulation = optimizer.modulation()?.ok_or(OFF)?;
            put(dim, modulation.feature_dim(), "dim")
        })
    }
}

const OFF: StateError = StateError::ModulationOff("are no features");

/// The features that the attention module read, before standardisation and gating: of the last applied step or begun
/// meta-update, whichever came last.
///
/// `features`: out, row-major, one row a modulation group, `maw_feature_dim` columns; `count` must be their product.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before the first step or with modulation off.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_features(
    optimizer: *const maw_optimizer,
    features: *mut f64,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        call_synced("maw_features", optimizer, error, |optimizer| {
            let modulation = optimizer.modulation()?.ok_or(OFF)?;
            let (found, _) = modulation.last().ok_or(StateError::NoFactors)?;
            copy_out(
                found.to_slice().expect("row-major"),
                features,
                count,
                "features",
                "modulation groups × feature_dim",
            )
        })
    }
}
