//! A run: all that exists from the end of registration on, and what steps and meta-updates have in common.
//!
//! The step is in `step.rs`; a device that makes steps by itself is followed in `device_sync.rs`.

mod device_sync;
mod shards;
mod step;

use std::sync::Arc;

pub(crate) use self::device_sync::Stream;
pub(crate) use self::shards::at_preparation;
use crate::backend::cpu::{self, CHUNK, Cpu};
use crate::backend::cuda::{Cuda, Device};
use crate::backend::{Backend, Beginning, HorizonSums, MasterSum, ModelChange, RunState};
use crate::error::{Error, Result};
use crate::model::coefficients::Coefficients;
use crate::model::dtype::Precision;
use crate::model::groups::{Groups, Tensor};
use crate::model::host_buffers::{CheckedBuffers, CheckedGrads, CheckedParams, Checker, Grads, Params};
use crate::model::registration::Registration;
use crate::model::report::{Skip, StepReport, Times};
use crate::model::stats::{GradientSums, StateSums, Statistics};
use crate::modulation::Modulation;
use crate::reserve::{sum, times};

/// State, groups, backend and workspaces of a prepared optimizer.
pub(crate) struct Run {
    pub state: RunState,
    pub groups: Groups,
    pub backend: Box<dyn Backend>,
    pub workspace: Workspace,
    pub times: Times,
    /// Of the last step that the host drove.
    last_report: Option<StepReport>,
    /// Steps that were enqueued on a device since its state was pulled.
    enqueued: u64,
    /// Hash of the tensors, of which each process has a part.
    agreed_tensors: u64,
}

/// What steps and meta-updates compute in: one element a tensor.
pub(crate) struct Workspace {
    checker: Checker,
    /// Raw sums of the gradients, and which of them were announced.
    pub gradient_sums: Vec<GradientSums>,
    pub announced: Vec<bool>,
    /// Tensors that have a gradient in this call, on whatever process.
    pub present: Vec<bool>,
    /// Tensors whose masters the next step initialises with the host's parameters.
    pub uninitialized: Vec<bool>,
    /// The same for averages.
    averages_to_init: Vec<bool>,
    displacements: Vec<f64>,
    pub statistics: Vec<Statistics>,
    coefficients: Vec<Option<Coefficients>>,
    momentum: Vec<f64>,
    fresh_sums: Vec<StateSums>,
}

impl Workspace {
    fn new(tensors: usize) -> Self {
        Self {
            checker: Checker::new(tensors),
            gradient_sums: vec![GradientSums::default(); tensors],
            announced: vec![false; tensors],
            present: vec![false; tensors],
            uninitialized: vec![false; tensors],
            averages_to_init: vec![false; tensors],
            displacements: vec![0.0; tensors],
            statistics: vec![Statistics::default(); tensors],
            coefficients: vec![None; tensors],
            momentum: vec![0.0; tensors],
            fresh_sums: vec![StateSums::default(); tensors],
        }
    }

    /// Notes which gradients a process has that is alone.
    fn mark_present(&mut self, grads: Option<CheckedGrads>) {
        for (i, present) in self.present.iter_mut().enumerate() {
            *present = grads.is_some_and(|grads| grads.has(i));
        }
    }
}

/// A run's parts for other tensors.
pub(crate) struct Change {
    state: RunState,
    groups: Groups,
    workspace: Workspace,
}

impl Change {
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    pub fn modulation(&self) -> Option<&Modulation> {
        self.state.modulation.as_ref()
    }
}

/// What a run of these tensors begins with.
fn beginning(registration: &Registration, groups: &Groups, modulation: Option<Modulation>) -> Beginning {
    let Registration { options, tensors, .. } = registration;
    Beginning {
        master_initialized: without_master(tensors),
        average_initialized: without_average(registration),
        horizon: options.learns_from_steps().then(|| HorizonSums::new(groups.groups.len())),
        rounding_keys: registration.rounding_keys(options.seed),
        modulation,
    }
}

/// The tensors without masters to be initialised.
pub(crate) fn without_master(tensors: &[Tensor]) -> Vec<bool> {
    tensors.iter().map(|t| !t.precision.has_master()).collect()
}

/// The same of averages.
pub(crate) fn without_average(registration: &Registration) -> Vec<bool> {
    vec![registration.options.horizon == 0; registration.tensors.len()]
}

impl Run {
    /// What [`Self::new`] allocates at most, the attention module not included.
    pub fn memory_to_prepare(registration: &Registration) -> usize {
        let chunks =
            registration.tensors.iter().map(|tensor| tensor.whole_numel / CHUNK).fold(0, usize::saturating_add);
        let threads = times(cpu::threads(&registration.options), 16 << 10);
        sum([times(16, registration.outline()), times(chunks, 512), threads])
    }

