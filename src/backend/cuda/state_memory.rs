//! What lies in device memory and is as large as the model: both moments, masters or remainders.

use std::sync::Arc;

use super::Sizes;
use super::device::Device;
use super::driver::Address;
use super::memory::Memory;
use super::queue::Queue;
use crate::backend::Part;
use crate::error::Result;

/// Addresses are one a tensor.
#[derive(Debug)]
pub struct StateMemory {
    pub exp_avg: Vec<Address>,
    pub exp_avg_sq: Vec<Address>,
    /// Nothing is there of tensors without.
    pub masters: Vec<Address>,
    /// Both moments, then the masters.
    memory: Memory,
    moment_bytes: usize,
}

impl StateMemory {
    /// Zeros.
    ///
    /// # Errors
    /// [`crate::Error::OutOfDeviceMemory`]; the driver's.
    pub fn new(device: &Arc<Device>, queue: &Queue, sizes: &[Sizes]) -> Result<Self> {
        let (memory, [exp_avg, exp_avg_sq, masters]) = Memory::with_arrays(device, |layout| {
            let moments = || sizes.iter().map(|size| size.moment);
            Ok([
                layout.buffers(moments())?,
                layout.buffers(moments())?,
                layout.buffers(sizes.iter().map(|size| size.master))?,
            ])
        })?;
        let moment_bytes = masters.first().map_or(0, |first| (first - memory.address()) as usize);
        memory.zero(queue)?;
        Ok(Self { exp_avg, exp_avg_sq, masters, memory, moment_bytes })
    }

    /// Makes all moments zeros.
    ///
    /// # Errors
    /// The driver's.
    pub fn zero_moments(&self, queue: &Queue) -> Result<()> {
        // SAFETY: the moments lie at the start of the memory.
        unsafe { queue.zero(self.memory.address(), self.moment_bytes) }
    }

    /// The address of a part of a tensor's state.
    pub fn address(&self, part: Part, tensor: usize) -> Address {
        match part {
            Part::ExpAvg => self.exp_avg[tensor],
            Part::ExpAvgSq => self.exp_avg_sq[tensor],
            Part::Master => self.masters[tensor],
        }
    }
}
