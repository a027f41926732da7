//! A project outside this tree (tests/consumer) builds and runs with the library, by every route and with both kinds of
//! library: from sources (add_subdirectory, FetchContent), and from an installed prefix that was moved afterwards
//! (find_package, pkg-config).
#![cfg(target_os = "linux")]

#[path = "common/cmake.rs"]
mod cmake;
#[path = "common/compile.rs"]
mod compile;

use cmake::{Kind, Temporary, VERSION, both_programs_work, build, configure, define, installed_and_moved};
use compile::{root, run};
use std::fs;
use std::path::Path;
use std::process::Command;

fn from_sources(route: &str, kind: Kind) {
    let folder = Temporary::new(&format!("{route}-{}", kind as u8));
    let built = folder.join("build");
    let mut command = configure(&folder.consumer(), &built, kind);
    run(command.arg(format!("-DROUTE={route}")).arg(define("METAADAMW_SOURCE", root())));
    build(&built);
    both_programs_work(&built, kind);
}

fn names_no_other_place(prefix: &Path, folder: &Temporary) {
    for file in ["lib/pkgconfig/metaadamw.pc", "lib/cmake/MetaAdamW/MetaAdamWConfig.cmake"] {
        let text = fs::read_to_string(prefix.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for place in [&folder.0, root()] {
            assert!(!text.contains(place.to_str().expect("UTF-8")), "{file} names {}:\n{text}", place.display());
        }
    }
}

fn has_the_names_of_a_shared_library(prefix: &Path) {
    let full = format!("libmetaadamw.so.{VERSION}");
    for (link, target) in [("libmetaadamw.so", "libmetaadamw.so.1"), ("libmetaadamw.so.1", full.as_str())] {
        let read = fs::read_link(prefix.join("lib").join(link)).unwrap_or_else(|error| panic!("{link}: {error}"));
        assert_eq!(read, Path::new(target), "{link}");
    }
    let file = fs::symlink_metadata(prefix.join("lib").join(full)).expect("the library is there");
    assert!(file.is_file());
    assert!(prefix.join("lib/libmetaadamw.a").exists(), "both kinds are installed");
}

fn by_find_package(folder: &Temporary, prefix: &Path, kind: Kind) {
    let built = folder.join("build");
    let consumer = folder.consumer();
    let configure_with = |wanted: &str, built: &Path| {
        let mut command = configure(&consumer, built, kind);
        command.args(["-DROUTE=find_package".to_owned(), format!("-DWANTED_VERSION={wanted}")]);
        command.arg(define("CMAKE_PREFIX_PATH", prefix));
        command
    };
    run(&mut configure_with(VERSION, &built));
    build(&built);
    both_programs_work(&built, kind);
    let newer = configure_with("99.0", &folder.join("newer")).output().expect("cmake runs");
    assert!(!newer.status.success(), "the version file lets a request for 99.0 pass");
}

fn by_pkg_config(folder: &Temporary, prefix: &Path, kind: Kind) {
    let ask = |what: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(what).arg("metaadamw");
        String::from_utf8(run(&mut command).stdout).expect("UTF-8").trim().to_owned()
    };
    assert_eq!(ask(&["--modversion"]), VERSION);
    for (compiler, standard, source) in [("cc", "c99", "in_c.c"), ("c++", "c++17", "in_cpp.cpp")] {
        // Through the shell, as in a Makefile: pkg-config quotes the blank in the prefix for it.
        let program = source.split('.').next().expect("a name before the point");
        let line = format!(
            "{compiler} -std={standard} consumer/{source} -o {program} {} \"-Wl,-rpath,{}\"",
            ask(&["--cflags", "--libs"]),
            ask(&["--variable=libdir"]).replace('\\', "")
        );
        run(Command::new("sh").args(["-c", &line]).current_dir(&folder.0));
    }
    both_programs_work(&folder.0, kind);
}

fn from_a_moved_prefix(kind: Kind) {
    let folder = Temporary::new(if kind == Kind::Static { "static" } else { "shared" });
    let prefix = installed_and_moved(&folder, kind);
    names_no_other_place(&prefix, &folder);
    if kind == Kind::Shared {
        has_the_names_of_a_shared_library(&prefix);
    } else {
        assert!(!prefix.join("lib/libmetaadamw.so").exists(), "static libraries alone were asked for");
    }
    by_find_package(&folder, &prefix, kind);
    by_pkg_config(&folder, &prefix, kind);
}

#[test]
fn a_project_takes_the_sources_in_by_add_subdirectory() {
    from_sources("add_subdirectory", Kind::Shared);
    from_sources("add_subdirectory", Kind::Static);
}

#[test]
fn a_project_takes_the_sources_in_by_fetch_content() {
    from_sources("FetchContent", Kind::Shared);
    from_sources("FetchContent", Kind::Static);
}

#[test]
fn a_project_finds_the_installed_shared_library_after_its_prefix_was_moved() {
    from_a_moved_prefix(Kind::Shared);
}

#[test]
fn a_project_finds_the_installed_static_library_after_its_prefix_was_moved() {
    from_a_moved_prefix(Kind::Static);
}

#[test]
fn one_prefix_has_both_kinds_and_a_project_chooses() {
    let folder = Temporary::new("both");
    let prefix = installed_and_moved(&folder, Kind::Shared);
    by_find_package(&folder, &prefix, Kind::Static);
    let ask = Command::new("pkg-config")
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .args(["--static", "--cflags", "--libs", "metaadamw"])
        .output()
        .expect("pkg-config runs");
    let flags = String::from_utf8(ask.stdout).expect("UTF-8");
    // All of it static, the C library too.
    for (compiler, source) in [("cc -std=c99", "in_c.c"), ("c++ -std=c++17", "in_cpp.cpp")] {
        let line = format!("{compiler} -static consumer/{source} -o all_static {}", flags.trim());
        run(Command::new("sh").args(["-c", &line]).current_dir(&folder.0));
        let output = run(&mut Command::new(folder.join("all_static")));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "w = 0.495\n", "{source}");
    }
}

