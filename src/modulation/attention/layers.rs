//! The encoder layer on eight tokens at a time, each backward right below its forward.
//!
//! Activations are tiles: `[blocks][rows]` of [`Lanes`], block b holding tokens 8b … 8b + 7 in its lanes. Every sum over
//! rows or keys runs in its written order in each lane by itself, every sum over tokens first over blocks and then
//! over lanes in the one order of [`Lanes::sum`]. So the order doesn't depend on the vector width, nor do the bits.
//!
//! The last block is padded. No real token ever reads a padded one: keys are real tokens only. In backward the
//! gradients of padded tokens are zeros, and finite values times them add exact zeros to the sums.
//!
//! Symbols: G tokens (groups), B = ⌈G/8⌉ blocks, D their width (dim), H heads, C = D/H, F feed-forward width (hidden).

use std::f64::consts::{LN_2, LOG2_E};

use super::Shape;
use crate::numeric::math::{Exp2, exp2_of_negative};
use crate::numeric::simd::{LANES, Lanes, flat, flat_mut};

/// Keeps the norm of a constant token finite.
const EPSILON: f64 = 1e-5;

/// A weight, row-major, and a bias: parameters or their gradients.
pub(super) struct Affine<S> {
    pub(super) weight: S,
    pub(super) bias: S,
}

impl<S> Affine<S> {
    /// Takes them in the order in which Φ stores them.
    pub(super) fn split(rows: usize, columns: usize, mut take: impl FnMut(usize) -> S) -> Self {
        Self { weight: take(rows * columns), bias: take(rows) }
    }
}

/// Rows at a time in a product: enough sums side by side to hide the latency of adding.
const ROWS: usize = 4;

/// What one layer learns.
pub(super) struct Layer<S> {
    in_proj: Affine<S>,  // 3D × D: q, then k, then v
    out_proj: Affine<S>, // D × D
    linear1: Affine<S>,  // F × D
    linear2: Affine<S>,  // D × F
    norm1: Affine<S>,    // D
    norm2: Affine<S>,    // D
}

impl<S> Layer<S> {
    /// Takes them in the order in which Φ stores them.
    pub(super) fn split(shape: &Shape, mut take: impl FnMut(usize) -> S) -> Self {
        let Shape { dim, hidden, .. } = *shape;
        Self {
            in_proj: Affine::split(3 * dim, dim, &mut take),
            out_proj: Affine::split(dim, dim, &mut take),
            linear1: Affine::split(hidden, dim, &mut take),
            linear2: Affine::split(dim, hidden, &mut take),
            norm1: Affine::split(dim, 1, &mut take),
            norm2: Affine::split(dim, 1, &mut take),
        }
    }
}

/// The inside of one layer, and room for its gradients. The next layer overwrites it: backward computes it once more.
#[derive(Clone, Debug)]
pub(super) struct Scratch {
    normed1: Vec<Lanes>, // B × D
    qkv: Vec<Lanes>,     // B × 3D, q times log₂e/√C: weights are then powers of two
    heads: Vec<Lanes>,   // B × D
    middle: Vec<Lanes>,  // B × D, after attention
    normed2: Vec<Lanes>, // B × D
    hidden: Vec<Lanes>,  // B × F, after ReLU
    scores: Vec<Lanes>,  // B × G keys, of one head; forward uses the first G
    d_normed: Vec<Lanes>,
    d_qkv: Vec<Lanes>,
    d_heads: Vec<Lanes>,
    d_hidden: Vec<Lanes>,
    d_scores: Vec<Lanes>,
}

impl Scratch {
    pub(super) fn new(shape: &Shape) -> Self {
        let tile = |rows| vec![Lanes::ZERO; shape.blocks() * rows];
        Self {
            normed1: tile(shape.dim),
            qkv: tile(3 * shape.dim),
            heads: tile(shape.dim),
            middle: tile(shape.dim),
            normed2: tile(shape.dim),
            hidden: tile(shape.hidden),
            scores: tile(shape.groups),
            d_normed: tile(shape.dim),
            d_qkv: tile(3 * shape.dim),
            d_heads: tile(shape.dim),
            d_hidden: tile(shape.hidden),
            d_scores: tile(shape.groups),
        }
    }
}

