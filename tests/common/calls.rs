//! The rest of `Handle`: calls of the meta-update, and getters.

use super::handle::{Handle, Outcome, checked, counters, meta_answer, meta_request, meta_result, text};
use super::tensor::Tensor;
use metaadamw::ffi::*;
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::Mutex;

/// A host's answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub loss: f64,
    pub grads: Option<Vec<Option<Tensor>>>,
    pub grad_scale: f64,
}

impl Answer {
    pub fn loss(loss: f64) -> Self {
        Self { loss, grads: None, grad_scale: 1.0 }
    }

    pub fn gradient((loss, grads): (f64, Vec<Option<Tensor>>)) -> Self {
        Self { loss, grads: Some(grads), grad_scale: 1.0 }
    }
}

/// The arguments of `maw_meta_tell`, each of which may be NULL or wrong.
pub struct Tell<'a> {
    pub answer: Option<maw_meta_answer>,
    pub params: Option<&'a mut [Tensor]>,
    pub grads: Option<&'a [Option<Tensor>]>,
    pub count: usize,
    pub request: Option<&'a mut maw_meta_request>,
}

/// α, β, λ₁, λ₂ of each modulation group.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    pub alpha: Vec<f64>,
    pub beta: Vec<f64>,
    pub lambda1: Vec<f64>,
    pub lambda2: Vec<f64>,
}

/// `maw_meta_due(NULL)`.
pub fn meta_due_of_null() -> u32 {
    // SAFETY: NULL is allowed.
    unsafe { maw_meta_due(ptr::null()) }
}

impl Handle {
    pub fn meta_due(&self) -> u32 {
        // SAFETY: the handle is valid.
        unsafe { maw_meta_due(self.raw()) }
    }

    pub fn begin(&mut self, params: &mut [Tensor]) -> Outcome<maw_meta_request> {
        let (params, mut request) = (self.copies.params(params)?, meta_request());
        checked("maw_meta_begin", |error| {
            // SAFETY: one pointer per tensor, with as many elements as registered; valid during the call.
            unsafe { maw_meta_begin(self.raw(), params.as_ptr(), params.len(), &raw mut request, error) }
        })?;
        Ok(request)
    }

    /// Answers the request of that number.
    pub fn tell(&mut self, id: u64, answer: &Answer, params: &mut [Tensor]) -> Outcome<maw_meta_request> {
        let mut request = meta_request();
        let raw_answer =
            maw_meta_answer { request_id: id, loss: answer.loss, grad_scale: answer.grad_scale, ..meta_answer() };
        let count = params.len();
        self.tell_raw(Tell {
            answer: Some(raw_answer),
            params: Some(params),
            grads: answer.grads.as_deref(),
            count,
            request: Some(&mut request),
        })?;
        Ok(request)
    }

    pub fn tell_raw(&mut self, tell: Tell<'_>) -> Outcome<()> {
        let answer = tell.answer.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mut tensors = tell.params;
        let params = tensors.as_deref_mut().map(|params| self.copies.params(params)).transpose()?;
        let grads = tell.grads.map(|grads| self.copies.grads(grads)).transpose()?;
        let request = tell.request.map_or(ptr::null_mut(), ptr::from_mut);
        let params = params.as_ref().map_or(ptr::null(), Vec::as_ptr);
        let grads = grads.as_ref().map_or(ptr::null(), Vec::as_ptr);
        // SAFETY: each is NULL, which the call must refuse by itself, or valid; a wrong `count` must be refused
        // before anything behind the pointers is read.
        let next = checked("maw_meta_tell", |error| unsafe {
            maw_meta_tell(self.raw(), answer, params, grads, tell.count, request, error)
        });
        self.copies.fetch(tensors.unwrap_or_default())?;
        next
    }

    pub fn abort(&mut self, params: &mut [Tensor]) -> Outcome<()> {
        let pointers = self.copies.params(params)?;
        // SAFETY: one pointer per tensor, with as many elements as registered; valid during the call.
        let aborted = checked("maw_meta_abort", |error| unsafe {
            maw_meta_abort(self.raw(), pointers.as_ptr(), pointers.len(), error)
        });
        self.copies.fetch(params)?;
        aborted
    }

    /// A complete meta-update: `evaluate` answers each request at the parameters that it gets.
    pub fn meta_update(
        &mut self,
        params: &mut [Tensor],
        mut evaluate: impl FnMut(&maw_meta_request, &[Tensor]) -> Answer,
    ) -> Outcome<maw_meta_result> {
        let mut request = self.begin(params)?;
        while request.kind != MAW_META_DONE {
            let answer = evaluate(&request, params);
            request = self.tell(request.id, &answer, params)?;
        }
        self.result()
    }

