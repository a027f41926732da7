//! The optimizer: registration, and one step read top to bottom: check, statistics, factors, update, report.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Moment};
use crate::buffers::{Checker, Gradient, Grads, Params};
use crate::checkpoint::MOST_STEPS;
use crate::config::{
    Grouping, NonFinite, Objective, Options, ParamGroup, Semantics, not_negative, positive, validate_priorities,
};
use crate::error::{Error, Result};
use crate::groups::{Groups, Tensor, TensorSpec};
use crate::meta::Meta;
use crate::modulation::{Broken, Factors, Modulation};
use crate::name::Name;
use crate::stats::{GradientSums, StateSums, Statistics};
use crate::update::Coefficients;

/// How much a message of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Worth knowing.
    Info,
    /// Probably not meant.
    Warning,
}

/// Receives the messages of one optimizer, on the thread that caused them.
pub type Log = Box<dyn FnMut(LogLevel, &str) + Send>;

/// What a single step is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// The gradients are this many times too large.
    pub grad_scale: f64,
    /// The host changed parameters since the last step.
    pub params_changed: bool,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self { grad_scale: 1.0, params_changed: false }
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

/// All of MetaAdamW for one model. One call at a time; may move between threads.
pub struct Optimizer {
    pub(crate) options: Options,
    pub(crate) param_groups: Vec<ParamGroup>,
    pub(crate) tensors: Vec<Tensor>,
    by_name: HashMap<Name, usize>,
    pub(crate) prepared: Option<Prepared>,
    log: Option<Log>,
}

/// What exists from the end of registration on.
pub(crate) struct Prepared {
    pub groups: Groups,
    /// None with modulation off.
    pub modulation: Option<Modulation>,
    pub backend: Box<dyn Backend>,
    pub checker: Checker,
    /// Applied steps.
    pub steps: u64,
    pub skips: Skips,
    pub times: Times,
    /// t of each tensor.
    pub tensor_steps: Vec<u64>,
    /// Sums of the state, carried from step to step while `carried` holds.
    pub state: Vec<StateSums>,
    pub carried: bool,
    /// Workspace: sums of the gradients, and which were announced.
    pub gradients: Vec<GradientSums>,
    pub announced: Vec<bool>,
    /// `reference`: the effective gradient of the last applied step against the moments that it left.
    pub kept: Vec<Option<GradientSums>>,
    momentum: Vec<f64>,
    /// Workspaces of a step.
    pub statistics: Vec<Statistics>,
    coefficients: Vec<Option<Coefficients>>,
    fresh: Vec<StateSums>,
    pub meta: Meta,
}

impl std::fmt::Debug for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Optimizer")
            .field("tensors", &self.tensors.len())
            .field("steps", &self.steps())
            .finish_non_exhaustive()
    }
}

impl Optimizer {
    /// An optimizer without tensors.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] names the first option that is not usable.
    pub fn new(options: Options) -> Result<Self> {
        options.validate()?;
        Ok(Self {
            options,
            param_groups: Vec::new(),
            tensors: Vec::new(),
            by_name: HashMap::new(),
            prepared: None,
            log: None,
        })
    }

    /// Registers tensors that share hyper-parameters and returns the group's index.
    ///
    /// # Errors
    /// After preparation; no tensors; a field, a name or a shape that is not usable. Nothing is registered then.
    pub fn add_param_group(&mut self, group: ParamGroup, specs: Vec<TensorSpec>) -> Result<usize> {
        if self.prepared.is_some() {
            return Err(Error::State {
                call: "maw_add_param_group",
                reason: "registration ended with maw_prepare or the first step",
            });
        }
        let index = self.param_groups.len();
        if specs.is_empty() {
            return Err(Error::range("count", 0, "at least one tensor in a param group"));
        }
        group.validate(specs.iter().map(|spec| spec.dtype))?;
        let mut added: Vec<Tensor> = Vec::with_capacity(specs.len());
        let mut names = HashMap::with_capacity(specs.len());
        for (i, spec) in specs.into_iter().enumerate() {
            let name = spec.name.clone();
            let first = self.by_name.get(&name).map(|&i| self.tensors[i].param_group);
            if let Some(first) = first.or_else(|| names.contains_key(&name).then_some(index)) {
                return Err(Error::DuplicateName { name: name.to_string(), first, second: index });
            }
            let custom = self.options.grouping == Grouping::Custom;
            if custom != spec.modulation_group.is_some() {
                let (got, expected) =
                    if custom { ("NULL", "a name") } else { ("a name", "NULL without MAW_GROUPING_CUSTOM") };
                return Err(Error::range(format!("tensors[{i}].modulation_group"), got, expected));
            }
            names.insert(name, self.tensors.len() + i);
            added.push(Tensor::new(spec, index)?);
        }
        self.by_name.extend(names);
        self.tensors.append(&mut added);
        self.param_groups.push(group);
        Ok(index)
    }

