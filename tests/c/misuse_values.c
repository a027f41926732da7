/* Values: enumerators, flags, numbers out of range, names, shapes. */
#include "misuse.h"

static const double NEGATIVE = -0.001;

/* --------------------------------------------------------------- options ---- */

/* The defaults with one field changed. */
#define OPTION(field, value)                                                                                           \
    do {                                                                                                               \
        maw_options_init(&w->options, sizeof w->options);                                                              \
        w->options.field = value;                                                                                      \
        REFUSES(maw_optimizer_create(&w->options, &w->out.created, error), MAW_INVALID_ARGUMENT, "options." #field);   \
    } while (0)

#define OPTION_IS_ENUM(field, known)                                                                                   \
    do {                                                                                                               \
        OPTION(field, -1);                                                                                             \
        OPTION(field, known);                                                                                          \
        OPTION(field, INT32_MIN);                                                                                      \
        OPTION(field, INT32_MAX);                                                                                      \
    } while (0)

#define OPTION_IS_FLAG(field)                                                                                          \
    do {                                                                                                               \
        OPTION(field, 2);                                                                                              \
        OPTION(field, UINT32_MAX);                                                                                     \
    } while (0)

#define OPTION_IS_FINITE(field)                                                                                        \
    do {                                                                                                               \
        OPTION(field, NAN);                                                                                            \
        OPTION(field, INFINITY);                                                                                       \
        OPTION(field, -INFINITY);                                                                                      \
    } while (0)

#define OPTION_IS_NOT_NEGATIVE(field)                                                                                  \
    do {                                                                                                               \
        OPTION_IS_FINITE(field);                                                                                       \
        OPTION(field, NEGATIVE);                                                                                       \
    } while (0)

#define OPTION_IS_COUNT(field, least, most)                                                                            \
    do {                                                                                                               \
        if (least > 0)                                                                                                 \
            OPTION(field, 0);                                                                                          \
        OPTION(field, most + 1);                                                                                       \
        OPTION(field, UINT32_MAX);                                                                                     \
    } while (0)

static const double LOG_RANGES[] = {1.0, 0.999, -1.0, 1.0001e6, INFINITY, -INFINITY, NAN};

static void options(void) {
    GIVEN(NOTHING) {
        OPTION_IS_ENUM(semantics, 2);
        OPTION_IS_ENUM(feature_version, 6);
        OPTION_IS_ENUM(grouping, 3);
        OPTION_IS_ENUM(init, 2);
        OPTION_IS_ENUM(objective, 5);
        OPTION_IS_ENUM(weighting, 3);
        OPTION_IS_ENUM(huw_kinds[0], 2);
        OPTION_IS_ENUM(huw_kinds[1], 2);
        OPTION_IS_ENUM(huw_kinds[2], 2);
        OPTION_IS_ENUM(difference, 3);
        OPTION_IS_ENUM(nonfinite, 3);
        OPTION(nonfinite, MAW_NONFINITE_PROPAGATE); /* with modulation */
        OPTION_IS_ENUM(device, 2);
        OPTION(device_index, 1);
        OPTION(device_index, -1);
        OPTION_IS_FLAG(modulation);
        OPTION_IS_FLAG(use_v_norms);
        OPTION_IS_FLAG(include_time_step);
        OPTION_IS_FLAG(use_feature_gating);
        OPTION_IS_FLAG(verify_params);
        OPTION_IS_NOT_NEGATIVE(alpha_range);
        OPTION_IS_NOT_NEGATIVE(beta_range);
        OPTION(alpha_range, 2.001);
        OPTION(beta_range, 2.001);
        OPTION_IS_NOT_NEGATIVE(meta_lr);
        OPTION_IS_NOT_NEGATIVE(meta_weight_decay);
        OPTION_IS_NOT_NEGATIVE(feature_gating_sparsity);
        OPTION_IS_NOT_NEGATIVE(priorities[0]);
        OPTION_IS_NOT_NEGATIVE(priorities[1]);
        OPTION_IS_NOT_NEGATIVE(priorities[2]);
        OPTION_IS_FINITE(fixed_weights[0]);
        OPTION_IS_FINITE(fixed_weights[1]);
        OPTION_IS_FINITE(fixed_weights[2]);
        OPTION_IS_FINITE(huw_initial_log_var);
        OPTION_IS_NOT_NEGATIVE(log_var_limit);
        OPTION_IS_NOT_NEGATIVE(difference_scale);
        OPTION_IS_NOT_NEGATIVE(max_grad_norm);
        OPTION_IS_COUNT(group_embed_dim, 1, 4096);
        OPTION_IS_COUNT(feature_dim, 0, 65536);
        OPTION_IS_COUNT(attn_heads, 1, 1024);
        OPTION_IS_COUNT(attn_layers, 1, 4096);
        OPTION_IS_COUNT(attn_hidden_dim, 1, 65536);
        OPTION_IS_COUNT(threads, 0, 1024);
        OPTION(meta_interval, 0);
        OPTION_IS_ENUM(meta_optimizer, 2);
        for (size_t i = 0; i < sizeof LOG_RANGES / sizeof *LOG_RANGES; i++) {
            OPTION(alpha_log_range, LOG_RANGES[i]);
            OPTION(beta_log_range, LOG_RANGES[i]);
        }
        OPTION(average_dtype, MAW_FLOAT32);
        OPTION(average_dtype, MAW_FLOAT64);
        OPTION(average_dtype, MAW_FLOAT16);
        OPTION(average_dtype, -1);
        OPTION(horizon, 1);
        OPTION(horizon, ((uint64_t)1 << 32) + 1);
        OPTION(horizon, UINT64_MAX);
        maw_options_preset(&w->options, sizeof w->options, MAW_PRESET_HORIZON);
        w->options.horizon = 0;
        REFUSES(maw_optimizer_create(&w->options, &w->out.created, error), MAW_INVALID_ARGUMENT, "options.horizon");
        w->options.horizon = 1000;
        w->options.meta_optimizer = MAW_META_SGD;
        REFUSES(maw_optimizer_create(&w->options, &w->out.created, error), MAW_INVALID_ARGUMENT,
                "options.meta_optimizer");
        maw_options_init(&w->options, sizeof w->options);
    }
}

static void options_at_their_limits(void) {
    GIVEN(NOTHING) {
        w->options.alpha_range = 2.0;
        w->options.beta_range = 0.0;
        w->options.meta_lr = w->options.log_var_limit = w->options.difference_scale = 0.0;
        w->options.seed = w->options.total_steps = w->options.meta_interval = w->options.meta_warmup = UINT64_MAX;
        w->options.threads = 1024;
        w->options.attn_heads = 1024;
        ACCEPTS(maw_optimizer_create(&w->options, &w->o, error));
    }
}

/* Errors that show only when the features are known, or when memory is allocated. */
static void options_refused_at_preparation(void) {
    for (uint32_t dim = 1; dim < DIM; dim++)
        GIVEN(NOTHING) {
            w->options.feature_dim = dim;
            create(w);
            register_all(w);
            REFUSES(maw_prepare(w->o, error), MAW_INVALID_ARGUMENT, "options.feature_dim");
            REFUSES(maw_step(w->o, w->params, w->grads, N, NULL, NULL, error), MAW_INVALID_ARGUMENT,
                    "options.feature_dim");
            REFUSES(maw_observe_gradient(w->o, 0, w->grad.weight, error), MAW_INVALID_ARGUMENT, "options.feature_dim");
            REFUSES(maw_meta_begin(w->o, w->params, N, &w->out.request, error), MAW_INVALID_ARGUMENT,
                    "options.feature_dim");
            ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors, 2, NULL, error)); /* registration stays open */
        }
    GIVEN(NOTHING) { /* 422 TB of attention module */
        w->options.feature_dim = w->options.attn_hidden_dim = 65536;
        w->options.attn_layers = 4096;
        w->options.attn_heads = 1024;
        create(w);
        register_all(w);
        REFUSES(maw_prepare(w->o, error), MAW_OUT_OF_MEMORY, "out of memory");
    }
    GIVEN(REGISTERED) { /* 4 EB of moments */
        w->shape[0] = UINT64_C(1) << 30;
        w->shape[1] = UINT64_C(1) << 30;
        ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors, 1, NULL, error));
        REFUSES(maw_prepare(w->o, error), MAW_OUT_OF_MEMORY, "out of memory");
    }
}

