/* A C program that captures a step into a CUDA graph: replays with a changing learning rate have the bits of eager
 * steps, and calls that cannot be captured are refused and leave the capture intact. */
#include "cuda_host.h"

enum { STEPS = 200, META_AT = 100 };

static void change(struct model *m, int step) {
    CHECK(maw_set_lr(m->o, MAW_ALL_GROUPS, 0.02 / (1 + step), &error));
    if (step % 20 == 0) {
        const double priorities[3] = {1.0, step, 2.0};
        CHECK(maw_set_weight_decay(m->o, 0, 1e-4 * step, &error));
        CHECK(maw_set_priorities(m->o, priorities, &error));
    }
}

/* The first step by itself, then STEPS more: replayed, or one by one. */
static struct model *run(int replayed, void *stream) {
    const maw_options options = small_options(MAW_CUDA);
    struct model *m = model_new(&options);
    void *graph = NULL;
    CHECK(maw_set_stream(m->o, stream, &error));
    feed(m, 0);
    CHECK(maw_step(m->o, m->params, m->grads, N, NULL, NULL, &error));
    if (replayed) {
        capture_begin(stream);
        CHECK(maw_step(m->o, m->params, m->grads, N, NULL, NULL, &error));
        graph = capture_end(stream);
    }
    for (int step = 1; step <= STEPS; step++) {
        if (step % 50 == 0) {
            stream_wait(stream); /* the buffers are uploaded in another stream */
            feed(m, step);
        }
        if (step == META_AT)
            meta_update(m);
        change(m, step);
        if (replayed)
            graph_replay(graph, stream);
        else
            CHECK(maw_step(m->o, m->params, m->grads, N, NULL, NULL, &error));
    }
    TRUE(fetched(m).step == STEPS + 1 && steps_of(m) == STEPS + 1);
    if (replayed)
        graph_free(graph);
    return m;
}

static void replays_have_the_bits_of_steps(void) {
    void *stream = stream_new();
    struct model *replayed = run(1, stream), *made = run(0, stream);
    TRUE(same_run(replayed, made));
    const maw_options options = small_options(MAW_CUDA);
    struct model *start = model_new(&options);
    TRUE(!same_run(replayed, start));
    model_free(start);
    model_free(replayed);
    model_free(made);
    stream_free(stream);
}

#define NOT_CAPTURED(call) REFUSED(MAW_INVALID_STATE, "is being captured into a CUDA graph", call)

static void what_cannot_be_captured_is_refused(void) {
    const maw_options options = small_options(MAW_CUDA);
    struct model *m = model_new(&options), *elsewhere = model_new(&options);
    void *stream = stream_new();
    maw_step_report report;
    maw_meta_request request;
    maw_bytes *bytes = NULL, *before;
    uint64_t steps;
    CHECK(maw_step_report_init(&report, sizeof report));
    CHECK(maw_meta_request_init(&request, sizeof request));
    CHECK(maw_set_stream(m->o, stream, &error));
    feed(m, 0);
    feed(elsewhere, 0);

    capture_begin(stream);
    NOT_CAPTURED(maw_step(m->o, m->params, m->grads, N, NULL, NULL, &error)); /* the first one */
    NOT_CAPTURED(maw_prepare(m->o, &error));
    graph_free(capture_end(stream));

    CHECK(maw_step(m->o, m->params, m->grads, N, NULL, NULL, &error));
    before = saved(m);
    capture_begin(stream);
    REFUSED(MAW_INVALID_STATE, "whose pointers are not those of a step before",
            maw_step(m->o, elsewhere->params, m->grads, N, NULL, NULL, &error));
    REFUSED(MAW_INVALID_STATE, "whose pointers are not those of a step before",
            maw_step(m->o, m->params, elsewhere->grads, N, NULL, NULL, &error));
    REFUSED(MAW_INVALID_STATE, "the report of a step (pass NULL)",
            maw_step(m->o, m->params, m->grads, N, NULL, &report, &error));
    NOT_CAPTURED(maw_step_report_fetch(m->o, MAW_FETCH_WAIT, &report, &error));
    NOT_CAPTURED(maw_step_count(m->o, &steps, &error));
    NOT_CAPTURED(maw_set_lr(m->o, 0, 0.5, &error));
    NOT_CAPTURED(maw_save_bytes(m->o, 0, &bytes, &error));
    NOT_CAPTURED(maw_load_bytes(m->o, maw_bytes_data(before), maw_bytes_size(before), 0, &error));
    NOT_CAPTURED(maw_reset(m->o, MAW_RESET_MOMENTS, &error));
    NOT_CAPTURED(maw_meta_begin(m->o, m->params, N, &request, &error));
    CHECK(maw_step(m->o, m->params, m->grads, N, NULL, NULL, &error));
    NOT_CAPTURED(maw_set_stream(m->o, NULL, &error));
    void *graph = capture_end(stream);
    bytes = saved(m);
    TRUE(same_bytes(bytes, before)); /* a captured step is not executed */
    maw_bytes_free(bytes);
    maw_bytes_free(before);

    graph_replay(graph, stream);
    struct model *made = model_new(&options);
    feed(made, 0);
    CHECK(maw_step(made->o, made->params, made->grads, N, NULL, NULL, &error));
    CHECK(maw_step(made->o, made->params, made->grads, N, NULL, NULL, &error));
    TRUE(steps_of(m) == 2 && same_run(m, made));
    graph_free(graph);
    model_free(made);
    model_free(elsewhere);
    model_free(m);
    stream_free(stream);
}

int main(void) {
    driver_open();
    const long live = emulator_count("live");
    replays_have_the_bits_of_steps();
    what_cannot_be_captured_is_refused();
    TRUE(emulator_count("live") == live);
    puts("cuda_graphs: ok");
    return EXIT_SUCCESS;
}