    /// Ends registration: forms the groups, draws Φ, allocates everything. Does nothing the second time.
    ///
    /// # Errors
    /// No tensors; a `feature_dim` below the features' length; no memory. Registration stays open then.
    pub fn prepare(&mut self) -> Result<()> {
        if let Some(prepared) = &self.prepared {
            return prepared.meta.refuse_while_open("maw_prepare");
        }
        if self.tensors.is_empty() {
            return Err(Error::State {
                call: "maw_prepare",
                reason: "no tensors are registered; call maw_add_param_group first",
            });
        }
        let groups = Groups::form(&self.tensors, self.options.grouping);
        let modulation =
            self.options.modulation.then(|| Modulation::new(&self.options, &self.tensors, &groups)).transpose()?;
        let zeros = modulation.as_ref().is_some_and(Modulation::counts_zeros);
        let backend = Box::new(Cpu::new(&self.tensors, self.options.threads, zeros)?);
        let n = self.tensors.len();
        self.prepared = Some(Prepared {
            groups,
            modulation,
            backend,
            checker: Checker::new(n),
            steps: 0,
            skips: Skips::default(),
            times: Times::default(),
            tensor_steps: vec![0; n],
            state: vec![StateSums::default(); n],
            carried: false,
            gradients: vec![GradientSums::default(); n],
            announced: vec![false; n],
            kept: vec![None; n],
            momentum: vec![0.0; n],
            statistics: vec![Statistics::default(); n],
            coefficients: vec![None; n],
            fresh: vec![StateSums::default(); n],
            meta: Meta::default(),
        });
        if self.options.modulation && self.options.objective == Objective::GenGap {
            self.log(LogLevel::Warning, || {
                "the generalization gap alone does not depend on the attention module: \
                 meta-updates will move it by its regularisation only"
                    .to_owned()
            });
        }
        Ok(())
    }

