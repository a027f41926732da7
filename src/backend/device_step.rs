//! A backend that makes the whole step by itself.

use super::{Agreement, RunState};
use crate::error::Result;
use crate::model::host_buffers::{CheckedGrads, CheckedParams};
use crate::model::options::{Options, ParamGroup};
use crate::model::report::{StepOptions, StepReport};

/// A step that the host enqueues and does not wait for. State, counts and attention module live on the device; the host's
/// [`RunState`] is brought up to date when somebody asks and sent back when the host changed it.
pub trait DeviceStep {
    /// Enqueues one step. `waits`: the host will wait for its report. `agreement`: where processes share the model; the
    /// state's hash is made by the device.
    ///
    /// # Errors
    /// What cannot be captured, while the stream is; the device's; [`crate::Error::Reduction`] of the callback. Nothing of
    /// the step is enqueued then.
    fn launch(
        &mut self,
        params: CheckedParams,
        grads: CheckedGrads,
        options: &StepOptions,
        waits: bool,
        agreement: Option<&Agreement>,
    ) -> Result<()>;

    /// The report of the newest step that the device has decided, after waiting for all that were enqueued or not.
    ///
    /// # Errors
    /// A capture under way; the device's, of whatever ran; [`crate::Error::Reduction`], once, of steps that were not made
    /// since the processes do not agree.
    fn report(&mut self, wait: bool) -> Result<Option<StepReport>>;

    /// Whether the device may be ahead of the host's state.
    fn is_ahead(&self) -> bool;

    /// Whether steps may have been made that the host did not enqueue one by one: replays of a captured one.
    fn may_have_replayed(&self) -> bool;

    /// Waits, and brings the host's state up to date.
    ///
    /// # Errors
    /// As for [`Self::report`]; the state is as it was then, but after [`crate::Error::Reduction`].
    fn pull(&mut self, state: &mut RunState) -> Result<()>;

    /// Makes the device follow the host's state and the options.
    ///
    /// # Errors
    /// As for [`Self::report`].
    fn push(&mut self, state: &RunState, options: &Options, groups: &[ParamGroup]) -> Result<()>;

    /// Enqueues hyper-parameters for the next step.
    ///
    /// # Errors
    /// A capture under way; the device's.
    fn set_groups(&mut self, groups: &[ParamGroup]) -> Result<()>;

    /// Enqueues a part of Φ for the next step.
    ///
    /// # Errors
    /// As for [`Self::set_groups`].
    fn set_phi(&mut self, at: usize, values: &[f64]) -> Result<()>;
}
