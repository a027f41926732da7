//! Getters: hyper-parameters, counts, names, factors, features.

use std::ffi::c_char;

use super::error::maw_error;
use super::handle::{call, look, maw_optimizer};
use super::pointers::{check, copy_out, put};
use super::types::maw_status;
use crate::error::{Error, Result};
use crate::model::options::ParamGroup;
use crate::optimizer::{Optimizer, check_length, not_found};

fn param_group(optimizer: &Optimizer, group: u32) -> Result<&ParamGroup> {
    let groups = optimizer.param_groups();
    groups.get(group as usize).ok_or_else(|| not_found("param group", group as usize, groups.len()))
}

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
    unsafe { call(optimizer, error, |optimizer| put(lr, param_group(optimizer, group)?.lr, "lr")) }
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
        call(optimizer, error, |optimizer| {
            put(weight_decay, param_group(optimizer, group)?.weight_decay, "weight_decay")
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
        call(optimizer, error, |optimizer| {
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
    unsafe { look(optimizer, error, |optimizer| put(steps, optimizer.steps(), "steps")) }
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
    unsafe { call(optimizer, error, |optimizer| put(count, optimizer.param_groups().len(), "count")) }
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
    unsafe { call(optimizer, error, |optimizer| put(count, optimizer.tensors().len(), "count")) }
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
        call(optimizer, error, |optimizer| {
            let tensors = optimizer.tensors();
            let found = tensors.get(tensor).ok_or_else(|| not_found("tensor", tensor, tensors.len()))?;
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
        call(optimizer, error, |optimizer| {
            let of_tensor = &optimizer.groups("maw_tensor_group")?.of_tensor;
            let found = of_tensor.get(tensor).ok_or_else(|| not_found("tensor", tensor, of_tensor.len()))?;
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
        call(optimizer, error, |optimizer| put(count, optimizer.groups("maw_group_count")?.groups.len(), "count"))
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
        call(optimizer, error, |optimizer| {
            let groups = &optimizer.groups("maw_group_name")?.groups;
            let found = groups.get(group).ok_or_else(|| not_found("modulation group", group, groups.len()))?;
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
        look(optimizer, error, |optimizer| {
            let factors = optimizer.factors("maw_factors")?;
            let outputs = [
                (alpha, &factors.alpha, "alpha"),
                (beta, &factors.beta, "beta"),
                (lambda1, &factors.lambda1, "lambda1"),
                (lambda2, &factors.lambda2, "lambda2"),
            ];
            check_length("count", count, factors.alpha.len(), "modulation groups")?;
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
        call(optimizer, error, |optimizer| {
            let modulation = optimizer.modulation("maw_feature_dim")?.ok_or(off("maw_feature_dim"))?;
            put(dim, modulation.feature_dim(), "dim")
        })
    }
}

fn off(call: &'static str) -> Error {
    Error::State { call, reason: "modulation is off: there are no features" }
}

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
        look(optimizer, error, |optimizer| {
            let modulation = optimizer.modulation("maw_features")?.ok_or(off("maw_features"))?;
            let (found, _) = modulation.last().ok_or(Error::State {
                call: "maw_features",
                reason: "no step has been applied and no meta-update begun yet",
            })?;
            copy_out(found, features, count, "features", "modulation groups × feature_dim")
        })
    }
}
