//! What is specialised for one architecture: the only place that asks which it is.

#[cfg(target_arch = "x86_64")]
pub mod x86_64;
