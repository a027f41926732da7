//! One model over several processes, each with a part of every tensor: the same bits as one process, and the same end of every
//! call on all of them. The processes are threads here; examples/mpi has real ones.

mod common;
#[path = "common/compile.rs"]
mod compile;

use std::cell::Cell;
use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::tensor::{Tensor, bits};
use compile::scratch;
use half::slice::HalfFloatSliceExt;
use metaadamw::checkpoint::{Contents, OnConflict};
use metaadamw::error::{Error, ReductionError, Status};
use metaadamw::ffi::{MAW_BFLOAT16, MAW_FLOAT16, MAW_FLOAT32, MAW_FLOAT64};
use metaadamw::meta::{Answer, Kind};
use metaadamw::model::dtype::{DType, Precision};
use metaadamw::model::groups::{Shard, TensorSpec};
use metaadamw::model::options::{
    Difference, FeatureVersion, Init, NonFinite, Objective, Options, ParamGroup, Semantics,
};
use metaadamw::reserve::watch::{self, Event};
use metaadamw::{Grads, Optimizer, Params, Slice, SliceMut, StepOptions, StepReport};

const CHUNK: usize = Shard::ALIGNMENT as usize;

/// Several dtypes and precisions; tensors of one chunk, of several, of one and a bit, and of nothing.
fn specs() -> Vec<(ParamGroup, Vec<TensorSpec>)> {
    let spec = |name, shape: &[u64], dtype| TensorSpec::new(name, shape, dtype).expect("a name");
    let plain = ParamGroup { weight_decay: 0.02, lr: 3e-3, ..ParamGroup::default() };
    let master = ParamGroup { precision: Precision::Master, moment_dtype: Some(DType::BF16), ..plain };
    let mut wide = spec("layers.2.attn.weight", &[3, 30_000], DType::BF16);
    wide.grad_dtype = DType::F32;
    vec![
        (
            plain,
            vec![
                spec("embedding.weight", &[5, 20_001], DType::F32),
                spec("layers.0.linear.weight", &[CHUNK as u64], DType::F32),
                spec("layers.0.linear.bias", &[7], DType::F32),
                spec("layers.1.linear.weight", &[CHUNK as u64 + 5], DType::F64),
                spec("nothing.weight", &[0, 3], DType::F32),
            ],
        ),
        (master, vec![wide, spec("layers.2.norm.weight", &[9], DType::F32)]),
        (
            ParamGroup { precision: Precision::Stochastic, ..plain },
            vec![spec("head.weight", &[2, CHUNK as u64], DType::BF16)],
        ),
        (
            ParamGroup { precision: Precision::Remainder, ..plain },
            vec![spec("head.bias", &[CHUNK as u64 + 1], DType::BF16)],
        ),
    ]
}

fn numel(spec: &TensorSpec) -> usize {
    spec.shape.iter().product::<u64>() as usize
}

fn number(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => MAW_FLOAT32,
        DType::F64 => MAW_FLOAT64,
        DType::BF16 => MAW_BFLOAT16,
        DType::F16 => MAW_FLOAT16,
    }
}

fn slice(tensor: &Tensor) -> Slice<'_> {
    match tensor {
        Tensor::F32(values) => Slice::F32(values),
        Tensor::F64(values) => Slice::F64(values),
        Tensor::BF16(values) => Slice::BF16(values.reinterpret_cast()),
        Tensor::F16(values) => Slice::F16(values.reinterpret_cast()),
    }
}

fn params(tensors: &mut [Tensor]) -> Params<'_> {
    Params::new(tensors.iter_mut().map(|tensor| match tensor {
        Tensor::F32(values) => SliceMut::F32(values),
        Tensor::F64(values) => SliceMut::F64(values),
        Tensor::BF16(values) => SliceMut::BF16(values.reinterpret_cast_mut()),
        Tensor::F16(values) => SliceMut::F16(values.reinterpret_cast_mut()),
    }))
}

