//! The shared library exports what the header declares and nothing else, and needs nothing but the C runtime.
#![cfg(target_os = "linux")]

#[path = "common/compile.rs"]
mod compile;

use compile::{BLESS, FAULT_INJECTION, header_functions, library, released_library, root, run};
use metaadamw::ffi::maw_abi_version;
use std::process::Command;
use std::{env, fs};

/// The shared libraries that ours may need: the C library with its loader, and unwinding.
const NEEDED: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux"];

fn tool(name: &str, arguments: &[&str]) -> String {
    let output = run(Command::new(name).env("LC_ALL", "C").args(arguments).arg(library()));
    String::from_utf8(output.stdout).expect("tools print ASCII here")
}

/// Exported symbols, sorted, without the test hook, which released libraries do not have.
fn exported() -> Vec<String> {
    let listing = tool("nm", &["-D", "--defined-only", "--format=posix"]);
    let mut names: Vec<String> = listing.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    if released_library().is_none() {
        names.retain(|name| name != FAULT_INJECTION);
    }
    names.sort();
    names
}

#[test]
fn the_exports_are_the_committed_list() {
    let path = root().join("tests/exports.txt");
    let listing = exported().join("\n") + "\n";
    if env::var_os(BLESS).is_some() {
        fs::write(&path, listing).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let committed = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(
        listing, committed,
        "tests/exports.txt: `make header` adds what is new; a name that is gone breaks programs: raise MAW_ABI_VERSION"
    );
}

#[test]
fn the_exports_are_the_functions_of_the_header() {
    let mut declared = header_functions();
    declared.sort();
    assert_eq!(exported(), declared);
}

/// The values in brackets of `readelf -d` lines with this tag.
fn dynamic(tag: &str) -> Vec<String> {
    let lines = tool("readelf", &["-d", "-W"]);
    let values = lines.lines().filter(|line| line.contains(&format!("({tag})")));
    values.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect()
}

#[test]
fn the_soname_carries_the_abi_version() {
    assert_eq!(dynamic("SONAME"), [format!("libmetaadamw.so.{}", maw_abi_version())]);
}

#[test]
fn the_library_needs_the_c_runtime_only() {
    for library in dynamic("NEEDED") {
        assert!(NEEDED.iter().any(|allowed| library.starts_with(allowed)), "it needs {library}");
    }
}
