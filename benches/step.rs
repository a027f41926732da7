//! Parts of the step: what one pass over memory costs, with the copy loop of the same run beside it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use metaadamw::model::dtype::DType;
use metaadamw::{Grads, Optimizer, Options, ParamGroup, Params, Slice, SliceMut, StepOptions, TensorSpec};

/// Transformer-like tensors of about `total` elements.
fn shapes(total: usize) -> Vec<usize> {
    let tensors = 40;
    (0..tensors).map(|i| if i % 4 == 3 { 768 } else { total * 4 / (3 * tensors) }).collect()
}

fn step(c: &mut Criterion) {
    for (name, total) in [("83k", 83_000), ("3M", 3_000_000), ("30M", 30_000_000)] {
        let lengths = shapes(total);
        let elements: usize = lengths.iter().sum();
        let mut group = c.benchmark_group(format!("cpu/float32/{name}"));
        group.sample_size(20).throughput(Throughput::Bytes(36 * elements as u64));
        let mut params: Vec<Vec<f32>> = lengths.iter().map(|n| vec![0.1; *n]).collect();
        let grads: Vec<Vec<f32>> =
            lengths.iter().map(|n| (0..*n).map(|i| ((i * 37) % 101) as f32 * 1e-3 - 0.05).collect()).collect();
        for threads in [1, 2] {
            for modulation in [false, true] {
                let mut optimizer =
                    Optimizer::new(Options { threads, modulation, ..Options::default() }).expect("valid options");
                let specs = lengths.iter().enumerate().map(|(i, n)| {
                    let kind = ["attn.weight", "mlp.weight", "mlp.proj.weight", "norm.bias"][i % 4];
                    TensorSpec::new(&format!("layers.{}.{kind}", i / 4), &[*n as u64], DType::F32).expect("a name")
                });
                optimizer.add_param_group(ParamGroup::default(), specs.collect()).expect("valid tensors");
                let label = if modulation { "metaadamw" } else { "adamw" };
                group.bench_function(format!("{label}/{threads} threads"), |b| {
                    b.iter(|| {
                        let params = Params::new(params.iter_mut().map(|p| SliceMut::F32(p)));
                        let grads = Grads::new(grads.iter().map(|g| Some(Slice::F32(g))));
                        optimizer.step(&params, &grads, &StepOptions::default()).expect("a step")
                    });
                });
            }
        }
        let mut copy = vec![1.0_f32; elements * 4];
        group.throughput(Throughput::Bytes(32 * elements as u64));
        group.bench_function("a[i] = a[i]·c, 1 thread", |b| {
            b.iter(|| copy.iter_mut().for_each(|x| *x *= 1.000_001));
        });
        group.finish();
    }
}

criterion_group!(benches, step);
criterion_main!(benches);
