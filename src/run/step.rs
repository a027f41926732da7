//! One step, read top to bottom: check, statistics, verdict, update, report.

use std::time::Instant;

use super::shards::StepCall;
use super::{Run, Workspace, without_average};
use crate::backend::Products;
use crate::error::{Error, Result, StateError};
use crate::model::clipping::{EffectiveGradient, effective_gradient};
use crate::model::coefficients::Coefficients;
use crate::model::groups::Tensor;
use crate::model::host_buffers::{CheckedGrads, CheckedParams, Gradient, Grads, Params};
use crate::model::options::{NonFinite, Semantics};
use crate::model::registration::Registration;
use crate::model::report::{MAX_STEPS, Skip, StepOptions, StepReport};
use crate::model::stats::{GradientSums, Statistics};
use crate::modulation::Broken;
use crate::numeric::stochastic_rounding::step_key;

/// Why a step is skipped, and the tensor to blame.
type Culprit = (Skip, Option<usize>);

impl Run {
    /// Forgets what was announced.
    pub fn discard_announced(&mut self) {
        self.workspace.announced.fill(false);
    }

    /// Checks the arguments, then steps or lets a device do it: `None` from a device, which reports later.
    ///
    /// # Errors
    /// An unusable argument; under [`NonFinite::Error`] something not finite; under `verify_params` parameters that changed
    /// unannounced. Nothing is changed then. On a device: the driver's.
    pub fn step(
        &mut self,
        registration: &Registration,
        params: &Params,
        grads: &Grads,
        options: &StepOptions,
        waits: bool,
    ) -> Result<Option<StepReport>> {
        self.backend.health()?;
        if self.state.steps.saturating_add(self.enqueued) >= MAX_STEPS {
            return Err(StateError::TooManySteps.into());
        }
        let tensors = &registration.tensors;
        let buffers = self.workspace.checker.check(tensors, params, Some(grads))?;
        let (params, grads) = (buffers.params, buffers.grads.expect("some were passed"));
        self.check_announced(tensors, grads)?;
        self.backend.check_memory(tensors, params, Some(grads))?;
        self.check_remainders(registration, params, options.params_changed)?;
        if self.backend.device().is_some() {
            self.check_remainders_together(registration, params, options.params_changed)?;
        }
        let agreement = self.agreement_on_device(registration, options);
        if let Some(device) = self.backend.device() {
            let started = Instant::now();
            if waits && agreement.is_some() && device.is_ahead() {
                device.report(true)?; // if one before was not made, it says so, and this one is not made either
            }
            device.launch(params, grads, options, waits, agreement.as_ref())?;
            self.times.update += started.elapsed();
            self.enqueued += 1;
            self.state.compares_masters = false;
            self.workspace.announced.fill(false);
            return Ok(None);
        }
        for (name, address) in [("device_grad_scale", options.device_grad_scale), ("found_inf", options.found_inf)] {
            if address != 0 {
                let expected = "NULL on the CPU, with verify_params, with MAW_NONFINITE_ERROR, and with shards under \
                                MAW_OBJECTIVE_HORIZON or MAW_REFERENCE";
                return Err(Error::range(format!("step_options.{name}"), "a pointer", expected));
            }
        }
        self.backend.ready(
            "a step that the host decides on (verify_params, MAW_NONFINITE_ERROR, shards under MAW_OBJECTIVE_HORIZON or \
             MAW_REFERENCE)",
        )?;
        let driven = self.driven_step(registration, params, grads, options);
        self.backend.health()?; // before what its numbers seemed to say
        self.last_report = Some(driven?);
        Ok(self.last_report)
    }

    /// The report of the newest step that was made: with `wait`, of the last that was enqueued; without, of the last that
    /// a device has decided by now. `None` if there was none yet.
    ///
    /// # Errors
    /// A capture under way, with `wait`; the driver's, of whatever ran.
    pub fn step_report(&mut self, wait: bool) -> Result<Option<StepReport>> {
        let last = self.last_report;
        self.backend.device().map_or(Ok(last), |device| device.report(wait))
    }

    /// A step that the host drives, pass by pass.
    fn driven_step(
        &mut self,
        registration: &Registration,
        params: CheckedParams,
        grads: CheckedGrads,
        options: &StepOptions,
    ) -> Result<StepReport> {
        let Registration { options: settings, tensors, .. } = registration;
        let (verify, changed) = (settings.verify_params, options.params_changed);
        let alone = self.backend.collective().is_none();
        if settings.nonfinite == NonFinite::Propagate && settings.max_grad_norm == 0.0 && !verify && alone {
            return Ok(self.unchecked_step(registration, params, grads, options));
        }
        let started = Instant::now();
        let recomputed = changed || !self.state.sums_current;
        self.mark_uninitialized(changed);
        self.refresh_sums(registration, params, changed, verify)?;
        let gradient = self.sum_gradients(registration, grads, options);
        if gradient.is_err() {
            self.state.sums_current &= !recomputed; // as below
        }
        let gradient = gradient?;
        let summed = Instant::now();
        self.times.statistics += summed - started;
        let verdict = match settings.nonfinite {
            NonFinite::Propagate => Ok(()),
            NonFinite::Skip | NonFinite::Error => self.verdict(tensors, &gradient),
        };
        let judged = Instant::now();
        self.times.factors += judged - summed;
        if let Err(culprit) = verdict {
            // The host may take back what it changed.
            self.state.sums_current &= !recomputed;
            return self.skip(registration, culprit, &gradient, changed);
        }
        self.update(registration, params, grads, &gradient)?;
        self.times.update += judged.elapsed();
        Ok(self.report(&gradient, None, None))
    }

