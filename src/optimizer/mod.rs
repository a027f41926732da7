//! The optimizer: what it owns, registration, setters and getters. The step is in `step.rs`, the meta-update in
//! `meta`, a tensor's state in `tensor_state.rs`.

mod device_sync;
mod dump;
mod step;
mod tensor_state;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::cuda::{Cuda, Device};
use crate::error::{Error, Result};
use crate::meta::Meta;
use crate::model::coefficients::Coefficients;
use crate::model::groups::{Groups, Tensor, TensorSpec};
use crate::model::host_buffers::Checker;
use crate::model::name::Name;
use crate::model::options::{Grouping, Objective, Options, ParamGroup, Place, not_negative, validate_priorities};
use crate::model::report::{Skips, StepReport, Times};
use crate::model::stats::{GradientSums, StateSums, Statistics};
use crate::modulation::{Factors, Modulation};
use crate::numeric::stochastic_rounding::tensor_key;
use crate::optimizer::device_sync::Stream;

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

/// All of MetaAdamW for one model. One call at a time; may move between threads.
pub struct Optimizer {
    pub(crate) options: Options,
    pub(crate) param_groups: Vec<ParamGroup>,
    pub(crate) tensors: Vec<Tensor>,
    by_name: HashMap<Name, usize>,
    pub(crate) prepared: Option<Prepared>,
    pub(crate) log: Option<Log>,
    /// Opened at creation, so that what is wrong with it is told there.
    pub(crate) cuda: Option<Arc<Device>>,
    pub(crate) stream: Stream,
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
    /// Tensors whose masters have begun, or that have none.
    pub mastered: Vec<bool>,
    /// Workspace: tensors whose masters are to begin with what the host has.
    pub shown: Vec<bool>,
    /// Of each tensor's random bits.
    pub keys: Vec<u64>,
    /// Workspace: sums of the gradients, and which were announced.
    pub gradients: Vec<GradientSums>,
    pub announced: Vec<bool>,
    /// `reference`: the effective gradient of the last applied step against the moments that it left.
    pub kept: Vec<Option<GradientSums>>,
    pub momentum: Vec<f64>,
    /// Workspaces of a step.
    pub statistics: Vec<Statistics>,
    pub coefficients: Vec<Option<Coefficients>>,
    pub fresh: Vec<StateSums>,
    /// Steps that were enqueued on a device since the mirror was last brought up to date.
    pub launched: u64,
    /// Of the last step that the host drove.
    pub last_report: Option<StepReport>,
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
        let cuda = match options.device {
            Place::Cpu => None,
            Place::Cuda(index) => Some(Device::open("options.device_index", index)?),
        };
        Ok(Self {
            options,
            param_groups: Vec::new(),
            tensors: Vec::new(),
            by_name: HashMap::new(),
            prepared: None,
            log: None,
            cuda,
            stream: Stream::default(),
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
            added.push(Tensor::new(spec, index, &group)?);
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
        let (options, tensors, modulated) = (&self.options, &self.tensors, modulation.as_ref());
        let backend: Box<dyn Backend> = match &self.cuda {
            None => Box::new(Cpu::new(tensors, options.threads, zeros)?),
            Some(device) => Box::new(Cuda::new(device, self.stream.0, options, tensors, &groups, modulated)?),
        };
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
            mastered: self.tensors.iter().map(|t| !t.precision.has_master()).collect(),
            shown: vec![false; n],
            keys: tensor_keys(self.options.seed, &self.tensors),
            gradients: vec![GradientSums::default(); n],
            announced: vec![false; n],
            kept: vec![None; n],
            momentum: vec![0.0; n],
            statistics: vec![Statistics::default(); n],
            coefficients: vec![None; n],
            fresh: vec![StateSums::default(); n],
            launched: 0,
            last_report: None,
            meta: Meta::default(),
        });
        if let Err(error) = self.push() {
            self.prepared = None;
            return Err(error);
        }
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

    /// Back to the start: moments and step counts, Φ, or both.
    ///
    /// # Errors
    /// Before preparation; an open meta-update.
    pub fn reset(&mut self, moments: bool, attention: bool) -> Result<()> {
        self.changeable("maw_reset")?;
        self.sync()?;
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
        self.push()
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
        let chosen = match group {
            None => 0..count,
            Some(i) if i < count => i..i + 1,
            Some(i) => return Err(not_found("param group", i, count)),
        };
        if let Some(device) = self.prepared.as_mut().and_then(|p| p.backend.device()) {
            let mut changed = self.param_groups.clone();
            changed[chosen.clone()].iter_mut().for_each(&change);
            device.set_groups(&changed)?;
        }
        self.param_groups[chosen].iter_mut().for_each(change);
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
        if let Some(device) = p.backend.device() {
            device.set_phi(range.start, values)?;
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

/// Keys of the tensors' random bits.
pub(crate) fn tensor_keys(seed: u64, tensors: &[Tensor]) -> Vec<u64> {
    tensors.iter().map(|t| tensor_key(seed, t.name())).collect()
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
