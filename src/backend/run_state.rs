//! The state of a run as the host knows it; a device has its own and is kept in step with this one.

use crate::model::report::Skips;
use crate::model::stats::{GradientSums, StateSums};
use crate::modulation::Modulation;

/// The host's picture of a run.
pub struct Mirror<'a> {
    pub(crate) steps: &'a mut u64,
    pub(crate) skips: &'a mut Skips,
    pub(crate) tensor_steps: &'a mut [u64],
    pub(crate) mastered: &'a mut [bool],
    pub(crate) keys: &'a [u64],
    pub(crate) state: &'a mut [StateSums],
    pub(crate) carried: &'a mut bool,
    pub(crate) kept: &'a mut [Option<GradientSums>],
    pub(crate) modulation: Option<&'a mut Modulation>,
}
