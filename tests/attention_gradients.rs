//! The encoder against a textbook version, its gradients against finite differences, and that its bits are
//! reproducible.

use metaadamw::model::options::Init;
use metaadamw::modulation::attention::{Attention, OUTPUTS, Shape, Workspace};
use metaadamw::numeric::simd;
use ndarray::{ArrayView2, ArrayViewMut2};
use proptest::prelude::*;

/// A matrix with one row a group.
fn rows(groups: usize, values: &[f64]) -> ArrayView2<'_, f64> {
    ArrayView2::from_shape((groups, values.len() / groups), values).expect("whole rows")
}

fn rows_mut(groups: usize, values: &mut [f64]) -> ArrayViewMut2<'_, f64> {
    ArrayViewMut2::from_shape((groups, values.len() / groups), values).expect("whole rows")
}

/// A module with all parameters moved off their initial values, features, and the weights of a
/// scalar loss Σ c · raw.
struct Case {
    attention: Attention,
    input: Vec<f64>,
    coefficients: Vec<f64>,
}

struct Gradients {
    phi: Vec<f64>,
    input: Vec<f64>,
}

impl Case {
    fn new(shape: Shape, seed: u64) -> Self {
        let mut noise = Noise(seed);
        let mut attention = Attention::new(shape, Init::Xavier, seed, 0.0);
        for value in attention.values_mut() {
            *value += 0.3 * noise.next();
        }
        let input = noise.take(shape.groups * shape.dim);
        let coefficients = noise.take(shape.groups * OUTPUTS);
        Self { attention, input, coefficients }
    }

    /// The first from `seed` on that is smooth around its parameters: no ReLU near its kink, no
    /// token of nearly equal values, where the layer norm is steep.
    fn smooth(shape: Shape, seed: u64) -> Self {
        (seed..)
            .map(|seed| Self::new(shape, seed))
            .find(|case| {
                let textbook = Textbook::forward(&case.attention, &case.input);
                textbook.kink > 1e-3 && (shape.dim == 1 || textbook.deviation > 0.05)
            })
            .expect("a smooth case is not rare")
    }

    fn raw(&self, workspace: &mut Workspace) -> Vec<f64> {
        let mut raw = vec![f64::NAN; self.coefficients.len()];
        let groups = self.attention.shape().groups;
        self.attention.forward(rows(groups, &self.input), workspace, rows_mut(groups, &mut raw));
        raw
    }

    fn loss(&self, workspace: &mut Workspace) -> f64 {
        let raw = self.raw(workspace);
        raw.iter().zip(&self.coefficients).map(|(raw, c)| raw * c).sum()
    }

    fn gradients(&self, workspace: &mut Workspace) -> Gradients {
        self.raw(workspace);
        let mut phi = vec![0.0; self.attention.values().len()];
        let mut input = vec![f64::NAN; self.input.len()];
        self.backward(workspace, &mut phi, &mut input);
        Gradients { phi, input }
    }

    fn backward(&self, workspace: &mut Workspace, phi: &mut [f64], input: &mut [f64]) {
        let groups = self.attention.shape().groups;
        self.attention.backward(rows(groups, &self.coefficients), workspace, phi, rows_mut(groups, input));
    }

    /// Raw outputs and gradients, to the bit.
    fn bits(&self, workspace: &mut Workspace) -> Vec<u64> {
        let raw = self.raw(workspace);
        let Gradients { phi, input } = self.gradients(workspace);
        raw.into_iter().chain(phi).chain(input).map(f64::to_bits).collect()
    }
}

