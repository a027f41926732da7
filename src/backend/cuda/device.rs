//! A CUDA device as all handles of the process share it: its primary context, our kernels, and streams.
//!
//! The context is the one that the host's own CUDA code uses. It is made current for the length of a call and what was
//! current before comes back. The library synchronises nothing but the stream that it is told.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::driver::{Address, Driver, Handle, INVALID_VALUE, call, named};
use crate::error::{Error, Result};

/// The kernels as every driver can compile them for its device; made from `kernels.cu` by `scripts/ptx.sh`.
pub const PTX: &str = include_str!("kernels/kernels.ptx");

/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`.
const PROCESSORS: c_int = 16;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`; the minor number is the next attribute.
const CAPABILITY: c_int = 75;
/// The oldest generation that the kernels' PTX is for: Volta.
const OLDEST_CAPABILITY: c_int = 7;
/// `CU_STREAM_CAPTURE_MODE_RELAXED`.
const RELAXED: c_int = 2;
/// Up to so many bytes of pageable memory the driver takes along with the command and does not wait for the stream.
const TAKEN_ALONG: usize = 1 << 16;

/// A device, its primary context and our kernels in it.
#[derive(Debug)]
pub struct Device {
    driver: &'static Driver,
    ordinal: i32,
    device: c_int,
    context: Handle,
    module: Handle,
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
        let device = Arc::new(Self::new(driver, ordinal)?);
        opened.insert(ordinal, Arc::downgrade(&device));
        Ok(device)
    }

    /// The driver's name of the device of that number, if it will do.
    ///
    /// # Errors
    /// [`Error::NoCuda`] for a device that is too old; the driver's.
    pub fn find(driver: &'static Driver, ordinal: i32) -> Result<c_int> {
        let (mut device, mut major, mut minor) = (0, 0, 0);
        // SAFETY: the pointers are valid.
        unsafe {
            call!(driver.device(&raw mut device, ordinal))?;
            call!(driver.attribute(&raw mut major, CAPABILITY, device))?;
            call!(driver.attribute(&raw mut minor, CAPABILITY + 1, device))?;
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
            call!(driver.attribute(&raw mut processors, PROCESSORS, device))?;
            call!(driver.retain(&raw mut context, device))?;
        }
        // From here on the drop gives back what there is.
        let (module, processors) = (std::ptr::null_mut(), processors.max(1) as u32);
        let mut new = Self { driver, ordinal, device, context, module, processors };
        let image = CString::new(PTX).expect("PTX is text");
        let mut module = std::ptr::null_mut();
        {
            let _beside = new.beside()?;
            // SAFETY: the image ends with a NUL.
            unsafe { call!(driver.load_module(&raw mut module, image.as_ptr().cast()))? };
        }
        new.module = module;
        Ok(new)
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

    /// The same for what is no work in a stream, such as allocating: whoever captures a stream is not disturbed by it.
    ///
    /// # Errors
    /// The driver's.
    pub fn beside(&self) -> Result<Beside> {
        let (driver, mut mode) = (self.driver, RELAXED);
        let current = self.make_current()?;
        // SAFETY: the pointer is valid.
        unsafe { call!(driver.exchange_capture_mode(&raw mut mode))? };
        Ok(Beside { before: mode, current })
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
                && let Ok(_beside) = self.beside()
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
    before: Handle,
}

impl Drop for Current {
    fn drop(&mut self) {
        // SAFETY: what was current before is put back; NULL is none.
        unsafe { (self.driver.set_current)(self.before) };
    }
}

/// While it lives, a device's context is current and this thread's calls forbid no capture.
#[must_use]
pub struct Beside {
    /// The thread's `CUstreamCaptureMode`.
    before: c_int,
    current: Current,
}

impl Drop for Beside {
    fn drop(&mut self) {
        // SAFETY: the pointer is valid; it is the mode that was there before.
        unsafe { (self.current.driver.exchange_capture_mode)(&raw mut self.before) };
    }
}

/// A kernel of our module.
#[derive(Clone, Copy, Debug)]
pub struct Kernel(Handle);

// SAFETY: as for `Device`, which outlives every use.
unsafe impl Send for Kernel {}

/// A stream of the host's: never created, never destroyed here. NULL is the legacy default stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub Handle);

// SAFETY: as for `Device`.
unsafe impl Send for Stream {}

/// What is enqueued on one stream of one device, whose context is current.
pub struct Queue<'a> {
    driver: &'static Driver,
    stream: Stream,
    _current: Current,
    _device: &'a Device,
}

