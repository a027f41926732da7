//! The points at which a meta-update asks for evaluations, for every dtype and precision: missing gradients, loss
//! scales, perturbed points, and a direction whose norm cancels.

mod common;

use common::calls::Answer;
use common::handle::{Handle, Spec, param_group};
use common::tensor::Tensor;
use common::toy::{Random, phi_bits, small_options};
use metaadamw::ffi::*;

type Kind = (i32, i32, i32);
const KINDS: [Kind; 6] = [
    (MAW_FLOAT32, MAW_FLOAT32, MAW_PRECISION_NEAREST),
    (MAW_FLOAT64, MAW_FLOAT64, MAW_PRECISION_NEAREST),
    (MAW_BFLOAT16, MAW_BFLOAT16, MAW_PRECISION_NEAREST),
    (MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_NEAREST),
    (MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_MASTER),
    (MAW_FLOAT16, MAW_FLOAT32, MAW_PRECISION_MASTER),
];

/// Three tensors, the first two of one group.
fn start(kind: Kind, options: &maw_options) -> (Handle, Vec<Tensor>) {
    let (dtype, grad, precision) = kind;
    let specs: Vec<Spec> = [("a", 700), ("b", 33), ("c", 20)]
        .iter()
        .zip(["x", "x", "y"])
        .map(|((name, n), group)| Spec::new(name, &[*n], dtype).with_gradient(grad).in_group(group))
        .collect();
    let mut handle = Handle::new(&maw_options { grouping: MAW_GROUPING_CUSTOM, ..*options }).expect("options");
    handle.add(&maw_param_group { lr: 0.02, weight_decay: 0.1, precision, ..param_group() }, &specs).expect("tensors");
    handle.prepare().expect("prepared");
    let mut random = Random(3);
    let mut params: Vec<Tensor> = specs.iter().map(|s| Tensor::new(dtype, &random.values(s.len(), 0.5))).collect();
    for _ in 0..3 {
        let grads: Vec<_> = params.iter().map(|p| Some(Tensor::new(grad, &random.values(p.len(), 0.5)))).collect();
        handle.step(&mut params, &grads).expect("a step");
    }
    (handle, params)
}

/// Gradient of ½ Σ h (x − c)², h in 1 … 3.
fn evaluate(batch: i32, params: &[Tensor], grad: i32, size: f64) -> (f64, Vec<Option<Tensor>>) {
    let mut random = Random(batch as u64);
    let mut loss = 0.0;
    let grads = params
        .iter()
        .map(|p| {
            let g: Vec<f64> = p
                .values()
                .iter()
                .map(|x| {
                    let (h, c) = (2.0 + random.next(), random.next());
                    loss += 0.5 * h * (x - c) * (x - c);
                    size * h * (x - c)
                })
                .collect();
            Some(Tensor::new(grad, &g))
        })
        .collect();
    (loss, grads)
}

/// On every batch, in a group of two tensors, after a complete meta-update.
#[test]
fn a_missing_gradient_equals_zeros_after_a_complete_meta_update() {
    for kind in KINDS {
        for batch in [MAW_BATCH_TRAIN_2, MAW_BATCH_VALIDATION] {
            for difference in [MAW_DIFFERENCE_CENTRAL, MAW_DIFFERENCE_FORWARD] {
                let phi = |zeros: bool| {
                    let (mut handle, mut params) = start(kind, &maw_options { difference, ..small_options() });
                    handle
                        .meta_update(&mut params, |r, p| Answer::gradient(evaluate(r.batch, p, kind.1, 1.0)))
                        .expect("whole");
                    let result = handle.meta_update(&mut params, |r, p| {
                        let mut answer = evaluate(r.batch, p, kind.1, 1.0);
                        if r.batch == batch {
                            answer.1[1] = zeros.then(|| answer.1[1].as_ref().expect("one").scaled(0.0));
                        }
                        Answer::gradient(answer)
                    });
                    assert_eq!(result.expect("second").outcome, MAW_OUTCOME_UPDATED);
                    phi_bits(&handle)
                };
                assert_eq!(phi(true), phi(false), "{kind:?} {batch} {difference}");
            }
        }
        // B1: a new handle and one that had a complete meta-update before find the same w.
        let alpha = |before: bool| {
            let (mut handle, mut params) = start(kind, &maw_options { meta_lr: 1e-300, ..small_options() });
            let mut one = |missing: bool| {
                handle
                    .meta_update(&mut params, |r, p| {
                        let mut answer = evaluate(r.batch, p, kind.1, 1.0);
                        if missing && r.batch == MAW_BATCH_TRAIN_1 {
                            answer.1[1] = None;
                        }
                        Answer::gradient(answer)
                    })
                    .expect("a meta-update");
            };
            if before {
                one(false);
            }
            one(true);
            handle.meta_gradient("alpha", 2).expect("alpha")
        };
        assert_eq!(alpha(true), alpha(false), "{kind:?}: B1");
    }
}

#[test]
fn a_loss_scale_changes_nothing_with_any_difference() {
    for difference in [MAW_DIFFERENCE_CENTRAL, MAW_DIFFERENCE_FORWARD, MAW_DIFFERENCE_FIRST_ORDER] {
        let phi = |scale: f64| {
            let kind = (MAW_FLOAT32, MAW_FLOAT32, MAW_PRECISION_NEAREST);
            let (mut handle, mut params) = start(kind, &maw_options { difference, ..small_options() });
            handle
                .meta_update(&mut params, |r, p| {
                    let mut a = Answer::gradient(evaluate(r.batch, p, kind.1, scale));
                    a.grad_scale = scale;
                    a
                })
                .expect("a meta-update");
            phi_bits(&handle)
        };
        assert_eq!(phi(128.0), phi(1.0), "{difference}");
    }
}