/* ----------------------------------------------------------- param groups ---- */

#define GROUP(field, value)                                                                                            \
    do {                                                                                                               \
        maw_param_group_init(&w->group, sizeof w->group);                                                              \
        w->group.field = value;                                                                                        \
        REFUSES(maw_add_param_group(w->o, &w->group, w->tensors, 2, &w->out.index, error), MAW_INVALID_ARGUMENT,       \
                "group." #field);                                                                                      \
    } while (0)

#define GROUP_IS_NOT_NEGATIVE(field)                                                                                   \
    do {                                                                                                               \
        GROUP(field, NAN);                                                                                             \
        GROUP(field, INFINITY);                                                                                        \
        GROUP(field, -INFINITY);                                                                                       \
        GROUP(field, NEGATIVE);                                                                                        \
    } while (0)

static void param_groups(void) {
    GIVEN(REGISTERED) {
        GROUP_IS_NOT_NEGATIVE(lr);
        GROUP_IS_NOT_NEGATIVE(beta1);
        GROUP_IS_NOT_NEGATIVE(beta2);
        GROUP_IS_NOT_NEGATIVE(eps);
        GROUP_IS_NOT_NEGATIVE(weight_decay);
        GROUP(beta1, 1.0);
        GROUP(beta2, 1.0);
        GROUP(eps, 0.0);
        GROUP(eps, 1e-40); /* as a float32, the dtype of tensors[0], too small */
        GROUP(precision, -1);
        GROUP(precision, 5);
        GROUP(precision, MAW_PRECISION_TENSOR_NEAREST); /* of tensors only */
        GROUP(moment_dtype, 5);
        GROUP(moment_dtype, MAW_FLOAT16);
        GROUP(moment_dtype, MAW_FLOAT64);
    }
    GIVEN(REGISTERED) {
        w->tensors[0].dtype = MAW_FLOAT16;
        GROUP(precision, MAW_PRECISION_REMAINDER); /* bfloat16 only */
        w->group.precision = MAW_PRECISION_MASTER;
        w->group.moment_dtype = MAW_BFLOAT16;
        ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors, 1, &w->out.index, error));
    }
    GIVEN(REGISTERED) {
        w->group.eps = 1e-300;
        ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors + 1, 1, &w->out.index, error)); /* float64 */
    }
}

