//! A meta-update under way: what each answer adds, and where it leads.

use super::objective::{GradientAlignment, Losses, Plan, by_group};
use super::{Answer, Outcome, Request, Stage};
use crate::backend::{Alignment, Direction, Move, Neighbour, Probe, Projection};
use crate::model::clipping::effective_gradient;
use crate::model::coefficients::{Coefficients, Slopes};
use crate::model::dtype::DType;
use crate::model::groups::{Groups, Tensor};
use crate::model::host_buffers::{Grads, Params};
use crate::model::options::{Difference, Options, ParamGroup, Semantics};
use crate::model::stats::GradientSums;
use crate::modulation::Factors;
use crate::optimizer::Prepared;

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
    /// Factors from the host's gradient of B1 and of B2 to the effective one.
    pub train1_scale: f64,
    pub train2_scale: f64,
    pub moves: Vec<Move>,
    pub slopes: Vec<Slopes>,
    pub moved_square: f64,
    pub alignment: Option<GradientAlignment>,
    pub directions: Vec<Direction>,
    pub direction_square: f64,
    /// r of the difference; 0 as long as none is wanted.
    pub radius: f64,
    /// ⟨δ, w⟩ of the step that rounding really made: from θ′ to θ′ + r·w, later from θ′ − r·w to θ′ + r·w.
    pub made: f64,
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
                self.take_train2(grads.expect("checked"), unscale, world, p)?;
            }
            Stage::ValidationMoved => {
                self.losses.validation_moved = answer.loss;
                let look = (grads.expect("checked"), Probe::Host(unscale));
                let (projections, next) = if self.radius > 0.0 {
                    (self.visit(Some(look), self.radius, world, p)?, Next::Ask(Stage::Plus))
                } else {
                    (self.project(look, p)?, Next::Finish)
                };
                self.d_loss_decrease = PathDerivative::new(&p.groups, &self.slopes, &projections, 1.0);
                return Ok(next);
            }
            Stage::Plus if self.plan.difference == Some(Difference::Central) => {
                let look = (grads.expect("checked"), Probe::Host(unscale));
                self.plus = self.visit(Some(look), -self.radius, world, p)?;
                return Ok(Next::Ask(Stage::Minus));
            }
            Stage::Plus => {
                let probe = Probe::Difference { host: unscale, train2: self.train2_scale };
                let difference = self.project((grads.expect("checked"), probe), p)?;
                return self.take_difference(&difference, p);
            }
            Stage::Minus => {
                let mut difference = std::mem::take(&mut self.plus);
                let minus = self.project((grads.expect("checked"), Probe::Host(unscale)), p)?;
                // A central difference is so wide that the gradients differ by far more than these sums are rounded by.
                for (d, minus) in difference.iter_mut().zip(minus) {
                    d.ratio -= minus.ratio;
                    d.param -= minus.param;
                }
                return self.take_difference(&difference, p);
            }
        }
        let next = self.plan.after(Some(self.stage));
        if self.plan.moves && self.stage < Stage::Train2 && next >= Some(Stage::Train2) {
            self.go_to_moved(world, p)?;
        }
        match next {
            Some(stage) => Ok(Next::Ask(stage)),
            None if self.radius > 0.0 => {
                self.visit(None, self.radius, world, p)?;
                Ok(Next::Ask(Stage::Plus))
            }
            None => Ok(Next::Finish),
        }
    }

    /// g: its sums, the features, and a copy for later.
    fn take_train1(
        &mut self,
        answer: &Answer,
        grads: &Grads,
        world: &World,
        p: &mut Prepared,
    ) -> std::result::Result<(), Outcome> {
        if self.plan.moves {
            p.backend.keep_train1(grads, &mut p.gradients);
        } else {
            p.backend.gradient_sums(grads, true, &|_| true, &mut p.gradients);
        }
        let present = p.gradients.iter().enumerate().filter(|(i, _)| grads.has(*i));
        let effective = effective_gradient(world.tensors, present, answer.grad_scale, world.options.max_grad_norm);
        if effective.broken.is_some() {
            return Err(Outcome::GradientNotFinite);
        }
        for (i, sums) in p.gradients.iter().enumerate() {
            self.train1[i] = grads.has(i).then(|| sums.scaled(effective.factor));
        }
        self.train1_scale = effective.factor;
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
            let coefficients = |step| Coefficients::new(group, semantics, step, own, self.train1_scale);
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

    /// g′: the gradient alignment, w and r.
    fn take_train2(
        &mut self,
        grads: &Grads,
        unscale: f64,
        world: &World,
        p: &mut Prepared,
    ) -> std::result::Result<(), Outcome> {
        self.train2_scale = unscale;
        let mut sums = vec![Alignment::default(); self.moves.len()];
        p.backend.align(grads, &mut sums);
        let product = self.train1_scale * unscale;
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
            *direction = Direction { train2: effective.train2 * unscale, train1: effective.train1 * self.train1_scale };
        }
        self.alignment = Some(alignment);
        let Some(difference) = self.plan.difference else { return Ok(()) };
        self.direction_square = self.square_of_direction(grads, &sums, p);
        self.find_radius(difference, world)?;
        if self.radius > 0.0 {
            p.backend.keep_direction(grads, &self.directions, self.radius);
        }
        Ok(())
    }

    /// ‖w‖² from the sums of g and g′ that are known, or, where these cancel, from a pass of its own.
    fn square_of_direction(&self, grads: &Grads, sums: &[Alignment], p: &mut Prepared) -> f64 {
        let (mut square, mut magnitude) = (0.0, 0.0);
        for (i, (w, sums)) in self.directions.iter().zip(sums).enumerate() {
            let train1 = if self.train1[i].is_some() { p.gradients[i].square } else { 0.0 };
            let own = w.train2 * w.train2 * sums.square + w.train1 * w.train1 * train1;
            magnitude += own;
            square += own + 2.0 * w.train1 * w.train2 * sums.product;
        }
        if square > 1e-3 * magnitude && magnitude.is_finite() {
            return square;
        }
        let mut squares = vec![0.0; self.moves.len()];
        p.backend.direction_square(grads, &self.directions, &mut squares);
        squares.iter().sum()
    }

    /// r of the difference, unless w = 0.
    fn find_radius(&mut self, difference: Difference, world: &World) -> std::result::Result<(), Outcome> {
        if self.direction_square == 0.0 {
            return Ok(());
        }
        let scale = match world.options.difference_scale {
            0.0 => default_scale(world.tensors, difference),
            given => given,
        };
        self.radius = scale * (1.0 + self.moved_square.sqrt()) / self.direction_square.sqrt();
        let finite = self.direction_square.is_finite() && self.radius.is_finite() && self.radius > 0.0;
        if finite { Ok(()) } else { Err(Outcome::DirectionNotFinite) }
    }

    /// Writes θ′ + `radius`·w into the host's buffers, having looked at its gradients.
    fn visit(
        &mut self,
        look: Option<(&Grads, Probe)>,
        radius: f64,
        world: &World,
        p: &mut Prepared,
    ) -> std::result::Result<Vec<Projection>, Outcome> {
        let mut made = vec![0.0; self.moves.len()];
        let mut projections = vec![Projection::default(); self.moves.len()];
        let neighbour = Neighbour { directions: &self.directions, radius };
        let backend = &mut p.backend;
        match look {
            None => backend.write_neighbour(world.params, &self.moves, neighbour, &mut made),
            Some(look) => {
                let out = (&mut projections[..], &mut made[..]);
                backend.project_and_write_neighbour(look, world.params, &self.moves, neighbour, out);
            }
        }
        self.made += made.iter().sum::<f64>() * radius.signum();
        finite(projections)
    }

    /// H·w from the difference of gradients, divided by the step that rounding really made.
    fn take_difference(&mut self, difference: &[Projection], p: &mut Prepared) -> std::result::Result<Next, Outcome> {
        let step = self.made / self.direction_square;
        if !(step.is_finite() && step > 0.0) {
            return Err(Outcome::DirectionNotFinite);
        }
        self.d_alignment = PathDerivative::new(&p.groups, &self.slopes, difference, step);
        Ok(Next::Finish)
    }

    fn project(
        &self,
        (grads, probe): (&Grads, Probe),
        p: &mut Prepared,
    ) -> std::result::Result<Vec<Projection>, Outcome> {
        let mut projections = vec![Projection::default(); self.moves.len()];
        p.backend.project(grads, probe, &self.moves, &mut projections);
        finite(projections)
    }
}

fn finite(projections: Vec<Projection>) -> std::result::Result<Vec<Projection>, Outcome> {
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
