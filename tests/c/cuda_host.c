#include "cuda_host.h"

#include <dlfcn.h>
#include <math.h>

/* ------------------------------------------------------------ the model ---- */

static const uint64_t shapes[N][1] = {{LONG}, {SHORT}};
static const char *const names[N] = {"layers.0.mlp.weight", "layers.1.attn.weight"};

maw_options small_options(int32_t device) {
    maw_options options;
    CHECK(maw_options_init(&options, sizeof options));
    options.device = device;
    options.attn_layers = 2;
    options.attn_hidden_dim = 8;
    options.meta_lr = 0.05;
    options.seed = 7;
    return options;
}

maw_optimizer *registered(const maw_options *options) {
    maw_optimizer *o;
    maw_param_group group;
    maw_tensor tensors[N];
    CHECK(maw_optimizer_create(options, &o, &error));
    CHECK(maw_param_group_init(&group, sizeof group));
    group.lr = 0.01;
    for (int i = 0; i < N; i++) {
        CHECK(maw_tensor_init(&tensors[i], sizeof tensors[i]));
        tensors[i].name = names[i];
        tensors[i].shape = shapes[i];
        tensors[i].ndim = 1;
    }
    CHECK(maw_add_param_group(o, &group, tensors, N, NULL, &error));
    return o;
}

size_t bytes_of(int tensor) { return (tensor == 0 ? LONG : SHORT) * sizeof(float); }

static size_t count_of(int tensor) { return tensor == 0 ? LONG : SHORT; }

struct model *model_new(const maw_options *options) {
    struct model *m = calloc(1, sizeof *m);
    TRUE(m != NULL);
    m->device = options->device;
    m->o = registered(options);
    for (int i = 0; i < N; i++) {
        m->params[i] = m->param.of[i];
        m->grads[i] = m->grad.of[i];
    }
    if (m->device == MAW_CUDA)
        for (int i = 0; i < 2 * N; i++) {
            CHECK(maw_device_buffer_create(options->device_index, bytes_of(i % N), &m->buffers[i], &error));
            if (i < N)
                m->params[i] = maw_device_buffer_pointer(m->buffers[i]);
            else
                m->grads[i - N] = maw_device_buffer_pointer(m->buffers[i]);
        }
    static struct values start;
    for (int i = 0; i < N; i++)
        for (size_t j = 0; j < count_of(i); j++)
            start.of[i][j] = (float)sin((double)i + (double)j);
    set_params(m, &start);
    return m;
}

void model_free(struct model *m) {
    TRUE(maw_optimizer_free(m->o) == MAW_OK);
    for (int i = 0; i < 2 * N; i++)
        maw_device_buffer_free(m->buffers[i]);
    free(m);
}

static void copied(struct model *m, int first, struct values *own, const struct values *from) {
    if (m->device == MAW_CPU)
        *own = *from;
    else
        for (int i = 0; i < N; i++)
            CHECK(maw_device_buffer_upload(m->buffers[first + i], 0, from->of[i], bytes_of(i), &error));
}

void set_params(struct model *m, const struct values *params) { copied(m, 0, &m->param, params); }
void set_grads(struct model *m, const struct values *grads) { copied(m, N, &m->grad, grads); }

void get_params(const struct model *m, struct values *out) {
    memset(out, 0, sizeof *out);
    for (int i = 0; i < N; i++)
        if (m->device == MAW_CPU)
            memcpy(out->of[i], m->param.of[i], bytes_of(i));
        else
            CHECK(maw_device_buffer_download(m->buffers[i], 0, out->of[i], bytes_of(i), &error));
}

double loss_of(int32_t batch, const struct values *params, struct values *grad) {
    double loss = 0.0;
    for (int i = 0; i < N; i++)
        for (size_t j = 0; j < count_of(i); j++) {
            const double x = (double)i + 0.7 * (double)j + 2.1 * batch;
            const double weight = 1.5 + sin(x), off = (double)params->of[i][j] - cos(3.0 * x);
            loss += 0.5 * weight * off * off / LONG;
            if (grad != NULL)
                grad->of[i][j] = (float)(weight * off / LONG);
        }
    return loss;
}

