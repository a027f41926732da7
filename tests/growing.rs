//! Tensors that come after preparation, and that go: what stays keeps its bits, and every way to the same set of tensors
//! gives the same run.

mod common;

use common::handle::{Handle, Outcome, Spec, param_group};
use common::saved::State;
use common::tensor::{Tensor, bits};
use common::toy::{Random, Toy, horizon_options, phi_bits, small_options};
use metaadamw::ffi::*;
use safetensors::SafeTensors;
use std::collections::{BTreeMap, BTreeSet};

/// A call that is refused.
type Change = Box<dyn Fn(&mut Handle) -> Outcome<()>>;

const FIRST: Hyper = Hyper { lr: 0.02, weight_decay: 0.1 };
const SECOND: Hyper = Hyper { lr: 0.01, weight_decay: 0.0 };

/// What the tests' param groups differ in.
#[derive(Clone, Copy)]
struct Hyper {
    lr: f64,
    weight_decay: f64,
}

impl Hyper {
    fn group(self, precision: i32) -> maw_param_group {
        maw_param_group { lr: self.lr, weight_decay: self.weight_decay, precision, ..param_group() }
    }
}

/// A model that begins as a part of itself.
struct Growing {
    toy: Toy,
    options: maw_options,
    precision: i32,
    /// Tensors that are there from the start.
    known: usize,
}

impl Growing {
    fn new(options: maw_options, dtypes: [i32; 2], precision: i32) -> Self {
        let names: [(&str, &[u64]); 7] = [
            ("embed.weight", &[5, 3]),
            ("layers.0.attn.weight", &[3, 3]),
            ("layers.0.attn.bias", &[3]),
            // From here on later: a deeper layer moves the others to other thirds.
            ("layers.1.mlp.weight", &[2, 3]),
            ("layers.3.mlp.bias", &[2]),
            ("head", &[]),
            ("empty", &[0]),
        ];
        let mut specs: Vec<Spec> =
            names.iter().enumerate().map(|(i, (name, shape))| Spec::new(name, shape, dtypes[i % 2])).collect();
        if options.grouping == MAW_GROUPING_CUSTOM {
            for (i, spec) in specs.iter_mut().enumerate() {
                spec.modulation_group = Some(["red", "blue", "green"][if i < 3 { i % 2 } else { i % 3 }].to_owned());
            }
        }
        Self { toy: Toy::new(specs, 6), options, precision, known: 3 }
    }

    fn start(&self, known: usize) -> Handle {
        let mut handle = Handle::new(&self.options).expect("good options");
        handle.add(&FIRST.group(self.precision), &self.toy.specs[..known]).expect("good tensors");
        handle
    }

    /// The tensors that come later: a param group, then one more tensor of the first, then one of the second.
    fn grow(&self, handle: &mut Handle) {
        let later = &self.toy.specs[self.known..];
        assert_eq!(handle.add(&SECOND.group(self.precision), &later[..2]).expect("good tensors"), 1);
        handle.add_tensors(0, &later[2..3]).expect("a good tensor");
        handle.add_tensors(1, &later[3..]).expect("a good tensor");
    }

    /// Steps, and meta-updates when they are due. Of the tensors of `handle`, whose number is that of `params`.
    fn train(&self, handle: &mut Handle, params: &mut [Tensor], steps: std::ops::Range<usize>) {
        for step in steps {
            let all = self.with_the_rest(params);
            let mut grads = self.toy.gradients(step, &all);
            grads.truncate(params.len());
            handle.step(params, &grads).expect("a step");
            if handle.meta_due() == 1 {
                let answer = |request: &maw_meta_request, params: &[Tensor]| {
                    let mut answer = self.toy.answer(request, &self.with_the_rest(params));
                    answer.grads.iter_mut().for_each(|grads| grads.truncate(params.len()));
                    answer
                };
                handle.meta_update(params, answer).expect("a meta-update");
            }
        }
    }

    fn with_the_rest(&self, params: &[Tensor]) -> Vec<Tensor> {
        [params, &self.toy.start[params.len()..]].concat()
    }