    pub fn result(&self) -> Outcome<maw_meta_result> {
        let mut result = meta_result();
        // SAFETY: both pointers are valid.
        checked("maw_meta_result_get", |error| unsafe { maw_meta_result_get(self.raw(), &raw mut result, error) })?;
        Ok(result)
    }

    pub fn meta_gradient(&self, name: &str, count: usize) -> Outcome<Vec<f64>> {
        // SAFETY: `filled` hands over a name and room for `count` numbers.
        self.filled("maw_meta_gradient", name, count, |h, name, values, count, error| unsafe {
            maw_meta_gradient(h, name, values, count, error)
        })
    }

    pub fn attention(&self, name: &str, count: usize) -> Outcome<Vec<f64>> {
        // SAFETY: `filled` hands over a name and room for `count` numbers.
        self.filled("maw_attention_get", name, count, |h, name, values, count, error| unsafe {
            maw_attention_get(h, name, values, count, error)
        })
    }

    fn filled(
        &self,
        function: &str,
        name: &str,
        count: usize,
        call: impl FnOnce(*const maw_optimizer, *const c_char, *mut f64, usize, *mut *mut maw_error) -> maw_status,
    ) -> Outcome<Vec<f64>> {
        let name = CString::new(name).expect("no NUL in a test's name");
        let mut values = vec![f64::NAN; count];
        checked(function, |error| call(self.raw(), name.as_ptr(), values.as_mut_ptr(), count, error))?;
        Ok(values)
    }

    pub fn set_attention(&mut self, name: &str, values: &[f64]) -> Outcome<()> {
        let name = CString::new(name).expect("no NUL in a test's name");
        // SAFETY: `values` holds `count` numbers.
        checked("maw_attention_set", |error| unsafe {
            maw_attention_set(self.raw(), name.as_ptr(), values.as_ptr(), values.len(), error)
        })
    }

    /// The names of Φ's tensors with their numbers of elements.
    pub fn attention_sizes(&self) -> Outcome<Vec<(String, usize)>> {
        let count = self.count("maw_attention_count", |h, out, error| {
            // SAFETY: `count` hands over valid pointers.
            unsafe { maw_attention_count(h, out, error) }
        })?;
        let one = |index| {
            let (mut name, mut rows, mut columns) = (ptr::null(), 0, 0);
            // SAFETY: the out pointers are valid.
            checked("maw_attention_name", |error| unsafe {
                maw_attention_name(self.raw(), index, &raw mut name, error)
            })?;
            // SAFETY: the out pointers are valid.
            checked("maw_attention_shape", |error| unsafe {
                maw_attention_shape(self.raw(), index, &raw mut rows, &raw mut columns, error)
            })?;
            // SAFETY: the name is valid until the handle is freed.
            Ok((unsafe { text(name) }, (rows * columns) as usize))
        };
        (0..count).map(one).collect()
    }

    /// Φ: each tensor by name.
    pub fn phi(&self) -> Outcome<Vec<(String, Vec<f64>)>> {
        let read = |(name, size): (String, usize)| self.attention(&name, size).map(|values| (name, values));
        self.attention_sizes()?.into_iter().map(read).collect()
    }

    pub fn set_phi(&mut self, phi: &[(String, Vec<f64>)]) -> Outcome<()> {
        phi.iter().try_for_each(|(name, values)| self.set_attention(name, values))
    }

    fn count(
        &self,
        function: &str,
        call: impl FnOnce(*const maw_optimizer, *mut usize, *mut *mut maw_error) -> maw_status,
    ) -> Outcome<usize> {
        let mut count = usize::MAX;
        checked(function, |error| call(self.raw(), &raw mut count, error))?;
        Ok(count)
    }

    pub fn group_count(&self) -> Outcome<usize> {
        // SAFETY: `count` hands over valid pointers.
        self.count("maw_group_count", |h, out, error| unsafe { maw_group_count(h, out, error) })
    }

    pub fn param_group_count(&self) -> Outcome<usize> {
        // SAFETY: `count` hands over valid pointers.
        self.count("maw_param_group_count", |h, out, error| unsafe { maw_param_group_count(h, out, error) })
    }

    pub fn tensor_count(&self) -> Outcome<usize> {
        // SAFETY: `count` hands over valid pointers.
        self.count("maw_tensor_count", |h, out, error| unsafe { maw_tensor_count(h, out, error) })
    }

