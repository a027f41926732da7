/* Saved runs and moments that do not fit: flags, paths, damaged files, other models, moments of another kind. */
#include "misuse.h"

static void flags_and_paths(void) {
    static const uint32_t no_save[] = {2, 4, 8, UINT32_MAX}, no_load[] = {32, 6, 10 | MAW_LOAD_PARTIAL, UINT32_MAX};
    for (size_t i = 0; i < 4; i++)
        GIVEN(STEPPED) {
            REFUSES(maw_save_file(w->o, "by_a_row.safetensors", no_save[i], error), MAW_INVALID_ARGUMENT, "flags");
            REFUSES(maw_save_bytes(w->o, no_save[i], &w->out.bytes, error), MAW_INVALID_ARGUMENT, "flags");
            REFUSES(maw_load_file(w->o, SAVED_FILE, no_load[i], error), MAW_INVALID_ARGUMENT, "flags");
            REFUSES(maw_load_bytes(w->o, SAVED, SAVED_SIZE, no_load[i], error), MAW_INVALID_ARGUMENT, "flags");
            REFUSES(maw_load_report_count(w->o, (uint32_t)(5 * i), &w->out.size, error), MAW_INVALID_ARGUMENT, "which");
            REFUSES(maw_load_report_name(w->o, (uint32_t)(5 * i), 0, &w->out.text, error), MAW_INVALID_ARGUMENT, "which");
        }
    for (enum state state = REGISTERED; state <= STEPPED; state++)
        GIVEN(state) {
            REFUSES(maw_save_file(w->o, "", 0, error), MAW_INVALID_ARGUMENT, "path");
            REFUSES(maw_load_file(w->o, "", 0, error), MAW_INVALID_ARGUMENT, "path");
            REFUSES(maw_save_file(w->o, "no such folder/run.safetensors", 0, error), MAW_IO, "no such folder");
            REFUSES(maw_load_file(w->o, "no such file", 0, error), MAW_IO, "no such file");
            REFUSES(maw_load_file(w->o, ".", 0, error), MAW_IO, "");
        }
}

/* A truncated file, or one with a changed byte. */
static void damaged(void) {
    const size_t size = SAVED_SIZE;
    unsigned char *copy = malloc(size);
    if (copy == NULL)
        exit(EXIT_FAILURE);
    for (enum state state = REGISTERED; state <= STEPPED; state++) {
        for (size_t length = 0; length < size; length += 1 + length / 20)
            GIVEN(state) {
                REFUSES(maw_load_bytes(w->o, SAVED, length, 0, error), MAW_CORRUPT, "checkpoint");
                REFUSES(maw_load_bytes(w->o, SAVED, length, MAW_ATTENTION_ONLY, error), MAW_CORRUPT, "checkpoint");
            }
        for (size_t i = 0; i < size; i += 1 + size / 50)
            GIVEN(state) {
                memcpy(copy, SAVED, size);
                copy[i] ^= 1;
                REFUSES(maw_load_bytes(w->o, copy, size, 0, error), MAW_CORRUPT, "checkpoint");
            }
        GIVEN(state) {
            memset(copy, 'x', size);
            REFUSES(maw_load_bytes(w->o, copy, size, 0, error), MAW_CORRUPT, "checkpoint");
        }
    }
    free(copy);
}

