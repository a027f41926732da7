/* Compares the speed of two builds of the library: ratios of the time of a step or a meta-update, new over old.
 *     compare OLD.so NEW.so [NAME [THREADS [PLACEMENTS]]]      NAME: part of the names of the rows to measure
 * Both builds work on the same parameters and gradients, in turn; each placement in memory is set up anew. A row's ratio is
 * the median of the ratios of pairs of turns. Before that it is seen whether both compute the same bits.
 *     cc -O2 -Iinclude -o target/compare benches/compare.c -ldl -lm */
#define _GNU_SOURCE
#include <metaadamw.h>

#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 10000, ROUNDS = 5, RATIOS = 1024 };
#define ROUND_SECONDS 0.06

typedef struct {
    char const *name;
    size_t parameters, tensors;
    int32_t dtype, grad_dtype, moments, precision;
    void (*change)(maw_options *);
    int meta;
} row;

static void plain(maw_options *o) { o->modulation = 0; }
static void unchecked(maw_options *o) {
    o->modulation = 0;
    o->nonfinite = MAW_NONFINITE_PROPAGATE;
}
static void clip(maw_options *o) { o->max_grad_norm = 1e-3; }
static void enhanced(maw_options *o) { o->feature_version = MAW_FEATURES_ENHANCED; }
static void reference(maw_options *o) { o->semantics = MAW_REFERENCE; }
static void forward(maw_options *o) { o->difference = MAW_DIFFERENCE_FORWARD; }