/* --------------------------------------------------------------- tensors ---- */

/* tensors[1] is invalid: tensors[0], which is valid, must not be registered either. */
#define TENSOR(field, value, status, says)                                                                             \
    do {                                                                                                               \
        const maw_tensor good = w->tensors[1];                                                                         \
        w->tensors[1].field = value;                                                                                   \
        REFUSES(maw_add_param_group(w->o, &w->group, w->tensors, 2, &w->out.index, error), status, says);              \
        w->tensors[1] = good;                                                                                          \
    } while (0)

#define SHAPE(ndim_, length0, length1)                                                                                 \
    do {                                                                                                               \
        w->shape[2] = length0;                                                                                         \
        w->shape[3] = length1;                                                                                         \
        w->tensors[1].shape = w->shape + 2;                                                                            \
        TENSOR(ndim, ndim_, MAW_INVALID_ARGUMENT, "shape of tensor 'extra.bias'");                                     \
    } while (0)

static void tensors(void) {
    static const int32_t no_dtype[] = {-1, 0, 5, INT32_MIN, INT32_MAX}, no_kind[] = {-1, 8, INT32_MIN, INT32_MAX},
                         no_precision[] = {-1, 5, MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER};
    GIVEN(REGISTERED) {
        for (size_t i = 0; i < 5; i++) {
            TENSOR(dtype, no_dtype[i], MAW_INVALID_ARGUMENT, "dtype of tensor 'extra.bias'");
            if (no_dtype[i] != 0) /* 0 means: as dtype */
                TENSOR(grad_dtype, no_dtype[i], MAW_INVALID_ARGUMENT, "grad_dtype of tensor 'extra.bias'");
        }
        for (size_t i = 0; i < 4; i++)
            TENSOR(layer_kind, no_kind[i], MAW_INVALID_ARGUMENT, "layer_kind of tensor 'extra.bias'");
        for (size_t i = 0; i < 4; i++) /* of a float64 tensor */
            TENSOR(precision, no_precision[i], MAW_INVALID_ARGUMENT, "precision of tensor 'extra.bias'");
        TENSOR(layer_index, 1000001, MAW_INVALID_ARGUMENT, "layer_index of tensor 'extra.bias' is 1000001");
        TENSOR(layer_index, UINT32_MAX, MAW_INVALID_ARGUMENT, "layer_index of tensor 'extra.bias'");
        TENSOR(sharded, 2, MAW_INVALID_ARGUMENT, "sharded of tensor 'extra.bias' is 2");
        TENSOR(reserved, 1, MAW_INVALID_ARGUMENT, "reserved of tensor 'extra.bias' is 1");
        TENSOR(shard_offset, 1, MAW_INVALID_ARGUMENT, "sharded of tensor 'extra.bias' is 0"); /* not sharded */
        TENSOR(shard_numel, UINT64_MAX, MAW_INVALID_ARGUMENT, "sharded of tensor 'extra.bias' is 0");
        TENSOR(name, NULL, MAW_INVALID_ARGUMENT, "tensors[].name is NULL");
        TENSOR(shape, NULL, MAW_INVALID_ARGUMENT, "tensors[].shape is NULL");
        TENSOR(ndim, 65, MAW_INVALID_ARGUMENT, "ndim of tensor 'extra.bias'");
        TENSOR(ndim, UINT32_MAX, MAW_INVALID_ARGUMENT, "ndim of tensor 'extra.bias'");
        TENSOR(modulation_group, "mine", MAW_INVALID_ARGUMENT, "tensors[1].modulation_group"); /* not CUSTOM */
    }
    GIVEN(REGISTERED) { /* the product of the lengths, or the size in bytes, overflows 64 bits */
        SHAPE(1, UINT64_MAX, 0);
        SHAPE(1, UINT64_C(1) << 60, 0);
        SHAPE(2, UINT64_C(1) << 32, UINT64_C(1) << 32);
        SHAPE(2, UINT64_C(3), UINT64_MAX / 2);
    }
    GIVEN(REGISTERED) { /* any dtypes of parameter and gradient together */
        static const int32_t dtypes[] = {MAW_FLOAT32, MAW_FLOAT64, MAW_BFLOAT16, MAW_FLOAT16};
        char name[] = "extra.00";
        w->tensors[0].name = name;
        for (size_t i = 0; i < 16; i++) {
            name[6] = (char)('0' + i / 4), name[7] = (char)('0' + i % 4);
            w->tensors[0].dtype = dtypes[i / 4];
            w->tensors[0].grad_dtype = dtypes[i % 4];
            ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors, 1, NULL, error));
        }
    }
    GIVEN(REGISTERED) { /* no elements, whatever the other lengths; 64 dimensions; a scalar */
        w->shape[2] = UINT64_MAX, w->shape[3] = 0;
        w->tensors[1].shape = w->shape + 2;
        w->tensors[1].ndim = 2;
        ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors + 1, 1, NULL, error));
        w->tensors[0].shape = w->shape + 4;
        w->tensors[0].ndim = 60;
        w->tensors[0].grad_dtype = MAW_FLOAT32;
        ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors, 1, NULL, error));
        w->tensors[0].name = "a scalar";
        w->tensors[0].shape = NULL;
        w->tensors[0].ndim = 0;
        ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors, 1, NULL, error));
    }
    GIVEN_A(CUSTOM, REGISTERED) {
        TENSOR(modulation_group, NULL, MAW_INVALID_ARGUMENT, "tensors[1].modulation_group");
    }
}

