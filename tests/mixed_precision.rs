//! 16-bit parameters and gradients: the four precisions, moments of bfloat16, loss scaling.
//!
//! The oracle is the library on float32 tensors, which the golden cases hold to account: what is computed from 16-bit
//! elements is what is computed from the same values in float32, rounded once.

mod common;

use common::calls::{Answer, Factors};
use common::checkpoint::Checkpoint;
use common::handle::{Handle, Spec, options, param_group, step_options};
use common::saved::State;
use common::tensor::{Tensor, bits, float_bits};
use common::toy::{Random, factor_bits, small_options};
use metaadamw::ffi::*;
use metaadamw::half::{BF16, F16, Half, join};
use metaadamw::simd;

/// Lengths that no vector width divides; the last has several chunks.
const SHAPES: [(&str, &[u64]); 4] = [
    ("embed.weight", &[37, 3]),
    ("layers.0.attn.weight", &[5, 5]),
    ("layers.0.attn.bias", &[1]),
    ("head.weight", &[511, 130]),
];

/// A model of one dtype with gradients from a fixed stream of numbers, so that errors are not amplified.
#[derive(Clone)]
struct Model {
    dtype: i32,
    grad_dtype: i32,
    options: maw_options,
    group: maw_param_group,
    /// Elements of a tensor that are used; 0 = all.
    most: u64,
}

impl Model {
    fn new(dtype: i32, grad_dtype: i32, precision: i32) -> Self {
        let group = maw_param_group { lr: 0.01, weight_decay: 0.1, precision, ..param_group() };
        Self { dtype, grad_dtype, options: small_options(), group, most: 0 }
    }

    /// The same in float32, with gradients of float32.
    fn in_float32(&self) -> Self {
        let group = maw_param_group { precision: MAW_PRECISION_NEAREST, ..self.group };
        Self { dtype: MAW_FLOAT32, grad_dtype: MAW_FLOAT32, group, ..self.clone() }
    }

    fn specs(&self) -> Vec<Spec> {
        let shape = |shape: &[u64]| -> Vec<u64> {
            if self.most == 0 { shape.to_vec() } else { vec![shape.iter().product::<u64>().min(self.most)] }
        };
        let spec = |(name, s): &(&str, &[u64])| Spec::new(name, &shape(s), self.dtype).with_gradient(self.grad_dtype);
        SHAPES.iter().map(spec).collect()
    }

    fn handle(&self) -> Handle {
        let mut handle = Handle::new(&self.options).expect("the options are good");
        handle.add(&self.group, &self.specs()).expect("the tensors are good");
        handle.prepare().expect("all is registered");
        handle
    }

    fn start(&self) -> Vec<Tensor> {
        let mut random = Random(1);
        self.specs().iter().map(|s| Tensor::new(self.dtype, &random.values(s.len(), 0.5))).collect()
    }

    /// Of a step; sometimes one is missing.
    fn gradients(&self, step: usize) -> Vec<Option<Tensor>> {
        let mut random = Random(1000 + step as u64);
        let specs = self.specs();
        let one = |(i, spec): (usize, &Spec)| {
            let values: Vec<f64> = random.values(spec.len(), 0.3).iter().map(|x| x + 0.02).collect();
            (step % 5 != 4 || i != step % specs.len()).then(|| Tensor::new(self.grad_dtype, &values))
        };
        specs.iter().enumerate().map(one).collect()
    }

    /// `steps` steps from the first on.
    fn train(&self, handle: &mut Handle, params: &mut [Tensor], steps: std::ops::Range<usize>) {
        for step in steps {
            let report = handle.step(params, &self.gradients(step)).expect("a step");
            assert_eq!(report.skipped, 0, "step {step}: {report:?}");
        }
    }

    fn states(&self, handle: &mut Handle) -> Vec<State> {
        let specs = self.specs();
        (0..specs.len()).map(|i| handle.tensor_state(i, &specs[i]).expect("a tensor")).collect()
    }

    fn state_bits(&self, handle: &mut Handle) -> Vec<(Vec<u64>, Vec<u64>, u64)> {
        self.states(handle).iter().map(State::bits).collect()
    }

