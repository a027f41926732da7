//! The table of docs/performance.md: this library's step against its peers, all in one run, alternating.
//!
//! `cargo bench --bench peers` (or `make bench`, which gets the peers into target/peers first) prints it and writes
//! target/bench/peers.json. Ratios matter; absolute times on a shared machine do not. The placement of pages in memory
//! can change a time by half, so everything is set up anew a few times. METAADAMW_BENCH_SCALE divides the large model's
//! width for a quick run.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Model, Sizes, even, extra_memory, median, milliseconds, optimizer, resident, specs};
use metaadamw::model::dtype::{DType, Precision};
use metaadamw::model::options::NonFinite;
use metaadamw::numeric::simd::{self, Level};
use metaadamw::{Gradient, Optimizer, Options, ParamGroup};

const THREADS: usize = 2;
/// How many times everything is set up anew.
const PLACEMENTS: usize = 3;

/// GPT-2's 124 M parameters in 148 tensors.
fn gpt2(scale: usize) -> Sizes {
    let (width, mut sizes) = (768 / scale, Sizes::new());
    sizes.push(("wte.weight".into(), 50_257 * width));
    sizes.push(("wpe.weight".into(), 1024 * width));
    for layer in 0..12 {
        for (name, rows, columns) in [
            ("ln_1", 1, 0),
            ("attn.c_attn", width, 3),
            ("attn.c_proj", width, 1),
            ("ln_2", 1, 0),
            ("mlp.c_fc", width, 4),
            ("mlp.c_proj", 4 * width, 1),
        ] {
            let out = width * columns.max(1);
            let weight = if columns == 0 { width } else { rows * out };
            sizes.push((format!("h.{layer}.{name}.weight"), weight));
            sizes.push((format!("h.{layer}.{name}.bias"), out));
        }
    }
    sizes.push(("ln_f.weight".into(), width));
    sizes.push(("ln_f.bias".into(), width));
    sizes
}

/// 83 k parameters in 40 tensors of at most 12 groups.
fn small() -> Sizes {
    even(83_000, 40)
}

/// The paper's smallest encoder.
fn base() -> Options {
    Options { threads: THREADS, attn_layers: 8, attn_hidden_dim: 16, ..Options::default() }
}

fn ours(sizes: &Sizes, options: Options) -> Optimizer {
    optimizer(options, ParamGroup::default(), specs(sizes, DType::F32))
}

/// Announces all gradients; milliseconds.
fn observe(model: &Model, optimizer: &mut Optimizer) -> f64 {
    let start = Instant::now();
    for (i, gradient) in model.gradients().enumerate() {
        optimizer.observe_gradient(i, &Gradient::new(gradient)).expect("a gradient");
    }
    milliseconds(start)
}

