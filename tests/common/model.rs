//! A model of one dtype for tests of 16-bit training, with gradients from a fixed stream of numbers.

use super::calls::Factors;
use super::handle::{Handle, Spec, param_group};
use super::saved::State;
use super::tensor::{Tensor, float_bits};
use super::toy::{Random, factor_bits, small_options};
use metaadamw::ffi::*;

/// Lengths that no vector width divides; the last has several chunks.
pub const SHAPES: [(&str, &[u64]); 4] = [
    ("embed.weight", &[37, 3]),
    ("layers.0.attn.weight", &[5, 5]),
    ("layers.0.attn.bias", &[1]),
    ("head.weight", &[511, 130]),
];

/// A model of one dtype with gradients from a fixed stream of numbers, so that errors are not amplified.
#[derive(Clone)]
pub struct Model {
    pub dtype: i32,
    pub grad_dtype: i32,
    pub options: maw_options,
    pub group: maw_param_group,
    /// Elements of a tensor that are used; 0 = all.
    pub most: u64,
}

impl Model {
    pub fn new(dtype: i32, grad_dtype: i32, precision: i32) -> Self {
        let group = maw_param_group { lr: 0.01, weight_decay: 0.1, precision, ..param_group() };
        Self { dtype, grad_dtype, options: small_options(), group, most: 0 }
    }

    /// The same in float32, with gradients of float32.
    pub fn in_float32(&self) -> Self {
        let group = maw_param_group { precision: MAW_PRECISION_NEAREST, ..self.group };
        Self { dtype: MAW_FLOAT32, grad_dtype: MAW_FLOAT32, group, ..self.clone() }
    }

    pub fn specs(&self) -> Vec<Spec> {
        let shape = |shape: &[u64]| -> Vec<u64> {
            if self.most == 0 { shape.to_vec() } else { vec![shape.iter().product::<u64>().min(self.most)] }
        };
        let spec = |(name, s): &(&str, &[u64])| Spec::new(name, &shape(s), self.dtype).with_gradient(self.grad_dtype);
        SHAPES.iter().map(spec).collect()
    }

    pub fn handle(&self) -> Handle {
        let mut handle = Handle::new(&self.options).expect("the options are good");
        handle.add(&self.group, &self.specs()).expect("the tensors are good");
        handle.prepare().expect("all is registered");
        handle
    }

    pub fn start(&self) -> Vec<Tensor> {
        let mut random = Random(1);
        self.specs().iter().map(|s| Tensor::new(self.dtype, &random.values(s.len(), 0.5))).collect()
    }

    /// Of a step; sometimes one is missing.
    pub fn gradients(&self, step: usize) -> Vec<Option<Tensor>> {
        let mut random = Random(1000 + step as u64);
        let specs = self.specs();
        let one = |(i, spec): (usize, &Spec)| {
            let values: Vec<f64> = random.values(spec.len(), 0.3).iter().map(|x| x + 0.02).collect();
            (step % 5 != 4 || i != step % specs.len()).then(|| Tensor::new(self.grad_dtype, &values))
        };
        specs.iter().enumerate().map(one).collect()
    }

    /// `steps` steps from the first on.
    pub fn train(&self, handle: &mut Handle, params: &mut [Tensor], steps: std::ops::Range<usize>) {
        for step in steps {
            let report = handle.step(params, &self.gradients(step)).expect("a step");
            assert_eq!(report.skipped, 0, "step {step}: {report:?}");
        }
    }

    pub fn states(&self, handle: &mut Handle) -> Vec<State> {
        let specs = self.specs();
        (0..specs.len()).map(|i| handle.tensor_state(i, &specs[i]).expect("a tensor")).collect()
    }

    pub fn state_bits(&self, handle: &mut Handle) -> Vec<(Vec<u64>, Vec<u64>, u64)> {
        self.states(handle).iter().map(State::bits).collect()
    }

