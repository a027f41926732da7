//! Features → attention module → α, β, λ₁, λ₂ of each modulation group, and the way back.
//!
//! Matrices are row-major [`Array2`]s with one row a group: features and tokens G × D, raw outputs G × 4.

pub mod attention;
pub mod features;
mod phi_moments;

use ndarray::{Array2, ArrayView2, s};

use self::features::Features;
pub use self::phi_moments::{PhiMoments, PhiStep};
use crate::error::Result;
use crate::model::groups::{Groups, Tensor};
use crate::model::name::Name;
use crate::model::options::{MetaOptimizer, Options};
use crate::model::stats::Statistics;
use crate::modulation::attention::{Attention, Entry, OUTPUTS, Shape, Workspace, new_embedding, take_rows};
use crate::numeric::math;
use crate::reserve::{self, sum, times};

/// One number a modulation group for each of the module's outputs: the factors, or derivatives by them.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// α, scales the learning rate.
    pub alpha: Vec<f64>,
    /// β, scales the weight decay.
    pub beta: Vec<f64>,
    /// λ₁, weighs the gradient's norm in eq. 10.
    pub lambda1: Vec<f64>,
    /// λ₂, weighs the alignment in eq. 10.
    pub lambda2: Vec<f64>,
}

impl Factors {
    /// `value` everywhere.
    #[must_use]
    pub fn constant(groups: usize, value: f64) -> Self {
        let all = || vec![value; groups];
        Self { alpha: all(), beta: all(), lambda1: all(), lambda2: all() }
    }

    /// α and β of a group.
    #[must_use]
    pub fn of(&self, group: usize) -> (f64, f64) {
        (self.alpha[group], self.beta[group])
    }

    /// By the names of the C ABI.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&[f64]> {
        match name {
            "alpha" => Some(&self.alpha),
            "beta" => Some(&self.beta),
            "lambda1" => Some(&self.lambda1),
            "lambda2" => Some(&self.lambda2),
            _ => None,
        }
    }

    /// α, β, λ₁, λ₂.
    #[must_use]
    pub fn rows(&self) -> [&[f64]; OUTPUTS] {
        [&self.alpha, &self.beta, &self.lambda1, &self.lambda2]
    }

    pub(crate) fn columns(&mut self) -> [&mut [f64]; OUTPUTS] {
        [&mut self.alpha, &mut self.beta, &mut self.lambda1, &mut self.lambda2]
    }
}

/// What is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A feature.
    Feature,
    /// A factor.
    Factor,
}

/// Features as they were computed, before standardisation and gating, and what the module made of them.
#[derive(Debug)]
struct Evaluation {
    features: Array2<f64>,
    factors: Factors,
}

/// An evaluation.
#[derive(Clone, Copy)]
enum Which {
    /// The last accepted one.
    Last,
    /// The one under way.
    Next,
}

/// The attention module and all that feeds it.
#[derive(Debug)]
pub struct Modulation {
    features: Features,
    /// Φ.
    pub attention: Attention,
    /// Names of Φ's tensors, for C to borrow.
    names: Vec<Name>,
    workspace: Workspace,
    ranges: [FactorRange; OUTPUTS],
    /// What it learns with, if that has a state.
    pub moments: Option<PhiMoments>,
    /// Of the last accepted evaluation.
    last: Evaluation,
    /// Whether there was one.
    known: bool,
    /// Of the evaluation under way.
    next: Evaluation,
    /// Of `next`: standardised, and gated.
    standardised: Array2<f64>,
    tokens: Array2<f64>,
    raw: Array2<f64>,
    d_raw: Array2<f64>,
    d_tokens: Array2<f64>,
}

impl Modulation {
    /// Φ drawn from the seed.
    ///
    /// # Errors
    /// A `feature_dim` below the length of the features.
    pub fn new(options: &Options, tensors: &[Tensor], groups: &Groups) -> Result<Self> {
        let features = Features::new(options, tensors, groups)?;
        let (count, dim) = (groups.groups.len(), features.dim());
        let shape = Shape {
            groups: count,
            dim,
            heads: options.attn_heads,
            layers: options.attn_layers,
            hidden: options.attn_hidden_dim,
            embed_dim: features.embed_dim(),
            gates: options.use_feature_gating,
            log_vars: options.has_log_vars(),
        };
        reserve::with(memory(&shape), || Ok(Self::of_shape(options, features, shape)))
    }

    fn of_shape(options: &Options, features: Features, shape: Shape) -> Self {
        let Shape { groups: count, dim, .. } = shape;
        let matrix = |columns| Array2::zeros((count, columns));
        let evaluation = || Evaluation { features: matrix(dim), factors: Factors::constant(count, 1.0) };
        let attention = Attention::new(shape, options.init, options.seed, options.huw_initial_log_var);
        let name = |entry: &Entry| Name::new("attention", entry.name.as_bytes()).expect("short ASCII");
        let length = attention.values().len();
        Self {
            features,
            workspace: Workspace::new(&shape),
            names: attention.entries().iter().map(name).collect(),
            attention,
            ranges: ranges(options),
            moments: (options.meta_optimizer == MetaOptimizer::AdamW).then(|| PhiMoments::new(length)),
            last: evaluation(),
            known: false,
            next: evaluation(),
            standardised: matrix(dim),
            tokens: matrix(dim),
            raw: matrix(OUTPUTS),
            d_raw: matrix(OUTPUTS),
            d_tokens: matrix(dim),
        }
    }

