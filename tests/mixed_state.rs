//! State of 16-bit tensors: masters are initialized, read, set and synchronized with the host's parameters;
//! checkpoints.

mod common;

use common::checkpoint::Checkpoint;
use common::handle::step_options;
use common::model::*;
use common::saved::State;
use common::tensor::{Tensor, bits};
use common::toy::Random;
use metaadamw::ffi::*;
use metaadamw::numeric::half::join;

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
fn bfloat16_moments_are_read_and_set_as_float32() {
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

#[test]
fn masters_are_initialized_again_from_parameters_that_the_host_changed() {
    for precision in [MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER] {
        let model = Model { most: 100, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, precision) };
        let changed = maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() };
        let (mut handle, mut params) = (model.handle(), model.start());
        model.train(&mut handle, &mut params, 0..3);
        let new = model.start();
        // A skipped step leaves `MAW_STEP_PARAMS_CHANGED` for the next step.
        let mut bad = model.gradients(3);
        bad[0].as_mut().expect("has one").set(0, f64::NAN);
        let mut host = new.clone();
        let before = f32_bits(&model.masters(&mut handle, &params));
        assert_eq!(handle.step_with(&mut host, &bad, &changed).expect("a step").skipped, 1);
        assert!(handle.masters(0, &params[0]).is_err(), "the next step initializes them again");
        assert_eq!(bits(&host), bits(&new));
        model.train(&mut handle, &mut host, 3..4);
        let mut fresh = model.handle();
        let mut other = new.clone();
        // The same from the moments before: the masters are the new parameters, widened.
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
fn verify_params_finds_parameters_out_of_sync_with_their_masters() {
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
fn masters_can_be_set_and_the_parameter_is_the_master_rounded() {
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
fn tensors_without_masters_have_none_to_read() {
    let model = Model { most: 10, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_STOCHASTIC) };
    let (mut handle, mut params) = (model.handle(), model.start());
    model.train(&mut handle, &mut params, 0..1);
    assert_eq!(handle.masters(0, &params[0]).expect_err("none").status, MAW_NOT_FOUND);
    let model = Model { most: 10, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_REMAINDER) };
    let mut handle = model.handle();
    let params = model.start();
    assert_eq!(handle.masters(0, &params[0]).expect_err("not initialized").status, MAW_INVALID_STATE);
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
    for ((low, copy), master) in view.data().as_chunks().0.iter().zip(params[3].bits()).zip(masters) {
        let (low, copy) = (i16::from_le_bytes(*low), copy as u16);
        assert_eq!(join(copy, low as u16).to_bits(), master.to_bits());
        assert_eq!((i64::from(copy) << 16) + i64::from(low), i64::from(master.to_bits()), "as the page says");
    }
}

#[test]
fn a_file_of_another_precision_is_refused_and_a_master_may_have_any_value() {
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
        let mut other = model.handle();
        other.load_bytes(&bad.bytes(), 0).expect("the next step finds it, as it would have in the saved run");
        let mut saved = Checkpoint::parse(&other.save_bytes(0).expect("saved"));
        let name = "master.layers.0.attn.weight";
        assert_eq!(saved.part(name).bytes, bad.part(name).bytes, "{wrong} is saved again");
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
