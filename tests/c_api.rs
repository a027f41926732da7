//! The C ABI from C: the programs of tests/c, compiled as C99, without and with gcc's sanitizers.
#![cfg(target_os = "linux")]

#[path = "common/compile.rs"]
mod compile;
#[path = "common/emulator.rs"]
mod emulator;

use compile::{FAULT_INJECTION, compiler, header, header_functions, library, root, run, scratch};
use metaadamw::error::Status;
use metaadamw::ffi::*;
use std::ffi::CStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How the programs are compiled.
#[derive(Clone, Copy, PartialEq)]
enum Build {
    Plain,
    Sanitized,
}

/// The shared library of `cargo test`, which has fault injection.
fn with_fault_injection() -> PathBuf {
    let path = library();
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        bytes.windows(FAULT_INJECTION.len()).any(|window| window == FAULT_INJECTION.as_bytes()),
        "{} has no fault injection: if `cargo build` wrote it since, `touch src/lib.rs`",
        path.display()
    );
    path
}

/// Compiles and links a program of tests/c in `folder`, which may have headers of its own.
fn program(folder: &Path, sources: &[&str], build: Build) -> PathBuf {
    let library = with_fault_injection();
    let link = folder.join(format!("libmetaadamw.so.{}", maw_abi_version()));
    std::os::unix::fs::symlink(&library, &link).unwrap_or_else(|error| panic!("{}: {error}", link.display()));
    let program = folder.join(sources[0]);
    let mut command = compiler("c99");
    command.args(["-D_POSIX_C_SOURCE=200809L", "-g", "-O1", "-pthread", "-I"]).arg(folder);
    if build == Build::Sanitized {
        command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]);
    }
    command.args(sources.iter().map(|name| root().join(format!("tests/c/{name}.c"))));
    command.arg("-o").arg(&program).arg(&link).arg("-lm").arg(format!("-Wl,-rpath,{}", folder.display()));
    run(&mut command);
    program
}

/// The program, ready to run as its sanitizers, if it has any, should be.
fn started(program: &Path, arguments: &[&str]) -> Output {
    started_with(program, arguments, &[])
}

