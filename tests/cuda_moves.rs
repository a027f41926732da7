//! What goes between host and device by the calls that wait: in few copies, whatever memory the host has it in, and all of
//! it or nothing. With METAADAMW_TEST_DEVICE=cuda on the driver that the loader finds, else on the emulator.
#![cfg(target_os = "linux")]

mod common;

use common::cuda::{HostMemory, OnDevice, alone, count};
use common::device::Buffer;
use common::handle::{Handle, Spec, param_group, step_options};
use common::model::Model;
use common::saved::State;
use common::tensor::Tensor;
use common::toy::{Random, Toy, small_options, snapshot};
use metaadamw::ffi::*;

fn cuda() -> maw_options {
    maw_options { device: MAW_CUDA, ..small_options() }
}

const LARGE: usize = 1 << 20;

#[test]
fn what_lies_in_pinned_memory_is_copied_before_the_call_returns() {
    let _alone = alone();
    let toy = Toy::small();
    let options = [cuda(), maw_options { nonfinite: MAW_NONFINITE_ERROR, ..cuda() }];
    for options in options {
        let run = |pinned: bool| {
            let mut handle = toy.handle(&options);
            let (mut params, grads) = (OnDevice::new(&toy.start), OnDevice::new(&toy.start));
            let bias: Vec<f64> = (0..4).map(|i| 0.5 * f64::from(i)).collect();
            let moment = vec![0.25; toy.specs[1].len()];
            if pinned {
                let (mut bias, mut moment) = (HostMemory::pinned(&bias), HostMemory::pinned(&moment));
                // The host goes on with its memory at once.
                handle.set_moments_at(1, moment.pointer(), moment.values().len()).expect("a state");
                moment.values().fill(100.0);
                handle.set_attention("output_proj.bias", bias.values()).expect("Φ");
                bias.values().fill(100.0);
                handle.launch(&params, &grads, &step_options()).expect("a step");
                handle.steps().expect("it is waited for, and the memory freed");
            } else {
                let moment = Tensor::new(MAW_FLOAT64, &moment);
                let state = State { exp_avg: moment.clone(), exp_avg_sq: moment, step: 1 };
                handle.set_tensor_state(1, &state).expect("a state");
                handle.set_attention("output_proj.bias", &bias).expect("Φ");
                handle.launch(&params, &grads, &step_options()).expect("a step");
            }
            snapshot(&handle, &params.get())
        };
        assert_eq!(run(true), run(false), "{options:?}");
    }
    let (mut pinned, buffer) = (HostMemory::pinned(&[1.5; 64]), Buffer::new(512).expect("there is memory"));
    buffer.upload(bytemuck::cast_slice(pinned.values())).expect("uploaded");
    pinned.values().fill(2.5);
    let mut got = [0; 512];
    buffer.download(&mut got).expect("downloaded");
    assert_eq!(bytemuck::cast_slice::<u8, f64>(&got), [1.5; 64]);
}

/// Calls of the driver are counted. Left out on a device, by `--skip emulator_only`.
mod emulator_only {
    use super::*;

    fn large(spec: Spec) -> Handle {
        let mut handle = Handle::new(&cuda()).expect("good options");
        let masters = spec.dtype == MAW_BFLOAT16;
        let precision = if masters { MAW_PRECISION_MASTER } else { MAW_PRECISION_NEAREST };
        handle.add(&maw_param_group { precision, ..param_group() }, &[spec]).expect("a good tensor");
        handle.prepare().expect("there is memory");
        handle
    }

    #[test]
    fn what_is_waited_for_is_uploaded_in_few_copies() {
        let _alone = alone();
        let uploads = |work: &mut dyn FnMut()| {
            let before = count("cuMemcpyHtoDAsync_v2");
            work();
            count("cuMemcpyHtoDAsync_v2") - before
        };
        let spec = Spec::new("w.weight", &[LARGE as u64], MAW_FLOAT32);
        let moment = Tensor::new(MAW_FLOAT32, &Random(1).values(LARGE, 0.5).iter().map(|x| x * x).collect::<Vec<_>>());
        let state = State { exp_avg: moment.clone(), exp_avg_sq: moment, step: 3 };
        let mut handle = large(spec.clone());
        // Pieces that a driver takes along with the command have 64 KiB: there would be 128 of them.
        let set = uploads(&mut || handle.set_tensor_state(0, &state).expect("it is set"));
        assert!(set < 20, "{set} copies for a tensor's state");
        assert_eq!(handle.tensor_state(0, &spec).expect("it is there").bits(), state.bits());
        let (saved, mut other) = (handle.save_bytes(0).expect("saved"), large(spec.clone()));
        let loaded = uploads(&mut || other.load_bytes(&saved, 0).expect("loaded"));
        assert!(loaded < 50, "{loaded} copies for a checkpoint");
        assert_eq!(other.tensor_state(0, &spec).expect("it is there").bits(), state.bits());
        let (mut buffer, bytes) = (None, vec![7; 4 * LARGE]);
        assert_eq!(uploads(&mut || buffer = Some(Buffer::of(&bytes).expect("there is memory"))), 1);
        let mut got = vec![0; bytes.len()];
        buffer.expect("it is made").download(&mut got).expect("downloaded");
        assert!(got == bytes);

        let mut handle = large(Spec::new("w.weight", &[LARGE as u64], MAW_BFLOAT16));
        let values: Vec<f32> = Random(2).values(LARGE, 0.5).iter().map(|x| *x as f32).collect();
        let mut param = [Tensor::new(MAW_BFLOAT16, &vec![0.0; LARGE])];
        let set = uploads(&mut || handle.set_masters(0, &values, &mut param[0]).expect("they are set"));
        assert!(set < 20, "{set} copies for masters");
        assert_eq!(handle.masters(0, &param[0]).expect("they are there"), values);
    }
}

/// Sums on the device are made in another order than on the CPU.
#[test]
fn remainders_move_with_the_parameters_of_their_step_alone() {
    let _alone = alone();
    let on = |device| {
        let model = Model { most: 300, ..Model::new(MAW_BFLOAT16, MAW_BFLOAT16, MAW_PRECISION_REMAINDER) };
        Model { options: maw_options { device, ..model.options }, ..model }
    };
    for [from, to] in [[MAW_CUDA, MAW_CPU], [MAW_CPU, MAW_CUDA]].map(|devices| devices.map(on)) {
        let (mut handle, mut params) = (from.handle(), from.start());
        from.train(&mut handle, &mut params, 0..3);
        let file = handle.save_bytes(0).expect("saved");
        let mut handle = to.handle();
        handle.load_bytes(&file, 0).expect("it fits");
        let failure = handle.step(&mut to.start(), &to.gradients(3)).expect_err("other parameters");
        assert_eq!(failure.status, MAW_PARAMS_CHANGED, "{failure:?}");
        assert!(handle.save_bytes(0).expect("saved") == file, "nothing is changed");
        to.train(&mut handle, &mut params, 3..5);
    }
}