/// y = m + W₂ relu(W₁ LN₂(m) + b₁) + b₂ with m = x + Attn(LN₁(x)); x, y: B × D.
#[inline(always)]
pub(super) fn forward(shape: &Shape, p: &Layer<&[f64]>, x: &[Lanes], s: &mut Scratch, y: &mut [Lanes]) {
    inside(shape, p, x, s);
    linear(&p.linear2, &s.hidden, y);
    add(y, &s.middle);
}

/// All of a layer but its last product, into `s`.
#[inline(always)]
fn inside(shape: &Shape, p: &Layer<&[f64]>, x: &[Lanes], s: &mut Scratch) {
    norm(&p.norm1, x, &mut s.normed1);
    linear(&p.in_proj, &s.normed1, &mut s.qkv);
    let scale = shape.score_scale() * LOG2_E;
    for block in s.qkv.chunks_exact_mut(3 * shape.dim) {
        for q in &mut block[..shape.dim] {
            *q = *q * scale;
        }
    }
    attend(shape, &s.qkv, &mut s.scores[..shape.groups], &mut s.heads);
    linear(&p.out_proj, &s.heads, &mut s.middle);
    add(&mut s.middle, x);
    norm(&p.norm2, &s.middle, &mut s.normed2);
    affine::<true>(&p.linear1, &s.normed2, &mut s.hidden);
}

/// `d` comes in as the gradient of y and goes out as that of x (both B × D); the parameters' is added to `d_p`.
#[inline(always)]
pub(super) fn backward(
    shape: &Shape,
    p: &Layer<&[f64]>,
    x: &[Lanes],
    s: &mut Scratch,
    d: &mut [Lanes],
    d_p: &mut Layer<&mut [f64]>,
) {
    inside(shape, p, x, s);
    linear_backward(p.linear2.weight, &s.hidden, d, &mut s.d_hidden, &mut d_p.linear2);
    for (d_h, &h) in flat_mut(&mut s.d_hidden).iter_mut().zip(flat(&s.hidden)) {
        *d_h = if h <= 0.0 { 0.0 } else { *d_h };
    }
    linear_backward(p.linear1.weight, &s.normed2, &s.d_hidden, &mut s.d_normed, &mut d_p.linear1);
    norm_backward(p.norm2.weight, &s.middle, &s.d_normed, d, &mut d_p.norm2);
    linear_backward(p.out_proj.weight, &s.heads, d, &mut s.d_heads, &mut d_p.out_proj);
    attend_backward(shape, s);
    linear_backward(p.in_proj.weight, &s.normed1, &s.d_qkv, &mut s.d_normed, &mut d_p.in_proj);
    norm_backward(p.norm1.weight, x, &s.d_normed, d, &mut d_p.norm1);
}

/// x += y.
#[inline(always)]
fn add(x: &mut [Lanes], y: &[Lanes]) {
    for (x, &y) in flat_mut(x).iter_mut().zip(flat(y)) {
        *x += y;
    }
}

/// y = W x + b; W: M × N, x: B × N, y: B × M.
#[inline(always)]
pub(super) fn linear(p: &Affine<&[f64]>, x: &[Lanes], y: &mut [Lanes]) {
    affine::<false>(p, x, y);
}

/// y = W x + b, or relu of it.
#[inline(always)]
fn affine<const RELU: bool>(p: &Affine<&[f64]>, x: &[Lanes], y: &mut [Lanes]) {
    let outputs = p.bias.len();
    let inputs = p.weight.len() / outputs;
    for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
        let (bias, bias_rest) = p.bias.as_chunks::<ROWS>();
        let (y, y_rest) = y.as_chunks_mut::<ROWS>();
        let (weight, weight_rest) = p.weight.split_at(bias.len() * ROWS * inputs);
        for ((y, bias), weight) in y.iter_mut().zip(bias).zip(weight.chunks_exact(ROWS * inputs)) {
            *y = products::<_, RELU>(weight, bias, x);
        }
        for ((y, &bias), weight) in y_rest.iter_mut().zip(bias_rest).zip(weight_rest.chunks_exact(inputs)) {
            [*y] = products::<_, RELU>(weight, &[bias], x);
        }
    }
}

