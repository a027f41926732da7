//! The C++ wrapper's own tests (tests/cpp, GoogleTest), the README's program, and the C++ demo in short: all built by
//! CMake from these sources.
#![cfg(target_os = "linux")]

#[path = "common/cmake.rs"]
mod cmake;
#[path = "common/compile.rs"]
mod compile;
#[path = "common/emulator.rs"]
mod emulator;

use cmake::built;
use compile::{compiler, header_functions, root, run, scratch};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

#[test]
fn the_wrappers_tests_pass_in_cpp17_in_cpp20_and_with_sanitizers() {
    let folder = built("tests/cpp", "cpp");
    let mut tests = Command::new("ctest");
    // CUDA is the emulator's, even on a machine with a device.
    tests.env("LD_LIBRARY_PATH", emulator::built("src/backend/cuda/kernels/kernels.cu", "cuda_emulator_of_kernels"));
    run(tests.arg("--output-on-failure").current_dir(&folder));
    let symbols = run(Command::new("nm").arg(folder.join("sanitized")));
    assert!(String::from_utf8_lossy(&symbols.stdout).contains("__asan_init"), "the sanitizer is on");
}

/// The headers that `metaadamw.hpp` includes: those of its folder but `torch.hpp` and what that includes.
fn headers() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("bindings/cpp/include/metaadamw")).expect("it is committed");
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.expect("it is listed").path()).collect();
    paths.retain(|path| path.file_stem().is_some_and(|name| name != "torch"));
    paths.sort();
    paths
}

fn syntax_check(standard: &str, source: &Path) {
    let mut check = compiler(standard);
    check.arg("-I").arg(root().join("bindings/cpp/include"));
    run(check.args(["-fsyntax-only", "-x", "c++"]).arg(source));
}

#[test]
fn every_header_of_the_wrapper_compiles_alone_and_in_any_order() {
    let includes: Vec<String> = headers()
        .iter()
        .map(|path| format!("#include \"metaadamw/{}\"\n", path.file_name().expect("a file").to_string_lossy()))
        .collect();
    let all = fs::read_to_string(root().join("bindings/cpp/include/metaadamw.hpp")).expect("it is committed");
    let included: Vec<String> =
        all.split_inclusive('\n').filter(|line| line.starts_with("#include")).map(str::to_owned).collect();
    assert_eq!(included, includes, "metaadamw.hpp includes every header of its folder, and nothing else");

    for header in headers() {
        syntax_check("c++17", &header);
    }
    let folder = scratch("headers");
    let backwards: String = includes.iter().rev().map(String::as_str).collect();
    fs::write(folder.join("backwards.cpp"), backwards + &includes.concat()).expect("in a folder of ours");
    syntax_check("c++20", &folder.join("backwards.cpp"));
}

#[test]
fn every_header_of_the_wrapper_says_first_that_it_needs_cpp17() {
    let all = root().join("bindings/cpp/include/metaadamw.hpp");
    for header in headers().into_iter().chain([all]) {
        let mut check = compiler("c++14");
        check.arg("-I").arg(root().join("bindings/cpp/include"));
        let output = check.args(["-fsyntax-only", "-x", "c++"]).arg(&header).output().expect("the compiler runs");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        let first = printed.lines().find(|line| line.contains("error:")).unwrap_or("no error");
        assert!(first.contains("metaadamw.hpp needs C++17"), "{}: {first}", header.display());
    }
}

