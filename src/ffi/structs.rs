//! Structs that grow: each begins with its size, and 0 in a field that is added later means its default.
//!
//! In: a struct shorter than version 1's is an error; bytes beyond the known fields must be 0. Out: min(caller's, own)
//! bytes are written and the rest of the caller's struct is zeroed. In an array the stride is element 0's size.

use super::types::*;
use crate::error::{Error, Result};
use crate::model::options::{Options, ParamGroup};

/// No struct will ever be longer; a larger size is garbage.
const LONGEST: usize = 4096;

/// A struct of the C boundary.
///
/// # Safety
/// The type is `repr(C)`, begins with a `usize` size, has no padding, and any bytes make a valid value.
pub(super) unsafe trait Versioned: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// Its size in version 1.
    const V1: usize;
    /// Its defaults, `struct_size` included.
    fn defaults() -> Self;
}

fn check_size<T: Versioned>(argument: &str, size: usize) -> Result<()> {
    if (T::V1..=LONGEST).contains(&size) {
        return Ok(());
    }
    Err(Error::StructSize {
        argument: argument.to_owned(),
        got: size,
        expected: format!("sizeof({}), at least {}: call {}_init first", T::NAME, T::V1, T::NAME),
    })
}

/// The caller's size of a struct.
///
/// # Safety
/// `pointer` is readable for a `usize`.
unsafe fn size_of_caller<T>(pointer: *const T) -> usize {
    // SAFETY: the caller's promise; unaligned, because a C host may be wrong about alignment.
    unsafe { pointer.cast::<usize>().read_unaligned() }
}

/// Reads a struct that the caller filled.
///
/// # Safety
/// `pointer` is NULL or readable for the `struct_size` bytes that stand at its start.
pub(super) unsafe fn read<T: Versioned>(pointer: *const T, argument: &'static str) -> Result<T> {
    if pointer.is_null() {
        return Err(Error::Null { argument });
    }
    // SAFETY: `pointer` is NULL or readable for its `struct_size` bytes.
    unsafe { read_sized(pointer, size_of_caller(pointer), argument) }
}

/// # Safety
/// `pointer` is readable for `size` bytes.
unsafe fn read_sized<T: Versioned>(pointer: *const T, size: usize, argument: &str) -> Result<T> {
    check_size::<T>(argument, size)?;
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's promise; any bytes make a valid T.
    unsafe {
        let bytes = pointer.cast::<u8>();
        if (known..size).any(|i| bytes.add(i).read() != 0) {
            return Err(Error::UnknownFields { argument: argument.to_owned(), known });
        }
        let mut value = std::mem::MaybeUninit::<T>::zeroed();
        value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(bytes, known);
        Ok(value.assume_init())
    }
}

/// Reads an array of structs, one by one, with the stride of element 0's size.
///
/// # Safety
/// `pointer` is NULL or readable for `count` elements of that stride.
pub(super) unsafe fn read_array<T: Versioned>(
    pointer: *const T,
    count: usize,
    argument: &'static str,
) -> Result<impl Iterator<Item = Result<T>>> {
    if count > 0 && pointer.is_null() {
        return Err(Error::Null { argument });
    }
    // SAFETY: `pointer` is NULL or readable for `count` elements of that stride, which begins with it.
    let stride = if count == 0 { 0 } else { unsafe { size_of_caller(pointer) } };
    if count > 0 {
        check_size::<T>(&format!("{argument}[0]"), stride)?;
    }
    Ok((0..count).map(move |i| {
        let name = format!("{argument}[{i}]");
        // SAFETY: as above; `i` is below `count`.
        let (element, size) = unsafe {
            let element = pointer.cast::<u8>().add(i * stride).cast::<T>();
            (element, size_of_caller(element))
        };
        if size != stride {
            let expected = format!("{stride}, as in {argument}[0]");
            return Err(Error::StructSize { argument: name, got: size, expected });
        }
        // SAFETY: as above.
        unsafe { read_sized(element, size, &name) }
    }))
}

/// A struct that the library fills; it is checked before the work is done.
pub(super) struct Out<T> {
    pointer: *mut T,
    size: usize,
}

impl<T: Versioned> Out<T> {
    /// # Safety
    /// `pointer` is NULL or valid for the `struct_size` bytes that stand at its start, until [`Self::write`].
    pub(super) unsafe fn new(pointer: *mut T, argument: &'static str) -> Result<Self> {
        if pointer.is_null() {
            return Err(Error::Null { argument });
        }
        // SAFETY: `pointer` is NULL or valid for its `struct_size` bytes.
        let size = unsafe { size_of_caller(pointer) };
        check_size::<T>(argument, size)?;
        Ok(Self { pointer, size })
    }

    /// An output that may be NULL.
    ///
    /// # Safety
    /// As for [`Self::new`].
    pub(super) unsafe fn optional(pointer: *mut T, argument: &'static str) -> Result<Option<Self>> {
        if pointer.is_null() {
            return Ok(None);
        }
        // SAFETY: as this function's own: `pointer` is NULL or valid for its `struct_size` bytes.
        unsafe { Self::new(pointer, argument) }.map(Some)
    }

    /// Writes all fields but `struct_size`, which stays the caller's.
    pub(super) fn write(self, value: &T) {
        let header = size_of::<usize>();
        let known = self.size.min(size_of::<T>());
        // SAFETY: `new`'s promise; `value` has no padding.
        unsafe {
            let target = self.pointer.cast::<u8>();
            let source = std::ptr::from_ref(value).cast::<u8>();
            target.add(header).copy_from_nonoverlapping(source.add(header), known - header);
            target.add(known).write_bytes(0, self.size - known);
        }
    }
}

