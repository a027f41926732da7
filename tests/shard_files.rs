//! The file of several processes that share a model: that of one, whole or not there, and loaded by any number.

mod common;
#[path = "common/compile.rs"]
mod compile;

use std::fs;
use std::sync::atomic::Ordering;

use common::processes::{FAILURES, Process, all, both, failing, merged, prepared, small, steps, take_params};
use common::tensor::{Tensor, bits};
use compile::scratch;
use metaadamw::StepOptions;
use metaadamw::checkpoint::{Contents, OnConflict};
use metaadamw::error::Status;
use metaadamw::model::options::{FeatureVersion, Options, Semantics};

#[test]
fn the_file_of_several_processes_is_that_of_one_and_any_number_goes_on_from_it() {
    let horizon = Options { meta_interval: 2, meta_warmup: 1, attn_heads: 2, threads: 1, ..Options::horizon() };
    let reference = Options { semantics: Semantics::Reference, feature_version: FeatureVersion::Enhanced, ..small() };
    for (name, options) in [("paper", small()), ("horizon", horizon), ("reference", reference)] {
        let folder = scratch(&format!("shards_{name}"));
        let mut alone = Process::new(&options, None);
        steps(&mut alone, 1..6);
        let file = alone.optimizer.save_bytes(Contents::Run).expect("saved");
        let (at_save, state_at_save) = (alone.params.clone(), alone.common_bits());
        steps(&mut alone, 6..9);
        for ranks in [1, 2, 3] {
            let path = folder.join(format!("{ranks}.safetensors"));
            fs::write(&path, "the file of before").expect("a file");
            let processes = all(ranks, &options, |process, _| {
                steps(process, 1..6);
                process.optimizer.save_file(&path, Contents::Run).expect("they save together");
                steps(process, 6..9);
            });
            assert!(fs::read(&path).expect("the file") == file, "{name}: the file of {ranks} processes");
            assert!(merged(&processes) == bits(&alone.params), "{name}: {ranks} processes go on");
        }
        assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 3, "no temporary file is left");
        let path = folder.join("2.safetensors");
        for ranks in [1, 3, 4] {
            let mut processes = all(ranks, &options, |process, _| {
                steps(process, 1..3); // what is loaded replaces
                process.optimizer.load_file(&path, Contents::Run, OnConflict::Strict).expect("it fits");
                take_params(process, &at_save);
                assert!(process.common_bits()[0] == state_at_save[0]);
                steps(process, 6..9);
            });
            assert!(merged(&processes) == bits(&alone.params), "{name}: {ranks} processes go on from the file of two");
            assert!(processes.iter_mut().all(|process| process.common_bits() == alone.common_bits()), "{name}");
        }
    }
}

#[test]
fn a_save_that_fails_on_one_process_leaves_the_old_file_and_nothing_else() {
    let folder = scratch("shards_failing");
    let path = folder.join("run.safetensors");
    for failing_rank in [0, 1] {
        fs::write(&path, "the file of before").expect("a file");
        let statuses = both(|rank, world| {
            let mut process = prepared(rank, world, &small());
            let missing = folder.join("missing/run.safetensors");
            let path = if rank == failing_rank { &missing } else { &path };
            let status = process.optimizer.save_file(path, Contents::Run).expect_err("one cannot").status();
            process.step(2, &StepOptions::default()).expect("the run goes on");
            status
        });
        assert_eq!(statuses[failing_rank], Status::Io);
        assert_eq!(statuses[1 - failing_rank], Status::Reduction);
        assert_eq!(fs::read(&path).expect("the file"), b"the file of before");
        assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 1, "no temporary file is left");
    }
    // Preparation 2, a step, then four meetings of the save: at the last the file is the new one already.
    for (failure, nth) in FAILURES.into_iter().flat_map(|failure| (4..=7).map(move |nth| (failure, nth))) {
        fs::write(&path, "the file of before").expect("a file");
        let (mut process, calls) = failing(&small(), nth, failure);
        process.optimizer.prepare().expect("it prepares");
        process.step(1, &StepOptions::default()).expect("a step");
        let error = process.optimizer.save_file(&path, Contents::Run).expect_err("a meeting fails");
        assert_eq!(error.status(), Status::Reduction, "{error}");
        assert_eq!(calls.load(Ordering::Relaxed), nth);
        let found = fs::read(&path).expect("the file");
        assert!(nth == 7 || found == b"the file of before", "meeting {nth}");
        assert!(nth < 7 || found.len() > 1_000_000, "it was renamed before the last meeting");
        assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 1, "no temporary file is left");
        process.optimizer.save_file(&path, Contents::Run).expect("the next succeeds");
    }
}

