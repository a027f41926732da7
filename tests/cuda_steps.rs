//! Steps on a CUDA device: the CPU's numbers, in any order of threads, without waiting and without allocating. With
//! METAADAMW_TEST_DEVICE=cuda on the driver that the loader finds, else on the emulator.
#![cfg(target_os = "linux")]

mod common;

use common::cuda::{OnDevice, alone, count, order};
use common::handle::{Handle, Spec, default_options, param_group, step_options};
use common::tensor::{Tensor, bits};
use common::toy::{Random, Snapshot, Toy, small_options, snapshot};
use metaadamw::ffi::*;

/// Tensors of one and several chunks, none of them even, and one without elements.
fn specs() -> Vec<Spec> {
    vec![
        Spec::new("embed.weight", &[97, 101], MAW_FLOAT32),
        Spec::new("layers.0.attn.weight", &[4096], MAW_FLOAT32),
        Spec::new("layers.0.attn.bias", &[3], MAW_FLOAT64),
        Spec::new("layers.1.mlp.weight", &[71, 73], MAW_FLOAT64),
        Spec::new("layers.1.nothing", &[0], MAW_FLOAT32),
        Spec::new("head.bias", &[], MAW_FLOAT32),
    ]
}

fn tensors(random: &mut Random, size: f64) -> Vec<Tensor> {
    specs().iter().map(|s| Tensor::new(s.dtype, &random.values(s.len(), size))).collect()
}

fn cpu() -> maw_options {
    maw_options { device: MAW_CPU, threads: 1, ..small_options() }
}

fn cuda() -> maw_options {
    maw_options { device: MAW_CUDA, ..small_options() }
}

fn handle(options: &maw_options) -> Handle {
    let mut handle = Handle::new(options).expect("the options are good");
    let group = maw_param_group { lr: 0.02, weight_decay: 0.1, ..param_group() };
    handle.add(&group, &specs()).expect("the tensors are good");
    handle.prepare().expect("all is registered");
    handle
}

fn close(got: &[Tensor], expected: &[Tensor], what: &str) {
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let largest = expected.values().iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let tolerance = if expected.dtype() == MAW_FLOAT64 { 1e-12 } else { 1e-6 };
        for (x, y) in got.values().iter().zip(expected.values()) {
            assert!((x - y).abs() <= tolerance * largest, "{what}: tensor {i}: {x} is not {y}");
        }
    }
}

/// Six steps on both, of tensors that are sometimes without a gradient.
fn side_by_side(
    cpu: &maw_options,
    cuda: &maw_options,
    mut compare: impl FnMut(usize, (&Handle, &[Tensor]), (&Handle, &[Tensor])),
) {
    let mut random = Random(5);
    let start = tensors(&mut random, 0.5);
    let (mut host, mut device) = (handle(cpu), handle(cuda));
    let (mut on_host, mut on_device) = (start.clone(), start);
    for number in 0..6 {
        let mut grads: Vec<Option<Tensor>> = tensors(&mut random, 1.0).into_iter().map(Some).collect();
        if number % 3 == 2 {
            grads[number % 2] = None;
        }
        let options = maw_step_options { grad_scale: 2.0, ..step_options() };
        let expected = host.step_with(&mut on_host, &grads, &options).expect("a step");
        let got = device.step_with(&mut on_device, &grads, &options).expect("a step");
        assert_eq!((got.step, got.skipped), (expected.step, 0));
        if expected.grad_norm.is_finite() {
            assert!((got.grad_norm / expected.grad_norm - 1.0).abs() < 1e-12, "{got:?} is not {expected:?}");
            assert!((got.clip_factor / expected.clip_factor - 1.0).abs() < 1e-12, "{got:?} is not {expected:?}");
        }
        compare(number, (&device, &on_device), (&host, &on_host));
    }
}

#[test]
fn a_step_has_the_numbers_of_the_cpu() {
    let _alone = alone();
    for version in [MAW_FEATURES_BASIC, MAW_FEATURES_BASIC_PLUS, MAW_FEATURES_ENHANCED, MAW_FEATURES_NORM_BASIC_PLUS] {
        for semantics in [MAW_PAPER, MAW_REFERENCE] {
            let with = |o: maw_options| maw_options {
                feature_version: version,
                semantics,
                max_grad_norm: 3.0,
                use_feature_gating: 1,
                ..o
            };
            side_by_side(&with(cpu()), &with(cuda()), |number, (device, got), (host, expected)| {
                close(got, expected, &format!("features {version}, semantics {semantics}, step {number}"));
                if number == 0 {
                    let (got, expected) = (device.features().expect("known"), host.features().expect("known"));
                    for (x, y) in got.iter().zip(&expected) {
                        assert!((x - y).abs() <= 1e-12 * y.abs().max(1.0), "feature {x} is not {y}");
                    }
                }
            });
        }
    }
}