/// With 16-bit parameters, masters, tensors without a gradient on B1, and tiny gradients.
#[test]
fn perturbed_points_are_symmetric_around_the_stored_parameters() {
    for kind in KINDS {
        let (mut handle, mut params) = start(kind, &small_options());
        let (mut moved, mut plus, mut minus, mut count) = (vec![], vec![], vec![], 0);
        let theta: Vec<Vec<f64>> = params.iter().map(Tensor::values).collect();
        handle
            .meta_update(&mut params, |r, p| {
                let seen: Vec<Vec<f64>> = p.iter().map(Tensor::values).collect();
                if r.batch == MAW_BATCH_TRAIN_2 {
                    match count {
                        0 => moved = seen,
                        1 => plus = seen,
                        _ => minus = seen,
                    }
                    count += 1;
                }
                let mut answer = evaluate(r.batch, p, kind.1, 1.0);
                if r.batch == MAW_BATCH_TRAIN_1 {
                    answer.1[2] = None;
                }
                if r.batch == MAW_BATCH_TRAIN_2 {
                    answer.1[1] = Some(answer.1[1].as_ref().expect("one").scaled(0.0));
                }
                Answer::gradient(answer)
            })
            .expect("a meta-update");
        assert_eq!(moved[2], theta[2]);
        // Tensor 1 has g′ = 0 and a small w along g; tensor 2 does not move: its midpoint is θ to a unit in the last
        // place.
        let unit = match kind.0 {
            MAW_BFLOAT16 => 1.0 / 128.0,
            MAW_FLOAT16 => 1.0 / 1024.0,
            MAW_FLOAT32 => 1.2e-7,
            _ => 2.3e-16,
        };
        for t in 0..3 {
            let bias: f64 = (0..moved[t].len())
                .map(|i| {
                    let middle = 0.5 * (plus[t][i] + minus[t][i]);
                    assert!((middle - moved[t][i]).abs() <= unit * (moved[t][i].abs() + 0.2), "{kind:?} {t} {i}");
                    (middle - moved[t][i]) * moved[t][i].signum() / (moved[t][i].abs() + 1e-30)
                })
                .sum::<f64>()
                / moved[t].len() as f64;
            assert!(bias.abs() < 0.15 * unit, "{kind:?} tensor {t}: rounded towards zero? {:.3} units", bias / unit);
            // Both perturbed points are computed from θ′ as it was stored, not from the value before rounding: where
            // all three have the same exponent, both are equally far from θ′.
            let exponent = |x: f64| (x.abs().log2().floor(), x.signum());
            let even = |i: &usize| [plus[t][*i], minus[t][*i]].map(exponent) == [exponent(moved[t][*i]); 2];
            let of_16_bits = kind.0 == MAW_BFLOAT16 || kind.0 == MAW_FLOAT16;
            let uneven: Vec<_> = (0..moved[t].len())
                .filter(even)
                .filter(|i| of_16_bits && plus[t][*i] - moved[t][*i] != moved[t][*i] - minus[t][*i])
                .collect();
            assert!(uneven.is_empty(), "{kind:?} tensor {t}: {uneven:?}");
        }
    }
}

/// g = g′ but for a hundredth, and λ₁ nearly 0: ‖w‖² cancels.
#[test]
fn a_direction_whose_norm_cancels_has_the_right_radius() {
    for kind in [KINDS[0], KINDS[1], KINDS[2], KINDS[3]] {
        let (mut handle, mut params) = start(kind, &small_options());
        let sizes = handle.attention_sizes().expect("sizes");
        for (name, n) in &sizes {
            if name == "output_proj.weight" {
                handle.set_attention(name, &vec![0.0; *n]).expect("set");
            }
            if name == "output_proj.bias" {
                handle.set_attention(name, &[0.0, 0.0, -60.0, 0.0]).expect("set");
            }
        }
        let mut points = Vec::new();
        let result = handle
            .meta_update(&mut params, |r, p| {
                if r.batch == MAW_BATCH_TRAIN_2 {
                    points.push(p.iter().flat_map(Tensor::values).collect::<Vec<f64>>());
                }
                // The same gradient everywhere, but on B2 with 1 % of noise.
                let mut random = Random(17);
                let grads: Vec<_> = p
                    .iter()
                    .map(|p| {
                        Some(Tensor::new(
                            kind.1,
                            &p.values()
                                .iter()
                                .map(|_| {
                                    let g = random.next();
                                    let e = random.next();
                                    g + if r.batch == MAW_BATCH_TRAIN_2 { 0.01 * e } else { 0.0 }
                                })
                                .collect::<Vec<_>>(),
                        ))
                    })
                    .collect();
                Answer::gradient((1.0, grads))
            })
            .expect("a meta-update");
        assert_eq!(result.outcome, MAW_OUTCOME_UPDATED, "{kind:?}");
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let step: Vec<f64> = points[1].iter().zip(&points[2]).map(|(a, b)| 0.5 * (a - b)).collect();
        let s = match kind.0 {
            MAW_FLOAT64 => 6e-6,
            MAW_FLOAT32 => 3e-3,
            _ => 3e-2,
        };
        let expected = s * (1.0 + norm(&points[0]));
        assert!((norm(&step) / expected - 1.0).abs() < 0.05, "{kind:?}: {} instead of {expected}", norm(&step));
    }
}