static void other_models(void) {
    GIVEN_A(PLAIN, REGISTERED) {
        REFUSES(maw_load_bytes(w->o, SAVED, SAVED_SIZE, 0, error), MAW_MISMATCH, "does not fit");
        REFUSES(maw_load_file(w->o, SAVED_FILE, MAW_ATTENTION_ONLY, error), MAW_MISMATCH, "does not fit");
    }
    GIVEN_A(CUSTOM, STEPPED) {
        REFUSES(maw_load_bytes(w->o, SAVED, SAVED_SIZE, 0, error), MAW_MISMATCH, "modulation group");
        REFUSES(maw_load_bytes(w->o, SAVED, SAVED_SIZE, MAW_LOAD_FILE_WINS, error), MAW_MISMATCH, "modulation group");
    }
    GIVEN(STEPPED) {
        ACCEPTS(maw_set_lr(w->o, 1, 0.5, error));
        REFUSES(maw_load_bytes(w->o, SAVED, SAVED_SIZE, MAW_LOAD_STRICT, error), MAW_MISMATCH, "MAW_LOAD_OWN_WINS");
        ACCEPTS(maw_load_bytes(w->o, SAVED, SAVED_SIZE, MAW_LOAD_OWN_WINS, error));
    }
    GIVEN(REGISTERED) {
        ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors, 2, NULL, error));
        REFUSES(maw_load_bytes(w->o, SAVED, SAVED_SIZE, 0, error), MAW_MISMATCH, "tensor 'extra.weight'");
        ACCEPTS(maw_load_bytes(w->o, SAVED, SAVED_SIZE, MAW_LOAD_PARTIAL, error));
        NULL_REFUSED(name, maw_load_report_name(w->o, MAW_LOAD_MISSING_TENSORS, 1, NULL, error));
        REFUSES(maw_load_report_name(w->o, MAW_LOAD_MISSING_TENSORS, 2, &w->out.text, error), MAW_NOT_FOUND, "2");
        w->tensors[0].name = "later.weight";
        ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors, 1, NULL, error)); /* registration is still open */
    }
    GIVEN(STEPPED) {
        ACCEPTS(maw_save_bytes(w->o, MAW_ATTENTION_ONLY, &w->out.bytes, error));
        w->accepted = 0;
        const unsigned char *data = maw_bytes_data(w->out.bytes);
        REFUSES(maw_load_bytes(w->o, data, maw_bytes_size(w->out.bytes), 0, error), MAW_MISMATCH,
                "attention module alone");
    }
}

/* Counts that no run has, or that do not fit the tensors' own. */
static void counters(void) {
    for (enum state state = REGISTERED; state <= UPDATED; state++)
        GIVEN(state) {
            uint64_t *counts[] = {&w->counters.step,           &w->counters.meta_updates,
                                  &w->counters.skipped_gradient, &w->counters.skipped_parameter,
                                  &w->counters.skipped_moment,   &w->counters.skipped_feature,
                                  &w->counters.skipped_factor};
            for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
                const uint64_t before = *counts[i];
                *counts[i] = (uint64_t)1 << 53;
                REFUSES(maw_counters_set(w->o, &w->counters, error), MAW_INVALID_ARGUMENT, "counters.");
                *counts[i] = before;
            }
            w->counters.meta_done_at = 4;
            REFUSES(maw_counters_set(w->o, &w->counters, error), MAW_INVALID_ARGUMENT, "counters.meta_done_at is 4");
        }
    GIVEN(STEPPED) {
        w->counters.step = 2;
        REFUSES(maw_counters_set(w->o, &w->counters, error), MAW_INVALID_ARGUMENT, "counters.step is 2");
    }
    GIVEN(STEPPED) {
        w->counters.step = ((uint64_t)1 << 53) - 1;
        ACCEPTS(maw_counters_set(w->o, &w->counters, error));
        REFUSES(maw_step(w->o, w->params, w->grads, N, NULL, NULL, error), MAW_INVALID_STATE, "2^53 - 1 steps");
        ACCEPTS(maw_save_bytes(w->o, 0, &w->out.bytes, error));
        ACCEPTS(maw_load_bytes(w->o, maw_bytes_data(w->out.bytes), maw_bytes_size(w->out.bytes), 0, error));
    }
}

static void moments(void) {
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (enum state state = REGISTERED; state <= STEPPED; state++)
        GIVEN(state) {
            float moment[6] = {0.0f};
            for (size_t i = 0; i < 3; i++) {
                moment[4] = wrong[i];
                REFUSES(maw_tensor_state_set(w->o, 0, moment, w->room, 6, 3, error), MAW_INVALID_ARGUMENT,
                        "exp_avg[4] of tensor 'layers.0.attn.weight'");
                REFUSES(maw_tensor_state_set(w->o, 0, w->room, moment, 6, 3, error), MAW_INVALID_ARGUMENT,
                        "exp_avg_sq[4] of tensor 'layers.0.attn.weight'");
            }
            REFUSES(maw_tensor_state_set(w->o, 0, w->room, w->room, 6, (uint64_t)1 << 53, error), MAW_INVALID_ARGUMENT,
                    "step is 9007199254740992");
            moment[4] = -1.0f;
            REFUSES(maw_tensor_state_set(w->o, 0, w->room, moment, 6, 3, error), MAW_INVALID_ARGUMENT,
                    "exp_avg_sq[4] of tensor 'layers.0.attn.weight'");
        }
}

