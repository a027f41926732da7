//! A loss scaler on the device: its scale and its flag, which the step reads when it runs, whatever the options. With
//! METAADAMW_TEST_DEVICE=cuda on the driver that the loader finds, else on the emulator.
#![cfg(target_os = "linux")]

mod common;

use common::cuda::{OnDevice, Stream, alone};
use common::device::Buffer;
use common::handle::{Handle, step_options};
use common::tensor::bits;
use common::toy::{Toy, small_options};
use metaadamw::ffi::*;

fn cuda() -> maw_options {
    maw_options { device: MAW_CUDA, ..small_options() }
}

/// What decides on how a step looks at its gradients: clipping, modulation, the policy.
fn kinds() -> Vec<maw_options> {
    let mut kinds = Vec::new();
    for max_grad_norm in [0.0, 0.2] {
        for (modulation, nonfinite) in [(1, MAW_NONFINITE_SKIP), (0, MAW_NONFINITE_SKIP), (0, MAW_NONFINITE_PROPAGATE)]
        {
            kinds.push(maw_options { max_grad_norm, modulation, nonfinite, ..cuda() });
        }
    }
    kinds
}

/// A float on the device.
struct Float(Buffer);

impl Float {
    fn new(value: f32) -> Self {
        Self(Buffer::of(&value.to_le_bytes()).expect("there is device memory"))
    }

    fn set(&self, value: f32) {
        self.0.upload(&value.to_le_bytes()).expect("uploaded");
    }

    fn pointer(&self) -> *const f32 {
        self.0.pointer().cast()
    }
}

/// Parameters, moments and step counts.
#[derive(Debug, PartialEq)]
struct Seen {
    params: Vec<Vec<u64>>,
    states: Vec<(Vec<u64>, Vec<u64>, u64)>,
}

struct Run {
    toy: Toy,
    handle: Handle,
    params: OnDevice,
    grads: OnDevice,
    scale: Float,
    found: Float,
}

impl Run {
    fn new(options: &maw_options) -> Self {
        let toy = Toy::small();
        let (handle, params, grads) = (toy.handle(options), OnDevice::new(&toy.start), OnDevice::new(&toy.start));
        Self { toy, handle, params, grads, scale: Float::new(1.0), found: Float::new(0.0) }
    }

    /// The step options that name scale and flag.
    fn by_device(&self) -> maw_step_options {
        maw_step_options { device_grad_scale: self.scale.pointer(), found_inf: self.found.pointer(), ..step_options() }
    }

    fn step(&mut self, options: &maw_step_options) -> maw_step_report {
        self.handle.launch(&self.params, &self.grads, options).expect("a step");
        self.handle.fetch(MAW_FETCH_WAIT).expect("a report")
    }

    fn seen(&mut self) -> Seen {
        let state = |i: usize| self.handle.tensor_state(i, &self.toy.specs[i]).expect("a state").bits();
        let states = (0..self.toy.specs.len()).map(state).collect();
        Seen { params: bits(&self.params.get()), states }
    }
}

#[test]
fn a_scale_on_the_device_is_that_of_the_host() {
    let _alone = alone();
    for options in kinds() {
        let (mut host, mut device) = (Run::new(&options), Run::new(&options));
        device.scale.set(4.0);
        let by_host = maw_step_options { grad_scale: 4.0, ..step_options() };
        let by_device = device.by_device();
        for _ in 0..2 {
            let (expected, got) = (host.step(&by_host), device.step(&by_device));
            assert_eq!((got.step, got.skipped), (expected.step, 0), "{options:?}");
            assert_eq!(got.grad_norm.to_bits(), expected.grad_norm.to_bits(), "{options:?}");
            assert_eq!(got.clip_factor.to_bits(), expected.clip_factor.to_bits(), "{options:?}");
            assert_eq!(got.clip_factor < 1.0, options.max_grad_norm > 0.0, "{options:?}");
        }
        assert_eq!(device.seen(), host.seen(), "{options:?}");
    }
}

#[test]
fn a_flag_that_is_set_skips_the_step_and_leaves_nothing_behind() {
    let _alone = alone();
    for options in kinds() {
        let (mut run, mut undisturbed) = (Run::new(&options), Run::new(&options));
        let by_device = run.by_device();
        run.step(&by_device);
        undisturbed.step(&step_options());
        let before = run.seen();
        for (skips, flag) in [1.0_f32, -1.0, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN].into_iter().enumerate() {
            run.found.set(flag);
            let report = run.step(&by_device);
            assert_eq!((report.step, report.skipped_steps, report.skipped), (1, skips as u64 + 1, 1), "{flag}");
            assert_eq!((report.skip_reason, report.nonfinite_tensor), (MAW_SKIP_GRADIENT, MAW_NO_TENSOR), "{flag}");
            assert_eq!(run.seen(), before, "a flag of {flag}, {options:?}");
        }
        run.found.set(-0.0);
        let (report, expected) = (run.step(&by_device), undisturbed.step(&step_options()));
        assert_eq!((report.step, report.skipped), (2, 0), "{options:?}");
        assert_eq!(report.grad_norm.to_bits(), expected.grad_norm.to_bits(), "{options:?}");
        assert_eq!(run.seen(), undisturbed.seen(), "{options:?}");
    }
}

