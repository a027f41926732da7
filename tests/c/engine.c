/* The library in a C engine of the usual kind: all parameters in one block of memory, all gradients in another, forward
 * and backward pass by hand. docs/own_engine.md shows parts of this file. With modulation off the losses must be those of
 * the engine's own AdamW; with it on a meta-update must leave the parameters' bits as they were. */
#include <metaadamw.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 4, CHANNELS = 16, WIDTH = 32, ROWS = 24, STEPS = 40, BATCHES = 8, INTERVAL = 10 };

static void fail(const char *what) {
    fprintf(stderr, "engine.c: %s\n", what);
    exit(EXIT_FAILURE);
}

/* ------------------------------------------------------------- the engine ---- */

/* The block, in this order: names and shapes of the tensors; those of the layers come LAYERS times. */
static const struct {
    const char *name;
    uint64_t rows, columns;
    int layers;
} layout[] = {
    {"layers.%d.mlp.up.weight", WIDTH, CHANNELS, LAYERS},
    {"layers.%d.mlp.up.bias", WIDTH, 1, LAYERS},
    {"layers.%d.mlp.down.weight", CHANNELS, WIDTH, LAYERS},
    {"head.weight", 1, CHANNELS, 1},
};
enum {
    KINDS = sizeof layout / sizeof *layout,
    SLICES = 3 * LAYERS + 1,
    UP = 0,
    BIAS = UP + LAYERS * WIDTH * CHANNELS,
    DOWN = BIAS + LAYERS * WIDTH,
    HEAD = DOWN + LAYERS * CHANNELS * WIDTH,
    PARAMETERS = HEAD + CHANNELS
};

typedef struct {
    float x[ROWS][CHANNELS], y[ROWS];
} Batch;

typedef struct {
    float *params, *grads;                            /* PARAMETERS each */
    float acts[ROWS][LAYERS + 1][CHANNELS];           /* input of each layer, and the last one's output */
    float hidden[ROWS][LAYERS][WIDTH], off[ROWS];
} Model;

static float uniform(uint64_t *random) { /* splitmix64, -1 to 1 */
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (float)((double)((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1.0);
}

static void make_batch(Batch *batch, uint64_t seed) {
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < CHANNELS; c++)
            batch->x[r][c] = uniform(&seed);
        batch->y[r] = sinf(3 * batch->x[r][0]) + batch->x[r][1] * batch->x[r][2];
    }
}

static void make_model(Model *model) {
    uint64_t random = 5;
    model->params = malloc(PARAMETERS * sizeof(float));
    model->grads = calloc(PARAMETERS, sizeof(float));
    if (!model->params || !model->grads)
        fail("no memory");
    for (int i = 0; i < PARAMETERS; i++)
        model->params[i] = 0.2f * uniform(&random);
}

static void free_model(Model *model) {
    free(model->params);
    free(model->grads);
}

static float forward(Model *model, const Batch *batch) {
    const float *p = model->params;
    float loss = 0;
    for (int r = 0; r < ROWS; r++) {
        memcpy(model->acts[r][0], batch->x[r], sizeof batch->x[r]);
        for (int l = 0; l < LAYERS; l++) {
            const float *up = p + UP + l * WIDTH * CHANNELS, *down = p + DOWN + l * CHANNELS * WIDTH;
            const float *in = model->acts[r][l];
            for (int w = 0; w < WIDTH; w++) {
                float sum = p[BIAS + l * WIDTH + w];
                for (int c = 0; c < CHANNELS; c++)
                    sum += up[w * CHANNELS + c] * in[c];
                model->hidden[r][l][w] = tanhf(sum);
            }
            for (int c = 0; c < CHANNELS; c++) {
                float sum = in[c];
                for (int w = 0; w < WIDTH; w++)
                    sum += down[c * WIDTH + w] * model->hidden[r][l][w];
                model->acts[r][l + 1][c] = sum;
            }
        }
        model->off[r] = -batch->y[r];
        for (int c = 0; c < CHANNELS; c++)
            model->off[r] += p[HEAD + c] * model->acts[r][LAYERS][c];
        loss += model->off[r] * model->off[r] / ROWS;
    }
    return loss;
}