    pub fn masters(&self, handle: &mut Handle, params: &[Tensor]) -> Vec<Vec<f32>> {
        params.iter().enumerate().map(|(i, param)| handle.masters(i, param).expect("a master")).collect()
    }
}

pub fn widened(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|t| Tensor::new(MAW_FLOAT32, &t.values())).collect()
}

pub fn rounded(dtype: i32, tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|t| Tensor::new(dtype, &t.values())).collect()
}

pub fn f32_bits(masters: &[Vec<f32>]) -> Vec<Vec<u64>> {
    masters.iter().map(|values| values.iter().map(|x| u64::from(x.to_bits())).collect()).collect()
}

/// Features and factors as bits.
pub fn seen(handle: &Handle) -> (Vec<u64>, [Vec<u64>; 4]) {
    let factors: Factors = handle.factors().expect("a step was made");
    (float_bits(&handle.features().expect("a step was made")), factor_bits(&factors))
}

pub const HALVES: [i32; 2] = [MAW_BFLOAT16, MAW_FLOAT16];
pub const DTYPES: [i32; 4] = [MAW_FLOAT32, MAW_FLOAT64, MAW_BFLOAT16, MAW_FLOAT16];
pub const PRECISIONS: [(i32, i32); 7] = [
    (MAW_BFLOAT16, MAW_PRECISION_NEAREST),
    (MAW_FLOAT16, MAW_PRECISION_NEAREST),
    (MAW_BFLOAT16, MAW_PRECISION_MASTER),
    (MAW_FLOAT16, MAW_PRECISION_MASTER),
    (MAW_BFLOAT16, MAW_PRECISION_REMAINDER),
    (MAW_BFLOAT16, MAW_PRECISION_STOCHASTIC),
    (MAW_FLOAT16, MAW_PRECISION_STOCHASTIC),
];

pub fn all_models() -> Vec<Model> {
    let mut models = Vec::new();
    for (dtype, precision) in PRECISIONS {
        for (moment_dtype, grad_dtype) in [(0, dtype), (MAW_BFLOAT16, MAW_FLOAT32)] {
            let mut model = Model::new(dtype, grad_dtype, precision);
            model.group.moment_dtype = moment_dtype;
            model.options = maw_options {
                feature_version: MAW_FEATURES_ENHANCED,
                semantics: MAW_REFERENCE,
                attn_heads: 1,
                ..model.options
            };
            models.push(model);
        }
    }
    // Without counted zeros and without `reference`, whole tiles of bfloat16 have a specialized kernel.
    for (dtype, precision) in PRECISIONS.into_iter().filter(|(dtype, _)| *dtype == MAW_BFLOAT16) {
        for moment_dtype in [0, MAW_BFLOAT16] {
            let mut model = Model::new(dtype, dtype, precision);
            model.group.moment_dtype = moment_dtype;
            models.push(model);
        }
    }
    // With a β below ½ the formulas for 32 bits are used.
    for moment_dtype in [0, MAW_BFLOAT16] {
        let mut fast = Model::new(MAW_BFLOAT16, MAW_BFLOAT16, MAW_PRECISION_MASTER);
        fast.group = maw_param_group { beta1: 0.4, moment_dtype, ..fast.group };
        models.push(fast);
    }
    let mut wide = Model::new(MAW_FLOAT32, MAW_BFLOAT16, MAW_PRECISION_NEAREST);
    wide.group.moment_dtype = MAW_BFLOAT16;
    models.push(wide);
    models
}

impl Tensor {
    /// The values, multiplied in f64.
    pub fn scaled_values(&self, factor: f64) -> Vec<f64> {
        self.values().iter().map(|x| x * factor).collect()
    }
}

impl Model {
    pub fn masters_or_none(&self, handle: &mut Handle, params: &[Tensor]) -> Vec<Option<Vec<u32>>> {
        let bits = |values: Vec<f32>| values.iter().map(|x| x.to_bits()).collect();
        params.iter().enumerate().map(|(i, p)| handle.masters(i, p).ok().map(bits)).collect()
    }
}
