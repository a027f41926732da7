//! 16-bit parameters and gradients in steps: the four precisions, moments of bfloat16, loss scaling.
//!
//! The oracle is the library on float32 tensors, which the golden cases hold to account: what is computed from 16-bit
//! elements is what is computed from the same values in float32, rounded once.

mod common;

use std::sync::Mutex;

use common::device::is_cuda;
use common::handle::{Handle, Spec, options, param_group, step_options};
use common::model::*;
use common::saved::State;
use common::tensor::{Tensor, bits};
use metaadamw::ffi::*;
use metaadamw::numeric::half::{BF16, F16, Half};
use metaadamw::numeric::simd;

#[test]
fn masters_are_trained_as_float32_parameters_bit_for_bit() {
    for (dtype, precision) in PRECISIONS.into_iter().filter(|(_, p)| [1, 2].contains(p)) {
        let model = Model::new(dtype, MAW_FLOAT32, precision);
        let plain = model.in_float32();
        let (mut handle, mut params) = (model.handle(), model.start());
        let (mut oracle, mut expected) = (plain.handle(), widened(&params));
        for step in 0..40 {
            model.train(&mut handle, &mut params, step..step + 1);
            plain.train(&mut oracle, &mut expected, step..step + 1);
            let masters = model.masters(&mut handle, &params);
            assert_eq!(f32_bits(&masters), bits(&expected), "dtype {dtype}, precision {precision}, step {step}");
            assert_eq!(seen(&handle), seen(&oracle), "features are of the masters");
            let show = if dtype == MAW_BFLOAT16 { BF16::from_master } else { F16::from_master };
            let shown: Vec<Vec<u64>> =
                masters.iter().map(|m| m.iter().map(|x| u64::from(show(*x))).collect()).collect();
            assert_eq!(bits(&params), shown, "the parameters are the masters rounded");
        }
        assert_eq!(model.state_bits(&mut handle), plain.state_bits(&mut oracle));
    }
}

#[test]
fn remainders_give_the_bits_of_masters_over_a_thousand_steps() {
    // As below: one of them is enough where an emulator takes long.
    let grad_dtypes = if is_cuda() { &[MAW_FLOAT32][..] } else { &[MAW_BFLOAT16, MAW_FLOAT32] };
    for &grad_dtype in grad_dtypes {
        let master = Model { most: 300, ..Model::new(MAW_BFLOAT16, grad_dtype, MAW_PRECISION_MASTER) };
        let remainder = Model { most: 300, ..Model::new(MAW_BFLOAT16, grad_dtype, MAW_PRECISION_REMAINDER) };
        let (mut a, mut p) = (master.handle(), master.start());
        let (mut b, mut q) = (remainder.handle(), remainder.start());
        for step in 0..1000 {
            master.train(&mut a, &mut p, step..step + 1);
            remainder.train(&mut b, &mut q, step..step + 1);
            assert_eq!(bits(&p), bits(&q), "step {step}");
            if step % 50 == 49 {
                assert_eq!(seen(&a), seen(&b), "step {step}");
                assert_eq!(f32_bits(&master.masters(&mut a, &p)), f32_bits(&remainder.masters(&mut b, &q)));
            }
        }
        assert_eq!(master.state_bits(&mut a), remainder.state_bits(&mut b));
        assert_ne!(bits(&p), bits(&master.start()));
    }
}

#[test]
fn to_nearest_each_step_is_the_float32_step_rounded() {
    for (dtype, grad_dtype) in HALVES.into_iter().flat_map(|d| DTYPES.map(|g| (d, g))) {
        let model = Model::new(dtype, grad_dtype, MAW_PRECISION_NEAREST);
        let plain = Model { grad_dtype, ..model.in_float32() };
        let (mut handle, mut params) = (model.handle(), model.start());
        let mut oracle = plain.handle();
        let changed = maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() };
        for step in 0..12 {
            let mut expected = widened(&params);
            model.train(&mut handle, &mut params, step..step + 1);
            oracle.step_with(&mut expected, &plain.gradients(step), &changed).expect("a step");
            assert_eq!(bits(&params), bits(&rounded(dtype, &expected)), "dtypes {dtype}, {grad_dtype}, step {step}");
            assert_eq!(seen(&handle), seen(&oracle));
        }
        assert_eq!(model.state_bits(&mut handle), plain.state_bits(&mut oracle));
    }
}

