//! The options struct of C ⇄ the options of the core.

use super::types::*;
use crate::error::{Error, Result};
use crate::model::dtype::DType;
use crate::model::options::{
    Difference, FeatureVersion, Grouping, Init, MetaOptimizer, NonFinite, Objective, Options, Place, Semantics,
    TermKind, Weighting,
};

/// A constant of the header: its name, its number, its meaning.
pub(super) type Known<T> = (&'static str, i32, T);

/// The value of a C number, or an error that lists the constants.
pub(super) fn choose<T: Copy>(field: &str, got: i32, known: &[Known<T>]) -> Result<T> {
    known.iter().find(|(_, number, _)| *number == got).map(|(.., value)| *value).ok_or_else(|| {
        let constants: Vec<String> = known.iter().map(|(name, number, _)| format!("{name} ({number})")).collect();
        Error::range(field, got, format!("one of {}", constants.join(", ")))
    })
}

/// 0 or 1.
pub(super) fn flag(field: &str, got: u32) -> Result<bool> {
    match got {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::range(field, got, "0 or 1")),
    }
}

const SEMANTICS: [Known<Semantics>; 2] =
    [("MAW_PAPER", MAW_PAPER, Semantics::Paper), ("MAW_REFERENCE", MAW_REFERENCE, Semantics::Reference)];
const FEATURES: [Known<FeatureVersion>; 6] = [
    ("MAW_FEATURES_BASIC", MAW_FEATURES_BASIC, FeatureVersion::Basic),
    ("MAW_FEATURES_BASIC_PLUS", MAW_FEATURES_BASIC_PLUS, FeatureVersion::BasicPlus),
    ("MAW_FEATURES_ENHANCED", MAW_FEATURES_ENHANCED, FeatureVersion::Enhanced),
    ("MAW_FEATURES_NORM_BASIC", MAW_FEATURES_NORM_BASIC, FeatureVersion::NormBasic),
    ("MAW_FEATURES_NORM_BASIC_PLUS", MAW_FEATURES_NORM_BASIC_PLUS, FeatureVersion::NormBasicPlus),
    ("MAW_FEATURES_NORM_LOG", MAW_FEATURES_NORM_LOG, FeatureVersion::NormLog),
];
const GROUPINGS: [Known<Grouping>; 3] = [
    ("MAW_GROUPING_FINE_GRAINED", MAW_GROUPING_FINE_GRAINED, Grouping::FineGrained),
    ("MAW_GROUPING_BY_PARAM_GROUP", MAW_GROUPING_BY_PARAM_GROUP, Grouping::ByParamGroup),
    ("MAW_GROUPING_CUSTOM", MAW_GROUPING_CUSTOM, Grouping::Custom),
];
const INITS: [Known<Init>; 2] =
    [("MAW_INIT_XAVIER", MAW_INIT_XAVIER, Init::Xavier), ("MAW_INIT_IDENTITY", MAW_INIT_IDENTITY, Init::Identity)];
const OBJECTIVES: [Known<Objective>; 5] = [
    ("MAW_OBJECTIVE_COMBINED", MAW_OBJECTIVE_COMBINED, Objective::Combined),
    ("MAW_OBJECTIVE_GRADIENT", MAW_OBJECTIVE_GRADIENT, Objective::Gradient),
    ("MAW_OBJECTIVE_LOSS_DECREASE", MAW_OBJECTIVE_LOSS_DECREASE, Objective::LossDecrease),
    ("MAW_OBJECTIVE_GEN_GAP", MAW_OBJECTIVE_GEN_GAP, Objective::GenGap),
    ("MAW_OBJECTIVE_HORIZON", MAW_OBJECTIVE_HORIZON, Objective::Horizon),
];
const META_OPTIMIZERS: [Known<MetaOptimizer>; 2] =
    [("MAW_META_SGD", MAW_META_SGD, MetaOptimizer::Sgd), ("MAW_META_ADAMW", MAW_META_ADAMW, MetaOptimizer::AdamW)];
