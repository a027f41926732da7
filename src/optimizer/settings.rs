//! Hyper-parameters that can be set at any time.

use super::Optimizer;
use crate::error::{Error, Result};
use crate::model::options::{ParamGroup, not_negative, validate_beta, validate_eps, validate_priorities};

impl Optimizer {
    /// Sets the learning rate of one param group, or of all (`None`).
    ///
    /// # Errors
    /// No such group; not finite or below 0; an open meta-update.
    pub fn set_lr(&mut self, group: Option<usize>, lr: f64) -> Result<()> {
        not_negative("lr", lr)?;
        self.change_groups(group, |g| g.lr = lr)
    }

    /// Sets the weight decay of one param group, or of all (`None`).
    ///
    /// # Errors
    /// As for [`Self::set_lr`].
    pub fn set_weight_decay(&mut self, group: Option<usize>, weight_decay: f64) -> Result<()> {
        not_negative("weight_decay", weight_decay)?;
        self.change_groups(group, |g| g.weight_decay = weight_decay)
    }

    /// Sets the decay rates of both moments of one param group, or of all (`None`). The bias correction of the next step is
    /// as if they had held from the start, as in PyTorch.
    ///
    /// # Errors
    /// No such group; not in [0, 1); an open meta-update.
    pub fn set_betas(&mut self, group: Option<usize>, beta1: f64, beta2: f64) -> Result<()> {
        validate_beta("beta1", beta1)?;
        validate_beta("beta2", beta2)?;
        self.change_groups(group, |g| (g.beta1, g.beta2) = (beta1, beta2))
    }

    /// Sets what is added to the square root of the second moment, of one param group or of all (`None`).
    ///
    /// # Errors
    /// No such group; not finite or below the smallest normal number that the group's tensors are computed in; an open
    /// meta-update.
    pub fn set_eps(&mut self, group: Option<usize>, eps: f64) -> Result<()> {
        let of_group = self.tensors().iter().filter(|tensor| group.is_none_or(|group| group == tensor.param_group));
        validate_eps("eps", eps, of_group.map(|tensor| tensor.spec.dtype))?;
        self.change_groups(group, |g| g.eps = eps)
    }

    /// Sets the norm to which all gradients together are clipped; 0: no clipping.
    ///
    /// # Errors
    /// Not finite or below 0; an open meta-update; on a device a step captured without statistics.
    pub fn set_max_grad_norm(&mut self, max_grad_norm: f64) -> Result<()> {
        not_negative("max_grad_norm", max_grad_norm)?;
        let mut options = self.registration.options.clone();
        options.max_grad_norm = max_grad_norm;
        if let Some(mut p) = self.changeable()? {
            p.sync()?;
            p.run.backend.can_apply_options(&options)?;
            p.run.backend.apply_options(&options);
            let before = std::mem::replace(&mut p.registration.options, options);
            return p.push().inspect_err(|_| {
                p.run.backend.apply_options(&before);
                p.registration.options = before;
            });
        }
        self.registration.options = options;
        Ok(())
    }

    fn change_groups(&mut self, group: Option<usize>, change: impl Fn(&mut ParamGroup)) -> Result<()> {
        self.changeable()?;
        let count = self.registration.param_groups.len();
        let changed = match group {
            None => 0..count,
            Some(i) if i < count => i..i + 1,
            Some(i) => return Err(Error::no_index("param group", i, count)),
        };
        let device = self.ready.as_mut().and_then(|ready| ready.run.backend.device());
        let before = device.is_some().then(|| self.registration.param_groups.clone());
        self.registration.param_groups[changed].iter_mut().for_each(change);
        if let (Some(device), Some(before)) = (device, before)
            && let Err(error) = device.set_groups(&self.registration.param_groups)
        {
            self.registration.param_groups = before;
            return Err(error);
        }
        Ok(())
    }

    /// Sets HUW's priorities.
    ///
    /// # Errors
    /// One not finite or below 0; an open meta-update.
    pub fn set_priorities(&mut self, priorities: [f64; 3]) -> Result<()> {
        validate_priorities("priorities", &priorities)?;
        self.changeable()?;
        self.registration.options.priorities = priorities;
        Ok(())
    }
}
