//! One step, read top to bottom: check, statistics, factors, update, report.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::model::clipping::{EffectiveGradient, effective_gradient};
use crate::model::coefficients::Coefficients;
use crate::model::groups::Tensor;
use crate::model::host_buffers::{Gradient, Grads, Params};
use crate::model::options::{NonFinite, ParamGroup, Semantics, positive};
use crate::model::report::{Skip, StepOptions, StepReport};
use crate::model::stats::{GradientSums, StateSums, Statistics};
use crate::modulation::Broken;
use crate::numeric::stochastic_rounding::step_key;
use crate::optimizer::{LogLevel, Optimizer, Prepared, not_found};

impl Optimizer {
    /// One step: every tensor that has a gradient is updated in place.
    ///
    /// # Errors
    /// An unusable argument; an open meta-update; under [`NonFinite::Error`] something not finite; under
    /// `verify_params` parameters that changed unannounced. Nothing is changed then. On a device: the driver's.
    pub fn step(&mut self, params: &Params, grads: &Grads, options: &StepOptions) -> Result<StepReport> {
        let report = self.enqueue_step(params, grads, options, true)?;
        Ok(report.expect("it was waited for"))
    }

    /// The same without waiting for a device: `None` from one that makes its steps by itself, unless `waits`.
    ///
    /// # Errors
    /// As for [`Self::step`]; what cannot be captured, while the stream is being captured into a CUDA graph.
    pub fn enqueue_step(
        &mut self,
        params: &Params,
        grads: &Grads,
        options: &StepOptions,
        waits: bool,
    ) -> Result<Option<StepReport>> {
        self.prepared(|optimizer| {
            let driven = optimizer.checked_step(params, grads, options, waits)?;
            if driven.is_some() || !waits { Ok(driven) } else { optimizer.step_report(true) }
        })
    }

    /// The report of the newest step that was made: with `wait`, of the last that was enqueued; without, of the last that
    /// a device has decided by now. `None` if there was none yet.
    ///
    /// # Errors
    /// A capture under way, with `wait`; the driver's, of whatever ran.
    pub fn step_report(&mut self, wait: bool) -> Result<Option<StepReport>> {
        let Some(p) = &mut self.prepared else { return Ok(None) };
        let last = p.last_report;
        p.backend.device().map_or(Ok(last), |device| device.report(wait))
    }

    /// Checks the arguments, then steps or lets a device do it.
    fn checked_step(
        &mut self,
        params: &Params,
        grads: &Grads,
        options: &StepOptions,
        waits: bool,
    ) -> Result<Option<StepReport>> {
        positive("step_options.grad_scale", options.grad_scale)?;
        let Self { tensors, prepared, .. } = self;
        let p = prepared.as_mut().expect("prepared above");
        p.meta.refuse_while_open("maw_step")?;
        p.backend.health()?;
        p.checker.check(tensors, params, Some(grads))?;
        p.check_announced(tensors, grads)?;
        p.backend.check_buffers(tensors, params, Some(grads))?;
        if let Some(device) = p.backend.device() {
            let started = Instant::now();
            device.launch(params, grads, options, waits)?;
            p.times.update += started.elapsed();
            p.launched += 1;
            p.announced.fill(false);
            return Ok(None);
        }
        for (name, address) in [("device_grad_scale", options.device_grad_scale), ("found_inf", options.found_inf)] {
            if address != 0 {
                let expected = "NULL on the CPU, with verify_params and with MAW_NONFINITE_ERROR";
                return Err(Error::range(format!("step_options.{name}"), "a pointer", expected));
            }
        }
        p.backend.ready("a step that the host decides on (verify_params, MAW_NONFINITE_ERROR)")?;
        let driven = self.driven_step(params, grads, options);
        let p = self.prepared.as_mut().expect("prepared above");
        p.backend.health()?; // before what its numbers seemed to say
        p.last_report = Some(driven?);
        Ok(p.last_report)
    }

