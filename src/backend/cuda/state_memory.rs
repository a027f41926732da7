//! What lies in device memory and is as large as the model: both moments, masters or remainders, averages.

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
    /// Nothing is there without averages.
    pub averages: Vec<Address>,
    /// One for all tensors that came together.
    allocations: Vec<Arc<Allocation>>,
}

/// Both moments, then the masters, then the averages.
#[derive(Debug)]
struct Allocation {
    memory: Memory,
    moment_bytes: usize,
}

impl StateMemory {
    /// Zeros.
    ///
    /// # Errors
    /// [`crate::Error::OutOfDeviceMemory`]; the driver's.
    pub fn new(device: &Arc<Device>, queue: &Queue, sizes: &[Sizes]) -> Result<Self> {
        let (memory, [exp_avg, exp_avg_sq, masters, averages]) = Memory::with_arrays(device, |layout| {
            let moments = || sizes.iter().map(|size| size.moment);
            Ok([
                layout.buffers(moments())?,
                layout.buffers(moments())?,
                layout.buffers(sizes.iter().map(|size| size.master))?,
                layout.buffers(sizes.iter().map(|size| size.average))?,
            ])
        })?;
        let moment_bytes = masters.first().map_or(0, |first| (first - memory.address()) as usize);
        memory.zero(queue)?;
        let allocations = vec![Arc::new(Allocation { memory, moment_bytes })];
        Ok(Self { exp_avg, exp_avg_sq, masters, averages, allocations })
    }

    /// Of tensors of which tensor i was `from[i]` here, or the next of `added`. What no tensor uses is not in it.
    pub fn changed(&self, from: &[Option<usize>], added: &Self) -> Self {
        let list = |old: &[Address], new: &[Address]| {
            let mut new = new.iter();
            let address = |from: &Option<usize>| from.map_or_else(|| new.next().copied(), |i| Some(old[i]));
            from.iter().map(address).collect::<Option<Vec<_>>>().expect("one for each new tensor")
        };
        let exp_avg = list(&self.exp_avg, &added.exp_avg);
        let mut allocations: Vec<_> = self.allocations.iter().chain(&added.allocations).cloned().collect();
        allocations.retain(|allocation| {
            let memory = &allocation.memory;
            let addresses = memory.address()..memory.address() + memory.bytes() as Address;
            exp_avg.iter().any(|address| addresses.contains(address))
        });
        Self {
            exp_avg_sq: list(&self.exp_avg_sq, &added.exp_avg_sq),
            masters: list(&self.masters, &added.masters),
            averages: list(&self.averages, &added.averages),
            exp_avg,
            allocations,
        }
    }

    /// Makes all moments zeros.
    ///
    /// # Errors
    /// The driver's.
    pub fn zero_moments(&self, queue: &Queue) -> Result<()> {
        self.allocations.iter().try_for_each(|allocation| {
            // SAFETY: the moments lie at the start of the memory.
            unsafe { queue.zero(allocation.memory.address(), allocation.moment_bytes) }
        })
    }

    /// The address of a part of a tensor's state.
    pub fn address(&self, part: Part, tensor: usize) -> Address {
        match part {
            Part::ExpAvg => self.exp_avg[tensor],
            Part::ExpAvgSq => self.exp_avg_sq[tensor],
            Part::Master => self.masters[tensor],
            Part::Average => self.averages[tensor],
        }
    }
}
