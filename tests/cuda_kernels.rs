//! What the library carries for the device: the PTX that scripts/ptx.sh made of the kernels.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/cuda/kernels")
}

fn ptx() -> String {
    fs::read_to_string(folder().join("kernels.ptx")).expect("the PTX")
}

/// kernels.cu and what it may include, in the order of names.
fn sources() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut headers: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "cuh")).collect();
    headers.sort();
    std::iter::once(folder().join("kernels.cu")).chain(headers).collect()
}

fn sha256(files: &[PathBuf]) -> String {
    let (program, arguments): (_, &[&str]) =
        if cfg!(target_os = "linux") { ("sha256sum", &[]) } else { ("shasum", &["-a", "256"]) };
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(program);
    let mut input = child.stdin.take().expect("a pipe");
    for file in files {
        input.write_all(&fs::read(file).expect("a source")).expect("it is read");
    }
    drop(input);
    let output = child.wait_with_output().expect(program);
    assert!(output.status.success(), "{program}: {}", output.status);
    let told = String::from_utf8(output.stdout).expect("text");
    told.split(' ').next().expect("a sum").to_owned()
}

#[test]
fn the_committed_ptx_is_of_these_kernels() {
    let sources = sources();
    assert!(sources.len() > 10, "{sources:?}");
    let expected = format!("// sha256 of kernels.cu and *.cuh: {}", sha256(&sources));
    assert_eq!(ptx().lines().next(), Some(expected.as_str()), "run scripts/ptx.sh and commit kernels.ptx");
}

#[test]
fn it_runs_on_volta() {
    assert!(ptx().contains("\n.version 7.8\n.target sm_70\n"));
}

const UPDATES: [&str; 3] = ["maw_update", "maw_update_counting", "maw_update_unseen"];
const AVERAGING: [&str; 3] = ["maw_update_averaging", "maw_update_averaging_counting", "maw_update_averaging_unseen"];

/// One of m, two of v and two of θ, of a pack's four elements and of one apart; θ′ does not count where it is not wanted.
#[test]
fn only_the_products_of_16_bit_steps_are_fused() {
    let ptx = ptx();
    assert!(!ptx.contains("fma.rn.f64"), "a multiplication and an addition have become one");
    let kernels = ptx.split(".entry ").skip(1).map(|kernel| kernel.split('(').next().expect("its name"));
    let fused = |kernel| instructions(&ptx, kernel).iter().filter(|i| i.starts_with("fma.rn.f32")).count();
    let all: BTreeMap<_, _> = kernels.map(|kernel| (kernel, fused(kernel))).filter(|(_, n)| *n > 0).collect();
    let others = [("maw_moved", 25), ("maw_neighbour", 25), ("maw_project", 15)];
    let expected = UPDATES.into_iter().chain(AVERAGING).map(|kernel| (kernel, 25)).chain(others).collect();
    assert_eq!(all, expected);
}

/// The lines of a kernel.
fn instructions<'a>(ptx: &'a str, kernel: &str) -> Vec<&'a str> {
    let start = ptx.find(&format!(".entry {kernel}(")).expect(kernel);
    let body = &ptx[start..];
    body[..body.find("\n}").expect("its end")].lines().map(str::trim).collect()
}

#[test]
fn updates_access_four_floats_at_once() {
    let ptx = ptx();
    let (plain, averaging) = (UPDATES.map(|kernel| (kernel, 0)), AVERAGING.map(|kernel| (kernel, 1)));
    for (kernel, averages) in plain.into_iter().chain(averaging) {
        let all = instructions(&ptx, kernel);
        let count = |begin: &str, part: &str| all.iter().filter(|i| i.starts_with(begin) && i.contains(part)).count();
        assert!(count("ld", ".v4.") >= 4 + averages, "{kernel}: parameter, gradient, both moments, average");
        assert!(count("st.", ".v4.") >= 3 + averages, "{kernel}: parameter, both moments, average");
        // What a compiler makes of a pack that it takes apart.
        for space in ["", ".global"] {
            for kind in ["f32", "u32", "b32"] {
                for access in ["ld", "st"] {
                    let apart = count(&format!("{access}{space}.{kind}"), "+12]");
                    assert_eq!(apart, 0, "{kernel}: {access}{space}.{kind} of a pack's last element");
                }
            }
        }
    }
}
