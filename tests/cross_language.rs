//! One run, four languages: each of the twelve ordered pairs of Rust, C++, Go and Julia.
//!
//! The first trains 7 steps with a meta-update in between and saves; the second loads and trains 7 more with another
//! meta-update. Parameters, moments and Φ must equal, byte for byte, those of the uninterrupted run in Rust. The same for a
//! run that learns from steps alone, whose averages and sums go along. The model, the loss and the command line are the same
//! in every language: `train STEPS LEARNING LOAD SAVE PARAMS_IN PARAMS_OUT`, "-" for none, LEARNING the step that a meta-update
//! follows, or "horizon" (see `tests/cross_language/`, `bindings/go/internal/crosslanguage`,
//! `bindings/julia/crosslanguage.jl`).

#[path = "common/compile.rs"]
mod compile;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use metaadamw::checkpoint::{Contents, OnConflict};
use metaadamw::meta::{Answer, Batch, Kind};
use metaadamw::model::dtype::DType;
use metaadamw::{Grads, Optimizer, Options, ParamGroup, Params, Slice, SliceMut, StepOptions, TensorSpec};

const STEPS: u64 = 7;

/// How the attention module learns.
#[derive(Clone, Copy)]
enum Learning {
    /// By a meta-update after this step of each half; 0: none.
    MetaUpdate(u64),
    /// From steps: the preset.
    Horizon,
}

const META_UPDATE: Learning = Learning::MetaUpdate(3);

impl Learning {
    fn argument(self) -> String {
        match self {
            Self::MetaUpdate(after) => after.to_string(),
            Self::Horizon => "horizon".to_owned(),
        }
    }
}

/// The model: two float32 tensors and a float64 one.
struct Model {
    weight: Vec<f32>,
    bias: Vec<f32>,
    head: Vec<f64>,
}

impl Model {
    fn start() -> Self {
        let value = |k: usize| ((k * 37) % 101) as f64 / 101.0 - 0.5;
        Self {
            weight: (0..24).map(|k| value(k) as f32).collect(),
            bias: (24..30).map(|k| value(k) as f32).collect(),
            head: (30..36).map(value).collect(),
        }
    }

    /// ½ Σ c (x − y)² on a batch, and c (x − y) into `gradient`.
    fn evaluate(&self, batch: usize, gradient: &mut Self) -> f64 {
        let mut loss = 0.0;
        let mut term = |k: usize, x: f64| {
            let c = 1.0 + ((k * 13 + batch * 7) % 17) as f64 / 17.0;
            let y = ((k * 29 + batch * 11) % 89) as f64 / 89.0 - 0.5;
            loss += 0.5 * c * (x - y) * (x - y);
            c * (x - y)
        };
        for (k, (x, g)) in
            self.weight.iter().chain(&self.bias).zip(gradient.weight.iter_mut().chain(&mut gradient.bias)).enumerate()
        {
            *g = term(k, f64::from(*x)) as f32;
        }
        for (k, (x, g)) in self.head.iter().zip(&mut gradient.head).enumerate() {
            *g = term(30 + k, *x);
        }
        loss
    }

    fn params(&mut self) -> Params<'_> {
        Params::new([SliceMut::F32(&mut self.weight), SliceMut::F32(&mut self.bias), SliceMut::F64(&mut self.head)])
    }

    fn grads(&self) -> Grads<'_> {
        Grads::new([Some(Slice::F32(&self.weight)), Some(Slice::F32(&self.bias)), Some(Slice::F64(&self.head))])
    }

    fn bytes(&self) -> Vec<u8> {
        let narrow = self.weight.iter().chain(&self.bias).flat_map(|x| x.to_le_bytes());
        narrow.chain(self.head.iter().flat_map(|x| x.to_le_bytes())).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let f32s = |range: std::ops::Range<usize>| {
            bytes[range].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect()
        };
        let head = bytes[120..].chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("eight"))).collect();
        Self { weight: f32s(0..96), bias: f32s(96..120), head }
    }
}

fn optimizer(learning: Learning) -> Optimizer {
    let base = match learning {
        Learning::MetaUpdate(_) => Options { meta_interval: 7, attn_layers: 2, ..Options::default() },
        // It learns after steps 5, 8, 11 and 14: the file has sums of two steps.
        Learning::Horizon => Options { meta_interval: 3, meta_warmup: 2, horizon: 4, ..Options::horizon() },
    };
    let options = Options { seed: 7, total_steps: 14, attn_hidden_dim: 8, threads: 1, ..base };
    let tensor = |name: &str, shape: &[u64], dtype| TensorSpec::new(name, shape, dtype).expect("a name");
    let mut optimizer = Optimizer::new(options).expect("valid options");
    let group = ParamGroup { lr: 1e-2, weight_decay: 1e-1, ..ParamGroup::default() };
    let tensors = vec![
        tensor("layers.0.weight", &[6, 4], DType::F32),
        tensor("layers.0.bias", &[6], DType::F32),
        tensor("head.weight", &[1, 6], DType::F64),
    ];
    optimizer.add_param_group(group, tensors).expect("valid tensors");
    optimizer
}