    fn masters(&self, handle: &mut Handle, params: &[Tensor]) -> Vec<Vec<f32>> {
        params.iter().enumerate().map(|(i, param)| handle.masters(i, param).expect("a master")).collect()
    }
}

fn widened(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|t| Tensor::new(MAW_FLOAT32, &t.values())).collect()
}

fn rounded(dtype: i32, tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|t| Tensor::new(dtype, &t.values())).collect()
}

fn f32_bits(masters: &[Vec<f32>]) -> Vec<Vec<u64>> {
    masters.iter().map(|values| values.iter().map(|x| u64::from(x.to_bits())).collect()).collect()
}

/// Features and factors as bits.
fn seen(handle: &Handle) -> (Vec<u64>, [Vec<u64>; 4]) {
    let factors: Factors = handle.factors().expect("a step was made");
    (float_bits(&handle.features().expect("a step was made")), factor_bits(&factors))
}

const HALVES: [i32; 2] = [MAW_BFLOAT16, MAW_FLOAT16];
const DTYPES: [i32; 4] = [MAW_FLOAT32, MAW_FLOAT64, MAW_BFLOAT16, MAW_FLOAT16];
const PRECISIONS: [(i32, i32); 7] = [
    (MAW_BFLOAT16, MAW_PRECISION_NEAREST),
    (MAW_FLOAT16, MAW_PRECISION_NEAREST),
    (MAW_BFLOAT16, MAW_PRECISION_MASTER),
    (MAW_FLOAT16, MAW_PRECISION_MASTER),
    (MAW_BFLOAT16, MAW_PRECISION_REMAINDER),
    (MAW_BFLOAT16, MAW_PRECISION_STOCHASTIC),
    (MAW_FLOAT16, MAW_PRECISION_STOCHASTIC),
];

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
            let show = if dtype == MAW_BFLOAT16 { BF16::of_master } else { F16::of_master };
            let shown: Vec<Vec<u64>> =
                masters.iter().map(|m| m.iter().map(|x| u64::from(show(*x))).collect()).collect();
            assert_eq!(bits(&params), shown, "the parameters show the masters");
        }
        assert_eq!(model.state_bits(&mut handle), plain.state_bits(&mut oracle));
    }
}

#[test]
fn remainders_give_the_bits_of_masters_over_a_thousand_steps() {
    for grad_dtype in [MAW_BFLOAT16, MAW_FLOAT32] {
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

#[test]
fn gradients_of_any_dtype_count_by_their_values() {
    let nearest = DTYPES.map(|dtype| (dtype, MAW_PRECISION_NEAREST));
    for (dtype, precision) in nearest.into_iter().chain(PRECISIONS) {
        for (grad_dtype, moment_dtype) in DTYPES.into_iter().flat_map(|g| [(g, 0), (g, MAW_BFLOAT16)]) {
            if dtype == MAW_FLOAT64 && moment_dtype != 0 {
                continue;
            }
            let mut model = Model { most: 1100, ..Model::new(dtype, grad_dtype, precision) };
            model.group.moment_dtype = moment_dtype;
            // What it is computed in.
            let wide = if dtype == MAW_FLOAT64 { MAW_FLOAT64 } else { MAW_FLOAT32 };
            let same = Model { grad_dtype: wide, ..model.clone() };
            let (mut a, mut p) = (model.handle(), model.start());
            let (mut b, mut q) = (same.handle(), same.start());
            for step in 0..5 {
                let grads = model.gradients(step);
                let wide: Vec<_> = grads.iter().map(|g| g.as_ref().map(|g| Tensor::new(wide, &g.values()))).collect();
                a.step(&mut p, &grads).expect("a step");
                b.step(&mut q, &wide).expect("a step");
                assert!(bits(&p) == bits(&q), "dtypes {dtype}, {grad_dtype}, {:?}, step {step}", model.group);
                assert_eq!(seen(&a), seen(&b));
            }
            assert!(model.state_bits(&mut a) == same.state_bits(&mut b), "{:?}", model.group);
        }
    }
}

#[test]
fn by_chance_each_value_is_a_neighbour_of_the_float32_step_and_right_in_the_mean() {
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
                    assert!(g.abs_diff(n) <= 1, "{got} is no neighbour of {exact}");
                    moved += usize::from(*g != n);
                    bias += got - exact;
                    size += (got - exact).powi(2);
                }
            }
        }
        let deviations = bias / size.sqrt();
        assert!(deviations.abs() < 4.0, "dtype {dtype}: {deviations} standard deviations off");
        assert!(moved > 10_000, "rounding by chance often differs from rounding to nearest: {moved}");
    }
}

