//! The rest of `Handle`: saving, loading, the dump, one tensor's state.

use super::device::Copies;
use super::handle::{Handle, Outcome, Spec, checked, text};
use super::tensor::Tensor;
use metaadamw::ffi::*;
use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// Moments and step count of one tensor.
#[derive(Clone, Debug)]
pub struct State {
    pub exp_avg: Tensor,
    pub exp_avg_sq: Tensor,
    pub step: u64,
}

impl State {
    pub fn bits(&self) -> (Vec<u64>, Vec<u64>, u64) {
        (self.exp_avg.bits(), self.exp_avg_sq.bits(), self.step)
    }
}

/// Bytes that the library made, copied and freed.
fn taken(
    function: &str,
    call: impl FnOnce(*mut *mut maw_bytes, *mut *mut maw_error) -> maw_status,
) -> Outcome<Vec<u8>> {
    let mut bytes = ptr::null_mut();
    checked(function, |error| call(&raw mut bytes, error))?;
    // SAFETY: the call succeeded, so `bytes` is an object that we own, with as many bytes as it says.
    unsafe {
        let copy = std::slice::from_raw_parts(maw_bytes_data(bytes), maw_bytes_size(bytes)).to_vec();
        maw_bytes_free(bytes);
        Ok(copy)
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL in a test's path")
}

impl Handle {
    /// Names that the last load tells of: missing and unexpected tensors, missing and unexpected groups.
    pub fn load_report(&self) -> [Vec<String>; 4] {
        let which = [
            MAW_LOAD_MISSING_TENSORS,
            MAW_LOAD_UNEXPECTED_TENSORS,
            MAW_LOAD_MISSING_GROUPS,
            MAW_LOAD_UNEXPECTED_GROUPS,
        ];
        which.map(|which| {
            let mut count = 0;
            checked("maw_load_report_count", |error| {
                // SAFETY: the handle and the output are valid.
                unsafe { maw_load_report_count(self.raw(), which, &raw mut count, error) }
            })
            .expect("a known list");
            let name = |index| {
                let mut name = ptr::null();
                checked("maw_load_report_name", |error| {
                    // SAFETY: as above.
                    unsafe { maw_load_report_name(self.raw(), which, index, &raw mut name, error) }
                })
                .expect("a name of the list");
                // SAFETY: the library lent it, and nothing is called before it is copied.
                unsafe { text(name) }
            };
            (0..count).map(name).collect()
        })
    }

    pub fn save_file(&mut self, path: &Path, flags: u32) -> Outcome<()> {
        let path = c_path(path);
        // SAFETY: the handle and the path are valid.
        checked("maw_save_file", |error| unsafe { maw_save_file(self.raw(), path.as_ptr(), flags, error) })
    }

    pub fn load_file(&mut self, path: &Path, flags: u32) -> Outcome<()> {
        let path = c_path(path);
        // SAFETY: the handle and the path are valid.
        checked("maw_load_file", |error| unsafe { maw_load_file(self.raw(), path.as_ptr(), flags, error) })
    }

    pub fn save_bytes(&mut self, flags: u32) -> Outcome<Vec<u8>> {
        // SAFETY: `taken` hands over valid pointers.
        taken("maw_save_bytes", |bytes, error| unsafe { maw_save_bytes(self.raw(), flags, bytes, error) })
    }

    pub fn load_bytes(&mut self, bytes: &[u8], flags: u32) -> Outcome<()> {
        // SAFETY: the pointer is to as many bytes as are passed.
        checked("maw_load_bytes", |error| unsafe {
            maw_load_bytes(self.raw(), bytes.as_ptr(), bytes.len(), flags, error)
        })
    }

    /// The dump, as text.
    pub fn dump(&mut self) -> Outcome<String> {
        // SAFETY: `taken` hands over valid pointers.
        let json = taken("maw_dump_state", |json, error| unsafe { maw_dump_state(self.raw(), json, error) })?;
        Ok(String::from_utf8(json).expect("JSON is UTF-8"))
    }

    /// The dump, parsed.
    pub fn dumped(&mut self) -> serde_json::Value {
        let text = self.dump().expect("a dump");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    pub fn tensor_state(&mut self, tensor: usize, spec: &Spec) -> Outcome<State> {
        let dtype = if spec.dtype == MAW_FLOAT64 { MAW_FLOAT64 } else { MAW_FLOAT32 };
        let zeros = Tensor::new(dtype, &vec![f64::NAN; spec.len()]);
        let mut state = State { exp_avg: zeros.clone(), exp_avg_sq: zeros, step: u64::MAX };
        let (m, v) = (state.exp_avg.pointer_mut(), state.exp_avg_sq.pointer_mut());
        // SAFETY: as many elements of the state's dtype as are passed.
        checked("maw_tensor_state_get", |error| unsafe {
            maw_tensor_state_get(self.raw(), tensor, m, v, spec.len(), &raw mut state.step, error)
        })?;
        Ok(state)
    }

    /// The average of a tensor, whose parameter is like `like`.
    pub fn average(&mut self, tensor: usize, like: &Tensor) -> Outcome<Tensor> {
        let dtype = if like.dtype() == MAW_FLOAT64 { MAW_FLOAT64 } else { MAW_FLOAT32 };
        let mut values = Tensor::new(dtype, &vec![f64::NAN; like.len()]);
        let out = values.pointer_mut();
        // SAFETY: as many elements of the average's dtype as are passed.
        checked("maw_average_get", |error| unsafe { maw_average_get(self.raw(), tensor, out, like.len(), error) })?;
        Ok(values)
    }

    /// Writes the averages into the parameters, or these back.
    pub fn swap_averages(&mut self, params: &mut [Tensor]) -> Outcome<()> {
        let copies = Copies::new(self.copies.on_device);
        let pointers = copies.params(params)?;
        // SAFETY: as many parameters as are passed, of the registered sizes (the test's business).
        checked("maw_average_swap", |error| unsafe {
            maw_average_swap(self.raw(), pointers.as_ptr(), pointers.len(), error)
        })?;
        copies.fetch(params)
    }

    pub fn set_tensor_state(&mut self, tensor: usize, state: &State) -> Outcome<()> {
        let (m, v): (*const c_void, *const c_void) = (state.exp_avg.pointer(), state.exp_avg_sq.pointer());
        // SAFETY: as many elements of the tensor's dtype as are passed (the test's business).
        checked("maw_tensor_state_set", |error| unsafe {
            maw_tensor_state_set(self.raw(), tensor, m, v, state.exp_avg.len(), state.step, error)
        })
    }

    /// Both moments from wherever these values are, after one step.
    pub fn set_moments_at(&mut self, tensor: usize, values: *const c_void, count: usize) -> Outcome<()> {
        // SAFETY: as many elements of the tensor's dtype as are passed (the test's business).
        checked("maw_tensor_state_set", |error| unsafe {
            maw_tensor_state_set(self.raw(), tensor, values, values, count, 1, error)
        })
    }

    /// The float32 masters of a tensor whose parameter is `param`.
    pub fn masters(&mut self, tensor: usize, param: &Tensor) -> Outcome<Vec<f32>> {
        let mut values = vec![f32::NAN; param.len()];
        let out = values.as_mut_ptr();
        let copies = Copies::new(self.copies.on_device);
        let mut one = [param.clone()];
        let at = copies.params(&mut one)?[0].cast_const();
        // SAFETY: as many elements as are passed, of the parameter and of the values.
        checked("maw_master_get", |error| unsafe { maw_master_get(self.raw(), tensor, at, out, param.len(), error) })?;
        Ok(values)
    }

    /// Sets the masters of a tensor and writes them, rounded, to the parameter.
    pub fn set_masters(&mut self, tensor: usize, values: &[f32], param: &mut Tensor) -> Outcome<()> {
        let copies = Copies::new(self.copies.on_device);
        let one = std::slice::from_mut(param);
        let out = copies.params(one)?[0];
        // SAFETY: as many values as are passed, and a parameter of as many elements (the test's business).
        checked("maw_master_set", |error| unsafe {
            maw_master_set(self.raw(), tensor, values.as_ptr(), out, values.len(), error)
        })?;
        copies.fetch(one)
    }
}