/// Numbers in −1..1 that only the arguments decide.
fn noise(tensor: usize, element: usize, salt: u64) -> f64 {
    let mut x = (tensor as u64) << 40 ^ element as u64 ^ salt << 52;
    for _ in 0..2 {
        x = (x ^ x >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }
    (x >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// The host's all-reduce between threads, in whatever order they come. One that waits for a thread that has ended fails.
struct World {
    ranks: usize,
    state: Mutex<Reduction>,
    changed: Condvar,
}

#[derive(Default)]
struct Reduction {
    sum: Vec<f64>,
    /// How many brought their numbers, and took the sums.
    brought: usize,
    taken: usize,
    calls: u64,
}

impl World {
    fn new(ranks: usize) -> Arc<Self> {
        Arc::new(Self { ranks, state: Mutex::default(), changed: Condvar::new() })
    }

    fn calls(&self) -> u64 {
        self.state.lock().expect("no panic while it is locked").calls
    }

    fn all_reduce(&self, values: &mut [f64]) -> i32 {
        const PATIENCE: Duration = Duration::from_secs(60);
        let state = self.state.lock().expect("no panic while it is locked");
        let wait = |state, until: fn(&Reduction) -> bool| {
            let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| !until(state));
            let (state, timeout) = waited.expect("no panic while it is locked");
            if timeout.timed_out() { None } else { Some(state) }
        };
        // The sums of the call before have been taken by all.
        let Some(mut state) = wait(state, |state| state.taken == 0) else { return 1 };
        if state.brought == 0 {
            state.sum = vec![0.0; values.len()];
        }
        if state.sum.len() != values.len() {
            return 2;
        }
        state.sum.iter_mut().zip(&*values).for_each(|(sum, value)| *sum += value);
        state.brought += 1;
        if state.brought == self.ranks {
            state.calls += 1;
            state.taken = self.ranks;
            self.changed.notify_all();
        }
        let Some(mut state) = wait(state, |state| state.taken > 0) else { return 1 };
        values.copy_from_slice(&state.sum);
        state.taken -= 1;
        if state.taken == 0 {
            state.brought = 0;
            self.changed.notify_all();
        }
        0
    }
}

/// What a process has of each tensor, and its optimizer.
struct Process {
    optimizer: Optimizer,
    parts: Vec<Range<usize>>,
    params: Vec<Tensor>,
    grad_dtypes: Vec<i32>,
}

/// Which elements the processes have of a tensor: cut at chunks, another way for each.
fn cut(tensor: usize, numel: usize, ranks: usize) -> Vec<Range<usize>> {
    let chunks = numel.div_ceil(CHUNK);
    let mut borders: Vec<usize> = (1..ranks).map(|rank| (tensor * 7 + rank * 5 + 2) % (chunks + 1)).collect();
    borders.sort_unstable();
    borders.insert(0, 0);
    borders.push(chunks);
    borders.windows(2).map(|pair| (pair[0] * CHUNK).min(numel)..(pair[1] * CHUNK).min(numel)).collect()
}

impl Process {
    /// Registers; preparation is the caller's. `None`: alone.
    fn new(options: &Options, world: Option<(&Arc<World>, usize, usize)>) -> Self {
        let mut optimizer = Optimizer::new(options.clone()).expect("good options");
        let (mut parts, mut all, mut grad_dtypes) = (Vec::new(), Vec::new(), Vec::new());
        for (group, mut specs) in specs() {
            for spec in &mut specs {
                let (i, numel) = (parts.len(), numel(spec));
                let part = world.map_or(0..numel, |(_, rank, ranks)| cut(i, numel, ranks)[rank].clone());
                spec.shard = world.map(|_| Shard { offset: part.start as u64, numel: part.len() as u64 });
                let values: Vec<f64> = part.clone().map(|element| noise(i, element, 1)).collect();
                all.push(Tensor::new(number(spec.dtype), &values));
                grad_dtypes.push(number(spec.grad_dtype));
                parts.push(part);
            }
            optimizer.add_param_group(group, specs).expect("good tensors");
        }
        if let Some((world, ..)) = world {
            let world = Arc::clone(world);
            optimizer.set_reduction(Some(Arc::new(move |values| world.all_reduce(values)))).expect("not prepared");
        }
        Self { optimizer, parts, params: all, grad_dtypes }
    }

    /// Gradients at the parameters in the buffers: towards a target, with noise by `salt`. Every fifth salt a tensor has none.
    fn gradients(&self, salt: u64) -> Vec<Option<Tensor>> {
        let gradient = |i: usize| {
            let values = self.params[i].values();
            let towards =
                |(element, value): (usize, f64)| value - 0.3 * noise(i, element, 2) + 0.1 * noise(i, element, salt);
            let values: Vec<f64> = self.parts[i].clone().zip(values).map(towards).collect();
            // Subnormal and 0 where features count zeros.
            Tensor::new(self.grad_dtypes[i], &values)
        };
        (0..self.params.len()).map(|i| (i as u64 % 5 != salt % 5 || salt < 2).then(|| gradient(i))).collect()
    }

    fn step(&mut self, salt: u64, options: &StepOptions) -> Result<StepReport, Error> {
        let gradients = self.gradients(salt);
        self.step_with(&gradients, options)
    }

    fn step_with(&mut self, gradients: &[Option<Tensor>], options: &StepOptions) -> Result<StepReport, Error> {
        let grads = Grads::new(gradients.iter().map(|gradient| gradient.as_ref().map(slice)));
        self.optimizer.step(&params(&mut self.params), &grads, options)
    }

    /// Answers a whole meta-update.
    fn meta_update(&mut self) {
        let mut request = self.optimizer.meta_begin(&params(&mut self.params)).expect("it begins");
        while let Some(asked) = request {
            let salt = 40 + asked.batch as u64;
            let gradients = self.gradients(salt);
            let grads = Grads::new(gradients.iter().map(|gradient| gradient.as_ref().map(slice)));
            let answer = Answer { request_id: asked.id, loss: 1.0 + 0.25 * salt as f64, grad_scale: 2.0 };
            let grads = (asked.kind == Kind::Gradient).then_some(&grads);
            request = self.optimizer.meta_tell(&answer, &params(&mut self.params), grads).expect("it fits");
        }
    }

    /// Bits of what all processes have alike.
    fn common_bits(&self) -> Vec<u64> {
        let mut bits = vec![self.optimizer.steps()];
        if let Ok(Some(modulation)) = self.optimizer.modulation() {
            bits.extend(modulation.attention.values().iter().map(|value| value.to_bits()));
            let factors = self.optimizer.factors().expect("a step was made");
            for column in ["alpha", "beta", "lambda1", "lambda2"] {
                bits.extend(factors.named(column).expect("a factor").iter().map(|value| value.to_bits()));
            }
        }
        let result = self.optimizer.meta_result().expect("prepared");
        bits.extend([result.updates, result.loss_meta.to_bits(), result.outcome as u64]);
        bits
    }
}

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
                let gradient = metaadamw::Gradient::new(slice(gradient));
                process.optimizer.observe_gradient(i, &gradient).expect("it fits");
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

fn small() -> Options {
    Options { attn_layers: 1, attn_heads: 2, meta_interval: 4, threads: 1, meta_lr: 0.05, ..Options::default() }
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
    if let Some(i) = (0..a.reports.len()).find(|&i| a.reports[i] != b.reports[i]) {
        return format!("report of step {}: {:?} {:?}", i + 1, a.reports[i], b.reports[i]);
    }
    if let Some(i) = (0..a.common.len()).find(|&i| a.common[i] != b.common[i]) {
        return format!("state after step {}", i + 1);
    }
    let tensor = (0..a.params.len()).find(|&i| a.params[i] != b.params[i]);
    format!("parameters of tensor {tensor:?}")
}

// Preparation 2, steps 9; two meta-updates: begin 1, six answers, and their passes.
const PLAIN: u64 = 2 + 9 + 2 * (1 + 6 + 6);

#[test]
fn one_to_four_processes_make_the_same_bits() {
    same_bits_as_one_process(&small(), &[1, 2, 3, 4], PLAIN);
}

#[test]
fn the_same_bits_with_clipping_and_counted_zeros_and_threads() {
    let options = Options { feature_version: FeatureVersion::Enhanced, max_grad_norm: 0.7, threads: 3, ..small() };
    same_bits_as_one_process(&options, &[3], PLAIN);
}

#[test]
fn the_same_bits_in_the_authors_semantics() {
    let options = Options { semantics: Semantics::Reference, ..small() };
    // Each applied step has products of its own.
    same_bits_as_one_process(&options, &[2], PLAIN + 8);
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
    same_bits_as_one_process(&forward, &[2], PLAIN - 2 * 2);
    let first_order = Options { difference: Difference::FirstOrder, init: Init::Xavier, ..small() };
    same_bits_as_one_process(&first_order, &[2], 2 + 9 + 2 * (1 + 4 + 4));
    let gradient = Options { objective: Objective::Gradient, ..small() };
    same_bits_as_one_process(&gradient, &[2], 2 + 9 + 2 * (1 + 4 + 6));
    let gap = Options { objective: Objective::GenGap, ..small() };
    same_bits_as_one_process(&gap, &[2], 2 + 9 + 2 * (1 + 2 + 1));
}

#[test]
fn the_same_bits_without_modulation() {
    let options = Options { modulation: false, max_grad_norm: 0.5, ..small() };
    same_bits_as_one_process(&options, &[2, 4], 2 + 9);
}

/// What a callback does to the numbers of the call in which it fails, and its status.
type Failure = fn(&mut [f64]) -> i32;

const FAILURES: [Failure; 5] = [
    |_| 7,
    |values| {
        values.fill(f64::NAN);
        0
    },
    |values| {
        values.fill(0.0);
        0
    },
    |values| {
        values.iter_mut().for_each(|value| *value *= 2.0);
        0
    },
    |values| {
        // Only the sums, not the count of processes.
        if let Some(last) = values.iter_mut().rev().find(|value| **value != 0.0) {
            *last = f64::INFINITY;
        }
        0
    },
];

/// A process that is the whole world, whose `nth` call fails.
fn failing(options: &Options, nth: u64, failure: Failure) -> (Process, Arc<AtomicU64>) {
    let mut process = Process::new(options, Some((&World::new(1), 0, 1)));
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let callback = move |values: &mut [f64]| {
        if count.fetch_add(1, Ordering::Relaxed) + 1 == nth { failure(values) } else { 0 }
    };
    process.optimizer.set_reduction(Some(Arc::new(callback))).expect("not prepared");
    (process, calls)
}

/// Tries a second time if the reduction failed.
fn again<T>(failed: &mut u64, mut call: impl FnMut() -> Result<T, Error>) -> T {
    call().unwrap_or_else(|error| {
        assert_eq!(error.status(), Status::Reduction, "{error}");
        *failed += 1;
        call().expect("it fails once")
    })
}

#[test]
fn a_step_whose_reduction_fails_changes_nothing_and_can_be_made_again() {
    let options = Options { modulation: true, meta_interval: 100, ..small() };
    let straight = {
        let (mut process, _) = failing(&options, u64::MAX, FAILURES[0]);
        process.optimizer.prepare().expect("it prepares");
        for step in 1..=4 {
            process.step(step, &StepOptions::default()).expect("a step");
        }
        (process.common_bits(), process.params.iter().map(Tensor::bits).collect::<Vec<_>>())
    };
    for failure in FAILURES {
        for nth in 1..=6 {
            let (mut process, _) = failing(&options, nth, failure);
            let mut failed = 0;
            again(&mut failed, || process.optimizer.prepare());
            for step in 1..=4 {
                again(&mut failed, || process.step(step, &StepOptions::default()));
            }
            assert_eq!(failed, 1, "call {nth}");
            let state = (process.common_bits(), process.params.iter().map(Tensor::bits).collect::<Vec<_>>());
            assert!(state == straight, "call {nth}");
        }
    }
}

#[test]
fn a_meta_update_whose_reduction_fails_leaves_the_parameters_and_the_attention_module() {
    let options = Options { init: Init::Xavier, ..small() };
    for (failure, nth) in FAILURES.into_iter().flat_map(|failure| (5..=17).map(move |nth| (failure, nth))) {
        let (mut process, _) = failing(&options, nth, failure);
        process.optimizer.prepare().expect("it prepares");
        for step in 1..=2 {
            process.step(step, &StepOptions::default()).expect("a step");
        }
        let before = (process.common_bits(), process.params.iter().map(Tensor::bits).collect::<Vec<_>>());
        let phi = |process: &Process| {
            process.optimizer.modulation().expect("prepared").expect("on").attention.values().to_vec()
        };
        let phi_before = phi(&process);
        let (mut begun, mut failed) = (0, 0);
        let mut request = loop {
            begun += 1;
            match process.optimizer.meta_begin(&params(&mut process.params)) {
                Ok(request) => break request,
                Err(error) => assert_eq!((error.status(), begun), (Status::Reduction, 1), "{error}"),
            }
            assert!(before == (process.common_bits(), process.params.iter().map(Tensor::bits).collect()));
            failed += 1;
        };
        let mut ended = false;
        while let Some(asked) = request {
            let gradients = process.gradients(40 + asked.batch as u64);
            let grads = Grads::new(gradients.iter().map(|gradient| gradient.as_ref().map(slice)));
            let answer = Answer { request_id: asked.id, loss: 1.0, grad_scale: 1.0 };
            let grads = (asked.kind == Kind::Gradient).then_some(&grads);
            match process.optimizer.meta_tell(&answer, &params(&mut process.params), grads) {
                Ok(next) => request = next,
                Err(error) => {
                    assert_eq!(error.status(), Status::Reduction, "{error}");
                    failed += 1;
                    // Before its passes the request stays open; after them the meta-update has ended.
                    ended = process.optimizer.meta_abort(&params(&mut process.params)).is_err();
                    request = None;
                    assert!(phi(&process) == phi_before, "call {nth}");
                }
            }
        }
        assert_eq!(failed, 1, "call {nth}");
        assert!(before.1 == process.params.iter().map(Tensor::bits).collect::<Vec<_>>(), "call {nth}, ended: {ended}");
        process.step(3, &StepOptions::default()).expect("the run goes on");
    }
}

#[test]
fn learning_from_steps_says_that_the_step_was_made_if_only_its_products_are_missing() {
    let options = Options { meta_interval: 2, meta_warmup: 0, attn_heads: 2, threads: 1, ..Options::horizon() };
    for failure in FAILURES {
        let (mut process, _) = failing(&options, 4, failure);
        process.optimizer.prepare().expect("it prepares");
        let error = process.step(1, &StepOptions::default()).expect_err("its second call fails");
        assert!(matches!(error, Error::ReductionAfterStep(_)), "{error}");
        assert_eq!(process.optimizer.steps(), 1);
        process.step(2, &StepOptions::default()).expect("the run goes on");
    }
    let path = scratch("shards_products").join("run");
    let reference = Options { semantics: Semantics::Reference, ..small() };
    let (mut process, _) = failing(&reference, 4, FAILURES[1]);
    process.optimizer.prepare().expect("it prepares");
    let error = process.step(1, &StepOptions::default()).expect_err("its second call fails");
    assert!(matches!(error, Error::ReductionAfterStep(_)), "{error}");
    process.optimizer.save_file(&path, Contents::Run).expect("nothing that is not finite is left");
    process.optimizer.load_file(&path, Contents::Run, OnConflict::Strict).expect("it can be read");
}

/// The errors that two processes get, of which each does its own.
fn both<T: Send>(work: impl Fn(usize, &Arc<World>) -> T + Sync) -> [T; 2] {
    let world = World::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| work(1, &world));
        let own = work(0, &world);
        [own, other.join().expect("it ends")]
    })
}

