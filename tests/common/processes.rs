//! Processes that share a model, as threads: their all-reduce, what each has of every tensor, and what they do. With
//! METAADAMW_TEST_DEVICE=cuda all of them are on CUDA.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use metaadamw::error::{Error, Status};
use metaadamw::ffi::{MAW_BFLOAT16, MAW_FLOAT16, MAW_FLOAT32, MAW_FLOAT64};
use metaadamw::meta::{Answer, Kind, Request};
use metaadamw::model::dtype::{DType, Precision};
use metaadamw::model::groups::{Shard, TensorSpec};
use metaadamw::model::options::{Options, ParamGroup, Place};
use metaadamw::{Gradient, Grads, Optimizer, Params, StepOptions, StepReport, Summands};

use super::cuda;
use super::device::{Copies, is_cuda};
use super::tensor::Tensor;

pub const CHUNK: usize = Shard::ALIGNMENT as usize;

/// Several dtypes and precisions; tensors of one chunk, of several, of one and a bit, and of nothing.
pub fn specs() -> Vec<(ParamGroup, Vec<TensorSpec>)> {
    let spec = |name, shape: &[u64], dtype| TensorSpec::new(name, shape, dtype).expect("a name");
    let plain = ParamGroup { weight_decay: 0.02, lr: 3e-3, ..ParamGroup::default() };
    let master = ParamGroup { precision: Precision::Master, moment_dtype: Some(DType::BF16), ..plain };
    let mut wide = spec("layers.2.attn.weight", &[3, 30_000], DType::BF16);
    wide.grad_dtype = DType::F32;
    vec![
        (
            plain,
            vec![
                spec("embedding.weight", &[5, 20_001], DType::F32),
                spec("layers.0.linear.weight", &[CHUNK as u64], DType::F32),
                spec("layers.0.linear.bias", &[7], DType::F32),
                spec("layers.1.linear.weight", &[CHUNK as u64 + 5], DType::F64),
                spec("nothing.weight", &[0, 3], DType::F32),
            ],
        ),
        (master, vec![wide, spec("layers.2.norm.weight", &[9], DType::F32)]),
        (
            ParamGroup { precision: Precision::Stochastic, ..plain },
            vec![spec("head.weight", &[2, CHUNK as u64], DType::BF16)],
        ),
        (
            ParamGroup { precision: Precision::Master, ..plain },
            vec![spec("head.norm.weight", &[CHUNK as u64 + 3], DType::F16)],
        ),
        (
            ParamGroup { precision: Precision::Remainder, ..plain },
            vec![spec("head.bias", &[CHUNK as u64 + 1], DType::BF16)],
        ),
    ]
}

pub fn numel(spec: &TensorSpec) -> usize {
    spec.shape.iter().product::<u64>() as usize
}

fn number(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => MAW_FLOAT32,
        DType::F64 => MAW_FLOAT64,
        DType::BF16 => MAW_BFLOAT16,
        DType::F16 => MAW_FLOAT16,
    }
}