    /// A step that the host drives, pass by pass.
    fn driven_step(&mut self, params: &Params, grads: &Grads, options: &StepOptions) -> Result<StepReport> {
        let verify = self.options.verify_params;
        let Self { options: settings, param_groups, tensors, prepared, .. } = self;
        let p = prepared.as_mut().expect("prepared above");

        if settings.nonfinite == NonFinite::Propagate && settings.max_grad_norm == 0.0 && !verify {
            return Ok(self.step_unseen(params, grads, options));
        }
        let started = Instant::now();
        let anew = options.params_changed || !p.carried;
        p.find_shown(options.params_changed);
        p.refresh_state(tensors, params, options.params_changed, verify)?;
        let announced = &p.announced;
        let with_momentum = p.modulation.is_some();
        p.backend.gradient_sums(grads, with_momentum, &|tensor| !announced[tensor], &mut p.gradients);
        p.backend.first_moment_sums(&mut p.state);

        let gradient = effective_gradient(
            tensors,
            p.gradients.iter().enumerate().filter(|(i, _)| grads.has(*i)),
            options.grad_scale,
            settings.max_grad_norm,
        );
        let summed = Instant::now();
        p.times.statistics += summed - started;
        let verdict = match settings.nonfinite {
            NonFinite::Propagate => Ok(()),
            NonFinite::Skip | NonFinite::Error => p.verdict(tensors, grads, &gradient),
        };
        let judged = Instant::now();
        p.times.factors += judged - summed;
        if let Err((reason, tensor)) = verdict {
            // The host may take back what it changed.
            p.carried &= !anew;
            let report = self.skip(reason, tensor, &gradient)?;
            let p = self.prepared.as_mut().expect("a step prepares");
            if options.params_changed {
                // It was told once and holds for the next step.
                p.mastered.fill(false);
            }
            return Ok(report);
        }

        p.begin_masters(params);
        p.prepare_coefficients(settings.semantics, param_groups, tensors, grads, gradient.factor);
        let reference = settings.semantics == Semantics::Reference && p.modulation.is_some();
        let momentum = reference.then_some(&mut p.momentum[..]);
        p.backend.update(params, grads, &p.coefficients, &mut p.state, momentum);

        p.times.update += judged.elapsed();
        p.steps += 1;
        p.carried = true;
        p.announced.fill(false);
        if let Some(modulation) = &mut p.modulation {
            modulation.accept();
        }
        for i in 0..tensors.len() {
            let had = p.coefficients[i].is_some();
            p.tensor_steps[i] += u64::from(had);
            if reference {
                let sums = p.gradients[i].scaled(gradient.factor);
                p.kept[i] = had.then_some(GradientSums { with_momentum: p.momentum[i], ..sums });
            }
        }
        Ok(p.report(&gradient, None, None))
    }

    /// Plain AdamW that looks at nothing: one reading of each gradient, no sums.
    fn step_unseen(&mut self, params: &Params, grads: &Grads, options: &StepOptions) -> StepReport {
        let Self { options: settings, param_groups, tensors, prepared, .. } = self;
        let p = prepared.as_mut().expect("a step prepares");
        let started = Instant::now();
        let gradient = EffectiveGradient { norm: f64::NAN, clip: 1.0, factor: 1.0 / options.grad_scale, broken: None };
        p.find_shown(options.params_changed);
        p.begin_masters(params);
        p.prepare_coefficients(settings.semantics, param_groups, tensors, grads, gradient.factor);
        p.backend.update_plain(params, grads, &p.coefficients);
        p.times.update += started.elapsed();
        p.steps += 1;
        p.carried = false;
        p.announced.fill(false);
        for (step, coefficients) in p.tensor_steps.iter_mut().zip(&p.coefficients) {
            *step += u64::from(coefficients.is_some());
        }
        p.report(&gradient, None, None)
    }

    fn skip(&mut self, reason: Skip, tensor: Option<usize>, gradient: &EffectiveGradient) -> Result<StepReport> {
        let describe = |tensors: &[Tensor]| reason.describe(tensor.map(|i| &tensors[i]));
        if self.options.nonfinite == NonFinite::Error {
            return Err(Error::NotFinite { what: describe(&self.tensors) });
        }
        let p = self.prepared.as_mut().expect("a step prepares");
        p.skips.count(reason, tensor, p.steps);
        p.announced.fill(false);
        let report = p.report(gradient, Some(reason), tensor);
        let last = p.skips.last;
        self.log_skipped(1, last);
        Ok(report)
    }

    /// Tells of steps that were skipped, and why the last was.
    pub(crate) fn log_skipped(&mut self, count: u64, last: Option<(Skip, Option<usize>, u64)>) {
        if let (Some(_), Some((reason, tensor, _))) = (&self.log, last) {
            let what = reason.describe(tensor.map(|i| &self.tensors[i]));
            let message = match count {
                1 => format!("step skipped: {what} is not finite"),
                n => format!("{n} steps skipped, the last because {what} is not finite"),
            };
            self.log(LogLevel::Warning, || message);
        }
    }

    /// Takes the sums of a gradient that is final, ahead of the step, while it is still in the cache.
    ///
    /// # Errors
    /// No such tensor; NULL or misaligned; an open meta-update.
    pub fn observe_gradient(&mut self, tensor: usize, gradient: &Gradient) -> Result<()> {
        self.prepared(|optimizer| {
            let Self { tensors, prepared, .. } = optimizer;
            let p = prepared.as_mut().expect("prepared above");
            p.meta.refuse_while_open("maw_observe_gradient")?;
            let known = tensors.get(tensor).ok_or_else(|| not_found("tensor", tensor, tensors.len()))?;
            gradient.check(tensor, known)?;
            // A device that makes the step by itself takes the sums there.
            if p.backend.device().is_none() {
                p.backend.ready("an announced gradient")?;
                p.gradients[tensor] = p.backend.gradient_sums_of(tensor, gradient, p.modulation.is_some());
                p.backend.health()?;
            }
            p.announced[tensor] = true;
            Ok(())
        })
    }
}

