//! Shards on CUDA: the sum over the processes is enqueued and captured with the step, and what goes wrong in it is told where
//! the host next waits. With METAADAMW_TEST_DEVICE=cuda on the driver that the loader finds, else on the emulator.
#![cfg(target_os = "linux")]

mod common;

use common::cuda::{Graph, OnDevice, Stream, alone, enqueue_copy, read};
use common::device::Buffer;
use common::handle::{Failure, Handle, Outcome, Spec, param_group, step_options, step_report};
use common::processes::{World, on_host};
use common::tensor::{Tensor, bits};
use common::toy::{Snapshot, Toy, horizon_options, small_options, snapshot};
use metaadamw::Summands;
use metaadamw::ffi::*;
use std::cell::RefCell;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

/// Where the reduction's buffer says that a process refuses the call.
const REFUSES: u64 = 1;

fn cuda() -> maw_options {
    maw_options { device: MAW_CUDA, meta_interval: 5, ..small_options() }
}

fn float64s(values: &[f64]) -> Buffer {
    Buffer::of(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
        .expect("there is device memory")
}

fn float32(value: f32) -> Buffer {
    Buffer::of(&value.to_le_bytes()).expect("there is device memory")
}

fn address(buffer: &Buffer) -> u64 {
    buffer.pointer().addr() as u64
}

/// A process that is alone: what it brings is the sum. Each call enqueues a copy of the buffer, and one of a number into it,
/// if that is wanted.
struct Enqueues {
    calls: u64,
    count: usize,
    seen: Buffer,
    refuses: Option<Buffer>,
    status: i32,
}

impl Enqueues {
    const ROOM: usize = 1000;

    fn call(&mut self, stream: &Stream, values: u64, count: usize) -> i32 {
        (self.calls, self.count) = (self.calls + 1, count.min(Self::ROOM));
        let status = enqueue_copy(stream, address(&self.seen), values, size_of::<f64>() * self.count);
        let refused = self
            .refuses
            .as_ref()
            .map_or(0, |refuses| enqueue_copy(stream, values + 8 * REFUSES, address(refuses), size_of::<f64>()));
        status | refused | self.status
    }
}

/// A handle with shards that are the whole tensors, or with tensors that are none.
struct Run {
    toy: Toy,
    handle: Handle,
    stream: Rc<Stream>,
    params: OnDevice,
    grads: OnDevice,
    enqueues: Rc<RefCell<Enqueues>>,
}

impl Run {
    fn new(options: &maw_options, sharded: bool) -> Self {
        let toy = Toy::small();
        let mut handle = Handle::new(options).expect("good options");
        let whole = |spec: &Spec| match sharded {
            true => spec.clone().with_shard(0, spec.len() as u64),
            false => spec.clone(),
        };
        let specs: Vec<_> = toy.specs.iter().map(whole).collect();
        handle.add(&maw_param_group { lr: 0.02, weight_decay: 0.1, ..param_group() }, &specs).expect("good tensors");
        let stream = Rc::new(Stream::new());
        handle.set_stream(stream.0).expect("a stream");
        let seen = float64s(&[0.0; Enqueues::ROOM]);
        let enqueues = Rc::new(RefCell::new(Enqueues { calls: 0, count: 0, seen, refuses: None, status: 0 }));
        if sharded {
            let (stream, enqueues) = (Rc::clone(&stream), Rc::clone(&enqueues));
            let sum = move |values, count| enqueues.borrow_mut().call(&stream, values, count);
            handle.set_reduction(sum).expect("not prepared");
        }
        handle.prepare().expect("it has all of each tensor");
        let (params, grads) = (OnDevice::new(&toy.start), OnDevice::new(&gradients(&toy, 0, &toy.start)));
        Self { toy, handle, stream, params, grads, enqueues }
    }

    fn launch(&mut self) {
        self.handle.launch(&self.params, &self.grads, &step_options()).expect("enqueued");
    }

    fn captured(&mut self) -> (Graph, Outcome<()>) {
        let Self { handle, params, grads, stream, .. } = self;
        stream.captured(|| handle.launch(params, grads, &step_options()))
    }

    fn calls(&self) -> u64 {
        self.enqueues.borrow().calls
    }

    /// The buffer of the newest call that ran.
    fn summed(&self) -> Vec<f64> {
        self.stream.wait();
        let enqueues = self.enqueues.borrow();
        let mut values = vec![0.0; enqueues.count];
        read(address(&enqueues.seen), &mut values);
        values
    }

    /// From now on each call says whether another process refuses: first not.
    fn refuse(&self, refuses: bool) {
        self.stream.wait();
        let refuses = float64s(&[f64::from(u8::from(refuses))]);
        let old = &mut self.enqueues.borrow_mut().refuses;
        match old {
            None => *old = Some(refuses),
            Some(old) => {
                let mut bytes = [0; 8];
                refuses.download(&mut bytes).expect("it has as many");
                old.upload(&bytes).expect("it has room");
            }
        }
    }

    fn params_now(&mut self) -> Vec<Tensor> {
        self.stream.wait();
        self.params.get()
    }

    fn seen(&mut self) -> Snapshot {
        let params = self.params_now();
        snapshot(&self.handle, &params)
    }

    fn feed(&mut self, step: usize) {
        let params = self.params_now();
        self.grads.set(&gradients(&self.toy, step, &params));
    }

    fn meta_update_if_due(&mut self) {
        if self.handle.meta_due() == 1 {
            let mut params = self.params.get();
            self.toy.meta_update(&mut self.handle, &mut params).expect("a meta-update");
        }
    }
}

fn gradients(toy: &Toy, step: usize, params: &[Tensor]) -> Vec<Tensor> {
    let zero = |(g, p): (Option<Tensor>, &Tensor)| g.unwrap_or_else(|| Tensor::new(p.dtype(), &vec![0.0; p.len()]));
    toy.gradients(step, params).into_iter().zip(params).map(zero).collect()
}

#[test]
fn a_captured_step_has_the_sum_over_the_processes() {
    let _alone = alone();
    let unchecked = maw_options { modulation: 0, nonfinite: MAW_NONFINITE_PROPAGATE, ..cuda() };
    for options in [cuda(), maw_options { max_grad_norm: 0.3, ..cuda() }, unchecked] {
        let (mut whole, mut run) = (Run::new(&options, false), Run::new(&options, true));
        let seen = |run: &mut Run| match options.modulation {
            0 => (bits(&run.params_now()), None),
            _ => (Vec::new(), Some(run.seen())),
        };
        whole.launch();
        run.launch();
        let before = run.calls();
        let (graph, captured) = run.captured();
        captured.expect("a step that was made before can be captured");
        assert_eq!(run.calls(), before + 1, "one call a step");
        let mut buffers = vec![run.summed()];
        for step in 1..9 {
            whole.feed(step);
            run.feed(step);
            whole.launch();
            let calls = run.calls();
            graph.replay(&run.stream);
            assert_eq!(run.calls(), calls, "replays call nobody");
            buffers.push(run.summed());
            whole.meta_update_if_due();
            run.meta_update_if_due();
            assert_eq!(seen(&mut run), seen(&mut whole), "step {step}");
        }
        assert_eq!(run.handle.steps(), Ok(9));
        assert!(buffers.windows(2).all(|pair| pair[0] != pair[1]), "each step brings its own numbers");
    }
}

#[test]
fn a_step_that_another_process_refuses_is_made_nowhere_and_told_once() {
    let _alone = alone();
    let mut run = Run::new(&cuda(), true);
    run.refuse(false);
    run.launch();
    let (graph, captured) = run.captured();
    captured.expect("a step that was made before can be captured");
    graph.replay(&run.stream);
    let good = run.seen();
    assert_eq!(run.handle.steps(), Ok(2));
    run.refuse(true);
    graph.replay(&run.stream);
    graph.replay(&run.stream);
    assert_eq!(run.handle.fetch(MAW_FETCH_WAIT).expect_err("it is told").status, MAW_REDUCTION);
    let report = run.handle.fetch(MAW_FETCH_WAIT).expect("told once");
    assert_eq!((report.step, report.skipped_steps), (2, 0), "it does not count");
    assert_eq!(run.seen(), good, "nothing has changed");
    run.refuse(false);
    graph.replay(&run.stream);
    assert_eq!(run.handle.steps(), Ok(3));
    run.refuse(true);
    run.launch();
    assert_eq!(run.handle.steps().expect_err("told by what reads the state").status, MAW_REDUCTION);
    assert_eq!(run.handle.steps(), Ok(3));
    run.launch();
    let Failure { status, message } = run.handle.fetch(MAW_FETCH_WAIT).expect_err("told by a report");
    assert_eq!(status, MAW_REDUCTION);
    assert!(message.contains("another process"), "{message}");
}

#[test]
fn a_callback_that_fails_makes_the_call_fail_and_no_step() {
    let _alone = alone();
    let mut run = Run::new(&cuda(), true);
    run.launch();
    let seen = run.seen();
    run.enqueues.borrow_mut().status = 9;
    let failed = run.handle.launch(&run.params, &run.grads, &step_options()).expect_err("it failed");
    assert_eq!(failed.status, MAW_REDUCTION);
    assert!(failed.message.contains('9'), "{}", failed.message);
    let mut params = run.params.get();
    assert_eq!(run.toy.meta_update(&mut run.handle, &mut params).expect_err("it failed").status, MAW_REDUCTION);
    run.enqueues.borrow_mut().status = 0;
    assert_eq!((run.handle.steps(), run.seen()), (Ok(1), seen));
    run.launch();
    assert_eq!(run.handle.steps(), Ok(2));
}

#[test]
fn steps_that_the_host_decides_on_cannot_be_captured_nor_scaled_on_the_device() {
    let _alone = alone();
    let horizon = maw_options { device: MAW_CUDA, ..horizon_options() };
    let scale = float32(2.0);
    for options in [horizon, maw_options { semantics: MAW_REFERENCE, ..cuda() }] {
        let mut run = Run::new(&options, true);
        run.launch();
        let (_graph, captured) = run.captured();
        assert_eq!(captured.expect_err("it waits").status, MAW_INVALID_STATE);
        for scaled in [
            maw_step_options { device_grad_scale: scale.pointer().cast(), ..step_options() },
            maw_step_options { found_inf: scale.pointer().cast(), ..step_options() },
        ] {
            let refused = run.handle.launch(&run.params, &run.grads, &scaled).expect_err("the host cannot read it");
            assert_eq!(refused.status, MAW_INVALID_ARGUMENT, "{}", refused.message);
        }
        run.launch();
        assert_eq!(run.handle.steps(), Ok(2));
    }
}

/// What two processes that each have some of the tensors do.
fn two<T: Send>(options: &maw_options, work: impl Fn(&mut Handle, usize, &OnDevice, &OnDevice) -> T + Sync) -> [T; 2] {
    two_with(&World::new(2), options, |_| (), work)
}

/// The same. `after`: what a process does after each sum.
fn two_with<T: Send>(
    world: &Arc<World>,
    options: &maw_options,
    after: fn(usize),
    work: impl Fn(&mut Handle, usize, &OnDevice, &OnDevice) -> T + Sync,
) -> [T; 2] {
    two_open(world, options, after, |handle, rank, params, grads| {
        handle.prepare().expect("they are alike");
        work(handle, rank, params, grads)
    })
}

/// The same before preparation.
fn two_open<T: Send>(
    world: &Arc<World>,
    options: &maw_options,
    after: fn(usize),
    work: impl Fn(&mut Handle, usize, &OnDevice, &OnDevice) -> T + Sync,
) -> [T; 2] {
    let one = |rank: usize| {
        let toy = Toy::small();
        let mut handle = Handle::new(options).expect("good options");
        let has = |tensor: usize| tensor % 2 == rank;
        let part = |(i, spec): (usize, &common::handle::Spec)| {
            spec.clone().with_shard(0, if has(i) { spec.len() as u64 } else { 0 })
        };
        let specs: Vec<_> = toy.specs.iter().enumerate().map(part).collect();
        handle.add(&maw_param_group { lr: 0.02, ..param_group() }, &specs).expect("good tensors");
        let meets = Arc::clone(world);
        let sum = move |address, len| {
            let status = on_host(Summands::Device { address, len }, |values| meets.all_reduce(values));
            after(rank);
            status
        };
        handle.set_reduction(sum).expect("not prepared");
        let own = |tensors: Vec<Tensor>| -> Vec<Tensor> {
            let none = |(i, t): (usize, Tensor)| if has(i) { t } else { Tensor::new(t.dtype(), &[]) };
            tensors.into_iter().enumerate().map(none).collect()
        };
        let grads = OnDevice::new(&own(gradients(&toy, 0, &toy.start)));
        let params = OnDevice::new(&own(toy.start.clone()));
        work(&mut handle, rank, &params, &grads)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| one(1));
        let own = one(0);
        [own, other.join().expect("it ends")]
    })
}