const AVERAGE_DTYPES: [Known<Option<DType>>; 2] =
    [("the default", 0, None), ("MAW_BFLOAT16", MAW_BFLOAT16, Some(DType::BF16))];
const WEIGHTINGS: [Known<Weighting>; 3] = [
    ("MAW_WEIGHTING_HUW", MAW_WEIGHTING_HUW, Weighting::Huw),
    ("MAW_WEIGHTING_FIXED", MAW_WEIGHTING_FIXED, Weighting::Fixed),
    ("MAW_WEIGHTING_SUM", MAW_WEIGHTING_SUM, Weighting::Sum),
];
const KINDS: [Known<TermKind>; 2] = [
    ("MAW_KIND_REGRESSION", MAW_KIND_REGRESSION, TermKind::Regression),
    ("MAW_KIND_CLASSIFICATION", MAW_KIND_CLASSIFICATION, TermKind::Classification),
];
const DIFFERENCES: [Known<Difference>; 3] = [
    ("MAW_DIFFERENCE_CENTRAL", MAW_DIFFERENCE_CENTRAL, Difference::Central),
    ("MAW_DIFFERENCE_FORWARD", MAW_DIFFERENCE_FORWARD, Difference::Forward),
    ("MAW_DIFFERENCE_FIRST_ORDER", MAW_DIFFERENCE_FIRST_ORDER, Difference::FirstOrder),
];
const NONFINITES: [Known<NonFinite>; 3] = [
    ("MAW_NONFINITE_SKIP", MAW_NONFINITE_SKIP, NonFinite::Skip),
    ("MAW_NONFINITE_ERROR", MAW_NONFINITE_ERROR, NonFinite::Error),
    ("MAW_NONFINITE_PROPAGATE", MAW_NONFINITE_PROPAGATE, NonFinite::Propagate),
];

/// The C number of a value.
fn number<T: PartialEq>(value: T, known: &[Known<T>]) -> i32 {
    known.iter().find(|(.., v)| *v == value).map(|(_, number, _)| *number).expect("every value has a number")
}

fn count(field: &str, got: usize) -> u32 {
    u32::try_from(got).unwrap_or_else(|_| panic!("{field} fits, it was validated"))
}

/// The struct that C reads.
pub(super) fn from_options(o: &Options) -> maw_options {
    maw_options {
        struct_size: size_of::<maw_options>(),
        seed: o.seed,
        total_steps: o.total_steps,
        meta_interval: o.meta_interval,
        meta_warmup: o.meta_warmup,
        alpha_range: o.alpha_range,
        beta_range: o.beta_range,
        meta_lr: o.meta_lr,
        meta_weight_decay: o.meta_weight_decay,
        feature_gating_sparsity: o.feature_gating_sparsity,
        priorities: o.priorities,
        fixed_weights: o.fixed_weights,
        huw_initial_log_var: o.huw_initial_log_var,
        log_var_limit: o.log_var_limit,
        difference_scale: o.difference_scale,
        max_grad_norm: o.max_grad_norm,
        semantics: number(o.semantics, &SEMANTICS),
        feature_version: number(o.feature_version, &FEATURES),
        grouping: number(o.grouping, &GROUPINGS),
        init: number(o.init, &INITS),
        objective: number(o.objective, &OBJECTIVES),
        weighting: number(o.weighting, &WEIGHTINGS),
        huw_kinds: o.huw_kinds.map(|kind| number(kind, &KINDS)),
        difference: number(o.difference, &DIFFERENCES),
        nonfinite: number(o.nonfinite, &NONFINITES),
        device: if o.device == Place::Cpu { MAW_CPU } else { MAW_CUDA },
        device_index: if let Place::Cuda(index) = o.device { index } else { 0 },
        modulation: o.modulation.into(),
        use_v_norms: o.use_v_norms.into(),
        include_time_step: o.include_time_step.into(),
        use_feature_gating: o.use_feature_gating.into(),
        group_embed_dim: count("group_embed_dim", o.group_embed_dim),
        feature_dim: count("feature_dim", o.feature_dim),
        attn_heads: count("attn_heads", o.attn_heads),
        attn_layers: count("attn_layers", o.attn_layers),
        attn_hidden_dim: count("attn_hidden_dim", o.attn_hidden_dim),
        threads: count("threads", o.threads),
        verify_params: o.verify_params.into(),
        alpha_log_range: o.alpha_log_range,
        beta_log_range: o.beta_log_range,
        horizon: o.horizon,
        meta_optimizer: number(o.meta_optimizer, &META_OPTIMIZERS),
        average_dtype: number(o.average_dtype, &AVERAGE_DTYPES),
    }
}