/* 16-bit tensors with masters, after the four of the fixture. */
static void masters(void) {
    GIVEN(REGISTERED) {
        maw_tensor *tensor = w->tensors;
        float values[6] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f}, got[6] = {0.0f};
        uint16_t param[6] = {0};
        tensor->dtype = MAW_BFLOAT16;
        tensor->name = "half.master";
        w->group.precision = MAW_PRECISION_MASTER;
        ACCEPTS(maw_add_param_group(w->o, &w->group, tensor, 1, NULL, error));
        tensor->name = "half.remainder";
        w->group.precision = MAW_PRECISION_REMAINDER;
        ACCEPTS(maw_add_param_group(w->o, &w->group, tensor, 1, NULL, error));
        ACCEPTS(maw_prepare(w->o, error));
        for (size_t i = 4; i < 6; i++) {
            REFUSES(maw_master_get(w->o, i, param, got, 6, error), MAW_INVALID_STATE, "maw_master_get");
            NULL_REFUSED(values, maw_master_get(w->o, i, param, NULL, 6, error));
            NULL_REFUSED(values, maw_master_set(w->o, i, NULL, param, 6, error));
            NULL_REFUSED(param, maw_master_set(w->o, i, values, NULL, 6, error));
            REFUSES(maw_master_get(w->o, i, param, MISALIGNED(got), 6, error), MAW_INVALID_ARGUMENT, "misaligned");
            REFUSES(maw_master_get(w->o, i, MISALIGNED(param), got, 6, error), MAW_INVALID_ARGUMENT, "misaligned");
            REFUSES(maw_master_set(w->o, i, MISALIGNED(values), param, 6, error), MAW_INVALID_ARGUMENT, "misaligned");
            REFUSES(maw_master_set(w->o, i, values, MISALIGNED(param), 6, error), MAW_INVALID_ARGUMENT, "misaligned");
            REFUSES(maw_master_set(w->o, i, values, param, 5, error), MAW_INVALID_ARGUMENT, "count is 5, expected 6");
            values[3] = INFINITY;
            REFUSES(maw_master_set(w->o, i, values, param, 6, error), MAW_INVALID_ARGUMENT, "values[3] of tensor 'half");
            values[3] = 4.0f;
            ACCEPTS(maw_master_set(w->o, i, values, param, 6, error));
            REFUSES(maw_master_get(w->o, i, param, got, 7, error), MAW_INVALID_ARGUMENT, "count is 7, expected 6");
        }
        NULL_ALLOWED(param, maw_master_get(w->o, 4, NULL, got, 6, error));
        REFUSES(maw_master_get(w->o, 5, NULL, got, 6, error), MAW_INVALID_ARGUMENT, "param is NULL"); /* half of it */
        REFUSES(maw_master_get(w->o, 6, param, got, 6, error), MAW_NOT_FOUND, "there is no tensor 6");
        REFUSES(maw_master_set(w->o, 0, values, param, 6, error), MAW_NOT_FOUND, "layers.0.attn.weight");
        if (param[5] != 0x40C0 || got[5] != 6.0f)
            fail(__FILE__, __LINE__, "maw_master_set", "rounds 6 to %#x", (unsigned)param[5]);
    }
}

