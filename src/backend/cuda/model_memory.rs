//! A model in device memory: every array of a run but the moments and the tables of the host's pointers.

use std::sync::Arc;

use bytemuck::Zeroable;

use super::abi::{self, Coefficients, Hyper, LastGradient, Settings, State, World};
use super::device::{Device, Queue};
use super::driver::Address;
use super::memory::{Array, Memory, Plan};
use crate::error::{Error, Result};
use crate::model::groups::{Groups, Tensor};
use crate::model::options::Options;
use crate::modulation::Modulation;
use crate::modulation::features::Features;

/// The arrays that the host reads or writes later.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// All of [`World`] but the tables of pointers.
    pub world: World,
    pub keys: Array<u64>,
    pub master_initialized: Array<u32>,
    pub begin: Array<u32>,
    pub steps: Array<u64>,
    pub coefficients: Array<Coefficients>,
    pub kept: Array<LastGradient>,
    pub gradient_totals: Array<f64>,
    pub state_totals: Array<f64>,
    pub hyper: Array<Hyper>,
    pub features: Array<f64>,
    pub factors: Array<f64>,
    pub phi: Array<f64>,
    pub settings: Array<Settings>,
    pub state: Array<State>,
}

/// What the arrays are made from.
pub struct Model<'a> {
    pub options: &'a Options,
    pub tensors: &'a [Tensor],
    pub groups: &'a Groups,
    pub modulation: Option<&'a Modulation>,
    pub exp_avg: &'a [Address],
    pub exp_avg_sq: &'a [Address],
    pub masters: &'a [Address],
}

