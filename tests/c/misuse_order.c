/* Order: every call in every state of the optimizer, inside another call on it, after a panic, after it was freed. */
#include "misuse.h"

#include <pthread.h>

/* Not in the header: only with the cargo feature fault-injection. The next call on the optimizer panics. */
maw_status maw_test_inject_panic(maw_optimizer *optimizer);

#define OK MAW_OK
#define LATE MAW_INVALID_STATE /* or too early */
#define NONE MAW_NOT_FOUND
#define BY_PARAMS w->o, w->params
#define REQUEST &w->out.request
#define TEXT &w->out.text
#define SIZE &w->out.size
#define VALUES w->out.values

/* The status of a valid call in each state. */
#define CALLS(X)                                                                                                       \
    /*NEW   REGIS PREPA STEP  UPDA  OPEN: the states */                                                                \
    X(OK,   OK,   OK,   OK,   OK,   LATE, maw_add_param_group, (w->o, &w->group, w->tensors, 2, NULL, error))          \
    X(NONE, OK,   OK,   OK,   OK,   LATE, maw_add_tensors, (w->o, 0, w->tensors, 2, error))                            \
    X(NONE, OK,   OK,   OK,   OK,   LATE, maw_remove_tensor, (w->o, 1, error))                                         \
    X(LATE, OK,   OK,   OK,   OK,   LATE, maw_prepare, (w->o, error))                                                  \
    X(LATE, OK,   OK,   OK,   OK,   LATE, maw_step, (BY_PARAMS, w->grads, N, &w->step, &w->out.report, error))         \
    X(LATE, LATE, LATE, OK,   OK,   OK,   maw_step_report_fetch, (w->o, 0, &w->out.report, error))                     \
    X(LATE, OK,   OK,   OK,   OK,   LATE, maw_observe_gradient, (w->o, 0, w->grad.weight, error))                      \
    X(OK,   OK,   OK,   OK,   OK,   LATE, maw_set_lr, (w->o, MAW_ALL_GROUPS, 0.1, error))                              \
    X(OK,   OK,   OK,   OK,   OK,   LATE, maw_set_weight_decay, (w->o, MAW_ALL_GROUPS, 0.1, error))                    \
    X(OK,   OK,   OK,   OK,   OK,   LATE, maw_set_betas, (w->o, MAW_ALL_GROUPS, 0.8, 0.9, error))                      \
    X(OK,   OK,   OK,   OK,   OK,   LATE, maw_set_eps, (w->o, MAW_ALL_GROUPS, 1e-6, error))                            \
    X(OK,   OK,   OK,   OK,   OK,   LATE, maw_set_max_grad_norm, (w->o, 1.0, error))                                   \
    X(OK,   OK,   OK,   OK,   OK,   LATE, maw_set_priorities, (w->o, w->numbers, error))                               \
    X(LATE, LATE, OK,   OK,   OK,   LATE, maw_reset, (w->o, MAW_RESET_MOMENTS, error))                                 \
    X(OK,   OK,   OK,   OK,   OK,   OK,   maw_set_stream, (w->o, NULL, error))                                         \
    X(OK,   OK,   OK,   OK,   OK,   LATE, maw_set_log, (w->o, NULL, NULL, error))                                      \
    X(OK,   OK,   LATE, LATE, LATE, LATE, maw_set_reduction, (w->o, NULL, NULL, error))                                \
    X(LATE, OK,   OK,   OK,   OK,   LATE, maw_meta_begin, (BY_PARAMS, N, REQUEST, error))                              \
    X(LATE, LATE, LATE, LATE, LATE, OK,   maw_meta_tell, (w->o, &w->answer, w->params, w->grads, N, REQUEST, error))   \
    X(LATE, LATE, LATE, LATE, LATE, OK,   maw_meta_abort, (BY_PARAMS, N, error))                                       \
    X(LATE, LATE, OK,   OK,   OK,   OK,   maw_meta_result_get, (w->o, &w->out.result, error))                          \
    X(LATE, LATE, LATE, LATE, OK,   OK,   maw_meta_gradient, (w->o, "alpha", VALUES, GROUPS, error))                   \
    X(NONE, OK,   OK,   OK,   OK,   OK,   maw_get_lr, (w->o, 0, VALUES, error))                                        \
    X(NONE, OK,   OK,   OK,   OK,   OK,   maw_get_weight_decay, (w->o, 0, VALUES, error))                              \
    X(NONE, OK,   OK,   OK,   OK,   OK,   maw_get_betas, (w->o, 0, VALUES, VALUES + 1, error))                         \
    X(NONE, OK,   OK,   OK,   OK,   OK,   maw_get_eps, (w->o, 0, VALUES, error))                                       \
    X(OK,   OK,   OK,   OK,   OK,   OK,   maw_get_max_grad_norm, (w->o, VALUES, error))                                \
    X(OK,   OK,   OK,   OK,   OK,   OK,   maw_get_priorities, (w->o, VALUES, error))                                   \
    X(OK,   OK,   OK,   OK,   OK,   OK,   maw_step_count, (w->o, &w->out.u64, error))                                  \
    X(OK,   OK,   OK,   OK,   OK,   OK,   maw_param_group_count, (w->o, SIZE, error))                                  \
    X(OK,   OK,   OK,   OK,   OK,   OK,   maw_tensor_count, (w->o, SIZE, error))                                       \
    X(NONE, OK,   OK,   OK,   OK,   OK,   maw_tensor_name, (w->o, 0, TEXT, error))                                     \
    X(LATE, LATE, OK,   OK,   OK,   OK,   maw_tensor_group, (w->o, 0, SIZE, error))                                    \
    X(LATE, LATE, OK,   OK,   OK,   OK,   maw_group_count, (w->o, SIZE, error))                                        \
    X(LATE, LATE, OK,   OK,   OK,   OK,   maw_group_name, (w->o, 0, TEXT, error))                                      \
    X(LATE, LATE, LATE, OK,   OK,   OK,   maw_factors, (w->o, VALUES, NULL, NULL, NULL, GROUPS, error))                \
    X(LATE, LATE, OK,   OK,   OK,   OK,   maw_feature_dim, (w->o, SIZE, error))                                        \
    X(LATE, LATE, LATE, OK,   OK,   OK,   maw_features, (w->o, VALUES, GROUPS * DIM, error))                           \
    X(LATE, LATE, OK,   OK,   OK,   OK,   maw_attention_count, (w->o, SIZE, error))                                    \
    X(LATE, LATE, OK,   OK,   OK,   OK,   maw_attention_name, (w->o, 0, TEXT, error))                                  \
    X(LATE, LATE, OK,   OK,   OK,   OK,   maw_attention_shape, (w->o, 0, &w->out.rows, &w->out.columns, error))        \
    X(LATE, LATE, OK,   OK,   OK,   OK,   maw_attention_get, (w->o, "output_proj.bias", VALUES, 4, error))             \
    X(LATE, LATE, OK,   OK,   OK,   LATE, maw_attention_set, (w->o, "output_proj.bias", w->numbers, 4, error))         \
    X(LATE, OK,   OK,   OK,   OK,   LATE, maw_save_file, (w->o, "by_a_row.safetensors", 0, error))                     \
    X(LATE, OK,   OK,   OK,   OK,   LATE, maw_save_bytes, (w->o, 0, &w->out.bytes, error))                             \
    X(LATE, OK,   OK,   OK,   OK,   LATE, maw_load_file, (w->o, SAVED_FILE, 0, error))                                 \
    X(LATE, OK,   OK,   OK,   OK,   LATE, maw_load_bytes, (w->o, SAVED, SAVED_SIZE, 0, error))                         \
    X(OK,   OK,   OK,   OK,   OK,   OK,   maw_load_report_count, (w->o, MAW_LOAD_MISSING_TENSORS, SIZE, error))        \
    X(NONE, NONE, NONE, NONE, NONE, NONE, maw_load_report_name, (w->o, MAW_LOAD_MISSING_GROUPS, 0, TEXT, error))       \
    X(LATE, OK,   OK,   OK,   OK,   OK,   maw_dump_state, (w->o, &w->out.bytes, error))                                \
    X(LATE, LATE, OK,   OK,   OK,   LATE, maw_tensor_state_get, (w->o, 0, VALUES, w->out.more, 6, &w->out.u64, error)) \
    X(NONE, OK,   OK,   OK,   OK,   LATE, maw_tensor_state_set, (w->o, 0, w->room, w->room, 6, 3, error)) \
    X(NONE, LATE, LATE, LATE, LATE, LATE, maw_average_get, (w->o, 0, VALUES, 6, error))                                \
    X(LATE, LATE, LATE, LATE, LATE, LATE, maw_average_swap, (BY_PARAMS, N, error))                                     \
    X(OK,   OK,   OK,   OK,   OK,   OK,   maw_counters_get, (w->o, &w->out.counters, error))                           \
    X(LATE, OK,   OK,   OK,   OK,   LATE, maw_counters_set, (w->o, &w->counters, error))                               \
    X(NONE, NONE, NONE, NONE, NONE, LATE, maw_master_get, (w->o, 0, NULL, w->room, 6, error))                          \
    X(NONE, NONE, NONE, NONE, NONE, LATE, maw_master_set, (w->o, 0, w->room, w->room, 6, error))

