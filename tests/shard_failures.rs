//! Processes that share a model: whatever fails, on one of them or between them, ends a call in the same way on all, and
//! changes nothing.

mod common;
#[path = "common/compile.rs"]
mod compile;

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use common::processes::{FAILURES, Process, World, again, both, failing, on_host, prepared, small, specs};
use common::tensor::Tensor;
use compile::scratch;
use metaadamw::checkpoint::{Contents, OnConflict};
use metaadamw::error::{Error, ReductionError, Status};
use metaadamw::meta::{Answer, Kind};
use metaadamw::model::dtype::DType;
use metaadamw::model::groups::{Shard, TensorSpec};
use metaadamw::model::options::{Init, NonFinite, Options, ParamGroup, Semantics};
use metaadamw::reserve::watch::{self, Event};
use metaadamw::{Optimizer, StepOptions, Summands};

fn differ(error: &Error) -> &'static str {
    match error {
        Error::Reduction(ReductionError::Differ(what)) => what,
        other => panic!("{other}"),
    }
}

#[test]
fn a_step_whose_reduction_fails_changes_nothing_and_can_be_made_again() {
    let options = Options { modulation: true, meta_interval: 100, ..small() };
    let straight = {
        let (mut process, _) = failing(&options, u64::MAX, FAILURES[0]);
        process.optimizer.prepare().expect("it prepares");
        for step in 1..=4 {
            process.step(step, &StepOptions::default()).expect("a step");
        }
        (process.common_bits(), process.params.iter().map(Tensor::bits).collect::<Vec<_>>())
    };
    for failure in FAILURES {
        for nth in 1..=6 {
            let (mut process, _) = failing(&options, nth, failure);
            let mut failed = 0;
            again(&mut failed, || process.optimizer.prepare());
            for step in 1..=4 {
                again(&mut failed, || process.step(step, &StepOptions::default()));
            }
            assert_eq!(failed, 1, "call {nth}");
            let state = (process.common_bits(), process.params.iter().map(Tensor::bits).collect::<Vec<_>>());
            assert!(state == straight, "call {nth}");
        }
    }
}

#[test]
fn a_meta_update_whose_reduction_fails_leaves_the_parameters_and_the_attention_module() {
    let options = Options { init: Init::Xavier, ..small() };
    for (failure, nth) in FAILURES.into_iter().flat_map(|failure| (5..=17).map(move |nth| (failure, nth))) {
        let (mut process, _) = failing(&options, nth, failure);
        process.optimizer.prepare().expect("it prepares");
        for step in 1..=2 {
            process.step(step, &StepOptions::default()).expect("a step");
        }
        let before = (process.common_bits(), process.params.iter().map(Tensor::bits).collect::<Vec<_>>());
        let phi = |process: &Process| {
            process.optimizer.modulation().expect("prepared").expect("on").attention.values().to_vec()
        };
        let phi_before = phi(&process);
        let (mut begun, mut failed) = (0, 0);
        let mut request = loop {
            begun += 1;
            match process.meta_begin() {
                Ok(request) => break request,
                Err(error) => assert_eq!((error.status(), begun), (Status::Reduction, 1), "{error}"),
            }
            assert!(before == (process.common_bits(), process.params.iter().map(Tensor::bits).collect()));
            failed += 1;
        };
        let mut ended = false;
        while let Some(asked) = request {
            let gradients = process.gradients(40 + asked.batch as u64);
            let answer = Answer { request_id: asked.id, loss: 1.0, grad_scale: 1.0 };
            let gradients = (asked.kind == Kind::Gradient).then_some(&gradients[..]);
            match process.meta_tell(&answer, gradients) {
                Ok(next) => request = next,
                Err(error) => {
                    assert_eq!(error.status(), Status::Reduction, "{error}");
                    failed += 1;
                    // Before its passes the request stays open; after them the meta-update has ended.
                    ended = process.meta_abort().is_err();
                    request = None;
                    assert!(phi(&process) == phi_before, "call {nth}");
                }
            }
        }
        assert_eq!(failed, 1, "call {nth}");
        assert!(before.1 == process.params.iter().map(Tensor::bits).collect::<Vec<_>>(), "call {nth}, ended: {ended}");
        process.step(3, &StepOptions::default()).expect("the run goes on");
    }
}

