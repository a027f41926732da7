/* Forecasts the weekly CO2 concentration at Mauna Loa from the 96 weeks before, with a small network (mlp.h) that is
 * trained twice by libmetaadamw: as plain AdamW (modulation = 0) and as MetaAdamW, from the same start and on the same
 * batches, for a few seeds. Then it prints the results of both.
 *
 *     forecast [--epochs N] [--seeds N]
 *
 * The windows, in the order of time:
 *     first 70 %  training: both optimizers; also B1 and B2 of the meta-updates
 *     next 10 %   held out: the validation batches of the meta-updates; AdamW does not use them
 *     last 20 %   validation: no optimizer uses it. The printed MSE is measured here after every epoch. The best epoch
 *                 and AdamW's learning rate are chosen here as well, which favors both, so the last epoch's MSE is
 *                 printed too. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include <metaadamw.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../data/co2_weekly.h"
#include "mlp.h"

enum {
    WINDOWS = CO2_WEEKS - MLP_INPUTS,
    TRAIN = WINDOWS * 7 / 10,
    HELD_OUT = WINDOWS / 10,
    VALIDATION = WINDOWS - TRAIN - HELD_OUT,
    BATCH = 64,
    STEPS_PER_EPOCH = TRAIN / BATCH, /* a last, smaller batch is left out */
    META_INTERVAL = 15,
    MAX_SEEDS = 100,
};

static maw_error *error; /* of the last call that failed */

/* Stops the program with the library's own message if a call fails. */
#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        maw_status status_ = (call);                                                                                   \
        if (status_ != MAW_OK)                                                                                         \
            fail(status_, __LINE__);                                                                                   \
    } while (0)

static void fail(maw_status status, int line) {
    fprintf(stderr, "forecast.c:%d: %s: %s\n", line, maw_status_name(status), error ? maw_error_message(error) : "");
    maw_error_free(error);
    exit(EXIT_FAILURE);
}

/* ---------------------------------------------------------------- data ---- */

static mlp_sample windows[WINDOWS];
static double ppm2; /* one unit of the network's squared error in ppm^2 */

/* Every window minus its last value (the series rises, its changes hardly do), divided by the training windows'
 * standard deviation. The mean stays: a prediction of 0 is "as last week". */
static void make_windows(void) {
    double past = 0.0, next = 0.0;
    for (size_t w = 0; w < WINDOWS; w++) {
        const float *series = &CO2_WEEKLY[w];
        for (size_t i = 0; i < MLP_INPUTS; i++)
            windows[w].past[i] = series[i] - series[MLP_INPUTS - 1];
        windows[w].next = series[MLP_INPUTS] - series[MLP_INPUTS - 1];
    }
    for (size_t w = 0; w < TRAIN; w++) {
        for (size_t i = 0; i < MLP_INPUTS; i++)
            past += (double)windows[w].past[i] * windows[w].past[i] / MLP_INPUTS / TRAIN;
        next += (double)windows[w].next * windows[w].next / TRAIN;
    }
    for (size_t w = 0; w < WINDOWS; w++) {
        for (size_t i = 0; i < MLP_INPUTS; i++)
            windows[w].past[i] /= (float)sqrt(past);
        windows[w].next /= (float)sqrt(next);
    }
    ppm2 = next;
}

/* Puts `count` of the numbers, drawn at random, in front. */
static void shuffle(size_t *numbers, size_t length, size_t count, uint64_t *random) {
    for (size_t i = 0; i < count; i++) {
        size_t j = i + (size_t)(random_bits(random) % (length - i)), kept = numbers[i];
        numbers[i] = numbers[j];
        numbers[j] = kept;
    }
}

