//! The runs of a scale, in the order in which they are made: what matters most first, and whole seeds.

use super::ablations;
use super::scales::{Scale, Size};

/// The paper's learning rate.
pub const RATE: f64 = 5e-4;

/// Rates are tuned over these times `RATE`: a part of the data, with fewer steps, wants larger ones than the paper's.
pub const GRID: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

/// The curve of rates has these times the tuned one.
pub const FACTORS: [f64; 7] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

/// Not among the seeds of what is reported.
pub const FIRST_TUNING_SEED: u64 = 101;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    Tuning,
    Main,
    Paper,
    Ablation,
    Rates,
}

impl Stage {
    pub const ALL: [Self; 5] = [Self::Tuning, Self::Main, Self::Paper, Self::Ablation, Self::Rates];

    pub fn name(self) -> &'static str {
        ["tuning", "main", "paper", "ablation", "rates"][self as usize]
    }
}

/// Flags of `train` that a run needs and that other runs decide.
#[derive(Clone, PartialEq, Debug)]
pub enum Need {
    /// `--lr`: the tuned rate of this method times a factor.
    Rate(&'static str, f64),
    /// `--meta-interval`: that of the same seed's metaadamw times a factor.
    Interval(f64),
    /// `--factors`: the mean factors of the same seed's metaadamw.
    Factors,
    /// `--lr-factor`: the mean of their alphas.
    MeanAlpha,
}

pub type Flags = Vec<(&'static str, String)>;

#[derive(Clone, Debug)]
pub struct Run {
    pub size: Size,
    pub stage: Stage,
    pub method: &'static str,
    /// What differs from the method; empty for the method itself.
    pub setting: String,
    pub seed: u64,
    pub flags: Flags,
    pub needs: Vec<Need>,
}

impl std::fmt::Debug for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.task)
    }
}

impl Run {
    /// With the method's own flags and needs.
    pub fn new(size: Size, stage: Stage, method: &'static str, seed: u64) -> Self {
        let (mut flags, needs) = method_of(method);
        // The paper's patience is one of its epochs; those of a part of the data are shorter.
        if method.starts_with("paper_") && size.limit == 1.0 {
            flags.push(("patience", "2".to_owned()));
        }
        Self { size, stage, method, setting: String::new(), seed, flags, needs }
    }

    /// Another value, or a further flag.
    pub fn with(mut self, flag: &'static str, value: &str) -> Self {
        self.flags.retain(|(known, _)| *known != flag);
        self.flags.push((flag, value.to_owned()));
        self
    }

    pub fn at(self, rate: f64) -> Self {
        self.with("lr", &rate.to_string())
    }

    pub fn named(mut self, setting: &str) -> Self {
        setting.clone_into(&mut self.setting);
        self
    }

    /// `etth1 metaadamw features-enhanced seed 1`
    pub fn title(&self) -> String {
        let setting = if self.setting.is_empty() { String::new() } else { format!(" {}", self.setting) };
        format!("{} {} {}{setting} seed {}", self.size.task, self.stage.name(), self.method, self.seed)
    }
}

/// Methods whose rate is tuned.
pub const TUNED: [&str; 3] = ["adamw_tuned", "adamw_cosine", "schedule_free"];

/// In the order of the tables.
pub const METHODS: [&str; 8] = [
    "adamw",
    "metaadamw",
    "adamw_tuned",
    "adamw_cosine",
    "schedule_free",
    "metaadamw_identity",
    "horizon",
    "horizon_tuned",
];

/// At the fixed factors or the rate that metaadamw had in the mean.
pub const CONTROLS: [&str; 2] = ["factors_mean", "lr_mean_alpha"];

/// Methods of the curve of rates.
pub const CURVES: [&str; 3] = ["adamw_tuned", "adamw_cosine", "horizon_tuned"];

