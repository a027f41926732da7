//! A meta-update under way: what each answer adds, and where it leads.

use super::gradient::MetaGradient;
use super::objective::{self, GradientAlignment, Losses, Plan, by_group};
use super::protocol::{Answer, Batch, Kind, Outcome, Request, Stage};
use crate::backend::{Alignment, Cotangent, Direction, GradientSlot, PerturbedPoint, Projection, TrialStep};
use crate::error::Result;
use crate::model::clipping::effective_gradient;
use crate::model::coefficients::{Coefficients, Slopes};
use crate::model::dtype::DType;
use crate::model::groups::{Groups, Tensor};
use crate::model::host_buffers::{CheckedBuffers, CheckedGrads, CheckedParams};
use crate::model::options::{Difference, Options, Semantics};
use crate::model::registration::Registration;
use crate::model::stats::{GradientSums, Statistics};
use crate::modulation::Factors;
use crate::numeric::stochastic_rounding::{step_key, tensor_key};
use crate::run::{Run, Workspace};

/// Tells the seeds of requests from the keys of tensors: no tensor has a name without characters.
const SEEDS: &str = "";

/// What an answer leads to, or a reason to give up.
type Step<T> = std::result::Result<T, Outcome>;

/// A meta-update under way.
#[derive(Debug)]
pub(super) struct Session {
    pub plan: Plan,
    pub stage: Stage,
    pub request: Request,
    /// What its requests' seeds are made from.
    pub seed: u64,
    pub losses: Losses,
    pub evaluations: u32,
    /// Requests that others replay.
    pub first_validation: Option<u64>,
    pub first_train2: Option<u64>,
    pub factors: Option<Factors>,
    /// Sums of B1's effective gradient.
    pub train1: Vec<Option<GradientSums>>,
    /// Factors from the host's gradient of B1 and of B2 to the effective one.
    pub train1_scale: f64,
    pub train2_scale: f64,
    pub trials: Vec<TrialStep>,
    pub slopes: Vec<Slopes>,
    pub moved_square: f64,
    pub alignment: Option<GradientAlignment>,
    pub directions: Vec<Direction>,
    pub direction_norm_squared: f64,
    /// r of the difference; 0 as long as none is wanted.
    pub radius: f64,
    /// ⟨δ, w⟩ of the step that rounding really made: from θ′ to θ′ + r·w, later from θ′ − r·w to θ′ + r·w.
    pub step_products: f64,
    /// Products of the gradient at θ′ + r·w, until those at θ′ − r·w are taken from them.
    pub plus: Vec<Projection>,
    /// ∂L_loss/∂α, β and ∂L_grad/∂α, β.
    pub d_loss_decrease: PathDerivative,
    pub d_alignment: PathDerivative,
}

/// Derivatives of a term by α and β through θ′.
#[derive(Clone, Debug, Default)]
pub(super) struct PathDerivative {
    pub alpha: Vec<f64>,
    pub beta: Vec<f64>,
}

impl PathDerivative {
    pub fn zero(groups: usize) -> Self {
        Self { alpha: vec![0.0; groups], beta: vec![0.0; groups] }
    }

    /// ⟨x, ∂θ′/∂α⟩ and ⟨x, ∂θ′/∂β⟩ of each group, divided by `divisor`.
    fn new(groups: &Groups, slopes: &[Slopes], projections: &[Projection], divisor: f64) -> Self {
        let alpha =
            |i: usize| slopes[i].alpha_ratio * projections[i].ratio + slopes[i].alpha_param * projections[i].param;
        let beta = |i: usize| slopes[i].beta_param * projections[i].param;
        Self {
            alpha: by_group(groups, alpha).iter().map(|x| x / divisor).collect(),
            beta: by_group(groups, beta).iter().map(|x| x / divisor).collect(),
        }
    }
}

/// Where an answer leads.
pub(super) enum Next {
    /// To another question.
    Ask(Stage),
    /// To the update of Φ.
    Finish,
}

/// What an answer is worked on with.
#[derive(Clone, Copy)]
struct Context<'a> {
    registration: &'a Registration,
    params: CheckedParams<'a>,
    /// Those of the answer; there where a gradient was asked for.
    grads: Option<CheckedGrads<'a>>,
}

