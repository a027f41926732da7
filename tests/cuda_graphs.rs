//! Steps in CUDA graphs: captured once and replayed, with what changes in between, and what cannot be captured. With
//! METAADAMW_TEST_DEVICE=cuda on the driver that the loader finds, else on the emulator.
#![cfg(target_os = "linux")]

mod common;

use common::cuda::{Graph, OnDevice, Stream, alone, count};
use common::handle::{Failure, Handle, Spec, step_options, step_report};
use common::tensor::Tensor;
use common::toy::{Snapshot, Toy, small_options, snapshot};
use metaadamw::ffi::*;
use std::ptr;

fn cuda() -> maw_options {
    maw_options { device: MAW_CUDA, meta_interval: 5, ..small_options() }
}

/// A handle on a stream of its own, with parameters and gradients that stay where they are.
struct Run {
    toy: Toy,
    handle: Handle,
    stream: Stream,
    params: OnDevice,
    grads: OnDevice,
}

fn gradients(toy: &Toy, step: usize, params: &[Tensor]) -> Vec<Tensor> {
    let zero = |(g, p): (Option<Tensor>, &Tensor)| g.unwrap_or_else(|| Tensor::new(p.dtype(), &vec![0.0; p.len()]));
    toy.gradients(step, params).into_iter().zip(params).map(zero).collect()
}

impl Run {
    fn new(options: &maw_options) -> Self {
        let toy = Toy::small();
        let (mut handle, stream) = (toy.handle(options), Stream::new());
        handle.set_stream(stream.0).expect("a stream");
        let (params, grads) = (OnDevice::new(&toy.start), OnDevice::new(&gradients(&toy, 0, &toy.start)));
        Self { toy, handle, stream, params, grads }
    }

    fn step(&mut self) {
        self.handle.launch(&self.params, &self.grads, &step_options()).expect("a step");
    }

    fn seen(&mut self) -> Snapshot {
        self.stream.wait();
        let params = self.params.get();
        snapshot(&self.handle, &params)
    }

    /// New gradients in the same place.
    fn feed(&mut self, step: usize) {
        self.stream.wait();
        let params = self.params.get();
        self.grads.set(&gradients(&self.toy, step, &params));
    }
}

/// Makes `steps` steps, the first by itself and the others by `next`, with what `between` does before each.
fn trained(
    options: &maw_options,
    steps: usize,
    replayed: bool,
    mut between: impl FnMut(&mut Run, usize),
) -> (Vec<Snapshot>, Run) {
    let mut run = Run::new(options);
    run.step();
    let graph = replayed.then(|| {
        let Run { handle, stream, params, grads, .. } = &mut run;
        let (graph, captured) = stream.captured(|| handle.launch(params, grads, &step_options()));
        captured.expect("a step that was made before can be captured");
        graph
    });
    let mut seen = Vec::new();
    for step in 1..steps {
        between(&mut run, step);
        match &graph {
            Some(graph) => graph.replay(&run.stream),
            None => run.step(),
        }
        if step % 100 == 0 || step + 1 == steps || steps < 20 {
            seen.push(run.seen());
        }
    }
    (seen, run)
}

fn replays_equal_steps(options: &maw_options, steps: usize, between: impl Fn(&mut Run, usize)) {
    let (expected, _) = trained(options, steps, false, &between);
    let (got, run) = trained(options, steps, true, &between);
    assert_eq!(run.handle.steps(), Ok(steps as u64));
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert_eq!(got, expected, "snapshot {i}");
    }
    assert!(expected.windows(2).all(|pair| pair[0].params != pair[1].params), "the parameters move");
}

#[test]
fn a_thousand_replays_with_a_changing_learning_rate_equal_a_thousand_steps() {
    let _alone = alone();
    replays_equal_steps(&cuda(), 1001, |run, step| {
        run.handle.set_lr(MAW_ALL_GROUPS, 1e-3 / (1.0 + step as f64)).expect("a learning rate");
    });
}

#[test]
fn what_setters_change_and_new_gradients_take_effect_in_replays() {
    let _alone = alone();
    for semantics in [MAW_PAPER, MAW_REFERENCE] {
        let options = maw_options { semantics, max_grad_norm: 0.3, ..cuda() };
        replays_equal_steps(&options, 9, |run, step| {
            run.feed(step);
            run.handle.set_weight_decay(0, 0.01 * step as f64).expect("a weight decay");
            run.handle.set_priorities([1.0, step as f64, 2.0]).expect("priorities");
            run.handle.set_attention("output_proj.bias", &[0.1 * step as f64; 4]).expect("Φ");
        });
    }
}