static const struct call {
    const char *name; /* with a parenthesis, as in the rows */
    maw_status answers[STATES - NEW];
} calls[] = {
#define ROW(a, b, c, d, e, f, name, arguments) {#name "(", {a, b, c, d, e, f}},
    CALLS(ROW)
#undef ROW
};
enum { CALL_COUNT = sizeof calls / sizeof *calls };

static maw_status make_call(size_t which, struct fixture *w, maw_error **error) {
    size_t i = 0;
#define ROW(a, b, c, d, e, f, name, arguments)                                                                         \
    if (i++ == which)                                                                                                  \
        return name arguments;
    CALLS(ROW)
#undef ROW
    return MAW_OK;
}

/* One call, which must be refused as by REFUSES. */
static void refused(struct fixture *w, size_t which, maw_status status, const char *says) {
    struct row row;
    maw_error *object = NO_OBJECT;
    row_begins(&row, w, calls[which].name, __FILE__, __LINE__);
    row_refused(&row, make_call(which, w, &object), status, &object, says);
    row_unchanged(&row, w);
    row_refused(&row, make_call(which, w, NULL), status, NULL, says);
    row_unchanged(&row, w);
}

static void every_call_in_every_state(void) {
    for (size_t i = 0; i < CALL_COUNT; i++)
        for (enum state state = NEW; state < STATES; state++)
            GIVEN(state) {
                const maw_status expected = calls[i].answers[state - NEW];
                char name[64];
                snprintf(name, sizeof name, "%.*s", (int)strlen(calls[i].name) - 1, calls[i].name);
                if (state == NEW && expected == LATE)
                    name[4] = '\0'; /* the error may come from what the call does implicitly */
                if (expected != OK) {
                    refused(w, i, expected, expected == LATE ? name : "there is no");
                } else {
                    struct row row;
                    maw_error *object = NO_OBJECT;
                    row_begins(&row, w, calls[i].name, __FILE__, __LINE__);
                    row_accepted(&row, w, make_call(i, w, &object), &object);
                }
            }
}

