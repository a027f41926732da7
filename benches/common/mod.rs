//! What the benches share: models in host memory, optimizers for them, clocks and the system's view of memory.
#![allow(dead_code, reason = "each bench uses its part")]

use std::time::Instant;

use metaadamw::meta::{Answer, Kind};
use metaadamw::model::dtype::DType;
use metaadamw::{Grads, Name, Optimizer, Options, ParamGroup, Params, Slice, SliceMut, StepOptions, TensorSpec};

/// Names and sizes of a model's tensors.
pub type Sizes = Vec<(String, usize)>;

/// A transformer-like model of `total` parameters in `tensors` tensors of almost equal length and at most 12 groups.
pub fn even(total: usize, tensors: usize) -> Sizes {
    let length = |i: usize| total / tensors + usize::from(i < total % tensors);
    (0..tensors)
        .map(|i| (format!("layers.{}.mlp.{i}.{}", i * 10 / tensors, ["weight", "bias"][i % 2]), length(i)))
        .collect()
}

enum Buffer {
    F64(Vec<f64>),
    F32(Vec<f32>),
    BF16(Vec<u16>),
    F16(Vec<u16>),
}

impl Buffer {
    fn new(dtype: DType, length: usize, value: impl Fn(usize) -> f32) -> Self {
        match dtype {
            DType::F64 => Self::F64((0..length).map(|i| f64::from(value(i))).collect()),
            DType::BF16 => Self::BF16((0..length).map(|i| (value(i).to_bits() >> 16) as u16).collect()),
            DType::F16 => Self::F16((0..length).map(|i| half::f16::from_f32(value(i)).to_bits()).collect()),
            DType::F32 => Self::F32((0..length).map(value).collect()),
        }
    }

    fn slice(&self) -> Slice<'_> {
        match self {
            Self::F64(values) => Slice::F64(values),
            Self::F32(values) => Slice::F32(values),
            Self::BF16(bits) => Slice::BF16(bits),
            Self::F16(bits) => Slice::F16(bits),
        }
    }

    fn slice_mut(&mut self) -> SliceMut<'_> {
        match self {
            Self::F64(values) => SliceMut::F64(values),
            Self::F32(values) => SliceMut::F32(values),
            Self::BF16(bits) => SliceMut::BF16(bits),
            Self::F16(bits) => SliceMut::F16(bits),
        }
    }
}

/// The host's part: parameters and gradients.
pub struct Model {
    params: Vec<Buffer>,
    grads: Vec<Buffer>,
}

impl Model {
    pub fn new(sizes: &Sizes, dtype: DType) -> Self {
        let params = sizes.iter().map(|(_, n)| Buffer::new(dtype, *n, |_| 0.1)).collect();
        let mut model = Self { params, grads: Vec::new() };
        model.set_gradients(sizes, dtype, |_| true);
        model
    }

    /// Other gradients: 0 where an element is not `live`.
    pub fn set_gradients(&mut self, sizes: &Sizes, dtype: DType, live: impl Fn(usize) -> bool) {
        let gradient = |i: usize| if live(i) { ((i * 37) % 101) as f32 * 1e-3 - 0.05 } else { 0.0 };
        self.grads = sizes.iter().map(|(_, n)| Buffer::new(dtype, *n, gradient)).collect();
    }

    pub fn gradients(&self) -> impl Iterator<Item = Slice<'_>> {
        self.grads.iter().map(Buffer::slice)
    }

    fn both(&mut self) -> (Params<'_>, Grads<'_>) {
        let params = Params::new(self.params.iter_mut().map(Buffer::slice_mut));
        (params, Grads::new(self.grads.iter().map(|g| Some(g.slice()))))
    }

    /// Milliseconds of one step.
    pub fn step(&mut self, optimizer: &mut Optimizer) -> f64 {
        let (params, grads) = self.both();
        let start = Instant::now();
        let report = optimizer.step(&params, &grads, &StepOptions::default()).expect("a step");
        let time = milliseconds(start);
        assert!(report.skipped.is_none());
        time
    }

    /// Milliseconds of `count` steps, one by one.
    pub fn steps(&mut self, optimizer: &mut Optimizer, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.step(optimizer)).collect()
    }

    /// Milliseconds of the library's own part of one meta-update: the host answers at once.
    pub fn meta_update(&mut self, optimizer: &mut Optimizer) -> f64 {
        let (params, grads) = self.both();
        let start = Instant::now();
        let mut request = optimizer.meta_begin(&params).expect("a meta-update");
        while let Some(open) = request {
            let answer = Answer { request_id: open.id, loss: 1.0, grad_scale: 1.0 };
            let grads = (open.kind == Kind::Gradient).then_some(&grads);
            request = optimizer.meta_tell(&answer, &params, grads).expect("an answer");
        }
        milliseconds(start)
    }
}

/// Descriptions of the tensors, by name alone.
pub fn specs(sizes: &Sizes, dtype: DType) -> Vec<TensorSpec> {
    let spec = |(text, n): &(String, usize)| TensorSpec::new(text, &[*n as u64], dtype).expect("a name");
    sizes.iter().map(spec).collect()
}

pub fn name(text: &str) -> Name {
    Name::new("name", text.as_bytes()).expect("a name")
}

/// A prepared optimizer of one param group.
pub fn optimizer(options: Options, group: ParamGroup, specs: Vec<TensorSpec>) -> Optimizer {
    let mut optimizer = Optimizer::new(options).expect("valid options");
    optimizer.add_param_group(group, specs).expect("valid tensors");
    optimizer.prepare().expect("memory");
    optimizer
}

pub fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() { f64::NAN } else { sorted[sorted.len() / 2] }
}

/// A line of /proc/self/status or /proc/meminfo in bytes; NaN where there is none.
pub fn system(file: &str, field: &str) -> f64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0
}

/// Bytes that are resident now.
pub fn resident() -> f64 {
    system("/proc/self/status", "VmRSS")
}

/// Bytes that `work` takes at its peak beyond what was resident before.
pub fn extra_memory(work: impl FnOnce()) -> f64 {
    let reset = std::fs::write("/proc/self/clear_refs", "5"); // the peak starts anew
    let before = if reset.is_ok() { resident() } else { system("/proc/self/status", "VmHWM") };
    work();
    system("/proc/self/status", "VmHWM") - before
}
