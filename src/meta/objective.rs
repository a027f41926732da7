//! Gradient alignment, loss decrease, generalization gap: what each must ask for, its value and its derivatives.

use super::protocol::Stage;
use super::uncertainty::{self, TERMS, Weighted};
use crate::backend::{Alignment, Direction};
use crate::model::groups::Groups;
use crate::model::options::{Difference, Objective, Options, Semantics};
use crate::modulation::Factors;

/// Norms at or below this count as 0 in a cosine.
const TINY: f64 = 1e-8;
/// A group whose gradient on B2 is below this share of the largest group's is idle.
const IDLE: f64 = 1e-5;

/// What the options make a meta-update ask for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// B1 at θ.
    pub train1: bool,
    /// … with its gradient.
    pub train1_gradient: bool,
    /// The validation batch at θ.
    pub validation: bool,
    /// θ′ is needed.
    pub trial: bool,
    /// B2 at θ′.
    pub train2: bool,
    /// The validation batch at θ′.
    pub validation_moved: bool,
    /// How the Hessian product is found, where one is needed.
    pub difference: Option<Difference>,
}

impl Plan {
    /// Only what the objective needs. In `paper` B1's gradient is part of the features and of θ′, so always needed.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let objective = options.objective;
        let (alignment, decrease, gap) = match objective {
            Objective::Combined => (true, true, true),
            Objective::Gradient => (true, false, false),
            Objective::LossDecrease => (false, true, false),
            Objective::GenGap => (false, false, true),
            Objective::Horizon => (false, false, false), // it asks nothing
        };
        let paper = options.semantics == Semantics::Paper;
        Self {
            train1: paper || alignment || gap,
            train1_gradient: paper || alignment,
            validation: decrease || gap,
            trial: alignment || decrease,
            train2: alignment,
            validation_moved: decrease,
            difference: (alignment && options.difference != Difference::FirstOrder).then_some(options.difference),
        }
    }

    /// What comes after `stage` (`None`: at the start), the differences apart: these depend on w.
    #[must_use]
    pub fn after(&self, stage: Option<Stage>) -> Option<Stage> {
        let order = [
            (Stage::Train1, self.train1),
            (Stage::Validation, self.validation),
            (Stage::Train2, self.train2),
            (Stage::ValidationMoved, self.validation_moved),
        ];
        order.into_iter().find(|(next, wanted)| *wanted && stage.is_none_or(|s| *next > s)).map(|(next, _)| next)
    }
}

/// Losses that the host answered; NaN until then.
#[derive(Clone, Copy, Debug)]
pub struct Losses {
    /// B1 at θ.
    pub train: f64,
    /// Validation at θ.
    pub validation: f64,
    /// B2 at θ′.
    pub train_moved: f64,
    /// Validation at θ′.
    pub validation_moved: f64,
}

impl Default for Losses {
    fn default() -> Self {
        Self { train: f64::NAN, validation: f64::NAN, train_moved: f64::NAN, validation_moved: f64::NAN }
    }
}

/// Gradient alignment (eq. 10) with all that follows from it.
#[derive(Clone, Debug)]
pub struct GradientAlignment {
    /// L_grad.
    pub value: f64,
    /// ∂L_grad/∂λ₁ and ∂L_grad/∂λ₂ of each group.
    pub d_lambda1: Vec<f64>,
    /// See `d_lambda1`.
    pub d_lambda2: Vec<f64>,
    /// w = ∂L_grad/∂g′ of each group, as factors of the *effective* g′ and g.
    pub directions: Vec<Direction>,
    /// Groups that leave the cosine out of w.
    pub idle: u32,
}

impl GradientAlignment {
    /// From Σg², Σg′² and Σg·g′ of each group.
    #[must_use]
    pub fn new(train1_square: &[f64], group_sums: &[Alignment], factors: &Factors) -> Self {
        let groups = group_sums.len();
        let share = 1.0 / groups as f64;
        let largest = group_sums.iter().map(|s| s.square.sqrt()).fold(0.0, f64::max);
        let mut this = Self {
            value: 0.0,
            d_lambda1: vec![0.0; groups],
            d_lambda2: vec![0.0; groups],
            directions: vec![Direction::default(); groups],
            idle: 0,
        };
        for (g, sums) in group_sums.iter().enumerate() {
            let (lambda1, lambda2) = (factors.lambda1[g], factors.lambda2[g]);
            let (norm1, norm2) = (train1_square[g].sqrt(), sums.square.sqrt());
            let defined = norm1 > TINY && norm2 > TINY;
            let cosine = if defined { sums.product / (norm1 * norm2) } else { 0.0 };
            this.value += share * (lambda1 * sums.square - lambda2 * cosine);
            this.d_lambda1[g] = share * sums.square;
            this.d_lambda2[g] = -share * cosine;

            // ∂cos/∂g′ = g/(‖g‖‖g′‖) − cos·g′/‖g′‖²
            let idle = norm2 == 0.0 || norm2 < IDLE * largest;
            this.idle += u32::from(idle);
            let mut direction = Direction { train2: share * 2.0 * lambda1, train1: 0.0 };
            if defined && !idle {
                direction.train2 += share * lambda2 * cosine / sums.square;
                direction.train1 = -share * lambda2 / (norm1 * norm2);
            }
            this.directions[g] = direction;
        }
        this
    }
}

/// The three terms; NaN for those that the objective does not have.
#[must_use]
pub fn terms(options: &Options, losses: &Losses, alignment: Option<&GradientAlignment>) -> [f64; TERMS] {
    let plan = Plan::new(options);
    let nan_unless = |wanted: bool, value: f64| if wanted { value } else { f64::NAN };
    let gap = matches!(options.objective, Objective::Combined | Objective::GenGap);
    [
        alignment.map_or(f64::NAN, |a| a.value),
        nan_unless(plan.validation_moved, losses.validation_moved - losses.validation),
        nan_unless(gap, (losses.train - losses.validation).abs()),
    ]
}

/// The objective without regularisation.
#[must_use]
pub fn value(options: &Options, log_vars: Option<&[f64]>, terms: [f64; TERMS]) -> Weighted {
    let alone = |i: usize| {
        let mut d_terms = [0.0; TERMS];
        d_terms[i] = 1.0;
        Weighted { value: terms[i], d_terms, d_log_vars: [0.0; TERMS] }
    };
    match options.objective {
        Objective::Combined => uncertainty::weigh(options, log_vars, terms),
        Objective::Gradient => alone(0),
        Objective::LossDecrease => alone(1),
        Objective::GenGap => alone(2),
        Objective::Horizon => unreachable!("it has no meta-updates of the host"),
    }
}

/// Adds a per-tensor quantity up over the tensors of each group.
#[must_use]
pub fn by_group(groups: &Groups, value: impl Fn(usize) -> f64) -> Vec<f64> {
    groups.groups.iter().map(|group| group.tensors.iter().map(|&i| value(i)).sum()).collect()
}