#[test]
fn an_update_too_small_for_bfloat16_moves_a_master_and_the_mean_but_nothing_to_nearest() {
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
    // 200 steps of 1e-5; half a unit of the last place below 1 is 2e-3.
    assert_eq!(run(MAW_PRECISION_NEAREST), 0.0);
    assert_eq!(run(MAW_PRECISION_MASTER), 0.00390625, "0.998 is shown as its nearest neighbour");
    let mean = run(MAW_PRECISION_STOCHASTIC);
    assert!((mean - 0.002).abs() < 3e-4, "{mean}");
}

/// Parameters, states and features as bits.
type Run = (Vec<Vec<u64>>, Vec<(Vec<u64>, Vec<u64>, u64)>, Vec<u64>);

/// Some steps, with the threads and the instruction set that are in force.
fn random_run(model: &Model) -> Run {
    let (mut handle, mut params) = (model.handle(), model.start());
    model.train(&mut handle, &mut params, 0..6);
    (bits(&params), model.state_bits(&mut handle), seen(&handle).0)
}

fn all_models() -> Vec<Model> {
    let mut models = Vec::new();
    for (dtype, precision) in PRECISIONS {
        for (moment_dtype, grad_dtype) in [(0, dtype), (MAW_BFLOAT16, MAW_FLOAT32)] {
            let mut model = Model::new(dtype, grad_dtype, precision);
            model.group.moment_dtype = moment_dtype;
            model.options = maw_options {
                feature_version: MAW_FEATURES_ENHANCED,
                semantics: MAW_REFERENCE,
                attn_heads: 1,
                ..model.options
            };
            models.push(model);
        }
    }
    let mut wide = Model::new(MAW_FLOAT32, MAW_BFLOAT16, MAW_PRECISION_NEAREST);
    wide.group.moment_dtype = MAW_BFLOAT16;
    models.push(wide);
    models
}

#[test]
fn threads_and_instruction_sets_decide_no_bit() {
    for model in all_models() {
        let of = |threads| Model { options: maw_options { threads, ..model.options }, ..model.clone() };
        let one = random_run(&of(1));
        for threads in [2, 5] {
            assert!(random_run(&of(threads)) == one, "{threads} threads, {:?}", model.group);
        }
        for level in simd::available() {
            simd::force(Some(level));
            assert!(random_run(&of(1)) == one, "{level:?}, {:?}", model.group);
        }
        simd::force(None);
    }
}

#[test]
fn carried_sums_are_those_of_what_is_stored() {
    for model in all_models() {
        let verified = Model { options: maw_options { verify_params: 1, ..model.options }, ..model.clone() };
        assert!(random_run(&verified) == random_run(&model), "{:?}", model.group);
    }
}

#[test]
fn a_run_resumes_bit_for_bit_with_every_precision() {
    for model in all_models() {
        let (mut handle, mut params) = (model.handle(), model.start());
        let mut cuts = vec![(handle.save_bytes(0).expect("saved"), params.clone())];
        for step in 0..4 {
            model.train(&mut handle, &mut params, step..step + 1);
            cuts.push((handle.save_bytes(0).expect("saved"), params.clone()));
        }
        let last = cuts.last().expect("a last").0.clone();
        for (cut, (file, mut resumed)) in cuts.into_iter().enumerate() {
            let mut handle = model.handle();
            handle.load_bytes(&file, 0).expect("it fits");
            assert!(handle.save_bytes(0).expect("saved") == file, "cut {cut}: loaded and saved again");
            model.train(&mut handle, &mut resumed, cut..4);
            assert!(bits(&resumed) == bits(&params), "cut {cut}, {:?}", model.group);
            assert!(handle.save_bytes(0).expect("saved") == last, "cut {cut}: the last file");
        }
    }
}