/// Flags, and what other runs decide.
fn method_of(name: &str) -> (Flags, Vec<Need>) {
    let rate = || ("lr", RATE.to_string());
    let flags = |list: &[(&'static str, &str)]| list.iter().map(|(flag, value)| (*flag, (*value).to_owned())).collect();
    let adamw = || -> Flags { flags(&[("optimizer", "adamw"), ("schedule", "constant")]) };
    let paper = || -> Flags { flags(&[("optimizer", "metaadamw"), ("preset", "paper"), ("init", "xavier")]) };
    let horizon = || -> Flags { flags(&[("optimizer", "metaadamw"), ("preset", "horizon")]) };
    let at_rate = |mut flags: Flags| {
        flags.push(rate());
        (flags, Vec::new())
    };
    match name {
        "adamw" => at_rate(adamw()),
        "adamw_tuned" => (adamw(), vec![Need::Rate("adamw_tuned", 1.0)]),
        "adamw_cosine" => {
            (flags(&[("optimizer", "adamw"), ("schedule", "cosine")]), vec![Need::Rate("adamw_cosine", 1.0)])
        }
        "schedule_free" => (flags(&[("optimizer", "schedule_free")]), vec![Need::Rate("schedule_free", 1.0)]),
        "metaadamw" => at_rate(paper()),
        "metaadamw_identity" => {
            at_rate(flags(&[("optimizer", "metaadamw"), ("preset", "paper"), ("init", "identity")]))
        }
        "horizon" => at_rate(horizon()),
        "horizon_tuned" => (horizon(), vec![Need::Rate("adamw_tuned", 1.0)]),
        "factors_mean" => {
            let (flags, _) = at_rate(flags(&[("optimizer", "metaadamw"), ("preset", "paper")]));
            (flags, vec![Need::Factors])
        }
        "lr_mean_alpha" => (at_rate(adamw()).0, vec![Need::MeanAlpha]),
        "paper_adamw" => at_rate([adamw(), flags(&[("split", "paper")])].concat()),
        "paper_metaadamw" => at_rate([paper(), flags(&[("split", "paper")])].concat()),
        _ => unreachable!("{name} is in no list of methods"),
    }
}

/// Of a tuned method at one rate.
pub fn tuning(size: Size, method: &'static str, rate: f64, seed: u64) -> Run {
    let mut run = Run::new(size, Stage::Tuning, method, seed).at(rate);
    run.needs.clear();
    run.named(&format!("lr{rate}"))
}

pub fn runs(scale: &Scale) -> Vec<Run> {
    let mut runs = Vec::new();
    for size in scale.tasks {
        for seed in tuning_seeds(size) {
            for method in TUNED {
                runs.extend(GRID.iter().map(|factor| tuning(*size, method, RATE * factor, seed)));
            }
        }
    }
    let mut by_seed = |stage: Stage, seeds: fn(&Size) -> u64, of: &dyn Fn(&Size, u64) -> Vec<Run>| {
        let most = scale.tasks.iter().map(seeds).max().unwrap_or(0);
        for seed in 1..=most {
            for size in scale.tasks.iter().filter(|size| seed <= seeds(size)) {
                runs.extend(of(size, seed).into_iter().map(|run| Run { stage, ..run }));
            }
        }
    };
    let methods = |names: &[&'static str], size: &Size, seed| {
        names.iter().map(|name| Run::new(*size, Stage::Main, name, seed)).collect::<Vec<_>>()
    };
    by_seed(Stage::Main, |size| size.seeds, &|size, seed| methods(&METHODS, size, seed));
    by_seed(Stage::Paper, |size| size.paper_seeds, &|size, seed| {
        methods(&["paper_adamw", "paper_metaadamw"], size, seed)
    });
    by_seed(Stage::Ablation, |size| size.seeds, &|size, seed| methods(&CONTROLS, size, seed));
    by_seed(Stage::Ablation, |size| size.ablation_seeds, &ablations::runs);
    by_seed(Stage::Rates, |size| size.rate_seeds, &|size, seed| {
        let points = CURVES.iter().flat_map(|method| FACTORS.iter().map(move |factor| (*method, *factor)));
        points.map(|(method, factor)| at_factor(*size, method, factor, seed)).collect()
    });
    runs
}

pub fn tuning_seeds(size: &Size) -> std::ops::Range<u64> {
    FIRST_TUNING_SEED..FIRST_TUNING_SEED + size.tuning_seeds
}

/// A point of the curve of rates.
pub fn at_factor(size: Size, method: &'static str, factor: f64, seed: u64) -> Run {
    let mut run = Run::new(size, Stage::Rates, method, seed).named(&format!("rate-x{factor}"));
    for need in &mut run.needs {
        if let Need::Rate(_, times) = need {
            *times = factor;
        }
    }
    run
}
