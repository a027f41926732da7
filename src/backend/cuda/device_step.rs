//! A step on the device, and the host's state of the run: pulled when somebody asks, pushed when the host changed it.

use std::ffi::c_void;
use std::ptr::from_ref;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::Cuda;
use super::abi::{self, BLOCK, DECIDER, Hyper, LastGradient, State, flags};
use super::driver::Address;
use super::pointer_table::addresses;
use super::queue::Queue;
use crate::backend::{Agreement, Backend, DeviceStep, MasterSum, RunState};
use crate::error::{Error, Result};
use crate::model::host_buffers::{CheckedGrads, CheckedParams};
use crate::model::options::{Options, ParamGroup};
use crate::model::report::{StepOptions, StepReport};
use crate::modulation::Factors;

/// To write a report takes some microseconds, unless the device lets others run meanwhile.
const STUCK: Duration = Duration::from_secs(10);

impl Cuda {
    fn check_float(&mut self, which: usize, name: &'static str, address: Address) -> Result<()> {
        if address == 0 || self.checked.scaler[which] == address {
            return Ok(());
        }
        if !address.is_multiple_of(4) {
            return Err(Error::range(name, "a misaligned pointer", "a multiple of 4"));
        }
        self.device.check_address(address, size_of::<f32>(), || name.to_owned())?;
        self.checked.scaler[which] = address;
        Ok(())
    }

    fn enqueue_step(
        &mut self,
        queue: &Queue,
        capturing: bool,
        options: &StepOptions,
        agreement: Option<&Agreement>,
    ) -> Result<()> {
        let arguments = self.step_tables.current().arguments();
        let (policy, k) = (self.policy, self.kernels);
        let changed = if options.params_changed { flags::CHANGED } else { 0 };
        let momentum = if policy.momentum { flags::MOMENTUM } else { 0 };
        let flags = match policy.unchecked {
            true => flags::UNCHECKED | changed,
            false => flags::GRADIENTS | flags::STATE_IF_STALE | momentum | changed,
        };
        let scale = options.grad_scale;
        let (device_scale, found_inf) = (options.device_grad_scale, options.found_inf);
        let update = match policy {
            p if p.unchecked => k.update_unchecked,
            p if p.counting => k.update_counting,
            _ => k.update,
        };
        let all: [*const c_void; 5] = [
            from_ref(&arguments).cast(),
            from_ref(&scale).cast(),
            from_ref(&device_scale).cast(),
            from_ref(&found_inf).cast(),
            from_ref(&flags).cast(),
        ];
        #[cfg(feature = "fault-injection")]
        self.poison(queue, true)?;
        if !policy.unchecked {
            // SAFETY: the arguments are those of kernels.cu.
            unsafe { queue.launch(k.statistics, self.blocks(), BLOCK, &[all[0], all[4]])? };
        }
        if let Some(agreement) = agreement {
            let own = abi::Agreement { device_scale, found_inf, of_device: 1, ..agreement.into() };
            let which = flags::GRADIENTS | flags::STATE | flags::VOTES | flags::PRESENT;
            let reduced = self.enqueue_reduction(queue, arguments, &own, which);
            if reduced.is_err() && options.params_changed && !capturing {
                let forgotten = self.forget_sums(queue);
                self.breaks(forgotten)?;
            }
            reduced?;
        }
        // SAFETY: the arguments are those of kernels.cu.
        let updates = unsafe {
            queue.launch(k.decide, 1, DECIDER, &all)?;
            queue.launch(update, self.blocks(), BLOCK, &all[..1]).and_then(|()| match policy.learns {
                true => queue.launch(k.horizon, 1, DECIDER, &all[..1]),
                false => Ok(()),
            })
        };
        // The step is counted and not made. In a capture nothing is: the host has to throw the graph away.
        if capturing { updates } else { self.breaks(updates) }
    }

