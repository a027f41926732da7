//! Work on one stream of the host's: kernels, copies, waiting.

use std::ffi::{c_int, c_void};

use cudarc::driver::sys::{CUstream, CUstreamCaptureStatus};

use super::device::{Current, Device, Kernel};
use super::driver::{Address, Driver, call};
use crate::error::{Error, Result};

/// A copy of up to so many bytes of pageable memory the driver takes along with the command: it does not wait for the
/// stream.
const COPIED_AT_ONCE: usize = 1 << 16;

/// A stream of the host's: never created, never destroyed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(CUstream);

impl Stream {
    /// The legacy default stream.
    pub const DEFAULT: Self = Self(std::ptr::null_mut());

    /// As the host gives it.
    pub fn new(stream: *mut c_void) -> Self {
        Self(stream.cast())
    }
}

// SAFETY: handles of the driver may be used from any thread.
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
        Ok(Queue { driver: self.driver(), stream, _current: self.make_current()?, _device: self })
    }
}

impl Queue<'_> {
    /// Whether the stream is being captured into a graph.
    ///
    /// # Errors
    /// The driver's, such as for a handle that is no stream.
    pub fn is_capturing(&self) -> Result<bool> {
        const NONE: c_int = CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE as c_int;
        let (driver, mut status) = (self.driver, NONE);
        // SAFETY: the pointer is valid, and an integer is read from it; the driver checks the stream.
        unsafe { call!(driver.capturing(self.stream.0, (&raw mut status).cast()))? };
        Ok(status != NONE)
    }

    /// Refuses what would wait, allocate or read the host's memory later, while the stream is being captured.
    ///
    /// # Errors
    /// [`Error::Capturing`]; the driver's.
    pub fn refuse_capture(&self, what: &'static str) -> Result<()> {
        if self.is_capturing()? { Err(Error::Capturing { what }) } else { Ok(()) }
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
        assert!(arguments.len() <= 8, "no kernel has more");
        let mut arguments: [*mut c_void; 8] =
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

    /// Copies to the device without waiting for the stream, in pieces that are small enough for that.
    ///
    /// # Safety
    /// `to` is the address of as many bytes of device memory. The bytes are pageable: the library's own, since a host's may
    /// be pinned, and those the driver reads when the stream comes to them.
    ///
    /// # Errors
    /// The driver's.
    pub unsafe fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        let driver = self.driver;
        for (i, piece) in bytes.chunks(COPIED_AT_ONCE).enumerate() {
            let to = to + (i * COPIED_AT_ONCE) as Address;
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
        // SAFETY: both addresses are of `bytes` bytes of device memory.
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
        // SAFETY: `to` is the address of `bytes` bytes of device memory.
        unsafe { self.fill(to, 0, bytes) }
    }

    /// Sets every byte.
    ///
    /// # Safety
    /// As for [`Self::zero`].
    ///
    /// # Errors
    /// The driver's.
    pub unsafe fn fill(&self, to: Address, value: u8, bytes: usize) -> Result<()> {
        let driver = self.driver;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: `to` is the address of `bytes` bytes of device memory.
        unsafe { call!(driver.fill(to, value, bytes, self.stream.0)) }
    }
}
