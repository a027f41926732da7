//! A step on the device, and the host's picture of the run: pulled when somebody asks, pushed when the host changed it.

use std::ffi::c_void;
use std::hash::{DefaultHasher, Hasher};
use std::ptr::from_ref;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::abi::{self, Hyper, LastGradient, State};
use super::device::Queue;
use super::driver::Address;
use super::{BLOCK, Cuda, DECIDER, Tables, addresses};
use crate::backend::{DeviceStep, RunState};
use crate::error::{Error, Result};
use crate::model::host_buffers::{CheckedGrads, CheckedParams};
use crate::model::options::{Options, ParamGroup};
use crate::model::report::{StepOptions, StepReport};
use crate::modulation::Factors;

/// To write a report takes some microseconds, unless the device lets others run meanwhile.
const STUCK: Duration = Duration::from_secs(10);

/// `Flags` of the kernels.
pub mod flags {
    pub const GRADIENTS: u32 = 1;
    pub const STATE: u32 = 2;
    pub const STATE_IF_STALE: u32 = 4;
    pub const MOMENTUM: u32 = 8;
    pub const UNSEEN: u32 = 16;
    pub const CHANGED: u32 = 32;
}

/// What tables are looked up by: with many captured steps they are many.
fn digest(pointers: impl Iterator<Item = Address>) -> u64 {
    let mut hasher = DefaultHasher::new();
    pointers.for_each(|pointer| hasher.write_u64(pointer));
    hasher.finish()
}

impl Cuda {
    /// Makes the current table hold these pointers.
    fn point_to(&mut self, queue: &Queue, capturing: bool, params: CheckedParams, grads: CheckedGrads) -> Result<()> {
        if self.tables[self.current].hold(addresses(params, grads)) {
            return Ok(());
        }
        let last = self.tables.len() - 1;
        let captured = self.by_pointers.get(&digest(addresses(params, grads))).copied();
        let known = captured.into_iter().chain([last]).find(|&i| self.tables[i].hold(addresses(params, grads)));
        if let Some(known) = known {
            self.current = known;
            return Ok(());
        }
        if capturing {
            let what = "a step whose pointers are not those of a step before (make one with them outside the capture)";
            return Err(Error::Capturing { what });
        }
        if self.tables[last].captured {
            let (tensors, world) = (self.sizes.len(), self.places.world);
            self.tables.push(Tables::new(&self.device, queue, tensors, world)?);
        }
        self.current = self.tables.len() - 1;
        self.tables[self.current].set(queue, addresses(params, grads))
    }

    fn check_float(&mut self, which: usize, name: &'static str, address: Address) -> Result<()> {
        if address == 0 || self.checked.others[which] == address {
            return Ok(());
        }
        if !address.is_multiple_of(4) {
            return Err(Error::range(name, "a misaligned pointer", "a multiple of 4"));
        }
        self.device.check(address, size_of::<f32>(), || name.to_owned())?;
        self.checked.others[which] = address;
        Ok(())
    }

    fn enqueue_step(&mut self, queue: &Queue, capturing: bool, options: &StepOptions) -> Result<()> {
        let world = self.tables[self.current].world.address;
        let (policy, k) = (self.policy, self.kernels);
        let changed = if options.params_changed { flags::CHANGED } else { 0 };
        let momentum = if policy.momentum { flags::MOMENTUM } else { 0 };
        let flags = match policy.unseen {
            true => flags::UNSEEN | changed,
            false => flags::GRADIENTS | flags::STATE_IF_STALE | momentum | changed,
        };
        let scale = options.grad_scale;
        let (device_scale, found_inf) = (options.device_grad_scale, options.found_inf);
        let update = match policy {
            p if p.unseen => k.update_unseen,
            p if p.counting => k.update_counting,
            _ => k.update,
        };
        let arguments: [*const c_void; 5] = [
            from_ref(&world).cast(),
            from_ref(&scale).cast(),
            from_ref(&device_scale).cast(),
            from_ref(&found_inf).cast(),
            from_ref(&flags).cast(),
        ];
        #[cfg(feature = "fault-injection")]
        self.poison(queue, true)?;
        // SAFETY: the arguments are those of kernels.cu.
        let updates = unsafe {
            if !policy.unseen {
                queue.launch(k.statistics, self.blocks(), BLOCK, &[arguments[0], arguments[4]])?;
            }
            queue.launch(k.decide, 1, DECIDER, &arguments)?;
            queue.launch(update, self.blocks(), BLOCK, &arguments[..1])
        };
        // The step is counted and not made. In a capture nothing is: the host has to throw the graph away.
        if capturing { updates } else { self.breaks(updates) }
    }

    /// Copies of the device's memory, all after the last step.
    fn read_state(&self, queue: &Queue) -> Result<State> {
        Ok(self.places.state.read(queue)?[0])
    }
}

