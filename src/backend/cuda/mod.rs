//! The backend on a CUDA device: the whole step there, on the host's stream, without waiting and without allocating.
//!
//! ```text
//! driver        the driver's functions           abi            the structs of the kernels, as Rust
//! device        context and kernels              queue          work on a stream
//! memory        allocations and arrays in them   device_buffer  memory for the host
//!
//! state_memory  moments, masters, averages       model_memory   all else that a step reads and writes
//! pointer_table the host's pointers              meta_memory    what a meta-update stores
//!
//! device_step   a step in two to four launches; the host's state is brought up to date, and sent back
//! shards        one model over several processes
//! step_passes   single passes, for a step that the host drives
//! meta_passes   single passes, for a meta-update
//! ```
#![allow(unsafe_code, reason = "calls the driver; each use says why it holds")]

mod abi;
mod device;
mod device_buffer;
mod device_step;
mod driver;
mod memory;
mod meta_memory;
mod meta_passes;
mod model_memory;
mod pointer_table;
mod queue;
mod shards;
mod state_memory;
mod step_passes;

use std::ffi::c_void;
use std::sync::Arc;

use bytemuck::Zeroable;

use self::abi::{Report, Settings};
pub use self::device::Device;
use self::device::Kernel;
pub use self::device_buffer::{Buffer, is_available};
use self::driver::Address;
use self::memory::Shared;
use self::meta_memory::MetaMemory;
use self::model_memory::{Model, ModelMemory};
use self::pointer_table::{PointerTable, PointerTables};
use self::queue::Stream;
use self::shards::Shards;
pub use self::shards::refuse_alone;
use self::state_memory::StateMemory;
use crate::backend::sync::Mutex;
use crate::backend::{Agreement, AllReduce, Backend, Collective, DeviceStep, ModelChange};
use crate::error::{Error, Result};
use crate::model::dtype::DType;
use crate::model::groups::{Groups, Tensor};
use crate::model::host_buffers::{CheckedGrads, CheckedParams};
use crate::model::options::{NonFinite, Options};
use crate::modulation::Modulation;

/// Blocks a multiprocessor: more than run at a time, so that uneven chunks level out.
const BLOCKS: u32 = 8;

/// Moments, statistics, attention module and counts in device memory, and the kernels that work on them.
#[derive(Debug)]
pub struct Cuda {
    device: Arc<Device>,
    stream: Stream,
    kernels: Kernels,
    sizes: Vec<Sizes>,
    state: StateMemory,
    model: ModelMemory,
    meta: Option<MetaMemory>,
    shards: Option<Shards>,
    report: Shared<Report>,
    step_tables: PointerTables,
    /// Of single passes.
    pass_table: PointerTable,
    /// Pointers that were found to lead to the device's memory.
    checked: Checked,
    policy: Policy,
    /// For steps that the host drives; the device's own are pushed.
    settings: Settings,
    /// A captured step may be replayed at any time.
    captured: bool,
    /// One of them takes no statistics.
    captured_unchecked: bool,
    /// Something was enqueued since the last wait.
    busy: bool,
    /// See [`crate::backend::StepPasses::take_overwritten`]; read with the rest of the device's state.
    overwritten: Option<usize>,
    /// The first failure of the driver's in a pass, which cannot return it.
    failure: Mutex<Option<Error>>,
}

/// Of a tensor.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Bytes of a moment.
    moment: usize,
    /// Bytes of the masters or remainders.
    master: usize,
    /// Bytes of the average.
    average: usize,
    /// Bytes of the parameter.
    param: usize,
    /// Bytes of the gradient.
    grad: usize,
    /// Whether it is bfloat16.
    is_bf16: bool,
}

/// What the options make a step do.
#[derive(Clone, Copy, Debug)]
struct Policy {
    /// Nothing is checked or clipped: no statistics are taken.
    unchecked: bool,
    /// Σ g·m is wanted.
    momentum: bool,
    /// Zeros or Σ g·m with the new moment are wanted of the update.
    counting: bool,
    /// Σ g·m with the new moment is.
    reference: bool,
    /// The attention module learns from steps, on the host.
    learns: bool,
    /// Other processes have parts of the tensors.
    shared: bool,
    /// The host must know before the update: every step waits.
    host_driven: bool,
}

#[derive(Clone, Copy, Debug)]
struct Kernels {
    statistics: Kernel,
    pack: Kernel,
    decide: Kernel,
    update: Kernel,
    update_counting: Kernel,
    update_unchecked: Kernel,
    horizon: Kernel,
    totals: Kernel,
    write_trial: Kernel,
    alignment: Kernel,
    direction_norm_squared: Kernel,
    write_perturbed: Kernel,
    project: Kernel,
    init_masters: Kernel,
    init_averages: Kernel,
    write_averages: Kernel,
    count_desynced: Kernel,
}

