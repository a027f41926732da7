//! A device that makes steps by itself: the host's state is pulled before somebody asks and pushed after the host changed
//! it. On the CPU nothing here does anything.

use std::ffi::c_void;

use super::Run;
use crate::error::{Error, Result};
use crate::model::registration::Registration;

/// The host's CUDA stream; NULL on the CPU and for the legacy default stream.
pub(crate) struct Stream(pub *mut c_void);

#[allow(unsafe_code, reason = "the pointer is passed on, never followed")]
// SAFETY: see the reason above; handles of the driver may travel between threads.
unsafe impl Send for Stream {}

impl Default for Stream {
    fn default() -> Self {
        Self(std::ptr::null_mut())
    }
}

impl Run {
    /// Waits for the device and brings the state up to date.
    ///
    /// # Errors
    /// The driver's, of whatever ran; of a step that was not made, when the state is up to date.
    pub fn pull(&mut self) -> Result<()> {
        let pulled = match self.backend.device() {
            Some(device) if device.is_ahead() => device.pull(&mut self.state),
            _ => return Ok(()),
        };
        if matches!(pulled, Ok(()) | Err(Error::Reduction(_))) {
            self.enqueued = 0;
        }
        pulled
    }

    /// Makes a device follow what the host changed, and tells if a pass failed.
    ///
    /// # Errors
    /// A capture under way; the driver's.
    pub fn push(&mut self, registration: &Registration) -> Result<()> {
        self.backend.health()?;
        match self.backend.device() {
            Some(device) => device.push(&self.state, &registration.options, &registration.param_groups),
            None => Ok(()),
        }
    }

    /// Whether Φ may have something to learn from after steps that the host does not know of yet: after `interval` of those
    /// above `warmup`.
    pub fn may_learn(&self, interval: u64, warmup: u64) -> bool {
        let of_warmup = warmup.saturating_sub(self.state.steps);
        let counting = self.enqueued.saturating_sub(of_warmup);
        self.state.horizon.as_ref().is_some_and(|horizon| horizon.count.saturating_add(counting) >= interval)
    }

    /// Whether a multiple of `interval` that is not `done` may have been reached by steps that the host does not know of yet.
    pub fn may_have_reached(&mut self, interval: u64, done: Option<u64>) -> bool {
        let from = self.state.steps;
        let to = from.saturating_add(self.enqueued);
        let reaches = |step: u64| from.max(step).checked_next_multiple_of(interval).is_some_and(|due| due <= to);
        let can_be = if done == Some(from) { reaches(from + 1) } else { reaches(from) };
        can_be || self.backend.device().is_some_and(|device| device.may_have_replayed())
    }
}
