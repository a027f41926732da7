//! More than one device, and memory that is the host's and the device's. On the emulator with two devices, in a process of
//! its own: how many there are stands in the environment.
#![cfg(target_os = "linux")]

mod common;

use common::cuda::{Context, HostMemory, OnDevice, alone, current_context, emulator};
use common::device::Buffer;
use common::handle::{Failure, Handle, Outcome, Spec, param_group, step_options};
use common::tensor::{Tensor, bits};
use common::toy::{Random, Toy, small_options, snapshot};
use metaadamw::ffi::*;
use std::env;
use std::process::Command;
use std::thread;

fn on(device_index: i32) -> maw_options {
    maw_options { device: MAW_CUDA, device_index, ..small_options() }
}

#[test]
fn managed_memory_is_taken_as_it_is_and_the_host_reads_it_after_waiting() {
    let _alone = alone();
    let (mut random, spec) = (Random(4), Spec::new("w.weight", &[5000], MAW_FLOAT64));
    let (start, grad) = (random.values(5000, 0.5), random.values(5000, 1.0));
    let made = || {
        let mut handle = Handle::new(&on(0)).expect("good options");
        handle.add(&param_group(), std::slice::from_ref(&spec)).expect("a good tensor");
        handle
    };
    let step = |handle: &mut Handle, param: *mut std::ffi::c_void, grad: *mut std::ffi::c_void| {
        handle.launch_at(&[param], &[grad], &step_options(), std::ptr::null_mut()).expect("a step");
        handle.fetch(MAW_FETCH_WAIT).expect("a report");
    };
    let tensor = |values: &[f64]| [Tensor::new(MAW_FLOAT64, values)];
    let (mut on_device, gradient) = (OnDevice::new(&tensor(&start)), OnDevice::new(&tensor(&grad)));
    let mut expected = made();
    let (mut param, managed) = (HostMemory::managed(&start), HostMemory::managed(&grad));
    let mut handle = made();
    for _ in 0..3 {
        step(&mut expected, on_device.pointers()[0], gradient.pointers()[0]);
        step(&mut handle, param.pointer(), managed.pointer());
        // In place, without a copy.
        assert!(bits(&tensor(param.values())) == bits(&on_device.get()));
    }
    param.values()[7] = 0.25;
    let mut moved = on_device.get();
    moved[0].set(7, 0.25);
    on_device.set(&moved);
    step(&mut expected, on_device.pointers()[0], gradient.pointers()[0]);
    step(&mut handle, param.pointer(), managed.pointer());
    assert!(bits(&tensor(param.values())) == bits(&on_device.get()), "what the host writes there the step reads");
}

#[test]
fn pinned_memory_of_the_host_is_refused() {
    let _alone = alone();
    let toy = Toy::small();
    let (mut handle, params) = (toy.handle(&on(0)), OnDevice::new(&toy.start));
    let (grads, pinned) = (OnDevice::new(&toy.start), HostMemory::pinned(&[0.0; 64]));
    let mut pointers = params.pointers();
    pointers[1] = pinned.pointer();
    let refused = handle.launch_at(&pointers, &grads.pointers(), &step_options(), std::ptr::null_mut());
    let failure = refused.expect_err("the device would read it over the bus");
    assert_eq!(failure.status, MAW_INVALID_ARGUMENT, "{failure:?}");
    let expected = "params[1] (tensor 'layers.0.attn.weight') is a pointer to host memory";
    assert!(failure.message.starts_with(expected), "{failure:?}");
}

/// Two devices, whatever the machine has. Left out on a device, by `--skip emulator_only`.
mod emulator_only {
    use super::*;

    /// Runs an ignored test of this file where there are two devices.
    fn with_two_devices(test: &str) {
        let mut child = Command::new(env::current_exe().expect("the test's own path"));
        child.args(["--exact", "--ignored", "--nocapture", test]);
        child.env("LD_LIBRARY_PATH", emulator()).env("CUDA_EMULATOR_DEVICES", "2");
        let output = child.output().expect("it can be started");
        let (told, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && told.contains("1 passed"), "{told}{complaints}");
    }

