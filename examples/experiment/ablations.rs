//! What MetaAdamW is made of, one thing changed at a time.

use super::matrix::{Need, Run, Stage};
use super::scales::{Size, paper_of};

/// The flag of `train`, and its values. That of the task itself is left out: it is the method.
const CHANGES: [(&str, &[&str]); 9] = [
    ("features", &["basic", "basic_plus", "enhanced", "norm_basic", "norm_basic_plus", "norm_log"]),
    ("grouping", &["fine_grained", "by_param_group"]),
    ("objective", &["combined", "gradient", "loss_decrease", "gen_gap"]),
    ("priorities", &["1,1,1", "2,5,1", "5,2,1", "1,3,5"]),
    ("uncertainty", &["huw", "fixed", "sum"]),
    ("gating", &["on", "off"]),
    ("layers", &["2", "16"]),
    ("heads", &["1", "3"]),
    ("feed-forward", &["4", "32"]),
];

const INTERVALS: [f64; 2] = [0.25, 4.0];

pub fn runs(size: &Size, seed: u64) -> Vec<Run> {
    let of_task = paper_of(size.task);
    let method = || Run::new(*size, Stage::Ablation, "metaadamw", seed);
    let own = |flag: &str| match flag {
        "features" => of_task.features,
        "priorities" => of_task.priorities,
        "gating" => of_task.gating,
        "grouping" => "fine_grained",
        "objective" => "combined",
        "uncertainty" => "huw",
        _ => "",
    };
    let mut runs = Vec::new();
    for (flag, values) in CHANGES {
        let changed = values.iter().filter(|value| **value != own(flag));
        runs.extend(changed.map(|value| method().with(flag, value).named(&format!("{flag}-{value}"))));
    }
    runs.extend(INTERVALS.map(|times| {
        let mut run = method().named(&format!("meta-interval-x{times}"));
        run.needs.push(Need::Interval(times));
        run
    }));
    runs
}