#[test]
fn a_meta_update_a_load_and_a_reset_between_replays_take_effect() {
    let _alone = alone();
    replays_equal_steps(&cuda(), 12, |run, step| {
        if run.handle.meta_due() == 1 {
            let mut params = run.params.get();
            let result = run.toy.meta_update(&mut run.handle, &mut params).expect("a meta-update");
            assert_eq!((result.outcome, result.step, step), (MAW_OUTCOME_UPDATED, step as u64, step));
        }
        assert_eq!(run.handle.meta_due(), 0);
        if step == 7 {
            let saved = run.handle.save_bytes(0).expect("saved");
            run.handle.reset(MAW_RESET_MOMENTS | MAW_RESET_ATTENTION).expect("a reset");
            run.handle.load_bytes(&saved, 0).expect("loaded");
        }
    });
}

#[test]
fn steps_with_other_pointers_do_not_disturb_a_captured_one() {
    let _alone = alone();
    let run = |replayed: bool| {
        let (_, mut run) = trained(&cuda(), 2, replayed, |_, _| ());
        let Run { handle, stream, params, grads, toy } = &mut run;
        let graph = replayed.then(|| stream.captured(|| handle.launch(params, grads, &step_options())).0);
        let mut others = OnDevice::new(&toy.start);
        let go_on = |handle: &mut Handle| match &graph {
            Some(graph) => graph.replay(stream),
            None => handle.launch(params, grads, &step_options()).expect("a step"),
        };
        for _ in 0..3 {
            let changed = maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() };
            let fresh = OnDevice::new(&toy.start);
            handle.launch(&others, &fresh, &changed).expect("a step elsewhere");
            stream.wait();
            handle.launch(params, grads, &changed).expect("a step at home");
            go_on(handle);
            stream.wait();
        }
        (snapshot(handle, &params.get()), others.get()[0].bits())
    };
    assert_eq!(run(true), run(false));
}

fn refused(outcome: Result<(), Failure>, what: &str) {
    let failure = outcome.expect_err(what);
    assert_eq!(failure.status, MAW_INVALID_STATE, "{what}: {failure:?}");
    assert!(failure.message.contains("being captured into a CUDA graph"), "{what}: {failure:?}");
}

#[test]
fn what_cannot_be_captured_is_refused_and_leaves_the_capture_alone() {
    let _alone = alone();
    let mut run = Run::new(&cuda());
    let others = OnDevice::new(&run.toy.start);
    let Run { toy, handle, stream, params, grads, .. } = &mut run;
    let (_graph, ()) = stream.captured(|| refused(handle.launch(params, grads, &step_options()), "the first step"));
    handle.launch(params, grads, &step_options()).expect("the first step");
    let saved = handle.save_bytes(0).expect("saved");
    let before = snapshot(handle, &params.get());

    let (graph, ()) = stream.captured(|| {
        refused(handle.launch(params, &others, &step_options()), "other pointers");
        let mut report = step_report();
        let (p, g) = (params.pointers(), grads.pointers());
        refused(handle.launch_at(&p, &g, &step_options(), &raw mut report), "a report");
        refused(handle.fetch(MAW_FETCH_WAIT).map(drop), "waiting for a report");
        refused(handle.steps().map(drop), "a getter");
        refused(handle.set_lr(0, 0.5), "a setter");
        refused(handle.set_attention("output_proj.bias", &[0.0; 4]), "setting Φ");
        refused(handle.save_bytes(0).map(drop), "saving");
        refused(handle.load_bytes(&saved, 0), "loading");
        refused(handle.reset(MAW_RESET_MOMENTS), "resetting");
        refused(handle.dump().map(drop), "the dump");
        handle.launch(params, grads, &step_options()).expect("a step that was made before");
        refused(handle.set_stream(ptr::null_mut()), "leaving the stream");
    });
    stream.wait();
    assert_eq!(snapshot(handle, &params.get()), before, "captured is not made");
    assert_eq!(handle.lr(0), Ok(0.02), "a refused setter changes nothing");
    graph.replay(stream);
    stream.wait();
    let mut expected = Run::new(&cuda());
    expected.step();
    expected.step();
    assert_eq!(snapshot(handle, &params.get()), expected.seen());

    let mut unprepared = Handle::new(&cuda()).expect("good options");
    unprepared.add(&common::handle::param_group(), &toy.specs).expect("good tensors");
    unprepared.set_stream(stream.0).expect("a stream");
    let (_graph, ()) = stream.captured(|| refused(unprepared.prepare(), "preparing"));
    unprepared.prepare().expect("outside of a capture it works");
}

#[test]
fn a_host_that_decides_cannot_be_captured() {
    let _alone = alone();
    let mut run = Run::new(&maw_options { nonfinite: MAW_NONFINITE_ERROR, ..cuda() });
    run.step();
    let Run { handle, stream, params, grads, .. } = &mut run;
    let (_graph, ()) = stream.captured(|| refused(handle.launch(params, grads, &step_options()), "a step that waits"));
    handle.launch(params, grads, &step_options()).expect("outside of a capture it works");
    assert_eq!(handle.steps(), Ok(2));
}

