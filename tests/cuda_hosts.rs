//! What hosts do around the library on CUDA: contexts and threads of their own, captures of other streams, buffers freed
//! early; and, on the emulator, where calls can be made to fail, what a failure in the middle leaves. With
//! METAADAMW_TEST_DEVICE=cuda on the driver that the loader finds.
#![cfg(target_os = "linux")]

mod common;

use common::cuda::{Context, OnDevice, Stream, alone, count, current_context, fail, fail_launch, make_current};
use common::device::Buffer;
use common::handle::{Failure, Handle, Outcome, step_options};
use common::tensor::bits;
use common::toy::{Toy, small_options, snapshot};
use metaadamw::ffi::*;
use std::thread;

fn cuda() -> maw_options {
    maw_options { device: MAW_CUDA, ..small_options() }
}

/// Much of what a host calls; the first failure ends it.
fn some_calls(toy: &Toy) -> Outcome<()> {
    let mut handle = Handle::new(&cuda())?;
    handle.add(&common::handle::param_group(), &toy.specs)?;
    let mut params = toy.start.clone();
    let grads = toy.gradients(0, &params);
    handle.step(&mut params, &grads)?;
    handle.set_lr(0, 0.1)?;
    handle.meta_update(&mut params, |request, params| toy.answer(request, params))?;
    let saved = handle.save_bytes(0)?;
    handle.load_bytes(&saved, 0)?;
    handle.dump().map(drop)
}

/// Without a current context, and with one of the host's own.
fn in_other_contexts(work: impl Fn(&str) + Sync) {
    thread::scope(|scope| scope.spawn(|| work("a thread without a context")).join().expect("it holds"));
    let own = Context::new();
    work("a context of the host's own");
    drop(own);
}

#[test]
fn the_hosts_context_stays_current() {
    let _alone = alone();
    let toy = Toy::small();
    in_other_contexts(|what| {
        let before = current_context();
        some_calls(&toy).unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
        assert_eq!(current_context(), before, "{what}");
    });
}

#[test]
fn what_is_allocated_and_freed_does_not_disturb_a_capture() {
    let _alone = alone();
    let toy = Toy::small();
    let stream = Stream::new();
    let doomed = (Buffer::new(100).expect("memory"), toy.handle(&cuda()));
    let (graph, ()) = stream.captured(|| {
        drop(doomed);
        let buffer = Buffer::of(&[7; 100]).expect("memory");
        let mut bytes = [0; 100];
        buffer.download(&mut bytes).expect("downloaded");
        assert_eq!(bytes, [7; 100]);
        some_calls(&toy).expect("another handle, in another stream");
    });
    graph.replay(&stream); // `captured` would have found it spoilt
    stream.wait();
}

#[test]
fn a_capture_that_the_default_stream_would_disturb_is_left_alone() {
    let _alone = alone();
    let toy = Toy::small();
    let mut handle = toy.handle(&cuda());
    let (params, grads) = (OnDevice::new(&toy.start), OnDevice::new(&toy.start));
    let (stream, buffer) = (Stream::blocking(), Buffer::new(4).expect("memory"));
    handle.launch(&params, &grads, &step_options()).expect("a step");
    handle.steps().expect("it is waited for");
    let refused = |outcome: Outcome<()>, what: &str| {
        let failure = outcome.expect_err(what);
        assert_eq!(failure.status, MAW_INVALID_STATE, "{what}: {failure:?}");
        assert!(failure.message.contains("default stream"), "{what}: {failure:?}");
    };
    let (graph, ()) = stream.captured(|| {
        refused(handle.launch(&params, &grads, &step_options()), "a step of an optimizer on the default stream");
        refused(handle.set_lr(0, 0.1), "a setter");
        refused(buffer.upload(&[1; 4]), "an upload");
        refused(buffer.download(&mut [0; 4]), "a download");
        refused(Buffer::new(4).map(drop), "a buffer of zeros");
        handle.set_stream(stream.0).expect("nothing is under way on the default stream");
        handle.launch(&params, &grads, &step_options()).expect("now it is captured");
    });
    graph.replay(&stream);
    stream.wait();
    assert_eq!(handle.steps(), Ok(2));
}