impl DeviceStep for Cuda {
    fn launch(&mut self, params: CheckedParams, grads: CheckedGrads, options: &StepOptions, waits: bool) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        let capturing = queue.is_capturing()?;
        if capturing && waits {
            return Err(Error::Capturing { what: "the report of a step (pass NULL)" });
        }
        self.check_float(0, "step_options.device_grad_scale", options.device_grad_scale)?;
        self.check_float(1, "step_options.found_inf", options.found_inf)?;
        self.point_to(&queue, capturing, params, grads)?;
        if capturing {
            self.captured = true;
            self.captured_unseen |= self.policy.unseen;
            self.tables[self.current].captured = true;
            self.by_pointers.insert(digest(addresses(params, grads)), self.current);
        }
        self.busy = true;
        self.enqueue_step(&queue, capturing, options)
    }

    fn is_ahead(&self) -> bool {
        self.captured || self.busy
    }

    fn may_have_replayed(&self) -> bool {
        self.captured
    }

    fn report(&mut self, wait: bool) -> Result<Option<StepReport>> {
        if wait {
            let device = self.device.clone();
            let queue = device.queue(self.stream)?;
            Self::refuse_capture(&queue, "waiting for a step")?;
            queue.wait()?;
        }
        let pointer = self.report.pointer();
        // SAFETY: ours, alive; the device may write it meanwhile, so it is read as it would be from a register of
        // hardware, and again if the device was at it.
        let report = unsafe {
            let started = Instant::now();
            loop {
                let done = (&raw const (*pointer).done).read_volatile();
                fence(Ordering::Acquire);
                let report = pointer.read_volatile();
                fence(Ordering::Acquire);
                if (&raw const (*pointer).begun).read_volatile() == done {
                    break report;
                }
                if started.elapsed() > STUCK {
                    let what = "the device stopped while it wrote a report".to_owned();
                    return Err(Error::Cuda { call: "maw_decide", what });
                }
                std::hint::spin_loop();
            }
        };
        Ok((report.done > 0).then(|| StepReport {
            step: report.steps,
            skipped_steps: report.skipped_steps,
            grad_norm: report.grad_norm,
            clip_factor: report.clip,
            skipped: report.skipped(),
            nonfinite_tensor: report.tensor(),
        }))
    }

    fn pull(&mut self, run: &mut RunState) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        Self::refuse_capture(&queue, "reading the optimizer's state")?;
        let (world, all) = (self.passing.world.address, flags::STATE);
        // SAFETY: the arguments are those of kernels.cu.
        unsafe { queue.launch(self.kernels.totals, 1, DECIDER, &[from_ref(&world).cast(), from_ref(&all).cast()])? };
        let state = self.read_state(&queue)?;
        let steps = self.places.steps.read(&queue)?;
        let initialized = self.places.master_initialized.read(&queue)?;
        let totals = self.places.state_totals.read(&queue)?;
        let last_gradients = self.places.kept.read(&queue)?;
        let (features, factors) = (self.places.features.read(&queue)?, self.places.factors.read(&queue)?);
        // From here on nothing fails.
        self.busy = false;
        run.steps = state.steps;
        run.skips.by_reason = state.skips;
        run.skips.last = state.last_skip();
        run.tensor_steps.copy_from_slice(&steps);
        run.master_initialized.iter_mut().zip(initialized).for_each(|(own, initialized)| *own = initialized != 0);
        run.sums_current = state.carried != 0;
        for (sums, totals) in run.state_sums.iter_mut().zip(totals.chunks_exact(abi::STATE_SUMS)) {
            *sums = abi::state_sums(totals);
        }
        for (own, last) in run.last_gradients.iter_mut().zip(&last_gradients) {
            *own = last.sums();
        }
        if let Some(modulation) = &mut run.modulation {
            let rows = |row: usize| factors[row * factors.len() / 4..(row + 1) * factors.len() / 4].to_vec();
            let factors = Factors { alpha: rows(0), beta: rows(1), lambda1: rows(2), lambda2: rows(3) };
            modulation.restore((state.known != 0).then_some((features, factors)));
        }
        Ok(())
    }

    fn push(&mut self, run: &RunState, options: &Options, groups: &[ParamGroup]) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        Self::refuse_capture(&queue, "changing the optimizer's state")?;
        let pushed = self.push_all(&queue, run, options, groups);
        self.breaks(pushed)
    }

    fn set_groups(&mut self, groups: &[ParamGroup]) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        Self::refuse_capture(&queue, "a setter")?;
        self.busy = true;
        let written = self.places.hyper.write(&queue, 0, &groups.iter().map(Hyper::from).collect::<Vec<_>>());
        self.breaks(written)
    }

    fn set_phi(&mut self, at: usize, values: &[f64]) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        Self::refuse_capture(&queue, "a setter")?;
        self.busy = true;
        // The host's values may be pinned, and change before the stream comes to them.
        let own = values.to_vec();
        let written = self.places.phi.write(&queue, at, &own);
        self.breaks(written)
    }
}

impl Cuda {
    fn push_all(&self, queue: &Queue, run: &RunState, options: &Options, groups: &[ParamGroup]) -> Result<()> {
        let mut state = self.read_state(queue)?;
        state.steps = run.steps;
        state.skips = run.skips.by_reason;
        state.set_last_skip(run.skips.last);
        state.carried = run.sums_current.into();
        state.momentum = 0; // `last_gradients` have it
        let last_gradients: Vec<LastGradient> = run.last_gradients.iter().map(|sums| (*sums).into()).collect();
        let initialized: Vec<u32> = run.master_initialized.iter().map(|initialized| u32::from(*initialized)).collect();
        self.places.steps.write(queue, 0, &run.tensor_steps)?;
        self.places.master_initialized.write(queue, 0, &initialized)?;
        self.places.keys.write(queue, 0, &run.rounding_keys)?;
        self.places.kept.write(queue, 0, &last_gradients)?;
        if let Some(modulation) = &run.modulation {
            self.places.phi.write(queue, 0, modulation.attention.values())?;
            state.known = modulation.last().is_some().into();
            if let Some((features, factors)) = modulation.last() {
                self.places.features.write(queue, 0, features.as_slice().expect("row-major"))?;
                self.places.factors.write(queue, 0, &factors.rows().concat())?;
            }
        }
        self.write_settings(queue, options)?;
        self.places.hyper.write(queue, 0, &groups.iter().map(Hyper::from).collect::<Vec<_>>())?;
        self.places.state.write(queue, 0, &[state])
    }
}