fn differ(error: &Error) -> &'static str {
    match error {
        Error::Reduction(ReductionError::Differ(what)) => what,
        other => panic!("{other}"),
    }
}

#[test]
fn processes_that_are_not_alike_hear_at_preparation_what_differs() {
    let prepare = |change: &(dyn Fn(&mut Options, &mut Process) + Sync)| {
        both(|rank, world| {
            let mut options = small();
            let mut process = Process::new(&options, Some((world, rank, 2)));
            if rank == 1 {
                change(&mut options, &mut process);
            }
            process.optimizer.prepare().expect_err("they are not alike")
        })
    };
    let [own, other] = prepare(&|_, process| process.optimizer.set_lr(None, 0.5).expect("a rate"));
    assert!(differ(&own).starts_with("param groups") && differ(&other).starts_with("param groups"));
    let [own, other] = prepare(&|_, process| {
        let more = TensorSpec {
            shard: Some(Shard { offset: 0, numel: 0 }),
            ..TensorSpec::new("more", &[3], DType::F32).expect("a name")
        };
        process.optimizer.add_tensors(0, vec![more]).expect("a tensor");
    });
    assert!(differ(&own).contains("tensors") && differ(&other).contains("tensors"));
    let errors = both(|rank, world| {
        let options = Options { seed: rank as u64, ..small() };
        Process::new(&options, Some((world, rank, 2))).optimizer.prepare().expect_err("they are not alike")
    });
    assert!(errors.iter().all(|error| differ(error).starts_with("options")));
    // Threads are each process's own.
    both(|rank, world| {
        let options = Options { threads: 1 + rank, ..small() };
        Process::new(&options, Some((world, rank, 2))).optimizer.prepare().expect("they are alike");
    });
}