/// Norms of parameters and moments, from the dump.
fn norms(handle: &mut Handle) -> Vec<f64> {
    let dump = handle.dumped();
    let groups = dump["modulation_groups"].as_array().expect("groups");
    let tensors = groups.iter().flat_map(|group| group["tensors"].as_array().expect("tensors"));
    let norms = tensors.flat_map(|t| ["param", "exp_avg", "exp_avg_sq"].map(|name| t["norms"][name].as_f64()));
    norms.map(|norm| norm.expect("norms are known")).collect()
}

fn exact(got: &[f64], expected: &[f64], what: &str) {
    assert!(got.len() == expected.len() && !got.is_empty(), "{what}");
    for (x, y) in got.iter().zip(expected) {
        assert!((x - y).abs() <= 1e-12 * y.abs().max(1.0), "{what}: {x} is not {y}");
    }
}

const VERSIONS: [i32; 5] = [
    MAW_FEATURES_BASIC,
    MAW_FEATURES_BASIC_PLUS,
    MAW_FEATURES_ENHANCED,
    MAW_FEATURES_NORM_BASIC,
    MAW_FEATURES_NORM_BASIC_PLUS,
];

#[test]
fn from_a_state_that_is_the_same_statistics_are_those_of_the_cpu() {
    let _alone = alone();
    for version in VERSIONS {
        for semantics in [MAW_PAPER, MAW_REFERENCE] {
            let with = |o: maw_options| maw_options { feature_version: version, semantics, max_grad_norm: 3.0, ..o };
            let mut random = Random(6);
            let (mut host, mut device) = (handle(&with(cpu())), handle(&with(cuda())));
            let mut params = tensors(&mut random, 0.5);
            for step in 0..5 {
                // float32 parameters differ after a step, so each begins with the host's state.
                let mut on_device = params.clone();
                device.load_bytes(&host.save_bytes(0).expect("saved"), 0).expect("loaded");
                let mut grads: Vec<Option<Tensor>> = tensors(&mut random, 1.0).into_iter().map(Some).collect();
                if step % 3 == 2 {
                    grads[step % 2] = None;
                }
                let expected = host.step(&mut params, &grads).expect("a step");
                let got = device.step(&mut on_device, &grads).expect("a step");
                let what = format!("features {version}, semantics {semantics}, step {step}");
                assert!((got.grad_norm / expected.grad_norm - 1.0).abs() <= 1e-12, "{what}: {got:?}, {expected:?}");
                exact(&device.features().expect("known"), &host.features().expect("known"), &what);
                let (got, expected) = (device.factors().expect("known"), host.factors().expect("known"));
                exact(&got.alpha, &expected.alpha, &what);
                exact(&got.beta, &expected.beta, &what);
                close(&on_device, &params, &what);
            }
        }
    }
}

#[test]
fn statistics_that_are_carried_from_step_to_step_are_those_of_the_cpu() {
    let _alone = alone();
    let specs: Vec<Spec> = specs().into_iter().map(|spec| Spec { dtype: MAW_FLOAT64, ..spec }).collect();
    for version in VERSIONS {
        for semantics in [MAW_PAPER, MAW_REFERENCE] {
            let mut random = Random(6);
            let with = |o: maw_options| maw_options { feature_version: version, semantics, ..o };
            let made = |options: &maw_options| {
                let mut handle = Handle::new(options).expect("the options are good");
                handle.add(&param_group(), &specs).expect("the tensors are good");
                handle
            };
            let (mut host, mut device) = (made(&with(cpu())), made(&with(cuda())));
            let mut some = || specs.iter().map(|s| Tensor::new(s.dtype, &random.values(s.len(), 0.5))).collect();
            let mut params: Vec<Tensor> = some();
            let mut on_device = params.clone();
            for step in 0..5 {
                let grads: Vec<Tensor> = some();
                let grads: Vec<_> = grads.into_iter().map(Some).collect();
                host.step(&mut params, &grads).expect("a step");
                device.step(&mut on_device, &grads).expect("a step");
                let what = format!("features {version}, semantics {semantics}, step {step}");
                exact(&device.features().expect("known"), &host.features().expect("known"), &what);
                exact(&norms(&mut device), &norms(&mut host), &what);
            }
        }
    }
}

