//! Parameters that have had no gradient for long, as the embeddings of unused words: their moments become 0 and never
//! subnormal, for every dtype and precision, with the same bits at every instruction set.

mod common;

use common::handle::Handle;
use common::model::{Model, all_models, seen};
use common::tensor::{Tensor, bits};
use metaadamw::ffi::*;
use metaadamw::numeric::simd;

/// Three tiles of each large tensor, the last not full.
const MOST: u64 = 1300;
/// Of these betas float32's first moments are subnormal after some 170 steps, the second after some 240.
const BETAS: [f64; 2] = [0.6, 0.7];
const STEPS: usize = 320;

fn models() -> Vec<Model> {
    let plain = |dtype| Model::new(dtype, dtype, MAW_PRECISION_NEAREST);
    let float64 =
        Model { group: maw_param_group { beta1: 0.04, beta2: 0.1, ..plain(MAW_FLOAT64).group }, ..plain(MAW_FLOAT64) };
    let small = |model: Model| {
        let [beta1, beta2] = BETAS.map(|beta| if model.group.beta1 < 0.5 { 0.6 * beta } else { beta });
        Model { most: MOST, group: maw_param_group { beta1, beta2, ..model.group }, ..model }
    };
    let mut models: Vec<Model> = [plain(MAW_FLOAT32)].into_iter().chain(all_models()).map(small).collect();
    models.push(Model { most: MOST, ..float64 });
    models
}

/// In the first step all have one, later only the first third: some tiles are dead, one is dead in part.
fn gradients(model: &Model, step: usize) -> Vec<Option<Tensor>> {
    let dead = |t: &Tensor| {
        let live = if step == 0 { t.len() } else { t.len() / 3 };
        let values: Vec<f64> = t.values().iter().enumerate().map(|(i, x)| if i < live { *x } else { 0.0 }).collect();
        Tensor::new(t.dtype(), &values)
    };
    model.gradients(0).iter().map(|g| g.as_ref().map(dead)).collect()
}

/// The smallest normal number of what moments are computed in.
fn smallest_normal(model: &Model) -> f64 {
    if model.dtype == MAW_FLOAT64 { f64::MIN_POSITIVE } else { f64::from(f32::MIN_POSITIVE) }
}

/// No moment is subnormal; after all steps those of the dead are 0 and those of the living are not.
fn check_moments(model: &Model, handle: &mut Handle, step: usize) {
    for (tensor, state) in model.states(handle).iter().enumerate() {
        for (name, moment) in [("exp_avg", &state.exp_avg), ("exp_avg_sq", &state.exp_avg_sq)] {
            let values = moment.values();
            for (i, x) in values.iter().enumerate() {
                let what = format!("{name}[{i}] of tensor {tensor} after step {step}, dtype {}", model.dtype);
                assert!(*x == 0.0 || x.abs() >= smallest_normal(model), "{what}: {x:e}");
                if step + 1 == STEPS {
                    assert_eq!(*x == 0.0, i >= values.len() / 3, "{what}: {x:e}");
                }
            }
        }
    }
}

#[test]
fn moments_that_decay_become_zero_and_never_subnormal_with_the_same_bits_at_every_level() {
    for model in models() {
        let mut runs: Vec<_> = simd::available().iter().map(|level| (*level, model.handle(), model.start())).collect();
        for step in 0..STEPS {
            let grads = gradients(&model, step);
            let mut seen_first = None;
            for (level, handle, params) in &mut runs {
                simd::force(Some(*level));
                let report = handle.step(params, &grads).expect("a step");
                assert_eq!(report.skipped, 0, "{report:?}");
                let now = (bits(params), seen(handle), report.grad_norm.to_bits());
                let first = seen_first.get_or_insert_with(|| now.clone());
                assert!(*first == now, "step {step} at {level:?}, dtype {}, {:?}", model.dtype, model.group.precision);
                if step % 20 == 19 {
                    check_moments(&model, handle, step);
                }
            }
        }
        simd::force(None);
        let states: Vec<_> = runs.iter_mut().map(|(_, handle, _)| model.state_bits(handle)).collect();
        assert!(states.iter().all(|state| *state == states[0]));
    }
}

#[test]
fn a_group_whose_moments_are_all_zero_has_norms_of_zero() {
    for model in models() {
        let (mut handle, mut params) = (model.handle(), model.start());
        let zeros: Vec<_> = params.iter().map(|p| Some(Tensor::new(model.grad_dtype, &vec![0.0; p.len()]))).collect();
        for _ in 0..3 {
            let report = handle.step(&mut params, &zeros).expect("a step");
            assert_eq!((report.skipped, report.grad_norm), (0, 0.0));
        }
        assert!(params.iter().all(|p| p.values().iter().all(|x| x.is_finite())));
    }
}
