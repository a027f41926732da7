//! The small state of a run, as the host knows it: everything but what is as large as the model.
//!
//! It lies beside the seam because a device that makes steps by itself has its own copy, and [`super::DeviceStep`] keeps the
//! two in step.

use crate::model::report::Skips;
use crate::model::stats::{GradientSums, StateSums};
use crate::modulation::Modulation;

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
    /// Keys of the tensors' stochastic rounding.
    pub rounding_keys: Vec<u64>,
    /// Sums of parameters and moments, carried from step to step.
    pub state_sums: Vec<StateSums>,
    /// Whether `state_sums` are those of what parameters and moments are now.
    pub sums_current: bool,
    /// Σ θ² of the tensors' masters where `state_sums` are not current: from a file, or as they were before a setter.
    pub master_sums: Vec<Option<MasterSum>>,
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
    pub fn new(master_initialized: Vec<bool>, rounding_keys: Vec<u64>, modulation: Option<Modulation>) -> Self {
        let n = master_initialized.len();
        Self {
            steps: 0,
            skips: Skips::default(),
            tensor_steps: vec![0; n],
            master_initialized,
            rounding_keys,
            state_sums: vec![StateSums::default(); n],
            sums_current: false,
            master_sums: vec![None; n],
            compares_masters: false,
            last_gradients: vec![None; n],
            modulation,
        }
    }

    /// Takes over what stays of the run of another set of tensors, of which this one's tensor i was `from[i]`.
    /// `master_sum`: what is known of a tensor's masters there.
    pub fn continue_from(
        &mut self,
        old: &Self,
        from: &[Option<usize>],
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
        for (i, from) in from.iter().enumerate() {
            let Some(from) = *from else { continue };
            self.tensor_steps[i] = old.tensor_steps[from];
            self.master_initialized[i] = old.master_initialized[from];
            self.last_gradients[i] = old.last_gradients[from];
            self.master_sums[i] = master_sum(from);
        }
    }
}