struct Torch {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Torch {
    /// `None` where there is no PyTorch.
    fn start() -> Option<Self> {
        let python =
            std::env::var_os("METAADAMW_PEERS_PYTHON").map_or(PathBuf::from("target/peers/bin/python"), Into::into);
        let mut child = Command::new(python)
            .args(["benches/peers/torch_peer.py", &THREADS.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (input, output) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut torch = Self { child, input, output };
        let version = torch.line()?;
        println!("peer: PyTorch {version}");
        Some(torch)
    }

    fn line(&mut self) -> Option<serde_json::Value> {
        let mut line = String::new();
        self.output.read_line(&mut line).ok().filter(|n| *n > 0)?;
        serde_json::from_str(&line).ok()
    }

    fn command(&mut self, text: &str) -> serde_json::Value {
        writeln!(self.input, "{text}").expect("the peer listens");
        self.line().expect("the peer answers")
    }

    fn setup(&mut self, sizes: &Sizes) {
        let lengths: Vec<String> = sizes.iter().map(|(_, n)| n.to_string()).collect();
        self.command(&format!("setup {}", lengths.join(",")));
    }

    /// `steps` or `clip_steps`; milliseconds of each.
    fn steps(&mut self, command: &str, count: usize) -> Vec<f64> {
        let answer = self.command(&format!("{command} {count}"));
        serde_json::from_value(answer).expect("times")
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An in-place loop a[i] = a[i]·c over `bytes` bytes of float32 with the step's threads, in milliseconds.
fn copy(memory: &mut [f32]) -> f64 {
    let start = Instant::now();
    let part = memory.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        for part in memory.chunks_mut(part) {
            scope.spawn(|| part.iter_mut().for_each(|x| *x *= 1.000_000_1));
        }
    });
    milliseconds(start)
}

/// Nanoseconds from one thread's store to another's load of it: some 50 where their cores have the same last-level cache,
/// 200 where not. A virtual machine's cores can be moved at any time, which changes all other times.
fn core_to_core_latency() -> f64 {
    const TIMES: usize = 20_000;
    /// After this time the system has given each thread a core.
    const SETTLED: Duration = Duration::from_millis(30);
    let (word, start) = (AtomicUsize::new(0), Instant::now());
    let pass_on = |first: usize| {
        while start.elapsed() < SETTLED {}
        for turn in (first..2 * TIMES).step_by(2) {
            let mut tries = 0;
            while word.load(Ordering::Acquire) != turn {
                tries += 1;
                // Two threads on one core would otherwise wait for the end of a time slice.
                if tries % 10_000 == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
            word.store(turn + 1, Ordering::Release);
        }
        Instant::now()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| pass_on(1));
        let end = pass_on(0).max(other.join().expect("it passes on"));
        (end - (start + SETTLED)).as_secs_f64() * 1e9 / (2 * TIMES) as f64
    })
}

/// Whether the threads' cores have the same last-level cache.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cores {
    /// Yes.
    SameCache,
    /// No.
    DifferentCaches,
    /// It changed during the round.
    Moved,
}

/// One turn of each contestant: milliseconds by name.
struct Round {
    times: BTreeMap<&'static str, Vec<f64>>,
    /// [`core_to_core_latency`] at its begin and its end.
    latencies: [f64; 2],
}

impl Round {
    fn begin() -> Self {
        Self { times: BTreeMap::new(), latencies: [core_to_core_latency(), f64::NAN] }
    }

    fn end(mut self) -> Self {
        self.latencies[1] = core_to_core_latency();
        self
    }

    fn add(&mut self, name: &'static str, times: impl IntoIterator<Item = f64>) {
        self.times.entry(name).or_default().extend(times);
    }

    /// NaN where nothing was measured.
    fn median(&self, name: &str) -> f64 {
        self.times.get(name).map_or(f64::NAN, |times| median(times))
    }

    fn cores(&self) -> Cores {
        match self.latencies.map(|time| time < 110.0) {
            [true, true] => Cores::SameCache,
            [false, false] => Cores::DifferentCaches,
            _ => Cores::Moved,
        }
    }
}

/// All rounds but the warm-ups.
#[derive(Default)]
struct Times {
    rounds: Vec<Round>,
}

/// A row of the table: of all rounds, of those on cores with the same last-level cache, of those with different ones.
type Row = [f64; 3];

impl Times {
    fn median(&self, name: &str) -> f64 {
        median(&self.all(name))
    }

    fn all(&self, name: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round.times.get(name)).flatten().copied().collect()
    }

    /// The median of the ratios within a round: what changes from round to round changes both times.
    fn over(&self, ours: &[&str], theirs: &str) -> Row {
        let ratio = |round: &Round| ours.iter().map(|name| round.median(name)).sum::<f64>() / round.median(theirs);
        let of = |wanted: &[Cores]| {
            let rounds = self.rounds.iter().filter(|round| wanted.contains(&round.cores()));
            median(&rounds.map(ratio).collect::<Vec<_>>())
        };
        [
            of(&[Cores::SameCache, Cores::DifferentCaches, Cores::Moved]),
            of(&[Cores::SameCache]),
            of(&[Cores::DifferentCaches]),
        ]
    }

    fn print(&self, what: &str) {
        for name in self.rounds[0].times.keys() {
            let times = &self.all(name);
            let low = times.iter().copied().fold(f64::INFINITY, f64::min);
            println!("{what:6} {name:14} {:>10.3} ms, at least {low:>10.3}, {} times", median(times), times.len());
        }
        let cores: Vec<Cores> = self.rounds.iter().map(Round::cores).collect();
        println!("{what:6} cores: {cores:?}");
    }
}

/// Learning from steps alone; `average_dtype`: of the averages.
fn horizon(average_dtype: Option<DType>) -> Options {
    Options { threads: THREADS, average_dtype, ..Options::horizon() }
}

