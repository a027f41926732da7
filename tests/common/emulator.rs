//! Builds the CUDA emulator of tests/cuda_emulator.
#![allow(dead_code)]

use super::compile::{root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with the libcuda.so.1 that runs these kernels, a path in the repository. It is `target/tmp/name`,
/// built incrementally. Programs find the library there by LD_LIBRARY_PATH.
pub fn built(kernels: &str, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut build = Command::new(root().join("scripts/build-cuda-emulator.sh"));
    run(build.arg(root().join(kernels)).arg(&folder));
    folder
}
