//! CUDA device memory for hosts that have no CUDA of their own.

use std::ffi::c_void;

use super::error::{clear, fail, maw_error};
use super::handle::quietly;
use super::pointers::{check, slice};
use super::types::{MAW_OK, maw_status};
use crate::backend::cuda::{Buffer, is_available};
use crate::error::{Error, Result};

/// Memory of a CUDA device, lent to a host that has no CUDA of its own. Opaque: created by `maw_device_buffer_create`,
/// freed by `maw_device_buffer_free`. One call at a time.
pub struct maw_device_buffer(Buffer);

/// 1 if there is a CUDA device that an optimizer can be created on, else 0. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn maw_cuda_available() -> u32 {
    quietly(|| Ok(is_available())).unwrap_or(false).into()
}

/// From entry to status.
///
/// # Safety
/// `error` is NULL or valid for a write.
unsafe fn answer(error: *mut *mut maw_error, work: impl FnOnce() -> Result<()>) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        clear(error);
        quietly(work).map_or_else(|e| fail("maw_cuda_available", error, &e), |()| MAW_OK)
    }
}

/// # Safety
/// `buffer` is NULL or a live buffer.
unsafe fn live<'a>(buffer: *const maw_device_buffer) -> Result<&'a Buffer> {
    // SAFETY: the caller's promise.
    unsafe { buffer.as_ref() }.map(|b| &b.0).ok_or(Error::Null { argument: "buffer" })
}

/// Allocates device memory, all zeros.
///
/// `device_index`: number of the CUDA device. `bytes`: its size; 0 is allowed. `buffer`: out, freed with
/// `maw_device_buffer_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` without a CUDA driver or device that will do;
/// `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_device_buffer_create(
    device_index: i32,
    bytes: usize,
    buffer: *mut *mut maw_device_buffer,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        answer(error, || {
            check(buffer, "buffer")?;
            let new = Buffer::new(device_index, bytes)?;
            buffer.write(Box::into_raw(Box::new(maw_device_buffer(new))));
            Ok(())
        })
    }
}

/// Copies host memory into a buffer, after the work that was enqueued before on the legacy default stream (an
/// optimizer's, unless `maw_set_stream` was called), and waits for it.
///
/// `offset`: where in the buffer, in bytes. `data`: `bytes` bytes; may be NULL when there are none.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`, also for a part that reaches beyond the buffer; `MAW_CUDA_ERROR`.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_device_buffer_upload(
    buffer: *mut maw_device_buffer,
    offset: usize,
    data: *const c_void,
    bytes: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        answer(error, || {
            live(buffer)?;
            (*buffer).0.upload(offset, slice(data.cast::<u8>(), bytes, "data")?)
        })
    }
}

/// Copies a buffer into host memory, after the work that was enqueued before on the legacy default stream, and waits.
///
/// As `maw_device_buffer_upload`; `data`: out. After MAW_CUDA_ERROR it may hold a part.
///
/// # Safety
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_device_buffer_download(
    buffer: *const maw_device_buffer,
    offset: usize,
    data: *mut c_void,
    bytes: usize,
    error: *mut *mut maw_error,
) -> maw_status {
    // SAFETY: the caller's promise.
    unsafe {
        answer(error, || {
            let buffer = live(buffer)?;
            if bytes == 0 {
                return buffer.download(offset, &mut []);
            }
            check(data.cast::<u8>(), "data")?;
            if bytes > isize::MAX as usize {
                return Err(Error::range("bytes", bytes, "no more than fit into memory"));
            }
            buffer.download(offset, std::slice::from_raw_parts_mut(data.cast(), bytes))
        })
    }
}

/// The buffer's address in device memory, to be passed to `maw_step` and the like; aligned to 256 bytes. NULL for NULL.
///
/// # Safety
/// `buffer` is NULL or a live buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_device_buffer_pointer(buffer: *const maw_device_buffer) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { live(buffer) }
        .map_or(std::ptr::null_mut(), |buffer| std::ptr::with_exposed_provenance_mut(buffer.address() as usize))
}

/// The buffer's size in bytes; 0 for NULL.
///
/// # Safety
/// `buffer` is NULL or a live buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_device_buffer_size(buffer: *const maw_device_buffer) -> usize {
    // SAFETY: the caller's promise.
    unsafe { live(buffer) }.map_or(0, Buffer::bytes)
}

/// Frees a buffer, after the work on the device that uses it; does nothing for NULL. Any thread, once.
///
/// # Safety
/// `buffer` is NULL or a live buffer, which is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_device_buffer_free(buffer: *mut maw_device_buffer) {
    if !buffer.is_null() {
        // SAFETY: it came from `Box::into_raw`, and the caller frees it once.
        let buffer = unsafe { Box::from_raw(buffer) };
        let _ = quietly(|| {
            drop(buffer);
            Ok(())
        });
    }
}