    /// What its parts take, and what a copy of all of them allocates at most.
    pub(crate) fn memory(&self) -> usize {
        memory(self.attention.shape())
    }

    /// Φ as the seed made it. Allocates no more than `memory` says.
    pub fn reset_attention(&mut self, options: &Options) {
        let shape = *self.attention.shape();
        self.attention = Attention::new(shape, options.init, options.seed, options.huw_initial_log_var);
        self.forget_moments();
    }

    /// As if Φ had never learned.
    pub fn forget_moments(&mut self) {
        if let Some(moments) = &mut self.moments {
            moments.reset();
        }
    }

    /// Takes over Φ of a run with other tensors, and the last features and factors if its groups are the same. A group that
    /// is new gets an embedding of its own, which the seed and its name decide: the order in which groups come does not.
    pub fn continue_from(&mut self, old: &Self, old_groups: &Groups, groups: &Groups, seed: u64) {
        let rows = groups.positions_in(old_groups);
        self.attention.continue_from(&old.attention, &rows, |i, row| new_embedding(seed, &groups.groups[i].name, row));
        if let (Some(new), Some(moments)) = (&mut self.moments, &old.moments) {
            new.continue_from(moments, &self.attention, &old.attention, &rows);
        }
        let same = rows.len() == old_groups.groups.len() && rows.iter().all(Option::is_some);
        if let Some((features, factors)) = old.last().filter(|_| same) {
            let take = |matrix: &[f64], columns: usize| {
                let mut out = vec![0.0; matrix.len()];
                take_rows(matrix, columns, &rows, &mut out, |_, _| unreachable!("no group is new"));
                out
            };
            let features = take(features.as_slice().expect("row-major"), old.features.dim());
            let [alpha, beta, lambda1, lambda2] = factors.rows().map(|factor| take(factor, 1));
            self.restore(Some((features, Factors { alpha, beta, lambda1, lambda2 })));
        }
    }

    /// Names of Φ's tensors, in the order of its entries.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// What the columns of the features are made of.
    pub(crate) fn features(&self) -> &Features {
        &self.features
    }

    /// D.
    #[must_use]
    pub fn feature_dim(&self) -> usize {
        self.features.dim()
    }

    /// What each column of the features is.
    #[must_use]
    pub fn feature_columns(&self) -> Vec<String> {
        self.features.columns()
    }

    /// Whether the statistics must count zeros.
    #[must_use]
    pub fn counts_zeros(&self) -> bool {
        self.features.counts_zeros()
    }

    /// Features (G × D) and factors of the last accepted evaluation.
    #[must_use]
    pub fn last(&self) -> Option<(ArrayView2<'_, f64>, &Factors)> {
        self.known.then_some((self.last.features.view(), &self.last.factors))
    }

    /// Factors of the evaluation under way.
    #[must_use]
    pub fn next_factors(&self) -> &Factors {
        &self.next.factors
    }

