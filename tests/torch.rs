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
fn the_example_trains_from_sources_and_by_find_package_with_the_component() {
    let trains = |folder: &std::path::Path| {
        let printed = run(quiet(&mut Command::new(folder.join("train_one"))).current_dir(folder)).stdout;
        let printed = String::from_utf8(printed).expect("UTF-8");
        let losses: Vec<f64> =
            printed.lines().filter_map(|line| line.split("loss ").nth(1)?.split(',').next()?.parse().ok()).collect();
        assert!(losses.len() > 2 && losses[losses.len() - 1] < 0.5 * losses[0], "{printed}");
    };
    trains(&built("examples/libtorch", "train_one"));

    let folder = Temporary::new("torch-component");
    let prefix = installed_and_moved(&folder, Kind::Shared);
    let source = folder.join("source");
    fs::create_dir_all(&source).expect("in a folder of ours");
    fs::copy(root().join("examples/libtorch/train_one.cpp"), source.join("train_one.cpp")).expect("it is committed");
    let project = "cmake_minimum_required(VERSION 3.16)\nproject(user LANGUAGES CXX)\n\
                   find_package(MetaAdamW CONFIG REQUIRED COMPONENTS torch)\n\
                   add_executable(train_one train_one.cpp)\n\
                   target_link_libraries(train_one PRIVATE MetaAdamW::torch)\n";
    fs::write(source.join("CMakeLists.txt"), project).expect("in a folder of ours");
    let installed = folder.join("installed");
    run(configure(&source, &installed, Kind::Shared).arg(define("CMAKE_PREFIX_PATH", &prefix)));
    cmake::build(&installed);
    trains(&installed);
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