/// Numbers in ±1.5 by SplitMix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        3.0 * ((z ^ (z >> 31)) as f64 / u64::MAX as f64 - 0.5)
    }

    fn take(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// The forward pass as a textbook writes it: token by token, matrices by name, the platform's exp.
struct Textbook {
    raw: Vec<f64>,
    /// The smallest distance of a ReLU's argument from 0.
    kink: f64,
    /// The smallest standard deviation that a layer norm met.
    deviation: f64,
}

impl Textbook {
    fn forward(attention: &Attention, input: &[f64]) -> Self {
        let shape = attention.shape();
        let mut x: Vec<Vec<f64>> = input.chunks(shape.dim).map(<[f64]>::to_vec).collect();
        let (mut kink, mut deviation) = (f64::INFINITY, f64::INFINITY);
        for l in 0..shape.layers {
            let p = |name: &str| parameters(attention, &format!("encoder.layers.{l}.{name}"));
            let mut norm = |name: &str, x: &[f64]| {
                let n = x.len() as f64;
                let mean = x.iter().sum::<f64>() / n;
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                deviation = variance.sqrt().min(deviation);
                let (w, b) = (p(&format!("{name}.weight")), p(&format!("{name}.bias")));
                let normed = |i| (x[i] - mean) / (variance + 1e-5).sqrt() * w[i] + b[i];
                (0..x.len()).map(normed).collect::<Vec<_>>()
            };
            let (w, b) = (p("self_attn.in_proj_weight"), p("self_attn.in_proj_bias"));
            let qkv: Vec<_> = x.iter().map(|x| linear(w, b, &norm("norm1", x))).collect();
            let (w, b) = (p("self_attn.out_proj.weight"), p("self_attn.out_proj.bias"));
            for (x, q) in x.iter_mut().zip(&qkv) {
                add(x, &linear(w, b, &heads(shape, q, &qkv)));
            }
            for x in &mut x {
                let before = linear(p("linear1.weight"), p("linear1.bias"), &norm("norm2", x));
                kink = before.iter().fold(kink, |kink, h| kink.min(h.abs()));
                let hidden: Vec<_> = before.iter().map(|h| h.max(0.0)).collect();
                add(x, &linear(p("linear2.weight"), p("linear2.bias"), &hidden));
            }
        }
        let p = |name| parameters(attention, name);
        let raw = x.iter().flat_map(|x| linear(p("output_proj.weight"), p("output_proj.bias"), x));
        Self { raw: raw.collect(), kink, deviation }
    }
}

fn parameters<'a>(attention: &'a Attention, name: &str) -> &'a [f64] {
    &attention.values()[attention.range(name).expect("a known name")]
}

