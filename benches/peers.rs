//! The table of docs/performance.md: this library's step against its peers, all in one run, alternating.
//!
//! `cargo bench --bench peers` (or `make bench`, which installs PyTorch into target/peers first) prints it and writes
//! target/bench/peers.json. Ratios matter; absolute times on a shared machine do not. METAADAMW_BENCH_SCALE divides the
//! large model's size for a quick look.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use metaadamw::config::{DType, LayerKind, NonFinite};
use metaadamw::meta::{Answer, Kind};
use metaadamw::{
    Gradient, Grads, Name, Optimizer, Options, ParamGroup, Params, Slice, SliceMut, StepOptions, TensorSpec,
};

const THREADS: usize = 2;
const ROUNDS: usize = 6;
const STEPS: usize = 3;

/// Names and sizes of a model's tensors.
type Sizes = Vec<(String, usize)>;

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
    (0..40).map(|i| (format!("layers.{}.mlp.{}.{}", i / 4, i % 4, ["weight", "bias"][i % 2]), 2075)).collect()
}

struct Model {
    params: Vec<Vec<f32>>,
    grads: Vec<Vec<f32>>,
}

impl Model {
    fn new(sizes: &Sizes) -> Self {
        let gradient = |n: usize| (0..n).map(|i| ((i * 37) % 101) as f32 * 1e-3 - 0.05).collect();
        Self {
            params: sizes.iter().map(|(_, n)| vec![0.1; *n]).collect(),
            grads: sizes.iter().map(|(_, n)| gradient(*n)).collect(),
        }
    }
}

struct Ours {
    optimizer: Optimizer,
    observe: bool,
    /// Milliseconds of announcing, beside those of the steps.
    observing: Vec<f64>,
}

impl Ours {
    fn new(sizes: &Sizes, options: Options, observe: bool) -> Self {
        let mut optimizer = Optimizer::new(options).expect("valid options");
        let specs = sizes.iter().map(|(name, n)| TensorSpec {
            name: Name::new("name", name.as_bytes()).expect("a name"),
            shape: vec![*n as u64],
            dtype: DType::F32,
            grad_dtype: DType::F32,
            layer_kind: LayerKind::Unknown,
            modulation_group: None,
        });
        optimizer.add_param_group(ParamGroup::default(), specs.collect()).expect("valid tensors");
        optimizer.prepare().expect("memory");
        Self { optimizer, observe, observing: Vec::new() }
    }

    fn steps(&mut self, model: &mut Model, count: usize) -> Vec<f64> {
        (0..count)
            .map(|_| {
                if self.observe {
                    let start = Instant::now();
                    for (i, g) in model.grads.iter().enumerate() {
                        self.optimizer.observe_gradient(i, &Gradient::new(Slice::F32(g))).expect("a gradient");
                    }
                    self.observing.push(milliseconds(start));
                }
                let params = Params::new(model.params.iter_mut().map(|p| SliceMut::F32(p)));
                let grads = Grads::new(model.grads.iter().map(|g| Some(Slice::F32(g))));
                let start = Instant::now();
                self.optimizer.step(&params, &grads, &StepOptions::default()).expect("a step");
                milliseconds(start)
            })
            .collect()
    }

    /// The library's own part of one meta-update: the host answers at once.
    fn meta_update(&mut self, model: &mut Model) -> f64 {
        let mut params = Params::new(model.params.iter_mut().map(|p| SliceMut::F32(p)));
        let grads = Grads::new(model.grads.iter().map(|g| Some(Slice::F32(g))));
        let start = Instant::now();
        let mut request = self.optimizer.meta_begin(&params).expect("a meta-update");
        while let Some(open) = request {
            let answer = Answer { request_id: open.id, loss: 1.0, grad_scale: 1.0 };
            let grads = (open.kind == Kind::Gradient).then_some(&grads);
            request = self.optimizer.meta_tell(&answer, &params, grads).expect("an answer");
        }
        let _ = &mut params;
        milliseconds(start)
    }
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

    fn setup(&mut self, kind: &str, sizes: &Sizes) {
        let lengths: Vec<String> = sizes.iter().map(|(_, n)| n.to_string()).collect();
        self.command(&format!("setup {kind} {}", lengths.join(",")));
    }