/// Also with small β, after gradients a thousand times as large.
#[test]
fn moments_and_masters_of_16_bit_gradients_follow_the_formulas_to_the_last_bits_of_float32() {
    const BETAS: [[f64; 2]; 6] = [[0.9, 0.999], [0.5, 0.5], [0.49, 0.999], [0.0, 0.99], [0.9, 0.0], [0.0, 0.0]];
    let close = |got: f64, expected: f64, size: f64| (got - expected).abs() <= size * f64::from(f32::EPSILON) * 2.0;
    for (dtype, [beta1, beta2]) in HALVES.into_iter().flat_map(|d| BETAS.map(|b| (d, b))) {
        let mut model = Model::new(dtype, dtype, MAW_PRECISION_MASTER);
        model.options.modulation = 0;
        model.group = maw_param_group { beta1, beta2, ..model.group };
        let maw_param_group { lr, eps, weight_decay, .. } = model.group;
        let (mut handle, mut params) = (model.handle(), model.start());
        model.train(&mut handle, &mut params, 0..1);
        for step in 1..4 {
            let scale = [1.0, 1e-3][step % 2];
            let grads: Vec<_> = model.gradients(step).into_iter().flatten().map(|g| g.scaled(scale)).collect();
            let (masters, states) = (model.masters(&mut handle, &params), model.states(&mut handle));
            handle.step(&mut params, &grads.iter().cloned().map(Some).collect::<Vec<_>>()).expect("a step");
            let (moved, after) = (model.masters(&mut handle, &params), model.states(&mut handle));
            for (i, g) in grads.iter().enumerate() {
                let of = |states: &[State]| (states[i].exp_avg.values(), states[i].exp_avg_sq.values());
                let ((old_m, old_v), (m, v)) = (of(&states), of(&after));
                let [correction1, correction2] = [beta1, beta2].map(|beta| 1.0 - beta.powi(step as i32 + 1));
                for (k, g) in g.values().into_iter().enumerate() {
                    let [old, new] = [beta1 * old_m[k], (1.0 - beta1) * g];
                    assert!(close(m[k], old + new, old.abs() + new.abs()), "m[{k}] of {i}: {}, {beta1}", m[k]);
                    let square = beta2 * old_v[k] + (1.0 - beta2) * g * g;
                    assert!(close(v[k], square, square), "v[{k}] of {i}: {}, not {square}, {beta2}", v[k]);
                    let p = f64::from(masters[i][k]);
                    let by = lr * m[k] / correction1 / ((v[k] / correction2).sqrt() + eps);
                    let expected = p - by - lr * weight_decay * p;
                    let got = f64::from(moved[i][k]);
                    assert!(close(got, expected, p.abs() + by.abs()), "master {k} of {i}: {got}, not {expected}");
                }
            }
        }
    }
}