#define M 1000000
#define F32 MAW_FLOAT32
#define F64 MAW_FLOAT64
#define BF16 MAW_BFLOAT16
#define F16 MAW_FLOAT16
static row const rows[] = {
    {"hot f32 plain 20k", M / 50, 2, F32, F32, 0, 0, plain, 0},
    {"hot f32 unchecked 20k", M / 50, 2, F32, F32, 0, 0, unchecked, 0},
    {"hot f32 step 20k", M / 50, 2, F32, F32, 0, 0, NULL, 0},
    {"hot f32 plain 100k", M / 10, 8, F32, F32, 0, 0, plain, 0},
    {"hot f32 plain 300k", 3 * M / 10, 40, F32, F32, 0, 0, plain, 0},
    {"hot f32 plain 3M", 3 * M, 40, F32, F32, 0, 0, plain, 0},
    {"hot f32 plain 30M", 30 * M, 40, F32, F32, 0, 0, plain, 0},
    {"hot f32 unchecked 100k", M / 10, 8, F32, F32, 0, 0, unchecked, 0},
    {"hot f32 unchecked 3M", 3 * M, 40, F32, F32, 0, 0, unchecked, 0},
    {"hot f32 step 100k", M / 10, 8, F32, F32, 0, 0, NULL, 0},
    {"hot f32 step 300k", 3 * M / 10, 40, F32, F32, 0, 0, NULL, 0},
    {"hot f32 step 3M", 3 * M, 40, F32, F32, 0, 0, NULL, 0},
    {"hot f32 step 30M", 30 * M, 40, F32, F32, 0, 0, NULL, 0},
    {"hot f32 clip 3M", 3 * M, 40, F32, F32, 0, 0, clip, 0},
    {"hot f32 clip 30M", 30 * M, 40, F32, F32, 0, 0, clip, 0},
    {"hot f32 step 10M in 10000", 10 * M, 10000, F32, F32, 0, 0, NULL, 0},
    {"hot f32 step 16k in 1000", 16000, 1000, F32, F32, 0, 0, NULL, 0},
    {"hot bf16 100k", M / 10, 8, BF16, BF16, 0, 0, NULL, 0},
    {"hot bf16 3M", 3 * M, 40, BF16, BF16, 0, 0, NULL, 0},
    {"hot bf16 30M", 30 * M, 40, BF16, BF16, 0, 0, NULL, 0},
    {"hot bf16 plain 3M", 3 * M, 40, BF16, BF16, 0, 0, plain, 0},
    {"hot bf16 unchecked 3M", 3 * M, 40, BF16, BF16, 0, 0, unchecked, 0},
    {"hot bf16 clip 3M", 3 * M, 40, BF16, BF16, 0, 0, clip, 0},
    {"hot bf16 moments 100k", M / 10, 8, BF16, BF16, BF16, 0, NULL, 0},
    {"hot bf16 moments 3M", 3 * M, 40, BF16, BF16, BF16, 0, NULL, 0},
    {"hot bf16 moments 30M", 30 * M, 40, BF16, BF16, BF16, 0, NULL, 0},
    {"hot bf16 stochastic 100k", M / 10, 8, BF16, BF16, BF16, MAW_PRECISION_STOCHASTIC, NULL, 0},
    {"hot bf16 stochastic 3M", 3 * M, 40, BF16, BF16, BF16, MAW_PRECISION_STOCHASTIC, NULL, 0},
    {"hot bf16 master 3M", 3 * M, 40, BF16, BF16, 0, MAW_PRECISION_MASTER, NULL, 0},
    {"hot bf16 remainder 3M", 3 * M, 40, BF16, BF16, 0, MAW_PRECISION_REMAINDER, NULL, 0},
    {"hot bf16 moments master 3M", 3 * M, 40, BF16, BF16, BF16, MAW_PRECISION_MASTER, NULL, 0},
    {"hot bf16 moments remainder 3M", 3 * M, 40, BF16, BF16, BF16, MAW_PRECISION_REMAINDER, NULL, 0},
    {"hot f64 plain 3M", 3 * M, 40, F64, F64, 0, 0, plain, 0},
    {"hot f64 step 100k", M / 10, 8, F64, F64, 0, 0, NULL, 0},
    {"hot f64 step 3M", 3 * M, 40, F64, F64, 0, 0, NULL, 0},
    {"hot f32 enhanced 3M", 3 * M, 40, F32, F32, 0, 0, enhanced, 0},
    {"hot f32 reference 3M", 3 * M, 40, F32, F32, 0, 0, reference, 0},
    {"hot f32 meta 100k", M / 10, 8, F32, F32, 0, 0, NULL, 1},
    {"hot f32 meta 3M", 3 * M, 40, F32, F32, 0, 0, NULL, 1},
    {"hot f32 meta reference 3M", 3 * M, 40, F32, F32, 0, 0, reference, 1},
    {"hot f32 meta forward 3M", 3 * M, 40, F32, F32, 0, 0, forward, 1},
    {"hot bf16 meta 100k", M / 10, 8, BF16, BF16, 0, 0, NULL, 1},
    {"hot f64 meta 100k", M / 10, 8, F64, F64, 0, 0, NULL, 1},
    {"hot f32 meta reference 100k", M / 10, 8, F32, F32, 0, 0, reference, 1},
    {"hot f32 meta forward 100k", M / 10, 8, F32, F32, 0, 0, forward, 1},
    {"hot bf16 meta 3M", 3 * M, 40, BF16, BF16, 0, 0, NULL, 1},
    {"hot bf16 moments meta 3M", 3 * M, 40, BF16, BF16, BF16, 0, NULL, 1},
    {"hot f64 meta 3M", 3 * M, 40, F64, F64, 0, 0, NULL, 1},
    {"rare f64 enhanced 3M", 3 * M, 40, F64, F64, 0, 0, enhanced, 0},
    {"rare bf16 enhanced 3M", 3 * M, 40, BF16, BF16, 0, 0, enhanced, 0},
    {"rare bf16 moments enhanced 3M", 3 * M, 40, BF16, BF16, BF16, 0, enhanced, 0},
    {"rare bf16 reference 3M", 3 * M, 40, BF16, BF16, 0, 0, reference, 0},
    {"rare f32 step, bf16 gradients 3M", 3 * M, 40, F32, BF16, 0, 0, NULL, 0},
    {"rare f32 step, bf16 moments 3M", 3 * M, 40, F32, F32, BF16, 0, NULL, 0},
    {"rare f32 step, f64 gradients 3M", 3 * M, 40, F32, F64, 0, 0, NULL, 0},
    {"rare f64 step, f32 gradients 3M", 3 * M, 40, F64, F32, 0, 0, NULL, 0},
    {"rare bf16 step, f32 gradients 3M", 3 * M, 40, BF16, F32, 0, 0, NULL, 0},
    {"rare f16 3M", 3 * M, 40, F16, F16, 0, 0, NULL, 0},
    {"rare f16 moments 3M", 3 * M, 40, F16, F16, BF16, 0, NULL, 0},
    {"rare f16 master 3M", 3 * M, 40, F16, F16, 0, MAW_PRECISION_MASTER, NULL, 0},
    {"rare f16 stochastic 3M", 3 * M, 40, F16, F16, 0, MAW_PRECISION_STOCHASTIC, NULL, 0},
    {"rare f16 meta 3M", 3 * M, 40, F16, F16, 0, 0, NULL, 1},
};

