//! Parameters of the host's that do not belong to the library's masters: halves of different masters after a load are
//! refused, and a change that a step overwrites is told.

mod common;

use common::calls::Answer;
use common::checkpoint::Checkpoint;
use common::handle::{Handle, Spec, param_group, step_options};
use common::model::*;
use common::saved::State;
use common::tensor::{Tensor, bits};
use common::toy::small_options;
use metaadamw::ffi::*;

fn remainders(grad_dtype: i32) -> Model {
    Model::new(MAW_BFLOAT16, grad_dtype, MAW_PRECISION_REMAINDER)
}

fn changed() -> maw_step_options {
    maw_step_options { flags: MAW_STEP_PARAMS_CHANGED, ..step_options() }
}

/// A run after three steps: its file, its parameters, and those of a step later.
fn saved(model: &Model) -> (Vec<u8>, Vec<Tensor>, Vec<Tensor>) {
    let (mut handle, mut params) = (model.handle(), model.start());
    model.train(&mut handle, &mut params, 0..3);
    let (file, then) = (handle.save_bytes(0).expect("saved"), params.clone());
    model.train(&mut handle, &mut params, 3..4);
    (file, then, params)
}

/// Loads the file into another optimizer and makes the fourth step with these parameters.
fn resumed(model: &Model, file: &[u8], params: &mut [Tensor]) -> Result<(), common::handle::Failure> {
    let mut handle = model.handle();
    handle.load_bytes(file, 0).expect("it fits");
    handle.step(params, &model.gradients(3)).map(drop)
}

fn entries(file: &[u8]) -> Vec<String> {
    let tensors = safetensors::SafeTensors::deserialize(file).expect("a safetensors file");
    tensors.names().into_iter().filter(|name| name.starts_with("remainder_sum.")).map(ToString::to_string).collect()
}

#[test]
fn remainders_are_not_joined_with_parameters_of_another_step() {
    for grad_dtype in [MAW_BFLOAT16, MAW_FLOAT32] {
        for nonfinite in [MAW_NONFINITE_SKIP, MAW_NONFINITE_ERROR] {
            let mut model = remainders(grad_dtype);
            model.options.nonfinite = nonfinite;
            let (file, then, later) = saved(&model);
            let mut handle = model.handle();
            handle.load_bytes(&file, 0).expect("it fits");
            for other in [later.clone(), model.start()] {
                let mut params = other.clone();
                let step = handle.step(&mut params, &model.gradients(3)).expect_err("other halves");
                let meta = handle.begin(&mut params).expect_err("other halves");
                for failure in [step, meta] {
                    assert_eq!(failure.status, MAW_PARAMS_CHANGED, "{failure:?}");
                    assert!(failure.message.contains("tensor 'embed.weight'"), "{failure:?}");
                    assert!(failure.message.contains("MAW_STEP_PARAMS_CHANGED"), "{failure:?}");
                }
                assert_eq!(bits(&params), bits(&other), "nothing is changed");
                assert!(handle.save_bytes(0).expect("saved") == file, "nothing is changed");
            }
            let mut params = then.clone();
            model.train(&mut handle, &mut params, 3..4);
            assert_eq!(bits(&params), bits(&later), "the right ones go on as the run that was saved");
            // Only the first step after a load is held back.
            model.train(&mut handle, &mut params, 4..6);

            let mut handle = model.handle();
            handle.load_bytes(&file, 0).expect("it fits");
            let mut new = model.start();
            handle.step_with(&mut new, &model.gradients(3), &changed()).expect("the masters are made anew");
            assert!(handle.save_bytes(0).expect("saved") != file);
        }
    }
}

#[test]
fn a_meta_update_may_come_first_after_a_load() {
    let model = remainders(MAW_FLOAT32);
    let (file, mut params, _) = saved(&model);
    let mut handle = model.handle();
    handle.load_bytes(&file, 0).expect("it fits");
    handle.begin(&mut params).expect("the right parameters");
    handle.abort(&mut params).expect("one is open");
}

#[test]
fn one_unit_in_the_last_place_of_one_element_is_found() {
    for grad_dtype in [MAW_BFLOAT16, MAW_FLOAT32] {
        let model = Model { most: 400, ..remainders(grad_dtype) };
        let (file, then, _) = saved(&model);
        for (tensor, element) in [(0, 3), (3, 399)] {
            let mut params = then.clone();
            let value = params[tensor].values()[element];
            params[tensor].set(element, value * (1.0 + 1.0 / 128.0));
            let failure = resumed(&model, &file, &mut params).expect_err("another parameter");
            assert!(failure.message.contains(SHAPES[tensor].0), "{failure:?}");
        }
    }
}

