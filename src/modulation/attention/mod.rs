//! The attention module: from the features of the parameter groups to each group's four raw outputs, and back.
//!
//! A transformer encoder (pre-norm, ReLU, no dropout, no final norm) over one token a group, and a projection D → 4;
//! all in f64, with the same bits on every CPU. [`Attention`] holds the parameters Φ, flat, under torch's names;
//! [`Workspace`] holds what a forward leaves for its backward: each layer's input, no more. The layers themselves are in
//! `layers.rs`, the initial values in `init.rs`.
//!
//! Group embeddings, feature gates and log-variances are stored and initialised here, being part of Φ, but applied by
//! those who make the features and the loss. What turns raw outputs into α, β, λ₁, λ₂ isn't here either.

mod init;
mod layers;

use crate::model::options::Init;
use crate::numeric::simd::{self, LANES, Lanes};
use init::Fill;
pub use init::new_embedding;
use layers::{Affine, Layer, Scratch};
use ndarray::{ArrayView2, ArrayViewD, ArrayViewMut2};
use std::ops::Range;

const ROW_MAJOR: &str = "a row-major matrix";

/// Raw outputs a group: of α, β, λ₁, λ₂.
pub const OUTPUTS: usize = 4;

/// The hyper-parameters that fix which tensors there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// G, parameter groups: the tokens.
    pub groups: usize,
    /// D, features a group, embedding included: the width of a token, a multiple of `heads`.
    pub dim: usize,
    /// H, attention heads of width D/H.
    pub heads: usize,
    /// L, encoder layers, at least one.
    pub layers: usize,
    /// Width of the feed-forward network.
    pub hidden: usize,
    /// E, width of the group embeddings; 0 = none.
    pub embed_dim: usize,
    /// Whether there is a gate for each feature.
    pub gates: bool,
    /// Whether there are log-variances for uncertainty weighting.
    pub log_vars: bool,
}

impl Shape {
    /// B: blocks of eight tokens.
    fn blocks(&self) -> usize {
        self.groups.div_ceil(LANES)
    }

    /// 1/√C.
    fn score_scale(&self) -> f64 {
        1.0 / ((self.dim / self.heads) as f64).sqrt()
    }

    /// Numbers in the activations of one layer, B × D, in [`Lanes`].
    fn tile(&self) -> usize {
        self.blocks() * self.dim
    }

    /// About how many numbers Φ and a workspace hold together.
    pub fn numbers(&self) -> usize {
        let (dim, hidden) = (self.dim, self.hidden);
        let phi = self.layers * (4 * dim * dim + 2 * dim * hidden + 9 * dim + hidden) + self.groups * self.embed_dim;
        let rows = (self.layers + 13) * dim + 2 * hidden + 2 * self.groups;
        phi + self.blocks() * LANES * rows
    }

    fn check(&self) {
        debug_assert!(self.groups > 0 && self.layers > 0 && self.hidden > 0, "{self:?}");
        debug_assert!(self.heads > 0 && self.dim > 0 && self.dim.is_multiple_of(self.heads), "{self:?}");
    }
}

/// One tensor of Φ.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As torch names it in a `TransformerEncoder`.
    pub name: String,
    /// Rows of a matrix, length of a vector.
    pub rows: usize,
    /// Columns of a matrix, 1 for a vector.
    pub columns: usize,
    /// Whether it has one dimension: `[n]` and not `[n, 1]`.
    pub is_vector: bool,
    /// Where it lies in Φ, row-major.
    pub range: Range<usize>,
    fill: Fill,
}

impl Entry {
    /// Its dimensions: one or two.
    pub fn shape(&self) -> Vec<usize> {
        if self.is_vector { vec![self.rows] } else { vec![self.rows, self.columns] }
    }
}

/// Lists the entries of Φ one behind the other.
#[derive(Default)]
struct Table(Vec<Entry>);

