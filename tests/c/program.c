/* An ordinary program: it fits a line to noisy points with MetaAdamW, using most of the library, and checks the
 * results. Two runs with the same seed must end with the same bits. */
#include <metaadamw.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS = 8, SAMPLES = 48, STEPS = 300, INTERVAL = 25 };

static maw_error *error;

#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        maw_status status_ = (call);                                                                                   \
        if (status_ != MAW_OK)                                                                                         \
            stop(__LINE__, #call, maw_status_name(status_), error ? maw_error_message(error) : "");                    \
    } while (0)
#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            stop(__LINE__, #condition, "is not so", "");                                                               \
    } while (0)

static void stop(int line, const char *what, const char *how, const char *message) {
    fprintf(stderr, "program.c:%d: %s: %s: %s\n", line, what, how, message);
    maw_error_free(error);
    exit(EXIT_FAILURE);
}

/* ---------------------------------------------------------------- model ---- */

struct model {
    float weight[INPUTS]; /* tensor 0 */
    double bias;          /* tensor 1 */
};

static double uniform(uint64_t *random) { /* splitmix64, -1 to 1 */
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1.0;
}

static struct sample {
    double x[INPUTS], y;
} samples[SAMPLES];

static void make_samples(void) {
    uint64_t random = 1;
    for (size_t s = 0; s < SAMPLES; s++) {
        samples[s].y = 0.7 + 0.01 * uniform(&random);
        for (size_t i = 0; i < INPUTS; i++) {
            samples[s].x[i] = uniform(&random);
            samples[s].y += samples[s].x[i] * (0.25 * (double)i - 1.0);
        }
    }
}

/* Mean squared error on a batch (a third of the samples; 0: both training batches together) and its gradient. */
static double evaluate(const struct model *model, struct model *grad, int32_t batch) {
    const size_t third = SAMPLES / 3, first = batch == 0 ? 0 : (size_t)(batch - 1) * third;
    const size_t count = batch == 0 ? 2 * third : third;
    double loss = 0.0, slope[INPUTS] = {0.0};
    memset(grad, 0, sizeof *grad);
    for (size_t s = first; s < first + count; s++) {
        double off = model->bias - samples[s].y;
        for (size_t i = 0; i < INPUTS; i++)
            off += model->weight[i] * samples[s].x[i];
        loss += off * off / (double)count;
        grad->bias += 2.0 * off / (double)count;
        for (size_t i = 0; i < INPUTS; i++)
            slope[i] += 2.0 * off * samples[s].x[i] / (double)count;
    }
    for (size_t i = 0; i < INPUTS; i++)
        grad->weight[i] = (float)slope[i];
    return loss;
}

/* ------------------------------------------------------------- optimizer ---- */

static maw_optimizer *make_optimizer(void) {
    static const uint64_t length[] = {INPUTS};
    maw_optimizer *optimizer = NULL;
    maw_options options;
    maw_param_group group;
    maw_tensor tensor;
    uint32_t index = 99;
    size_t count = 0;

    CHECK(maw_options_init(&options, sizeof options));
    options.seed = 11;
    options.total_steps = STEPS;
    options.meta_interval = INTERVAL;
    options.meta_lr = 1e-2;
    options.max_grad_norm = 10.0;
    options.grouping = MAW_GROUPING_BY_PARAM_GROUP;
    options.threads = 2;
    CHECK(maw_optimizer_create(&options, &optimizer, &error));

    CHECK(maw_param_group_init(&group, sizeof group));
    group.lr = 0.03;
    CHECK(maw_tensor_init(&tensor, sizeof tensor));
    tensor.name = "line.weight";
    tensor.shape = length;
    tensor.ndim = 1;
    CHECK(maw_add_param_group(optimizer, &group, &tensor, 1, &index, &error));
    EXPECT(index == 0);
    group.weight_decay = 0.0;
    CHECK(maw_tensor_init(&tensor, sizeof tensor));
    tensor.name = "line.bias";
    tensor.dtype = MAW_FLOAT64;
    CHECK(maw_add_param_group(optimizer, &group, &tensor, 1, &index, &error));
    EXPECT(index == 1);
    CHECK(maw_prepare(optimizer, &error));
    CHECK(maw_tensor_count(optimizer, &count, &error));
    EXPECT(count == 2);
    CHECK(maw_param_group_count(optimizer, &count, &error));
    EXPECT(count == 2);
    return optimizer;
}