/// Without modulation, as options that steer may be.
fn plain(nonfinite: i32, max_grad_norm: f64) -> maw_options {
    maw_options { modulation: 0, nonfinite, max_grad_norm, ..cuda() }
}

/// A checkpoint of a run with these options.
fn file(options: &maw_options) -> Vec<u8> {
    let mut run = Run::new(options);
    run.step();
    run.handle.save_bytes(0).expect("saved")
}

/// A run after its first step, and that step captured.
fn captured(options: &maw_options) -> (Run, Graph) {
    let mut run = Run::new(options);
    run.step();
    let Run { handle, stream, params, grads, .. } = &mut run;
    let (graph, captured) = stream.captured(|| handle.launch(params, grads, &step_options()));
    captured.expect("a step that was made before");
    (run, graph)
}

#[test]
fn options_that_a_captured_step_cannot_follow_are_not_loaded() {
    let _alone = alone();
    let unchecked = plain(MAW_NONFINITE_PROPAGATE, 0.0);
    let checked = plain(MAW_NONFINITE_SKIP, 0.3);
    for (made, others) in [
        (&unchecked, vec![checked, plain(MAW_NONFINITE_PROPAGATE, 0.3), plain(MAW_NONFINITE_SKIP, 0.0)]),
        (&unchecked, vec![plain(MAW_NONFINITE_ERROR, 0.0)]),
        (&checked, vec![plain(MAW_NONFINITE_ERROR, 0.3)]),
    ] {
        let (mut run, graph) = captured(made);
        let before = (run.handle.save_bytes(0), run.params.get()[0].bits());
        for other in &others {
            let refused = run.handle.load_bytes(&file(other), MAW_LOAD_FILE_WINS).expect_err("they differ");
            assert_eq!(refused.status, MAW_INVALID_STATE, "{refused:?}");
            assert!(refused.message.contains("in a new optimizer and capture again"), "{refused:?}");
            assert_eq!((run.handle.save_bytes(0), run.params.get()[0].bits()), before, "nothing was changed");
            run.handle.load_bytes(&file(other), MAW_LOAD_OWN_WINS).expect("with its own options it goes on");
            let mut uncaptured = Run::new(made);
            uncaptured.step();
            uncaptured.handle.load_bytes(&file(other), MAW_LOAD_FILE_WINS).expect("no graph stands in the way");
        }
        graph.replay(&run.stream);
        run.stream.wait();
        assert_eq!(run.handle.steps(), Ok(2));
    }
}

#[test]
fn options_that_a_captured_step_can_follow_take_effect_in_replays() {
    let _alone = alone();
    let (clipped, more) = (plain(MAW_NONFINITE_SKIP, 0.05), plain(MAW_NONFINITE_SKIP, 0.02));
    let unchecked = plain(MAW_NONFINITE_PROPAGATE, 0.0);
    let (modulated, narrow) = (cuda(), maw_options { alpha_range: 0.1, max_grad_norm: 0.04, ..cuda() });
    for (made, other) in [(clipped, more), (clipped, unchecked), (modulated, narrow), (clipped, clipped)] {
        let (mut replayed, graph) = captured(&made);
        let mut eager = Run::new(&made);
        eager.step();
        for run in [&mut replayed, &mut eager] {
            run.handle.load_bytes(&file(&other), MAW_LOAD_FILE_WINS).expect("it can follow");
        }
        for _ in 0..3 {
            graph.replay(&replayed.stream);
            eager.step();
        }
        for run in [&replayed, &eager] {
            run.stream.wait();
        }
        assert!(replayed.params.get()[0].bits() == eager.params.get()[0].bits(), "{other:?}");
        assert!(replayed.handle.save_bytes(0) == eager.handle.save_bytes(0), "{other:?}");
        let mut untouched = captured(&made).0;
        (0..3).for_each(|_| untouched.step());
        let moments = |run: &mut Run| run.handle.tensor_state(0, &run.toy.specs[0]).expect("a state").bits();
        let moved = moments(&mut untouched) != moments(&mut eager);
        assert_eq!(moved, other.max_grad_norm != made.max_grad_norm, "the file's options do something: {other:?}");
        // Captured without checks, or not: the way back is open as long as no such step was captured.
        replayed.handle.load_bytes(&file(&made), MAW_LOAD_FILE_WINS).expect("back again");
    }
}