#[test]
fn a_weight_decay_below_the_last_place_of_a_master_is_right_in_the_mean() {
    const START: f64 = 1.0625; // 3e-8 of it is half a unit in the last place of a float32
    let kinds = [
        (MAW_BFLOAT16, MAW_PRECISION_MASTER),
        (MAW_BFLOAT16, MAW_PRECISION_REMAINDER),
        (MAW_FLOAT16, MAW_PRECISION_MASTER),
        (MAW_FLOAT32, MAW_PRECISION_NEAREST),
    ];
    for (dtype, precision) in kinds {
        let run = |weight_decay: f64| -> f64 {
            let grad_dtype = if dtype == MAW_FLOAT16 { MAW_FLOAT16 } else { MAW_BFLOAT16 };
            let mut model = Model::new(dtype, grad_dtype, precision);
            model.options.modulation = 0;
            model.group = maw_param_group { lr: 2e-6, weight_decay, ..model.group };
            let mut handle = model.handle();
            let mut params: Vec<_> =
                model.specs().iter().map(|spec| Tensor::new(dtype, &vec![START; spec.len()])).collect();
            model.train(&mut handle, &mut params, 0..100);
            let values = match dtype {
                MAW_FLOAT32 => params[3].values(),
                _ => model.masters(&mut handle, &params)[3].iter().map(|x| f64::from(*x)).collect(),
            };
            values.iter().sum::<f64>() / values.len() as f64
        };
        let steps = (0..100).filter(|step| step % 5 != 4 || step % 4 != 3).count() as f64;
        let (decayed, expected) = (run(0.0) - run(0.01), START * steps * 2e-6 * 0.01);
        let ratio = decayed / expected;
        assert!((ratio - 1.0).abs() < 0.02, "dtype {dtype}, precision {precision}: {ratio} of the decay");
    }
}

/// Gradients that are exact in both 16-bit formats.
fn coarse_gradients(model: &Model, step: usize) -> Vec<Option<Tensor>> {
    let coarse = |x: f64| if x.abs() < 1e-3 { 0.0 } else { f64::from(half::bf16::from_f64(x)) };
    let of = |g: Tensor| Tensor::new(MAW_FLOAT64, &g.values().into_iter().map(coarse).collect::<Vec<_>>());
    Model { grad_dtype: MAW_FLOAT64, ..model.clone() }.gradients(step).into_iter().map(|g| g.map(of)).collect()
}

/// Parameters, states and features after some steps with gradients of the same values in this dtype.
fn with_gradients_in(model: &Model, grad_dtype: i32) -> (Vec<Tensor>, Run) {
    let model = Model { grad_dtype, ..model.clone() };
    let (mut handle, mut params) = (model.handle(), model.start());
    for step in 0..5 {
        let grads: Vec<_> = coarse_gradients(&model, step)
            .iter()
            .map(|g| g.as_ref().map(|g| Tensor::new(grad_dtype, &g.values())))
            .collect();
        handle.step(&mut params, &grads).expect("a step");
    }
    let run = (bits(&params), model.state_bits(&mut handle), seen(&handle).0);
    (params, run)
}

/// With gradients of 16 bits m is computed in float32, with wider ones by way of float64: its last bit may differ.
#[test]
fn gradients_of_any_dtype_count_by_their_values() {
    let nearest = DTYPES.map(|dtype| (dtype, MAW_PRECISION_NEAREST));
    for (dtype, precision) in nearest.into_iter().chain(PRECISIONS) {
        for moment_dtype in [0, MAW_BFLOAT16] {
            if dtype == MAW_FLOAT64 && moment_dtype != 0 {
                continue;
            }
            let mut model = Model { most: 1100, ..Model::new(dtype, 0, precision) };
            model.group.moment_dtype = moment_dtype;
            let [(wide, in_float32), (_, in_float64), (half, in_bfloat16), (_, in_float16)] =
                [MAW_FLOAT32, MAW_FLOAT64, MAW_BFLOAT16, MAW_FLOAT16].map(|g| with_gradients_in(&model, g));
            assert!(in_float32 == in_float64, "dtype {dtype}, {:?}", model.group);
            assert!(in_bfloat16 == in_float16, "dtype {dtype}, {:?}", model.group);
            let unit = match dtype {
                MAW_BFLOAT16 => 1.0 / 128.0,
                MAW_FLOAT16 => 1.0 / 1024.0,
                _ => 1e-6,
            };
            for (a, b) in wide.iter().zip(&half).flat_map(|(a, b)| a.values().into_iter().zip(b.values())) {
                assert!((a - b).abs() <= unit * a.abs().max(0.1), "dtype {dtype}, {:?}: {a}, {b}", model.group);
            }
        }
    }
}

