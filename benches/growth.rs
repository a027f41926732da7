//! How the step's cost grows: with parameters, tensors, groups and encoder layers, as Markdown tables.
//!
//! `cargo bench --bench growth` (part of `make bench`). A size whose buffers do not fit into the memory that is available
//! is named and skipped. METAADAMW_BENCH_LARGEST: no more parameters than these.

mod common;

use common::{Model, even, median, name, optimizer, specs, system};
use metaadamw::model::dtype::DType;
use metaadamw::model::options::Grouping;
use metaadamw::{Options, ParamGroup, TensorSpec};
use std::time::Instant;

const THREADS: usize = 2;
/// Float32 parameter, gradient and two moments, and a tenth for everything else.
const STEP_BYTES: f64 = 1.1 * 16.0;
/// What a meta-update takes beyond that.
const META_BYTES: f64 = 16.0;

fn base() -> Options {
    Options { threads: THREADS, ..Options::default() }
}

/// Medians in milliseconds: of the step, for about two seconds but at least five times after two that don't count; and
/// of three meta-updates, if wanted.
fn measure(sizes: &common::Sizes, options: Options, specs: Vec<TensorSpec>, meta: bool) -> (f64, Option<f64>) {
    let mut model = Model::new(sizes, DType::F32);
    let mut optimizer = optimizer(options, ParamGroup::default(), specs);
    model.steps(&mut optimizer, 2);
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || (start.elapsed().as_secs_f64() < 2.0 && times.len() < 1000) {
        times.push(model.step(&mut optimizer));
    }
    let meta = meta.then(|| median(&[(); 3].map(|()| model.meta_update(&mut optimizer))));
    (median(&times), meta)
}

fn available() -> f64 {
    system("/proc/meminfo", "MemAvailable")
}

fn count(n: usize) -> String {
    match n {
        1_000_000_000.. => format!("{} G", n / 1_000_000_000),
        1_000_000.. => format!("{} M", n / 1_000_000),
        1_000.. => format!("{} k", n / 1_000),
        _ => n.to_string(),
    }
}

fn parameters() {
    println!(
        "\n| parameters | step, ms | ns a parameter | meta-update, ms | in steps |\n| ---: | ---: | ---: | ---: | ---: |"
    );
    let largest = std::env::var("METAADAMW_BENCH_LARGEST").ok().and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    for exponent in 3..=9 {
        let total = 10_usize.pow(exponent);
        let (needed, there) = (STEP_BYTES * total as f64, available());
        if total > largest {
            println!("| {} | skipped: METAADAMW_BENCH_LARGEST | | | |", count(total));
            continue;
        }
        if needed > there {
            let (needed, there) = (needed * 1e-9, there * 1e-9);
            println!("| {} | skipped: {needed:.1} GB needed, {there:.1} GB available | | | |", count(total));
            continue;
        }
        let meta = needed + META_BYTES * (total as f64) < there;
        let sizes = even(total, 40);
        let (step, meta) = measure(&sizes, base(), specs(&sizes, DType::F32), meta);
        let rate = step * 1e6 / total as f64;
        let meta = meta.map_or("no memory | –".to_owned(), |meta| format!("{meta:.3} | {:.1}", meta / step));
        println!("| {} | {step:.3} | {rate:.2} | {meta} |", count(total));
    }
}

fn tensors() {
    println!("\n| tensors, 10 M parameters in all | step, ms |\n| ---: | ---: |");
    for tensors in [1, 10, 100, 1_000, 10_000] {
        let sizes = even(10_000_000, tensors);
        let (step, _) = measure(&sizes, base(), specs(&sizes, DType::F32), false);
        println!("| {tensors} | {step:.3} |");
    }
}

/// 1,000 tensors of 16 parameters in so many groups of the host's own.
fn groups() {
    println!("\n| groups, 1,000 tensors of 16 parameters | step, ms |\n| ---: | ---: |");
    let sizes = even(16_000, 1_000);
    for groups in [1, 10, 24, 100, 300, 1_000] {
        let mut specs = specs(&sizes, DType::F32);
        for (i, spec) in specs.iter_mut().enumerate() {
            spec.modulation_group = Some(name(&format!("group.{}", i % groups)));
        }
        let (step, _) = measure(&sizes, Options { grouping: Grouping::Custom, ..base() }, specs, false);
        println!("| {groups} | {step:.3} |");
    }
}

/// 24 groups of one tensor each.
fn layers() {
    println!("\n| encoder layers of width 64, 24 groups | step, ms |\n| ---: | ---: |");
    let sizes = even(24 * 16, 24);
    for layers in [1, 2, 4, 8, 16, 32, 64, 128] {
        let mut specs = specs(&sizes, DType::F32);
        for (i, spec) in specs.iter_mut().enumerate() {
            spec.modulation_group = Some(name(&format!("group.{i}")));
        }
        let options = Options { grouping: Grouping::Custom, attn_layers: layers, attn_hidden_dim: 64, ..base() };
        println!("| {layers} | {:.3} |", measure(&sizes, options, specs, false).0);
    }
}

fn main() {
    println!("Medians, {THREADS} threads, float32, 40 tensors where nothing else is said.");
    parameters();
    tensors();
    groups();
    layers();
}
