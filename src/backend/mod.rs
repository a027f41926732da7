//! The seam: all work that is proportional to the number of parameters, and nothing else.
//!
//! A backend owns the moments and reads and writes the host's buffers. Every sum is taken over fixed chunks and fixed
//! lanes, in float64 from tile to tile, so that it has the same bits for any number of threads and any instruction set.
//! Sums come raw (of the gradients as the host gave them); whoever asked scales them.
//!
//! Buffers come as [`CheckedParams`] and [`CheckedGrads`], which only the checker makes: that is what the backends' `unsafe`
//! relies on. No pass fails but [`MetaPasses::begin_meta`], which allocates. A device can fail at any time; its sums are
//! NaN then, and [`Backend::health`] tells.
//!
//! A backend may make the whole step by itself ([`DeviceStep`]): the host only enqueues it, and learns later.

mod all_reduce;
pub mod cpu;
pub mod cuda;
mod device_step;
mod meta_types;
mod run_state;
pub mod sync;

use std::ffi::c_void;

pub use self::all_reduce::{
    Agreement, AllReduce, Callback, Collective, HEADER, Summands, TextHash, differ, unanimous, write_header,
};
pub use self::device_step::DeviceStep;
pub use self::meta_types::{Alignment, Cotangent, Direction, GradientSlot, PerturbedPoint, Projection, TrialStep};
pub use self::run_state::{Beginning, HorizonSums, MasterSum, RunState};
use crate::error::Result;
use crate::model::coefficients::Coefficients;
use crate::model::groups::{Groups, Tensor};
use crate::model::host_buffers::{CheckedGradient, CheckedGrads, CheckedParams};
use crate::model::options::Options;
use crate::model::stats::{GradientSums, StateSums};
use crate::modulation::Modulation;

/// What the library stores of each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// m.
    ExpAvg,
    /// v.
    ExpAvgSq,
    /// The float32 master, or the 16 bits that the host's bfloat16 lacks of it, by the tensor's precision.
    Master,
    /// θ̄, the average of the parameter, or of its master.
    Average,
}

/// Products that an update takes on the way where they are given: one a tensor.
#[derive(Debug, Default)]
pub struct Products<'a> {
    /// Σ g·m of the effective gradient with the new first moment.
    pub momentum: Option<&'a mut [f64]>,
    /// Σ g·(θ − θ̄) of the host's gradient, before the update.
    pub displacements: Option<&'a mut [f64]>,
}

/// What a step needs.
pub trait StepPasses: Send {
    /// Sums over the gradients of the tensors that `wanted` names and that have one, into `out`. Without
    /// `with_momentum` the first moment is not read and its product counts as 0.
    fn gradient_sums(
        &mut self,
        grads: CheckedGrads,
        with_momentum: bool,
        wanted: &(dyn Fn(usize) -> bool + Sync),
        out: &mut [GradientSums],
    );

    /// The same for one tensor, in time proportional to it alone.
    fn gradient_sums_of(&mut self, gradient: CheckedGradient, with_momentum: bool) -> GradientSums;

    /// Sums over every parameter (its master where it has one, except of tensors that are `uninitialized`: there the
    /// host's) and moment. Bit for bit what [`StepPasses::update`] returns for the same values.
    fn state_sums(&mut self, params: CheckedParams, uninitialized: &[bool], out: &mut [StateSums]);

    /// Initialises the masters of the tensors that are `wanted` and have some with the host's parameters, widened.
    fn init_masters(&mut self, params: CheckedParams, wanted: &[bool]);

    /// Makes the averages of the `wanted` tensors equal to their parameters, or masters.
    fn init_averages(&mut self, params: CheckedParams, wanted: &[bool]);

    /// Writes the averages of the `wanted` tensors into the host's buffers, rounded to nearest.
    fn write_averages(&mut self, params: CheckedParams, wanted: &[bool]);

    /// The first of the `wanted` tensors whose parameter is not its master rounded. Of remainders nobody can tell.
    fn first_desynced(&mut self, params: CheckedParams, wanted: &[bool]) -> Option<usize>;

    /// The masters of a tensor, which has some. `model_param`: the host's parameter, read where there are remainders.
    fn read_masters(&self, tensor: usize, model_param: &[u16], out: &mut [f32]);