#[test]
fn a_read_only_file_is_replaced_by_one() {
    let path = scratch("shards_read_only").join("run");
    fs::write(&path, "the file of before").expect("a file");
    let mut permissions = fs::metadata(&path).expect("the file").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).expect("its owner may");
    all(2, &small(), |process, _| process.optimizer.save_file(&path, Contents::Run).expect("they save together"));
    let file = fs::metadata(&path).expect("the file");
    assert!(file.len() > 1_000_000 && file.permissions().readonly());
}

#[test]
fn processes_load_the_same_file_or_none() {
    let folder = scratch("shards_loading");
    let (one, two) = (folder.join("one"), folder.join("two"));
    all(2, &small(), |process, _| {
        steps(process, 1..3);
        process.optimizer.save_file(&one, Contents::Run).expect("saved");
        steps(process, 3..4);
        process.optimizer.save_file(&two, Contents::Run).expect("saved");
    });
    let damaged = folder.join("damaged");
    let mut bytes = fs::read(&one).expect("the file");
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    fs::write(&damaged, bytes).expect("a file");
    for (other, status) in [(&two, Status::Reduction), (&damaged, Status::Corrupt), (&folder, Status::Io)] {
        for contents in [Contents::Run, Contents::Attention] {
            let statuses = both(|rank, world| {
                let mut process = prepared(rank, world, &small());
                let before = process.common_bits();
                let path = if rank == 0 { &one } else { other };
                let error = process.optimizer.load_file(path, contents, OnConflict::Strict).expect_err("they differ");
                assert!(process.common_bits() == before);
                process.step(2, &StepOptions::default()).expect("the run goes on");
                error.status()
            });
            assert_eq!(statuses, [Status::Reduction, status], "{}", other.display());
        }
    }
}

#[test]
fn parameters_that_the_files_remainders_do_not_belong_to_are_found_on_all_processes() {
    let path = scratch("shards_halves").join("run");
    let saved = all(2, &small(), |process, _| {
        steps(process, 1..3);
        process.optimizer.save_file(&path, Contents::Run).expect("saved");
    });
    let whole: Vec<Tensor> = {
        let mut alone = Process::new(&small(), None);
        steps(&mut alone, 1..3);
        alone.params
    };
    assert!(merged(&saved) == bits(&whole));
    let errors = both(|rank, world| {
        let mut process = Process::new(&small(), Some((world, rank, 2)));
        process.optimizer.prepare().expect("they are alike");
        process.optimizer.load_file(&path, Contents::Run, OnConflict::Strict).expect("it fits");
        take_params(&mut process, &whole);
        let good = process.params.clone();
        let head = process.params.len() - 1; // with remainders
        if let (1, true) = (rank, process.params[head].len() > 0) {
            process.params[head].set(0, 3.0);
        }
        let of_step = process.step(3, &StepOptions::default()).expect_err("another parameter");
        let of_meta = process.meta_begin().expect_err("another parameter");
        process.params = good;
        process.step(3, &StepOptions::default()).expect("now they are");
        [of_step.status(), of_meta.status()]
    });
    assert_eq!(errors, [[Status::ParamsChanged; 2]; 2]);
}

#[test]
fn a_file_after_setters_and_calls_that_failed_is_that_of_one_process() {
    let folder = scratch("shards_after_failures");
    let path = folder.join("run");
    // What a failing call, refused on one process before and on the other after its sums, leaves of those that are saved.
    let fail = |process: &mut Process, bad: bool| {
        let refused =
            StepOptions { grad_scale: if bad { -1.0 } else { 1.0 }, params_changed: true, ..StepOptions::default() };
        process.step(4, &refused).expect_err("one is refused");
        process.meta_begin_with(if bad { 3 } else { process.params.len() }).expect_err("one is refused");
    };
    for setter in [false, true] {
        let set = |process: &mut Process| {
            if setter {
                process.optimizer.reset(true, false).expect("prepared");
            }
        };
        let mut alone = Process::new(&small(), None);
        steps(&mut alone, 1..4);
        set(&mut alone);
        let file = alone.optimizer.save_bytes(Contents::Run).expect("saved");
        let processes = all(2, &small(), |process, rank| {
            steps(process, 1..4);
            set(process);
            fail(process, rank == 1);
            process.optimizer.save_file(&path, Contents::Run).expect("they are alike");
            let dump = process.optimizer.dump_state().expect("a dump");
            assert!(!dump.contains("\"exp_avg_sq\":"), "norms of a part, or of the step before");
        });
        assert!(fs::read(&path).expect("the file") == file, "setter: {setter}");
        assert!(merged(&processes) == bits(&alone.params));
    }
}