impl Kernels {
    /// `averages`: updates must let averages follow.
    fn load(device: &Device, averages: bool) -> Result<Self> {
        let update = |suffix: &str| {
            let averaging = if averages { "_averaging" } else { "" };
            device.kernel(&format!("maw_update{averaging}{suffix}"))
        };
        Ok(Self {
            statistics: device.kernel("maw_statistics")?,
            pack: device.kernel("maw_pack")?,
            decide: device.kernel("maw_decide")?,
            update: update("")?,
            update_counting: update("_counting")?,
            update_unchecked: update("_unseen")?,
            horizon: device.kernel("maw_horizon")?,
            totals: device.kernel("maw_totals")?,
            write_trial: device.kernel("maw_moved")?,
            alignment: device.kernel("maw_alignment")?,
            direction_norm_squared: device.kernel("maw_direction_square")?,
            write_perturbed: device.kernel("maw_neighbour")?,
            project: device.kernel("maw_project")?,
            init_masters: device.kernel("maw_begin")?,
            init_averages: device.kernel("maw_begin_averages")?,
            write_averages: device.kernel("maw_show_averages")?,
            count_desynced: device.kernel("maw_count_desynced")?,
        })
    }
}

#[derive(Debug)]
struct Checked {
    params: Vec<Address>,
    grads: Vec<Address>,
    /// Of a step's options: `device_grad_scale` and `found_inf`.
    scaler: [Address; 2],
}

impl Checked {
    fn new(tensors: usize) -> Self {
        Self { params: vec![0; tensors], grads: vec![0; tensors], scaler: [0; 2] }
    }
}

impl Cuda {
    /// Everything that a run needs, for these tensors: moments of 0, the attention module as it is.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`]; a capture under way on the stream; the driver's.
    pub fn new(
        device: &Arc<Device>,
        stream: *mut c_void,
        options: &Options,
        tensors: &[Tensor],
        groups: &Groups,
        modulation: Option<&Modulation>,
    ) -> Result<Self> {
        let stream = Stream::new(stream);
        let queue = device.queue(stream)?;
        queue.refuse_capture("preparing the optimizer")?;
        let sizes: Vec<Sizes> = tensors.iter().map(|tensor| Sizes::new(tensor, options)).collect();
        let state = StateMemory::new(device, &queue, &sizes)?;
        let shared = Shared::<Report>::new(device)?;
        let report = shared.pointer().addr() as Address;
        let model = Model { options, tensors, groups, modulation, state: &state, report };
        let model = ModelMemory::new(device, &queue, model)?;
        let mut cuda = Self {
            device: device.clone(),
            stream,
            kernels: Kernels::load(device, options.horizon > 0)?,
            checked: Checked::new(sizes.len()),
            sizes,
            state,
            report: shared,
            step_tables: PointerTables::new(device, &queue, &model.arguments)?,
            pass_table: PointerTable::new(device, &queue, &model.arguments)?,
            model,
            meta: None,
            shards: None,
            policy: Policy::new(options, modulation, tensors.iter().any(|tensor| tensor.spec.shard.is_some())),
            settings: options.into(),
            captured: false,
            captured_unchecked: false,
            busy: true,
            overwritten: None,
            failure: Mutex::new(None),
        };
        queue.wait()?;
        cuda.busy = false;
        Ok(cuda)
    }

    /// Blocks of a pass over chunks.
    fn blocks(&self) -> u32 {
        self.model.arguments.chunk_count.clamp(1, self.device.processors * BLOCKS)
    }

    /// Remembers a failure that leaves the device half-way: nothing goes on from there.
    fn breaks<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            self.failure.get_mut().get_or_insert_with(|| error.clone());
        }
        outcome
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // What is enqueued still uses the memory; freeing waits for it, except for the host's own. To wait for a stream
        // that is being captured would spoil the capture.
        if let Ok(queue) = self.device.queue(self.stream)
            && matches!(queue.is_capturing(), Ok(false))
        {
            let _ = queue.wait();
        }
    }
}

impl Backend for Cuda {
    fn change_model(&mut self, change: ModelChange) -> Result<()> {
        let ModelChange { options, tensors, from, groups, modulation } = change;
        if self.captured {
            return Err(Error::CapturedTensors);
        }
        let device = self.device.clone();
        let queue = device.queue(self.stream)?;
        queue.refuse_capture("a change of the optimizer's tensors")?;
        let sizes: Vec<Sizes> = tensors.iter().map(|tensor| Sizes::new(tensor, options)).collect();
        let new = sizes.iter().zip(from).filter(|(_, from)| from.is_none()).map(|(size, _)| *size);
        let added = StateMemory::new(&device, &queue, &new.collect::<Vec<_>>())?;
        let state = self.state.changed(from, &added);
        let report = self.report.pointer().addr() as Address;
        let model = Model { options, tensors, groups, modulation, state: &state, report };
        let model = ModelMemory::new(&device, &queue, model)?;
        let step_tables = PointerTables::new(&device, &queue, &model.arguments)?;
        let pass_table = PointerTable::new(&device, &queue, &model.arguments)?;
        queue.wait()?;
        // From here on nothing fails.
        self.checked = Checked::new(sizes.len());
        self.overwritten = self.overwritten.and_then(|tensor| from.iter().position(|from| *from == Some(tensor)));
        (self.sizes, self.state, self.model) = (sizes, state, model);
        (self.step_tables, self.pass_table) = (step_tables, pass_table);
        // SAFETY: ours, and nothing is enqueued that would write to it.
        unsafe { self.report.pointer().write(Report::zeroed()) };
        self.busy = false;
        Ok(())
    }

