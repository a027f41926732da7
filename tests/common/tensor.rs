//! A tensor of the host: its elements in one of the two dtypes, and its exact bits.

use metaadamw::ffi::{MAW_FLOAT32, MAW_FLOAT64};
use std::ffi::c_void;

#[derive(Clone, Debug)]
pub enum Tensor {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Tensor {
    /// The values, rounded to `dtype` (`MAW_FLOAT32` or `MAW_FLOAT64`).
    pub fn new(dtype: i32, values: &[f64]) -> Self {
        match dtype {
            MAW_FLOAT32 => Self::F32(values.iter().map(|&x| x as f32).collect()),
            MAW_FLOAT64 => Self::F64(values.to_vec()),
            other => panic!("no host tensor has dtype {other}"),
        }
    }

    pub fn dtype(&self) -> i32 {
        match self {
            Self::F32(_) => MAW_FLOAT32,
            Self::F64(_) => MAW_FLOAT64,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// The values, widened to f64.
    pub fn values(&self) -> Vec<f64> {
        match self {
            Self::F32(values) => values.iter().map(|&x| f64::from(x)).collect(),
            Self::F64(values) => values.clone(),
        }
    }

    pub fn set(&mut self, index: usize, value: f64) {
        match self {
            Self::F32(values) => values[index] = value as f32,
            Self::F64(values) => values[index] = value,
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
        }
    }

    /// The elements as they lie in memory.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F64(values) => bytemuck::cast_slice(values),
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice_mut(values),
            Self::F64(values) => bytemuck::cast_slice_mut(values),
        }
    }

    pub fn pointer(&self) -> *const c_void {
        match self {
            Self::F32(values) => values.as_ptr().cast(),
            Self::F64(values) => values.as_ptr().cast(),
        }
    }

    pub fn pointer_mut(&mut self) -> *mut c_void {
        match self {
            Self::F32(values) => values.as_mut_ptr().cast(),
            Self::F64(values) => values.as_mut_ptr().cast(),
        }
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
