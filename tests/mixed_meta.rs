//! How accurate a meta-update with 16-bit parameters is: the derivatives of a small network against float64.
//!
//! The network is y = W₃ tanh(W₂ tanh(W₁ x + b₁) + b₂) + b₃ with squared error; the host evaluates it in float64 at the
//! parameters in its buffers and rounds the gradients to their dtype. All runs begin at the same parameters (which
//! bfloat16 and float16 hold exactly) and moments. The oracle is the library with float64 tensors.

mod common;

use common::calls::Answer;
use common::handle::{Handle, Spec, param_group};
use common::saved::State;
use common::tensor::Tensor;
use common::toy::{Random, small_options};
use metaadamw::ffi::*;

const IN: usize = 16;
const HIDDEN: usize = 48;
const OUT: usize = 4;
const ROWS: usize = 32;

fn specs(dtype: i32, grad_dtype: i32) -> Vec<Spec> {
    let shapes: [(&str, &[usize]); 6] = [
        ("layers.0.mlp.weight", &[HIDDEN, IN]),
        ("layers.0.mlp.bias", &[HIDDEN]),
        ("layers.1.mlp.weight", &[HIDDEN, HIDDEN]),
        ("layers.1.mlp.bias", &[HIDDEN]),
        ("head.weight", &[OUT, HIDDEN]),
        ("head.bias", &[OUT]),
    ];
    let spec = |(name, shape): (&str, &[usize])| {
        let shape: Vec<u64> = shape.iter().map(|n| *n as u64).collect();
        Spec::new(name, &shape, dtype).with_gradient(grad_dtype)
    };
    shapes.into_iter().map(spec).collect()
}

/// Rows of inputs and targets.
struct Batch {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Batch {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let x = random.values(ROWS * IN, 1.0);
        let noise = random.values(ROWS * OUT, 0.1);
        let target = |(i, noise): (usize, &f64)| x[i / OUT * IN + i % OUT] * x[i / OUT * IN + i % OUT + 1] + noise;
        let y = noise.iter().enumerate().map(target).collect();
        Self { x, y }
    }
}

/// out = tanh(W x + b) or W x + b.
fn layer(w: &[f64], b: &[f64], x: &[f64], tanh: bool) -> Vec<f64> {
    let row = |(w, b): (&[f64], &f64)| {
        let sum = w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b;
        if tanh { sum.tanh() } else { sum }
    };
    w.chunks_exact(x.len()).zip(b).map(row).collect()
}

/// Adds to the gradients of W and b; the gradient of x.
fn back(w: &[f64], x: &[f64], d: &[f64], dw: &mut [f64], db: &mut [f64]) -> Vec<f64> {
    let mut dx = vec![0.0; x.len()];
    for (i, d) in d.iter().enumerate() {
        db[i] += d;
        for (j, x) in x.iter().enumerate() {
            dw[i * dx.len() + j] += d * x;
            dx[j] += d * w[i * dx.len() + j];
        }
    }
    dx
}

fn evaluate(batch: &Batch, params: &[Tensor], grad_dtype: i32) -> (f64, Vec<Option<Tensor>>) {
    let p: Vec<Vec<f64>> = params.iter().map(Tensor::values).collect();
    let mut g: Vec<Vec<f64>> = p.iter().map(|values| vec![0.0; values.len()]).collect();
    let mut loss = 0.0;
    for (x, y) in batch.x.chunks_exact(IN).zip(batch.y.chunks_exact(OUT)) {
        let h1 = layer(&p[0], &p[1], x, true);
        let h2 = layer(&p[2], &p[3], &h1, true);
        let out = layer(&p[4], &p[5], &h2, false);
        let d: Vec<f64> = out.iter().zip(y).map(|(out, y)| (out - y) / ROWS as f64).collect();
        loss += out.iter().zip(y).map(|(out, y)| (out - y).powi(2)).sum::<f64>() / (2 * ROWS) as f64;
        let through =
            |d: Vec<f64>, h: &[f64]| -> Vec<f64> { d.iter().zip(h).map(|(d, h)| d * (1.0 - h * h)).collect() };
        let [g0, g1, g2, g3, g4, g5] = &mut g[..] else { unreachable!("six tensors") };
        let d2 = through(back(&p[4], &h2, &d, g4, g5), &h2);
        let d1 = through(back(&p[2], &h1, &d2, g2, g3), &h1);
        back(&p[0], x, &d1, g0, g1);
    }
    (loss, g.iter().map(|values| Some(Tensor::new(grad_dtype, values))).collect())
}