static void zero_grad(Model *model) { memset(model->grads, 0, PARAMETERS * sizeof(float)); }

static void backward(Model *model) { /* adds to the gradients */
    const float *p = model->params;
    float *g = model->grads;
    for (int r = 0; r < ROWS; r++) {
        float above[CHANNELS];
        for (int c = 0; c < CHANNELS; c++) {
            above[c] = 2 * model->off[r] / ROWS * p[HEAD + c];
            g[HEAD + c] += 2 * model->off[r] / ROWS * model->acts[r][LAYERS][c];
        }
        for (int l = LAYERS - 1; l >= 0; l--) {
            const int up = UP + l * WIDTH * CHANNELS, down = DOWN + l * CHANNELS * WIDTH;
            float inner[WIDTH];
            for (int w = 0; w < WIDTH; w++) {
                const float hidden = model->hidden[r][l][w];
                float sum = 0;
                for (int c = 0; c < CHANNELS; c++) {
                    sum += p[down + c * WIDTH + w] * above[c];
                    g[down + c * WIDTH + w] += above[c] * hidden;
                }
                inner[w] = sum * (1 - hidden * hidden);
                g[BIAS + l * WIDTH + w] += inner[w];
            }
            for (int w = 0; w < WIDTH; w++)
                for (int c = 0; c < CHANNELS; c++) {
                    g[up + w * CHANNELS + c] += inner[w] * model->acts[r][l][c];
                    above[c] += p[up + w * CHANNELS + c] * inner[w];
                }
        }
    }
}

/* ------------------------------------- what the engine had: AdamW of its own ---- */

static void adamw(Model *model, float *m, float *v, int t, float lr, float decay) {
    for (int i = 0; i < PARAMETERS; i++) {
        const float g = model->grads[i];
        m[i] = 0.9f * m[i] + 0.1f * g;
        v[i] = 0.999f * v[i] + 0.001f * g * g;
        const float m_hat = m[i] / (1 - powf(0.9f, (float)t)), v_hat = v[i] / (1 - powf(0.999f, (float)t));
        model->params[i] -= lr * (m_hat / (sqrtf(v_hat) + 1e-8f) + decay * model->params[i]);
    }
}

/* ------------------------------------------------- what it has now: ours ---- */

typedef struct {
    maw_optimizer *handle;
    void *params[SLICES];      /* where each tensor is in the block of parameters */
    const void *grads[SLICES]; /* and in that of the gradients */
} Optimizer;

static maw_error *error;

static void check(maw_status status) {
    if (status != MAW_OK) {
        fprintf(stderr, "%s: %s\n", maw_status_name(status), maw_error_message(error));
        exit(EXIT_FAILURE);
    }
}

static void make_optimizer(Optimizer *optimizer, const maw_options *options, Model *model) {
    maw_tensor tensors[SLICES];
    char names[SLICES][64];
    uint64_t shapes[SLICES][2];
    maw_param_group group;
    size_t slice = 0, at = 0;

    for (int kind = 0; kind < KINDS; kind++)
        for (int layer = 0; layer < layout[kind].layers; layer++, slice++) {
            snprintf(names[slice], sizeof names[slice], layout[kind].name, layer);
            shapes[slice][0] = layout[kind].rows;
            shapes[slice][1] = layout[kind].columns;
            check(maw_tensor_init(&tensors[slice], sizeof tensors[slice]));
            tensors[slice].name = names[slice];
            tensors[slice].shape = shapes[slice];
            tensors[slice].ndim = layout[kind].columns > 1 ? 2 : 1;
            optimizer->params[slice] = model->params + at;
            optimizer->grads[slice] = model->grads + at;
            at += layout[kind].rows * layout[kind].columns;
        }
    check(maw_optimizer_create(options, &optimizer->handle, &error));
    check(maw_param_group_init(&group, sizeof group));
    group.lr = 1e-2;
    group.weight_decay = 0.1;
    check(maw_add_param_group(optimizer->handle, &group, tensors, SLICES, NULL, &error));
}