#[test]
fn another_kind_of_library_may_be_wanted_in_a_configured_folder() {
    let folder = Temporary::new("changed");
    let (built, consumer) = (folder.join("build"), folder.consumer());
    for (value, kind) in [("ON", Kind::Shared), ("OFF", Kind::Static), ("ON", Kind::Shared)] {
        let mut command = configure(&consumer, &built, Kind::Shared);
        command.args([format!("-DBUILD_SHARED_LIBS={value}"), "-DROUTE=add_subdirectory".to_owned()]);
        run(command.arg(define("METAADAMW_SOURCE", root())));
        build(&built);
        both_programs_work(&built, kind);
    }
}

#[test]
fn two_parts_of_a_project_may_add_the_library() {
    from_sources("twice", Kind::Shared);
}

#[test]
fn a_target_of_cargos_own_settings_is_not_built_instead() {
    let folder = Temporary::new("cargo-target");
    let built = folder.join("build");
    let mut command = configure(&folder.consumer(), &built, Kind::Shared);
    run(command.arg("-DROUTE=add_subdirectory").arg(define("METAADAMW_SOURCE", root())));
    run(Command::new("cmake").arg("--build").arg(&built).env("CARGO_BUILD_TARGET", "wasm32-unknown-unknown"));
    both_programs_work(&built, Kind::Shared);
}

#[test]
fn an_unknown_or_missing_target_is_an_error_that_says_what_to_do() {
    let folder = Temporary::new("targets");
    let refused = |settings: &[&str]| {
        let mut command = configure(root(), &folder.join("build"), Kind::Shared);
        let output = command.args(settings).output().expect("cmake runs");
        assert!(!output.status.success(), "{settings:?}");
        fs::remove_dir_all(folder.join("build")).expect("cmake made it");
        let words: Vec<String> =
            String::from_utf8_lossy(&output.stderr).split_whitespace().map(str::to_owned).collect();
        words.join(" ")
    };
    let system = "-DCMAKE_SYSTEM_NAME=Linux";
    let unknown = refused(&[system, "-DCMAKE_SYSTEM_PROCESSOR=sparc64"]);
    assert!(unknown.contains("no Rust target is known") && unknown.contains("'sparc64'"), "{unknown}");
    assert!(unknown.contains("set METAADAMW_RUST_TARGET"), "{unknown}");
    let nonsense = refused(&["-DMETAADAMW_RUST_TARGET=nonsense"]);
    assert!(nonsense.contains("does not know the target 'nonsense'"), "{nonsense}");
    let missing = refused(&["-DMETAADAMW_RUST_TARGET=s390x-unknown-linux-gnu"]);
    assert!(missing.contains("rustup target add s390x-unknown-linux-gnu"), "{missing}");
}

/// The programs are run where an emulator of the processor can be had.
#[test]
fn a_toolchain_file_for_aarch64_gives_programs_for_aarch64() {
    let target = "aarch64-unknown-linux-gnu";
    let has =
        |program: &str, argument: &str| Command::new(program).arg(argument).output().is_ok_and(|o| o.status.success());
    let rustc =
        String::from_utf8(run(Command::new("rustc").args(["--print", "target-libdir", "--target", target])).stdout);
    let std_is_there = Path::new(rustc.expect("a path").trim()).is_dir();
    if !std_is_there || !has("aarch64-linux-gnu-gcc", "--version") || !has("aarch64-linux-gnu-g++", "--version") {
        println!("NOT tested: Rust's {target} and Debian's gcc and g++ for aarch64-linux-gnu are needed");
        return;
    }
    let folder = Temporary::new("aarch64");
    let toolchain = "set(CMAKE_SYSTEM_NAME Linux)\nset(CMAKE_SYSTEM_PROCESSOR aarch64)\n\
                     set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)\nset(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)\n";
    fs::write(folder.join("toolchain.cmake"), toolchain).expect("in a folder of ours");
    let has_qemu = has("qemu-aarch64", "--version");
    if !has_qemu {
        println!("compiled, but NOT run: qemu-aarch64 is missing");
    }
    for kind in [Kind::Shared, Kind::Static] {
        let built = folder.join(if kind == Kind::Shared { "shared" } else { "static" });
        let mut command = configure(&folder.consumer(), &built, kind);
        command.arg("-DROUTE=add_subdirectory").arg(define("METAADAMW_SOURCE", root()));
        run(command.arg(define("CMAKE_TOOLCHAIN_FILE", folder.join("toolchain.cmake"))));
        build(&built);
        for program in ["in_c", "in_cpp", "metaadamw/lib/libmetaadamw.so"] {
            let header = run(Command::new("readelf").env("LC_ALL", "C").arg("-h").arg(built.join(program))).stdout;
            let header = String::from_utf8(header).expect("UTF-8");
            assert!(header.contains("AArch64"), "{program}: {header}");
            if has_qemu && program.starts_with("in_") {
                let mut emulated = Command::new("qemu-aarch64");
                let output = run(emulated.args(["-L", "/usr/aarch64-linux-gnu"]).arg(built.join(program)));
                assert_eq!(String::from_utf8_lossy(&output.stdout), "w = 0.495\n", "{program}");
            }
        }
    }
}