/// The options in a struct that C wrote.
pub(super) fn to_options(o: &maw_options) -> Result<Options> {
    let device = match o.device {
        MAW_CPU if o.device_index == 0 => Place::Cpu,
        MAW_CPU => return Err(Error::range("options.device_index", o.device_index, "0 on the CPU")),
        MAW_CUDA => Place::Cuda(o.device_index),
        other => return Err(Error::range("options.device", other, "MAW_CPU (0) or MAW_CUDA (1)")),
    };
    let mut huw_kinds = [TermKind::Regression; 3];
    for (i, kind) in huw_kinds.iter_mut().enumerate() {
        *kind = choose(&format!("options.huw_kinds[{i}]"), o.huw_kinds[i], &KINDS)?;
    }
    Ok(Options {
        seed: o.seed,
        total_steps: o.total_steps,
        meta_interval: o.meta_interval,
        meta_warmup: o.meta_warmup,
        alpha_range: o.alpha_range,
        beta_range: o.beta_range,
        meta_lr: o.meta_lr,
        meta_weight_decay: o.meta_weight_decay,
        feature_gating_sparsity: o.feature_gating_sparsity,
        priorities: o.priorities,
        fixed_weights: o.fixed_weights,
        huw_initial_log_var: o.huw_initial_log_var,
        log_var_limit: o.log_var_limit,
        difference_scale: o.difference_scale,
        max_grad_norm: o.max_grad_norm,
        semantics: choose("options.semantics", o.semantics, &SEMANTICS)?,
        feature_version: choose("options.feature_version", o.feature_version, &FEATURES)?,
        grouping: choose("options.grouping", o.grouping, &GROUPINGS)?,
        init: choose("options.init", o.init, &INITS)?,
        objective: choose("options.objective", o.objective, &OBJECTIVES)?,
        weighting: choose("options.weighting", o.weighting, &WEIGHTINGS)?,
        huw_kinds,
        difference: choose("options.difference", o.difference, &DIFFERENCES)?,
        nonfinite: choose("options.nonfinite", o.nonfinite, &NONFINITES)?,
        modulation: flag("options.modulation", o.modulation)?,
        use_v_norms: flag("options.use_v_norms", o.use_v_norms)?,
        include_time_step: flag("options.include_time_step", o.include_time_step)?,
        use_feature_gating: flag("options.use_feature_gating", o.use_feature_gating)?,
        group_embed_dim: o.group_embed_dim as usize,
        feature_dim: o.feature_dim as usize,
        attn_heads: o.attn_heads as usize,
        attn_layers: o.attn_layers as usize,
        attn_hidden_dim: o.attn_hidden_dim as usize,
        threads: o.threads as usize,
        verify_params: flag("options.verify_params", o.verify_params)?,
        device,
        alpha_log_range: o.alpha_log_range,
        beta_log_range: o.beta_log_range,
        horizon: o.horizon,
        meta_optimizer: choose("options.meta_optimizer", o.meta_optimizer, &META_OPTIMIZERS)?,
        average_dtype: choose("options.average_dtype", o.average_dtype, &AVERAGE_DTYPES)?,
    })
}
