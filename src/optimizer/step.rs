//! Steps, as a host asks for them. What a step does is in `run/step.rs`.

use super::Optimizer;
use super::prepared::Prepared;
use crate::error::Result;
use crate::model::host_buffers::{Gradient, Grads, Params};
use crate::model::options::positive;
use crate::model::report::{StepOptions, StepReport};

impl Optimizer {
    /// One step: every tensor that has a gradient is updated in place. Waits for a device.
    ///
    /// # Errors
    /// An unusable argument; an open meta-update; under [`crate::model::options::NonFinite::Error`] something not finite;
    /// under `verify_params` parameters that changed unannounced. Nothing is changed then. On a device: the driver's.
    pub fn step(&mut self, params: &Params, grads: &Grads, options: &StepOptions) -> Result<StepReport> {
        match self.together(|optimizer| optimizer.enqueue_step(params, grads, options, true)) {
            Ok(report) => Ok(report.expect("it was waited for")),
            Err(error) => {
                self.discard_announced();
                Err(error)
            }
        }
    }

    /// The same without waiting for a device: `None` from one that makes its steps by itself, unless `waits`. The buffers
    /// must then stay as they are until the device is done.
    ///
    /// # Errors
    /// As for [`Self::step`]; what cannot be captured, while the stream is being captured into a CUDA graph.
    pub(crate) fn enqueue_step(
        &mut self,
        params: &Params,
        grads: &Grads,
        options: &StepOptions,
        waits: bool,
    ) -> Result<Option<StepReport>> {
        self.with_prepared(|mut p| {
            positive("step_options.grad_scale", options.grad_scale)?;
            p.meta.refuse_while_open()?;
            if p.run.state.compares_masters {
                p.sync()?; // replays of a captured step may have gone on from the file
            }
            let driven = p.run.step(p.registration, params, grads, options, waits)?;
            p.log_overwritten();
            p.learn_from_steps(driven)?;
            if driven.is_some_and(|report| report.skipped.is_some()) {
                p.log.skipped(1, &p.run.state.skips, &p.registration.tensors);
            }
            if driven.is_some() || !waits { Ok(driven) } else { p.run.step_report(true) }
        })
    }

    /// Forgets the gradients that were announced: whatever a step that failed was given, the next may be given others.
    pub(crate) fn discard_announced(&mut self) {
        if let Some(p) = self.prepared() {
            p.run.discard_announced();
        }
    }

    /// The report of the newest step that was made: with `wait`, of the last that was enqueued; without, of the last that
    /// a device has decided by now. `None` if there was none yet.
    ///
    /// # Errors
    /// A capture under way, with `wait`; the driver's, of whatever ran.
    pub fn step_report(&mut self, wait: bool) -> Result<Option<StepReport>> {
        self.prepared().map_or(Ok(None), |p| p.run.step_report(wait))
    }

    /// Takes the sums of a gradient that is final, ahead of the step, while it is still in the cache.
    ///
    /// # Errors
    /// No such tensor; NULL or misaligned; an open meta-update.
    pub fn observe_gradient(&mut self, tensor: usize, gradient: &Gradient) -> Result<()> {
        self.with_prepared(|p| {
            p.meta.refuse_while_open()?;
            p.run.observe_gradient(p.registration, tensor, gradient)
        })
    }
}

impl Prepared<'_> {
    /// After a step, `driven` by the host or enqueued on a device: Φ learns if it is time. Of a device's steps it waits only
    /// for the one that may have brought the time.
    fn learn_from_steps(&mut self, driven: Option<StepReport>) -> Result<()> {
        let options = &self.registration.options;
        let report = match driven {
            None if self.run.may_learn(options.meta_interval, options.meta_warmup) => {
                self.sync()?;
                if let Some(modulation) = &mut self.run.state.modulation {
                    modulation.evaluate_last_again();
                }
                self.run.step_report(false)?
            }
            _ => driven,
        };
        if report.is_some_and(|report| report.skipped.is_none())
            && self.meta.learn_from_steps(&self.registration.options, self.run)
        {
            self.push()?;
        }
        self.log_abandoned();
        Ok(())
    }
}