#[test]
fn chance_depends_on_the_seed_and_not_on_the_order_of_registration() {
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
fn moments_of_bfloat16_do_not_stand_still() {
    for dtype in [MAW_FLOAT32, MAW_BFLOAT16, MAW_FLOAT16] {
        let mut model = Model { most: 5000, ..Model::new(dtype, MAW_FLOAT32, MAW_PRECISION_NEAREST) };
        model.group.moment_dtype = MAW_BFLOAT16;
        let (mut handle, mut params) = (model.handle(), model.start());
        let len = params[3].len();
        let (mut m, mut v) = (0.0_f64, 0.0_f64);
        // v rises to 0.63, then sinks: from where on it moves by less than half a unit of its last place.
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

#[test]
fn moments_of_bfloat16_are_told_and_taken_as_float32() {
    let mut model = Model { most: 50, ..Model::new(MAW_BFLOAT16, 0, MAW_PRECISION_NEAREST) };
    model.group.moment_dtype = MAW_BFLOAT16;
    let mut handle = model.handle();
    let values: Vec<f64> = Random(3).values(50, 2.0).iter().map(|x| x.abs()).collect();
    let state =
        State { exp_avg: Tensor::new(MAW_FLOAT32, &values), exp_avg_sq: Tensor::new(MAW_FLOAT32, &values), step: 9 };
    handle.set_tensor_state(0, &state).expect("a state");
    let got = handle.tensor_state(0, &model.specs()[0]).expect("a tensor");
    let expected = Tensor::new(MAW_BFLOAT16, &values).values();
    assert_eq!((got.exp_avg.values(), got.exp_avg_sq.values(), got.step), (expected.clone(), expected, 9));
}

/// What PyTorch's GradScaler does with a loss scale, around float16 gradients.
#[test]
fn a_loss_scale_that_grows_and_shrinks_trains_as_without_one() {
    let scaled = Model { most: 200, ..Model::new(MAW_FLOAT16, MAW_FLOAT16, MAW_PRECISION_MASTER) };
    let plain = Model { grad_dtype: MAW_FLOAT32, ..scaled.clone() };
    let (mut handle, mut params) = (scaled.handle(), scaled.start());
    let (mut oracle, mut expected) = (plain.handle(), plain.start());
    let (mut scale, mut good, mut skipped, mut largest) = (65_536.0_f64, 0, 0, 0.0_f64);
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
        assert_eq!(bits(&params), bits(&expected), "step {step} with scale {scale}");
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

impl Tensor {
    fn scaled_values(&self, factor: f64) -> Vec<f64> {
        self.values().iter().map(|x| x * factor).collect()
    }
}

impl Model {
    fn masters_or_none(&self, handle: &mut Handle, params: &[Tensor]) -> Vec<Option<Vec<u32>>> {
        let bits = |values: Vec<f32>| values.iter().map(|x| x.to_bits()).collect();
        params.iter().enumerate().map(|(i, p)| handle.masters(i, p).ok().map(bits)).collect()
    }
}

#[test]
fn a_value_that_rounds_to_infinity_is_blamed_in_the_next_step() {
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
fn masters_follow_parameters_that_the_host_says_it_changed() {
    for precision in [MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER] {
        let model = Model { most: 100, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, precision) };
        let changed = maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() };
        let (mut handle, mut params) = (model.handle(), model.start());
        model.train(&mut handle, &mut params, 0..3);
        let new = model.start();
        // A step that is skipped keeps what was told for the next one.
        let mut bad = model.gradients(3);
        bad[0].as_mut().expect("has one").set(0, f64::NAN);
        let mut host = new.clone();
        let before = f32_bits(&model.masters(&mut handle, &params));
        assert_eq!(handle.step_with(&mut host, &bad, &changed).expect("a step").skipped, 1);
        assert!(handle.masters(0, &params[0]).is_err(), "they begin anew with the next step");
        assert_eq!(bits(&host), bits(&new));
        model.train(&mut handle, &mut host, 3..4);
        let mut fresh = model.handle();
        let mut other = new.clone();
        // The same from the moments before: masters are the new parameters, widened.
        let mut replay = model.handle();
        let mut at = model.start();
        model.train(&mut replay, &mut at, 0..3);
        for (i, state) in model.states(&mut replay).iter().enumerate() {
            fresh.set_tensor_state(i, state).expect("a state");
        }
        model.train(&mut fresh, &mut other, 3..4);
        assert_eq!(bits(&host), bits(&other));
        assert_eq!(f32_bits(&model.masters(&mut handle, &host)), f32_bits(&model.masters(&mut fresh, &other)));
        assert_ne!(before, f32_bits(&model.masters(&mut handle, &host)));
    }
}

#[test]
fn a_step_that_fails_leaves_masters_as_they_were() {
    let mut model = Model { most: 100, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_MASTER) };
    model.options.nonfinite = MAW_NONFINITE_ERROR;
    let (mut handle, mut params) = (model.handle(), model.start());
    model.train(&mut handle, &mut params, 0..3);
    let before = f32_bits(&model.masters(&mut handle, &params));
    let mut bad = model.gradients(3);
    bad[0].as_mut().expect("has one").set(0, f64::NAN);
    let changed = maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() };
    let failure = handle.step_with(&mut params, &bad, &changed).expect_err("a NaN");
    assert_eq!(failure.status, MAW_NOT_FINITE);
    assert_eq!(before, f32_bits(&model.masters(&mut handle, &params)));
}

#[test]
fn verified_parameters_that_are_not_what_their_masters_show_are_found() {
    for precision in [MAW_PRECISION_NEAREST, MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER, MAW_PRECISION_STOCHASTIC] {
        let mut model = Model { most: 100, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, precision) };
        model.options.verify_params = 1;
        let (mut handle, mut params) = (model.handle(), model.start());
        model.train(&mut handle, &mut params, 0..3);
        let old = params[1].values()[7];
        params[1].set(7, old + 1.0);
        let failure = handle.step(&mut params, &model.gradients(3)).expect_err("changed");
        assert_eq!(failure.status, MAW_PARAMS_CHANGED, "{failure:?}");
        assert!(failure.message.contains("layers.0.attn.weight"), "{failure:?}");
        params[1].set(7, old);
        model.train(&mut handle, &mut params, 3..4);
    }
}

