// maw_decide: one block makes slots → totals → features → factors → verdict, coefficients and counts. maw_totals: slots →
// totals alone, for the host. maw_horizon: what an update says of the displacement from the averages.
#pragma once
#include "attention.cuh"
#include "features.cuh"
#include "passes.cuh"
#include "reduce.cuh"

struct SharedMemory {
    double* activations; // SHARED_ACTIVATIONS
    double* sums;        // WIDTH × DECIDER_WARPS
    u32* indices;        // DECIDER_WARPS
};

// The gradient's norm, and what brings the host's gradient to the effective one: clipping.rs.
struct Effective {
    double norm, clip, factor;
    u32 reason, tensor; // what is not finite
};

__device__ Effective check_gradients(const World& w, double unscale, bool unchecked, const SharedMemory& shared) {
    Effective e;
    e.norm = double_of(0x7ff8000000000000ull); // NaN
    e.clip = 1.0;
    e.reason = NOT_SKIPPED;
    e.tensor = NO_TENSOR;
    if (unchecked) {
        e.factor = unscale;
        return e;
    }
    if (threadIdx.x < WARP) {
        double square = 0.0;
        for (u32 start = 0; start < w.tensor_count; start += WARP) {
            u32 here = w.tensor_count - start < WARP ? w.tensor_count - start : WARP, i = start + threadIdx.x;
            bool has = threadIdx.x < here && has_gradient(w, i);
            square = add_in_order(square, has ? w.gradient_totals[(u64)i * GRADIENT_SUMS] : 0.0, here);
        }
        if (threadIdx.x == 0) shared.sums[0] = square;
    }
    __syncthreads();
    double max = w.settings->max_grad_norm;
    e.norm = sqrt(shared.sums[0]) * unscale;
    if (max > 0.0) {
        double c = max / (e.norm + 1e-6);
        e.clip = c < 1.0 ? c : (c >= 1.0 ? 1.0 : c); // a NaN stays one
    }
    e.factor = e.clip * unscale;
    if (w.settings->propagate) return e;

    u32 gradient = NO_TENSOR, param = NO_TENSOR, moment = NO_TENSOR;
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) {
        const double* state = w.state_totals + (u64)i * STATE_SUMS;
        double g = has_gradient(w, i) ? w.gradient_totals[(u64)i * GRADIENT_SUMS] : 0.0;
        bool usable = is_finite(g) && g * e.factor * e.factor <= w.tensors[i].max_square;
        if (!usable && gradient == NO_TENSOR) gradient = i;
        if (!is_finite(state[0]) && param == NO_TENSOR) param = i;
        if (!(is_finite(state[1]) && is_finite(state[2])) && moment == NO_TENSOR) moment = i;
    }
    gradient = block_min(gradient, shared.indices);
    param = block_min(param, shared.indices);
    moment = block_min(moment, shared.indices);
    if (gradient != NO_TENSOR || !is_finite(e.norm) || !is_finite(e.factor)) {
        e.reason = GRADIENT;
        e.tensor = gradient;
    } else if (param != NO_TENSOR) {
        e.reason = PARAMETER;
        e.tensor = param;
    } else if (moment != NO_TENSOR) {
        e.reason = MOMENT;
        e.tensor = moment;
    }
    return e;
}

// Statistics → features → factors; NOT_SKIPPED, or what is not finite.
__device__ u32 compute_factors(const World& w, double factor, u64 step, const SharedMemory& shared) {
    fill_statistics(w, factor);
    u64 total_steps = w.settings->total_steps;
    double time = total_steps > 0 ? (double)step / (double)total_steps : 2.0 * sigmoid((double)step / 1000.0) - 1.0;
    fill_features(w, time);
    u32 nonfinite = NO_TENSOR;
    for (u32 i = threadIdx.x; i < w.group_count * w.dim; i += DECIDER)
        if (!is_finite(w.next_features[i])) nonfinite = 0;
    if (block_min(nonfinite, shared.indices) != NO_TENSOR) return FEATURE;

    u32 groups = w.group_count, dim = w.dim;
    double* x = groups * (6 * dim + w.hidden) <= SHARED_ACTIVATIONS ? shared.activations : w.scratch;
    make_tokens(w, x);
    const double* output = encode(w, x);
    for (u32 i = threadIdx.x; i < groups * OUTPUTS; i += DECIDER) {
        u32 group = i / OUTPUTS, row = i % OUTPUTS;
        double raw = dot(output[OUTPUTS * dim + row], output + row * dim, x + (u64)group * dim, dim);
        double range = row == 0 ? w.settings->alpha_range : w.settings->beta_range, s = sigmoid(raw);
        double ln_range = row == 0 ? w.settings->alpha_ln_range : w.settings->beta_ln_range;
        double value = row < 2 ? 1.0 + range * (s - 0.5) : s; // eq. 7–9
        if (row < 2 && ln_range > 0.0) value = exponential(ln_range * (2.0 * s - 1.0));
        w.next_factors[row * groups + group] = value;
        if (!is_finite(value)) nonfinite = 0;
    }
    return block_min(nonfinite, shared.indices) != NO_TENSOR ? FACTOR : NOT_SKIPPED;
}