#[test]
fn the_wrapper_compiles_after_the_macros_of_xlib_and_leaves_them_as_they_are() {
    // Those of <X11/X.h> and <X11/Xlib.h> that are common words.
    let macros = [
        ("Status", "int"),
        ("Bool", "int"),
        ("True", "1"),
        ("False", "0"),
        ("None", "0L"),
        ("Success", "0"),
        ("Always", "2"),
        ("Above", "0"),
        ("Below", "1"),
        ("Complex", "0"),
        ("Convex", "2"),
        ("Nonconvex", "1"),
        ("Unsorted", "0"),
        ("CurrentTime", "0L"),
        ("CursorShape", "0"),
        ("DestroyAll", "0"),
        ("Expose", "12"),
        ("FocusIn", "9"),
        ("GrayScale", "1"),
        ("KeyPress", "2"),
        ("NoSymbol", "0L"),
        ("ParentRelative", "1L"),
        ("StaticGray", "0"),
    ];
    let defined: String = macros.map(|(name, value)| format!("#define {name} {value}\n")).concat();
    let checked: String = macros
        .map(|(name, value)| match value {
            "int" => format!("static_assert(std::is_same_v<{name}, int>);\n"),
            number => format!("static_assert({name} == {number});\n"),
        })
        .concat();
    let source = defined
        + "#include <metaadamw.hpp>\n"
        + &checked
        + "bool stepped(metaadamw::Optimizer& o) { return o.try_step().status() == metaadamw::StatusCode::ok; }\n";
    let path = scratch("xlib").join("xlib.cpp");
    fs::write(&path, source).expect("in a folder of ours");
    for standard in ["c++17", "c++20"] {
        syntax_check(standard, &path);
    }
}

/// Without exceptions: `argument` given, a call without `try_` fails; else those with `try_` say what is wrong.
const WITHOUT_EXCEPTIONS: &str = r#"
#include <metaadamw.hpp>

#include <cstdio>

int main(int count, char**) {
    float w = 1, g = 1;
    metaadamw::Options options;
    options.meta_interval = 0;
    auto const refused = metaadamw::Optimizer::try_create(options);
    if (refused || refused.status() != metaadamw::Status::invalid_argument)
        return 1;
    auto made = metaadamw::Optimizer::try_create();
    auto& optimizer = *made;
    optimizer.set_log([](metaadamw::LogLevel, std::string_view) {});
    if (!optimizer.try_add_param_group({}, {{"w", metaadamw::DType::float32, {1}}}) || !optimizer.try_step({{&w, &g}}))
        return 2;
    if (!optimizer.try_meta_update([&](metaadamw::Request const&) { return optimizer.rebind({{&w, &g}}), 0.5; }))
        return 3;
    auto shared = metaadamw::Optimizer::try_create();
    std::int32_t status = 0;
    shared->set_reduction([&](double*, std::size_t) { return status; });
    shared->add_param_group({}, {metaadamw::Tensor("w", &w, &g, {1}).shard(0, 1)});
    if (!shared->try_prepare() || !shared->try_step())
        return 4;
    status = 7;
    if (shared->try_step().status() != metaadamw::Status::reduction)
        return 5;
    std::puts("stepped");
    std::fflush(stdout);
    if (count > 1)
        optimizer.set_lr(7, 0.1);
}
"#;

#[test]
fn without_exceptions_try_forms_answer_and_the_others_end_the_program_with_the_message() {
    let folder = scratch("no-exceptions");
    fs::write(folder.join("program.cpp"), WITHOUT_EXCEPTIONS).expect("in a folder of ours");
    for standard in ["c++17", "c++20"] {
        let program = linked(&folder, standard, &["-fno-exceptions"]);
        let output = run(&mut Command::new(&program));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "stepped\n");
        let output = Command::new(&program).arg("fail").output().expect("it runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "stepped\n");
        assert_eq!(output.status.signal(), Some(6), "it ends by abort: {printed}");
        assert!(printed.starts_with("MAW_NOT_FOUND: "), "{printed}");
    }
}

#[test]
fn the_wrapper_reaches_every_function_of_the_header() {
    let texts: Vec<String> = headers().iter().map(|path| fs::read_to_string(path).expect("it was listed")).collect();
    let code = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.trim_start().starts_with("//"));
    let words: HashSet<&str> = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).collect();
    let mut missing = header_functions();
    // The status of an error is also what the call returned.
    missing.retain(|name| name != "maw_error_code" && !words.contains(name.as_str()));
    assert!(missing.is_empty(), "the C++ headers do not call {missing:?}");
}