/// Float32 gradients make sums in float64, 16-bit ones in part in float32. The file does not say which gradients a run had.
#[test]
fn a_run_goes_on_with_gradients_of_another_dtype() {
    for [before, after] in [[MAW_BFLOAT16, MAW_FLOAT32], [MAW_FLOAT32, MAW_BFLOAT16]] {
        let (file, mut then, _) = saved(&remainders(before));
        let other = remainders(after);
        resumed(&other, &file, &mut then).expect("the right parameters");
        resumed(&other, &file, &mut other.start()).expect_err("those of the first step");
    }
}

#[test]
fn a_file_without_sums_is_loaded_as_before() {
    let model = remainders(MAW_FLOAT32);
    let (file, _, mut later) = saved(&model);
    assert_eq!(entries(&file).len(), SHAPES.len());
    let mut old = Checkpoint::parse(&file);
    old.parts.retain(|part| !part.name.starts_with("remainder_sum."));
    let old = old.bytes();
    resumed(&model, &old, &mut later).expect("nothing tells");
    let mut handle = model.handle();
    handle.load_bytes(&old, 0).expect("it fits");
    assert!(entries(&handle.save_bytes(0).expect("saved")).is_empty(), "and saved as it was");
    // Neither does a run without sums have any.
    let mut plain = model.clone();
    (plain.options.modulation, plain.options.nonfinite) = (0, MAW_NONFINITE_PROPAGATE);
    let (file, _, mut later) = saved(&plain);
    assert!(entries(&file).is_empty());
    resumed(&plain, &file, &mut later).expect("nothing tells");
}

#[test]
fn a_run_without_sums_compares_those_of_a_file_that_has_them() {
    let model = remainders(MAW_FLOAT32);
    let mut plain = model.clone();
    plain.options.modulation = 0;
    let (file, mut then, mut later) = saved(&plain);
    plain.options.nonfinite = MAW_NONFINITE_PROPAGATE;
    let go_on = |params: &mut [Tensor]| {
        let mut handle = plain.handle();
        handle.load_bytes(&file, MAW_LOAD_OWN_WINS).expect("it fits");
        handle.step(params, &plain.gradients(3)).map(drop)
    };
    go_on(&mut later).expect_err("other parameters");
    go_on(&mut then).expect("the right ones");
}

#[test]
fn a_sum_that_is_none_is_refused() {
    let model = Model { most: 50, ..remainders(MAW_FLOAT32) };
    let (file, _, _) = saved(&model);
    for wrong in [0.5, -1.0, 1e10, f64::NAN] {
        let mut bad = Checkpoint::parse(&file);
        bad.part("remainder_sum.head.weight").bytes[8..].copy_from_slice(&wrong.to_le_bytes());
        let failure = model.handle().load_bytes(&bad.bytes(), 0).expect_err("no sum");
        assert_eq!(failure.status, MAW_CORRUPT, "{failure:?}");
        assert!(failure.message.contains("remainder_sum.head.weight"), "{failure:?}");
    }
}

#[test]
fn setters_keep_the_sums_of_the_parameters_that_they_do_not_set() {
    let model = Model { most: 50, ..remainders(MAW_FLOAT32) };
    let (mut handle, mut params) = (model.handle(), model.start());
    model.train(&mut handle, &mut params, 0..3);
    let state = handle.tensor_state(1, &model.specs()[1]).expect("a tensor");
    handle.set_tensor_state(1, &State { step: 9, ..state }).expect("a state");
    let file = handle.save_bytes(0).expect("saved");
    assert_eq!(entries(&file).len(), SHAPES.len());
    resumed(&model, &file, &mut model.start()).expect_err("other parameters");
    resumed(&model, &file, &mut params.clone()).expect("the right ones");
    handle.reset(MAW_RESET_MOMENTS).expect("prepared");
    assert_eq!(entries(&handle.save_bytes(0).expect("saved")).len(), SHAPES.len());
    // The new masters' sum is not known before a step.
    handle.set_masters(0, &[0.25; 50], &mut params[0]).expect("masters");
    let file = handle.save_bytes(0).expect("saved");
    assert_eq!(entries(&file).len(), SHAPES.len() - 1);
    assert!(!entries(&file).contains(&"remainder_sum.embed.weight".to_owned()));
    resumed(&model, &file, &mut params.clone()).expect("the right ones");
    // A skipped step changes nothing.
    let mut bad = model.gradients(3);
    bad[0].as_mut().expect("has one").set(0, f64::NAN);
    assert_eq!(handle.step(&mut params, &bad).expect("a step").skipped, 1);
    let file = handle.save_bytes(0).expect("saved");
    handle.load_bytes(&file, 0).expect("what was saved");
    model.train(&mut handle, &mut params, 3..4);
}

