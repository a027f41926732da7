/* Optimizers and threads: different optimizers are independent, one may be used from thread to thread, and one that
 * several threads use at once returns MAW_BUSY to all but one of them and counts the steps it made. */
#include <metaadamw.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH = 300000, THREADS = 4, STEPS = 5, WANTED = 50 }; /* a step uses a pool from 262,144 elements on */

static void expect(int holds, int line, const char *what) {
    if (!holds) {
        fprintf(stderr, "threads.c:%d: %s is not so\n", line, what);
        exit(EXIT_FAILURE);
    }
}
#define EXPECT(condition) expect((condition), __LINE__, #condition)

struct run {
    maw_optimizer *optimizer;
    float param[LENGTH], grad[LENGTH];
    uint64_t done, busy;
};

static struct run *new_run(void) {
    static const uint64_t shape[] = {LENGTH};
    struct run *run = calloc(1, sizeof *run);
    maw_options options;
    maw_param_group group;
    maw_tensor tensor;
    EXPECT(run != NULL);
    maw_options_init(&options, sizeof options);
    options.threads = 3; /* all optimizers have the same pool */
    options.attn_layers = 1;
    maw_param_group_init(&group, sizeof group);
    maw_tensor_init(&tensor, sizeof tensor);
    tensor.name = "weight";
    tensor.shape = shape;
    tensor.ndim = 1;
    EXPECT(maw_optimizer_create(&options, &run->optimizer, NULL) == MAW_OK);
    EXPECT(maw_add_param_group(run->optimizer, &group, &tensor, 1, NULL, NULL) == MAW_OK);
    EXPECT(maw_prepare(run->optimizer, NULL) == MAW_OK);
    for (size_t i = 0; i < LENGTH; i++) {
        run->param[i] = 0.001f * (float)(i % 100);
        run->grad[i] = 0.01f * (float)(i % 7) - 0.02f;
    }
    return run;
}

static maw_status step(struct run *run) {
    void *params[] = {run->param};
    const void *grads[] = {run->grad};
    return maw_step(run->optimizer, params, grads, 1, NULL, NULL, NULL);
}

static void meta_update(struct run *run) {
    void *params[] = {run->param};
    const void *grads[] = {run->grad};
    maw_meta_request request;
    maw_meta_answer answer;
    maw_meta_request_init(&request, sizeof request);
    maw_meta_answer_init(&answer, sizeof answer);
    EXPECT(maw_meta_begin(run->optimizer, params, 1, &request, NULL) == MAW_OK);
    while (request.kind != MAW_META_DONE) {
        answer.request_id = request.id;
        answer.loss = 1.0;
        EXPECT(maw_meta_tell(run->optimizer, &answer, params, grads, 1, &request, NULL) == MAW_OK);
    }
}

static void free_run(struct run *run) {
    EXPECT(maw_optimizer_free(run->optimizer) == MAW_OK);
    free(run);
}

static void *some_steps(void *argument) {
    struct run *run = argument;
    for (int i = 0; i < STEPS; i++)
        EXPECT(step(run) == MAW_OK);
    meta_update(run);
    EXPECT(step(run) == MAW_OK);
    return NULL;
}

static struct run *alone(uint64_t steps) {
    struct run *run = new_run();
    while (run->done < steps && step(run) == MAW_OK)
        run->done++;
    EXPECT(run->done == steps);
    return run;
}

static int same(const struct run *a, const struct run *b) {
    return memcmp(a->param, b->param, sizeof a->param) == 0;
}

static void start(pthread_t *thread, void *(*work)(void *), void *argument) {
    EXPECT(pthread_create(thread, NULL, work, argument) == 0);
}

static void join(pthread_t thread) {
    EXPECT(pthread_join(thread, NULL) == 0);
}

/* ------------------------------------------------------------------------ */

static void different_optimizers_are_independent(void) {
    struct run *runs[THREADS], *reference = new_run();
    pthread_t threads[THREADS];
    some_steps(reference);
    for (int i = 0; i < THREADS; i++)
        start(&threads[i], some_steps, runs[i] = new_run());
    for (int i = 0; i < THREADS; i++) {
        join(threads[i]);
        EXPECT(same(runs[i], reference));
        free_run(runs[i]);
    }
    free_run(reference);
}

static void an_optimizer_moves_between_threads(void) {
    struct run *run = new_run(), *reference = new_run();
    pthread_t thread;
    for (int i = 0; i < THREADS; i++) {
        some_steps(reference);
        start(&thread, some_steps, run);
        join(thread);
    }
    EXPECT(same(run, reference));
    free_run(run);
    free_run(reference);
}

/* Each thread counts until all threads together have got enough of both statuses. */
static struct run *shared;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *contend(void *nothing) {
    (void)nothing;
    for (int enough = 0; !enough;) {
        maw_status status = step(shared);
        EXPECT(status == MAW_OK || status == MAW_BUSY);
        pthread_mutex_lock(&mutex);
        shared->done += status == MAW_OK;
        shared->busy += status == MAW_BUSY;
        enough = shared->done >= WANTED && shared->busy >= WANTED;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void one_optimizer_in_several_threads_is_busy_and_unharmed(void) {
    pthread_t threads[THREADS];
    uint64_t counted = 0;
    shared = new_run();
    for (int i = 0; i < THREADS; i++)
        start(&threads[i], contend, NULL);
    for (int i = 0; i < THREADS; i++)
        join(threads[i]);
    EXPECT(maw_step_count(shared->optimizer, &counted, NULL) == MAW_OK);
    EXPECT(counted == shared->done);
    struct run *reference = alone(counted);
    EXPECT(same(shared, reference));
    printf("threads: %d steps, %d times busy\n", (int)shared->done, (int)shared->busy);
    free_run(reference);
    free_run(shared);
}

int main(void) {
    different_optimizers_are_independent();
    an_optimizer_moves_between_threads();
    one_optimizer_in_several_threads_is_busy_and_unharmed();
    return EXIT_SUCCESS;
}
