//! The backend on a CUDA device: the whole step there, on the host's stream, without waiting and without allocating.
//!
//! ```text
//! driver   the driver's functions            world    the structs of kernels.cu, as Rust
//! device   context, kernels, streams         memory   allocations, and arrays in one
//! layout   a model in device memory          buffer   memory that is lent
//! step     a step in two or three launches, and the host's picture of the run
//! passes   single passes, for a step that the host drives and for meta-updates (meta)
//! ```
//!
//! What a step reads lies in device memory, the host's pointers included, so that a captured step can be replayed. A
//! captured step keeps its table of pointers as long as the optimizer lives: later steps with others get a table of their
//! own.
#![allow(unsafe_code, reason = "calls the driver; each use says why it holds")]

mod abi;
mod device;
mod device_buffer;
mod device_step;
mod driver;
mod memory;
mod meta_passes;
mod model_memory;
mod step_passes;

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use parking_lot::Mutex;

use self::abi::{Report, Settings, World};
pub use self::device::Device;
use self::device::{Kernel, Queue, Stream};
pub use self::device_buffer::{Buffer, is_available};
use self::driver::Address;
use self::memory::{Array, Memory, Plan, Shared};
use self::meta_passes::MetaMemory;
use self::model_memory::{Model, Places};
use crate::backend::{Backend, DeviceStep};
use crate::error::{Error, Result};
use crate::model::dtype::DType;
use crate::model::groups::{Groups, Tensor};
use crate::model::host_buffers::{CheckedGrads, CheckedParams};
use crate::model::options::{NonFinite, Options};
use crate::modulation::Modulation;

/// Threads of a block in passes over chunks, and in the one that decides: `BLOCK` and `DECIDER`.
const BLOCK: u32 = 256;
const DECIDER: u32 = 512;
/// Blocks a multiprocessor: more than run at a time, so that uneven chunks level out.
const BLOCKS: u32 = 8;

/// Moments, statistics, attention module and counts in device memory, and the kernels that work on them.
#[derive(Debug)]
pub struct Cuda {
    device: Arc<Device>,
    stream: Stream,
    kernels: Kernels,
    sizes: Vec<Sizes>,
    /// Of every tensor.
    exp_avg: Vec<Address>,
    exp_avg_sq: Vec<Address>,
    /// Of every tensor; nothing is there of those without.
    masters: Vec<Address>,
    /// Both moments, then the masters.
    kept: Memory,
    moment_bytes: usize,
    places: Places,
    _fixed: Memory,
    report: Shared<Report>,
    /// Those of captured steps, and behind them, once there was need of it, one for all others.
    tables: Vec<Tables>,
    /// Captured steps' tables by the digest of their pointers.
    by_pointers: HashMap<u64, usize>,
    current: usize,
    /// For passes.
    passing: Tables,
    /// Pointers that were found to lead to the device's memory.
    checked: Checked,
    policy: Policy,
    /// A captured step may be replayed at any time.
    captured: bool,
    /// One of them makes no statistics.
    captured_unseen: bool,
    /// Something was enqueued since the last wait.
    busy: bool,
    /// The first failure of the driver's in a pass that cannot tell it.
    failure: Mutex<Option<Error>>,
    meta: Option<MetaMemory>,
}

/// A tensor in numbers.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Bytes of a moment.
    moment: usize,
    /// Bytes of what is kept beside the parameter.
    master: usize,
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
    /// Nobody looks: no statistics.
    unseen: bool,
    /// Σ g·m is wanted.
    momentum: bool,
    /// Zeros or Σ g·m with the new moment are wanted of the update.
    counting: bool,
    /// The host must know before the update: every step waits.
    host_driven: bool,
}

#[derive(Clone, Copy, Debug)]
struct Kernels {
    statistics: Kernel,
    decide: Kernel,
    update: Kernel,
    update_counting: Kernel,
    update_unseen: Kernel,
    totals: Kernel,
    moved: Kernel,
    alignment: Kernel,
    direction_norm_squared: Kernel,
    neighbour: Kernel,
    project: Kernel,
    begin: Kernel,
    count_desynced: Kernel,
}

impl Kernels {
    fn load(device: &Device) -> Result<Self> {
        Ok(Self {
            statistics: device.kernel("maw_statistics")?,
            decide: device.kernel("maw_decide")?,
            update: device.kernel("maw_update")?,
            update_counting: device.kernel("maw_update_counting")?,
            update_unseen: device.kernel("maw_update_unseen")?,
            totals: device.kernel("maw_totals")?,
            moved: device.kernel("maw_moved")?,
            alignment: device.kernel("maw_alignment")?,
            direction_norm_squared: device.kernel("maw_direction_square")?,
            neighbour: device.kernel("maw_neighbour")?,
            project: device.kernel("maw_project")?,
            begin: device.kernel("maw_begin")?,
            count_desynced: device.kernel("maw_strangers")?,
        })
    }
}