impl<'a> Context<'a> {
    fn grads(&self) -> CheckedGrads<'a> {
        self.grads.expect("a gradient was asked for, and an answer without one refused")
    }
}

impl Session {
    /// Takes memory and a copy of θ.
    pub fn open(registration: &Registration, run: &mut Run, params: CheckedParams, updates: u64) -> Result<Self> {
        let (tensors, groups) = (&registration.tensors, run.groups.groups.len());
        let plan = Plan::new(&registration.options);
        let wanted = [(GradientSlot::Train1, plan.trial && plan.train1_gradient), (GradientSlot::Train2, plan.train2)];
        let slots: Vec<GradientSlot> = wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(slot, _)| slot).collect();
        let forward = plan.difference == Some(Difference::Forward);
        run.backend.begin_meta(tensors, params, &slots, forward)?;
        // Masters without a value get one for this meta-update only: until a step is made, the host may still change them.
        run.backend.init_masters(params, &run.workspace.uninitialized);
        let n = tensors.len();
        Ok(Self {
            plan,
            stage: plan.after(None).expect("every objective asks for a batch"),
            request: Request { id: 0, kind: Kind::Loss, batch: Batch::Train1, replay: None, seed: 0 },
            seed: [run.state.steps, updates].into_iter().fold(tensor_key(registration.options.seed, SEEDS), step_key),
            losses: Losses::default(),
            evaluations: 0,
            first_validation: None,
            first_train2: None,
            factors: None,
            train1: vec![None; n],
            train1_scale: 1.0,
            train2_scale: 1.0,
            trials: vec![TrialStep::None; n],
            slopes: vec![Slopes::default(); n],
            moved_square: 0.0,
            alignment: None,
            directions: vec![Direction::default(); n],
            direction_norm_squared: 0.0,
            radius: 0.0,
            step_products: 0.0,
            plus: Vec::new(),
            d_loss_decrease: PathDerivative::zero(groups),
            d_alignment: PathDerivative::zero(groups),
        })
    }

    /// The request for a stage.
    pub fn ask(&mut self, stage: Stage, id: u64) -> Request {
        let (kind, batch, replay) = match stage {
            Stage::Train1 if self.plan.train1_gradient => (Kind::Gradient, Batch::Train1, None),
            Stage::Train1 => (Kind::Loss, Batch::Train1, None),
            Stage::Validation => (Kind::Loss, Batch::Validation, None),
            Stage::Train2 => (Kind::Gradient, Batch::Train2, None),
            Stage::ValidationMoved => (Kind::Gradient, Batch::Validation, self.first_validation),
            Stage::Plus | Stage::Minus => (Kind::Gradient, Batch::Train2, self.first_train2),
        };
        match stage {
            Stage::Validation => self.first_validation = Some(id),
            Stage::Train2 => self.first_train2 = Some(id),
            _ => {}
        }
        self.stage = stage;
        self.request = Request { id, kind, batch, replay, seed: step_key(self.seed, batch as u64) };
        self.request
    }

    /// The transition: from the stage that was answered to the next, or to a reason to give up.
    pub fn take_answer(
        &mut self,
        answer: &Answer,
        registration: &Registration,
        buffers: CheckedBuffers,
        run: &mut Run,
    ) -> Step<Next> {
        let context = Context { registration, params: buffers.params, grads: buffers.grads };
        let unscale = 1.0 / answer.grad_scale;
        match self.stage {
            Stage::Train1 => {
                self.losses.train = answer.loss;
                if self.plan.train1_gradient {
                    self.take_train1(answer, &context, run)?;
                }
                self.go_on(&context, run)
            }
            Stage::Validation => {
                self.losses.validation = answer.loss;
                self.go_on(&context, run)
            }
            Stage::Train2 => {
                self.losses.train_moved = answer.loss;
                self.take_train2(unscale, &context, run)?;
                self.go_on(&context, run)
            }
            Stage::ValidationMoved => {
                self.losses.validation_moved = answer.loss;
                self.take_validation_moved(unscale, &context, run)
            }
            Stage::Plus if self.plan.difference == Some(Difference::Central) => {
                self.plus = self.project_and_perturb(Cotangent::Gradient(unscale), -self.radius, &context, run)?;
                Ok(Next::Ask(Stage::Minus))
            }
            Stage::Plus => {
                let x = Cotangent::GradientDifference { host: unscale, train2: self.train2_scale };
                let difference = self.project(x, &context, run)?;
                self.take_difference(&difference, run)
            }
            Stage::Minus => self.take_minus(unscale, &context, run),
        }
    }

    /// To what the plan asks for next, by way of θ′ where that is the first request there.
    fn go_on(&mut self, context: &Context, run: &mut Run) -> Step<Next> {
        let next = self.plan.after(Some(self.stage));
        if self.plan.trial && self.stage < Stage::Train2 && next >= Some(Stage::Train2) {
            self.write_trial_params(context, run)?;
        }
        match next {
            Some(stage) => Ok(Next::Ask(stage)),
            None if self.radius > 0.0 => {
                let mut step_products = vec![0.0; self.trials.len()];
                let point = PerturbedPoint { directions: &self.directions, radius: self.radius };
                run.backend.write_perturbed(context.params, &self.trials, point, &mut step_products);
                self.step_products += step_products.iter().sum::<f64>();
                Ok(Next::Ask(Stage::Plus))
            }
            None => Ok(Next::Finish),
        }
    }

    /// h: what it says of θ′, and on to the differences where there is a direction.
    fn take_validation_moved(&mut self, unscale: f64, context: &Context, run: &mut Run) -> Step<Next> {
        let x = Cotangent::Gradient(unscale);
        let (projections, next) = if self.radius > 0.0 {
            (self.project_and_perturb(x, self.radius, context, run)?, Next::Ask(Stage::Plus))
        } else {
            (self.project(x, context, run)?, Next::Finish)
        };
        self.d_loss_decrease = PathDerivative::new(&run.groups, &self.slopes, &projections, 1.0);
        Ok(next)
    }

    /// The second half of a central difference.
    fn take_minus(&mut self, unscale: f64, context: &Context, run: &mut Run) -> Step<Next> {
        let mut difference = std::mem::take(&mut self.plus);
        let minus = self.project(Cotangent::Gradient(unscale), context, run)?;
        // A central difference is so wide that the gradients differ by far more than these sums are rounded by.
        for (d, minus) in difference.iter_mut().zip(minus) {
            d.ratio -= minus.ratio;
            d.param -= minus.param;
        }
        self.take_difference(&difference, run)
    }

    /// g: its sums, the features, and a copy for later.
    fn take_train1(&mut self, answer: &Answer, context: &Context, run: &mut Run) -> Step<()> {
        let (registration, grads) = (context.registration, context.grads());
        if self.plan.trial {
            run.backend.store_train1_gradient(grads, &mut run.workspace.gradient_sums);
        } else {
            run.backend.gradient_sums(grads, true, &|_| true, &mut run.workspace.gradient_sums);
            run.reduce_gradient_sums();
        }
        let Workspace { gradient_sums, present: has_gradient, .. } = &run.workspace;
        let present = gradient_sums.iter().enumerate().filter(|(i, _)| has_gradient[*i]);
        let max_norm = registration.options.max_grad_norm;
        let effective = effective_gradient(&registration.tensors, present, answer.grad_scale, max_norm);
        if effective.broken.is_some() {
            return Err(Outcome::GradientNotFinite);
        }
        for (i, sums) in gradient_sums.iter().enumerate() {
            self.train1[i] = has_gradient[i].then(|| sums.scaled(effective.factor));
        }
        self.train1_scale = effective.factor;
        if registration.options.semantics == Semantics::Paper {
            self.factors = Some(factors(&registration.tensors, run, &self.train1)?);
        }
        Ok(())
    }

    /// Writes θ′ into the host's buffers.
    fn write_trial_params(&mut self, context: &Context, run: &mut Run) -> Step<()> {
        let Registration { options, param_groups, tensors, .. } = context.registration;
        let factors = self.factors.as_ref().expect("evaluated before θ′ is needed");
        let semantics = options.semantics;
        for (i, tensor) in tensors.iter().enumerate() {
            let group = &param_groups[tensor.param_group];
            let own = factors.of(run.groups.of_tensor[i]);
            let taken = run.state.tensor_steps[i];
            let coefficients = |step| Coefficients::new(group, semantics, step, own, self.train1_scale);
            let (step, trial) = match semantics {
                Semantics::Paper if self.train1[i].is_some() => {
                    (taken + 1, TrialStep::Gradient(coefficients(taken + 1)))
                }
                Semantics::Reference if taken > 0 => (taken, TrialStep::Moments(coefficients(taken))),
                _ => continue,
            };
            self.trials[i] = trial;
            self.slopes[i] = Slopes::new(group, semantics, step, own);
        }
        let mut squares = vec![0.0; tensors.len()];
        run.backend.write_trial_params(context.params, &self.trials, &mut squares);
        self.moved_square = squares.iter().sum();
        if self.moved_square.is_finite() { Ok(()) } else { Err(Outcome::StateNotFinite) }
    }

    /// g′: the gradient alignment, w and r.
    fn take_train2(&mut self, unscale: f64, context: &Context, run: &mut Run) -> Step<()> {
        let grads = context.grads();
        self.train2_scale = unscale;
        let mut sums = vec![Alignment::default(); self.trials.len()];
        run.backend.gradient_alignment(grads, &mut sums);
        let product = self.train1_scale * unscale;
        let square1 = by_group(&run.groups, |i| self.train1[i].map_or(0.0, |s| s.square));
        let square2 = by_group(&run.groups, |i| sums[i].square * unscale * unscale);
        let products = by_group(&run.groups, |i| sums[i].product * product);
        if !square2.iter().all(|x| x.is_finite()) {
            return Err(Outcome::GradientNotFinite);
        }
        let group_sums: Vec<Alignment> =
            square2.into_iter().zip(products).map(|(square, product)| Alignment { square, product }).collect();
        let factors = self.factors.as_ref().expect("evaluated before θ′");
        let alignment = GradientAlignment::new(&square1, &group_sums, factors);
        for (direction, group) in self.directions.iter_mut().zip(&run.groups.of_tensor) {
            let effective = alignment.directions[*group];
            *direction = Direction { train2: effective.train2 * unscale, train1: effective.train1 * self.train1_scale };
        }
        self.alignment = Some(alignment);
        let Some(difference) = self.plan.difference else { return Ok(()) };
        self.direction_norm_squared = self.norm_squared(grads, &sums, run);
        self.find_radius(difference, context.registration)?;
        if self.radius > 0.0 {
            run.backend.store_direction(grads, &self.directions, self.radius);
        }
        Ok(())
    }

    /// ‖w‖² from the sums of g and g′ that are known, or, where these cancel, from a pass of its own.
    fn norm_squared(&self, grads: CheckedGrads, sums: &[Alignment], run: &mut Run) -> f64 {
        let (mut square, mut magnitude) = (0.0, 0.0);
        for (i, (w, sums)) in self.directions.iter().zip(sums).enumerate() {
            let train1 = if self.train1[i].is_some() { run.workspace.gradient_sums[i].square } else { 0.0 };
            let own = w.train2 * w.train2 * sums.square + w.train1 * w.train1 * train1;
            magnitude += own;
            square += own + 2.0 * w.train1 * w.train2 * sums.product;
        }
        if square > 1e-3 * magnitude && magnitude.is_finite() {
            return square;
        }
        let mut squares = vec![0.0; self.trials.len()];
        run.backend.direction_norm_squared(grads, &self.directions, &mut squares);
        squares.iter().sum()
    }

    /// r of the difference, unless w = 0.
    fn find_radius(&mut self, difference: Difference, registration: &Registration) -> Step<()> {
        if self.direction_norm_squared == 0.0 {
            return Ok(());
        }
        let scale = match registration.options.difference_scale {
            0.0 => default_scale(&registration.tensors, difference),
            given => given,
        };
        self.radius = scale * (1.0 + self.moved_square.sqrt()) / self.direction_norm_squared.sqrt();
        let finite = self.direction_norm_squared.is_finite() && self.radius.is_finite() && self.radius > 0.0;
        if finite { Ok(()) } else { Err(Outcome::DirectionNotFinite) }
    }

    /// Products with the answer's gradients; then writes θ′ + `radius`·w into the host's buffers.
    fn project_and_perturb(
        &mut self,
        x: Cotangent,
        radius: f64,
        context: &Context,
        run: &mut Run,
    ) -> Step<Vec<Projection>> {
        let mut step_products = vec![0.0; self.trials.len()];
        let mut projections = vec![Projection::default(); self.trials.len()];
        let point = PerturbedPoint { directions: &self.directions, radius };
        let out = (&mut projections[..], &mut step_products[..]);
        run.backend.project_and_write_perturbed((context.grads(), x), context.params, &self.trials, point, out);
        self.step_products += step_products.iter().sum::<f64>() * radius.signum();
        finite(projections)
    }

    /// Products with the answer's gradients.
    fn project(&self, x: Cotangent, context: &Context, run: &mut Run) -> Step<Vec<Projection>> {
        let mut projections = vec![Projection::default(); self.trials.len()];
        run.backend.project(context.grads(), x, &self.trials, &mut projections);
        finite(projections)
    }

    /// H·w from the difference of gradients, divided by the step that rounding really made.
    fn take_difference(&mut self, difference: &[Projection], run: &mut Run) -> Step<Next> {
        let step = self.step_products / self.direction_norm_squared;
        if !(step.is_finite() && step > 0.0) {
            return Err(Outcome::DirectionNotFinite);
        }
        self.d_alignment = PathDerivative::new(&run.groups, &self.slopes, difference, step);
        Ok(Next::Finish)
    }
}

