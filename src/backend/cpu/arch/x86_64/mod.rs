//! AVX2 specialisations of the steps on whole tiles, with the bits of the loops in `kernels`.

pub mod bf16_step;
pub mod f32_step;
pub mod vector;
