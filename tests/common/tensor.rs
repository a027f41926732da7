//! A tensor of the host: its elements in one of the four dtypes, and its exact bits.

use half::slice::HalfFloatSliceExt;
use metaadamw::ffi::{MAW_BFLOAT16, MAW_FLOAT16, MAW_FLOAT32, MAW_FLOAT64};
use std::ffi::c_void;

#[derive(Clone, Debug)]
pub enum Tensor {
    F32(Vec<f32>),
    F64(Vec<f64>),
    BF16(Vec<half::bf16>),
    F16(Vec<half::f16>),
}

/// `$call` with the vector of elements.
macro_rules! each {
    ($tensor:expr, $values:ident => $call:expr) => {
        match $tensor {
            Tensor::F32($values) => $call,
            Tensor::F64($values) => $call,
            Tensor::BF16($values) => $call,
            Tensor::F16($values) => $call,
        }
    };
}

impl Tensor {
    /// The values, rounded to `dtype` (`MAW_FLOAT32` …); to 16 bits by way of float32.
    pub fn new(dtype: i32, values: &[f64]) -> Self {
        match dtype {
            MAW_FLOAT32 => Self::F32(values.iter().map(|&x| x as f32).collect()),
            MAW_FLOAT64 => Self::F64(values.to_vec()),
            MAW_BFLOAT16 => Self::BF16(values.iter().map(|&x| half::bf16::from_f32(x as f32)).collect()),
            MAW_FLOAT16 => Self::F16(values.iter().map(|&x| half::f16::from_f32(x as f32)).collect()),
            other => panic!("no host tensor has dtype {other}"),
        }
    }

    pub fn dtype(&self) -> i32 {
        match self {
            Self::F32(_) => MAW_FLOAT32,
            Self::F64(_) => MAW_FLOAT64,
            Self::BF16(_) => MAW_BFLOAT16,
            Self::F16(_) => MAW_FLOAT16,
        }
    }

    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// The values, widened to f64.
    pub fn values(&self) -> Vec<f64> {
        match self {
            Self::F64(values) => values.clone(),
            Self::F32(values) => values.iter().map(|&x| f64::from(x)).collect(),
            Self::BF16(values) => values.iter().map(|&x| f64::from(x)).collect(),
            Self::F16(values) => values.iter().map(|&x| f64::from(x)).collect(),
        }
    }

    pub fn set(&mut self, index: usize, value: f64) {
        match self {
            Self::F32(values) => values[index] = value as f32,
            Self::F64(values) => values[index] = value,
            Self::BF16(values) => values[index] = half::bf16::from_f64(value),
            Self::F16(values) => values[index] = half::f16::from_f64(value),
        }
    }

    /// Every element multiplied by `factor`.
    pub fn scaled(&self, factor: f64) -> Self {
        let values: Vec<f64> = self.values().iter().map(|x| x * factor).collect();
        Self::new(self.dtype(), &values)
    }

    pub fn bits(&self) -> Vec<u64> {
        match self {
            Self::F32(values) => values.iter().map(|x| u64::from(x.to_bits())).collect(),
            Self::F64(values) => values.iter().map(|x| x.to_bits()).collect(),
            Self::BF16(values) => values.iter().map(|x| u64::from(x.to_bits())).collect(),
            Self::F16(values) => values.iter().map(|x| u64::from(x.to_bits())).collect(),
        }
    }

    /// The elements as they lie in memory.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F64(values) => bytemuck::cast_slice(values),
            Self::BF16(values) => bytemuck::cast_slice(values.reinterpret_cast()),
            Self::F16(values) => bytemuck::cast_slice(values.reinterpret_cast()),
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice_mut(values),
            Self::F64(values) => bytemuck::cast_slice_mut(values),
            Self::BF16(values) => bytemuck::cast_slice_mut(values.reinterpret_cast_mut()),
            Self::F16(values) => bytemuck::cast_slice_mut(values.reinterpret_cast_mut()),
        }
    }

    pub fn pointer(&self) -> *const c_void {
        each!(self, values => values.as_ptr().cast())
    }

    pub fn pointer_mut(&mut self) -> *mut c_void {
        each!(self, values => values.as_mut_ptr().cast())
    }
}

/// The bits of several tensors, to be compared as a whole.
pub fn bits(tensors: &[Tensor]) -> Vec<Vec<u64>> {
    tensors.iter().map(Tensor::bits).collect()
}

/// The bits of plain numbers.
pub fn float_bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|x| x.to_bits()).collect()
}