/// The world as one step sees it: with these pointers of the host's.
#[derive(Debug)]
struct Tables {
    world: Array<World>,
    on_device: Array<Address>,
    /// What stands there: parameters, then gradients.
    pointers: Vec<Address>,
    /// A graph may read it at any time.
    captured: bool,
    _memory: Memory,
}

impl Tables {
    fn new(device: &Arc<Device>, queue: &Queue, tensors: usize, world: World) -> Result<Self> {
        let mut plan = Plan::default();
        let (w, p) = (plan.array(1)?, plan.array(2 * tensors)?);
        let memory = plan.allocate(device)?;
        let (w, p) = (w.within(&memory), p.within(&memory));
        let tables = Self { world: w, on_device: p, pointers: vec![0; 2 * tensors], captured: false, _memory: memory };
        let grads = p.address + (tensors * size_of::<Address>()) as Address;
        tables.world.write(queue, 0, &[World { params: p.address, grads, ..world }])?;
        tables.on_device.write(queue, 0, &tables.pointers)?;
        Ok(tables)
    }

    fn hold(&self, pointers: impl Iterator<Item = Address>) -> bool {
        self.pointers.iter().copied().eq(pointers)
    }

    fn set(&mut self, queue: &Queue, pointers: impl Iterator<Item = Address>) -> Result<()> {
        self.pointers.clear();
        self.pointers.extend(pointers);
        let written = self.on_device.write(queue, 0, &self.pointers);
        if written.is_err() {
            self.pointers.fill(Address::MAX); // nobody knows what stands there: no host's pointers
        }
        written
    }
}

#[derive(Debug)]
struct Checked {
    params: Vec<Address>,
    grads: Vec<Address>,
    others: [Address; 2],
}

