/* The fixture of the rows: a small model, its optimizer in a known state, and everything observable of both. */
#include "misuse.h"

#include <stdarg.h>

size_t failures;

void fail(const char *file, int line, const char *call, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: %s: ", file, line, call);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    failures++;
}

static const char *const NAMES[N] = {"layers.0.attn.weight", "layers.0.attn.bias", "head.weight", "head.empty"};

/* The place of the GIVEN, and the error object of the fixture's own calls. */
static const char *place_file;
static int place_line;
static maw_error *object, **const error = &object;

/* Calls of the fixture itself must succeed; they may fail after rows that changed something. */
static int succeeds(const struct fixture *w, maw_status status, const char *call) {
    if (status != MAW_OK)
        fail(place_file, place_line, call, "of the fixture itself (state %d, kind %d): %s: %s", (int)w->state,
             (int)w->kind, maw_status_name(status), maw_error_message(object));
    maw_error_free(object);
    object = NULL;
    return status == MAW_OK;
}

#define SUCCEEDS(call) succeeds(w, (call), #call)

/* -------------------------------------------------------------- building ---- */

static void heard(int32_t level, const char *message, void *user_data) {
    struct fixture *w = user_data;
    (void)level, (void)message;
    if (w->on_log != NULL)
        w->on_log(w);
}

void create(struct fixture *w) {
    SUCCEEDS(maw_optimizer_create(&w->options, &w->o, error));
    if (w->kind == LOUD)
        SUCCEEDS(maw_set_log(w->o, heard, w, error));
}

static void describe(maw_tensor *tensor, const char *name, const uint64_t *shape, uint32_t ndim, int32_t dtype) {
    maw_tensor_init(tensor, sizeof *tensor);
    tensor->name = name;
    tensor->shape = shape;
    tensor->ndim = ndim;
    tensor->dtype = dtype;
}

void register_all(struct fixture *w) {
    static const uint64_t weight[] = {2, 3}, bias[] = {3}, head[] = {2, 2}, empty[] = {2, 0};
    static const char *const custom[N] = {"first", "second", "third", "third"};
    maw_tensor tensors[N];
    maw_param_group group;
    describe(&tensors[0], NAMES[0], weight, 2, MAW_FLOAT32);
    describe(&tensors[1], NAMES[1], bias, 1, MAW_FLOAT64);
    describe(&tensors[2], NAMES[2], head, 2, MAW_FLOAT32);
    describe(&tensors[3], NAMES[3], empty, 2, MAW_FLOAT32);
    for (size_t i = 0; i < N && w->kind == CUSTOM; i++)
        tensors[i].modulation_group = custom[i];
    maw_param_group_init(&group, sizeof group);
    group.lr = 0.05;
    SUCCEEDS(maw_add_param_group(w->o, &group, tensors, 2, NULL, error));
    group.lr = 0.02;
    group.weight_decay = 0.1;
    SUCCEEDS(maw_add_param_group(w->o, &group, tensors + 2, 2, NULL, error));
}

/* Half the squared distance to a target that depends on the batch. */
static double evaluate(struct fixture *w, int32_t batch) {
    double loss = 0.0;
#define TERMS(field)                                                                                                   \
    for (size_t i = 0; i < sizeof w->param.field / sizeof *w->param.field; i++) {                                      \
        double bend = 1.0 + 0.1 * (double)i, off = w->param.field[i] - 0.1 * (double)(i % 3) + 0.05 * batch;           \
        loss += 0.5 * bend * off * off;                                                                                \
        w->grad.field[i] = (float)(bend * off);                                                                        \
    }
    TERMS(weight)
    TERMS(bias)
    TERMS(head)
#undef TERMS
    return loss;
}

static int step(struct fixture *w, maw_step_report *report) {
    maw_step_report_init(report, sizeof *report);
    evaluate(w, MAW_BATCH_TRAIN_1);
    void *params[N] = {w->param.weight, w->param.bias, w->param.head, NULL};
    const void *grads[N] = {w->grad.weight, w->grad.bias, w->grad.head, NULL};
    return SUCCEEDS(maw_step(w->o, params, grads, N, NULL, report, error));
}

/* Answers until there is no open request. */
static int answer_all(struct fixture *w, maw_meta_request *request) {
    maw_meta_answer answer;
    maw_meta_answer_init(&answer, sizeof answer);
    void *params[N] = {w->param.weight, w->param.bias, w->param.head, NULL};
    const void *grads[N] = {w->grad.weight, w->grad.bias, w->grad.head, NULL};
    while (request->kind != MAW_META_DONE) {
        answer.request_id = request->id;
        answer.loss = evaluate(w, request->batch);
        if (!SUCCEEDS(maw_meta_tell(w->o, &answer, params, grads, N, request, error)))
            return 0;
    }
    return 1;
}