#[test]
fn what_one_process_found_skips_the_step_on_all() {
    let _alone = alone();
    let plain = maw_options { modulation: 0, ..cuda() };
    for options in [cuda(), plain, maw_options { nonfinite: MAW_NONFINITE_PROPAGATE, ..plain }] {
        for finder in 0..2 {
            let seen = two(&options, |handle, rank, params, grads| {
                let (found, scale) = (float32(0.0), float32(4.0));
                let step = maw_step_options {
                    found_inf: found.pointer().cast(),
                    device_grad_scale: scale.pointer().cast(),
                    ..step_options()
                };
                handle.launch(params, grads, &step).expect("enqueued");
                let good = handle.fetch(MAW_FETCH_WAIT).expect("a report");
                found.upload(&f32::from(u8::from(rank == finder)).to_le_bytes()).expect("uploaded");
                handle.launch(params, grads, &step).expect("enqueued");
                let skipped = handle.fetch(MAW_FETCH_WAIT).expect("a report");
                found.upload(&0.0_f32.to_le_bytes()).expect("uploaded");
                // A scale of another process's own.
                scale.upload(&(4.0 + rank as f32).to_le_bytes()).expect("uploaded");
                handle.launch(params, grads, &step).expect("enqueued");
                let differs = handle.fetch(MAW_FETCH_WAIT).expect_err("they differ");
                ([good.step, good.skipped_steps, skipped.step, skipped.skipped_steps], skipped.skipped, differs)
            });
            for (counts, skipped, differs) in &seen {
                assert_eq!((*counts, *skipped), ([1, 0, 1, 1], MAW_SKIP_GRADIENT as u32));
                assert_eq!(differs.status, MAW_REDUCTION);
            }
            assert_eq!(seen[0], seen[1]);
        }
    }
}

