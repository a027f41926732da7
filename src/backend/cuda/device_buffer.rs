//! Device memory for hosts that have no CUDA of their own.

use super::device::Device;
use super::driver::{Address, Driver};
use super::memory::Memory;
use super::queue::{Queue, Stream};
use crate::error::{Error, Result};

/// Device memory that a host fills, reads and passes to steps.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
}

impl Buffer {
    /// So many zeros on the CUDA device with this number.
    ///
    /// # Errors
    /// [`Error::NoCuda`]; no such device; [`Error::OutOfDeviceMemory`]; the driver's.
    pub fn new(device: i32, bytes: usize) -> Result<Self> {
        let device = Device::open("device_index", device)?;
        let queue = default_queue(&device)?;
        let memory = Memory::new(&device, bytes)?;
        memory.zero(&queue)?;
        queue.wait()?;
        Ok(Self { memory })
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Its address in device memory.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.memory.address()
    }

    fn part(&self, offset: usize, bytes: usize) -> Result<Address> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.bytes() => Ok(self.memory.address() + offset as Address),
            _ => {
                Err(Error::range("offset + bytes", format!("{offset} + {bytes}"), format!("at most {}", self.bytes())))
            }
        }
    }

    /// Copies bytes in, after everything that was enqueued on the default stream before; waits for it.
    ///
    /// # Errors
    /// A part beyond the end; the driver's, of whatever ran before.
    pub fn upload(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        let to = self.part(offset, bytes.len())?;
        let queue = default_queue(self.memory.device())?;
        // SAFETY: the part lies within the memory.
        unsafe { queue.upload_and_wait(to, bytes) }
    }

    /// Copies bytes out, after everything that was enqueued on the default stream before; waits for it.
    ///
    /// # Errors
    /// As for [`Self::upload`].
    pub fn download(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let from = self.part(offset, bytes.len())?;
        let queue = default_queue(self.memory.device())?;
        // SAFETY: the part lies within the memory.
        unsafe { queue.download(from, bytes) }
    }
}

/// The default stream, which an optimizer has unless the host sets another; an error if the capture of another stream
/// forbids its use, which would spoil that capture.
fn default_queue(device: &Device) -> Result<Queue<'_>> {
    let queue = device.queue(Stream::DEFAULT)?;
    queue.is_capturing()?;
    Ok(queue)
}

/// Whether there is a CUDA device that will do.
#[must_use]
pub fn is_available() -> bool {
    Driver::get().is_ok_and(|driver| {
        driver.devices().is_ok_and(|count| (0..count).any(|ordinal| Device::find(driver, ordinal).is_ok()))
    })
}
