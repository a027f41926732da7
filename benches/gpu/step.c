/* Times the step on a CUDA device, for benches/gpu/table.py: tensors as lines "name elements" on stdin, one line of JSON on
 * stdout. The device is used through the library's own buffers and the driver: no CUDA toolkit.
 *     step float32|bfloat16|moments [SECONDS]
 * moments: bfloat16 parameters, gradients and moments. SECONDS: about how long one number is measured. */
#define _POSIX_C_SOURCE 200809L
#include <metaadamw.h>

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 4096, LONGEST = 128, GROUPS = 5, PIECE = 1 << 24 };

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

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "step: float32, bfloat16 or moments is expected\n");
        return 2;
    }
    int half = strcmp(argv[1], "float32") != 0;
    double seconds = argc > 2 ? atof(argv[2]) : 1;
    driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!driver || !maw_cuda_available()) {
        fprintf(stderr, "step: no CUDA device\n");
        return 1;
    }

    static char names[MOST][LONGEST];
    static uint64_t elements[MOST];
    static size_t offsets[MOST];
    static maw_tensor tensors[MOST];
    while (count < MOST && scanf("%127s %llu", names[count], (unsigned long long *)&elements[count]) == 2) {
        maw_tensor_init(&tensors[count], sizeof *tensors);
        tensors[count].name = names[count];
        tensors[count].shape = &elements[count];
        tensors[count].ndim = 1;
        tensors[count].dtype = half ? MAW_BFLOAT16 : MAW_FLOAT32;
        offsets[count] = total;
        total += (elements[count] * (half ? 2 : 4) + 255) / 256 * 256;
        count++;
    }
    for (int i = 0; i < 2; i++) {
        CHECK(maw_device_buffer_create(0, total, &buffers[i], &error));
        fill(buffers[i], half, i == 0 ? 0.2F : 0.02F);
    }
    for (size_t i = 0; i < count; i++) {
        params[i] = (char *)maw_device_buffer_pointer(buffers[0]) + offsets[i];
        grads[i] = (char const *)maw_device_buffer_pointer(buffers[1]) + offsets[i];
    }

    void *context;
    DRIVER(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    DRIVER(cuCtxSetCurrent, (void *), context);
    DRIVER(cuStreamCreate, (void **, unsigned), &stream, 1);
    maw_options options;
    maw_param_group group;
    maw_options_init(&options, sizeof options);
    options.device = MAW_CUDA;
    maw_param_group_init(&group, sizeof group);
    if (strcmp(argv[1], "moments") == 0)
        group.moment_dtype = MAW_BFLOAT16;
    printf("{");
    for (int modulation = 1; modulation >= 0; modulation--) {
        options.modulation = (uint32_t)modulation;
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
            return 1;
        }
        printf("\"%s\": {\"eager\": %.6f, \"enqueue\": %.6f, \"graph\": %.6f}, ", modulation ? "meta" : "plain", eager,
               enqueue, replayed);
        if (maw_optimizer_free(optimizer) != MAW_OK)
            return 1;
    }
    double copied = milliseconds(copy, seconds, NULL);
    printf("\"copy\": {\"bytes\": %llu, \"ms\": %.6f}}\n", 2ULL * total, copied);
    for (int i = 0; i < 2; i++)
        maw_device_buffer_free(buffers[i]);
    return 0;
}