/* ----------------------------------------------------------------- names ---- */

static char LONGEST[1025], TOO_LONG[1026], MUCH_TOO_LONG[100000];

static void names(void) {
    static const struct {
        const char *name, *says;
    } broken[] = {
        {"", "is empty"},
        {TOO_LONG, "is longer than 1024 bytes"},
        {MUCH_TOO_LONG, "is longer than 1024 bytes"},
        {"new\nline", "control character U+000A at byte 3"},
        {"\x01", "control character"},
        {"delete\x7f", "control character U+007F"},
        {"next line\xc2\x85", "control character U+0085"},
        {"\xff", "byte 0 is not UTF-8"},
        {"cut\xc3", "byte 3 is not UTF-8"},
        {"overlong\xc0\xaf", "not UTF-8"},
        {"surrogate\xed\xa0\x80", "not UTF-8"},
        {"beyond\xf4\x90\x80\x80", "not UTF-8"},
    };
    memset(LONGEST, 'n', sizeof LONGEST - 1);
    memset(TOO_LONG, 'n', sizeof TOO_LONG - 1);
    memset(MUCH_TOO_LONG, 'n', sizeof MUCH_TOO_LONG - 1);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        GIVEN(REGISTERED) {
            TENSOR(name, broken[i].name, MAW_INVALID_ARGUMENT, "tensors[1].name is not a usable name");
            TENSOR(name, broken[i].name, MAW_INVALID_ARGUMENT, broken[i].says);
        }
        GIVEN_A(CUSTOM, REGISTERED) {
            TENSOR(modulation_group, broken[i].name, MAW_INVALID_ARGUMENT, "modulation_group of tensor 'extra.bias'");
            TENSOR(modulation_group, broken[i].name, MAW_INVALID_ARGUMENT, broken[i].says);
        }
    }
    GIVEN(REGISTERED) {
        w->tensors[0].name = LONGEST;
        w->tensors[1].name = "\xe5\xb1\xa4.0.\xce\xb2 %s%n"; /* UTF-8, blanks and format specifiers are allowed */
        ACCEPTS(maw_add_param_group(w->o, &w->group, w->tensors, 2, NULL, error));
        ACCEPTS(maw_tensor_name(w->o, N, &w->out.text, error));
        if (strcmp(w->out.text, LONGEST) != 0)
            fail(__FILE__, __LINE__, "maw_tensor_name", "gives another name");
    }
}

