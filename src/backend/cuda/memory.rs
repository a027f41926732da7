//! Memory: of the device, in one allocation for many arrays, and of the host that the device writes to.

use std::ffi::c_uint;
use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::device::{Device, Queue};
use super::driver::{Address, call};
use crate::error::{Error, Result};

/// `CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP`.
const PORTABLE_AND_MAPPED: c_uint = 3;
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
        let _beside = device.beside()?;
        // SAFETY: the pointer is valid. The driver refuses to allocate nothing.
        unsafe { call!(driver.allocate(&raw mut address, bytes.max(1)))? };
        Ok(Self { device: device.clone(), address, bytes })
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
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Ok(_beside) = self.device.beside() {
            // SAFETY: it was allocated by us. The driver waits for kernels that use it.
            unsafe { (self.device.driver().free)(self.address) };
        }
    }
}

/// Host memory that the device writes to while the host reads it: pinned, at the same address for both.
#[derive(Debug)]
pub struct Shared<T> {
    device: Arc<Device>,
    pointer: *mut T,
}

// SAFETY: owned memory; who reads it while the device writes is told below.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy + bytemuck::Zeroable> Shared<T> {
    /// Zeros.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`]; the driver's.
    pub fn new(device: &Arc<Device>) -> Result<Self> {
        let (driver, mut pointer) = (device.driver(), std::ptr::null_mut());
        let _beside = device.beside()?;
        // SAFETY: the pointer is valid; the memory is page-aligned and as large as T.
        unsafe {
            call!(driver.allocate_host(&raw mut pointer, size_of::<T>(), PORTABLE_AND_MAPPED))?;
            pointer.cast::<T>().write(T::zeroed());
        }
        Ok(Self { device: device.clone(), pointer: pointer.cast() })
    }

    /// Where host and device find it.
    pub fn pointer(&self) -> *mut T {
        self.pointer
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Ok(_beside) = self.device.beside() {
            // SAFETY: it was allocated by us.
            unsafe { (self.device.driver().free_host)(self.pointer.cast()) };
        }
    }
}

/// Collects the sizes of arrays, to be allocated together.
#[derive(Debug, Default)]
pub struct Plan {
    bytes: usize,
}

/// Where an array will be, in bytes from the start.
#[derive(Clone, Copy, Debug)]
pub struct Planned<T> {
    offset: usize,
    len: usize,
    marker: PhantomData<T>,
}

impl Plan {
    /// Room for `len` elements.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where no address space has as many bytes.
    pub fn array<T>(&mut self, len: usize) -> Result<Planned<T>> {
        let bytes = len.checked_mul(size_of::<T>()).and_then(|n| n.checked_next_multiple_of(ALIGNMENT));
        let offset = self.bytes;
        self.bytes = bytes.and_then(|n| offset.checked_add(n)).ok_or(Error::OutOfMemory)?;
        Ok(Planned { offset, len, marker: PhantomData })
    }

    /// Allocates it all.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`]; the driver's.
    pub fn allocate(self, device: &Arc<Device>) -> Result<Memory> {
        Memory::new(device, self.bytes)
    }
}

impl<T> Planned<T> {
    /// The array in the memory that was allocated for its plan.
    pub fn within(self, memory: &Memory) -> Array<T> {
        debug_assert!(self.offset + self.len * size_of::<T>() <= memory.bytes());
        Array { address: memory.address() + self.offset as Address, len: self.len, marker: PhantomData }
    }
}

/// An array in device memory, which somebody else owns.
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
        // SAFETY: as in `write`.
        unsafe { queue.download(self.address, bytemuck::cast_slice_mut(&mut elements))? };
        Ok(elements)
    }
}