/// R rows of a linear layer for one block: bias first, then inputs in order.
#[inline(always)]
fn products<const R: usize, const RELU: bool>(weight: &[f64], bias: &[f64; R], x: &[Lanes]) -> [Lanes; R] {
    let mut rows = [weight; R];
    let mut sums = [Lanes::ZERO; R];
    for r in 0..R {
        rows[r] = &weight[r * x.len()..][..x.len()];
        sums[r] = Lanes::splat(bias[r]);
    }
    for (i, &x) in x.iter().enumerate() {
        for r in 0..R {
            sums[r] += x * rows[r][i];
        }
    }
    if RELU {
        for sum in &mut sums {
            *sum = Lanes::ZERO.max(*sum); // a NaN passes
        }
    }
    sums
}

/// dx = Wᵀ dy; dW += dy xᵀ and db += dy, summed over tokens.
#[inline(always)]
pub(super) fn linear_backward(
    weight: &[f64],
    x: &[Lanes],
    dy: &[Lanes],
    dx: &mut [Lanes],
    d_p: &mut Affine<&mut [f64]>,
) {
    let outputs = d_p.bias.len();
    let inputs = weight.len() / outputs;
    for (dx, dy) in dx.chunks_exact_mut(inputs).zip(dy.chunks_exact(outputs)) {
        let (fours, rest) = dx.as_chunks_mut::<ROWS>();
        let first = fours.len() * ROWS;
        for (i, dx) in fours.iter_mut().enumerate() {
            *dx = transposed(weight, inputs, i * ROWS, dy);
        }
        for (i, dx) in rest.iter_mut().enumerate() {
            [*dx] = transposed(weight, inputs, first + i, dy);
        }
    }
    let rows = d_p.weight.chunks_exact_mut(inputs).zip(d_p.bias.iter_mut());
    for (o, (d_weight, d_bias)) in rows.enumerate() {
        let mut sum = Lanes::ZERO;
        for dy in dy.chunks_exact(outputs) {
            sum += dy[o];
        }
        *d_bias += sum.sum();
        let (fours, rest) = d_weight.as_chunks_mut::<ROWS>();
        let first = fours.len() * ROWS;
        for (i, d_weight) in fours.iter_mut().enumerate() {
            let sums = over_tokens::<ROWS>((dy, outputs, o), (x, inputs, i * ROWS));
            for (d_w, sum) in d_weight.iter_mut().zip(sums) {
                *d_w += sum;
            }
        }
        for (i, d_w) in rest.iter_mut().enumerate() {
            let [sum] = over_tokens((dy, outputs, o), (x, inputs, first + i));
            *d_w += sum;
        }
    }
}

/// Rows i … i + R of Wᵀ dy for one block, summed over outputs in order; W: M × N, dy: M.
#[inline(always)]
fn transposed<const R: usize>(weight: &[f64], inputs: usize, i: usize, dy: &[Lanes]) -> [Lanes; R] {
    let mut sums = [Lanes::ZERO; R];
    for (weight, &dy) in weight.chunks_exact(inputs).zip(dy) {
        for (sum, &w) in sums.iter_mut().zip(&weight[i..i + R]) {
            *sum += dy * w;
        }
    }
    sums
}

/// Σ a bᵣ over tokens, for one row of tile `a` and R rows of tile `b`: blocks first, then lanes.
/// A tile comes with its rows a block and the (first) row that is meant.
#[inline(always)]
fn over_tokens<const R: usize>(
    (a, a_rows, row): (&[Lanes], usize, usize),
    (b, b_rows, first): (&[Lanes], usize, usize),
) -> [f64; R] {
    let mut sums = [Lanes::ZERO; R];
    for (a, b) in a.chunks_exact(a_rows).zip(b.chunks_exact(b_rows)) {
        for (sum, &b) in sums.iter_mut().zip(&b[first..first + R]) {
            *sum += a[row] * b;
        }
    }
    let mut totals = [0.0; R];
    for (total, sum) in totals.iter_mut().zip(sums) {
        *total = sum.sum();
    }
    totals
}

/// Layer norm over each token: y = x̂ w + b, x̂ = (x − mean) / √(variance + ε), the variance biased; x, y: B × D.
#[inline(always)]
fn norm(p: &Affine<&[f64]>, x: &[Lanes], y: &mut [Lanes]) {
    let dim = p.bias.len();
    for (x, y) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
        let (mean, inverse) = moments(x);
        for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(p.weight).zip(p.bias) {
            *y = (x - mean) * inverse * w + b;
        }
    }
}

