//! One step, read top to bottom: check, statistics, factors, update, report.

use std::time::{Duration, Instant};

use crate::buffers::{Gradient, Grads, Params};
use crate::config::{NonFinite, ParamGroup, Semantics, positive};
use crate::error::{Error, Result};
use crate::groups::Tensor;
use crate::modulation::Broken;
use crate::noise::step_key;
use crate::optimizer::{LogLevel, Optimizer, Prepared, not_found};
use crate::stats::{GradientSums, StateSums, Statistics};
use crate::update::Coefficients;

/// What a single step is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// The gradients are this many times too large.
    pub grad_scale: f64,
    /// The host changed parameters since the last step.
    pub params_changed: bool,
    /// Address of a float in device memory that takes the place of `grad_scale`, or 0. CUDA only.
    pub device_grad_scale: u64,
    /// Address of a float in device memory, or 0: if it is not 0 when the step is made, the step is skipped. CUDA only.
    pub found_inf: u64,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self { grad_scale: 1.0, params_changed: false, device_grad_scale: 0, found_inf: 0 }
    }
}

/// Why a step was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// A gradient, or the moment that it would make, is not finite.
    Gradient,
    /// A parameter is not finite.
    Parameter,
    /// A moment is not finite.
    Moment,
    /// A feature is not finite.
    Feature,
    /// A factor is not finite.
    Factor,
}

impl Skip {
    /// For a message, with the tensor's name where there is one.
    fn describe(self, tensor: Option<&Tensor>) -> String {
        let what = match self {
            Self::Gradient => "the gradient",
            Self::Parameter => "the parameter",
            Self::Moment => "a moment",
            Self::Feature => "a feature",
            Self::Factor => "a factor",
        };
        match tensor {
            Some(tensor) => format!("{what} of tensor '{}'", tensor.name()),
            None => what.to_owned(),
        }
    }
}

/// Steps that were skipped, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skips {
    /// In the order of [`Skip`].
    pub by_reason: [u64; 5],
    /// The last: why, the tensor to blame, applied steps then.
    pub last: Option<(Skip, Option<usize>, u64)>,
}

impl Skips {
    fn count(&mut self, reason: Skip, tensor: Option<usize>, steps: u64) {
        self.by_reason[reason as usize] += 1;
        self.last = Some((reason, tensor, steps));
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason.iter().sum()
    }
}

/// Time spent in applied and skipped steps, by part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// Checks, sums of gradients and state.
    pub statistics: Duration,
    /// Features and attention module.
    pub factors: Duration,
    /// The update of the tensors.
    pub update: Duration,
    /// The library's own part of meta-updates.
    pub meta: Duration,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Applied steps so far.
    pub step: u64,
    /// Skipped steps so far.
    pub skipped_steps: u64,
    /// Norm of all gradients after unscaling, before clipping.
    pub grad_norm: f64,
    /// What clipping multiplied by.
    pub clip_factor: f64,
    /// Why it was skipped, if it was.
    pub skipped: Option<Skip>,
    /// First tensor to blame.
    pub nonfinite_tensor: Option<usize>,
}

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

/// The gradient's norm, and what brings the host's to the effective one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EffectiveGradient {
    /// After unscaling, before clipping.
    pub norm: f64,
    /// Clipping.
    pub clip: f64,
    /// clip / grad_scale.
    pub factor: f64,
    /// A tensor whose gradient is not finite, or would make a moment that is not; or `None` if only the whole is.
    pub broken: Option<Option<usize>>,
}

/// Unscaling and clipping as torch's `clip_grad_norm_`: min(1, max_norm/(norm + 1e-6)).
pub(crate) fn effective_gradient<'a>(
    tensors: &[Tensor],
    sums: impl Iterator<Item = (usize, &'a GradientSums)> + Clone,
    grad_scale: f64,
    max_norm: f64,
) -> EffectiveGradient {
    let unscale = 1.0 / grad_scale;
    let square: f64 = sums.clone().map(|(_, s)| s.square).sum();
    let norm = square.sqrt() * unscale;
    let clip = if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
    let factor = clip * unscale;
    let unusable = |i: usize, s: &GradientSums| {
        let max = tensors[i].moment_dtype.max_square();
        !(s.square.is_finite() && s.scaled(factor).square <= max)
    };
    let mut culprits = sums.filter(|(i, s)| unusable(*i, s)).map(|(i, _)| i);
    let broken = match culprits.next() {
        Some(i) => Some(Some(i)),
        None if !(norm.is_finite() && factor.is_finite()) => Some(None),
        None => None,
    };
    EffectiveGradient { norm, clip, factor, broken }
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
