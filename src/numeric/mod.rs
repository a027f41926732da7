//! Numbers: instruction sets, elementary functions, 16-bit floats and stochastic rounding, with the same bits everywhere.

pub mod float_mode;
pub mod half;
pub mod math;
pub mod simd;
pub mod stochastic_rounding;
