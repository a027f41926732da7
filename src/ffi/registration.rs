//! Param groups and tensors: registered, added later, removed.

use super::error::maw_error;
use super::handle::{call, maw_optimizer};
use super::options::{Known, choose};
use super::pointers::{check, slice, text};
use super::structs::{read, read_array};
use super::types::*;
use crate::error::{Error, Result};
use crate::model::dtype::{DType, Precision};
use crate::model::groups::{Shard, TensorSpec};
use crate::model::name::Name;
use crate::model::options::{LayerKind, ParamGroup};
use crate::reserve;

const DTYPES: [Known<DType>; 4] = [
    ("MAW_FLOAT32", MAW_FLOAT32, DType::F32),
    ("MAW_FLOAT64", MAW_FLOAT64, DType::F64),
    ("MAW_BFLOAT16", MAW_BFLOAT16, DType::BF16),
    ("MAW_FLOAT16", MAW_FLOAT16, DType::F16),
];

/// A dtype, or what 0 means.
fn dtype_or(field: &str, number: i32, default: DType) -> Result<DType> {
    if number == 0 { Ok(default) } else { choose(field, number, &DTYPES) }
}

/// More layers than any model has: a larger number is a mistake, such as a converted -1.
const MAX_LAYER_INDEX: u32 = 1_000_000;

/// Of a param group: nearest is 0.
const PRECISIONS: [Known<Precision>; 4] = [
    ("MAW_PRECISION_NEAREST", MAW_PRECISION_NEAREST, Precision::Nearest),
    ("MAW_PRECISION_MASTER", MAW_PRECISION_MASTER, Precision::Master),
    ("MAW_PRECISION_REMAINDER", MAW_PRECISION_REMAINDER, Precision::Remainder),
    ("MAW_PRECISION_STOCHASTIC", MAW_PRECISION_STOCHASTIC, Precision::Stochastic),
];

/// Of a tensor, where 0 is that of its group.
const OWN_PRECISIONS: [Known<Precision>; 4] = [
    PRECISIONS[1],
    PRECISIONS[2],
    PRECISIONS[3],
    ("MAW_PRECISION_TENSOR_NEAREST", MAW_PRECISION_TENSOR_NEAREST, Precision::Nearest),
];

fn param_group(group: &maw_param_group) -> Result<ParamGroup> {
    let moments = |number| {
        choose(
            "group.moment_dtype",
            number,
            &[("MAW_FLOAT32", MAW_FLOAT32, DType::F32), ("MAW_BFLOAT16", MAW_BFLOAT16, DType::BF16)],
        )
    };
    Ok(ParamGroup {
        lr: group.lr,
        beta1: group.beta1,
        beta2: group.beta2,
        eps: group.eps,
        weight_decay: group.weight_decay,
        precision: choose("group.precision", group.precision, &PRECISIONS)?,
        moment_dtype: if group.moment_dtype == 0 { None } else { Some(moments(group.moment_dtype)?) },
    })
}

/// What [`tensor_spec`] allocates at most, but for a message, for which the call has memory.
///
/// # Safety
/// The tensor's pointers are NULL or valid as described at [`maw_tensor`].
unsafe fn memory_of(tensor: &maw_tensor) -> usize {
    // SAFETY: the tensor's strings are NULL or NUL-terminated.
    let length = |pointer| unsafe { text(pointer, "") }.map_or(0, <[u8]>::len);
    1024 + 16 * length(tensor.name) + 16 * length(tensor.modulation_group) + 16 * tensor.ndim.min(64) as usize
}

/// # Safety
/// The tensor's pointers are NULL or valid as described at [`maw_tensor`].
unsafe fn tensor_spec(i: usize, tensor: &maw_tensor) -> Result<TensorSpec> {
    // SAFETY: the tensor's strings are NULL or NUL-terminated.
    let text = |pointer, argument| unsafe { text(pointer, argument) };
    let name = Name::new(&format!("tensors[{i}].name"), text(tensor.name, "tensors[].name")?)?;
    let field = |what: &str| format!("{what} of tensor '{name}'");
    if tensor.ndim > 64 {
        return Err(Error::range(field("ndim"), tensor.ndim, "at most 64"));
    }
    // SAFETY: the tensor's shape is NULL or has `ndim` elements.
    let shape = unsafe { slice(tensor.shape, tensor.ndim as usize, "tensors[].shape") }?.to_vec();
    let dtype = choose(&field("dtype"), tensor.dtype, &DTYPES)?;
    let grad_dtype = dtype_or(&field("grad_dtype"), tensor.grad_dtype, dtype)?;
    let modulation_group = if tensor.modulation_group.is_null() {
        None
    } else {
        let bytes = text(tensor.modulation_group, "tensors[].modulation_group")?;
        Some(Name::new(&field("modulation_group"), bytes)?)
    };
    let kinds = [
        ("MAW_LAYER_UNKNOWN", MAW_LAYER_UNKNOWN, LayerKind::Unknown),
        ("MAW_LAYER_LINEAR", MAW_LAYER_LINEAR, LayerKind::Linear),
        ("MAW_LAYER_EMBEDDING", MAW_LAYER_EMBEDDING, LayerKind::Embedding),
        ("MAW_LAYER_ATTENTION", MAW_LAYER_ATTENTION, LayerKind::Attention),
        ("MAW_LAYER_LAYERNORM", MAW_LAYER_LAYERNORM, LayerKind::LayerNorm),
        ("MAW_LAYER_CONVOLUTION", MAW_LAYER_CONVOLUTION, LayerKind::Convolution),
        ("MAW_LAYER_BATCHNORM", MAW_LAYER_BATCHNORM, LayerKind::BatchNorm),
        ("MAW_LAYER_RECURRENT", MAW_LAYER_RECURRENT, LayerKind::Recurrent),
    ];
    let layer_kind = choose(&field("layer_kind"), tensor.layer_kind, &kinds)?;
    if tensor.layer_index > MAX_LAYER_INDEX {
        return Err(Error::range(field("layer_index"), tensor.layer_index, format!("at most {MAX_LAYER_INDEX}")));
    }
    let layer = tensor.layer_index.checked_sub(1).map(u64::from);
    let precision = match tensor.precision {
        0 => None,
        own => Some(choose(&field("precision"), own, &OWN_PRECISIONS)?),
    };
    if tensor.reserved != 0 {
        return Err(Error::range(field("reserved"), tensor.reserved, "0"));
    }
    let part = Shard { offset: tensor.shard_offset, numel: tensor.shard_numel };
    let shard = match tensor.sharded {
        0 if part == Shard { offset: 0, numel: 0 } => None,
        0 => return Err(Error::range(field("sharded"), 0, "1, as shard_offset or shard_numel is not 0")),
        1 => Some(part),
        other => return Err(Error::range(field("sharded"), other, "0 or 1")),
    };
    Ok(TensorSpec { name, shape, dtype, grad_dtype, layer_kind, layer, modulation_group, precision, shard })
}