fn linear(weight: &[f64], bias: &[f64], x: &[f64]) -> Vec<f64> {
    let rows = weight.chunks(x.len()).zip(bias);
    rows.map(|(w, b)| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect()
}

/// All heads' outputs for one token; q, k, v behind one another in each row.
fn heads(shape: &Shape, token: &[f64], qkv: &[Vec<f64>]) -> Vec<f64> {
    let (dim, width) = (shape.dim, shape.dim / shape.heads);
    let mut output = vec![0.0; dim];
    for h in (0..dim).step_by(width) {
        let score = |other: &Vec<f64>| {
            let products = (h..h + width).map(|c| token[c] * other[dim + c]);
            products.sum::<f64>() / (width as f64).sqrt()
        };
        let scores: Vec<f64> = qkv.iter().map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
        for (s, other) in scores.iter().zip(qkv) {
            for c in h..h + width {
                output[c] += (s - largest).exp() / total * other[2 * dim + c];
            }
        }
    }
    output
}

fn add(x: &mut [f64], y: &[f64]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, value| value.abs().max(m))
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// dLoss/dx of fourth order; `loss_at` moves one number by its argument.
fn slope(mut loss_at: impl FnMut(f64) -> f64) -> f64 {
    const H: f64 = 2e-5;
    let near = loss_at(H) - loss_at(-H);
    let far = loss_at(2.0 * H) - loss_at(-2.0 * H);
    (8.0 * near - far) / (12.0 * H)
}

/// Up to so many groups, everything else small.
fn shapes(groups: usize) -> impl Strategy<Value = Shape> {
    let sizes = (1..=groups, 1..=4_usize, 1..=3_usize, 1..=3_usize, 1..=7_usize);
    let extras = (0..=2_usize, any::<bool>(), any::<bool>());
    (sizes, extras).prop_map(|((groups, heads, width, layers, hidden), extras)| Shape {
        groups,
        dim: heads * width,
        heads,
        layers,
        hidden,
        embed_dim: extras.0,
        gates: extras.1,
        log_vars: extras.2,
    })
}

/// The largest encoder of the paper.
const DEEP: Shape =
    Shape { groups: 24, dim: 6, heads: 6, layers: 128, hidden: 64, embed_dim: 0, gates: false, log_vars: false };

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_forward_pass_is_the_textbooks(shape in shapes(20), seed: u32) {
        let case = Case::new(shape, seed.into());
        let textbook = Textbook::forward(&case.attention, &case.input);
        let raw = case.raw(&mut Workspace::new(&shape));
        prop_assert!(distance(&raw, &textbook.raw) <= 1e-12 * largest(&raw).max(1.0));
    }

    #[test]
    fn every_gradient_agrees_with_finite_differences(shape in shapes(9), seed: u32) {
        let mut case = Case::smooth(shape, seed.into());
        let mut workspace = Workspace::new(&shape);
        let Gradients { phi, input } = case.gradients(&mut workspace);

        let slopes: Vec<f64> = (0..phi.len()).map(|i| {
            let value = case.attention.values()[i];
            let slope = slope(|step| {
                case.attention.values_mut()[i] = value + step;
                case.loss(&mut workspace)
            });
            case.attention.values_mut()[i] = value;
            slope
        }).collect();
        for entry in case.attention.entries() {
            let range = entry.range.clone();
            let error = distance(&phi[range.clone()], &slopes[range]);
            prop_assert!(error <= 1e-7 * largest(&phi), "{}: {error}", entry.name);
        }

        let slopes: Vec<f64> = (0..input.len()).map(|i| {
            let value = case.input[i];
            let slope = slope(|step| {
                case.input[i] = value + step;
                case.loss(&mut workspace)
            });
            case.input[i] = value;
            slope
        }).collect();
        prop_assert!(distance(&input, &slopes) <= 1e-7 * largest(&phi));
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits(shape in shapes(20), seed: u32) {
        let case = Case::new(shape, seed.into());
        let bits = simd::available().into_iter().map(|level| {
            simd::force(Some(level));
            case.bits(&mut Workspace::new(&shape))
        }).collect::<Vec<_>>();
        simd::force(None);
        prop_assert!(bits.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn the_bits_depend_on_the_input_only(shape in shapes(20), seed: u32) {
        let mut case = Case::new(shape, seed.into());
        let mut workspace = Workspace::new(&shape);
        let fresh = case.bits(&mut workspace);
        prop_assert_eq!(&fresh, &case.bits(&mut workspace));

        let input = case.input.clone();
        case.input.fill(f64::NAN);
        case.bits(&mut workspace);
        case.input = input;
        prop_assert!(fresh == case.bits(&mut workspace), "a NaN stayed in the workspace");
    }

    #[test]
    fn a_gradient_is_added_to_what_is_there(shape in shapes(9), seed: u32) {
        let case = Case::new(shape, seed.into());
        let mut workspace = Workspace::new(&shape);
        let Gradients { phi, mut input } = case.gradients(&mut workspace);
        let mut sum = vec![1.0; phi.len()];
        case.backward(&mut workspace, &mut sum, &mut input);
        let expected: Vec<f64> = phi.iter().map(|d| 1.0 + d).collect();
        prop_assert!(distance(&sum, &expected) <= 1e-13 * largest(&expected));
        for range in [
            case.attention.embeddings_range(),
            case.attention.gates_range(),
            case.attention.log_vars_range(),
        ].into_iter().flatten() {
            prop_assert!(phi[range].iter().all(|&d| d == 0.0), "these are applied elsewhere");
        }
    }
}

#[test]
fn a_hundred_and_twenty_eight_layers_of_six_heads_agree_with_the_textbook() {
    let mut case = Case::new(DEEP, 1);
    case.attention = Attention::new(DEEP, Init::Xavier, 1, 0.0);
    let mut workspace = Workspace::new(&DEEP);
    let textbook = Textbook::forward(&case.attention, &case.input);
    let raw = case.raw(&mut workspace);
    assert!(distance(&raw, &textbook.raw) <= 1e-11 * largest(&raw));

    let Gradients { phi, input } = case.gradients(&mut workspace);
    assert!(phi.iter().chain(&input).all(|d| d.is_finite()));
    let slope = slope(|step| {
        let mut moved = case.input.clone();
        moved[0] += step * 1e-2; // a short step: some of the 200 000 kinks are always near
        let mut raw = raw.clone();
        case.attention.forward(rows(DEEP.groups, &moved), &mut workspace, rows_mut(DEEP.groups, &mut raw));
        raw.iter().zip(&case.coefficients).map(|(raw, c)| raw * c).sum()
    }) * 1e2;
    assert!((slope - input[0]).abs() <= 1e-5 * largest(&input), "{slope} {}", input[0]);
}

#[test]
fn a_nan_anywhere_in_the_encoder_reaches_its_output() {
    let shape =
        Shape { groups: 9, dim: 6, heads: 3, layers: 2, hidden: 5, embed_dim: 0, gates: false, log_vars: false };
    let mut case = Case::smooth(shape, 4);
    let mut workspace = Workspace::new(&shape);
    let places: Vec<(String, usize)> = case
        .attention
        .entries()
        .iter()
        .filter(|entry| entry.name.starts_with("encoder."))
        .map(|entry| (entry.name.clone(), entry.range.start))
        .collect();
    assert!(places.len() > 20);
    for (name, place) in places {
        let before = std::mem::replace(&mut case.attention.values_mut()[place], f64::NAN);
        assert!(case.raw(&mut workspace).iter().any(|raw| raw.is_nan()), "{name}");
        case.attention.values_mut()[place] = before;
        assert!(case.raw(&mut workspace).iter().all(|raw| raw.is_finite()), "{name}");
    }
}

#[test]
fn identity_gives_zeros_and_leaves_the_gradient_to_the_output_projection() {
    let mut case = Case::new(DEEP, 1);
    case.attention = Attention::new(DEEP, Init::Identity, 1, 0.0);
    let mut workspace = Workspace::new(&DEEP);
    assert!(case.raw(&mut workspace).iter().all(|&raw| raw == 0.0));
    let Gradients { phi, input } = case.gradients(&mut workspace);
    let output = case.attention.range("output_proj.weight").expect("always there");
    assert!(phi[..output.start].iter().chain(&input).all(|&d| d == 0.0));
    assert!(phi[output].iter().all(|&d| d != 0.0));
}

#[test]
fn names_and_shapes_are_those_of_torch() {
    let shape = Shape { groups: 3, layers: 1, hidden: 5, embed_dim: 2, gates: true, log_vars: true, ..DEEP };
    let attention = Attention::new(shape, Init::Xavier, 0, -1.0);
    let expected: [(&str, &[usize]); 17] = [
        ("encoder.layers.0.self_attn.in_proj_weight", &[18, 6]),
        ("encoder.layers.0.self_attn.in_proj_bias", &[18]),
        ("encoder.layers.0.self_attn.out_proj.weight", &[6, 6]),
        ("encoder.layers.0.self_attn.out_proj.bias", &[6]),
        ("encoder.layers.0.linear1.weight", &[5, 6]),
        ("encoder.layers.0.linear1.bias", &[5]),
        ("encoder.layers.0.linear2.weight", &[6, 5]),
        ("encoder.layers.0.linear2.bias", &[6]),
        ("encoder.layers.0.norm1.weight", &[6]),
        ("encoder.layers.0.norm1.bias", &[6]),
        ("encoder.layers.0.norm2.weight", &[6]),
        ("encoder.layers.0.norm2.bias", &[6]),
        ("output_proj.weight", &[4, 6]),
        ("output_proj.bias", &[4]),
        ("group_embeddings", &[3, 2]),
        ("feature_gates", &[6]),
        ("log_vars", &[3]),
    ];
    let mut end = 0;
    for (entry, (name, shape)) in attention.entries().iter().zip(expected) {
        assert_eq!((entry.name.as_str(), entry.shape().as_slice()), (name, shape));
        assert_eq!(entry.range, end..end + shape.iter().product::<usize>());
        end = entry.range.end;
    }
    assert_eq!((attention.entries().len(), attention.values().len()), (expected.len(), end));
    assert_eq!(attention.embeddings().map(|e| e.len()), Some(6));
    assert_eq!(attention.gates(), Some([1.0; 6].as_slice()));
    assert_eq!(attention.log_vars(), Some([-1.0; 3].as_slice()));
}
