//! The host's parameters and gradients of one call, one a tensor in registration order, and their check.
//!
//! [`Params`] and [`Grads`] are what came; `CheckedParams` and `CheckedGrads` are what fits the registered tensors. Only
//! the `Checker` makes these, and backends take nothing else.

use std::borrow::Cow;
use std::ffi::c_void;
use std::marker::PhantomData;

use crate::error::{Error, Result};
use crate::model::dtype::DType;
use crate::model::groups::Tensor;

/// A parameter's elements, from a Rust program.
#[derive(Debug)]
pub enum SliceMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// 64-bit floats.
    F64(&'a mut [f64]),
    /// The bits of bfloat16 numbers.
    BF16(&'a mut [u16]),
    /// The bits of 16-bit IEEE floats.
    F16(&'a mut [u16]),
}

/// A gradient's elements, from a Rust program.
#[derive(Clone, Copy, Debug)]
pub enum Slice<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// 64-bit floats.
    F64(&'a [f64]),
    /// The bits of bfloat16 numbers.
    BF16(&'a [u16]),
    /// The bits of 16-bit IEEE floats.
    F16(&'a [u16]),
}

/// Pointers to the parameters, writable for `'a`.
#[derive(Debug)]
pub struct Params<'a> {
    pointers: Cow<'a, [*mut c_void]>,
    /// Known where the buffers came as slices; a C host promises them instead.
    kinds: Option<Vec<(DType, usize)>>,
    marker: PhantomData<&'a mut f64>,
}

/// Pointers to the gradients, readable for `'a`; NULL where a tensor has none.
#[derive(Debug)]
pub struct Grads<'a> {
    pointers: Cow<'a, [*const c_void]>,
    kinds: Option<Vec<Option<(DType, usize)>>>,
    marker: PhantomData<&'a f64>,
}

impl Slice<'_> {
    fn parts(self) -> (*const c_void, (DType, usize)) {
        match self {
            Self::F32(s) => (s.as_ptr().cast(), (DType::F32, s.len())),
            Self::F64(s) => (s.as_ptr().cast(), (DType::F64, s.len())),
            Self::BF16(s) => (s.as_ptr().cast(), (DType::BF16, s.len())),
            Self::F16(s) => (s.as_ptr().cast(), (DType::F16, s.len())),
        }
    }
}

impl<'a> Params<'a> {
    /// From slices, one a tensor in registration order.
    pub fn new(slices: impl IntoIterator<Item = SliceMut<'a>>) -> Self {
        let (pointers, kinds) = slices
            .into_iter()
            .map(|slice| match slice {
                SliceMut::F32(s) => (s.as_mut_ptr().cast::<c_void>(), (DType::F32, s.len())),
                SliceMut::F64(s) => (s.as_mut_ptr().cast::<c_void>(), (DType::F64, s.len())),
                SliceMut::BF16(s) => (s.as_mut_ptr().cast::<c_void>(), (DType::BF16, s.len())),
                SliceMut::F16(s) => (s.as_mut_ptr().cast::<c_void>(), (DType::F16, s.len())),
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Self { pointers: Cow::Owned(pointers), kinds: Some(kinds), marker: PhantomData }
    }

    /// From a C host's pointers.
    ///
    /// # Safety
    /// For `'a`, each pointer that is not NULL is valid for reads and writes of its tensor's elements, and
    /// nothing else reads or writes them.
    #[allow(unsafe_code, reason = "the promise is the C host's; src/ffi makes the only call")]
    #[must_use]
    pub unsafe fn from_raw(pointers: &'a [*mut c_void]) -> Self {
        Self { pointers: Cow::Borrowed(pointers), kinds: None, marker: PhantomData }
    }
}

impl<'a> Grads<'a> {
    /// From slices, one a tensor in registration order; `None`: no gradient this time.
    pub fn new(slices: impl IntoIterator<Item = Option<Slice<'a>>>) -> Self {
        let (pointers, kinds) = slices
            .into_iter()
            .map(|slice| slice.map_or((std::ptr::null(), None), |s| (s.parts().0, Some(s.parts().1))))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Self { pointers: Cow::Owned(pointers), kinds: Some(kinds), marker: PhantomData }
    }

    /// From a C host's pointers.
    ///
    /// # Safety
    /// For `'a`, each pointer that is not NULL is valid for reads of its tensor's elements, and nothing writes them.
    #[allow(unsafe_code, reason = "the promise is the C host's; src/ffi makes the only call")]
    #[must_use]
    pub unsafe fn from_raw(pointers: &'a [*const c_void]) -> Self {
        Self { pointers: Cow::Borrowed(pointers), kinds: None, marker: PhantomData }
    }
}

/// One tensor's gradient.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<'a> {
    pointer: *const c_void,
    kind: Option<(DType, usize)>,
    marker: PhantomData<&'a f64>,
}

impl<'a> Gradient<'a> {
    /// From a slice.
    #[must_use]
    pub fn new(slice: Slice<'a>) -> Self {
        let (pointer, kind) = slice.parts();
        Self { pointer, kind: Some(kind), marker: PhantomData }
    }

    /// From a C host's pointer.
    ///
    /// # Safety
    /// For `'a`, the pointer is NULL or valid for reads of its tensor's elements, and nothing writes them.
    #[allow(unsafe_code, reason = "the promise is the C host's; src/ffi makes the only call")]
    #[must_use]
    pub unsafe fn from_raw(pointer: *const c_void) -> Self {
        Self { pointer, kind: None, marker: PhantomData }
    }

    /// Checks NULL, type, length and alignment for the `index`-th tensor.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self, index: usize, tensor: &Tensor) -> Result<CheckedGradient<'a>> {
        if self.pointer.is_null() {
            return Err(Error::Null { argument: "gradient" });
        }
        let dtype = tensor.spec.grad_dtype;
        self.kind.map_or(Ok(()), |kind| check_kind("gradient", index, tensor, dtype, kind))?;
        check_pointer("gradient", index, tensor, dtype, self.pointer)?;
        Ok(CheckedGradient { tensor: index, pointer: self.pointer, marker: PhantomData })
    }
}

/// Parameters with the registered tensors' sizes, types and alignment; none overlaps another buffer of the call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckedParams<'a>(&'a [*mut c_void]);

impl<'a> CheckedParams<'a> {
    /// One pointer a tensor; NULL only where it has no elements.
    #[must_use]
    pub fn pointers(self) -> &'a [*mut c_void] {
        self.0
    }
}

