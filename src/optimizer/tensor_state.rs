//! One tensor's state from outside: moments and step count, so that a run can move from and to another Adam, and masters,
//! so that it can start from float32 weights.

use std::ffi::c_void;

use super::Optimizer;
use crate::backend::Part;
use crate::error::{Error, Result, StateError, readable};
use crate::model::dtype::{DType, Precision};
use crate::model::groups::Tensor;
use crate::model::report::{Counters, MAX_STEPS};
use crate::numeric::half::{BF16, F16, Half};
use crate::reserve;

impl Optimizer {
    /// The step count of a tensor.
    ///
    /// # Errors
    /// Before preparation; no such tensor.
    pub fn tensor_step(&self, tensor: usize) -> Result<u64> {
        let run = &self.ready()?.run;
        self.tensor(tensor).map(|_| run.state.tensor_steps[tensor])
    }

    /// Reading a tensor's state: no meta-update is open; what was announced is forgotten.
    ///
    /// # Errors
    /// One is open.
    pub(crate) fn begin_tensor_state(&mut self) -> Result<()> {
        self.changeable().map(drop)
    }

    /// Copies a moment of a tensor out, as bytes of float32, or float64 for a float64 tensor.
    ///
    /// # Errors
    /// Before preparation; no such tensor; a wrong size in bytes.
    pub(crate) fn read_moment(&self, moment: Part, tensor: usize, out: &mut [u8]) -> Result<()> {
        let known = self.check_moment(tensor, out.len())?;
        self.read_widened(moment, known.moment_dtype == DType::BF16, tensor, out)
    }

    /// Copies a part of a tensor's state out, widened to float32 if it is bfloat16.
    ///
    /// # Errors
    /// Before preparation; a wrong size in bytes; the driver's.
    pub(super) fn read_widened(&self, part: Part, is_bf16: bool, tensor: usize, out: &mut [u8]) -> Result<()> {
        let backend = &self.ready()?.run.backend;
        let known = self.check_moment(tensor, out.len())?;
        if is_bf16 {
            let mut halves: Vec<u16> = reserve::defaults(known.numel)?;
            backend.read(part, tensor, 0, bytemuck::cast_slice_mut(&mut halves));
            for (out, half) in out.as_chunks_mut().0.iter_mut().zip(halves) {
                *out = BF16::widen(half).to_ne_bytes();
            }
        } else {
            backend.read(part, tensor, 0, out);
        }
        backend.health()
    }

    fn check_moment(&self, tensor: usize, bytes: usize) -> Result<&Tensor> {
        let known = self.tensor(tensor)?;
        let size = known.spec.dtype.compute().size();
        Error::length("count", bytes / size, known.numel, "elements of that tensor")?;
        Ok(known)
    }

    /// Copies the float32 masters of a tensor out. `model_param`: the host's parameter, needed under
    /// [`Precision::Remainder`].
    ///
    /// # Errors
    /// Before they have begun; no such tensor; a tensor without masters; a wrong length; the driver's. Nothing is written.
    pub fn masters(&self, tensor: usize, model_param: Option<&[u16]>, out: &mut [f32]) -> Result<()> {
        let known = self.check_masters(tensor, out.len())?;
        let initialized = self.ready.as_ref().filter(|ready| ready.run.state.master_initialized[tensor]);
        let backend = &initialized.ok_or(StateError::NoMaster)?.run.backend;
        let model_param = match known.precision {
            Precision::Remainder => model_param.ok_or(Error::Null { argument: "param" })?,
            _ => &[],
        };
        if !self.is_on_device() {
            backend.read_masters(tensor, model_param, out);
            return backend.health();
        }
        // Reading from a device can fail in the middle.
        let mut copy: Vec<f32> = reserve::defaults(out.len())?;
        backend.read_masters(tensor, model_param, &mut copy);
        backend.health()?;
        out.copy_from_slice(&copy);
        Ok(())
    }

    /// Sets the float32 masters of a tensor, so that a run can start from float32 weights, and rounds them into
    /// `model_param`, the host's parameter.
    ///
    /// # Errors
    /// No such tensor; a tensor without masters; a wrong length; a value not finite; an open meta-update.
    pub fn set_masters(&mut self, tensor: usize, values: &[f32], model_param: &mut [u16]) -> Result<()> {
        self.changeable()?;
        let known = self.check_masters(tensor, values.len())?;
        Error::length("count", model_param.len(), known.numel, "elements of that tensor")?;
        let rounded = |x: f32| match known.spec.dtype {
            DType::BF16 => BF16::widen(BF16::from_master(x)),
            _ => F16::widen(F16::from_master(x)),
        };
        if let Some(i) = values.iter().position(|x| !rounded(*x).is_finite()) {
            let expected = format!("finite, also when it is rounded to {}", known.spec.dtype.name());
            let got = readable(values[i].into());
            return Err(Error::range(format!("values[{i}] of tensor '{}'", known.name()), got, expected));
        }
        self.with_prepared(|mut p| {
            p.sync()?;
            p.run.backend.write_masters(tensor, values, model_param);
            p.run.state.master_initialized[tensor] = true;
            p.run.forget_sums();
            p.run.state.master_sums[tensor] = None;
            p.push()
        })
    }