impl Table {
    fn new(shape: &Shape, initial_log_var: f64) -> Self {
        let Shape { groups, dim, hidden, .. } = *shape;
        let (zero, one) = (Fill::Constant(0.0), Fill::Constant(1.0));
        let mut table = Self::default();
        for l in 0..shape.layers {
            let layer = format!("encoder.layers.{l}");
            table.matrix(format!("{layer}.self_attn.in_proj_weight"), 3 * dim, dim);
            table.vector(format!("{layer}.self_attn.in_proj_bias"), 3 * dim, zero);
            table.matrix(format!("{layer}.self_attn.out_proj.weight"), dim, dim);
            table.vector(format!("{layer}.self_attn.out_proj.bias"), dim, zero);
            table.matrix(format!("{layer}.linear1.weight"), hidden, dim);
            table.vector(format!("{layer}.linear1.bias"), hidden, Fill::bias(dim));
            table.matrix(format!("{layer}.linear2.weight"), dim, hidden);
            table.vector(format!("{layer}.linear2.bias"), dim, Fill::bias(hidden));
            for norm in ["norm1", "norm2"] {
                table.vector(format!("{layer}.{norm}.weight"), dim, one);
                table.vector(format!("{layer}.{norm}.bias"), dim, zero);
            }
        }
        table.matrix("output_proj.weight".into(), OUTPUTS, dim);
        table.vector("output_proj.bias".into(), OUTPUTS, zero);
        if shape.embed_dim > 0 {
            table.push(
                "group_embeddings".into(),
                groups,
                shape.embed_dim,
                false,
                Fill::Normal(init::EMBEDDING_DEVIATION),
            );
        }
        if shape.gates {
            table.vector("feature_gates".into(), dim, one);
        }
        if shape.log_vars {
            table.vector("log_vars".into(), 3, Fill::Constant(initial_log_var));
        }
        table
    }

    fn matrix(&mut self, name: String, rows: usize, columns: usize) {
        self.push(name, rows, columns, false, Fill::xavier(rows, columns));
    }

    fn vector(&mut self, name: String, length: usize, fill: Fill) {
        self.push(name, length, 1, true, fill);
    }

    fn push(&mut self, name: String, rows: usize, columns: usize, is_vector: bool, fill: Fill) {
        let start = self.0.last().map_or(0, |entry| entry.range.end);
        self.0.push(Entry { name, rows, columns, is_vector, range: start..start + rows * columns, fill });
    }
}

/// Φ: all that the meta-update trains, one flat vector with a table of names.
#[derive(Clone, Debug)]
pub struct Attention {
    shape: Shape,
    entries: Vec<Entry>,
    values: Vec<f64>,
}

impl Attention {
    /// With initial values drawn from `seed`, the same on every platform.
    pub fn new(shape: Shape, init: Init, seed: u64, initial_log_var: f64) -> Self {
        shape.check();
        let Table(entries) = Table::new(&shape, initial_log_var);
        let values = init::draw(&entries, seed);
        let mut attention = Self { shape, entries, values };
        if init == Init::Identity {
            let output = attention.range("output_proj.weight").expect("always there");
            attention.values[output].fill(0.0);
        }
        attention
    }

    /// Takes over the values of one with other groups, of which group i was `rows[i]`. The embeddings of others are made by
    /// `new`.
    pub fn continue_from(&mut self, old: &Self, rows: &[Option<usize>], new: impl Fn(usize, &mut [f64])) {
        let embeddings = self.embeddings_range();
        for entry in &self.entries {
            let theirs = &old.values[old.find(&entry.name).expect("only the number of groups differs").range.clone()];
            let own = &mut self.values[entry.range.clone()];
            if Some(&entry.range) != embeddings.as_ref() {
                own.copy_from_slice(theirs);
                continue;
            }
            take_rows(theirs, entry.columns, rows, own, &new);
        }
    }

