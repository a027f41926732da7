//! Averages, and learning from steps alone, on a CUDA device: the CPU's bits where sums do not matter, graphs, and which
//! steps wait. With METAADAMW_TEST_DEVICE=cuda on the driver that the loader finds, else on the emulator.
#![cfg(target_os = "linux")]

mod common;

use common::cuda::{Graph, OnDevice, Stream, alone, count, order};
use common::device::Buffer;
use common::handle::{Handle, Spec, param_group, step_options};
use common::model::{HALVES, Model};
use common::tensor::{Tensor, bits};
use common::toy::{Random, Snapshot, Toy, horizon_options, small_options, snapshot};
use metaadamw::ffi::*;

fn on(device: i32, options: maw_options) -> maw_options {
    maw_options { device, ..options }
}

fn cuda(options: maw_options) -> maw_options {
    on(MAW_CUDA, options)
}

fn averages(handle: &mut Handle, params: &[Tensor]) -> Vec<Vec<u64>> {
    params.iter().enumerate().map(|(i, like)| handle.average(i, like).expect("an average").bits()).collect()
}

/// Changes the first element of each tensor, and says so in the next step.
fn disturb(params: &mut [Tensor]) -> maw_step_options {
    params.iter_mut().for_each(|param| param.set(0, 0.375));
    maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() }
}

/// Parameters, averages and masters after steps with a missing gradient, a change of parameters that a skipped step leaves
/// for the next one, and the rest of a chunk.
#[allow(clippy::type_complexity, reason = "bits of different things")]
fn trained(model: &Model, device: i32) -> (Vec<Vec<u64>>, Vec<Vec<u64>>, Vec<Option<Vec<u32>>>) {
    let model = Model { options: on(device, model.options), ..model.clone() };
    let (mut handle, mut params) = (model.handle(), model.start());
    let mut seen = Vec::new();
    for step in 3..8 {
        let mut grads = model.gradients(step);
        if step == 5 {
            let changed = disturb(&mut params);
            if model.options.nonfinite == MAW_NONFINITE_SKIP {
                let mut broken = grads.clone();
                broken[3].as_mut().expect("a gradient").set(1, f64::NAN);
                assert_eq!(handle.step_with(&mut params, &broken, &changed).expect("skipped").skipped, 1);
                grads[1] = None;
                handle.step(&mut params, &grads).expect("a step");
            } else {
                handle.step_with(&mut params, &grads, &changed).expect("a step");
            }
        } else {
            handle.step(&mut params, &grads).expect("a step");
        }
        seen.extend(averages(&mut handle, &params));
    }
    let masters = model.masters_or_none(&mut handle, &params);
    handle.swap_averages(&mut params).expect("swapped");
    seen.extend(bits(&params));
    handle.swap_averages(&mut params).expect("back");
    (bits(&params), seen, masters)
}

#[test]
fn averages_of_every_dtype_and_precision_have_the_bits_of_the_cpu() {
    let _alone = alone();
    let single = [(MAW_FLOAT32, MAW_PRECISION_NEAREST), (MAW_FLOAT64, MAW_PRECISION_NEAREST)];
    let halves = HALVES.into_iter().flat_map(|dtype| {
        [MAW_PRECISION_NEAREST, MAW_PRECISION_MASTER, MAW_PRECISION_STOCHASTIC].map(|precision| (dtype, precision))
    });
    for (dtype, precision) in single.into_iter().chain(halves).chain([(MAW_BFLOAT16, MAW_PRECISION_REMAINDER)]) {
        for (average_dtype, nonfinite, grad_dtype) in [
            (0, MAW_NONFINITE_SKIP, MAW_FLOAT32),
            (MAW_BFLOAT16, MAW_NONFINITE_SKIP, MAW_BFLOAT16),
            (MAW_BFLOAT16, MAW_NONFINITE_PROPAGATE, MAW_FLOAT32),
        ] {
            let grad_dtype = if dtype == MAW_FLOAT64 { MAW_FLOAT64 } else { grad_dtype };
            let mut model = Model::new(dtype, grad_dtype, precision);
            model.options = maw_options { modulation: 0, horizon: 3, average_dtype, nonfinite, ..small_options() };
            let what = format!("dtype {dtype}, precision {precision}, averages {average_dtype}, policy {nonfinite}");
            let (got, expected) = (trained(&model, MAW_CUDA), trained(&model, MAW_CPU));
            assert!(got.0 == expected.0, "{what}: parameters");
            assert!(got.1 == expected.1, "{what}: averages");
            assert!(got.2 == expected.2, "{what}: masters");
        }
    }
}