#[test]
fn masters_can_be_set_and_the_parameter_shows_them() {
    for (dtype, precision) in PRECISIONS.into_iter().filter(|(_, p)| [1, 2].contains(p)) {
        let model = Model { most: 100, ..Model::new(dtype, MAW_FLOAT32, precision) };
        let plain = model.in_float32();
        let mut expected = plain.start();
        let (mut handle, mut params) = (model.handle(), model.start());
        for (i, (param, wide)) in params.iter_mut().zip(&expected).enumerate() {
            let values: Vec<f32> = wide.values().iter().map(|x| *x as f32).collect();
            param.set(0, 99.0);
            handle.set_masters(i, &values, param).expect("masters");
            assert_eq!(handle.masters(i, param).expect("masters"), values);
        }
        let mut oracle = plain.handle();
        model.train(&mut handle, &mut params, 0..5);
        plain.train(&mut oracle, &mut expected, 0..5);
        assert_eq!(f32_bits(&model.masters(&mut handle, &params)), bits(&expected));
        let failure = handle.set_masters(0, &[f32::NAN; 100], &mut params[0]).expect_err("a NaN");
        assert!(failure.message.contains("values[0] of tensor 'embed.weight' is NaN"), "{failure:?}");
    }
}

#[test]
fn what_a_dtype_does_not_allow_names_field_and_tensor() {
    let refused = |dtype: i32, group: maw_param_group| {
        let mut handle = Handle::new(&options()).expect("options");
        let failure = handle.add(&group, &[Spec::new("w", &[2], dtype)]).expect_err("it does not fit");
        assert_eq!(failure.status, MAW_INVALID_ARGUMENT);
        failure.message
    };
    let precision = |precision| maw_param_group { precision, ..param_group() };
    for (dtype, name) in [(MAW_FLOAT32, "float32"), (MAW_FLOAT64, "float64")] {
        for p in [MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER, MAW_PRECISION_STOCHASTIC] {
            let message = refused(dtype, precision(p));
            assert!(
                message.contains("group.precision is ") && message.contains(&format!("'w' is {name}")),
                "{message}"
            );
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

#[test]
fn tensors_without_masters_have_none_to_read() {
    let model = Model { most: 10, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_STOCHASTIC) };
    let (mut handle, mut params) = (model.handle(), model.start());
    model.train(&mut handle, &mut params, 0..1);
    assert_eq!(handle.masters(0, &params[0]).expect_err("none").status, MAW_NOT_FOUND);
    let model = Model { most: 10, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_REMAINDER) };
    let mut handle = model.handle();
    let params = model.start();
    assert_eq!(handle.masters(0, &params[0]).expect_err("not begun").status, MAW_INVALID_STATE);
}

#[test]
fn a_remainder_is_the_low_half_of_the_masters_bits() {
    let model = Model { most: 100, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_REMAINDER) };
    let (mut handle, mut params) = (model.handle(), model.start());
    model.train(&mut handle, &mut params, 0..3);
    let file = handle.save_bytes(0).expect("saved");
    let tensors = safetensors::SafeTensors::deserialize(&file).expect("a safetensors file");
    let view = tensors.tensor("remainder.head.weight").expect("it is there");
    assert_eq!((view.dtype(), view.shape()), (safetensors::Dtype::I16, &[100][..]));
    let masters = handle.masters(3, &params[3]).expect("masters");
    for ((low, shown), master) in view.data().as_chunks().0.iter().zip(params[3].bits()).zip(masters) {
        let (low, shown) = (i16::from_le_bytes(*low), shown as u16);
        assert_eq!(join(shown, low as u16).to_bits(), master.to_bits());
        assert_eq!((i64::from(shown) << 16) + i64::from(low), i64::from(master.to_bits()), "as the page says");
    }
}

