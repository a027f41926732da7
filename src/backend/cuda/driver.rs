//! The CUDA driver, found when the program runs: a table of its functions, and their results as errors.
//!
//! Types, constants and signatures are those of cuda.h, as the crate cudarc has generated them. Its own functions are not
//! called: they panic where the driver is missing, and their results are a closed list. Here results are plain integers: a
//! driver that is newer than this library may answer codes that no list has.

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUfunction, CUmodule, CUpointer_attribute, CUresult,
    CUstream, CUstreamCaptureMode, CUstreamCaptureStatus,
};

use crate::error::{Error, Result};

/// An address in device memory.
pub type Address = CUdeviceptr;

/// As the loader knows the driver. Not `libcuda.so`: that is the toolkit's stub where one is installed.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
/// CUDA 11.8, the first whose drivers take the PTX version of `kernels.ptx`.
const OLDEST: c_int = 11080;

/// cuda.h's type of an argument, where the table has another of the same size.
macro_rules! declared {
    ($argument:ty) => {
        $argument
    };
    ($argument:ty, $declared:ty) => {
        $declared
    };
}

macro_rules! functions {
    ($($name:ident: $symbol:ident ($($argument:ty $(as $declared:ty)?),*);)*) => {
        /// Every function that is called, by what it does.
        #[allow(missing_docs, reason = "the CUDA manual has them")]
        pub struct Driver {
            $(pub $name: unsafe extern "system" fn($($argument),*) -> c_int,)*
        }

        // The compiler compares each signature with cuda.h's.
        $(
            const _: unsafe fn($(declared!($argument $(, $declared)?)),*) -> CUresult = sys::$symbol;
            $($(const _: () = assert!(size_of::<$argument>() == size_of::<$declared>());)?)*
        )*

        impl Driver {
            fn load() -> std::result::Result<Self, String> {
                // SAFETY: the driver's initialisers have no demands; the signatures are those of cuda.h.
                unsafe {
                    let library = libloading::Library::new(LIBRARY)
                        .map_err(|e| format!("the CUDA driver's library cannot be loaded ({})", reason(&e)))?;
                    $(let $name = *library.get(concat!(stringify!($symbol), "\0").as_bytes()).map_err(|e| {
                        format!("the CUDA driver is too old: it has no {} ({})", stringify!($symbol), reason(&e))
                    })?;)*
                    // The functions stay where they are, also if the driver is found to be too old: it may have
                    // started threads.
                    std::mem::forget(library);
                    Ok(Self { $($name,)* })
                }
            }
        }

        /// The driver's name of each function, for messages.
        #[allow(non_upper_case_globals, dead_code, missing_docs, reason = "one for each field of the table")]
        pub mod named {
            $(pub const $name: &str = stringify!($symbol);)*
        }
    };
}

functions! {
    init: cuInit (c_uint);
    version: cuDriverGetVersion (*mut c_int);
    device_count: cuDeviceGetCount (*mut c_int);
    device: cuDeviceGet (*mut CUdevice, c_int);
    attribute: cuDeviceGetAttribute (*mut c_int, CUdevice_attribute, CUdevice);
    retain: cuDevicePrimaryCtxRetain (*mut CUcontext, CUdevice);
    release: cuDevicePrimaryCtxRelease_v2 (CUdevice);
    current: cuCtxGetCurrent (*mut CUcontext);
    set_current: cuCtxSetCurrent (CUcontext);
    allocate: cuMemAlloc_v2 (*mut Address, usize);
    free: cuMemFree_v2 (Address);
    allocate_host: cuMemHostAlloc (*mut *mut c_void, usize, c_uint);
    free_host: cuMemFreeHost (*mut c_void);
    to_device: cuMemcpyHtoDAsync_v2 (Address, *const c_void, usize, CUstream);
    to_host: cuMemcpyDtoHAsync_v2 (*mut c_void, Address, usize, CUstream);
    copy: cuMemcpyDtoDAsync_v2 (Address, Address, usize, CUstream);
    fill: cuMemsetD8Async (Address, u8, usize, CUstream);
    pointer_attribute: cuPointerGetAttribute (*mut c_void, CUpointer_attribute, Address);
    load_module: cuModuleLoadData (*mut CUmodule, *const c_void);
    unload_module: cuModuleUnload (CUmodule);
    function: cuModuleGetFunction (*mut CUfunction, CUmodule, *const c_char);
    launch: cuLaunchKernel (
        CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CUstream, *mut *mut c_void, *mut *mut c_void
    );
    capturing: cuStreamIsCapturing (CUstream, *mut CUstreamCaptureStatus);
    exchange_capture_mode: cuThreadExchangeStreamCaptureMode (*mut CUstreamCaptureMode);
    synchronize: cuStreamSynchronize (CUstream);
    error_name: cuGetErrorName (c_int as CUresult, *mut *const c_char);
    error_text: cuGetErrorString (c_int as CUresult, *mut *const c_char);
}