impl Prepared {
    /// Recomputes the sums of the state unless they could be carried over.
    pub fn refresh_state(&mut self, tensors: &[Tensor], params: &Params, changed: bool, verify: bool) -> Result<()> {
        if self.carried && !changed && !verify {
            return Ok(());
        }
        self.backend.state_sums(params, &self.shown, &mut self.fresh);
        self.backend.health()?; // NaNs of a device that failed are no change
        if verify && !changed {
            let differs = |(old, new): (&StateSums, &StateSums)| old.param.to_bits() != new.param.to_bits();
            let moved = self.carried.then(|| self.state.iter().zip(&self.fresh).position(differs)).flatten();
            if let Some(i) = moved.or_else(|| self.backend.stranger(params, &self.mastered)) {
                return Err(Error::ParamsChanged { name: tensors[i].name().to_owned() });
            }
        }
        self.state.copy_from_slice(&self.fresh);
        self.carried = true;
        Ok(())
    }

    /// Finds the tensors whose masters are to begin: that have not begun, or all if the host changed its parameters.
    pub fn find_shown(&mut self, changed: bool) {
        for (shown, mastered) in self.shown.iter_mut().zip(&self.mastered) {
            *shown = changed || !mastered;
        }
    }

    /// Lets their masters begin with the host's parameters.
    fn begin_masters(&mut self, params: &Params) {
        if self.shown.contains(&true) {
            self.backend.begin_masters(params, &self.shown);
            self.mastered.fill(true);
        }
    }

    fn check_announced(&self, tensors: &[Tensor], grads: &Grads) -> Result<()> {
        match (0..tensors.len()).find(|&i| self.announced[i] && !grads.has(i)) {
            Some(index) => Err(Error::AnnouncedGradientMissing { index, name: tensors[index].name().to_owned() }),
            None => Ok(()),
        }
    }

    /// First tensor whose state is not finite.
    pub fn broken_state(&self) -> Option<(Skip, usize)> {
        let find = |bad: fn(&StateSums) -> bool| self.state.iter().position(bad);
        find(|s| !s.param.is_finite())
            .map(|i| (Skip::Parameter, i))
            .or_else(|| find(|s| !(s.exp_avg.is_finite() && s.exp_avg_sq.is_finite())).map(|i| (Skip::Moment, i)))
    }

    /// Whether the step can be taken; evaluates the factors on the way.
    fn verdict(
        &mut self,
        tensors: &[Tensor],
        grads: &Grads,
        gradient: &EffectiveGradient,
    ) -> std::result::Result<(), (Skip, Option<usize>)> {
        if let Some(tensor) = gradient.broken {
            return Err((Skip::Gradient, tensor));
        }
        if let Some((reason, tensor)) = self.broken_state() {
            return Err((reason, Some(tensor)));
        }
        let Some(modulation) = &mut self.modulation else { return Ok(()) };
        for (i, tensor) in tensors.iter().enumerate() {
            let sums = grads.has(i).then(|| self.gradients[i].scaled(gradient.factor));
            self.statistics[i] = Statistics::new(sums, self.state[i], tensor.numel);
        }
        match modulation.evaluate(&self.groups, &self.statistics, self.steps + 1) {
            Ok(_) => Ok(()),
            Err(Broken::Feature) => Err((Skip::Feature, None)),
            Err(Broken::Factor) => Err((Skip::Factor, None)),
        }
    }

    /// The scalars of every tensor that has a gradient.
    fn prepare_coefficients(
        &mut self,
        semantics: Semantics,
        param_groups: &[ParamGroup],
        tensors: &[Tensor],
        grads: &Grads,
        factor: f64,
    ) {
        for (i, tensor) in tensors.iter().enumerate() {
            let group = &param_groups[tensor.param_group];
            let step = self.tensor_steps[i] + 1;
            self.coefficients[i] = grads.has(i).then(|| {
                Coefficients::new(group, semantics, step, self.next_factors(i), factor)
                    .with_key(step_key(self.keys[i], step))
            });
        }
    }

    /// α and β of a tensor's group, of the evaluation under way.
    fn next_factors(&self, tensor: usize) -> (f64, f64) {
        let group = self.groups.of_tensor[tensor];
        self.modulation.as_ref().map_or((1.0, 1.0), |m| m.next_factors().of(group))
    }

    fn report(&self, gradient: &EffectiveGradient, skipped: Option<Skip>, tensor: Option<usize>) -> StepReport {
        StepReport {
            step: self.steps,
            skipped_steps: self.skips.total(),
            grad_norm: gradient.norm,
            clip_factor: gradient.clip,
            skipped,
            nonfinite_tensor: tensor,
        }
    }
}