static void duplicate_names(void) {
    GIVEN(REGISTERED) {
        TENSOR(name, "head.weight", MAW_INVALID_ARGUMENT,
               "'head.weight' of param group 2 is registered already, in param group 1");
        TENSOR(name, "layers.0.attn.weight", MAW_INVALID_ARGUMENT,
               "'layers.0.attn.weight' of param group 2 is registered already, in param group 0");
        TENSOR(name, "extra.weight", MAW_INVALID_ARGUMENT,
               "'extra.weight' of param group 2 is registered already, in param group 2");
    }
}

/* Lookups: an unknown name is not found, an invalid one is an invalid argument. */
static void unknown_names(void) {
    static const char *const unknown[] = {"", "alph", "alpha ", "feature_gates", "output_proj", "%s%n", MUCH_TOO_LONG};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        GIVEN(UPDATED) {
            const char *name = unknown[i], *says = name == MUCH_TOO_LONG ? LONGEST : name;
            REFUSES(maw_attention_get(w->o, name, w->out.values, 4, error), MAW_NOT_FOUND, says);
            REFUSES(maw_attention_set(w->o, name, w->numbers, 4, error), MAW_NOT_FOUND, says);
            REFUSES(maw_meta_gradient(w->o, name, w->out.values, GROUPS, error), MAW_NOT_FOUND, says);
        }
    GIVEN(UPDATED) {
        REFUSES(maw_attention_get(w->o, "\xff", w->out.values, 4, error), MAW_INVALID_ARGUMENT, "name");
        REFUSES(maw_attention_set(w->o, "\xff", w->numbers, 4, error), MAW_INVALID_ARGUMENT, "name");
        REFUSES(maw_meta_gradient(w->o, "\xff", w->out.values, GROUPS, error), MAW_INVALID_ARGUMENT, "name");
        REFUSES(maw_attention_get(w->o, "alpha", w->out.values, GROUPS, error), MAW_NOT_FOUND, "alpha");
    }
}