    /// The hyper-parameters it was made with.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Every tensor, in the order of Φ.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor of that name. The last ones are found first: they are asked for at every step.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.name == name)
    }

    /// Where the tensor of that name lies in Φ and in its gradient.
    pub fn range(&self, name: &str) -> Option<Range<usize>> {
        self.find(name).map(|entry| entry.range.clone())
    }

    /// Φ.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Φ, to be trained or loaded.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// The tensor of that name, with its own dimensions.
    pub fn tensor(&self, name: &str) -> Option<ArrayViewD<'_, f64>> {
        let entry = self.find(name)?;
        let values = &self.values[entry.range.clone()];
        Some(ArrayViewD::from_shape(entry.shape(), values).expect("as many values as its dimensions say"))
    }

    /// Group embeddings, G × E.
    pub fn embeddings(&self) -> Option<ArrayView2<'_, f64>> {
        let values = &self.values[self.embeddings_range()?];
        let shape = (self.shape.groups, self.shape.embed_dim);
        Some(ArrayView2::from_shape(shape, values).expect("as many values as its dimensions say"))
    }

    /// Feature gates, D.
    pub fn gates(&self) -> Option<&[f64]> {
        self.gates_range().map(|range| &self.values[range])
    }

    /// Log-variances, 3.
    pub fn log_vars(&self) -> Option<&[f64]> {
        self.log_vars_range().map(|range| &self.values[range])
    }

    /// Where the group embeddings lie in Φ and in its gradient.
    pub fn embeddings_range(&self) -> Option<Range<usize>> {
        self.range("group_embeddings")
    }

    /// Where the feature gates lie in Φ and in its gradient.
    pub fn gates_range(&self) -> Option<Range<usize>> {
        self.range("feature_gates")
    }

    /// Where the log-variances lie in Φ and in its gradient.
    pub fn log_vars_range(&self) -> Option<Range<usize>> {
        self.range("log_vars")
    }

    /// Raw outputs for the features `input`. Allocates nothing; leaves in `workspace` what [`Attention::backward`] needs.
    ///
    /// input: G × D, raw: G × 4 (α, β, λ₁, λ₂), row-major.
    ///
    /// # Panics
    /// If a matrix has other dimensions or is not row-major, or the workspace was made for another shape.
    pub fn forward(&self, input: ArrayView2<f64>, workspace: &mut Workspace, mut raw: ArrayViewMut2<f64>) {
        let Shape { groups, dim, .. } = self.shape;
        assert_eq!(workspace.shape, self.shape, "the workspace's shape");
        assert_eq!(input.dim(), (groups, dim), "features");
        assert_eq!(raw.dim(), (groups, OUTPUTS), "raw outputs");
        let (input, raw) = (input.to_slice().expect(ROW_MAJOR), raw.as_slice_mut().expect(ROW_MAJOR));
        simd::run(Forward { attention: self, input, workspace, raw });
    }

    /// Adds to `d_phi` the gradient of Φ and writes that of the input, given the gradient `d_raw` of the raw outputs.
    ///
    /// Belongs to the last [`Attention::forward`] with this workspace; Φ must not have changed since. The gradients of
    /// embeddings, gates and log-variances are left to those who apply them.
    /// d_raw: G × 4, d_phi: as Φ, d_input: G × D, row-major. Allocates nothing.
    ///
    /// # Panics
    /// As for [`Attention::forward`]; if `d_phi` has another length.
    pub fn backward(
        &self,
        d_raw: ArrayView2<f64>,
        workspace: &mut Workspace,
        d_phi: &mut [f64],
        mut d_input: ArrayViewMut2<f64>,
    ) {
        let Shape { groups, dim, .. } = self.shape;
        assert_eq!(workspace.shape, self.shape, "the workspace's shape");
        assert_eq!(d_raw.dim(), (groups, OUTPUTS), "the raw outputs' gradient");
        assert_eq!(d_phi.len(), self.values.len(), "the parameters' gradient");
        assert_eq!(d_input.dim(), (groups, dim), "the features' gradient");
        let (d_raw, d_input) = (d_raw.to_slice().expect(ROW_MAJOR), d_input.as_slice_mut().expect(ROW_MAJOR));
        simd::run(Backward { attention: self, d_raw, workspace, d_phi, d_input });
    }

    /// Numbers in one layer, and in all of them: what precedes the output projection.
    fn layer_len(&self) -> (usize, usize) {
        let all = self.range("output_proj.weight").expect("always there").start;
        (all / self.shape.layers, all)
    }
}

/// Row i of `out` is row `rows[i]` of a row-major matrix of so many columns; where there is none, `new` makes it.
pub fn take_rows(
    matrix: &[f64],
    columns: usize,
    rows: &[Option<usize>],
    out: &mut [f64],
    new: impl Fn(usize, &mut [f64]),
) {
    for (i, (row, out)) in rows.iter().zip(out.chunks_exact_mut(columns)).enumerate() {
        match row {
            Some(row) => out.copy_from_slice(&matrix[row * columns..][..columns]),
            None => new(i, out),
        }
    }
}

