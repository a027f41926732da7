//! The C ABI against that of the last release, by libabigail's `abidiff`: functions and constants may be added, and
//! fields at the end of structs; everything else breaks programs. `scripts/test.sh` runs these tests where abidiff is.
//!
//! What is compared is the header, as a library of empty functions whose debug information has every type. That the
//! real library has these functions and types is what `exports.rs` and `header.rs` test.
#![cfg(target_os = "linux")]

#[path = "common/compile.rs"]
mod compile;

use compile::{BLESS, compiler, header, root, run, scratch};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The description of the last release's, as `abidw` writes it.
fn released() -> PathBuf {
    root().join("tests/fixtures/abi-0.1.0.xml")
}

/// The header without comments.
fn code(header: &str) -> String {
    header.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// A definition of everything that a header declares. A constant is a variable that has its value in its name.
fn definitions(header: &str) -> String {
    let mut source = "#include \"metaadamw.h\"\n".to_owned();
    let code = code(header);
    let declarations = code.split(";\n").filter_map(|text| text.rsplit("\n\n").next()).map(str::trim);
    for declaration in declarations.filter(|text| text.contains("maw_") && !text.starts_with(['}', '#'])) {
        let Some((before, _)) = declaration.split_once('(').filter(|(before, _)| !before.starts_with("typedef")) else {
            continue;
        };
        let result = if before.starts_with("void maw_") { "" } else { "return 0;" };
        writeln!(source, "{declaration} {{ {result} }}").expect("a String takes everything");
    }
    let constants = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
    for (name, value) in constants.filter(|(name, _)| !name.starts_with("MAW_VERSION")) {
        let value: String = value.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        writeln!(source, "extern char {name}_is_{value}; char {name}_is_{value};").expect("a String takes everything");
    }
    source
}

/// How many fields each struct has in the description.
fn released_fields(description: &str) -> impl Iterator<Item = (&str, usize)> {
    description.split("<class-decl ").skip(1).filter_map(|class| {
        let name = class.split_once("name='")?.1.split_once('\'')?.0;
        let class = class.split_once("</class-decl>").map_or("", |(class, _)| class);
        Some((name, class.matches("<data-member").count()))
    })
}

/// The header without the fields that were added to structs at their ends.
fn without_new_fields(header: &str, description: &str) -> String {
    let mut header = code(header);
    for (name, count) in released_fields(description).filter(|(_, count)| *count > 0) {
        let Some(end) = header.find(&format!("}} {name};")) else { continue };
        let start = header[..end].rfind('{').expect("a struct begins") + 1;
        let fields: Vec<&str> = header[start..end].split_inclusive(";\n").collect();
        let kept: String = fields.into_iter().take(count).collect();
        header.replace_range(start..end, &kept);
    }
    header
}

/// Compiles a header's definitions.
fn library(folder: &Path, header: &str) -> PathBuf {
    fs::write(folder.join("metaadamw.h"), header).expect("the scratch folder can be written");
    fs::write(folder.join("abi.c"), definitions(header)).expect("the scratch folder can be written");
    // In the folder, so that the debug information has no paths of this machine.
    let mut command = compiler("c11");
    run(command.current_dir(folder).args(["-w", "-g", "-shared", "-fPIC", "abi.c", "-o", "libabi.so"]));
    folder.join("libabi.so")
}

/// What abidiff says of a header, unless all is well.
fn differences(name: &str, header: &str) -> Option<String> {
    let path = released();
    let description = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let library = library(&scratch(&format!("abi_{name}")), &without_new_fields(header, &description));
    let mut command = Command::new("abidiff");
    // Harmless for abidiff are changes that old binaries survive and sources do not, such as another name.
    command.args(["--no-architecture", "--no-added-syms", "--harmless", "--redundant"]).arg(path).arg(library);
    let output = command.output().unwrap_or_else(|error| panic!("abidiff: {error}; it is in Debian's abigail-tools"));
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (!output.status.success()).then_some(text)
}

#[test]
#[ignore = "needs abidiff; scripts/test.sh runs it"]
fn the_abi_is_that_of_the_last_release_or_more() {
    if env::var_os(BLESS).is_some() {
        let library = library(&scratch("abi_release"), &header());
        let options =
            ["--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--no-parameter-names", "--no-elf-needed"];
        let output = run(Command::new("abidw").args(options).arg(library));
        let text = String::from_utf8(output.stdout).expect("XML in ASCII");
        let folder = env!("CARGO_TARGET_TMPDIR");
        assert!(!text.contains(folder), "a path of this machine");
        fs::write(released(), text).expect("the description can be written");
    }
    let changed = differences("own", &header());
    assert!(changed.is_none(), "a change that breaks programs: raise MAW_ABI_VERSION\n{}", changed.unwrap_or_default());
}

/// A header with one text in place of another.
fn with(old: &str, new: &str) -> String {
    let header = code(&header());
    assert!(header.contains(old), "the header has '{old}'");
    header.replacen(old, new, 1)
}

#[test]
#[ignore = "needs abidiff; scripts/test.sh runs it"]
fn functions_constants_and_fields_at_the_end_may_be_added() {
    let due = "uint32_t maw_meta_due(const maw_optimizer *optimizer);";
    for (name, header) in [
        ("new_function", with(due, &format!("{due}\n\nuint32_t maw_new(const maw_optimizer *optimizer);"))),
        ("new_constant", with("#define MAW_BUSY (-4)", "#define MAW_BUSY (-4)\n#define MAW_NEW (-99)")),
        ("new_fields", with("} maw_options;", "    double more[3];\n    uint64_t most;\n} maw_options;")),
        ("new_field", with("} maw_tensor;", "    const char *more;\n} maw_tensor;")),
    ] {
        assert_eq!(differences(name, &header), None, "{name}");
    }
}

#[test]
#[ignore = "needs abidiff; scripts/test.sh runs it"]
fn every_other_change_is_found() {
    let due = "uint32_t maw_meta_due(const maw_optimizer *optimizer);";
    let grown = |header: String| header.replacen("} maw_options;", "    uint64_t more;\n} maw_options;", 1);
    let heads = "    uint32_t attn_heads;\n";
    for (name, header) in [
        ("no_function", with(due, "")),
        ("other_result", with(due, &due.replace("uint32_t", "uint64_t"))),
        ("other_parameter", with(due, &due.replace("const ", ""))),
        ("no_constant", with("#define MAW_META_LOSS 1\n", "")),
        ("other_value", with("#define MAW_BUSY (-4)", "#define MAW_BUSY (-44)")),
        ("field_at_the_front", with("    uint64_t seed;\n", "    uint64_t more;\n    uint64_t seed;\n")),
        ("field_in_the_middle", grown(with(heads, &format!("{heads}    uint32_t more;\n")))),
        ("field_of_another_type", with(heads, "    int32_t attn_heads;\n")),
        ("field_of_another_type_and_one_more", grown(with(heads, "    float attn_heads;\n"))),
        ("field_of_another_name", with(heads, "    uint32_t attention_heads;\n")),
        ("no_last_field", with("    uint32_t verify_params;\n", "")),
        ("another_last_field", with("    uint32_t verify_params;\n", "    uint32_t verify;\n")),
        ("other_callback", with("(*maw_log_callback)(int32_t level", "(*maw_log_callback)(int64_t level")),
        ("other_status", with("typedef int32_t maw_status;", "typedef int64_t maw_status;")),
    ] {
        assert!(differences(name, &header).is_some(), "{name} is not found");
    }
}