static int begin(struct fixture *w, maw_meta_request *request) {
    void *params[N] = {w->param.weight, w->param.bias, w->param.head, NULL};
    maw_meta_request_init(request, sizeof *request);
    return SUCCEEDS(maw_meta_begin(w->o, params, N, request, error));
}

/* Sets the arguments for rows. */
static void lay_out(struct fixture *w) {
    for (size_t i = 0; i < 6; i++)
        w->param.weight[i] = 0.2f * (float)i - 0.5f;
    for (size_t i = 0; i < 3; i++)
        w->param.bias[i] = 0.3 - 0.2 * (double)i;
    for (size_t i = 0; i < 4; i++)
        w->param.head[i] = 0.4f - 0.1f * (float)i;
    for (size_t i = 0; i < 16; i++)
        w->room[i] = 0.1f * (float)i;
    w->params[0] = w->param.weight, w->params[1] = w->param.bias, w->params[2] = w->param.head;
    w->grads[0] = w->grad.weight, w->grads[1] = w->grad.bias, w->grads[2] = w->grad.head;
    maw_param_group_init(&w->group, sizeof w->group);
    w->shape[0] = 2, w->shape[1] = 3;
    for (size_t i = 2; i < 65; i++)
        w->shape[i] = 1;
    describe(&w->tensors[0], "extra.weight", w->shape, 2, MAW_FLOAT32);
    describe(&w->tensors[1], "extra.bias", w->shape, 1, MAW_FLOAT64);
    if (w->kind == CUSTOM)
        w->tensors[0].modulation_group = w->tensors[1].modulation_group = "extra";
    maw_step_options_init(&w->step, sizeof w->step);
    maw_meta_answer_init(&w->answer, sizeof w->answer);
    memset(&w->out, 0x5A, sizeof w->out);
    w->out.report.struct_size = sizeof w->out.report;
    w->out.request.struct_size = sizeof w->out.request;
    w->out.result.struct_size = sizeof w->out.result;
    w->out.counters.struct_size = sizeof w->out.counters;
    maw_counters_init(&w->counters, sizeof w->counters);
    w->counters.step = 3;
    w->out.bytes = NULL;
}

static void choose_options(struct fixture *w) {
    maw_options_init(&w->options, sizeof w->options);
    w->options.attn_layers = 1;
    w->options.attn_hidden_dim = 4;
    w->options.meta_interval = 3;
    w->options.meta_lr = 0.1;
    w->options.threads = 1;
    w->options.modulation = w->kind != PLAIN;
    w->options.horizon = w->kind == AVERAGED ? 5 : 0;
    w->options.verify_params = w->kind == STRICT;
    w->options.nonfinite = w->kind == STRICT ? MAW_NONFINITE_ERROR : MAW_NONFINITE_SKIP;
    w->options.grouping = w->kind == CUSTOM ? MAW_GROUPING_CUSTOM : MAW_GROUPING_FINE_GRAINED;
}

static struct fixture *build(enum state state, enum kind kind) {
    struct fixture *w = calloc(1, sizeof *w);
    maw_step_report report;
    maw_meta_request request;
    if (w == NULL)
        exit(EXIT_FAILURE);
    w->state = state;
    w->kind = kind;
    choose_options(w);
    lay_out(w);
    if (state >= NEW)
        create(w);
    if (state >= REGISTERED)
        register_all(w);
    if (state >= PREPARED)
        SUCCEEDS(maw_prepare(w->o, error));
    for (int i = 0; i < 3 && state >= STEPPED; i++)
        step(w, &report);
    if (state >= UPDATED && kind != PLAIN) {
        begin(w, &request);
        answer_all(w, &request);
    }
    if (state >= OPEN && kind != PLAIN) {
        begin(w, &w->out.request);
        w->answer.request_id = w->out.request.id;
        w->answer.loss = evaluate(w, w->out.request.batch);
    } else {
        evaluate(w, MAW_BATCH_TRAIN_1);
    }
    return w;
}

struct fixture *given(enum state state, enum kind kind, const char *file, int line) {
    place_file = file;
    place_line = line;
    return build(state, kind);
}

/* -------------------------------------------------------------- saved run ---- */

const char *const SAVED_FILE = "saved.safetensors";
static maw_bytes *saved;