#[test]
fn elements_that_no_process_or_two_have_are_found_at_preparation() {
    let prepare = |ranks: [usize; 2]| {
        both(|rank, world| {
            Process::new(&small(), Some((world, ranks[rank], 2))).optimizer.prepare().expect_err("no partition")
        })
    };
    for error in prepare([0, 0]).into_iter().chain(prepare([1, 1])) {
        let Error::Reduction(ReductionError::Shards { name, got, .. }) = &error else { panic!("{error}") };
        assert!(specs().iter().flat_map(|(_, specs)| specs).any(|spec| spec.name.as_str() == name), "{error}");
        assert!(got == "2" || got == "0", "{error}");
    }
}

/// Two prepared processes that made a step.
fn prepared(rank: usize, world: &Arc<World>, options: &Options) -> Process {
    let mut process = Process::new(options, Some((world, rank, 2)));
    process.optimizer.prepare().expect("they are alike");
    process.step(1, &StepOptions::default()).expect("a step");
    process
}

#[test]
fn processes_that_go_apart_hear_it_in_the_next_call_and_can_go_on_together() {
    type Act = fn(&mut Process) -> Result<(), Error>;
    let step: Act = |process| process.step(2, &StepOptions::default()).map(drop);
    let acts: [(Act, &str); 5] = [
        (|process| process.step(2, &StepOptions { grad_scale: 2.0, ..StepOptions::default() }).map(drop), "the call"),
        (
            |process| process.step(2, &StepOptions { params_changed: true, ..StepOptions::default() }).map(drop),
            "the call",
        ),
        (|process| process.optimizer.meta_begin(&params(&mut process.params)).map(drop), "the call"),
        (
            |process| {
                process.optimizer.set_lr(None, 0.25).expect("a rate");
                let failed = process.step(2, &StepOptions::default()).map(drop);
                process.optimizer.set_lr(None, 3e-3).expect("a rate");
                failed
            },
            "param groups",
        ),
        (
            |process| {
                let phi = process.optimizer.modulation().expect("prepared").expect("on");
                let name = "output_proj.weight";
                let values = phi.attention.values()[phi.attention.range(name).expect("it exists")].to_vec();
                process.optimizer.set_attention(name, &vec![0.5; values.len()]).expect("finite");
                let failed = process.step(2, &StepOptions::default()).map(drop);
                process.optimizer.set_attention(name, &values).expect("finite");
                failed
            },
            "the state",
        ),
    ];
    for (act, what) in acts {
        let errors = both(|rank, world| {
            let mut process = prepared(rank, world, &small());
            let before: Vec<_> = process.params.iter().map(Tensor::bits).collect();
            let error = if rank == 1 { act(&mut process) } else { step(&mut process) }.expect_err("they differ");
            assert!(before == process.params.iter().map(Tensor::bits).collect::<Vec<_>>());
            step(&mut process).expect("they are alike again");
            error
        });
        assert!(errors.iter().all(|error| differ(error).starts_with(what)), "{what}: {errors:?}");
    }
}