#[test]
fn handles_on_two_threads_and_streams_do_not_disturb_each_other() {
    let _alone = alone();
    let toy = Toy::small();
    let toy = &toy;
    let run = move |seed: usize| {
        let (mut handle, stream) = (toy.handle(&cuda()), Stream::new());
        handle.set_stream(stream.0).expect("a stream");
        let mut params = OnDevice::new(&toy.start);
        for step in 0..8 {
            stream.wait();
            let grads: Vec<_> = toy.gradients(seed + step, &params.get()).into_iter().zip(&toy.start).collect();
            let grads: Vec<_> = grads.into_iter().map(|(g, p)| g.unwrap_or_else(|| p.clone())).collect();
            let grads = OnDevice::new(&grads);
            handle.launch(&params, &grads, &step_options()).expect("a step");
            handle.set_lr(0, 0.01 / (1 + step) as f64).expect("a learning rate");
            // The gradients are freed while the step may still be to come.
        }
        stream.wait();
        let params = params.get();
        let seen = snapshot(&handle, &params);
        drop(handle); // before its stream
        seen
    };
    let one_by_one = [run(0), run(100)];
    let context = current_context();
    let together = thread::scope(|scope| {
        let started = [0, 100].map(|seed| {
            scope.spawn(move || {
                make_current(context);
                run(seed)
            })
        });
        started.map(|thread| thread.join().expect("it holds"))
    });
    assert!(together == one_by_one);
}

#[test]
fn a_device_buffer_names_its_own_argument() {
    let _alone = alone();
    let failure = Buffer::on(1 << 20, 4).map(drop).expect_err("no such device");
    assert!(failure.message.starts_with("device_index is 1048576, expected 0 to "), "{failure:?}");
}

/// Calls that fail, memory that ends, allocations that are counted. Left out on a device, by `--skip emulator_only`.
mod emulator_only {
    use super::*;

    #[test]
    fn the_hosts_context_stays_current_whatever_fails() {
        let _alone = alone();
        let toy = Toy::small();
        in_other_contexts(|what| {
            let before = current_context();
            for function in
                ["cuMemAlloc_v2", "cuModuleLoadData", "cuMemHostAlloc", "cuMemcpyHtoDAsync_v2", "cuLaunchKernel"]
            {
                for nth in [1, 2, 5, 11] {
                    fail(function, nth, 999);
                    let _ = some_calls(&toy);
                    fail(function, 0, 0);
                    assert_eq!(current_context(), before, "{what}, {function} {nth}");
                }
            }
        });
    }

    #[test]
    fn a_kernels_failure_is_not_told_as_a_wrong_pointer() {
        let _alone = alone();
        let toy = Toy::small();
        let mut handle = toy.handle(&cuda());
        let (params, grads, others) = (OnDevice::new(&toy.start), OnDevice::new(&toy.start), OnDevice::new(&toy.start));
        fail_launch(2, 719);
        handle.launch(&params, &grads, &step_options()).expect("it is enqueued");
        handle.fetch(MAW_FETCH_WAIT).expect_err("the kernel failed");
        let failure = handle.launch(&params, &others, &step_options()).expect_err("the device is lost");
        assert_eq!(failure.status, MAW_CUDA_ERROR, "{failure:?}");
        assert!(failure.message.contains("CUDA_ERROR_LAUNCH_FAILED"), "{failure:?}");
        common::cuda::reset();
    }

    #[test]
    fn device_memory_that_is_too_small_is_refused() {
        let _alone = alone();
        let toy = Toy::small();
        let (mut handle, params, grads) = (toy.handle(&cuda()), OnDevice::new(&toy.start), OnDevice::new(&toy.start));
        let bytes = toy.start[0].bytes().len();
        let small = Buffer::new(bytes - 1).expect("memory");
        let with = |pointers: Vec<_>| [vec![small.pointer()], pointers[1..].to_vec()].concat();
        for (p, g, name) in [
            (with(params.pointers()), grads.pointers(), "params[0] (tensor 'embed.weight')"),
            (params.pointers(), with(grads.pointers()), "grads[0] (tensor 'embed.weight')"),
        ] {
            let failure = handle.launch_at(&p, &g, &step_options(), std::ptr::null_mut()).expect_err("too small");
            assert_eq!(failure.status, MAW_INVALID_ARGUMENT, "{failure:?}");
            let expected =
                format!("{name} is a pointer to fewer than its {bytes} bytes, expected memory of CUDA device 0");
            assert_eq!(failure.message, expected);
        }
        handle.launch(&params, &grads, &step_options()).expect("with enough of it it works");
    }

    #[test]
    fn pointers_that_did_not_reach_the_device_are_not_taken_for_known() {
        let _alone = alone();
        let toy = Toy::small();
        let (mut handle, params) = (toy.handle(&cuda()), OnDevice::new(&toy.start));
        let (grads, mut others) = (OnDevice::new(&toy.start), OnDevice::new(&toy.start));
        handle.launch(&params, &grads, &step_options()).expect("a step");
        fail("cuMemcpyHtoDAsync_v2", 1, 999);
        let failure = handle.launch(&others, &grads, &step_options()).expect_err("the copy fails");
        assert_eq!(failure.status, MAW_CUDA_ERROR, "{failure:?}");
        assert!(bits(&others.get()) == bits(&toy.start), "no step was made");
        handle.launch(&others, &grads, &step_options()).expect("a step elsewhere");
        assert!(bits(&others.get()) != bits(&toy.start), "the step was made where it was told to be");
    }