/// Steps of PyTorch and of this library with seven sets of options, and a loop over `memory` unless it is empty: in turn,
/// `rounds` times a placement and a warm-up.
fn compare(sizes: &Sizes, torch: &mut Option<Torch>, rounds: usize, steps: usize, memory: &mut [f32]) -> Times {
    let plain = Options { modulation: false, nonfinite: NonFinite::Propagate, ..base() };
    let plain_checked = Options { modulation: false, ..base() };
    let clip = Options { max_grad_norm: 1.0, ..base() };
    let mut times = Times::default();
    for _ in 0..PLACEMENTS {
        let mut model = Model::new(sizes, DType::F32);
        let [mut plain, mut plain_checked, mut step, mut clip, mut observed] =
            [plain.clone(), plain_checked.clone(), base(), clip.clone(), base()].map(|options| ours(sizes, options));
        let [mut learning, mut learning_bf16] =
            [None, Some(DType::BF16)].map(|average_dtype| ours(sizes, horizon(average_dtype)));
        if let Some(torch) = torch {
            torch.setup(sizes);
        }
        for round in 0..=rounds {
            let mut now = Round::begin();
            if !memory.is_empty() {
                now.add("copy", [copy(memory)]);
            }
            now.add("plain", model.steps(&mut plain, steps));
            now.add("plain checked", model.steps(&mut plain_checked, steps));
            now.add("step", model.steps(&mut step, steps));
            now.add("horizon", model.steps(&mut learning, steps));
            now.add("horizon bf16", model.steps(&mut learning_bf16, steps));
            if let Some(torch) = torch {
                now.add("torch", torch.steps("steps", steps));
            }
            for _ in 0..steps {
                now.add("observing", [observe(&model, &mut observed)]);
                now.add("observed", [model.step(&mut observed)]);
            }
            now.add("clip", model.steps(&mut clip, steps));
            if let Some(torch) = torch {
                now.add("torch clip", torch.steps("clip_steps", steps));
            }
            now.add("meta", [model.meta_update(&mut step)]);
            let now = now.end();
            if round > 0 {
                times.rounds.push(now);
            }
        }
        if let Some(torch) = torch {
            torch.command("free");
        }
    }
    times
}

/// The step over 30 M 16-bit parameters, and over as many float32 ones.
fn halves(scale: usize) -> Times {
    let sizes = even(30_000_000 / scale, 40);
    let group = |precision, moment_dtype| ParamGroup { precision, moment_dtype, ..ParamGroup::default() };
    let kinds = [
        ("float32", DType::F32, group(Precision::Nearest, None)),
        ("nearest", DType::BF16, group(Precision::Nearest, None)),
        ("moments", DType::BF16, group(Precision::Nearest, Some(DType::BF16))),
        ("stochastic", DType::BF16, group(Precision::Stochastic, Some(DType::BF16))),
        ("master", DType::BF16, group(Precision::Master, None)),
        ("remainder", DType::BF16, group(Precision::Remainder, None)),
    ];
    let mut times = Times::default();
    for _ in 0..PLACEMENTS {
        let mut contestants = kinds.map(|(name, dtype, group)| {
            (name, Model::new(&sizes, dtype), optimizer(base(), group, specs(&sizes, dtype)))
        });
        for round in 0..4 {
            let mut now = Round::begin();
            for (name, model, optimizer) in &mut contestants {
                now.add(name, model.steps(optimizer, 2));
            }
            let now = now.end();
            if round > 0 {
                times.rounds.push(now);
            }
        }
    }
    times
}

/// 3 M parameters, this library and libtorch's C++ AdamW in turn. Empty where there is no libtorch.
fn libtorch() -> Times {
    let (sizes, mut times) = (even(3_000_000, 40), Times::default());
    for placement in 0..PLACEMENTS {
        let mut now = Round::begin();
        let peer = Command::new(Path::new("target/peers/libtorch_peer")).arg(THREADS.to_string()).output();
        let answer = peer.ok().and_then(|output| serde_json::from_slice::<serde_json::Value>(&output.stdout).ok());
        let Some(answer) = answer else { break };
        if placement == 0 {
            println!("peer: libtorch {}", answer["libtorch"]);
        }
        now.add("libtorch", answer["milliseconds"].as_f64());
        let (mut model, mut optimizer) = (Model::new(&sizes, DType::F32), ours(&sizes, base()));
        model.steps(&mut optimizer, 5);
        now.add("step", model.steps(&mut optimizer, 30));
        times.rounds.push(now.end());
    }
    times
}