fn addresses<'a>(params: CheckedParams<'a>, grads: CheckedGrads<'a>) -> impl Iterator<Item = Address> + 'a {
    let params = params.pointers().iter().map(|p| p.addr() as Address);
    params.chain(grads.pointers().iter().map(|g| g.addr() as Address))
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
        let stream = Stream(stream);
        let queue = device.queue(stream)?;
        if queue.is_capturing()? {
            return Err(Error::Capturing { what: "preparing the optimizer" });
        }
        let sizes: Vec<Sizes> = tensors.iter().map(Sizes::new).collect();
        let mut plan = Plan::default();
        let mut reserve = |of: fn(&Sizes) -> usize| {
            sizes.iter().map(|s| plan.array::<u8>(of(s))).collect::<Result<Vec<memory::Planned<u8>>>>()
        };
        let (exp_avg, exp_avg_sq) = (reserve(|s| s.moment)?, reserve(|s| s.moment)?);
        let masters = reserve(|s| s.master)?;
        let kept = plan.allocate(device)?;
        let place = |planned: Vec<memory::Planned<u8>>| -> Vec<Address> {
            planned.into_iter().map(|p| p.within(&kept).address).collect()
        };
        let (exp_avg, exp_avg_sq, masters) = (place(exp_avg), place(exp_avg_sq), place(masters));
        let moment_bytes = masters.first().map_or(0, |first| (first - kept.address()) as usize);
        // SAFETY: the memory is as large.
        unsafe { queue.zero(kept.address(), kept.bytes())? };

        let report = Shared::<Report>::new(device)?;
        let model = Model {
            options,
            tensors,
            groups,
            modulation,
            exp_avg: &exp_avg,
            exp_avg_sq: &exp_avg_sq,
            masters: &masters,
        };
        let (fixed, places) = model.lay_out(device, &queue, report.pointer().addr() as Address)?;
        let tables = Tables::new(device, &queue, tensors.len(), places.world)?;
        let passing = Tables::new(device, &queue, tensors.len(), places.world)?;
        let mut cuda = Self {
            device: device.clone(),
            stream,
            kernels: Kernels::load(device)?,
            checked: Checked { params: vec![0; sizes.len()], grads: vec![0; sizes.len()], others: [0; 2] },
            sizes,
            exp_avg,
            exp_avg_sq,
            masters,
            kept,
            moment_bytes,
            places,
            _fixed: fixed,
            report,
            tables: vec![tables],
            by_pointers: HashMap::new(),
            current: 0,
            passing,
            policy: Policy::new(options, modulation),
            captured: false,
            captured_unseen: false,
            busy: true,
            failure: Mutex::new(None),
            meta: None,
        };
        queue.wait()?;
        cuda.busy = false;
        Ok(cuda)
    }

    /// Blocks of a pass over chunks.
    fn blocks(&self) -> u32 {
        self.places.world.chunk_count.clamp(1, self.device.processors * BLOCKS)
    }

    fn write_settings(&self, queue: &Queue, options: &Options) -> Result<()> {
        let settings = Settings {
            total_steps: options.total_steps,
            alpha_range: options.alpha_range,
            beta_range: options.beta_range,
            max_grad_norm: options.max_grad_norm,
            propagate: (options.nonfinite == NonFinite::Propagate).into(),
        };
        self.places.settings.write(queue, 0, &[settings])
    }

    /// Keeps a failure that leaves the device half-way: nothing goes on from there.
    fn breaks<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            self.failure.get_mut().get_or_insert_with(|| error.clone());
        }
        outcome
    }

    /// Refuses what would wait, allocate or read the host's memory later, while the stream is being captured.
    fn refuse_capture(queue: &Queue, what: &'static str) -> Result<()> {
        if queue.is_capturing()? { Err(Error::Capturing { what }) } else { Ok(()) }
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
    fn check_memory(&mut self, tensors: &[Tensor], params: CheckedParams, grads: Option<CheckedGrads>) -> Result<()> {
        type Bytes = fn(&Sizes) -> usize;
        let check =
            |argument: &str, bytes: Bytes, checked: &mut [Address], pointers: &mut dyn Iterator<Item = Address>| {
                for (i, (seen, address)) in checked.iter_mut().zip(pointers).enumerate() {
                    if address == *seen || address == 0 || tensors[i].numel == 0 {
                        continue;
                    }
                    self.device.check(address, bytes(&self.sizes[i]), || {
                        format!("{argument}[{i}] (tensor '{}')", tensors[i].name())
                    })?;
                    *seen = address;
                }
                Ok(())
            };
        let mut params = params.pointers().iter().map(|p| p.addr() as Address);
        check("params", |size| size.param, &mut self.checked.params, &mut params)?;
        let mut grads = grads.into_iter().flat_map(CheckedGrads::pointers).map(|g| g.addr() as Address);
        check("grads", |size| size.grad, &mut self.checked.grads, &mut grads)
    }

    fn ready(&self, what: &'static str) -> Result<()> {
        let queue = self.device.queue(self.stream)?;
        if queue.is_capturing()? { Err(Error::Capturing { what }) } else { Ok(()) }
    }

    fn can_apply_options(&self, options: &Options) -> Result<()> {
        let mut policy = self.policy;
        policy.follow(options);
        // Which kernels run stands in the graph: without statistics nothing can be clipped or found, and no replay waits
        // for the host's decision.
        let lost = (policy.host_driven && self.captured) || (!policy.unseen && self.captured_unseen);
        if lost { Err(Error::CapturedOtherwise) } else { Ok(()) }
    }

    fn apply_options(&mut self, options: &Options) {
        self.policy.follow(options);
    }

    fn health(&self) -> Result<()> {
        self.failure.lock().clone().map_or(Ok(()), Err)
    }

    fn set_stream(&mut self, stream: *mut c_void) -> Result<()> {
        if stream == self.stream.0 {
            return Ok(());
        }
        if self.busy {
            let queue = self.device.queue(self.stream)?;
            Self::refuse_capture(&queue, "leaving the stream")?;
            queue.wait()?;
            self.busy = false;
        }
        self.device.check_stream(stream)?;
        self.stream = Stream(stream);
        Ok(())
    }

    fn device(&mut self) -> Option<&mut dyn DeviceStep> {
        if self.policy.host_driven { None } else { Some(self) }
    }
}

impl Sizes {
    fn new(tensor: &Tensor) -> Self {
        Self {
            moment: tensor.numel * tensor.moment_dtype.size(),
            master: tensor.master_dtype().map_or(0, |dtype| tensor.numel * dtype.size()),
            param: tensor.bytes(),
            grad: tensor.gradient_bytes(),
            is_bf16: tensor.spec.dtype == DType::BF16,
        }
    }
}

impl Policy {
    fn new(options: &Options, modulation: Option<&Modulation>) -> Self {
        let reference = modulation.is_some() && abi::is_reference(options.semantics);
        let mut policy = Self {
            unseen: false,
            momentum: modulation.is_some(),
            counting: reference || modulation.is_some_and(Modulation::counts_zeros),
            host_driven: false,
        };
        policy.follow(options);
        policy
    }

    fn follow(&mut self, options: &Options) {
        self.unseen = options.nonfinite == NonFinite::Propagate && options.max_grad_norm == 0.0;
        self.host_driven = options.nonfinite == NonFinite::Error || options.verify_params;
    }
}
