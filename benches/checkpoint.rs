//! Saving and loading beside a plain write and a plain read of the same bytes, in the same run.
//!
//! `cargo bench --bench checkpoint`: GPT-2's 124 M parameters with float32 moments, a file of 1 GB. Another number of
//! millions can be given: `cargo bench --bench checkpoint -- 10`, or METAADAMW_BENCH_SCALE=10. The file is written to
//! target/, or to the folder METAADAMW_BENCH_FOLDER.

mod common;

use metaadamw::checkpoint::{Contents, OnConflict};
use metaadamw::model::dtype::DType;
use metaadamw::{Grads, Optimizer, Options, ParamGroup, Params, Slice, SliceMut, StepOptions, TensorSpec};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::{extra_memory, median};

const ROUNDS: usize = 5;
const MIB: f64 = 1048576.0;

/// GPT-2's tensors, shrunk to about `millions` of parameters.
fn specs(millions: f64) -> Vec<TensorSpec> {
    let share = millions / 124.4;
    let width = ((768.0 * share.sqrt()) as u64).max(8);
    let vocabulary = ((50_257.0 * share.sqrt()) as u64).max(8);
    let mut shapes =
        vec![("wte.weight".to_owned(), vec![vocabulary, width]), ("wpe.weight".to_owned(), vec![1024, width])];
    for layer in 0..12 {
        for (name, shape) in [
            ("ln_1.weight", vec![width]),
            ("ln_1.bias", vec![width]),
            ("attn.c_attn.weight", vec![width, 3 * width]),
            ("attn.c_attn.bias", vec![3 * width]),
            ("attn.c_proj.weight", vec![width, width]),
            ("attn.c_proj.bias", vec![width]),
            ("ln_2.weight", vec![width]),
            ("ln_2.bias", vec![width]),
            ("mlp.c_fc.weight", vec![width, 4 * width]),
            ("mlp.c_fc.bias", vec![4 * width]),
            ("mlp.c_proj.weight", vec![4 * width, width]),
            ("mlp.c_proj.bias", vec![width]),
        ] {
            shapes.push((format!("h.{layer}.{name}"), shape));
        }
    }
    let spec = |(name, shape): (String, Vec<u64>)| TensorSpec::new(&name, &shape, DType::F32).expect("a name");
    shapes.into_iter().map(spec).collect()
}

fn optimizer(specs: &[TensorSpec]) -> Optimizer {
    let mut optimizer = Optimizer::new(Options::default()).expect("valid options");
    optimizer.add_param_group(ParamGroup::default(), specs.to_vec()).expect("valid tensors");
    optimizer.prepare().expect("enough memory");
    optimizer
}

/// One step, so that the moments are numbers and their memory is really there.
fn step(optimizer: &mut Optimizer, specs: &[TensorSpec]) {
    let length = |spec: &TensorSpec| spec.shape.iter().product::<u64>() as usize;
    let mut params: Vec<Vec<f32>> = specs.iter().map(|s| vec![0.1; length(s)]).collect();
    let grads: Vec<Vec<f32>> =
        specs.iter().map(|s| (0..length(s)).map(|i| ((i * 37) % 1009) as f32 * 1e-3 - 0.5).collect()).collect();
    let params = Params::new(params.iter_mut().map(|p| SliceMut::F32(p)));
    let grads = Grads::new(grads.iter().map(|g| Some(Slice::F32(g))));
    let report = optimizer.step(&params, &grads, &StepOptions::default()).expect("a step");
    assert!(report.skipped.is_none());
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn main() {
    let given = std::env::args().skip(1).find_map(|a| a.parse().ok());
    let scale = || std::env::var("METAADAMW_BENCH_SCALE").ok().and_then(|s| s.parse().ok());
    let specs = specs(given.or_else(scale).unwrap_or(124.4));
    let folder = std::env::var_os("METAADAMW_BENCH_FOLDER")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned(), PathBuf::from);
    let (ours, plain) = (folder.join("bench.safetensors"), folder.join("bench.plain"));

    let mut optimizer = optimizer(&specs);
    step(&mut optimizer, &specs);
    optimizer.save_file(&ours, Contents::Run).expect("saved");
    let mut bytes = fs::read(&ours).expect("it is there");
    let parameters: u64 = specs.iter().map(|s| s.shape.iter().product::<u64>()).sum();
    println!("{:.1} M parameters, float32; file of {:.1} MB", parameters as f64 / 1e6, bytes.len() as f64 / 1e6);

    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        // Each into a new file, with nothing of the other's left to be written.
        fs::remove_file(&ours).expect("ours");
        times[0].push(seconds(|| optimizer.save_file(&ours, Contents::Run).expect("saved")));
        let _ = fs::remove_file(&plain); // it may not be there
        times[1].push(seconds(|| {
            let mut file = File::create(&plain).expect("created");
            file.write_all(&bytes).expect("written");
            file.sync_all().expect("synced");
        }));
    }
    for _ in 0..ROUNDS {
        times[2].push(seconds(|| optimizer.load_file(&ours, Contents::Run, OnConflict::Strict).expect("loaded")));
        times[3].push(seconds(|| File::open(&ours).expect("opened").read_exact(&mut bytes).expect("read")));
    }
    let save_memory = extra_memory(|| optimizer.save_file(&ours, Contents::Run).expect("saved"));
    let load_memory = extra_memory(|| optimizer.load_file(&ours, Contents::Run, OnConflict::Strict).expect("loaded"));

    let [save, write, load, read] = times.map(|times| median(&times));
    println!("{:<28} {:>9} {:>9} {:>7} {:>7} {:>13}", "", "ours", "plain", "ratio", "target", "extra memory");
    let row = |what: &str, ours: f64, plain: f64, target: f64, memory: f64| {
        println!("{what:<28} {ours:>7.3} s {plain:>7.3} s {:>7.2} {target:>7.1} {memory:>9.1} MiB", ours / plain);
    };
    row("save | write, fsync", save, write, 1.3, save_memory / MIB);
    row("load | read, page cache warm", load, read, 2.2, load_memory / MIB);
    for path in [ours, plain] {
        fs::remove_file(path).expect("ours");
    }
}
