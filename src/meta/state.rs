//! What an optimizer keeps of meta-updates between calls.

use super::gradient::MetaGradient;
use super::horizon::Learner;
use super::objective::Losses;
use super::protocol::{MetaResult, Outcome, Request};
use super::session::Session;
use super::uncertainty;
use crate::error::{Result, StateError};
use crate::model::report::{Counters, Skips};
use crate::run::Run;

/// The open one, if any, and how the last one ended.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(super) open: Option<Box<Session>>,
    pub(super) last_id: u64,
    /// Step at which one was done or abandoned.
    pub(super) done_at: Option<u64>,
    pub(super) result: MetaResult,
    pub(super) gradient: Option<MetaGradient>,
    /// How one was abandoned, until somebody logs it.
    pub(super) abandoned: Option<Outcome>,
    /// Of what is learned from steps alone.
    pub(super) learner: Option<Learner>,
    /// The averages are in the host's parameters, and these in the backend's memory.
    pub swapped: bool,
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
        Self {
            open: None,
            last_id: 0,
            done_at: None,
            result,
            gradient: None,
            abandoned: None,
            learner: None,
            swapped: false,
        }
    }
}

impl Meta {
    /// # Errors
    /// One is open, or the averages are swapped in.
    pub fn refuse_while_open(&self) -> Result<()> {
        match self.open {
            None if self.swapped => Err(StateError::AveragesSwapped.into()),
            None => Ok(()),
            Some(_) => Err(StateError::MetaUpdateOpen.into()),
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
        let learned = self.learner.as_ref().filter(|learner| learner.learned).map(|learner| &learner.gradient);
        self.gradient.as_ref().or(learned)
    }

    /// It had one derivative for each of the groups that there were.
    pub fn forget_gradient(&mut self, run: &Run) {
        self.gradient = None;
        self.prepare_to_learn(run);
    }

    /// How one was abandoned since the last time that this was asked.
    pub fn take_abandoned(&mut self) -> Option<Outcome> {
        self.abandoned.take()
    }

    /// The counts of the run.
    pub fn counters(&self, run: &Run) -> Counters {
        Counters {
            steps: run.state.steps,
            skipped_steps: run.state.skips.by_reason,
            meta_updates: self.updates(),
            meta_done_at: self.done_at,
        }
    }

    /// Makes these the counts of the run. What the last skipped step and the last meta-update were is forgotten.
    pub fn set_counters(&mut self, run: &mut Run, counters: &Counters) {
        run.state.steps = counters.steps;
        run.state.skips = Skips { by_reason: counters.skipped_steps, last: None };
        self.restore(counters.meta_updates, counters.meta_done_at);
    }

    /// As after `updates` meta-updates, the last at step `done_at`; nothing more is known of it.
    pub fn restore(&mut self, updates: u64, done_at: Option<u64>) {
        let (last_id, learner) = (self.last_id, self.learner.take());
        let learner = learner.map(|learner| Learner { learned: false, ..learner });
        *self = Self { last_id, done_at, learner, ..Self::default() };
        self.result.updates = updates;
    }
}
