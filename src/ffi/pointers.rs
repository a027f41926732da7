//! Strings, arrays and single outputs passed by C.

use std::ffi::{CStr, c_char};

use crate::error::{Error, Result};
use crate::model::name::Name;

/// The bytes of a C string, without its NUL; at most one more than a name may have.
///
/// # Safety
/// `pointer` is NULL or a NUL-terminated string that stays unchanged for `'a`.
pub(super) unsafe fn text<'a>(pointer: *const c_char, argument: &'static str) -> Result<&'a [u8]> {
    if pointer.is_null() {
        return Err(Error::Null { argument });
    }
    let bytes = pointer.cast::<u8>();
    // SAFETY: bytes up to the NUL are readable.
    let length = (0..=Name::MAX).find(|&i| unsafe { bytes.add(i).read() } == 0).unwrap_or(Name::MAX + 1);
    // SAFETY: `length` bytes were just read.
    Ok(unsafe { std::slice::from_raw_parts(bytes, length) })
}

/// A C string as UTF-8, to be looked up.
///
/// # Safety
/// As for [`text`].
pub(super) unsafe fn lookup<'a>(pointer: *const c_char, argument: &'static str) -> Result<&'a str> {
    // SAFETY: `pointer` is NULL or a NUL-terminated string.
    let bytes = unsafe { text(pointer, argument) }?;
    std::str::from_utf8(bytes)
        .map_err(|_| Error::BadName { field: argument.to_owned(), reason: "it is not UTF-8".to_owned() })
}

/// The bytes of a path.
///
/// # Safety
/// `pointer` is NULL or a NUL-terminated string that stays unchanged for `'a`.
pub(super) unsafe fn path_bytes<'a>(pointer: *const c_char) -> Result<&'a [u8]> {
    check(pointer, "path")?;
    // SAFETY: `pointer` is not NULL here, and NUL-terminated.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    if bytes.is_empty() {
        return Err(Error::range("path", "empty", "the name of a file"));
    }
    Ok(bytes)
}

/// An array to read; it may be NULL when empty.
///
/// # Safety
/// `pointer` is NULL or readable for `count` elements, which stay unchanged for `'a`.
pub(super) unsafe fn slice<'a, T>(pointer: *const T, count: usize, argument: &'static str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check(pointer, argument)?;
    if count > isize::MAX as usize / size_of::<T>() {
        return Err(Error::range("count", count, format!("no more {argument} than fit into memory")));
    }
    // SAFETY: the caller's promise; alignment and size were checked.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Neither NULL nor misaligned.
pub(super) fn check<T>(pointer: *const T, argument: &'static str) -> Result<()> {
    if pointer.is_null() {
        return Err(Error::Null { argument });
    }
    if !pointer.is_aligned() {
        return Err(Error::range(argument, "a misaligned pointer", format!("a multiple of {}", align_of::<T>())));
    }
    Ok(())
}

/// Writes one value.
///
/// # Safety
/// `pointer` is NULL or valid for a write.
pub(super) unsafe fn put<T>(pointer: *mut T, value: T, argument: &'static str) -> Result<()> {
    check(pointer, argument)?;
    // SAFETY: the caller's promise; neither NULL nor misaligned.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Copies values out if the count is right.
///
/// # Safety
/// `pointer` is NULL or valid for writes of `count` elements.
pub(super) unsafe fn copy_out(
    values: &[f64],
    pointer: *mut f64,
    count: usize,
    argument: &'static str,
    what: &'static str,
) -> Result<()> {
    check(pointer, argument)?;
    Error::length("count", count, values.len(), what)?;
    // SAFETY: the caller's promise, with count = values.len().
    unsafe { pointer.copy_from_nonoverlapping(values.as_ptr(), count) };
    Ok(())
}
