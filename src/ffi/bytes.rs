//! Bytes that the library allocates and the caller owns.

/// Bytes allocated by the library and owned by the caller, who frees them with `maw_bytes_free`.
pub struct maw_bytes(Vec<u8>);

/// A pointer to the bytes, borrowed: valid until the object is freed. A NUL follows the last byte. NULL for NULL.
///
/// # Safety
/// `bytes` is NULL or a live object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_bytes_data(bytes: *const maw_bytes) -> *const u8 {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    unsafe { bytes.as_ref() }.map_or(std::ptr::null(), |b| b.0.as_ptr())
}

/// The number of bytes, the NUL not included; 0 for NULL.
///
/// # Safety
/// `bytes` is NULL or a live object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_bytes_size(bytes: *const maw_bytes) -> usize {
    // SAFETY: the caller's promise; `give` put a NUL behind the bytes.
    unsafe { bytes.as_ref() }.map_or(0, |b| b.0.len() - 1)
}

/// Frees bytes; does nothing for NULL. Any thread.
///
/// # Safety
/// `bytes` is NULL or a live object, which is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_bytes_free(bytes: *mut maw_bytes) {
    if !bytes.is_null() {
        // SAFETY: it came from `give`, and the caller frees it once.
        drop(unsafe { Box::from_raw(bytes) });
    }
}

/// Gives bytes to the caller, with a NUL behind them, for which they have room.
///
/// # Safety
/// `out` is valid for a write.
pub(super) unsafe fn give(mut bytes: Vec<u8>, out: *mut *mut maw_bytes) {
    bytes.push(0);
    // SAFETY: `out` is valid for a write.
    unsafe { out.write(Box::into_raw(Box::new(maw_bytes(bytes)))) };
}
