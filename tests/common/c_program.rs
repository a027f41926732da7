//! For tests that compile and run the programs of tests/c.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use metaadamw::ffi::maw_abi_version;

use super::compile::{FAULT_INJECTION, compiler, library, released_library, root, run, scratch};
use super::emulator;

/// How the programs are compiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Build {
    Plain,
    /// With ASan and UBSan.
    Sanitized,
    /// With ThreadSanitizer, of which the library knows nothing.
    ThreadSanitized,
}

impl Build {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Sanitized => {
                &["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
            }
            Self::ThreadSanitized => &["-fsanitize=thread"],
        }
    }
}

/// The shared library: of `cargo test`, which has fault injection, or the one that METAADAMW_LIBRARY names.
fn tested_library() -> PathBuf {
    let path = library();
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        released_library().is_some()
            || bytes.windows(FAULT_INJECTION.len()).any(|window| window == FAULT_INJECTION.as_bytes()),
        "{} has no fault injection: if `cargo build` wrote it since, `touch src/lib.rs`",
        path.display()
    );
    path
}

/// Compiles and links a program of tests/c in `folder`, which may have headers of its own.
pub fn program(folder: &Path, sources: &[&str], build: Build) -> PathBuf {
    let library = tested_library();
    let link = folder.join(format!("libmetaadamw.so.{}", maw_abi_version()));
    std::os::unix::fs::symlink(&library, &link).unwrap_or_else(|error| panic!("{}: {error}", link.display()));
    let program = folder.join(sources[0]);
    let mut command = compiler("c99");
    command.args(["-D_POSIX_C_SOURCE=200809L", "-g", "-O1", "-pthread", "-I"]).arg(folder);
    command.args(build.flags());
    command.args(sources.iter().map(|name| root().join(format!("tests/c/{name}.c"))));
    command.arg("-o").arg(&program).arg(&link).args(["-lm", "-ldl"]).arg(format!("-Wl,-rpath,{}", folder.display()));
    run(&mut command);
    program
}

/// The program, ready to run as its sanitizers, if it has any, should be.
pub fn started(program: &Path, arguments: &[&str]) -> Output {
    started_with(program, arguments, &[])
}

/// The same with these settings in its environment.
pub fn started_with(program: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(program.parent().expect("it is in its folder"));
    // One of the tests asks for more memory than there is.
    command.env("ASAN_OPTIONS", "detect_leaks=1:allocator_may_return_null=1");
    command.env("UBSAN_OPTIONS", "print_stacktrace=1");
    // CUDA is the emulator's, even on a machine with a device.
    command.env("LD_LIBRARY_PATH", emulator::built("src/backend/cuda/kernels/kernels.cu", "cuda_emulator_of_kernels"));
    command.envs(settings.iter().copied());
    command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Compiles and runs a program that must succeed and print no error; returns its output.
pub fn passes(name: &str, sources: &[&str], build: Build) -> String {
    passes_with(name, sources, build, &[])
}

/// The same with these settings in its environment.
pub fn passes_with(name: &str, sources: &[&str], build: Build, settings: &[(&str, &str)]) -> String {
    passes_in(&folder(name, build), sources, build, settings)
}

/// The same in this folder.
pub fn passes_in(folder: &Path, sources: &[&str], build: Build, settings: &[(&str, &str)]) -> String {
    let output = started_with(&program(folder, sources, build), &[], settings);
    let (printed, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{sources:?}: {}\n{printed}{complaints}", output.status);
    // A caught panic prints nothing; one row of misuse.c asks for more memory than there is.
    let harmless = |line: &str| line.contains("AddressSanitizer failed to allocate");
    assert!(complaints.lines().all(harmless), "{sources:?}: {complaints}");
    print!("{printed}");
    printed.into_owned()
}

/// An empty folder for a program.
pub fn folder(name: &str, build: Build) -> PathBuf {
    scratch(&format!("c_program_{name}_{build:?}"))
}