const maw_bytes *saved_run(void) {
    if (saved == NULL) {
        struct fixture *w = build(STEPPED, USUAL);
        if (!SUCCEEDS(maw_save_file(w->o, SAVED_FILE, 0, error)) ||
            !SUCCEEDS(maw_save_bytes(w->o, 0, &saved, error)) || maw_optimizer_free(w->o) != MAW_OK)
            exit(EXIT_FAILURE);
        free(w);
    }
    return saved;
}

void free_saved_run(void) {
    maw_bytes_free(saved);
    saved = NULL;
}

/* ---------------------------------------------------------- the run's end ---- */

static void note_moments(maw_optimizer *o, struct fingerprint *print);

/* Continues from the fixture's state: registration, a step, a meta-update, two more steps. 0 if that failed. */
static int go_on(struct fixture *w, struct fingerprint *print) {
    maw_step_report report;
    maw_meta_request request;
    w->on_log = NULL;
    if (w->state < REGISTERED)
        register_all(w);
    if (w->state == OPEN && w->kind != PLAIN && !answer_all(w, &w->out.request))
        return 0;
    if (!step(w, &report))
        return 0;
    if (w->kind != PLAIN && !(begin(w, &request) && answer_all(w, &request)))
        return 0;
    if (!step(w, &report) || !step(w, &report))
        return 0;
    maw_bytes_free(w->out.bytes);
    memset(&w->out, 0, sizeof w->out);
    w->out.report = report;
    w->out.report.skipped_steps = 0; /* a skipped step may count itself */
    take_fingerprint(w, print);
    note_moments(w->o, print);
    return 1;
}

static const struct fingerprint *unharmed(enum state state, enum kind kind) {
    static struct fingerprint prints[STATES][KINDS];
    struct fingerprint *print = &prints[state][kind];
    if (print->count == 0) {
        struct fixture *w = build(state, kind);
        if (!go_on(w, print) || maw_optimizer_free(w->o) != MAW_OK)
            exit(EXIT_FAILURE);
        free(w);
    }
    return print;
}

struct fixture *ended(struct fixture *w) {
    if (w->o != NULL && !w->accepted && w->state != NOTHING) {
        struct fingerprint print;
        const char *what = go_on(w, &print) ? difference(&print, unharmed(w->state, w->kind)) : "it cannot";
        if (what != NULL)
            fail(place_file, place_line, "the calls of this fixture", "changed how the run goes on: %s", what);
    }
    maw_bytes_free(w->out.bytes);
    if (maw_optimizer_free(w->o) != MAW_OK)
        fail(place_file, place_line, "maw_optimizer_free", "did not free the fixture's optimizer");
    free(w);
    return NULL;
}

/* ----------------------------------------------------------- fingerprints ---- */

/* Adds bytes to the part of that name, by FNV-1a. */
static void note(struct fingerprint *print, const char *what, const void *bytes, size_t size) {
    size_t i = 0;
    while (i < print->count && strcmp(print->parts[i].what, what) != 0)
        i++;
    if (i == print->count) {
        if (i == sizeof print->parts / sizeof *print->parts)
            abort(); /* more parts than misuse.h has room for */
        print->parts[i].what = what;
        print->parts[i].hash = 14695981039346656037u;
        print->count++;
    }
    for (const unsigned char *byte = bytes; size > 0; byte++, size--)
        print->parts[i].hash = (print->parts[i].hash ^ *byte) * 1099511628211u;
}

#define NOTE(what, value) note(print, what, &(value), sizeof(value))

/* The call sets *text. */
static void note_text(struct fingerprint *print, const char *what, maw_status status, const char *const *text) {
    NOTE(what, status);
    if (status == MAW_OK)
        note(print, what, *text, strlen(*text));
}

static void note_setters(maw_optimizer *o, struct fingerprint *print) {
    for (uint32_t g = 0; g < PARAM_GROUPS + 1; g++) {
        double lr = 0.0, decay = 0.0;
        maw_status status = maw_get_lr(o, g, &lr, NULL);
        NOTE("the learning rates", status);
        NOTE("the learning rates", lr);
        status = maw_get_weight_decay(o, g, &decay, NULL);
        NOTE("the weight decays", status);
        NOTE("the weight decays", decay);
    }
    double priorities[3] = {0.0, 0.0, 0.0};
    maw_status status = maw_get_priorities(o, priorities, NULL);
    NOTE("the priorities", status);
    NOTE("the priorities", priorities);
}