void feed(struct model *m, int step) {
    static struct values params, grad;
    get_params(m, &params);
    loss_of(step % 2 == 0 ? MAW_BATCH_TRAIN_1 : MAW_BATCH_TRAIN_2, &params, &grad);
    set_grads(m, &grad);
}

void train(struct model *m, int first, int steps) {
    for (int step = first; step < first + steps; step++) {
        maw_step_report report;
        CHECK(maw_step_report_init(&report, sizeof report));
        feed(m, step);
        CHECK(maw_step(m->o, m->params, m->grads, N, NULL, &report, &error));
        TRUE(report.skipped == 0);
    }
}

maw_step_report fetched(const struct model *m) {
    maw_step_report report;
    CHECK(maw_step_report_init(&report, sizeof report));
    CHECK(maw_step_report_fetch(m->o, MAW_FETCH_WAIT, &report, &error));
    return report;
}

uint64_t steps_of(const struct model *m) {
    uint64_t steps;
    CHECK(maw_step_count(m->o, &steps, &error));
    return steps;
}

maw_meta_result meta_update(struct model *m) {
    static struct values before, params, grad;
    maw_meta_request request;
    maw_meta_answer answer;
    maw_meta_result result;
    CHECK(maw_meta_request_init(&request, sizeof request));
    CHECK(maw_meta_answer_init(&answer, sizeof answer));
    CHECK(maw_meta_result_init(&result, sizeof result));
    get_params(m, &before);
    CHECK(maw_meta_begin(m->o, m->params, N, &request, &error));
    while (request.kind != MAW_META_DONE) {
        get_params(m, &params);
        answer.request_id = request.id;
        answer.loss = loss_of(request.batch, &params, &grad);
        set_grads(m, &grad);
        CHECK(maw_meta_tell(m->o, &answer, m->params, m->grads, N, &request, &error));
    }
    CHECK(maw_meta_result_get(m->o, &result, &error));
    TRUE(result.outcome == MAW_OUTCOME_UPDATED);
    get_params(m, &params);
    TRUE(same_bits(&params, &before));
    return result;
}

int same_bits(const struct values *a, const struct values *b) { return memcmp(a, b, sizeof *a) == 0; }

maw_bytes *saved(const struct model *m) {
    maw_bytes *bytes;
    CHECK(maw_save_bytes(m->o, 0, &bytes, &error));
    return bytes;
}

int same_bytes(const maw_bytes *a, const maw_bytes *b) {
    const size_t size = maw_bytes_size(a);
    return maw_bytes_size(b) == size && memcmp(maw_bytes_data(a), maw_bytes_data(b), size) == 0;
}

int same_run(const struct model *a, const struct model *b) {
    static struct values of_a, of_b;
    maw_bytes *run_a = saved(a), *run_b = saved(b);
    get_params(a, &of_a);
    get_params(b, &of_b);
    const int same = same_bits(&of_a, &of_b) && same_bytes(run_a, run_b);
    maw_bytes_free(run_a);
    maw_bytes_free(run_b);
    return same;
}

/* ----------------------------------------------------------- the driver ---- */

static void *driver;

static void *found(const char *name) {
    void *function = dlsym(driver, name);
    if (function == NULL) {
        fprintf(stderr, "%s: %s\n", name, dlerror());
        exit(EXIT_FAILURE);
    }
    return function;
}

/* A function of the driver: FUNCTION(int, cuInit, (unsigned)). ISO C has no conversion from what dlsym gives. */
#define FUNCTION(result, name, arguments)                                                                              \
    result(*name) arguments;                                                                                           \
    *(void **)&name = found(#name)

void driver_open(void) {
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    TRUE(driver != NULL);
    FUNCTION(int, cuInit, (unsigned));
    FUNCTION(int, cuDevicePrimaryCtxRetain, (void **, int));
    FUNCTION(int, cuCtxSetCurrent, (void *));
    void *context;
    TRUE(cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&context, 0) == 0 && cuCtxSetCurrent(context) == 0);
}