impl Device {
    /// The way to enqueue work on `stream`.
    ///
    /// # Errors
    /// The driver's.
    pub fn queue(&self, stream: Stream) -> Result<Queue<'_>> {
        Ok(Queue { driver: self.driver, stream, _current: self.make_current()?, _device: self })
    }
}

/// A host's stream, now and then.
impl Device {
    /// Checks that it is one; it may be being captured.
    ///
    /// # Errors
    /// The driver's.
    pub fn check_stream(&self, stream: Handle) -> Result<()> {
        self.queue(Stream(stream))?.is_capturing().map(drop)
    }
}

impl Queue<'_> {
    /// Whether the stream is being captured into a graph.
    ///
    /// # Errors
    /// The driver's, such as for a handle that is no stream.
    pub fn is_capturing(&self) -> Result<bool> {
        let (driver, mut status) = (self.driver, 0);
        // SAFETY: the pointer is valid; the driver checks the stream.
        unsafe { call!(driver.capturing(self.stream.0, &raw mut status))? };
        Ok(status != 0)
    }

    /// Waits until all that was enqueued is done.
    ///
    /// # Errors
    /// The driver's, of whatever ran.
    pub fn wait(&self) -> Result<()> {
        let driver = self.driver;
        // SAFETY: the driver checks the stream.
        unsafe { call!(driver.synchronize(self.stream.0)) }
    }

    /// Launches a kernel.
    ///
    /// # Safety
    /// The arguments are the kernel's in number, size and meaning.
    ///
    /// # Errors
    /// The driver's.
    pub unsafe fn launch(&self, kernel: Kernel, blocks: u32, threads: u32, arguments: &[*const c_void]) -> Result<()> {
        let driver = self.driver;
        let mut arguments: [Handle; 8] =
            std::array::from_fn(|i| arguments.get(i).map_or(std::ptr::null_mut(), |a| a.cast_mut()));
        // SAFETY: the caller's promise; the driver copies the arguments before it returns.
        unsafe {
            call!(driver.launch(
                kernel.0,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                0,
                self.stream.0,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            ))
        }
    }

    /// Copies to the device without waiting for the stream: in pieces that the driver takes along with the command.
    ///
    /// # Safety
    /// `to` is the address of as many bytes of device memory. The bytes are pageable: the library's own, since a host's may
    /// be pinned, and those the driver reads when the stream comes to them.
    ///
    /// # Errors
    /// The driver's.
    pub unsafe fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        let driver = self.driver;
        for (i, piece) in bytes.chunks(TAKEN_ALONG).enumerate() {
            let to = to + (i * TAKEN_ALONG) as Address;
            // SAFETY: the caller's promise; the piece is readable and, being pageable, read before this returns.
            unsafe { call!(driver.to_device(to, piece.as_ptr().cast(), piece.len(), self.stream.0))? };
        }
        Ok(())
    }

    /// Copies to the device, in one piece and from any memory of the host's, and waits for it.
    ///
    /// # Safety
    /// `to` is the address of as many bytes of device memory.
    ///
    /// # Errors
    /// The driver's, of whatever ran before.
    pub unsafe fn upload_and_wait(&self, to: Address, bytes: &[u8]) -> Result<()> {
        let driver = self.driver;
        if !bytes.is_empty() {
            // SAFETY: the caller's promise; the wait below keeps the borrow as long as the copy.
            unsafe { call!(driver.to_device(to, bytes.as_ptr().cast(), bytes.len(), self.stream.0))? };
        }
        self.wait()
    }

    /// Copies from the device and waits for it.
    ///
    /// # Safety
    /// `from` is the address of as many bytes of device memory.
    ///
    /// # Errors
    /// The driver's, of whatever ran before.
    pub unsafe fn download(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        let driver = self.driver;
        if !bytes.is_empty() {
            // SAFETY: the caller's promise; the wait below keeps the borrow as long as the copy.
            unsafe { call!(driver.to_host(bytes.as_mut_ptr().cast(), from, bytes.len(), self.stream.0))? };
        }
        self.wait()
    }

    /// Copies within the device.
    ///
    /// # Safety
    /// Both are addresses of as many bytes of device memory, which do not overlap.
    ///
    /// # Errors
    /// The driver's.
    pub unsafe fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        let driver = self.driver;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { call!(driver.copy(to, from, bytes, self.stream.0)) }
    }

    /// Zeros.
    ///
    /// # Safety
    /// `to` is the address of as many bytes of device memory.
    ///
    /// # Errors
    /// The driver's.
    pub unsafe fn zero(&self, to: Address, bytes: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.fill(to, 0, bytes) }
    }

    /// NaNs, whatever the type: for tests of what is written before it is read.
    ///
    /// # Safety
    /// As for [`Self::zero`].
    ///
    /// # Errors
    /// The driver's.
    #[cfg(feature = "fault-injection")]
    pub unsafe fn poison(&self, to: Address, bytes: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.fill(to, 0xff, bytes) }
    }

    unsafe fn fill(&self, to: Address, value: u8, bytes: usize) -> Result<()> {
        let driver = self.driver;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { call!(driver.fill(to, value, bytes, self.stream.0)) }
    }
}