    /// Forms the groups, draws Φ, allocates everything.
    ///
    /// # Errors
    /// A `feature_dim` below the features' length; no memory; the device's.
    pub fn new(registration: &Registration, (cuda, stream): (Option<&Arc<Device>>, &Stream)) -> Result<Self> {
        let Registration { options, tensors, .. } = registration;
        let groups = Groups::form(tensors, options.grouping, options.semantics);
        let modulation = options.modulation.then(|| Modulation::new(options, tensors, &groups)).transpose()?;
        let zeros = modulation.as_ref().is_some_and(Modulation::counts_zeros);
        let backend: Box<dyn Backend> = match cuda {
            None => Box::new(Cpu::new(tensors, options, zeros)?),
            Some(device) => Box::new(Cuda::new(device, stream.0, options, tensors, &groups, modulation.as_ref())?),
        };
        let mut run = Self {
            state: RunState::new(beginning(registration, &groups, modulation)),
            groups,
            backend,
            workspace: Workspace::new(tensors.len()),
            times: Times::default(),
            last_report: None,
            enqueued: 0,
            agreed_tensors: 0,
        };
        run.push(registration)?;
        Ok(run)
    }

    /// What a registration that gained or lost tensors makes of the run: tensor i is the one that was `from[i]`, or a new
    /// one. Moments, counts, masters and Φ stay; a new modulation group's embedding is drawn from the seed and the group's
    /// name. The last step's report is forgotten, and so are features and factors if the groups are not the same.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn plan_change(&self, registration: &Registration, from: &[Option<usize>]) -> Result<Change> {
        let Registration { options, tensors, .. } = registration;
        let groups = Groups::form(tensors, options.grouping, options.semantics);
        let mut modulation = options.modulation.then(|| Modulation::new(options, tensors, &groups)).transpose()?;
        if let (Some(new), Some(old)) = (&mut modulation, &self.state.modulation) {
            new.continue_from(old, &self.groups, &groups, options.seed);
        }
        let mut state = RunState::new(beginning(registration, &groups, modulation));
        let old_groups = groups.positions_in(&self.groups);
        state.continue_from(&self.state, from, &old_groups, |tensor| self.master_sum(tensor));
        Ok(Change { state, groups, workspace: Workspace::new(tensors.len()) })
    }

    /// Makes the change.
    ///
    /// # Errors
    /// No memory; a capture under way, or before; the device's. Nothing is changed then.
    pub fn change_model(
        &mut self,
        registration: &Registration,
        from: &[Option<usize>],
        Change { state, groups, workspace }: Change,
    ) -> Result<()> {
        let (options, tensors, modulation) = (&registration.options, &registration.tensors, state.modulation.as_ref());
        self.backend.change_model(ModelChange { options, tensors, from, groups: &groups, modulation })?;
        (self.state, self.groups, self.workspace) = (state, groups, workspace);
        self.last_report = None; // its tensor may have another number now
        self.push(registration)
    }

    /// Bytes in which the run, without what is as large as the parameters, can be described once.
    pub fn memory(&self, registration: &Registration) -> usize {
        sum([registration.outline(), self.state.modulation.as_ref().map_or(0, Modulation::memory)])
    }

    /// Checks the buffers of a call against the registered tensors, and that they lie in the backend's memory.
    ///
    /// # Errors
    /// What is wrong with the first pointer that is.
    pub fn check<'a>(
        &mut self,
        registration: &Registration,
        params: &'a Params,
        grads: Option<&'a Grads>,
    ) -> Result<CheckedBuffers<'a>> {
        let buffers = self.workspace.checker.check(&registration.tensors, params, grads)?;
        self.backend.check_memory(&registration.tensors, buffers.params, buffers.grads)?;
        Ok(buffers)
    }

    /// Marks the tensors whose masters, and averages, are to be initialised: those without a value, or all if the host
    /// changed its parameters.
    pub fn mark_uninitialized(&mut self, params_changed: bool) {
        for (uninitialized, initialized) in self.workspace.uninitialized.iter_mut().zip(&self.state.master_initialized)
        {
            *uninitialized = params_changed || !initialized;
        }
        for (to_init, initialized) in self.workspace.averages_to_init.iter_mut().zip(&self.state.average_initialized) {
            *to_init = params_changed || !initialized;
        }
    }

    /// Recomputes the sums of parameters and moments unless they could be carried over.
    ///
    /// # Errors
    /// With `verify` [`Error::ParamsChanged`] where parameters are not those of the last step; the device's.
    pub fn refresh_sums(
        &mut self,
        registration: &Registration,
        params: CheckedParams,
        changed: bool,
        verify: bool,
    ) -> Result<()> {
        if self.state.sums_current && !changed && !verify {
            return Ok(());
        }
        self.keep_master_sums();
        let state = &mut self.state;
        self.backend.state_sums(params, &self.workspace.uninitialized, &mut self.workspace.fresh_sums);
        self.backend.health()?; // NaNs of a device that failed are no change
        if verify && !changed {
            let differs = |(old, new): (&StateSums, &StateSums)| old.param.to_bits() != new.param.to_bits();
            let pairs = || state.state_sums.iter().zip(&self.workspace.fresh_sums);
            let moved = state.sums_current.then(|| pairs().position(differs)).flatten();
            if let Some(i) = moved.or_else(|| self.backend.first_desynced(params, &state.master_initialized)) {
                return Err(Error::ParamsChanged { name: registration.tensors[i].name().to_owned() });
            }
        }
        state.state_sums.copy_from_slice(&self.workspace.fresh_sums);
        state.sums_current = true;
        Ok(())
    }

    /// Forgets the sums of a state that the host is about to change, but for those that tell which parameters its remainders
    /// belong to.
    pub fn forget_sums(&mut self) {
        self.keep_master_sums();
        self.state.sums_current = false;
    }

    /// Keeps them, before the sums are taken anew: if the call fails, they are what is known of the masters.
    fn keep_master_sums(&mut self) {
        if !self.state.sums_current {
            return;
        }
        for tensor in 0..self.workspace.uninitialized.len() {
            self.state.master_sums[tensor] = self.master_sum(tensor);
        }
        if let Some(collective) = self.backend.collective() {
            collective.keep_param_sums();
            self.state.master_sums_kept = true;
        }
    }

    /// Σ θ² of a tensor's masters, as far as it is known.
    pub fn master_sum(&self, tensor: usize) -> Option<MasterSum> {
        let state = &self.state;
        let carried = || MasterSum { square: state.state_sums[tensor].param, order: self.backend.sum_order(tensor) };
        if state.sums_current { Some(carried()) } else { state.master_sums[tensor] }
    }

    /// After a load: the host's parameters must be those that the file's remainders belong to, unless the masters are made
    /// anew. Neither half tells.
    ///
    /// # Errors
    /// [`Error::OtherHalves`]; a capture under way; the device's.
    pub fn check_remainders(
        &mut self,
        registration: &Registration,
        params: CheckedParams,
        changed: bool,
    ) -> Result<()> {
        if !self.state.compares_masters || changed || self.backend.collective().is_some() {
            return Ok(());
        }
        self.backend.ready("the first step or meta-update after remainders were loaded")?;
        self.mark_uninitialized(false);
        self.backend.state_sums(params, &self.workspace.uninitialized, &mut self.workspace.fresh_sums);
        self.backend.health()?;
        self.compare_masters(registration, |run, i| run.workspace.fresh_sums[i].param)
    }

    /// The same where processes share the tensors, once they met and the sums were taken anew.
    ///
    /// # Errors
    /// [`Error::OtherHalves`].
    pub fn check_reduced_remainders(&mut self, registration: &Registration, changed: bool) -> Result<()> {
        if !self.state.compares_masters || changed || self.backend.collective().is_none() {
            return Ok(());
        }
        self.compare_masters(registration, |run, i| run.state.state_sums[i].param)
    }

    fn compare_masters(&mut self, registration: &Registration, square: fn(&Self, usize) -> f64) -> Result<()> {
        for (i, tensor) in registration.tensors.iter().enumerate() {
            let found = MasterSum { square: square(self, i), order: self.backend.sum_order(i) };
            let has_remainder = tensor.precision == Precision::Remainder && self.state.master_initialized[i];
            if has_remainder && self.state.master_sums[i].is_some_and(|expected| !expected.agrees(found)) {
                return Err(Error::OtherHalves { name: tensor.name().to_owned() });
            }
        }
        self.state.compares_masters = false;
        Ok(())
    }

    /// First tensor whose parameter or moment is not finite.
    pub fn broken_state(&self) -> Option<(Skip, usize)> {
        let find = |bad: fn(&StateSums) -> bool| self.state.state_sums.iter().position(bad);
        find(|s| !s.param.is_finite())
            .map(|i| (Skip::Parameter, i))
            .or_else(|| find(|s| !(s.exp_avg.is_finite() && s.exp_avg_sq.is_finite())).map(|i| (Skip::Moment, i)))
    }

    /// Back to the start: moments, averages and step counts.
    pub fn reset_moments(&mut self, registration: &Registration) {
        self.backend.reset_moments();
        self.forget_sums();
        let state = &mut self.state;
        state.tensor_steps.fill(0);
        state.last_gradients.fill(None);
        (state.steps, state.skips) = (0, Default::default());
        state.average_initialized = without_average(registration);
        if let Some(horizon) = &mut state.horizon {
            horizon.reset();
        }
        if let Some(modulation) = &mut state.modulation {
            modulation.forget();
        }
    }
}