static void meta_update(maw_optimizer *optimizer, struct model *model, uint64_t updates) {
    const struct model before = *model;
    struct model grad;
    void *params[] = {model->weight, &model->bias};
    const void *grads[] = {grad.weight, &grad.bias};
    maw_meta_request request;
    maw_meta_answer answer;
    maw_meta_result result;
    CHECK(maw_meta_request_init(&request, sizeof request));
    CHECK(maw_meta_answer_init(&answer, sizeof answer));
    CHECK(maw_meta_result_init(&result, sizeof result));
    CHECK(maw_meta_begin(optimizer, params, 2, &request, &error));
    EXPECT(maw_meta_due(optimizer) == 0);
    while (request.kind != MAW_META_DONE) {
        answer.request_id = request.id;
        answer.loss = evaluate(model, &grad, request.batch);
        CHECK(maw_meta_tell(optimizer, &answer, params, grads, 2, &request, &error));
    }
    EXPECT(memcmp(&before, model, sizeof before) == 0);
    CHECK(maw_meta_result_get(optimizer, &result, &error));
    EXPECT(result.outcome == MAW_OUTCOME_UPDATED && result.updates == updates && isfinite(result.loss_meta));
}

static void look_at(const maw_optimizer *optimizer) {
    const char *name = NULL;
    size_t groups = 0, group = 99, dim = 0, entries = 0;
    double alpha[2], beta[2], lambda1[2], lambda2[2], features[16];
    CHECK(maw_tensor_name(optimizer, 1, &name, &error));
    EXPECT(strcmp(name, "line.bias") == 0);
    CHECK(maw_group_count(optimizer, &groups, &error));
    CHECK(maw_tensor_group(optimizer, 1, &group, &error));
    CHECK(maw_group_name(optimizer, group, &name, &error));
    EXPECT(groups == 2 && group == 1 && strcmp(name, "param_group.1") == 0);
    CHECK(maw_factors(optimizer, alpha, beta, lambda1, lambda2, groups, &error));
    for (size_t g = 0; g < groups; g++) {
        EXPECT(alpha[g] > 0.5 && alpha[g] < 1.5 && beta[g] > 0.5 && beta[g] < 1.5);
        EXPECT(lambda1[g] > 0.0 && lambda1[g] < 1.0 && lambda2[g] > 0.0 && lambda2[g] < 1.0);
    }
    CHECK(maw_feature_dim(optimizer, &dim, &error));
    EXPECT(dim == 6);
    CHECK(maw_features(optimizer, features, groups * dim, &error));
    EXPECT(features[0] > 0.0 && isfinite(features[groups * dim - 1]));
    CHECK(maw_attention_count(optimizer, &entries, &error));
    EXPECT(entries > 10);
}

static struct model train(int chatty) {
    struct model model = {{0.0f}, 0.0}, grad;
    void *params[] = {model.weight, &model.bias};
    const void *grads[] = {grad.weight, &grad.bias};
    maw_optimizer *optimizer = make_optimizer();
    maw_step_options step;
    maw_step_report report;
    uint64_t updates = 0, steps = 0;
    double lr = 0.0;
    const double start = evaluate(&model, &grad, 0);
    CHECK(maw_step_options_init(&step, sizeof step));
    CHECK(maw_step_report_init(&report, sizeof report));
    for (uint64_t i = 1; i <= STEPS; i++) {
        evaluate(&model, &grad, 0);
        CHECK(maw_observe_gradient(optimizer, 1, &grad.bias, &error));
        CHECK(maw_step(optimizer, params, grads, 2, &step, &report, &error));
        EXPECT(report.step == i && report.skipped == 0 && report.clip_factor <= 1.0);
        if (i == STEPS / 2)
            CHECK(maw_set_lr(optimizer, MAW_ALL_GROUPS, 0.01, &error));
        EXPECT(maw_meta_due(optimizer) == (i % INTERVAL == 0));
        if (maw_meta_due(optimizer))
            meta_update(optimizer, &model, ++updates);
    }
    look_at(optimizer);
    const double end = evaluate(&model, &grad, 0);
    EXPECT(end < 1e-3 * start && fabs(model.bias - 0.7) < 0.05);
    CHECK(maw_get_lr(optimizer, 1, &lr, &error));
    CHECK(maw_step_count(optimizer, &steps, &error));
    EXPECT(lr == 0.01 && steps == STEPS);
    CHECK(maw_reset(optimizer, MAW_RESET_MOMENTS | MAW_RESET_ATTENTION, &error));
    CHECK(maw_step_count(optimizer, &steps, &error));
    EXPECT(steps == 0);
    CHECK(maw_optimizer_free(optimizer));
    if (chatty)
        printf("program: loss %.6f to %.6f, %d meta-updates\n", start, end, (int)updates);
    return model;
}

int main(void) {
    make_samples();
    const struct model first = train(1), second = train(0);
    EXPECT(memcmp(&first, &second, sizeof first) == 0);
    return EXIT_SUCCESS;
}
