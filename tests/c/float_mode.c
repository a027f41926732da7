/* The caller's floating-point mode changes no bit, for any number of threads, and is restored: rounding, flushing, traps. */
#define _GNU_SOURCE
#include <metaadamw.h>

#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined __x86_64__
#include <xmmintrin.h>
#endif

#include "check.h"

/* More than the smallest model that several threads work on. */
enum { LENGTH = 270000, STEPS = 2 };

typedef struct {
    const char *name;
    unsigned mode; /* what is set in the control register */
    int rounding, traps;
} mode;

static const mode modes[] = {
    {"rounding upward", 0, FE_UPWARD, 0},
    {"rounding downward", 0, FE_DOWNWARD, 0},
    {"rounding toward zero", 0, FE_TOWARDZERO, 0},
    {"traps", 0, FE_TONEAREST, FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW | FE_UNDERFLOW | FE_INEXACT},
    {"traps, rounding upward", 0, FE_UPWARD, FE_INVALID | FE_INEXACT},
#if defined __x86_64__
    {"flush to zero", 0x8000, FE_TONEAREST, 0},
    {"denormals are zero", 0x0040, FE_TONEAREST, 0},
    {"both, rounding downward", 0x8040, FE_DOWNWARD, 0},
#endif
};
enum { MODES = sizeof modes / sizeof *modes };

static void enter(const mode *mode) {
    TRUE(fesetround(mode->rounding) == 0);
    feclearexcept(FE_ALL_EXCEPT);
    TRUE(feenableexcept(mode->traps) != -1);
#if defined __x86_64__
    _mm_setcsr(_mm_getcsr() | mode->mode);
#endif
}

static void expect(const mode *mode, const char *after) {
    int same = fegetround() == mode->rounding && fegetexcept() == mode->traps;
#if defined __x86_64__
    same = same && (_mm_getcsr() & 0x8040) == mode->mode;
#endif
    fesetenv(FE_DFL_ENV);
    if (!same) {
        fprintf(stderr, "%s: the mode is another after %s\n", mode->name, after);
        exit(EXIT_FAILURE);
    }
    enter(mode);
}

static void *buffer(size_t bytes) {
    void *memory = malloc(bytes);
    TRUE(memory != NULL);
    return memory;
}

/* Sizes from normal to subnormal. */
static float value(size_t i) { return ldexpf((float)(int)(i % 61) - 30.5f, -(int)(i % 150)); }

/* A hash of the parameters and the checkpoint after some steps and a meta-update. `early`: set before the optimizer is
 * created; `late`: after it was prepared. */
static uint64_t run(int32_t dtype, uint32_t threads, const mode *early, const mode *late) {
    static const uint64_t shape[] = {LENGTH};
    size_t const element = dtype == MAW_FLOAT64 ? 8 : dtype == MAW_FLOAT32 ? 4 : 2;
    char *param = buffer(LENGTH * element), *grad = buffer(LENGTH * element);
    maw_optimizer *optimizer = NULL;
    maw_options options;
    maw_param_group group;
    maw_tensor tensor;
    maw_bytes *bytes = NULL;
    void *params[1];
    const void *grads[1];
    uint64_t hash = 14695981039346656037u;
    size_t i, step;

    for (i = 0; i < LENGTH; i++) {
        float const p = 0.25f + value(i + 7), g = value(i);
        uint32_t p_bits, g_bits;
        memcpy(&p_bits, &p, 4);
        memcpy(&g_bits, &g, 4);
        if (dtype == MAW_FLOAT64) {
            ((double *)(void *)param)[i] = p;
            ((double *)(void *)grad)[i] = (double)g * (i % 3 == 0 ? 1e-300 : 1.0);
        } else if (dtype == MAW_FLOAT32) {
            ((float *)(void *)param)[i] = p;
            ((float *)(void *)grad)[i] = g;
        } else {
            ((uint16_t *)(void *)param)[i] = (uint16_t)(p_bits >> 16);
            ((uint16_t *)(void *)grad)[i] = (uint16_t)(g_bits >> 16);
        }
    }
    maw_options_init(&options, sizeof options);
    options.threads = threads;
    options.attn_layers = 2;
    options.meta_interval = 1;
    options.meta_warmup = 0;
    maw_param_group_init(&group, sizeof group);
    group.moment_dtype = dtype == MAW_BFLOAT16 ? MAW_BFLOAT16 : 0;
    maw_tensor_init(&tensor, sizeof tensor);
    tensor.name = "weight";
    tensor.shape = shape;
    tensor.ndim = 1;
    tensor.dtype = tensor.grad_dtype = dtype;

    if (early) enter(early);
    CHECK(maw_optimizer_create(&options, &optimizer, &error));
    CHECK(maw_add_param_group(optimizer, &group, &tensor, 1, NULL, &error));
    CHECK(maw_prepare(optimizer, &error));
    if (late) enter(late);
    params[0] = param;
    grads[0] = grad;
    for (step = 0; step < STEPS; step++) CHECK(maw_step(optimizer, params, grads, 1, NULL, NULL, &error));
    if (late) expect(late, "maw_step");
    {
        maw_meta_request request;
        maw_meta_answer answer;
        maw_meta_request_init(&request, sizeof request);
        CHECK(maw_meta_begin(optimizer, params, 1, &request, &error));
        while (request.kind != MAW_META_DONE) {
            maw_meta_answer_init(&answer, sizeof answer);
            answer.request_id = request.id;
            answer.loss = 1.25 + (double)request.id / 1024; /* exact */
            CHECK(maw_meta_tell(optimizer, &answer, params, grads, 1, &request, &error));
        }
    }
    if (late) expect(late, "a meta-update");
    CHECK(maw_step(optimizer, params, grads, 1, NULL, NULL, &error));
    CHECK(maw_save_bytes(optimizer, 0, &bytes, &error));
    if (late) expect(late, "maw_save_bytes");
    TRUE(maw_step(optimizer, NULL, grads, 1, NULL, NULL, NULL) == MAW_INVALID_ARGUMENT);
    if (late) expect(late, "a call that failed");
    fesetenv(FE_DFL_ENV);
    for (i = 0; i < LENGTH * element; i++) hash = (hash ^ (unsigned char)param[i]) * 1099511628211u;
    for (i = 0; i < maw_bytes_size(bytes); i++)
        hash = (hash ^ ((const unsigned char *)maw_bytes_data(bytes))[i]) * 1099511628211u;
    maw_bytes_free(bytes);
    TRUE(maw_optimizer_free(optimizer) == MAW_OK);
    free(param);
    free(grad);
    return hash;
}

int main(void) {
    static const int32_t dtypes[] = {MAW_FLOAT32, MAW_FLOAT64, MAW_BFLOAT16};
    size_t d, m;
    for (d = 0; d < 3; d++) {
        uint64_t const expected = run(dtypes[d], 1, NULL, NULL);
        TRUE(run(dtypes[d], 4, NULL, NULL) == expected);
        for (m = 0; m < MODES; m++) {
            const mode *const mode = &modes[m];
            /* Set after the threads were made, or only before. */
            if (run(dtypes[d], 4, NULL, mode) != expected || run(dtypes[d], 4, mode, NULL) != expected) {
                fprintf(stderr, "dtype %d, %s: other bits\n", dtypes[d], mode->name);
                return EXIT_FAILURE;
            }
        }
    }
    printf("%d modes, the same bits\n", MODES);
    return EXIT_SUCCESS;
}