    /// α of the newest evaluation, computed once more: of an evaluation that was accepted or not.
    pub fn newest_alpha(&self) -> impl Iterator<Item = f64> + '_ {
        self.raw.column(0).into_iter().map(|raw| self.ranges[0].factor(math::sigmoid(*raw)))
    }

    /// Makes these the last accepted evaluation's, after a load: features G × D, row-major, and factors.
    ///
    /// # Panics
    /// If there are more or fewer features.
    pub fn restore(&mut self, last: Option<(Vec<f64>, Factors)>) {
        self.known = last.is_some();
        if let Some((features, factors)) = last {
            let features = Array2::from_shape_vec(self.last.features.dim(), features).expect("G × D features");
            self.last = Evaluation { features, factors };
        }
    }

    /// Follows options that steer only the future.
    pub fn steer(&mut self, options: &Options) {
        self.ranges = ranges(options);
        self.features.set_total_steps(options.total_steps);
    }

    /// As if no evaluation had been accepted.
    pub fn forget(&mut self) {
        self.known = false;
    }

    /// Computes the factors from the statistics at `step`. Allocates nothing.
    ///
    /// # Errors
    /// What is not finite; what was accepted before stays.
    pub fn evaluate(
        &mut self,
        groups: &Groups,
        statistics: &[Statistics],
        step: u64,
    ) -> std::result::Result<&Factors, Broken> {
        let embeddings = self.attention.embeddings();
        self.features.fill(groups, statistics, step, embeddings, &mut self.next.features);
        if !self.next.features.iter().all(|x| x.is_finite()) {
            return Err(Broken::Feature);
        }
        self.encode(Which::Next);
        for (output, column) in self.next.factors.columns().into_iter().enumerate() {
            for (group, factor) in column.iter_mut().enumerate() {
                *factor = self.ranges[output].factor(math::sigmoid(self.raw[[group, output]]));
                if !factor.is_finite() {
                    return Err(Broken::Factor);
                }
            }
        }
        Ok(&self.next.factors)
    }

    /// Makes the last accepted evaluation, which a device made, the newest one: of the same Φ.
    pub fn evaluate_last_again(&mut self) {
        self.encode(Which::Last);
    }

    /// Features → raw outputs.
    fn encode(&mut self, which: Which) {
        let evaluation = match which {
            Which::Last => &self.last,
            Which::Next => &self.next,
        };
        self.features.standardise(&evaluation.features, &mut self.standardised);
        self.tokens.assign(&self.standardised);
        if let Some(gates) = self.attention.gates() {
            features::gate(&mut self.tokens, gates);
        }
        self.attention.forward(self.tokens.view(), &mut self.workspace, self.raw.view_mut());
    }

    /// Makes the evaluation under way the last one.
    pub fn accept(&mut self) {
        std::mem::swap(&mut self.last, &mut self.next);
        self.known = true;
    }

    /// Derivatives by the factors of the newest evaluation → derivatives by Φ, added to `d_phi`. Allocates nothing.
    pub fn backward(&mut self, d_factors: &Factors, d_phi: &mut [f64]) {
        let (d_raw, d_tokens) = (&mut self.d_raw, &mut self.d_tokens);
        for (output, column) in d_factors.rows().into_iter().enumerate() {
            for (group, derivative) in column.iter().enumerate() {
                d_raw[[group, output]] =
                    self.ranges[output].backward(*derivative, math::sigmoid(self.raw[[group, output]]));
            }
        }
        self.attention.backward(d_raw.view(), &mut self.workspace, d_phi, d_tokens.view_mut());
        if let (Some(gates), Some(range)) = (self.attention.gates(), self.attention.gates_range()) {
            let columns = d_tokens.columns_mut().into_iter().zip(self.standardised.columns());
            for ((mut d_column, column), (gate, d_gate)) in columns.zip(gates.iter().zip(&mut d_phi[range])) {
                let sigmoid = math::sigmoid(*gate);
                for (d, x) in d_column.iter_mut().zip(column) {
                    *d_gate += *d * x * sigmoid * (1.0 - sigmoid);
                    *d *= sigmoid;
                }
            }
        }
        if let Some(range) = self.attention.embeddings_range() {
            let embedded = d_tokens.slice(s![.., self.features.dim() - self.features.embed_dim()..]);
            for (d_phi, d) in d_phi[range].iter_mut().zip(embedded) {
                *d_phi += d;
            }
        }
    }
}

/// What a module of this shape, its names and what feeds it allocate at most.
fn memory(shape: &Shape) -> usize {
    let entries = times(shape.layers, 12 * 400);
    let matrices = times(shape.groups, 7 * 8 * (shape.dim + 2 * OUTPUTS));
    times(3, sum([times(shape.numbers(), 3 * 8), entries, matrices, 16 << 10]))
}

/// What turns a raw output's sigmoid σ into a factor.
#[derive(Clone, Copy, Debug)]
enum FactorRange {
    /// σ: λ₁ and λ₂ (eq. 9).
    Sigmoid,
    /// 1 + width·(σ − ½): α and β (eq. 7, 8).
    Linear { width: f64 },
    /// R^(2σ − 1), given ln R: not in the paper.
    Log { ln_range: f64 },
}

impl FactorRange {
    /// `log_range`: R, or 0 for the paper's `width`.
    fn new(width: f64, log_range: f64) -> Self {
        if log_range > 0.0 { Self::Log { ln_range: math::ln(log_range) } } else { Self::Linear { width } }
    }

    fn factor(self, sigmoid: f64) -> f64 {
        match self {
            Self::Sigmoid => sigmoid,
            Self::Linear { width } => 1.0 + width * (sigmoid - 0.5),
            Self::Log { ln_range } => math::exp(ln_range * (2.0 * sigmoid - 1.0)),
        }
    }

    /// The derivative by the raw output, given that by the factor.
    fn backward(self, derivative: f64, sigmoid: f64) -> f64 {
        let slope = sigmoid * (1.0 - sigmoid);
        match self {
            Self::Sigmoid => derivative * slope,
            Self::Linear { width } => derivative * width * slope,
            Self::Log { ln_range } => derivative * self.factor(sigmoid) * (2.0 * ln_range) * slope,
        }
    }
}

fn ranges(options: &Options) -> [FactorRange; OUTPUTS] {
    [
        FactorRange::new(options.alpha_range, options.alpha_log_range),
        FactorRange::new(options.beta_range, options.beta_log_range),
        FactorRange::Sigmoid,
        FactorRange::Sigmoid,
    ]
}