#[test]
fn a_flag_works_beside_the_steps_own_check() {
    let _alone = alone();
    for options in kinds() {
        let looks = options.nonfinite == MAW_NONFINITE_SKIP;
        let mut run = Run::new(&options);
        let mut bad = run.toy.start.clone();
        bad[3].set(1, f64::INFINITY);
        run.grads.set(&bad);
        let (by_device, before) = (run.by_device(), run.seen());
        run.found.set(1.0);
        assert_eq!(run.step(&by_device).skipped, 1, "the scaler found it: {options:?}");
        run.found.set(0.0);
        assert_eq!(run.step(&by_device).skipped, u32::from(looks), "the scaler did not look: {options:?}");
        assert_eq!(run.seen() == before, looks, "{options:?}");
    }
}

#[test]
fn a_scale_that_is_none_skips_the_step_whatever_the_policy() {
    let _alone = alone();
    for options in kinds() {
        let mut run = Run::new(&options);
        let (by_device, before) = (run.by_device(), run.seen());
        for scale in [0.0_f32, -0.0, -1.0, f32::NAN, f32::INFINITY] {
            run.scale.set(scale);
            let report = run.step(&by_device);
            assert_eq!((report.step, report.skip_reason), (0, MAW_SKIP_GRADIENT), "a scale of {scale}: {options:?}");
            assert_eq!(run.seen(), before, "a scale of {scale}: {options:?}");
        }
    }
}

#[test]
fn a_captured_step_reads_scale_and_flag_of_the_moment_and_keeps_the_hosts_scale() {
    let _alone = alone();
    for options in kinds() {
        let (mut run, mut eager) = (Run::new(&options), Run::new(&options));
        let stream = Stream::new();
        run.handle.set_stream(stream.0).expect("a stream");
        let (by_device, by_host) = (run.by_device(), maw_step_options { grad_scale: 8.0, ..step_options() });
        run.step(&by_device);
        let capture = |run: &mut Run, options: &maw_step_options| {
            let (graph, captured) = stream.captured(|| run.handle.launch(&run.params, &run.grads, options));
            captured.expect("a step that was made before");
            graph
        };
        let (on_device, fixed) = (capture(&mut run, &by_device), capture(&mut run, &by_host));
        eager.step(&step_options());
        for (scale, flag) in [(2.0_f32, 0.0_f32), (0.0, 0.0), (4.0, 1.0), (0.5, 0.0)] {
            run.scale.set(scale);
            run.found.set(flag);
            on_device.replay(&stream);
            stream.wait();
            if scale > 0.0 && flag == 0.0 {
                eager.step(&maw_step_options { grad_scale: scale.into(), ..step_options() });
            }
            fixed.replay(&stream);
            stream.wait();
            eager.step(&by_host);
            assert_eq!(run.seen(), eager.seen(), "a scale of {scale}, a flag of {flag}: {options:?}");
        }
        let report = run.handle.fetch(MAW_FETCH_WAIT).expect("a report");
        assert_eq!((report.step, report.skipped_steps), (7, 2), "{options:?}");
    }
}

#[test]
fn where_the_host_decides_a_scale_and_a_flag_on_the_device_are_refused() {
    let _alone = alone();
    for options in
        [maw_options { nonfinite: MAW_NONFINITE_ERROR, ..cuda() }, maw_options { verify_params: 1, ..cuda() }]
    {
        let mut run = Run::new(&options);
        let (all, before) = (run.by_device(), run.seen());
        for (name, wrong) in [
            ("device_grad_scale", maw_step_options { found_inf: std::ptr::null(), ..all }),
            ("found_inf", maw_step_options { device_grad_scale: std::ptr::null(), ..all }),
        ] {
            let failure = run.handle.launch(&run.params, &run.grads, &wrong).expect_err("no kernel would read it");
            assert_eq!(failure.status, MAW_INVALID_ARGUMENT, "{failure:?}");
            let expected = format!("step_options.{name} is a pointer, expected NULL on the CPU, with verify_params,");
            assert!(failure.message.starts_with(&expected), "{failure:?}");
        }
        assert_eq!(run.seen(), before);
        run.step(&step_options());
    }
}