/// A smooth loss of all tensors, and its gradients: Σ (x − y)²/2 + x⁴/4, y by the batch; in float64.
fn evaluate(model: &Model, batch: i32, params: &[Tensor]) -> (f64, Vec<Option<Tensor>>) {
    let mut random = Random(50 + batch as u64);
    let mut loss = 0.0;
    let mut one = |param: &Tensor| {
        let gradient: Vec<f64> = param
            .values()
            .iter()
            .map(|x| {
                let apart = x - random.next();
                loss += apart * apart / 2.0 + x.powi(4) / 4.0;
                apart + x.powi(3)
            })
            .collect();
        Some(Tensor::new(model.grad_dtype, &gradient))
    };
    let grads = params.iter().map(&mut one).collect();
    (loss, grads)
}

/// A meta-update; the parameters that the host was shown.
fn meta_update(model: &Model, handle: &mut Handle, params: &mut [Tensor]) -> Vec<Vec<Vec<u64>>> {
    let before = (bits(params), model.state_bits(handle), model.masters_or_none(handle, params));
    let mut shown = Vec::new();
    let result = handle
        .meta_update(params, |request, params| {
            shown.push(bits(params));
            let (loss, grads) = evaluate(model, request.batch, params);
            if request.kind == MAW_META_LOSS { Answer::loss(loss) } else { Answer::gradient((loss, grads)) }
        })
        .expect("a meta-update");
    assert_eq!(result.outcome, MAW_OUTCOME_UPDATED);
    let after = (bits(params), model.state_bits(handle), model.masters_or_none(handle, params));
    assert!(before == after, "θ, its masters and the moments are as they were");
    shown
}

