//! The CUDA driver, found when the program runs: a table of its functions, and their results as errors.
//!
//! Results are plain integers: a driver that is newer than this library may answer codes that no list here has.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// An opaque handle of the driver's.
pub type Handle = *mut c_void;
/// An address in device memory.
pub type Address = u64;

/// As the loader knows the driver. Not `libcuda.so`: that is the toolkit's stub where one is installed.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
/// CUDA 11.8, the first whose drivers take the PTX version of `kernels.ptx`.
const OLDEST: c_int = 11080;

macro_rules! functions {
    ($($name:ident: $symbol:literal ($($argument:ty),*);)*) => {
        /// Every function that is called, by what it does.
        #[allow(missing_docs, reason = "the CUDA manual has them")]
        pub struct Driver {
            $(pub $name: unsafe extern "system" fn($($argument),*) -> c_int,)*
            /// Keeps the functions where they are.
            _library: libloading::Library,
        }

        impl Driver {
            fn load() -> std::result::Result<Self, String> {
                // SAFETY: the driver's initialisers have no demands; the signatures are those of cuda.h.
                unsafe {
                    let library = libloading::Library::new(LIBRARY)
                        .map_err(|e| format!("the CUDA driver's library cannot be loaded ({e})"))?;
                    $(let $name = *library
                        .get(concat!($symbol, "\0").as_bytes())
                        .map_err(|_| format!("the CUDA driver is too old: it has no {}", $symbol))?;)*
                    Ok(Self { $($name,)* _library: library })
                }
            }
        }

        /// The driver's name of each function, for messages.
        #[allow(non_upper_case_globals, dead_code, missing_docs, reason = "one for each field of the table")]
        pub mod named {
            $(pub const $name: &str = $symbol;)*
        }
    };
}

functions! {
    init: "cuInit" (c_uint);
    version: "cuDriverGetVersion" (*mut c_int);
    device_count: "cuDeviceGetCount" (*mut c_int);
    device: "cuDeviceGet" (*mut c_int, c_int);
    attribute: "cuDeviceGetAttribute" (*mut c_int, c_int, c_int);
    retain: "cuDevicePrimaryCtxRetain" (*mut Handle, c_int);
    release: "cuDevicePrimaryCtxRelease_v2" (c_int);
    current: "cuCtxGetCurrent" (*mut Handle);
    set_current: "cuCtxSetCurrent" (Handle);
    allocate: "cuMemAlloc_v2" (*mut Address, usize);
    free: "cuMemFree_v2" (Address);
    allocate_host: "cuMemHostAlloc" (*mut Handle, usize, c_uint);
    free_host: "cuMemFreeHost" (Handle);
    to_device: "cuMemcpyHtoDAsync_v2" (Address, *const c_void, usize, Handle);
    to_host: "cuMemcpyDtoHAsync_v2" (*mut c_void, Address, usize, Handle);
    copy: "cuMemcpyDtoDAsync_v2" (Address, Address, usize, Handle);
    fill: "cuMemsetD8Async" (Address, u8, usize, Handle);
    pointer_attribute: "cuPointerGetAttribute" (*mut c_void, c_int, Address);
    load_module: "cuModuleLoadData" (*mut Handle, *const c_void);
    unload_module: "cuModuleUnload" (Handle);
    function: "cuModuleGetFunction" (*mut Handle, Handle, *const c_char);
    launch: "cuLaunchKernel" (
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut Handle, *mut Handle
    );
    capturing: "cuStreamIsCapturing" (Handle, *mut c_int);
    synchronize: "cuStreamSynchronize" (Handle);
    error_name: "cuGetErrorName" (c_int, *mut *const c_char);
    error_text: "cuGetErrorString" (c_int, *mut *const c_char);
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(LIBRARY)
    }
}

/// `CUDA_ERROR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: c_int = 2;
/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: c_int = 100;

impl Driver {
    /// The driver, loaded and initialised once for the process.
    ///
    /// # Errors
    /// [`Error::NoCuda`] says what is missing or too old.
    pub fn get() -> Result<&'static Self> {
        static DRIVER: OnceLock<std::result::Result<Driver, String>> = OnceLock::new();
        let driver = DRIVER.get_or_init(|| Self::load().and_then(Self::initialised));
        driver.as_ref().map_err(|why| Error::NoCuda { why: why.clone() })
    }

    fn initialised(self) -> std::result::Result<Self, String> {
        // SAFETY: the driver's own functions with valid arguments.
        let failed = unsafe { (self.init)(0) };
        if failed == NO_DEVICE {
            return Err("there is no CUDA device".to_owned());
        }
        if failed != 0 {
            return Err(format!("the CUDA driver does not start: {}", self.describe(failed)));
        }
        let mut version = 0;
        // SAFETY: as above.
        let failed = unsafe { (self.version)(&raw mut version) };
        let readable = |v: c_int| format!("{}.{}", v / 1000, v % 1000 / 10);
        if failed != 0 || version < OLDEST {
            let (is, needed) = (readable(version), readable(OLDEST));
            return Err(format!(
                "the CUDA driver is too old: it is for CUDA {is}, {needed} is the oldest that will do"
            ));
        }
        Ok(self)
    }

    /// CUDA devices at hand.
    ///
    /// # Errors
    /// The driver's.
    pub fn devices(&self) -> Result<i32> {
        let mut count = 0;
        // SAFETY: the pointer is valid.
        self.check(named::device_count, unsafe { (self.device_count)(&raw mut count) })?;
        Ok(count)
    }

    /// A result of the function `call` as an error.
    pub fn check(&self, call: &'static str, result: c_int) -> Result<()> {
        match result {
            0 => Ok(()),
            OUT_OF_MEMORY => Err(Error::OutOfDeviceMemory { call }),
            code => Err(Error::Cuda { call, what: self.describe(code) }),
        }
    }

    /// "CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)".
    fn describe(&self, code: c_int) -> String {
        let text = |get: unsafe extern "system" fn(c_int, *mut *const c_char) -> c_int| {
            let mut text = std::ptr::null();
            // SAFETY: the pointer is valid; the driver's texts are static.
            unsafe {
                get(code, &raw mut text);
                (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy())
            }
        };
        match (text(self.error_name), text(self.error_text)) {
            (Some(name), Some(meaning)) => format!("{name} ({meaning})"),
            _ => format!("CUDA error {code}"),
        }
    }
}

/// A fallible call of the driver's: `call!(driver.free(address))?`.
macro_rules! call {
    ($driver:ident.$name:ident($($argument:expr),* $(,)?)) => {{
        let driver = $driver;
        driver.check($crate::backend::cuda::driver::named::$name, (driver.$name)($($argument),*))
    }};
}

pub(super) use call;