#[test]
fn stochastic_rounding_gives_an_adjacent_value_and_is_right_in_the_mean() {
    for dtype in HALVES {
        let model = Model::new(dtype, MAW_FLOAT32, MAW_PRECISION_STOCHASTIC);
        let plain = model.in_float32();
        let (mut handle, mut params) = (model.handle(), model.start());
        let mut oracle = plain.handle();
        let changed = maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() };
        let (mut bias, mut size, mut moved) = (0.0, 0.0, 0);
        for step in 0..10 {
            let mut expected = widened(&params);
            model.train(&mut handle, &mut params, step..step + 1);
            oracle.step_with(&mut expected, &plain.gradients(step), &changed).expect("a step");
            let nearest = rounded(dtype, &expected);
            for (got, (exact, nearest)) in params.iter().zip(expected.iter().zip(&nearest)) {
                for ((g, n), (got, exact)) in
                    got.bits().iter().zip(nearest.bits()).zip(got.values().iter().zip(exact.values()))
                {
                    assert!(g.abs_diff(n) <= 1, "{got} is not adjacent to {exact}");
                    moved += usize::from(*g != n);
                    bias += got - exact;
                    size += (got - exact).powi(2);
                }
            }
        }
        let deviations = bias / size.sqrt();
        assert!(deviations.abs() < 4.0, "dtype {dtype}: {deviations} standard deviations off");
        assert!(moved > 10_000, "stochastic rounding often differs from rounding to nearest: {moved}");
    }
}

#[test]
fn an_update_too_small_for_bfloat16_is_lost_to_nearest_but_not_by_masters_or_stochastic_rounding() {
    let run = |precision| {
        let mut model = Model { most: 1000, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, precision) };
        model.group = maw_param_group { lr: 1e-5, weight_decay: 0.0, ..model.group };
        model.options.modulation = 0;
        let (mut handle, mut params) = (model.handle(), model.specs());
        let mut params: Vec<Tensor> =
            params.drain(..).map(|s| Tensor::new(MAW_BFLOAT16, &vec![1.0; s.len()])).collect();
        let grads: Vec<_> = params.iter().map(|p| Some(Tensor::new(MAW_FLOAT32, &vec![1.0; p.len()]))).collect();
        for _ in 0..200 {
            handle.step(&mut params, &grads).expect("a step");
        }
        let values = params[3].values();
        1.0 - values.iter().sum::<f64>() / values.len() as f64
    };
    // 200 steps of 1e-5; half a unit in the last place below 1 is 2e-3.
    assert_eq!(run(MAW_PRECISION_NEAREST), 0.0);
    assert_eq!(run(MAW_PRECISION_MASTER), 0.00390625, "0.998 rounded to nearest");
    let mean = run(MAW_PRECISION_STOCHASTIC);
    assert!((mean - 0.002).abs() < 3e-4, "{mean}");
}

/// Parameters, states and features as bits.
type Run = (Vec<Vec<u64>>, Vec<(Vec<u64>, Vec<u64>, u64)>, Vec<u64>);

/// The forced instruction set is process-wide: one test at a time.
static LEVEL: Mutex<()> = Mutex::new(());

/// Some steps, with the current threads and instruction set.
fn random_run(model: &Model) -> Run {
    let (mut handle, mut params) = (model.handle(), model.start());
    model.train(&mut handle, &mut params, 0..6);
    (bits(&params), model.state_bits(&mut handle), seen(&handle).0)
}

#[test]
fn threads_and_instruction_sets_do_not_change_any_bit() {
    for model in all_models() {
        let of = |threads| Model { options: maw_options { threads, ..model.options }, ..model.clone() };
        let one = random_run(&of(1));
        for threads in [2, 5] {
            assert!(random_run(&of(threads)) == one, "{threads} threads, {:?}", model.group);
        }
        everywhere(&format!("{:?}", model.group), || random_run(&of(1)));
    }
}