    /// After sums of a state that the host may take back, in a step that is not made: as `maw_decide` does.
    fn forget_sums(&self, queue: &Queue) -> Result<()> {
        let mut state = self.read_state(queue)?;
        state.sums_kept |= u64::from(state.sums_current);
        state.sums_current = 0;
        self.model.arrays.state.write(queue, 0, &[state])
    }

    fn read_state(&self, queue: &Queue) -> Result<State> {
        Ok(self.model.arrays.state.read(queue)?[0])
    }
}

impl DeviceStep for Cuda {
    fn launch(
        &mut self,
        params: CheckedParams,
        grads: CheckedGrads,
        options: &StepOptions,
        waits: bool,
        agreement: Option<&Agreement>,
    ) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        let capturing = queue.is_capturing()?;
        if capturing && waits {
            return Err(Error::Capturing { what: "the report of a step (pass NULL)" });
        }
        if capturing && self.policy.learns {
            let what = "a step under MAW_OBJECTIVE_HORIZON, after which the attention module may learn on the host (make such \
                        steps outside the capture, or choose another objective)";
            return Err(Error::Capturing { what });
        }
        self.check_float(0, "step_options.device_grad_scale", options.device_grad_scale)?;
        self.check_float(1, "step_options.found_inf", options.found_inf)?;
        let pointers = addresses(params, grads);
        self.step_tables.select((&device, &queue), &self.model.arguments, capturing, pointers)?;
        if capturing {
            self.captured = true;
            self.captured_unchecked |= self.policy.unchecked;
            self.step_tables.keep_current();
        }
        self.busy = true;
        self.enqueue_step(&queue, capturing, options, agreement)
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
            queue.refuse_capture("waiting for a step")?;
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
        self.tell_failure(report.failure())?;
        Ok((report.done > report.failure().count).then(|| StepReport {
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
        queue.refuse_capture("reading the optimizer's state")?;
        // Of shards there are totals once the processes meet.
        let shared = self.shards.is_some();
        if !shared {
            let (arguments, which) = (self.pass_table.arguments(), flags::STATE);
            let all = [from_ref(&arguments).cast(), from_ref(&which).cast()];
            // SAFETY: the arguments are those of kernels.cu.
            unsafe { queue.launch(self.kernels.totals, 1, DECIDER, &all)? };
        }
        let state = self.read_state(&queue)?;
        let steps = self.model.arrays.steps.read(&queue)?;
        let initialized = self.model.arrays.master_initialized.read(&queue)?;
        let totals = self.model.arrays.state_totals.read(&queue)?;
        let last_gradients = self.model.arrays.last_gradients.read(&queue)?;
        let (features, factors) = (self.model.arrays.features.read(&queue)?, self.model.arrays.factors.read(&queue)?);
        let average_initialized = self.model.arrays.average_initialized.read(&queue)?;
        let horizon_sums = self.model.arrays.horizon_sums.read(&queue)?;
        let overwritten = self.model.arrays.overwritten.read(&queue)?;
        if let Some(first) = overwritten.iter().position(|overwritten| *overwritten != 0) {
            self.model.arrays.overwritten.write(&queue, 0, &vec![0; overwritten.len()])?;
            self.overwritten.get_or_insert(first);
        }
        // From here on nothing fails.
        self.busy = false;
        if run.steps != state.steps {
            run.master_sums.fill(None); // of parameters before these steps
        }
        if shared {
            run.master_sums_kept = state.sums_kept != 0;
            if run.master_sums_kept {
                let kept = MasterSum { square: f64::NAN, order: self.sum_order(0) }; // the processes sum it when they meet
                run.master_sums.fill(Some(kept));
            }
        }
        run.steps = state.steps;
        run.skips.by_reason = state.skips;
        run.skips.last = state.last_skip();
        run.tensor_steps.copy_from_slice(&steps);
        run.master_initialized.iter_mut().zip(initialized).for_each(|(own, initialized)| *own = initialized != 0);
        for (own, initialized) in run.average_initialized.iter_mut().zip(average_initialized) {
            *own = initialized != 0;
        }
        if let Some(horizon) = &mut run.horizon {
            horizon.sums.copy_from_slice(&horizon_sums);
            horizon.count = state.horizon_steps;
        }
        run.sums_current = state.sums_current != 0;
        for (sums, totals) in run.state_sums.iter_mut().zip(totals.chunks_exact(abi::STATE_SUMS)).filter(|_| !shared) {
            *sums = abi::state_sums(totals);
        }
        for (own, last) in run.last_gradients.iter_mut().zip(&last_gradients) {
            *own = last.sums();
        }
        if let Some(modulation) = &mut run.modulation {
            let rows = |row: usize| factors[row * factors.len() / 4..(row + 1) * factors.len() / 4].to_vec();
            let factors = Factors { alpha: rows(0), beta: rows(1), lambda1: rows(2), lambda2: rows(3) };
            modulation.restore((state.features_known != 0).then_some((features, factors)));
        }
        self.tell_failure(state.failure())
    }

    fn push(&mut self, run: &RunState, options: &Options, groups: &[ParamGroup]) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        queue.refuse_capture("changing the optimizer's state")?;
        let pushed = self.push_all(&queue, run, options, groups);
        self.breaks(pushed)
    }

    fn set_groups(&mut self, groups: &[ParamGroup]) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        queue.refuse_capture("a setter")?;
        self.busy = true;
        let written = self.model.arrays.hyper.write(&queue, 0, &groups.iter().map(Hyper::from).collect::<Vec<_>>());
        self.breaks(written)
    }

