//! A meta-update under way: what each answer adds, and where it leads.

use super::objective::{GradientAlignment, Losses, Plan, by_group};
use super::{Answer, Outcome, Request, Stage};
use crate::backend::{Alignment, Direction, Kept, Move, Probe, Projection};
use crate::buffers::{Grads, Params};
use crate::config::{DType, Difference, Options, ParamGroup, Semantics};
use crate::groups::{Groups, Tensor};
use crate::modulation::Factors;
use crate::optimizer::Prepared;
use crate::stats::GradientSums;
use crate::step::effective_gradient;
use crate::update::{Coefficients, Slopes};

/// A meta-update under way.
#[derive(Debug)]
pub(super) struct Open {
    pub plan: Plan,
    pub stage: Stage,
    pub request: Request,
    pub losses: Losses,
    pub evaluations: u32,
    /// Requests that others replay.
    pub first_validation: Option<u64>,
    pub first_train2: Option<u64>,
    pub factors: Option<Factors>,
    /// Sums of B1's effective gradient.
    pub train1: Vec<Option<GradientSums>>,
    /// Factors from a kept gradient to the effective one, by [`Kept`].
    pub scales: [f64; 3],
    pub moves: Vec<Move>,
    pub slopes: Vec<Slopes>,
    pub moved_square: f64,
    pub alignment: Option<GradientAlignment>,
    pub directions: Vec<Direction>,
    pub direction_square: f64,
    pub radius: f64,
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
pub(super) struct World<'a> {
    pub options: &'a Options,
    pub param_groups: &'a [ParamGroup],
    pub tensors: &'a [Tensor],
    pub params: &'a Params<'a>,
}

impl Open {
    /// The transition: from the stage that was answered to the next, or to a reason to give up.
    pub fn take_answer(
        &mut self,
        answer: &Answer,
        grads: Option<&Grads>,
        world: &World,
        p: &mut Prepared,
    ) -> std::result::Result<Next, Outcome> {
        let unscale = 1.0 / answer.grad_scale;
        match self.stage {
            Stage::Train1 => {
                self.losses.train = answer.loss;
                if self.plan.train1_gradient {
                    self.take_train1(answer, grads.expect("checked"), world, p)?;
                }
            }
            Stage::Validation => self.losses.validation = answer.loss,
            Stage::Train2 => {
                self.losses.train_moved = answer.loss;
                self.take_train2(grads.expect("checked"), unscale, p)?;
            }
            Stage::ValidationMoved => {
                self.losses.validation_moved = answer.loss;
                let projections = self.project(grads.expect("checked"), Probe::Host(unscale), p)?;
                self.d_loss_decrease = PathDerivative::new(&p.groups, &self.slopes, &projections, 1.0);
            }
            Stage::Plus if self.plan.difference == Some(Difference::Central) => {
                let grads = grads.expect("checked");
                p.backend.gradient_sums(grads, false, &|_| true, &mut p.gradients);
                if (0..p.gradients.len()).any(|i| grads.has(i) && !p.gradients[i].square.is_finite()) {
                    return Err(Outcome::GradientNotFinite);
                }
                p.backend.keep(grads, Kept::Plus);
                self.scales[Kept::Plus as usize] = unscale;
                p.backend.write_perturbed(world.params, &self.moves, &self.directions, -self.radius);
                return Ok(Next::Ask(Stage::Minus));
            }
            Stage::Plus => {
                self.take_difference(grads.expect("checked"), Kept::Train2, unscale, p)?;
                return Ok(Next::Finish);
            }
            Stage::Minus => {
                self.take_difference(grads.expect("checked"), Kept::Plus, unscale, p)?;
                return Ok(Next::Finish);
            }
        }
        let next = self.plan.after(Some(self.stage));
        if self.plan.moves && self.stage < Stage::Train2 && next >= Some(Stage::Train2) {
            self.go_to_moved(world, p)?;
        }
        next.map_or_else(|| self.start_difference(world, p), |stage| Ok(Next::Ask(stage)))
    }

    /// g: its sums, the features, and a copy for later.
    fn take_train1(
        &mut self,
        answer: &Answer,
        grads: &Grads,
        world: &World,
        p: &mut Prepared,
    ) -> std::result::Result<(), Outcome> {
        p.backend.gradient_sums(grads, true, &|_| true, &mut p.gradients);
        let present = p.gradients.iter().enumerate().filter(|(i, _)| grads.has(*i));
        let effective = effective_gradient(world.tensors, present, answer.grad_scale, world.options.max_grad_norm);
        if effective.broken.is_some() {
            return Err(Outcome::GradientNotFinite);
        }
        for (i, sums) in p.gradients.iter().enumerate() {
            self.train1[i] = grads.has(i).then(|| sums.scaled(effective.factor));
        }
        self.scales[Kept::Train1 as usize] = effective.factor;
        if self.plan.moves {
            p.backend.keep(grads, Kept::Train1);
        }
        if world.options.semantics == Semantics::Paper {
            self.factors = Some(p.factors_for_meta(world.tensors, &self.train1)?);
        }
        Ok(())
    }