/// Features and factors of the meta-update, at the present step.
pub(super) fn factors(tensors: &[Tensor], run: &mut Run, gradients: &[Option<GradientSums>]) -> Step<Factors> {
    for (i, tensor) in tensors.iter().enumerate() {
        run.workspace.statistics[i] = Statistics::new(gradients[i], run.state.state_sums[i], tensor.whole_numel);
    }
    let modulation = run.state.modulation.as_mut().expect("checked at begin");
    let factors = modulation
        .evaluate(&run.groups, &run.workspace.statistics, run.state.steps)
        .map_err(|_| Outcome::StateNotFinite)?
        .clone();
    modulation.accept();
    Ok(factors)
}

/// All answers are in: the gradient of Φ, one step of it, and the value of the objective.
pub(super) fn finish(session: &Session, options: &Options, run: &mut Run) -> Step<(MetaGradient, f64)> {
    let modulation = run.state.modulation.as_mut().expect("checked at begin");
    let terms = objective::terms(options, &session.losses, session.alignment.as_ref());
    let weighted = objective::value(options, modulation.attention.log_vars(), terms);
    let [align, decrease, _] = weighted.d_terms;
    let groups = run.groups.groups.len();
    let mut d = Factors::constant(groups, 0.0);
    for g in 0..groups {
        d.alpha[g] = align * session.d_alignment.alpha[g] + decrease * session.d_loss_decrease.alpha[g];
        d.beta[g] = align * session.d_alignment.beta[g] + decrease * session.d_loss_decrease.beta[g];
        if let Some(alignment) = &session.alignment {
            d.lambda1[g] = align * alignment.d_lambda1[g];
            d.lambda2[g] = align * alignment.d_lambda2[g];
        }
    }
    let (gradient, penalty) = MetaGradient::new(options, modulation, d, &weighted);
    let loss_meta = weighted.value + penalty;
    if !(loss_meta.is_finite() && gradient.phi.iter().all(|x| x.is_finite())) {
        return Err(Outcome::MetaGradientNotFinite);
    }
    if gradient.apply(options, modulation) { Ok((gradient, loss_meta)) } else { Err(Outcome::MetaGradientNotFinite) }
}

fn finite(projections: Vec<Projection>) -> Step<Vec<Projection>> {
    if projections.iter().all(|x| x.ratio.is_finite() && x.param.is_finite()) {
        Ok(projections)
    } else {
        Err(Outcome::GradientNotFinite)
    }
}

/// s of the paper's finite differences: the coarsest dtype decides.
fn default_scale(tensors: &[Tensor], difference: Difference) -> f64 {
    let any = |coarse: fn(DType) -> bool| tensors.iter().any(|t| coarse(t.spec.dtype));
    match difference {
        _ if any(DType::is_half) => 3e-2,
        _ if any(|dtype| dtype == DType::F32) => 3e-3,
        Difference::Forward => 1.5e-8,
        _ => 6e-6,
    }
}