/// Runs the same on every instruction set.
fn everywhere<T: PartialEq>(what: &str, run: impl Fn() -> T) {
    let _alone = LEVEL.lock();
    simd::force(Some(simd::Level::Baseline));
    let baseline = run();
    for level in simd::available() {
        simd::force(Some(level));
        assert!(run() == baseline, "{level:?}, {what}");
    }
    simd::force(None);
}

/// All models, as plain AdamW without checks.
fn unwatched_models() -> impl Iterator<Item = Model> {
    all_models().into_iter().map(|mut model| {
        model.options.nonfinite = MAW_NONFINITE_PROPAGATE;
        model.options.modulation = 0;
        model
    })
}

/// Gradients, and then moments and parameters, that are infinite, NaN, or overflow on their way.
#[test]
fn extreme_values_have_the_same_bits_on_every_instruction_set() {
    let extremes = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3e38, 1e-40, -0.0];
    for model in unwatched_models() {
        everywhere(&format!("{:?}", model.group), || {
            let (mut handle, mut params) = (model.handle(), model.start());
            for step in 0..3 {
                let mut gradients = model.gradients(step);
                for gradient in gradients.iter_mut().flatten().filter(|g| g.values().len() > 2_000) {
                    let mut values = gradient.values();
                    for (i, extreme) in extremes.into_iter().enumerate() {
                        values[600 + 131 * i + step] = extreme;
                    }
                    *gradient = Tensor::new(model.grad_dtype, &values);
                }
                handle.step(&mut params, &gradients).expect("a step");
            }
            (bits(&params), model.state_bits(&mut handle), model.masters_or_none(&mut handle, &params))
        });
    }
}

/// Rounding must not carry into a NaN, also where a remainder is added to it.
#[test]
fn a_parameter_that_becomes_nan_unannounced_has_the_same_bits_on_every_instruction_set() {
    for model in unwatched_models() {
        everywhere(&format!("{:?}", model.group), || {
            let (mut handle, mut params) = (model.handle(), model.start());
            model.train(&mut handle, &mut params, 0..1);
            let large = params.last_mut().expect("a tensor");
            let mut values = large.values();
            values[512..1_536].fill(f64::from_bits(0x7FFF_FFFF_FFFF_FFFF));
            *large = Tensor::new(model.dtype, &values);
            model.train(&mut handle, &mut params, 1..2);
            (bits(&params), model.state_bits(&mut handle), model.masters_or_none(&mut handle, &params))
        });
    }
}

/// Their squares underflow in float32.
#[test]
fn tiny_gradients_have_norms_of_the_same_bits_on_every_instruction_set() {
    for model in all_models().into_iter().filter(|model| model.grad_dtype != MAW_FLOAT16) {
        everywhere(&format!("{:?}", model.group), || {
            let (mut handle, mut params) = (model.handle(), model.start());
            // In the last step the first moment alone is so small.
            let runs = [1e-21, 1e-21, 1e-21, 1e-21, 1.0].map(|scale| {
                let scaled = |g: Tensor| Tensor::new(model.grad_dtype, &g.scaled_values(scale));
                let gradients: Vec<_> = model.gradients(3).into_iter().map(|g| g.map(scaled)).collect();
                handle.step(&mut params, &gradients).expect("a step");
                seen(&handle)
            });
            for seen in &runs[1..] {
                assert!(seen.0.iter().any(|x| (1e-22..1e-17).contains(&f64::from_bits(*x))), "no norm of that size");
            }
            (bits(&params), runs)
        });
    }
}

#[test]
fn carried_sums_are_those_of_the_stored_values() {
    for model in all_models() {
        let verified = Model { options: maw_options { verify_params: 1, ..model.options }, ..model.clone() };
        assert!(random_run(&verified) == random_run(&model), "{:?}", model.group);
    }
}