    /// The gradients' sums, but of those that were announced, and what they say of the norm. Here processes that share the
    /// model meet.
    fn sum_gradients(
        &mut self,
        registration: &Registration,
        grads: CheckedGrads,
        options: &StepOptions,
    ) -> Result<EffectiveGradient> {
        let (announced, with_momentum) = (&self.workspace.announced, self.state.modulation.is_some());
        self.backend.gradient_sums(
            grads,
            with_momentum,
            &|tensor| !announced[tensor],
            &mut self.workspace.gradient_sums,
        );
        self.backend.first_moment_sums(&mut self.state.state_sums);
        self.meet(registration, format_args!("{}", StepCall(options)), Some(grads))?;
        self.take_reduced_sums(true);
        self.check_reduced_remainders(registration, options.params_changed)?;
        let Workspace { gradient_sums, present, .. } = &self.workspace;
        Ok(effective_gradient(
            &registration.tensors,
            gradient_sums.iter().enumerate().filter(|(i, _)| present[*i]),
            options.grad_scale,
            registration.options.max_grad_norm,
        ))
    }

    /// Updates tensors, counts and what is carried to the next step.
    fn update(
        &mut self,
        registration: &Registration,
        params: CheckedParams,
        grads: CheckedGrads,
        gradient: &EffectiveGradient,
    ) -> Result<()> {
        let reference = registration.options.semantics == Semantics::Reference && self.state.modulation.is_some();
        self.init_masters(registration, params);
        self.prepare_coefficients(registration, gradient.factor);
        let workspace = &mut self.workspace;
        let products = Products {
            momentum: reference.then_some(&mut workspace.momentum[..]),
            displacements: self.state.horizon.is_some().then_some(&mut workspace.displacements[..]),
        };
        self.backend.update(params, grads, &workspace.coefficients, &mut self.state.state_sums, products);
        self.count_step();
        self.state.sums_current = true;
        if let Some(modulation) = &mut self.state.modulation {
            modulation.accept();
        }
        if let Err(error) = self.check_products() {
            self.state.last_gradients.fill(None); // this step's are not known
            return Err(error);
        }
        if reference {
            for (i, last) in self.state.last_gradients.iter_mut().enumerate() {
                let sums = self.workspace.gradient_sums[i].scaled(gradient.factor);
                let new = GradientSums { with_momentum: self.workspace.momentum[i], ..sums };
                *last = self.workspace.coefficients[i].is_some().then_some(new);
            }
        }
        self.add_to_horizon(registration.options.meta_warmup, gradient.factor);
        Ok(())
    }

    /// Plain AdamW without checks: each gradient is read once, no sums.
    fn unchecked_step(
        &mut self,
        registration: &Registration,
        params: CheckedParams,
        grads: CheckedGrads,
        options: &StepOptions,
    ) -> StepReport {
        let started = Instant::now();
        let gradient = EffectiveGradient { norm: f64::NAN, clip: 1.0, factor: 1.0 / options.grad_scale, broken: None };
        self.mark_uninitialized(options.params_changed);
        self.init_masters(registration, params);
        self.workspace.mark_present(Some(grads));
        self.prepare_coefficients(registration, gradient.factor);
        self.backend.update_without_sums(params, grads, &self.workspace.coefficients);
        self.times.update += started.elapsed();
        self.count_step();
        self.state.sums_current = false;
        self.state.master_sums.fill(None);
        self.report(&gradient, None, None)
    }

    /// H_g += h_g: what this step's gradients say of the displacement so far.
    fn add_to_horizon(&mut self, warmup: u64, factor: f64) {
        let Self { state, workspace, groups, .. } = self;
        let Some(horizon) = state.horizon.as_mut().filter(|_| state.steps > warmup) else { return };
        for (sum, group) in horizon.sums.iter_mut().zip(&groups.groups) {
            let updated = group.tensors.iter().filter(|i| workspace.coefficients[**i].is_some());
            *sum += updated.fold(0.0, |h, i| h + workspace.displacements[*i] * factor);
        }
        horizon.count += 1;
    }

    fn count_step(&mut self) {
        self.state.steps += 1;
        self.state.compares_masters = false;
        self.workspace.announced.fill(false);
        for (step, coefficients) in self.state.tensor_steps.iter_mut().zip(&self.workspace.coefficients) {
            *step += u64::from(coefficients.is_some());
        }
    }

