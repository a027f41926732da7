//! Getters: counts, names, factors, features.

use std::ffi::c_char;

use super::error::maw_error;
use super::handle::{call, call_synced, maw_optimizer};
use super::pointers::{check, copy_out, put};
use super::types::maw_status;
use crate::error::{Error, StateError};

/// The number of applied steps; skipped steps do not count.
///
/// `steps`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while the stream is being captured.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_step_count(
    optimizer: *const maw_optimizer,
    steps: *mut u64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { call_synced("maw_step_count", optimizer, error, |optimizer| put(steps, optimizer.steps(), "steps")) }
}

/// The number of registered param groups.
///
/// `count`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_param_group_count(
    optimizer: *const maw_optimizer,
    count: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_param_group_count", optimizer, error, |optimizer| put(count, optimizer.param_groups().len(), "count"))
    }
}

/// The number of registered tensors.
///
/// `count`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_tensor_count(
    optimizer: *const maw_optimizer,
    count: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { call("maw_tensor_count", optimizer, error, |optimizer| put(count, optimizer.tensors().len(), "count")) }
}

/// The name of a tensor.
///
/// `tensor`: its index in registration order. `name`: out, borrowed: valid until the optimizer is freed, or tensors are added
/// or removed.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_tensor_name", optimizer, error, |optimizer| {
            let found = optimizer.tensor(tensor)?;
            put(name, found.spec.name.as_c_str().as_ptr(), "name")
        })
    }
}

/// The modulation group of a tensor.
///
/// `tensor`: its index in registration order. `group`: out, the modulation group's index.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_tensor_group", optimizer, error, |optimizer| {
            let of_tensor = &optimizer.groups()?.of_tensor;
            let found = of_tensor.get(tensor).ok_or_else(|| Error::no_index("tensor", tensor, of_tensor.len()))?;
            put(group, *found, "group")
        })
    }
}

/// The number of modulation groups, which are the tokens of the attention module.
///
/// `count`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_group_count(
    optimizer: *const maw_optimizer,
    count: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_group_count", optimizer, error, |optimizer| put(count, optimizer.groups()?.groups.len(), "count"))
    }
}

/// The name of a modulation group: "attention.shallow.weight" (layer kind, depth, bias or weight), "param_group.0", or the
/// host's name for it.
///
/// `group`: its index. `name`: out, borrowed: valid until the optimizer is freed, or tensors are added or removed.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_group_name", optimizer, error, |optimizer| {
            let groups = &optimizer.groups()?.groups;
            let found = groups.get(group).ok_or_else(|| Error::no_index("modulation group", group, groups.len()))?;
            put(name, found.name.as_c_str().as_ptr(), "name")
        })
    }
}

/// The factors of the modulation groups, from the last applied step or meta-update, whichever was later. All are 1 with
/// modulation off.
///
/// `alpha` (multiplies the learning rate), `beta` (multiplies the weight decay), `lambda1`, `lambda2` (eq. 10): out,
/// `count` doubles each; any may be NULL. `count`: the number of modulation groups.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
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

/// The width D of a token of the attention module: the number of columns of `maw_features`.
///
/// `dim`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or with modulation off.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_feature_dim(
    optimizer: *const maw_optimizer,
    dim: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_feature_dim", optimizer, error, |optimizer| {
            let modulation = optimizer.modulation()?.ok_or(OFF)?;
            put(dim, modulation.feature_dim(), "dim")
        })
    }
}

const OFF: StateError = StateError::ModulationOff("are no features");

/// The input features of the attention module, before standardization and gating, from the last applied step or
/// meta-update, whichever was later.
///
/// `features`: out, `count` doubles, row-major: one row per modulation group, `maw_feature_dim` columns. `count`: their
/// product.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
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