#[test]
fn observed_gradients_give_the_bits_of_those_that_are_not() {
    for model in all_models() {
        let (mut handle, mut params) = (model.handle(), model.start());
        for step in 0..6 {
            let gradients = model.gradients(step);
            for (i, gradient) in gradients.iter().enumerate().filter(|(i, _)| i % 2 == step % 2) {
                gradient.iter().for_each(|gradient| handle.observe(i, gradient).expect("a gradient"));
            }
            handle.step(&mut params, &gradients).expect("a step");
        }
        let run = (bits(&params), model.state_bits(&mut handle), seen(&handle).0);
        assert!(run == random_run(&model), "{:?}", model.group);
    }
}

#[test]
fn moments_that_the_host_sets_count_where_a_gradient_is_missing() {
    for model in all_models() {
        let (mut handle, mut params) = (model.handle(), model.start());
        let mut without_first = model.gradients(0);
        without_first[0] = None;
        model.train(&mut handle, &mut params, 0..1);
        handle.step(&mut params, &without_first).expect("a step");
        let state = handle.tensor_state(0, &model.specs()[0]).expect("a tensor");
        let doubled = State { exp_avg: state.exp_avg.scaled(2.0), ..state };
        handle.set_tensor_state(0, &doubled).expect("finite");
        handle.step(&mut params, &without_first).expect("a step");
        check_norms(&model, &mut handle);
    }
}

#[test]
fn the_dump_has_the_norms_of_the_stored_moments() {
    for model in all_models() {
        let (mut handle, mut params) = (model.handle(), model.start());
        for step in 0..6 {
            model.train(&mut handle, &mut params, step..step + 1);
            check_norms(&model, &mut handle);
        }
    }
}

/// The norms of moments in the dump against the moments.
fn check_norms(model: &Model, handle: &mut Handle) {
    let dump = handle.dumped();
    let groups = dump["modulation_groups"].as_array().expect("groups");
    let tensors: Vec<_> = groups.iter().flat_map(|g| g["tensors"].as_array().expect("tensors")).collect();
    for (i, spec) in model.specs().iter().enumerate() {
        let dumped = tensors.iter().find(|t| t["name"] == spec.name.as_str()).expect("each tensor is dumped");
        let state = handle.tensor_state(i, spec).expect("a tensor");
        for (name, moment) in [("exp_avg", &state.exp_avg), ("exp_avg_sq", &state.exp_avg_sq)] {
            let stored = moment.values().iter().map(|x| x * x).sum::<f64>().sqrt();
            let dumped = dumped["norms"][name].as_f64().expect("a norm");
            assert!((dumped / stored - 1.0).abs() < 1e-6, "{name} of {i}: {dumped}, not {stored}; {:?}", model.group);
        }
    }
}

#[test]
fn stochastic_rounding_depends_on_the_seed_and_not_on_the_order_of_registration() {
    let model = Model { most: 500, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_STOCHASTIC) };
    let run = |seed: u64, reversed: bool| {
        let mut handle = Handle::new(&maw_options { seed, modulation: 0, ..model.options }).expect("options");
        let (mut specs, mut params) = (model.specs(), model.start());
        if reversed {
            specs.reverse();
            params.reverse();
        }
        handle.add(&model.group, &specs).expect("the tensors are good");
        for step in 0..3 {
            let mut grads = model.gradients(step);
            if reversed {
                grads.reverse();
            }
            handle.step(&mut params, &grads).expect("a step");
        }
        if reversed {
            params.reverse();
        }
        bits(&params)
    };
    assert_eq!(run(7, false), run(7, true));
    assert_ne!(run(7, false), run(8, false));
}

