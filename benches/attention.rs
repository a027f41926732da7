//! The encoder at every SIMD level of this CPU: forward, and forward with backward.

#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use metaadamw::model::options::Init;
use metaadamw::modulation::attention::{Attention, OUTPUTS, Shape, Workspace};
use metaadamw::numeric::simd;
use ndarray::Array2;
use std::hint::black_box;

/// The largest that is promised to be quick, and one of everyday size.
const SHAPES: [(usize, usize, usize); 2] = [(24, 64, 128), (12, 16, 8)];

fn attention(criterion: &mut Criterion) {
    for (groups, hidden, layers) in SHAPES {
        let shape = Shape { groups, dim: 6, heads: 6, layers, hidden, embed_dim: 0, gates: false, log_vars: false };
        let attention = Attention::new(shape, Init::Xavier, 1, 0.0);
        let mut workspace = Workspace::new(&shape);
        let input = Array2::from_shape_fn((groups, 6), |(g, d)| f64::from((6 * g + d) as u32).sin());
        let mut raw = Array2::zeros((groups, OUTPUTS));
        let mut d_phi = vec![0.0; attention.values().len()];
        let mut d_input = Array2::zeros(input.dim());
        let mut group = criterion.benchmark_group(format!("attention {groups}x6, {layers} layers of {hidden}"));
        for level in simd::available() {
            simd::force(Some(level));
            group.bench_function(format!("forward {level:?}"), |bencher| {
                bencher.iter(|| attention.forward(black_box(&input).view(), &mut workspace, raw.view_mut()));
            });
            group.bench_function(format!("forward and backward {level:?}"), |bencher| {
                bencher.iter(|| {
                    attention.forward(black_box(&input).view(), &mut workspace, raw.view_mut());
                    attention.backward(raw.view(), &mut workspace, &mut d_phi, d_input.view_mut());
                });
            });
        }
        group.finish();
    }
    simd::force(None);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(2));
    targets = attention
}
criterion_main!(benches);