static void count_up(size_t *numbers, size_t length, size_t first) {
    for (size_t i = 0; i < length; i++)
        numbers[i] = first + i;
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ------------------------------------------------- how the library is used ---- */

/* Pointers to the network's buffers. They do not change here, but could: every call takes them. */
typedef struct {
    void *params[MLP_TENSORS];
    const void *grads[MLP_TENSORS];
} buffers;

static maw_optimizer *create(int modulation, uint64_t seed, uint64_t total_steps) {
    maw_optimizer *optimizer = NULL;
    maw_options options;
    CHECK(maw_options_init(&options, sizeof options));
    options.modulation = (uint32_t)modulation;
    options.seed = seed;
    options.total_steps = total_steps;
    options.meta_interval = META_INTERVAL;
    options.meta_warmup = STEPS_PER_EPOCH;
    options.threads = 1; /* 10,433 parameters are too few for a second thread */
    CHECK(maw_optimizer_create(&options, &optimizer, &error));

    static const char *const names[MLP_TENSORS] = {"layers.0.weight", "layers.0.bias",   "layers.1.weight",
                                                   "layers.1.bias",   "layers.2.weight", "layers.2.bias"};
    maw_tensor tensors[MLP_TENSORS];
    uint64_t shapes[MLP_TENSORS][2];
    for (size_t t = 0; t < MLP_TENSORS; t++) {
        shapes[t][0] = MLP_WIDTH[t / 2 + 1];
        shapes[t][1] = MLP_WIDTH[t / 2];
        CHECK(maw_tensor_init(&tensors[t], sizeof tensors[t]));
        tensors[t].name = names[t];
        tensors[t].shape = shapes[t];
        tensors[t].ndim = t % 2 ? 1 : 2;
        tensors[t].layer_kind = MAW_LAYER_LINEAR;
    }
    maw_param_group group;
    CHECK(maw_param_group_init(&group, sizeof group));
    group.lr = 2e-3; /* AdamW's best of 3e-4, 5e-4, 1e-3, 2e-3 and 4e-3; MetaAdamW is not tuned */
    CHECK(maw_add_param_group(optimizer, &group, tensors, MLP_TENSORS, NULL, &error));
    CHECK(maw_prepare(optimizer, &error));
    return optimizer;
}

/* Answers the library's requests: the loss, and often the gradient, at the parameters now in the network's buffers. A
 * request with `replay` wants the batch of an earlier request; here each kind has only one batch. */
static void meta_update(maw_optimizer *optimizer, mlp *net, buffers *view, uint64_t *random) {
    static size_t train[TRAIN], held_out[HELD_OUT];
    count_up(train, TRAIN, 0);
    count_up(held_out, HELD_OUT, TRAIN);
    shuffle(train, TRAIN, 2 * BATCH, random); /* one draw, so that B1 and B2 are disjoint */
    shuffle(held_out, HELD_OUT, BATCH, random);

    maw_meta_request request;
    maw_meta_answer answer;
    CHECK(maw_meta_request_init(&request, sizeof request));
    CHECK(maw_meta_answer_init(&answer, sizeof answer));
    CHECK(maw_meta_begin(optimizer, view->params, MLP_TENSORS, &request, &error));
    while (request.kind != MAW_META_DONE) {
        const size_t *batch = request.batch == MAW_BATCH_TRAIN_1   ? train
                              : request.batch == MAW_BATCH_TRAIN_2 ? train + BATCH
                                                                   : held_out;
        answer.request_id = request.id;
        answer.loss = mlp_loss(net, windows, batch, BATCH, request.kind == MAW_META_GRADIENT);
        CHECK(maw_meta_tell(optimizer, &answer, view->params, view->grads, MLP_TENSORS, &request, &error));
    }
}

/* Result of a run: validation MSE of the best and of the last epoch in ppm^2, wall time. */
enum { BEST, LAST, SECONDS, MEASURES };

typedef struct {
    double measured[MEASURES];
    uint64_t meta_updates;
    size_t groups;
    char group[MLP_TENSORS][40];
    double alpha[MLP_TENSORS], beta[MLP_TENSORS];
} outcome;

static const char *const NAMES[2] = {"AdamW", "MetaAdamW"};

static outcome train(int modulation, uint64_t seed, size_t epochs) {
    static float memory[2][MLP_TENSORS][MLP_WIDEST * MLP_WIDEST];
    static size_t order[TRAIN], validation[VALIDATION];
    mlp net;
    buffers view;
    for (size_t t = 0; t < MLP_TENSORS; t++) {
        view.params[t] = net.param[t] = memory[0][t];
        view.grads[t] = net.grad[t] = memory[1][t];
    }
    uint64_t order_random = seed, meta_random = ~seed; /* separate, so that both optimizers get the same batches */
    mlp_init(&net, seed);
    count_up(order, TRAIN, 0);
    count_up(validation, VALIDATION, TRAIN + HELD_OUT);

    outcome out = {.measured = {[BEST] = INFINITY}};
    double start = seconds_now();
    maw_optimizer *optimizer = create(modulation, seed, epochs * STEPS_PER_EPOCH);
    maw_meta_result meta;
    CHECK(maw_meta_result_init(&meta, sizeof meta));
    for (size_t epoch = 1; epoch <= epochs; epoch++) {
        double loss = 0.0;
        shuffle(order, TRAIN, TRAIN, &order_random);
        for (size_t step = 0; step < STEPS_PER_EPOCH; step++) {
            loss += mlp_loss(&net, windows, &order[step * BATCH], BATCH, 1) / STEPS_PER_EPOCH;
            CHECK(maw_step(optimizer, view.params, view.grads, MLP_TENSORS, NULL, NULL, &error));
            if (maw_meta_due(optimizer))
                meta_update(optimizer, &net, &view, &meta_random);
        }
        out.measured[LAST] = ppm2 * mlp_loss(&net, windows, validation, VALIDATION, 0);
        out.measured[BEST] = fmin(out.measured[BEST], out.measured[LAST]);
        CHECK(maw_meta_result_get(optimizer, &meta, &error));
        if (epoch == 1 || epoch % 10 == 0 || epoch == epochs)
            printf("seed %" PRIu64 "  %-9s  epoch %3zu  MSE: train %.4f  validation %.4f  meta-updates %" PRIu64 "\n",
                   seed, NAMES[modulation], epoch, ppm2 * loss, out.measured[LAST], meta.updates);
    }
    out.measured[SECONDS] = seconds_now() - start;
    out.meta_updates = meta.updates;
    CHECK(maw_group_count(optimizer, &out.groups, &error));
    CHECK(maw_factors(optimizer, out.alpha, out.beta, NULL, NULL, out.groups, &error));
    for (size_t g = 0; g < out.groups; g++) {
        const char *name = NULL; /* borrowed, valid until the optimizer is freed */
        CHECK(maw_group_name(optimizer, g, &name, &error));
        snprintf(out.group[g], sizeof out.group[g], "%s", name);
    }
    CHECK(maw_optimizer_free(optimizer));
    return out;
}

/* -------------------------------------------------------------- results ---- */

/* Mean and standard deviation over n outcomes. */
static void print_spread(const outcome *outcomes, size_t n, int measure) {
    double mean = 0.0, square = 0.0;
    for (size_t i = 0; i < n; i++)
        mean += outcomes[i].measured[measure] / (double)n;
    for (size_t i = 0; i < n; i++)
        square += pow(outcomes[i].measured[measure] - mean, 2.0);
    printf("  %8.4f +- %6.4f", mean, n > 1 ? sqrt(square / (double)(n - 1)) : 0.0);
}

static size_t number(const char *text, size_t most) {
    char *end = NULL;
    unsigned long value = text ? strtoul(text, &end, 10) : 0;
    if (value < 1 || value > most || *end != '\0') {
        fprintf(stderr, "usage: forecast [--epochs N] [--seeds N]; here N is 1 to %zu\n", most);
        exit(EXIT_FAILURE);
    }
    return (size_t)value;
}

int main(int argc, char **argv) {
    static outcome outcomes[2][MAX_SEEDS];
    size_t epochs = 60, seeds = 5;
    for (int i = 1; i < argc; i += 2) /* argv[argc] is NULL */
        if (strcmp(argv[i], "--epochs") == 0)
            epochs = number(argv[i + 1], 100000);
        else if (strcmp(argv[i], "--seeds") == 0)
            seeds = number(argv[i + 1], MAX_SEEDS);
        else
            number(NULL, MAX_SEEDS);

    make_windows();
    double persistence = 0.0;
    for (size_t w = TRAIN + HELD_OUT; w < WINDOWS; w++)
        persistence += ppm2 * windows[w].next * windows[w].next / VALIDATION;
    printf("libmetaadamw %s: %d weeks, windows of %d: %d to train, %d held out, %d to validate\n", maw_version(),
           CO2_WEEKS, MLP_INPUTS, TRAIN, HELD_OUT, VALIDATION);
    for (size_t s = 0; s < seeds; s++)
        for (int modulation = 0; modulation < 2; modulation++)
            outcomes[modulation][s] = train(modulation, s + 1, epochs);

    printf("\n%zu seeds (mean +- standard deviation), %zu epochs; MSE in ppm^2; \"as last week\" has %.4f\n\n", seeds,
           epochs, persistence);
    printf("%-9s  %18s  %18s  %18s  %12s\n", "", "best validation", "last validation", "seconds", "meta-updates");
    for (int modulation = 0; modulation < 2; modulation++) {
        printf("%-9s", NAMES[modulation]);
        for (int measure = 0; measure < MEASURES; measure++)
            print_spread(outcomes[modulation], seeds, measure);
        printf("  %12" PRIu64 "\n", outcomes[modulation][0].meta_updates);
    }
    printf("\nMetaAdamW - AdamW, best validation, seed by seed:");
    for (size_t s = 0; s < seeds; s++)
        printf(" %+.4f", outcomes[1][s].measured[BEST] - outcomes[0][s].measured[BEST]);
    const outcome *last = &outcomes[1][seeds - 1];
    printf("\n\nMetaAdamW's factors at the end, seed %zu\n\n%-28s  %6s  %6s\n", seeds, "group", "alpha", "beta");
    for (size_t g = 0; g < last->groups; g++)
        printf("%-28s  %6.4f  %6.4f\n", last->group[g], last->alpha[g], last->beta[g]);
    return EXIT_SUCCESS;
}
