//! A run that a device makes by itself, and what the host knows of it: brought up to date before somebody asks, sent back
//! after the host changed it. On the CPU nothing here does anything.

use std::ffi::c_void;

use crate::backend::{DeviceStep, Mirror};
use crate::error::{Error, Result};
use crate::optimizer::{Optimizer, Prepared};

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

impl Optimizer {
    /// The CUDA stream on which all later calls enqueue their work. What was enqueued before is waited for.
    ///
    /// # Errors
    /// A stream of an optimizer on the CPU; work in a capture of the stream that is left; the driver's, such as for a
    /// handle that is no stream.
    pub fn set_stream(&mut self, stream: *mut c_void) -> Result<()> {
        if self.cuda.is_none() && !stream.is_null() {
            return Err(Error::Unsupported { what: "a stream of an optimizer on the CPU".to_owned() });
        }
        match (&mut self.prepared, &self.cuda) {
            (Some(p), _) => p.backend.set_stream(stream)?,
            (None, Some(device)) => device.check_stream(stream)?,
            (None, None) => {}
        }
        self.stream = Stream(stream);
        Ok(())
    }

    /// Whether the state lies on a device, from where reading it can fail.
    pub(crate) fn is_on_device(&self) -> bool {
        self.cuda.is_some()
    }

    /// Waits for the device and brings what the getters tell up to date; on the CPU there is nothing to do.
    ///
    /// # Errors
    /// A capture under way; the driver's, of whatever ran.
    pub fn sync(&mut self) -> Result<()> {
        let Some(p) = &mut self.prepared else { return Ok(()) };
        p.backend.ready("what waits for the device")?;
        if p.meta.open_request().is_some() {
            return Ok(()); // no step can have been made
        }
        let before = p.skips.total();
        let Some((device, mirror)) = p.device_and_mirror() else { return Ok(()) };
        if !device.is_ahead() {
            return Ok(());
        }
        device.pull(mirror)?;
        p.launched = 0;
        let skipped = p.skips.total().saturating_sub(before);
        if skipped > 0 {
            let last = p.skips.last;
            self.log_skipped(skipped, last);
        }
        Ok(())
    }

    /// A host's 16-bit parameter that lies in device memory, copied; `None` on the CPU, where it can be read in place.
    ///
    /// # Errors
    /// Memory that is not the device's; a capture under way; the driver's.
    pub(crate) fn copy_of(&self, param: *const c_void, count: usize) -> Result<Option<Vec<u16>>> {
        let Some(device) = &self.cuda else { return Ok(None) };
        let mut copy = vec![0; count];
        device.peek(self.stream.0, param, bytemuck::cast_slice_mut(&mut copy))?;
        Ok(Some(copy))
    }

    /// The copy back to where it came from.
    ///
    /// # Errors
    /// As for [`Self::copy_of`].
    pub(crate) fn copy_back(&self, param: *mut c_void, copy: &[u16]) -> Result<()> {
        let device = self.cuda.as_ref().expect("only a device's parameter is copied");
        device.poke(self.stream.0, param, bytemuck::cast_slice(copy))
    }

    /// Makes a device follow what the host changed, and tells if a pass failed.
    pub(crate) fn push(&mut self) -> Result<()> {
        let Self { options, param_groups, prepared, .. } = self;
        let Some(p) = prepared else { return Ok(()) };
        p.backend.health()?;
        match p.device_and_mirror() {
            Some((device, mirror)) => device.push(mirror, options, param_groups),
            None => Ok(()),
        }
    }

    /// [`Self::meta_due`] after waiting for a device, if the answer can be yes: between two meta-updates it cannot for long.
    ///
    /// # Errors
    /// A capture under way; the driver's, of whatever ran.
    pub fn meta_due_now(&mut self) -> Result<bool> {
        if let Some(p) = &mut self.prepared {
            let (from, interval) = (p.steps, self.options.meta_interval);
            let to = from.saturating_add(p.launched);
            let reaches = |step: u64| from.max(step).checked_next_multiple_of(interval).is_some_and(|due| due <= to);
            let can_be = if p.meta.done_at() == Some(from) { reaches(from + 1) } else { reaches(from) };
            if can_be || p.backend.device().is_some_and(|device| device.may_have_replayed()) {
                self.sync()?;
            }
        }
        Ok(self.meta_due())
    }
}

impl Prepared {
    /// The device that makes steps by itself, if there is one, and what the host knows of it.
    fn device_and_mirror(&mut self) -> Option<(&mut dyn DeviceStep, Mirror<'_>)> {
        let Self { backend, steps, skips, tensor_steps, mastered, keys, state, carried, kept, modulation, .. } = self;
        let mirror = Mirror {
            steps,
            skips,
            tensor_steps,
            mastered,
            keys,
            state,
            carried,
            kept,
            modulation: modulation.as_mut(),
        };
        backend.device().map(|device| (device, mirror))
    }
}
