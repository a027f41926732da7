//! One tensor's state from outside: moments and step count, so that a run can move from and to another Adam, and masters,
//! so that it can start from float32 weights.

use crate::backend::Part;
use crate::checkpoint::MOST_STEPS;
use crate::error::{Error, Result};
use crate::model::dtype::{DType, Precision};
use crate::model::groups::Tensor;
use crate::numeric::half::{BF16, Half};
use crate::optimizer::{Optimizer, check_length, not_found, unprepared};

impl Optimizer {
    /// The step count of a tensor.
    ///
    /// # Errors
    /// Before preparation; no such tensor.
    pub fn tensor_step(&self, tensor: usize) -> Result<u64> {
        let p = self.prepared.as_ref().ok_or(unprepared("maw_tensor_state_get"))?;
        p.tensor_steps.get(tensor).copied().ok_or_else(|| not_found("tensor", tensor, self.tensors.len()))
    }

    /// Copies a moment of a tensor out, as bytes of float32, or float64 for a float64 tensor.
    ///
    /// # Errors
    /// Before preparation; no such tensor; a wrong size in bytes.
    pub fn read_moment(&self, moment: Part, tensor: usize, out: &mut [u8]) -> Result<()> {
        let p = self.prepared.as_ref().ok_or(unprepared("maw_tensor_state_get"))?;
        let known = self.check_moment(tensor, out.len())?;
        if known.moment_dtype == DType::BF16 {
            let mut halves = vec![0_u16; known.numel];
            p.backend.read(moment, tensor, 0, bytemuck::cast_slice_mut(&mut halves));
            for (out, half) in out.as_chunks_mut().0.iter_mut().zip(halves) {
                *out = BF16::widen(half).to_ne_bytes();
            }
        } else {
            p.backend.read(moment, tensor, 0, out);
        }
        p.backend.health()
    }

    fn check_moment(&self, tensor: usize, bytes: usize) -> Result<&Tensor> {
        let known = self.tensors.get(tensor).ok_or_else(|| not_found("tensor", tensor, self.tensors.len()))?;
        let size = known.spec.dtype.compute().size();
        check_length("count", bytes / size, known.numel, "elements of that tensor")?;
        Ok(known)
    }

    /// Copies the float32 masters of a tensor out. `shown`: the host's parameter, needed under [`Precision::Remainder`].
    ///
    /// # Errors
    /// Before they have begun; no such tensor; a tensor without masters; a wrong length; the driver's. Nothing is written.
    pub fn masters(&self, tensor: usize, shown: Option<&[u16]>, out: &mut [f32]) -> Result<()> {
        let known = self.check_masters(tensor, out.len())?;
        let begun = self.prepared.as_ref().filter(|p| p.mastered[tensor]);
        let p = begun.ok_or(Error::State { call: "maw_master_get", reason: "masters begin with the first step" })?;
        let shown = match known.precision {
            Precision::Remainder => shown.ok_or(Error::Null { argument: "param" })?,
            _ => &[],
        };
        if !self.is_on_device() {
            p.backend.read_masters(tensor, shown, out);
            return p.backend.health();
        }
        // Reading from a device can fail in the middle.
        let mut copy = vec![0.0; out.len()];
        p.backend.read_masters(tensor, shown, &mut copy);
        p.backend.health()?;
        out.copy_from_slice(&copy);
        Ok(())
    }

    /// Sets the float32 masters of a tensor, so that a run can start from float32 weights, and writes what they show into
    /// `shown`, the host's parameter.
    ///
    /// # Errors
    /// No such tensor; a tensor without masters; a wrong length; a value not finite; an open meta-update.
    pub fn set_masters(&mut self, tensor: usize, values: &[f32], shown: &mut [u16]) -> Result<()> {
        self.changeable("maw_master_set")?;
        let known = self.check_masters(tensor, values.len())?;
        check_length("count", shown.len(), known.numel, "elements of that tensor")?;
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            return Err(Error::range(format!("values[{i}] of tensor '{}'", known.name()), values[i], "finite"));
        }
        self.prepare()?;
        self.sync()?;
        let p = self.prepared.as_mut().expect("prepared above");
        p.backend.write_masters(tensor, values, shown);
        p.mastered[tensor] = true;
        p.carried = false;
        self.push()
    }

    pub(crate) fn check_masters(&self, tensor: usize, count: usize) -> Result<&Tensor> {
        let known = self.tensors.get(tensor).ok_or_else(|| not_found("tensor", tensor, self.tensors.len()))?;
        if !known.precision.has_master() {
            let which = format!("'{}': its group's precision has none", known.name());
            return Err(Error::NotFound { what: "master of tensor", which });
        }
        check_length("count", count, known.numel, "elements of that tensor")?;
        Ok(known)
    }

    /// Sets both moments and the step count of a tensor, so that a run can move here from another Adam. The optimizer's
    /// own step count becomes at least `step`.
    ///
    /// # Errors
    /// No such tensor; a wrong size; a value not finite, or a second moment below 0; more steps than
    /// a run can have; an open meta-update.
    pub fn set_tensor_state(&mut self, tensor: usize, exp_avg: &[u8], exp_avg_sq: &[u8], step: u64) -> Result<()> {
        self.changeable("maw_tensor_state_set")?;
        if step > MOST_STEPS {
            return Err(Error::range("step", step, format!("at most {MOST_STEPS}")));
        }
        let known = self.check_moment(tensor, exp_avg.len())?;
        self.check_moment(tensor, exp_avg_sq.len())?;
        let (dtype, half) = (known.spec.dtype.compute(), known.moment_dtype == DType::BF16);
        for (name, bytes, least) in [("exp_avg", exp_avg, f64::NEG_INFINITY), ("exp_avg_sq", exp_avg_sq, 0.0)] {
            let usable = |x: &f64| x.is_finite() && *x >= least;
            if let Some((i, x)) = dtype.values(bytes).enumerate().find(|(_, x)| !usable(x)) {
                let expected = if least == 0.0 { "finite and ≥ 0" } else { "finite" };
                return Err(Error::range(format!("{name}[{i}] of tensor '{}'", known.name()), x, expected));
            }
        }
        self.prepare()?;
        self.sync()?;
        let p = self.prepared.as_mut().expect("prepared above");
        for (part, bytes) in [(Part::ExpAvg, exp_avg), (Part::ExpAvgSq, exp_avg_sq)] {
            if half {
                let rounded: Vec<u16> = dtype.values(bytes).map(|x| BF16::round(x as f32)).collect();
                p.backend.write(part, tensor, 0, bytemuck::cast_slice(&rounded));
            } else {
                p.backend.write(part, tensor, 0, bytes);
            }
        }
        p.tensor_steps[tensor] = step;
        p.steps = p.steps.max(step);
        p.carried = false;
        self.push()
    }
}