/// Everything that a run of the toy leaves, as bits: with averages.
fn seen(handle: &mut Handle, params: &[Tensor]) -> (Snapshot, Vec<Vec<u64>>, serde_json::Value) {
    (snapshot(handle, params), averages(handle, params), handle.dumped()["horizon"].clone())
}

/// Nine steps, with a missing gradient, a skipped step, Φ set by the host and a change of parameters.
fn learned(options: &maw_options) -> (Snapshot, Vec<Vec<u64>>, serde_json::Value) {
    let toy = Toy::small();
    let (mut handle, mut params) = (toy.handle(options), toy.start.clone());
    for step in 0..9 {
        let mut grads = toy.gradients(step, &params);
        let mut with = step_options();
        match step {
            2 => grads[0] = None,
            3 => handle.set_attention("output_proj.bias", &[0.25; 4]).expect("Φ"),
            4 if options.nonfinite == MAW_NONFINITE_SKIP => {
                let mut broken = grads.clone();
                broken[1].as_mut().expect("a gradient").set(0, f64::INFINITY);
                assert_eq!(handle.step(&mut params, &broken).expect("skipped").skipped, 1);
            }
            6 => with = disturb(&mut params),
            _ => {}
        }
        handle.step_with(&mut params, &grads, &with).expect("a step");
    }
    seen(&mut handle, &params)
}

#[test]
fn a_host_that_decides_and_a_device_that_does_learn_the_same_bits() {
    let _alone = alone();
    for options in [
        maw_options { max_grad_norm: 0.5, ..horizon_options() },
        maw_options {
            average_dtype: MAW_BFLOAT16,
            semantics: MAW_REFERENCE,
            use_feature_gating: 1,
            ..horizon_options()
        },
        maw_options { feature_version: MAW_FEATURES_ENHANCED, meta_interval: 1, meta_warmup: 0, ..horizon_options() },
    ] {
        let device = cuda(options);
        let decided = learned(&device);
        assert_eq!(learned(&maw_options { verify_params: 1, ..device }), decided);
        assert_eq!(learned(&maw_options { nonfinite: MAW_NONFINITE_ERROR, ..device }), decided);
    }
}

#[test]
fn logarithmic_norms_and_ranges_have_the_numbers_of_the_cpu() {
    let _alone = alone();
    let options = maw_options { beta_log_range: 3.0, max_grad_norm: 0.5, ..horizon_options() };
    // Of float64 tensors a step is off by rounding alone.
    let specs: Vec<Spec> = Toy::small().specs.into_iter().map(|s| Spec { dtype: MAW_FLOAT64, ..s }).collect();
    let toy = Toy::new(specs, 6);
    let run = |device: i32| {
        let (mut handle, mut params) = (toy.handle(&on(device, options)), toy.start.clone());
        toy.train(&mut handle, &mut params, 0, 8);
        let factors = handle.factors().expect("factors");
        assert_eq!(handle.result().expect("a result").updates, 2);
        [handle.features().expect("features"), factors.alpha, factors.beta]
    };
    for (got, expected) in run(MAW_CUDA).iter().zip(&run(MAW_CPU)) {
        assert!(got.len() == expected.len() && !got.is_empty());
        for (x, y) in got.iter().zip(expected) {
            assert!((x - y).abs() <= 1e-9 * y.abs().max(1.0), "{x} is not {y}");
        }
    }
}

#[test]
fn a_checkpoint_moves_between_the_cpu_and_cuda_in_the_middle_of_an_interval() {
    let _alone = alone();
    let toy = Toy::small();
    let options = maw_options { average_dtype: MAW_BFLOAT16, ..horizon_options() };
    let (mut first, mut params) = (toy.handle(&cuda(options)), toy.start.clone());
    toy.train(&mut first, &mut params, 0, 6);
    assert_eq!(first.dumped()["horizon"]["steps"], 2, "one more completes the interval");
    let saved = first.save_bytes(0).expect("saved");
    let (mut host, mut device) = (toy.handle(&on(MAW_CPU, options)), toy.handle(&cuda(options)));
    host.load_bytes(&saved, 0).expect("loaded on the CPU");
    assert_eq!(averages(&mut host, &params), averages(&mut first, &params));
    let again = host.save_bytes(0).expect("saved on the CPU");
    assert!(again == saved, "the same state gives the same bytes");
    device.load_bytes(&again, 0).expect("loaded on CUDA");
    let mut elsewhere = params.clone();
    toy.train(&mut first, &mut params, 6, 3);
    toy.train(&mut device, &mut elsewhere, 6, 3);
    assert_eq!(seen(&mut device, &elsewhere), seen(&mut first, &params));
}

