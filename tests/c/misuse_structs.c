/* Structs that grow: shorter than version 1, longer with zeros, longer with something that this version does not know;
 * as input, as output, in an array, and when they are initialised. */
#include "misuse.h"

enum { TAIL = 40 };

/* A struct of a later header, and the bytes behind it. */
#define LONGER(type)                                                                                                   \
    union {                                                                                                            \
        type known;                                                                                                    \
        unsigned char bytes[sizeof(type) + TAIL + 8];                                                                  \
    }

/* Sizes in version 1. */
enum {
    FIRST_maw_options = 256,
    FIRST_maw_param_group = 56,
    FIRST_maw_tensor = 48,
    FIRST_maw_step_options = 40,
    FIRST_maw_step_report = 56,
    FIRST_maw_meta_request = 32,
    FIRST_maw_meta_answer = 32,
    FIRST_maw_meta_result = 104,
    FIRST_maw_counters = 72,
};

static const size_t NO_SIZE[] = {0, 1, sizeof(size_t), 4097, SIZE_MAX};
enum { NO_SIZES = sizeof NO_SIZE / sizeof *NO_SIZE };

static int all_are(const unsigned char *bytes, size_t count, unsigned char value) {
    while (count > 0 && bytes[count - 1] == value)
        count--;
    return count == 0;
}

/* ------------------------------------------------------------------- in ---- */

/* `call` reads `in.known`, which the library calls `argument`. */
#define GROWS_AS_INPUT(state, type, argument, initial, call)                                                           \
    do {                                                                                                               \
        LONGER(type) in;                                                                                               \
        GIVEN(state) {                                                                                                 \
            memset(in.bytes, 0, sizeof in.bytes);                                                                      \
            in.known = initial;                                                                                        \
            in.known.struct_size = FIRST_##type - 1;                                                                   \
            REFUSES(call, MAW_INVALID_ARGUMENT, argument ".struct_size is ");                                          \
            for (size_t i = 0; i < NO_SIZES; i++) {                                                                    \
                in.known.struct_size = NO_SIZE[i];                                                                     \
                REFUSES(call, MAW_INVALID_ARGUMENT, argument ".struct_size is ");                                      \
            }                                                                                                          \
            in.known.struct_size = sizeof(type) + TAIL;                                                                \
            for (size_t i = 0; i < TAIL; i++) {                                                                        \
                in.bytes[sizeof(type) + i] = 1;                                                                        \
                REFUSES(call, MAW_UNSUPPORTED, argument " has non-zero bytes beyond");                                 \
                in.bytes[sizeof(type) + i] = 0;                                                                        \
            }                                                                                                          \
            in.bytes[sizeof(type) + TAIL] = 1; /* behind the struct */                                                 \
            ACCEPTS(call);                                                                                             \
        }                                                                                                              \
    } while (0)

static void inputs(void) {
    GROWS_AS_INPUT(NOTHING, maw_options, "options", w->options, maw_optimizer_create(&in.known, &w->o, error));
    GROWS_AS_INPUT(REGISTERED, maw_param_group, "group", w->group,
                   maw_add_param_group(w->o, &in.known, w->tensors, 2, NULL, error));
    GROWS_AS_INPUT(REGISTERED, maw_tensor, "tensors[0]", w->tensors[0],
                   maw_add_param_group(w->o, &w->group, &in.known, 1, NULL, error));
    GROWS_AS_INPUT(STEPPED, maw_step_options, "options", w->step,
                   maw_step(w->o, w->params, w->grads, N, &in.known, NULL, error));
    GROWS_AS_INPUT(STEPPED, maw_counters, "counters", w->counters, maw_counters_set(w->o, &in.known, error));
    GROWS_AS_INPUT(OPEN, maw_meta_answer, "answer", w->answer,
                   maw_meta_tell(w->o, &in.known, w->params, w->grads, N, &w->out.request, error));
}

/* ------------------------------------------------------------------ out ---- */

