/* A C program that provokes every failure on CUDA: invalid pointers, no memory, failing launches and kernels, the
 * host's own included. Each is an error that names its cause; where possible the run continues, and nothing leaks. The
 * emulator has two devices here. */
#include "cuda_host.h"

enum { OUT_OF_MEMORY = 2, OUT_OF_RESOURCES = 701, LAUNCH_FAILED = 719 };

static struct model *trained(void) {
    const maw_options options = small_options(MAW_CUDA);
    struct model *m = model_new(&options);
    train(m, 0, 1);
    return m;
}

static maw_status step(struct model *m, maw_error **error) {
    return maw_step(m->o, m->params, m->grads, N, NULL, NULL, error);
}

/* The step is refused with this text while one pointer is another. */
#define WRONG(place, pointer, text)                                                                                    \
    do {                                                                                                               \
        void *const right = (void *)(uintptr_t)(place);                                                                \
        (place) = (pointer);                                                                                           \
        REFUSED(MAW_INVALID_ARGUMENT, text, step(m, &error));                                                          \
        (place) = right;                                                                                               \
    } while (0)

static void wrong_pointers(void) {
    static struct values on_host, before, after;
    struct model *m = trained();
    maw_device_buffer *small, *far;
    CHECK(maw_device_buffer_create(0, bytes_of(0) - 4, &small, &error));
    CHECK(maw_device_buffer_create(1, bytes_of(0), &far, &error));
    float *pinned = pinned_new(bytes_of(0));
    feed(m, 1);
    get_params(m, &before);
    maw_bytes *run = saved(m), *again;

    WRONG(m->params[1], on_host.of[1], "params[1] (tensor 'layers.1.attn.weight') is a pointer to host memory");
    WRONG(m->grads[0], on_host.of[0], "grads[0] (tensor 'layers.0.mlp.weight') is a pointer to host memory");
    WRONG(m->params[0], pinned, "params[0] (tensor 'layers.0.mlp.weight') is a pointer to host memory");
    WRONG(m->params[0], NULL, "params[0]");
    WRONG(m->params[0], maw_device_buffer_pointer(small), "is a pointer to fewer than its 20000 bytes");
    WRONG(m->grads[0], maw_device_buffer_pointer(far),
          "is a pointer to memory of CUDA device 1, expected memory of CUDA device 0");
    maw_step_options options;
    CHECK(maw_step_options_init(&options, sizeof options));
    options.device_grad_scale = on_host.of[0];
    REFUSED(MAW_INVALID_ARGUMENT, "step_options.device_grad_scale is a pointer to host memory",
            maw_step(m->o, m->params, m->grads, N, &options, NULL, &error));
    options.device_grad_scale = NULL;
    options.found_inf = maw_device_buffer_pointer(far);
    REFUSED(MAW_INVALID_ARGUMENT, "step_options.found_inf is a pointer to memory of CUDA device 1",
            maw_step(m->o, m->params, m->grads, N, &options, NULL, &error));
    again = saved(m);
    TRUE(same_bytes(again, run));

    maw_meta_request request;
    maw_meta_answer answer;
    void *params[N] = {on_host.of[0], m->params[1]};
    const void *grads[N] = {m->grads[0], on_host.of[1]};
    CHECK(maw_meta_request_init(&request, sizeof request));
    CHECK(maw_meta_answer_init(&answer, sizeof answer));
    REFUSED(MAW_INVALID_ARGUMENT, "params[0] (tensor 'layers.0.mlp.weight') is a pointer to host memory",
            maw_meta_begin(m->o, params, N, &request, &error));
    CHECK(maw_meta_begin(m->o, m->params, N, &request, &error));
    answer.request_id = request.id;
    REFUSED(MAW_INVALID_ARGUMENT, "grads[1] (tensor 'layers.1.attn.weight') is a pointer to host memory",
            maw_meta_tell(m->o, &answer, m->params, grads, N, &request, &error));
    CHECK(maw_meta_abort(m->o, m->params, N, &error));

    /* With valid pointers it continues. */
    get_params(m, &after);
    TRUE(same_bits(&after, &before) && steps_of(m) == 1);
    CHECK(step(m, &error));
    TRUE(fetched(m).step == 2);
    maw_bytes_free(run);
    maw_bytes_free(again);
    pinned_free(pinned);
    maw_device_buffer_free(small);
    maw_device_buffer_free(far);
    model_free(m);
}

static void no_device(void) {
    maw_options options = small_options(MAW_CUDA);
    maw_optimizer *o = NULL;
    maw_device_buffer *buffer = NULL;
    options.device_index = 2;
    REFUSED(MAW_INVALID_ARGUMENT, "options.device_index is 2, expected 0 to 1 (CUDA devices)",
            maw_optimizer_create(&options, &o, &error));
    REFUSED(MAW_INVALID_ARGUMENT, "device_index is 2, expected 0 to 1 (CUDA devices)",
            maw_device_buffer_create(2, 4, &buffer, &error));
    TRUE(o == NULL && buffer == NULL);
}

