//! A small model with three fixed batches, for tests that need a training run but no expected numbers.

use super::calls::{Answer, Factors};
use super::handle::{Handle, Outcome, Spec, options, param_group};
use super::loss::Loss;
use super::tensor::{Tensor, bits, float_bits};
use metaadamw::ffi::*;

/// SplitMix64: pseudorandom numbers, the same on every platform.
pub struct Random(pub u64);

impl Random {
    /// Uniform in −1 … 1.
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    pub fn values(&mut self, count: usize, size: f64) -> Vec<f64> {
        (0..count).map(|_| size * self.next()).collect()
    }
}

pub struct Toy {
    pub specs: Vec<Spec>,
    /// Initial parameters.
    pub start: Vec<Tensor>,
    /// B1, B2, validation.
    losses: [Loss; 3],
}

/// Everything observable of a run, as bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub params: Vec<Vec<u64>>,
    pub features: Vec<u64>,
    pub factors: [Vec<u64>; 4],
    pub phi: Vec<(String, Vec<u64>)>,
}

pub fn factor_bits(factors: &Factors) -> [Vec<u64>; 4] {
    [&factors.alpha, &factors.beta, &factors.lambda1, &factors.lambda2].map(|values| float_bits(values))
}

pub fn phi_bits(handle: &Handle) -> Vec<(String, Vec<u64>)> {
    let phi = handle.phi().expect("Φ can be read");
    phi.into_iter().map(|(name, values)| (name, float_bits(&values))).collect()
}

/// Options for a small attention module.
pub fn small_options() -> maw_options {
    maw_options { attn_layers: 2, attn_hidden_dim: 8, total_steps: 100, meta_lr: 0.05, seed: 7, ..options() }
}

/// The same, with an attention module that learns from steps alone.
pub fn horizon_options() -> maw_options {
    maw_options {
        objective: MAW_OBJECTIVE_HORIZON,
        horizon: 5,
        meta_optimizer: MAW_META_ADAMW,
        meta_interval: 3,
        meta_warmup: 1,
        meta_lr: 0.02,
        feature_version: MAW_FEATURES_NORM_LOG,
        alpha_log_range: 4.0,
        ..small_options()
    }
}

impl Toy {
    /// Two layers with head and embedding in both dtypes.
    pub fn small() -> Self {
        let specs = vec![
            Spec::new("embed.weight", &[5, 3], MAW_FLOAT32),
            Spec::new("layers.0.attn.weight", &[3, 3], MAW_FLOAT64),
            Spec::new("layers.0.attn.bias", &[3], MAW_FLOAT32),
            Spec::new("layers.1.mlp.weight", &[2, 3], MAW_FLOAT32),
            Spec::new("layers.1.mlp.bias", &[2], MAW_FLOAT64),
            Spec::new("head", &[], MAW_FLOAT64),
        ];
        Self::new(specs, 6)
    }

    pub fn new(specs: Vec<Spec>, rows: usize) -> Self {
        let mut random = Random(1);
        let start = specs.iter().map(|s| Tensor::new(s.dtype, &random.values(s.len(), 0.5))).collect();
        let columns: usize = specs.iter().map(Spec::len).sum();
        let losses = std::array::from_fn(|_| Loss {
            a: random.values(rows * columns, 1.0 / (columns as f64).sqrt()),
            y: random.values(rows, 2.0),
            ..Loss::default()
        });
        Self { specs, start, losses }
    }

    /// Registered and prepared, with one param group.
    pub fn handle(&self, options: &maw_options) -> Handle {
        let mut handle = Handle::new(options).expect("the options are good");
        let group = maw_param_group { lr: 0.02, weight_decay: 0.1, ..param_group() };
        handle.add(&group, &self.specs).expect("the tensors are good");
        handle.prepare().expect("all is registered");
        handle
    }

    fn loss(&self, batch: i32) -> &Loss {
        match batch {
            MAW_BATCH_TRAIN_1 => &self.losses[0],
            MAW_BATCH_TRAIN_2 => &self.losses[1],
            MAW_BATCH_VALIDATION => &self.losses[2],
            other => panic!("no batch {other}"),
        }
    }

    /// The training gradient of step `step`: the two training batches take turns, and now and then a tensor has none.
    pub fn gradients(&self, step: usize, params: &[Tensor]) -> Vec<Option<Tensor>> {
        let batch = if step.is_multiple_of(2) { MAW_BATCH_TRAIN_1 } else { MAW_BATCH_TRAIN_2 };
        let (_, mut grads) = self.loss(batch).evaluate(params);
        let count = grads.len();
        if step % 3 == 2 {
            grads[step % count] = None;
        }
        grads
    }

    /// `steps` training steps, the first of which has number `first`.
    pub fn train(&self, handle: &mut Handle, params: &mut [Tensor], first: usize, steps: usize) {
        for step in first..first + steps {
            let grads = self.gradients(step, params);
            let report = handle.step(params, &grads).expect("a training step");
            assert_eq!(report.skipped, 0, "step {step} was skipped: {report:?}");
        }
    }

    /// The answer of a correct host.
    pub fn answer(&self, request: &maw_meta_request, params: &[Tensor]) -> Answer {
        let (loss, grads) = self.loss(request.batch).evaluate(params);
        if request.kind == MAW_META_LOSS { Answer::loss(loss) } else { Answer::gradient((loss, grads)) }
    }

    pub fn meta_update(&self, handle: &mut Handle, params: &mut [Tensor]) -> Outcome<maw_meta_result> {
        let before = bits(params);
        let result = handle.meta_update(params, |request, params| self.answer(request, params));
        assert_eq!(bits(params), before, "a meta-update puts θ back bit for bit");
        result
    }
}

pub fn snapshot(handle: &Handle, params: &[Tensor]) -> Snapshot {
    Snapshot {
        params: bits(params),
        features: float_bits(&handle.features().expect("a step was made")),
        factors: factor_bits(&handle.factors().expect("a step was made")),
        phi: phi_bits(handle),
    }
}
