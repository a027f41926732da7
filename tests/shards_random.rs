//! Processes that share a model and one that has it all, through the same random calls: alike after each.

mod common;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

#[path = "common/compile.rs"]
mod compile;

use common::processes::{CHUNK, Process, World, merged};
use common::tensor::{Tensor, bits};
use compile::scratch;
use metaadamw::StepOptions;
use metaadamw::checkpoint::{Contents, OnConflict};
use metaadamw::error::{Error, Status};
use metaadamw::model::dtype::DType;
use metaadamw::model::options::{Difference, FeatureVersion, Init, NonFinite, Objective, Options, Semantics};

/// Numbers that only the seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        ((self.0 >> 33) as usize) % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

fn options(random: &mut Random) -> Options {
    let horizon = random.one_in(3);
    let base = if horizon { Options::horizon() } else { Options::default() };
    let features = [
        FeatureVersion::Basic,
        FeatureVersion::BasicPlus,
        FeatureVersion::Enhanced,
        FeatureVersion::NormBasic,
        FeatureVersion::NormLog,
    ];
    let objectives = [Objective::Combined, Objective::Gradient, Objective::LossDecrease, Objective::GenGap];
    Options {
        attn_layers: 1,
        attn_heads: 1,
        threads: 1 + random.below(2),
        meta_interval: 1 + random.below(3) as u64,
        meta_warmup: random.below(2) as u64,
        meta_lr: 0.05,
        max_grad_norm: random.of(&[0.0, 0.5]),
        semantics: if horizon { Semantics::Paper } else { random.of(&[Semantics::Paper, Semantics::Reference]) },
        feature_version: random.of(&features),
        init: random.of(&[Init::Xavier, Init::Identity]),
        objective: if horizon { Objective::Horizon } else { random.of(&objectives) },
        difference: random.of(&[Difference::Central, Difference::Forward, Difference::FirstOrder]),
        nonfinite: random.of(&[NonFinite::Skip, NonFinite::Error]),
        average_dtype: if horizon { random.of(&[None, Some(DType::BF16)]) } else { None },
        ..base
    }
}

#[derive(Clone, Copy, Debug)]
enum Call {
    /// Salt, loss scale, whether the host changed the first tensor, element of it that is NaN, tensors that are announced.
    Step {
        salt: u64,
        grad_scale: f64,
        changed: bool,
        nan: Option<usize>,
        announced: usize,
    },
    MetaUpdate,
    /// One that a process refuses.
    Refused {
        rank: usize,
        begins_meta: bool,
    },
    SaveAndLoad,
    Reset {
        moments: bool,
        attention: bool,
    },
    Rate(f64),
}

fn calls(random: &mut Random) -> Vec<Call> {
    let step = |random: &mut Random| Call::Step {
        salt: 2 + random.below(30) as u64,
        grad_scale: random.of(&[1.0, 3.0, 8.0]),
        changed: random.one_in(6),
        nan: random.one_in(6).then(|| random.below(100_000)),
        announced: random.below(3),
    };
    let call = |random: &mut Random| match random.below(12) {
        0 => Call::Refused { rank: random.below(17), begins_meta: random.one_in(2) },
        1 => Call::SaveAndLoad,
        2 => Call::Reset { moments: random.one_in(2), attention: random.one_in(2) },
        3 => Call::Rate(random.of(&[1e-3, 1e-2])),
        4..6 => Call::MetaUpdate,
        _ => step(random),
    };
    let mut calls = vec![step(random)];
    calls.extend((0..8).map(|_| call(random)));
    calls
}