// Elements that tell whether a parameter is still its master's copy.
#define SAMPLE 16

// The place of a 16-bit float among all of them in the order of their values; both zeros are at 0.
__device__ inline int place(u16 half) { return half & 0x8000u ? -(int)(half & 0x7FFFu) : (int)half; }

// Whether one of the first elements is more than one unit in the last place away from its master's copy: load_store.rs.
__device__ inline bool is_changed(const Tensor& t, u64 param) {
    const u16* model = (const u16*)param;
    const float* masters = (const float*)t.master;
    u32 len = t.numel < SAMPLE ? (u32)t.numel : SAMPLE;
    bool changed = false;
#pragma unroll 4
    for (u32 i = 0; i < len; i++) {
        int apart = place(half_from_master(masters[i], t.dtype)) - place(model[i]);
        changed |= apart > 1 || apart < -1;
    }
    return changed;
}

// The coefficients of every tensor that has a gradient (coefficients.rs), its count, and what `reference` stores.
__device__ void prepare_update(const World& w, double factor, u32 flags) {
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) {
        Coefficients c = {};
        if (has_gradient(w, i)) {
            const Tensor& t = w.tensors[i];
            const Hyper& h = w.hyper[t.param_group];
            double alpha = w.modulation ? w.next_factors[t.group] : 1.0;
            double beta = w.modulation ? w.next_factors[w.group_count + t.group] : 1.0;
            u64 step = w.steps[i] + 1;
            double correction1 = 1.0 - power(h.beta1, step), root2 = sqrt(1.0 - power(h.beta2, step));
            double decay = h.lr * alpha * beta * h.weight_decay;
            c.gradient = factor;
            c.beta1 = h.beta1;
            c.beta2 = h.beta2;
            c.eps = h.eps * root2;
            c.step_size = h.lr * alpha * root2 / correction1;
            c.decay = w.reference ? decay / correction1 : decay;
            c.key = mix(w.keys[i] ^ mix(step));
            c.active = 1;
            w.steps[i] = step;
        }
        w.coefficients[i] = c;
        u32 precision = w.tensors[i].precision;
        w.init_master[i] = (precision == MASTER || precision == REMAINDER) && is_from_model(w, i, flags);
        if (precision == MASTER && c.active && !w.init_master[i] && is_changed(w.tensors[i], w.params[i]))
            w.overwritten[i] = 1;
        w.master_initialized[i] = 1;
        if (w.averages) {
            w.init_average[i] = flags & CHANGED || !w.average_initialized[i];
            w.average_initialized[i] = 1;
        }
        if (w.reference) {
            const double* g = w.gradient_totals + (u64)i * GRADIENT_SUMS;
            LastGradient last = {};
            if (c.active) {
                last.square = g[0] * factor * factor;
                last.zeros = g[2];
                last.known = 1;
            }
            w.last_gradients[i] = last;
        }
    }
}

// `made`: or skipped, by all processes; else the report stays that of the step before.
__device__ void write_report(const World& w, const Effective& e, bool made) {
    State& state = *w.state;
    Report& report = *w.report;
    volatile u64* begun = &report.begun;
    volatile u64* done = &report.done;
    *begun = state.decided;
    __threadfence_system();
    if (made) {
        report.steps = state.steps;
        report.skipped_steps = state.skips[0] + state.skips[1] + state.skips[2] + state.skips[3] + state.skips[4];
        report.grad_norm = e.norm;
        report.clip = e.clip;
        report.reason = e.reason;
        report.tensor = e.tensor;
    }
    report.failures = state.failures;
    report.failure = state.failure;
    report.failure_tensor = state.failure_tensor;
    report.processes = state.processes;
    __threadfence_system();
    *done = state.decided;
}

