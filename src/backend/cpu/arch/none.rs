//! Architectures without specialisations.

use super::Done;
use crate::backend::cpu::kernels::elements::Elements;
use crate::backend::cpu::kernels::load_store::{Moments, Param};
use crate::backend::cpu::kernels::step::Step;
use crate::backend::cpu::kernels::sums_f64::Sum;

/// Nothing.
pub fn bf16_gradient_sums(_: &[u16], _: Elements<'_>, _: [&mut Sum; 2], _: Option<&mut Sum>) -> usize {
    0
}

/// It does not.
pub fn moves_average(_: &Param<'_>, _: Elements<'_>, _: &Moments<'_>, _: bool) -> bool {
    false
}

/// Nothing.
pub fn step(_: Step<'_, f32>, _: bool, _: Option<[&mut Sum; 3]>, _: Option<&mut Sum>) -> Done {
    Done::NOTHING
}
