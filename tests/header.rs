//! include/metaadamw.h: up to date with src/ffi, complete, and right about the layout of the structs.

#[path = "common/compile.rs"]
mod compile;

use compile::{BLESS, compiler, header, root, run, scratch};
use metaadamw::ffi::*;
use std::ffi::CStr;
use std::path::Path;
use std::{env, fs};

/// The files of src/ffi, in the order of the header.
const SOURCES: [&str; 19] = [
    "version.rs",
    "types.rs",
    "handle.rs",
    "structs.rs",
    "registration.rs",
    "optimizer.rs",
    "processes.rs",
    "hyper_parameters.rs",
    "meta.rs",
    "getters.rs",
    "attention.rs",
    "bytes.rs",
    "checkpoint.rs",
    "dump.rs",
    "tensor_state.rs",
    "averages.rs",
    "counters.rs",
    "device.rs",
    "error.rs",
];

/// The header as cbindgen makes it from the sources.
fn generated() -> String {
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml is valid");
    // cbindgen does not support string constants.
    let version =
        concat!("\n/// The library's version as text.\n#define MAW_VERSION \"", env!("CARGO_PKG_VERSION"), "\"");
    config.after_includes.get_or_insert_default().push_str(version);
    let folder = root().join("src/ffi");
    let builder = SOURCES
        .iter()
        .fold(cbindgen::Builder::new().with_config(config), |builder, file| builder.with_src(folder.join(file)));
    let mut text = Vec::new();
    builder.generate().expect("cbindgen reads src/ffi").write(&mut text);
    let text = String::from_utf8(text).expect("the sources are UTF-8");
    tagged(&without_safety_sections(&text)).lines().map(|line| parenthesised(line) + "\n").collect()
}