/// The program that the folder's `program.cpp` makes with the wrapper and the shared library.
fn linked(folder: &Path, standard: &str, options: &[&str]) -> PathBuf {
    let library = built("tests/cpp", "cpp").join("metaadamw/lib");
    let mut compile = compiler(standard);
    compile.arg("-I").arg(root().join("bindings/cpp/include")).args(options).args(["program.cpp", "-o", "program"]);
    compile.arg(format!("-L{}", library.display())).arg("-lmetaadamw");
    run(compile.arg(format!("-Wl,-rpath,{}", library.display())).current_dir(folder));
    folder.join("program")
}

/// The README's first block in this language.
fn block(language: &str) -> String {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md is committed");
    let start = format!("```{language}\n");
    let (_, after) = readme.split_once(&start).unwrap_or_else(|| panic!("README.md has a {language} block"));
    after.split_once("```").expect("the block ends").0.to_owned()
}

#[test]
fn the_readmes_program_is_short_and_prints_what_the_readme_says() {
    let source = block("cpp");
    let lines = source.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 32, "{lines} lines are no first screen");
    let folder = scratch("readme");
    fs::write(folder.join("program.cpp"), source).expect("in a folder of ours");
    let output = run(&mut Command::new(linked(&folder, "c++17", &[])));
    assert_eq!(String::from_utf8_lossy(&output.stdout), block("text"));
}

#[test]
fn the_demo_draws_the_repositorys_series_and_any_other() {
    let demo = built("examples/cpp/forecast", "forecast").join("forecast");
    let folder = scratch("forecast-run");
    let waves: Vec<String> = (0..1500).map(|i| format!("{i},{:.5}", (f64::from(i) * 0.3).sin())).collect();
    fs::write(folder.join("waves.csv"), format!("hour,wave\r\n{}\r\n", waves.join("\r\n"))).expect("ours");
    for input in [vec![], vec!["--csv", "waves.csv", "--column", "wave"]] {
        let mut command = Command::new(&demo);
        command.args(["--epochs", "2", "--seeds", "2", "--svg", "curves.svg"]).args(&input);
        let output = run(command.current_dir(&folder));
        let printed = String::from_utf8_lossy(&output.stdout);
        for wanted in ["MetaAdamW  ", "linear.shallow.weight", "meta-updates"] {
            assert!(printed.contains(wanted), "{wanted}: {printed}");
        }
        let svg = fs::read_to_string(folder.join("curves.svg")).expect("the demo wrote it");
        assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("NaN") && svg.contains("wave") != input.is_empty());
        for wanted in ["Validation loss", "β, factor of the weight decay (seed 1)", "linear.deep.bias", ">AdamW<"] {
            assert!(svg.contains(wanted), "{wanted}: {svg}");
        }
        assert_eq!(losses(&folder.join("curves.jsonl")).len(), 8, "two optimizers, seeds, epochs");
    }
}

/// Of a log of the demo's: the losses after each epoch of each run, bit for bit, and the factors.
fn losses(log: &Path) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(log).expect("the demo wrote it");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("whole lines"));
    let factors = |group: &Value| json!([group["alpha"], group["beta"]]);
    let ended = lines.filter(|line| line.get("train_loss").is_some()).map(|line| {
        let groups: Vec<Value> =
            line["state"]["modulation_groups"].as_array().expect("a dump").iter().map(factors).collect();
        let key = format!("{} {} {}", line["run"], line["seed"], line["epoch"]);
        (key, json!([line["train_loss"], line["validation_loss"], groups]))
    });
    ended.collect()
}