/// A kind of run.
#[derive(Clone, Copy)]
struct Kind {
    dtype: i32,
    grad_dtype: i32,
    precision: i32,
    moment_dtype: i32,
    difference: i32,
    scale: f64,
}

const EXACT: Kind = Kind {
    dtype: MAW_FLOAT64,
    grad_dtype: MAW_FLOAT64,
    precision: MAW_PRECISION_NEAREST,
    moment_dtype: 0,
    difference: MAW_DIFFERENCE_CENTRAL,
    scale: 0.0,
};

/// ∂L/∂α of each group, and ∂L/∂Φ, of a meta-update after some steps' worth of moments.
fn derivatives(kind: Kind) -> (Vec<f64>, Vec<f64>) {
    let Kind { dtype, grad_dtype, precision, moment_dtype, difference, scale } = kind;
    let options = maw_options { difference, difference_scale: scale, ..small_options() };
    let mut handle = Handle::new(&options).expect("the options are good");
    let specs = specs(dtype, grad_dtype);
    let group = maw_param_group { lr: 3e-3, precision, moment_dtype, ..param_group() };
    handle.add(&group, &specs).expect("the tensors are good");
    handle.prepare().expect("all is registered");
    let mut random = Random(9);
    // Eight bits, and far from subnormals: exact in every dtype.
    let coarse = |x: f64| f64::from(half::bf16::from_f64(x));
    let mut params: Vec<Tensor> = specs
        .iter()
        .map(|s| {
            let size = if s.shape.len() == 2 { (3.0 / s.shape[1] as f64).sqrt() } else { 0.1 };
            let values = random.values(s.len(), size);
            Tensor::new(
                dtype,
                &values.iter().map(|x| if x.abs() < 1e-3 { 0.0 } else { coarse(*x) }).collect::<Vec<_>>(),
            )
        })
        .collect();
    let (_, start) = evaluate(&Batch::new(4), &params, MAW_FLOAT64);
    for (i, gradient) in start.iter().enumerate() {
        let g = gradient.as_ref().expect("a gradient").values();
        let m: Vec<f64> = g.iter().map(|g| coarse(0.7 * g)).collect();
        let v: Vec<f64> = g.iter().map(|g| coarse(1e-3 * (g * g + 1e-6))).collect();
        let wide = if dtype == MAW_FLOAT64 { MAW_FLOAT64 } else { MAW_FLOAT32 };
        let state = State { exp_avg: Tensor::new(wide, &m), exp_avg_sq: Tensor::new(wide, &v), step: 10 };
        handle.set_tensor_state(i, &state).expect("a state");
    }
    let batches = [Batch::new(1), Batch::new(2), Batch::new(3)];
    let result = handle
        .meta_update(&mut params, |request, params| {
            let (loss, grads) = evaluate(&batches[request.batch as usize - 1], params, grad_dtype);
            if request.kind == MAW_META_LOSS { Answer::loss(loss) } else { Answer::gradient((loss, grads)) }
        })
        .expect("a meta-update");
    assert_eq!(result.outcome, MAW_OUTCOME_UPDATED);
    let groups = handle.group_count().expect("groups");
    let alpha = handle.meta_gradient("alpha", groups).expect("a gradient");
    let sizes = handle.attention_sizes().expect("Φ");
    let phi = sizes.iter().flat_map(|(name, size)| handle.meta_gradient(name, *size).expect("a gradient")).collect();
    (alpha, phi)
}