#[test]
fn a_call_that_fails_on_one_process_fails_on_all_and_the_request_stays_open() {
    let errors = both(|rank, world| {
        let mut process = prepared(rank, world, &small());
        let mut errors = Vec::new();
        let bad = StepOptions { grad_scale: if rank == 1 { -1.0 } else { 1.0 }, ..StepOptions::default() };
        errors.push(process.step(2, &bad).expect_err("one is refused").status());
        // One gradient too few.
        let mut gradients = process.gradients(2);
        if rank == 1 {
            gradients.pop();
        }
        errors.push(process.step_with(&gradients, &StepOptions::default()).expect_err("one is refused").status());
        let mut begin = |count: usize| {
            let mut few: Vec<Tensor> = process.params[..count].to_vec();
            process.optimizer.meta_begin(&params(&mut few)).expect_err("one is refused").status()
        };
        errors.push(begin(if rank == 1 { 3 } else { 9 }));
        let request = process.optimizer.meta_begin(&params(&mut process.params)).expect("alike").expect("finite");
        let answer = Answer { request_id: request.id + rank as u64, loss: 1.0, grad_scale: 1.0 };
        let gradients = process.gradients(41);
        let grads = Grads::new(gradients.iter().map(|gradient| gradient.as_ref().map(slice)));
        let told = process.optimizer.meta_tell(&answer, &params(&mut process.params), Some(&grads));
        errors.push(told.expect_err("one is refused").status());
        let answer = Answer { request_id: request.id, ..answer };
        process.optimizer.meta_tell(&answer, &params(&mut process.params), Some(&grads)).expect("it is still open");
        errors
    });
    assert_eq!(errors[0], [Status::Reduction; 4]);
    assert_eq!(errors[1], [Status::InvalidArgument; 4]);
}

