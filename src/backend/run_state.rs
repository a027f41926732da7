//! The small state of a run, as the host knows it: everything but what is as large as the model.
//!
//! It lies beside the seam because a device that makes steps by itself has its own copy, and [`super::DeviceStep`] keeps the
//! two in step.

use crate::model::report::Skips;
use crate::model::stats::{GradientSums, StateSums};
use crate::modulation::Modulation;
use crate::modulation::attention::take_rows;

/// Σ θ² of a tensor's masters, which tells the host's parameters that remainders belong to from others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MasterSum {
    /// The sum.
    pub square: f64,
    /// Which additions made it: sums of the same number have the same bits ([`super::Backend::sum_order`]).
    pub order: u32,
}

impl MasterSum {
    /// Float32 sums of 32 squares each have relative errors of up to 33·2^-24; all others are smaller.
    const APART: f64 = 1.0 / (1 << 18) as f64;

    /// Whether both can be sums of the same masters.
    #[must_use]
    pub fn agrees(self, other: Self) -> bool {
        let (a, b) = (self.square, other.square);
        if self.order == other.order || !(a.is_finite() && b.is_finite()) {
            return a == b || (a.is_nan() && b.is_nan());
        }
        (a - b).abs() <= Self::APART * a.max(b)
    }
}

/// Σ g·(θ − θ̄) of each modulation group over the steps since Φ last learned from them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HorizonSums {
    /// H, one a group.
    pub sums: Vec<f64>,
    /// n, steps.
    pub count: u64,
}

impl HorizonSums {
    /// Of so many groups.
    #[must_use]
    pub fn new(groups: usize) -> Self {
        Self { sums: vec![0.0; groups], count: 0 }
    }

    /// Back to the start.
    pub fn reset(&mut self) {
        self.sums.fill(0.0);
        self.count = 0;
    }
}

/// What a run of a model begins with.
#[derive(Debug)]
pub struct Beginning {
    /// See [`RunState::master_initialized`].
    pub master_initialized: Vec<bool>,
    /// See [`RunState::average_initialized`].
    pub average_initialized: Vec<bool>,
    /// See [`RunState::horizon`].
    pub horizon: Option<HorizonSums>,
    /// See [`RunState::rounding_keys`].
    pub rounding_keys: Vec<u64>,
    /// See [`RunState::modulation`].
    pub modulation: Option<Modulation>,
}

/// Counts, sums, the attention module. Vectors have one element a tensor, in registration order.
#[derive(Debug)]
pub struct RunState {
    /// Applied steps.
    pub steps: u64,
    /// Skipped ones.
    pub skips: Skips,
    /// t of each tensor.
    pub tensor_steps: Vec<u64>,
    /// Whether the tensor's master has a value, or it has no master.
    pub master_initialized: Vec<bool>,
    /// Whether the tensor's average has a value, or there are no averages.
    pub average_initialized: Vec<bool>,
    /// What the attention module will learn from, if it learns from steps alone.
    pub horizon: Option<HorizonSums>,
    /// Keys of the tensors' stochastic rounding.
    pub rounding_keys: Vec<u64>,
    /// Sums of parameters and moments, carried from step to step.
    pub state_sums: Vec<StateSums>,
    /// Whether `state_sums` are those of what parameters and moments are now.
    pub sums_current: bool,
    /// Σ θ² of the tensors' masters where `state_sums` are not current: from a file, or as they were before a setter.
    pub master_sums: Vec<Option<MasterSum>>,
    /// The squares of `master_sums` are among the shards' own ([`super::Collective::keep_param_sums`]).
    pub master_sums_kept: bool,
    /// `master_sums` are from a file, and no step has compared them with the host's parameters yet.
    pub compares_masters: bool,
    /// `reference`: the effective gradient of the last applied step against the moments that it left.
    pub last_gradients: Vec<Option<GradientSums>>,
    /// None with modulation off.
    pub modulation: Option<Modulation>,
}

impl RunState {
    /// Of a run that has made no step.
    #[must_use]
    pub fn new(beginning: Beginning) -> Self {
        let Beginning { master_initialized, average_initialized, horizon, rounding_keys, modulation } = beginning;
        let n = master_initialized.len();
        Self {
            steps: 0,
            skips: Skips::default(),
            tensor_steps: vec![0; n],
            master_initialized,
            average_initialized,
            horizon,
            rounding_keys,
            state_sums: vec![StateSums::default(); n],
            sums_current: false,
            master_sums: vec![None; n],
            master_sums_kept: false,
            compares_masters: false,
            last_gradients: vec![None; n],
            modulation,
        }
    }

    /// Takes over what stays of the run of another set of tensors, of which this one's tensor i was `from[i]`.
    /// Modulation group i was `groups[i]`. `master_sum`: what is known of a tensor's masters there.
    pub fn continue_from(
        &mut self,
        old: &Self,
        from: &[Option<usize>],
        groups: &[Option<usize>],
        master_sum: impl Fn(usize) -> Option<MasterSum>,
    ) {
        self.steps = old.steps;
        self.skips = old.skips.clone();
        if let Some((_, Some(tensor), _)) = &mut self.skips.last {
            match from.iter().position(|from| *from == Some(*tensor)) {
                Some(new) => *tensor = new,
                None => self.skips.last = None,
            }
        }
        self.compares_masters = old.compares_masters;
        if let (Some(new), Some(old)) = (&mut self.horizon, &old.horizon) {
            new.count = old.count;
            take_rows(&old.sums, 1, groups, &mut new.sums, |_, _| {});
        }
        for (i, from) in from.iter().enumerate() {
            let Some(from) = *from else { continue };
            self.tensor_steps[i] = old.tensor_steps[from];
            self.master_initialized[i] = old.master_initialized[from];
            self.average_initialized[i] = old.average_initialized[from];
            self.last_gradients[i] = old.last_gradients[from];
            self.master_sums[i] = master_sum(from);
        }
    }
}