/// A handle on a stream of its own, with parameters and gradients that stay where they are.
struct Run {
    toy: Toy,
    handle: Handle,
    stream: Stream,
    params: OnDevice,
    grads: OnDevice,
}

impl Run {
    fn new(options: &maw_options) -> Self {
        let toy = Toy::small();
        let (mut handle, stream) = (toy.handle(options), Stream::new());
        handle.set_stream(stream.0).expect("a stream");
        let grads = toy.gradients(0, &toy.start).into_iter().map(|g| g.expect("a gradient")).collect::<Vec<_>>();
        let (params, grads) = (OnDevice::new(&toy.start), OnDevice::new(&grads));
        Self { toy, handle, stream, params, grads }
    }

    fn step(&mut self) {
        self.handle.launch(&self.params, &self.grads, &step_options()).expect("a step");
    }

    fn captured(&mut self) -> Graph {
        let Self { handle, stream, params, grads, .. } = self;
        let (graph, captured) = stream.captured(|| handle.launch(params, grads, &step_options()));
        captured.expect("a step that was made before");
        graph
    }

    /// Parameters and averages.
    fn seen(&mut self) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
        self.stream.wait();
        let params = self.params.get();
        (bits(&params), averages(&mut self.handle, &params))
    }
}

/// What is averaged without learning from steps: with modulation, without it, and without checks.
fn averaging() -> Vec<maw_options> {
    let base = cuda(maw_options { horizon: 4, ..small_options() });
    vec![
        base,
        maw_options { feature_version: MAW_FEATURES_ENHANCED, average_dtype: MAW_BFLOAT16, ..base },
        maw_options { modulation: 0, average_dtype: MAW_BFLOAT16, ..base },
        maw_options { modulation: 0, nonfinite: MAW_NONFINITE_PROPAGATE, ..base },
    ]
}

#[test]
fn averages_follow_in_replays_of_a_captured_step_and_a_loaded_horizon_takes_effect() {
    let _alone = alone();
    for options in averaging() {
        let (mut replayed, mut eager) = (Run::new(&options), Run::new(&options));
        replayed.step();
        eager.step();
        let graph = replayed.captured();
        for step in 0..6 {
            if step == 3 {
                let mut other = Run::new(&maw_options { horizon: 40, ..options });
                other.step();
                let file = other.handle.save_bytes(0).expect("saved");
                for run in [&mut replayed, &mut eager] {
                    run.handle.load_bytes(&file, MAW_LOAD_FILE_WINS).expect("it can follow");
                }
            }
            if step == 4 {
                // What changed is told by a step outside the graph.
                for run in [&mut replayed, &mut eager] {
                    run.stream.wait();
                    let mut params = run.params.get();
                    let changed = disturb(&mut params);
                    run.params.set(&params);
                    run.handle.launch(&run.params, &run.grads, &changed).expect("a step");
                }
            }
            graph.replay(&replayed.stream);
            eager.step();
            assert_eq!(replayed.seen(), eager.seen(), "step {step} of {options:?}");
        }
        let (params, averages) = eager.seen();
        assert_ne!(params, averages, "the averages are behind");
    }
}

#[test]
fn a_step_after_which_the_module_may_learn_is_not_captured_and_says_what_helps() {
    let _alone = alone();
    let mut run = Run::new(&cuda(horizon_options()));
    run.step();
    let before = run.seen();
    let Run { handle, stream, params, grads, .. } = &mut run;
    let (_graph, refused) = stream.captured(|| handle.launch(params, grads, &step_options()));
    let failure = refused.expect_err("it cannot be captured");
    assert_eq!(failure.status, MAW_INVALID_STATE, "{failure:?}");
    for part in ["captured into a CUDA graph", "MAW_OBJECTIVE_HORIZON", "outside the capture", "another objective"] {
        assert!(failure.message.contains(part), "{failure:?}");
    }
    assert_eq!(run.seen(), before, "nothing was made");
    run.step();
    assert_eq!(run.handle.steps(), Ok(2), "outside of a capture it works");
    let swapping = run.stream.captured(|| run.handle.average(0, &run.toy.start[0])).1.expect_err("it waits");
    assert_eq!(swapping.status, MAW_INVALID_STATE, "{swapping:?}");
}

