//! The C ABI from C: the programs of tests/c, compiled as C99, without and with gcc's sanitizers.
#![cfg(target_os = "linux")]

#[path = "common/c_program.rs"]
mod c_program;
#[path = "common/compile.rs"]
mod compile;
#[path = "common/emulator.rs"]
mod emulator;
#[path = "common/statuses.rs"]
mod statuses;

use c_program::{Build, folder, passes, passes_in, passes_with, program, started, started_with};
use compile::{compiler, header, header_functions, root, run};
use metaadamw::error::Status;
use metaadamw::ffi::*;
use std::ffi::CStr;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

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

/// Runs misuse.c, which must succeed.
fn misuse(build: Build) {
    let folder = folder("misuse", build);
    fs::write(folder.join(WANTED), wanted_rows()).expect("the scratch folder can be written");
    let printed = passes_in(&folder, &MISUSE, build, &[]);
    assert!(printed.contains(" rows, 0 failures") && !printed.contains(" 0 rows"), "{printed}");
    statuses_are_listed(&printed);
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
    let pointers = parameters.split(',').filter(|p| p.contains('*') || p.contains("_callback "));
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
    misuse(Build::Plain);
}

/// Compares the statuses that misuse.c saw with the header's comments.
fn statuses_are_listed(printed: &str) {
    let seen = |line: &str| {
        let (function, status) = line.strip_prefix("saw ")?.split_once(' ')?;
        Some((function.to_owned(), status.parse::<maw_status>().expect("a number")))
    };
    let seen: Vec<_> = printed.lines().filter_map(seen).collect();
    assert!(seen.len() > 200, "misuse.c saw many statuses: {seen:?}");
    let missing: Vec<_> = seen.iter().filter_map(|(function, status)| statuses::missing(function, *status)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_status_that_the_header_does_not_list_for_a_function_is_reported() {
    let says = |function, status| statuses::missing(function, status).expect("it is not listed");
    assert!(says("maw_get_lr", MAW_IO).starts_with("maw_get_lr returned MAW_IO (-10)"));
    assert!(says("maw_version", MAW_OK).starts_with("maw_version returned MAW_OK"));
    says("maw_new_function", MAW_OK);
    says("maw_set_lr", -99);
    // Its own, those of the comment that it refers to, those of preparation, and those of every call on an optimizer.
    let listed = [
        ("maw_get_lr", MAW_NOT_FOUND),
        ("maw_set_weight_decay", MAW_NOT_FOUND),
        ("maw_save_bytes", MAW_UNSUPPORTED),
        ("maw_get_lr", MAW_BUSY),
    ];
    for (function, status) in listed {
        assert_eq!(statuses::missing(function, status), None);
    }
    assert!(says("maw_device_buffer_upload", MAW_BUSY).contains("maw_device_buffer_upload"), "it takes no optimizer");
}

#[test]
fn every_function_that_returns_a_status_lists_some() {
    let returns_status = |function: &&str| header().contains(&format!("maw_status {function}("));
    // The status of an error object is whatever the failed call returned.
    let silent: Vec<_> = statuses::without_statuses().into_iter().filter(returns_status).collect();
    assert_eq!(silent, [""; 0]);
}

#[test]
fn every_function_refuses_misuse_under_sanitizers() {
    misuse(Build::Sanitized);
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
    for setter in ["maw_set_log", "maw_set_reduction"] {
        assert_eq!(names(setter), ["optimizer", "callback", "user_data", "error"]);
    }
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
fn an_engine_in_c_trains_with_the_library_as_with_its_own_adamw() {
    passes("engine", &["engine"], Build::Sanitized);
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
const STATUSES: [(&str, maw_status, Option<Status>); 15] = [
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
    ("MAW_REDUCTION", MAW_REDUCTION, Some(Status::Reduction)),
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
