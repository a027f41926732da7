//! The CUDA emulator's own tests (tests/cuda_emulator/test, GoogleTest): that it runs right kernels right, in every order
//! of threads, and finds what is wrong with others and with their hosts.
#![cfg(target_os = "linux")]

#[path = "common/compile.rs"]
mod compile;
#[path = "common/emulator.rs"]
mod emulator;

use compile::{root, run};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const KERNELS: &str = "tests/cuda_emulator/test/kernels.cu";

/// The program of the tests; built by one test at a time.
fn tests() -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = emulator::built(KERNELS, "cuda_emulator");
    let mut make = Command::new("make");
    make.args(["--silent", "-f"]).arg(root().join("tests/cuda_emulator/Makefile"));
    make.arg(format!("KERNELS={}", root().join(KERNELS).display())).arg(format!("OUT={}", folder.display()));
    run(make.arg(folder.join("tests")));
    folder.join("tests")
}

#[test]
fn the_emulators_tests_pass_whatever_the_order_of_threads() {
    for order in ["ascending", "descending", "7"] {
        let output = run(Command::new(tests()).env("CUDA_EMULATOR_ORDER", order).env_remove("LD_LIBRARY_PATH"));
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains("each_mistake_shows_in_an_order"), "the mutants were tried: {told}");
    }
}

#[test]
fn an_order_that_is_none_ends_the_program_with_a_message() {
    let mut program = Command::new(tests());
    program.env("CUDA_EMULATOR_ORDER", "sideways").env_remove("LD_LIBRARY_PATH");
    let output = program.output().expect("it was built");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("CUDA_EMULATOR_ORDER is 'sideways', not a whole number"), "{told}");
}

#[test]
fn a_limit_for_files_that_is_too_small_ends_the_program_with_a_message() {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 2000 && exec \"$0\" --gtest_filter='Memory.starts_as_nan'"]).arg(tests());
    let output = limited.env_remove("LD_LIBRARY_PATH").output().expect("a shell");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("the memory file needs 65536 MB, the limit for files (ulimit -f) is "), "{told}");
    let output = limited.env("CUDA_EMULATOR_SPAN_MB", "0").output().expect("a shell");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("limit for files"), "it is asked for what is needed: {told}");
}

#[test]
fn what_has_not_changed_is_not_built_again() {
    let library = tests().with_file_name("libcuda.so.1");
    let written = || fs::metadata(&library).and_then(|data| data.modified()).expect("it was built");
    let first = written();
    emulator::built(KERNELS, "cuda_emulator");
    assert_eq!(written(), first);
}