#[test]
fn tensors_that_a_captured_step_does_not_know_are_refused_and_move_to_a_new_optimizer() {
    let _alone = alone();
    let (mut run, graph) = captured(&cuda());
    let before = run.handle.save_bytes(0).expect("saved");
    let more = [Spec::new("later.weight", &[3], MAW_FLOAT32)];
    for refused in [run.handle.add_tensors(0, &more), run.handle.remove_tensor(0)] {
        let failure = refused.expect_err("replays would not know it");
        assert_eq!(failure.status, MAW_INVALID_STATE, "{failure:?}");
        assert!(failure.message.contains("MAW_LOAD_PARTIAL"), "{failure:?}");
        assert!(run.handle.save_bytes(0).expect("saved") == before, "nothing was changed");
    }
    graph.replay(&run.stream);
    run.stream.wait();
    assert_eq!(run.handle.steps(), Ok(2));
    let mut other = run.toy.handle(&cuda());
    other.add_tensors(0, &more).expect("nothing was captured");
    other.load_bytes(&before, MAW_LOAD_PARTIAL).expect("what both have");
    assert_eq!((other.steps(), other.load_report()[0].len()), (Ok(1), 1));
}

#[test]
fn clipping_that_a_captured_step_cannot_follow_is_not_set() {
    let _alone = alone();
    let (mut unchecked, _graph) = captured(&plain(MAW_NONFINITE_PROPAGATE, 0.0));
    let failure = unchecked.handle.set_max_grad_norm(0.5).expect_err("it has no statistics");
    assert_eq!(failure.status, MAW_INVALID_STATE, "{failure:?}");
    assert_eq!(unchecked.handle.hyper_parameters(0).expect("a group")[3], 0.0);
    let (mut replayed, graph) = captured(&plain(MAW_NONFINITE_SKIP, 0.05));
    let mut eager = Run::new(&plain(MAW_NONFINITE_SKIP, 0.05));
    eager.step();
    for run in [&mut replayed, &mut eager] {
        run.handle.set_max_grad_norm(0.02).expect("it can follow");
        run.handle.set_betas(0, [0.8, 0.9]).expect("it can follow");
        run.handle.set_eps(0, 1e-5).expect("it can follow");
    }
    graph.replay(&replayed.stream);
    eager.step();
    for run in [&replayed, &eager] {
        run.stream.wait();
    }
    assert!(replayed.params.get()[0].bits() == eager.params.get()[0].bits());
}

const GRAPHS: usize = 20;

/// Captures steps with this many gradients, some twice, replays them in another order and compares with eager steps.
/// `counted`: what is allocated before the captures, after them, after the replays, and when all is freed.
fn many_captured_steps(mut counted: impl FnMut()) {
    let mut run = Run::new(&cuda());
    let mut eager = Run::new(&cuda());
    let others: Vec<OnDevice> = (0..GRAPHS).map(|i| OnDevice::new(&gradients(&run.toy, i, &run.toy.start))).collect();
    let Run { handle, stream, params, .. } = &mut run;
    handle.launch(params, &others[0], &step_options()).expect("the first step");
    eager.handle.launch(&eager.params, &others[0], &step_options()).expect("the first step");
    counted();
    let graphs: Vec<Graph> = others
        .iter()
        .map(|grads| {
            handle.launch(params, grads, &step_options()).expect("a step");
            eager.handle.launch(&eager.params, grads, &step_options()).expect("a step");
            let (graph, captured) = stream.captured(|| handle.launch(params, grads, &step_options()));
            captured.expect("a step that was made before");
            graph
        })
        .collect();
    counted();
    for i in [7, 0, GRAPHS - 1, 3, 3, 12] {
        // Captured again, stepped and replayed: with the table that there is.
        let (again, captured) = stream.captured(|| handle.launch(params, &others[i], &step_options()));
        captured.expect("a step that was captured before");
        handle.launch(params, &others[i], &step_options()).expect("a step");
        graphs[i].replay(stream);
        again.replay(stream);
        for _ in 0..3 {
            eager.handle.launch(&eager.params, &others[i], &step_options()).expect("a step");
        }
    }
    counted();
    assert_eq!(run.seen(), eager.seen());
    drop((graphs, others, run, eager));
    counted();
}

#[test]
fn each_of_many_captured_steps_keeps_its_pointers() {
    let _alone = alone();
    many_captured_steps(|| ());
}

/// Allocations are counted. Left out on a device, by `--skip emulator_only`.
mod emulator_only {
    use super::*;

    #[test]
    fn a_captured_step_has_one_table_which_is_found_again_and_goes_with_the_optimizer() {
        let _alone = alone();
        let (live, mut counts) = (count("allocations"), Vec::new());
        many_captured_steps(|| counts.push(count("allocations")));
        let [before, captured, replayed, freed] = counts[..] else { panic!("{counts:?}") };
        assert_eq!(captured, before + GRAPHS as i64 - 1, "one for new pointers");
        assert_eq!(replayed, captured, "none for pointers that have one");
        assert_eq!(freed, live, "all tables are freed");
    }
}