/* Without modulation some calls are always refused. */
static void never(void) {
    GIVEN_A(PLAIN, STEPPED) {
        REFUSES(maw_meta_begin(w->o, w->params, N, &w->out.request, error), MAW_INVALID_STATE, "modulation is off");
        REFUSES(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error), MAW_INVALID_STATE,
                "maw_meta_tell");
        REFUSES(maw_meta_abort(w->o, w->params, N, error), MAW_INVALID_STATE, "maw_meta_abort");
        REFUSES(maw_meta_gradient(w->o, "alpha", VALUES, GROUPS, error), MAW_INVALID_STATE, "maw_meta_gradient");
        REFUSES(maw_feature_dim(w->o, SIZE, error), MAW_INVALID_STATE, "maw_feature_dim: modulation is off");
        REFUSES(maw_features(w->o, VALUES, GROUPS * DIM, error), MAW_INVALID_STATE, "modulation is off");
        REFUSES(maw_attention_name(w->o, 0, TEXT, error), MAW_NOT_FOUND, "there are 0");
        REFUSES(maw_attention_shape(w->o, 0, &w->out.rows, &w->out.columns, error), MAW_NOT_FOUND, "there are 0");
        REFUSES(maw_attention_get(w->o, "output_proj.bias", VALUES, 4, error), MAW_NOT_FOUND, "output_proj.bias");
        REFUSES(maw_attention_set(w->o, "output_proj.bias", VALUES, 4, error), MAW_NOT_FOUND, "output_proj.bias");
        ANSWERS(maw_meta_due(w->o) == 0);
    }
    GIVEN_A(PLAIN, REGISTERED) {
        REFUSES(maw_meta_begin(w->o, w->params, N, &w->out.request, error), MAW_INVALID_STATE, "modulation is off");
    }
}

