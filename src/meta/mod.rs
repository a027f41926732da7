//! The meta-update as ask and tell: one enum of stages, one transition, θ restored on every way out.
//!
//! [`Optimizer::meta_begin`] copies θ; each [`Optimizer::meta_tell`] takes one answer, writes the next point into the
//! host's buffers and asks on; at the end, after an abort and after anything that is not finite, the buffers hold
//! θ's exact bits again. Nothing here is proportional to the number of parameters: that is the backend's.

pub mod gradient;
pub mod objective;
mod session;
pub mod uncertainty;

use std::time::Instant;

use self::gradient::MetaGradient;
use self::objective::{Losses, Plan};
use self::session::{Next, Open, PathDerivative, World};
use crate::backend::{Direction, Kept, Move};
use crate::error::{Error, Result};
use crate::model::coefficients::Slopes;
use crate::model::groups::Tensor;
use crate::model::host_buffers::{Grads, Params};
use crate::model::options::{Difference, Options, Semantics, positive};
use crate::model::stats::{GradientSums, Statistics};
use crate::modulation::Factors;
use crate::optimizer::{LogLevel, Optimizer, Prepared};

/// What the host has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// B1 at θ.
    Train1,
    /// The validation batch at θ.
    Validation,
    /// B2 at θ′.
    Train2,
    /// The validation batch at θ′.
    ValidationMoved,
    /// B2 at θ′ + r·w.
    Plus,
    /// B2 at θ′ − r·w.
    Minus,
}

/// What the host must evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The loss.
    Loss,
    /// The loss and the gradients.
    Gradient,
}

/// On which batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// B1.
    Train1,
    /// B2.
    Train2,
    /// The validation batch.
    Validation,
}

/// A question to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// From 1 on, never used twice.
    pub id: u64,
    /// What.
    pub kind: Kind,
    /// On which batch.
    pub batch: Batch,
    /// Request whose batch and random numbers must be used again.
    pub replay: Option<u64>,
}

/// The host's answer; gradients stand in the buffers given with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Which request.
    pub request_id: u64,
    /// The plain loss.
    pub loss: f64,
    /// The gradients are this many times too large.
    pub grad_scale: f64,
}

/// How a meta-update ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// None has ended yet.
    #[default]
    None,
    /// Φ was updated.
    Updated,
    /// By the host.
    Aborted,
    /// A loss is not finite.
    LossNotFinite,
    /// A gradient is not finite.
    GradientNotFinite,
    /// A parameter, moment, feature, factor or θ′ is not finite.
    StateNotFinite,
    /// w is not finite, or its step vanished in rounding.
    DirectionNotFinite,
    /// The derivatives by Φ are not finite.
    MetaGradientNotFinite,
}

/// The last meta-update in numbers.
#[derive(Clone, Copy, Debug)]
pub struct MetaResult {
    /// Applied steps when it began.
    pub step: u64,
    /// Meta-updates that changed Φ so far.
    pub updates: u64,
    /// What the host told.
    pub losses: Losses,
    /// Gradient alignment, loss decrease, generalization gap.
    pub terms: [f64; uncertainty::TERMS],
    /// The objective with its regularisation.
    pub loss_meta: f64,
    /// Answers of the host.
    pub evaluations: u32,
    /// Idle groups.
    pub idle_groups: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// All that the optimizer keeps of meta-updates.
#[derive(Debug)]
pub(crate) struct Meta {
    open: Option<Box<Open>>,
    last_id: u64,
    /// Step at which one was done or abandoned.
    done_at: Option<u64>,
    result: MetaResult,
    gradient: Option<MetaGradient>,
}

impl Default for Meta {
    fn default() -> Self {
        let result = MetaResult {
            step: 0,
            updates: 0,
            losses: Losses::default(),
            terms: [f64::NAN; uncertainty::TERMS],
            loss_meta: f64::NAN,
            evaluations: 0,
            idle_groups: 0,
            outcome: Outcome::None,
        };
        Self { open: None, last_id: 0, done_at: None, result, gradient: None }
    }
}

impl Meta {
    pub fn refuse_while_open(&self, call: &'static str) -> Result<()> {
        match self.open {
            None => Ok(()),
            Some(_) => Err(Error::State {
                call,
                reason: "a meta-update is open; answer its requests or call maw_meta_abort first",
            }),
        }
    }

