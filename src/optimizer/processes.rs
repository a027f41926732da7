//! One model over several processes: the host's reduction, and what cannot be done with shards.

use std::sync::Arc;

use super::Optimizer;
use crate::backend::{AllReduce, Callback, cuda};
use crate::error::{Error, Result, StateError};
use crate::run::at_preparation;

impl Optimizer {
    /// Sums over all processes from now on; `None`: this process is alone. Every tensor is then a shard.
    ///
    /// # Errors
    /// After preparation; an open meta-update.
    pub fn set_reduction(&mut self, callback: Option<Arc<Callback>>) -> Result<()> {
        if self.changeable()?.is_some() {
            return Err(StateError::PreparedWithoutReduction.into());
        }
        self.all_reduce = callback.map(AllReduce::new);
        Ok(())
    }

    /// Shards and a reduction go together.
    pub(super) fn check_shards(&self) -> Result<()> {
        let (tensors, options) = (self.tensors(), &self.registration.options);
        if self.all_reduce.is_none() {
            let shards = tensors.iter().any(|tensor| tensor.spec.shard.is_some());
            return if shards { Err(StateError::NoReduction.into()) } else { Ok(()) };
        }
        if let Some(whole) = tensors.iter().find(|tensor| tensor.spec.shard.is_none()) {
            let field = format!("sharded of tensor '{}'", whole.name());
            return Err(Error::range(
                field,
                0,
                "1: with a reduction, each process registers what it has of each tensor",
            ));
        }
        if options.verify_params {
            return Err(Error::range("options.verify_params", 1, "0 with a reduction"));
        }
        Ok(())
    }

    /// Whether other processes have a part of the model.
    pub(super) fn has_shards(&self) -> bool {
        self.all_reduce.is_some()
    }

    /// A change that only a process with whole tensors can make.
    pub(super) fn refuse_shards(&self, what: &str) -> Result<()> {
        match self.all_reduce {
            Some(_) => Err(Error::Unsupported { what: format!("{what} of shards") }),
            None => Ok(()),
        }
    }

    /// A call that all processes make together: if it fails here before they met, they hear of it.
    pub(crate) fn together<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.reductions();
        let done = work(self);
        let met = self.reductions() != before;
        if let (Err(_), false, Some(ready)) = (&done, met, &mut self.ready) {
            ready.run.refuse(&self.registration);
        }
        done
    }

    /// The same for preparation.
    pub(super) fn prepare_together<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.all_reduce.as_ref().map(AllReduce::calls);
        let done = work(self);
        if let (Err(_), Some(reduce)) = (&done, &mut self.all_reduce)
            && Some(reduce.calls()) == before
        {
            let agreement = at_preparation(&self.registration);
            match &self.cuda {
                Some(device) => cuda::refuse_alone(device, self.stream.0, reduce, &agreement),
                None => reduce.refuse_alone(&agreement),
            }
        }
        done
    }

    fn reductions(&mut self) -> u64 {
        self.ready.as_mut().map_or(0, |ready| ready.run.reductions())
    }
}
