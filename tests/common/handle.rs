//! `Handle`: a `maw_optimizer` that frees itself, and safe calls to register, step and set.

use super::device::{Copies, is_cuda};
use super::statuses;
use super::tensor::Tensor;
use metaadamw::ffi::*;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// Status and message of a failed call.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub status: i32,
    pub message: String,
}

pub type Outcome<T> = Result<T, Failure>;

macro_rules! initialised {
    ($($name:ident -> $type:ident by $init:ident),* $(,)?) => { $(
        /// The struct as its `maw_…_init` fills it.
        pub fn $name() -> $type {
            let mut value = MaybeUninit::<$type>::uninit();
            // SAFETY: the pointer is to memory of the size that is passed.
            let status = unsafe { $init(value.as_mut_ptr(), size_of::<$type>()) };
            assert_eq!(status, MAW_OK, "{}", stringify!($init));
            // SAFETY: the call succeeded, so it wrote every field.
            unsafe { value.assume_init() }
        }
    )* };
}

initialised! {
    default_options -> maw_options by maw_options_init,
    param_group -> maw_param_group by maw_param_group_init,
    tensor -> maw_tensor by maw_tensor_init,
    step_options -> maw_step_options by maw_step_options_init,
    step_report -> maw_step_report by maw_step_report_init,
    meta_request -> maw_meta_request by maw_meta_request_init,
    meta_answer -> maw_meta_answer by maw_meta_answer_init,
    meta_result -> maw_meta_result by maw_meta_result_init,
    counters -> maw_counters by maw_counters_init,
}

/// Makes `options` those of a preset.
pub fn preset(options: &mut maw_options, preset: i32) -> i32 {
    // SAFETY: the pointer is to memory of the size that is passed.
    unsafe { maw_options_preset(&raw mut *options, size_of::<maw_options>(), preset) }
}

/// The default options, on the device under test.
pub fn options() -> maw_options {
    let options = default_options();
    if is_cuda() { maw_options { device: MAW_CUDA, ..options } } else { options }
}

/// Makes a call of this function with an error object, and turns its status into a `Result`. The header must list it.
pub fn checked(function: &str, call: impl FnOnce(*mut *mut maw_error) -> maw_status) -> Outcome<()> {
    let mut error = ptr::null_mut();
    let status = call(&raw mut error);
    assert_eq!(statuses::missing(function, status), None);
    if status == MAW_OK {
        assert!(error.is_null(), "a call that succeeds leaves no error object");
        return Ok(());
    }
    assert!(!error.is_null(), "a call that fails with {status} leaves an error object");
    // SAFETY: the call failed, so `error` is an object that we own; its message lives until it is freed below.
    let (code, message) = unsafe { (maw_error_code(error), text(maw_error_message(error))) };
    // SAFETY: we own it, and nothing uses it afterwards.
    unsafe { maw_error_free(error) };
    assert_eq!(code, status, "the error object carries the status of the call: {message}");
    Err(Failure { status, message })
}

/// A string borrowed from the library.
///
/// # Safety
/// `borrowed` is NUL-terminated and valid during the call.
pub unsafe fn text(borrowed: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(borrowed) }.to_str().expect("the library's strings are UTF-8").to_owned()
}

/// A tensor to be registered.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub shape: Vec<u64>,
    pub dtype: i32,
    /// 0 = the same.
    pub grad_dtype: i32,
    pub modulation_group: Option<String>,
    pub layer_kind: i32,
    /// 0 = as the param group.
    pub precision: i32,
    /// The layer's number plus 1; 0 = the name's.
    pub layer_index: u32,
    /// This process has one part of the tensor: offset and length.
    pub shard: Option<[u64; 2]>,
}

impl Spec {
    pub fn new(name: &str, shape: &[u64], dtype: i32) -> Self {
        let layer_kind = MAW_LAYER_UNKNOWN;
        let (name, shape) = (name.to_owned(), shape.to_vec());
        let (modulation_group, shard) = (None, None);
        Self { name, shape, dtype, grad_dtype: 0, modulation_group, layer_kind, layer_index: 0, precision: 0, shard }
    }

    pub fn in_group(mut self, group: &str) -> Self {
        self.modulation_group = Some(group.to_owned());
        self
    }

    pub fn with_gradient(mut self, grad_dtype: i32) -> Self {
        self.grad_dtype = grad_dtype;
        self
    }

    pub fn of_kind(mut self, layer_kind: i32) -> Self {
        self.layer_kind = layer_kind;
        self
    }