#[test]
fn an_attention_module_of_any_shape_has_the_numbers_of_the_cpu() {
    let _alone = alone();
    // Wide heads; one that does not fit into shared memory.
    for (heads, dim, hidden) in [(2, 20, 8), (1, 9, 3), (3, 6, 1500)] {
        let with = |o: maw_options| maw_options { attn_heads: heads, feature_dim: dim, attn_hidden_dim: hidden, ..o };
        side_by_side(&with(cpu()), &with(cuda()), |number, (device, got), (host, expected)| {
            close(got, expected, &format!("{heads} heads, width {dim}, hidden {hidden}, step {number}"));
            let (got, expected) = (device.factors().expect("known"), host.factors().expect("known"));
            for (x, y) in got.alpha.iter().zip(&expected.alpha) {
                assert!((x - y).abs() <= if number == 0 { 1e-12 } else { 1e-6 }, "{x} is not {y}");
            }
        });
    }
}

#[test]
fn tensors_of_more_chunks_than_there_are_blocks_have_the_numbers_of_the_cpu() {
    let _alone = alone();
    // 4 multiprocessors of the emulator run 32 blocks; 600 chunks are added up by a whole block.
    for (elements, kinds) in [(150_000, [MAW_FLOAT32, MAW_FLOAT64]), (600 * 4096 + 5, [MAW_FLOAT32, MAW_FLOAT32])] {
        let specs = [Spec::new("a.weight", &[elements], kinds[0]), Spec::new("b.bias", &[elements / 7], kinds[1])];
        let mut random = Random(8);
        let mut some = || specs.iter().map(|s| Tensor::new(s.dtype, &random.values(s.len(), 0.5))).collect::<Vec<_>>();
        let (start, grads) = (some(), some());
        let run = |options: &maw_options, seed: u64| {
            order(seed);
            let (mut handle, mut params) = (Handle::new(options).expect("good options"), start.clone());
            handle.add(&param_group(), &specs).expect("good tensors");
            let grads: Vec<_> = grads.iter().cloned().map(Some).collect();
            for _ in 0..2 {
                handle.step(&mut params, &grads).expect("a step");
            }
            (handle.features().expect("known"), params)
        };
        let expected = run(&cpu(), 0);
        let (features, params) = run(&cuda(), 0);
        close(&params, &expected.1, "many chunks");
        for (x, y) in features.iter().zip(&expected.0) {
            assert!((x - y).abs() <= 1e-7 * y.abs(), "feature {x} is not {y}");
        }
        let (again, same) = run(&cuda(), 1);
        assert!(again == features && bits(&same) == bits(&params), "another order of threads");
    }
    order(0);
}

#[test]
fn without_checks_and_modulation_the_dump_knows_no_norms() {
    let _alone = alone();
    let toy = Toy::small();
    let options = maw_options { modulation: 0, nonfinite: MAW_NONFINITE_PROPAGATE, ..cuda() };
    let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 2);
    let dump = handle.dump().expect("a dump");
    assert!(dump.contains("\"step\": 2") && dump.contains("\"norms\": null"), "{dump}");
}

#[test]
fn without_modulation_the_parameters_have_the_bits_of_the_cpu() {
    let _alone = alone();
    for nonfinite in [MAW_NONFINITE_SKIP, MAW_NONFINITE_PROPAGATE] {
        let with = |o: maw_options| maw_options { modulation: 0, nonfinite, ..o };
        side_by_side(&with(cpu()), &with(cuda()), |number, (_, got), (_, expected)| {
            assert!(bits(got) == bits(expected), "step {number}, policy {nonfinite}");
        });
    }
}