/// A scaler on the device skips steps that the host never hears of: the module learns when enough were made.
#[test]
fn steps_that_the_device_skips_count_for_nothing() {
    let _alone = alone();
    let flag = |value: f32| Buffer::of(&value.to_le_bytes()).expect("there is device memory");
    let (found, clear) = (flag(1.0), flag(0.0));
    let run = |skips: &[usize]| {
        let mut run = Run::new(&cuda(horizon_options()));
        let [skipped, made] =
            [&found, &clear].map(|flag| maw_step_options { found_inf: flag.pointer().cast(), ..step_options() });
        for step in 0..9 {
            for _ in 0..skips.iter().filter(|at| **at == step).count() {
                run.handle.launch(&run.params, &run.grads, &skipped).expect("a step");
            }
            run.handle.launch(&run.params, &run.grads, &made).expect("a step");
        }
        run.stream.wait();
        let params = run.params.get();
        let updates = run.handle.result().expect("a result").updates;
        (seen(&mut run.handle, &params), updates)
    };
    let undisturbed = run(&[]);
    assert_eq!(undisturbed.1, 2);
    for skips in [&[0][..], &[3], &[4, 4, 4, 4], &[1, 2, 3, 4, 5, 6, 7, 8]] {
        assert_eq!(run(skips), undisturbed, "{skips:?}");
    }
}

/// Tensors of several chunks, none of them even, on the device at this alignment.
fn large(shift: usize) -> (Snapshot, Vec<Vec<u64>>, serde_json::Value) {
    let specs = [
        Spec::new("embed.weight", &[97, 101], MAW_FLOAT32),
        Spec::new("layers.0.attn.weight", &[4099], MAW_BFLOAT16),
        Spec::new("layers.1.mlp.weight", &[71, 73], MAW_FLOAT64),
        Spec::new("layers.1.nothing", &[0], MAW_FLOAT32),
    ];
    let mut random = Random(9);
    let mut some = |size| specs.iter().map(|s| Tensor::new(s.dtype, &random.values(s.len(), size))).collect::<Vec<_>>();
    let options = maw_options { average_dtype: MAW_BFLOAT16, ..horizon_options() };
    let mut handle = Handle::new(&cuda(options)).expect("good options");
    let group = maw_param_group { precision: MAW_PRECISION_MASTER, ..param_group() };
    handle.add(&group, &specs).expect("good tensors");
    let mut params = OnDevice::shifted(&some(0.5), shift);
    for _ in 0..5 {
        let grads = OnDevice::shifted(&some(1.0), 2 * shift);
        handle.launch(&params, &grads, &step_options()).expect("a step");
        handle.fetch(MAW_FETCH_WAIT).expect("a report");
    }
    seen(&mut handle, &params.get())
}

#[test]
fn any_alignment_gives_the_same_averages_and_sums() {
    let _alone = alone();
    let aligned = large(0);
    for shift in [1, 2, 3] {
        assert!(large(shift) == aligned, "{shift} elements behind an aligned address");
    }
}

/// Calls of the driver are counted, threads run in another order. Left out on a device, by `--skip emulator_only`.
mod emulator_only {
    use super::*;

    #[test]
    fn any_order_of_threads_gives_the_same_averages_and_sums() {
        let _alone = alone();
        let run = |seed: u64| {
            order(seed);
            large(1)
        };
        let ascending = run(0);
        for seed in [1, 2, 17] {
            assert!(run(seed) == ascending, "order {seed}");
        }
    }

    const WAITS: [&str; 3] = ["cuStreamSynchronize", "cuCtxSynchronize", "cuMemcpyDtoHAsync_v2"];

    #[test]
    fn only_a_step_that_may_complete_an_interval_waits() {
        let _alone = alone();
        let mut run = Run::new(&cuda(maw_options { meta_interval: 4, meta_warmup: 2, ..horizon_options() }));
        let mut broken = run.toy.start.clone();
        broken[0].set(0, f64::NAN);
        let broken = OnDevice::new(&broken);
        let mut waited = Vec::new();
        for step in 1..=20 {
            let (waits, launches) = (WAITS.map(count), count("cuLaunchKernel"));
            let grads = if step == 9 { &broken } else { &run.grads };
            run.handle.launch(&run.params, grads, &step_options()).expect("a step");
            if WAITS.map(count) == waits {
                assert!(count("cuLaunchKernel") <= launches + 4, "statistics, decision, update, sums");
            } else {
                waited.push(step);
            }
        }
        // After two of the warm-up four each; the ninth is skipped, so that the tenth brings three and the next waits too.
        assert_eq!(waited, [6, 10, 11, 15, 19]);
        assert_eq!(run.handle.result().expect("a result").updates, 4);
    }

    #[test]
    fn averages_of_other_objectives_never_wait_and_take_no_launch() {
        let _alone = alone();
        for options in averaging() {
            let mut run = Run::new(&maw_options { meta_interval: 1, ..options });
            let (waits, launches) = (WAITS.map(count), count("cuLaunchKernel"));
            (0..5).for_each(|_| run.step());
            assert_eq!(WAITS.map(count), waits);
            assert!(count("cuLaunchKernel") <= launches + 15);
        }
    }
}
