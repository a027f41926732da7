//! The averages of the parameters, for an evaluation and for whoever wants to see them.

use super::Optimizer;
use crate::backend::Part;
use crate::error::{Result, StateError};
use crate::model::dtype::DType;
use crate::model::host_buffers::Params;

impl Optimizer {
    /// Reading an average: no meta-update is open; the averages may be swapped in.
    ///
    /// # Errors
    /// One is open.
    pub(crate) fn begin_average(&mut self) -> Result<()> {
        match self.prepared() {
            Some(p) if p.meta.open_request().is_some() => p.meta.refuse_while_open(),
            _ => Ok(()),
        }
    }

    /// Copies the average of a tensor out, as bytes of float32, or float64 for a float64 tensor.
    ///
    /// # Errors
    /// There are none, or that tensor has made no step yet; no such tensor; a wrong size in bytes; the device's.
    pub(crate) fn read_average(&self, tensor: usize, out: &mut [u8]) -> Result<()> {
        let known = self.tensor(tensor)?;
        let stored = self.options().average_of(known.spec.dtype).ok_or(StateError::NoAverages)?;
        if !self.ready()?.run.state.average_initialized[tensor] {
            return Err(StateError::AverageNotBegun.into());
        }
        self.read_widened(Part::Average, stored == DType::BF16, tensor, out)
    }

    /// Writes the averages into the host's parameters, rounded to nearest, or these back, bit for bit. In between only getters
    /// work. A tensor that has made no step yet keeps its parameter.
    ///
    /// # Errors
    /// There are no averages; an open meta-update; unusable pointers; no memory for a copy of the parameters; the device's.
    pub fn swap_averages(&mut self, params: &Params) -> Result<()> {
        if self.options().horizon == 0 {
            return Err(StateError::NoAverages.into());
        }
        self.with_prepared(|mut p| {
            let back = p.meta.swapped;
            if !back {
                p.meta.refuse_while_open()?;
            }
            p.sync()?;
            let params = p.run.check(p.registration, params, None)?.params;
            p.run.discard_announced();
            if back {
                p.run.backend.restore_params(params);
                p.run.backend.end_meta();
            } else {
                p.run.backend.begin_meta(&p.registration.tensors, params, &[], false)?;
                p.run.backend.write_averages(params, &p.run.state.average_initialized);
            }
            p.meta.swapped = !back;
            p.run.backend.health()
        })
    }

    /// Whether the averages are in the host's parameters.
    #[must_use]
    pub fn averages_are_swapped(&self) -> bool {
        self.ready.as_ref().is_some_and(|ready| ready.meta.swapped)
    }
}
