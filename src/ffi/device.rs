//! CUDA device memory for hosts that have no CUDA of their own.

use std::ffi::c_void;

use super::error::{clear, fail, maw_error};
use super::handle::quietly;
use super::pointers::{check, slice};
use super::types::{MAW_OK, maw_status};
use crate::backend::cuda::{Buffer, is_available};
use crate::error::{Error, Result};
use crate::reserve;

/// What a call here allocates at most, but to open a device.
const MEMORY_OF_A_CALL: usize = 64 << 10;

/// Device memory allocated by the library, for hosts that do not use CUDA themselves. Opaque: created by
/// `maw_device_buffer_create`, freed by `maw_device_buffer_free`. Not thread-safe: one call at a time.
pub struct maw_device_buffer(Buffer);

/// 1 if there is a CUDA device on which an optimizer can be created, else 0. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn maw_cuda_available() -> u32 {
    reserve::with(MEMORY_OF_A_CALL, || quietly(|| Ok(is_available()))).unwrap_or(false).into()
}

/// Runs `work` and turns its result into a status.
///
/// # Safety
/// `error` is NULL or valid for a write.
unsafe fn answer(error: *mut *mut maw_error, work: impl FnOnce() -> Result<()>) -> maw_status {
    // SAFETY: `error` is NULL or valid for a write.
    unsafe {
        clear(error);
        reserve::with(MEMORY_OF_A_CALL, || quietly(work))
            .map_or_else(|e| fail("maw_cuda_available", error, &e), |()| MAW_OK)
    }
}

/// # Safety
/// `buffer` is NULL or a live buffer.
unsafe fn live<'a>(buffer: *const maw_device_buffer) -> Result<&'a Buffer> {
    // SAFETY: `buffer` is NULL or a live buffer.
    unsafe { buffer.as_ref() }.map(|b| &b.0).ok_or(Error::Null { argument: "buffer" })
}

/// Allocates device memory, filled with zeros.
///
/// `device_index`: index of the CUDA device. `bytes`: size of the buffer; may be 0. `buffer`: out, freed with
/// `maw_device_buffer_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` without a suitable CUDA driver or device; `MAW_INVALID_STATE` while a
/// stream that the default stream waits for is being captured; `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. Any thread.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        answer(error, || {
            check(buffer, "buffer")?;
            let new = Buffer::new(device_index, bytes)?;
            buffer.write(Box::into_raw(Box::new(maw_device_buffer(new))));
            Ok(())
        })
    }
}

/// Copies host memory into a buffer and waits for the copy. It is enqueued on the legacy default stream, which is also
/// an optimizer's stream unless `maw_set_stream` was called.
///
/// `offset`: start in the buffer, in bytes. `data`: `bytes` bytes; may be NULL if `bytes` is 0.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`, also if the range exceeds the buffer; `MAW_INVALID_STATE` while a stream that the
/// default stream waits for is being captured; `MAW_CUDA_ERROR`.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe {
        answer(error, || {
            live(buffer)?;
            (*buffer).0.upload(offset, slice(data.cast::<u8>(), bytes, "data")?)
        })
    }
}

/// Copies a buffer into host memory and waits for the copy. As `maw_device_buffer_upload`.
///
/// `data`: out, `bytes` bytes; after `MAW_CUDA_ERROR` some of them may have been written.
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
    // SAFETY: pointers are NULL or valid, as the contract above says.
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

/// The buffer's address in device memory, for `maw_step` and other calls; aligned to 256 bytes. NULL for NULL.
///
/// # Safety
/// `buffer` is NULL or a live buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_device_buffer_pointer(buffer: *const maw_device_buffer) -> *mut c_void {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { live(buffer) }
        .map_or(std::ptr::null_mut(), |buffer| std::ptr::with_exposed_provenance_mut(buffer.address() as usize))
}

/// The buffer's size in bytes; 0 for NULL.
///
/// # Safety
/// `buffer` is NULL or a live buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_device_buffer_size(buffer: *const maw_device_buffer) -> usize {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { live(buffer) }.map_or(0, Buffer::bytes)
}

/// Frees a buffer after waiting for the device's work that uses it; does nothing for NULL. Any thread.
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
