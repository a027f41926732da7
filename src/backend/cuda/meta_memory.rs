//! What a meta-update holds in device memory beside the run's own: θ, the stored gradients, what its kernels are told.

use std::sync::Arc;

use super::Sizes;
use super::abi::{self, MetaArguments};
use super::device::Device;
use super::driver::Address;
use super::memory::{Array, Memory};
use super::queue::Queue;
use crate::backend::{Direction, GradientSlot, TrialStep};
use crate::error::Result;

/// Addresses are one a tensor.
#[derive(Debug)]
pub struct MetaMemory {
    /// θ.
    pub saved_params: Vec<Address>,
    /// By [`GradientSlot`]; θ's addresses where none is stored and no kernel reads.
    pub gradients: [Vec<Address>; 2],
    arguments: Array<MetaArguments>,
    trials: Array<abi::TrialStep>,
    directions: Array<abi::Direction>,
    _memory: Memory,
}

/// Where all of it lies.
struct Arrays {
    saved_params: Vec<Address>,
    gradients: [Option<Vec<Address>>; 2],
    /// Of the three vectors above.
    tables: [Array<Address>; 3],
    arguments: Array<MetaArguments>,
    trials: Array<abi::TrialStep>,
    directions: Array<abi::Direction>,
}

impl MetaMemory {
    /// Memory for θ and the gradients of these slots, with anything in it.
    ///
    /// # Errors
    /// [`crate::Error::OutOfDeviceMemory`]; the driver's.
    pub fn new(device: &Arc<Device>, queue: &Queue, sizes: &[Sizes], slots: &[GradientSlot]) -> Result<Self> {
        let n = sizes.len();
        let (memory, arrays) = Memory::with_arrays(device, |layout| {
            let saved_params = layout.buffers(sizes.iter().map(|size| size.param))?;
            let mut gradients = [None, None];
            for slot in slots {
                gradients[*slot as usize] = Some(layout.buffers(sizes.iter().map(|size| size.grad))?);
            }
            Ok(Arrays {
                saved_params,
                gradients,
                tables: [layout.array(n)?, layout.array(n)?, layout.array(n)?],
                arguments: layout.array(1)?,
                trials: layout.array(n)?,
                directions: layout.array(n)?,
            })
        })?;
        let Arrays { saved_params, gradients, tables, arguments, trials, directions } = arrays;
        let gradients = gradients.map(|slot| slot.unwrap_or_else(|| saved_params.clone()));
        for (table, addresses) in tables.iter().zip([&saved_params, &gradients[0], &gradients[1]]) {
            table.write(queue, 0, addresses)?;
        }
        let [of_params, of_train1, of_train2] = tables.map(|table| table.address);
        let told = MetaArguments {
            saved_params: of_params,
            gradients: [of_train1, of_train2],
            trials: trials.address,
            directions: directions.address,
        };
        arguments.write(queue, 0, &[told])?;
        Ok(Self { saved_params, gradients, arguments, trials, directions, _memory: memory })
    }

    /// What its kernels get.
    pub fn arguments(&self) -> Address {
        self.arguments.address
    }

    /// How the next passes make θ′.
    ///
    /// # Errors
    /// The driver's.
    pub fn write_trials(&self, queue: &Queue, trials: &[TrialStep]) -> Result<()> {
        self.trials.write(queue, 0, &trials.iter().map(abi::TrialStep::from).collect::<Vec<_>>())
    }

    /// The directions of the next passes.
    ///
    /// # Errors
    /// The driver's.
    pub fn write_directions(&self, queue: &Queue, directions: &[Direction]) -> Result<()> {
        self.directions.write(queue, 0, &directions.iter().map(abi::Direction::from).collect::<Vec<_>>())
    }
}
