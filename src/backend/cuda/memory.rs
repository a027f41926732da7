//! Memory: of the device, in one allocation for many arrays, and of the host that the device writes to.

use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use cudarc::driver::sys::{CU_MEMHOSTALLOC_DEVICEMAP, CU_MEMHOSTALLOC_PORTABLE};

use super::device::Device;
use super::driver::{Address, call};
use super::queue::Queue;
use crate::error::{Error, Result};

/// What every array begins at a multiple of.
const ALIGNMENT: usize = 256;

/// Device memory of our own.
#[derive(Debug)]
pub struct Memory {
    device: Arc<Device>,
    address: Address,
    bytes: usize,
}

impl Memory {
    /// So many bytes, with anything in them.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`]; the driver's.
    pub fn new(device: &Arc<Device>, bytes: usize) -> Result<Self> {
        let (driver, mut address) = (device.driver(), 0);
        let _relaxed = device.relax_capture()?;
        // SAFETY: the pointer is valid. The driver refuses to allocate nothing.
        unsafe { call!(driver.allocate(&raw mut address, bytes.max(1)))? };
        Ok(Self { device: device.clone(), address, bytes })
    }

    /// Memory for the arrays that `lay_out` makes, and these arrays. It is called twice: to learn how large they are, and
    /// to place them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where no address space has as many bytes; [`Error::OutOfDeviceMemory`]; the driver's.
    pub fn with_arrays<A>(device: &Arc<Device>, lay_out: impl Fn(&mut Layout) -> Result<A>) -> Result<(Self, A)> {
        let mut layout = Layout { start: 0, bytes: 0 };
        lay_out(&mut layout)?;
        let memory = Self::new(device, layout.bytes)?;
        let arrays = lay_out(&mut Layout { start: memory.address, bytes: 0 })?;
        Ok((memory, arrays))
    }

    /// Its device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Its first byte.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes all of it zeros.
    ///
    /// # Errors
    /// The driver's.
    pub fn zero(&self, queue: &Queue) -> Result<()> {
        // SAFETY: the memory is as large.
        unsafe { queue.zero(self.address, self.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Ok(_relaxed) = self.device.relax_capture() {
            // SAFETY: it was allocated by us. The driver waits for kernels that use it.
            unsafe { (self.device.driver().free)(self.address) };
        }
    }
}

/// Places arrays one behind the other.
#[derive(Debug)]
pub struct Layout {
    start: Address,
    bytes: usize,
}

impl Layout {
    /// The next array, of `len` elements.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where no address space has as many bytes.
    pub fn array<T>(&mut self, len: usize) -> Result<Array<T>> {
        let bytes = len.checked_mul(size_of::<T>()).and_then(|n| n.checked_next_multiple_of(ALIGNMENT));
        let address = self.start + self.bytes as Address;
        self.bytes = bytes.and_then(|n| self.bytes.checked_add(n)).ok_or(Error::OutOfMemory)?;
        Ok(Array { address, len, marker: PhantomData })
    }

    /// The next buffers, of so many bytes each: their addresses.
    ///
    /// # Errors
    /// As for [`Self::array`].
    pub fn buffers(&mut self, bytes: impl Iterator<Item = usize>) -> Result<Vec<Address>> {
        bytes.map(|bytes| self.array::<u8>(bytes).map(|buffer| buffer.address)).collect()
    }
}

/// An array in device memory that a [`Memory`] owns.
#[derive(Debug)]
pub struct Array<T> {
    pub address: Address,
    pub len: usize,
    marker: PhantomData<T>,
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Array<T> {}

impl<T> Array<T> {
    /// Its address, 0 if it has no elements.
    pub fn address_or_null(&self) -> Address {
        if self.len > 0 { self.address } else { 0 }
    }
}

impl<T: Pod> Array<T> {
    /// Copies elements of the library's own in, from index `at` on, without waiting.
    ///
    /// # Errors
    /// The driver's.
    pub fn write(&self, queue: &Queue, at: usize, elements: &[T]) -> Result<()> {
        assert!(at + elements.len() <= self.len, "within the array");
        let to = self.address + (at * size_of::<T>()) as Address;
        // SAFETY: it lies within the array; whoever made the array keeps its memory. The library pins no elements.
        unsafe { queue.upload(to, bytemuck::cast_slice(elements)) }
    }

    /// Copies all elements out and waits for them.
    ///
    /// # Errors
    /// The driver's.
    pub fn read(&self, queue: &Queue) -> Result<Vec<T>> {
        let mut elements = vec![<T as Zeroable>::zeroed(); self.len];
        if elements.is_empty() {
            return Ok(elements);
        }
        // SAFETY: as in `write`.
        unsafe { queue.download(self.address, bytemuck::cast_slice_mut(&mut elements))? };
        Ok(elements)
    }

    /// Makes all elements NaNs, whatever the type: for tests of what is written before it is read.
    ///
    /// # Errors
    /// The driver's.
    #[cfg(feature = "fault-injection")]
    pub fn poison(&self, queue: &Queue) -> Result<()> {
        // SAFETY: as in `write`.
        unsafe { queue.fill(self.address, 0xff, self.len * size_of::<T>()) }
    }
}

/// Host memory that the device writes to while the host reads it: pinned, at the same address for both.
#[derive(Debug)]
pub struct Shared<T> {
    device: Arc<Device>,
    pointer: *mut T,
}

// SAFETY: owned memory; what holds for reading it while the device writes stands below.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy + bytemuck::Zeroable> Shared<T> {
    /// Zeros.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`]; the driver's.
    pub fn new(device: &Arc<Device>) -> Result<Self> {
        let (driver, mut pointer) = (device.driver(), std::ptr::null_mut());
        let flags = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP;
        let _relaxed = device.relax_capture()?;
        // SAFETY: the pointer is valid; the memory is page-aligned and as large as T.
        unsafe {
            call!(driver.allocate_host(&raw mut pointer, size_of::<T>(), flags))?;
            pointer.cast::<T>().write(T::zeroed());
        }
        Ok(Self { device: device.clone(), pointer: pointer.cast() })
    }

    /// Where host and device find it. Whoever reads it while the device may write reads it as volatile.
    pub fn pointer(&self) -> *mut T {
        self.pointer
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Ok(_relaxed) = self.device.relax_capture() {
            // SAFETY: it was allocated by us.
            unsafe { (self.device.driver().free_host)(self.pointer.cast()) };
        }
    }
}
