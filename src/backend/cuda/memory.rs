//! Arrays side by side in one allocation of device memory.

use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::device::{Device, Memory, Queue};
use super::driver::Address;
use crate::error::{Error, Result};

/// What every array begins at a multiple of.
const ALIGNMENT: usize = 256;

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
    /// Copies elements in, from index `at` on, without waiting.
    ///
    /// # Errors
    /// The driver's.
    pub fn write(&self, queue: &Queue, at: usize, elements: &[T]) -> Result<()> {
        assert!(at + elements.len() <= self.len, "within the array");
        let to = self.address + (at * size_of::<T>()) as Address;
        // SAFETY: it lies within the array; whoever made the array keeps its memory.
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
