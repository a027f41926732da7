//! A model in device memory: every array of a run that is small, but for the tables of the host's pointers.

use std::sync::Arc;

use bytemuck::Zeroable;

use super::abi::{self, Coefficients, Hyper, KernelArguments, LastGradient, Settings, State};
use super::device::Device;
use super::driver::Address;
use super::memory::{Array, Layout, Memory};
use super::queue::Queue;
use super::state_memory::StateMemory;
use crate::backend::HEADER;
use crate::error::{Error, Result};
use crate::model::dtype::DType;
use crate::model::groups::{Groups, Shard, Tensor};
use crate::model::options::Options;
use crate::modulation::Modulation;
use crate::modulation::features::Features;

/// The arrays, and the kernels' arguments but for the host's pointers.
#[derive(Debug)]
pub struct ModelMemory {
    pub arrays: Arrays,
    pub arguments: KernelArguments,
    _memory: Memory,
}

/// As in `World` of kernels/abi.cuh.
#[derive(Clone, Copy, Debug)]
pub struct Arrays {
    tensors: Array<abi::Tensor>,
    fixed_features: Array<f64>,
    pub keys: Array<u64>,
    pub master_initialized: Array<u32>,
    pub init_master: Array<u32>,
    pub steps: Array<u64>,
    pub coefficients: Array<Coefficients>,
    pub last_gradients: Array<LastGradient>,
    pub gradient_totals: Array<f64>,
    pub state_totals: Array<f64>,
    pub statistics: Array<f64>,
    chunk_tensor: Array<u32>,
    pub gradient_slots: Array<f64>,
    pub state_slots: Array<f64>,
    pub hyper: Array<Hyper>,
    group_first: Array<u32>,
    group_tensors: Array<u32>,
    pub features: Array<f64>,
    pub factors: Array<f64>,
    pub next_features: Array<f64>,
    pub next_factors: Array<f64>,
    pub phi: Array<f64>,
    scratch: Array<f64>,
    pub settings: Array<Settings>,
    pub state: Array<State>,
    pub overwritten: Array<u32>,
    /// Of the averages; without them there are no elements.
    averages: Array<Address>,
    pub average_initialized: Array<u32>,
    pub init_average: Array<u32>,
    /// Of the horizon objective; with others there are no elements.
    pub displacement_slots: Array<f64>,
    pub displacement_totals: Array<f64>,
    pub horizon_sums: Array<f64>,
    /// Of several processes; alone there are no elements. The buffer of a reduction, and the sums of the state as they were.
    pub reduction: Array<f64>,
    pub owners: Array<f64>,
    pub processes: Array<f64>,
    pub kept_state_slots: Array<f64>,
}

/// What the arrays are made from.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    pub options: &'a Options,
    pub tensors: &'a [Tensor],
    pub groups: &'a Groups,
    pub modulation: Option<&'a Modulation>,
    pub state: &'a StateMemory,
    /// Where the device writes its reports.
    pub report: Address,
}

/// Tensors as the device sees them, and which of them each chunk is of.
struct Chunks {
    size: usize,
    tensors: Vec<abi::Tensor>,
    tensor_of: Vec<u32>,
    /// Of the whole model, which several processes may share.
    all: usize,
}

impl ModelMemory {
    /// Allocates and fills all arrays.
    ///
    /// # Errors
    /// A model of too many chunks; [`Error::OutOfDeviceMemory`]; the driver's.
    pub fn new(device: &Arc<Device>, queue: &Queue, model: Model) -> Result<Self> {
        let chunks = model.chunks();
        let all_chunks = u32::try_from(chunks.all)
            .map_err(|_| Error::range("the model", chunks.all, "at most 2³² chunks of tensors"))?;
        let (memory, arrays) = Memory::with_arrays(device, |layout| model.lay_out(layout, &chunks))?;
        memory.zero(queue)?;
        arrays.tensors.write(queue, 0, &chunks.tensors)?;
        arrays.chunk_tensor.write(queue, 0, &chunks.tensor_of)?;
        if arrays.has_averages() {
            arrays.averages.write(queue, 0, &model.state.averages)?;
        }
        let (group_first, group_tensors) = group_lists(model.groups);
        arrays.group_first.write(queue, 0, &group_first)?;
        arrays.group_tensors.write(queue, 0, &group_tensors)?;
        if let Some(modulation) = model.modulation {
            arrays.phi.write(queue, 0, modulation.attention.values())?;
            arrays.fixed_features.write(queue, 0, modulation.features().fixed.as_flattened())?;
        }
        let (chunk_count, chunk_size) = (chunks.tensor_of.len() as u32, chunks.size as u32);
        let sizes = KernelArguments { chunk_count, chunk_size, all_chunks, ..model.sizes() };
        Ok(Self { arrays, arguments: arrays.addresses(sizes, model.report), _memory: memory })
    }
}