static void no_stream(void) {
    static int neither;
    const maw_options options = small_options(MAW_CPU);
    struct model *m = trained(), *host = model_new(&options);
    REFUSED(MAW_CUDA_ERROR, "cuStreamIsCapturing: CUDA_ERROR_INVALID_HANDLE", maw_set_stream(m->o, &neither, &error));
    REFUSED(MAW_UNSUPPORTED, "a stream of an optimizer on the CPU", maw_set_stream(host->o, &neither, &error));
    train(m, 1, 1); /* on the previous stream */
    model_free(m);
    model_free(host);
}

/* Each allocation of `call`, at least so many, fails in turn, and then none. */
#define STARVED(function, least, call)                                                                                 \
    do {                                                                                                               \
        const long alive = emulator_count("live");                                                                     \
        long nth = 1;                                                                                                  \
        for (;; nth++) {                                                                                               \
            maw_error *error = NULL;                                                                                   \
            emulator_fail(function, nth, OUT_OF_MEMORY);                                                               \
            const maw_status got = (call);                                                                             \
            if (got == MAW_OK)                                                                                         \
                break;                                                                                                 \
            TRUE(got == MAW_OUT_OF_MEMORY && maw_error_code(error) == got);                                            \
            TRUE(strcmp(maw_error_message(error), "out of device memory (" function ")") == 0);                        \
            TRUE(emulator_count("live") == alive);                                                                     \
            maw_error_free(error);                                                                                     \
        }                                                                                                              \
        emulator_fail(function, 0, 0);                                                                                 \
        TRUE(nth > (least));                                                                                           \
    } while (0)

static void no_memory(void) {
    const maw_options options = small_options(MAW_CUDA);
    maw_optimizer *o = registered(&options);
    STARVED("cuMemAlloc_v2", 3, maw_prepare(o, &error));
    TRUE(maw_optimizer_free(o) == MAW_OK);
    o = registered(&options);
    STARVED("cuMemHostAlloc", 1, maw_prepare(o, &error));
    TRUE(maw_optimizer_free(o) == MAW_OK);

    maw_device_buffer *buffer = NULL;
    STARVED("cuMemAlloc_v2", 1, maw_device_buffer_create(0, 100, &buffer, &error));
    maw_device_buffer_free(buffer);

    struct model *m = trained();
    maw_meta_request request;
    CHECK(maw_meta_request_init(&request, sizeof request));
    STARVED("cuMemAlloc_v2", 1, maw_meta_begin(m->o, m->params, N, &request, &error));
    CHECK(maw_meta_abort(m->o, m->params, N, &error));
    train(m, 1, 1);
    model_free(m);
}

/* More memory than the device has, without an injected failure. */
static void too_large_a_model(void) {
    static const uint64_t shape[] = {1 << 15, 1 << 15};
    const maw_options options = small_options(MAW_CUDA);
    maw_optimizer *o = registered(&options);
    maw_param_group group;
    maw_tensor tensor;
    size_t tensors;
    CHECK(maw_param_group_init(&group, sizeof group));
    CHECK(maw_tensor_init(&tensor, sizeof tensor));
    tensor.name = "embed.weight";
    tensor.shape = shape;
    tensor.ndim = 2;
    CHECK(maw_add_param_group(o, &group, &tensor, 1, NULL, &error));
    REFUSED(MAW_OUT_OF_MEMORY, "out of device memory (cuMemAlloc_v2)", maw_prepare(o, &error));
    tensor.name = "head.weight";
    CHECK(maw_add_param_group(o, &group, &tensor, 1, NULL, &error)); /* registration is still open */
    CHECK(maw_tensor_count(o, &tensors, &error));
    TRUE(tensors == N + 2 && maw_optimizer_free(o) == MAW_OK);
}

static void failing_launches(void) {
    static struct values before, after;
    for (long nth = 1; nth <= 3; nth++) {
        struct model *m = trained();
        feed(m, 1);
        get_params(m, &before);
        emulator_fail("cuLaunchKernel", nth, OUT_OF_RESOURCES);
        REFUSED(MAW_CUDA_ERROR, "cuLaunchKernel: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", step(m, &error));
        get_params(m, &after);
        TRUE(same_bits(&after, &before));
        if (nth < 3) /* no step was decided */
            train(m, 1, 1);
        else
            REFUSED(MAW_CUDA_ERROR, "cuLaunchKernel: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", step(m, &error));
        model_free(m);
    }
}