    fn set_phi(&mut self, at: usize, values: &[f64]) -> Result<()> {
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        queue.refuse_capture("a setter")?;
        self.busy = true;
        // The host's values may be pinned, and change before the stream comes to them.
        let own = values.to_vec();
        let written = self.model.arrays.phi.write(&queue, at, &own);
        self.breaks(written)
    }
}

impl Cuda {
    fn push_all(&self, queue: &Queue, run: &RunState, options: &Options, groups: &[ParamGroup]) -> Result<()> {
        let mut state = self.read_state(queue)?;
        state.steps = run.steps;
        state.skips = run.skips.by_reason;
        state.set_last_skip(run.skips.last);
        state.sums_current = run.sums_current.into();
        state.sums_kept = run.master_sums_kept.into();
        state.slots_have_momentum = 0; // `last_gradients` have it
        let last_gradients: Vec<LastGradient> = run.last_gradients.iter().map(|sums| (*sums).into()).collect();
        let initialized: Vec<u32> = run.master_initialized.iter().map(|initialized| u32::from(*initialized)).collect();
        self.model.arrays.steps.write(queue, 0, &run.tensor_steps)?;
        self.model.arrays.master_initialized.write(queue, 0, &initialized)?;
        if self.model.arrays.has_averages() {
            let initialized: Vec<u32> = run.average_initialized.iter().copied().map(u32::from).collect();
            self.model.arrays.average_initialized.write(queue, 0, &initialized)?;
        }
        if let Some(horizon) = &run.horizon {
            state.horizon_steps = horizon.count;
            self.model.arrays.horizon_sums.write(queue, 0, &horizon.sums)?;
        }
        self.model.arrays.keys.write(queue, 0, &run.rounding_keys)?;
        self.model.arrays.last_gradients.write(queue, 0, &last_gradients)?;
        if let Some(modulation) = &run.modulation {
            self.model.arrays.phi.write(queue, 0, modulation.attention.values())?;
            state.features_known = modulation.last().is_some().into();
            if let Some((features, factors)) = modulation.last() {
                self.model.arrays.features.write(queue, 0, features.as_slice().expect("row-major"))?;
                self.model.arrays.factors.write(queue, 0, &factors.rows().concat())?;
            }
        }
        self.model.arrays.settings.write(queue, 0, &[options.into()])?;
        self.model.arrays.hyper.write(queue, 0, &groups.iter().map(Hyper::from).collect::<Vec<_>>())?;
        self.model.arrays.state.write(queue, 0, &[state])
    }
}