impl Model<'_> {
    /// Allocates and fills all but the moments and the tables of pointers.
    pub fn lay_out(&self, device: &Arc<Device>, queue: &Queue, report: Address) -> Result<(Memory, Places)> {
        let Self { options, tensors, groups, modulation, .. } = *self;
        let (n, group_count) = (tensors.len(), groups.groups.len());
        let chunk_size = abi::chunk_size(tensors.iter().map(|t| t.numel).sum());
        let mut chunk_tensor = Vec::new();
        let on_device: Vec<abi::Tensor> = (0..n).map(|i| self.tensor(i, chunk_size, &mut chunk_tensor)).collect();
        let chunk_count = u32::try_from(chunk_tensor.len())
            .map_err(|_| Error::range("the model", chunk_tensor.len(), "at most 2³² chunks of tensors"))?;
        let group_first: Vec<u32> = std::iter::once(0)
            .chain(groups.groups.iter().scan(0, |end, group| {
                *end += group.tensors.len() as u32;
                Some(*end)
            }))
            .collect();
        let group_tensors: Vec<u32> = groups.groups.iter().flat_map(|g| &g.tensors).map(|&i| i as u32).collect();
        let features = modulation.map(Modulation::features);
        let dim = features.map_or(0, Features::dim);
        let phi = modulation.map_or(&[][..], |m| m.attention.values());
        let hidden = options.attn_hidden_dim;
        let activations = group_count * (6 * dim + hidden);
        let scratch_len = if activations > abi::ROOM { activations } else { 0 };

        let mut plan = Plan::default();
        let tensor_table = plan.array::<abi::Tensor>(n)?;
        let fixed = plan.array::<f64>(3 * n)?;
        let keys = plan.array(n)?;
        let master_initialized = plan.array(n)?;
        let begin = plan.array(n)?;
        let steps = plan.array(n)?;
        let coefficients = plan.array(n)?;
        let kept = plan.array(n)?;
        let gradient_totals = plan.array(abi::GRADIENT_SUMS * n)?;
        let state_totals = plan.array(abi::STATE_SUMS * n)?;
        let statistics = plan.array::<f64>(abi::STATISTICS * n)?;
        let chunks = plan.array::<u32>(chunk_tensor.len())?;
        let gradient_slots = plan.array::<f64>(abi::GRADIENT_SUMS * chunk_tensor.len())?;
        let state_slots = plan.array::<f64>(abi::STATE_SUMS * chunk_tensor.len())?;
        let hyper = plan.array(tensors.iter().map(|t| t.param_group + 1).max().unwrap_or(0))?;
        let first = plan.array::<u32>(group_count + 1)?;
        let members = plan.array::<u32>(n)?;
        let last_features = plan.array(group_count * dim)?;
        let last_factors = plan.array(group_count * 4)?;
        let next_features = plan.array::<f64>(group_count * dim)?;
        let next_factors = plan.array::<f64>(group_count * 4)?;
        let phi_place = plan.array(phi.len())?;
        let scratch = plan.array::<f64>(scratch_len)?;
        let settings = plan.array(1)?;
        let state = plan.array(1)?;
        let memory = plan.allocate(device)?;
        // SAFETY: the memory is as large.
        unsafe { queue.zero(memory.address(), memory.bytes())? };

        let m = &memory;
        let (tensor_table, fixed, chunks) = (tensor_table.within(m), fixed.within(m), chunks.within(m));
        let (first, members) = (first.within(m), members.within(m));
        let mut places = Places {
            world: World::zeroed(),
            keys: keys.within(m),
            master_initialized: master_initialized.within(m),
            begin: begin.within(m),
            steps: steps.within(m),
            coefficients: coefficients.within(m),
            kept: kept.within(m),
            gradient_totals: gradient_totals.within(m),
            state_totals: state_totals.within(m),
            hyper: hyper.within(m),
            features: last_features.within(m),
            factors: last_factors.within(m),
            phi: phi_place.within(m),
            settings: settings.within(m),
            state: state.within(m),
        };
        tensor_table.write(queue, 0, &on_device)?;
        chunks.write(queue, 0, &chunk_tensor)?;
        first.write(queue, 0, &group_first)?;
        members.write(queue, 0, &group_tensors)?;
        places.phi.write(queue, 0, phi)?;
        if let Some(features) = features {
            fixed.write(queue, 0, features.fixed.as_flattened())?;
        }
        places.world = World {
            tensors: tensor_table.address,
            fixed: fixed.address,
            keys: places.keys.address,
            master_initialized: places.master_initialized.address,
            begin: places.begin.address,
            steps: places.steps.address,
            coefficients: places.coefficients.address,
            kept: places.kept.address,
            gradient_totals: places.gradient_totals.address,
            state_totals: places.state_totals.address,
            statistics: statistics.within(m).address,
            chunk_tensor: chunks.address,
            gradient_slots: gradient_slots.within(m).address,
            state_slots: state_slots.within(m).address,
            hyper: places.hyper.address,
            group_first: first.address,
            group_tensors: members.address,
            features: places.features.address,
            factors: places.factors.address,
            next_features: next_features.within(m).address,
            next_factors: next_factors.within(m).address,
            phi: places.phi.address,
            scratch: scratch.within(m).address,
            settings: places.settings.address,
            state: places.state.address,
            report,
            tensor_count: n as u32,
            chunk_count,
            chunk_size: chunk_size as u32,
            group_count: group_count as u32,
            dim: dim as u32,
            heads: options.attn_heads as u32,
            layers: options.attn_layers as u32,
            hidden: hidden as u32,
            embed_dim: features.map_or(0, Features::embed_dim) as u32,
            gates: options.use_feature_gating.into(),
            version: abi::version(options.feature_version),
            used: 4 + u32::from(options.use_v_norms),
            time: options.include_time_step.into(),
            statistical: features.map_or(0, |f| f.statistical) as u32,
            modulation: modulation.is_some().into(),
            zeros: features.is_some_and(Features::counts_zeros).into(),
            reference: (modulation.is_some() && abi::is_reference(options.semantics)).into(),
            ..World::zeroed()
        };
        Ok((memory, places))
    }

    /// A tensor as the device sees it; its chunks are added to the list.
    fn tensor(&self, i: usize, chunk_size: usize, chunk_tensor: &mut Vec<u32>) -> abi::Tensor {
        let tensor = &self.tensors[i];
        let (first_chunk, chunks) = (chunk_tensor.len(), tensor.numel.div_ceil(chunk_size));
        chunk_tensor.resize(first_chunk + chunks, i as u32);
        abi::Tensor {
            numel: tensor.numel as u64,
            exp_avg: self.exp_avg[i],
            exp_avg_sq: self.exp_avg_sq[i],
            master: self.masters[i],
            max_square: tensor.moment_dtype.max_square(),
            first_chunk: first_chunk as u32,
            chunks: chunks as u32,
            param_group: tensor.param_group as u32,
            group: self.groups.of_tensor[i] as u32,
            dtype: abi::dtype(tensor.spec.dtype),
            grad_dtype: abi::dtype(tensor.spec.grad_dtype),
            moment_dtype: abi::dtype(tensor.moment_dtype),
            precision: abi::precision(tensor.precision),
            kind: abi::kind(tensor),
            reserved: 0,
        }
    }
}