    fn steps(&mut self, count: usize) -> Vec<f64> {
        let answer = self.command(&format!("steps {count}"));
        answer.as_array().expect("times").iter().filter_map(serde_json::Value::as_f64).collect()
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() { f64::NAN } else { sorted[sorted.len() / 2] }
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

/// Medians of everything that is measured at one size, by name.
fn compare(sizes: &Sizes, torch: &mut Option<Torch>, rounds: usize, steps: usize) -> BTreeMap<String, f64> {
    let base = Options { threads: THREADS, attn_layers: 8, attn_hidden_dim: 16, ..Options::default() };
    let plain = Options { modulation: false, nonfinite: NonFinite::Propagate, ..base.clone() };
    let clip = Options { max_grad_norm: 1.0, ..base.clone() };
    let mut medians = BTreeMap::new();
    let contestants = [
        ("plain", Some((plain, false)), "fused"),
        ("step", Some((base.clone(), false)), "fused"),
        ("clip", Some((clip, false)), "clip_fused"),
        ("observed", Some((base, true)), "fused"),
    ];
    let mut model = Model::new(sizes);
    for (name, ours, peer) in contestants {
        let (options, observe) = ours.expect("always ours");
        let mut ours = Ours::new(sizes, options, observe);
        if let Some(torch) = torch {
            torch.setup(peer, sizes);
        }
        let (mut own, mut theirs, mut meta) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            let mine = ours.steps(&mut model, steps);
            let other = torch.as_mut().map(|torch| torch.steps(steps)).unwrap_or_default();
            if name == "step" && round % 2 == 1 {
                meta.push(ours.meta_update(&mut model));
            }
            if round > 0 {
                own.extend(mine);
                theirs.extend(other);
            }
        }
        medians.insert(format!("{name} ms"), median(&own));
        medians.insert(format!("{name} peer ms"), median(&theirs));
        if name == "step" {
            medians.insert("meta ms".into(), median(&meta));
        }
        if observe {
            medians.insert("observing ms".into(), median(&ours.observing[steps..]));
        }
        if let Some(torch) = torch {
            torch.command("free");
        }
    }
    medians
}

fn attention_milliseconds() -> f64 {
    use metaadamw::attention::{Attention, Init, OUTPUTS, Shape, Workspace};
    let shape =
        Shape { groups: 24, dim: 6, heads: 6, layers: 128, hidden: 64, embed_dim: 0, gates: false, log_vars: false };
    let attention = Attention::new(shape, Init::Xavier, 1, 0.0);
    let (mut workspace, mut raw) = (Workspace::new(&shape), vec![0.0; 24 * OUTPUTS]);
    let input: Vec<f64> = (0..24 * 6).map(|i| f64::from(i % 17) / 17.0).collect();
    let times: Vec<f64> = (0..40)
        .map(|_| {
            let start = Instant::now();
            attention.forward(&input, &mut workspace, &mut raw);
            milliseconds(start)
        })
        .collect();
    median(&times)
}

fn main() {
    let scale = std::env::var("METAADAMW_BENCH_SCALE").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut torch = Torch::start();
    if torch.is_none() {
        println!("peer: PyTorch is missing (make bench installs it into target/peers)");
    }
    let sizes = gpt2(scale);
    let elements: usize = sizes.iter().map(|(_, n)| n).sum();
    println!("{elements} float32 parameters in {} tensors, {THREADS} threads", sizes.len());
    let large = compare(&sizes, &mut torch, ROUNDS, STEPS);
    let little = compare(&small(), &mut torch, 20, 50);
    let mut memory = vec![1.0_f32; (500_000_000 / scale).max(1_000_000)];
    let copies: Vec<f64> = (0..9).map(|_| copy(&mut memory)).collect();
    let copy_rate = 8.0 * memory.len() as f64 / median(&copies);
    let rate = 36.0 * elements as f64 / large["step ms"];

    let rows = [
        ("plain_over_torch_fused", large["plain ms"] / large["plain peer ms"], "≤ 1.0"),
        ("step_over_torch_fused", large["step ms"] / large["step peer ms"], "≤ 1.4"),
        ("clip_over_torch_clip_fused", large["clip ms"] / large["clip peer ms"], "≤ 0.85"),
        ("observed_step_over_torch_fused", large["observed ms"] / large["observed peer ms"], "≤ 1.1"),
        (
            "observing_and_step_over_torch_fused",
            (large["observing ms"] + large["observed ms"]) / large["observed peer ms"],
            "≤ 1.45",
        ),
        ("bandwidth_over_copy", rate / copy_rate, "≥ 0.85"),
        ("small_over_torch_fused", little["step ms"] / little["step peer ms"], "≤ 0.5"),
        ("attention_ms", attention_milliseconds(), "≤ 1"),
        ("meta_over_step", large["meta ms"] / large["step ms"], "≤ 6"),
    ];
    println!("{:38} {:>10}  target", "", "measured");
    for (key, value, target) in rows {
        println!("{key:38} {value:>10.3}  {target}");
    }
    for (what, values) in [("large", &large), ("small", &little)] {
        for (key, value) in values {
            println!("{what:6} {key:20} {value:>10.3}");
        }
    }
    println!("copy loop {:.1} GB/s, step {:.1} GB/s", copy_rate * 1e-6, rate * 1e-6);
    let json: BTreeMap<&str, Option<f64>> =
        rows.iter().map(|(key, value, _)| (*key, value.is_finite().then_some(*value))).collect();
    std::fs::create_dir_all("target/bench").expect("target/bench");
    std::fs::write("target/bench/peers.json", serde_json::to_string_pretty(&json).expect("numbers")).expect("written");
}
