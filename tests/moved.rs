//! A run that moves to another optimizer, by way of a file or state by state, goes on as if it had not moved.

mod common;

use common::handle::{Handle, Spec, options, param_group};
use common::model::all_models;
use common::saved::State;
use common::tensor::{Tensor, bits};
use common::toy::{Random, Toy, small_options, snapshot};
use metaadamw::ffi::*;
use proptest::prelude::*;

/// All that getters tell of a run, set on an optimizer that has made no step.
fn moved(toy: &Toy, from: &mut Handle, options: &maw_options) -> Handle {
    let mut to = toy.handle(options);
    for (tensor, spec) in toy.specs.iter().enumerate() {
        let state = from.tensor_state(tensor, spec).expect("a tensor");
        to.set_tensor_state(tensor, &state).expect("the same tensor");
    }
    to.set_phi(&from.phi().expect("Φ can be read")).expect("the same Φ");
    to.set_counters(&from.counters().expect("counts")).expect("counts of a run");
    to
}

#[test]
fn a_run_that_was_moved_state_by_state_equals_the_one_that_stayed() {
    let options = maw_options { meta_interval: 4, ..small_options() };
    let toy = Toy::small();
    for moves_after in [1, 3, 4, 5, 9] {
        let (mut stays, mut params) = (toy.handle(&options), toy.start.clone());
        let train = |handle: &mut Handle, params: &mut Vec<Tensor>, steps: std::ops::Range<usize>| {
            for step in steps {
                let mut grads = toy.gradients(step, params);
                // Tensors in turn: their own counts are not the optimizer's.
                grads[step % 2] = None;
                handle.step(params, &grads).expect("a step");
                if handle.meta_due() == 1 {
                    toy.meta_update(handle, params).expect("a meta-update");
                }
            }
        };
        train(&mut stays, &mut params, 0..moves_after);
        let mut moves = moved(&toy, &mut stays, &options);
        let mut moved_params = params.clone();
        assert_eq!(moves.meta_due(), stays.meta_due());
        train(&mut stays, &mut params, moves_after..moves_after + 8);
        train(&mut moves, &mut moved_params, moves_after..moves_after + 8);
        assert_eq!(snapshot(&moves, &moved_params), snapshot(&stays, &params), "moved after {moves_after} steps");
        let counts = |handle: &Handle| {
            let c = handle.counters().expect("counts");
            (c.step, c.meta_updates, c.meta_done_at, c.skipped_gradient)
        };
        assert_eq!(counts(&moves), counts(&stays));
        assert_eq!(moves.save_bytes(0).expect("saved"), stays.save_bytes(0).expect("saved"));
    }
}

#[test]
fn skipped_steps_move_too() {
    let (toy, options) = (Toy::small(), small_options());
    let (mut stays, mut params) = (toy.handle(&options), toy.start.clone());
    toy.train(&mut stays, &mut params, 0, 2);
    let mut grads = toy.gradients(2, &params);
    grads[0].as_mut().expect("it has a gradient").set(0, f64::NAN);
    assert_eq!(stays.step(&mut params, &grads).expect("a skipped step").skipped, 1);
    let mut moves = moved(&toy, &mut stays, &options);
    assert_eq!(moves.counters().expect("counts").skipped_gradient, 1);
    let report = moves.step(&mut params.clone(), &toy.gradients(3, &params)).expect("a step");
    assert_eq!((report.step, report.skipped_steps), (3, 1));
}

/// What is saved loads again into the same handle and into a fresh one, and saving it again gives the same bytes.
fn saves_what_loads(handle: &mut Handle, fresh: &mut Handle) {
    let file = handle.save_bytes(0).expect("saved");
    for flags in [0, MAW_LOAD_STRICT, MAW_LOAD_FILE_WINS, MAW_LOAD_OWN_WINS] {
        handle.load_bytes(&file, flags).unwrap_or_else(|e| panic!("flags {flags}: {e:?}"));
        assert!(handle.save_bytes(0).expect("saved") == file, "flags {flags}: other bytes after loading");
    }
    fresh.load_bytes(&file, MAW_LOAD_FILE_WINS).unwrap_or_else(|e| panic!("a fresh one: {e:?}"));
    assert!(fresh.save_bytes(0).expect("saved") == file, "other bytes from a fresh one");
}

