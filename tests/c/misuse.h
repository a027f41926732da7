/* Invalid calls: each must return the documented status and change nothing.
 *
 * A test opens a fixture, a small model with its optimizer in a known state, and has rows, which make one call each:
 *
 *     GIVEN(STEPPED) {
 *         REFUSES(maw_set_lr(w->o, 2, 0.1, error), MAW_NOT_FOUND, "param group");
 *     }
 *
 * REFUSES makes the call twice, with and without an error object. It checks the status, that the message of the error
 * object contains the text, and that nothing observable of the optimizer and of the host has changed. When the fixture
 * ends, its run continues and must have the same bits as that of a fixture without rows: so nothing has changed that
 * cannot be observed either. */
#ifndef MISUSE_H
#define MISUSE_H

#include <metaadamw.h>

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------- the fixture ---- */

/* The state of a fixture. NOTHING: no optimizer yet. UPDATED: after a meta-update that follows STEPPED. OPEN: the first
 * request of a second meta-update, for a gradient, is open. */
enum state { NOTHING, NEW, REGISTERED, PREPARED, STEPPED, UPDATED, OPEN, STATES };

/* The options of its optimizer. STRICT: verify_params and MAW_NONFINITE_ERROR. PLAIN: modulation off. CUSTOM: the host
 * names the modulation groups. LOUD: with a log callback, which calls w->on_log. AVERAGED: with averages. */
enum kind { USUAL, STRICT, PLAIN, CUSTOM, LOUD, AVERAGED, KINDS };

/* The model: param group 0 has an attention layer's weight (2 x 3, float32) and bias (3, float64), param group 1 a
 * head (2 x 2, float32) and a tensor without elements. Attention weight, attention bias and the rest are the
 * modulation groups; a token has the six columns of MAW_FEATURES_BASIC. */
enum { N = 4, PARAM_GROUPS = 2, GROUPS = 3, DIM = 6 };

struct values {
    float weight[6];
    double bias[3];
    float head[4];
};

struct fixture {
    enum state state;
    enum kind kind;
    maw_optimizer *o;
    int accepted; /* a call was accepted, so the run may differ */
    void (*on_log)(struct fixture *w);

    /* The host's buffers. */
    struct values param, grad;
    float room[16]; /* for a row that needs other buffers */

    /* Arguments, valid in the fixture's state; a row may change them before its call. */
    void *params[N + 1];
    const void *grads[N + 1];
    maw_options options;
    maw_param_group group;
    uint64_t shape[65]; /* 2, 3, then 1 */
    maw_tensor tensors[2];
    maw_step_options step;
    maw_meta_answer answer;
    maw_counters counters; /* of STEPPED */
    double numbers[8];

    /* Outputs: nothing here may change in a call that is refused. */
    struct outputs {
        maw_optimizer *created;
        maw_step_report report;
        maw_meta_request request;
        maw_meta_result result;
        maw_counters counters;
        double values[GROUPS * DIM], more[GROUPS], lambda1[GROUPS], lambda2[GROUPS];
        size_t size;
        uint64_t u64, rows, columns;
        uint32_t index;
        const char *text;
        maw_bytes *bytes; /* freed with the fixture */
    } out;
};

struct fixture *given(enum state state, enum kind kind, const char *file, int line);
/* Continues the run, compares it with one without rows, and frees the fixture; returns NULL, which ends the block. */
struct fixture *ended(struct fixture *w);

#define GIVEN_A(kind, state)                                                                                           \
    for (struct fixture *w = given(state, kind, __FILE__, __LINE__); w != NULL; w = ended(w))
#define GIVEN(state) GIVEN_A(USUAL, state)

/* Parts of given, for fixtures that begin at NOTHING with other options. */
void create(struct fixture *w);
void register_all(struct fixture *w);

/* The saved run of a USUAL fixture in STEPPED: a file in the working directory, and its bytes. */
extern const char *const SAVED_FILE;
const maw_bytes *saved_run(void);
void free_saved_run(void);
#define SAVED maw_bytes_data(saved_run())
#define SAVED_SIZE maw_bytes_size(saved_run())

/* A pointer one byte off. */
#define MISALIGNED(pointer) ((void *)((unsigned char *)(pointer) + 1))

