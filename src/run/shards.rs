//! One model over several processes: what they compare in each call, and which gradients there are. Where this process has the
//! whole model, nothing is compared.

use std::fmt::Arguments;

use super::Run;
use crate::backend::{Agreement, AllReduce, Collective, TextHash};
use crate::error::{Error, ReductionError, Result};
use crate::model::groups::Tensor;
use crate::model::host_buffers::{CheckedGrads, CheckedParams};
use crate::model::options::{Options, ParamGroup};
use crate::model::registration::Registration;
use crate::model::report::StepOptions;

/// What all processes must have in common before the first step.
pub(crate) fn at_preparation(registration: &Registration) -> Agreement {
    let tensors = TextHash::of(format_args!("{:?}", Whole(&registration.tensors)));
    let param_groups = TextHash::of(format_args!("{:?}", registration.param_groups));
    Agreement { param_groups, ..agreement(registration, tensors, 0, format_args!("preparation")) }
}

fn agreement(registration: &Registration, tensors: u64, state: u64, call: Arguments) -> Agreement {
    let options = Options { threads: 0, ..registration.options.clone() };
    Agreement {
        options: TextHash::of(format_args!("{} {options:?}", env!("CARGO_PKG_VERSION"))),
        tensors,
        param_groups: hyper_parameters(registration),
        state,
        call: TextHash::of(call),
    }
}

/// A hash of those that can change, as `maw_pack` makes it.
fn hyper_parameters(registration: &Registration) -> u64 {
    let of = |(i, tensor): (usize, &Tensor)| {
        let ParamGroup { lr, beta1, beta2, eps, weight_decay, .. } = registration.param_groups[tensor.param_group];
        let numbers = [lr, beta1, beta2, eps, weight_decay].map(f64::to_bits);
        TextHash::of_numbers(std::iter::once(i as u64).chain(numbers))
    };
    registration.tensors.iter().enumerate().map(of).fold(0, u64::wrapping_add)
}

/// Which call a step is.
pub(super) struct StepCall<'a>(pub &'a StepOptions);

impl std::fmt::Display for StepCall<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "step {} {}", self.0.grad_scale.to_bits(), self.0.params_changed)
    }
}

/// Tensors without what each process has of them.
struct Whole<'a>(&'a [Tensor]);

impl std::fmt::Debug for Whole<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Tensor { spec, param_group, moment_dtype, .. } in self.0 {
            let mut spec = spec.clone();
            spec.shard = None;
            write!(f, "{spec:?} {param_group} {moment_dtype:?};")?;
        }
        Ok(())
    }
}

impl Run {
    /// Joins the processes that share the model, when nothing else of the preparation can fail any more: from the second call
    /// on, all must make the same ones.
    ///
    /// # Errors
    /// [`Error::Reduction`].
    pub fn join(&mut self, registration: &Registration, all_reduce: AllReduce) -> Result<()> {
        let agreement = at_preparation(registration);
        self.agreed_tensors = agreement.tensors;
        self.backend.join(all_reduce, &registration.tensors, &agreement)
    }

    /// What the processes must have in common in this call.
    fn agreement(&self, registration: &Registration, call: Arguments) -> Agreement {
        let state = &self.state;
        let counts = [state.steps, state.skips.total()].into_iter().chain(state.tensor_steps.iter().copied());
        let horizon = state.horizon.iter().flat_map(|horizon| horizon.sums.iter().map(|sum| sum.to_bits()));
        let phi = state.modulation.iter().flat_map(|m| m.attention.values().iter().map(|value| value.to_bits()));
        let initialized =
            state.master_initialized.iter().chain(&state.average_initialized).map(|flag| u64::from(*flag));
        let state = TextHash::of_numbers(counts.chain(initialized).chain(horizon).chain(phi));
        agreement(registration, self.agreed_tensors, state, call)
    }

    /// The same in a step that a device makes, but for the state, which is there. `None`: this process is alone.
    pub fn agreement_on_device(&mut self, registration: &Registration, options: &StepOptions) -> Option<Agreement> {
        self.backend.collective()?;
        Some(agreement(registration, self.agreed_tensors, 0, format_args!("{}", StepCall(options))))
    }

    /// In front of a device's first step after remainders were loaded: whether they belong to the parameters.
    ///
    /// # Errors
    /// [`Error::OtherHalves`]; [`Error::Reduction`]; a capture under way; the device's.
    pub fn check_remainders_together(
        &mut self,
        registration: &Registration,
        params: CheckedParams,
        changed: bool,
    ) -> Result<()> {
        if !self.state.compares_masters || changed || self.backend.collective().is_none() {
            return Ok(());
        }
        self.backend.ready("the first step after remainders were loaded")?;
        self.mark_uninitialized(false);
        self.backend.state_sums(params, &self.workspace.uninitialized, &mut self.workspace.fresh_sums);
        self.backend.health()?;
        self.meet(registration, format_args!("remainders"), None)?;
        self.take_reduced_sums(false);
        self.check_reduced_remainders(registration, false)
    }