const PRECISIONS: [(i32, i32); 7] = [
    (MAW_FLOAT32, MAW_PRECISION_NEAREST),
    (MAW_FLOAT64, MAW_PRECISION_NEAREST),
    (MAW_BFLOAT16, MAW_PRECISION_NEAREST),
    (MAW_BFLOAT16, MAW_PRECISION_MASTER),
    (MAW_BFLOAT16, MAW_PRECISION_REMAINDER),
    (MAW_BFLOAT16, MAW_PRECISION_STOCHASTIC),
    (MAW_FLOAT16, MAW_PRECISION_MASTER),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_saved_loads_again_with_the_same_bytes(
        seed: u64,
        sizes in proptest::collection::vec(0_u64..5, 7),
        exponents in proptest::collection::vec(-45_i32..39, 4),
        steps in 0_usize..4,
        half_moments: bool,
        reference: bool,
        nonfinite in prop_oneof![Just(MAW_NONFINITE_SKIP), Just(MAW_NONFINITE_PROPAGATE)],
        lr in prop_oneof![Just(1e-3), Just(1e30)],
    ) {
        let propagate = nonfinite == MAW_NONFINITE_PROPAGATE;
        let options = maw_options {
            semantics: if reference { MAW_REFERENCE } else { MAW_PAPER },
            modulation: (!propagate).into(),
            nonfinite,
            seed,
            ..small_options()
        };
        let specs: Vec<Spec> = PRECISIONS
            .iter()
            .zip(&sizes)
            .enumerate()
            .map(|(i, ((dtype, _), size))| Spec::new(&format!("layers.{i}.weight"), &[*size, 2], *dtype))
            .collect();
        let handle = || {
            let mut handle = Handle::new(&options).expect("good options");
            for ((dtype, precision), spec) in PRECISIONS.iter().zip(&specs) {
                let moment_dtype = if half_moments && *dtype != MAW_FLOAT64 { MAW_BFLOAT16 } else { 0 };
                let group = maw_param_group { lr, precision: *precision, moment_dtype, ..param_group() };
                handle.add(&group, std::slice::from_ref(spec)).expect("good tensors");
            }
            handle.prepare().expect("all is registered");
            handle
        };
        let mut random = Random(seed);
        let mut run = handle();
        let mut params: Vec<Tensor> =
            specs.iter().map(|s| Tensor::new(s.dtype, &random.values(s.len(), 0.5))).collect();
        saves_what_loads(&mut run, &mut handle());
        for (step, exponent) in exponents.iter().enumerate().take(steps) {
            let grads: Vec<Option<Tensor>> = specs
                .iter()
                .enumerate()
                .map(|(i, s)| {
                    let size = 10_f64.powi(*exponent);
                    ((i + step) % 4 != 3).then(|| Tensor::new(s.dtype, &random.values(s.len(), size)))
                })
                .collect();
            run.step(&mut params, &grads).expect("a step, skipped or not");
            saves_what_loads(&mut run, &mut handle());
        }
        // Moments from elsewhere, as large as may be.
        for (i, spec) in specs.iter().enumerate() {
            let wide = if spec.dtype == MAW_FLOAT64 { MAW_FLOAT64 } else { MAW_FLOAT32 };
            let most = if wide == MAW_FLOAT64 { 1e300 } else { 3.38e38 };
            let moments = |sign: f64| Tensor::new(wide, &vec![sign * most; spec.len()]);
            let state = State { exp_avg: moments(-1.0), exp_avg_sq: moments(1.0), step: (1 << 53) - 1 };
            run.set_tensor_state(i, &state).expect("finite moments");
        }
        saves_what_loads(&mut run, &mut handle());
    }
}