static void failing_kernels(void) {
    for (long nth = 1; nth <= 3; nth++) {
        struct model *m = trained();
        maw_step_report report;
        uint64_t steps = 7;
        maw_bytes *bytes = NULL;
        CHECK(maw_step_report_init(&report, sizeof report));
        feed(m, 1);
        emulator_fail_launch(nth, LAUNCH_FAILED);
        CHECK(step(m, &error)); /* it is enqueued */
        REFUSED(MAW_CUDA_ERROR, "CUDA_ERROR_LAUNCH_FAILED",
                maw_step_report_fetch(m->o, MAW_FETCH_WAIT, &report, &error));
        REFUSED(MAW_CUDA_ERROR, "CUDA_ERROR_LAUNCH_FAILED", maw_step_count(m->o, &steps, &error));
        REFUSED(MAW_CUDA_ERROR, "CUDA_ERROR_LAUNCH_FAILED", maw_save_bytes(m->o, 0, &bytes, &error));
        REFUSED(MAW_CUDA_ERROR, "CUDA_ERROR_LAUNCH_FAILED", step(m, &error));
        TRUE(report.step == 0 && steps == 7 && bytes == NULL);
        emulator_reset();
        model_free(m);
    }
}

static void a_failing_kernel_of_the_hosts(void) {
    struct model *m = trained();
    feed(m, 1);
    const long launched = emulator_count("cuLaunchKernel");
    launch_wrong_kernel();
    TRUE(emulator_count("cuLaunchKernel") == launched + 1);
    CHECK(step(m, &error)); /* enqueued behind it, in the same stream */
    uint64_t steps = 7;
    REFUSED(MAW_CUDA_ERROR, "CUDA_ERROR_ILLEGAL_ADDRESS", maw_step_count(m->o, &steps, &error));
    REFUSED(MAW_CUDA_ERROR, "CUDA_ERROR_ILLEGAL_ADDRESS", step(m, &error));
    TRUE(steps == 7);
    emulator_reset();
    model_free(m);
}

enum { COUNT = SHORT };

static maw_status state_of(struct model *m, struct values *out, uint64_t *step, maw_error **error) {
    return maw_tensor_state_get(m->o, 1, out->of[0], out->of[1], COUNT, step, error);
}

/* A copy from the device that fails between two outputs. */
static void nothing_is_half_written(void) {
    static struct values before, after, whole;
    for (long nth = 1; nth <= 2; nth++) {
        struct model *m = trained();
        uint64_t step = 7;
        TRUE(steps_of(m) == 1);
        CHECK(state_of(m, &whole, &step, &error));
        TRUE(step == 1 && whole.of[0][0] != 0.0f && whole.of[1][0] != 0.0f);
        step = 7;
        after = before;
        emulator_fail("cuMemcpyDtoHAsync_v2", nth, 999);
        REFUSED(MAW_CUDA_ERROR, "cuMemcpyDtoHAsync_v2", state_of(m, &after, &step, &error));
        TRUE(same_bits(&after, &before) && step == 7);
        model_free(m);
    }
}

/* The masters of a bfloat16 parameter under MAW_PRECISION_REMAINDER. */
static void no_master_is_half_written(void) {
    static const uint64_t shape[] = {COUNT};
    static float values[COUNT], got[COUNT];
    const maw_options options = small_options(MAW_CUDA);
    for (long nth = 1; nth <= 2; nth++) {
        maw_optimizer *o;
        maw_param_group group;
        maw_tensor tensor;
        maw_device_buffer *param;
        CHECK(maw_optimizer_create(&options, &o, &error));
        CHECK(maw_param_group_init(&group, sizeof group));
        CHECK(maw_tensor_init(&tensor, sizeof tensor));
        group.precision = MAW_PRECISION_REMAINDER;
        tensor.name = "w";
        tensor.shape = shape;
        tensor.ndim = 1;
        tensor.dtype = MAW_BFLOAT16;
        CHECK(maw_add_param_group(o, &group, &tensor, 1, NULL, &error));
        CHECK(maw_device_buffer_create(0, 2 * COUNT, &param, &error));
        void *place = maw_device_buffer_pointer(param);
        for (int i = 0; i < COUNT; i++)
            values[i] = 1.0f + (float)i / 4096.0f;
        CHECK(maw_master_set(o, 0, values, place, COUNT, &error));
        CHECK(maw_master_get(o, 0, place, got, COUNT, &error));
        TRUE(memcmp(got, values, sizeof got) == 0);
        memset(got, 0, sizeof got);
        emulator_fail("cuMemcpyDtoHAsync_v2", nth, 999);
        REFUSED(MAW_CUDA_ERROR, "cuMemcpyDtoHAsync_v2", maw_master_get(o, 0, place, got, COUNT, &error));
        for (int i = 0; i < COUNT; i++)
            TRUE(got[i] == 0.0f);
        TRUE(maw_optimizer_free(o) == MAW_OK);
        maw_device_buffer_free(param);
    }
}

int main(void) {
    driver_open();
    const long live = emulator_count("live");
    wrong_pointers();
    no_device();
    no_stream();
    no_memory();
    too_large_a_model();
    failing_launches();
    failing_kernels();
    nothing_is_half_written();
    no_master_is_half_written();
    TRUE(emulator_count("live") == live);
    a_failing_kernel_of_the_hosts();
    puts("cuda_errors: ok");
    return EXIT_SUCCESS;
}
