//! What host and kernels agree on: the numbers and structs of kernels/abi.cuh, field by field, under the same names but
//! for one ([`KernelArguments`]).

use bytemuck::{Pod, Zeroable};

use super::driver::Address;
use crate::backend::{self, AllReduce};
use crate::error::ReductionError;
use crate::model::coefficients;
use crate::model::dtype::{DType, Precision};
use crate::model::groups;
use crate::model::options::{FeatureVersion, NonFinite, Options, ParamGroup, Semantics};
use crate::model::report::Skip;
use crate::model::stats::{GradientSums, StateSums};
use crate::numeric::math;

/// Threads of a block in passes over chunks.
pub const BLOCK: u32 = 256;
/// Threads of the one block that decides.
pub const DECIDER: u32 = 512;
/// Doubles of shared memory for the attention module's activations.
pub const SHARED_ACTIVATIONS: usize = 4800;

pub const GRADIENT_SUMS: usize = 3;
pub const STATE_SUMS: usize = 5;
pub const STATISTICS: usize = 7;
pub const OUTPUTS: usize = 4;

/// `Flags`.
pub mod flags {
    pub const GRADIENTS: u32 = 1;
    pub const STATE: u32 = 2;
    pub const STATE_IF_STALE: u32 = 4;
    pub const MOMENTUM: u32 = 8;
    pub const UNCHECKED: u32 = 16;
    pub const CHANGED: u32 = 32;
    pub const DISPLACEMENTS: u32 = 64;
    pub const VOTES: u32 = 128;
    pub const PRODUCTS: u32 = 256;
    pub const PRESENT: u32 = 512;
}

/// `Type`.
pub fn dtype(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F64 => 1,
        DType::BF16 => 2,
        DType::F16 => 3,
    }
}

/// `Precision`.
pub fn precision(precision: Precision) -> u32 {
    match precision {
        Precision::Nearest => 0,
        Precision::Master => 1,
        Precision::Remainder => 2,
        Precision::Stochastic => 3,
    }
}

/// `Kind`: which types a tensor has.
pub fn kind(tensor: &groups::Tensor) -> u32 {
    let all = |wanted: fn(DType) -> bool| {
        [tensor.spec.dtype, tensor.spec.grad_dtype, tensor.moment_dtype].into_iter().all(wanted)
    };
    match tensor.spec.dtype {
        DType::F64 => 3,
        _ if all(|dtype| dtype == DType::F32) => 1,
        _ if all(|dtype| matches!(dtype, DType::F32 | DType::BF16)) => 2,
        _ => 0,
    }
}

/// `Version`.
pub fn version(version: FeatureVersion) -> u32 {
    match version {
        FeatureVersion::Basic => 0,
        FeatureVersion::BasicPlus => 1,
        FeatureVersion::Enhanced => 2,
        FeatureVersion::NormBasic => 3,
        FeatureVersion::NormBasicPlus => 4,
        FeatureVersion::NormLog => 5,
    }
}

