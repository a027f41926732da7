//! The loops over a chunk, for every dtype and instruction set: the definition of what the passes compute.
//!
//! A kernel works tile by tile: on a few hundred elements, which stay in the first-level cache, it runs plain loops, first
//! over the elements, then over the sums of them. Element arithmetic is in the type that the tensor is computed in (the
//! moments, θ, θ′ and the step from it) or in float64 (the terms of sums). Whether a product is rounded before it is added
//! is written down, never the compiler's choice: with 16-bit gradients or moments it is fused, else it is not. So the width
//! of vectors decides no bit.
//!
//! A loop is a [`crate::numeric::simd::Kernel`] of its own over slices of one type. What surrounds it (the choice of dtypes,
//! of precision, of the sums that are wanted) runs once a tile and is compiled once.

pub mod adamw;
pub mod average;
pub mod convert;
pub mod elements;
pub mod gradient_sums;
pub mod load_store;
pub mod meta;
pub mod number;
pub mod state_sums;
pub mod step;
pub mod sums_f32;
pub mod sums_f64;
pub mod tile;