impl Model<'_> {
    fn features(&self) -> Option<&Features> {
        self.modulation.map(Modulation::features)
    }

    /// Columns of features.
    fn dim(&self) -> usize {
        self.features().map_or(0, Features::dim)
    }

    /// Whether other processes have parts of the tensors.
    fn is_shared(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.spec.shard.is_some())
    }

    fn chunks(&self) -> Chunks {
        let most = if self.is_shared() { Shard::ALIGNMENT as usize } else { usize::MAX };
        let size = abi::chunk_size(self.tensors.iter().map(|t| t.whole_numel).sum()).min(most);
        let (mut tensor_of, mut all) = (Vec::new(), 0);
        let tensors = (0..self.tensors.len())
            .map(|i| {
                let tensor = &self.tensors[i];
                let (first, chunks) = (tensor_of.len(), tensor.numel.div_ceil(size));
                let (first_sum, sums) = (all, tensor.whole_numel.div_ceil(size));
                tensor_of.resize(first + chunks, i as u32);
                all += sums;
                abi::Tensor {
                    first_chunk: first as u32,
                    chunks: chunks as u32,
                    first_sum: first_sum as u32,
                    sums: sums as u32,
                    own_sum: (first_sum + tensor.offset / size) as u32,
                    ..self.tensor(i)
                }
            })
            .collect();
        Chunks { size, tensors, tensor_of, all }
    }

    /// A tensor as the device sees it, but for its chunks.
    fn tensor(&self, i: usize) -> abi::Tensor {
        let tensor = &self.tensors[i];
        abi::Tensor {
            numel: tensor.numel as u64,
            whole_numel: tensor.whole_numel as u64,
            offset: tensor.offset as u64,
            exp_avg: self.state.exp_avg[i],
            exp_avg_sq: self.state.exp_avg_sq[i],
            master: self.state.masters[i],
            max_square: tensor.moment_dtype.max_square(),
            param_group: tensor.param_group as u32,
            group: self.groups.of_tensor[i] as u32,
            dtype: abi::dtype(tensor.spec.dtype),
            grad_dtype: abi::dtype(tensor.spec.grad_dtype),
            moment_dtype: abi::dtype(tensor.moment_dtype),
            precision: abi::precision(tensor.precision),
            kind: abi::kind(tensor),
            ..abi::Tensor::zeroed()
        }
    }

    fn lay_out(&self, layout: &mut Layout, chunks: &Chunks) -> Result<Arrays> {
        let (chunks, all_chunks) = (chunks.tensor_of.len(), chunks.all);
        let (n, groups, dim) = (self.tensors.len(), self.groups.groups.len(), self.dim());
        let activations = groups * (6 * dim + self.options.attn_hidden_dim);
        let (has_averages, learns) = (self.options.horizon > 0, self.options.learns_from_steps());
        let averaged = |len| if has_averages { len } else { 0 };
        let learned = |len| if learns { len } else { 0 };
        let shared = |len| if self.is_shared() { len } else { 0 };
        Ok(Arrays {
            tensors: layout.array(n)?,
            fixed_features: layout.array(3 * n)?,
            keys: layout.array(n)?,
            master_initialized: layout.array(n)?,
            init_master: layout.array(n)?,
            steps: layout.array(n)?,
            coefficients: layout.array(n)?,
            last_gradients: layout.array(n)?,
            gradient_totals: layout.array(abi::GRADIENT_SUMS * n)?,
            state_totals: layout.array(abi::STATE_SUMS * n)?,
            statistics: layout.array(abi::STATISTICS * n)?,
            chunk_tensor: layout.array(chunks)?,
            gradient_slots: layout.array(abi::GRADIENT_SUMS * chunks)?,
            state_slots: layout.array(abi::STATE_SUMS * chunks)?,
            hyper: layout.array(self.tensors.iter().map(|t| t.param_group + 1).max().unwrap_or(0))?,
            group_first: layout.array(groups + 1)?,
            group_tensors: layout.array(n)?,
            features: layout.array(groups * dim)?,
            factors: layout.array(groups * abi::OUTPUTS)?,
            next_features: layout.array(groups * dim)?,
            next_factors: layout.array(groups * abi::OUTPUTS)?,
            phi: layout.array(self.modulation.map_or(0, |m| m.attention.values().len()))?,
            scratch: layout.array(if activations > abi::SHARED_ACTIVATIONS { activations } else { 0 })?,
            settings: layout.array(1)?,
            state: layout.array(1)?,
            overwritten: layout.array(n)?,
            averages: layout.array(averaged(n))?,
            average_initialized: layout.array(averaged(n))?,
            init_average: layout.array(averaged(n))?,
            displacement_slots: layout.array(learned(chunks))?,
            displacement_totals: layout.array(learned(n))?,
            horizon_sums: layout.array(learned(groups))?,
            reduction: layout.array(shared(HEADER + n + (abi::GRADIENT_SUMS + abi::STATE_SUMS) * all_chunks))?,
            owners: layout.array(shared(n))?,
            processes: layout.array(shared(1))?,
            kept_state_slots: layout.array(shared(abi::STATE_SUMS * chunks))?,
        })
    }

    /// The kernels' arguments that are no addresses and do not count chunks.
    fn sizes(&self) -> KernelArguments {
        let (options, features) = (self.options, self.features());
        KernelArguments {
            tensor_count: self.tensors.len() as u32,
            group_count: self.groups.groups.len() as u32,
            dim: self.dim() as u32,
            heads: options.attn_heads as u32,
            layers: options.attn_layers as u32,
            hidden: options.attn_hidden_dim as u32,
            embed_dim: features.map_or(0, Features::embed_dim) as u32,
            gates: options.use_feature_gating.into(),
            version: abi::version(options.feature_version),
            basic_columns: 4 + u32::from(options.use_v_norms),
            include_time: options.include_time_step.into(),
            statistical_columns: features.map_or(0, |f| f.statistical) as u32,
            modulation: self.modulation.is_some().into(),
            count_zeros: features.is_some_and(Features::counts_zeros).into(),
            reference: (self.modulation.is_some() && abi::is_reference(options.semantics)).into(),
            average_dtype: abi::dtype(options.average_of(DType::F32).unwrap_or(DType::F32)),
            phi_len: self.modulation.map_or(0, |m| m.attention.values().len()) as u32,
            ..KernelArguments::zeroed()
        }
    }
}