/// # Safety
/// `tensors` is NULL or readable for `count` descriptions, whose pointers are as described at [`maw_tensor`].
unsafe fn tensor_specs(tensors: *const maw_tensor, count: usize) -> Result<Vec<TensorSpec>> {
    // SAFETY: the caller's promise.
    unsafe {
        let described = || read_array(tensors, count, "tensors");
        let memory = described()?.map(|tensor| tensor.map(|tensor| memory_of(&tensor)));
        let memory = memory.sum::<Result<usize>>()?;
        let mut specs = Vec::new();
        reserve::fallible(|| specs.try_reserve_exact(count))?;
        reserve::with(memory, || {
            for (i, tensor) in described()?.enumerate() {
                specs.push(tensor_spec(i, &tensor?)?);
            }
            Ok(specs)
        })
    }
}

/// Registers tensors that share hyper-parameters: a param group.
///
/// `tensors`: `count` descriptions, at least one; names and shapes are copied. Later calls take one pointer per
/// registered tensor, in the order of registration over all groups. `index`: out, the param group's index, from 0; may
/// be NULL.
/// Also after preparation, between two steps, for what is unfrozen or added to a model: see `maw_add_tensors`.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the invalid field and its tensor, or both groups of a duplicate name;
/// `MAW_UNSUPPORTED` for a field of a newer header, after preparation with shards, and as for `maw_prepare`; `MAW_INVALID_STATE` while a meta-update is
/// open and, on CUDA, once a step was captured into a graph; `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. On failure none of the
/// tensors is registered.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_add_param_group(
    optimizer: *mut maw_optimizer,
    group: *const maw_param_group,
    tensors: *const maw_tensor,
    count: usize,
    index: *mut u32,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_add_param_group", optimizer, error, |optimizer| {
            let group = read(group, "group")?;
            if !index.is_null() {
                check(index, "index")?;
            }
            let specs = tensor_specs(tensors, count)?;
            let added = optimizer.add_param_group(param_group(&group)?, specs)?;
            if !index.is_null() {
                index.write(u32::try_from(added).expect("fewer groups than 2³²"));
            }
            Ok(())
        })
    }
}

/// Registers more tensors of a param group.
///
/// `group`: its index. `tensors`, `count`: as in `maw_add_param_group`. The new tensors come behind all others, whatever
/// their group.
/// After preparation too, between two steps: what is there keeps its moments, masters and step counts, the attention module
/// its values, the optimizer its counts; new tensors start at step 0. The modulation groups are formed anew from all
/// tensors, as if they had been registered together: under `MAW_GROUPING_FINE_GRAINED` a deeper layer can move others to
/// another third of the model. A group keeps its embedding by its name; that of a new one is drawn from the seed and the
/// name, so that the order in which groups come does not matter. The last step's report and the last meta-gradient are
/// unknown until the next, and so are features and factors if there are other groups than before; borrowed names become
/// invalid. Takes time and memory in proportion to the new tensors.
/// `MAW_OK`; `MAW_NOT_FOUND`. As `maw_add_param_group`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_add_tensors(
    optimizer: *mut maw_optimizer,
    group: u32,
    tensors: *const maw_tensor,
    count: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        call("maw_add_tensors", optimizer, error, |optimizer| {
            let specs = tensor_specs(tensors, count)?;
            optimizer.add_tensors(group as usize, specs)
        })
    }
}

/// Removes a tensor, and its moments, master and step count with it. Its param group stays, even without tensors.
///
/// `tensor`: its index; the tensors behind it move up by one place in the arrays of pointers. After preparation as for
/// `maw_add_tensors`: all else stays, modulation groups are formed anew, a group without tensors is gone with its
/// embedding. Memory is given back to the system by pages; on CUDA when all tensors that were registered together are
/// removed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_UNSUPPORTED` after preparation with shards; `MAW_INVALID_STATE`
/// for the last tensor of a prepared optimizer, while a
/// meta-update is open and, on CUDA, once a step was captured into a graph; `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. On failure
/// nothing is changed.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_remove_tensor(
    optimizer: *mut maw_optimizer,
    tensor: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { call("maw_remove_tensor", optimizer, error, |optimizer| optimizer.remove_tensor(tensor)) }
}
