/* How much of a thread's stack the calls need. Each part runs in a thread whose stack is painted and is little larger than
 * the header's chapter "Threads" says; afterwards the paint is looked at. The deepest part is printed.
 * What the linker and the C library do once is part of it. */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LIMIT = 48 << 10, OF_PTHREAD = 32 << 10, GUARD = 64 << 10, PAINT = 0xA5 };
enum { TENSORS = 12, LENGTH = 25000, NUMBERS = 10000 };

struct kind {
    const char *name;
    int32_t dtype, grad_dtype, moments, precision;
    int32_t features, difference, semantics;
    uint32_t threads;
};

static const struct kind kinds[] = {
    {"float32", MAW_FLOAT32, MAW_FLOAT32, 0, 0, MAW_FEATURES_BASIC, MAW_DIFFERENCE_CENTRAL, MAW_PAPER, 1},
    {"float32, two threads", MAW_FLOAT32, MAW_FLOAT32, 0, 0, MAW_FEATURES_BASIC, MAW_DIFFERENCE_CENTRAL, MAW_PAPER, 2},
    {"float32, enhanced", MAW_FLOAT32, MAW_FLOAT32, 0, 0, MAW_FEATURES_ENHANCED, MAW_DIFFERENCE_FORWARD, MAW_PAPER, 2},
    {"float32, as the reference", MAW_FLOAT32, MAW_FLOAT64, 0, 0, MAW_FEATURES_BASIC_PLUS, MAW_DIFFERENCE_FORWARD,
     MAW_REFERENCE, 1},
    {"float64", MAW_FLOAT64, MAW_FLOAT64, 0, 0, MAW_FEATURES_NORM_BASIC, MAW_DIFFERENCE_CENTRAL, MAW_PAPER, 1},
    {"float64, forward", MAW_FLOAT64, MAW_FLOAT32, 0, 0, MAW_FEATURES_ENHANCED, MAW_DIFFERENCE_FORWARD, MAW_PAPER, 2},
    {"float64, as the reference", MAW_FLOAT64, MAW_FLOAT64, 0, 0, MAW_FEATURES_NORM_BASIC_PLUS,
     MAW_DIFFERENCE_FIRST_ORDER, MAW_REFERENCE, 1},
    {"bfloat16", MAW_BFLOAT16, MAW_BFLOAT16, 0, 0, MAW_FEATURES_BASIC, MAW_DIFFERENCE_CENTRAL, MAW_PAPER, 2},
    {"bfloat16, moments too", MAW_BFLOAT16, MAW_BFLOAT16, MAW_BFLOAT16, 0, MAW_FEATURES_ENHANCED,
     MAW_DIFFERENCE_FORWARD, MAW_PAPER, 1},
    {"bfloat16, masters", MAW_BFLOAT16, MAW_FLOAT32, 0, MAW_PRECISION_MASTER, MAW_FEATURES_BASIC,
     MAW_DIFFERENCE_CENTRAL, MAW_PAPER, 1},
    {"bfloat16, remainders", MAW_BFLOAT16, MAW_BFLOAT16, MAW_BFLOAT16, MAW_PRECISION_REMAINDER, MAW_FEATURES_BASIC,
     MAW_DIFFERENCE_CENTRAL, MAW_PAPER, 2},
    {"bfloat16, stochastic", MAW_BFLOAT16, MAW_BFLOAT16, MAW_BFLOAT16, MAW_PRECISION_STOCHASTIC, MAW_FEATURES_BASIC,
     MAW_DIFFERENCE_CENTRAL, MAW_REFERENCE, 1},
    {"float16", MAW_FLOAT16, MAW_FLOAT16, 0, 0, MAW_FEATURES_BASIC, MAW_DIFFERENCE_FORWARD, MAW_PAPER, 1},
    {"float16, masters", MAW_FLOAT16, MAW_FLOAT16, MAW_BFLOAT16, MAW_PRECISION_MASTER, MAW_FEATURES_BASIC_PLUS,
     MAW_DIFFERENCE_CENTRAL, MAW_PAPER, 2},
};

static int plain; /* AdamW without modulation and without checks, which has kernels of its own */

/* Statics: the parts themselves hardly use the stack. */
static const struct kind *kind;
static maw_optimizer *optimizer, *other;
static void *params[TENSORS];
static const void *grads[TENSORS];
static maw_bytes *bytes;
static double numbers[NUMBERS];
static uint64_t of_state[LENGTH][2]; /* as large as float64 */

static size_t size_of(int32_t dtype) { return dtype == MAW_FLOAT64 ? 8 : dtype == MAW_FLOAT32 ? 4 : 2; }