/// Mean and 1 / √(variance + ε) of each token of a block.
#[inline(always)]
fn moments(x: &[Lanes]) -> (Lanes, Lanes) {
    let count = x.len() as f64;
    let mut sum = Lanes::ZERO;
    for &x in x {
        sum += x;
    }
    let mean = sum / count;
    let mut squares = Lanes::ZERO;
    for &x in x {
        squares += (x - mean) * (x - mean);
    }
    (mean, Lanes::splat(1.0) / (squares / count + EPSILON).sqrt())
}

/// With g = dy w: dx += (g − mean g − x̂ mean(g x̂)) / √(variance + ε); dw += dy x̂ and db += dy, summed over tokens.
#[inline(always)]
fn norm_backward(weight: &[f64], x: &[Lanes], dy: &[Lanes], dx: &mut [Lanes], d_p: &mut Affine<&mut [f64]>) {
    let dim = weight.len();
    let blocks = x.chunks_exact(dim).zip(dy.chunks_exact(dim));
    for ((x, dy), dx) in blocks.zip(dx.chunks_exact_mut(dim)) {
        let (mean, inverse) = moments(x);
        let (mut sum, mut sum_x) = (Lanes::ZERO, Lanes::ZERO);
        for (i, ((&x, &dy), &w)) in x.iter().zip(dy).zip(weight).enumerate() {
            let x = (x - mean) * inverse;
            d_p.weight[i] += (dy * x).sum();
            d_p.bias[i] += dy.sum();
            sum += dy * w;
            sum_x += dy * w * x;
        }
        let (mean_g, mean_gx) = (sum / dim as f64, sum_x / dim as f64);
        for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
            *dx += (dy * w - mean_g - (x - mean) * inverse * mean_gx) * inverse;
        }
    }
}

/// Each head's Σⱼ pⱼ vⱼ with p = softmaxⱼ(q · kⱼ ln 2), q already scaled; qkv: B × 3D, heads: B × D. `scores` is scratch.
#[inline(always)]
fn attend(shape: &Shape, qkv: &[Lanes], scores: &mut [Lanes], heads: &mut [Lanes]) {
    let (dim, width) = (shape.dim, shape.dim / shape.heads);
    for (queries, heads) in qkv.chunks_exact(3 * dim).zip(heads.chunks_exact_mut(dim)) {
        for (h, head) in heads.chunks_exact_mut(width).enumerate() {
            let (q, k, v) = (h * width, dim + h * width, 2 * dim + h * width);
            let inverse = Lanes::splat(1.0) / softmax(&queries[q..q + width], k, qkv, scores);
            for (c, out) in head.iter_mut().enumerate() {
                *out = weighted_sum(scores, v + c, qkv) * inverse;
            }
        }
    }
}

/// q · (lane `lane` of k), rows in order.
#[inline(always)]
fn dot(q: &[Lanes], k: &[Lanes], lane: usize) -> Lanes {
    let mut sum = Lanes::ZERO;
    for (&q, k) in q.iter().zip(k) {
        sum += q * k.0[lane];
    }
    sum
}

/// Softmax over the keys for eight queries of one head, not yet divided by the sum, which is returned. Of the scaled
/// scores a weight is a power of two.
/// q: C rows; the keys are the C rows from `k` of each block of `qkv` (B × 3D); scores: G.
#[inline(always)]
fn softmax(q: &[Lanes], k: usize, qkv: &[Lanes], scores: &mut [Lanes]) -> Lanes {
    let row = qkv.len() / scores.len().div_ceil(LANES);
    let mut largest = Lanes::splat(f64::NEG_INFINITY);
    for (keys, scores) in qkv.chunks_exact(row).zip(scores.chunks_mut(LANES)) {
        for (lane, score) in scores.iter_mut().enumerate() {
            *score = match q {
                // The usual case, without a loop: a head for every feature.
                [q] => *q * keys[k].0[lane],
                _ => dot(q, &keys[k..], lane),
            };
            largest = score.max(largest);
        }
    }
    let constants = Exp2::constants();
    for score in &mut *scores {
        *score = exp2_of_negative(*score - largest, constants);
    }
    let mut sum = Lanes::ZERO;
    for &score in &*scores {
        sum += score;
    }
    sum
}

/// Σⱼ wⱼ · (row `row` of token j), in the order of tokens; qkv: B × 3D, weights: G.
#[inline(always)]
fn weighted_sum(weights: &[Lanes], row: usize, qkv: &[Lanes]) -> Lanes {
    let rows = qkv.len() / weights.len().div_ceil(LANES);
    let mut sum = Lanes::ZERO;
    for (tokens, weights) in qkv.chunks_exact(rows).zip(weights.chunks(LANES)) {
        for (&weight, token) in weights.iter().zip(tokens[row].0) {
            sum += weight * token;
        }
    }
    sum
}