    fn states(&self, handle: &mut Handle, count: usize) -> Vec<(Vec<u64>, Vec<u64>, u64)> {
        (0..count).map(|i| handle.tensor_state(i, &self.toy.specs[i]).expect("a tensor").bits()).collect()
    }
}

/// Both save the same bytes.
fn assert_same_file(one: &mut Handle, other: &mut Handle, which: &str) {
    let [one, other] = [one, other].map(|handle| handle.save_bytes(0).expect("saved"));
    let parsed = [&one, &other].map(|file| SafeTensors::deserialize(file).expect("a checkpoint"));
    let content = |file: &SafeTensors| -> BTreeMap<String, Vec<u8>> {
        file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
    };
    let [left, right] = [content(&parsed[0]), content(&parsed[1])];
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for name in names.into_iter().filter(|name| *name != "checksum") {
        assert_eq!(left.get(name), right.get(name), "{which}: {name}");
    }
    assert!(one == other, "{which}: what the files say of themselves");
}

fn models() -> Vec<Growing> {
    let base = maw_options { meta_interval: 2, feature_version: MAW_FEATURES_ENHANCED, ..small_options() };
    let mut models = Vec::new();
    for options in [
        base,
        maw_options { use_feature_gating: 1, weighting: MAW_WEIGHTING_HUW, ..base },
        maw_options { grouping: MAW_GROUPING_BY_PARAM_GROUP, ..base },
        maw_options { grouping: MAW_GROUPING_CUSTOM, max_grad_norm: 0.5, ..base },
        maw_options { semantics: MAW_REFERENCE, feature_version: MAW_FEATURES_BASIC_PLUS, ..base },
        maw_options { modulation: 0, ..base },
        maw_options { modulation: 0, horizon: 4, ..base },
        maw_options { meta_optimizer: MAW_META_ADAMW, use_feature_gating: 1, ..base },
        horizon_options(),
        maw_options { feature_version: MAW_FEATURES_ENHANCED, average_dtype: MAW_BFLOAT16, ..horizon_options() },
    ] {
        models.push(Growing::new(options, [MAW_FLOAT32, MAW_FLOAT64], MAW_PRECISION_NEAREST));
    }
    for precision in [MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER, MAW_PRECISION_STOCHASTIC] {
        models.push(Growing::new(base, [MAW_BFLOAT16, MAW_FLOAT32], precision));
        models.push(Growing::new(horizon_options(), [MAW_BFLOAT16, MAW_FLOAT32], precision));
    }
    models
}