/// A host's tensor, now and then.
impl Device {
    fn reach(&self, stream: Handle, param: *const c_void, bytes: usize) -> Result<(Queue<'_>, Address)> {
        let address = param.addr() as Address;
        self.check(address, bytes, || "param".to_owned())?;
        let queue = self.queue(Stream(stream))?;
        if queue.is_capturing()? {
            return Err(Error::Capturing { what: "copying a parameter" });
        }
        Ok((queue, address))
    }

    /// Copies a parameter out and waits for it.
    ///
    /// # Errors
    /// Memory that is not the device's; a capture under way; the driver's, also for a range that is not all there.
    pub fn peek(&self, stream: Handle, param: *const c_void, out: &mut [u8]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let (queue, address) = self.reach(stream, param, out.len())?;
        // SAFETY: the caller's parameter has as many bytes.
        unsafe { queue.download(address, out) }
    }

    /// Copies a parameter in and waits for it.
    ///
    /// # Errors
    /// As for [`Self::peek`].
    pub fn poke(&self, stream: Handle, param: *mut c_void, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (queue, address) = self.reach(stream, param, bytes.len())?;
        // SAFETY: the caller's parameter has as many bytes.
        unsafe { queue.upload_and_wait(address, bytes) }
    }
}

/// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`, and its value for device memory.
const MEMORY_TYPE: c_int = 2;
const DEVICE_MEMORY: c_int = 2;
/// `CU_POINTER_ATTRIBUTE_IS_MANAGED`.
const IS_MANAGED: c_int = 8;
/// `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`.
const ORDINAL: c_int = 9;

impl Device {
    /// Checks that an address, which the host gave as `argument`, leads to so many bytes, at least one, of memory that
    /// this device's kernels may use. Whether others' memory lies between the first and the last nobody can tell.
    ///
    /// # Errors
    /// What it leads to instead; the driver's, of whatever ran before.
    pub fn check(&self, address: Address, bytes: usize, argument: impl FnOnce() -> String) -> Result<()> {
        let _current = self.make_current()?; // a thread without a context may not ask
        let got = match self.place_of(address)? {
            None => "a pointer to host memory, or to none".to_owned(),
            Some(ordinal) if ordinal == self.ordinal => {
                if self.place_of(address.saturating_add(bytes as Address - 1))? == Some(ordinal) {
                    return Ok(());
                }
                format!("a pointer to fewer than its {bytes} bytes")
            }
            Some(ordinal) => format!("a pointer to memory of CUDA device {ordinal}"),
        };
        Err(Error::range(argument(), got, format!("memory of CUDA device {}", self.ordinal)))
    }

    /// Number of the device whose memory is there, if any is.
    fn place_of(&self, address: Address) -> Result<Option<i32>> {
        let attribute = |which: c_int| {
            let mut value: c_int = 0;
            // SAFETY: each of the three attributes is an int.
            match unsafe { (self.driver.pointer_attribute)((&raw mut value).cast(), which, address) } {
                INVALID_VALUE => Ok(None), // memory that the driver does not know
                result => self.driver.check(named::pointer_attribute, result).map(|()| Some(value)),
            }
        };
        // Managed memory moves to where it is used.
        if attribute(IS_MANAGED)?.is_some_and(|managed| managed & 0xff != 0) {
            return Ok(Some(self.ordinal));
        }
        if attribute(MEMORY_TYPE)? == Some(DEVICE_MEMORY) { attribute(ORDINAL) } else { Ok(None) }
    }
}