/// The loader's own words, which libloading's error has as its source.
fn reason(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(LIBRARY)
    }
}

const SUCCESS: c_int = CUresult::CUDA_SUCCESS as c_int;
const OUT_OF_MEMORY: c_int = CUresult::CUDA_ERROR_OUT_OF_MEMORY as c_int;
const CAPTURE_IMPLICIT: c_int = CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT as c_int;
const NO_DEVICE: c_int = CUresult::CUDA_ERROR_NO_DEVICE as c_int;
const NO_DEVICE_TEXT: &str = "there is no CUDA device";

impl Driver {
    /// The driver, loaded and initialised once for the process.
    ///
    /// # Errors
    /// [`Error::NoCuda`] says what is missing or too old.
    pub fn get() -> Result<&'static Self> {
        static DRIVER: OnceLock<Driver> = OnceLock::new();
        if let Some(driver) = DRIVER.get() {
            return Ok(driver);
        }
        // A failure is not kept: the loader may have had no memory.
        let driver = Self::load().and_then(Self::initialised).map_err(|why| Error::NoCuda { why })?;
        Ok(DRIVER.get_or_init(|| driver))
    }

    fn initialised(self) -> std::result::Result<Self, String> {
        // SAFETY: the driver's own functions with valid arguments.
        let failed = unsafe { (self.init)(0) };
        if failed == NO_DEVICE {
            return Err(NO_DEVICE_TEXT.to_owned());
        }
        if failed != SUCCESS {
            return Err(format!("the CUDA driver does not start: {}", self.describe(failed)));
        }
        let mut version = 0;
        // SAFETY: as above.
        let failed = unsafe { (self.version)(&raw mut version) };
        let readable = |v: c_int| format!("{}.{}", v / 1000, v % 1000 / 10);
        if failed != SUCCESS || version < OLDEST {
            let (is, needed) = (readable(version), readable(OLDEST));
            return Err(format!(
                "the CUDA driver is too old: it is for CUDA {is}, {needed} is the oldest that will do"
            ));
        }
        Ok(self)
    }

    /// CUDA devices at hand, at least one.
    ///
    /// # Errors
    /// [`Error::NoCuda`] if there is none; the driver's.
    pub fn devices(&self) -> Result<i32> {
        let mut count = 0;
        // SAFETY: the pointer is valid.
        self.check(named::device_count, unsafe { (self.device_count)(&raw mut count) })?;
        if count == 0 { Err(Error::NoCuda { why: NO_DEVICE_TEXT.to_owned() }) } else { Ok(count) }
    }

    /// A result of the function `call` as an error.
    pub fn check(&self, call: &'static str, result: c_int) -> Result<()> {
        match result {
            SUCCESS => Ok(()),
            OUT_OF_MEMORY => Err(Error::OutOfDeviceMemory { call }),
            CAPTURE_IMPLICIT => Err(Error::CapturingBeside),
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