/* One build. */
typedef struct {
    void *library;
    maw_optimizer *optimizer;
#define FUNCTIONS(f)                                                                                                   \
    f(maw_options_init) f(maw_param_group_init) f(maw_tensor_init) f(maw_meta_request_init) f(maw_meta_answer_init)    \
        f(maw_optimizer_create) f(maw_add_param_group) f(maw_step) f(maw_meta_begin) f(maw_meta_tell)                  \
            f(maw_optimizer_free) f(maw_error_message)
#define DECLARE(name) __typeof__(&name) name;
    FUNCTIONS(DECLARE)
} build;

static void fail(char const *what, char const *why) {
    fprintf(stderr, "compare: %s: %s\n", what, why);
    exit(1);
}

static void load(build *b, char const *path) {
    b->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!b->library)
        fail(path, dlerror());
#define FIND(name) *(void **)&b->name = dlsym(b->library, #name);
    FUNCTIONS(FIND)
}

static maw_error *error;
static void check(build const *b, maw_status status, char const *what) {
    if (status != MAW_OK)
        fail(what, b->maw_error_message(error));
}
#define CALL(b, f, ...) check(b, (b)->f(__VA_ARGS__), #f)

static void *params[MOST], *copies[MOST];
static void const *grads[MOST];
static uint64_t shapes[MOST];
static size_t count;

static size_t size_of(int32_t dtype) { return dtype == F64 ? 8 : dtype == F32 ? 4 : 2; }

/* Small numbers, some of them 0. */
static void *numbers(size_t n, int32_t dtype, double scale) {
    size_t bytes = (n * size_of(dtype) + 63) / 64 * 64;
    char *memory = aligned_alloc(64, bytes);
    if (!memory)
        fail("aligned_alloc", "no memory");
    for (size_t i = 0; i < n; i++) {
        double value = scale * (double)((int)(i * 37 % 101) - 50);
        float single = (float)value;
        uint32_t bits;
        memcpy(&bits, &single, sizeof bits);
        uint32_t f16 = value == 0 ? 0 : (bits >> 16 & 0x8000) | (((bits >> 13) - 0x1C000) & 0x7FFF);
        uint16_t half = (uint16_t)(dtype == BF16 ? bits >> 16 : f16);
        memcpy(memory + i * size_of(dtype),
               dtype == F64 ? (void *)&value : dtype == F32 ? (void *)&single : (void *)&half, size_of(dtype));
    }
    return memory;
}

static void create(build *b, row const *r, uint32_t threads) {
    static maw_tensor tensors[MOST];
    static char names[MOST][64];
    maw_options options;
    b->maw_options_init(&options, sizeof options);
    options.threads = threads;
    if (r->change)
        r->change(&options);
    maw_param_group group;
    b->maw_param_group_init(&group, sizeof group);
    group.moment_dtype = r->moments;
    group.precision = r->precision;
    for (size_t i = 0; i < count; i++) {
        b->maw_tensor_init(&tensors[i], sizeof tensors[i]);
        sprintf(names[i], "layers.%zu.mlp.%zu.weight", i * 10 / count, i);
        tensors[i].name = names[i];
        tensors[i].shape = &shapes[i];
        tensors[i].ndim = 1;
        tensors[i].dtype = r->dtype;
        tensors[i].grad_dtype = r->grad_dtype;
    }
    CALL(b, maw_optimizer_create, &options, &b->optimizer, &error);
    CALL(b, maw_add_param_group, b->optimizer, &group, tensors, count, NULL, &error);
}

static void step(build const *b, void **p) { CALL(b, maw_step, b->optimizer, p, grads, count, NULL, NULL, &error); }

static void meta_update(build const *b, void **p) {
    maw_meta_request request;
    maw_meta_answer answer;
    b->maw_meta_request_init(&request, sizeof request);
    b->maw_meta_answer_init(&answer, sizeof answer);
    CALL(b, maw_meta_begin, b->optimizer, p, count, &request, &error);
    while (request.kind != MAW_META_DONE) {
        answer.request_id = request.id;
        answer.loss = 1;
        CALL(b, maw_meta_tell, b->optimizer, &answer, p, grads, count, &request, &error);
    }
}