    /// How the last one ended.
    pub fn result(&self) -> &MetaResult {
        &self.result
    }

    /// Meta-updates that changed Φ.
    pub fn updates(&self) -> u64 {
        self.result.updates
    }

    /// The request that waits for its answer, and how many were answered before it.
    pub fn open_request(&self) -> Option<(Request, u32)> {
        self.open.as_ref().map(|open| (open.request, open.evaluations))
    }

    /// The step at which the last one was done or abandoned.
    pub fn done_at(&self) -> Option<u64> {
        self.done_at
    }

    /// Of the last one that was completed.
    pub fn gradient(&self) -> Option<&MetaGradient> {
        self.gradient.as_ref()
    }

    /// As after `updates` meta-updates, the last at step `done_at`; nothing more is known of it.
    pub fn restore(&mut self, updates: u64, done_at: Option<u64>) {
        let last_id = self.last_id;
        *self = Self { last_id, done_at, ..Self::default() };
        self.result.updates = updates;
    }
}

impl Optimizer {
    /// Whether a meta-update should be made now: after the warm-up, every `meta_interval` steps, once a step.
    #[must_use]
    pub fn meta_due(&self) -> bool {
        self.prepared.as_ref().is_some_and(|p| {
            p.modulation.is_some()
                && p.steps > 0
                && p.steps >= self.options.meta_warmup
                && p.steps.is_multiple_of(self.options.meta_interval)
                && p.meta.done_at != Some(p.steps)
                && p.meta.open.is_none()
        })
    }

    /// Begins a meta-update, due or not. `None`: it was abandoned at once, since the state is not finite.
    ///
    /// # Errors
    /// Modulation is off; one is open already; unusable pointers; no memory.
    pub fn meta_begin(&mut self, params: &Params) -> Result<Option<Request>> {
        self.prepared(|optimizer| {
            optimizer.sync()?;
            let request = optimizer.prepared_begin(params)?;
            optimizer.push_or_close(params)?;
            Ok(request)
        })
    }

    fn prepared_begin(&mut self, params: &Params) -> Result<Option<Request>> {
        let Self { options, tensors, prepared, .. } = self;
        let p = prepared.as_mut().expect("prepared above");
        p.meta.refuse_while_open("maw_meta_begin")?;
        if p.modulation.is_none() {
            return Err(Error::State {
                call: "maw_meta_begin",
                reason: "modulation is off: there is no attention module to update",
            });
        }
        p.checker.check(tensors, params, None)?;
        p.backend.check_buffers(tensors, params, None)?;
        p.announced.fill(false);
        p.find_shown(false);
        p.refresh_state(tensors, params, !options.verify_params, options.verify_params)?;
        let plan = Plan::new(options);
        let kept = [(Kept::Train1, plan.moves && plan.train1_gradient), (Kept::Train2, plan.train2)];
        let kept: Vec<Kept> = kept.into_iter().filter(|(_, wanted)| *wanted).map(|(slot, _)| slot).collect();
        let forward = plan.difference == Some(Difference::Forward);
        p.backend.begin_meta(tensors, params, &kept, forward)?;
        // Those that have not begun, for this meta-update only: until a step is made, the host may still change them.
        p.backend.begin_masters(params, &p.shown);

        let stage = plan.after(None).expect("every objective asks for a batch");
        let groups = p.groups.groups.len();
        let request = Request { id: 0, kind: Kind::Loss, batch: Batch::Train1, replay: None };
        p.meta.open = Some(Box::new(Open {
            plan,
            stage,
            request,
            losses: Losses::default(),
            evaluations: 0,
            first_validation: None,
            first_train2: None,
            factors: None,
            train1: vec![None; tensors.len()],
            train1_scale: 1.0,
            train2_scale: 1.0,
            moves: vec![Move::Stay; tensors.len()],
            slopes: vec![Slopes::default(); tensors.len()],
            moved_square: 0.0,
            alignment: None,
            directions: vec![Direction::default(); tensors.len()],
            direction_square: 0.0,
            radius: 0.0,
            made: 0.0,
            plus: Vec::new(),
            d_loss_decrease: PathDerivative::zero(groups),
            d_alignment: PathDerivative::zero(groups),
        }));
        let begun = if p.broken_state().is_some() {
            Err(Outcome::StateNotFinite)
        } else if options.semantics == Semantics::Reference {
            // The program looks at the last training step's gradient, not at B1's.
            let kept = p.kept.clone();
            p.factors_for_meta(tensors, &kept).map(Some)
        } else {
            Ok(None)
        };
        match begun {
            Ok(factors) => {
                p.meta.open.as_mut().expect("opened above").factors = factors;
                Ok(Some(p.ask(stage)))
            }
            Err(outcome) => {
                p.carried = false; // the host will have to change what is not finite
                self.close(params, outcome);
                Ok(None)
            }
        }
    }

