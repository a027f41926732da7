//! The meta-update as ask and tell: one enum of stages, one transition, θ restored on every way out. What Φ learns unasked
//! is in `horizon.rs`.
//!
//! `Meta::begin` copies θ; each `Meta::tell` takes one answer, writes the next point into the host's buffers and asks
//! on; at the end, after an abort and after anything that is not finite, the buffers hold θ's exact bits again. Nothing
//! here is proportional to the number of parameters: that is the backend's.

pub mod gradient;
mod horizon;
pub mod objective;
mod protocol;
mod session;
mod state;
pub mod uncertainty;

use std::time::Instant;

pub use self::protocol::{Answer, Batch, Kind, MetaResult, Outcome, Request, Stage};
use self::session::{Next, Session, finish};
pub(crate) use self::state::Meta;
use crate::error::{Error, Result, StateError};
use crate::model::host_buffers::{CheckedParams, Grads, Params};
use crate::model::options::{Semantics, positive};
use crate::model::registration::Registration;
use crate::run::Run;

impl Meta {
    /// Whether a meta-update should be made now: after the warm-up, every `meta_interval` steps, once a step.
    pub fn is_due(&self, registration: &Registration, run: &Run) -> bool {
        let (options, steps) = (&registration.options, run.state.steps);
        run.state.modulation.is_some()
            && !options.learns_from_steps()
            && steps > 0
            && steps >= options.meta_warmup
            && steps.is_multiple_of(options.meta_interval)
            && self.done_at != Some(steps)
            && self.open.is_none()
    }

    /// Begins a meta-update, due or not. `None`: it was abandoned at once, since the state is not finite.
    ///
    /// # Errors
    /// Modulation is off; Φ learns from steps; one is open already; unusable pointers; no memory; the device's.
    pub fn begin(&mut self, registration: &Registration, run: &mut Run, params: &Params) -> Result<Option<Request>> {
        self.refuse_while_open()?;
        if run.state.modulation.is_none() {
            return Err(StateError::ModulationOff("is no attention module to update").into());
        }
        if registration.options.learns_from_steps() {
            return Err(StateError::LearnsFromSteps.into());
        }
        let params = run.check(registration, params, None)?.params;
        run.workspace.announced.fill(false);
        run.check_remainders(registration, params, false)?;
        run.mark_uninitialized(false);
        let verify = registration.options.verify_params;
        run.refresh_sums(registration, params, !verify, verify)?;
        let session = Session::open(registration, run, params, self.updates())?;
        let met = run.meet(registration, format_args!("meta-update {}", self.updates()), None).and_then(|()| {
            run.take_reduced_sums(false);
            run.check_reduced_remainders(registration, false)
        });
        if met.is_err() {
            run.state.sums_current = false; // the host may bring other parameters
            run.backend.end_meta();
            run.push(registration)?;
            met?;
        }
        let first = session.stage;
        self.open = Some(Box::new(session));
        let begun = self.first_factors(registration, run);
        let request = match begun {
            Ok(()) => Some(self.ask(first)),
            Err(outcome) => {
                run.state.sums_current = false; // the host will have to change what is not finite
                self.close(registration, run, params, outcome);
                None
            }
        };
        self.push_or_close(registration, run, params)?;
        Ok(request)
    }

    /// Checks the state; in `reference` evaluates the factors, since the program looks at the last training step's
    /// gradient and not at B1's.
    fn first_factors(&mut self, registration: &Registration, run: &mut Run) -> std::result::Result<(), Outcome> {
        if run.broken_state().is_some() {
            return Err(Outcome::StateNotFinite);
        }
        if let (Semantics::Reference, Some(open)) = (registration.options.semantics, &mut self.open) {
            let last = run.state.last_gradients.clone();
            open.factors = Some(session::factors(&registration.tensors, run, &last)?);
        }
        Ok(())
    }