    /// Sets the masters of a tensor, which has some, and rounds them into the host's parameter.
    fn write_masters(&mut self, tensor: usize, values: &[f32], model_param: &mut [u16]);

    /// One AdamW step of each tensor that has `coefficients`; sums of what was written into `sums`, and `products`. Others
    /// keep theirs.
    ///
    /// Where the gradient sums before it were taken with momentum, a backend may leave Σ m² as it was, until
    /// [`StepPasses::first_moment_sums`].
    ///
    /// Averages follow the new parameters.
    fn update(
        &mut self,
        params: CheckedParams,
        grads: CheckedGrads,
        coefficients: &[Option<Coefficients>],
        sums: &mut [StateSums],
        products: Products,
    );

    /// The same without sums and products.
    fn update_without_sums(
        &mut self,
        params: CheckedParams,
        grads: CheckedGrads,
        coefficients: &[Option<Coefficients>],
    );

    /// Σ m² of the tensors of which [`StepPasses::update`] left it as it was, as m is now. Of those whose gradient's sums
    /// have been taken since, with momentum, it comes from there: that pass waits for memory, an update calculates.
    fn first_moment_sums(&mut self, _sums: &mut [StateSums]) {}

    /// The first tensor whose parameter was not its master's copy any more when an update wrote the next copy over it, as far
    /// as a sample of the elements tells. Each is told once.
    fn take_overwritten(&mut self) -> Option<usize>;

    /// Moments back to 0.
    fn reset_moments(&mut self);

    /// Copies a part of a tensor's state out: `out.len()` bytes from byte `offset` on, elements as they lie in memory.
    fn read(&self, part: Part, tensor: usize, offset: usize, out: &mut [u8]);

    /// Copies a part of a tensor's state in.
    fn write(&mut self, part: Part, tensor: usize, offset: usize, bytes: &[u8]);
}

/// What a meta-update needs, and a swap of the averages: between `begin_meta` and `end_meta` only.
pub trait MetaPasses: StepPasses {
    /// Takes the memory of a meta-update and a copy of θ. Without `slots`: for [`Self::restore_params`] alone. `forward`: a [`Cotangent::GradientDifference`] will be asked for.
    ///
    /// # Errors
    /// [`crate::error::Error::OutOfMemory`]; nothing is stored then.
    fn begin_meta(
        &mut self,
        tensors: &[Tensor],
        params: CheckedParams,
        slots: &[GradientSlot],
        forward: bool,
    ) -> Result<()>;

    /// Writes θ back, bit for bit.
    fn restore_params(&mut self, params: CheckedParams);

    /// The memory of a meta-update is no longer needed: it is given back, or the system may take it when it needs some.
    fn end_meta(&mut self);

    /// Stores the host's gradients as g (0 where one is missing), and gives their sums as
    /// [`StepPasses::gradient_sums`] does, of those that are there.
    fn store_train1_gradient(&mut self, grads: CheckedGrads, out: &mut [GradientSums]);

    /// Writes θ′; Σ θ′² of each tensor into `out`.
    fn write_trial_params(&mut self, params: CheckedParams, trials: &[TrialStep], out: &mut [f64]);

    /// Takes the host's gradients as g′ (0 where one is missing), and gives their products with themselves and with g.
    fn gradient_alignment(&mut self, grads: CheckedGrads, out: &mut [Alignment]);

    /// ‖w‖² of each tensor. `grads`: those of [`MetaPasses::gradient_alignment`], which the host still has.
    fn direction_norm_squared(&mut self, grads: CheckedGrads, directions: &[Direction], out: &mut [f64]);

    /// Stores what [`MetaPasses::write_perturbed`] needs of these gradients, which are those of
    /// [`MetaPasses::gradient_alignment`]. The perturbed points will lie along these directions, at `radius` or −`radius`.
    fn store_direction(&mut self, grads: CheckedGrads, directions: &[Direction], radius: f64);

    /// Writes a perturbed point, rounded to each tensor's dtype. `step_products`: ⟨δ, w⟩ of each tensor, δ being what was
    /// written − θ′.
    fn write_perturbed(
        &mut self,
        params: CheckedParams,
        trials: &[TrialStep],
        point: PerturbedPoint,
        step_products: &mut [f64],
    );