#[test]
fn bfloat16_moments_do_not_stagnate() {
    // CUDA rounds the moments of all dtypes by one function, and an emulator takes a minute for each.
    let dtypes = if is_cuda() { &[MAW_BFLOAT16][..] } else { &[MAW_FLOAT32, MAW_BFLOAT16, MAW_FLOAT16] };
    for &dtype in dtypes {
        let mut model = Model { most: 5000, ..Model::new(dtype, MAW_FLOAT32, MAW_PRECISION_NEAREST) };
        model.group.moment_dtype = MAW_BFLOAT16;
        let (mut handle, mut params) = (model.handle(), model.start());
        let len = params[3].len();
        let (mut m, mut v) = (0.0_f64, 0.0_f64);
        // v rises to 0.63, then falls by less than half a unit in the last place per step.
        for step in 0..3000 {
            let g = if step < 1000 { 1.0 } else { 0.5 };
            let grads: Vec<_> = params.iter().map(|p| Some(Tensor::new(MAW_FLOAT32, &vec![g; p.len()]))).collect();
            handle.step(&mut params, &grads).expect("a step");
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
        }
        let state = handle.tensor_state(3, &model.specs()[3]).expect("a tensor");
        let mean = |values: &[f64]| values.iter().sum::<f64>() / len as f64;
        let (got_m, got_v) = (mean(&state.exp_avg.values()), mean(&state.exp_avg_sq.values()));
        assert!((got_m / m - 1.0).abs() < 1e-3, "m is {got_m}, {m} expected");
        assert!((got_v / v - 1.0).abs() < 1e-3, "v is {got_v}, {v} expected");
        let worst = state.exp_avg_sq.values().iter().fold(0.0, |worst: f64, x| worst.max((x / v - 1.0).abs()));
        assert!(worst < 0.25, "no element of v goes astray: {worst}");
    }
}

/// A loss scale that changes as PyTorch's GradScaler changes it, with float16 gradients.
#[test]
fn a_loss_scale_that_grows_and_shrinks_trains_as_without_one() {
    let scaled = Model { most: 200, ..Model::new(MAW_FLOAT16, MAW_FLOAT16, MAW_PRECISION_MASTER) };
    let plain = Model { grad_dtype: MAW_FLOAT32, ..scaled.clone() };
    let (mut handle, mut params) = (scaled.handle(), scaled.start());
    let (mut oracle, mut expected) = (plain.handle(), plain.start());
    let (mut scale, mut good, mut skipped, mut largest) = (65_536.0_f64, 0, 0, 0.0_f64);
    let far = |(a, b): (&u64, &u64)| a.abs_diff(*b) > 1;
    let mut step = 0;
    while step < 60 {
        // Gradients of about 1: at 65,536 they overflow float16, at 2¹⁵ some do, at 2¹⁴ none.
        let exact: Vec<_> = plain.gradients(step).iter().map(|g| g.as_ref().map(|g| g.scaled(5.0))).collect();
        let grads: Vec<_> =
            exact.iter().map(|g| g.as_ref().map(|g| Tensor::new(MAW_FLOAT16, &g.scaled(scale).values()))).collect();
        let before = (bits(&params), scaled.state_bits(&mut handle), scaled.masters_or_none(&mut handle, &params));
        let options = maw_step_options { grad_scale: scale, ..step_options() };
        let report = handle.step_with(&mut params, &grads, &options).expect("a step");
        largest = largest.max(scale);
        if report.skipped == 1 {
            assert_eq!(report.skip_reason, MAW_SKIP_GRADIENT);
            assert!(grads.iter().flatten().any(|g| g.values().iter().any(|x| x.is_infinite())));
            let after = (bits(&params), scaled.state_bits(&mut handle), scaled.masters_or_none(&mut handle, &params));
            assert_eq!(before, after, "a step that is skipped changes nothing");
            (scale, good, skipped) = (scale * 0.5, 0, skipped + 1);
            continue;
        }
        // Float16 rounds the scaled gradient; the oracle gets the same, unscaled in float32.
        let unscaled: Vec<_> =
            grads.iter().map(|g| g.as_ref().map(|g| Tensor::new(MAW_FLOAT32, &g.scaled_values(1.0 / scale)))).collect();
        oracle.step(&mut expected, &unscaled).expect("a step");
        // The oracle's m goes by way of float64, as its gradients are wide: a last bit may differ.
        let apart = bits(&params).iter().zip(&bits(&expected)).flat_map(|(a, b)| a.iter().zip(b)).any(far);
        assert!(!apart, "step {step} with scale {scale}");
        good += 1;
        if good == 10 {
            (scale, good) = (scale * 2.0, 0);
        }
        step += 1;
    }
    assert!(skipped >= 4, "the scale grew too large {skipped} times");
    assert_eq!(handle.steps(), oracle.steps(), "skipped steps do not count");
    assert_eq!(largest, 65_536.0);
}