#[test]
fn processes_that_differ_hear_of_it_where_they_wait_and_go_on() {
    let _alone = alone();
    let seen = two(&cuda(), |handle, rank, params, grads| {
        handle.launch(params, grads, &step_options()).expect("enqueued");
        handle.set_lr(MAW_ALL_GROUPS, 1e-3 * (1 + rank) as f64).expect("a learning rate");
        handle.launch(params, grads, &step_options()).expect("enqueued, and not waited for");
        handle.launch(params, grads, &step_options()).expect("enqueued, and not waited for");
        let differs = handle.fetch(MAW_FETCH_WAIT).expect_err("they differ");
        handle.set_lr(MAW_ALL_GROUPS, 1e-3).expect("a learning rate");
        handle.launch(params, grads, &step_options()).expect("enqueued");
        (differs, handle.steps())
    });
    assert_eq!(seen[0], seen[1]);
    let (Failure { status, message }, steps) = &seen[0];
    assert_eq!((*status, steps), (MAW_REDUCTION, &Ok(2)));
    assert!(message.contains("hyper-parameters"), "{message}");
}

#[test]
fn a_step_that_tells_of_an_earlier_one_is_made_on_no_process() {
    let _alone = alone();
    let seen = two(&cuda(), |handle, rank, params, grads| {
        handle.launch(params, grads, &step_options()).expect("enqueued");
        handle.set_lr(MAW_ALL_GROUPS, 1e-3 * (1 + rank) as f64).expect("a learning rate");
        handle.launch(params, grads, &step_options()).expect("enqueued, and not waited for");
        handle.set_lr(MAW_ALL_GROUPS, 1e-3).expect("a learning rate");
        let mut report = step_report();
        // Only the first wants one.
        let pointer = if rank == 0 { &raw mut report } else { ptr::null_mut() };
        let stepped = handle.launch_at(&params.pointers(), &grads.pointers(), &step_options(), pointer);
        let told = if rank == 0 { stepped } else { handle.fetch(MAW_FETCH_WAIT).map(drop) };
        handle.launch(params, grads, &step_options()).expect("enqueued");
        (told.expect_err("not all steps were made").status, handle.steps())
    });
    assert_eq!(seen, [(MAW_REDUCTION, Ok(2)), (MAW_REDUCTION, Ok(2))]);
}