void *stream_new(void) {
    enum { NON_BLOCKING = 1 };
    FUNCTION(int, cuStreamCreate, (void **, unsigned));
    void *stream;
    TRUE(cuStreamCreate(&stream, NON_BLOCKING) == 0);
    return stream;
}

void stream_wait(void *stream) {
    FUNCTION(int, cuStreamSynchronize, (void *));
    TRUE(cuStreamSynchronize(stream) == 0);
}

void stream_free(void *stream) {
    FUNCTION(int, cuStreamDestroy_v2, (void *));
    TRUE(cuStreamDestroy_v2(stream) == 0);
}

void capture_begin(void *stream) {
    enum { GLOBAL = 0 }; /* the strictest mode */
    FUNCTION(int, cuStreamBeginCapture_v2, (void *, int));
    TRUE(cuStreamBeginCapture_v2(stream, GLOBAL) == 0);
}

void *capture_end(void *stream) {
    FUNCTION(int, cuStreamEndCapture, (void *, void **));
    FUNCTION(int, cuGraphInstantiateWithFlags, (void **, void *, unsigned long long));
    FUNCTION(int, cuGraphDestroy, (void *));
    void *graph, *ready;
    TRUE(cuStreamEndCapture(stream, &graph) == 0);
    TRUE(cuGraphInstantiateWithFlags(&ready, graph, 0) == 0 && cuGraphDestroy(graph) == 0);
    return ready;
}

void graph_replay(void *graph, void *stream) {
    FUNCTION(int, cuGraphLaunch, (void *, void *));
    TRUE(cuGraphLaunch(graph, stream) == 0);
}

void graph_free(void *graph) {
    FUNCTION(int, cuGraphExecDestroy, (void *));
    TRUE(cuGraphExecDestroy(graph) == 0);
}

void *pinned_new(size_t bytes) {
    FUNCTION(int, cuMemAllocHost_v2, (void **, size_t));
    void *memory;
    TRUE(cuMemAllocHost_v2(&memory, bytes) == 0);
    return memory;
}

void pinned_free(void *memory) {
    FUNCTION(int, cuMemFreeHost, (void *));
    TRUE(cuMemFreeHost(memory) == 0);
}

void launch_wrong_kernel(void) {
    FUNCTION(const char *, cuda_emulator_ptx, (void));
    FUNCTION(int, cuModuleLoadData, (void **, const void *));
    FUNCTION(int, cuModuleGetFunction, (void **, void *, const char *));
    FUNCTION(int, cuLaunchKernel, (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *,
                                   void **, void **));
    void *module, *kernel, *nothing = NULL;
    uint32_t flags = 1; /* GRADIENTS */
    void *arguments[] = {&nothing, &flags};
    TRUE(cuModuleLoadData(&module, cuda_emulator_ptx()) == 0);
    /* Any kernel will do: with NULL for its first argument it reads at address 0. */
    TRUE(cuModuleGetFunction(&kernel, module, "maw_statistics") == 0);
    TRUE(cuLaunchKernel(kernel, 1, 1, 1, 256, 1, 1, 0, NULL, arguments, NULL) == 0);
}

long emulator_count(const char *name) {
    FUNCTION(long, cuda_emulator_count, (const char *));
    return cuda_emulator_count(name);
}

void emulator_fail(const char *function, long nth, int result) {
    FUNCTION(void, cuda_emulator_fail, (const char *, long, int));
    cuda_emulator_fail(function, nth, result);
}

void emulator_fail_launch(long nth, int result) {
    FUNCTION(void, cuda_emulator_fail_launch, (long, int));
    cuda_emulator_fail_launch(nth, result);
}

void emulator_reset(void) {
    FUNCTION(void, cuda_emulator_reset, (void));
    cuda_emulator_reset();
}