/// Gradients with the registered tensors' sizes, types and alignment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckedGrads<'a>(&'a [*const c_void]);

impl<'a> CheckedGrads<'a> {
    /// One pointer a tensor, NULL for none.
    #[must_use]
    pub fn pointers(self) -> &'a [*const c_void] {
        self.0
    }

    /// Whether tensor `i` has a gradient. A tensor without elements has one only if its pointer is not NULL.
    #[must_use]
    pub fn has(self, i: usize) -> bool {
        !self.0[i].is_null()
    }
}

/// One tensor's gradient, with that tensor's size, type and alignment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckedGradient<'a> {
    tensor: usize,
    pointer: *const c_void,
    marker: PhantomData<&'a f64>,
}

impl CheckedGradient<'_> {
    /// Whose it is.
    #[must_use]
    pub fn tensor(self) -> usize {
        self.tensor
    }

    /// Its first element; not NULL.
    #[must_use]
    pub fn pointer(self) -> *const c_void {
        self.pointer
    }
}

/// The buffers of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckedBuffers<'a> {
    /// Parameters.
    pub params: CheckedParams<'a>,
    /// Gradients, where the call has some.
    pub grads: Option<CheckedGrads<'a>>,
}

/// Checks the pointers of each call, and remembers those that passed: a host's buffers rarely move.
#[derive(Debug)]
pub(crate) struct Checker {
    params: Vec<*mut c_void>,
    grads: Vec<*const c_void>,
    /// Tensors by address of their parameter; workspace of the overlap check.
    order: Vec<usize>,
    /// Whether any have passed yet.
    known: bool,
}

#[allow(unsafe_code, reason = "the pointers are compared and sorted, never followed")]
// SAFETY: see the reason above; addresses may travel between threads.
unsafe impl Send for Checker {}

impl Checker {
    /// For so many tensors.
    #[must_use]
    pub fn new(tensors: usize) -> Self {
        Self {
            params: vec![std::ptr::null_mut(); tensors],
            grads: vec![std::ptr::null(); tensors],
            order: (0..tensors).collect(),
            known: false,
        }
    }

