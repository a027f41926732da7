// Processes that share a model: maw_pack, what this one brings to a reduction, and whether they agreed, as all_reduce.rs
// finds out on the host.
#pragma once
#include "math.cuh"
#include "passes.cuh"
#include "random.cuh"

// The sum over the block, in every thread.
__device__ u64 block_total(u64 value, u64* shared) {
    __syncthreads(); // everyone has read what was there
    shared[threadIdx.x] = value;
    __syncthreads();
    for (u32 half = DECIDER / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    return shared[0];
}

// A hash of the state, whatever the order in which threads add: all_reduce.rs compares the sum's bits only.
__device__ u64 hash_state(const World& w, u64* shared) {
    u64 hash = 0;
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) hash += mix(w.steps[i] ^ mix(i));
    for (u32 i = threadIdx.x; i < w.phi_len; i += DECIDER) hash += mix(bits_of(w.phi[i]) ^ mix(~(u64)i));
    const State& state = *w.state;
    u64 all = mix(block_total(hash, shared) ^ mix(state.steps));
    for (u32 i = 0; i < NOT_SKIPPED; i++) all = mix(all ^ mix(state.skips[i]));
    return all;
}

// Of the hyper-parameters as they are when the step runs, perhaps long after it was captured: run/shards.rs.
__device__ u64 hash_hyper(const World& w, u64* shared) {
    u64 hash = 0;
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) {
        const Hyper& h = w.hyper[w.tensors[i].param_group];
        u64 key = mix(mix(i));
        key = mix(key ^ mix(bits_of(h.lr)));
        key = mix(key ^ mix(bits_of(h.beta1)));
        key = mix(key ^ mix(bits_of(h.beta2)));
        key = mix(key ^ mix(bits_of(h.eps)));
        hash += mix(key ^ mix(bits_of(h.weight_decay)));
    }
    return block_total(hash, shared);
}

// By the first block. The buffer is zeros before.
__device__ void write_header(const World& w, const Agreement& own, u64* shared) {
    u64 state = own.hashes[OF_STATE], hyper = own.hashes[OF_HYPER], call = own.hashes[OF_CALL];
    if (own.of_device) {
        state = hash_state(w, shared);
        hyper = hash_hyper(w, shared);
        if (own.device_scale) call = mix(call ^ mix(bits_of((double)*(const float*)own.device_scale)));
    }
    double* header = w.reduction;
    if (threadIdx.x == 0) {
        header[0] = 1.0;
        header[1] = own.refuses ? 1.0 : 0.0;
        header[3] = own.found_inf && *(const float*)own.found_inf != 0.0f ? 1.0 : 0.0;
    }
    if (threadIdx.x < SUBJECTS) {
        u64 hash = own.hashes[threadIdx.x];
        if (threadIdx.x == OF_STATE) hash = state;
        if (threadIdx.x == OF_HYPER) hash = hyper;
        if (threadIdx.x == OF_CALL) hash = call;
        w.state->agreed[threadIdx.x] = hash;
        for (u32 i = 0; i < PIECES; i++) {
            double piece = (double)(u16)(hash >> (16 * i));
            double* to = header + 4 + threadIdx.x * PIECES + i;
            to[0] = piece;
            to[PIECES * SUBJECTS] = piece * piece;
        }
    }
}

extern "C" __global__ void __launch_bounds__(DECIDER) maw_pack(const World* arguments, Agreement own, u32 flags) {
    SHARED_ARRAY(u64, hashes, DECIDER);
    const World& w = *arguments;
    if (blockIdx.x == 0) write_header(w, own, hashes);
    u32 first = blockIdx.x * DECIDER + threadIdx.x, all = gridDim.x * DECIDER;
    bool broken = false;
    for (u32 chunk = first; chunk < w.chunk_count; chunk += all) {
        u32 tensor = w.chunk_tensor[chunk];
        const Tensor& t = w.tensors[tensor];
        u64 place = t.own_sum + (chunk - t.first_chunk);
        double* gradients = w.all_gradient_sums + place * GRADIENT_SUMS;
        double* state = w.all_state_sums + place * STATE_SUMS;
        const double* slot = w.state_slots + (u64)chunk * STATE_SUMS;
        if (flags & GRADIENTS && (!(flags & PRESENT) || w.grads[tensor]))
            for (u32 k = 0; k < GRADIENT_SUMS; k++) gradients[k] = w.gradient_slots[(u64)chunk * GRADIENT_SUMS + k];
        if (flags & PRODUCTS && w.coefficients[tensor].active) {
            if (w.reference) gradients[0] = slot[4];
            if (w.displacement_slots) gradients[1] = w.displacement_slots[chunk];
        }
        for (u32 k = 0; k < GRADIENT_SUMS; k++) broken |= !is_finite(gradients[k]);
        if (!(flags & STATE)) continue;
        for (u32 k = 0; k < 4; k++) {
            state[k] = slot[k];
            broken |= !is_finite(slot[k]);
        }
    }
    if (broken) atomicExch((u64*)&w.reduction[2], bits_of(1.0)); // all write the same
    if (!(flags & VOTES)) return;
    for (u32 i = first; i < w.tensor_count; i += all) {
        const Tensor& t = w.tensors[i];
        w.votes[i] = w.grads[i] != 0 && (t.numel > 0 || t.whole_numel == 0) ? 1.0 : 0.0;
    }
}

// What a reduction says of the processes; NO_FAILURE where there is one alone.
struct Outcome {
    u32 failure, tensor;
};

// `shared`: DECIDER_WARPS.
__device__ Outcome check_reduction(const World& w, u32* shared) {
    Outcome out = {NO_FAILURE, NO_TENSOR};
    if (!w.reduction) return out;
    const double* header = w.reduction;
    double count = header[0];
    u32 found = NO_TENSOR, tensor = NO_TENSOR;
    if (count != *w.processes) {
        found = NO_SUM;
    } else if (header[1] != 0.0) {
        found = REFUSED;
    } else if (threadIdx.x < PIECES * SUBJECTS) {
        // Σ (x − own)² is 0 only where all have the same.
        u32 subject = threadIdx.x / PIECES;
        double own = (double)(u16)(w.state->agreed[subject] >> (16 * (threadIdx.x % PIECES)));
        double sum = header[4 + threadIdx.x], squares = header[4 + PIECES * SUBJECTS + threadIdx.x];
        if (squares - 2.0 * own * sum + count * own * own != 0.0) found = DIFFER + subject;
    }
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER)
        if (w.votes[i] != 0.0 && w.votes[i] != w.owners[i] && tensor == NO_TENSOR) tensor = i;
    if (header[2] == 0.0) {
        u64 numbers = (u64)w.all_chunks * (GRADIENT_SUMS + STATE_SUMS);
        for (u64 i = threadIdx.x; i < numbers; i += DECIDER)
            if (!is_finite(w.all_gradient_sums[i]) && found > NOT_FINITE) found = NOT_FINITE;
    }
    tensor = block_min(tensor, shared);
    if (tensor != NO_TENSOR && found > SOME_GRADIENTS) found = SOME_GRADIENTS;
    found = block_min(found, shared);
    if (found == NO_TENSOR) return out;
    out.failure = found;
    out.tensor = tensor;
    return out;
}