/// The same with these settings in its environment.
fn started_with(program: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(program.parent().expect("it is in its folder"));
    // One of the tests asks for more memory than there is.
    command.env("ASAN_OPTIONS", "detect_leaks=1:allocator_may_return_null=1");
    command.env("UBSAN_OPTIONS", "print_stacktrace=1");
    // CUDA is the emulator's, even on a machine with a device.
    command.env("LD_LIBRARY_PATH", emulator::built("src/backend/cuda/kernels/kernels.cu", "cuda_emulator_of_kernels"));
    command.envs(settings.iter().copied());
    command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Compiles and runs a program that must succeed and print no error; returns its output.
fn passes(name: &str, sources: &[&str], build: Build) -> String {
    passes_with(name, sources, build, &[])
}

/// The same with these settings in its environment.
fn passes_with(name: &str, sources: &[&str], build: Build, settings: &[(&str, &str)]) -> String {
    let folder = folder(name, build);
    if sources == MISUSE {
        fs::write(folder.join(WANTED), wanted_rows()).expect("the scratch folder can be written");
    }
    let output = started_with(&program(&folder, sources, build), &[], settings);
    let (printed, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{printed}{complaints}", output.status);
    // A caught panic prints nothing; one row asks for more memory than there is.
    let harmless = |line: &str| line.contains("AddressSanitizer failed to allocate");
    assert!(complaints.lines().all(harmless), "{name}: {complaints}");
    print!("{printed}");
    printed.into_owned()
}

fn folder(name: &str, build: Build) -> PathBuf {
    scratch(&format!("c_api_{name}_{}", if build == Build::Sanitized { "sanitized" } else { "plain" }))
}

const MISUSE: [&str; 8] = [
    "misuse",
    "misuse_fixture",
    "misuse_pointers",
    "misuse_structs",
    "misuse_order",
    "misuse_values",
    "misuse_files",
    "misuse_devices",
];

/// Where misuse.c finds them.
const WANTED: &str = "functions.inc";

/// What misuse.c must have rows for, as `WANTED("function", "theme")` lines: every function; NULL for each of its
/// pointers; and a busy and a poisoned handle if it takes one.
fn wanted_rows() -> String {
    let mut lines = String::new();
    let mut want = |function: &str, theme: &str| {
        writeln!(lines, "WANTED(\"{function}\", \"{theme}\")").expect("a String takes everything");
    };
    let functions = header_functions();
    assert!(functions.len() > 40, "the header's functions are found: {functions:?}");
    for function in &functions {
        want(function, "a row");
        for (parameter, is_handle) in pointers_of(function) {
            want(function, &parameter);
            if is_handle {
                want(function, "a busy handle");
                want(function, "a poisoned handle");
            }
        }
    }
    lines
}

/// The pointers (and callbacks) among the parameters of a function in the header, and which of them is its handle.
fn pointers_of(function: &str) -> Vec<(String, bool)> {
    let header = header();
    let code: Vec<&str> = header.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join(" ");
    let start = format!("{function}(");
    let (at, _) = code
        .match_indices(&start)
        .find(|(at, _)| code[..*at].ends_with([' ', '*']))
        .unwrap_or_else(|| panic!("the header declares {function}"));
    let parameters = code[at + start.len()..].split(')').next().unwrap_or_default();
    let pointers = parameters.split(',').filter(|p| p.contains('*') || p.contains("maw_log_callback"));
    pointers
        .map(|parameter| {
            let (kind, name) = parameter.trim().rsplit_once([' ', '*']).expect("parameters have names");
            let is_handle = kind.trim_start_matches("const ").starts_with("maw_optimizer") && !kind.contains('*');
            (name.to_owned(), is_handle)
        })
        .collect()
}

#[test]
fn every_function_refuses_misuse_and_changes_nothing() {
    let printed = passes("misuse", &MISUSE, Build::Plain);
    assert!(printed.contains(" rows, 0 failures") && !printed.contains(" 0 rows"), "{printed}");
}

#[test]
fn every_function_refuses_misuse_under_sanitizers() {
    let printed = passes("misuse", &MISUSE, Build::Sanitized);
    assert!(printed.contains(" rows, 0 failures") && !printed.contains(" 0 rows"), "{printed}");
}

#[test]
fn functions_and_pointers_of_the_header_without_rows_are_reported() {
    let folder = folder("misuse_incomplete", Build::Plain);
    let new = "WANTED(\"maw_step\", \"new_pointer\")\nWANTED(\"maw_new_function\", \"a row\")\n";
    fs::write(folder.join(WANTED), wanted_rows() + new).expect("the scratch folder can be written");
    let output = started(&program(&folder, &MISUSE, Build::Plain), &[]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for missing in ["maw_step: there is no row for new_pointer", "maw_new_function: there is no row for a row"] {
        assert!(complaints.contains(missing), "{complaints}");
    }
}

#[test]
fn the_pointers_of_a_function_are_found_in_the_header() {
    let names = |function| pointers_of(function).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("maw_step"), ["optimizer", "params", "grads", "options", "report", "error"]);
    assert_eq!(names("maw_set_log"), ["optimizer", "callback", "user_data", "error"]);
    assert_eq!(names("maw_version"), [""; 0]);
    let handles = |function| pointers_of(function).into_iter().filter(|(_, is_handle)| *is_handle).count();
    assert_eq!(["maw_step", "maw_meta_due", "maw_optimizer_create", "maw_error_free"].map(handles), [1, 1, 0, 0]);
}

#[test]
fn an_ordinary_program_works() {
    passes("program", &["program"], Build::Plain);
    passes("program", &["program"], Build::Sanitized);
}

#[test]
fn a_program_on_cuda_works() {
    passes("cuda", &["cuda"], Build::Plain);
    passes("cuda", &["cuda"], Build::Sanitized);
}

/// On the CUDA emulator, with these settings.
fn passes_on_cuda(name: &str, settings: &[(&str, &str)]) {
    for build in [Build::Plain, Build::Sanitized] {
        let printed = passes_with(name, &[name, "cuda_host"], build, settings);
        assert_eq!(printed, format!("{name}: ok\n"), "it came to its end");
    }
}

#[test]
fn a_program_that_replays_a_captured_step_has_the_bits_of_eager_steps() {
    passes_on_cuda("cuda_graphs", &[]);
}

#[test]
fn a_programs_run_moves_between_the_cpu_and_cuda() {
    passes_on_cuda("cuda_moves", &[]);
}

#[test]
fn every_failure_of_a_program_on_cuda_is_reported_with_its_cause() {
    passes_on_cuda("cuda_errors", &[("CUDA_EMULATOR_DEVICES", "2")]);
}

/// Makes a driver that has only cuInit, and returns its folder.
fn ancient_driver(folder: PathBuf) -> PathBuf {
    fs::create_dir(&folder).expect("a folder");
    let source = folder.join("driver.c");
    fs::write(&source, "int cuInit(unsigned flags);\nint cuInit(unsigned flags) { return (int)flags; }\n")
        .expect("a file");
    let mut command = compiler("c99");
    run(command.args(["-shared", "-fPIC", "-o"]).arg(folder.join("libcuda.so.1")).arg(source));
    folder
}

#[test]
fn without_a_suitable_cuda_driver_a_program_gets_the_reason_and_nothing_else_is_printed() {
    for build in [Build::Plain, Build::Sanitized] {
        let folder = folder("cuda_missing", build);
        let program = program(&folder, &["cuda_missing"], build);
        let broken = folder.join("broken");
        fs::create_dir(&broken).expect("a folder");
        fs::write(broken.join("libcuda.so.1"), "no library").expect("a file");
        let broken = broken.to_str().expect("a path in UTF-8");
        let ancient = ancient_driver(folder.join("ancient"));
        let ancient = ancient.to_str().expect("a path in UTF-8");
        for (setting, value, expected) in [
            ("LD_LIBRARY_PATH", broken, "the CUDA driver's library cannot be loaded"),
            ("LD_LIBRARY_PATH", ancient, "the CUDA driver is too old: it has no cuDriverGetVersion"),
            ("CUDA_EMULATOR_DEVICES", "0", "there is no CUDA device"),
            ("CUDA_EMULATOR_INIT", "999", "the CUDA driver does not start: CUDA_ERROR_UNKNOWN"),
            ("CUDA_EMULATOR_VERSION", "11040", "the CUDA driver is too old: it is for CUDA 11.4"),
            ("CUDA_EMULATOR_COMPUTE", "61", "CUDA device 0 has compute capability 6.1"),
        ] {
            let output = started_with(&program, &[], &[(setting, value)]);
            let (printed, complaints) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && complaints.is_empty(), "{setting}={value}: {printed}{complaints}");
            assert!(printed.starts_with("available: 0\n"), "{setting}={value}: {printed}");
            for asked in ["optimizer", "buffer"] {
                let refused = format!("\n{asked}: MAW_UNSUPPORTED: CUDA is not available: {expected}");
                assert_eq!(printed.matches(&refused).count(), 2, "{setting}={value}: {printed}");
            }
        }
        let output = started(&program, &[]);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.starts_with("available: 1\n") && printed.matches("MAW_OK").count() == 4, "{printed}");
    }
}