static void *buffer(int32_t dtype, float scale) {
    unsigned char *memory = malloc(LENGTH * 8);
    TRUE(memory != NULL);
    for (size_t i = 0; i < LENGTH; i++) {
        float single = scale * (float)((int)(i * 37 % 101) - 50);
        double exact = single;
        uint32_t bits;
        memcpy(&bits, &single, sizeof bits);
        uint16_t half = (uint16_t)(bits >> 16);
        if (dtype == MAW_FLOAT16)
            half = (uint16_t)(single == 0 ? 0 : (bits >> 16 & 0x8000) | (((bits >> 13) - 0x1C000) & 0x7FFF));
        memcpy(memory + i * size_of(dtype),
               dtype == MAW_FLOAT64   ? (void *)&exact
               : dtype == MAW_FLOAT32 ? (void *)&single
                                      : (void *)&half,
               size_of(dtype));
    }
    return memory;
}

static void hear(int32_t level, const char *message, void *user_data) {
    (void)level, (void)message, (void)user_data;
}

/* ---- the parts ---- */

static maw_optimizer *created(void) {
    static const uint64_t shape[] = {LENGTH};
    static char names[TENSORS][32];
    static maw_tensor tensors[TENSORS];
    maw_optimizer *made = NULL;
    maw_options options;
    maw_param_group group;
    CHECK(maw_options_init(&options, sizeof options));
    options.threads = kind->threads;
    options.feature_version = kind->features;
    options.difference = kind->difference;
    options.semantics = kind->semantics;
    options.max_grad_norm = 1e-2;
    options.meta_interval = 1;
    if (plain) {
        options.modulation = 0;
        options.nonfinite = MAW_NONFINITE_PROPAGATE;
        options.max_grad_norm = 0;
    }
    options.use_feature_gating = 1;
    options.feature_dim = 60;
    options.attn_hidden_dim = 50;
    options.verify_params = !plain;
    CHECK(maw_optimizer_create(&options, &made, &error));
    CHECK(maw_param_group_init(&group, sizeof group));
    group.moment_dtype = kind->moments;
    group.precision = kind->precision;
    for (int i = 0; i < TENSORS; i++) {
        CHECK(maw_tensor_init(&tensors[i], sizeof tensors[i]));
        static const char *const roles[] = {"attn.weight", "mlp.weight", "mlp.bias", "norm.weight", "embed.weight"};
        snprintf(names[i], sizeof names[i], "layers.%d.%s", i, roles[i % 5]);
        tensors[i].name = names[i];
        tensors[i].shape = shape;
        tensors[i].ndim = 1;
        tensors[i].dtype = kind->dtype;
        tensors[i].grad_dtype = kind->grad_dtype;
    }
    CHECK(maw_add_param_group(made, &group, tensors, TENSORS, NULL, &error));
    CHECK(maw_set_log(made, hear, NULL, &error));
    return made;
}

static void create(void) {
    optimizer = created();
    CHECK(maw_prepare(optimizer, &error));
}

static void step(void) {
    maw_step_report report;
    CHECK(maw_observe_gradient(optimizer, 0, grads[0], &error));
    for (int i = 0; i < 2; i++)
        CHECK(maw_step(optimizer, params, grads, TENSORS, NULL, NULL, &error));
    CHECK(maw_step_report_init(&report, sizeof report));
    CHECK(maw_step(optimizer, params, grads, TENSORS, NULL, &report, &error));
    TRUE(report.step == 3);
}

static void meta_update(void) {
    maw_meta_request request;
    maw_meta_answer answer;
    maw_meta_result result;
    size_t groups = 0;
    int requests = 0;
    CHECK(maw_meta_request_init(&request, sizeof request));
    CHECK(maw_meta_answer_init(&answer, sizeof answer));
    CHECK(maw_meta_result_init(&result, sizeof result));
    TRUE(maw_meta_due(optimizer) == 1);
    CHECK(maw_meta_begin(optimizer, params, TENSORS, &request, &error));
    for (; request.kind != MAW_META_DONE; requests++) {
        answer.request_id = request.id;
        answer.loss = 1 + 0.1 * requests;
        CHECK(maw_meta_tell(optimizer, &answer, params, grads, TENSORS, &request, &error));
    }
    CHECK(maw_meta_result_get(optimizer, &result, &error));
    TRUE(result.outcome == MAW_OUTCOME_UPDATED);
    CHECK(maw_group_count(optimizer, &groups, &error));
    CHECK(maw_meta_gradient(optimizer, "alpha", numbers, groups, &error));
    CHECK(maw_step(optimizer, params, grads, TENSORS, NULL, NULL, &error));
    CHECK(maw_meta_begin(optimizer, params, TENSORS, &request, &error));
    CHECK(maw_meta_abort(optimizer, params, TENSORS, &error));
}

static void save(void) {
    maw_bytes *json = NULL;
    CHECK(maw_dump_state(optimizer, &json, &error));
    maw_bytes_free(json);
    CHECK(maw_save_file(optimizer, "stack.safetensors", 0, &error));
    CHECK(maw_save_bytes(optimizer, 0, &bytes, &error));
}