#[test]
fn learning_from_steps_says_that_the_step_was_made_if_only_its_products_are_missing() {
    let options = Options { meta_interval: 2, meta_warmup: 0, attn_heads: 2, threads: 1, ..Options::horizon() };
    for failure in FAILURES {
        let (mut process, _) = failing(&options, 4, failure);
        process.optimizer.prepare().expect("it prepares");
        let error = process.step(1, &StepOptions::default()).expect_err("its second call fails");
        assert!(matches!(error, Error::ReductionAfterStep(_)), "{error}");
        assert_eq!(process.optimizer.steps(), 1);
        process.step(2, &StepOptions::default()).expect("the run goes on");
    }
    let path = scratch("shards_products").join("run");
    let reference = Options { semantics: Semantics::Reference, ..small() };
    let (mut process, _) = failing(&reference, 4, FAILURES[1]);
    process.optimizer.prepare().expect("it prepares");
    let error = process.step(1, &StepOptions::default()).expect_err("its second call fails");
    assert!(matches!(error, Error::ReductionAfterStep(_)), "{error}");
    process.optimizer.save_file(&path, Contents::Run).expect("nothing that is not finite is left");
    process.optimizer.load_file(&path, Contents::Run, OnConflict::Strict).expect("it can be read");
}

#[test]
fn processes_that_are_not_alike_hear_at_preparation_what_differs() {
    let prepare = |change: &(dyn Fn(&mut Options, &mut Process) + Sync)| {
        both(|rank, world| {
            let mut options = small();
            let mut process = Process::new(&options, Some((world, rank, 2)));
            if rank == 1 {
                change(&mut options, &mut process);
            }
            process.optimizer.prepare().expect_err("they are not alike")
        })
    };
    let [own, other] = prepare(&|_, process| process.optimizer.set_lr(None, 0.5).expect("a rate"));
    assert!(differ(&own).starts_with("param groups") && differ(&other).starts_with("param groups"));
    let [own, other] = prepare(&|_, process| {
        let more = TensorSpec {
            shard: Some(Shard { offset: 0, numel: 0 }),
            ..TensorSpec::new("more", &[3], DType::F32).expect("a name")
        };
        process.optimizer.add_tensors(0, vec![more]).expect("a tensor");
    });
    assert!(differ(&own).contains("tensors") && differ(&other).contains("tensors"));
    let errors = both(|rank, world| {
        let options = Options { seed: rank as u64, ..small() };
        Process::new(&options, Some((world, rank, 2))).optimizer.prepare().expect_err("they are not alike")
    });
    assert!(errors.iter().all(|error| differ(error).starts_with("options")));
    // Threads are each process's own.
    both(|rank, world| {
        let options = Options { threads: 1 + rank, ..small() };
        Process::new(&options, Some((world, rank, 2))).optimizer.prepare().expect("they are alike");
    });
}

#[test]
fn elements_that_no_process_or_two_have_are_found_at_preparation() {
    let prepare = |ranks: [usize; 2]| {
        both(|rank, world| {
            Process::new(&small(), Some((world, ranks[rank], 2))).optimizer.prepare().expect_err("no partition")
        })
    };
    for error in prepare([0, 0]).into_iter().chain(prepare([1, 1])) {
        let Error::Reduction(ReductionError::Shards { name, got, .. }) = &error else { panic!("{error}") };
        assert!(specs().iter().flat_map(|(_, specs)| specs).any(|spec| spec.name.as_str() == name), "{error}");
        assert!(got == "2" || got == "0", "{error}");
    }
}

#[test]
fn processes_that_go_apart_hear_it_in_the_next_call_and_can_go_on_together() {
    type Act = fn(&mut Process) -> Result<(), Error>;
    let step: Act = |process| process.step(2, &StepOptions::default()).map(drop);
    let acts: [(Act, &str); 5] = [
        (|process| process.step(2, &StepOptions { grad_scale: 2.0, ..StepOptions::default() }).map(drop), "the call"),
        (
            |process| process.step(2, &StepOptions { params_changed: true, ..StepOptions::default() }).map(drop),
            "the call",
        ),
        (|process| process.meta_begin().map(drop), "the call"),
        (
            |process| {
                process.optimizer.set_lr(None, 0.25).expect("a rate");
                let failed = process.step(2, &StepOptions::default()).map(drop);
                process.optimizer.set_lr(None, 3e-3).expect("a rate");
                failed
            },
            "param groups",
        ),
        (
            |process| {
                let phi = process.optimizer.modulation().expect("prepared").expect("on");
                let name = "output_proj.weight";
                let values = phi.attention.values()[phi.attention.range(name).expect("it exists")].to_vec();
                process.optimizer.set_attention(name, &vec![0.5; values.len()]).expect("finite");
                let failed = process.step(2, &StepOptions::default()).map(drop);
                process.optimizer.set_attention(name, &values).expect("finite");
                failed
            },
            "the state",
        ),
    ];
    for (act, what) in acts {
        let errors = both(|rank, world| {
            let mut process = prepared(rank, world, &small());
            let before: Vec<_> = process.params.iter().map(Tensor::bits).collect();
            let error = if rank == 1 { act(&mut process) } else { step(&mut process) }.expect_err("they differ");
            assert!(before == process.params.iter().map(Tensor::bits).collect::<Vec<_>>());
            step(&mut process).expect("they are alike again");
            error
        });
        assert!(errors.iter().all(|error| differ(error).starts_with(what)), "{what}: {errors:?}");
    }
}

