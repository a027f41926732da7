//! Reads and writes the attention module's tensors by name.

use std::ffi::c_char;

use super::error::maw_error;
use super::handle::{call, maw_optimizer};
use super::pointers::{check, copy_out, lookup, put, slice};
use super::types::maw_status;
use crate::error::{Error, Result};
use crate::modulation::Modulation;
use crate::modulation::attention::Entry;
use crate::optimizer::Optimizer;

fn entry(optimizer: &Optimizer, index: usize) -> Result<(&Modulation, &Entry)> {
    let modulation = optimizer.modulation()?;
    let count = modulation.map_or(0, |m| m.attention.entries().len());
    modulation
        .and_then(|m| m.attention.entries().get(index).map(|entry| (m, entry)))
        .ok_or_else(|| Error::no_index("tensor of the attention module", index, count))
}

/// The number of the attention module's tensors; 0 with modulation off.
///
/// `count`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_attention_count(
    optimizer: *const maw_optimizer,
    count: *mut usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_attention_count", optimizer, error, |optimizer| {
            let modulation = optimizer.modulation()?;
            put(count, modulation.map_or(0, |m| m.attention.entries().len()), "count")
        })
    }
}

/// The name of a tensor of the attention module, as in PyTorch's TransformerEncoder:
/// "encoder.layers.0.self_attn.in_proj_weight" …, then "output_proj.weight", "output_proj.bias", and if used
/// "group_embeddings", "feature_gates", "log_vars".
///
/// `index`: below `maw_attention_count`. `name`: out, borrowed: valid until the optimizer is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_attention_name(
    optimizer: *const maw_optimizer,
    index: usize,
    name: *mut *const c_char,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_attention_name", optimizer, error, |optimizer| {
            let (modulation, _) = entry(optimizer, index)?;
            put(name, modulation.names()[index].as_c_str().as_ptr(), "name")
        })
    }
}

/// The shape of a tensor of the attention module.
///
/// `index`: below `maw_attention_count`. `rows`, `columns`: out; a vector has one column.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_attention_shape(
    optimizer: *const maw_optimizer,
    index: usize,
    rows: *mut u64,
    columns: *mut u64,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_attention_shape", optimizer, error, |optimizer| {
            let (_, entry) = entry(optimizer, index)?;
            check(columns, "columns")?;
            put(rows, entry.rows as u64, "rows")?;
            put(columns, entry.columns as u64, "columns")
        })
    }
}

/// Copies a tensor of the attention module.
///
/// `name`: as from `maw_attention_name`. `values`: out, `count` doubles, row-major; `count` = rows × columns.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_attention_get(
    optimizer: *const maw_optimizer,
    name: *const c_char,
    values: *mut f64,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_attention_get", optimizer, error, |optimizer| {
            let name = lookup(name, "name")?;
            let modulation = optimizer.modulation()?;
            let found = modulation.and_then(|m| m.attention.tensor(name));
            let found = found.ok_or_else(|| Error::no_attention_tensor(name))?;
            copy_out(found.to_slice().expect("row-major"), values, count, "values", "values of that tensor")
        })
    }
}

/// Sets a tensor of the attention module, from the next step on.
///
/// `name`: as from `maw_attention_name`. `values`: `count` finite doubles, row-major, copied; `count` = rows × columns.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation or while a meta-update is
/// open. On failure nothing is changed.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_attention_set(
    optimizer: *mut maw_optimizer,
    name: *const c_char,
    values: *const f64,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_attention_set", optimizer, error, |optimizer| {
            let name = lookup(name, "name")?;
            check(values, "values")?;
            optimizer.set_attention(name, slice(values, count, "values")?)
        })
    }
}
