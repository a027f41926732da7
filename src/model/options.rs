//! Hyper-parameters: defaults with their source, validation that names the field.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, readable};
use crate::model::dtype::{DType, Precision};

/// Where paper and authors' program differ, which one is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Semantics {
    /// The paper's equations.
    Paper,
    /// The authors' published program.
    Reference,
}

/// What a token of the attention module is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureVersion {
    /// Mean norms and cosine.
    Basic,
    /// Means and standard deviations.
    BasicPlus,
    /// Means, variances, zero shares, size, kind, depth, embedding.
    Enhanced,
    /// `Basic`, standardised over the groups.
    NormBasic,
    /// `BasicPlus`, standardised over the groups.
    NormBasicPlus,
    /// `NormBasic` with the logarithms of norms.
    NormLog,
}

/// How tensors form modulation groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// By layer kind, depth bucket and bias or not.
    FineGrained,
    /// The param groups.
    ByParamGroup,
    /// Named by the host, tensor by tensor.
    Custom,
}

/// How the output projection starts; everything else starts the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Xavier-uniform, as the other weight matrices.
    Xavier,
    /// Zero: all four outputs are 0, hence α = β = 1, until the first meta-update.
    Identity,
}

/// The meta-objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// All three terms.
    Combined,
    /// Gradient alignment (eq. 10).
    Gradient,
    /// Loss decrease (eq. 11).
    LossDecrease,
    /// Generalization gap (eq. 12).
    GenGap,
    /// The gradient against the displacement of the last steps: learned from steps alone. Not in the paper.
    Horizon,
}

/// How the attention module learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetaOptimizer {
    /// Plain steps along the gradient, as in the paper.
    #[default]
    Sgd,
    /// AdamW with betas 0.9 and 0.99.
    #[serde(rename = "adamw")]
    AdamW,
}

/// How the combined objective weighs its terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Homoscedastic uncertainty with priorities (eq. 13).
    Huw,
    /// Fixed weights.
    Fixed,
    /// All 1.
    Sum,
}

/// Kind of a term under HUW: its factor h is ½ or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TermKind {
    /// h = ½.
    Regression,
    /// h = 1.
    Classification,
}

/// How the Hessian-vector product is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// Two more gradients.
    Central,
    /// One more gradient.
    Forward,
    /// None: the product counts as 0.
    FirstOrder,
}

/// What happens to a step with something not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// It is skipped and counted.
    Skip,
    /// It fails.
    Error,
    /// Not checked; only with modulation off.
    Propagate,
}

/// What the tensor's module is, said by the host; `MAW_LAYER_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Unknown: the name decides.
    Unknown,
    /// Fully connected.
    Linear,
    /// Embedding table.
    Embedding,
    /// Attention.
    Attention,
    /// Layer norm.
    LayerNorm,
    /// Convolution.
    Convolution,
    /// Batch norm.
    BatchNorm,
    /// Recurrent.
    Recurrent,
}

impl LayerKind {
    /// Its word in the name of a modulation group, if the host said anything.
    #[must_use]
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Linear => Some("linear"),
            Self::Embedding => Some("embedding"),
            Self::Attention => Some("attention"),
            Self::LayerNorm => Some("layernorm"),
            Self::Convolution => Some("convolution"),
            Self::BatchNorm => Some("batchnorm"),
            Self::Recurrent => Some("recurrent"),
        }
    }
}

/// Where parameters, gradients and moments lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Place {
    /// Host memory.
    Cpu,
    /// Memory of the CUDA device with this number.
    Cuda(i32),
}

