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
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
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
    /// Of replicas.
    fn of(processes: usize, arguments: &str) -> Self {
        Self::by("replicas", processes, arguments)
    }

    fn by(program: &str, processes: usize, arguments: &str) -> Self {
        let output = run(&mut started(program, processes, &format!("--epochs 3 {arguments}")));
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

fn is_refused(program: &str, processes: usize, arguments: &str, expected: &str) {
    let output = started(program, processes, arguments).output().expect("mpirun runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(expected), "{arguments}: {said}");
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn parts_that_cannot_be_shared_out_are_refused() {
    for (processes, arguments, expected) in [
        (3, "--parts 4", "each process must have 1, 2, 4"),
        (1, "--parts 3", "3 does not divide the batch of 64"),
        (1, "--parts 128", "128 does not divide the batch of 64"),
        (1, "--width 0", "--width: expected 1 or more, got 0"),
        (1, "--order ring", "not a value of it: --order ring"),
    ] {
        is_refused("replicas", processes, arguments, expected);
    }
    is_refused("shards", 3, "--parts 2", "no less than the 3 processes, got 2");
}

/// Shards on 1 to 4 processes end as `replicas` with as many parts.
fn shards_are_replicas(arguments: &str) -> Run {
    let replicas = Run::of(1, arguments);
    for processes in 1..=4 {
        let shards = Run::by("shards", processes, arguments);
        assert_eq!(
            (shards.state(), shards.epochs.as_slice()),
            (replicas.state(), replicas.epochs.as_slice()),
            "{processes} processes, {arguments}"
        );
    }
    replicas
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn shards_on_one_to_four_processes_have_the_same_bits_as_replicas() {
    let whole_tensors = shards_are_replicas("--parts 4");
    assert!(whole_tensors.says("69 steps") && whole_tensors.says("3 meta-updates"), "{}", whole_tensors.state());
    let skipping = shards_are_replicas("--parts 4 --spoil 5 --interval 1000");
    assert!(skipping.says("68 steps") && skipping.says("1 skipped"), "{}", skipping.state());
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn a_tensor_that_is_cut_has_the_same_bits_and_each_process_its_share_of_the_moments() {
    let width = "--parts 4 --width 200";
    shards_are_replicas(&format!("--epochs 2 {width}"));
    let output = run(&mut started("shards", 3, &format!("--epochs 1 {width}")));
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let pieces: Vec<[u64; 4]> = printed
        .lines()
        .filter(|line| line.starts_with("of rank "))
        .map(|line| {
            let words = line.split_once(": ").expect("a rank").1.split([' ', ',']);
            let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
            numbers.try_into().expect("four numbers")
        })
        .collect();
    let elements = 96 * 200 + 200 + 200 * 200 + 200 + 200 + 1;
    assert_eq!(pieces.iter().map(|piece| piece[0]).sum::<u64>(), elements, "{printed}");
    // The largest tensor has 40,000.
    assert!(pieces.len() == 3 && pieces.iter().all(|piece| piece[0] < 40_000), "{printed}");
    for [own, parameters, gradients, moments] in pieces {
        assert!(parameters == 4 * elements && gradients >= parameters && moments == 8 * own, "{printed}");
    }
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn shards_agree_in_mpis_own_order_and_two_of_them_with_replicas() {
    Run::by("shards", 3, "--order mpi").state();
    let two = "--order mpi --interval 1000";
    assert_eq!(Run::by("shards", 2, two).state(), Run::of(2, two).state(), "a sum of two has one order");
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn shards_that_differ_are_told_before_the_first_step() {
    for (other, expected) in [("--seed 2", "the processes differ in options"), ("--lr 0.5", "differ in param groups")] {
        let mut command = started("shards", 1, "--epochs 1 --parts 2 : -n 1");
        let output = command.arg(EXAMPLE.join("shards")).args(["--epochs", "1"]).args(other.split(' ')).output();
        let output = output.expect("mpirun runs");
        let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && said.contains(expected) && !printed.contains("epoch"), "{printed}{said}");
    }
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn a_process_that_is_killed_ends_the_others() {
    let mut mpirun = started("shards", 2, "--epochs 100000").stdout(Stdio::piped()).spawn().expect("mpirun runs");
    let mut lines = BufReader::new(mpirun.stdout.take().expect("it is piped")).lines();
    let trains = lines.any(|line| line.expect("UTF-8").starts_with("epoch 2:"));
    assert!(trains, "it ended before");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", mpirun.id())).expect("Linux has it");
    let process = children.split_whitespace().last().expect("it started two").to_owned();
    run(Command::new("kill").args(["-KILL", &process]));
    assert_eq!(lines.filter(Result::is_err).count(), 0, "its output ends");
    assert!(!mpirun.wait().expect("it ends").success());
}

#[test]
#[ignore = "needs MPI; scripts/test.sh runs it where that is installed"]
fn costs_are_timed_for_each_size() {
    let output = run(&mut started("costs", 2, "400 4000"));
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let times = |line: &str| line.split_whitespace().map(|word| word.parse::<f64>().ok()).collect::<Option<Vec<f64>>>();
    let lines: Vec<Vec<f64>> = printed.lines().filter_map(times).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.len() == 4), "{printed}");

    let output = run(&mut started("shard_costs", 3, "8 1 2"));
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<Vec<f64>> = printed.lines().filter_map(times).collect();
    // Rank, elements, two times, bytes.
    assert!(lines.len() == 3 && lines.iter().all(|line| line.len() == 5 && line[3] < line[2]), "{printed}");
    assert_eq!(lines.iter().map(|line| line[1]).sum::<f64>(), 411_136.0, "of all parameters: {printed}");
}

#[test]
fn the_pages_code_is_that_of_the_example() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let files = fs::read_dir(root().join("examples/mpi")).expect("it is committed");
    let sources: String =
        files.map(|file| fs::read_to_string(file.expect("it is listed").path()).expect("text")).collect();
    let sources = words(&sources);
    let page = read("docs/processes.md");
    let blocks: Vec<&str> = page.split("```cpp\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 1, "{} blocks", blocks.len());
    for block in blocks {
        assert!(sources.contains(&words(block)), "not in examples/mpi:\n{block}");
    }
}
