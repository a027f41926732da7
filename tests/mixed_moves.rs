//! Meta-updates with 16-bit tensors: the parameters at which the host evaluates, and that everything is restored. The
//! accuracy of the derivatives is tested in `mixed_meta.rs`.

mod common;

use common::calls::Answer;
use common::handle::Handle;
use common::model::*;
use common::tensor::{Tensor, bits, float_bits};
use common::toy::Random;
use metaadamw::ffi::*;
use metaadamw::numeric::simd;

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

/// A meta-update; the parameters at each evaluation.
fn meta_update(model: &Model, handle: &mut Handle, params: &mut [Tensor]) -> Vec<Vec<Vec<u64>>> {
    let before = (bits(params), model.state_bits(handle), model.masters_or_none(handle, params));
    let mut points = Vec::new();
    let result = handle
        .meta_update(params, |request, params| {
            points.push(bits(params));
            let (loss, grads) = evaluate(model, request.batch, params);
            if request.kind == MAW_META_LOSS { Answer::loss(loss) } else { Answer::gradient((loss, grads)) }
        })
        .expect("a meta-update");
    assert_eq!(result.outcome, MAW_OUTCOME_UPDATED);
    let after = (bits(params), model.state_bits(handle), model.masters_or_none(handle, params));
    assert!(before == after, "θ, its masters and the moments are as they were");
    points
}

#[test]
fn a_meta_update_evaluates_at_the_rounded_step_and_restores_everything() {
    for model in all_models() {
        let model = Model { most: 2000, options: maw_options { semantics: MAW_PAPER, ..model.options }, ..model };
        let (mut handle, mut params) = (model.handle(), model.start());
        model.train(&mut handle, &mut params, 0..2);
        let file = handle.save_bytes(0).expect("saved");
        let points = meta_update(&model, &mut handle, &mut params);
        assert_eq!(points.len(), 6, "B1, validation, B2, validation, and the two differences");
        assert!(points[2] != points[0] && points[4] != points[2] && points[5] != points[2] && points[4] != points[5]);
        // θ′ is the result of a step with B1's gradient and these factors, or with stochastic rounding an adjacent
        // value.
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
        let worst = bits(&moved).iter().zip(&points[2]).flat_map(|(a, b)| a.iter().zip(b)).map(far).max();
        let allowed = if model.group.precision == MAW_PRECISION_STOCHASTIC { 1 } else { 0 };
        // The single step rounds α times η once more: a few last bits differ.
        let differ =
            bits(&moved).iter().zip(&points[2]).flat_map(|(a, b)| a.iter().zip(b)).filter(|(a, b)| a != b).count();
        assert!(worst <= Some(1), "{:?}: {worst:?}", model.group);
        assert!(allowed == 1 || differ <= 20, "{:?}: {differ} elements differ", model.group);
    }
}

#[test]
fn meta_updates_have_the_same_bits_for_all_threads_and_instruction_sets_and_for_remainders_and_masters() {
    let run = |model: &Model| {
        let (mut handle, mut params) = (model.handle(), model.start());
        model.train(&mut handle, &mut params, 0..2);
        let points = meta_update(model, &mut handle, &mut params);
        model.train(&mut handle, &mut params, 2..4);
        (
            points,
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
fn a_meta_update_before_the_first_step_leaves_masters_uninitialized() {
    for precision in [MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER] {
        let model = Model { most: 100, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, precision) };
        let (mut handle, mut params) = (model.handle(), model.start());
        meta_update(&model, &mut handle, &mut params);
        assert!(handle.masters(0, &params[0]).is_err());
        params[0].set(0, 3.0);
        model.train(&mut handle, &mut params, 0..1);
        assert!((handle.masters(0, &params[0]).expect("initialized")[0] - 3.0).abs() < 0.1);
    }
}
