//! The seam: all work that is proportional to the number of parameters, and nothing else.
//!
//! A backend owns the moments and reads and writes the host's buffers. Every sum is taken in float64 over fixed
//! chunks and fixed lanes, so that it has the same bits for any number of threads and any instruction set. Sums
//! come raw (of the gradients as the host gave them); whoever asked scales them.
//!
//! No pass fails but [`MetaPasses::begin_meta`], which allocates: what could be wrong with a buffer was checked before.
//! A device can fail at any time; its sums are NaN then, and [`Backend::health`] tells.
//!
//! A backend may make the whole step by itself ([`DeviceStep`]): the host only enqueues it, and learns later.

pub mod cpu;
pub mod cuda;
mod device_step;
mod meta_types;
mod run_state;

pub use self::device_step::DeviceStep;
pub use self::meta_types::{Alignment, Direction, Kept, Move, Neighbour, Probe, Projection};
pub use self::run_state::Mirror;

use std::ffi::c_void;

use crate::error::Result;
use crate::model::coefficients::Coefficients;
use crate::model::groups::Tensor;
use crate::model::host_buffers::{Gradient, Grads, Params};
use crate::model::options::Options;
use crate::model::stats::{GradientSums, StateSums};

/// What the library keeps of each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// m.
    ExpAvg,
    /// v.
    ExpAvgSq,
    /// The float32 master, or the 16 bits that the host's bfloat16 lacks of it, by the tensor's precision.
    Master,
}

/// What a step needs.
pub trait StepPasses: Send {
    /// Sums over the gradients of the tensors that `wanted` names and that have one, into `out`. Without
    /// `with_momentum` the first moment is not read and its product counts as 0.
    fn gradient_sums(
        &mut self,
        grads: &Grads,
        with_momentum: bool,
        wanted: &(dyn Fn(usize) -> bool + Sync),
        out: &mut [GradientSums],
    );

    /// The same for one tensor, in time proportional to it alone.
    fn gradient_sums_of(&mut self, tensor: usize, gradient: &Gradient, with_momentum: bool) -> GradientSums;

    /// Sums over every parameter (its master where it has one, except of tensors that are `shown`: there what the host has)
    /// and moment. Bit for bit what [`StepPasses::update`] returns for the same values.
    fn state_sums(&mut self, params: &Params, shown: &[bool], out: &mut [StateSums]);

    /// The masters of the tensors that are `wanted` and have some begin with what the host's parameters say, widened.
    fn begin_masters(&mut self, params: &Params, wanted: &[bool]);

    /// The first of the `wanted` tensors whose parameter is not what its master shows. Of remainders nobody can tell.
    fn stranger(&mut self, params: &Params, wanted: &[bool]) -> Option<usize>;

    /// The masters of a tensor, which has some. `shown`: the host's parameter, read where there are remainders.
    fn read_masters(&self, tensor: usize, shown: &[u16], out: &mut [f32]);

    /// Sets the masters of a tensor, which has some, and writes what they show into the host's parameter.
    fn write_masters(&mut self, tensor: usize, values: &[f32], shown: &mut [u16]);

    /// One AdamW step of each tensor that has `coefficients`; sums of what was written into `state` and, where
    /// `momentum` is given, Σ g·m of the effective gradient with the new first moment. Others keep theirs.
    ///
    /// Where the gradient sums before it were taken with momentum, a backend may leave Σ m² as it was, until
    /// [`StepPasses::first_moment_sums`].
    fn update(
        &mut self,
        params: &Params,
        grads: &Grads,
        coefficients: &[Option<Coefficients>],
        state: &mut [StateSums],
        momentum: Option<&mut [f64]>,
    );

    /// The same without sums.
    fn update_plain(&mut self, params: &Params, grads: &Grads, coefficients: &[Option<Coefficients>]);

    /// Σ m² of the tensors of which [`StepPasses::update`] left it as it was, as m is now. Of those whose gradient's sums
    /// have been taken since, with momentum, it comes from there: that pass waits for memory, an update calculates.
    fn first_moment_sums(&mut self, _state: &mut [StateSums]) {}

    /// Moments back to 0.
    fn reset_moments(&mut self);

    /// Copies some of what is kept out: `out.len()` bytes from byte `offset` on, elements as they lie in memory.
    fn read(&self, part: Part, tensor: usize, offset: usize, out: &mut [u8]);