    /// Parameters and gradients on one device, and what came out of a short life there.
    fn life(toy: &Toy, device_index: i32, mut after_each: impl FnMut(&str)) -> Outcome<Vec<Vec<u64>>> {
        let mut handle = Handle::new(&on(device_index))?;
        after_each("creation");
        handle.add(&param_group(), &toy.specs)?;
        handle.prepare()?;
        after_each("preparation");
        let (mut params, grads) = (OnDevice::of(device_index, &toy.start), OnDevice::of(device_index, &toy.start));
        after_each("buffers");
        for _ in 0..2 {
            handle.launch(&params, &grads, &step_options())?;
            after_each("a step");
            handle.set_lr(0, 0.01)?;
            after_each("a setter");
        }
        handle.fetch(MAW_FETCH_WAIT)?;
        after_each("a report");
        let saved = handle.save_bytes(0)?;
        after_each("saving");
        handle.reset(MAW_RESET_MOMENTS)?;
        handle.load_bytes(&saved, 0)?;
        after_each("loading");
        handle.launch(&params, &grads, &step_options())?;
        let far = OnDevice::of(1 - device_index, &toy.start);
        handle.launch(&far, &grads, &step_options()).expect_err("memory of the other device");
        after_each("a refusal");
        handle.dump()?;
        after_each("the dump");
        let seen = snapshot(&handle, &params.get());
        drop((handle, params, grads, far));
        after_each("freeing");
        Ok(seen.params)
    }

    #[test]
    #[ignore = "started by the test below, where there are two devices"]
    fn lives_on_both_devices() {
        let _alone = alone();
        let toy = Toy::small();
        let bits_of_life = |device_index: i32| {
            let before = current_context();
            life(&toy, device_index, |what| {
                assert_eq!(current_context(), before, "device {device_index}, {what}");
            })
            .expect("nothing fails")
        };
        let first = bits_of_life(0);
        assert!(first != bits(&toy.start));
        assert!(bits_of_life(1) == first, "the second device gives the same bits");
        thread::scope(|scope| {
            scope.spawn(|| assert!(bits_of_life(1) == first)).join().expect("a thread without a context");
        });
        let own = Context::new();
        assert!(bits_of_life(1) == first, "beside a context of the host's own");
        drop(own);
    }

    #[test]
    fn a_second_device_has_the_bits_of_the_first_and_the_hosts_context_stays_current() {
        with_two_devices("emulator_only::lives_on_both_devices");
    }

    #[test]
    #[ignore = "started by the test below, where there are two devices"]
    fn handles_on_both_devices_at_once() {
        let _alone = alone();
        let toy = Toy::small();
        let run = |devices: &[i32]| -> Vec<_> {
            let mut runs: Vec<_> = devices
                .iter()
                .map(|&i| (toy.handle(&on(i)), OnDevice::of(i, &toy.start), OnDevice::of(i, &toy.start)))
                .collect();
            for _ in 0..3 {
                for (handle, params, grads) in &mut runs {
                    handle.launch(params, grads, &step_options()).expect("a step");
                }
            }
            runs.iter_mut().map(|(handle, params, _)| snapshot(handle, &params.get())).collect()
        };
        let alone = run(&[0]);
        assert_eq!(run(&[0, 1, 0, 1]), [&alone[0]; 4].map(Clone::clone));
    }

    #[test]
    fn handles_on_two_devices_take_turns() {
        with_two_devices("emulator_only::handles_on_both_devices_at_once");
    }

    #[test]
    #[ignore = "started by the test below, where there are two devices"]
    fn memory_of_the_other_device() {
        let _alone = alone();
        let toy = Toy::small();
        let refused = |failure: Failure, name: &str, is: i32, expected: i32| {
            assert_eq!(failure.status, MAW_INVALID_ARGUMENT, "{failure:?}");
            let text =
                format!("{name} is a pointer to memory of CUDA device {is}, expected memory of CUDA device {expected}");
            assert_eq!(failure.message, text);
        };
        for (here, there) in [(0, 1), (1, 0)] {
            let mut handle = toy.handle(&on(here));
            let (mut params, grads) = (OnDevice::of(here, &toy.start), OnDevice::of(here, &toy.start));
            let (far, flag) = (OnDevice::of(there, &toy.start), Buffer::on(there, 4).expect("memory"));
            let name = "params[0] (tensor 'embed.weight')";
            refused(handle.launch(&far, &grads, &step_options()).expect_err("far"), name, there, here);
            let name = "grads[0] (tensor 'embed.weight')";
            refused(handle.launch(&params, &far, &step_options()).expect_err("far"), name, there, here);
            let wrong = maw_step_options { found_inf: flag.pointer().cast(), ..step_options() };
            refused(handle.launch(&params, &grads, &wrong).expect_err("far"), "step_options.found_inf", there, here);
            assert!(bits(&params.get()) == bits(&toy.start) && handle.steps() == Ok(0));
            handle.launch(&params, &grads, &step_options()).expect("memory of its own");
        }
    }

    #[test]
    fn memory_of_another_device_is_refused_by_its_number() {
        with_two_devices("emulator_only::memory_of_the_other_device");
    }
}
