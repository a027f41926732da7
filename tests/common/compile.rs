//! For tests of the header and of the shared library: their paths, the list of functions, the C compiler.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// With this environment variable the test of a generated file writes it instead of comparing.
pub const BLESS: &str = "METAADAMW_BLESS";

/// Not in the header or in a released library: it exists only with the feature fault-injection.
pub const FAULT_INJECTION: &str = "maw_test_inject_panic";

/// What this test was compiled for; build.rs knows it.
const TARGET: &str = env!("METAADAMW_TARGET");

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The committed header.
pub fn header() -> String {
    let path = root().join("include/metaadamw.h");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The functions that the header declares, in its order.
pub fn header_functions() -> Vec<String> {
    let header = header();
    let names = header.lines().filter(|line| !line.starts_with("//") && !line.starts_with("typedef"));
    names.filter_map(declared_function).map(str::to_owned).collect()
}

/// The name in `maw_status maw_step(maw_optimizer *optimizer,`, which starts at the left margin.
fn declared_function(line: &str) -> Option<&str> {
    let (before, _) = line.split_once('(')?;
    if line.starts_with([' ', '#']) {
        return None;
    }
    let name = before.rsplit([' ', '*']).next()?;
    name.starts_with("maw_").then_some(name)
}

/// The shared library that `cargo test` built along with this test, or the one that METAADAMW_LIBRARY names.
pub fn library() -> PathBuf {
    if let Some(path) = released_library() {
        return path;
    }
    let test = env::current_exe().expect("the test's own path");
    test.with_file_name(format!("{}metaadamw{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX))
}

/// The library that METAADAMW_LIBRARY names: one as it would be released, without fault injection.
pub fn released_library() -> Option<PathBuf> {
    env::var_os("METAADAMW_LIBRARY").map(|path| root().join(path))
}

/// An empty folder for the test with this name.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder); // it may not be there
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

/// The compiler for this target as the cc crate finds it (`CC`, `CXX` and their kin), with all warnings as errors and the
/// library's header in reach.
pub fn compiler(standard: &str) -> Command {
    let mut build = cc::Build::new();
    build.cpp(standard.starts_with("c++")).target(TARGET).host(TARGET).opt_level(0);
    // Flags are each test's own.
    build.cargo_metadata(false).no_default_flags(true).warnings(false);
    let mut command = build.get_compiler().to_command();
    command.arg(format!("-std={standard}")).args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
    command.arg("-I").arg(root().join("include"));
    command
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (printed, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{printed}{failed}", output.status);
    output
}