// device_scale: the gradients' scale as a float on the device, or 0: grad_scale. found_inf: 0, or a float on the
// device that is not 0 when the step must be skipped.
extern "C" __global__ void __launch_bounds__(DECIDER)
    maw_decide(const World* arguments, double grad_scale, const float* device_scale, const float* found_inf, u32 flags) {
    SHARED_ARRAY(double, room, SHARED_ACTIVATIONS);
    SHARED_ARRAY(double, sums, STATE_SUMS * DECIDER_WARPS);
    SHARED_ARRAY(u32, indices, DECIDER_WARPS);
    SharedMemory shared;
    shared.activations = room;
    shared.sums = sums;
    shared.indices = indices;
    const World& w = *arguments;
    State& state = *w.state;
    bool unchecked = flags & UNCHECKED, state_summed = wants_state(w, flags), found = found_inf && *found_inf != 0.0f;
    u64 steps = state.steps;
    if (!unchecked) {
        total_up<GRADIENT_SUMS, GRADIENT_SUMS>(w, w.all_gradient_sums, w.gradient_totals, sums);
        total_up<4, STATE_SUMS>(w, w.all_state_sums, w.state_totals, sums);
        __syncthreads();
    }
    Outcome met = check_reduction(w, indices);
    if (w.reduction && w.reduction[3] != 0.0) found = true;
    double scale = device_scale ? (double)*device_scale : grad_scale;
    Effective e = check_gradients(w, 1.0 / scale, unchecked, shared);
    bool usable = scale > 0.0 && is_finite(scale); // of the host's argument this is asked whatever the policy
    if (e.reason == NOT_SKIPPED && (found || !usable)) e.reason = GRADIENT;
    if (met.failure == NO_FAILURE && e.reason == NOT_SKIPPED && w.modulation)
        e.reason = compute_factors(w, e.factor, steps + 1, shared);
    bool apply = met.failure == NO_FAILURE && e.reason == NOT_SKIPPED;
    if (apply) {
        prepare_update(w, e.factor, flags);
        if (w.modulation) {
            u32 groups = w.group_count;
            for (u32 i = threadIdx.x; i < groups * w.dim; i += DECIDER) w.features[i] = w.next_features[i];
            for (u32 i = threadIdx.x; i < groups * OUTPUTS; i += DECIDER) w.factors[i] = w.next_factors[i];
        }
    }
    if (!apply && met.failure == NO_FAILURE && flags & CHANGED) // it was told once and holds for the next step
        for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) {
            w.master_initialized[i] = 0;
            if (w.averages) w.average_initialized[i] = 0;
        }
    __syncthreads(); // everyone has read the state
    if (threadIdx.x != 0) return;
    state.decided += 1;
    state.apply = apply;
    if (apply) {
        state.steps = steps + 1;
        state.sums_current = !unchecked;
        state.sums_kept = 0;
        state.features_known = 1;
        state.slots_have_momentum = w.reference;
    } else if (met.failure != NO_FAILURE) {
        state.failures += 1;
        state.failure = met.failure;
        state.failure_tensor = met.tensor;
        state.processes = w.reduction[0];
    } else {
        state.skips[e.reason] += 1;
        state.last_reason = e.reason;
        state.last_tensor = e.tensor;
        state.last_steps = steps;
    }
    if (!apply && state_summed) { // the host may take back what it changed
        state.sums_kept |= state.sums_current;
        state.sums_current = 0;
    }
    write_report(w, e, met.failure == NO_FAILURE);
}

// After an update under the horizon objective: slots → totals → H of each group, and its steps, unless it was in the
// warm-up.
extern "C" __global__ void __launch_bounds__(DECIDER) maw_horizon(const World* arguments) {
    SHARED_ARRAY(double, sums, DECIDER_WARPS);
    const World& w = *arguments;
    State& state = *w.state;
    if (!state.apply || state.steps <= w.settings->meta_warmup) return;
    total_up<1, 1>(w, w.displacement_slots, w.displacement_totals, sums);
    __syncthreads();
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (u32 group = warp; group < w.group_count; group += DECIDER_WARPS) {
        const u32* members = w.group_tensors + w.group_first[group];
        u32 count = w.group_first[group + 1] - w.group_first[group];
        double sum = 0.0;
        for (u32 start = 0; start < count; start += WARP) {
            u32 here = count - start < WARP ? count - start : WARP;
            double h = 0.0;
            if (lane < here) {
                u32 tensor = members[start + lane];
                const Coefficients& c = w.coefficients[tensor];
                if (c.active) h = w.displacement_totals[tensor] * c.gradient;
            }
            sum = add_in_order(sum, h, here);
        }
        if (lane == 0) w.horizon_sums[group] += sum;
    }
    if (threadIdx.x == 0) state.horizon_steps += 1;
}

// Slots → totals, for the host: of the gradients' (or of a pass of a meta-update), of the state's, of displacements.
extern "C" __global__ void __launch_bounds__(DECIDER) maw_totals(const World* arguments, u32 flags) {
    SHARED_ARRAY(double, sums, STATE_SUMS * DECIDER_WARPS);
    const World& w = *arguments;
    if (flags & GRADIENTS) total_up<GRADIENT_SUMS, GRADIENT_SUMS>(w, w.all_gradient_sums, w.gradient_totals, sums);
    if (flags & STATE) total_up<STATE_SUMS, STATE_SUMS>(w, w.all_state_sums, w.state_totals, sums);
    if (flags & DISPLACEMENTS) total_up<1, 1>(w, w.displacement_slots, w.displacement_totals, sums);
    if (!(flags & STATE && w.state->slots_have_momentum)) return;
    __syncthreads();
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER)
        if (w.last_gradients[i].known) w.last_gradients[i].with_momentum = w.state_totals[(u64)i * STATE_SUMS + 4];
}