/// From `s.d_heads` to `s.d_qkv`. With o = Σ p v: dp = do · v, ds = p (dp − do · o), and then dq = Σⱼ ds kⱼ / √C,
/// dkⱼ = ln 2 Σ ds q with the scaled q, dvⱼ = Σ p do, the latter two over queries.
#[inline(always)]
fn attend_backward(shape: &Shape, s: &mut Scratch) {
    let (groups, dim, width) = (shape.groups, shape.dim, shape.dim / shape.heads);
    for h in 0..shape.heads {
        let (q, k, v) = (h * width, dim + h * width, 2 * dim + h * width);
        let head = q..q + width;
        let d_queries = s.d_qkv.chunks_exact_mut(3 * dim);
        let outs = s.heads.chunks_exact(dim).zip(s.d_heads.chunks_exact(dim));
        let scores = s.scores.chunks_exact_mut(groups).zip(s.d_scores.chunks_exact_mut(groups));
        let blocks = s.qkv.chunks_exact(3 * dim).zip(d_queries).zip(outs).zip(scores);
        for (((queries, d_queries), (out, d_out)), (p, ds)) in blocks {
            let inverse = Lanes::splat(1.0) / softmax(&queries[head.clone()], k, &s.qkv, p);
            softmax_backward(inverse, &out[head.clone()], &d_out[head.clone()], v, &s.qkv, p, ds);
            for c in 0..width {
                d_queries[q + c] = weighted_sum(ds, k + c, &s.qkv) * shape.score_scale();
            }
        }
        for j in 0..groups {
            let (d_token, lane) = (&mut s.d_qkv[j / LANES * 3 * dim..][..3 * dim], j % LANES);
            for c in 0..width {
                let [scaled] = over_tokens((&s.d_scores, groups, j), (&s.qkv, 3 * dim, q + c));
                d_token[k + c].0[lane] = scaled * LN_2;
                [d_token[v + c].0[lane]] = over_tokens((&s.scores, groups, j), (&s.d_heads, dim, q + c));
            }
        }
    }
}

/// p = what [`softmax`] left · `inverse`, and ds, for eight queries of one head; out, d_out: C, p, ds: G.
#[inline(always)]
fn softmax_backward(
    inverse: Lanes,
    out: &[Lanes],
    d_out: &[Lanes],
    v: usize,
    qkv: &[Lanes],
    p: &mut [Lanes],
    ds: &mut [Lanes],
) {
    let row = qkv.len() / p.len().div_ceil(LANES);
    let mut mean = Lanes::ZERO;
    for (&out, &d_out) in out.iter().zip(d_out) {
        mean += out * d_out;
    }
    let scores = p.chunks_mut(LANES).zip(ds.chunks_mut(LANES));
    for (values, (p, ds)) in qkv.chunks_exact(row).zip(scores) {
        for (lane, (p, ds)) in p.iter_mut().zip(ds).enumerate() {
            *p = *p * inverse;
            *ds = *p * (dot(d_out, &values[v..], lane) - mean);
        }
    }
}

/// tokens (G × N row-major) → tiles (B × N). Lanes without a token are left as they are: zero from the start.
#[inline(always)]
pub(super) fn to_tiles(tokens: &[f64], width: usize, tiles: &mut [Lanes]) {
    let blocks = tokens.chunks(width * LANES).zip(tiles.chunks_exact_mut(width));
    for (tokens, tile) in blocks {
        for (lane, token) in tokens.chunks_exact(width).enumerate() {
            for (&value, row) in token.iter().zip(tile.iter_mut()) {
                row.0[lane] = value;
            }
        }
    }
}

/// tiles (B × N) → tokens (G × N row-major).
#[inline(always)]
pub(super) fn to_tokens(tiles: &[Lanes], width: usize, tokens: &mut [f64]) {
    let blocks = tokens.chunks_mut(width * LANES).zip(tiles.chunks_exact(width));
    for (tokens, tile) in blocks {
        for (lane, token) in tokens.chunks_exact_mut(width).enumerate() {
            for (value, row) in token.iter_mut().zip(tile) {
                *value = row.0[lane];
            }
        }
    }
}