/// Resident memory beyond the host's after some steps, in units of the two moments; and what a meta-update takes at its
/// peak beyond that, in units of an element a parameter.
fn memory(sizes: &Sizes) -> [f64; 2] {
    let element = 4.0 * sizes.iter().map(|(_, n)| *n as f64).sum::<f64>();
    let mut model = Model::new(sizes, DType::F32);
    let before = resident();
    let mut optimizer = ours(sizes, base());
    model.steps(&mut optimizer, 3);
    let moments = (resident() - before) / (2.0 * element);
    let meta = extra_memory(|| {
        model.meta_update(&mut optimizer);
    });
    [moments, meta / element]
}

/// The encoder at its largest promised size.
fn attention_milliseconds(level: Level) -> f64 {
    use metaadamw::model::options::Init;
    use metaadamw::modulation::attention::{Attention, OUTPUTS, Shape, Workspace};
    if !simd::available().contains(&level) {
        return f64::NAN;
    }
    simd::force(Some(level));
    let shape =
        Shape { groups: 24, dim: 6, heads: 6, layers: 128, hidden: 64, embed_dim: 0, gates: false, log_vars: false };
    let attention = Attention::new(shape, Init::Xavier, 1, 0.0);
    let (mut workspace, mut raw) = (Workspace::new(&shape), ndarray::Array2::zeros((24, OUTPUTS)));
    let input = ndarray::Array2::from_shape_fn((24, 6), |(g, d)| ((6 * g + d) % 17) as f64 / 17.0);
    let times: Vec<f64> = (0..40)
        .map(|_| {
            let start = Instant::now();
            attention.forward(input.view(), &mut workspace, raw.view_mut());
            milliseconds(start)
        })
        .collect();
    simd::force(None);
    median(&times)
}

/// What the attention module's learning adds to a step, with 24 groups and 2 layers.
fn learning_milliseconds() -> f64 {
    let kinds = [
        "attn.weight",
        "attn.bias",
        "mlp.weight",
        "mlp.bias",
        "norm.weight",
        "norm.bias",
        "embed.weight",
        "embed.bias",
    ];
    let sizes: Sizes =
        (0..9 * kinds.len()).map(|i| (format!("layers.{}.{}", i / kinds.len(), kinds[i % kinds.len()]), 1)).collect();
    let mut model = Model::new(&sizes, DType::F32);
    let [mut always, mut never] = [1, u64::MAX]
        .map(|meta_interval| ours(&sizes, Options { threads: 1, meta_interval, meta_warmup: 0, ..Options::horizon() }));
    let mut rounds = Vec::new();
    for _ in 0..21 {
        let [learning, not] = [&mut always, &mut never].map(|optimizer| median(&model.steps(optimizer, 200)));
        rounds.push(learning - not);
    }
    assert_eq!(always.groups().expect("prepared").groups.len(), 24);
    median(&rounds)
}

/// All that was measured.
struct Measured {
    large: Times,
    little: Times,
    half: Times,
    libtorch: Times,
    /// Of the moments and of a meta-update.
    memory: [f64; 2],
}

/// Name, [`Row`] and target.
type TableRow = (&'static str, Row, &'static str);

