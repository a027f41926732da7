//! Memory that the library owns beside the host's: moments, and copies during a meta-update.

use std::ffi::c_void;

use crate::config::DType;
use crate::error::{Error, Result};
use crate::groups::Tensor;

/// Elements of one tensor.
#[derive(Debug)]
enum Elements {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// One buffer a tensor, in its dtype. The buffers never move.
#[derive(Debug)]
pub struct Storage {
    elements: Vec<Elements>,
    pointers: Vec<*mut c_void>,
}

#[allow(unsafe_code, reason = "raw pointers are not Send by themselves")]
// SAFETY: the pointers lead into `elements`, which this struct owns and which may move between threads.
unsafe impl Send for Storage {}

impl Storage {
    /// Zeros for every tensor.
    ///
    /// # Errors
    /// [`crate::error::Error::OutOfMemory`].
    pub fn zeros(tensors: &[Tensor]) -> Result<Self> {
        let mut elements = tensors.iter().map(|t| zeros(t.spec.dtype, t.numel)).collect::<Result<Vec<_>>>()?;
        let pointers = elements
            .iter_mut()
            .map(|e| match e {
                Elements::F32(v) => v.as_mut_ptr().cast(),
                Elements::F64(v) => v.as_mut_ptr().cast(),
            })
            .collect();
        Ok(Self { elements, pointers })
    }

    /// First element of a tensor's buffer.
    pub fn pointer(&self, tensor: usize) -> *mut c_void {
        self.pointers[tensor]
    }

    /// First elements of all buffers.
    pub fn pointers(&self) -> &[*mut c_void] {
        &self.pointers
    }

    /// A tensor's elements as bytes.
    pub fn bytes(&self, tensor: usize) -> &[u8] {
        match &self.elements[tensor] {
            Elements::F32(v) => bytemuck::cast_slice(v),
            Elements::F64(v) => bytemuck::cast_slice(v),
        }
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self, tensor: usize) -> &mut [u8] {
        match &mut self.elements[tensor] {
            Elements::F32(v) => bytemuck::cast_slice_mut(v),
            Elements::F64(v) => bytemuck::cast_slice_mut(v),
        }
    }

    /// All zeros again.
    pub fn clear(&mut self) {
        for elements in &mut self.elements {
            match elements {
                Elements::F32(v) => v.fill(0.0),
                Elements::F64(v) => v.fill(0.0),
            }
        }
    }
}

/// Zeroed by the system, page by page when they are first touched.
fn zeros(dtype: DType, len: usize) -> Result<Elements> {
    let zeroed = match dtype {
        DType::F32 => bytemuck::allocation::try_zeroed_vec(len).map(Elements::F32),
        DType::F64 => bytemuck::allocation::try_zeroed_vec(len).map(Elements::F64),
    };
    zeroed.map_err(|()| Error::OutOfMemory)
}