#[test]
fn a_call_that_fails_on_one_process_fails_on_all_and_the_request_stays_open() {
    let errors = both(|rank, world| {
        let mut process = prepared(rank, world, &small());
        let mut errors = Vec::new();
        let bad = StepOptions { grad_scale: if rank == 1 { -1.0 } else { 1.0 }, ..StepOptions::default() };
        errors.push(process.step(2, &bad).expect_err("one is refused").status());
        // One gradient too few.
        let mut gradients = process.gradients(2);
        if rank == 1 {
            gradients.pop();
        }
        errors.push(process.step_with(&gradients, &StepOptions::default()).expect_err("one is refused").status());
        let mut begin = |count: usize| process.meta_begin_with(count).expect_err("one is refused").status();
        errors.push(begin(if rank == 1 { 3 } else { 10 }));
        let request = process.meta_begin().expect("alike").expect("finite");
        let answer = Answer { request_id: request.id + rank as u64, loss: 1.0, grad_scale: 1.0 };
        let gradients = process.gradients(41);
        let told = process.meta_tell(&answer, Some(&gradients));
        errors.push(told.expect_err("one is refused").status());
        let answer = Answer { request_id: request.id, ..answer };
        process.meta_tell(&answer, Some(&gradients)).expect("it is still open");
        errors
    });
    assert_eq!(errors[0], [Status::Reduction; 4]);
    assert_eq!(errors[1], [Status::InvalidArgument; 4]);
}

#[test]
fn a_gradient_that_only_some_processes_have_is_refused_and_one_that_owns_nothing_follows() {
    let errors = both(|rank, world| {
        let mut process = prepared(rank, world, &small());
        // Of tensor 0 both have something, in the step without salt 0; of tensor 2 only one has.
        let both_have = !process.parts[0].is_empty();
        assert!(both_have, "the cut gives both a part");
        let mut gradients = process.gradients(2);
        if rank == 1 {
            gradients[0] = None;
        }
        let error = process.step_with(&gradients, &StepOptions::default()).expect_err("one has none");
        let mut gradients = process.gradients(3);
        for (gradient, part) in gradients.iter_mut().zip(&process.parts) {
            if part.is_empty() {
                *gradient = None;
            }
        }
        let steps = |process: &mut Process| process.optimizer.tensor_step(2).expect("a tensor");
        let before = steps(&mut process);
        process.step_with(&gradients, &StepOptions::default()).expect("who has it has a gradient");
        assert_eq!(steps(&mut process), before + 1, "of a bias that one process has");
        error
    });
    for error in errors {
        let Error::Reduction(ReductionError::Gradient { name }) = error else { panic!("{error}") };
        assert_eq!(name, "embedding.weight");
    }
}

#[test]
fn a_skipped_step_under_the_error_policy_is_an_error_on_all() {
    let options = Options { nonfinite: NonFinite::Error, ..small() };
    let errors = both(|rank, world| {
        let mut process = prepared(rank, world, &options);
        let mut gradients = process.gradients(2);
        if let Some(gradient) = gradients[0].as_mut().filter(|gradient| rank == 0 && gradient.len() > 0) {
            gradient.set(0, f64::INFINITY);
        }
        let error = process.step_with(&gradients, &StepOptions::default()).expect_err("not finite");
        process.step(3, &StepOptions::default()).expect("the run goes on");
        error
    });
    assert_eq!(errors.map(|error| error.status()), [Status::NotFinite; 2]);
}

