//! The library's version, its ABI number, names of statuses.

use std::ffi::c_char;

use super::types::*;

/// ABI number, part of the shared object's name (libmetaadamw.so.1). Under one number functions, constants, and fields
/// whose default is 0 may be added; nothing is removed.
pub const MAW_ABI_VERSION: u32 = 1;
/// Major version of the library.
pub const MAW_VERSION_MAJOR: u32 = 0;
/// Minor version of the library.
pub const MAW_VERSION_MINOR: u32 = 1;
/// Patch version of the library.
pub const MAW_VERSION_PATCH: u32 = 0;

/// The version of the loaded library, "0.1.0". Static, never NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn maw_version() -> *const c_char {
    c"0.1.0".as_ptr()
}

/// The `MAW_ABI_VERSION` of the loaded library, to be compared with the header's. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn maw_abi_version() -> u32 {
    MAW_ABI_VERSION
}

/// The name of a status, for example "MAW_BUSY", or "unknown status". Static, never NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn maw_status_name(status: maw_status) -> *const c_char {
    match status {
        MAW_OK => c"MAW_OK",
        MAW_INVALID_ARGUMENT => c"MAW_INVALID_ARGUMENT",
        MAW_INVALID_STATE => c"MAW_INVALID_STATE",
        MAW_UNSUPPORTED => c"MAW_UNSUPPORTED",
        MAW_BUSY => c"MAW_BUSY",
        MAW_NOT_FINITE => c"MAW_NOT_FINITE",
        MAW_OUT_OF_MEMORY => c"MAW_OUT_OF_MEMORY",
        MAW_PANIC => c"MAW_PANIC",
        MAW_NOT_FOUND => c"MAW_NOT_FOUND",
        MAW_PARAMS_CHANGED => c"MAW_PARAMS_CHANGED",
        MAW_IO => c"MAW_IO",
        MAW_CORRUPT => c"MAW_CORRUPT",
        MAW_MISMATCH => c"MAW_MISMATCH",
        MAW_CUDA_ERROR => c"MAW_CUDA_ERROR",
        MAW_REDUCTION => c"MAW_REDUCTION",
        _ => c"unknown status",
    }
    .as_ptr()
}