#[test]
fn a_gradient_that_only_some_processes_have_is_refused_and_one_that_owns_nothing_follows() {
    let errors = both(|rank, world| {
        let mut process = prepared(rank, world, &small());
        // Of tensor 0 both have something, in the step without salt 0; of tensor 2 only one has.
        let both_have = !process.parts[0].is_empty();
        assert!(both_have, "the cut gives both a part");
        let mut gradients = process.gradients(2);
        if rank == 1 {
            gradients[0] = None;
        }
        let error = process.step_with(&gradients, &StepOptions::default()).expect_err("one has none");
        let mut gradients = process.gradients(3);
        for (gradient, part) in gradients.iter_mut().zip(&process.parts) {
            if part.is_empty() {
                *gradient = None;
            }
        }
        let steps = |process: &mut Process| process.optimizer.tensor_step(2).expect("a tensor");
        let before = steps(&mut process);
        process.step_with(&gradients, &StepOptions::default()).expect("who has it has a gradient");
        assert_eq!(steps(&mut process), before + 1, "of a bias that one process has");
        error
    });
    for error in errors {
        let Error::Reduction(ReductionError::Gradient { name }) = error else { panic!("{error}") };
        assert_eq!(name, "embedding.weight");
    }
}

#[test]
fn a_skipped_step_under_the_error_policy_is_an_error_on_all() {
    let options = Options { nonfinite: NonFinite::Error, ..small() };
    let errors = both(|rank, world| {
        let mut process = prepared(rank, world, &options);
        let mut gradients = process.gradients(2);
        if let Some(gradient) = gradients[0].as_mut().filter(|gradient| rank == 0 && gradient.len() > 0) {
            gradient.set(0, f64::INFINITY);
        }
        let error = process.step_with(&gradients, &StepOptions::default()).expect_err("not finite");
        process.step(3, &StepOptions::default()).expect("the run goes on");
        error
    });
    assert_eq!(errors.map(|error| error.status()), [Status::NotFinite; 2]);
}

#[test]
fn what_cannot_be_done_with_shards_is_refused() {
    let spec = |offset, numel| TensorSpec {
        shard: Some(Shard { offset, numel }),
        ..TensorSpec::new("w", &[2, 50_000], DType::F32).expect("a name")
    };
    let add = |spec| Optimizer::new(small()).expect("good options").add_param_group(ParamGroup::default(), vec![spec]);
    for (offset, numel) in
        [(0, 100_000), (0, 0), (100_000, 0), (32_768, 32_768), (98_304, 1_696), (65_536, 34_464), (5, 0)]
    {
        add(spec(offset, numel)).expect("at the border of blocks");
    }
    for (offset, numel) in
        [(1, 32_767), (0, 32_767), (0, 99_999), (32_768, 67_233), (100_001, 0), (u64::MAX, 2), (98_304, u64::MAX)]
    {
        let error = add(spec(offset, numel)).expect_err("within a block, or beyond the tensor");
        assert_eq!(error.status(), Status::InvalidArgument, "{error}");
        assert!(error.to_string().contains("of tensor 'w'"), "{error}");
    }
    let whole = || -> Process { Process::new(&small(), Some((&World::new(1), 0, 1))) };
    let mut process = whole();
    process.optimizer.set_reduction(None).expect("not prepared");
    assert_eq!(process.optimizer.prepare().expect_err("shards alone").status(), Status::InvalidState);
    let mut alone = Process::new(&small(), None);
    alone.optimizer.set_reduction(Some(Arc::new(|_| 0))).expect("not prepared");
    let error = alone.optimizer.prepare().expect_err("no shards");
    assert!(error.to_string().contains("sharded of tensor 'embedding.weight'"), "{error}");
    let mut process = whole();
    let error = process.step(1, &StepOptions::default()).expect_err("not prepared");
    assert_eq!(error.status(), Status::InvalidState, "{error}");
    process.optimizer.prepare().expect("alone it has all");
    assert_eq!(process.optimizer.set_reduction(None).expect_err("prepared").status(), Status::InvalidState);
    let more = TensorSpec { name: metaadamw::Name::new("name", b"more").expect("a name"), ..spec(0, 0) };
    for error in [
        process.optimizer.add_tensors(0, vec![more]).expect_err("prepared"),
        process.optimizer.remove_tensor(0).expect_err("prepared"),
        process.optimizer.save_bytes(Contents::Run).map(drop).expect_err("shards"),
    ] {
        assert_eq!(error.status(), Status::Unsupported, "{error}");
    }
    let file = process.optimizer.save_bytes(Contents::Attention).expect("all processes have the same");
    process.optimizer.load_bytes(&file, Contents::Attention, OnConflict::Strict).expect("it is its own");
    let mut verifies = Process::new(&Options { verify_params: true, ..small() }, Some((&World::new(1), 0, 1)));
    let error = verifies.optimizer.prepare().expect_err("it cannot verify");
    assert!(error.to_string().contains("verify_params"), "{error}");
}

/// Steps from `from` on, with the meta-updates that are due.
fn steps(process: &mut Process, steps: Range<u64>) {
    for step in steps {
        process.step(step, &StepOptions::default()).expect("a step");
        if process.optimizer.meta_due() {
            process.meta_update();
        }
    }
}

/// The whole tensors that processes have parts of.
fn merged(processes: &[Process]) -> Vec<Vec<u64>> {
    let of = |tensor: usize| {
        let mut parts: Vec<_> = processes.iter().map(|p| (p.parts[tensor].clone(), p.params[tensor].bits())).collect();
        parts.sort_by_key(|(part, _)| (part.start, part.end));
        parts.into_iter().flat_map(|(_, bits)| bits).collect()
    };
    (0..processes[0].params.len()).map(of).collect()
}

