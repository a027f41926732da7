//! One model over several processes, each with a part of every tensor: the same bits as one process. The processes are threads
//! here; examples/mpi has real ones.

mod common;

use std::ops::Range;

use common::device::is_cuda;
use common::processes::{CHUNK, Process, World, small};
use common::tensor::Tensor;
use metaadamw::model::dtype::DType;
use metaadamw::model::options::{Difference, FeatureVersion, Init, Objective, Options, Semantics};
use metaadamw::{StepOptions, StepReport};

/// What a run was: the parameters of all processes put together, and what they have alike after each step.
#[derive(PartialEq, Debug)]
struct Trace {
    params: Vec<Vec<u64>>,
    common: Vec<Vec<u64>>,
    reports: Vec<[u64; 4]>,
}

fn report_bits(report: &StepReport) -> [u64; 4] {
    let skipped = report.skipped.map_or(0, |reason| reason as u64 + 1);
    [report.step, report.grad_norm.to_bits(), report.clip_factor.to_bits(), skipped]
}

/// Some steps with a meta-update, announced gradients, a NaN of one process, and parameters that the host changes.
fn run(process: &mut Process) -> Trace {
    let mut trace = Trace { params: Vec::new(), common: Vec::new(), reports: Vec::new() };
    process.optimizer.prepare().expect("it prepares");
    for step in 1..=9 {
        let mut options = StepOptions { grad_scale: if step < 4 { 1.0 } else { 8.0 }, ..StepOptions::default() };
        if step == 6 {
            process.params[0] = process.params[0].scaled(0.5);
            process.params[5] = process.params[5].scaled(0.5);
            options.params_changed = true;
        }
        let mut gradients = process.gradients(step);
        if step == 5
            && let Some(element) = process.parts[7].clone().position(|element| element == CHUNK + 3)
        {
            gradients[7].as_mut().expect("step 5 has one").set(element, f64::NAN);
        }
        if step == 7 {
            for (i, gradient) in gradients.iter().enumerate().filter(|(i, _)| i % 2 == 0) {
                let Some(gradient) = gradient else { continue };
                process.observe(i, gradient);
            }
        }
        let report = process.step_with(&gradients, &options).expect("a step");
        assert_eq!(report.skipped.is_some(), step == 5, "step {step}: {report:?}");
        trace.reports.push(report_bits(&report));
        if process.optimizer.meta_due() {
            process.meta_update();
        }
        trace.common.push(process.common_bits());
    }
    trace.params = process.params.iter().map(Tensor::bits).collect();
    trace
}

/// The same by several threads as processes.
fn run_sharded(options: &Options, ranks: usize) -> (Trace, u64) {
    let world = World::new(ranks);
    let traces: Vec<(Vec<Range<usize>>, Trace)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks)
            .map(|rank| {
                let world = &world;
                scope.spawn(move || {
                    let mut process = Process::new(options, Some((world, rank, ranks)));
                    let trace = run(&mut process);
                    (process.parts, trace)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    });
    let mut whole =
        Trace { params: Vec::new(), common: traces[0].1.common.clone(), reports: traces[0].1.reports.clone() };
    for tensor in 0..traces[0].0.len() {
        let mut parts: Vec<_> =
            traces.iter().map(|(parts, trace)| (parts[tensor].start, &trace.params[tensor])).collect();
        parts.sort_by_key(|(start, part)| (*start, part.len()));
        whole.params.push(parts.into_iter().flat_map(|(_, part)| part.clone()).collect());
    }
    for (_, trace) in &traces {
        assert_eq!(trace.common, whole.common, "what the processes have alike");
        assert_eq!(trace.reports, whole.reports, "their reports");
    }
    (whole, world.calls())
}

/// The bits are those of one process, and each step is one call of the reduction. `calls`: of the whole run.
fn same_bits_as_one_process(options: &Options, ranks: &[usize], calls: u64) {
    let alone = run(&mut Process::new(options, None));
    for ranks in ranks {
        let (trace, made) = run_sharded(options, *ranks);
        assert!(
            trace == alone,
            "{ranks} processes are not one; first difference: {:?}",
            first_difference(&trace, &alone)
        );
        assert_eq!(made, calls, "calls of the reduction with {ranks} processes");
    }
}

fn first_difference(a: &Trace, b: &Trace) -> String {
    if let Some(i) = (0..a.common.len()).find(|&i| a.common[i] != b.common[i]) {
        let at = |(a, b): (&u64, &u64)| a != b;
        let place = a.common[i].iter().zip(&b.common[i]).position(at);
        return format!("state after step {}: number {place:?} of {}", i + 1, a.common[i].len());
    }
    if let Some(i) = (0..a.reports.len()).find(|&i| a.reports[i] != b.reports[i]) {
        return format!("report of step {}: {:?} {:?}", i + 1, a.reports[i], b.reports[i]);
    }
    let tensor = (0..a.params.len()).find(|&i| a.params[i] != b.params[i]);
    format!("parameters of tensor {tensor:?}")
}

// Preparation 2, steps 9; two meta-updates: begin 1, six answers, and their passes.
const PLAIN: u64 = 2 + 9 + 2 * (1 + 6 + 6);

/// More calls of CUDA, which makes two passes of what is one on the CPU.
fn on_cuda(calls: u64) -> u64 {
    if is_cuda() { calls } else { 0 }
}

#[test]
fn one_to_four_processes_make_the_same_bits() {
    same_bits_as_one_process(&small(), &[1, 2, 3, 4], PLAIN + on_cuda(4));
}

#[test]
fn the_same_bits_with_clipping_and_counted_zeros_and_threads() {
    let options = Options { feature_version: FeatureVersion::Enhanced, max_grad_norm: 0.7, threads: 3, ..small() };
    same_bits_as_one_process(&options, &[3], PLAIN + on_cuda(4));
}

#[test]
fn the_same_bits_in_the_authors_semantics() {
    let options = Options { semantics: Semantics::Reference, ..small() };
    // Each applied step has products of its own.
    same_bits_as_one_process(&options, &[2], PLAIN + 8 + on_cuda(4));
}

#[test]
fn the_same_bits_when_learning_from_steps() {
    let options = Options { meta_interval: 2, meta_warmup: 1, attn_heads: 2, threads: 1, ..Options::horizon() };
    same_bits_as_one_process(&options, &[2, 3], 2 + 9 + 8);
    let halves = Options { average_dtype: Some(DType::BF16), ..options };
    same_bits_as_one_process(&halves, &[2], 2 + 9 + 8);
}

#[test]
fn the_same_bits_with_other_objectives_and_differences() {
    let forward = Options { difference: Difference::Forward, ..small() };
    same_bits_as_one_process(&forward, &[2], PLAIN - 2 * 2 + on_cuda(2));
    let first_order = Options { difference: Difference::FirstOrder, init: Init::Xavier, ..small() };
    same_bits_as_one_process(&first_order, &[2], 2 + 9 + 2 * (1 + 4 + 4));
    let gradient = Options { objective: Objective::Gradient, ..small() };
    same_bits_as_one_process(&gradient, &[2], 2 + 9 + 2 * (1 + 4 + 6) + on_cuda(2));
    let gap = Options { objective: Objective::GenGap, ..small() };
    same_bits_as_one_process(&gap, &[2], 2 + 9 + 2 * (1 + 2 + 1));
}

#[test]
fn the_same_bits_without_modulation() {
    let options = Options { modulation: false, max_grad_norm: 0.5, ..small() };
    same_bits_as_one_process(&options, &[2, 4], 2 + 9);
}
