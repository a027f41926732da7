//! MetaAdamW (Zhao & Liu 2026, arXiv:2605.04055): AdamW whose learning rate and weight decay are scaled, group by
//! group, by a small self-attention encoder that reads statistics of all groups and learns from a meta-objective.
//!
//! Programs in other languages use the C ABI (`include/metaadamw.h` is its manual); Rust programs use [`Optimizer`].
//! A dependency points downward only:
//!
//! ```text
//! ffi            handles, status, structs that grow: every foreign pointer
//! optimizer      what a handle owns, setters, getters    step         one step, read top to bottom
//!                                                      tensor_state one tensor's moments and masters
//!                                                      meta         the meta-update, ask and tell
//!                                                      checkpoint   the state ⇄ a safetensors file
//!                                                      dump         the state as JSON
//!                                                      mirror       a run that a device makes
//! modulation     features → attention → α, β, λ₁, λ₂
//! config groups features stats update attention        pure: no pointers, no device
//! backend        all that is proportional to the number of parameters (cpu, cuda)
//! simd math      instruction sets; exp and ln with the same bits everywhere
//! half noise     16-bit floats; random bits for rounding by chance
//! ```
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
mod run;

pub use error::{Error, Result};
pub use model::groups::TensorSpec;
pub use model::host_buffers::{Gradient, Grads, Params, Slice, SliceMut};
pub use model::name::Name;
pub use model::options::{Options, ParamGroup};
pub use model::report::{StepOptions, StepReport};
pub use optimizer::Optimizer;