/* `call` writes `out.known`. */
#define GROWS_AS_OUTPUT(state, type, argument, call)                                                                   \
    do {                                                                                                               \
        LONGER(type) out;                                                                                              \
        memset(out.bytes, 0xAA, sizeof out.bytes);                                                                     \
        GIVEN(state) {                                                                                                 \
            for (size_t i = 0; i <= NO_SIZES; i++) {                                                                   \
                out.known.struct_size = i < NO_SIZES ? NO_SIZE[i] : FIRST_##type - 1;                                  \
                REFUSES(call, MAW_INVALID_ARGUMENT, argument ".struct_size is ");                                      \
                if (!all_are(out.bytes + sizeof(size_t), sizeof out.bytes - sizeof(size_t), 0xAA))                     \
                    fail(__FILE__, __LINE__, #call, "wrote to a struct of the wrong size");                            \
            }                                                                                                          \
            out.known.struct_size = sizeof(type) + TAIL;                                                               \
            ACCEPTS(call);                                                                                             \
            if (out.known.struct_size != sizeof(type) + TAIL)                                                          \
                fail(__FILE__, __LINE__, #call, "changed struct_size");                                                \
            if (all_are(out.bytes + sizeof(size_t), sizeof(type) - sizeof(size_t), 0xAA))                              \
                fail(__FILE__, __LINE__, #call, "wrote nothing");                                                      \
            if (!all_are(out.bytes + sizeof(type), TAIL, 0))                                                           \
                fail(__FILE__, __LINE__, #call, "left the unknown fields unwritten");                                  \
            if (!all_are(out.bytes + sizeof(type) + TAIL, 8, 0xAA))                                                    \
                fail(__FILE__, __LINE__, #call, "wrote behind the struct");                                            \
        }                                                                                                              \
    } while (0)

static void outputs(void) {
    GROWS_AS_OUTPUT(STEPPED, maw_step_report, "report",
                    maw_step(w->o, w->params, w->grads, N, NULL, &out.known, error));
    GROWS_AS_OUTPUT(STEPPED, maw_meta_request, "request", maw_meta_begin(w->o, w->params, N, &out.known, error));
    GROWS_AS_OUTPUT(OPEN, maw_meta_request, "request",
                    maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &out.known, error));
    GROWS_AS_OUTPUT(STEPPED, maw_counters, "counters", maw_counters_get(w->o, &out.known, error));
    GROWS_AS_OUTPUT(UPDATED, maw_meta_result, "result", maw_meta_result_get(w->o, &out.known, error));
}

/* ---------------------------------------------------------------- array ---- */

/* The stride is the first element's struct_size, whatever sizeof is here. */
static void array(void) {
    struct {
        maw_tensor known;
        uint64_t later;
    } in[2];
    const maw_tensor *tensors = &in[0].known;
    GIVEN(REGISTERED) {
        const char *name = NULL;
        memset(in, 0, sizeof in);
        for (size_t i = 0; i < 2; i++) {
            in[i].known = w->tensors[i];
            in[i].known.struct_size = sizeof in[i];
        }
        in[1].known.struct_size = sizeof(maw_tensor);
        REFUSES(maw_add_param_group(w->o, &w->group, tensors, 2, NULL, error), MAW_INVALID_ARGUMENT,
                ", as in tensors[0]");
        in[1].known.struct_size = 0;
        REFUSES(maw_add_param_group(w->o, &w->group, tensors, 2, NULL, error), MAW_INVALID_ARGUMENT,
                "tensors[1].struct_size is 0");
        in[1].known.struct_size = sizeof in[1];
        in[1].later = 1;
        REFUSES(maw_add_param_group(w->o, &w->group, tensors, 2, NULL, error), MAW_UNSUPPORTED,
                "tensors[1] has non-zero bytes beyond");
        in[1].later = 0;
        ACCEPTS(maw_add_param_group(w->o, &w->group, tensors, 2, &w->out.index, error));
        ACCEPTS(maw_tensor_name(w->o, N + 1, &name, error));
        if (name == NULL || strcmp(name, w->tensors[1].name) != 0)
            fail(__FILE__, __LINE__, "maw_add_param_group", "read the second element from the wrong place");
    }
}

/* ----------------------------------------------------------------- init ---- */

#define INITIALISES(type)                                                                                              \
    do {                                                                                                               \
        GIVEN(NOTHING) {                                                                                               \
            LONGER(type) x, usual;                                                                                     \
            memset(x.bytes, 0xAA, sizeof x.bytes);                                                                     \
            for (size_t i = 0; i < NO_SIZES; i++)                                                                      \
                ANSWERS(type##_init(&x.known, NO_SIZE[i]) == MAW_INVALID_ARGUMENT);                                    \
            ANSWERS(type##_init(&x.known, FIRST_##type - 1) == MAW_INVALID_ARGUMENT);                                  \
            if (!all_are(x.bytes, sizeof x.bytes, 0xAA))                                                               \
                fail(__FILE__, __LINE__, #type "_init", "wrote although it was refused");                              \
            ANSWERS(type##_init(&x.known, sizeof(type)) == MAW_OK && x.known.struct_size == sizeof(type));             \
            if (!all_are(x.bytes + sizeof(type), TAIL + 8, 0xAA))                                                      \
                fail(__FILE__, __LINE__, #type "_init", "wrote behind the struct");                                    \
            usual = x;                                                                                                 \
            ANSWERS(type##_init(&x.known, sizeof(type) + TAIL) == MAW_OK);                                             \
            if (x.known.struct_size != sizeof(type) + TAIL || !all_are(x.bytes + sizeof(type), TAIL, 0) ||             \
                !all_are(x.bytes + sizeof(type) + TAIL, 8, 0xAA))                                                      \
                fail(__FILE__, __LINE__, #type "_init", "did not zero the whole of a longer struct, and no more");     \
            usual.known.struct_size = x.known.struct_size;                                                             \
            if (memcmp(&usual.known, &x.known, sizeof(type)) != 0)                                                     \
                fail(__FILE__, __LINE__, #type "_init", "has other defaults for a longer struct");                     \
        }                                                                                                              \
    } while (0)

/* maw_options_preset is an init function with one argument more. */
static void presets(void) {
    GIVEN(NOTHING) {
        LONGER(maw_options) x, usual;
        memset(x.bytes, 0xAA, sizeof x.bytes);
        for (size_t i = 0; i < NO_SIZES; i++)
            ANSWERS(maw_options_preset(&x.known, NO_SIZE[i], MAW_PRESET_HORIZON) == MAW_INVALID_ARGUMENT);
        ANSWERS(maw_options_preset(&x.known, FIRST_maw_options - 1, MAW_PRESET_HORIZON) == MAW_INVALID_ARGUMENT);
        ANSWERS(maw_options_preset(&x.known, sizeof(maw_options), 0) == MAW_INVALID_ARGUMENT);
        ANSWERS(maw_options_preset(&x.known, sizeof(maw_options), 2) == MAW_INVALID_ARGUMENT);
        ANSWERS(maw_options_preset(&x.known, sizeof(maw_options), -1) == MAW_INVALID_ARGUMENT);
        if (!all_are(x.bytes, sizeof x.bytes, 0xAA))
            fail(__FILE__, __LINE__, "maw_options_preset", "wrote although it was refused");
        /* A caller of version 1 gets what its struct has room for; such options do not fit together. */
        ANSWERS(maw_options_preset(&x.known, FIRST_maw_options, MAW_PRESET_HORIZON) == MAW_OK);
        if (!all_are(x.bytes + FIRST_maw_options, sizeof x.bytes - FIRST_maw_options, 0xAA))
            fail(__FILE__, __LINE__, "maw_options_preset", "wrote behind the struct");
        REFUSES(maw_optimizer_create(&x.known, &w->out.created, error), MAW_INVALID_ARGUMENT, "options.horizon");
        ANSWERS(maw_options_preset(&x.known, sizeof(maw_options), MAW_PRESET_HORIZON) == MAW_OK);
        usual = x;
        ANSWERS(maw_options_preset(&x.known, sizeof(maw_options) + TAIL, MAW_PRESET_HORIZON) == MAW_OK);
        usual.known.struct_size = x.known.struct_size;
        if (memcmp(&usual.known, &x.known, sizeof(maw_options)) != 0 || !all_are(x.bytes + sizeof(maw_options), TAIL, 0))
            fail(__FILE__, __LINE__, "maw_options_preset", "has other values for a longer struct");
    }
}

/* Callers of version 1's header: nothing is read or written behind their structs. */
static void first_version(void) {
    GIVEN(REGISTERED) {
        unsigned char tensor[FIRST_maw_tensor];
        maw_tensor own = w->tensors[0];
        own.struct_size = sizeof tensor;
        memcpy(tensor, &own, sizeof tensor);
        ACCEPTS(maw_add_param_group(w->o, &w->group, (const maw_tensor *)(const void *)tensor, 1, NULL, error));
    }
    GIVEN(STEPPED) {
        struct {
            maw_meta_request known;
            unsigned char behind[8];
        } request;
        memset(&request, 0xAA, sizeof request);
        request.known.struct_size = FIRST_maw_meta_request;
        ACCEPTS(maw_meta_begin(w->o, w->params, N, &request.known, error));
        if (!all_are((unsigned char *)&request + FIRST_maw_meta_request, sizeof request - FIRST_maw_meta_request, 0xAA))
            fail(__FILE__, __LINE__, "maw_meta_begin", "wrote behind a struct of version 1");
    }
}

void structs(void) {
    presets();
    first_version();
    inputs();
    outputs();
    array();
    INITIALISES(maw_options);
    INITIALISES(maw_param_group);
    INITIALISES(maw_tensor);
    INITIALISES(maw_step_options);
    INITIALISES(maw_step_report);
    INITIALISES(maw_meta_request);
    INITIALISES(maw_meta_answer);
    INITIALISES(maw_meta_result);
    INITIALISES(maw_counters);
}