pub fn is_reference(semantics: Semantics) -> bool {
    semantics == Semantics::Reference
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Tensor {
    pub numel: u64,
    pub whole_numel: u64,
    pub offset: u64,
    pub exp_avg: Address,
    pub exp_avg_sq: Address,
    pub master: Address,
    pub max_square: f64,
    pub first_chunk: u32,
    pub chunks: u32,
    pub param_group: u32,
    pub group: u32,
    pub dtype: u32,
    pub grad_dtype: u32,
    pub moment_dtype: u32,
    pub precision: u32,
    pub kind: u32,
    pub first_sum: u32,
    pub sums: u32,
    pub own_sum: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Coefficients {
    pub gradient: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub step_size: f64,
    pub decay: f64,
    pub key: u64,
    pub active: u64,
}

impl From<&coefficients::Coefficients> for Coefficients {
    fn from(c: &coefficients::Coefficients) -> Self {
        Self {
            gradient: c.gradient,
            beta1: c.beta1,
            beta2: c.beta2,
            eps: c.eps,
            step_size: c.step_size,
            decay: c.decay,
            key: c.key,
            active: 1,
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Hyper {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
}

impl From<&ParamGroup> for Hyper {
    fn from(g: &ParamGroup) -> Self {
        Self { lr: g.lr, beta1: g.beta1, beta2: g.beta2, eps: g.eps, weight_decay: g.weight_decay }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct LastGradient {
    pub square: f64,
    pub with_momentum: f64,
    pub zeros: f64,
    pub known: u64,
}

impl From<Option<GradientSums>> for LastGradient {
    fn from(sums: Option<GradientSums>) -> Self {
        sums.map_or(Self::zeroed(), |s| Self {
            square: s.square,
            with_momentum: s.with_momentum,
            zeros: s.zeros,
            known: 1,
        })
    }
}

impl LastGradient {
    pub fn sums(&self) -> Option<GradientSums> {
        let Self { square, with_momentum, zeros, known } = *self;
        (known != 0).then_some(GradientSums { square, with_momentum, zeros })
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Settings {
    pub total_steps: u64,
    pub alpha_range: f64,
    pub beta_range: f64,
    pub max_grad_norm: f64,
    pub propagate: u64,
    pub alpha_ln_range: f64,
    pub beta_ln_range: f64,
    pub average_share: f64,
    pub meta_warmup: u64,
}

impl From<&Options> for Settings {
    fn from(options: &Options) -> Self {
        let ln = |range: f64| if range > 0.0 { math::ln(range) } else { 0.0 };
        Self {
            total_steps: options.total_steps,
            alpha_range: options.alpha_range,
            beta_range: options.beta_range,
            max_grad_norm: options.max_grad_norm,
            propagate: (options.nonfinite == NonFinite::Propagate).into(),
            alpha_ln_range: ln(options.alpha_log_range),
            beta_ln_range: ln(options.beta_log_range),
            average_share: options.average_share(),
            meta_warmup: options.meta_warmup,
        }
    }
}

/// `NOT_SKIPPED`: behind the reasons of [`Skip`].
const NOT_SKIPPED: u64 = 5;
/// `NO_TENSOR`.
const NO_TENSOR: u64 = u32::MAX as u64;

fn skip(reason: u64) -> Option<Skip> {
    [Skip::Gradient, Skip::Parameter, Skip::Moment, Skip::Feature, Skip::Factor].get(reason as usize).copied()
}

fn tensor(index: u64) -> Option<usize> {
    (index != NO_TENSOR).then_some(index as usize)
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct State {
    pub steps: u64,
    pub skips: [u64; 5],
    last_reason: u64,
    last_tensor: u64,
    last_steps: u64,
    pub decided: u64,
    pub sums_current: u32,
    pub features_known: u32,
    pub apply: u32,
    pub slots_have_momentum: u32,
    pub horizon_steps: u64,
    pub failures: u64,
    failure: u64,
    failure_tensor: u64,
    processes: f64,
    pub sums_kept: u64,
    agreed: [u64; 5],
}

impl State {
    /// Why the last step was not made that processes did not agree on.
    pub fn failure(&self) -> Failure {
        Failure { count: self.failures, code: self.failure, tensor: self.failure_tensor, processes: self.processes }
    }

    /// Why the last skipped step was skipped, the tensor to blame, applied steps then.
    pub fn last_skip(&self) -> Option<(Skip, Option<usize>, u64)> {
        skip(self.last_reason).map(|reason| (reason, tensor(self.last_tensor), self.last_steps))
    }

    pub fn set_last_skip(&mut self, last: Option<(Skip, Option<usize>, u64)>) {
        self.last_reason = last.map_or(NOT_SKIPPED, |(reason, ..)| reason as u64);
        self.last_tensor = last.and_then(|(_, tensor, _)| tensor).map_or(NO_TENSOR, |i| i as u64);
        self.last_steps = last.map_or(0, |(.., steps)| steps);
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Report {
    pub begun: u64,
    pub steps: u64,
    pub skipped_steps: u64,
    pub grad_norm: f64,
    pub clip: f64,
    reason: u64,
    tensor: u64,
    failures: u64,
    failure: u64,
    failure_tensor: u64,
    processes: f64,
    pub done: u64,
}

/// Of steps that were not made since the processes do not agree.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// How many there were.
    pub count: u64,
    code: u64,
    tensor: u64,
    processes: f64,
}

impl Failure {
    /// The last one's.
    pub fn error(self, all_reduce: &AllReduce, name: impl FnOnce(usize) -> String) -> ReductionError {
        match self.code {
            1 => all_reduce.no_sum(self.processes),
            2 => ReductionError::Refused,
            8 => ReductionError::NotFinite,
            9 => ReductionError::Gradient { name: name(self.tensor as usize) },
            differs => backend::differ(differs.saturating_sub(3) as usize),
        }
    }
}

/// What this process brings to a reduction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Agreement {
    pub hashes: [u64; 5],
    pub device_scale: Address,
    pub found_inf: Address,
    pub of_device: u64,
    pub refuses: u64,
}

impl From<&backend::Agreement> for Agreement {
    fn from(agreement: &backend::Agreement) -> Self {
        Self { hashes: agreement.hashes(), ..Self::zeroed() }
    }
}

impl Report {
    /// Why the last step was not made that processes did not agree on.
    pub fn failure(&self) -> Failure {
        Failure { count: self.failures, code: self.failure, tensor: self.failure_tensor, processes: self.processes }
    }

    pub fn skipped(&self) -> Option<Skip> {
        skip(self.reason)
    }

    pub fn tensor(&self) -> Option<usize> {
        tensor(self.tensor)
    }
}

pub fn gradient_sums(totals: &[f64]) -> GradientSums {
    GradientSums { square: totals[0], with_momentum: totals[1], zeros: totals[2] }
}

pub fn state_sums(totals: &[f64]) -> StateSums {
    StateSums { param: totals[0], exp_avg: totals[1], exp_avg_sq: totals[2], exp_avg_zeros: totals[3] }
}

/// The argument of every kernel, a table of addresses and sizes. It mirrors `World`, whose name is part of the PTX.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct KernelArguments {
    pub tensors: Address,
    pub params: Address,
    pub grads: Address,
    pub fixed_features: Address,
    pub keys: Address,
    pub master_initialized: Address,
    pub init_master: Address,
    pub steps: Address,
    pub coefficients: Address,
    pub last_gradients: Address,
    pub gradient_totals: Address,
    pub state_totals: Address,
    pub statistics: Address,
    pub chunk_tensor: Address,
    pub gradient_slots: Address,
    pub state_slots: Address,
    pub hyper: Address,
    pub group_first: Address,
    pub group_tensors: Address,
    pub features: Address,
    pub factors: Address,
    pub next_features: Address,
    pub next_factors: Address,
    pub phi: Address,
    pub scratch: Address,
    pub settings: Address,
    pub state: Address,
    pub report: Address,
    pub tensor_count: u32,
    pub chunk_count: u32,
    pub chunk_size: u32,
    pub group_count: u32,
    pub dim: u32,
    pub heads: u32,
    pub layers: u32,
    pub hidden: u32,
    pub embed_dim: u32,
    pub gates: u32,
    pub version: u32,
    pub basic_columns: u32,
    pub include_time: u32,
    pub statistical_columns: u32,
    pub modulation: u32,
    pub count_zeros: u32,
    pub reference: u32,
    pub average_dtype: u32,
    pub overwritten: Address,
    pub averages: Address,
    pub average_initialized: Address,
    pub init_average: Address,
    pub displacement_slots: Address,
    pub displacement_totals: Address,
    pub horizon_sums: Address,
    pub all_gradient_sums: Address,
    pub all_state_sums: Address,
    pub reduction: Address,
    pub votes: Address,
    pub kept_state_slots: Address,
    pub owners: Address,
    pub processes: Address,
    pub phi_len: u32,
    pub all_chunks: u32,
}

/// Elements of a chunk, for a model of so many: few enough chunks that one block adds their sums in some microseconds,
/// and enough of them to fill a device. It depends on nothing but the model, and so do the bits of a sum. (Processes that
/// share a model also have no chunk that is larger than what they cut at.)
pub fn chunk_size(elements: usize) -> usize {
    const CHUNKS: usize = 1 << 14;
    elements.div_ceil(CHUNKS).next_power_of_two().clamp(1 << 12, 1 << 22)
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TrialStep {
    /// `TrialKind`.
    pub kind: u64,
    pub coefficients: Coefficients,
}

impl From<&backend::TrialStep> for TrialStep {
    fn from(trial: &backend::TrialStep) -> Self {
        match trial {
            // Computed with and not used: nothing may become a NaN.
            backend::TrialStep::None => {
                Self { kind: 0, coefficients: Coefficients { eps: 1.0, ..Coefficients::default() } }
            }
            backend::TrialStep::Gradient(c) => Self { kind: 1, coefficients: c.into() },
            backend::TrialStep::Moments(c) => Self { kind: 2, coefficients: c.into() },
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Direction {
    pub train2: f64,
    pub train1: f64,
}

impl From<&backend::Direction> for Direction {
    fn from(direction: &backend::Direction) -> Self {
        Self { train2: direction.train2, train1: direction.train1 }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MetaArguments {
    pub saved_params: Address,
    pub gradients: [Address; 2],
    pub trials: Address,
    pub directions: Address,
}