/// Zeroes the caller's struct, then sets the defaults of the known fields.
///
/// # Safety
/// `pointer` is NULL or valid for `size` bytes.
unsafe fn init<T: Versioned>(pointer: *mut T, size: usize) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe { init_with(pointer, size, &T::defaults()) }
}

/// The same with other values than the defaults.
///
/// # Safety
/// As for [`init`].
unsafe fn init_with<T: Versioned>(pointer: *mut T, size: usize, values: &T) -> maw_status {
    if pointer.is_null() || check_size::<T>("", size).is_err() {
        return MAW_INVALID_ARGUMENT;
    }
    // SAFETY: `pointer` is NULL or valid for `size` bytes.
    unsafe {
        pointer.cast::<u8>().write_bytes(0, size);
        pointer.cast::<usize>().write_unaligned(size);
    }
    Out { pointer, size }.write(values);
    MAW_OK
}

/// Implements [`Versioned`]; `$v1` is the size in version 1.
macro_rules! versioned {
    ($name:ident, $v1:literal, $defaults:expr) => {
        // SAFETY: repr(C), `struct_size` first, only numbers and pointers; the assertion shows that nothing is padded
        // away from the sum of the fields as long as V1 is the whole size.
        unsafe impl Versioned for $name {
            const NAME: &'static str = stringify!($name);
            const V1: usize = $v1;
            fn defaults() -> Self {
                $defaults
            }
        }
        const _: () = assert!(size_of::<$name>() >= $v1);
    };
}

/// All zeros but the size.
fn zeroed<T: Versioned>() -> T {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: any bytes make a valid T, and it begins with its size.
    unsafe {
        value.as_mut_ptr().cast::<usize>().write(size_of::<T>());
        value.assume_init()
    }
}

versioned!(maw_options, 256, super::options::from_options(&Options::default()));
versioned!(maw_param_group, 56, {
    let g = ParamGroup::default();
    maw_param_group {
        struct_size: size_of::<maw_param_group>(),
        lr: g.lr,
        beta1: g.beta1,
        beta2: g.beta2,
        eps: g.eps,
        weight_decay: g.weight_decay,
        precision: MAW_PRECISION_NEAREST,
        moment_dtype: 0,
    }
});
versioned!(maw_tensor, 48, maw_tensor { dtype: MAW_FLOAT32, ..zeroed() });
versioned!(maw_step_options, 40, maw_step_options { grad_scale: 1.0, ..zeroed() });
versioned!(maw_step_report, 56, zeroed());
versioned!(maw_meta_request, 32, zeroed());
versioned!(maw_meta_answer, 32, maw_meta_answer { grad_scale: 1.0, ..zeroed() });
versioned!(maw_meta_result, 104, zeroed());
versioned!(maw_counters, 72, maw_counters { meta_done_at: MAW_NO_STEP, ..zeroed() });

/// Sets the defaults of options. `size`: the caller's `sizeof(maw_options)`.
///
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` for NULL or a size below version 1's: nothing is written. Any thread.
///
/// # Safety
/// `options` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_options_init(options: *mut maw_options, size: usize) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { init(options, size) }
}

/// Sets options that belong together: the defaults, but for what the preset changes. As `maw_options_init`.
///
/// `preset`: `MAW_PRESET_HORIZON`.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` also for another preset: nothing is written. Any thread.
///
/// # Safety
/// `options` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_options_preset(options: *mut maw_options, size: usize, preset: i32) -> maw_status {
    let preset = match preset {
        MAW_PRESET_HORIZON => Options::horizon(),
        _ => return MAW_INVALID_ARGUMENT,
    };
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { init_with(options, size, &super::options::from_options(&preset)) }
}

/// Sets the defaults of a param group. As `maw_options_init`.
///
/// # Safety
/// `group` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_param_group_init(group: *mut maw_param_group, size: usize) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { init(group, size) }
}

/// Sets the defaults of a tensor's description. As `maw_options_init`.
///
/// # Safety
/// `tensor` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_tensor_init(tensor: *mut maw_tensor, size: usize) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { init(tensor, size) }
}

/// Sets the defaults of a step's options. As `maw_options_init`.
///
/// # Safety
/// `options` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_step_options_init(options: *mut maw_step_options, size: usize) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { init(options, size) }
}

/// Zeroes a step's report and sets its size. As `maw_options_init`.
///
/// # Safety
/// `report` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_step_report_init(report: *mut maw_step_report, size: usize) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { init(report, size) }
}

/// Zeroes a request and sets its size. As `maw_options_init`.
///
/// # Safety
/// `request` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_meta_request_init(request: *mut maw_meta_request, size: usize) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { init(request, size) }
}

/// Sets the defaults of an answer. As `maw_options_init`.
///
/// # Safety
/// `answer` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_meta_answer_init(answer: *mut maw_meta_answer, size: usize) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { init(answer, size) }
}

/// Zeroes a meta-update's result and sets its size. As `maw_options_init`.
///
/// # Safety
/// `result` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_meta_result_init(result: *mut maw_meta_result, size: usize) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { init(result, size) }
}

/// Fills the counts of a run that has not begun. As `maw_options_init`.
///
/// # Safety
/// `counters` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_counters_init(counters: *mut maw_counters, size: usize) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { init(counters, size) }
}