/// So many processes that do the same.
fn all(ranks: usize, options: &Options, work: impl Fn(&mut Process, usize) + Sync) -> Vec<Process> {
    let world = World::new(ranks);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks)
            .map(|rank| {
                let (world, work) = (&world, &work);
                scope.spawn(move || {
                    let mut process = Process::new(options, Some((world, rank, ranks)));
                    process.optimizer.prepare().expect("they are alike");
                    work(&mut process, rank);
                    process
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    })
}

/// Parameters of a process that has part of what another had.
fn take_params(process: &mut Process, whole: &[Tensor]) {
    for ((own, part), whole) in process.params.iter_mut().zip(&process.parts).zip(whole) {
        *own = Tensor::new(whole.dtype(), &whole.values()[part.clone()]);
    }
}

#[test]
fn the_file_of_several_processes_is_that_of_one_and_any_number_goes_on_from_it() {
    let horizon = Options { meta_interval: 2, meta_warmup: 1, attn_heads: 2, threads: 1, ..Options::horizon() };
    let reference = Options { semantics: Semantics::Reference, feature_version: FeatureVersion::Enhanced, ..small() };
    for (name, options) in [("paper", small()), ("horizon", horizon), ("reference", reference)] {
        let folder = scratch(&format!("shards_{name}"));
        let mut alone = Process::new(&options, None);
        steps(&mut alone, 1..6);
        let file = alone.optimizer.save_bytes(Contents::Run).expect("saved");
        let (at_save, state_at_save) = (alone.params.clone(), alone.common_bits());
        steps(&mut alone, 6..9);
        for ranks in [1, 2, 3] {
            let path = folder.join(format!("{ranks}.safetensors"));
            fs::write(&path, "the file of before").expect("a file");
            let processes = all(ranks, &options, |process, _| {
                steps(process, 1..6);
                process.optimizer.save_file(&path, Contents::Run).expect("they save together");
                steps(process, 6..9);
            });
            assert!(fs::read(&path).expect("the file") == file, "{name}: the file of {ranks} processes");
            assert!(merged(&processes) == bits(&alone.params), "{name}: {ranks} processes go on");
        }
        assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 3, "no temporary file is left");
        let path = folder.join("2.safetensors");
        for ranks in [1, 3, 4] {
            let processes = all(ranks, &options, |process, _| {
                steps(process, 1..3); // what is loaded replaces
                process.optimizer.load_file(&path, Contents::Run, OnConflict::Strict).expect("it fits");
                take_params(process, &at_save);
                assert!(process.common_bits()[0] == state_at_save[0]);
                steps(process, 6..9);
            });
            assert!(merged(&processes) == bits(&alone.params), "{name}: {ranks} processes go on from the file of two");
            assert!(processes.iter().all(|process| process.common_bits() == alone.common_bits()), "{name}");
        }
    }
}

#[test]
fn a_save_that_fails_on_one_process_leaves_the_old_file_and_nothing_else() {
    let folder = scratch("shards_failing");
    let path = folder.join("run.safetensors");
    for failing_rank in [0, 1] {
        fs::write(&path, "the file of before").expect("a file");
        let statuses = both(|rank, world| {
            let mut process = prepared(rank, world, &small());
            let missing = folder.join("missing/run.safetensors");
            let path = if rank == failing_rank { &missing } else { &path };
            let status = process.optimizer.save_file(path, Contents::Run).expect_err("one cannot").status();
            process.step(2, &StepOptions::default()).expect("the run goes on");
            status
        });
        assert_eq!(statuses[failing_rank], Status::Io);
        assert_eq!(statuses[1 - failing_rank], Status::Reduction);
        assert_eq!(fs::read(&path).expect("the file"), b"the file of before");
        assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 1, "no temporary file is left");
    }
    // Preparation 2, a step, then four meetings of the save: at the last the file is the new one already.
    for (failure, nth) in FAILURES.into_iter().flat_map(|failure| (4..=7).map(move |nth| (failure, nth))) {
        fs::write(&path, "the file of before").expect("a file");
        let (mut process, calls) = failing(&small(), nth, failure);
        process.optimizer.prepare().expect("it prepares");
        process.step(1, &StepOptions::default()).expect("a step");
        let error = process.optimizer.save_file(&path, Contents::Run).expect_err("a meeting fails");
        assert_eq!(error.status(), Status::Reduction, "{error}");
        assert_eq!(calls.load(Ordering::Relaxed), nth);
        let found = fs::read(&path).expect("the file");
        assert!(nth == 7 || found == b"the file of before", "meeting {nth}");
        assert!(nth < 7 || found.len() > 1_000_000, "it was renamed before the last meeting");
        assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 1, "no temporary file is left");
        process.optimizer.save_file(&path, Contents::Run).expect("the next succeeds");
    }
}

#[test]
fn a_read_only_file_is_replaced_by_one() {
    let path = scratch("shards_read_only").join("run");
    fs::write(&path, "the file of before").expect("a file");
    let mut permissions = fs::metadata(&path).expect("the file").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).expect("its owner may");
    all(2, &small(), |process, _| process.optimizer.save_file(&path, Contents::Run).expect("they save together"));
    let file = fs::metadata(&path).expect("the file");
    assert!(file.len() > 1_000_000 && file.permissions().readonly());
}