static void work(build const *b, row const *r) {
    if (r->meta)
        meta_update(b, params);
    else
        step(b, params);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(void const *a, void const *b) {
    double x = *(double const *)a, y = *(double const *)b;
    return (x > y) - (x < y);
}

/* Seconds of the fastest of some calls: what disturbs only adds. */
static double fastest(build const *b, row const *r, int calls) {
    double best = INFINITY;
    for (int i = 0; i < calls; i++) {
        double start = now();
        work(b, r);
        best = fmin(best, now() - start);
    }
    return best;
}

/* Some steps, and a meta-update on the way, of each build: whether they lead to the same parameters. */
static int same_bits(build builds[2], row const *r, uint32_t threads) {
    int same = 1;
    for (size_t i = 0; i < count; i++) {
        params[i] = numbers(shapes[i], r->dtype, 1e-2);
        copies[i] = numbers(shapes[i], r->dtype, 1e-2);
    }
    for (int i = 0; i < 2; i++) {
        void **p = i == 0 ? params : copies;
        create(&builds[i], r, threads);
        for (int n = 0; n < 4; n++) {
            step(&builds[i], p);
            if (r->meta && n == 1)
                meta_update(&builds[i], p);
        }
        builds[i].maw_optimizer_free(builds[i].optimizer);
    }
    for (size_t i = 0; i < count; i++) {
        same &= memcmp(params[i], copies[i], shapes[i] * size_of(r->dtype)) == 0;
        free(params[i]);
        free(copies[i]);
    }
    return same;
}

static void measure(build builds[2], row const *r, uint32_t threads, int placements) {
    static double ratios[RATIOS], old[RATIOS];
    int n = 0, same = 1;
    count = r->tensors;
    for (int placement = 0; placement < placements; placement++) {
        for (size_t i = 0; i < count; i++) {
            shapes[i] = r->parameters / count;
            grads[i] = numbers(shapes[i], r->grad_dtype, 1e-3);
        }
        same &= same_bits(builds, r, threads);
        for (size_t i = 0; i < count; i++) {
            params[i] = numbers(shapes[i], r->dtype, 1e-2);
        }
        for (int i = 0; i < 2; i++) {
            create(&builds[i], r, threads);
            for (int warm = 0; warm < 3; warm++)
                step(&builds[i], params);
            work(&builds[i], r);
        }
        double once = fastest(&builds[0], r, 2);
        int calls = once > ROUND_SECONDS / 3 ? 3 : (int)(ROUND_SECONDS / once);
        for (int round = 0; round < ROUNDS && n < RATIOS; round++, n++) {
            int first = round & 1;
            double time[2];
            time[first] = fastest(&builds[first], r, calls);
            time[!first] = fastest(&builds[!first], r, calls);
            ratios[n] = time[1] / time[0];
            old[n] = time[0];
        }
        for (int i = 0; i < 2; i++)
            builds[i].maw_optimizer_free(builds[i].optimizer);
        for (size_t i = 0; i < count; i++) {
            free(params[i]);
            free((void *)grads[i]);
        }
    }
    qsort(ratios, (size_t)n, sizeof *ratios, by_size);
    qsort(old, (size_t)n, sizeof *old, by_size);
    printf("%-36s %8.3f ms  %.3f  (%.3f to %.3f)%s\n", r->name, 1e3 * old[n / 2], ratios[n / 2], ratios[n / 4],
           ratios[3 * n / 4], same ? "" : "  other bits");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "compare OLD.so NEW.so [NAME [THREADS [PLACEMENTS]]]\n");
        return 2;
    }
    static build builds[2];
    load(&builds[0], argv[1]);
    load(&builds[1], argv[2]);
    char const *wanted = argc > 3 ? argv[3] : "";
    uint32_t threads = argc > 4 ? (uint32_t)atoi(argv[4]) : 2;
    int placements = argc > 5 ? atoi(argv[5]) : 3;
    printf("%-36s %11s  new/old (quartiles), %u threads\n", "row", "old", threads);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strstr(rows[i].name, wanted))
            measure(builds, &rows[i], threads, placements);
    return 0;
}