#[test]
fn a_meta_update_shows_the_rounded_step_and_puts_everything_back() {
    for model in all_models() {
        let model = Model { most: 2000, options: maw_options { semantics: MAW_PAPER, ..model.options }, ..model };
        let (mut handle, mut params) = (model.handle(), model.start());
        model.train(&mut handle, &mut params, 0..2);
        let file = handle.save_bytes(0).expect("saved");
        let shown = meta_update(&model, &mut handle, &mut params);
        assert_eq!(shown.len(), 6, "B1, validation, B2, validation, and the two differences");
        assert!(shown[2] != shown[0] && shown[4] != shown[2] && shown[5] != shown[2] && shown[4] != shown[5]);
        // θ′ is where a step with B1's gradient and these factors leads; by chance it may lead to the other neighbour.
        let (factors, phi) = (handle.factors().expect("factors"), handle.phi().expect("Φ"));
        let mut other = model.handle();
        other.load_bytes(&file, 0).expect("it fits");
        let groups: Vec<usize> = (0..4).map(|i| other.tensor_group(i).expect("a group")).collect();
        assert!(!phi.is_empty());
        let mut moved = params.clone();
        for tensor in 0..4 {
            // One tensor at a time, with its group's factors put into the hyper-parameters.
            let mut plain = Model { options: maw_options { modulation: 0, ..model.options }, ..model.clone() };
            plain.group.lr *= factors.alpha[groups[tensor]];
            plain.group.weight_decay *= factors.beta[groups[tensor]];
            let mut single = plain.handle();
            for (i, state) in model.states(&mut other).iter().enumerate() {
                single.set_tensor_state(i, state).expect("a state");
            }
            let mut at = params.clone();
            for (i, at) in at.iter_mut().enumerate() {
                if let Ok(masters) = other.masters(i, &params[i]) {
                    single.set_masters(i, &masters, at).expect("masters");
                }
            }
            let (_, grads) = evaluate(&model, MAW_BATCH_TRAIN_1, &params);
            single.step(&mut at, &grads).expect("a step");
            moved[tensor] = at.swap_remove(tensor);
        }
        let far = |(a, b): (&u64, &u64)| a.abs_diff(*b);
        let worst = bits(&moved).iter().zip(&shown[2]).flat_map(|(a, b)| a.iter().zip(b)).map(far).max();
        let allowed = if model.group.precision == MAW_PRECISION_STOCHASTIC { 1 } else { 0 };
        // α times η is rounded once more in the single step: now and then the last bit differs.
        let differ =
            bits(&moved).iter().zip(&shown[2]).flat_map(|(a, b)| a.iter().zip(b)).filter(|(a, b)| a != b).count();
        assert!(worst <= Some(1), "{:?}: {worst:?}", model.group);
        assert!(allowed == 1 || differ <= 20, "{:?}: {differ} elements differ", model.group);
    }
}

#[test]
fn meta_updates_have_the_same_bits_for_threads_and_instruction_sets_and_remainders_those_of_masters() {
    let run = |model: &Model| {
        let (mut handle, mut params) = (model.handle(), model.start());
        model.train(&mut handle, &mut params, 0..2);
        let shown = meta_update(model, &mut handle, &mut params);
        model.train(&mut handle, &mut params, 2..4);
        (
            shown,
            bits(&params),
            handle.phi().expect("Φ").iter().map(|(_, values)| float_bits(values)).collect::<Vec<_>>(),
        )
    };
    for model in all_models() {
        let of = |threads| Model { options: maw_options { threads, ..model.options }, ..model.clone() };
        let one = run(&of(1));
        assert!(run(&of(3)) == one, "3 threads, {:?}", model.group);
        for level in simd::available() {
            simd::force(Some(level));
            assert!(run(&of(1)) == one, "{level:?}, {:?}", model.group);
        }
        simd::force(None);
        if model.group.precision == MAW_PRECISION_REMAINDER {
            let group = maw_param_group { precision: MAW_PRECISION_MASTER, ..model.group };
            assert!(run(&Model { group, ..model.clone() }) == one, "masters");
        }
    }
}