#[test]
fn a_tensor_without_elements_has_a_sum_of_nothing() {
    let specs = [Spec::new("empty", &[0, 3], MAW_BFLOAT16), Spec::new("w", &[4], MAW_BFLOAT16)];
    let make = || {
        let mut handle = Handle::new(&small_options()).expect("good options");
        let group = maw_param_group { precision: MAW_PRECISION_REMAINDER, ..param_group() };
        handle.add(&group, &specs).expect("good tensors");
        handle
    };
    let mut params = [Tensor::new(MAW_BFLOAT16, &[]), Tensor::new(MAW_BFLOAT16, &[1.0, -2.0, 0.5, 3.0])];
    let grads = params.clone().map(Some);
    let mut handle = make();
    handle.step(&mut params, &grads).expect("a step");
    let file = handle.save_bytes(0).expect("saved");
    assert_eq!(entries(&file).len(), 2);
    let mut handle = make();
    handle.load_bytes(&file, 0).expect("it fits");
    let mut others = [params[0].clone(), Tensor::new(MAW_BFLOAT16, &[1.0, -2.0, 0.5, 4.0])];
    assert!(handle.step(&mut others, &grads).expect_err("other halves").message.contains("'w'"));
    handle.step(&mut params, &grads).expect("the right ones");
}

/// Another order of additions, and so other bits, needs another number: docs/checkpoint_format.md.
#[test]
fn sums_of_an_order_have_the_same_bits_in_every_version() {
    let sums = [MAW_FLOAT32, MAW_BFLOAT16].map(|grad_dtype| {
        let (file, _, _) = saved(&remainders(grad_dtype));
        let sum = Checkpoint::parse(&file).part("remainder_sum.head.weight").bytes.clone();
        [0, 8].map(|at| f64::from_le_bytes(sum[at..at + 8].try_into().expect("eight bytes")))
    });
    let [in_float64, in_part_in_float32] = [4_662_820_627_563_028_313, 4_662_820_627_397_422_366].map(f64::from_bits);
    if common::device::is_cuda() {
        assert_eq!(sums.map(|[_, order]| order), [3.0; 2]);
        assert!((sums[0][0] / in_float64 - 1.0).abs() < 1e-9, "{sums:?}");
    } else {
        assert_eq!(sums, [[in_float64, 1.0], [in_part_in_float32, 2.0]], "{:?}", sums.map(|[sum, _]| sum.to_bits()));
    }
}

// Masters: the step overwrites what the host changed.

/// A run with masters whose log is heard.
struct Heard {
    model: Model,
    handle: Handle,
    params: Vec<Tensor>,
    log: &'static std::sync::Mutex<Vec<(i32, String)>>,
}

impl Heard {
    fn new(model: Model) -> Self {
        let (mut handle, params) = (model.handle(), model.start());
        let log = handle.logged().expect("a log");
        Self { model, handle, params, log }
    }

    /// The messages of some steps, after waiting for a device.
    fn train(&mut self, steps: std::ops::Range<usize>) -> Vec<(i32, String)> {
        self.model.train(&mut self.handle, &mut self.params, steps);
        self.messages()
    }

    fn messages(&self) -> Vec<(i32, String)> {
        self.handle.steps().expect("a count");
        std::mem::take(&mut *self.log.lock().expect("no panic"))
    }
}

fn with_masters() -> Vec<Model> {
    let mut models: Vec<Model> = [MAW_BFLOAT16, MAW_FLOAT16]
        .into_iter()
        .flat_map(|dtype| [dtype, MAW_FLOAT32].map(|grads| Model::new(dtype, grads, MAW_PRECISION_MASTER)))
        .collect();
    let mut plain = models[0].clone();
    (plain.options.modulation, plain.options.nonfinite) = (0, MAW_NONFINITE_PROPAGATE);
    models.push(plain);
    models
}