    fn told(outcome: Outcome<()>, what: &str) {
        let failure = outcome.expect_err(what);
        assert_eq!(failure.status, MAW_CUDA_ERROR, "{what}: {failure:?}");
    }

    #[test]
    fn a_step_that_was_decided_and_not_made_breaks_the_handle_for_good() {
        let _alone = alone();
        let toy = Toy::small();
        let mut handle = toy.handle(&cuda());
        let (mut params, grads) = (OnDevice::new(&toy.start), OnDevice::new(&toy.start));
        for nth in [1, 2] {
            fail("cuLaunchKernel", nth, 701);
            told(handle.launch(&params, &grads, &step_options()), "a launch fails");
            assert_eq!(handle.steps(), Ok(0), "launch {nth}: nothing was changed");
        }
        fail("cuLaunchKernel", 3, 701);
        told(handle.launch(&params, &grads, &step_options()), "the update is not made");
        told(handle.launch(&params, &grads, &step_options()), "the counts are ahead of the parameters");
        told(handle.save_bytes(0).map(drop), "nor must that be saved");
        assert!(bits(&params.get()) == bits(&toy.start));
    }

    #[test]
    fn a_host_that_decides_hears_of_the_driver_and_not_of_numbers() {
        let _alone = alone();
        let toy = Toy::small();
        for options in [
            maw_options { nonfinite: MAW_NONFINITE_ERROR, ..cuda() },
            maw_options { verify_params: 1, ..cuda() },
            maw_options { modulation: 0, nonfinite: MAW_NONFINITE_PROPAGATE, verify_params: 1, ..cuda() },
        ] {
            for nth in 1..=4 {
                let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
                toy.train(&mut handle, &mut params, 0, 2);
                let grads = toy.gradients(2, &params);
                fail("cuLaunchKernel", nth, 701);
                told(handle.step(&mut params, &grads).map(drop), &format!("launch {nth} of {options:?}"));
                fail("cuLaunchKernel", 0, 0);
            }
        }
        let options = maw_options { verify_params: 1, ..cuda() };
        let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
        toy.train(&mut handle, &mut params, 0, 2);
        fail("cuLaunchKernel", 1, 701);
        told(handle.begin(&mut params).map(drop), "a meta-update begins");
    }

    #[test]
    fn a_failure_in_a_meta_update_puts_the_parameters_back() {
        let _alone = alone();
        let toy = Toy::small();
        // From the first answer on, each launch of a meta-update in turn.
        for nth in 1..=12 {
            let (mut handle, mut params) = (toy.handle(&cuda()), toy.start.clone());
            toy.train(&mut handle, &mut params, 0, 2);
            let before = bits(&params);
            let request = handle.begin(&mut params).expect("begun");
            fail("cuLaunchKernel", nth, 701);
            let mut next = Some(request);
            let failure = loop {
                let request = next.take().filter(|r| r.kind != MAW_META_DONE).expect("a launch fails before the end");
                let answer = toy.answer(&request, &params);
                match handle.tell(request.id, &answer, &mut params) {
                    Ok(more) => next = Some(more),
                    Err(failure) => break failure,
                }
            };
            fail("cuLaunchKernel", 0, 0);
            assert_eq!(failure.status, MAW_CUDA_ERROR, "{failure:?}");
            assert!(bits(&params) == before, "launch {nth}: the parameters are what they were");
            let grads = toy.gradients(2, &params);
            told(handle.step(&mut params, &grads).map(drop), "the handle is broken");
            told(handle.save_bytes(0).map(drop), "nor must it be saved");
            assert!(handle.abort(&mut params).expect_err("it is closed").message.contains("no meta-update is open"));
        }
    }

    #[test]
    fn what_is_dropped_in_a_capture_is_freed_at_once() {
        let _alone = alone();
        let toy = Toy::small();
        let stream = Stream::new();
        let doomed = (Buffer::new(100).expect("memory"), toy.handle(&cuda()));
        let allocations = count("allocations");
        let (_graph, ()) = stream.captured(|| {
            drop(doomed);
            assert!(count("allocations") < allocations);
        });
    }

    #[test]
    fn what_is_no_stream_is_refused_before_preparation_too() {
        let _alone = alone();
        let mut handle = Handle::new(&cuda()).expect("good options");
        let failure: Failure = handle.set_stream(std::ptr::without_provenance_mut(0xdead0)).expect_err("no stream");
        assert_eq!(failure.status, MAW_CUDA_ERROR, "{failure:?}");
    }
}