#[test]
fn a_value_that_rounds_to_infinity_skips_the_next_step_which_names_it() {
    for (precision, blamed) in [(MAW_PRECISION_NEAREST, true), (MAW_PRECISION_MASTER, false)] {
        let mut model = Model { most: 4, ..Model::new(MAW_FLOAT16, MAW_FLOAT32, precision) };
        model.group = maw_param_group { lr: 100.0, weight_decay: 0.0, ..model.group };
        let mut handle = model.handle();
        let mut params: Vec<Tensor> =
            model.specs().iter().map(|s| Tensor::new(MAW_FLOAT16, &vec![65_504.0; s.len()])).collect();
        let grads: Vec<_> = params.iter().map(|p| Some(Tensor::new(MAW_FLOAT32, &vec![-1.0; p.len()]))).collect();
        assert_eq!(handle.step(&mut params, &grads).expect("a step").skipped, 0);
        assert!(params[0].values()[0].is_infinite(), "as in PyTorch");
        let report = handle.step(&mut params, &grads).expect("a step");
        if blamed {
            assert_eq!((report.skipped, report.skip_reason, report.nonfinite_tensor), (1, MAW_SKIP_PARAMETER, 0));
        } else {
            assert_eq!(report.skipped, 0, "a master is still finite");
        }
    }
}

#[test]
fn options_that_a_dtype_does_not_allow_are_refused_by_field_and_tensor() {
    let added = |group: maw_param_group, spec: Spec| Handle::new(&options()).expect("options").add(&group, &[spec]);
    let refused = |dtype: i32, group: maw_param_group| {
        let failure = added(group, Spec::new("w", &[2], dtype)).expect_err("it does not fit");
        assert_eq!(failure.status, MAW_INVALID_ARGUMENT);
        failure.message
    };
    let precision = |precision| maw_param_group { precision, ..param_group() };
    for (dtype, name) in [(MAW_FLOAT32, "float32"), (MAW_FLOAT64, "float64")] {
        for p in [MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER, MAW_PRECISION_STOCHASTIC] {
            let own = Spec::new("w", &[2], dtype).with_precision(p);
            let message = added(param_group(), own).expect_err("it does not fit").message;
            assert!(
                message.contains("precision of tensor 'w' is ") && message.contains(&format!("the tensor is {name}")),
                "{message}"
            );
            added(precision(p), Spec::new("w", &[2], dtype)).expect("a group's has no meaning for it");
        }
    }
    let message = refused(MAW_FLOAT16, precision(MAW_PRECISION_REMAINDER));
    assert!(message.contains("remainder") && message.contains("'w' is float16"), "{message}");
    let moments = |moment_dtype| maw_param_group { moment_dtype, ..param_group() };
    for moment_dtype in [MAW_BFLOAT16, MAW_FLOAT32] {
        let message = refused(MAW_FLOAT64, moments(moment_dtype));
        assert!(message.contains("group.moment_dtype") && message.contains("'w' is float64"), "{message}");
    }
    assert!(refused(MAW_FLOAT32, moments(MAW_FLOAT16)).contains("group.moment_dtype is 4"));
    assert!(refused(MAW_BFLOAT16, precision(4)).contains("group.precision is 4"));
}