#[test]
fn what_is_there_stays_as_it_is_and_new_tensors_start_at_step_0() {
    for model in models() {
        let (mut handle, mut params) = (model.start(model.known), model.toy.start[..model.known].to_vec());
        model.train(&mut handle, &mut params, 0..5);
        let known = model.states(&mut handle, model.known);
        let counters = |handle: &Handle| {
            let c = handle.counters().expect("counts");
            (c.step, c.meta_updates, c.meta_done_at)
        };
        let (counts, phi) = (counters(&handle), phi_bits(&handle));
        model.grow(&mut handle);
        assert_eq!(model.states(&mut handle, model.known), known);
        for (i, spec) in model.toy.specs.iter().enumerate().skip(model.known) {
            let State { exp_avg, exp_avg_sq, step } = handle.tensor_state(i, spec).expect("a tensor");
            assert_eq!(step, 0);
            assert!([exp_avg, exp_avg_sq].iter().all(|moment| moment.values().iter().all(|x| *x == 0.0)));
        }
        assert_eq!(counters(&handle), counts);
        if model.options.modulation == 0 {
            continue;
        }
        for (name, values) in phi_bits(&handle) {
            let (_, before) = phi.iter().find(|(known, _)| *known == name).expect("the same tensors");
            if name != "group_embeddings" {
                assert_eq!(&values, before, "{name}");
            }
        }
        assert_eq!(handle.factors().expect_err("of no step").status, MAW_INVALID_STATE);
        let mut params = model.with_the_rest(&params);
        model.train(&mut handle, &mut params, 5..6);
        assert!(handle.factors().expect("of a step").alpha.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn a_run_that_grew_equals_one_that_was_registered_whole_and_loaded_what_there_was() {
    for (i, model) in models().into_iter().enumerate() {
        let (mut grown, mut params) = (model.start(model.known), model.toy.start[..model.known].to_vec());
        model.train(&mut grown, &mut params, 0..5);
        let file = grown.save_bytes(0).expect("saved");
        model.grow(&mut grown);
        let mut loaded = model.start(model.known);
        model.grow(&mut loaded);
        // What an optimizer did before does not count.
        let mut other = model.toy.start.clone();
        model.train(&mut loaded, &mut other, 0..2);
        assert_eq!(loaded.load_bytes(&file, 0).expect_err("not all is in the file").status, MAW_MISMATCH);
        loaded.load_bytes(&file, MAW_LOAD_PARTIAL).expect("what both have");
        let [missing, unexpected, missing_groups, unexpected_groups] = loaded.load_report();
        let later: Vec<&str> = model.toy.specs[model.known..].iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(missing, later);
        assert!(unexpected.is_empty());
        if model.options.grouping == MAW_GROUPING_BY_PARAM_GROUP {
            assert_eq!((missing_groups, unexpected_groups.len()), (vec!["param_group.1".to_owned()], 0));
        }
        assert_eq!(phi_bits(&loaded), phi_bits(&grown), "model {i}");
        assert_same_file(&mut loaded, &mut grown, &format!("model {i}"));
        let mut params = model.with_the_rest(&params);
        let mut params_of_loaded = params.clone();
        model.train(&mut grown, &mut params, 5..10);
        model.train(&mut loaded, &mut params_of_loaded, 5..10);
        assert_eq!(bits(&params_of_loaded), bits(&params), "model {i}");
        assert_same_file(&mut loaded, &mut grown, &format!("model {i}, trained"));
        let whole = grown.save_bytes(0).expect("saved");
        // And a run that grew is resumed like any other.
        let mut resumed = model.start(model.known);
        model.grow(&mut resumed);
        resumed.load_bytes(&whole, MAW_LOAD_STRICT).expect("the same tensors");
        assert_eq!(resumed.save_bytes(0).expect("saved"), whole, "model {i}");
    }
}

#[test]
fn the_order_in_which_groups_come_does_not_change_their_embeddings() {
    let options = maw_options {
        feature_version: MAW_FEATURES_ENHANCED,
        grouping: MAW_GROUPING_BY_PARAM_GROUP,
        group_embed_dim: 5,
        ..small_options()
    };
    let options = maw_options { grouping: MAW_GROUPING_CUSTOM, ..options };
    let rows = |order: [&str; 3]| {
        let mut handle = Handle::new(&options).expect("good options");
        let spec = |name: &str| Spec::new(name, &[2], MAW_FLOAT32).in_group(name);
        handle.add(&param_group(), &[spec("first")]).expect("a tensor");
        handle.prepare().expect("prepared");
        for name in order {
            handle.add_tensors(0, &[spec(name)]).expect("a tensor");
        }
        let row = |name: &str| {
            let at = 5 * (1 + order.iter().position(|other| *other == name).expect("one of them"));
            handle.attention("group_embeddings", 20).expect("embeddings")[at..at + 5].to_vec()
        };
        ["a", "b", "c"].map(row)
    };
    let expected = rows(["a", "b", "c"]);
    for order in [["c", "a", "b"], ["b", "c", "a"]] {
        assert_eq!(rows(order), expected);
    }
    let mut all = expected.concat();
    all.sort_by(f64::total_cmp);
    all.dedup();
    assert_eq!(all.len(), 15, "no two numbers are the same");
}

#[test]
fn an_eps_of_the_file_that_another_tensor_cannot_have_is_a_difference() {
    let wide = Spec::new("wide", &[3], MAW_FLOAT64);
    let registered = |specs: &[Spec]| {
        let mut handle = Handle::new(&small_options()).expect("good options");
        handle.add(&param_group(), specs).expect("good tensors");
        handle
    };
    let mut small = registered(std::slice::from_ref(&wide));
    small.set_eps(0, 1e-300).expect("normal in float64");
    let file = small.save_bytes(0).expect("saved");
    let mut mixed = registered(&[wide, Spec::new("narrow", &[2], MAW_FLOAT32)]);
    for flag in [0, MAW_LOAD_FILE_WINS] {
        let failure = mixed.load_bytes(&file, MAW_LOAD_PARTIAL | flag).expect_err("0 in float32");
        assert_eq!(failure.status, MAW_MISMATCH, "{failure:?}");
        assert!(failure.message.contains("eps"), "{failure:?}");
    }
    mixed.load_bytes(&file, MAW_LOAD_PARTIAL | MAW_LOAD_OWN_WINS).expect("its own eps holds");
    assert_eq!(mixed.hyper_parameters(0).expect("a group")[2], param_group().eps);
}

#[test]
fn removing_a_tensor_leaves_a_run_without_it() {
    for (i, model) in models().into_iter().enumerate() {
        let count = model.toy.specs.len();
        for removed in [0, 2, count - 3] {
            let (mut handle, mut params) = (model.start(model.known), model.toy.start.clone());
            model.grow(&mut handle);
            model.train(&mut handle, &mut params, 0..4);
            let mut states = model.states(&mut handle, count);
            let file = handle.save_bytes(0).expect("saved");
            handle.remove_tensor(removed).expect("one of several");
            let mut less = Growing::new(model.options, [MAW_FLOAT32; 2], model.precision);
            less.toy.specs = model.toy.specs.clone();
            less.toy.specs.remove(removed);
            states.remove(removed);
            assert_eq!(less.states(&mut handle, count - 1), states, "model {i} without {removed}");
            // As one that never had it, and loads what both have.
            let mut loaded = Handle::new(&model.options).expect("good options");
            let groups = [FIRST, SECOND].map(|group| group.group(model.precision));
            let of_first = |index: usize| index < 3 || index == 5;
            let kept = |first: bool| {
                let all = model.toy.specs.iter().enumerate();
                all.filter(|(i, _)| *i != removed && of_first(*i) == first).map(|(_, spec)| spec.clone()).collect()
            };
            let [first, second]: [Vec<Spec>; 2] = [kept(true), kept(false)];
            // In the order of the one that it is compared with.
            loaded.add(&groups[0], &first[..first.len().min(if removed < 3 { 2 } else { 3 })]).expect("tensors");
            let position = |name: &str| second.iter().position(|spec| spec.name == name);
            let before_head = if position("layers.1.mlp.weight").is_some() && position("layers.3.mlp.bias").is_some() {
                2
            } else {
                1
            };
            loaded.add(&groups[1], &second[..before_head]).expect("tensors");
            loaded.add_tensors(0, &first[first.len() - 1..]).expect("the head");
            loaded.add_tensors(1, &second[before_head..]).expect("the rest");
            loaded.load_bytes(&file, MAW_LOAD_PARTIAL).expect("what both have");
            assert_eq!(loaded.load_report()[1], [model.toy.specs[removed].name.clone()]);
            assert_same_file(&mut loaded, &mut handle, &format!("model {i} without {removed}"));
            params.remove(removed);
            let mut grads = model.toy.gradients(4, &model.toy.start);
            grads.remove(removed);
            let mut params_of_loaded = params.clone();
            handle.step(&mut params, &grads).expect("a step");
            loaded.step(&mut params_of_loaded, &grads).expect("a step");
            assert_eq!(bits(&params_of_loaded), bits(&params), "model {i} without {removed}");
        }
    }
}

#[test]
fn a_tensor_that_comes_again_starts_anew() {
    let model = &models()[0];
    let (mut handle, mut params) = (model.start(3), model.toy.start[..3].to_vec());
    model.train(&mut handle, &mut params, 0..3);
    handle.remove_tensor(1).expect("one of three");
    handle.add_tensors(0, &model.toy.specs[1..2]).expect("its name is free again");
    let state = handle.tensor_state(2, &model.toy.specs[1]).expect("it is the last now");
    assert_eq!((state.step, state.exp_avg.values()), (0, vec![0.0; 9]));
}

#[test]
fn a_change_that_is_refused_changes_nothing() {
    let model = &models()[0];
    let (mut handle, mut params) = (model.start(3), model.toy.start[..3].to_vec());
    model.train(&mut handle, &mut params, 0..3);
    let before = handle.save_bytes(0).expect("saved");
    let group = FIRST.group(0);
    let refusals: [(i32, &str, Change); 7] = [
        (MAW_INVALID_ARGUMENT, "count is 0", Box::new(move |h| h.add_tensors(0, &[]))),
        (
            MAW_NOT_FOUND,
            "no param group 1",
            Box::new(move |h| h.add_tensors(1, &[Spec::new("new", &[1], MAW_FLOAT32)])),
        ),
        (
            MAW_INVALID_ARGUMENT,
            "'embed.weight' of param group 0 is registered already",
            Box::new(move |h| {
                h.add_tensors(0, &[Spec::new("new", &[1], MAW_FLOAT32), Spec::new("embed.weight", &[1], MAW_FLOAT32)])
            }),
        ),
        (
            MAW_INVALID_ARGUMENT,
            "group.lr is -1",
            Box::new(move |h| {
                h.add(&maw_param_group { lr: -1.0, ..group }, &[Spec::new("new", &[1], MAW_FLOAT32)]).map(drop)
            }),
        ),
        (
            MAW_OUT_OF_MEMORY,
            "out of",
            Box::new(move |h| h.add_tensors(0, &[Spec::new("new", &[1 << 55], MAW_FLOAT32)])),
        ),
        (MAW_NOT_FOUND, "no tensor 3", Box::new(move |h| h.remove_tensor(3))),
        (MAW_NOT_FOUND, "no tensor 18446744073709551615", Box::new(move |h| h.remove_tensor(usize::MAX))),
    ];
    for (status, says, change) in refusals {
        let failure = change(&mut handle).expect_err(says);
        assert_eq!(failure.status, status, "{}", failure.message);
        assert!(failure.message.contains(says), "{}", failure.message);
        assert_eq!(handle.save_bytes(0).expect("saved"), before, "{says}");
    }
    let request = handle.begin(&mut params).expect("begun");
    let spec = Spec::new("new", &[1], MAW_FLOAT32);
    assert_eq!(handle.add_tensors(0, std::slice::from_ref(&spec)).expect_err("one is open").status, MAW_INVALID_STATE);
    assert_eq!(handle.add(&group, &[spec]).expect_err("one is open").status, MAW_INVALID_STATE);
    assert_eq!(handle.remove_tensor(0).expect_err("one is open").status, MAW_INVALID_STATE);
    assert!(request.id > 0);
    handle.abort(&mut params).expect("it is open");
    for _ in 0..2 {
        handle.remove_tensor(0).expect("one of several");
    }
    let last = handle.remove_tensor(0).expect_err("the last");
    assert_eq!(last.status, MAW_INVALID_STATE, "{}", last.message);
    let more = model.toy.specs[..1].to_vec();
    handle.add_tensors(0, &more).expect("it goes on");
}

#[test]
fn tensors_can_be_added_and_removed_before_preparation() {
    let model = &models()[0];
    let mut handle = model.start(3);
    handle.remove_tensor(1).expect("registered");
    assert_eq!(handle.remove_tensor(2).expect_err("there are two").status, MAW_NOT_FOUND);
    handle.add_tensors(0, &model.toy.specs[1..2]).expect("its name is free again");
    let mut other = Handle::new(&model.options).expect("good options");
    let specs = [0, 2, 1].map(|i| model.toy.specs[i].clone());
    other.add(&FIRST.group(0), &specs).expect("tensors");
    assert_eq!(handle.save_bytes(0).expect("saved"), other.save_bytes(0).expect("saved"));
}

#[test]
fn a_model_that_grows_large_has_the_same_bits_for_1_and_4_threads() {
    let run = |threads: u32| {
        let options = maw_options { threads, ..small_options() };
        let specs = [Spec::new("small", &[100], MAW_FLOAT32), Spec::new("large", &[300_000], MAW_BFLOAT16)];
        let mut handle = Handle::new(&options).expect("good options");
        handle.add(&FIRST.group(MAW_PRECISION_MASTER), &specs[..1]).expect("a tensor");
        let mut random = Random(3);
        let mut params: Vec<Tensor> =
            specs.iter().map(|s| Tensor::new(s.dtype, &random.values(s.len(), 0.5))).collect();
        let grads: Vec<Option<Tensor>> =
            specs.iter().map(|s| Some(Tensor::new(s.dtype, &random.values(s.len(), 0.1)))).collect();
        handle.step(&mut params[..1], &grads[..1]).expect("a step");
        handle.add_tensors(0, &specs[1..]).expect("a tensor");
        for _ in 0..3 {
            handle.step(&mut params, &grads).expect("a step");
        }
        handle.remove_tensor(1).expect("the large one");
        handle.step(&mut params[..1], &grads[..1]).expect("a step");
        (bits(&params), handle.save_bytes(0).expect("saved"))
    };
    assert_eq!(run(1), run(4));
}

#[test]
fn verify_params_holds_across_a_change() {
    let model = Growing::new(
        maw_options { verify_params: 1, ..small_options() },
        [MAW_FLOAT32, MAW_BFLOAT16],
        MAW_PRECISION_MASTER,
    );
    let (mut handle, mut params) = (model.start(3), model.toy.start[..3].to_vec());
    model.train(&mut handle, &mut params, 0..2);
    model.grow(&mut handle);
    let mut params = model.with_the_rest(&params);
    model.train(&mut handle, &mut params, 2..4);
    params[4] = Tensor::new(params[4].dtype(), &vec![0.75; params[4].values().len()]);
    let grads = model.toy.gradients(4, &params);
    assert_eq!(handle.step(&mut params, &grads).expect_err("it changed").status, MAW_PARAMS_CHANGED);
}

#[test]
fn bfloat16_matrices_and_float32_norms_share_a_param_group() {
    let specs = |own: i32| {
        [
            Spec::new("layers.0.weight", &[3, 3], MAW_BFLOAT16).with_precision(own),
            Spec::new("layers.0.norm.weight", &[3], MAW_FLOAT32),
            Spec::new("layers.0.scale", &[2], MAW_FLOAT64),
        ]
    };
    for precision in [MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER, MAW_PRECISION_STOCHASTIC] {
        let mut of_group = Handle::new(&small_options()).expect("good options");
        of_group.add(&FIRST.group(precision), &specs(0)).expect("they share the group");
        let mut of_tensor = Handle::new(&small_options()).expect("good options");
        of_tensor.add(&FIRST.group(MAW_PRECISION_NEAREST), &specs(precision)).expect("the tensor says it");
        assert_eq!(of_group.save_bytes(0).expect("saved"), of_tensor.save_bytes(0).expect("saved"));
        let mut overridden = Handle::new(&small_options()).expect("good options");
        overridden.add(&FIRST.group(precision), &specs(MAW_PRECISION_TENSOR_NEAREST)).expect("the tensor says it");
        let mut nearest = Handle::new(&small_options()).expect("good options");
        nearest.add(&FIRST.group(MAW_PRECISION_NEAREST), &specs(0)).expect("good tensors");
        assert_eq!(overridden.save_bytes(0).expect("saved"), nearest.save_bytes(0).expect("saved"));
    }
    for (dtype, precision) in [
        (MAW_FLOAT32, MAW_PRECISION_MASTER),
        (MAW_FLOAT64, MAW_PRECISION_STOCHASTIC),
        (MAW_FLOAT16, MAW_PRECISION_REMAINDER),
        (MAW_BFLOAT16, 5),
        (MAW_BFLOAT16, -1),
    ] {
        let mut handle = Handle::new(&small_options()).expect("good options");
        let spec = Spec::new("misfit", &[2], dtype).with_precision(precision);
        let failure = handle.add(&FIRST.group(0), &[spec]).expect_err("it does not fit");
        assert_eq!(failure.status, MAW_INVALID_ARGUMENT);
        assert!(failure.message.contains("precision of tensor 'misfit'"), "{}", failure.message);
    }
}
