//! Adding and removing param groups and tensors, before preparation and after it.

use super::Optimizer;
use super::prepared::Ready;
use crate::checkpoint::check_header;
use crate::error::{Result, StateError};
use crate::model::groups::TensorSpec;
use crate::model::options::ParamGroup;
use crate::model::registration::Registration;
use crate::reserve::{self, sum, times};
use crate::run::Run;

impl Optimizer {
    /// Registers tensors that share hyper-parameters and returns the group's index. After preparation too, between steps:
    /// what is there stays as it is, and the new tensors start at step 0.
    ///
    /// # Errors
    /// No tensors; a field, a name or a shape that is not usable; an open meta-update; no memory; on a device a captured
    /// step. Nothing is registered then.
    pub fn add_param_group(&mut self, group: ParamGroup, specs: Vec<TensorSpec>) -> Result<usize> {
        let memory = self.registration.memory_to_add(&specs);
        self.change_registration(memory, |registration| registration.add(group, specs))
    }

    /// Registers more tensors of a param group. They come behind all others, whatever their group.
    ///
    /// # Errors
    /// No such group; as for [`Self::add_param_group`].
    pub fn add_tensors(&mut self, group: usize, specs: Vec<TensorSpec>) -> Result<()> {
        let memory = self.registration.memory_to_add(&specs);
        self.change_registration(memory, |registration| registration.add_tensors(group, specs))
    }

    /// Forgets a tensor and its state. Those behind it move up by one place; its param group stays, even without tensors.
    ///
    /// # Errors
    /// No such tensor; the last one of a prepared optimizer; an open meta-update; no memory; on a device a captured step.
    pub fn remove_tensor(&mut self, index: usize) -> Result<()> {
        if self.ready.is_some() && index == 0 && self.tensors().len() == 1 {
            return Err(StateError::LastTensor.into());
        }
        self.change_registration(0, |registration| registration.remove(index))
    }

    /// Changes what is registered, and after preparation the run with it. `memory`: what the change allocates at most.
    fn change_registration<T>(
        &mut self,
        memory: usize,
        change: impl FnOnce(&mut Registration) -> Result<T>,
    ) -> Result<T> {
        if let Some(mut p) = self.changeable()? {
            p.sync()?;
        }
        if self.ready.is_some() {
            self.refuse_shards("tensors added to or removed from a prepared optimizer")?;
        }
        let Self { registration, ready, .. } = self;
        let Some(Ready { run, meta, .. }) = ready else {
            return reserve::with(memory, || change(registration));
        };
        let memory = sum([memory, times(3, registration.outline())]);
        let (changed, changed_registration, from) = reserve::with(memory, || {
            let mut new = registration.clone();
            let changed = change(&mut new)?;
            let from: Vec<_> = new.tensors.iter().map(|tensor| registration.index(&tensor.spec.name)).collect();
            Ok((changed, new, from))
        })?;
        let memory = sum([Run::memory_to_prepare(&changed_registration), times(2, run.memory(registration))]);
        reserve::with(memory, || {
            let change = run.plan_change(&changed_registration, &from)?;
            check_header(&changed_registration, change.groups(), change.modulation())?;
            run.change_model(&changed_registration, &from, change)?;
            meta.forget_gradient(run);
            Ok(())
        })?;
        *registration = changed_registration;
        let (refused, memory) = (run.backend.refused_threads(), run.memory(registration));
        self.note_run(refused, memory);
        Ok(changed)
    }
}