/// Where each group's tensors begin in the list of them, and the list.
fn group_lists(groups: &Groups) -> (Vec<u32>, Vec<u32>) {
    let (mut first, mut tensors) = (vec![0], Vec::new());
    for group in &groups.groups {
        tensors.extend(group.tensors.iter().map(|&i| i as u32));
        first.push(tensors.len() as u32);
    }
    (first, tensors)
}

impl Arrays {
    pub fn has_averages(&self) -> bool {
        self.averages.len > 0
    }

    /// The kernels' arguments with these addresses and `sizes`.
    fn addresses(&self, sizes: KernelArguments, report: Address) -> KernelArguments {
        let votes = self.reduction.address + (HEADER * size_of::<f64>()) as Address;
        let gradient_sums = votes + (sizes.tensor_count as usize * size_of::<f64>()) as Address;
        let gradient_bytes = abi::GRADIENT_SUMS * sizes.all_chunks as usize * size_of::<f64>();
        let [all_gradient_sums, all_state_sums] = match self.reduction.len {
            0 => [self.gradient_slots.address, self.state_slots.address],
            _ => [gradient_sums, gradient_sums + gradient_bytes as Address],
        };
        KernelArguments {
            all_gradient_sums,
            all_state_sums,
            reduction: self.reduction.address_or_null(),
            votes,
            kept_state_slots: self.kept_state_slots.address_or_null(),
            owners: self.owners.address_or_null(),
            processes: self.processes.address_or_null(),
            tensors: self.tensors.address,
            fixed_features: self.fixed_features.address,
            keys: self.keys.address,
            master_initialized: self.master_initialized.address,
            init_master: self.init_master.address,
            steps: self.steps.address,
            coefficients: self.coefficients.address,
            last_gradients: self.last_gradients.address,
            gradient_totals: self.gradient_totals.address,
            state_totals: self.state_totals.address,
            statistics: self.statistics.address,
            chunk_tensor: self.chunk_tensor.address,
            gradient_slots: self.gradient_slots.address,
            state_slots: self.state_slots.address,
            hyper: self.hyper.address,
            group_first: self.group_first.address,
            group_tensors: self.group_tensors.address,
            features: self.features.address,
            factors: self.factors.address,
            next_features: self.next_features.address,
            next_factors: self.next_factors.address,
            phi: self.phi.address,
            scratch: self.scratch.address,
            settings: self.settings.address,
            state: self.state.address,
            report,
            overwritten: self.overwritten.address,
            averages: self.averages.address_or_null(),
            average_initialized: self.average_initialized.address_or_null(),
            init_average: self.init_average.address_or_null(),
            displacement_slots: self.displacement_slots.address_or_null(),
            displacement_totals: self.displacement_totals.address_or_null(),
            horizon_sums: self.horizon_sums.address_or_null(),
            ..sizes
        }
    }
}