    /// Prepares if that was not done yet; if the work is then refused, registration is open as before.
    pub(crate) fn prepared<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let first = self.prepared.is_none();
        if first {
            self.prepare()?;
        }
        let done = work(self);
        if first && done.is_err() {
            self.prepared = None;
        }
        done
    }

    /// One step: every tensor that has a gradient is updated in place.
    ///
    /// # Errors
    /// An unusable argument; an open meta-update; under [`NonFinite::Error`] something not finite; under
    /// `verify_params` parameters that changed unannounced. Nothing is changed then.
    pub fn step(&mut self, params: &Params, grads: &Grads, options: &StepOptions) -> Result<StepReport> {
        self.prepared(|optimizer| optimizer.prepared_step(params, grads, options))
    }

    fn prepared_step(&mut self, params: &Params, grads: &Grads, options: &StepOptions) -> Result<StepReport> {
        positive("step_options.grad_scale", options.grad_scale)?;
        let verify = self.options.verify_params;
        let Self { options: settings, param_groups, tensors, prepared, .. } = self;
        let p = prepared.as_mut().expect("prepared above");
        p.meta.refuse_while_open("maw_step")?;
        p.checker.check(tensors, params, Some(grads))?;
        p.check_announced(tensors, grads)?;

        if settings.nonfinite == NonFinite::Propagate && settings.max_grad_norm == 0.0 && !verify {
            return Ok(self.step_unseen(params, grads, options));
        }
        let started = Instant::now();
        let anew = options.params_changed || !p.carried;
        p.refresh_state(tensors, params, options.params_changed, verify)?;
        let announced = &p.announced;
        let with_momentum = p.modulation.is_some();
        p.backend.gradient_sums(grads, with_momentum, &|tensor| !announced[tensor], &mut p.gradients);

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
            return self.skip(reason, tensor, &gradient);
        }

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
        if self.log.is_some() {
            let message = format!("step skipped: {} is not finite", describe(&self.tensors));
            self.log(LogLevel::Warning, || message);
        }
        Ok(report)
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
            p.gradients[tensor] = p.backend.gradient_sums_of(tensor, gradient, p.modulation.is_some());
            p.announced[tensor] = true;
            Ok(())
        })
    }

    /// The step count of a tensor.
    ///
    /// # Errors
    /// Before preparation; no such tensor.
    pub fn tensor_step(&self, tensor: usize) -> Result<u64> {
        let p = self.prepared.as_ref().ok_or(unprepared("maw_tensor_state_get"))?;
        p.tensor_steps.get(tensor).copied().ok_or_else(|| not_found("tensor", tensor, self.tensors.len()))
    }

    /// Copies a moment of a tensor out, elements as they lie in memory.
    ///
    /// # Errors
    /// Before preparation; no such tensor; a wrong size in bytes.
    pub fn read_moment(&self, moment: Moment, tensor: usize, out: &mut [u8]) -> Result<()> {
        let p = self.prepared.as_ref().ok_or(unprepared("maw_tensor_state_get"))?;
        self.check_moment(tensor, out.len())?;
        p.backend.read_moment(moment, tensor, 0, out);
        Ok(())
    }

    fn check_moment(&self, tensor: usize, bytes: usize) -> Result<&Tensor> {
        let known = self.tensors.get(tensor).ok_or_else(|| not_found("tensor", tensor, self.tensors.len()))?;
        let size = known.spec.dtype.size();
        check_length("count", bytes / size, known.numel, "elements of that tensor")?;
        Ok(known)
    }

    /// Sets both moments and the step count of a tensor, so that a run can move here from another Adam. The optimizer's
    /// own step count becomes at least `step`.
    ///
    /// # Errors
    /// No such tensor; a wrong size; a value not finite, or a second moment below 0; more steps than
    /// a run can have; an open meta-update.
    pub fn set_tensor_state(&mut self, tensor: usize, exp_avg: &[u8], exp_avg_sq: &[u8], step: u64) -> Result<()> {
        self.changeable("maw_tensor_state_set")?;
        if step > MOST_STEPS {
            return Err(Error::range("step", step, format!("at most {MOST_STEPS}")));
        }
        let known = self.check_moment(tensor, exp_avg.len())?;
        self.check_moment(tensor, exp_avg_sq.len())?;
        let dtype = known.spec.dtype;
        for (name, bytes, least) in [("exp_avg", exp_avg, f64::NEG_INFINITY), ("exp_avg_sq", exp_avg_sq, 0.0)] {
            let usable = |x: &f64| x.is_finite() && *x >= least;
            if let Some((i, x)) = dtype.values(bytes).enumerate().find(|(_, x)| !usable(x)) {
                let expected = if least == 0.0 { "finite and ≥ 0" } else { "finite" };
                return Err(Error::range(format!("{name}[{i}] of tensor '{}'", known.name()), x, expected));
            }
        }
        self.prepare()?;
        let p = self.prepared.as_mut().expect("prepared above");
        p.backend.write_moment(Moment::ExpAvg, tensor, 0, exp_avg);
        p.backend.write_moment(Moment::ExpAvgSq, tensor, 0, exp_avg_sq);
        p.tensor_steps[tensor] = step;
        p.steps = p.steps.max(step);
        p.carried = false;
        Ok(())
    }

    /// Back to the start: moments and step counts, Φ, or both.
    ///
    /// # Errors
    /// Before preparation; an open meta-update.
    pub fn reset(&mut self, moments: bool, attention: bool) -> Result<()> {
        self.changeable("maw_reset")?;
        let Self { options, prepared, .. } = self;
        let p = prepared.as_mut().ok_or(unprepared("maw_reset"))?;
        if attention && let Some(modulation) = &mut p.modulation {
            modulation.reset_attention(options);
        }
        if moments {
            p.backend.reset_moments();
            p.tensor_steps.fill(0);
            p.kept.fill(None);
            (p.steps, p.skips, p.carried) = (0, Skips::default(), false);
            p.meta.restore(p.meta.updates(), None);
            if let Some(modulation) = &mut p.modulation {
                modulation.forget();
            }
        }
        Ok(())
    }

    /// Sets the learning rate of one param group, or of all (`None`).
    ///
    /// # Errors
    /// No such group; not finite or below 0; an open meta-update.
    pub fn set_lr(&mut self, group: Option<usize>, lr: f64) -> Result<()> {
        not_negative("lr", lr)?;
        self.change_groups("maw_set_lr", group, |g| g.lr = lr)
    }

    /// Sets the weight decay of one param group, or of all (`None`).
    ///
    /// # Errors
    /// As for [`Self::set_lr`].
    pub fn set_weight_decay(&mut self, group: Option<usize>, weight_decay: f64) -> Result<()> {
        not_negative("weight_decay", weight_decay)?;
        self.change_groups("maw_set_weight_decay", group, |g| g.weight_decay = weight_decay)
    }

    fn change_groups(
        &mut self,
        call: &'static str,
        group: Option<usize>,
        change: impl Fn(&mut ParamGroup),
    ) -> Result<()> {
        self.changeable(call)?;
        let count = self.param_groups.len();
        match group {
            None => self.param_groups.iter_mut().for_each(change),
            Some(i) => change(self.param_groups.get_mut(i).ok_or_else(|| not_found("param group", i, count))?),
        }
        Ok(())
    }

    /// Sets HUW's priorities.
    ///
    /// # Errors
    /// One not finite or below 0; an open meta-update.
    pub fn set_priorities(&mut self, priorities: [f64; 3]) -> Result<()> {
        validate_priorities("priorities", &priorities)?;
        self.changeable("maw_set_priorities")?;
        self.options.priorities = priorities;
        Ok(())
    }

    /// Sets a tensor of the attention module.
    ///
    /// # Errors
    /// Before preparation; no such tensor; a wrong count; a value not finite; an open meta-update.
    pub fn set_attention(&mut self, name: &str, values: &[f64]) -> Result<()> {
        self.changeable("maw_attention_set")?;
        let p = self.prepared.as_mut().ok_or(unprepared("maw_attention_set"))?;
        let attention = p.modulation.as_mut().map(|m| &mut m.attention);
        let attention = attention.ok_or_else(|| no_entry(name))?;
        let range = attention.range(name).ok_or_else(|| no_entry(name))?;
        check_length("count", values.len(), range.len(), "values of that tensor")?;
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            return Err(Error::range(format!("values[{i}]"), values[i], "finite"));
        }
        attention.values_mut()[range].copy_from_slice(values);
        Ok(())
    }

    /// Hears the log from now on; `None` silences it.
    ///
    /// # Errors
    /// An open meta-update.
    pub fn set_log(&mut self, log: Option<Log>) -> Result<()> {
        self.changeable("maw_set_log")?;
        self.log = log;
        Ok(())
    }

    /// A setter may act: no meta-update is open. What was announced is forgotten.
    pub(crate) fn changeable(&mut self, call: &'static str) -> Result<()> {
        if let Some(p) = &mut self.prepared {
            p.meta.refuse_while_open(call)?;
            p.announced.fill(false);
        }
        Ok(())
    }

    pub(crate) fn log(&mut self, level: LogLevel, message: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log(level, &message());
        }
    }

    /// Applied steps.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.prepared.as_ref().map_or(0, |p| p.steps)
    }

    /// The options, with the priorities as they are now.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The param groups, with learning rates and weight decays as they are now.
    #[must_use]
    pub fn param_groups(&self) -> &[ParamGroup] {
        &self.param_groups
    }

    /// The registered tensors.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The modulation groups.
    ///
    /// # Errors
    /// Before preparation.
    pub fn groups(&self, call: &'static str) -> Result<&Groups> {
        self.prepared.as_ref().map(|p| &p.groups).ok_or(unprepared(call))
    }

    /// The attention module and what feeds it; `None` with modulation off.
    ///
    /// # Errors
    /// Before preparation.
    pub fn modulation(&self, call: &'static str) -> Result<Option<&Modulation>> {
        self.prepared.as_ref().map(|p| p.modulation.as_ref()).ok_or(unprepared(call))
    }

    /// Factors of the last applied step or begun meta-update; all 1 (λ too) with modulation off.
    ///
    /// # Errors
    /// Before preparation, or before the first step.
    pub fn factors(&self, call: &'static str) -> Result<Cow<'_, Factors>> {
        match self.modulation(call)? {
            None => Ok(Cow::Owned(Factors::constant(self.groups(call)?.groups.len(), 1.0))),
            Some(m) => m
                .last()
                .map(|(_, factors)| Cow::Borrowed(factors))
                .ok_or(Error::State { call, reason: "no step has been applied and no meta-update begun yet" }),
        }
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
        let max = tensors[i].spec.dtype.max_square();
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
        self.backend.state_sums(params, &mut self.fresh);
        if verify && self.carried && !changed {
            let differs = |(old, new): (&StateSums, &StateSums)| old.param.to_bits() != new.param.to_bits();
            if let Some(i) = self.state.iter().zip(&self.fresh).position(differs) {
                return Err(Error::ParamsChanged { name: tensors[i].name().to_owned() });
            }
        }
        self.state.copy_from_slice(&self.fresh);
        self.carried = true;
        Ok(())
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
            self.coefficients[i] = grads
                .has(i)
                .then(|| Coefficients::new(group, semantics, self.tensor_steps[i] + 1, self.next_factors(i), factor));
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

pub(crate) fn unprepared(call: &'static str) -> Error {
    Error::State { call, reason: "call maw_prepare (or make a step) first" }
}

pub(crate) fn not_found(what: &'static str, index: usize, count: usize) -> Error {
    Error::NotFound { what, which: format!("{index}: there are {count}") }
}

pub(crate) fn no_entry(name: &str) -> Error {
    Error::NotFound { what: "tensor of the attention module named", which: format!("'{name}'") }
}

pub(crate) fn check_length(argument: &'static str, got: usize, expected: usize, what: &'static str) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::Count { argument, got, expected, what }) }
}
