//! Specialisations for one architecture: only this module asks which it is.
//!
//! They take slices and give the bits of the loops in `kernels`. What is not specialised they leave to those, so each says
//! how much it did.

#[cfg(not(target_arch = "x86_64"))]
mod none;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
pub use self::none::{bf16_gradient_sums, moves_average, step};
#[cfg(target_arch = "x86_64")]
pub use self::x86_64::{bf16_gradient_sums, moves_average, step};

/// What a specialised step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Elements: whole tiles.
    pub elements: usize,
    /// Whether the sums of the last tile were added too: not if float32 may not hold them.
    pub summed: bool,
}

impl Done {
    /// Not specialised.
    pub const NOTHING: Self = Self { elements: 0, summed: false };
}