/* --------------------------------------------------- steps, answers, setters ---- */

static const double NOT_POSITIVE[] = {0.0, -0.0, -1.0, NAN, INFINITY, -INFINITY};
static const double NOT_NEGATIVE_FAILS[] = {-1.0, -DBL_MIN, NAN, INFINITY, -INFINITY};

static void steps_and_answers(void) {
    static const uint32_t no_flags[] = {2, 3, UINT32_MAX};
    static const enum state states[] = {REGISTERED, STEPPED};
    for (size_t s = 0; s < 2; s++)
        GIVEN(states[s]) {
            for (size_t i = 0; i < sizeof NOT_POSITIVE / sizeof *NOT_POSITIVE; i++) {
                w->step.grad_scale = NOT_POSITIVE[i];
                REFUSES(maw_step(w->o, w->params, w->grads, N, &w->step, &w->out.report, error), MAW_INVALID_ARGUMENT,
                        "grad_scale");
            }
            w->step.grad_scale = 1.0;
            for (size_t i = 0; i < 3; i++) {
                w->step.flags = no_flags[i];
                REFUSES(maw_step(w->o, w->params, w->grads, N, &w->step, &w->out.report, error), MAW_INVALID_ARGUMENT,
                        "flags");
            }
            w->step.flags = 0;
            w->step.reserved = 1;
            REFUSES(maw_step(w->o, w->params, w->grads, N, &w->step, &w->out.report, error), MAW_INVALID_ARGUMENT,
                    "reserved");
        }
    GIVEN(OPEN) {
        for (size_t i = 0; i < sizeof NOT_POSITIVE / sizeof *NOT_POSITIVE; i++) {
            w->answer.grad_scale = NOT_POSITIVE[i];
            REFUSES(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error),
                    MAW_INVALID_ARGUMENT, "answer.grad_scale");
        }
    }
}

static void setters(void) {
    static const uint32_t no_reset[] = {0, 4, 7, UINT32_MAX};
    static const char *const priority[] = {"priorities[0]", "priorities[1]", "priorities[2]"};
    static const char *const value[] = {"values[0]", "values[1]", "values[2]", "values[3]"};
    GIVEN(UPDATED) {
        for (size_t i = 0; i < sizeof NOT_NEGATIVE_FAILS / sizeof *NOT_NEGATIVE_FAILS; i++) {
            const double wrong = NOT_NEGATIVE_FAILS[i];
            REFUSES(maw_set_lr(w->o, 1, wrong, error), MAW_INVALID_ARGUMENT, "lr");
            REFUSES(maw_set_lr(w->o, MAW_ALL_GROUPS, wrong, error), MAW_INVALID_ARGUMENT, "lr");
            REFUSES(maw_set_weight_decay(w->o, 1, wrong, error), MAW_INVALID_ARGUMENT, "weight_decay");
            REFUSES(maw_set_weight_decay(w->o, MAW_ALL_GROUPS, wrong, error), MAW_INVALID_ARGUMENT, "weight_decay");
            REFUSES(maw_set_betas(w->o, 1, wrong, 0.9, error), MAW_INVALID_ARGUMENT, "beta1");
            REFUSES(maw_set_betas(w->o, MAW_ALL_GROUPS, 0.9, wrong, error), MAW_INVALID_ARGUMENT, "beta2");
            REFUSES(maw_set_eps(w->o, 1, wrong, error), MAW_INVALID_ARGUMENT, "eps");
            REFUSES(maw_set_max_grad_norm(w->o, wrong, error), MAW_INVALID_ARGUMENT, "max_grad_norm");
            for (size_t j = 0; j < 3; j++) {
                w->numbers[j] = wrong;
                REFUSES(maw_set_priorities(w->o, w->numbers, error), MAW_INVALID_ARGUMENT, priority[j]);
                w->numbers[j] = 2.0;
            }
            for (size_t j = 0; j < 4 && !isfinite(wrong); j++) {
                w->numbers[j] = wrong;
                REFUSES(maw_attention_set(w->o, "output_proj.bias", w->numbers, 4, error), MAW_INVALID_ARGUMENT,
                        value[j]);
                w->numbers[j] = 2.0;
            }
        }
        REFUSES(maw_set_betas(w->o, 0, 1.0, 0.9, error), MAW_INVALID_ARGUMENT, "beta1");
        REFUSES(maw_set_eps(w->o, 0, 0.0, error), MAW_INVALID_ARGUMENT, "eps");
        for (size_t i = 0; i < 4; i++)
            REFUSES(maw_reset(w->o, no_reset[i], error), MAW_INVALID_ARGUMENT, "what");
        REFUSES(maw_set_stream(w->o, w, error), MAW_UNSUPPORTED, "stream");
    }
}