/// The same as the programs in the other languages.
fn train(optimizer: &mut Optimizer, model: &mut Model, steps: u64, learning: Learning) {
    let mut gradient = Model::start();
    for i in 1..=steps {
        model.evaluate(10 + optimizer.steps() as usize, &mut gradient);
        optimizer.step(&model.params(), &gradient.grads(), &StepOptions::default()).expect("a step");
        if matches!(learning, Learning::MetaUpdate(after) if i == after) {
            let mut request = optimizer.meta_begin(&model.params()).expect("a meta-update");
            while let Some(open) = request {
                let batch = match open.batch {
                    Batch::Train1 => 1,
                    Batch::Train2 => 2,
                    Batch::Validation => 3,
                };
                let loss = model.evaluate(batch, &mut gradient);
                let answer = Answer { request_id: open.id, loss, grad_scale: 1.0 };
                let grads = (open.kind == Kind::Gradient).then(|| gradient.grads());
                request = optimizer.meta_tell(&answer, &model.params(), grads.as_ref()).expect("an answer");
            }
        }
    }
}

/// A saved run: a checkpoint and the parameters.
#[derive(Clone, PartialEq, Eq)]
struct Saved {
    checkpoint: Vec<u8>,
    params: Vec<u8>,
}

/// Trains on from `from` in Rust.
fn in_rust(from: Option<&Saved>, steps: u64, learning: Learning) -> Saved {
    let (mut optimizer, mut model) = (optimizer(learning), Model::start());
    if let Some(saved) = from {
        optimizer.load_bytes(&saved.checkpoint, Contents::Run, OnConflict::Strict).expect("a checkpoint");
        model = Model::from_bytes(&saved.params);
    }
    train(&mut optimizer, &mut model, steps, learning);
    Saved { checkpoint: optimizer.save_bytes(Contents::Run).expect("saved"), params: model.bytes() }
}

/// A program in another language, run on files.
fn in_other(program: &dyn Fn() -> Command, folder: &Path, from: Option<&Saved>, learning: Learning) -> Saved {
    let path = |name: &str| folder.join(name);
    let name = |name: &str| path(name).to_str().expect("UTF-8").to_owned();
    let (mut load, mut params_in) = ("-".to_owned(), "-".to_owned());
    if let Some(saved) = from {
        (load, params_in) = (name("in.safetensors"), name("in.params"));
        fs::write(&load, &saved.checkpoint).expect("written");
        fs::write(&params_in, &saved.params).expect("written");
    }
    let (save, params_out) = (name("out.safetensors"), name("out.params"));
    let mut command = program();
    let (steps, learning) = (STEPS.to_string(), learning.argument());
    command.args(["train", &steps, &learning, &load, &save, &params_in, &params_out]);
    compile::run(&mut command);
    Saved {
        checkpoint: fs::read(save).expect("the program saved"),
        params: fs::read(params_out).expect("the program wrote the parameters"),
    }
}

/// The command that starts a language's program.
type Program = Box<dyn Fn() -> Command>;

/// A folder of this test's own for the shared object under its SONAME, and for programs.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cross_language");
        fs::create_dir_all(&folder).expect("a folder");
        for name in ["libmetaadamw.so", "libmetaadamw.so.1"] {
            fs::copy(compile::library(), folder.join(name)).expect("a copy of the library");
        }
        folder
    })
}

fn cpp() -> Program {
    let program = folder().join("cpp");
    let mut build = compile::compiler("c++17");
    build
        .args(["-O1", "-I", "bindings/cpp/include", "tests/cross_language/train.cpp", "-o"])
        .arg(&program)
        .arg(folder().join("libmetaadamw.so"))
        .arg(format!("-Wl,-rpath,{}", folder().display()))
        .current_dir(compile::root());
    compile::run(&mut build);
    Box::new(move || Command::new(&program))
}

fn go() -> Program {
    let program = folder().join("go");
    let mut build = Command::new("go");
    build
        .args(["build", "-tags", "metaadamw_dir", "-o"])
        .arg(&program)
        .arg("./internal/crosslanguage")
        .current_dir(compile::root().join("bindings/go"))
        .env("CGO_CFLAGS", format!("-I{}", compile::root().join("include").display()))
        .env("CGO_LDFLAGS", format!("-L{0} -Wl,-rpath,{0}", folder().display()));
    compile::run(&mut build);
    Box::new(move || Command::new(&program))
}