#[test]
fn what_cannot_be_done_with_shards_is_refused() {
    let spec = |offset, numel| TensorSpec {
        shard: Some(Shard { offset, numel }),
        ..TensorSpec::new("w", &[2, 50_000], DType::F32).expect("a name")
    };
    let add = |spec| Optimizer::new(small()).expect("good options").add_param_group(ParamGroup::default(), vec![spec]);
    for (offset, numel) in
        [(0, 100_000), (0, 0), (100_000, 0), (32_768, 32_768), (98_304, 1_696), (65_536, 34_464), (5, 0)]
    {
        add(spec(offset, numel)).expect("at the border of blocks");
    }
    for (offset, numel) in
        [(1, 32_767), (0, 32_767), (0, 99_999), (32_768, 67_233), (100_001, 0), (u64::MAX, 2), (98_304, u64::MAX)]
    {
        let error = add(spec(offset, numel)).expect_err("within a block, or beyond the tensor");
        assert_eq!(error.status(), Status::InvalidArgument, "{error}");
        assert!(error.to_string().contains("of tensor 'w'"), "{error}");
    }
    let whole = || -> Process { Process::new(&small(), Some((&World::new(1), 0, 1))) };
    let mut process = whole();
    process.optimizer.set_reduction(None).expect("not prepared");
    assert_eq!(process.optimizer.prepare().expect_err("shards alone").status(), Status::InvalidState);
    let mut alone = Process::new(&small(), None);
    alone.optimizer.set_reduction(Some(Arc::new(|_| 0))).expect("not prepared");
    let error = alone.optimizer.prepare().expect_err("no shards");
    assert!(error.to_string().contains("sharded of tensor 'embedding.weight'"), "{error}");
    let mut process = whole();
    let error = process.step(1, &StepOptions::default()).expect_err("not prepared");
    assert_eq!(error.status(), Status::InvalidState, "{error}");
    process.optimizer.prepare().expect("alone it has all");
    assert_eq!(process.optimizer.set_reduction(None).expect_err("prepared").status(), Status::InvalidState);
    let more = TensorSpec { name: metaadamw::Name::new("name", b"more").expect("a name"), ..spec(0, 0) };
    for error in [
        process.optimizer.add_tensors(0, vec![more]).expect_err("prepared"),
        process.optimizer.remove_tensor(0).expect_err("prepared"),
        process.optimizer.save_bytes(Contents::Run).map(drop).expect_err("shards"),
    ] {
        assert_eq!(error.status(), Status::Unsupported, "{error}");
    }
    let file = process.optimizer.save_bytes(Contents::Attention).expect("all processes have the same");
    process.optimizer.load_bytes(&file, Contents::Attention, OnConflict::Strict).expect("it is its own");
    let mut verifies = Process::new(&Options { verify_params: true, ..small() }, Some((&World::new(1), 0, 1)));
    let error = verifies.optimizer.prepare().expect_err("it cannot verify");
    assert!(error.to_string().contains("verify_params"), "{error}");
}

thread_local! {
    /// So many reserves from now on there is no memory, once.
    static REFUSED: Cell<u32> = const { Cell::new(u32::MAX) };
}

fn refuse(event: Event) -> bool {
    if !matches!(event, Event::Reserve(_)) {
        return true;
    }
    let left = REFUSED.get();
    REFUSED.set(if left == u32::MAX { left } else { left.wrapping_sub(1) });
    left != 0
}

#[test]
fn a_preparation_without_memory_makes_only_the_first_call_of_the_others() {
    watch::set(refuse);
    let mut failed = 0;
    for nth in 0.. {
        let mut process = Process::new(&small(), Some((&World::new(1), 0, 1)));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        let callback = move |summands: Summands| {
            on_host(summands, |values| {
                seen.lock().expect("no panic").push(values.len());
                0
            })
        };
        process.optimizer.set_reduction(Some(Arc::new(callback))).expect("not prepared");
        REFUSED.set(nth);
        let prepared = process.optimizer.prepare();
        REFUSED.set(u32::MAX);
        let lengths = calls.lock().expect("no panic").clone();
        let Err(error) = prepared else { break };
        assert_eq!(error.status(), Status::OutOfMemory);
        assert_eq!(lengths.len(), 1, "reserve {nth}: as the others, which then hear that it refuses");
        failed += 1;
    }
    assert!(failed >= 3, "of {failed} reserves");
}