    /// Writes θ′ into the host's buffers.
    fn go_to_moved(&mut self, world: &World, p: &mut Prepared) -> std::result::Result<(), Outcome> {
        let factors = self.factors.as_ref().expect("evaluated before θ′ is needed");
        let semantics = world.options.semantics;
        for (i, tensor) in world.tensors.iter().enumerate() {
            let group = &world.param_groups[tensor.param_group];
            let own = factors.of(p.groups.of_tensor[i]);
            let taken = p.tensor_steps[i];
            let coefficients = |step| Coefficients::new(group, semantics, step, own, self.scales[0]);
            let (step, how) = match semantics {
                Semantics::Paper if self.train1[i].is_some() => (taken + 1, Move::Step(coefficients(taken + 1))),
                Semantics::Reference if taken > 0 => (taken, Move::Drift(coefficients(taken))),
                _ => continue,
            };
            self.moves[i] = how;
            self.slopes[i] = Slopes::new(group, semantics, step, own);
        }
        let mut squares = vec![0.0; world.tensors.len()];
        p.backend.write_moved(world.params, &self.moves, &mut squares);
        self.moved_square = squares.iter().sum();
        if self.moved_square.is_finite() { Ok(()) } else { Err(Outcome::StateNotFinite) }
    }

    /// g′: the gradient alignment and w.
    fn take_train2(&mut self, grads: &Grads, unscale: f64, p: &mut Prepared) -> std::result::Result<(), Outcome> {
        p.backend.keep(grads, Kept::Train2);
        self.scales[Kept::Train2 as usize] = unscale;
        let mut sums = vec![Alignment::default(); self.moves.len()];
        p.backend.alignment(&mut sums);
        let product = self.scales[Kept::Train1 as usize] * unscale;
        let square1 = by_group(&p.groups, |i| self.train1[i].map_or(0.0, |s| s.square));
        let square2 = by_group(&p.groups, |i| sums[i].square * unscale * unscale);
        let products = by_group(&p.groups, |i| sums[i].product * product);
        if !square2.iter().all(|x| x.is_finite()) {
            return Err(Outcome::GradientNotFinite);
        }
        let group_sums: Vec<Alignment> =
            square2.into_iter().zip(products).map(|(square, product)| Alignment { square, product }).collect();
        let factors = self.factors.as_ref().expect("evaluated before θ′");
        let alignment = GradientAlignment::new(&square1, &group_sums, factors);
        for (direction, group) in self.directions.iter_mut().zip(&p.groups.of_tensor) {
            let effective = alignment.directions[*group];
            *direction = Direction {
                train2: effective.train2 * unscale,
                train1: effective.train1 * self.scales[Kept::Train1 as usize],
            };
        }
        self.alignment = Some(alignment);
        Ok(())
    }

    /// Writes θ′ + r·w, unless no Hessian product is wanted or w = 0.
    fn start_difference(&mut self, world: &World, p: &mut Prepared) -> std::result::Result<Next, Outcome> {
        let Some(difference) = self.plan.difference else { return Ok(Next::Finish) };
        let mut squares = vec![0.0; self.moves.len()];
        p.backend.direction_square(&self.directions, &mut squares);
        self.direction_square = squares.iter().sum();
        if self.direction_square == 0.0 {
            return Ok(Next::Finish);
        }
        let scale = match world.options.difference_scale {
            0.0 => default_scale(world.tensors, difference),
            given => given,
        };
        self.radius = scale * (1.0 + self.moved_square.sqrt()) / self.direction_square.sqrt();
        if !(self.direction_square.is_finite() && self.radius.is_finite()) {
            return Err(Outcome::DirectionNotFinite);
        }
        p.backend.write_perturbed(world.params, &self.moves, &self.directions, self.radius);
        Ok(Next::Ask(Stage::Plus))
    }

    /// H·w from the difference to a kept gradient, divided by the step that rounding really made.
    fn take_difference(
        &mut self,
        grads: &Grads,
        from: Kept,
        unscale: f64,
        p: &mut Prepared,
    ) -> std::result::Result<(), Outcome> {
        // Central: g₊ − g₋ over a step of 2r. Forward: g′ − g₊, which is minus the difference, over one of r.
        let (sign, minus) = if from == Kept::Plus { (1.0, -self.radius) } else { (-1.0, 0.0) };
        let probe = Probe::Difference { of: from, kept: self.scales[from as usize], host: unscale };
        let projections = self.project(grads, probe, p)?;
        let mut made = vec![0.0; self.moves.len()];
        p.backend.step_made(&self.moves, &self.directions, self.radius, minus, &mut made);
        let step = made.iter().sum::<f64>() / self.direction_square;
        if !(step.is_finite() && step > 0.0) {
            return Err(Outcome::DirectionNotFinite);
        }
        self.d_alignment = PathDerivative::new(&p.groups, &self.slopes, &projections, sign * step);
        Ok(())
    }

    fn project(&self, grads: &Grads, probe: Probe, p: &mut Prepared) -> std::result::Result<Vec<Projection>, Outcome> {
        let mut projections = vec![Projection::default(); self.moves.len()];
        p.backend.project(grads, probe, &self.moves, &mut projections);
        if projections.iter().all(|x| x.square.is_finite()) { Ok(projections) } else { Err(Outcome::GradientNotFinite) }
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