#[test]
fn every_dtype_and_precision_has_the_bits_of_the_cpu() {
    let _alone = alone();
    let mut random = Random(11);
    let precisions = [
        (MAW_BFLOAT16, MAW_PRECISION_NEAREST),
        (MAW_BFLOAT16, MAW_PRECISION_MASTER),
        (MAW_BFLOAT16, MAW_PRECISION_REMAINDER),
        (MAW_BFLOAT16, MAW_PRECISION_STOCHASTIC),
        (MAW_FLOAT16, MAW_PRECISION_NEAREST),
        (MAW_FLOAT16, MAW_PRECISION_MASTER),
        (MAW_FLOAT16, MAW_PRECISION_STOCHASTIC),
        (MAW_FLOAT32, MAW_PRECISION_NEAREST),
        (MAW_FLOAT64, MAW_PRECISION_NEAREST),
    ];
    // Several chunks, and several spans of random bits.
    let shape = [33_333_u64];
    for (dtype, precision) in precisions {
        for grad_dtype in [MAW_BFLOAT16, MAW_FLOAT16, MAW_FLOAT32, MAW_FLOAT64] {
            for moment_dtype in [0, MAW_BFLOAT16] {
                if dtype == MAW_FLOAT64 && moment_dtype != 0 {
                    continue;
                }
                let spec = Spec { grad_dtype, ..Spec::new("w", &shape, dtype) };
                let usual = maw_param_group { lr: 0.02, precision, moment_dtype, ..param_group() };
                let start = vec![Tensor::new(dtype, &random.values(spec.len(), 0.5))];
                let grads = vec![Some(Tensor::new(grad_dtype, &random.values(spec.len(), 0.01)))];
                // Down to ½ averages are slow.
                for betas @ (beta1, beta2) in [(usual.beta1, usual.beta2), (0.5, 0.5), (0.4, 0.999), (0.9, 0.4)] {
                    let group = maw_param_group { beta1, beta2, ..usual };
                    let run = |options: &maw_options| {
                        let (mut handle, mut params) = (Handle::new(options).expect("good options"), start.clone());
                        handle.add(&group, std::slice::from_ref(&spec)).expect("good tensors");
                        for _ in 0..2 {
                            handle.step(&mut params, &grads).expect("a step");
                        }
                        let masters =
                            handle.masters(0, &params[0]).map(|m| m.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
                        (bits(&params), handle.tensor_state(0, &spec).expect("a state").bits(), masters.ok())
                    };
                    let with = |o: maw_options| maw_options { modulation: 0, ..o };
                    let same = run(&with(cuda())) == run(&with(cpu()));
                    let case = format!("dtype {dtype}, gradient {grad_dtype}, moments {moment_dtype}, {betas:?}");
                    assert!(same, "{case}, precision {precision}");
                }
            }
        }
    }
}

#[test]
fn a_host_that_decides_and_a_device_that_does_have_the_same_bits() {
    let _alone = alone();
    let toy = Toy::small();
    let run = |options: &maw_options| {
        let (mut handle, mut params) = (toy.handle(options), toy.start.clone());
        toy.train(&mut handle, &mut params, 0, 4);
        toy.meta_update(&mut handle, &mut params).expect("a meta-update");
        toy.train(&mut handle, &mut params, 4, 3);
        snapshot(&handle, &params)
    };
    for version in [MAW_FEATURES_BASIC_PLUS, MAW_FEATURES_ENHANCED, MAW_FEATURES_NORM_BASIC] {
        let device = maw_options { feature_version: version, max_grad_norm: 0.5, ..cuda() };
        let decided = run(&device);
        assert_eq!(run(&maw_options { nonfinite: MAW_NONFINITE_ERROR, ..device }), decided);
        assert_eq!(run(&maw_options { verify_params: 1, ..device }), decided);
    }
}

/// Three steps with tensors that begin so many elements behind an aligned address.
fn three_steps(shift: usize) -> Snapshot {
    let options = maw_options { feature_version: MAW_FEATURES_ENHANCED, semantics: MAW_REFERENCE, ..cuda() };
    let mut random = Random(9);
    let (mut handle, mut params) = (handle(&options), OnDevice::shifted(&tensors(&mut random, 0.5), shift));
    for _ in 0..3 {
        let grads = OnDevice::shifted(&tensors(&mut random, 1.0), 2 * shift);
        handle.launch(&params, &grads, &step_options()).expect("a step");
        handle.fetch(MAW_FETCH_WAIT).expect("a report");
    }
    snapshot(&handle, &params.get())
}

#[test]
fn any_alignment_gives_the_same_bits() {
    let _alone = alone();
    let aligned = three_steps(0);
    for shift in [1, 2, 3] {
        assert!(three_steps(shift) == aligned, "{shift} elements behind an aligned address");
    }
}

#[test]
fn sixteen_bit_tensors_at_any_alignment_have_the_same_bits() {
    let _alone = alone();
    let mut random = Random(13);
    let specs = [Spec::new("a.weight", &[4099], MAW_BFLOAT16), Spec::new("b.weight", &[33], MAW_BFLOAT16)];
    let mut some = |size: f64| specs.iter().map(|s| Tensor::new(s.dtype, &random.values(s.len(), size))).collect();
    let (start, grads): (Vec<Tensor>, Vec<Tensor>) = (some(0.5), some(0.01));
    for precision in [MAW_PRECISION_NEAREST, MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER, MAW_PRECISION_STOCHASTIC] {
        for moment_dtype in [MAW_FLOAT32, MAW_BFLOAT16] {
            let run = |shift: usize| {
                let mut handle = Handle::new(&cuda()).expect("good options");
                let group = maw_param_group { lr: 0.02, precision, moment_dtype, ..param_group() };
                handle.add(&group, &specs).expect("good tensors");
                let (mut params, grads) = (OnDevice::shifted(&start, shift), OnDevice::shifted(&grads, 2 * shift));
                for _ in 0..3 {
                    handle.launch(&params, &grads, &step_options()).expect("a step");
                }
                snapshot(&handle, &params.get())
            };
            let aligned = run(0);
            for shift in [1, 2, 3] {
                assert!(run(shift) == aligned, "precision {precision}, moments {moment_dtype}, {shift} elements");
            }
        }
    }
}

#[test]
fn a_report_is_fetched_without_waiting_or_after_waiting() {
    let _alone = alone();
    let mut random = Random(3);
    let (mut handle, params) = (handle(&cuda()), OnDevice::new(&tensors(&mut random, 0.5)));
    assert_eq!(handle.fetch(0).expect_err("no step").status, MAW_INVALID_STATE);
    assert_eq!(handle.fetch(MAW_FETCH_WAIT).expect_err("no step").status, MAW_INVALID_STATE);
    let grads = OnDevice::new(&tensors(&mut random, 1.0));
    handle.launch(&params, &grads, &step_options()).expect("a step");
    assert_eq!(handle.fetch(MAW_FETCH_WAIT).expect("a report").step, 1);
    handle.launch(&params, &grads, &step_options()).expect("a step");
    handle.launch(&params, &grads, &step_options()).expect("a step");
    let newest = handle.fetch(0).expect("a report");
    assert!((1..=3).contains(&newest.step), "{newest:?}");
    let last = handle.fetch(MAW_FETCH_WAIT).expect("a report");
    assert_eq!((last.step, last.skipped, last.nonfinite_tensor), (3, 0, MAW_NO_TENSOR));
    assert_eq!(handle.fetch(0).expect("a report").step, 3);
}

#[test]
fn a_step_that_is_not_finite_changes_nothing_but_the_count() {
    let _alone = alone();
    let mut random = Random(3);
    let start = tensors(&mut random, 0.5);
    let good = tensors(&mut random, 1.0);
    let mut bad = good.clone();
    bad[3].set(5000, f64::NAN);
    let (good, bad) = (OnDevice::new(&good), OnDevice::new(&bad));
    let (mut handle, mut params) = (handle(&cuda()), OnDevice::new(&start));
    for grads in [&bad, &good, &bad, &good] {
        handle.launch(&params, grads, &step_options()).expect("a step");
    }
    let last = handle.fetch(MAW_FETCH_WAIT).expect("a report");
    assert_eq!((last.step, last.skipped_steps, last.skipped), (2, 2, 0));
    handle.launch(&params, &bad, &step_options()).expect("a step");
    let skipped = handle.fetch(MAW_FETCH_WAIT).expect("a report");
    assert_eq!((skipped.skip_reason, skipped.nonfinite_tensor), (MAW_SKIP_GRADIENT, 3));
    let (mut undisturbed, mut expected) = (self::handle(&cuda()), OnDevice::new(&start));
    for _ in 0..2 {
        undisturbed.launch(&expected, &good, &step_options()).expect("a step");
    }
    assert_eq!(snapshot(&handle, &params.get()), snapshot(&undisturbed, &expected.get()));
}

#[test]
fn a_checkpoint_moves_between_the_cpu_and_cuda_and_back() {
    let _alone = alone();
    let toy = Toy::small();
    for semantics in [MAW_PAPER, MAW_REFERENCE] {
        let on = |device: i32| toy.handle(&maw_options { device, semantics, ..small_options() });
        let (mut first, mut params) = (on(MAW_CUDA), toy.start.clone());
        toy.train(&mut first, &mut params, 0, 3);
        toy.meta_update(&mut first, &mut params).expect("a meta-update");
        toy.train(&mut first, &mut params, 3, 2);
        let saved = first.save_bytes(0).expect("saved");
        let (mut host, mut device) = (on(MAW_CPU), on(MAW_CUDA));
        host.load_bytes(&saved, 0).expect("loaded on the CPU");
        assert_eq!(snapshot(&host, &params), snapshot(&first, &params));
        let again = host.save_bytes(0).expect("saved on the CPU");
        assert!(again == saved, "the same state gives the same bytes");
        device.load_bytes(&again, 0).expect("loaded on CUDA");
        let mut elsewhere = params.clone();
        toy.train(&mut first, &mut params, 5, 2);
        toy.train(&mut device, &mut elsewhere, 5, 2);
        assert_eq!(snapshot(&device, &elsewhere), snapshot(&first, &params));
    }
}

#[test]
fn the_default_options_are_those_of_the_cpu() {
    assert_eq!(default_options().device, MAW_CPU);
}

/// Calls of the driver are counted, threads run in another order. Left out on a device, by `--skip emulator_only`.
mod emulator_only {
    use super::*;

    #[test]
    fn a_step_enqueues_three_kernels_and_neither_waits_nor_allocates() {
        let test = alone();
        let mut random = Random(3);
        let (mut handle, params) = (handle(&cuda()), OnDevice::new(&tensors(&mut random, 0.5)));
        let (grads, others) = (OnDevice::new(&tensors(&mut random, 1.0)), OnDevice::new(&tensors(&mut random, 1.0)));
        let calls =
            ["cuMemAlloc_v2", "cuMemFree_v2", "cuStreamSynchronize", "cuCtxSynchronize", "cuMemcpyDtoHAsync_v2"];
        let before = calls.map(count);
        let launched = count("cuLaunchKernel");
        for grads in [&grads, &grads, &others] {
            handle.launch(&params, grads, &step_options()).expect("a step");
            handle.set_lr(MAW_ALL_GROUPS, 0.01).expect("a learning rate");
            assert!(test.context_is_kept());
        }
        assert_eq!(calls.map(count), before);
        assert!(count("cuLaunchKernel") <= launched + 9);
        assert_eq!(handle.steps(), Ok(3));
    }

    #[test]
    fn any_order_of_threads_gives_the_same_bits() {
        let _alone = alone();
        let run = |seed: u64| {
            order(seed);
            three_steps(0)
        };
        let ascending = run(0);
        for seed in [1, 2, 3, 17] {
            assert!(run(seed) == ascending, "order {seed}");
        }
    }
}

#[test]
fn moments_that_decay_become_zero_as_on_the_cpu() {
    let _alone = alone();
    let group = maw_param_group { beta1: 0.02, beta2: 0.03, ..param_group() };
    let handle = |options: &maw_options| {
        let mut handle = Handle::new(options).expect("the options are good");
        handle.add(&group, &specs()).expect("the tensors are good");
        handle.prepare().expect("all is registered");
        handle
    };
    let (mut on_cpu, mut on_device) = (handle(&cpu()), handle(&cuda()));
    let mut random = Random(3);
    let mut params = tensors(&mut random, 0.5);
    let mut device_params = OnDevice::new(&params);
    let live = tensors(&mut random, 0.3);
    // float32's moments have decayed after 25 steps, float64's after 205.
    for step in 0..230 {
        let grads: Vec<Tensor> = live
            .iter()
            .map(|g| if step == 0 { g.clone() } else { Tensor::new(g.dtype(), &vec![0.0; g.len()]) })
            .collect();
        on_cpu.step(&mut params, &grads.iter().cloned().map(Some).collect::<Vec<_>>()).expect("a step");
        on_device.launch(&device_params, &OnDevice::new(&grads), &step_options()).expect("a step");
        if !(40..=170).contains(&step) {
            for (i, spec) in specs().iter().enumerate() {
                let [a, b] = [&mut on_cpu, &mut on_device].map(|h| h.tensor_state(i, spec).expect("a tensor"));
                for (m, n) in [(&a.exp_avg, &b.exp_avg), (&a.exp_avg_sq, &b.exp_avg_sq)] {
                    let zeros = |t: &Tensor| t.bits().iter().map(|bits| *bits == 0).collect::<Vec<_>>();
                    assert_eq!(zeros(m), zeros(n), "tensor {i} after step {step}");
                    assert!(step < 229 || m.values().iter().all(|x| *x == 0.0), "tensor {i} has decayed");
                }
            }
        }
    }
    close(&device_params.get(), &params, "parameters");
}