    /// Takes one answer. `None`: done or abandoned; [`Meta::result`] says which.
    ///
    /// # Errors
    /// None is open; another request's id; unusable pointers or scale. The request stays open then.
    pub fn tell(
        &mut self,
        registration: &Registration,
        run: &mut Run,
        answer: &Answer,
        (params, grads): (&Params, Option<&Grads>),
    ) -> Result<Option<Request>> {
        let open = self.open.as_mut().ok_or(StateError::NoMetaUpdateOpen)?;
        let request = open.request;
        if answer.request_id != request.id {
            return Err(Error::WrongRequest { got: answer.request_id, expected: request.id });
        }
        positive("answer.grad_scale", answer.grad_scale)?;
        if request.kind == Kind::Gradient && grads.is_none() {
            return Err(Error::Null { argument: "grads" });
        }
        let buffers = run.check(registration, params, grads)?;
        run.backend.ready("a meta-update")?;
        let asked_for = buffers.grads.filter(|_| request.kind == Kind::Gradient);
        let (id, loss, scale) = (request.id, answer.loss.to_bits(), answer.grad_scale.to_bits());
        run.meet(registration, format_args!("answer {id} {loss} {scale}"), asked_for)?;
        let started = Instant::now();
        open.evaluations += 1;
        let next = if answer.loss.is_finite() {
            open.take_answer(answer, registration, buffers, run)
        } else {
            Err(Outcome::LossNotFinite)
        };
        if let Err(error) = run.check_reduced() {
            self.close(registration, run, buffers.params, Outcome::Aborted);
            return Err(error);
        }
        let outcome = match next {
            Ok(Next::Ask(stage)) => {
                run.times.meta += started.elapsed();
                let request = self.ask(stage);
                self.push_or_close(registration, run, buffers.params)?;
                return Ok(Some(request));
            }
            Ok(Next::Finish) => self.finish(registration, run),
            Err(outcome) => outcome,
        };
        run.times.meta += started.elapsed();
        self.close(registration, run, buffers.params, outcome);
        run.push(registration)?;
        Ok(None)
    }

    /// Ends the open meta-update without changing Φ.
    ///
    /// # Errors
    /// None is open; unusable pointers; the device's.
    pub fn abort(&mut self, registration: &Registration, run: &mut Run, params: &Params) -> Result<()> {
        if self.open.is_none() {
            return Err(StateError::NoMetaUpdateOpen.into());
        }
        let params = run.check(registration, params, None)?.params;
        run.backend.ready("a meta-update")?;
        self.close(registration, run, params, Outcome::Aborted);
        run.push(registration)
    }

    /// A device that failed gets no further question.
    fn push_or_close(&mut self, registration: &Registration, run: &mut Run, params: CheckedParams) -> Result<()> {
        let pushed = run.push(registration);
        if pushed.is_err() {
            self.close(registration, run, params, Outcome::Aborted);
        }
        pushed
    }

    /// The one way out: θ back, memory back, the result written. Does nothing where none is open.
    fn close(&mut self, registration: &Registration, run: &mut Run, params: CheckedParams, outcome: Outcome) {
        let Some(open) = self.open.take() else { return };
        run.backend.restore_params(params);
        run.backend.end_meta();
        let updated = outcome == Outcome::Updated;
        self.done_at = Some(run.state.steps);
        self.result = MetaResult {
            step: run.state.steps,
            updates: self.result.updates + u64::from(updated),
            losses: open.losses,
            terms: objective::terms(&registration.options, &open.losses, open.alignment.as_ref()),
            loss_meta: if updated { self.result.loss_meta } else { f64::NAN },
            evaluations: open.evaluations,
            idle_groups: open.alignment.as_ref().map_or(0, |a| a.idle),
            outcome,
        };
        if !matches!(outcome, Outcome::Updated | Outcome::Aborted) {
            self.abandoned = Some(outcome);
        }
    }

    /// The next request, with an id that was never used.
    fn ask(&mut self, stage: Stage) -> Request {
        self.last_id += 1;
        self.open.as_mut().expect("asked within a meta-update").ask(stage, self.last_id)
    }

    /// All answers are in: the gradient of Φ, and one step of it.
    fn finish(&mut self, registration: &Registration, run: &mut Run) -> Outcome {
        let open = self.open.as_ref().expect("within a meta-update");
        match finish(open, &registration.options, run) {
            Ok((gradient, loss_meta)) => {
                self.result.loss_meta = loss_meta;
                self.gradient = Some(gradient);
                Outcome::Updated
            }
            Err(outcome) => outcome,
        }
    }
}