#[test]
fn a_meta_update_before_the_first_step_leaves_masters_to_begin_with_it() {
    for precision in [MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER] {
        let model = Model { most: 100, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, precision) };
        let (mut handle, mut params) = (model.handle(), model.start());
        meta_update(&model, &mut handle, &mut params);
        assert!(handle.masters(0, &params[0]).is_err());
        params[0].set(0, 3.0);
        model.train(&mut handle, &mut params, 0..1);
        assert!((handle.masters(0, &params[0]).expect("begun")[0] - 3.0).abs() < 0.1);
    }
}

#[test]
fn a_file_of_another_precision_or_with_masters_that_no_run_has_is_refused() {
    let model = Model { most: 100, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_MASTER) };
    let (mut handle, mut params) = (model.handle(), model.start());
    model.train(&mut handle, &mut params, 0..2);
    let file = handle.save_bytes(0).expect("saved");
    let refuses = |model: &Model, file: &[u8], status: i32, says: &str| {
        let mut other = model.handle();
        let before = other.save_bytes(0).expect("saved");
        let failure = other.load_bytes(file, 0).expect_err("refused");
        assert_eq!(failure.status, status, "{failure:?}");
        assert!(failure.message.contains(says), "{failure:?}");
        assert!(other.save_bytes(0).expect("saved") == before, "nothing is changed");
    };
    let with = |precision, moment_dtype| {
        let group = maw_param_group { precision, moment_dtype, ..model.group };
        Model { group, ..model.clone() }
    };
    let mismatch = |precision, moment_dtype, says: &str| {
        refuses(&with(precision, moment_dtype), &file, MAW_MISMATCH, says);
    };
    mismatch(MAW_PRECISION_NEAREST, 0, "precision \"master\" in the file, \"nearest\" here");
    mismatch(MAW_PRECISION_REMAINDER, 0, "precision \"master\" in the file, \"remainder\" here");
    mismatch(MAW_PRECISION_MASTER, MAW_BFLOAT16, "moments F32 in the file, BF16 here");
    refuses(&Model { dtype: MAW_FLOAT16, ..model.clone() }, &file, MAW_MISMATCH, "dtype BF16 in the file, F16 here");

    let good = Checkpoint::parse(&file);
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut bad = good.clone();
        bad.part("master.layers.0.attn.weight").bytes[8..12].copy_from_slice(&wrong.to_le_bytes());
        refuses(&model, &bad.bytes(), MAW_CORRUPT, "master.layers.0.attn.weight");
    }
    let mut bad = good.clone();
    bad.part("master.head.weight").name = "remainder.head.weight".to_owned();
    refuses(&model, &bad.bytes(), MAW_MISMATCH, "'remainder.head.weight' is only in the file");
    let bad = good.with(|d| d["tensors"][0]["precision"] = "exact".into());
    refuses(&model, &bad.bytes(), MAW_CORRUPT, "exact");
    let mut handle = model.handle();
    handle.load_bytes(&good.bytes(), 0).expect("what the page says is enough");

    let halves = with(MAW_PRECISION_MASTER, MAW_BFLOAT16);
    let (mut handle, mut params) = (halves.handle(), halves.start());
    halves.train(&mut handle, &mut params, 0..2);
    let good = Checkpoint::parse(&handle.save_bytes(0).expect("saved"));
    for (moment, bits) in [("exp_avg", 0x7F80_u16), ("exp_avg", 0xFFC0), ("exp_avg_sq", 0xBF80), ("exp_avg_sq", 0x7FC0)]
    {
        let name = format!("{moment}.head.weight");
        let mut bad = good.clone();
        bad.part(&name).bytes[10..12].copy_from_slice(&bits.to_le_bytes());
        refuses(&halves, &bad.bytes(), MAW_CORRUPT, &name);
    }
    let mut zero = good.clone();
    zero.part("exp_avg_sq.head.weight").bytes[10..12].copy_from_slice(&0x8000_u16.to_le_bytes());
    handle.load_bytes(&zero.bytes(), 0).expect("-0 is not below 0");
}