    /// Copies some of what is kept in.
    fn write(&mut self, part: Part, tensor: usize, offset: usize, bytes: &[u8]);
}

/// What a meta-update needs: between `begin_meta` and `end_meta` only.
pub trait MetaPasses: StepPasses {
    /// Takes the memory of a meta-update and a copy of θ. `forward`: a [`Probe::Difference`] will be asked for.
    ///
    /// # Errors
    /// [`crate::error::Error::OutOfMemory`]; nothing is kept then.
    fn begin_meta(&mut self, tensors: &[Tensor], params: &Params, kept: &[Kept], forward: bool) -> Result<()>;

    /// Writes θ back, bit for bit.
    fn restore(&mut self, params: &Params);

    /// The memory of a meta-update is no longer needed: it is given back, or the system may take it when it needs some.
    fn end_meta(&mut self);

    /// Keeps the host's gradients as g (0 where one is missing), and gives their sums as
    /// [`StepPasses::gradient_sums`] does, of those that are there.
    fn keep_train1(&mut self, grads: &Grads, out: &mut [GradientSums]);

    /// Writes θ′; Σ θ′² of each tensor into `out`.
    fn write_moved(&mut self, params: &Params, moves: &[Move], out: &mut [f64]);

    /// Takes the host's gradients as g′ (0 where one is missing), and gives their products with themselves and with g.
    fn align(&mut self, grads: &Grads, out: &mut [Alignment]);

    /// Σ w² of each tensor. `grads`: those of [`MetaPasses::align`], which the host still has.
    fn direction_square(&mut self, grads: &Grads, directions: &[Direction], out: &mut [f64]);

    /// Keeps what [`MetaPasses::write_neighbour`] needs of these gradients, which are those of [`MetaPasses::align`]. The
    /// neighbours will lie along these directions, at `radius` or −`radius`.
    fn keep_direction(&mut self, grads: &Grads, directions: &[Direction], radius: f64);

    /// Writes a neighbour of θ′, rounded to each tensor's dtype. `made`: ⟨δ, w⟩ of each tensor, δ = what was written − θ′.
    fn write_neighbour(&mut self, params: &Params, moves: &[Move], neighbour: Neighbour, made: &mut [f64]);

    /// Products of x with what θ′ is made of.
    fn project(&mut self, grads: &Grads, probe: Probe, moves: &[Move], out: &mut [Projection]);

    /// [`MetaPasses::project`], then [`MetaPasses::write_neighbour`], in one pass over memory where that is cheaper.
    fn project_and_write_neighbour(
        &mut self,
        (grads, probe): (&Grads, Probe),
        params: &Params,
        moves: &[Move],
        neighbour: Neighbour,
        (projections, made): (&mut [Projection], &mut [f64]),
    ) {
        self.project(grads, probe, moves, projections);
        self.write_neighbour(params, moves, neighbour, made);
    }
}

/// Everything proportional to the number of parameters.
pub trait Backend: StepPasses + MetaPasses {
    /// Checks that pointers which passed the checks of every backend lead to memory of this one's.
    ///
    /// # Errors
    /// Names the first that does not.
    fn check_buffers(&mut self, _tensors: &[Tensor], _params: &Params, _grads: Option<&Grads>) -> Result<()> {
        Ok(())
    }

    /// Whether passes can be made now.
    ///
    /// # Errors
    /// [`crate::Error::Capturing`]: `what` waits, and the stream is being captured.
    fn ready(&self, _what: &'static str) -> Result<()> {
        Ok(())
    }

    /// Whether it could take note of these options.
    ///
    /// # Errors
    /// [`crate::Error::CapturedOtherwise`].
    fn may_follow(&self, _options: &Options) -> Result<()> {
        Ok(())
    }

    /// Takes note of options that a load changed.
    fn follow(&mut self, _options: &Options) {}

    /// Whether all passes so far did what they should.
    ///
    /// # Errors
    /// The first failure; it stays.
    fn health(&self) -> Result<()> {
        Ok(())
    }

    /// The stream that the host enqueues on.
    ///
    /// # Errors
    /// The device's.
    fn set_stream(&mut self, _stream: *mut c_void) -> Result<()> {
        Ok(())
    }

    /// The backend as one that makes the whole step by itself, if it does.
    fn device(&mut self) -> Option<&mut dyn DeviceStep> {
        None
    }
}