    pub fn feature_dim(&self) -> Outcome<usize> {
        // SAFETY: `count` hands over valid pointers.
        self.count("maw_feature_dim", |h, out, error| unsafe { maw_feature_dim(h, out, error) })
    }

    pub fn tensor_group(&self, tensor: usize) -> Outcome<usize> {
        // SAFETY: `count` hands over valid pointers.
        self.count("maw_tensor_group", |h, out, error| unsafe { maw_tensor_group(h, tensor, out, error) })
    }

    pub fn group_name(&self, group: usize) -> Outcome<String> {
        let mut name = ptr::null();
        // SAFETY: the out pointer is valid.
        checked("maw_group_name", |error| unsafe { maw_group_name(self.raw(), group, &raw mut name, error) })?;
        // SAFETY: the name is valid until the handle is freed.
        Ok(unsafe { text(name) })
    }

    pub fn steps(&self) -> Outcome<u64> {
        let mut steps = u64::MAX;
        // SAFETY: the out pointer is valid.
        checked("maw_step_count", |error| unsafe { maw_step_count(self.raw(), &raw mut steps, error) })?;
        Ok(steps)
    }

    /// Collects the log's messages from now on.
    pub fn logged(&mut self) -> Outcome<&'static Mutex<Vec<(i32, String)>>> {
        unsafe extern "C" fn note(level: i32, message: *const c_char, messages: *mut c_void) {
            // SAFETY: the library passes a string, and what `maw_set_log` was given below, which lives for ever.
            let (message, messages) = unsafe { (text(message), &*messages.cast::<Mutex<Vec<(i32, String)>>>()) };
            messages.lock().expect("no panic").push((level, message));
        }
        let messages: &'static Mutex<Vec<(i32, String)>> = Box::leak(Box::default());
        let user_data = ptr::from_ref(messages).cast_mut().cast();
        // SAFETY: the handle is valid, and the callback is made for this data.
        checked("maw_set_log", |error| unsafe { maw_set_log(self.raw(), Some(note), user_data, error) })?;
        Ok(messages)
    }

    pub fn counters(&self) -> Outcome<maw_counters> {
        let mut counters = counters();
        // SAFETY: both pointers are valid.
        checked("maw_counters_get", |error| unsafe { maw_counters_get(self.raw(), &raw mut counters, error) })?;
        Ok(counters)
    }

    pub fn set_counters(&mut self, counters: &maw_counters) -> Outcome<()> {
        // SAFETY: both pointers are valid.
        checked("maw_counters_set", |error| unsafe { maw_counters_set(self.raw(), counters, error) })
    }

    pub fn lr(&self, group: u32) -> Outcome<f64> {
        let mut lr = f64::NAN;
        // SAFETY: the out pointer is valid.
        checked("maw_get_lr", |error| unsafe { maw_get_lr(self.raw(), group, &raw mut lr, error) })?;
        Ok(lr)
    }

    pub fn weight_decay(&self, group: u32) -> Outcome<f64> {
        let mut decay = f64::NAN;
        // SAFETY: the out pointer is valid.
        checked("maw_get_weight_decay", |error| unsafe {
            maw_get_weight_decay(self.raw(), group, &raw mut decay, error)
        })?;
        Ok(decay)
    }

    pub fn priorities(&self) -> Outcome<[f64; 3]> {
        let mut priorities = [f64::NAN; 3];
        // SAFETY: room for three numbers, as the call wants.
        checked("maw_get_priorities", |error| unsafe {
            maw_get_priorities(self.raw(), priorities.as_mut_ptr(), error)
        })?;
        Ok(priorities)
    }

    pub fn factors(&self) -> Outcome<Factors> {
        let groups = self.group_count()?;
        let [mut alpha, mut beta, mut lambda1, mut lambda2] = std::array::from_fn(|_| vec![f64::NAN; groups]);
        let (a, b) = (alpha.as_mut_ptr(), beta.as_mut_ptr());
        let (l1, l2) = (lambda1.as_mut_ptr(), lambda2.as_mut_ptr());
        // SAFETY: each points to room for `groups` numbers.
        checked("maw_factors", |error| unsafe { maw_factors(self.raw(), a, b, l1, l2, groups, error) })?;
        Ok(Factors { alpha, beta, lambda1, lambda2 })
    }

    /// G × D, row-major.
    pub fn features(&self) -> Outcome<Vec<f64>> {
        let mut features = vec![f64::NAN; self.group_count()? * self.feature_dim()?];
        // SAFETY: room for `count` numbers.
        checked("maw_features", |error| unsafe {
            maw_features(self.raw(), features.as_mut_ptr(), features.len(), error)
        })?;
        Ok(features)
    }
}