/* ------------------------------------------------------------------ rows ---- */

/* Everything observable, by name. */
struct fingerprint {
    size_t count;
    struct {
        const char *what;
        uint64_t hash;
    } parts[32];
};

void take_fingerprint(struct fixture *w, struct fingerprint *print);
/* What differs, or NULL. */
const char *difference(const struct fingerprint *a, const struct fingerprint *b);

struct row {
    const char *call, *file;
    int line;
    struct fingerprint before;
};

void row_begins(struct row *row, struct fixture *w, const char *call, const char *file, int line);
/* `object`: what `error` pointed to; NULL in a call without an error object. */
void row_refused(const struct row *row, maw_status status, maw_status expected, maw_error **object, const char *says);
void row_accepted(const struct row *row, struct fixture *w, maw_status status, maw_error **object);
void row_unchanged(const struct row *row, struct fixture *w);
void fail(const char *file, int line, const char *call, const char *format, ...);
/* How often it was called. */
extern size_t failures;
/* Records that the call's function has a row of this theme: a parameter that is NULL, "a busy handle" … */
void covers(const char *call, const char *theme);

/* What `error` points to before a call; the call must replace it. */
#define NO_OBJECT ((maw_error *)(void *)&no_object)
extern char no_object;

/* The call, whose last argument is written `error`, is refused and changes nothing. */
#define REFUSES(call, expected, says)                                                                                  \
    do {                                                                                                               \
        struct row row;                                                                                                \
        maw_error *object = NO_OBJECT, **error = &object;                                                              \
        row_begins(&row, w, #call, __FILE__, __LINE__);                                                                \
        row_refused(&row, (call), expected, &object, says);                                                            \
        row_unchanged(&row, w);                                                                                        \
        error = NULL;                                                                                                  \
        row_refused(&row, (call), expected, NULL, says);                                                               \
        row_unchanged(&row, w);                                                                                        \
    } while (0)

/* The call succeeds and sets no error object. */
#define ACCEPTS(call)                                                                                                  \
    do {                                                                                                               \
        struct row row;                                                                                                \
        maw_error *object = NO_OBJECT, **error = &object;                                                              \
        row_begins(&row, w, #call, __FILE__, __LINE__);                                                                \
        row_accepted(&row, w, (call), &object);                                                                        \
    } while (0)

/* A call without an error object makes the condition true and changes nothing. */
#define ANSWERS(condition)                                                                                             \
    do {                                                                                                               \
        struct row row;                                                                                                \
        row_begins(&row, w, #condition, __FILE__, __LINE__);                                                           \
        if (!(condition))                                                                                              \
            fail(__FILE__, __LINE__, #condition, "is not so");                                                         \
        row_unchanged(&row, w);                                                                                        \
    } while (0)

/* The same three for a parameter that is NULL in the call; c_api.rs requires one for every pointer in the header. */
#define NULL_REFUSED(parameter, call)                                                                                  \
    do {                                                                                                               \
        covers(#call, #parameter);                                                                                     \
        REFUSES(call, MAW_INVALID_ARGUMENT, #parameter " is NULL");                                                    \
    } while (0)
#define NULL_ALLOWED(parameter, call)                                                                                  \
    do {                                                                                                               \
        covers(#call, #parameter);                                                                                     \
        ACCEPTS(call);                                                                                                 \
    } while (0)
#define NULL_ANSWERS(parameter, condition)                                                                             \
    do {                                                                                                               \
        covers(#condition, #parameter);                                                                                \
        ANSWERS(condition);                                                                                            \
    } while (0)

/* ---------------------------------------------------------------- themes ---- */

void pointers(void); /* misuse_pointers.c: NULL, misaligned, overlapping, wrong counts */
void structs(void);  /* misuse_structs.c: shorter and longer ones */
void order(void);    /* misuse_order.c: too early, too late, inside another call, after a panic, after free */
void values(void);   /* misuse_values.c: numbers, enumerators, names, shapes */
void files(void);    /* misuse_files.c: saved runs, and a tensor's state */
void devices(void);  /* misuse_devices.c: CUDA, and CUDA-only arguments on the CPU */

#endif