/* ------------------------------------------------------------ not finite ---- */

/* Under MAW_NONFINITE_ERROR and verify_params a step with invalid values in the host's memory fails and changes
 * nothing: with the values corrected, the run continues as if it had not been tried. */
static void strict(void) {
    static const enum state states[] = {REGISTERED, PREPARED, STEPPED, UPDATED};
    static const double broken[] = {NAN, INFINITY, -INFINITY, 1e200};
    for (size_t s = 0; s < 4; s++)
        for (size_t i = 0; i < 4; i++)
            GIVEN_A(STRICT, states[s]) {
                const double gradient = w->grad.bias[2], param = w->param.bias[2];
                w->grad.bias[2] = broken[i];
                REFUSES(maw_step(w->o, w->params, w->grads, N, NULL, &w->out.report, error), MAW_NOT_FINITE,
                        "the gradient of tensor 'layers.0.attn.bias'");
                w->grad.bias[2] = gradient;
                w->param.bias[2] = broken[i];
                w->step.flags = MAW_STEP_PARAMS_CHANGED;
                REFUSES(maw_step(w->o, w->params, w->grads, N, &w->step, &w->out.report, error), MAW_NOT_FINITE,
                        "the parameter of tensor 'layers.0.attn.bias'");
                w->param.bias[2] = param;
            }
    for (size_t s = 2; s < 4; s++)
        GIVEN_A(STRICT, states[s]) {
            const float param = w->param.head[3];
            w->param.head[3] = param + 1.0f;
            REFUSES(maw_step(w->o, w->params, w->grads, N, NULL, &w->out.report, error), MAW_PARAMS_CHANGED,
                    "tensor 'head.weight' changed");
            REFUSES(maw_meta_begin(w->o, w->params, N, &w->out.request, error), MAW_PARAMS_CHANGED,
                    "tensor 'head.weight' changed");
            w->param.head[3] = param;
        }
}

/* A skipped step changes only the count of skipped steps. */
static void skipped(void) {
    static const enum state states[] = {REGISTERED, PREPARED, STEPPED};
    for (size_t s = 0; s < 3; s++)
        GIVEN(states[s]) {
            const double param = w->param.bias[2];
            maw_counters before;
            maw_step_report report;
            maw_counters_init(&before, sizeof before);
            ACCEPTS(maw_counters_get(w->o, &before, error));
            maw_step_report_init(&report, sizeof report);
            w->param.bias[2] = NAN;
            w->step.flags = MAW_STEP_PARAMS_CHANGED;
            ACCEPTS(maw_step(w->o, w->params, w->grads, N, &w->step, &report, error));
            if (report.skip_reason != MAW_SKIP_PARAMETER || report.nonfinite_tensor != 1)
                fail(__FILE__, __LINE__, "maw_step", "was not skipped for its NaN");
            w->param.bias[2] = param;
            ACCEPTS(maw_counters_set(w->o, &before, error));
            w->accepted = 0;
        }
}

void values(void) {
    options();
    options_at_their_limits();
    options_refused_at_preparation();
    param_groups();
    tensors();
    names();
    duplicate_names();
    unknown_names();
    steps_and_answers();
    setters();
    strict();
    skipped();
}
