/* CUDA devices and their memory; CUDA-only arguments on the CPU. */
#include "misuse.h"

static void on_the_cpu(void) {
    static const float one = 1.0f;
    static const uint32_t no_fetch[] = {2, 3, UINT32_MAX};
    GIVEN(STEPPED) {
        w->step.device_grad_scale = &one;
        REFUSES(maw_step(w->o, w->params, w->grads, N, &w->step, &w->out.report, error), MAW_INVALID_ARGUMENT,
                "step_options.device_grad_scale is a pointer, expected NULL on the CPU");
        w->step.device_grad_scale = NULL;
        w->step.found_inf = &one;
        REFUSES(maw_step(w->o, w->params, w->grads, N, &w->step, &w->out.report, error), MAW_INVALID_ARGUMENT,
                "step_options.found_inf is a pointer, expected NULL on the CPU");
        for (size_t i = 0; i < 3; i++)
            REFUSES(maw_step_report_fetch(w->o, no_fetch[i], &w->out.report, error), MAW_INVALID_ARGUMENT, "flags");
    }
    GIVEN(STEPPED) {
        ACCEPTS(maw_step_report_fetch(w->o, MAW_FETCH_WAIT, &w->out.report, error));
        ACCEPTS(maw_step_count(w->o, &w->out.u64, error));
        if (w->out.report.step != w->out.u64)
            fail(__FILE__, __LINE__, "maw_step_report_fetch", "the report is not of the last step");
        w->accepted = 0;
    }
}

static void devices_that_are_not_there(void) {
    static const int32_t none[] = {-1, 1 << 20, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 4; i++)
        GIVEN(NOTHING) {
            maw_device_buffer *buffer = NULL;
            w->options.device = MAW_CUDA;
            w->options.device_index = none[i];
            REFUSES(maw_optimizer_create(&w->options, &w->out.created, error), MAW_INVALID_ARGUMENT, "device_index");
            REFUSES(maw_device_buffer_create(none[i], 16, &buffer, error), MAW_INVALID_ARGUMENT, "device_index");
            if (buffer != NULL)
                fail(__FILE__, __LINE__, "maw_device_buffer_create", "wrote although it was refused");
        }
}

static void device_memory(void) {
    GIVEN(NOTHING) {
        maw_device_buffer *b = NULL, *none = NULL;
        unsigned char bytes[16] = {0};
        ANSWERS(maw_cuda_available() == 1);
        NULL_REFUSED(buffer, maw_device_buffer_create(0, 16, NULL, error));
        REFUSES(maw_device_buffer_create(0, SIZE_MAX / 2, &none, error), MAW_OUT_OF_MEMORY, "out of device memory");
        ACCEPTS(maw_device_buffer_create(0, 16, &b, error));
        NULL_REFUSED(buffer, maw_device_buffer_upload(none, 0, bytes, 16, error));
        NULL_REFUSED(data, maw_device_buffer_upload(b, 0, NULL, 16, error));
        NULL_REFUSED(buffer, maw_device_buffer_download(none, 0, bytes, 16, error));
        NULL_REFUSED(data, maw_device_buffer_download(b, 0, NULL, 16, error));
        static const size_t beyond[][2] = {{0, 17}, {16, 1}, {1, 16}, {SIZE_MAX, 1}, {17, 0}, {1, SIZE_MAX / 2}};
        for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
            const size_t at = beyond[i][0], size = beyond[i][1];
            if (size <= sizeof bytes || i == 0) {
                unsigned char more[17] = {0};
                REFUSES(maw_device_buffer_upload(b, at, more, size, error), MAW_INVALID_ARGUMENT, "at most 16");
            }
            REFUSES(maw_device_buffer_download(b, at, bytes, size, error), MAW_INVALID_ARGUMENT, "at most 16");
        }
        ACCEPTS(maw_device_buffer_upload(b, 16, NULL, 0, error));
        ACCEPTS(maw_device_buffer_download(b, 16, NULL, 0, error));
        NULL_ANSWERS(buffer, maw_device_buffer_pointer(none) == NULL);
        NULL_ANSWERS(buffer, maw_device_buffer_size(none) == 0);
        NULL_ANSWERS(buffer, (maw_device_buffer_free(none), 1));
        ANSWERS(maw_device_buffer_size(b) == 16 && maw_device_buffer_pointer(b) != NULL);
        maw_device_buffer_free(b);
        w->accepted = 0;
    }
}

void devices(void) {
    on_the_cpu();
    devices_that_are_not_there();
    device_memory();
}
