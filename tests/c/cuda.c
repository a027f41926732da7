/* A C program that trains on CUDA with device memory allocated by the library: its results are close to those of the
 * CPU, a step does not wait, and a pointer to host memory is refused with the tensor's name. */
#include "check.h"

#include <metaadamw.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 2, ELEMENTS = 5000, STEPS = 5 };
static const uint64_t shapes[N][1] = {{ELEMENTS}, {ELEMENTS}};
static float weights[N][ELEMENTS], gradients[N][ELEMENTS];

static maw_optimizer *optimizer_on(int32_t device) {
    maw_optimizer *optimizer;
    maw_options options;
    maw_param_group group;
    maw_tensor tensors[N];
    maw_options_init(&options, sizeof options);
    options.device = device;
    CHECK(maw_optimizer_create(&options, &optimizer, &error));
    maw_param_group_init(&group, sizeof group);
    for (int i = 0; i < N; i++) {
        maw_tensor_init(&tensors[i], sizeof tensors[i]);
        tensors[i].name = i == 0 ? "layers.0.mlp.weight" : "layers.1.mlp.weight";
        tensors[i].shape = shapes[i];
        tensors[i].ndim = 1;
    }
    CHECK(maw_add_param_group(optimizer, &group, tensors, N, NULL, &error));
    return optimizer;
}

int main(void) {
    TRUE(maw_cuda_available());
    for (int i = 0; i < N; i++)
        for (int j = 0; j < ELEMENTS; j++) {
            weights[i][j] = (float)sin(i + j);
            gradients[i][j] = (float)cos(i + 3.0 * j);
        }
    maw_optimizer *device = optimizer_on(MAW_CUDA), *host = optimizer_on(MAW_CPU);
    maw_device_buffer *buffers[2 * N];
    void *params[N];
    const void *grads[N];
    for (int i = 0; i < 2 * N; i++) {
        const void *data = i < N ? weights[i] : gradients[i - N];
        CHECK(maw_device_buffer_create(0, sizeof weights[0], &buffers[i], &error));
        CHECK(maw_device_buffer_upload(buffers[i], 0, data, sizeof weights[0], &error));
    }
    for (int i = 0; i < N; i++) {
        params[i] = maw_device_buffer_pointer(buffers[i]);
        grads[i] = maw_device_buffer_pointer(buffers[N + i]);
    }
    void *on_host[N] = {weights[0], weights[1]};
    const void *grads_on_host[N] = {gradients[0], gradients[1]};
    maw_error *error = NULL;
    TRUE(maw_step(device, on_host, grads, N, NULL, NULL, &error) == MAW_INVALID_ARGUMENT);
    TRUE(strstr(maw_error_message(error), "params[0] (tensor 'layers.0.mlp.weight') is a pointer to host memory"));
    maw_error_free(error);

    for (int step = 0; step < STEPS; step++) {
        CHECK(maw_set_lr(device, MAW_ALL_GROUPS, 0.01 / (1 + step), &error));
        CHECK(maw_set_lr(host, MAW_ALL_GROUPS, 0.01 / (1 + step), &error));
        CHECK(maw_step(device, params, grads, N, NULL, NULL, &error));
        CHECK(maw_step(host, on_host, grads_on_host, N, NULL, NULL, &error));
    }
    maw_step_report report;
    maw_step_report_init(&report, sizeof report);
    CHECK(maw_step_report_fetch(device, MAW_FETCH_WAIT, &report, &error));
    TRUE(report.step == STEPS && report.skipped_steps == 0 && report.grad_norm > 0.0);

    static float got[ELEMENTS];
    for (int i = 0; i < N; i++) {
        CHECK(maw_device_buffer_download(buffers[i], 0, got, sizeof got, &error));
        for (int j = 0; j < ELEMENTS; j++)
            TRUE(fabsf(got[j] - weights[i][j]) < 2e-6f);
    }
    TRUE(maw_optimizer_free(device) == MAW_OK && maw_optimizer_free(host) == MAW_OK);
    for (int i = 0; i < 2 * N; i++)
        maw_device_buffer_free(buffers[i]);
    puts("cuda: ok");
    return EXIT_SUCCESS;
}
