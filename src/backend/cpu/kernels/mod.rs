//! The loops over a chunk, for every dtype and instruction set: the definition of what the passes compute.

pub mod adamw;
mod convert;
pub mod load_store;
pub mod meta;
pub mod number;
pub mod step;
pub mod sums_f32;
pub mod sums_f64;
pub mod tile;