/// Leaves out Rust's `# Safety` sections: the header's chapter "Ownership" says it once for all functions.
fn without_safety_sections(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line == "/// # Safety" {
            inside = true;
            // The empty line between the comment and this section.
            lines.pop_if(|line| *line == "///");
        }
        inside &= line.starts_with("///");
        if !inside {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// Gives structs tags, `typedef struct maw_options {`, so that they can be declared without the header. cbindgen can do
/// so, but then writes `struct` before every use of the type as well.
fn tagged(text: &str) -> String {
    let untagged = "typedef struct {\n";
    let Some((before, after)) = text.split_once(untagged) else { return text.to_owned() };
    let (_, name) = after.split_once("\n} ").expect("a struct ends");
    let (name, _) = name.split_once(';').expect("its name is after it");
    format!("{before}typedef struct {name} {{\n{}", tagged(after))
}

/// Puts negative numbers in parentheses, so that `x -MAW_BUSY` is an expression; cbindgen does not.
fn parenthesised(line: &str) -> String {
    match line.rsplit_once(" -") {
        Some((define, number)) if define.starts_with("#define ") => format!("{define} (-{number})"),
        _ => line.to_owned(),
    }
}

#[test]
fn the_committed_header_is_the_one_that_the_sources_give() {
    let path = root().join("include/metaadamw.h");
    let fresh = generated();
    if env::var_os(BLESS).is_some() {
        fs::write(&path, fresh).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let committed = header();
    let difference = committed.lines().zip(fresh.lines()).position(|(old, new)| old != new);
    assert!(
        committed == fresh,
        "include/metaadamw.h is stale from line {} on; `make header` refreshes it",
        difference.map_or_else(|| committed.lines().count().min(fresh.lines().count()), |line| line + 1)
    );
}

#[test]
fn every_file_of_the_boundary_is_read_for_the_header() {
    let mut files: Vec<String> = fs::read_dir(root().join("src/ffi"))
        .expect("src/ffi is there")
        .map(|entry| entry.expect("its entries can be read").file_name().into_string().expect("names are UTF-8"))
        .filter(|name| fs::read_to_string(root().join("src/ffi").join(name)).is_ok_and(|text| exports_something(&text)))
        .collect();
    files.sort();
    let mut sources = SOURCES.map(str::to_owned).to_vec();
    sources.sort();
    assert_eq!(files, sources, "SOURCES in tests/header.rs lists the files of src/ffi that export something");
}

fn exports_something(source: &str) -> bool {
    source.contains("no_mangle") || source.contains("pub const MAW_")
}

#[test]
fn everything_in_the_header_has_a_comment() {
    let header = header();
    let mut previous = "";
    for line in header.lines() {
        let declaration = line.starts_with("#define MAW_")
            || line.starts_with("typedef ")
            || line.starts_with("maw_")
            || line.starts_with("const ")
            || line.starts_with("uint32_t ")
            || line.starts_with("void ");
        let field = line.starts_with("    ") && line.ends_with(';') && !line.contains(')');
        assert!(
            !(declaration || field) || previous.starts_with("///") || previous.starts_with("    ///"),
            "no comment above: {line}"
        );
        previous = line;
    }
}

/// The value of `#define NAME VALUE`.
fn defined(name: &str) -> String {
    let header = header();
    let start = format!("#define {name} ");
    let line = header.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("the header defines {name}")).to_owned()
}

#[test]
fn the_version_macros_say_what_the_functions_say() {
    // SAFETY: the library's strings are NUL-terminated and this one is static.
    #[allow(unsafe_code)]
    let version = unsafe { CStr::from_ptr(maw_version()) }.to_str().expect("it is UTF-8");
    assert_eq!(defined("MAW_VERSION"), format!("{version:?}"));
    let parts = ["MAW_VERSION_MAJOR", "MAW_VERSION_MINOR", "MAW_VERSION_PATCH"].map(defined);
    assert_eq!(parts.join("."), version);
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(defined("MAW_ABI_VERSION"), maw_abi_version().to_string());
}

fn compile_as(standard: &str, folder: &Path, source: &str) {
    let file = folder.join(if standard.starts_with("c++") { "header.cc" } else { "header.c" });
    fs::write(&file, source).expect("the scratch folder can be written");
    run(compiler(standard).arg("-fsyntax-only").arg(&file));
}

#[test]
fn the_header_compiles_alone_and_twice_as_c_and_as_cpp() {
    let folder = scratch("header_compiles");
    for standard in ["c99", "c11", "c++17"] {
        let include = "#include <metaadamw.h>\n";
        // ISO C requires a declaration in every file; the header has some.
        compile_as(standard, &folder, include);
        compile_as(standard, &folder, &include.repeat(2));
    }
}

#[test]
fn every_type_can_be_declared_without_the_header() {
    let header = header();
    let typedefs = header.lines().filter_map(|line| line.strip_prefix("typedef struct "));
    let names: Vec<&str> = typedefs.filter_map(|text| text.split([' ', ';']).next()).collect();
    assert_eq!(names.len(), layouts().len() + 4, "structs and opaque types: {names:?}");
    let before: String =
        names.iter().map(|name| format!("struct {name};\nvoid use_{name}(struct {name} *);\n")).collect();
    let after: String = names.iter().map(|name| format!("void use_{name}({name} *);\n")).collect();
    let folder = scratch("header_tags");
    for standard in ["c99", "c++17"] {
        // In C++ these would be overloads of one name if the types differed, of which C linkage allows one.
        let c_linkage = if standard == "c++17" { "extern \"C\" {\n" } else { "" };
        let end = if standard == "c++17" { "}\n" } else { "" };
        let source = format!("{c_linkage}{before}{end}#include <metaadamw.h>\n{c_linkage}{after}{end}");
        compile_as(standard, &folder, &source);
    }
}

/// Name, size, and name, offset and size of each field.
type Layout = (&'static str, usize, Vec<(&'static str, usize, usize)>);

macro_rules! layouts {
    ($($name:ident { $($field:ident),* $(,)? })*) => { [ $( {
        // A field that is missing here does not compile.
        let _: fn($name) = |$name { $($field: _),* }| {};
        fn size<S, F>(_: fn(&S) -> &F) -> usize {
            size_of::<F>()
        }
        let fields = vec![ $( (
            stringify!($field),
            std::mem::offset_of!($name, $field),
            size::<$name, _>(|it| &it.$field),
        ) ),* ];
        (stringify!($name), size_of::<$name>(), fields)
    } ),* ] };
}

fn layouts() -> [Layout; 9] {
    layouts! {
        maw_options {
            struct_size, seed, total_steps, meta_interval, meta_warmup, alpha_range, beta_range, meta_lr,
            meta_weight_decay, feature_gating_sparsity, priorities, fixed_weights, huw_initial_log_var, log_var_limit,
            difference_scale, max_grad_norm, semantics, feature_version, grouping, init, objective, weighting,
            huw_kinds, difference, nonfinite, device, device_index, modulation, use_v_norms, include_time_step,
            use_feature_gating, group_embed_dim, feature_dim, attn_heads, attn_layers, attn_hidden_dim, threads,
            verify_params, alpha_log_range, beta_log_range, horizon, meta_optimizer, average_dtype,
        }
        maw_param_group { struct_size, lr, beta1, beta2, eps, weight_decay, precision, moment_dtype }
        maw_tensor { struct_size, name, shape, modulation_group, ndim, dtype, grad_dtype, layer_kind, precision, layer_index, shard_offset, shard_numel, sharded, reserved }
        maw_step_options { struct_size, grad_scale, flags, reserved, device_grad_scale, found_inf }
        maw_step_report {
            struct_size, step, skipped_steps, grad_norm, clip_factor, nonfinite_tensor, skipped, skip_reason,
        }
        maw_meta_request { struct_size, id, replay, kind, batch, seed }
        maw_meta_answer { struct_size, request_id, loss, grad_scale }
        maw_meta_result {
            struct_size, step, updates, loss_train, loss_validation, loss_train_moved, loss_validation_moved,
            term_gradient, term_loss_decrease, term_gen_gap, loss_meta, evaluations, idle_groups, outcome, reserved,
        }
        maw_counters {
            struct_size, step, meta_updates, meta_done_at, skipped_gradient, skipped_parameter, skipped_moment,
            skipped_feature, skipped_factor,
        }
    }
}

#[test]
fn every_struct_has_the_same_layout_in_c_as_in_rust() {
    let mut source = String::from("#include <metaadamw.h>\n");
    let mut claim = |claim: String| source += &format!("_Static_assert({claim}, \"{claim}\");\n");
    for (name, size, fields) in layouts() {
        claim(format!("sizeof({name}) == {size}"));
        for (field, offset, size) in fields {
            claim(format!("offsetof({name}, {field}) == {offset}"));
            claim(format!("sizeof((({name} *)0)->{field}) == {size}"));
        }
    }
    compile_as("c11", &scratch("header_layout"), &source);
    let in_header = header().lines().filter(|line| line.starts_with("typedef struct ") && line.ends_with('{')).count();
    assert_eq!(in_header, layouts().len(), "layouts() lists every struct of the header");
}

#[test]
fn no_struct_has_padding() {
    for (name, size, fields) in layouts() {
        let used: usize = fields.iter().map(|(_, _, size)| size).sum();
        assert_eq!(used, size, "{name} has padding, whose content is undefined");
    }
}

/// The text of the files below a path with this extension, except for what is generated from the header.
fn sources(path: &Path, extension: &str) -> String {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
        return entries.map(|path| sources(&path, extension)).collect();
    }
    let wanted = path.extension().is_some_and(|own| own == extension) && !path.ends_with("raw.jl");
    if wanted { fs::read_to_string(path).expect("text") } else { String::new() }
}