    /// Counts a skipped step, or makes it a failure.
    fn skip(
        &mut self,
        registration: &Registration,
        (reason, tensor): Culprit,
        gradient: &EffectiveGradient,
        params_changed: bool,
    ) -> Result<StepReport> {
        if registration.options.nonfinite == NonFinite::Error {
            return Err(Error::NotFinite { what: reason.describe(tensor.map(|i| &registration.tensors[i])) });
        }
        let state = &mut self.state;
        state.skips.count(reason, tensor, state.steps);
        self.workspace.announced.fill(false);
        if params_changed {
            // The host said so once; it holds for the next step.
            state.master_initialized.fill(false);
            state.average_initialized = without_average(registration);
        }
        Ok(self.report(gradient, Some(reason), tensor))
    }

    /// Takes the sums of a gradient that is final, ahead of the step, while it is still in the cache.
    ///
    /// # Errors
    /// No such tensor; NULL or misaligned.
    pub fn observe_gradient(&mut self, registration: &Registration, tensor: usize, gradient: &Gradient) -> Result<()> {
        let gradient = gradient.check(tensor, registration.tensor(tensor)?)?;
        // A device that makes the step by itself takes the sums there.
        if self.backend.device().is_none() {
            self.backend.ready("an announced gradient")?;
            self.workspace.gradient_sums[tensor] =
                self.backend.gradient_sums_of(gradient, self.state.modulation.is_some());
            self.backend.health()?;
        }
        self.workspace.announced[tensor] = true;
        Ok(())
    }

    /// Initialises the masters that are marked with the host's parameters, and then the averages.
    fn init_masters(&mut self, registration: &Registration, params: CheckedParams) {
        if self.workspace.uninitialized.contains(&true) {
            self.backend.init_masters(params, &self.workspace.uninitialized);
            self.state.master_initialized.fill(true);
        }
        if registration.options.horizon > 0 && self.workspace.averages_to_init.contains(&true) {
            self.backend.init_averages(params, &self.workspace.averages_to_init);
            self.state.average_initialized.fill(true);
        }
    }

    fn check_announced(&self, tensors: &[Tensor], grads: CheckedGrads) -> Result<()> {
        match (0..tensors.len()).find(|&i| self.workspace.announced[i] && !grads.has(i)) {
            Some(index) => Err(Error::AnnouncedGradientMissing { index, name: tensors[index].name().to_owned() }),
            None => Ok(()),
        }
    }

    /// Whether the step can be taken; evaluates the factors on the way.
    fn verdict(&mut self, tensors: &[Tensor], gradient: &EffectiveGradient) -> std::result::Result<(), Culprit> {
        if let Some(tensor) = gradient.broken {
            return Err((Skip::Gradient, tensor));
        }
        if let Some((reason, tensor)) = self.broken_state() {
            return Err((reason, Some(tensor)));
        }
        let Some(modulation) = &mut self.state.modulation else { return Ok(()) };
        for (i, tensor) in tensors.iter().enumerate() {
            let sums = self.workspace.present[i].then(|| self.workspace.gradient_sums[i].scaled(gradient.factor));
            self.workspace.statistics[i] = Statistics::new(sums, self.state.state_sums[i], tensor.whole_numel);
        }
        match modulation.evaluate(&self.groups, &self.workspace.statistics, self.state.steps + 1) {
            Ok(_) => Ok(()),
            Err(Broken::Feature) => Err((Skip::Feature, None)),
            Err(Broken::Factor) => Err((Skip::Factor, None)),
        }
    }

    /// The scalars of every tensor that has a gradient.
    fn prepare_coefficients(&mut self, registration: &Registration, factor: f64) {
        let semantics = registration.options.semantics;
        for (i, tensor) in registration.tensors.iter().enumerate() {
            let group = &registration.param_groups[tensor.param_group];
            let step = self.state.tensor_steps[i] + 1;
            self.workspace.coefficients[i] = self.workspace.present[i].then(|| {
                Coefficients::new(group, semantics, step, self.next_factors(i), factor)
                    .with_key(step_key(self.state.rounding_keys[i], step))
            });
        }
    }

    /// α and β of a tensor's group, of the evaluation under way.
    fn next_factors(&self, tensor: usize) -> (f64, f64) {
        let group = self.groups.of_tensor[tensor];
        self.state.modulation.as_ref().map_or((1.0, 1.0), |m| m.next_factors().of(group))
    }

    fn report(&self, gradient: &EffectiveGradient, skipped: Option<Skip>, tensor: Option<usize>) -> StepReport {
        StepReport {
            step: self.state.steps,
            skipped_steps: self.state.skips.total(),
            grad_norm: gradient.norm,
            clip_factor: gradient.clip,
            skipped,
            nonfinite_tensor: tensor,
        }
    }
}