    /// Count, NULL, alignment and overlap of one call's pointers.
    ///
    /// # Errors
    /// What is wrong with the first pointer that is.
    pub fn check<'a>(
        &mut self,
        tensors: &[Tensor],
        params: &'a Params,
        grads: Option<&'a Grads>,
    ) -> Result<CheckedBuffers<'a>> {
        self.check_pointers(tensors, params, grads)?;
        Ok(CheckedBuffers {
            params: CheckedParams(&params.pointers),
            grads: grads.map(|grads| CheckedGrads(&grads.pointers)),
        })
    }

    fn check_pointers(&mut self, tensors: &[Tensor], params: &Params, grads: Option<&Grads>) -> Result<()> {
        check_count(tensors, params.pointers.len())?;
        if let Some(grads) = grads {
            check_count(tensors, grads.pointers.len())?;
        }
        check_kinds(tensors, params, grads)?;
        let none = std::ptr::null();
        let grad_of = |i: usize| grads.map_or(none, |g| g.pointers[i]);
        let known = self.known
            && self.params[..] == params.pointers[..]
            && self.grads.iter().enumerate().all(|(i, seen)| grad_of(i).is_null() || grad_of(i) == *seen);
        if known {
            return Ok(());
        }
        for (i, tensor) in tensors.iter().enumerate() {
            if params.pointers[i].is_null() && tensor.numel > 0 {
                return Err(null_buffer("params", i, tensor));
            }
            check_pointer("params", i, tensor, tensor.spec.dtype, params.pointers[i])?;
            check_pointer("grads", i, tensor, tensor.spec.grad_dtype, grad_of(i))?;
        }
        self.check_overlap(tensors, &params.pointers, &grad_of)?;
        // A gradient that is missing this time stays known, unless the parameters moved beside it.
        let moved = self.params[..] != params.pointers[..];
        for (i, seen) in self.grads.iter_mut().enumerate() {
            if moved || !grad_of(i).is_null() {
                *seen = grad_of(i);
            }
        }
        self.params.copy_from_slice(&params.pointers);
        self.known = true;
        Ok(())
    }

    fn check_overlap(
        &mut self,
        tensors: &[Tensor],
        params: &[*mut c_void],
        grad_of: &dyn Fn(usize) -> *const c_void,
    ) -> Result<()> {
        let start = |i: usize| params[i].addr();
        let bytes = |i: usize| tensors[i].bytes();
        let grad_bytes = |i: usize| tensors[i].gradient_bytes();
        let end = |i: usize| start(i) + bytes(i);
        let overlap = |first: usize, other, second: usize| Error::Overlap {
            first,
            first_name: tensors[first].name().to_owned(),
            other,
            second,
            second_name: tensors[second].name().to_owned(),
        };
        // Tensors without elements sort to the front and can overlap nothing.
        let key = |i: usize| if bytes(i) == 0 { (0, i) } else { (start(i), i) };
        self.order.sort_unstable_by_key(|&i| key(i));
        let filled = &self.order[self.order.partition_point(|&i| bytes(i) == 0)..];
        for pair in filled.windows(2) {
            if end(pair[0]) > start(pair[1]) {
                let (first, second) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
                return Err(overlap(first, "params", second));
            }
        }
        for i in (0..tensors.len()).filter(|&i| !grad_of(i).is_null() && bytes(i) > 0) {
            let (from, to) = (grad_of(i).addr(), grad_of(i).addr() + grad_bytes(i));
            // The parameters are disjoint: only the last one that starts before the gradient's end can reach into it.
            let before = filled.partition_point(|&p| start(p) < to);
            if let Some(&p) = filled[..before].last()
                && end(p) > from
            {
                return Err(overlap(p, "grads", i));
            }
        }
        Ok(())
    }
}

fn check_count(tensors: &[Tensor], got: usize) -> Result<()> {
    if got == tensors.len() {
        Ok(())
    } else {
        Err(Error::Count { argument: "count", got, expected: tensors.len(), what: "registered tensors" })
    }
}

fn null_buffer(argument: &'static str, index: usize, tensor: &Tensor) -> Error {
    Error::NullBuffer { argument, index, name: tensor.name().to_owned(), numel: tensor.numel }
}

/// Alignment, and that the range does not wrap around the address space.
fn check_pointer(
    argument: &'static str,
    index: usize,
    tensor: &Tensor,
    dtype: DType,
    pointer: *const c_void,
) -> Result<()> {
    let align = dtype.size();
    if !pointer.addr().is_multiple_of(align) {
        return Err(Error::Misaligned { argument, index, name: tensor.name().to_owned(), align });
    }
    if pointer.addr().checked_add(tensor.numel * align).is_none() {
        return Err(Error::range(format!("{argument}[{index}]"), "a range past the end of memory", "a valid pointer"));
    }
    Ok(())
}

fn check_kind(argument: &'static str, index: usize, tensor: &Tensor, dtype: DType, got: (DType, usize)) -> Result<()> {
    let describe = |(dtype, numel): (DType, usize)| format!("{numel} × {dtype:?}");
    let expected = (dtype, tensor.numel);
    if got == expected {
        return Ok(());
    }
    Err(Error::WrongBuffer {
        argument,
        index,
        name: tensor.name().to_owned(),
        got: describe(got),
        expected: describe(expected),
    })
}

fn check_kinds(tensors: &[Tensor], params: &Params, grads: Option<&Grads>) -> Result<()> {
    for (i, kind) in params.kinds.iter().flatten().enumerate() {
        check_kind("params", i, &tensors[i], tensors[i].spec.dtype, *kind)?;
    }
    for (i, kind) in grads.iter().filter_map(|g| g.kinds.as_ref()).flatten().enumerate() {
        let dtype = tensors[i].spec.grad_dtype;
        kind.map_or(Ok(()), |kind| check_kind("grads", i, &tensors[i], dtype, kind))?;
    }
    Ok(())
}
