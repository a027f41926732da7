//! Golden cases: one safetensors file each, with its configuration as JSON.

use super::handle::{Handle, Outcome, Spec, options, param_group};
use super::loss::Loss;
use super::tolerance::Mode;
use super::toy::Random;
use metaadamw::ffi::*;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// `__metadata__.config`. An absent key means the library's default; a key that is not here is an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    semantics: Option<String>,
    feature_version: Option<String>,
    include_time_step: Option<bool>,
    use_v_norms: Option<bool>,
    group_embed_dim: Option<u32>,
    feature_dim: Option<u32>,
    attn_heads: Option<u32>,
    attn_layers: Option<u32>,
    attn_hidden_dim: Option<u32>,
    alpha_range: Option<f64>,
    beta_range: Option<f64>,
    use_feature_gating: Option<bool>,
    feature_gating_sparsity: Option<f64>,
    use_huw: Option<bool>,
    huw_priorities: Option<[f64; 3]>,
    huw_kinds: Option<[String; 3]>,
    fixed_weights: Option<[f64; 3]>,
    log_var_limit: Option<f64>,
    meta_objective: Option<String>,
    meta_lr: Option<f64>,
    meta_weight_decay: Option<f64>,
    meta_after_step: Option<usize>,
    meta_unused: Option<Unused>,
    meta_scale: Option<Scaled>,
    total_steps: Option<u64>,
    max_grad_norm: Option<f64>,
    alpha_log_range: Option<f64>,
    beta_log_range: Option<f64>,
    horizon: Option<f64>,
    meta_interval: Option<u64>,
    meta_warmup: Option<u64>,
    meta_optimizer: Option<String>,
    pub grad_scale: Option<f64>,
    grouping: Option<String>,
    pub steps: usize,
    pub resolved_feature_dim: usize,
    param_groups: Vec<ParamGroup>,
    pub tensors: Vec<TensorConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Unused {
    b1: Vec<usize>,
    b2: Vec<usize>,
    val: Vec<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Scaled {
    b2: BTreeMap<usize, f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamGroup {
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorConfig {
    pub name: String,
    pub shape: Vec<u64>,
    pub param_group: usize,
    pub modulation_group: usize,
    pub is_bias: bool,
    /// Used by the features of `enhanced` only.
    #[expect(dead_code, reason = "must be allowed, is compared by way of the features")]
    depth: f64,
}

pub struct Case {
    pub name: String,
    pub config: Config,
    tensors: BTreeMap<String, Vec<f64>>,
    used: RefCell<BTreeSet<String>>,
}

/// The files of `METAADAMW_GOLDEN`, or of `tests/golden`; at least one.
pub fn files() -> Vec<PathBuf> {
    let folder = std::env::var_os("METAADAMW_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("the folder can be listed").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no golden cases", folder.display());
    files
}

pub fn parse(config: &str) -> Result<Config, String> {
    serde_json::from_str(config).map_err(|e| e.to_string())
}

impl Case {
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(path).map_err(|e| format!("{name}: {e}"))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| format!("{name}: {e}"))?;
        let metadata = header.metadata().as_ref().ok_or_else(|| format!("{name}: no metadata"))?;
        let config = metadata.get("config").ok_or_else(|| format!("{name}: no config"))?;
        let config = parse(config).map_err(|e| format!("{name}: config: {e}"))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| format!("{name}: {e}"))?;
        let mut tensors = BTreeMap::new();
        for (key, view) in file.tensors() {
            let values = match view.dtype() {
                Dtype::F32 => view.data().as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                Dtype::F64 => view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
                other => return Err(format!("{name}: {key} has dtype {other:?}")),
            };
            tensors.insert(key, values);
        }
        Ok(Self { name, config, tensors, used: RefCell::default() })
    }

    /// The same configuration with other shapes and other numbers, as large as before. What it expects is then wrong.
    pub fn varied(mut self, seed: u64) -> Self {
        let mut random = Random(seed);
        let longer = |random: &mut Random, length: u64| length.max(2) - 1 + (2.0 + 2.0 * random.next()) as u64;
        for tensor in &mut self.config.tensors {
            tensor.shape = tensor.shape.iter().map(|length| longer(&mut random, *length)).collect();
        }
        let sizes: Vec<usize> = self.config.tensors.iter().map(|t| t.shape.iter().product::<u64>() as usize).collect();
        let all: usize = sizes.iter().sum();
        for (key, values) in &mut self.tensors {
            let size = 1.7 * (values.iter().map(|x| x * x).sum::<f64>() / values.len().max(1) as f64).sqrt();
            let index = || key.rsplit('.').next().and_then(|i| i.parse::<usize>().ok()).expect("a tensor's index");
            if key.starts_with("param.") || key.starts_with("grad.") {
                *values = random.values(sizes[index()], size);
            } else if key.starts_with("phi.") {
                values.iter_mut().for_each(|x| *x *= 1.0 + 0.3 * random.next());
            } else if key.starts_with("loss.") && key.ends_with(".y") {
                *values = random.values(values.len(), size);
            }
        }
        for batch in ["b1", "b2", "val"] {
            let rows = self.tensors.get(&format!("loss.{batch}.y")).map_or(0, Vec::len);
            if let Some(values) = self.tensors.get_mut(&format!("loss.{batch}.A")) {
                let size = 1.7 * (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt();
                *values = random.values(rows * all, size);
            }
        }
        self.name.push_str(", varied");
        self
    }

    /// A tensor of the file, which from now on counts as compared.
    pub fn get(&self, key: &str) -> Option<&[f64]> {
        self.used.borrow_mut().insert(key.to_owned());
        self.tensors.get(key).map(Vec::as_slice)
    }

    pub fn need(&self, key: &str) -> Result<&[f64], String> {
        self.get(key).ok_or_else(|| format!("{}: {key} is missing", self.name))
    }

    pub fn number(&self, key: &str) -> Result<f64, String> {
        match self.need(key)? {
            [number] => Ok(*number),
            other => Err(format!("{}: {key} has {} numbers", self.name, other.len())),
        }
    }

    /// What follows `prefix` in the keys that begin with it.
    pub fn names_under(&self, prefix: &str) -> Vec<String> {
        self.tensors.keys().filter_map(|key| key.strip_prefix(prefix)).map(str::to_owned).collect()
    }

    /// Tensors that were not compared.
    pub fn unused(&self) -> Vec<&String> {
        let used = self.used.borrow();
        self.tensors.keys().filter(|key| !used.contains(*key)).collect()
    }

    pub fn meta_after_step(&self) -> Option<usize> {
        self.config.meta_after_step
    }

    /// Whether the library learns from steps alone.
    pub fn learns_from_steps(&self) -> bool {
        self.objective() == "horizon"
    }

    pub fn objective(&self) -> &str {
        self.config.meta_objective.as_deref().unwrap_or("combined")
    }

    pub fn group_count(&self) -> usize {
        self.config.tensors.iter().map(|t| t.modulation_group + 1).max().unwrap_or(0)
    }

    /// Whether the library finds the groups by the tensors' names.
    pub fn is_fine_grained(&self) -> bool {
        self.config.grouping.as_deref().is_none_or(|grouping| grouping == "fine_grained")
    }

    /// The loss on batch `b1`, `b2` or `val`.
    pub fn loss(&self, batch: &str) -> Result<Loss, String> {
        let unused = self.config.meta_unused.as_ref().map(|unused| match batch {
            "b1" => &unused.b1,
            "b2" => &unused.b2,
            _ => &unused.val,
        });
        let scale = self.config.meta_scale.as_ref().filter(|_| batch == "b2").map(|scale| &scale.b2);
        Ok(Loss {
            a: self.need(&format!("loss.{batch}.A"))?.to_vec(),
            y: self.need(&format!("loss.{batch}.y"))?.to_vec(),
            unused: unused.cloned().unwrap_or_default(),
            scale: scale.cloned().unwrap_or_default(),
        })
    }

    pub fn options(&self, difference: i32) -> Result<maw_options, String> {
        let config = &self.config;
        let mut o = options();
        let flag = |value: Option<bool>, default: u32| value.map_or(default, u32::from);
        choose(&mut o.semantics, config.semantics.as_ref(), &[("paper", MAW_PAPER), ("reference", MAW_REFERENCE)])?;
        choose(&mut o.feature_version, config.feature_version.as_ref(), &FEATURES)?;
        choose(&mut o.grouping, config.grouping.as_ref(), &GROUPINGS)?;
        choose(&mut o.objective, config.meta_objective.as_ref(), &OBJECTIVES)?;
        for (kind, wanted) in o.huw_kinds.iter_mut().zip(config.huw_kinds.iter().flatten()) {
            choose(kind, Some(wanted), &KINDS)?;
        }
        o.weighting = match (config.use_huw, config.fixed_weights) {
            (Some(false), Some(_)) => MAW_WEIGHTING_FIXED,
            (Some(false), None) => MAW_WEIGHTING_SUM,
            _ => MAW_WEIGHTING_HUW,
        };
        o.difference = difference;
        o.include_time_step = flag(config.include_time_step, o.include_time_step);
        o.use_v_norms = flag(config.use_v_norms, o.use_v_norms);
        o.use_feature_gating = flag(config.use_feature_gating, o.use_feature_gating);
        o.group_embed_dim = config.group_embed_dim.unwrap_or(o.group_embed_dim);
        o.feature_dim = config.feature_dim.unwrap_or(o.feature_dim);
        o.attn_heads = config.attn_heads.unwrap_or(o.attn_heads);
        o.attn_layers = config.attn_layers.unwrap_or(o.attn_layers);
        o.attn_hidden_dim = config.attn_hidden_dim.unwrap_or(o.attn_hidden_dim);
        o.alpha_range = config.alpha_range.unwrap_or(o.alpha_range);
        o.beta_range = config.beta_range.unwrap_or(o.beta_range);
        o.feature_gating_sparsity = config.feature_gating_sparsity.unwrap_or(o.feature_gating_sparsity);
        o.priorities = config.huw_priorities.unwrap_or(o.priorities);
        o.fixed_weights = config.fixed_weights.unwrap_or(o.fixed_weights);
        o.log_var_limit = config.log_var_limit.unwrap_or(o.log_var_limit);
        o.meta_lr = config.meta_lr.unwrap_or(o.meta_lr);
        o.meta_weight_decay = config.meta_weight_decay.unwrap_or(o.meta_weight_decay);
        o.total_steps = config.total_steps.unwrap_or(o.total_steps);
        o.max_grad_norm = config.max_grad_norm.unwrap_or(o.max_grad_norm);
        o.alpha_log_range = config.alpha_log_range.unwrap_or(o.alpha_log_range);
        o.beta_log_range = config.beta_log_range.unwrap_or(o.beta_log_range);
        o.horizon = config.horizon.unwrap_or_default() as u64;
        o.meta_interval = config.meta_interval.unwrap_or(o.meta_interval);
        o.meta_warmup = config.meta_warmup.unwrap_or(o.meta_warmup);
        choose(&mut o.meta_optimizer, config.meta_optimizer.as_ref(), &META_OPTIMIZERS)?;
        Ok(o)
    }

    /// Config's index of each registered tensor. Registration keeps the order of the case, except that the tensors
    /// of a param group must stand together where param groups are modulation groups.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.config.tensors.len()).collect();
        if self.config.grouping.as_deref() == Some("by_param_group") {
            order.sort_by_key(|&i| self.config.tensors[i].param_group);
        }
        order
    }

    /// Registers every tensor in `order`; adjacent tensors of one param group together.
    pub fn register(&self, handle: &mut Handle, order: &[usize], mode: Mode) -> Outcome<()> {
        let named = matches!(self.config.grouping.as_deref(), Some("custom" | "one"));
        let group_of = |i: usize| self.config.tensors[i].param_group;
        for run in order.chunk_by(|&i, &j| group_of(i) == group_of(j)) {
            let ParamGroup { lr, betas: [beta1, beta2], eps, weight_decay } =
                self.config.param_groups[group_of(run[0])];
            let precision = mode.precision;
            let group = maw_param_group { lr, beta1, beta2, eps, weight_decay, precision, ..param_group() };
            let describe = |&i: &usize| {
                let TensorConfig { name, shape, modulation_group, .. } = &self.config.tensors[i];
                let spec = Spec::new(name, shape, mode.dtype).with_gradient(mode.grad_dtype());
                if named { spec.in_group(&modulation_group.to_string()) } else { spec }
            };
            handle.add(&group, &run.iter().map(describe).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

type Choices<const N: usize> = [(&'static str, i32); N];

const FEATURES: Choices<6> = [
    ("basic", MAW_FEATURES_BASIC),
    ("basic_plus", MAW_FEATURES_BASIC_PLUS),
    ("enhanced", MAW_FEATURES_ENHANCED),
    ("norm_basic", MAW_FEATURES_NORM_BASIC),
    ("norm_basic_plus", MAW_FEATURES_NORM_BASIC_PLUS),
    ("norm_log", MAW_FEATURES_NORM_LOG),
];
const GROUPINGS: Choices<4> = [
    ("fine_grained", MAW_GROUPING_FINE_GRAINED),
    ("by_param_group", MAW_GROUPING_BY_PARAM_GROUP),
    ("custom", MAW_GROUPING_CUSTOM),
    ("one", MAW_GROUPING_CUSTOM),
];
const OBJECTIVES: Choices<5> = [
    ("combined", MAW_OBJECTIVE_COMBINED),
    ("gradient", MAW_OBJECTIVE_GRADIENT),
    ("loss_decrease", MAW_OBJECTIVE_LOSS_DECREASE),
    ("gen_gap", MAW_OBJECTIVE_GEN_GAP),
    ("horizon", MAW_OBJECTIVE_HORIZON),
];
const META_OPTIMIZERS: Choices<2> = [("sgd", MAW_META_SGD), ("adamw", MAW_META_ADAMW)];
const KINDS: Choices<2> = [("regression", MAW_KIND_REGRESSION), ("classification", MAW_KIND_CLASSIFICATION)];

/// Sets `option` to the number of the word, if there is one.
fn choose(option: &mut i32, word: Option<&String>, choices: &[(&str, i32)]) -> Result<(), String> {
    let Some(word) = word else { return Ok(()) };
    let found = choices.iter().find(|(name, _)| name == word);
    *option = found.ok_or_else(|| format!("config has '{word}', which is none of {choices:?}"))?.1;
    Ok(())
}
