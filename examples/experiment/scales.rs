//! How large the matrix is: one line a task. Logs of a scale whose numbers change no longer fit; the runner says so.

pub struct Scale {
    pub name: &'static str,
    pub tasks: &'static [Size],
}

/// Of one task. Of the seeds, 1 to the number are used (tuning: from 101 on), 0 leaves that part out.
#[derive(Clone, Copy)]
pub struct Size {
    pub task: &'static str,
    /// Fraction of the data.
    pub limit: f64,
    /// Factor of the model's width.
    pub width: f64,
    /// Cap.
    pub epochs: u32,
    /// Epochs without improvement that end a run.
    pub patience: u32,
    pub tuning_seeds: u64,
    pub seeds: u64,
    /// The paper's own set-up.
    pub paper_seeds: u64,
    pub ablation_seeds: u64,
    /// Curve of rates around the tuned one.
    pub rate_seeds: u64,
}

#[rustfmt::skip]
pub const SCALES: &[Scale] = &[
    // Shows that everything works; says nothing.
    Scale { name: "smoke", tasks: &[
        size("etth1",     0.02,  0.25,  2,  2, [1, 2, 1, 1, 1]),
        size("wikitext2", 0.002, 0.125, 2,  2, [1, 2, 1, 0, 0]),
        size("multi30k",  0.005, 0.125, 2,  2, [1, 2, 1, 0, 0]),
        size("cifar10",   0.005, 0.125, 2,  2, [1, 2, 1, 0, 0]),
        size("imdb",      0.01,  0.25,  2,  2, [1, 2, 1, 0, 0]),
    ]},
    // What two CPU cores do in some hours. Epochs have fewer steps than the paper's, so more of them end a run.
    Scale { name: "two-cores", tasks: &[
        size("etth1",     0.2,   0.25,  12, 6, [1, 5, 3, 3, 3]),
        size("wikitext2", 0.05,  0.25,  10, 6, [1, 3, 3, 0, 0]),
        size("multi30k",  0.05,  0.25,  10, 6, [1, 3, 3, 0, 0]),
        size("cifar10",   0.04,  0.125, 12, 6, [1, 3, 3, 0, 3]),
        size("imdb",      0.1,   0.25,  10, 6, [1, 3, 3, 0, 0]),
    ]},
    // The paper's sizes.
    Scale { name: "full", tasks: &[
        size("etth1",     1.0,   1.0,  50,  5, [2, 5, 3, 5, 5]),
        size("wikitext2", 1.0,   1.0,  50,  5, [2, 5, 3, 0, 0]),
        size("multi30k",  1.0,   1.0,  50,  5, [2, 5, 3, 0, 0]),
        size("cifar10",   1.0,   1.0,  50,  5, [2, 5, 3, 0, 0]),
        size("imdb",      1.0,   1.0,  50,  5, [2, 5, 3, 3, 5]),
    ]},
];

/// The last numbers: seeds of tuning, methods, the paper's set-up, ablations and the curve of rates.
const fn size(task: &'static str, limit: f64, width: f64, epochs: u32, patience: u32, seeds: [u64; 5]) -> Size {
    let [tuning_seeds, seeds, paper_seeds, ablation_seeds, rate_seeds] = seeds;
    Size { task, limit, width, epochs, patience, tuning_seeds, seeds, paper_seeds, ablation_seeds, rate_seeds }
}

pub fn scale(name: &str) -> Result<&'static Scale, String> {
    let names: Vec<&str> = SCALES.iter().map(|scale| scale.name).collect();
    let found = SCALES.iter().find(|scale| scale.name == name);
    found.ok_or_else(|| format!("--scale: expected one of {}, not {name}", names.join(", ")))
}

/// The paper's settings of a task, as far as ablations leave them, and its results: AdamW's, MetaAdamW's.
pub struct Paper {
    pub task: &'static str,
    pub title: &'static str,
    pub features: &'static str,
    pub gating: &'static str,
    pub priorities: &'static str,
    pub adamw: f64,
    pub metaadamw: f64,
}

#[rustfmt::skip]
pub const PAPER: &[Paper] = &[
    paper("etth1",     "ETTh1",      "basic",      "on",  "1,1,1", 0.006147, 0.005885),
    paper("wikitext2", "WikiText-2", "basic",      "off", "1,1,1", 120.47,   115.51),
    paper("multi30k",  "Multi30k",   "basic",      "off", "2,5,1", 2.0297,   1.9690),
    paper("cifar10",   "CIFAR-10",   "basic",      "off", "5,2,1", 0.8702,   0.8805),
    paper("imdb",      "IMDB",       "basic_plus", "on",  "1,3,5", 0.7453,   0.8279),
];

const fn paper(
    task: &'static str,
    title: &'static str,
    features: &'static str,
    gating: &'static str,
    priorities: &'static str,
    adamw: f64,
    metaadamw: f64,
) -> Paper {
    Paper { task, title, features, gating, priorities, adamw, metaadamw }
}

pub fn paper_of(task: &str) -> &'static Paper {
    PAPER.iter().find(|paper| paper.task == task).expect("every task has a line")
}