/// ‖got − expected‖/‖expected‖.
fn error(got: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied())
}

/// The rows of docs/mixed_precision.md, with the largest allowed error of ∂L/∂α, two to three times the measured one.
/// For ∂L/∂Φ a fifth is allowed, since much of it does not depend on α and β.
const TABLE: [(&str, Kind, f64); 9] = [
    ("float32", Kind { dtype: MAW_FLOAT32, grad_dtype: MAW_FLOAT32, ..EXACT }, 1e-4),
    ("bfloat16, float32 gradients", Kind { dtype: MAW_BFLOAT16, grad_dtype: MAW_FLOAT32, ..EXACT }, 1.5e-2),
    ("bfloat16, bfloat16 gradients", Kind { dtype: MAW_BFLOAT16, grad_dtype: MAW_BFLOAT16, ..EXACT }, 1.5e-2),
    (
        "bfloat16 with masters, bfloat16 gradients",
        Kind { dtype: MAW_BFLOAT16, grad_dtype: MAW_BFLOAT16, precision: MAW_PRECISION_MASTER, ..EXACT },
        1.5e-2,
    ),
    (
        "bfloat16 with remainders, bfloat16 gradients and moments",
        Kind {
            dtype: MAW_BFLOAT16,
            grad_dtype: MAW_BFLOAT16,
            precision: MAW_PRECISION_REMAINDER,
            moment_dtype: MAW_BFLOAT16,
            ..EXACT
        },
        1.5e-2,
    ),
    (
        "bfloat16 with masters, forward differences",
        Kind {
            dtype: MAW_BFLOAT16,
            grad_dtype: MAW_BFLOAT16,
            precision: MAW_PRECISION_MASTER,
            difference: MAW_DIFFERENCE_FORWARD,
            ..EXACT
        },
        0.25,
    ),
    ("float16, float32 gradients", Kind { dtype: MAW_FLOAT16, grad_dtype: MAW_FLOAT32, ..EXACT }, 1.5e-2),
    ("float16, float16 gradients", Kind { dtype: MAW_FLOAT16, grad_dtype: MAW_FLOAT16, ..EXACT }, 1.5e-2),
    (
        "float16 with masters, float16 gradients",
        Kind { dtype: MAW_FLOAT16, grad_dtype: MAW_FLOAT16, precision: MAW_PRECISION_MASTER, ..EXACT },
        1.5e-2,
    ),
];

#[test]
fn derivatives_are_as_accurate_as_documented() {
    let (alpha, phi) = derivatives(EXACT);
    let mut failures = Vec::new();
    for (name, kind, most) in TABLE {
        let (a, f) = derivatives(kind);
        let (a, f) = (error(&a, &alpha), error(&f, &phi));
        println!("{name:58} ∂α {a:.1e}  ∂Φ {f:.1e}");
        if a > most || f > most / 5.0 {
            failures.push(format!("{name}: {a:e}, {f:e}, at most {most:e}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn no_step_from_a_tenth_to_ten_times_the_default_is_four_times_as_accurate() {
    let (alpha, _) = derivatives(EXACT);
    for (name, kind, _) in TABLE.into_iter().filter(|(_, kind, _)| kind.dtype != MAW_FLOAT32) {
        let errors: Vec<f64> = [3e-3, 1e-2, 3e-2, 1e-1, 3e-1]
            .into_iter()
            .map(|scale| error(&derivatives(Kind { scale, ..kind }).0, &alpha))
            .collect();
        println!("{name:58} {}", errors.iter().map(|e| format!("{e:.1e} ")).collect::<String>());
        let best = errors.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(errors[2] <= 4.0 * best, "{name}: {errors:?}");
    }
}