/* With averages. */
static void averages(void) {
    maw_error **error = NULL;
    GIVEN_A(AVERAGED, PREPARED) {
        REFUSES(maw_average_get(w->o, 0, VALUES, 6, error), MAW_INVALID_STATE, "begins with the tensor's first step");
        ACCEPTS(maw_average_swap(BY_PARAMS, N, error));
        ACCEPTS(maw_average_swap(BY_PARAMS, N, error));
    }
    GIVEN_A(AVERAGED, OPEN) {
        REFUSES(maw_average_get(w->o, 0, VALUES, 6, error), MAW_INVALID_STATE, "a meta-update is open");
        REFUSES(maw_average_swap(BY_PARAMS, N, error), MAW_INVALID_STATE, "a meta-update is open");
    }
    GIVEN_A(AVERAGED, STEPPED)
        ACCEPTS(maw_average_get(w->o, 0, VALUES, 6, error));
    /* While they are in the host's parameters, every call that a meta-update refuses is refused. */
    for (size_t i = 0; i < CALL_COUNT; i++)
        if (calls[i].answers[OPEN - NEW] == LATE && strncmp(calls[i].name, "maw_average", 11) != 0)
            GIVEN_A(AVERAGED, UPDATED) {
                ACCEPTS(maw_average_swap(BY_PARAMS, N, error));
                refused(w, i, LATE, "the averages are in the host's parameters");
                ACCEPTS(maw_average_swap(BY_PARAMS, N, error));
            }
    GIVEN_A(AVERAGED, UPDATED) {
        ACCEPTS(maw_average_swap(BY_PARAMS, N, error));
        REFUSES(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, REQUEST, error), MAW_INVALID_STATE, "maw_meta_tell");
        REFUSES(maw_meta_abort(BY_PARAMS, N, error), MAW_INVALID_STATE, "maw_meta_abort");
        ACCEPTS(maw_average_get(w->o, 1, VALUES, 3, error));
        ACCEPTS(maw_average_swap(BY_PARAMS, N, error));
    }
}

static void due(void) {
    static const uint32_t expected[STATES] = {[STEPPED] = 1};
    for (enum state state = NEW; state < STATES; state++)
        GIVEN(state) {
            ANSWERS(maw_meta_due(w->o) == expected[state]);
        }
}

/* ----------------------------------------------------- requests' numbers ---- */

static void request_numbers(void) {
    GIVEN(OPEN) {
        const uint64_t id = w->answer.request_id, wrong[] = {0, id - 1, id + 1, UINT64_MAX};
        for (size_t i = 0; i < 4; i++) {
            w->answer.request_id = wrong[i];
            REFUSES(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error),
                    MAW_INVALID_ARGUMENT, "answer.request_id");
        }
        w->answer.request_id = id;
        ACCEPTS(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error));
        REFUSES(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error), MAW_INVALID_ARGUMENT,
                "answer.request_id"); /* twice */
        ACCEPTS(maw_meta_abort(w->o, w->params, N, error));
        REFUSES(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error), MAW_INVALID_STATE,
                "maw_meta_tell");
        REFUSES(maw_meta_abort(w->o, w->params, N, error), MAW_INVALID_STATE, "maw_meta_abort");
    }
}

/* --------------------------------------------------- announced gradients ---- */

static void announced(void) {
    GIVEN(STEPPED) { /* an observed gradient must be passed to the step, which discards it also when it fails */
        ACCEPTS(maw_observe_gradient(w->o, 0, w->grad.weight, error));
        w->grads[0] = NULL;
        if (maw_step(w->o, w->params, w->grads, N, NULL, &w->out.report, NULL) != MAW_INVALID_ARGUMENT)
            fail(__FILE__, __LINE__, "maw_step", "accepted NULL for an observed gradient");
        w->accepted = 0; /* observing does not change the run */
    }
    GIVEN(STEPPED) { /* a setter discards an observed gradient: another may be passed */
        ACCEPTS(maw_observe_gradient(w->o, 0, w->room, error));
        ACCEPTS(maw_set_lr(w->o, 0, 0.05, error)); /* as it was */
        w->accepted = 0;
    }
    GIVEN(STEPPED) { /* and so does a meta-update */
        ACCEPTS(maw_observe_gradient(w->o, 0, w->room, error));
        ACCEPTS(maw_meta_begin(w->o, w->params, N, &w->out.request, error));
        w->answer.request_id = w->out.request.id;
        w->grads[0] = w->room;
        ACCEPTS(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error));
        ACCEPTS(maw_meta_abort(w->o, w->params, N, error));
        w->accepted = 0;
    }
}

/* ------------------------------------------------------------------ busy ---- */

static void all_busy(struct fixture *w) {
    for (size_t i = 0; i < CALL_COUNT; i++) {
        refused(w, i, MAW_BUSY, "busy");
        covers(calls[i].name, "a busy handle");
    }
    ANSWERS(maw_meta_due(w->o) == 0);
    covers("maw_meta_due(", "a busy handle");
    ANSWERS(maw_optimizer_free(w->o) == MAW_BUSY);
    covers("maw_optimizer_free(", "a busy handle");
}

