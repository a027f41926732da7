//! What a model and a run are, as plain values: no pointers that are followed, no device.

pub mod clipping;
pub mod coefficients;
pub mod dtype;
pub mod groups;
pub mod host_buffers;
pub mod name;
pub mod options;
pub(crate) mod registration;
pub mod report;
pub mod stats;