/// Makes a call; what all processes must tell alike of it. `rank`: `None` for the process that is alone.
fn make(process: &mut Process, call: Call, rank: Option<(usize, usize)>, folder: &Path) -> String {
    let told = match call {
        Call::Step { salt, grad_scale, changed, nan, announced } => {
            if changed {
                process.params[0] = process.params[0].scaled(0.5);
            }
            let mut gradients = process.gradients(salt);
            let own = nan.and_then(|element| process.parts[0].clone().position(|i| i == element));
            if let (Some(gradient), Some(place)) = (&mut gradients[0], own) {
                gradient.set(place, f64::NAN);
            }
            for (i, gradient) in gradients.iter().enumerate().filter(|(i, _)| announced == i % 3) {
                let Some(gradient) = gradient else { continue };
                process.observe(i, gradient);
            }
            let options = StepOptions { grad_scale, params_changed: changed, ..StepOptions::default() };
            let report = process.step_with(&gradients, &options);
            if changed && !matches!(&report, Ok(report) if report.skipped.is_none()) {
                process.params[0] = process.params[0].scaled(2.0);
            }
            format!("{:?}", report.map_err(|error| error.status()))
        }
        Call::MetaUpdate if process.optimizer.options().objective == Objective::Horizon => String::new(),
        Call::MetaUpdate => {
            process.meta_update();
            format!("{:?}", process.optimizer.meta_result())
        }
        Call::Refused { rank: refuses, begins_meta } => {
            let Some((rank, ranks)) = rank else { return String::new() };
            let before: Vec<_> = bits(&process.params);
            let own = rank == refuses % ranks;
            let error: Error = if begins_meta {
                let tensors = if own { 1 } else { process.params.len() };
                process.meta_begin_with(tensors).map(drop).expect_err("one refuses")
            } else {
                let grad_scale = if own { -1.0 } else { 1.0 };
                process
                    .step(3, &StepOptions { grad_scale, ..StepOptions::default() })
                    .map(drop)
                    .expect_err("one refuses")
            };
            let learns = begins_meta && process.optimizer.options().objective == Objective::Horizon;
            let expected = if own || learns { error.status() } else { Status::Reduction };
            assert_eq!(error.status(), expected, "{error}");
            assert!(bits(&process.params) == before);
            return String::new();
        }
        Call::SaveAndLoad => {
            let path = folder.join("run");
            process.optimizer.save_file(&path, Contents::Run).expect("saved");
            let file = fs::read(&path).expect("the file");
            process.optimizer.load_file(&path, Contents::Run, OnConflict::Strict).expect("it fits");
            format!("{} bytes, {}", file.len(), crc32fast::hash(&file))
        }
        Call::Reset { moments, attention } => {
            process.optimizer.reset(moments, attention).expect("no meta-update is open");
            String::new()
        }
        Call::Rate(lr) => {
            process.optimizer.set_lr(None, lr).expect("a rate");
            String::new()
        }
    };
    let factors = process.optimizer.factors().map(|factors| factors.rows().concat()).unwrap_or_default();
    let phi = process.optimizer.modulation().expect("prepared").expect("on").attention.values().to_vec();
    let numbers = factors.iter().chain(&phi).flat_map(|x| x.to_bits().to_le_bytes()).collect::<Vec<_>>();
    format!("{told} {} steps, {:x}", process.optimizer.steps(), crc32fast::hash(&numbers))
}

/// Random borders of the processes' parts.
fn cuts(random: &mut Random, ranks: usize) -> impl Fn(usize, usize, usize) -> Vec<Range<usize>> + Sync + use<> {
    let places: Vec<Vec<usize>> = (0..16).map(|_| (1..ranks).map(|_| random.below(1 << 20)).collect()).collect();
    move |tensor, numel, _| {
        let chunks = numel.div_ceil(CHUNK);
        let mut borders: Vec<usize> = places[tensor].iter().map(|place| place % (chunks + 1)).collect();
        borders.sort_unstable();
        borders.insert(0, 0);
        borders.push(chunks);
        borders.windows(2).map(|pair| (pair[0] * CHUNK).min(numel)..(pair[1] * CHUNK).min(numel)).collect()
    }
}

fn alike(seed: u64) {
    let random = &mut Random(seed);
    let (options, ranks) = (options(random), random.of(&[1, 2, 3, 4, 17]));
    let (cut, calls) = (cuts(random, ranks), calls(random));
    let folder = scratch(&format!("shards_random_{seed}"));
    let folders = ["one", "many"].map(|name| folder.join(name));
    folders.iter().for_each(|folder| fs::create_dir(folder).expect("a folder"));
    let make_all = |mut process: Process, rank: Option<(usize, usize)>, folder: &Path| {
        process.optimizer.prepare().expect("they are alike");
        let told: Vec<String> = calls.iter().map(|call| make(&mut process, *call, rank, folder)).collect();
        (process, told)
    };
    let (one, expected) = make_all(Process::new(&options, None), None, &folders[0]);
    let world = World::new(ranks);
    let many: Vec<(Process, Vec<String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks)
            .map(|rank| {
                let (world, options, cut, make_all, folder) =
                    (Arc::clone(&world), &options, &cut, &make_all, &folders[1]);
                scope.spawn(move || {
                    let process = Process::with_cut(options, Some((&world, rank, ranks)), cut);
                    make_all(process, Some((rank, ranks)), folder)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    });
    for (process, (_, told)) in many.iter().enumerate() {
        for (i, call) in calls.iter().enumerate().filter(|(_, call)| !matches!(call, Call::Refused { .. })) {
            assert_eq!(told[i], expected[i], "seed {seed}, process {process} of {ranks}, call {i}: {call:?}");
        }
    }
    let processes: Vec<Process> = many.into_iter().map(|(process, _)| process).collect();
    assert!(merged(&processes) == one.params.iter().map(Tensor::bits).collect::<Vec<_>>(), "seed {seed}: parameters");
}

/// `METAADAMW_SEEDS`: another range, "100..1000".
#[test]
fn random_calls_leave_several_processes_as_one() {
    let seeds = std::env::var("METAADAMW_SEEDS").unwrap_or_else(|_| "1..16".to_owned());
    let (from, to) = seeds.split_once("..").expect("a range");
    (from.parse().expect("a number")..to.parse().expect("a number")).for_each(alike);
}
