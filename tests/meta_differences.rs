//! The Hessian-vector product of a meta-update against the exact one of a large quadratic model, in float64.

mod common;

use common::calls::Answer;
use common::handle::{Handle, Spec, param_group};
use common::saved::State;
use common::tensor::Tensor;
use common::toy::{Random, small_options};
use metaadamw::ffi::*;

/// ∂L_grad/∂α of one tensor, as the library finds it and exactly: ⟨H w, ∂θ′/∂α⟩. A batch's loss is Σ c x + ½ Σ h x², c
/// about `offset` and h about `curvature`.
fn derivative(n: usize, offset: f64, curvature: f64, difference: i32) -> (f64, f64) {
    let o = maw_options {
        difference,
        objective: MAW_OBJECTIVE_GRADIENT,
        grouping: MAW_GROUPING_CUSTOM,
        init: MAW_INIT_IDENTITY,
        ..small_options()
    };
    let mut handle = Handle::new(&o).expect("options");
    let group = maw_param_group { lr: 3e-3, weight_decay: 0.1, ..param_group() };
    handle.add(&group, &[Spec::new("layers.0.mlp.weight", &[n as u64], MAW_FLOAT64).in_group("a")]).expect("added");
    handle.prepare().expect("prepared");
    let mut r = Random(5);
    let theta = r.values(n, 0.05);
    let mut params = vec![Tensor::new(MAW_FLOAT64, &theta)];
    let m: Vec<f64> = (0..n).map(|_| 1e-3 * (1.0 + r.next())).collect();
    let v: Vec<f64> = (0..n).map(|_| 1e-6 * (1.5 + r.next())).collect();
    handle
        .set_tensor_state(
            0,
            &State { exp_avg: Tensor::new(MAW_FLOAT64, &m), exp_avg_sq: Tensor::new(MAW_FLOAT64, &v), step: 10 },
        )
        .expect("state");
    let q: Vec<(Vec<f64>, Vec<f64>)> = (0..3)
        .map(|_| {
            let c = r.values(n, 1.0).iter().map(|x| offset * (1.0 + 0.3 * x)).collect();
            let h = r.values(n, 1.0).iter().map(|x| curvature * (1.5 + x)).collect();
            (c, h)
        })
        .collect();
    let mut seen: Vec<(i32, Vec<f64>, Vec<f64>)> = Vec::new();
    let result = handle
        .meta_update(&mut params, |req, params| {
            let x = params[0].values();
            let (c, h) = &q[req.batch as usize - 1];
            let g: Vec<f64> = x.iter().zip(c).zip(h).map(|((x, c), h)| c + h * x).collect();
            let l = x.iter().zip(c).zip(h).map(|((x, c), h)| c * x + 0.5 * h * x * x).sum::<f64>();
            seen.push((req.batch, x, g.clone()));
            Answer::gradient((l, vec![Some(Tensor::new(MAW_FLOAT64, &g))]))
        })
        .expect("meta");
    assert_eq!(result.outcome, MAW_OUTCOME_UPDATED);
    let f = handle.factors().expect("factors");
    let (l1, l2, beta) = (f.lambda1[0], f.lambda2[0], f.beta[0]);
    let (g, g2) = (&seen[0].2, &seen[1].2);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (n1, n2) = (dot(g, g).sqrt(), dot(g2, g2).sqrt());
    let cos = dot(g, g2) / (n1 * n2);
    let (eta, lambda) = (3e-3, 0.1);
    let pg = param_group();
    let (b1, b2, eps) = (pg.beta1, pg.beta2, pg.eps);
    let t = 11.0;
    // Kahan's sum.
    let (mut s, mut e) = (0.0_f64, 0.0_f64);
    for i in 0..n {
        let w = 2.0 * l1 * g2[i] - l2 * (g[i] / (n1 * n2) - cos * g2[i] / (n2 * n2));
        let mm = (b1 * m[i] + (1.0 - b1) * g[i]) / (1.0 - f64::powf(b1, t));
        let vv = (b2 * v[i] + (1.0 - b2) * g[i] * g[i]) / (1.0 - f64::powf(b2, t));
        let d = -eta * (mm / (vv.sqrt() + eps) + beta * lambda * theta[i]);
        let y = q[1].1[i] * w * d - e;
        let z = s + y;
        e = (z - s) - y;
        s = z;
    }
    (handle.meta_gradient("alpha", 1).expect("alpha")[0], s)
}

#[test]
fn differences_are_the_exact_product_even_where_the_sums_of_gradients_are_large() {
    let models = [(1000, 1.0, 1.0), (1000, 100.0, 1.0), (300_000, 100.0, 1.0), (300_000, 100.0, 0.01)];
    for (n, offset, curvature) in models {
        // The tolerances of the golden cases (common/tolerance.rs).
        for (difference, most) in [(MAW_DIFFERENCE_FORWARD, 1e-6), (MAW_DIFFERENCE_CENTRAL, 1e-5)] {
            let (found, exact) = derivative(n, offset, curvature, difference);
            let error = (found / exact - 1.0).abs();
            assert!(error < most, "{n} parameters, c {offset}, h {curvature}, difference {difference}: {error:.1e}");
        }
    }
}