#[test]
fn a_change_that_a_step_overwrites_is_told_once() {
    for model in with_masters() {
        let mut run = Heard::new(model.clone());
        assert_eq!(run.train(0..3), []);
        let (mut undisturbed, mut expected) = (model.handle(), model.start());
        model.train(&mut undisturbed, &mut expected, 0..4);
        for tensor in [1, 3] {
            let other: Vec<f64> = run.params[tensor].values().iter().map(|x| 0.5 * x + 0.25).collect();
            run.params[tensor] = Tensor::new(model.dtype, &other);
        }
        let messages = run.train(3..4);
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(messages[0].0, MAW_LOG_WARNING);
        assert!(messages[0].1.contains("the first such tensor is 'layers.0.attn.weight'"), "{messages:?}");
        assert_eq!(bits(&run.params), bits(&expected), "the masters count");
        assert_eq!(run.train(4..8), [], "it is told once");
        run.params = model.start();
        assert_eq!(run.train(8..9).len(), 1, "and again when it happens again");
    }
}

#[test]
fn what_the_library_knows_of_is_no_change() {
    for model in with_masters() {
        let mut run = Heard::new(model.clone());
        assert_eq!(run.train(0..3), []);
        // Announced, also for a step that is skipped.
        run.params = model.start();
        if model.options.nonfinite == MAW_NONFINITE_SKIP {
            let mut bad = model.gradients(3);
            bad[0].as_mut().expect("has one").set(0, f64::NAN);
            assert_eq!(run.handle.step_with(&mut run.params, &bad, &changed()).expect("a step").skipped, 1);
            assert_eq!(run.messages().len(), 1, "that it is skipped");
            assert_eq!(run.train(3..4), []);
            assert_eq!(run.handle.step(&mut run.params, &bad).expect("a step").skipped, 1);
            assert_eq!(run.messages().len(), 1, "that it is skipped");
        } else {
            let gradients = model.gradients(3);
            run.handle.step_with(&mut run.params, &gradients, &changed()).expect("a step");
        }
        assert_eq!(run.train(4..6), []);
        // The library's own.
        let values = vec![0.1; run.params[0].len()];
        run.handle.set_masters(0, &values, &mut run.params[0]).expect("masters");
        assert_eq!(run.train(6..8), []);
        let file = run.handle.save_bytes(0).expect("saved");
        let (before, params) = (run.params.clone(), run.train(8..10));
        assert_eq!(params, []);
        run.handle.load_bytes(&file, 0).expect("it fits");
        run.params = before;
        assert_eq!(run.train(8..10), []);
        if model.options.modulation == 1 {
            let gradients = model.gradients(3);
            let answer = |request: &maw_meta_request, _: &[Tensor]| match request.kind {
                MAW_META_LOSS => Answer::loss(1.0),
                _ => Answer::gradient((1.0, gradients.clone())),
            };
            run.handle.meta_update(&mut run.params, answer).expect("a meta-update");
            run.messages(); // the gradients are the same everywhere: it may be abandoned
            assert_eq!(run.train(10..11), []);
            run.handle.begin(&mut run.params).expect("begun");
            run.handle.abort(&mut run.params).expect("aborted");
            assert_eq!(run.train(11..12), []);
        }
        // Another rounding of the same masters, and another zero.
        let zeros = vec![0.0; run.params[0].len()];
        run.handle
            .set_masters(0, &zeros.iter().map(|_| -0.0).collect::<Vec<_>>(), &mut run.params[0])
            .expect("masters");
        run.params[0] = Tensor::new(model.dtype, &zeros);
        let one_up: Vec<f64> = run.params[1].values();
        let unit = if model.dtype == MAW_BFLOAT16 { 1.0 / 256.0 } else { 1.0 / 2048.0 };
        let one_up: Vec<f64> = one_up.iter().map(|x| x * (1.0 + 1.2 * unit)).collect();
        run.params[1] = Tensor::new(model.dtype, &one_up);
        assert_eq!(run.train(12..13), []);
    }
}

#[test]
fn a_tensor_without_a_gradient_is_not_overwritten_and_not_told() {
    let model = Model { most: 100, ..Model::new(MAW_BFLOAT16, MAW_FLOAT32, MAW_PRECISION_MASTER) };
    let mut run = Heard::new(model.clone());
    assert_eq!(run.train(0..3), []);
    let other = Tensor::new(MAW_BFLOAT16, &[0.75; 100]);
    run.params[0] = other.clone();
    let mut gradients = model.gradients(3);
    gradients[0] = None;
    run.handle.step(&mut run.params, &gradients).expect("a step");
    assert_eq!(run.messages(), []);
    assert_eq!(run.params[0].bits(), other.bits());
    assert_eq!(run.train(5..6).len(), 1);
}