static void update(Optimizer *optimizer) {
    check(maw_step(optimizer->handle, optimizer->params, optimizer->grads, SLICES, NULL, NULL, &error));
}

static void meta_update(Optimizer *optimizer, Model *model, const Batch *batches) { /* B1, B2, validation */
    maw_meta_request request;
    maw_meta_answer answer;
    check(maw_meta_request_init(&request, sizeof request));
    check(maw_meta_answer_init(&answer, sizeof answer));
    check(maw_meta_begin(optimizer->handle, optimizer->params, SLICES, &request, &error));
    while (request.kind != MAW_META_DONE) {
        answer.request_id = request.id;
        answer.loss = forward(model, &batches[request.batch - MAW_BATCH_TRAIN_1]);
        if (request.kind == MAW_META_GRADIENT) {
            zero_grad(model);
            backward(model);
        }
        check(maw_meta_tell(optimizer->handle, &answer, optimizer->params, optimizer->grads, SLICES, &request, &error));
    }
}

/* ------------------------------------------------------------- the checks ---- */

static Batch batches[BATCHES + 3]; /* of training; B1, B2 and the validation batch of the meta-updates */

static void losses_are_those_of_the_engines_own_adamw(void) {
    static Model ours, theirs;
    static float m[PARAMETERS], v[PARAMETERS];
    Optimizer optimizer;
    maw_options options;
    make_model(&ours);
    make_model(&theirs);
    check(maw_options_init(&options, sizeof options));
    options.modulation = 0;
    make_optimizer(&optimizer, &options, &ours);
    float first = 0, last = 0;
    for (int step = 1; step <= STEPS; step++) {
        const Batch *batch = &batches[step % BATCHES];
        const float loss = forward(&ours, batch), expected = forward(&theirs, batch);
        if (!(fabsf(loss - expected) <= 1e-5f)) /* the engine computes in float32 throughout */
            fail("a loss differs from that of the engine's own AdamW");
        first = step == 1 ? loss : first;
        last = loss;
        zero_grad(&ours);
        backward(&ours);
        update(&optimizer);
        zero_grad(&theirs);
        backward(&theirs);
        adamw(&theirs, m, v, step, 1e-2f, 0.1f);
    }
    if (!(last < 0.8f * first))
        fail("the loss did not fall");
    check(maw_optimizer_free(optimizer.handle));
    free_model(&ours);
    free_model(&theirs);
}

static void a_meta_update_leaves_the_parameters(void) {
    static Model model;
    static float before[PARAMETERS];
    Optimizer optimizer;
    maw_options options;
    maw_meta_result result;
    make_model(&model);
    check(maw_options_init(&options, sizeof options));
    options.total_steps = STEPS;
    options.meta_interval = INTERVAL;
    make_optimizer(&optimizer, &options, &model);
    for (int step = 1; step <= STEPS; step++) {
        forward(&model, &batches[step % BATCHES]);
        zero_grad(&model);
        backward(&model);
        update(&optimizer);
        memcpy(before, model.params, sizeof before);
        if (maw_meta_due(optimizer.handle))
            meta_update(&optimizer, &model, batches + BATCHES);
        if (memcmp(before, model.params, sizeof before) != 0)
            fail("a meta-update changed a parameter");
    }
    check(maw_meta_result_init(&result, sizeof result));
    check(maw_meta_result_get(optimizer.handle, &result, &error));
    if (result.updates != STEPS / INTERVAL || result.outcome != MAW_OUTCOME_UPDATED)
        fail("the meta-updates were not made");
    check(maw_optimizer_free(optimizer.handle));
    free_model(&model);
}

int main(void) {
    for (uint64_t b = 0; b < BATCHES + 3; b++)
        make_batch(&batches[b], b + 1);
    losses_are_those_of_the_engines_own_adamw();
    a_meta_update_leaves_the_parameters();
    return EXIT_SUCCESS;
}
