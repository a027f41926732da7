//! What is installed: components, Debian packages and an archive, a static library that exports only the C ABI, no path
//! of the machine that built it, and the notices of the crates in it.
#![cfg(target_os = "linux")]

#[path = "common/cmake.rs"]
mod cmake;
#[path = "common/compile.rs"]
mod compile;

use cmake::{Kind, Temporary, VERSION, both_programs_work, build, configure, define};
use compile::{root, run};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The library, built.
fn library(folder: &Temporary) -> PathBuf {
    let built = folder.join("library");
    run(configure(root(), &built, Kind::Shared).arg("-DCMAKE_INSTALL_PREFIX=/usr").arg("-DCMAKE_INSTALL_LIBDIR=lib"));
    build(&built);
    built
}

/// Files and links below a folder, by their paths in it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder).expect("below it").to_str().expect("UTF-8").to_owned());
            }
        }
    }
    found
}

/// The consumer's programs, built from an installation in `root`, work.
fn is_usable(folder: &Temporary, installation: &Path) {
    for kind in [Kind::Shared, Kind::Static] {
        let built = folder.join(if kind == Kind::Shared { "with_shared" } else { "with_static" });
        let mut command = configure(&folder.consumer(), &built, kind);
        run(command.arg("-DROUTE=find_package").arg(define("CMAKE_PREFIX_PATH", installation.join("usr"))));
        build(&built);
        both_programs_work(&built, kind);
        fs::remove_dir_all(&built).expect("it was just built");
    }
}

#[test]
fn the_runtime_component_is_what_programs_load_and_development_all_else() {
    let folder = Temporary::new("components");
    let built = library(&folder);
    let component = |name: &str| {
        let to = folder.join(name);
        let mut command = Command::new("cmake");
        run(command.arg("--install").arg(&built).args(["--component", name]).env("DESTDIR", &to));
        files(&to)
    };
    let [runtime, development] = ["Runtime", "Development"].map(component);
    let libraries: Vec<&String> = runtime.iter().filter(|path| path.starts_with("usr/lib/")).collect();
    assert_eq!(libraries, [&format!("usr/lib/libmetaadamw.so.{VERSION}"), "usr/lib/libmetaadamw.so.1"]);
    for notice in ["LICENSE-MIT", "LICENSE-APACHE", "THIRD-PARTY.md"] {
        assert!(runtime.contains(&format!("usr/share/doc/MetaAdamW/{notice}")), "{runtime:?}");
    }
    assert_eq!(runtime.len(), 5, "{runtime:?}");
    for file in ["usr/include/metaadamw.h", "usr/include/metaadamw.hpp", "usr/include/metaadamw/optimizer.hpp"] {
        assert!(development.contains(file), "{file}");
    }
    for file in ["libmetaadamw.so", "libmetaadamw.a", "pkgconfig/metaadamw.pc", "cmake/MetaAdamW/MetaAdamWConfig.cmake"]
    {
        assert!(development.contains(&format!("usr/lib/{file}")), "{file}");
    }
    assert!(development.contains("usr/share/doc/MetaAdamW/docs/cuda.md"), "{development:?}");
    assert!(development.is_disjoint(&runtime));
}

#[test]
fn the_archive_and_the_debian_packages_are_usable_once_unpacked() {
    let folder = Temporary::new("packages");
    let built = library(&folder);
    let has_dpkg = Command::new("dpkg-deb").arg("--version").output().is_ok();
    if !has_dpkg {
        println!("Debian packages NOT tested: dpkg-deb is missing");
    }
    run(Command::new("cpack").current_dir(&built).args(["-G", if has_dpkg { "TGZ;DEB" } else { "TGZ" }]));
    let unpacked = folder.join("from_archive/usr");
    fs::create_dir_all(&unpacked).expect("in a folder of ours");
    let archive = files(&built).into_iter().find(|f| f.ends_with(".tar.gz") && !f.contains('/')).expect("an archive");
    run(Command::new("tar").arg("-xzf").arg(built.join(&archive)).args(["--strip-components=1", "-C"]).arg(&unpacked));
    is_usable(&folder, &folder.join("from_archive"));
    if has_dpkg {
        let architecture =
            String::from_utf8(run(Command::new("dpkg").arg("--print-architecture")).stdout).expect("ASCII");
        for package in ["libmetaadamw1", "libmetaadamw-dev"] {
            let file = built.join(format!("{package}_{VERSION}_{}.deb", architecture.trim()));
            run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(folder.join("from_debian")));
        }
        is_usable(&folder, &folder.join("from_debian"));
    }
}

