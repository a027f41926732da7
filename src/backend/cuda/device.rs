//! A CUDA device as all handles of the process share it: its primary context, and our kernels in it.
//!
//! The context is the one that the host's own CUDA code uses. It is made current for the length of a call and what was
//! current before comes back. The library synchronises nothing but the stream that it is told.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::{Arc, Weak};

use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdevice_attribute, CUfunction, CUmemorytype, CUmodule, CUpointer_attribute, CUresult,
    CUstreamCaptureMode,
};

use super::driver::{Address, Driver, call, named};
use super::queue::{Queue, Stream};
use crate::backend::sync::Mutex;
use crate::error::{Error, Result};
use crate::reserve;

/// The kernels as every driver can compile them for its device: text that `scripts/ptx.sh` makes of `kernels.cu`,
/// compressed by `build.rs`.
const COMPRESSED_PTX: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.ptx.zlib"));

/// What opening a device allocates at most: the kernels as text, a few times.
const MEMORY_TO_OPEN: usize = 64 * COMPRESSED_PTX.len();

/// The oldest generation that the kernels' PTX is for: Volta.
const OLDEST_CAPABILITY: c_int = 7;

/// A device, its primary context and our kernels in it.
#[derive(Debug)]
pub struct Device {
    driver: &'static Driver,
    ordinal: i32,
    device: CUdevice,
    context: CUcontext,
    module: CUmodule,
    /// Streaming multiprocessors.
    pub processors: u32,
}

// SAFETY: handles of the driver may be used from any thread.
unsafe impl Send for Device {}
// SAFETY: the driver's functions are thread-safe.
unsafe impl Sync for Device {}

impl Device {
    /// The device of that number, which the host gave as `argument`, opened once for all that hold it.
    ///
    /// # Errors
    /// [`Error::NoCuda`]; no such device; the driver's.
    pub fn open(argument: &str, ordinal: i32) -> Result<Arc<Self>> {
        static OPENED: Mutex<Option<HashMap<i32, Weak<Device>>>> = Mutex::new(None);
        let driver = Driver::get()?;
        let count = driver.devices()?;
        if !(0..count).contains(&ordinal) {
            return Err(Error::range(argument, ordinal, format!("0 to {} (CUDA devices)", count - 1)));
        }
        let mut opened = OPENED.lock();
        let opened = opened.get_or_insert_default();
        if let Some(device) = opened.get(&ordinal).and_then(Weak::upgrade) {
            return Ok(device);
        }
        let device = reserve::with(MEMORY_TO_OPEN, || Ok(Arc::new(Self::new(driver, ordinal)?)))?;
        let _reserve = reserve::for_the_process();
        opened.insert(ordinal, Arc::downgrade(&device));
        Ok(device)
    }

    /// The driver's name of the device of that number, if it will do.
    ///
    /// # Errors
    /// [`Error::NoCuda`] for a device that is too old; the driver's.
    pub fn find(driver: &'static Driver, ordinal: i32) -> Result<CUdevice> {
        let (mut device, mut major, mut minor) = (0, 0, 0);
        // SAFETY: the pointers are valid.
        unsafe {
            call!(driver.device(&raw mut device, ordinal))?;
            let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
            call!(driver.attribute(&raw mut major, attribute, device))?;
            let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
            call!(driver.attribute(&raw mut minor, attribute, device))?;
        }
        if major < OLDEST_CAPABILITY {
            let why = format!("CUDA device {ordinal} has compute capability {major}.{minor}; 7.0 is the least");
            return Err(Error::NoCuda { why });
        }
        Ok(device)
    }

    fn new(driver: &'static Driver, ordinal: i32) -> Result<Self> {
        let (device, mut processors) = (Self::find(driver, ordinal)?, 0);
        let mut context = std::ptr::null_mut();
        // SAFETY: the pointers are valid.
        unsafe {
            let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
            call!(driver.attribute(&raw mut processors, attribute, device))?;
            call!(driver.retain(&raw mut context, device))?;
        }
        // From here on the drop gives back what there is.
        let (module, processors) = (std::ptr::null_mut(), processors.max(1) as u32);
        let mut new = Self { driver, ordinal, device, context, module, processors };
        new.module = new.load_kernels()?;
        Ok(new)
    }

    fn load_kernels(&self) -> Result<CUmodule> {
        let ptx = miniz_oxide::inflate::decompress_to_vec_zlib(COMPRESSED_PTX).expect("build.rs compressed it");
        let image = CString::new(ptx).expect("PTX is text");
        let (driver, mut module) = (self.driver, std::ptr::null_mut());
        let _relaxed = self.relax_capture()?;
        // SAFETY: the image ends with a NUL.
        unsafe { call!(driver.load_module(&raw mut module, image.as_ptr().cast()))? };
        Ok(module)
    }

