/* What the C programs on CUDA share: a small model on either device, streams and graphs by the driver's own functions,
 * and the controls of the emulator in tests/cuda_emulator. A failure ends the program. */
#ifndef CUDA_HOST_H
#define CUDA_HOST_H

#include "check.h"

#include <metaadamw.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The call must fail with this status and a message that contains the text. */
#define REFUSED(status, text, call)                                                                                    \
    do {                                                                                                               \
        maw_error *error = NULL;                                                                                       \
        const maw_status returned = (call);                                                                            \
        if (returned != (status) || maw_error_code(error) != returned ||                                               \
            strstr(maw_error_message(error), text) == NULL) {                                                          \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call, maw_status_name(returned),               \
                    returned == MAW_OK ? "" : maw_error_message(error));                                               \
            exit(EXIT_FAILURE);                                                                                        \
        }                                                                                                              \
        maw_error_free(error);                                                                                         \
    } while (0)

/* ------------------------------------------------------------ the model ---- */

/* One of two chunks, one of one. */
enum { N = 2, LONG = 5000, SHORT = 70 };

struct values {
    float of[N][LONG];
};

struct model {
    int32_t device;
    maw_optimizer *o;
    struct values param, grad; /* the CPU's own */
    maw_device_buffer *buffers[2 * N];
    void *params[N];
    const void *grads[N];
};

/* Options of a small attention module on this device. */
maw_options small_options(int32_t device);
/* Registers the tensors without preparing. */
maw_optimizer *registered(const maw_options *options);
/* Registered, with its parameters where they start and zeros as gradients. */
struct model *model_new(const maw_options *options);
/* Frees all of it; the stream must be done. */
void model_free(struct model *m);
size_t bytes_of(int tensor);
void get_params(const struct model *m, struct values *out);
void set_params(struct model *m, const struct values *params);
void set_grads(struct model *m, const struct values *grads);
/* The loss of a batch (MAW_BATCH_...) at these parameters, and its gradient unless that is NULL. */
double loss_of(int32_t batch, const struct values *params, struct values *grad);
/* The gradient of step number `step` at the current parameters. */
void feed(struct model *m, int step);
/* feed, then a step with a report. */
void train(struct model *m, int first, int steps);
maw_step_report fetched(const struct model *m);
uint64_t steps_of(const struct model *m);
/* A meta-update, which must end with MAW_OUTCOME_UPDATED and restore the parameters' bits. */
maw_meta_result meta_update(struct model *m);
int same_bits(const struct values *a, const struct values *b);
/* Saves the run; to be freed with maw_bytes_free. */
maw_bytes *saved(const struct model *m);
int same_bytes(const maw_bytes *a, const maw_bytes *b);
/* Whether two models have the same parameters and the same run, bit for bit. */
int same_run(const struct model *a, const struct model *b);

/* ----------------------------------------------------------- the driver ---- */

/* Finds the driver and makes the context of device 0 current, as a host would. */
void driver_open(void);
void *stream_new(void);
void stream_wait(void *stream);
void stream_free(void *stream);
void capture_begin(void *stream);
/* The captured work, ready to be replayed. */
void *capture_end(void *stream);
void graph_replay(void *graph, void *stream);
void graph_free(void *graph);
/* Pinned host memory. */
void *pinned_new(size_t bytes);
void pinned_free(void *memory);
/* A kernel of the host's own that writes where it must not. */
void launch_wrong_kernel(void);

/* control.h of the emulator. */
long emulator_count(const char *name);
void emulator_fail(const char *function, long nth, int result);
void emulator_fail_launch(long nth, int result);
void emulator_reset(void);

#endif