/// What forward leaves for backward, and room to compute in: L + 1 tiles and one layer's inside.
#[derive(Clone, Debug)]
pub struct Workspace {
    shape: Shape,
    /// Each layer's input, then the last one's output: (L + 1) × B × D. Padded lanes of the first stay zero.
    inputs: Vec<Lanes>,
    /// Raw outputs or their gradient, B × 4. Padded lanes of the latter are zero.
    raw: Vec<Lanes>,
    /// The gradient on its way down, B × D.
    d_tile: Vec<Lanes>,
    scratch: Scratch,
}

impl Workspace {
    /// Room for one forward and its backward.
    pub fn new(shape: &Shape) -> Self {
        Self {
            shape: *shape,
            inputs: vec![Lanes::ZERO; (shape.layers + 1) * shape.tile()],
            raw: vec![Lanes::ZERO; shape.blocks() * OUTPUTS],
            d_tile: vec![Lanes::ZERO; shape.tile()],
            scratch: Scratch::new(shape),
        }
    }
}

struct Forward<'a> {
    attention: &'a Attention,
    input: &'a [f64],
    workspace: &'a mut Workspace,
    raw: &'a mut [f64],
}

impl simd::Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { attention, input, workspace, raw } = self;
        let shape = &attention.shape;
        let (stride, all) = attention.layer_len();
        let (layers, output) = attention.values.split_at(all);
        layers::to_tiles(input, shape.dim, &mut workspace.inputs);
        let mut rest = workspace.inputs.as_mut_slice();
        for mut phi in layers.chunks_exact(stride) {
            let layer = Layer::split(shape, |n| take(&mut phi, n));
            let (x, behind) = rest.split_at_mut(shape.tile());
            layers::forward(shape, &layer, x, &mut workspace.scratch, &mut behind[..shape.tile()]);
            rest = behind;
        }
        layers::linear(&output_proj(shape, output), rest, &mut workspace.raw);
        layers::to_tokens(&workspace.raw, OUTPUTS, raw);
    }
}

struct Backward<'a> {
    attention: &'a Attention,
    d_raw: &'a [f64],
    workspace: &'a mut Workspace,
    d_phi: &'a mut [f64],
    d_input: &'a mut [f64],
}

impl simd::Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { attention, d_raw, workspace, d_phi, d_input } = self;
        let Workspace { inputs, raw, d_tile, scratch, .. } = workspace;
        let shape = &attention.shape;
        let (stride, all) = attention.layer_len();
        let (layers, output) = attention.values.split_at(all);
        let (d_layers, mut d_output) = d_phi.split_at_mut(all);
        let (inputs, last) = inputs.split_at(shape.layers * shape.tile());
        raw.fill(Lanes::ZERO);
        layers::to_tiles(d_raw, OUTPUTS, raw);
        let mut d_proj = Affine::split(OUTPUTS, shape.dim, |n| take_mut(&mut d_output, n));
        let proj = output_proj(shape, output);
        layers::linear_backward(proj.weight, last, raw, d_tile, &mut d_proj);
        let tensors = layers.chunks_exact(stride).zip(d_layers.chunks_exact_mut(stride));
        for ((mut phi, mut d_phi), x) in tensors.zip(inputs.chunks_exact(shape.tile())).rev() {
            let layer = Layer::split(shape, |n| take(&mut phi, n));
            let mut d_layer = Layer::split(shape, |n| take_mut(&mut d_phi, n));
            layers::backward(shape, &layer, x, scratch, d_tile, &mut d_layer);
        }
        layers::to_tokens(d_tile, shape.dim, d_input);
    }
}

fn output_proj<'a>(shape: &Shape, mut phi: &'a [f64]) -> Affine<&'a [f64]> {
    Affine::split(OUTPUTS, shape.dim, |n| take(&mut phi, n))
}

/// The next `n` numbers of Φ.
fn take<'a>(phi: &mut &'a [f64], n: usize) -> &'a [f64] {
    phi.split_off(..n).expect("Φ is as long as its entries")
}

/// The next `n` numbers of Φ's gradient.
fn take_mut<'a>(phi: &mut &'a mut [f64], n: usize) -> &'a mut [f64] {
    phi.split_off_mut(..n).expect("Φ is as long as its entries")
}