#[test]
fn every_binding_names_every_constant_of_the_header() {
    let versions = ["MAW_VERSION", "MAW_VERSION_MAJOR", "MAW_VERSION_MINOR", "MAW_VERSION_PATCH"];
    let header = header();
    let constants: Vec<&str> = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_whitespace().next())
        .filter(|name| name.starts_with("MAW_") && !versions.contains(name))
        .collect();
    assert!(constants.len() > 80, "the header has its constants as macros: {constants:?}");
    // Not needed by a binding: the other kind of request, and the index that means every group.
    let bindings: [(&str, &str, &[&str]); 3] = [
        ("bindings/cpp/include", "hpp", &[]),
        ("bindings/go", "go", &["MAW_META_LOSS"]),
        ("bindings/julia/src", "jl", &["MAW_META_LOSS", "MAW_ALL_GROUPS"]),
    ];
    for (folder, extension, needless) in bindings {
        let text = sources(&root().join(folder), extension);
        let names: std::collections::BTreeSet<&str> =
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        // Julia's statuses are symbols: the name without its prefix.
        let symbol = |name: &str| name["MAW_".len()..].to_lowercase();
        let named = |name: &str| names.contains(name) || names.contains(symbol(name).as_str());
        let missing: Vec<_> = constants.iter().filter(|name| !named(name) && !needless.contains(name)).collect();
        assert!(missing.is_empty(), "{folder} lacks {missing:?}");
    }
}
