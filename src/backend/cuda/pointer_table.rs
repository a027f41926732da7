//! The host's pointers as kernels read them: from a table in device memory, so that a captured step can be replayed.
//!
//! A captured step keeps its table as long as the optimizer lives: later steps with other pointers get a table of their
//! own.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use super::abi::KernelArguments;
use super::device::Device;
use super::driver::Address;
use super::memory::{Array, Memory};
use super::queue::Queue;
use crate::error::{Error, Result};
use crate::model::host_buffers::{CheckedGrads, CheckedParams};

/// Kernel arguments with one set of the host's pointers.
#[derive(Debug)]
pub struct PointerTable {
    arguments: Array<KernelArguments>,
    on_device: Array<Address>,
    /// What stands there: parameters, then gradients.
    pointers: Vec<Address>,
    /// A graph may read it at any time.
    captured: bool,
    _memory: Memory,
}

impl PointerTable {
    /// Null pointers, of so many tensors.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`]; the driver's.
    pub fn new(device: &Arc<Device>, queue: &Queue, arguments: &KernelArguments) -> Result<Self> {
        let tensors = arguments.tensor_count as usize;
        let (memory, (on_device, params, grads)) = Memory::with_arrays(device, |layout| {
            let (arguments, pointers) = (layout.array(1)?, layout.array(2 * tensors)?);
            let grads = pointers.address + (tensors * size_of::<Address>()) as Address;
            Ok((arguments, pointers, grads))
        })?;
        let pointers = vec![0; 2 * tensors];
        on_device.write(queue, 0, &[KernelArguments { params: params.address, grads, ..*arguments }])?;
        params.write(queue, 0, &pointers)?;
        Ok(Self { arguments: on_device, on_device: params, pointers, captured: false, _memory: memory })
    }

    /// What kernels get.
    pub fn arguments(&self) -> Address {
        self.arguments.address
    }

    /// Parameters, then gradients.
    pub fn pointers(&self) -> &[Address] {
        &self.pointers
    }

    fn holds(&self, pointers: impl Iterator<Item = Address>) -> bool {
        self.pointers.iter().copied().eq(pointers)
    }

    /// Makes it hold these pointers, from the next launch on.
    ///
    /// # Errors
    /// The driver's.
    pub fn set(&mut self, queue: &Queue, pointers: impl Iterator<Item = Address>) -> Result<()> {
        self.pointers.clear();
        self.pointers.extend(pointers);
        let written = self.on_device.write(queue, 0, &self.pointers);
        if written.is_err() {
            self.pointers.fill(Address::MAX); // unknown is what stands there: no host's pointers
        }
        written
    }
}

/// The tables of steps.
#[derive(Debug)]
pub struct PointerTables {
    /// Those of captured steps, and behind them, once there was need of it, one for all others.
    tables: Vec<PointerTable>,
    /// Captured steps' tables by the digest of their pointers: with many captured steps they are many.
    by_digest: HashMap<u64, usize>,
    current: usize,
}

impl PointerTables {
    /// One table of null pointers.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`]; the driver's.
    pub fn new(device: &Arc<Device>, queue: &Queue, arguments: &KernelArguments) -> Result<Self> {
        let tables = vec![PointerTable::new(device, queue, arguments)?];
        Ok(Self { tables, by_digest: HashMap::new(), current: 0 })
    }

    /// That of the step under way.
    pub fn current(&self) -> &PointerTable {
        &self.tables[self.current]
    }

    /// Makes a table current that holds these pointers.
    ///
    /// # Errors
    /// While the stream is captured, pointers that no step had before; [`Error::OutOfDeviceMemory`]; the driver's.
    pub fn select(
        &mut self,
        (device, queue): (&Arc<Device>, &Queue),
        arguments: &KernelArguments,
        capturing: bool,
        pointers: impl Iterator<Item = Address> + Clone,
    ) -> Result<()> {
        if self.current().holds(pointers.clone()) {
            return Ok(());
        }
        let last = self.tables.len() - 1;
        let captured = self.by_digest.get(&digest(pointers.clone())).copied();
        let known = captured.into_iter().chain([last]).find(|&i| self.tables[i].holds(pointers.clone()));
        if let Some(known) = known {
            self.current = known;
            return Ok(());
        }
        if capturing {
            let what = "a step whose pointers are not those of a step before (make one with them outside the capture)";
            return Err(Error::Capturing { what });
        }
        if self.tables[last].captured {
            self.tables.push(PointerTable::new(device, queue, arguments)?);
        }
        self.current = self.tables.len() - 1;
        self.tables[self.current].set(queue, pointers)
    }

    /// The step under way is captured: its table stays what it is.
    pub fn keep_current(&mut self) {
        let table = &mut self.tables[self.current];
        table.captured = true;
        self.by_digest.insert(digest(table.pointers.iter().copied()), self.current);
    }
}

fn digest(pointers: impl Iterator<Item = Address>) -> u64 {
    let mut hasher = DefaultHasher::new();
    pointers.for_each(|pointer| hasher.write_u64(pointer));
    hasher.finish()
}

/// The host's pointers, parameters first.
pub fn addresses<'a>(params: CheckedParams<'a>, grads: CheckedGrads<'a>) -> impl Iterator<Item = Address> + Clone + 'a {
    let params = params.pointers().iter().map(|p| p.addr() as Address);
    params.chain(grads.pointers().iter().map(|g| g.addr() as Address))
}