#[test]
fn the_static_library_defines_only_the_c_abi_and_stands_beside_another_of_rust() {
    let folder = Temporary::new("archive");
    let built = library(&folder);
    let archive = built.join("lib/libmetaadamw.a");
    let symbols = run(Command::new("nm").args(["-g", "--defined-only"]).arg(&archive)).stdout;
    let symbols = String::from_utf8(symbols).expect("ASCII");
    let defined: BTreeSet<&str> = symbols.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let exports = fs::read_to_string(root().join("tests/exports.txt")).expect("it is committed");
    assert_eq!(defined, exports.lines().collect::<BTreeSet<_>>());

    let source = "use std::collections::HashMap;\n#[unsafe(no_mangle)] pub extern \"C\" fn other(n: u32) -> u32 {\n\
                  std::panic::catch_unwind(|| (0..n).map(|i| (i, i)).collect::<HashMap<_, _>>()[&n]).is_err().into() }\n";
    fs::write(folder.join("other.rs"), source).expect("in a folder of ours");
    let program = "#include <metaadamw.h>\n#include <stdio.h>\nunsigned other(unsigned n);\nint main(void) {\n\
                   printf(\"%u %u\\n\", maw_abi_version(), other(3)); return 0; }\n";
    fs::write(folder.join("both.c"), program).expect("in a folder of ours");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    run(Command::new(rustc).args(["--edition=2024", "--crate-type=staticlib", "other.rs"]).current_dir(&folder.0));
    let mut link = Command::new("cc");
    link.arg("both.c").arg(&archive).arg("libother.a").args([
        "-lpthread",
        "-lm",
        "-ldl",
        "-lrt",
        "-lutil",
        "-o",
        "both",
    ]);
    run(link.arg("-I").arg(root().join("include")).current_dir(&folder.0));
    let output = run(&mut Command::new(folder.join("both")));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 1\n");
}

#[test]
fn the_libraries_name_no_path_of_the_machine_that_built_them() {
    let folder = Temporary::new("paths");
    let built = library(&folder);
    let home = env::var("HOME").expect("a home");
    let places = [root().to_str().expect("UTF-8"), &home].map(|place| format!("{}/", place.trim_end_matches('/')));
    for library in ["lib/libmetaadamw.so", "lib/libmetaadamw.a"] {
        let bytes = fs::read(built.join(library)).expect("it was built");
        for place in &places {
            assert!(!bytes.windows(place.len()).any(|window| window == place.as_bytes()), "{library} names {place}");
        }
    }
}

#[test]
fn the_notices_are_those_of_the_crates_in_the_library() {
    let mut expected = BTreeSet::new();
    for target in
        ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin"]
    {
        let mut command = Command::new(env!("CARGO"));
        command.args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--target", target]);
        let tree = String::from_utf8(run(command.current_dir(root())).stdout).expect("UTF-8");
        for line in tree.lines().filter(|line| !line.starts_with("metaadamw ")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            expected.insert(format!("{} {}", words[0], words[1].trim_start_matches('v')));
        }
    }
    let text = fs::read_to_string(root().join("THIRD-PARTY.md")).expect("it is committed");
    let rows =
        text.lines().skip_while(|line| !line.starts_with("| ---")).skip(1).take_while(|line| line.starts_with("| "));
    let listed: BTreeSet<String> =
        rows.map(|row| row.split('|').map(str::trim).skip(1).take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(listed, expected, "run scripts/third-party.py");
}

#[test]
fn the_crate_has_the_sources_and_none_of_the_tests_cases() {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["package", "--list", "--locked", "--offline", "--allow-dirty"]).current_dir(root());
    let listed = String::from_utf8(run(&mut command).stdout).expect("UTF-8");
    let listed: BTreeSet<&str> = listed.lines().collect();
    let mut needed: Vec<String> = files(&root().join("src")).iter().map(|path| format!("src/{path}")).collect();
    let beside = ["build.rs", "examples/plot.rs", "include/metaadamw.h", "LICENSE-MIT", "LICENSE-APACHE", "README.md"];
    needed.extend(beside.map(str::to_owned));
    let missing: Vec<_> = needed.iter().filter(|path| !listed.contains(path.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let size = |path: &&str| fs::metadata(root().join(path)).map_or(0, |file| file.len()); // some are made
    let all: u64 = listed.iter().map(size).sum();
    assert!(all < 3 << 20, "{all} bytes: {listed:?}");
    let needless: Vec<_> = listed.iter().filter(|path| path.starts_with("tests/")).collect();
    assert!(needless.is_empty(), "{needless:?}");
}