    fn check_memory(&mut self, tensors: &[Tensor], params: CheckedParams, grads: Option<CheckedGrads>) -> Result<()> {
        type Bytes = fn(&Sizes) -> usize;
        let check =
            |argument: &str, bytes: Bytes, checked: &mut [Address], pointers: &mut dyn Iterator<Item = Address>| {
                for (i, (known, address)) in checked.iter_mut().zip(pointers).enumerate() {
                    if address == *known || address == 0 || tensors[i].numel == 0 {
                        continue;
                    }
                    self.device.check_address(address, bytes(&self.sizes[i]), || {
                        format!("{argument}[{i}] (tensor '{}')", tensors[i].name())
                    })?;
                    *known = address;
                }
                Ok(())
            };
        let mut params = params.pointers().iter().map(|p| p.addr() as Address);
        check("params", |size| size.param, &mut self.checked.params, &mut params)?;
        let mut grads = grads.into_iter().flat_map(CheckedGrads::pointers).map(|g| g.addr() as Address);
        check("grads", |size| size.grad, &mut self.checked.grads, &mut grads)
    }

    fn ready(&self, what: &'static str) -> Result<()> {
        self.device.queue(self.stream)?.refuse_capture(what)
    }

    fn can_apply_options(&self, options: &Options) -> Result<()> {
        let mut policy = self.policy;
        policy.apply(options);
        // Which kernels run stands in the graph: without statistics nothing can be clipped or found, and no replay waits
        // for the host's decision.
        let lost = (policy.host_driven && self.captured) || (!policy.unchecked && self.captured_unchecked);
        if lost { Err(Error::CapturedOtherwise) } else { Ok(()) }
    }

    fn apply_options(&mut self, options: &Options) {
        self.policy.apply(options);
        self.settings = options.into();
    }

    fn health(&self) -> Result<()> {
        self.failure.lock().clone().map_or(Ok(()), Err)
    }

    fn sum_order(&self, _tensor: usize) -> u32 {
        3
    }

    fn join(&mut self, all_reduce: AllReduce, tensors: &[Tensor], agreement: &Agreement) -> Result<()> {
        self.join_with(all_reduce, tensors, agreement)
    }

    fn collective(&mut self) -> Option<&mut dyn Collective> {
        if self.shards.is_some() { Some(self) } else { None }
    }

    fn set_stream(&mut self, stream: *mut c_void) -> Result<()> {
        if Stream::new(stream) == self.stream {
            return Ok(());
        }
        if self.busy {
            let queue = self.device.queue(self.stream)?;
            queue.refuse_capture("leaving the stream")?;
            queue.wait()?; // what was enqueued there the host still does not know
        }
        self.device.check_stream(stream)?;
        self.stream = Stream::new(stream);
        Ok(())
    }

    fn device(&mut self) -> Option<&mut dyn DeviceStep> {
        if self.policy.host_driven { None } else { Some(self) }
    }
}

impl Sizes {
    fn new(tensor: &Tensor, options: &Options) -> Self {
        Self {
            moment: tensor.numel * tensor.moment_dtype.size(),
            master: tensor.master_dtype().map_or(0, |dtype| tensor.numel * dtype.size()),
            average: options.average_of(tensor.spec.dtype).map_or(0, |dtype| tensor.numel * dtype.size()),
            param: tensor.bytes(),
            grad: tensor.gradient_bytes(),
            is_bf16: tensor.spec.dtype == DType::BF16,
        }
    }
}

impl Policy {
    fn new(options: &Options, modulation: Option<&Modulation>, shared: bool) -> Self {
        let reference = modulation.is_some() && abi::is_reference(options.semantics);
        let mut policy = Self {
            unchecked: false,
            momentum: modulation.is_some(),
            counting: reference || modulation.is_some_and(Modulation::counts_zeros),
            reference,
            learns: options.learns_from_steps(),
            shared,
            host_driven: false,
        };
        policy.apply(options);
        policy
    }

    /// The options that may change.
    fn apply(&mut self, options: &Options) {
        let Self { shared, learns, reference, .. } = *self;
        self.unchecked = options.nonfinite == NonFinite::Propagate && options.max_grad_norm == 0.0 && !shared;
        // Products of an update take a reduction of their own.
        let products = shared && (learns || reference);
        self.host_driven = options.nonfinite == NonFinite::Error || options.verify_params || products;
    }
}
