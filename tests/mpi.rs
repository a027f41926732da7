//! One training in several processes (examples/mpi), where MPI is installed (Debian: openmpi-bin libopenmpi-dev); and
//! the page about it.
#![cfg(target_os = "linux")]

#[path = "common/cmake.rs"]
mod cmake;
#[path = "common/compile.rs"]
mod compile;

use cmake::built;
use compile::{root, run};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

/// The example's folder with its programs.
static EXAMPLE: LazyLock<PathBuf> = LazyLock::new(|| built("examples/mpi", "mpi"));

/// A program of the example on so many processes, also where these are more than the cores.
fn started(program: &str, processes: usize, arguments: &str) -> Command {
    let mut command = Command::new("mpirun");
    // Open MPI's; others do not look at them. Processes that wait leave their core to those that compute.
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    command.envs([("OMPI_MCA_rmaps_base_oversubscribe", "1"), ("OMPI_MCA_mpi_yield_when_idle", "1")]);
    command.env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe");
    command.args(["-n", &processes.to_string()]).arg(EXAMPLE.join(program));
    command.args(arguments.split_whitespace());
    command
}

/// What a run prints: lines of its epochs, and of each process the state that it ends with.
struct Run {
    epochs: Vec<String>,
    states: Vec<String>,
}

impl Run {
    fn of(processes: usize, arguments: &str) -> Self {
        let output = run(&mut started("replicas", processes, &format!("--epochs 3 {arguments}")));
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        let epochs = printed.lines().filter(|line| line.starts_with("epoch ")).map(str::to_owned).collect();
        let state = |line: &str| Some(line.strip_prefix("rank ")?.split_once(": ")?.1.to_owned());
        let states: Vec<String> = printed.lines().filter_map(state).collect();
        assert_eq!(states.len(), processes, "{printed}");
        Run { epochs, states }
    }

    /// Of all processes, which have the same one.
    fn state(&self) -> &str {
        assert!(self.states.iter().all(|state| *state == self.states[0]), "{:#?}", self.states);
        &self.states[0]
    }

    fn says(&self, count: &str) -> bool {
        self.state().split(", ").any(|part| part == count)
    }
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn replicas_have_the_same_bits_as_one_process_with_the_mean_gradient() {
    let one = Run::of(1, "--parts 4");
    assert!(one.says("69 steps") && one.says("0 skipped") && one.says("3 meta-updates"), "{}", one.state());
    let loss = |line: &str| line.split(' ').nth(6)?.trim_end_matches(',').parse::<f64>().ok();
    let losses: Vec<f64> = one.epochs.iter().filter_map(|line| loss(line)).collect();
    assert!(losses.len() == 3 && losses[2] < losses[0], "it learns: {:#?}", one.epochs);
    for processes in [2, 4] {
        let many = Run::of(processes, "--parts 4");
        assert_eq!(
            (many.state(), many.epochs.as_slice()),
            (one.state(), one.epochs.as_slice()),
            "{processes} processes"
        );
    }
    // What is compared can differ: with another order of the sums, and with other numbers.
    assert_ne!(Run::of(1, "--parts 2").state(), one.state());
    assert_ne!(Run::of(1, "--parts 4 --seed 2").state(), one.state());
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn replicas_agree_in_mpis_own_order_and_two_of_them_with_one_process() {
    Run::of(4, "--order mpi").state();
    assert_eq!(Run::of(2, "--order mpi").state(), Run::of(1, "--parts 2").state(), "a sum of two has one order");
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn a_gradient_of_one_process_that_is_not_finite_is_skipped_by_all() {
    let one = Run::of(1, "--parts 4 --spoil 5");
    assert!(one.says("68 steps") && one.says("1 skipped"), "{}", one.state());
    assert_eq!(Run::of(4, "--spoil 5").state(), one.state());
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn processes_that_have_come_apart_are_told() {
    let mut command = started("replicas", 1, "--epochs 1 --parts 2 --seed 1 : -n 1");
    let output = command.arg(EXAMPLE.join("replicas")).args(["--epochs", "1", "--seed", "2"]).output();
    let output = output.expect("mpirun runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("the processes have different states"), "{said}");
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn parts_that_cannot_be_shared_out_are_refused() {
    for (processes, arguments, expected) in [
        (2, "--parts 3", "each process must have 1, 2, 4"),
        (1, "--parts 128", "128 does not divide the batch of 64"),
        (1, "--order ring", "not a value of it: --order ring"),
    ] {
        let output = started("replicas", processes, arguments).output().expect("mpirun runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments}: {said}");
    }
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn costs_are_timed_for_each_size() {
    let output = run(&mut started("costs", 2, "400 4000"));
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let times = |line: &str| line.split_whitespace().map(|word| word.parse::<f64>().ok()).collect::<Option<Vec<f64>>>();
    let lines: Vec<Vec<f64>> = printed.lines().filter_map(times).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.len() == 4), "{printed}");
}

#[test]
fn the_pages_code_is_that_of_the_example() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sources = words(&(read("examples/mpi/replicas.cpp") + &read("examples/mpi/mean.hpp")));
    let page = read("docs/processes.md");
    let blocks: Vec<&str> = page.split("```cpp\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 1, "{} blocks", blocks.len());
    for block in blocks {
        assert!(sources.contains(&words(block)), "not in examples/mpi:\n{block}");
    }
}