static void note_registration(maw_optimizer *o, struct fingerprint *print) {
    size_t groups = 0, tensors = 0, modulation_groups = 0;
    maw_status status[3] = {maw_param_group_count(o, &groups, NULL), maw_tensor_count(o, &tensors, NULL),
                            maw_group_count(o, &modulation_groups, NULL)};
    NOTE("the param groups", status[0]);
    NOTE("the param groups", groups);
    NOTE("the tensors", status[1]);
    NOTE("the tensors", tensors);
    NOTE("the modulation groups (or that there are none yet)", status[2]);
    NOTE("the modulation groups (or that there are none yet)", modulation_groups);
    for (size_t i = 0; i < tensors; i++) {
        const char *name = NULL;
        size_t group = 0;
        note_text(print, "the tensors' names", maw_tensor_name(o, i, &name, NULL), &name);
        status[0] = maw_tensor_group(o, i, &group, NULL);
        NOTE("the tensors' groups", status[0]);
        NOTE("the tensors' groups", group);
    }
    for (size_t i = 0; i < modulation_groups; i++) {
        const char *name = NULL;
        note_text(print, "the modulation groups' names", maw_group_name(o, i, &name, NULL), &name);
    }
}

static void note_attention(maw_optimizer *o, struct fingerprint *print) {
    size_t count = 0, dim = 0;
    maw_status status = maw_feature_dim(o, &dim, NULL);
    NOTE("the feature dimension", status);
    NOTE("the feature dimension", dim);
    status = maw_attention_count(o, &count, NULL);
    NOTE("the attention module", status);
    NOTE("the attention module", count);
    for (size_t i = 0; i < count; i++) {
        const char *name = "";
        uint64_t rows = 0, columns = 0;
        double values[1024];
        note_text(print, "the attention module", maw_attention_name(o, i, &name, NULL), &name);
        status = maw_attention_shape(o, i, &rows, &columns, NULL);
        NOTE("the attention module", status);
        status = maw_attention_get(o, name, values, (size_t)(rows * columns), NULL);
        NOTE("the attention module", status);
        if (status == MAW_OK)
            note(print, "the attention module", values, (size_t)(rows * columns) * sizeof(double));
    }
}

static void note_progress(maw_optimizer *o, struct fingerprint *print) {
    uint64_t steps = 0;
    uint32_t due = maw_meta_due(o);
    double factors[4][GROUPS] = {{0.0}}, features[GROUPS * DIM] = {0.0}, gradient[GROUPS] = {0.0};
    maw_meta_result result;
    maw_counters counters;
    maw_status status = maw_step_count(o, &steps, NULL);
    NOTE("the step count", status);
    NOTE("the step count", steps);
    NOTE("whether a meta-update is due", due);
    status = maw_factors(o, factors[0], factors[1], factors[2], factors[3], GROUPS, NULL);
    NOTE("the factors", status);
    NOTE("the factors", factors);
    status = maw_features(o, features, GROUPS * DIM, NULL);
    NOTE("the features", status);
    NOTE("the features", features);
    maw_meta_result_init(&result, sizeof result);
    status = maw_meta_result_get(o, &result, NULL);
    NOTE("the meta-update's result", status);
    NOTE("the meta-update's result", result);
    maw_counters_init(&counters, sizeof counters);
    status = maw_counters_get(o, &counters, NULL);
    NOTE("the counters", status);
    NOTE("the counters", counters);
    status = maw_meta_gradient(o, "alpha", gradient, GROUPS, NULL);
    NOTE("the meta-gradient", status);
    NOTE("the meta-gradient", gradient);
}

/* Not in every fingerprint: this getter discards observed gradients. */
static void note_moments(maw_optimizer *o, struct fingerprint *print) {
    static const size_t lengths[N] = {6, 3, 4, 0};
    for (size_t i = 0; i < N; i++) {
        double moments[2][6] = {{0.0}};
        uint64_t steps = 0;
        maw_status status = maw_tensor_state_get(o, i, moments[0], moments[1], lengths[i], &steps, NULL);
        NOTE("the moments", status);
        NOTE("the moments", moments);
        NOTE("the moments", steps);
    }
}

void take_fingerprint(struct fixture *w, struct fingerprint *print) {
    print->count = 0;
    NOTE("the host's parameters", w->param);
    NOTE("the host's gradients", w->grad);
    NOTE("an output", w->out);
    if (w->o != NULL) {
        note_registration(w->o, print);
        note_setters(w->o, print);
        note_attention(w->o, print);
        note_progress(w->o, print);
    }
}

const char *difference(const struct fingerprint *a, const struct fingerprint *b) {
    for (size_t i = 0; i < a->count && i < b->count; i++)
        if (strcmp(a->parts[i].what, b->parts[i].what) != 0 || a->parts[i].hash != b->parts[i].hash)
            return a->parts[i].what;
    return a->count == b->count ? NULL : "what there is to see";
}