/// The exported functions, as `WANTED("function")` lines.
fn wanted_functions() -> String {
    let exports = fs::read_to_string(root().join("tests/exports.txt")).expect("the list of exports");
    exports.lines().map(|function| format!("WANTED(\"{function}\")\n")).collect()
}

const OUT_OF_MEMORY: [&str; 3] = ["out_of_memory", "failing_memory", "misuse_fixture"];

#[cfg(feature = "allocator")]
#[test]
fn whichever_allocation_fails_a_call_reports_it_and_changes_prints_and_leaks_nothing() {
    let folder = folder("out_of_memory", Build::Plain);
    fs::write(folder.join(WANTED), wanted_functions()).expect("the scratch folder can be written");
    let output = started(&program(&folder, &OUT_OF_MEMORY, Build::Plain), &[]);
    let (printed, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && complaints.is_empty(), "{}\n{printed}{complaints}", output.status);
    assert!(printed.starts_with("out_of_memory: ") && printed.lines().count() == 1, "{printed}");
    print!("{printed}");
}

#[test]
fn a_function_without_a_row_in_the_test_of_memory_is_reported() {
    let folder = folder("out_of_memory_incomplete", Build::Plain);
    let new = "WANTED(\"maw_new_function\")\n";
    fs::write(folder.join(WANTED), wanted_functions() + new).expect("the scratch folder can be written");
    let output = started(&program(&folder, &OUT_OF_MEMORY, Build::Plain), &[]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && complaints.contains("maw_new_function: there is no row for it"),
        "{complaints}"
    );
}

