//! On a device: what calls that fail leave of the sums that tell which parameters remainders belong to.

mod common;
#[path = "common/compile.rs"]
mod compile;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::processes::{Process, World, on_host, small};
use common::tensor::Tensor;
use compile::scratch;
use metaadamw::checkpoint::Contents;
use metaadamw::model::options::{NonFinite, Options};
use metaadamw::{StepOptions, Summands};

fn file(options: &Options, name: &str, failures: usize) -> Vec<u8> {
    let mut process = Process::new(options, Some((&World::new(1), 0, 1)));
    let fails = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&fails);
    let callback = move |summands: Summands| on_host(summands, |_| i32::from(flag.load(Ordering::SeqCst)));
    process.optimizer.set_reduction(Some(Arc::new(callback))).expect("not prepared");
    process.optimizer.prepare().expect("alone");
    for step in 1..4 {
        process.step(step, &StepOptions::default()).expect("a step");
    }
    process.meta_update();
    let before = process.params.clone();
    fails.store(true, Ordering::SeqCst);
    for _ in 0..failures {
        process.params = before.iter().map(|t| t.scaled(0.5)).collect();
        let changed = StepOptions { params_changed: true, ..StepOptions::default() };
        process.step(4, &changed).expect_err("it fails");
    }
    fails.store(false, Ordering::SeqCst);
    process.params = before;
    let path = scratch(&format!("shards_kept_{name}_{failures}")).join("run");
    process.optimizer.save_file(&path, Contents::Run).expect("saved");
    std::fs::read(path).expect("the file")
}

#[test]
fn steps_that_fail_leave_the_file_as_it_was() {
    for (name, nonfinite) in [("skip", NonFinite::Skip), ("error", NonFinite::Error)] {
        let options = Options { nonfinite, meta_interval: 100, ..small() };
        let straight = file(&options, name, 0);
        for failures in 1..4 {
            assert!(file(&options, name, failures) == straight, "{name} {failures}");
        }
    }
}

#[test]
fn calls_are_as_documented() {
    let calls = Arc::new(AtomicU64::new(0));
    let mut process = Process::new(&small(), Some((&World::new(1), 0, 1)));
    let count = Arc::clone(&calls);
    let callback = move |summands: Summands| {
        count.fetch_add(1, Ordering::SeqCst);
        on_host(summands, |_| 0)
    };
    process.optimizer.set_reduction(Some(Arc::new(callback))).expect("not prepared");
    let made = || calls.swap(0, Ordering::SeqCst);
    process.optimizer.prepare().expect("alone");
    let prepared = made();
    process.step(1, &StepOptions::default()).expect("a step");
    let step = made();
    process.meta_update();
    let meta = made();
    let path = scratch("shards_calls").join("run");
    process.optimizer.save_file(&path, Contents::Run).expect("saved");
    let saved = made();
    process.optimizer.load_file(&path, Contents::Run, metaadamw::checkpoint::OnConflict::Strict).expect("loaded");
    let loaded = made();
    process.step(2, &StepOptions::default()).expect("a step");
    let after_load = made();
    let _ = Tensor::bits;
    println!("prepare {prepared} step {step} meta {meta} save {saved} load {loaded} step after load {after_load}");
}
