//! What the integration tests share. Tests themselves contain no `unsafe`: `handle` and `calls` wrap the C ABI.
#![allow(unsafe_code, dead_code)]

pub mod calls;
pub mod checkpoint;
#[cfg(target_os = "linux")]
pub mod cuda;
pub mod device;
pub mod golden;
pub mod growth;
pub mod handle;
pub mod loss;
pub mod model;
pub mod processes;
pub mod report;
pub mod rounding;
pub mod saved;
pub mod sequence;
pub mod statuses;
pub mod tensor;
pub mod tolerance;
pub mod toy;
