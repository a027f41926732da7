//! A prepared optimizer taken apart, so that a call can borrow each part of it.

use super::log::Logger;
use super::{MEMORY_OF_A_CALL, Optimizer};
use crate::checkpoint;
use crate::error::{Result, StateError};
use crate::meta::Meta;
use crate::model::groups;
use crate::model::options::Objective;
use crate::model::registration::Registration;
use crate::reserve::{self, Reserve, sum, times};
use crate::run::Run;

/// What exists from the end of registration on.
pub(super) struct Ready {
    pub run: Run,
    pub meta: Meta,
    /// Of the open meta-update.
    pub reserve: Option<Reserve>,
}

/// All parts of a prepared optimizer.
pub(super) struct Prepared<'a> {
    pub registration: &'a mut Registration,
    pub run: &'a mut Run,
    pub meta: &'a mut Meta,
    pub log: &'a mut Logger,
    pub reserve: &'a mut Option<Reserve>,
}

impl Optimizer {
    /// Ends registration: forms the groups, draws Φ, allocates everything. Does nothing the second time.
    ///
    /// # Errors
    /// No tensors; a `feature_dim` below the features' length; no memory; an open meta-update. Registration stays open
    /// then.
    pub fn prepare(&mut self) -> Result<()> {
        if self.all_reduce.is_some() && self.ready.is_none() {
            self.ready = Some(self.prepare_together(Self::make_ready)?);
        }
        self.with_prepared(|p| p.meta.refuse_while_open())
    }

    /// The parts; `None` before preparation.
    pub(super) fn prepared(&mut self) -> Option<Prepared<'_>> {
        let Self { registration, ready, log, .. } = self;
        ready.as_mut().map(|Ready { run, meta, reserve }| Prepared { registration, run, meta, log, reserve })
    }

    /// Prepares if that was not done yet; if the work is then refused, registration is open as before.
    pub(super) fn with_prepared<T>(&mut self, work: impl FnOnce(Prepared) -> Result<T>) -> Result<T> {
        if self.all_reduce.is_some() && self.ready.is_none() {
            return Err(StateError::PrepareTogether.into());
        }
        let fresh = if self.ready.is_none() { Some(self.make_ready()?) } else { None };
        let first = fresh.is_some();
        let Self { registration, ready, log, .. } = self;
        if first {
            *ready = fresh;
        }
        let Ready { run, meta, reserve } = ready.as_mut().expect("made above if it was not there");
        let done = work(Prepared { registration, run, meta, log, reserve });
        if first && done.is_err() {
            self.ready = None;
        }
        done
    }

    fn make_ready(&mut self) -> Result<Ready> {
        if self.registration.tensors.is_empty() {
            return Err(StateError::NoTensors.into());
        }
        self.check_shards()?;
        let mut run = reserve::with(Run::memory_to_prepare(&self.registration), || {
            let run = Run::new(&self.registration, (self.cuda.as_ref(), &self.stream))?;
            checkpoint::check_header(&self.registration, &run.groups, run.state.modulation.as_ref())?;
            Ok(run)
        })?;
        let mut meta = Meta::default();
        reserve::with(run.memory(&self.registration), || {
            meta.prepare_to_learn(&run);
            Ok(())
        })?;
        if let Some(all_reduce) = self.all_reduce.clone() {
            let memory = Run::memory_to_prepare(&self.registration);
            reserve::with(memory, || run.join(&self.registration, all_reduce))?;
        }
        self.note_run(run.backend.refused_threads(), run.memory(&self.registration));
        let options = &self.registration.options;
        if options.modulation && options.objective == Objective::GenGap {
            self.log.warn(|| {
                "the generalization gap alone does not depend on the attention module: \
                 meta-updates will move it by its regularisation only"
                    .to_owned()
            });
        }
        if options.learns_from_steps() && options.alpha_log_range == 0.0 && options.alpha_range == 2.0 {
            self.log.warn(|| {
                "with alpha_range 2 alpha can reach 0: a group would stand still, leave nothing to learn from, and never \
                 move again; alpha_log_range has no such bound"
                    .to_owned()
            });
        }
        if groups::depth_is_missing(&self.registration.tensors, options) {
            self.log.depth_is_missing();
        }
        Ok(Ready { run, meta, reserve: None })
    }

    /// Takes note of the memory that describes the run, and tells of threads that it did not get.
    pub(super) fn note_run(&mut self, refused_threads: Option<String>, memory: usize) {
        if let Some(refused) = refused_threads {
            self.log.warn(|| refused);
        }
        if self.cuda.is_some() {
            self.memory_of_a_call = sum([MEMORY_OF_A_CALL, times(4, memory)]);
        }
    }
}

impl Prepared<'_> {
    /// Waits for the device and brings what the getters tell up to date; on the CPU there is nothing to do.
    ///
    /// # Errors
    /// A capture under way; the driver's, of whatever ran.
    pub fn sync(&mut self) -> Result<()> {
        self.run.backend.ready("what waits for the device")?;
        if self.meta.open_request().is_some() {
            return Ok(()); // no step can have been made
        }
        let before = self.run.state.skips.total();
        let pulled = self.run.pull();
        // Also where the state came and tells of a step that was not made.
        self.log_overwritten();
        let skipped = self.run.state.skips.total().saturating_sub(before);
        if skipped > 0 {
            self.log.skipped(skipped, &self.run.state.skips, &self.registration.tensors);
        }
        pulled
    }

    /// Tells of parameters that the host changed and a step overwrote.
    pub fn log_overwritten(&mut self) {
        if let Some(tensor) = self.run.backend.take_overwritten() {
            self.log.overwritten(&self.registration.tensors[tensor]);
        }
    }

    /// Work that allocates at most so many times what describes the run.
    ///
    /// # Errors
    /// No memory; the work's.
    pub fn within<T>(&mut self, factor: usize, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let memory = times(factor, self.run.memory(self.registration));
        reserve::with(memory, || work(self))
    }

    /// Sends what the host changed to a device.
    ///
    /// # Errors
    /// A capture under way; the driver's.
    pub fn push(&mut self) -> Result<()> {
        self.run.push(self.registration)
    }

    /// A setter may act: no meta-update is open. What was announced is forgotten.
    ///
    /// # Errors
    /// One is open.
    pub fn between_meta_updates(&mut self) -> Result<()> {
        self.meta.refuse_while_open()?;
        self.run.workspace.announced.fill(false);
        Ok(())
    }
}
