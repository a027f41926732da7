//! Meta-updates, as a host asks for them. What they do is in `meta/`.

use super::Optimizer;
use super::prepared::{Prepared, Ready};
use crate::error::{Error, Result, StateError};
use crate::meta::gradient::MetaGradient;
use crate::meta::{Answer, MetaResult, Request};
use crate::model::host_buffers::{Grads, Params};
use crate::reserve::{Reserve, times};

impl Optimizer {
    /// Whether a meta-update should be made now: after the warm-up, every `meta_interval` steps, once a step.
    #[must_use]
    pub fn meta_due(&self) -> bool {
        self.ready.as_ref().is_some_and(|Ready { run, meta, .. }| meta.is_due(&self.registration, run))
    }

    /// [`Self::meta_due`] after waiting for a device, if the answer can be yes: between two meta-updates it cannot for long.
    ///
    /// # Errors
    /// A capture under way; the driver's, of whatever ran.
    pub fn meta_due_now(&mut self) -> Result<bool> {
        if let Some(mut p) = self.prepared()
            && !p.registration.options.learns_from_steps()
            && p.run.may_have_reached(p.registration.options.meta_interval, p.meta.done_at())
        {
            p.sync()?;
        }
        Ok(self.meta_due())
    }

    /// [`Self::meta_due_now`], or false after an error, which the next call that waits tells.
    pub(crate) fn meta_due_or_later(&mut self) -> bool {
        let due = self.meta_due_now();
        if let (Err(Error::Reduction(_)), Some(p)) = (&due, self.prepared()) {
            p.run.tell_again();
        }
        due.unwrap_or(false)
    }

    /// Begins a meta-update, due or not. `None`: it was abandoned at once, since the state is not finite.
    ///
    /// # Errors
    /// Modulation is off; one is open already; unusable pointers; no memory.
    pub fn meta_begin(&mut self, params: &Params) -> Result<Option<Request>> {
        self.together(|optimizer| {
            optimizer.with_prepared(|mut p| {
                p.sync()?;
                let mut reserve = None;
                let begun = p.in_reserve(&mut reserve, |p| p.meta.begin(p.registration, p.run, params));
                p.keep(reserve);
                begun
            })
        })
    }

    /// Takes one answer. `None`: done or abandoned; [`Self::meta_result`] says which.
    ///
    /// # Errors
    /// None is open; another request's id; unusable pointers or scale. The request stays open then.
    pub fn meta_tell(&mut self, answer: &Answer, params: &Params, grads: Option<&Grads>) -> Result<Option<Request>> {
        self.together(|optimizer| {
            let mut p = optimizer.prepared().ok_or(StateError::NoMetaUpdateOpen)?;
            let mut reserve = p.reserve.take();
            let next = p.in_reserve(&mut reserve, |p| p.meta.tell(p.registration, p.run, answer, (params, grads)));
            p.keep(reserve);
            next
        })
    }

    /// Ends the open meta-update without changing Φ.
    ///
    /// # Errors
    /// None is open; unusable pointers.
    pub fn meta_abort(&mut self, params: &Params) -> Result<()> {
        let mut p = self.prepared().ok_or(StateError::NoMetaUpdateOpen)?;
        let aborted = p.meta.abort(p.registration, p.run, params);
        let reserve = p.reserve.take();
        p.keep(reserve);
        aborted
    }

    /// How the last meta-update ended.
    ///
    /// # Errors
    /// Before preparation.
    pub fn meta_result(&self) -> Result<&MetaResult> {
        Ok(self.ready()?.meta.result())
    }

    /// Derivatives of the last meta-update that changed Φ.
    ///
    /// # Errors
    /// There was none.
    pub fn meta_gradient(&self) -> Result<&MetaGradient> {
        let ready = self.ready.as_ref();
        ready.and_then(|ready| ready.meta.gradient()).ok_or(StateError::NoMetaGradient.into())
    }
}

impl Prepared<'_> {
    /// Work of a meta-update, in its reserve, which is made if it is not there: to map it for each call would take a tenth of
    /// a small model's meta-update.
    fn in_reserve<T>(&mut self, reserve: &mut Option<Reserve>, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let memory = times(16, self.run.memory(self.registration));
        let reserve = match reserve {
            Some(reserve) => reserve,
            None => reserve.insert(Reserve::new(memory)?),
        };
        reserve.refill(memory)?;
        let _entered = reserve.enter();
        let done = work(self);
        self.log_abandoned();
        done
    }

    /// Keeps the reserve for as long as a meta-update is open.
    fn keep(&mut self, reserve: Option<Reserve>) {
        *self.reserve = reserve.filter(|_| self.meta.open_request().is_some());
    }

    /// Tells of a meta-update, or of what was learned from steps, that was abandoned.
    pub fn log_abandoned(&mut self) {
        if let Some(outcome) = self.meta.take_abandoned() {
            self.log.abandoned(outcome);
        }
    }
}
