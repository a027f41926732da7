//! MetaAdamW (Zhao & Liu 2026, arXiv:2605.04055): AdamW whose learning rate and weight decay are scaled, group by
//! group, by a small self-attention encoder that reads statistics of all groups and learns from a meta-objective.
//!
//! Programs in other languages use the C ABI (`include/metaadamw.h` is its manual); Rust programs use [`Optimizer`].
//! A dependency points downward only (`tests/layers.rs` holds it):
//!
//! ```text
//! ffi         the C ABI: handles, status, structs that grow, every foreign pointer
//! optimizer   what a handle owns and offers: registration, steps, setters, getters, dump
//! checkpoint  the state of a run ⇄ a safetensors file
//! meta        the meta-update: what to ask, the objective, its gradient
//! run         all that exists from the end of registration on; the step, read top to bottom
//! backend     what is proportional to the number of parameters (cpu, cuda), and the small state that a device copies
//! modulation  features → attention → α, β, λ₁, λ₂
//! model       tensors, groups, options, host buffers, statistics: plain values
//! numeric     instruction sets; exp and ln with the same bits everywhere; 16-bit floats; stochastic rounding
//! reserve     memory set aside for allocations that must not fail; the allocator that uses it
//! ```
//!
//! `error` is everybody's.
//!
//! Promise: the same bits for any number of threads and any instruction set. Hence fixed chunks and lanes for every
//! sum, no contraction that is not written down, and of the platform's libm nothing that IEEE 754 does not define.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("metaadamw supports 64-bit targets only");
#[cfg(not(target_endian = "little"))]
compile_error!("metaadamw supports little-endian targets only: checkpoints hold memory as it is");

pub(crate) mod backend;
pub mod checkpoint;
pub mod error;
pub mod ffi;
pub mod meta;
pub mod model;
pub mod modulation;
pub mod numeric;
pub mod optimizer;
pub mod reserve;
mod run;

pub use backend::{Callback, Summands};
pub use error::{Error, Result};
pub use model::groups::TensorSpec;
pub use model::host_buffers::{Gradient, Grads, Params, Slice, SliceMut};
pub use model::name::Name;
pub use model::options::{Options, ParamGroup};
pub use model::report::{StepOptions, StepReport};
pub use optimizer::Optimizer;