static void load(void) {
    other = created();
    CHECK(maw_load_bytes(other, maw_bytes_data(bytes), maw_bytes_size(bytes), 0, &error));
    CHECK(maw_load_file(other, "stack.safetensors", MAW_LOAD_STRICT, &error));
    TRUE(maw_load_bytes(other, maw_bytes_data(bytes), maw_bytes_size(bytes) / 2, 0, NULL) == MAW_CORRUPT);
    maw_bytes_free(bytes);
    TRUE(unlink("stack.safetensors") == 0);
}

static void get_and_set(void) {
    uint64_t count = 0;
    size_t groups = 0, dim = 0;
    CHECK(maw_group_count(optimizer, &groups, &error));
    CHECK(maw_factors(optimizer, numbers, numbers, numbers, numbers, groups, &error));
    CHECK(maw_feature_dim(optimizer, &dim, &error));
    CHECK(maw_features(optimizer, numbers, dim * groups, &error));
    CHECK(maw_tensor_state_get(optimizer, 1, of_state[0], of_state[LENGTH / 2], LENGTH, &count, &error));
    CHECK(maw_tensor_state_set(optimizer, 1, of_state[0], of_state[LENGTH / 2], LENGTH, count, &error));
    CHECK(maw_set_lr(optimizer, MAW_ALL_GROUPS, 1e-3, &error));
    CHECK(maw_set_weight_decay(optimizer, 0, 1e-3, &error));
    CHECK(maw_reset(optimizer, MAW_RESET_MOMENTS | MAW_RESET_ATTENTION, &error));
}

static void fail(void) {
    void *none[TENSORS] = {NULL};
    maw_error *refused = NULL;
    TRUE(maw_step(optimizer, none, grads, TENSORS, NULL, NULL, &refused) == MAW_INVALID_ARGUMENT);
    TRUE(strlen(maw_error_message(refused)) > 0);
    maw_error_free(refused);
}

static void end(void) {
    TRUE(maw_optimizer_free(optimizer) == MAW_OK);
    TRUE(maw_optimizer_free(other) == MAW_OK);
    optimizer = other = NULL;
}

static const struct {
    const char *name;
    void (*work)(void);
} parts[] = {
    {"create", create}, {"step", step},           {"meta-update", meta_update}, {"save", save},
    {"load", load},     {"get and set", get_and_set}, {"fail", fail},           {"free", end},
};
enum { PARTS = sizeof parts / sizeof *parts };

/* ---- painted stacks ---- */

static unsigned char *top; /* where the part's thread is when it calls it */

static void *in_thread(void *part) {
    unsigned char here;
    top = &here;
    parts[*(int *)part].work();
    return NULL;
}

static size_t depth_of(int part) {
    const size_t size = LIMIT + OF_PTHREAD;
    unsigned char *memory =
        mmap(NULL, GUARD + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *stack = memory + GUARD, *deepest = stack;
    pthread_attr_t attributes;
    pthread_t thread;
    TRUE(memory != MAP_FAILED && mprotect(memory, GUARD, PROT_NONE) == 0);
    memset(stack, PAINT, size);
    TRUE(pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, stack, size) == 0);
    TRUE(pthread_create(&thread, &attributes, in_thread, &part) == 0 && pthread_join(thread, NULL) == 0);
    while (deepest < top && *deepest == PAINT)
        deepest++;
    const size_t depth = (size_t)(top - deepest);
    TRUE(munmap(memory, GUARD + size) == 0);
    return depth;
}

static size_t most[PARTS];

static void measure(int part, int talkative) {
    const size_t depth = depth_of(part);
    if (talkative)
        printf("%-28s %-12s %6zu\n", kind->name, parts[part].name, depth);
    most[part] = depth > most[part] ? depth : most[part];
}

int main(int count, char **arguments) {
    const int talkative = count > 1 && strcmp(arguments[1], "--all") == 0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        kind = &kinds[k];
        for (int i = 0; i < TENSORS; i++) {
            params[i] = buffer(kind->dtype, 1e-3f);
            grads[i] = buffer(kind->grad_dtype, 1e-3f);
        }
        plain = 0;
        for (int part = 0; part < PARTS; part++)
            measure(part, talkative);
        plain = 1;
        for (int part = 0; part < PARTS; part++)
            if (parts[part].work == create || parts[part].work == step || parts[part].work == end)
                measure(part, talkative);
        for (int i = 0; i < TENSORS; i++) {
            free(params[i]);
            free((void *)grads[i]);
        }
    }
    for (int part = 0; part < PARTS; part++) {
        printf("stack: %-12s %6zu bytes\n", parts[part].name, most[part]);
        TRUE(most[part] > 0 && most[part] < LIMIT);
    }
    return EXIT_SUCCESS;
}