#[test]
fn a_master_that_is_not_finite_is_saved_and_loaded_and_the_next_step_says_so() {
    for precision in [MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER] {
        let options = maw_options { modulation: 0, ..options() };
        let spec = Spec::new("w", &[4], MAW_BFLOAT16);
        let handle = || {
            let mut handle = Handle::new(&options).expect("good options");
            // A step that leaves float32.
            let group = maw_param_group { lr: 1e39, precision, ..param_group() };
            handle.add(&group, std::slice::from_ref(&spec)).expect("a good tensor");
            handle.prepare().expect("all is registered");
            handle
        };
        let mut run = handle();
        let mut params = vec![Tensor::new(MAW_BFLOAT16, &[0.5; 4])];
        let grads = [Some(Tensor::new(MAW_BFLOAT16, &[1.0; 4]))];
        assert_eq!(run.step(&mut params, &grads).expect("a step").skipped, 0);
        assert!(params[0].values().iter().any(|x| !x.is_finite()), "precision {precision}: {:?}", params[0].values());
        let mut fresh = handle();
        saves_what_loads(&mut run, &mut fresh);
        for handle in [&mut run, &mut fresh] {
            let report = handle.step(&mut params.clone(), &grads).expect("a step");
            assert_eq!((report.skipped, report.skip_reason), (1, MAW_SKIP_PARAMETER));
        }
    }
}

#[test]
fn a_schedule_is_resumed_and_the_log_says_what_differed() {
    let (toy, options) = (Toy::small(), small_options());
    let (mut first, mut params) = (toy.handle(&options), toy.start.clone());
    let train = |handle: &mut Handle, params: &mut Vec<Tensor>, steps: std::ops::Range<usize>| {
        for step in steps {
            handle.set_lr(MAW_ALL_GROUPS, 0.02 / (1.0 + step as f64)).expect("a learning rate");
            toy.train(handle, params, step, 1);
        }
    };
    train(&mut first, &mut params, 0..5);
    first.set_weight_decay(0, 0.05).expect("a weight decay");
    first.set_priorities([2.0, 5.0, 1.0]).expect("priorities");
    let (file, mut resumed_params) = (first.save_bytes(0).expect("saved"), params.clone());

    let mut resumed = toy.handle(&options);
    let messages = resumed.logged().expect("a log");
    resumed.load_bytes(&file, 0).expect("a scheduled run");
    let messages = messages.lock().expect("no panic").clone();
    assert_eq!(messages.len(), 1, "{messages:?}");
    let (level, message) = &messages[0];
    assert_eq!(*level, MAW_LOG_INFO);
    for text in ["lr 0.004 in the file, 0.02 here", "weight_decay 0.05 in the file, 0.1 here", "priorities"] {
        assert!(message.contains(text), "{text} is not in {message}");
    }
    train(&mut first, &mut params, 5..9);
    train(&mut resumed, &mut resumed_params, 5..9);
    assert_eq!(bits(&resumed_params), bits(&params));
}

#[test]
fn sixteen_bit_runs_move_by_their_states_and_masters() {
    for mut model in all_models() {
        // What `reference` stores of the last gradient moves with a file only.
        model.options.semantics = MAW_PAPER;
        if model.group.precision == MAW_PRECISION_REMAINDER || model.dtype == MAW_FLOAT32 {
            continue; // a remainder's master is in the parameter too
        }
        let (mut stays, mut params) = (model.handle(), model.start());
        model.train(&mut stays, &mut params, 0..3);
        let (mut moves, mut moved_params) = (model.handle(), params.clone());
        for (i, state) in model.states(&mut stays).iter().enumerate() {
            moves.set_tensor_state(i, state).expect("the same tensor");
            if model.group.precision == MAW_PRECISION_MASTER {
                let masters = stays.masters(i, &params[i]).expect("a master");
                moves.set_masters(i, &masters, &mut moved_params[i]).expect("the same tensor");
            }
        }
        moves.set_phi(&stays.phi().expect("Φ")).expect("the same Φ");
        moves.set_counters(&stays.counters().expect("counts")).expect("counts of a run");
        assert_eq!(bits(&moved_params), bits(&params), "{:?}", model.group);
        model.train(&mut stays, &mut params, 3..6);
        model.train(&mut moves, &mut moved_params, 3..6);
        assert_eq!(bits(&moved_params), bits(&params), "{:?}", model.group);
    }
}