    /// Products of x with what θ′ is made of.
    fn project(&mut self, grads: CheckedGrads, x: Cotangent, trials: &[TrialStep], out: &mut [Projection]);

    /// [`MetaPasses::project`], then [`MetaPasses::write_perturbed`], in one pass over memory where that is cheaper.
    fn project_and_write_perturbed(
        &mut self,
        (grads, x): (CheckedGrads, Cotangent),
        params: CheckedParams,
        trials: &[TrialStep],
        point: PerturbedPoint,
        (projections, step_products): (&mut [Projection], &mut [f64]),
    ) {
        self.project(grads, x, trials, projections);
        self.write_perturbed(params, trials, point, step_products);
    }
}

/// A model that gained or lost tensors between steps.
#[derive(Clone, Copy)]
pub struct ModelChange<'a> {
    /// The options.
    pub options: &'a Options,
    /// All tensors, as they are registered now.
    pub tensors: &'a [Tensor],
    /// The index that each of them had so far; `None` of a new one, whose moments begin with 0.
    pub from: &'a [Option<usize>],
    /// Their modulation groups.
    pub groups: &'a Groups,
    /// The attention module for these groups.
    pub modulation: Option<&'a Modulation>,
}

/// Everything proportional to the number of parameters.
pub trait Backend: StepPasses + MetaPasses {
    /// Checks that buffers which passed the checks of every backend lie in memory of this one's.
    ///
    /// # Errors
    /// Names the first that does not.
    fn check_memory(
        &mut self,
        _tensors: &[Tensor],
        _params: CheckedParams,
        _grads: Option<CheckedGrads>,
    ) -> Result<()> {
        Ok(())
    }

    /// Whether passes can be made now.
    ///
    /// # Errors
    /// [`crate::Error::Capturing`]: `what` waits, and the stream is being captured.
    fn ready(&self, _what: &'static str) -> Result<()> {
        Ok(())
    }

    /// Follows a change of the model. State that stays is not copied.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`]; [`crate::Error::CapturedTensors`]; a device's. Nothing is changed then.
    fn change_model(&mut self, change: ModelChange) -> Result<()>;

    /// Whether it could take note of these options.
    ///
    /// # Errors
    /// [`crate::Error::CapturedOtherwise`].
    fn can_apply_options(&self, _options: &Options) -> Result<()> {
        Ok(())
    }

    /// Takes note of options that a load changed.
    fn apply_options(&mut self, _options: &Options) {}

    /// Whether all passes so far did what they should.
    ///
    /// # Errors
    /// The first failure; it stays.
    fn health(&self) -> Result<()> {
        Ok(())
    }

    /// Which additions make the sums of a tensor's state. Sums of the same number have the same bits wherever they are made;
    /// it stands in checkpoints, so sums that are made in another way get another number.
    fn sum_order(&self, tensor: usize) -> u32;

    /// Threads that a pass uses, the caller's included; `None` where threads of this process do not make it.
    fn threads(&self) -> Option<usize> {
        None
    }

    /// A sentence on the threads that the system refused, if it did.
    fn refused_threads(&self) -> Option<String> {
        None
    }

    /// The stream that the host enqueues on.
    ///
    /// # Errors
    /// The device's.
    fn set_stream(&mut self, _stream: *mut c_void) -> Result<()> {
        Ok(())
    }

    /// Makes this process one of several.
    ///
    /// # Errors
    /// [`crate::Error::Reduction`]; [`crate::Error::Unsupported`].
    fn join(&mut self, _all_reduce: AllReduce, _tensors: &[Tensor], _agreement: &Agreement) -> Result<()> {
        Err(crate::Error::Unsupported { what: "a reduction over processes on this device".to_owned() })
    }

    /// The backend as one of several processes that share the model, if it is.
    fn collective(&mut self) -> Option<&mut dyn Collective> {
        None
    }

    /// The backend as one that makes the whole step by itself, if it does.
    fn device(&mut self) -> Option<&mut dyn DeviceStep> {
        None
    }
}