    /// The processes' calls of the host's reduction so far.
    pub fn reductions(&mut self) -> u64 {
        self.backend.collective().map_or(0, |collective| collective.calls())
    }

    /// Lets the other processes know that this one cannot make the call.
    pub fn refuse(&mut self, registration: &Registration) {
        if self.backend.collective().is_some() {
            let agreement = self.agreement(registration, format_args!("refused"));
            if let Some(collective) = self.backend.collective() {
                collective.refuse(&agreement);
            }
        }
    }

    /// Meets the other processes in this call, and finds the tensors that have a gradient.
    ///
    /// # Errors
    /// [`Error::Reduction`].
    pub fn meet(&mut self, registration: &Registration, call: Arguments, grads: Option<CheckedGrads>) -> Result<()> {
        if self.backend.collective().is_none() {
            self.workspace.mark_present(grads);
            return Ok(());
        }
        let agreement = self.agreement(registration, call);
        let Some(collective) = self.backend.collective() else { return Ok(()) };
        collective.reduce(&agreement, grads)?;
        for (i, present) in self.workspace.present.iter_mut().enumerate() {
            let name = || registration.tensors[i].name().to_owned();
            *present = collective.has_gradient(i).ok_or_else(|| ReductionError::Gradient { name: name() })?;
        }
        Ok(())
    }

    /// One stage of what the processes do together, after `done` here: fails everywhere if it failed on one of them. Shares
    /// numbers of each chunk.
    ///
    /// # Errors
    /// That of `done`; [`Error::Reduction`].
    pub fn share<T>(
        &mut self,
        registration: &Registration,
        call: Arguments,
        done: Result<T>,
        own: &mut dyn FnMut(usize, usize) -> [f64; 4],
    ) -> Result<T> {
        let agreement = self.agreement(registration, call);
        if let Some(collective) = self.backend.collective() {
            match done {
                Ok(_) => collective.share(&agreement, own)?,
                Err(_) => collective.refuse(&agreement),
            }
        }
        done
    }

    /// What the process that has the chunk shared.
    pub fn shared(&mut self, tensor: usize, chunk: usize) -> [f64; 4] {
        self.backend.collective().map_or([0.0; 4], |collective| collective.shared(tensor, chunk))
    }

    /// The state's sums over all processes, of the last meeting. `after_gradients`: so are the gradients'.
    pub fn take_reduced_sums(&mut self, after_gradients: bool) {
        let with_momentum = after_gradients && self.state.modulation.is_some();
        if let Some(collective) = self.backend.collective() {
            collective.state_sums(with_momentum, &mut self.state.state_sums);
            if after_gradients {
                collective.gradient_sums(&mut self.workspace.gradient_sums);
            }
        }
    }

    /// Before a meeting that shall sum Σ θ² of the masters as it was last known; false where that is from a file, or unknown.
    pub fn recall_master_sums(&mut self) -> bool {
        if self.state.sums_current {
            return true;
        }
        if let Some(collective) = self.backend.collective().filter(|_| self.state.master_sums_kept) {
            collective.recall_param_sums();
        }
        self.state.master_sums_kept
    }

    /// The masters' sums of that meeting.
    pub fn take_reduced_master_sums(&mut self) {
        self.take_reduced_sums(false);
        if !self.state.sums_current {
            let sums = self.state.master_sums.iter_mut().zip(&self.state.state_sums);
            for (master, sums) in sums.filter_map(|(master, sums)| Some((master.as_mut()?, sums))) {
                master.square = sums.param;
            }
        }
    }

    /// Sums of gradients outside a step: at once.
    pub fn reduce_gradient_sums(&mut self) {
        if let Some(collective) = self.backend.collective() {
            collective.reduce_again();
            collective.gradient_sums(&mut self.workspace.gradient_sums);
        }
    }

    /// What the last call told of steps that were not made, the next shall tell.
    pub fn tell_again(&mut self) {
        if let Some(collective) = self.backend.collective() {
            collective.tell_again();
        }
    }

    fn take_failure(&mut self) -> Option<ReductionError> {
        self.backend.collective().and_then(Collective::take_failure)
    }

    /// Whether the passes since the last meeting have sums.
    ///
    /// # Errors
    /// [`Error::Reduction`].
    pub fn check_reduced(&mut self) -> Result<()> {
        match self.take_failure() {
            Some(failure) => Err(Error::Reduction(failure)),
            None => Ok(()),
        }
    }

    /// Whether an update that was made has products.
    ///
    /// # Errors
    /// [`Error::ReductionAfterStep`].
    pub fn check_products(&mut self) -> Result<()> {
        match self.take_failure() {
            Some(failure) => Err(Error::ReductionAfterStep(failure)),
            None => Ok(()),
        }
    }
}