    pub fn with_precision(mut self, precision: i32) -> Self {
        self.precision = precision;
        self
    }

    pub fn of_layer(mut self, layer_index: u32) -> Self {
        self.layer_index = layer_index;
        self
    }

    pub fn with_shard(mut self, offset: u64, numel: u64) -> Self {
        self.shard = Some([offset, numel]);
        self
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product::<u64>() as usize
    }
}

/// Calls with descriptions that live as long as the call.
fn described<T>(specs: &[Spec], call: impl FnOnce(&[maw_tensor]) -> T) -> T {
    let c_string = |text: &String| CString::new(text.as_str()).expect("no test name contains NUL");
    let names: Vec<CString> = specs.iter().map(|spec| c_string(&spec.name)).collect();
    let groups: Vec<Option<CString>> = specs.iter().map(|spec| spec.modulation_group.as_ref().map(c_string)).collect();
    let describe = |(i, spec): (usize, &Spec)| maw_tensor {
        name: names[i].as_ptr(),
        shape: spec.shape.as_ptr(),
        modulation_group: groups[i].as_ref().map_or(ptr::null(), |name| name.as_ptr()),
        ndim: spec.shape.len() as u32,
        dtype: spec.dtype,
        grad_dtype: spec.grad_dtype,
        layer_kind: spec.layer_kind,
        layer_index: spec.layer_index,
        precision: spec.precision,
        sharded: spec.shard.is_some().into(),
        shard_offset: spec.shard.map_or(0, |[offset, _]| offset),
        shard_numel: spec.shard.map_or(0, |[_, numel]| numel),
        ..tensor()
    };
    call(&specs.iter().enumerate().map(describe).collect::<Vec<_>>())
}

type Reduction = Box<dyn FnMut(u64, usize) -> i32>;

pub struct Handle {
    raw: *mut maw_optimizer,
    pub(super) copies: Copies,
    /// Where the library finds it.
    reduction: Option<Box<Reduction>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: `raw` came from create and is freed once; no call on it is running, as we have it exclusively.
        let status = unsafe { maw_optimizer_free(self.raw) };
        assert!(status == MAW_OK || std::thread::panicking(), "free answered {status}");
    }
}