/// Steps of which the last cannot be made, and is not waited for: what another process refuses.
fn with_a_failure() -> Run {
    let mut run = Run::new(&cuda(), true);
    run.refuse(false);
    for _ in 0..4 {
        run.launch();
    }
    assert_eq!(run.handle.steps(), Ok(4));
    run.refuse(true);
    run.launch();
    run.refuse(false);
    run
}

#[test]
fn every_call_that_waits_tells_of_a_failure_once_and_does_nothing_else() {
    type Act = fn(&mut Run, &std::path::Path) -> Outcome<()>;
    let acts: [(&str, Act); 13] = [
        ("steps", |run, _| run.handle.steps().map(drop)),
        ("counters", |run, _| run.handle.counters().map(drop)),
        ("set_counters", |run, _| {
            let counters = maw_counters {
                struct_size: size_of::<maw_counters>(),
                step: 4,
                meta_updates: 0,
                meta_done_at: MAW_NO_STEP,
                skipped_gradient: 0,
                skipped_parameter: 0,
                skipped_moment: 0,
                skipped_feature: 0,
                skipped_factor: 0,
            };
            run.handle.set_counters(&counters)
        }),
        ("features", |run, _| run.handle.features().map(drop)),
        ("factors", |run, _| run.handle.factors().map(drop)),
        ("fetch", |run, _| run.handle.fetch(0).map(drop)),
        ("fetch, waiting", |run, _| run.handle.fetch(MAW_FETCH_WAIT).map(drop)),
        ("dump", |run, _| run.handle.dump().map(drop)),
        ("tensor_state", |run, _| run.handle.tensor_state(0, &run.toy.specs[0].clone()).map(drop)),
        ("save_file", |run, folder| run.handle.save_file(&folder.join("run"), 0)),
        ("save_bytes", |run, _| run.handle.save_bytes(MAW_ATTENTION_ONLY).map(drop)),
        ("begin", |run, _| {
            let mut params = run.params.get();
            run.handle.begin(&mut params)?;
            run.handle.abort(&mut params)
        }),
        ("reset", |run, _| run.handle.reset(MAW_RESET_ATTENTION)),
    ];
    let folder = std::env::temp_dir().join(format!("maw_told_once_{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let _alone = alone();
    for (name, act) in acts {
        let mut run = with_a_failure();
        run.stream.wait();
        assert_eq!(act(&mut run, &folder).expect_err(name).status, MAW_REDUCTION, "{name}");
        act(&mut run, &folder).unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        assert_eq!(run.handle.steps(), Ok(4), "{name}");
    }
    let mut run = with_a_failure();
    let log = run.handle.logged().expect("a log");
    run.grads.set(&run.toy.start.iter().map(|t| Tensor::new(t.dtype(), &vec![f64::NAN; t.len()])).collect::<Vec<_>>());
    run.launch();
    assert!(run.handle.steps().is_err());
    assert_eq!(run.handle.steps(), Ok(4));
    assert!(log.lock().expect("no panic").iter().any(|(_, text)| text.contains("skipped")), "a skipped step is logged");
    std::fs::remove_dir_all(&folder).expect("it is there");
}

#[test]
fn whether_a_meta_update_is_due_does_not_swallow_a_failure() {
    let _alone = alone();
    let run = with_a_failure();
    assert_eq!(run.handle.meta_due(), 0);
    assert_eq!(run.handle.steps().expect_err("meta_due cannot tell").status, MAW_REDUCTION);
    assert_eq!(run.handle.steps(), Ok(4));
    let mut run = with_a_failure();
    assert_eq!(run.handle.meta_due(), 0);
    assert_eq!(run.handle.fetch(MAW_FETCH_WAIT).expect_err("meta_due cannot tell").status, MAW_REDUCTION);
}

#[test]
fn what_was_enqueued_before_the_stream_was_left_is_counted_and_told() {
    let _alone = alone();
    for sharded in [false, true] {
        let mut run = Run::new(&cuda(), sharded);
        run.launch();
        let other = Stream::new();
        run.handle.set_stream(other.0).expect("a stream");
        assert_eq!(run.handle.steps(), Ok(1));
        run.handle.set_stream(run.stream.0).expect("a stream");
    }
    let mut run = with_a_failure();
    let other = Stream::new();
    run.handle.set_stream(other.0).expect("a stream");
    run.handle.set_stream(run.stream.0).expect("a stream");
    assert_eq!(run.handle.steps().expect_err("it waits").status, MAW_REDUCTION);
    let mut run = with_a_failure();
    run.handle.set_stream(other.0).expect("a stream");
    run.handle.set_stream(run.stream.0).expect("a stream");
    let mut report = step_report();
    let stepped = run.handle.launch_at(&run.params.pointers(), &run.grads.pointers(), &step_options(), &raw mut report);
    assert_eq!(stepped.expect_err("it tells of the one before").status, MAW_REDUCTION);
    assert_eq!(run.handle.steps(), Ok(4), "a step that is an error was not made");
}

#[test]
fn a_step_with_changed_parameters_that_fails_leaves_no_trace() {
    let _alone = alone();
    let mut run = Run::new(&cuda(), true);
    run.launch();
    run.launch();
    let changed = maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() };
    let params = run.params_now();
    run.params.set(&params.iter().map(|t| t.scaled(3.0)).collect::<Vec<_>>());
    run.enqueues.borrow_mut().status = 9;
    run.handle.launch(&run.params, &run.grads, &changed).expect_err("it failed");
    run.enqueues.borrow_mut().status = 0;
    run.stream.wait();
    run.params.set(&params); // the host takes it back
    run.launch();
    assert!(run.seen() == after_three_steps());
}

/// Without anything that fails.
fn after_three_steps() -> Snapshot {
    let mut straight = Run::new(&cuda(), true);
    (0..3).for_each(|_| straight.launch());
    straight.seen()
}

#[test]
fn a_meta_update_that_cannot_begin_leaves_no_trace() {
    let _alone = alone();
    let mut run = Run::new(&cuda(), true);
    run.launch();
    run.launch();
    let mut others: Vec<Tensor> = run.params.get().iter().map(|t| t.scaled(3.0)).collect();
    run.enqueues.borrow_mut().status = 9;
    let failed = run.handle.begin(&mut others).expect_err("it failed");
    assert_eq!(failed.status, MAW_REDUCTION);
    run.enqueues.borrow_mut().status = 0;
    run.launch();
    assert!(run.seen() == after_three_steps());
}

#[test]
fn a_report_is_never_of_a_step_that_was_not_made() {
    let _alone = alone();
    let mut run = Run::new(&cuda(), true);
    run.refuse(false);
    run.launch();
    let good = run.handle.fetch(MAW_FETCH_WAIT).expect("a report");
    run.refuse(true);
    let nan: Vec<Tensor> = run.grads.get().iter().map(|t| Tensor::new(t.dtype(), &vec![f64::NAN; t.len()])).collect();
    run.grads.set(&nan);
    run.launch();
    assert_eq!(run.handle.fetch(MAW_FETCH_WAIT).expect_err("told").status, MAW_REDUCTION);
    let now = run.handle.fetch(MAW_FETCH_WAIT).expect("a report");
    assert_eq!((now.step, now.skipped_steps, now.skipped), (good.step, good.skipped_steps, 0));
    assert_eq!(now.grad_norm.to_bits(), good.grad_norm.to_bits());
    let mut run = Run::new(&cuda(), true);
    run.refuse(true);
    run.launch();
    assert_eq!(run.handle.fetch(MAW_FETCH_WAIT).expect_err("told").status, MAW_REDUCTION);
    assert_eq!(run.handle.fetch(MAW_FETCH_WAIT).expect_err("there is no such step").status, MAW_INVALID_STATE);
}

#[test]
fn scales_that_differ_are_named() {
    let _alone = alone();
    let seen = two(&cuda(), |handle, rank, params, grads| {
        let scale = float32(4.0 + rank as f32);
        let step = maw_step_options { device_grad_scale: scale.pointer().cast(), ..step_options() };
        handle.launch(params, grads, &step).expect("enqueued");
        handle.fetch(MAW_FETCH_WAIT).expect_err("they differ").message
    });
    assert!(seen[0].contains("grad_scale"), "{}", seen[0]);
}

mod emulator_only {
    use super::*;
    use common::calls::Answer;
    use common::cuda::fail;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::thread::sleep;
    use std::time::Duration;

    /// Sums until a driver's call fails on the first process; below 0: never.
    static LEFT: AtomicI64 = AtomicI64::new(-1);
    /// Which launch that is, from then on.
    static NTH: AtomicI64 = AtomicI64::new(1);

    fn fails_after(sums: i64, nth: i64) {
        NTH.store(nth, Ordering::SeqCst);
        LEFT.store(sums, Ordering::SeqCst);
    }

    /// A kernel cannot be launched, by the first process: the other one waits for that.
    fn after(rank: usize) {
        if rank == 1 {
            return sleep(Duration::from_millis(300));
        }
        sleep(Duration::from_millis(100)); // the other one has read its sums
        if LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            fail("cuLaunchKernel", NTH.load(Ordering::SeqCst), 701);
        }
    }

    /// The first process's own error, and what the other hears: not that nobody came.
    fn heard(told: &[Outcome<()>; 2]) {
        let [own, other] = told.each_ref().map(|told| told.as_ref().expect_err("one failed"));
        assert_eq!(own.status, MAW_CUDA_ERROR, "{}", own.message);
        assert_eq!(other.status, MAW_REDUCTION, "{}", other.message);
        assert!(other.message.contains("another process"), "{}", other.message);
    }

    #[test]
    fn others_hear_of_a_handle_that_cannot_go_on() {
        let _alone = alone();
        let told = two_with(&World::with_patience(2, 5), &cuda(), after, |handle, rank, params, grads| {
            handle.launch(params, grads, &step_options()).expect("enqueued");
            if rank == 0 {
                fails_after(1, 2); // of maw_decide and maw_update
            }
            let first = handle.launch(params, grads, &step_options());
            assert_eq!(first.is_err(), rank == 0);
            handle.launch(params, grads, &step_options()).and_then(|()| handle.fetch(MAW_FETCH_WAIT).map(drop))
        });
        heard(&told);
    }

    #[test]
    fn others_hear_of_a_pass_that_fails_before_they_meet() {
        let _alone = alone();
        let reference = maw_options { semantics: MAW_REFERENCE, ..cuda() };
        for options in [maw_options { nonfinite: MAW_NONFINITE_ERROR, ..cuda() }, reference] {
            let told = two_with(
                &World::with_patience(2, 5),
                &options,
                |_| (),
                |handle, rank, params, grads| {
                    handle.launch(params, grads, &step_options()).expect("made");
                    sleep(Duration::from_millis(300));
                    match rank {
                        0 => fail("cuLaunchKernel", 1, 701),
                        _ => sleep(Duration::from_millis(300)),
                    }
                    handle.launch(params, grads, &step_options())
                },
            );
            heard(&told);
        }
    }

    /// As `after`, of copies from the device.
    fn after_copy(rank: usize) {
        if rank == 1 {
            return sleep(Duration::from_millis(300));
        }
        sleep(Duration::from_millis(100));
        if LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            fail("cuMemcpyDtoHAsync_v2", 1, 999);
        }
    }

    #[test]
    fn others_hear_of_a_preparation_that_fails_between_its_two_sums() {
        let _alone = alone();
        fails_after(1, 1);
        let told = two_open(&World::with_patience(2, 5), &cuda(), after_copy, |handle, _, params, grads| {
            let failed = handle.prepare();
            handle.prepare().expect("it fails once");
            handle.launch(params, grads, &step_options()).expect("enqueued");
            assert_eq!(handle.steps(), Ok(1));
            failed
        });
        heard(&told);
    }

    #[test]
    fn others_hear_of_a_meta_update_s_pass_that_fails() {
        let _alone = alone();
        let told = two_with(&World::with_patience(2, 5), &cuda(), after, |handle, rank, params, grads| {
            handle.launch(params, grads, &step_options()).expect("made");
            let toy = Toy::small();
            let none = |(i, t): (usize, Tensor)| if i % 2 == rank { t } else { Tensor::new(t.dtype(), &[]) };
            let mut own: Vec<Tensor> = toy.start.clone().into_iter().enumerate().map(none).collect();
            let request = handle.begin(&mut own)?;
            let grads = gradients(&toy, 0, &toy.start).into_iter().enumerate().map(none).map(Some).collect();
            if rank == 0 {
                fails_after(1, 3); // behind maw_totals twice
            }
            handle.tell(request.id, &Answer::gradient((1.0, grads)), &mut own).map(drop)
        });
        heard(&told);
    }

    #[test]
    fn others_hear_of_a_pass_that_fails_after_they_met() {
        let _alone = alone();
        let reference = maw_options { semantics: MAW_REFERENCE, ..cuda() };
        let told = two_with(&World::with_patience(2, 5), &reference, after, |handle, rank, params, grads| {
            handle.launch(params, grads, &step_options()).expect("made");
            if rank == 0 {
                fails_after(1, 3); // of maw_totals twice, and maw_update
            }
            handle.launch(params, grads, &step_options())
        });
        heard(&told);
    }
}

#[test]
fn rates_that_differ_are_found_in_replays() {
    let _alone = alone();
    let mut run = Run::new(&cuda(), true);
    run.launch();
    let (graph, captured) = run.captured();
    captured.expect("a step that was made before can be captured");
    graph.replay(&run.stream);
    let before = run.summed();
    run.handle.set_lr(MAW_ALL_GROUPS, 0.5).expect("a rate");
    graph.replay(&run.stream);
    let after = run.summed();
    // Of hashes: the first word of the header's third subject, over 4 words a subject.
    assert!(before[12..16] != after[12..16], "the rate is among what the processes compare");
}