impl From<Place> for String {
    /// "cpu", "cuda:0".
    fn from(place: Place) -> Self {
        match place {
            Place::Cpu => "cpu".to_owned(),
            Place::Cuda(index) => format!("cuda:{index}"),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = String;
    fn try_from(text: String) -> std::result::Result<Self, String> {
        let index = text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
        let place = if text == "cpu" { Some(Self::Cpu) } else { index.map(Self::Cuda) };
        place.ok_or_else(|| format!("'{text}' is no device"))
    }
}

/// Factors beyond it or below its inverse make no sense.
const MAX_LOG_RANGE: f64 = 1e6;
/// In float32 a longer one would stand still.
const MAX_HORIZON: u64 = 1 << 32;

/// Options of an optimizer; see `maw_options` in the C header for each field's meaning and unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented once, at maw_options")]
pub struct Options {
    pub seed: u64,
    pub total_steps: u64,
    pub meta_interval: u64,
    pub meta_warmup: u64,
    pub alpha_range: f64,
    pub beta_range: f64,
    pub meta_lr: f64,
    pub meta_weight_decay: f64,
    pub feature_gating_sparsity: f64,
    pub priorities: [f64; 3],
    pub fixed_weights: [f64; 3],
    pub huw_initial_log_var: f64,
    pub log_var_limit: f64,
    pub difference_scale: f64,
    pub max_grad_norm: f64,
    pub semantics: Semantics,
    pub feature_version: FeatureVersion,
    pub grouping: Grouping,
    pub init: Init,
    pub objective: Objective,
    pub weighting: Weighting,
    pub huw_kinds: [TermKind; 3],
    pub difference: Difference,
    pub nonfinite: NonFinite,
    pub modulation: bool,
    pub use_v_norms: bool,
    pub include_time_step: bool,
    pub use_feature_gating: bool,
    pub group_embed_dim: usize,
    pub feature_dim: usize,
    pub attn_heads: usize,
    pub attn_layers: usize,
    pub attn_hidden_dim: usize,
    pub threads: usize,
    pub verify_params: bool,
    pub device: Place,
    // Later than version 0.1: a file that does not have them means their defaults.
    #[serde(default)]
    pub alpha_log_range: f64,
    #[serde(default)]
    pub beta_log_range: f64,
    #[serde(default)]
    pub horizon: u64,
    #[serde(default)]
    pub meta_optimizer: MetaOptimizer,
    /// `None`: float32, and float64 for float64 tensors.
    #[serde(default)]
    pub average_dtype: Option<DType>,
}

impl Default for Options {
    /// The paper's common settings (section 7 there) with its smallest encoder; intervals are ours.
    fn default() -> Self {
        Self {
            seed: 0,
            total_steps: 0,
            meta_interval: 200,
            meta_warmup: 0,
            alpha_range: 1.0,
            beta_range: 1.0,
            meta_lr: 1e-4,
            meta_weight_decay: 1e-4,
            feature_gating_sparsity: 1e-4,
            priorities: [1.0; 3],
            fixed_weights: [1.0; 3],
            huw_initial_log_var: 0.0,
            log_var_limit: 10.0,
            difference_scale: 0.0,
            max_grad_norm: 0.0,
            semantics: Semantics::Paper,
            feature_version: FeatureVersion::Basic,
            grouping: Grouping::FineGrained,
            init: Init::Xavier,
            objective: Objective::Combined,
            weighting: Weighting::Huw,
            huw_kinds: [TermKind::Regression; 3],
            difference: Difference::Central,
            nonfinite: NonFinite::Skip,
            modulation: true,
            use_v_norms: true,
            include_time_step: true,
            use_feature_gating: false,
            group_embed_dim: 4,
            feature_dim: 0,
            attn_heads: 6,
            attn_layers: 8,
            attn_hidden_dim: 16,
            threads: 0,
            verify_params: false,
            device: Place::Cpu,
            alpha_log_range: 0.0,
            beta_log_range: 0.0,
            horizon: 0,
            meta_optimizer: MetaOptimizer::Sgd,
            average_dtype: None,
        }
    }
}

impl Options {
    /// Learning from steps alone, as it was found to work well (docs/horizon.md).
    #[must_use]
    pub fn horizon() -> Self {
        Self {
            objective: Objective::Horizon,
            horizon: 1000,
            meta_optimizer: MetaOptimizer::AdamW,
            meta_lr: 1e-2,
            meta_weight_decay: 1e-4,
            meta_interval: 5,
            meta_warmup: 20,
            init: Init::Identity,
            feature_version: FeatureVersion::NormLog,
            attn_layers: 2,
            alpha_log_range: 8.0,
            ..Self::default()
        }
    }

    /// Checks every field alone; what depends on the features' length is checked at preparation.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] names the first field that is not usable.
    pub fn validate(&self) -> Result<()> {
        let between = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::range(format!("options.{name}"), readable(value), format!("{low} to {high}")))
            }
        };
        between("alpha_range", self.alpha_range, 0.0, 2.0)?;
        between("beta_range", self.beta_range, 0.0, 2.0)?;
        for (name, value) in [
            ("meta_lr", self.meta_lr),
            ("meta_weight_decay", self.meta_weight_decay),
            ("feature_gating_sparsity", self.feature_gating_sparsity),
            ("log_var_limit", self.log_var_limit),
            ("difference_scale", self.difference_scale),
            ("max_grad_norm", self.max_grad_norm),
        ] {
            not_negative(&format!("options.{name}"), value)?;
        }
        validate_priorities("options.priorities", &self.priorities)?;
        for (i, value) in self.fixed_weights.iter().enumerate() {
            finite(&format!("options.fixed_weights[{i}]"), *value)?;
        }
        finite("options.huw_initial_log_var", self.huw_initial_log_var)?;
        let counts: [(&str, usize, usize, usize); 6] = [
            ("group_embed_dim", self.group_embed_dim, 1, 4096),
            ("feature_dim", self.feature_dim, 0, 65_536),
            ("attn_heads", self.attn_heads, 1, 1024),
            ("attn_layers", self.attn_layers, 1, 4096),
            ("attn_hidden_dim", self.attn_hidden_dim, 1, 65_536),
            ("threads", self.threads, 0, 1024),
        ];
        for (name, value, low, high) in counts {
            if !(low..=high).contains(&value) {
                return Err(Error::range(format!("options.{name}"), value, format!("{low} to {high}")));
            }
        }
        if self.nonfinite == NonFinite::Propagate && self.modulation {
            // A NaN would reach every parameter through the attention module.
            return Err(Error::range(
                "options.nonfinite",
                "MAW_NONFINITE_PROPAGATE",
                "skip or error with modulation on",
            ));
        }
        if self.meta_interval == 0 {
            return Err(Error::range("options.meta_interval", 0, "at least 1"));
        }
        for (name, range) in [("alpha_log_range", self.alpha_log_range), ("beta_log_range", self.beta_log_range)] {
            if range != 0.0 && !(range > 1.0 && range <= MAX_LOG_RANGE) {
                return Err(Error::range(format!("options.{name}"), readable(range), "0, or 1 < value ≤ 1e6"));
            }
        }
        self.validate_horizon()
    }

    fn validate_horizon(&self) -> Result<()> {
        if self.horizon == 1 || self.horizon > MAX_HORIZON {
            return Err(Error::range("options.horizon", self.horizon, "0, or 2 to 2^32"));
        }
        if !self.learns_from_steps() {
            return Ok(());
        }
        if self.horizon == 0 {
            return Err(Error::range("options.horizon", 0, "2 to 2^32 with MAW_OBJECTIVE_HORIZON"));
        }
        if self.meta_optimizer != MetaOptimizer::AdamW {
            let expected = "MAW_META_ADAMW with MAW_OBJECTIVE_HORIZON";
            return Err(Error::range("options.meta_optimizer", "MAW_META_SGD", expected));
        }
        Ok(())
    }

    /// Whether the attention module has HUW's log-variances: where HUW is the weighting, whatever the objective, unless that
    /// has no terms.
    #[must_use]
    pub fn has_log_vars(&self) -> bool {
        self.weighting == Weighting::Huw && self.objective != Objective::Horizon
    }

    /// Whether the attention module learns from steps alone.
    #[must_use]
    pub fn learns_from_steps(&self) -> bool {
        self.modulation && self.objective == Objective::Horizon
    }

    /// 1/N, a step's share in an average; 0 without averages.
    #[must_use]
    pub fn average_share(&self) -> f64 {
        if self.horizon == 0 { 0.0 } else { 1.0 / self.horizon as f64 }
    }

    /// The dtype of the average of a parameter of this dtype, if there are averages.
    #[must_use]
    pub fn average_of(&self, dtype: DType) -> Option<DType> {
        (self.horizon > 0).then(|| match (dtype, self.average_dtype) {
            (DType::F64, _) => DType::F64,
            (_, half) => half.unwrap_or(DType::F32),
        })
    }
}