impl Measured {
    /// `bytes`: of the copy loop and of the large step.
    fn rows(&self, [copied, moved]: [f64; 2]) -> Vec<TableRow> {
        let Self { large, little, half, libtorch, memory } = self;
        let bandwidth = large.over(&["copy"], "step").map(|ratio| ratio * moved / copied);
        let once = |value: f64| [value, f64::NAN, f64::NAN];
        vec![
            ("plain_over_torch_fused", large.over(&["plain"], "torch"), "≤ 1.0"),
            ("plain_checked_over_torch_fused", large.over(&["plain checked"], "torch"), "–"),
            ("step_over_torch_fused", large.over(&["step"], "torch"), "≤ 1.4"),
            ("clip_over_torch_clip_fused", large.over(&["clip"], "torch clip"), "≤ 0.85"),
            ("observed_step_over_torch_fused", large.over(&["observed"], "torch"), "≤ 1.1"),
            ("observing_and_step_over_torch_fused", large.over(&["observing", "observed"], "torch"), "≤ 1.45"),
            ("step_3m_over_libtorch", libtorch.over(&["step"], "libtorch"), "≤ 0.4"),
            ("horizon_over_step", large.over(&["horizon"], "step"), "≤ 1.25"),
            ("horizon_bf16_averages_over_step", large.over(&["horizon bf16"], "step"), "≤ 1.12"),
            ("small_horizon_over_torch_fused", little.over(&["horizon"], "torch"), "≤ 0.6"),
            ("small_horizon_over_step", little.over(&["horizon"], "step"), "–"),
            ("learning_ms", once(learning_milliseconds()), "≤ 0.1"),
            ("small_over_torch_fused", little.over(&["step"], "torch"), "≤ 0.5"),
            ("bandwidth_over_copy", bandwidth, "≥ 0.85"),
            ("attention_ms", once(attention_milliseconds(Level::Avx2)), "≤ 1"),
            ("attention_avx512_ms", once(attention_milliseconds(Level::Avx512)), "–"),
            ("meta_over_step", large.over(&["meta"], "step"), "≤ 6"),
            ("memory_moments", once(memory[0]), "≤ 1.01"),
            ("memory_meta", once(memory[1]), "≤ 4"),
            ("bf16_over_float32", half.over(&["nearest"], "float32"), "≤ 0.85"),
            ("bf16_moments_over_float32", half.over(&["moments"], "float32"), "≤ 0.60"),
            ("bf16_stochastic_over_float32", half.over(&["stochastic"], "float32"), "–"),
            ("bf16_master_over_float32", half.over(&["master"], "float32"), "–"),
            ("bf16_remainder_over_float32", half.over(&["remainder"], "float32"), "–"),
        ]
    }

    fn print(&self, [copied, moved]: [f64; 2]) {
        for (what, times) in
            [("large", &self.large), ("small", &self.little), ("bf16", &self.half), ("3 M", &self.libtorch)]
        {
            if !times.rounds.is_empty() {
                times.print(what);
            }
        }
        let rate = |bytes: f64, name: &str| bytes / self.large.median(name) * 1e-6;
        println!("copy loop {:.1} GB/s, step {:.1} GB/s", rate(copied, "copy"), rate(moved, "step"));
    }
}

fn print_table(rows: &[TableRow]) {
    println!("{:38} {:>10} {:>10} {:>10}  target", "", "all rounds", "same LLC", "other LLC");
    for (key, row, target) in rows {
        let number =
            |value: f64, without: &str| if value.is_nan() { without.to_owned() } else { format!("{value:.3}") };
        let [all, same, other] = [number(row[0], "missing"), number(row[1], "–"), number(row[2], "–")];
        println!("{key:38} {all:>10} {same:>10} {other:>10}  {target}");
    }
}

fn main() {
    let scale = std::env::var("METAADAMW_BENCH_SCALE").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let sizes = gpt2(scale);
    let elements: usize = sizes.iter().map(|(_, n)| n).sum();
    // First, before there is freed memory that could be used again.
    let [memory_moments, memory_meta] = memory(&sizes);
    let mut torch = Torch::start();
    if torch.is_none() {
        println!("peer: PyTorch is missing (make bench installs it into target/peers)");
    }
    let libtorch = libtorch();
    if libtorch.rounds.is_empty() {
        println!("peer: libtorch is missing (make bench compiles benches/peers/libtorch_peer.cpp where it finds it)");
    }
    println!("{elements} float32 parameters in {} tensors, {THREADS} threads", sizes.len());
    let mut array = vec![1.0_f32; (500_000_000 / scale).max(1_000_000)];
    let large = compare(&sizes, &mut torch, 3, 2, &mut array);
    let little = compare(&small(), &mut torch, 10, 50, &mut []);
    drop(torch);
    let half = halves(scale);
    let measured = Measured { large, little, half, libtorch, memory: [memory_moments, memory_meta] };
    let bytes = [8.0 * array.len() as f64, 36.0 * elements as f64];
    let rows = measured.rows(bytes);
    print_table(&rows);
    measured.print(bytes);
    let number = |value: f64| value.is_finite().then_some(value);
    let json: BTreeMap<&str, Option<f64>> = rows.iter().map(|(key, row, _)| (*key, number(row[0]))).collect();
    std::fs::create_dir_all("target/bench").expect("target/bench");
    std::fs::write("target/bench/peers.json", serde_json::to_string_pretty(&json).expect("numbers")).expect("written");
}
