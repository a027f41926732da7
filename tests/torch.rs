//! The adapter for libtorch: its own tests (tests/torch, GoogleTest), its example, and the CMake component `torch`, where
//! libtorch is installed (Debian: libtorch-dev, and libopenblas0-pthread for speed).
#![cfg(target_os = "linux")]

#[path = "common/cmake.rs"]
mod cmake;
#[path = "common/compile.rs"]
mod compile;

use cmake::{Kind, Temporary, built, configure, define, installed_and_moved};
use compile::{root, run};
use std::fs;
use std::path::Path;
use std::process::Command;

/// OpenMP's threads would otherwise spin between their tasks, on the cores of the tests beside.
fn quiet(command: &mut Command) -> &mut Command {
    command.env("OMP_WAIT_POLICY", "passive")
}

#[test]
#[ignore = "needs libtorch; scripts/test.sh runs it where that is installed"]
fn the_adapters_tests_pass() {
    let folder = built("tests/torch", "torch");
    run(quiet(&mut Command::new("ctest")).arg("--output-on-failure").current_dir(&folder));
}

#[test]
#[ignore = "needs libtorch; scripts/test.sh runs it where that is installed"]
fn the_example_trains_with_the_installed_component_and_is_configured_from_sources() {
    let folder = Temporary::new("torch-component");
    let prefix = installed_and_moved(&folder, Kind::Shared);
    let source = root().join("examples/libtorch");
    let installed = folder.join("installed");
    run(configure(&source, &installed, Kind::Shared).arg(define("CMAKE_PREFIX_PATH", &prefix)));
    assert!(found_in(&installed).contains("moved/a prefix"), "{}", found_in(&installed));
    cmake::build(&installed);
    let printed = run(quiet(&mut Command::new(installed.join("train_one"))).current_dir(&installed)).stdout;
    let printed = String::from_utf8(printed).expect("UTF-8");
    let losses: Vec<f64> =
        printed.lines().filter_map(|line| line.split("loss ").nth(1)?.split(',').next()?.parse().ok()).collect();
    assert!(losses.len() > 2 && losses[losses.len() - 1] < 0.5 * losses[0], "{printed}");

    // The target of the sources is compiled with by the tests above; once is enough for libtorch's headers.
    let from_sources = folder.join("from-sources");
    run(configure(&source, &from_sources, Kind::Shared).arg("-DCMAKE_DISABLE_FIND_PACKAGE_MetaAdamW=ON"));
    assert!(from_sources.join("metaadamw").is_dir(), "it has the library's own folder");
}

/// The folder of the package that a project has found.
fn found_in(build: &Path) -> String {
    let cache = fs::read_to_string(build.join("CMakeCache.txt")).expect("it is configured");
    let line = cache.lines().find_map(|line| line.strip_prefix("MetaAdamW_DIR:PATH="));
    line.expect("it has looked for the package").to_owned()
}

#[test]
fn a_project_that_wants_the_component_is_told_that_libtorch_is_missing() {
    let folder = Temporary::new("no-torch");
    let prefix = installed_and_moved(&folder, Kind::Shared);
    let source = folder.join("source");
    fs::create_dir_all(&source).expect("in a folder of ours");
    let ask = |components: &str, built: &str| {
        let project = format!(
            "cmake_minimum_required(VERSION 3.16)\nproject(user LANGUAGES CXX)\n\
             set(CMAKE_DISABLE_FIND_PACKAGE_Torch ON)\nfind_package(MetaAdamW CONFIG REQUIRED {components})\n"
        );
        fs::write(source.join("CMakeLists.txt"), project).expect("in a folder of ours");
        let mut command = configure(&source, &folder.join(built), Kind::Shared);
        command.arg(define("CMAKE_PREFIX_PATH", &prefix)).output().expect("cmake runs")
    };
    let refused = ask("COMPONENTS torch", "with");
    let said = String::from_utf8_lossy(&refused.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!refused.status.success() && said.contains("torch needs libtorch"), "{said}");
    assert!(ask("", "without").status.success(), "without the component nothing needs libtorch");
}