fn julia() -> Program {
    let find = Command::new(compile::root().join("scripts/get-julia.sh")).output().expect("scripts/get-julia.sh runs");
    assert!(find.status.success(), "no Julia: {}", String::from_utf8_lossy(&find.stderr));
    let printed = String::from_utf8(find.stdout).expect("UTF-8");
    let julia = printed.lines().last().expect("the script prints where julia is").to_owned();
    Box::new(move || {
        let mut command = Command::new(&julia);
        command
            .arg("--startup-file=no")
            .arg(compile::root().join("bindings/julia/crosslanguage.jl"))
            .env("METAADAMW_LIBRARY", folder().join("libmetaadamw.so"))
            .env("JULIA_DEPOT_PATH", folder().join("julia"))
            .env("RUST_BACKTRACE", "0");
        command
    })
}

#[test]
fn a_run_goes_on_in_every_other_language_bit_for_bit() {
    let languages: [(&str, Option<Program>); 4] =
        [("Rust", None), ("C++", Some(cpp())), ("Go", Some(go())), ("Julia", Some(julia()))];
    for (learning, pairs) in [(META_UPDATE, 12), (Learning::Horizon, 4)] {
        let train = |language: &Option<Program>, from: Option<&Saved>| match language {
            None => in_rust(from, STEPS, learning),
            Some(program) => in_other(program.as_ref(), folder(), from, learning),
        };
        let half = in_rust(None, STEPS, learning);
        let whole = in_rust(Some(&half), STEPS, learning);
        // All others, or the next one alone: equal files are the same run.
        let others = pairs / languages.len();
        for (i, (first, program)) in languages.iter().enumerate() {
            let saved = train(program, None);
            assert!(saved == half, "{first}'s first half differs from Rust's");
            for (second, program) in languages.iter().cycle().skip(i + 1).take(others) {
                assert!(train(program, Some(&saved)) == whole, "{first} → {second} differs from the uninterrupted run");
                println!("{first} → {second}: the same bytes");
            }
        }
    }
}

#[test]
fn an_interrupted_run_equals_an_uninterrupted_one() {
    for learning in [META_UPDATE, Learning::Horizon] {
        let half = in_rust(None, STEPS, learning);
        let (mut optimizer, mut model) = (optimizer(learning), Model::start());
        train(&mut optimizer, &mut model, STEPS, learning);
        train(&mut optimizer, &mut model, STEPS, learning);
        let uninterrupted =
            Saved { checkpoint: optimizer.save_bytes(Contents::Run).expect("saved"), params: model.bytes() };
        assert!(in_rust(Some(&half), STEPS, learning) == uninterrupted);
    }
}

#[test]
fn a_run_under_the_horizon_preset_learns_in_both_halves() {
    let (mut optimizer, mut model) = (optimizer(Learning::Horizon), Model::start());
    let mut learned = Vec::new();
    for _ in 0..2 {
        train(&mut optimizer, &mut model, STEPS, Learning::Horizon);
        learned.push(optimizer.meta_result().expect("it has stepped").updates);
    }
    assert_eq!(learned, [1, 4]);
}

/// A checkpoint of version 0.1.0, never to be replaced; `METAADAMW_BLESS=1` writes it only if it is missing.
#[test]
fn the_checkpoint_of_the_first_version_loads() {
    let file = |name: &str| compile::root().join("tests/fixtures").join(name);
    let (checkpoint, params) = (file("run-0.1.0.safetensors"), file("run-0.1.0.params"));
    if std::env::var_os("METAADAMW_BLESS").is_some() && !checkpoint.exists() {
        let half = in_rust(None, STEPS, META_UPDATE);
        fs::create_dir_all(checkpoint.parent().expect("a folder")).expect("a folder");
        fs::write(&checkpoint, half.checkpoint).expect("written");
        fs::write(&params, half.params).expect("written");
    }
    let saved = Saved { checkpoint: fs::read(checkpoint).expect("the fixture"), params: fs::read(params).expect("it") };
    let mut optimizer = optimizer(META_UPDATE);
    optimizer.load_bytes(&saved.checkpoint, Contents::Run, OnConflict::Strict).expect("it loads");
    assert_eq!(optimizer.steps(), STEPS);
    let from_fixture = in_rust(Some(&saved), STEPS, META_UPDATE);
    let now = in_rust(None, 2 * STEPS, Learning::MetaUpdate(0));
    assert_ne!(from_fixture.params, now.params, "the meta-updates are in the fixture");
}