impl Handle {
    pub fn new(options: &maw_options) -> Outcome<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: all three pointers are valid during the call.
        checked("maw_optimizer_create", |error| unsafe { maw_optimizer_create(options, &raw mut raw, error) })?;
        let copies = Copies::new(options.device == MAW_CUDA);
        Ok(Self { raw, copies, reduction: None })
    }

    pub(super) fn raw(&self) -> *mut maw_optimizer {
        self.raw
    }

    /// Adds a param group with its tensors and returns its index.
    pub fn add(&mut self, group: &maw_param_group, specs: &[Spec]) -> Outcome<u32> {
        let mut index = u32::MAX;
        described(specs, |tensors| {
            checked("maw_add_param_group", |error| {
                // SAFETY: `tensors` has `count` entries, which are valid during the call.
                unsafe { maw_add_param_group(self.raw, group, tensors.as_ptr(), tensors.len(), &raw mut index, error) }
            })
        })?;
        Ok(index)
    }

    /// Adds tensors to a param group.
    pub fn add_tensors(&mut self, group: u32, specs: &[Spec]) -> Outcome<()> {
        described(specs, |tensors| {
            checked("maw_add_tensors", |error| {
                // SAFETY: as above.
                unsafe { maw_add_tensors(self.raw, group, tensors.as_ptr(), tensors.len(), error) }
            })
        })
    }

    pub fn remove_tensor(&mut self, tensor: usize) -> Outcome<()> {
        // SAFETY: the handle is valid.
        checked("maw_remove_tensor", |error| unsafe { maw_remove_tensor(self.raw, tensor, error) })
    }

    /// The sum over the processes of so many numbers at an address, in the host's memory or the device's.
    pub fn set_reduction(&mut self, sum: impl FnMut(u64, usize) -> i32 + 'static) -> Outcome<()> {
        unsafe extern "C" fn reduce(values: *mut f64, count: usize, sum: *mut c_void) -> i32 {
            // SAFETY: it is the handle's, which makes one call at a time.
            unsafe { (*sum.cast::<Reduction>())(values.expose_provenance() as u64, count) }
        }
        let sum: &mut Reduction = self.reduction.insert(Box::new(Box::new(sum)));
        let sum = (&raw mut *sum).cast();
        // SAFETY: the box outlives the handle.
        checked("maw_set_reduction", |error| unsafe { maw_set_reduction(self.raw, Some(reduce), sum, error) })
    }

    pub fn prepare(&mut self) -> Outcome<()> {
        // SAFETY: the handle is valid.
        checked("maw_prepare", |error| unsafe { maw_prepare(self.raw, error) })
    }

    pub fn step(&mut self, params: &mut [Tensor], grads: &[Option<Tensor>]) -> Outcome<maw_step_report> {
        self.step_with(params, grads, &step_options())
    }

    pub fn step_with(
        &mut self,
        params: &mut [Tensor],
        grads: &[Option<Tensor>],
        options: &maw_step_options,
    ) -> Outcome<maw_step_report> {
        assert_eq!(params.len(), grads.len(), "one gradient or None a tensor");
        let (pointers, grads) = (self.copies.params(params)?, self.copies.grads(grads)?);
        let mut report = step_report();
        checked("maw_step", |error| {
            // SAFETY: one pointer per tensor, each to as many elements as registered (the test's business); the
            // tensors live longer than the call and are not touched during it.
            unsafe {
                maw_step(self.raw, pointers.as_ptr(), grads.as_ptr(), params.len(), options, &raw mut report, error)
            }
        })?;
        self.copies.fetch(params)?;
        Ok(report)
    }

    pub fn observe(&mut self, tensor: usize, gradient: &Tensor) -> Outcome<()> {
        let one = [Some(gradient.clone())];
        let on_device = Copies::new(self.copies.on_device);
        let pointer = on_device.grads(&one)?[0];
        // SAFETY: the gradient has as many elements as the tensor was registered with (the test's business).
        checked("maw_observe_gradient", |error| unsafe { maw_observe_gradient(self.raw, tensor, pointer, error) })
    }

    pub fn set_lr(&mut self, group: u32, lr: f64) -> Outcome<()> {
        // SAFETY: the handle is valid.
        checked("maw_set_lr", |error| unsafe { maw_set_lr(self.raw, group, lr, error) })
    }

    pub fn set_weight_decay(&mut self, group: u32, weight_decay: f64) -> Outcome<()> {
        // SAFETY: the handle is valid.
        checked("maw_set_weight_decay", |error| unsafe { maw_set_weight_decay(self.raw, group, weight_decay, error) })
    }

    pub fn set_betas(&mut self, group: u32, [beta1, beta2]: [f64; 2]) -> Outcome<()> {
        // SAFETY: the handle is valid.
        checked("maw_set_betas", |error| unsafe { maw_set_betas(self.raw, group, beta1, beta2, error) })
    }

    pub fn set_eps(&mut self, group: u32, eps: f64) -> Outcome<()> {
        // SAFETY: the handle is valid.
        checked("maw_set_eps", |error| unsafe { maw_set_eps(self.raw, group, eps, error) })
    }

    pub fn set_max_grad_norm(&mut self, max_grad_norm: f64) -> Outcome<()> {
        // SAFETY: the handle is valid.
        checked("maw_set_max_grad_norm", |error| unsafe { maw_set_max_grad_norm(self.raw, max_grad_norm, error) })
    }

    /// β₁, β₂ and ε of a param group, and the norm to which gradients are clipped.
    pub fn hyper_parameters(&self, group: u32) -> Outcome<[f64; 4]> {
        let [mut beta1, mut beta2, mut eps, mut max_grad_norm] = [f64::NAN; 4];
        checked("maw_get_betas", |error| {
            // SAFETY: the pointers are valid.
            unsafe { maw_get_betas(self.raw, group, &raw mut beta1, &raw mut beta2, error) }
        })?;
        // SAFETY: the pointers are valid.
        checked("maw_get_eps", |error| unsafe { maw_get_eps(self.raw, group, &raw mut eps, error) })?;
        checked("maw_get_max_grad_norm", |error| {
            // SAFETY: the pointers are valid.
            unsafe { maw_get_max_grad_norm(self.raw, &raw mut max_grad_norm, error) }
        })?;
        Ok([beta1, beta2, eps, max_grad_norm])
    }

    pub fn set_priorities(&mut self, priorities: [f64; 3]) -> Outcome<()> {
        // SAFETY: three numbers, as the call wants.
        checked("maw_set_priorities", |error| unsafe { maw_set_priorities(self.raw, priorities.as_ptr(), error) })
    }

    pub fn reset(&mut self, what: u32) -> Outcome<()> {
        // SAFETY: the handle is valid.
        checked("maw_reset", |error| unsafe { maw_reset(self.raw, what, error) })
    }
}