#[test]
fn the_demo_resumed_gives_the_same_bits_as_uninterrupted_even_after_a_kill() {
    let demo = built("examples/cpp/forecast", "forecast").join("forecast");
    let folder = scratch("forecast-resumed");
    let command = |epochs: &str, arguments: &[&str]| {
        let mut command = Command::new(&demo);
        command.args(["--seeds", "2", "--epochs", epochs]).args(arguments).current_dir(&folder);
        command
    };
    run(&mut command("6", &["--log", "whole.jsonl"]));
    let whole = losses(&folder.join("whole.jsonl"));
    assert_eq!(whole.len(), 24, "two optimizers, two seeds, six epochs");
    run(&mut command("6", &["--until", "3", "--save", "runs"]));
    run(&mut command("6", &["--resume", "runs", "--log", "resumed.jsonl"]));
    assert_eq!(losses(&folder.join("resumed.jsonl")), whole);

    run(&mut command("150", &["--log", "whole.jsonl"]));
    let mut killed = command("150", &["--save", "killed", "--every", "1"]);
    let mut child = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the demo runs");
    let saved = || fs::read_dir(folder.join("killed/AdamW-1")).is_ok_and(|entries| entries.count() > 0);
    while !saved() {
        assert!(child.try_wait().expect("a child of ours").is_none(), "it ended without saving");
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(300));
    child.kill().expect("it runs for seconds");
    child.wait().expect("it was killed");
    assert!(!folder.join("killed/MetaAdamW-2/epoch-150").exists(), "it was killed in the middle");
    run(&mut command("150", &["--resume", "killed", "--log", "resumed.jsonl"]));
    let (resumed, whole) = (losses(&folder.join("resumed.jsonl")), losses(&folder.join("whole.jsonl")));
    assert_eq!(resumed.len(), whole.len());
    assert!(resumed == whole, "the resumed run differs");

    for (arguments, wanted) in [
        (["--save", "runs", "--every", "1"], "not empty"),
        (["--resume", "none", "--every", "1"], "no runs to resume"),
        (["--resume", "runs", "--until", "2"], "has 3 epochs of"),
    ] {
        let output = command("6", &arguments).output().expect("the demo runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && printed.contains(wanted), "{wanted}: {printed}");
    }
    let waves: Vec<String> = (0..1500).map(|i| format!("{:.5}", (f64::from(i) * 0.3).sin())).collect();
    fs::write(folder.join("waves.csv"), format!("wave\n{}\n", waves.join("\n"))).expect("ours");
    let other = ["--csv", "waves.csv", "--column", "wave", "--resume", "runs"];
    let printed = command("6", &other).output().expect("the demo runs").stderr;
    assert!(String::from_utf8_lossy(&printed).contains("on another series"), "{}", String::from_utf8_lossy(&printed));
}

#[test]
fn the_demo_says_what_is_wrong_with_its_input() {
    let demo = built("examples/cpp/forecast", "forecast").join("forecast");
    let folder = scratch("forecast-wrong");
    fs::write(folder.join("short.csv"), "a,b\n1,2\n3,4\n").expect("ours");
    fs::write(folder.join("words.csv"), "a,b\n1,two\n").expect("ours");
    for (arguments, wanted) in [
        (["--csv", "none.csv", "--column", "b"], "cannot be read"),
        (["--csv", "short.csv", "--column", "c"], "no column 'c'"),
        (["--csv", "short.csv", "--column", "b"], "too short"),
        (["--csv", "words.csv", "--column", "b"], "words.csv:2: not a number: 'two'"),
        (["--epochs", "0", "--seeds", "1"], "usage"),
    ] {
        let output = Command::new(&demo).args(arguments).current_dir(&folder).output().expect("the demo runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && printed.contains(wanted), "{wanted}: {printed}");
    }
}

#[test]
fn the_study_checks_itself() {
    let study = built("examples/cpp/study", "study").join("study");
    let printed = run(Command::new(study).arg("check")).stdout;
    let held = String::from_utf8_lossy(&printed).matches("holds: ").count();
    assert!(held >= 20, "{held}: {}", String::from_utf8_lossy(&printed));
}

#[test]
fn the_study_resumed_after_a_kill_runs_only_what_is_missing_and_its_report_is_drawn() {
    let study = built("examples/cpp/study", "study").join("study");
    let folder = scratch("study-resumed");
    let command = |file: &str, jobs: &str| {
        let mut command = Command::new(&study);
        command.args(["run", file, "--steps", "60", "--jobs", jobs, "--only", "task=co2", "--only", "seed=1,2"]);
        command.args(["--only", "factor=0.5,1", "--only", "setting=,encoder=none"]).current_dir(&folder);
        command
    };
    // All but the seconds.
    let lines = |file: &str| {
        let text = fs::read_to_string(folder.join(file)).expect("the study wrote it");
        let mut lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        for line in &mut lines {
            line["seconds"] = Value::Null;
        }
        lines.sort_by_key(Value::to_string);
        lines
    };
    run(&mut command("whole.jsonl", "1"));
    let whole = lines("whole.jsonl");
    assert_eq!(
        whole.len(),
        20 + 2 * (5 * 2 + 1),
        "a sweep; two seeds of five ways at two rates, and of a setting at one"
    );
    let text = fs::read_to_string(folder.join("whole.jsonl")).expect("the study wrote it");
    fs::write(folder.join("killed.jsonl"), &text[..text.len() / 2]).expect("ours");
    let resumed = run(&mut command("killed.jsonl", "2"));
    assert_eq!(lines("killed.jsonl"), whole);
    let kept = text[..text.len() / 2].matches('\n').count();
    let printed = String::from_utf8_lossy(&resumed.stderr);
    assert!(printed.contains(&format!("20 runs, {} of them in the file", kept.min(20))), "{kept}: {printed}");

    let mut report = Command::new(&study);
    report.args(["report", "whole.jsonl", "--picture", "picture.jsonl"]).current_dir(&folder);
    let printed = String::from_utf8_lossy(&run(&mut report).stdout).into_owned();
    for wanted in
        ["## CO₂ at Mauna Loa", "\n| Schedule-Free AdamW | ", "\n| encoder=none | ", "\n| linear.deep.weight | "]
    {
        assert!(printed.contains(wanted), "{wanted}: {printed}");
    }
    let mut plot = Command::new(env!("CARGO_BIN_EXE_metaadamw-plot"));
    run(plot.args(["rates", "picture.jsonl", "picture.svg"]).current_dir(&folder));
    let svg = fs::read_to_string(folder.join("picture.svg")).expect("the tool wrote it");
    assert!(svg.contains(">horizon, averages<") && svg.contains(">loss (ppm²)<"), "{svg}");
}

#[test]
fn the_study_says_what_is_wrong_with_its_input() {
    let study = built("examples/cpp/study", "study").join("study");
    let folder = scratch("study-wrong");
    fs::write(folder.join("other.jsonl"), "{\"epoch\": 1}\n").expect("ours");
    for (arguments, wanted) in [
        (vec!["run", "a.jsonl", "--only", "task=etth1"], "ETT-small/ETTh1.csv"),
        (vec!["run", "a.jsonl", "--etth1", "none.csv"], "none.csv: cannot be read"),
        (vec!["run", "other.jsonl", "--only", "task=co2"], "not a line of this program, without \"part\""),
        (vec!["run", "a.jsonl", "--only", "colour=red"], "--only colour=red: expected part, task"),
        (vec!["run", "a.jsonl", "--steps", "0"], "usage"),
        (vec!["report", "none.jsonl"], "none.jsonl: cannot be read"),
        (vec![], "usage"),
    ] {
        let output = Command::new(&study).args(&arguments).current_dir(&folder).output().expect("the study runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && printed.contains(wanted), "{arguments:?}: {printed}");
    }
}