static void averages(void) {
    GIVEN_A(AVERAGED, STEPPED) {
        NULL_REFUSED(optimizer, maw_average_get(NULL, 0, w->room, 6, error));
        NULL_REFUSED(optimizer, maw_average_swap(NULL, w->params, N, error));
        NULL_REFUSED(values, maw_average_get(w->o, 0, NULL, 6, error));
        NULL_ALLOWED(values, maw_average_get(w->o, 3, NULL, 0, error)); /* without elements */
        NULL_REFUSED(params, maw_average_swap(w->o, NULL, N, error));
        REFUSES(maw_average_get(w->o, 0, MISALIGNED(w->out.values), 6, error), MAW_INVALID_ARGUMENT, "misaligned");
        REFUSES(maw_average_swap(w->o, MISALIGNED(w->params), N, error), MAW_INVALID_ARGUMENT, "misaligned");
        REFUSES(maw_average_get(w->o, 0, w->out.values, 5, error), MAW_INVALID_ARGUMENT, "count is 5, expected 6");
        REFUSES(maw_average_get(w->o, 0, w->out.values, SIZE_MAX, error), MAW_INVALID_ARGUMENT, "expected 6");
        REFUSES(maw_average_get(w->o, N, w->out.values, 6, error), MAW_NOT_FOUND, "no tensor");
        REFUSES(maw_average_get(w->o, SIZE_MAX, w->out.values, 6, error), MAW_NOT_FOUND, "no tensor");
        REFUSES(maw_average_swap(w->o, w->params, N - 1, error), MAW_INVALID_ARGUMENT, "expected 4");
        REFUSES(maw_average_swap(w->o, w->params, N + 1, error), MAW_INVALID_ARGUMENT, "expected 4");
        void *const overlapping[N] = {w->params[0], w->params[0], w->params[2], w->params[3]};
        void *const missing[N] = {w->params[0], NULL, w->params[2], w->params[3]};
        REFUSES(maw_average_swap(w->o, overlapping, N, error), MAW_INVALID_ARGUMENT, "overlap");
        REFUSES(maw_average_swap(w->o, missing, N, error), MAW_INVALID_ARGUMENT, "params[1] is NULL");
        ACCEPTS(maw_average_swap(w->o, w->params, N, error));
        /* Back, too. */
        REFUSES(maw_average_swap(w->o, missing, N, error), MAW_INVALID_ARGUMENT, "params[1] is NULL");
        ACCEPTS(maw_average_swap(w->o, w->params, N, error));
    }
}

/* What is finite in float32 and infinite in 16 bits. */
static void halves(void) {
    GIVEN(REGISTERED) {
        maw_tensor *tensor = w->tensors;
        float values[6] = {0.0f}, large[6] = {0.0f, 0.0f, 3.4e38f, 0.0f, 0.0f, 0.0f};
        uint16_t param[6] = {0};
        tensor->dtype = MAW_BFLOAT16;
        tensor->name = "half.moments";
        w->group.moment_dtype = MAW_BFLOAT16;
        ACCEPTS(maw_add_param_group(w->o, &w->group, tensor, 1, NULL, error));
        tensor->dtype = MAW_FLOAT16;
        tensor->name = "half.master";
        w->group.precision = MAW_PRECISION_MASTER;
        ACCEPTS(maw_add_param_group(w->o, &w->group, tensor, 1, NULL, error));
        REFUSES(maw_tensor_state_set(w->o, 4, large, values, 6, 1, error), MAW_INVALID_ARGUMENT,
                "exp_avg[2] of tensor 'half.moments' is 3.3999");
        REFUSES(maw_tensor_state_set(w->o, 4, values, large, 6, 1, error), MAW_INVALID_ARGUMENT,
                "exp_avg_sq[2] of tensor 'half.moments' is 3.3999");
        large[2] = 65520.0f; /* rounds to infinity */
        REFUSES(maw_master_set(w->o, 5, large, param, 6, error), MAW_INVALID_ARGUMENT,
                "values[2] of tensor 'half.master' is 65520, expected finite, also when it is rounded to float16");
        large[2] = 65519.0f;
        ACCEPTS(maw_master_set(w->o, 5, large, param, 6, error));
        if (param[2] != 0x7BFF)
            fail(__FILE__, __LINE__, "maw_master_set", "rounds 65519 to %#x", (unsigned)param[2]);
    }
}

void files(void) {
    flags_and_paths();
    damaged();
    other_models();
    moments();
    counters();
    masters();
    averages();
    halves();
}