    /// The tensor, which must have so many masters.
    ///
    /// # Errors
    /// No such tensor; a tensor without masters; a wrong count.
    pub(crate) fn check_masters(&self, tensor: usize, count: usize) -> Result<&Tensor> {
        let known = self.tensor(tensor)?;
        if !known.precision.has_master() {
            let which = format!("'{}': its group's precision has none", known.name());
            return Err(Error::NotFound { what: "master of tensor", which });
        }
        Error::length("count", count, known.numel, "elements of that tensor")?;
        Ok(known)
    }

    /// Sets both moments and the step count of a tensor, so that a run can move here from another Adam. The optimizer's
    /// own step count becomes at least `step`.
    ///
    /// # Errors
    /// No such tensor; a wrong size; a value not finite, or a second moment below 0; more steps than
    /// a run can have; an open meta-update.
    pub fn set_tensor_state(&mut self, tensor: usize, exp_avg: &[u8], exp_avg_sq: &[u8], step: u64) -> Result<()> {
        self.changeable()?;
        if step > MAX_STEPS {
            return Err(Error::range("step", step, "at most 2^53 - 1"));
        }
        let known = self.check_moment(tensor, exp_avg.len())?;
        self.check_moment(tensor, exp_avg_sq.len())?;
        let (dtype, half) = (known.spec.dtype.compute(), known.moment_dtype == DType::BF16);
        for (name, bytes, least) in [("exp_avg", exp_avg, f64::NEG_INFINITY), ("exp_avg_sq", exp_avg_sq, 0.0)] {
            let stored = |x: f64| if half { f64::from(BF16::widen(BF16::round(x as f32))) } else { x };
            let usable = |x: &f64| stored(*x).is_finite() && *x >= least;
            if let Some((i, x)) = dtype.values(bytes).enumerate().find(|(_, x)| !usable(x)) {
                let expected = match (x.is_finite(), least == 0.0) {
                    (true, _) if x >= least => "a value that bfloat16 moments can hold, at most 3.3895e38",
                    (_, true) => "finite and ≥ 0",
                    (_, false) => "finite",
                };
                return Err(Error::range(format!("{name}[{i}] of tensor '{}'", known.name()), readable(x), expected));
            }
        }
        let mut rounded: Vec<u16> = reserve::defaults(if half { known.numel } else { 0 })?;
        self.with_prepared(|mut p| {
            p.sync()?;
            for (part, bytes) in [(Part::ExpAvg, exp_avg), (Part::ExpAvgSq, exp_avg_sq)] {
                if half {
                    rounded.iter_mut().zip(dtype.values(bytes)).for_each(|(half, x)| *half = BF16::round(x as f32));
                    p.run.backend.write(part, tensor, 0, bytemuck::cast_slice(&rounded));
                } else {
                    p.run.backend.write(part, tensor, 0, bytes);
                }
            }
            p.run.forget_sums();
            let state = &mut p.run.state;
            state.tensor_steps[tensor] = step;
            state.steps = state.steps.max(step);
            p.push()
        })
    }

    /// The counts of the run; all 0 before preparation.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.ready.as_ref().map_or_else(Counters::default, |ready| ready.meta.counters(&ready.run))
    }

    /// Sets the counts of the run, after the state of its tensors was set: a run that moves here then goes on as it would
    /// have elsewhere. What the last meta-update was is forgotten.
    ///
    /// # Errors
    /// A count that no run has, or fewer steps than a tensor has made; an open meta-update; the device's.
    pub fn set_counters(&mut self, counters: Counters) -> Result<()> {
        self.changeable()?;
        counters.check(|name| format!("counters.{name}"))?;
        self.with_prepared(|mut p| {
            p.sync()?;
            let steps = p.run.state.tensor_steps.iter();
            if let Some((i, most)) =
                steps.enumerate().max_by_key(|(_, step)| **step).filter(|(_, s)| **s > counters.steps)
            {
                let tensor = p.registration.tensors[i].name();
                let expected = format!("at least {most}, the steps of tensor '{tensor}'");
                return Err(Error::range("counters.step", counters.steps, expected));
            }
            p.meta.set_counters(p.run, &counters);
            p.push()
        })
    }

    /// Whether the state lies on a device, from where reading it can fail.
    pub(crate) fn is_on_device(&self) -> bool {
        self.cuda.is_some()
    }

    /// A host's 16-bit parameter that lies in device memory, copied; `None` on the CPU, where it can be read in place.
    ///
    /// # Errors
    /// Memory that is not the device's; a capture under way; the driver's.
    pub(crate) fn copy_of(&self, param: *const c_void, count: usize) -> Result<Option<Vec<u16>>> {
        let Some(device) = &self.cuda else { return Ok(None) };
        let mut copy = reserve::defaults(count)?;
        device.peek(self.stream.0, param, bytemuck::cast_slice_mut(&mut copy))?;
        Ok(Some(copy))
    }

    /// The copy back to where it came from.
    ///
    /// # Errors
    /// As for [`Self::copy_of`].
    pub(crate) fn copy_back(&self, param: *mut c_void, copy: &[u16]) -> Result<()> {
        let device = self.cuda.as_ref().expect("only a device's parameter is copied");
        device.poke(self.stream.0, param, bytemuck::cast_slice(copy))
    }
}