/// Numbers in −1..1 that only the arguments decide.
pub fn noise(tensor: usize, element: usize, salt: u64) -> f64 {
    let mut x = (tensor as u64) << 40 ^ element as u64 ^ salt << 52;
    for _ in 0..2 {
        x = (x ^ x >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }
    (x >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// The host's all-reduce between threads, in whatever order they come. One that waits for a thread that has ended fails.
pub struct World {
    ranks: usize,
    patience: Duration,
    state: Mutex<Reduction>,
    changed: Condvar,
}

#[derive(Default)]
struct Reduction {
    sum: Vec<f64>,
    /// How many brought their numbers, and took the sums.
    brought: usize,
    taken: usize,
    calls: u64,
}

impl World {
    pub fn new(ranks: usize) -> Arc<Self> {
        Self::with_patience(ranks, 60)
    }

    /// One that waits for so many seconds.
    pub fn with_patience(ranks: usize, seconds: u64) -> Arc<Self> {
        let patience = Duration::from_secs(seconds);
        Arc::new(Self { ranks, patience, state: Mutex::default(), changed: Condvar::new() })
    }

    pub fn calls(&self) -> u64 {
        self.state.lock().expect("no panic while it is locked").calls
    }

    pub fn all_reduce(&self, values: &mut [f64]) -> i32 {
        let state = self.state.lock().expect("no panic while it is locked");
        let wait = |state, until: fn(&Reduction) -> bool| {
            let waited = self.changed.wait_timeout_while(state, self.patience, |state| !until(state));
            let (state, timeout) = waited.expect("no panic while it is locked");
            if timeout.timed_out() { None } else { Some(state) }
        };
        // The sums of the call before have been taken by all.
        let Some(mut state) = wait(state, |state| state.taken == 0) else { return 1 };
        if state.brought == 0 {
            state.sum = vec![0.0; values.len()];
        }
        if state.sum.len() != values.len() {
            return 2;
        }
        state.sum.iter_mut().zip(&*values).for_each(|(sum, value)| *sum += value);
        state.brought += 1;
        if state.brought == self.ranks {
            state.calls += 1;
            state.taken = self.ranks;
            self.changed.notify_all();
        }
        let Some(mut state) = wait(state, |state| state.taken > 0) else { return 1 };
        values.copy_from_slice(&state.sum);
        state.taken -= 1;
        if state.taken == 0 {
            state.brought = 0;
            self.changed.notify_all();
        }
        0
    }
}

/// Numbers of a call, wherever they are.
pub fn on_host(summands: Summands, work: impl FnOnce(&mut [f64]) -> i32) -> i32 {
    match summands {
        Summands::Host(values) => work(values),
        Summands::Device { address, len } => {
            let mut values = vec![0.0; len];
            cuda::read(address, &mut values);
            let status = work(&mut values);
            cuda::write(address, &values);
            status
        }
    }
}

/// What a process has of each tensor, and its optimizer.
pub struct Process {
    pub optimizer: Optimizer,
    copies: Copies,
    pub parts: Vec<Range<usize>>,
    pub params: Vec<Tensor>,
    grad_dtypes: Vec<i32>,
}

/// Which elements the processes have of a tensor: cut at chunks, another way for each.
pub fn cut(tensor: usize, numel: usize, ranks: usize) -> Vec<Range<usize>> {
    let chunks = numel.div_ceil(CHUNK);
    let mut borders: Vec<usize> = (1..ranks).map(|rank| (tensor * 7 + rank * 5 + 2) % (chunks + 1)).collect();
    borders.sort_unstable();
    borders.insert(0, 0);
    borders.push(chunks);
    borders.windows(2).map(|pair| (pair[0] * CHUNK).min(numel)..(pair[1] * CHUNK).min(numel)).collect()
}

impl Process {
    /// Registers; preparation is the caller's. `None`: alone.
    pub fn new(options: &Options, world: Option<(&Arc<World>, usize, usize)>) -> Self {
        Self::with_cut(options, world, &cut)
    }

    /// The same, cut in another way: `cut(tensor, numel, ranks)`.
    pub fn with_cut(
        options: &Options,
        world: Option<(&Arc<World>, usize, usize)>,
        cut: &dyn Fn(usize, usize, usize) -> Vec<Range<usize>>,
    ) -> Self {
        let device = if is_cuda() { Place::Cuda(0) } else { Place::Cpu };
        let mut optimizer = Optimizer::new(Options { device, ..options.clone() }).expect("good options");
        let (mut parts, mut all, mut grad_dtypes) = (Vec::new(), Vec::new(), Vec::new());
        for (group, mut specs) in specs() {
            for spec in &mut specs {
                let (i, numel) = (parts.len(), numel(spec));
                let part = world.map_or(0..numel, |(_, rank, ranks)| cut(i, numel, ranks)[rank].clone());
                spec.shard = world.map(|_| Shard { offset: part.start as u64, numel: part.len() as u64 });
                let values: Vec<f64> = part.clone().map(|element| noise(i, element, 1)).collect();
                all.push(Tensor::new(number(spec.dtype), &values));
                grad_dtypes.push(number(spec.grad_dtype));
                parts.push(part);
            }
            optimizer.add_param_group(group, specs).expect("good tensors");
        }
        if let Some((world, ..)) = world {
            let world = Arc::clone(world);
            let callback = move |summands: Summands| on_host(summands, |values| world.all_reduce(values));
            optimizer.set_reduction(Some(Arc::new(callback))).expect("not prepared");
        }
        Self { optimizer, copies: Copies::new(is_cuda()), parts, params: all, grad_dtypes }
    }

    /// Gradients at the parameters in the buffers: towards a target, with noise by `salt`. Every fifth salt a tensor has none.
    pub fn gradients(&self, salt: u64) -> Vec<Option<Tensor>> {
        let gradient = |i: usize| {
            let values = self.params[i].values();
            let towards =
                |(element, value): (usize, f64)| value - 0.3 * noise(i, element, 2) + 0.1 * noise(i, element, salt);
            let values: Vec<f64> = self.parts[i].clone().zip(values).map(towards).collect();
            // Subnormal and 0 where features count zeros.
            Tensor::new(self.grad_dtypes[i], &values)
        };
        (0..self.params.len()).map(|i| (i as u64 % 5 != salt % 5 || salt < 2).then(|| gradient(i))).collect()
    }

    pub fn step(&mut self, salt: u64, options: &StepOptions) -> Result<StepReport, Error> {
        let gradients = self.gradients(salt);
        self.step_with(&gradients, options)
    }

    pub fn step_with(&mut self, gradients: &[Option<Tensor>], options: &StepOptions) -> Result<StepReport, Error> {
        let report = self.with_buffers(gradients, |optimizer, params, grads| optimizer.step(params, grads, options))?;
        self.optimizer.sync().expect("the step says what failed");
        Ok(report)
    }

    /// Announces a gradient.
    pub fn observe(&mut self, tensor: usize, gradient: &Tensor) {
        let mut alone = vec![None; tensor];
        alone.push(Some(gradient.clone()));
        let pointers = self.copies.grads(&alone).expect("room");
        // SAFETY: it is the tensor's gradient, where the optimizer is.
        let gradient = unsafe { Gradient::from_raw(pointers[tensor]) };
        self.optimizer.observe_gradient(tensor, &gradient).expect("it fits");
    }

    pub fn meta_begin(&mut self) -> Result<Option<Request>, Error> {
        self.with_buffers(&[], |optimizer, params, _| optimizer.meta_begin(params))
    }

    /// The same with the first parameters only.
    pub fn meta_begin_with(&mut self, tensors: usize) -> Result<Option<Request>, Error> {
        let pointers = self.copies.params(&mut self.params[..tensors]).expect("room");
        // SAFETY: they are the tensors' buffers, which nobody else uses meanwhile.
        self.optimizer.meta_begin(&unsafe { Params::from_raw(&pointers) })
    }

    pub fn meta_tell(
        &mut self,
        answer: &Answer,
        gradients: Option<&[Option<Tensor>]>,
    ) -> Result<Option<Request>, Error> {
        self.with_buffers(gradients.unwrap_or(&[]), |optimizer, params, grads| {
            optimizer.meta_tell(answer, params, gradients.is_some().then_some(grads))
        })
    }

    pub fn meta_abort(&mut self) -> Result<(), Error> {
        self.with_buffers(&[], |optimizer, params, _| optimizer.meta_abort(params))
    }

    /// A call with parameters and gradients where the optimizer is.
    fn with_buffers<T>(
        &mut self,
        gradients: &[Option<Tensor>],
        call: impl FnOnce(&mut Optimizer, &Params, &Grads) -> T,
    ) -> T {
        let params = self.copies.params(&mut self.params).expect("room");
        let grads = self.copies.grads(gradients).expect("room");
        // SAFETY: they are the tensors' buffers, which nobody else uses meanwhile.
        let (params, grads) = unsafe { (Params::from_raw(&params), Grads::from_raw(&grads)) };
        let done = call(&mut self.optimizer, &params, &grads);
        self.copies.fetch(&mut self.params).expect("they are there");
        done
    }

    /// Answers a whole meta-update.
    pub fn meta_update(&mut self) {
        let mut request = self.meta_begin().expect("it begins");
        while let Some(asked) = request {
            let salt = 40 + asked.batch as u64;
            let gradients = self.gradients(salt);
            let answer = Answer { request_id: asked.id, loss: 1.0 + 0.25 * salt as f64, grad_scale: 2.0 };
            let gradients = (asked.kind == Kind::Gradient).then_some(&gradients[..]);
            request = self.meta_tell(&answer, gradients).expect("it fits");
        }
    }

    /// Bits of what all processes have alike.
    pub fn common_bits(&mut self) -> Vec<u64> {
        self.optimizer.sync().expect("nothing failed");
        let mut bits = vec![self.optimizer.steps()];
        if let Ok(Some(modulation)) = self.optimizer.modulation() {
            bits.extend(modulation.attention.values().iter().map(|value| value.to_bits()));
            let factors = self.optimizer.factors().expect("a step was made");
            for column in ["alpha", "beta", "lambda1", "lambda2"] {
                bits.extend(factors.named(column).expect("a factor").iter().map(|value| value.to_bits()));
            }
        }
        let result = self.optimizer.meta_result().expect("prepared");
        bits.extend([result.updates, result.loss_meta.to_bits(), result.outcome as u64]);
        bits
    }
}

pub fn small() -> Options {
    Options { attn_layers: 1, attn_heads: 2, meta_interval: 4, threads: 1, meta_lr: 0.05, ..Options::default() }
}

/// Steps from `from` on, with the meta-updates that are due.
pub fn steps(process: &mut Process, steps: Range<u64>) {
    for step in steps {
        process.step(step, &StepOptions::default()).expect("a step");
        if process.optimizer.meta_due() {
            process.meta_update();
        }
    }
}

/// The whole tensors that processes have parts of.
pub fn merged(processes: &[Process]) -> Vec<Vec<u64>> {
    let of = |tensor: usize| {
        let mut parts: Vec<_> = processes.iter().map(|p| (p.parts[tensor].clone(), p.params[tensor].bits())).collect();
        parts.sort_by_key(|(part, _)| (part.start, part.end));
        parts.into_iter().flat_map(|(_, bits)| bits).collect()
    };
    (0..processes[0].params.len()).map(of).collect()
}

/// So many processes that do the same.
pub fn all(ranks: usize, options: &Options, work: impl Fn(&mut Process, usize) + Sync) -> Vec<Process> {
    let world = World::new(ranks);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks)
            .map(|rank| {
                let (world, work) = (&world, &work);
                scope.spawn(move || {
                    let mut process = Process::new(options, Some((world, rank, ranks)));
                    process.optimizer.prepare().expect("they are alike");
                    work(&mut process, rank);
                    process
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    })
}

/// Parameters of a process that has part of what another had.
pub fn take_params(process: &mut Process, whole: &[Tensor]) {
    for ((own, part), whole) in process.params.iter_mut().zip(&process.parts).zip(whole) {
        *own = Tensor::new(whole.dtype(), &whole.values()[part.clone()]);
    }
}

/// The errors that two processes get, of which each does its own.
pub fn both<T: Send>(work: impl Fn(usize, &Arc<World>) -> T + Sync) -> [T; 2] {
    let world = World::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| work(1, &world));
        let own = work(0, &world);
        [own, other.join().expect("it ends")]
    })
}

/// Two prepared processes that made a step.
pub fn prepared(rank: usize, world: &Arc<World>, options: &Options) -> Process {
    let mut process = Process::new(options, Some((world, rank, 2)));
    process.optimizer.prepare().expect("they are alike");
    process.step(1, &StepOptions::default()).expect("a step");
    process
}

/// What a callback does to the numbers of the call in which it fails, and its status.
pub type Failure = fn(&mut [f64]) -> i32;

pub const FAILURES: [Failure; 5] = [
    |_| 7,
    |values| {
        values.fill(f64::NAN);
        0
    },
    |values| {
        values.fill(0.0);
        0
    },
    |values| {
        values.iter_mut().for_each(|value| *value *= 2.0);
        0
    },
    |values| {
        // Only the sums, not the count of processes.
        if let Some(last) = values.iter_mut().rev().find(|value| **value != 0.0) {
            *last = f64::INFINITY;
        }
        0
    },
];

/// A process that is the whole world, whose `nth` call fails.
pub fn failing(options: &Options, nth: u64, failure: Failure) -> (Process, Arc<AtomicU64>) {
    let mut process = Process::new(options, Some((&World::new(1), 0, 1)));
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let callback = move |summands: Summands| {
        on_host(summands, |values| if count.fetch_add(1, Ordering::Relaxed) + 1 == nth { failure(values) } else { 0 })
    };
    process.optimizer.set_reduction(Some(Arc::new(callback))).expect("not prepared");
    (process, calls)
}

/// Tries a second time if the reduction failed.
pub fn again<T>(failed: &mut u64, mut call: impl FnMut() -> Result<T, Error>) -> T {
    call().unwrap_or_else(|error| {
        assert_eq!(error.status(), Status::Reduction, "{error}");
        *failed += 1;
        call().expect("it fails once")
    })
}