#[test]
fn optimizers_may_be_used_from_several_threads() {
    passes("threads", &["threads"], Build::Plain);
    passes("threads", &["threads"], Build::Sanitized);
}

#[test]
fn a_forked_child_steps_with_the_same_bits_and_does_not_hang() {
    passes("fork", &["fork"], Build::Plain);
    passes("fork", &["fork"], Build::Sanitized);
}

#[test]
fn the_sanitizers_are_really_on() {
    let (plain, sanitized) = (folder("deliberate", Build::Plain), folder("deliberate", Build::Sanitized));
    let plain = program(&plain, &["deliberate"], Build::Plain);
    let sanitized = program(&sanitized, &["deliberate"], Build::Sanitized);
    for (mistake, verdict) in [
        ("leak", "LeakSanitizer: detected memory leaks"),
        ("overflow", "AddressSanitizer: heap-buffer-overflow"),
        ("undefined", "signed integer overflow"),
    ] {
        assert!(started(&plain, &[mistake]).status.success(), "{mistake} does no harm by itself");
        let output = started(&sanitized, &[mistake]);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && complaints.contains(verdict), "{mistake} was not found: {complaints}");
    }
}

/// Name, number at the boundary, and the core's status of that meaning.
const STATUSES: [(&str, maw_status, Option<Status>); 14] = [
    ("MAW_OK", MAW_OK, None),
    ("MAW_INVALID_ARGUMENT", MAW_INVALID_ARGUMENT, Some(Status::InvalidArgument)),
    ("MAW_INVALID_STATE", MAW_INVALID_STATE, Some(Status::InvalidState)),
    ("MAW_UNSUPPORTED", MAW_UNSUPPORTED, Some(Status::Unsupported)),
    ("MAW_BUSY", MAW_BUSY, Some(Status::Busy)),
    ("MAW_NOT_FINITE", MAW_NOT_FINITE, Some(Status::NotFinite)),
    ("MAW_OUT_OF_MEMORY", MAW_OUT_OF_MEMORY, Some(Status::OutOfMemory)),
    ("MAW_PANIC", MAW_PANIC, Some(Status::Panic)),
    ("MAW_NOT_FOUND", MAW_NOT_FOUND, Some(Status::NotFound)),
    ("MAW_PARAMS_CHANGED", MAW_PARAMS_CHANGED, Some(Status::ParamsChanged)),
    ("MAW_IO", MAW_IO, Some(Status::Io)),
    ("MAW_CORRUPT", MAW_CORRUPT, Some(Status::Corrupt)),
    ("MAW_MISMATCH", MAW_MISMATCH, Some(Status::Mismatch)),
    ("MAW_CUDA_ERROR", MAW_CUDA_ERROR, Some(Status::Cuda)),
];

fn status_name(status: maw_status) -> &'static str {
    // SAFETY: the library's strings are NUL-terminated, and these are static.
    #[allow(unsafe_code)]
    unsafe { CStr::from_ptr(maw_status_name(status)) }.to_str().expect("it is ASCII")
}

#[test]
fn a_status_has_the_same_number_and_name_everywhere() {
    let header = header();
    for (number, (name, constant, core)) in STATUSES.into_iter().enumerate() {
        assert_eq!(constant, -(number as i32), "{name}: numbers are never used twice and none is left out");
        assert_eq!(status_name(constant), name);
        if let Some(core) = core {
            assert_eq!(core as i32, constant, "{core:?}");
        }
        let written = if constant == 0 { "0".to_owned() } else { format!("({constant})") };
        assert!(header.contains(&format!("#define {name} {written}\n")), "{name} in the header");
    }
    let negative = |line: &&str| line.starts_with("#define MAW_") && line.ends_with(')');
    let negative: Vec<&str> = header.lines().filter(negative).collect();
    assert_eq!(negative.len(), STATUSES.len() - 1, "STATUSES lists every status of the header: {negative:?}");
    for unknown in [1, -(STATUSES.len() as i32), i32::MIN, i32::MAX] {
        assert_eq!(status_name(unknown), "unknown status");
    }
}
