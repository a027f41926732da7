/* Times the step on a CUDA device, for benches/gpu/table.py: one line of JSON on stdout. The device is used through the
 * library's own buffers and the driver: no CUDA toolkit.
 *     step device                               its name
 *     step float32|bfloat16|moments [SECONDS]   the step of the tensors on stdin, lines "name elements"
 *     step attention [SECONDS]                  the step of 24 groups of hardly any elements, by layers of the encoder
 * moments: bfloat16 parameters, gradients and moments. SECONDS: about how long one number is measured. */
#define _POSIX_C_SOURCE 200809L
#include <metaadamw.h>

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 4096, LONGEST = 128, GROUPS = 5, TOKENS = 24, PIECE = 1 << 24 };

static maw_error *error;
static void check(maw_status status, char const *what) {
    if (status != MAW_OK) {
        fprintf(stderr, "step: %s: %s\n", what, maw_error_message(error));
        exit(1);
    }
}
#define CHECK(call) check(call, #call)

/* The driver's functions that a host calls by itself. */
static void *driver;
static void *find(char const *name) {
    void *function = dlsym(driver, name);
    if (!function) {
        fprintf(stderr, "step: %s\n", dlerror());
        exit(1);
    }
    return function;
}
static void done(int result, char const *what) {
    if (result != 0) {
        fprintf(stderr, "step: %s answers %d\n", what, result);
        exit(1);
    }
}
#define DRIVER(name, types, ...)                                                                                       \
    do {                                                                                                               \
        union {                                                                                                        \
            void *address;                                                                                             \
            int(*call) types;                                                                                          \
        } function = {find(#name)};                                                                                    \
        done(function.call(__VA_ARGS__), #name);                                                                       \
    } while (0)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static maw_optimizer *optimizer;
static void *params[MOST], *stream, *graph;
static void const *grads[MOST];
static size_t count, total;
static maw_device_buffer *buffers[2];

static void step(void) { CHECK(maw_step(optimizer, params, grads, count, NULL, NULL, &error)); }
static void replay(void) { DRIVER(cuGraphLaunch, (void *, void *), graph, stream); }
static void copy(void) {
    DRIVER(cuMemcpyDtoDAsync_v2, (uint64_t, uint64_t, size_t, void *),
           (uint64_t)(uintptr_t)maw_device_buffer_pointer(buffers[0]),
           (uint64_t)(uintptr_t)maw_device_buffer_pointer(buffers[1]), total, stream);
}
static void wait_for_all(void) { DRIVER(cuStreamSynchronize, (void *), stream); }

static int by_size(void const *a, void const *b) {
    double x = *(double const *)a, y = *(double const *)b;
    return (x > y) - (x < y);
}

/* Median of GROUPS groups of the milliseconds that one call takes; *enqueue: those until it returns. */
static double milliseconds(void (*f)(void), double seconds, double *enqueue) {
    for (int i = 0; i < 3; i++)
        f();
    wait_for_all();
    double start = now();
    f();
    wait_for_all();
    double often = seconds / GROUPS / (now() - start);
    int calls = often < 2 ? 2 : often > 200 ? 200 : (int)often;
    double all[GROUPS], until[GROUPS];
    for (int group = 0; group < GROUPS; group++) {
        start = now();
        for (int i = 0; i < calls; i++)
            f();
        until[group] = 1e3 * (now() - start) / calls;
        wait_for_all();
        all[group] = 1e3 * (now() - start) / calls;
    }
    qsort(all, GROUPS, sizeof *all, by_size);
    qsort(until, GROUPS, sizeof *until, by_size);
    if (enqueue)
        *enqueue = until[GROUPS / 2];
    return all[GROUPS / 2];
}

/* Small numbers that repeat. */
static void fill(maw_device_buffer *buffer, int half, float scale) {
    static unsigned char piece[PIECE];
    size_t size = half ? 2 : 4;
    for (size_t i = 0; i < PIECE / size; i++) {
        float value = scale * ((float)(i * 37 % 101) / 101 - 0.5F);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (half) {
            uint16_t upper = (uint16_t)(bits >> 16);
            memcpy(piece + i * size, &upper, size);
        } else {
            memcpy(piece + i * size, &bits, size);
        }
    }
    for (size_t at = 0; at < total; at += PIECE)
        CHECK(maw_device_buffer_upload(buffer, at, piece, total - at < PIECE ? total - at : PIECE, &error));
}

static maw_tensor tensors[MOST];
static maw_options options;
static maw_param_group group;

/* A place for what was read: parameters, and gradients. */
static void place(int half) {
    static size_t offsets[MOST];
    total = 0;
    for (size_t i = 0; i < count; i++) {
        tensors[i].dtype = half ? MAW_BFLOAT16 : MAW_FLOAT32;
        offsets[i] = total;
        total += (tensors[i].shape[0] * (half ? 2 : 4) + 255) / 256 * 256;
    }
    for (int i = 0; i < 2; i++) {
        CHECK(maw_device_buffer_create(0, total, &buffers[i], &error));
        fill(buffers[i], half, i == 0 ? 0.2F : 0.02F);
    }
    for (size_t i = 0; i < count; i++) {
        params[i] = (char *)maw_device_buffer_pointer(buffers[0]) + offsets[i];
        grads[i] = (char const *)maw_device_buffer_pointer(buffers[1]) + offsets[i];
    }
}

/* Times an optimizer with these options: one by one, until each call returns, and as a graph. */
static void measure(double seconds, char const *name) {
    CHECK(maw_optimizer_create(&options, &optimizer, &error));
    CHECK(maw_add_param_group(optimizer, &group, tensors, count, NULL, &error));
    CHECK(maw_set_stream(optimizer, stream, &error));
    double enqueue, eager = milliseconds(step, seconds, &enqueue);

    void *captured;
    DRIVER(cuStreamBeginCapture_v2, (void *, int), stream, 2);
    step();
    DRIVER(cuStreamEndCapture, (void *, void **), stream, &captured);
    DRIVER(cuGraphInstantiateWithFlags, (void **, void *, unsigned long long), &graph, captured, 0);
    double replayed = milliseconds(replay, seconds, NULL);
    DRIVER(cuGraphExecDestroy, (void *), graph);
    DRIVER(cuGraphDestroy, (void *), captured);

    maw_step_report report;
    maw_step_report_init(&report, sizeof report);
    CHECK(maw_step_report_fetch(optimizer, MAW_FETCH_WAIT, &report, &error));
    if (report.skipped_steps != 0) {
        fprintf(stderr, "step: %llu steps were skipped\n", (unsigned long long)report.skipped_steps);
        exit(1);
    }
    printf("\"%s\": {\"eager\": %.6f, \"enqueue\": %.6f, \"graph\": %.6f}", name, eager, enqueue, replayed);
    if (maw_optimizer_free(optimizer) != MAW_OK)
        exit(1);
}

static char names[MOST][LONGEST];
static uint64_t elements[MOST];

static void add(uint64_t numel) {
    maw_tensor_init(&tensors[count], sizeof *tensors);
    tensors[count].name = names[count];
    tensors[count].shape = &elements[count];
    tensors[count].ndim = 1;
    elements[count] = numel;
    count++;
}

/* With and without modulation, then a copy of as many bytes as the parameters have. */
static void steps_of_input(char const *kind, double seconds) {
    unsigned long long numel;
    while (count < MOST && scanf("%127s %llu", names[count], &numel) == 2)
        add(numel);
    if (count == 0) {
        fprintf(stderr, "step: tensors are expected on stdin, lines \"name elements\"\n");
        exit(2);
    }
    place(strcmp(kind, "float32") != 0);
    if (strcmp(kind, "moments") == 0)
        group.moment_dtype = MAW_BFLOAT16;
    printf("{");
    measure(seconds, "meta");
    options.modulation = 0;
    printf(", ");
    measure(seconds, "plain");
    double copied = milliseconds(copy, seconds, NULL);
    printf(", \"copy\": {\"bytes\": %llu, \"ms\": %.6f}}\n", 2ULL * total, copied);
}

/* The everyday encoder and the largest one that is promised to be quick; without modulation all else of such a step. */
static void attention(double seconds) {
    for (int i = 0; i < TOKENS; i++) {
        sprintf(names[i], "group %d", i);
        add(64);
        tensors[i].modulation_group = names[i];
    }
    place(0);
    options.grouping = MAW_GROUPING_CUSTOM;
    printf("{\"groups\": %d, ", TOKENS);
    measure(seconds, "8 layers");
    printf(", ");
    options.attn_layers = 128;
    options.attn_hidden_dim = 64;
    measure(seconds, "128 layers");
    printf(", ");
    options.modulation = 0;
    measure(seconds, "plain");
    printf("}\n");
}

int main(int argc, char **argv) {
    char const *kind = argc > 1 ? argv[1] : "";
    char const *const kinds[] = {"device", "float32", "bfloat16", "moments", "attention"};
    int known = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        known |= strcmp(kind, kinds[i]) == 0;
    if (!known) {
        fprintf(stderr, "step: device, float32, bfloat16, moments or attention is expected\n");
        return 2;
    }
    double seconds = argc > 2 ? atof(argv[2]) : 1;
    driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!driver) {
        fprintf(stderr, "step: NVIDIA's driver is missing: %s\n", dlerror());
        return 1;
    }
    if (!maw_cuda_available()) {
        fprintf(stderr, "step: the driver is there, but no CUDA device that it can use\n");
        return 1;
    }
    if (strcmp(kind, "device") == 0) {
        char name[256];
        DRIVER(cuDeviceGetName, (char *, int, int), name, sizeof name, 0);
        puts(name);
        return 0;
    }

    void *context;
    DRIVER(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    DRIVER(cuCtxSetCurrent, (void *), context);
    DRIVER(cuStreamCreate, (void **, unsigned), &stream, 1);
    maw_options_init(&options, sizeof options);
    options.device = MAW_CUDA;
    maw_param_group_init(&group, sizeof group);
    if (strcmp(kind, "attention") == 0)
        attention(seconds);
    else
        steps_of_input(kind, seconds);
    for (int i = 0; i < 2; i++)
        maw_device_buffer_free(buffers[i]);
    return 0;
}