#[test]
fn processes_load_the_same_file_or_none() {
    let folder = scratch("shards_loading");
    let (one, two) = (folder.join("one"), folder.join("two"));
    all(2, &small(), |process, _| {
        steps(process, 1..3);
        process.optimizer.save_file(&one, Contents::Run).expect("saved");
        steps(process, 3..4);
        process.optimizer.save_file(&two, Contents::Run).expect("saved");
    });
    let damaged = folder.join("damaged");
    let mut bytes = fs::read(&one).expect("the file");
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    fs::write(&damaged, bytes).expect("a file");
    for (other, status) in [(&two, Status::Reduction), (&damaged, Status::Corrupt), (&folder, Status::Io)] {
        for contents in [Contents::Run, Contents::Attention] {
            let statuses = both(|rank, world| {
                let mut process = prepared(rank, world, &small());
                let before = process.common_bits();
                let path = if rank == 0 { &one } else { other };
                let error = process.optimizer.load_file(path, contents, OnConflict::Strict).expect_err("they differ");
                assert!(process.common_bits() == before);
                process.step(2, &StepOptions::default()).expect("the run goes on");
                error.status()
            });
            assert_eq!(statuses, [Status::Reduction, status], "{}", other.display());
        }
    }
}

#[test]
fn parameters_that_the_files_remainders_do_not_belong_to_are_found_on_all_processes() {
    let path = scratch("shards_halves").join("run");
    let saved = all(2, &small(), |process, _| {
        steps(process, 1..3);
        process.optimizer.save_file(&path, Contents::Run).expect("saved");
    });
    let whole: Vec<Tensor> = {
        let mut alone = Process::new(&small(), None);
        steps(&mut alone, 1..3);
        alone.params
    };
    assert!(merged(&saved) == bits(&whole));
    let errors = both(|rank, world| {
        let mut process = Process::new(&small(), Some((world, rank, 2)));
        process.optimizer.prepare().expect("they are alike");
        process.optimizer.load_file(&path, Contents::Run, OnConflict::Strict).expect("it fits");
        take_params(&mut process, &whole);
        let good = process.params.clone();
        let head = process.params.len() - 1; // with remainders
        if let (1, true) = (rank, process.params[head].len() > 0) {
            process.params[head].set(0, 3.0);
        }
        let of_step = process.step(3, &StepOptions::default()).expect_err("another parameter");
        let of_meta = process.optimizer.meta_begin(&params(&mut process.params)).expect_err("another parameter");
        process.params = good;
        process.step(3, &StepOptions::default()).expect("now they are");
        [of_step.status(), of_meta.status()]
    });
    assert_eq!(errors, [[Status::ParamsChanged; 2]; 2]);
}

#[test]
fn a_file_after_setters_and_calls_that_failed_is_that_of_one_process() {
    let folder = scratch("shards_after_failures");
    let path = folder.join("run");
    // What a failing call, refused on one process before and on the other after its sums, leaves of those that are saved.
    let fail = |process: &mut Process, bad: bool| {
        let refused =
            StepOptions { grad_scale: if bad { -1.0 } else { 1.0 }, params_changed: true, ..StepOptions::default() };
        process.step(4, &refused).expect_err("one is refused");
        let mut few = process.params[..if bad { 3 } else { 9 }].to_vec();
        process.optimizer.meta_begin(&params(&mut few)).expect_err("one is refused");
    };
    for setter in [false, true] {
        let set = |process: &mut Process| {
            if setter {
                process.optimizer.reset(true, false).expect("prepared");
            }
        };
        let mut alone = Process::new(&small(), None);
        steps(&mut alone, 1..4);
        set(&mut alone);
        let file = alone.optimizer.save_bytes(Contents::Run).expect("saved");
        let processes = all(2, &small(), |process, rank| {
            steps(process, 1..4);
            set(process);
            fail(process, rank == 1);
            process.optimizer.save_file(&path, Contents::Run).expect("they are alike");
            let dump = process.optimizer.dump_state().expect("a dump");
            assert!(!dump.contains("\"exp_avg_sq\":"), "norms of a part, or of the step before");
        });
        assert!(fs::read(&path).expect("the file") == file, "setter: {setter}");
        assert!(merged(&processes) == bits(&alone.params));
    }
}

thread_local! {
    /// So many reserves from now on there is no memory, once.
    static REFUSED: Cell<u32> = const { Cell::new(u32::MAX) };
}

fn refuse(event: Event) -> bool {
    if !matches!(event, Event::Reserve(_)) {
        return true;
    }
    let left = REFUSED.get();
    REFUSED.set(if left == u32::MAX { left } else { left.wrapping_sub(1) });
    left != 0
}

#[test]
fn a_preparation_without_memory_makes_only_the_first_call_of_the_others() {
    watch::set(refuse);
    let mut failed = 0;
    for nth in 0.. {
        let mut process = Process::new(&small(), Some((&World::new(1), 0, 1)));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        let callback = move |values: &mut [f64]| {
            seen.lock().expect("no panic").push(values.len());
            0
        };
        process.optimizer.set_reduction(Some(Arc::new(callback))).expect("not prepared");
        REFUSED.set(nth);
        let prepared = process.optimizer.prepare();
        REFUSED.set(u32::MAX);
        let lengths = calls.lock().expect("no panic").clone();
        let Err(error) = prepared else { break };
        assert_eq!(error.status(), Status::OutOfMemory);
        assert_eq!(lengths.len(), 1, "reserve {nth}: as the others, which then hear that it refuses");
        failed += 1;
    }
    assert!(failed >= 3, "of {failed} reserves");
}