/// Hyper-parameters that tensors share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamGroup {
    /// Learning rate η.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay λ.
    pub weight_decay: f64,
    /// How 16-bit parameters keep precision.
    pub precision: Precision,
    /// `None`: what is computed in. Bfloat16 for tensors that are not float64, always rounded stochastically: to nearest, v
    /// would stand still, since 1 − β₂ of it is below half a unit of its last place.
    pub moment_dtype: Option<DType>,
}

impl Default for ParamGroup {
    /// The paper's η and λ, PyTorch's betas and eps.
    fn default() -> Self {
        Self {
            lr: 5e-4,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 1e-2,
            precision: Precision::Nearest,
            moment_dtype: None,
        }
    }
}

impl ParamGroup {
    /// Checks every field, for tensors of these dtypes.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] names the first field that is not usable.
    pub fn validate(&self, dtypes: impl IntoIterator<Item = DType>) -> Result<()> {
        not_negative("group.lr", self.lr)?;
        validate_beta("group.beta1", self.beta1)?;
        validate_beta("group.beta2", self.beta2)?;
        validate_eps("group.eps", self.eps, dtypes)?;
        not_negative("group.weight_decay", self.weight_decay)
    }
}

pub(crate) fn validate_beta(field: &str, beta: f64) -> Result<()> {
    if (0.0..1.0).contains(&beta) { Ok(()) } else { Err(Error::range(field, readable(beta), "0 ≤ value < 1")) }
}

/// `dtypes`: those of the group's tensors.
pub(crate) fn validate_eps(field: &str, eps: f64, dtypes: impl IntoIterator<Item = DType>) -> Result<()> {
    let least = dtypes.into_iter().map(DType::min_positive).fold(f64::MIN_POSITIVE, f64::max);
    if eps.is_finite() && eps >= least {
        return Ok(());
    }
    // With eps = 0 an element whose gradient was always 0 would become 0/0.
    Err(Error::range(field, readable(eps), format!("finite and at least {least:e}")))
}

pub(crate) fn not_negative(field: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(Error::range(field, readable(value), "finite and ≥ 0"))
    }
}

pub(crate) fn positive(field: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(Error::range(field, readable(value), "finite and > 0")) }
}

pub(crate) fn validate_priorities(field: &str, priorities: &[f64; 3]) -> Result<()> {
    priorities.iter().enumerate().try_for_each(|(i, value)| not_negative(&format!("{field}[{i}]"), *value))
}

fn finite(field: &str, value: f64) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::range(field, readable(value), "finite")) }
}