    /// The driver.
    pub fn driver(&self) -> &'static Driver {
        self.driver
    }

    /// Makes the context current on this thread until the answer is dropped.
    ///
    /// # Errors
    /// The driver's.
    pub fn make_current(&self) -> Result<Current> {
        let (driver, mut before) = (self.driver, std::ptr::null_mut());
        // SAFETY: the pointer and the context are valid.
        unsafe {
            call!(driver.current(&raw mut before))?;
            call!(driver.set_current(self.context))?;
        }
        Ok(Current { driver, before })
    }

    /// The same for what is no work in a stream, such as allocating: it is allowed while streams are captured, and does
    /// not disturb them.
    ///
    /// # Errors
    /// The driver's.
    pub fn relax_capture(&self) -> Result<RelaxedCapture> {
        let mut mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED as c_int;
        let (driver, current) = (self.driver, self.make_current()?);
        // SAFETY: the pointer is valid.
        unsafe { call!(driver.exchange_capture_mode((&raw mut mode).cast()))? };
        Ok(RelaxedCapture { before: mode, current })
    }

    /// The kernel of that name.
    ///
    /// # Errors
    /// The driver's.
    pub fn kernel(&self, name: &str) -> Result<Kernel> {
        let (driver, mut function) = (self.driver, std::ptr::null_mut());
        let name = CString::new(name).expect("a kernel's name");
        // SAFETY: the pointers are valid, the module is loaded.
        unsafe { call!(driver.function(&raw mut function, self.module, name.as_ptr()))? };
        Ok(Kernel(function))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Nothing can be done about what fails here.
        // SAFETY: both were given to us and are not used any more.
        unsafe {
            if !self.module.is_null()
                && let Ok(_relaxed) = self.relax_capture()
            {
                (self.driver.unload_module)(self.module);
            }
            (self.driver.release)(self.device);
        }
    }
}

/// While it lives, a device's context is current on this thread.
#[must_use]
pub struct Current {
    driver: &'static Driver,
    before: CUcontext,
}

impl Drop for Current {
    fn drop(&mut self) {
        // SAFETY: what was current before is put back; NULL is none.
        unsafe { (self.driver.set_current)(self.before) };
    }
}

/// While it lives, a device's context is current and this thread's capture mode is the relaxed one.
#[must_use]
pub struct RelaxedCapture {
    /// A `CUstreamCaptureMode`, as an integer: the driver wrote it.
    before: c_int,
    current: Current,
}

impl Drop for RelaxedCapture {
    fn drop(&mut self) {
        // SAFETY: the pointer is valid; it is the mode that was there before.
        unsafe { (self.current.driver.exchange_capture_mode)((&raw mut self.before).cast()) };
    }
}

/// A kernel of our module.
#[derive(Clone, Copy, Debug)]
pub struct Kernel(pub(super) CUfunction);

// SAFETY: as for `Device`, which outlives every use.
unsafe impl Send for Kernel {}

/// Checks of what the host gave.
impl Device {
    /// Checks that this is a stream; it may be being captured.
    ///
    /// # Errors
    /// The driver's.
    pub fn check_stream(&self, stream: *mut c_void) -> Result<()> {
        self.queue(Stream::new(stream))?.is_capturing().map(drop)
    }

    /// Checks that an address, which the host gave as `argument`, leads to so many bytes, at least one, of memory that
    /// this device's kernels may use. Only the first and the last byte are looked up.
    ///
    /// # Errors
    /// What it leads to instead; the driver's, of whatever ran before.
    pub fn check_address(&self, address: Address, bytes: usize, argument: impl FnOnce() -> String) -> Result<()> {
        let _current = self.make_current()?; // a thread without a context may not ask
        let got = match self.owner_of(address)? {
            None => "a pointer to host memory, or to none".to_owned(),
            Some(ordinal) if ordinal == self.ordinal => {
                if self.owner_of(address.saturating_add(bytes as Address - 1))? == Some(ordinal) {
                    return Ok(());
                }
                format!("a pointer to fewer than its {bytes} bytes")
            }
            Some(ordinal) => format!("a pointer to memory of CUDA device {ordinal}"),
        };
        Err(Error::range(argument(), got, format!("memory of CUDA device {}", self.ordinal)))
    }

    /// Number of the device whose memory is there, if any is.
    fn owner_of(&self, address: Address) -> Result<Option<i32>> {
        const UNKNOWN_TO_THE_DRIVER: c_int = CUresult::CUDA_ERROR_INVALID_VALUE as c_int;
        let attribute = |which: CUpointer_attribute| {
            let mut value: c_int = 0;
            // SAFETY: each of the three attributes is an int.
            match unsafe { (self.driver.pointer_attribute)((&raw mut value).cast(), which, address) } {
                UNKNOWN_TO_THE_DRIVER => Ok(None),
                result => self.driver.check(named::pointer_attribute, result).map(|()| Some(value)),
            }
        };
        // Managed memory moves to where it is used.
        if attribute(CUpointer_attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED)?.is_some_and(|managed| managed & 0xff != 0) {
            return Ok(Some(self.ordinal));
        }
        let memory_type = attribute(CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE)?;
        if memory_type == Some(CUmemorytype::CU_MEMORYTYPE_DEVICE as c_int) {
            attribute(CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
        } else {
            Ok(None)
        }
    }
}

/// Copies of a parameter that the host gave.
impl Device {
    fn queue_for(&self, stream: *mut c_void, param: *const c_void, bytes: usize) -> Result<(Queue<'_>, Address)> {
        let address = param.addr() as Address;
        self.check_address(address, bytes, || "param".to_owned())?;
        let queue = self.queue(Stream::new(stream))?;
        queue.refuse_capture("copying a parameter")?;
        Ok((queue, address))
    }

    /// Copies a parameter out and waits for it.
    ///
    /// # Errors
    /// Memory that is not the device's; a capture under way; the driver's, also for a range that is not all there.
    pub fn peek(&self, stream: *mut c_void, param: *const c_void, out: &mut [u8]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let (queue, address) = self.queue_for(stream, param, out.len())?;
        // SAFETY: the caller's parameter has as many bytes.
        unsafe { queue.download(address, out) }
    }

    /// Copies a parameter in and waits for it.
    ///
    /// # Errors
    /// As for [`Self::peek`].
    pub fn poke(&self, stream: *mut c_void, param: *mut c_void, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (queue, address) = self.queue_for(stream, param, bytes.len())?;
        // SAFETY: the caller's parameter has as many bytes.
        unsafe { queue.upload_and_wait(address, bytes) }
    }
}