static void *all_busy_elsewhere(void *w) {
    all_busy(w);
    return NULL;
}

static void all_busy_in_another_thread(struct fixture *w) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, all_busy_elsewhere, w) != 0 || pthread_join(thread, NULL) != 0)
        fail(__FILE__, __LINE__, "pthread_create", "no second thread");
}

/* A skipped step logs a warning: the callback's calls come from inside the step. */
static void busy(void (*inside)(struct fixture *)) {
    GIVEN_A(LOUD, STEPPED) {
        const double finite = w->grad.bias[1];
        maw_counters before;
        maw_step_report report;
        maw_counters_init(&before, sizeof before);
        ACCEPTS(maw_counters_get(w->o, &before, error));
        maw_step_report_init(&report, sizeof report);
        w->on_log = inside;
        w->grad.bias[1] = NAN;
        ACCEPTS(maw_step(w->o, w->params, w->grads, N, NULL, &report, error));
        w->grad.bias[1] = finite;
        if (report.skip_reason != MAW_SKIP_GRADIENT || report.nonfinite_tensor != 1)
            fail(__FILE__, __LINE__, "maw_step", "was not skipped for its NaN");
        w->on_log = NULL;
        ACCEPTS(maw_counters_set(w->o, &before, error)); /* only the count of skipped steps differed */
        w->accepted = 0;
    }
    GIVEN_A(LOUD, OPEN) { /* an abandoned meta-update logs one, too */
        w->on_log = inside;
        w->answer.loss = NAN;
        ACCEPTS(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error));
        ANSWERS(w->out.request.kind == MAW_META_DONE && maw_meta_due(w->o) == 0);
    }
}

/* -------------------------------------------------- poisoned, and freed ---- */

static void free_now(struct fixture *w) {
    covers("maw_optimizer_free(", "a row");
    if (maw_optimizer_free(w->o) != MAW_OK)
        fail(__FILE__, __LINE__, "maw_optimizer_free", "did not free");
#ifndef __SANITIZE_ADDRESS__ /* which detects the use after free */
    for (size_t i = 0; i < CALL_COUNT; i++)
        refused(w, i, MAW_INVALID_ARGUMENT, "optimizer is not a live handle");
    ANSWERS(maw_meta_due(w->o) == 0);
    ANSWERS(maw_optimizer_free(w->o) == MAW_INVALID_ARGUMENT);
#endif
    w->o = NULL;
}

/* The call that panics. */
static void panics(struct fixture *w, size_t which) {
    const struct values param = w->param;
    const struct outputs out = w->out;
    struct row row;
    maw_error *object = NO_OBJECT;
    row_begins(&row, w, calls[which].name, __FILE__, __LINE__);
    maw_test_inject_panic(w->o);
    row_refused(&row, make_call(which, w, &object), MAW_PANIC, &object, "injected by a test");
    if (memcmp(&param, &w->param, sizeof param) != 0 || memcmp(&out, &w->out, sizeof out) != 0)
        fail(__FILE__, __LINE__, calls[which].name, "wrote something although it panicked");
}

static void poisoned(void) {
    for (size_t i = 0; i < CALL_COUNT; i++)
        GIVEN(OPEN) {
            panics(w, i);
            for (size_t j = 0; j < CALL_COUNT; j++) {
                refused(w, j, MAW_PANIC, "poisoned");
                covers(calls[j].name, "a poisoned handle");
            }
            ANSWERS(maw_meta_due(w->o) == 0);
            free_now(w);
        }
    GIVEN(STEPPED) { /* the same for the query without an error object */
        maw_test_inject_panic(w->o);
        if (maw_meta_due(w->o) != 0)
            fail(__FILE__, __LINE__, "maw_meta_due", "did not panic");
        refused(w, 0, MAW_PANIC, "poisoned");
        ANSWERS(maw_meta_due(w->o) == 0);
        free_now(w);
    }
    covers("maw_meta_due(", "a poisoned handle");
    covers("maw_optimizer_free(", "a poisoned handle");
}

static void freed(void) {
    GIVEN(STEPPED) {
        free_now(w);
    }
    GIVEN(OPEN) {
        free_now(w);
    }
}

void order(void) {
    saved_run();
    every_call_in_every_state();
    never();
    averages();
    due();
    request_numbers();
    announced();
    busy(all_busy);
    busy(all_busy_in_another_thread);
    poisoned();
    freed();
}