    /// Takes one answer. `None`: done or abandoned; [`Self::meta_result`] says which.
    ///
    /// # Errors
    /// None is open; another request's id; unusable pointers or scale. The request stays open then.
    pub fn meta_tell(&mut self, answer: &Answer, params: &Params, grads: Option<&Grads>) -> Result<Option<Request>> {
        let Self { options, param_groups, tensors, prepared, .. } = self;
        let p = prepared.as_mut().filter(|p| p.meta.open.is_some()).ok_or(Error::State {
            call: "maw_meta_tell",
            reason: "no meta-update is open; call maw_meta_begin first",
        })?;
        let request = p.meta.open.as_ref().expect("filtered above").request;
        if answer.request_id != request.id {
            return Err(Error::WrongRequest { got: answer.request_id, expected: request.id });
        }
        positive("answer.grad_scale", answer.grad_scale)?;
        if request.kind == Kind::Gradient && grads.is_none() {
            return Err(Error::Null { argument: "grads" });
        }
        p.checker.check(tensors, params, grads)?;
        p.backend.check_buffers(tensors, params, grads)?;
        p.backend.ready("a meta-update")?;
        let started = Instant::now();
        let mut open = p.meta.open.take().expect("filtered above");
        open.evaluations += 1;
        let world = World { options, param_groups, tensors, params };
        let next = if answer.loss.is_finite() {
            open.take_answer(answer, grads, &world, p)
        } else {
            Err(Outcome::LossNotFinite)
        };
        p.meta.open = Some(open);
        let outcome = match next {
            Ok(Next::Ask(stage)) => {
                p.times.meta += started.elapsed();
                let request = p.ask(stage);
                self.push_or_close(params)?;
                return Ok(Some(request));
            }
            Ok(Next::Finish) => p.finish(options),
            Err(outcome) => outcome,
        };
        p.times.meta += started.elapsed();
        self.close(params, outcome);
        self.push()?;
        Ok(None)
    }

    /// Ends the open meta-update without changing Φ.
    ///
    /// # Errors
    /// None is open; unusable pointers.
    pub fn meta_abort(&mut self, params: &Params) -> Result<()> {
        let p = self
            .prepared
            .as_mut()
            .filter(|p| p.meta.open.is_some())
            .ok_or(Error::State { call: "maw_meta_abort", reason: "no meta-update is open" })?;
        p.checker.check(&self.tensors, params, None)?;
        p.backend.check_buffers(&self.tensors, params, None)?;
        p.backend.ready("a meta-update")?;
        self.close(params, Outcome::Aborted);
        self.push()
    }

    /// How the last meta-update ended.
    ///
    /// # Errors
    /// Before preparation.
    pub fn meta_result(&self) -> Result<&MetaResult> {
        self.prepared.as_ref().map(|p| &p.meta.result).ok_or(crate::optimizer::unprepared("maw_meta_result_get"))
    }

    /// Derivatives of the last meta-update that changed Φ.
    ///
    /// # Errors
    /// There was none.
    pub fn meta_gradient(&self) -> Result<&MetaGradient> {
        self.prepared
            .as_ref()
            .and_then(|p| p.meta.gradient.as_ref())
            .ok_or(Error::State { call: "maw_meta_gradient", reason: "no meta-update has been completed yet" })
    }

    /// A device that failed gets no further question.
    fn push_or_close(&mut self, params: &Params) -> Result<()> {
        let pushed = self.push();
        if pushed.is_err() && self.prepared.as_ref().is_some_and(|p| p.meta.open.is_some()) {
            self.close(params, Outcome::Aborted);
        }
        pushed
    }

