//! Dependencies point downward only: src/lib.rs lists the layers, and no module names one above its own.

use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. Each may use itself and those before it; every one may use `error`.
const LAYERS: [&str; 10] =
    ["reserve", "numeric", "model", "modulation", "backend", "run", "meta", "checkpoint", "optimizer", "ffi"];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All Rust files below a path, with their text.
fn files(at: &Path) -> Vec<(PathBuf, String)> {
    if at.is_file() {
        let text = fs::read_to_string(at).expect("a source file");
        return if at.extension().is_some_and(|e| e == "rs") { vec![(at.to_owned(), text)] } else { Vec::new() };
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(at).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    entries.sort();
    entries.iter().flat_map(|path| files(path)).collect()
}

/// The first modules of the paths that begin with `crate::`, tests included, comments not.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1)).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        Some(&rest[..end]).filter(|name| !name.is_empty())
    })
}

/// Layers above `own` that a text names, or what is no layer.
fn violations<'a>(own: &str, text: &'a str) -> Vec<&'a str> {
    let height = |layer: &str| LAYERS.iter().position(|l| *l == layer);
    let allowed = |name: &str| {
        // What lib.rs re-exports at the root are `Error` and `Result` for everybody.
        matches!(name, "error" | "Error" | "Result") || height(name).is_some_and(|h| Some(h) <= height(own))
    };
    named(text).filter(|name| !allowed(name)).collect()
}

#[test]
fn no_module_names_a_layer_above_its_own() {
    let mut found = Vec::new();
    for layer in LAYERS {
        for (path, text) in files(&src().join(layer)) {
            found.extend(violations(layer, &text).iter().map(|name| format!("{}: crate::{name}", path.display())));
        }
    }
    let error = fs::read_to_string(src().join("error.rs")).expect("src/error.rs");
    found.extend(named(&error).map(|name| format!("error.rs: crate::{name}")));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_module_is_in_a_layer_and_the_layers_are_shown_in_lib_rs() {
    let lib = fs::read_to_string(src().join("lib.rs")).expect("src/lib.rs");
    let mut modules: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").trim_start_matches("pub(crate) ").strip_prefix("mod "))
        .map(|name| name.trim_end_matches(';'))
        .collect();
    let mut expected: Vec<&str> = LAYERS.into_iter().chain(["error"]).collect();
    modules.sort_unstable();
    expected.sort_unstable();
    assert_eq!(modules, expected);
    let shown: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! "))
        .filter_map(|line| LAYERS.into_iter().find(|layer| line.split_whitespace().next() == Some(layer)))
        .collect();
    assert_eq!(shown, LAYERS.into_iter().rev().collect::<Vec<_>>(), "lib.rs shows the layers from the top down");
}

#[test]
fn the_cpu_and_cuda_backends_do_not_name_each_other() {
    for (own, other) in [("cpu", "cuda"), ("cuda", "cpu")] {
        for (path, text) in files(&src().join("backend").join(own)) {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let naming: Vec<&str> = code.filter(|line| line.contains(&format!("backend::{other}"))).collect();
            assert!(naming.is_empty(), "{}: {naming:?}", path.display());
        }
    }
}

/// Compares whole names, since kernels have names that begin with `maw_` too.
#[test]
fn only_src_ffi_names_functions_of_the_c_abi() {
    let exports = fs::read_to_string(src().join("../tests/exports.txt")).expect("tests/exports.txt");
    let functions: Vec<&str> = exports.lines().filter(|line| line.starts_with("maw_")).collect();
    assert!(functions.len() > 50, "{} functions", functions.len());
    for layer in LAYERS.into_iter().filter(|layer| *layer != "ffi").chain(["error.rs"]) {
        for (path, text) in files(&src().join(layer)) {
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            let known: Vec<&str> = words.filter(|word| functions.contains(word)).collect();
            assert!(known.is_empty(), "{}: {known:?}", path.display());
        }
    }
}

#[test]
fn a_name_from_above_is_found() {
    assert_eq!(violations("model", "use crate::optimizer::Optimizer;\n// crate::ffi\n"), ["optimizer"]);
    assert_eq!(violations("ffi", "use crate::optimizer::Optimizer;\nlet x = crate::nowhere::y;"), ["nowhere"]);
    assert!(violations("model", "pub(crate) fn f() -> crate::Result<()>;\nuse crate::numeric::half;").is_empty());
}