    /// The one way out: θ back, memory back, the result written.
    fn close(&mut self, params: &Params, outcome: Outcome) {
        let p = self.prepared.as_mut().expect("a meta-update was begun");
        p.backend.restore(params);
        p.backend.end_meta();
        let open = p.meta.open.take().expect("a meta-update is open");
        p.meta.done_at = Some(p.steps);
        let updates = p.meta.result.updates + u64::from(outcome == Outcome::Updated);
        let terms = objective::terms(&self.options, &open.losses, open.alignment.as_ref());
        let loss_meta = if outcome == Outcome::Updated { p.meta.result.loss_meta } else { f64::NAN };
        p.meta.result = MetaResult {
            step: p.steps,
            updates,
            losses: open.losses,
            terms,
            loss_meta,
            evaluations: open.evaluations,
            idle_groups: open.alignment.as_ref().map_or(0, |a| a.idle),
            outcome,
        };
        if !matches!(outcome, Outcome::Updated | Outcome::Aborted) {
            self.log(LogLevel::Warning, || format!("meta-update abandoned: {outcome:?}"));
        }
    }
}

impl Prepared {
    fn ask(&mut self, stage: Stage) -> Request {
        let open = self.meta.open.as_mut().expect("asked within a meta-update");
        self.meta.last_id += 1;
        let id = self.meta.last_id;
        let (kind, batch, replay) = match stage {
            Stage::Train1 if open.plan.train1_gradient => (Kind::Gradient, Batch::Train1, None),
            Stage::Train1 => (Kind::Loss, Batch::Train1, None),
            Stage::Validation => (Kind::Loss, Batch::Validation, None),
            Stage::Train2 => (Kind::Gradient, Batch::Train2, None),
            Stage::ValidationMoved => (Kind::Gradient, Batch::Validation, open.first_validation),
            Stage::Plus | Stage::Minus => (Kind::Gradient, Batch::Train2, open.first_train2),
        };
        match stage {
            Stage::Validation => open.first_validation = Some(id),
            Stage::Train2 => open.first_train2 = Some(id),
            _ => {}
        }
        open.stage = stage;
        open.request = Request { id, kind, batch, replay };
        open.request
    }

    /// Features and factors of the meta-update, at the present step.
    fn factors_for_meta(
        &mut self,
        tensors: &[Tensor],
        gradients: &[Option<GradientSums>],
    ) -> std::result::Result<Factors, Outcome> {
        for (i, tensor) in tensors.iter().enumerate() {
            self.statistics[i] = Statistics::new(gradients[i], self.state[i], tensor.numel);
        }
        let modulation = self.modulation.as_mut().expect("checked at begin");
        let factors = modulation
            .evaluate(&self.groups, &self.statistics, self.steps)
            .map_err(|_| Outcome::StateNotFinite)?
            .clone();
        modulation.accept();
        Ok(factors)
    }

    /// All answers are in: the gradient of Φ, and one step of it.
    fn finish(&mut self, options: &Options) -> Outcome {
        let open = self.meta.open.as_ref().expect("within a meta-update");
        let modulation = self.modulation.as_mut().expect("checked at begin");
        let terms = objective::terms(options, &open.losses, open.alignment.as_ref());
        let weighted = objective::value(options, modulation.attention.log_vars(), terms);
        let [align, decrease, _] = weighted.d_terms;
        let groups = self.groups.groups.len();
        let mut d = Factors::constant(groups, 0.0);
        for g in 0..groups {
            d.alpha[g] = align * open.d_alignment.alpha[g] + decrease * open.d_loss_decrease.alpha[g];
            d.beta[g] = align * open.d_alignment.beta[g] + decrease * open.d_loss_decrease.beta[g];
            if let Some(alignment) = &open.alignment {
                d.lambda1[g] = align * alignment.d_lambda1[g];
                d.lambda2[g] = align * alignment.d_lambda2[g];
            }
        }
        let (gradient, penalty) = MetaGradient::new(options, modulation, d, &weighted);
        let loss_meta = weighted.value + penalty;
        if !(loss_meta.is_finite() && gradient.phi.iter().all(|x| x.is_finite())) {
            return Outcome::MetaGradientNotFinite;
        }
        gradient.apply(options, modulation);
        self.meta.result.loss_meta = loss_meta;
        self.meta.gradient = Some(gradient);
        Outcome::Updated
    }
}
