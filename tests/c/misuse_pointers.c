/* Pointers: every one of every function NULL; misaligned ones; buffers that overlap; arrays with a wrong count. */
#include "misuse.h"

/* ------------------------------------------------------------------ NULL ---- */

static void null_optimizer(void) {
    GIVEN(STEPPED) {
        maw_optimizer *none = NULL;
        struct outputs *out = &w->out;
        NULL_REFUSED(optimizer, maw_add_param_group(none, &w->group, w->tensors, 2, &out->index, error));
        NULL_REFUSED(optimizer, maw_add_tensors(none, 0, w->tensors, 2, error));
        NULL_REFUSED(optimizer, maw_remove_tensor(none, 0, error));
        NULL_REFUSED(optimizer, maw_set_betas(none, 0, 0.9, 0.9, error));
        NULL_REFUSED(optimizer, maw_set_eps(none, 0, 1e-8, error));
        NULL_REFUSED(optimizer, maw_set_max_grad_norm(none, 1.0, error));
        NULL_REFUSED(optimizer, maw_get_betas(none, 0, out->values, out->values + 1, error));
        NULL_REFUSED(optimizer, maw_get_eps(none, 0, out->values, error));
        NULL_REFUSED(optimizer, maw_get_max_grad_norm(none, out->values, error));
        NULL_REFUSED(optimizer, maw_load_report_count(none, MAW_LOAD_MISSING_TENSORS, &out->size, error));
        NULL_REFUSED(optimizer, maw_load_report_name(none, MAW_LOAD_MISSING_TENSORS, 0, &out->text, error));
        NULL_REFUSED(optimizer, maw_prepare(none, error));
        NULL_REFUSED(optimizer, maw_step(none, w->params, w->grads, N, &w->step, &out->report, error));
        NULL_REFUSED(optimizer, maw_step_report_fetch(none, 0, &out->report, error));
        NULL_REFUSED(optimizer, maw_observe_gradient(none, 0, w->grad.weight, error));
        NULL_REFUSED(optimizer, maw_set_lr(none, 0, 0.1, error));
        NULL_REFUSED(optimizer, maw_set_weight_decay(none, 0, 0.1, error));
        NULL_REFUSED(optimizer, maw_set_priorities(none, w->numbers, error));
        NULL_REFUSED(optimizer, maw_reset(none, MAW_RESET_MOMENTS, error));
        NULL_REFUSED(optimizer, maw_set_stream(none, NULL, error));
        NULL_REFUSED(optimizer, maw_set_log(none, NULL, NULL, error));
        NULL_REFUSED(optimizer, maw_set_reduction(none, NULL, NULL, error));
        NULL_REFUSED(optimizer, maw_meta_begin(none, w->params, N, &out->request, error));
        NULL_REFUSED(optimizer, maw_meta_tell(none, &w->answer, w->params, w->grads, N, &out->request, error));
        NULL_REFUSED(optimizer, maw_meta_abort(none, w->params, N, error));
        NULL_REFUSED(optimizer, maw_meta_result_get(none, &out->result, error));
        NULL_REFUSED(optimizer, maw_meta_gradient(none, "alpha", out->values, GROUPS, error));
        NULL_REFUSED(optimizer, maw_get_lr(none, 0, out->values, error));
        NULL_REFUSED(optimizer, maw_get_weight_decay(none, 0, out->values, error));
        NULL_REFUSED(optimizer, maw_get_priorities(none, out->values, error));
        NULL_REFUSED(optimizer, maw_step_count(none, &out->u64, error));
        NULL_REFUSED(optimizer, maw_param_group_count(none, &out->size, error));
        NULL_REFUSED(optimizer, maw_tensor_count(none, &out->size, error));
        NULL_REFUSED(optimizer, maw_tensor_name(none, 0, &out->text, error));
        NULL_REFUSED(optimizer, maw_tensor_group(none, 0, &out->size, error));
        NULL_REFUSED(optimizer, maw_group_count(none, &out->size, error));
        NULL_REFUSED(optimizer, maw_group_name(none, 0, &out->text, error));
        NULL_REFUSED(optimizer, maw_factors(none, out->values, NULL, NULL, NULL, GROUPS, error));
        NULL_REFUSED(optimizer, maw_feature_dim(none, &out->size, error));
        NULL_REFUSED(optimizer, maw_features(none, out->values, GROUPS * DIM, error));
        NULL_REFUSED(optimizer, maw_attention_count(none, &out->size, error));
        NULL_REFUSED(optimizer, maw_attention_name(none, 0, &out->text, error));
        NULL_REFUSED(optimizer, maw_attention_shape(none, 0, &out->rows, &out->columns, error));
        NULL_REFUSED(optimizer, maw_attention_get(none, "output_proj.bias", out->values, 4, error));
        NULL_REFUSED(optimizer, maw_attention_set(none, "output_proj.bias", w->numbers, 4, error));
        NULL_REFUSED(optimizer, maw_save_file(none, "by_a_row.safetensors", 0, error));
        NULL_REFUSED(optimizer, maw_save_bytes(none, 0, &out->bytes, error));
        NULL_REFUSED(optimizer, maw_load_file(none, SAVED_FILE, 0, error));
        NULL_REFUSED(optimizer, maw_load_bytes(none, SAVED, SAVED_SIZE, 0, error));
        NULL_REFUSED(optimizer, maw_dump_state(none, &out->bytes, error));
        NULL_REFUSED(optimizer, maw_tensor_state_get(none, 0, out->values, out->more, 6, &out->u64, error));
        NULL_REFUSED(optimizer, maw_tensor_state_set(none, 0, w->room, w->room, 6, 3, error));
        NULL_REFUSED(optimizer, maw_counters_get(none, &out->counters, error));
        NULL_REFUSED(optimizer, maw_counters_set(none, &w->counters, error));
        NULL_REFUSED(optimizer, maw_master_get(none, 0, NULL, w->room, 6, error));
        NULL_REFUSED(optimizer, maw_master_set(none, 0, w->room, w->room, 6, error));
        NULL_ANSWERS(optimizer, maw_meta_due(none) == 0);
        NULL_ANSWERS(optimizer, maw_optimizer_free(none) == MAW_OK);
    }
}

static void null_arguments(void) {
    GIVEN(NOTHING) {
        NULL_REFUSED(optimizer, maw_optimizer_create(&w->options, NULL, error));
    }
    GIVEN(NOTHING) {
        NULL_ALLOWED(options, maw_optimizer_create(NULL, &w->o, error));
    }
    GIVEN(REGISTERED) {
        NULL_REFUSED(group, maw_add_param_group(w->o, NULL, w->tensors, 2, &w->out.index, error));
        NULL_REFUSED(tensors, maw_add_param_group(w->o, &w->group, NULL, 2, &w->out.index, error));
        NULL_ALLOWED(index, maw_add_param_group(w->o, &w->group, w->tensors, 2, NULL, error));
    }
    GIVEN(STEPPED) {
        NULL_REFUSED(report, maw_step_report_fetch(w->o, 0, NULL, error));
        NULL_REFUSED(gradient, maw_observe_gradient(w->o, 0, NULL, error));
        NULL_REFUSED(gradient, maw_observe_gradient(w->o, 3, NULL, error)); /* a tensor without elements */
        NULL_REFUSED(priorities, maw_set_priorities(w->o, NULL, error));
        NULL_REFUSED(params, maw_meta_begin(w->o, NULL, N, &w->out.request, error));
        NULL_REFUSED(request, maw_meta_begin(w->o, w->params, N, NULL, error));
        NULL_REFUSED(result, maw_meta_result_get(w->o, NULL, error));
        NULL_REFUSED(tensors, maw_add_tensors(w->o, 0, NULL, 2, error));
        NULL_REFUSED(beta1, maw_get_betas(w->o, 0, NULL, w->out.values, error));
        NULL_REFUSED(beta2, maw_get_betas(w->o, 0, w->out.values, NULL, error));
        NULL_REFUSED(eps, maw_get_eps(w->o, 0, NULL, error));
        NULL_REFUSED(max_grad_norm, maw_get_max_grad_norm(w->o, NULL, error));
        NULL_REFUSED(count, maw_load_report_count(w->o, MAW_LOAD_UNEXPECTED_GROUPS, NULL, error));
        NULL_REFUSED(lr, maw_get_lr(w->o, 0, NULL, error));
        NULL_REFUSED(weight_decay, maw_get_weight_decay(w->o, 0, NULL, error));
        NULL_REFUSED(priorities, maw_get_priorities(w->o, NULL, error));
        NULL_REFUSED(steps, maw_step_count(w->o, NULL, error));
        NULL_REFUSED(count, maw_param_group_count(w->o, NULL, error));
        NULL_REFUSED(count, maw_tensor_count(w->o, NULL, error));
        NULL_REFUSED(name, maw_tensor_name(w->o, 0, NULL, error));
        NULL_REFUSED(group, maw_tensor_group(w->o, 0, NULL, error));
        NULL_REFUSED(count, maw_group_count(w->o, NULL, error));
        NULL_REFUSED(name, maw_group_name(w->o, 0, NULL, error));
        NULL_REFUSED(dim, maw_feature_dim(w->o, NULL, error));
        NULL_REFUSED(features, maw_features(w->o, NULL, GROUPS * DIM, error));
        NULL_REFUSED(count, maw_attention_count(w->o, NULL, error));
        NULL_REFUSED(name, maw_attention_name(w->o, 0, NULL, error));
        NULL_REFUSED(rows, maw_attention_shape(w->o, 0, NULL, &w->out.columns, error));
        NULL_REFUSED(columns, maw_attention_shape(w->o, 0, &w->out.rows, NULL, error));
        NULL_REFUSED(name, maw_attention_get(w->o, NULL, w->out.values, 4, error));
        NULL_REFUSED(values, maw_attention_get(w->o, "output_proj.bias", NULL, 4, error));
        NULL_REFUSED(name, maw_attention_set(w->o, NULL, w->numbers, 4, error));
        NULL_REFUSED(values, maw_attention_set(w->o, "output_proj.bias", NULL, 4, error));
    }
    GIVEN(STEPPED) {
        NULL_REFUSED(params, maw_step(w->o, NULL, w->grads, N, &w->step, &w->out.report, error));
        NULL_REFUSED(grads, maw_step(w->o, w->params, NULL, N, &w->step, &w->out.report, error));
        NULL_ALLOWED(options, maw_step(w->o, w->params, w->grads, N, NULL, &w->out.report, error));
        NULL_ALLOWED(report, maw_step(w->o, w->params, w->grads, N, &w->step, NULL, error));
    }
    GIVEN(STEPPED) {
        NULL_ALLOWED(alpha, maw_factors(w->o, NULL, w->out.more, w->out.lambda1, w->out.lambda2, GROUPS, error));
        NULL_ALLOWED(beta, maw_factors(w->o, w->out.values, NULL, w->out.lambda1, w->out.lambda2, GROUPS, error));
        NULL_ALLOWED(lambda1, maw_factors(w->o, w->out.values, w->out.more, NULL, w->out.lambda2, GROUPS, error));
        NULL_ALLOWED(lambda2, maw_factors(w->o, w->out.values, w->out.more, w->out.lambda1, NULL, GROUPS, error));
        ACCEPTS(maw_factors(w->o, NULL, NULL, NULL, NULL, GROUPS, error));
        NULL_ALLOWED(stream, maw_set_stream(w->o, NULL, error));
        NULL_ALLOWED(callback, maw_set_log(w->o, NULL, w, error));
        NULL_ALLOWED(user_data, maw_set_log(w->o, NULL, NULL, error));
    }
    GIVEN(REGISTERED) {
        NULL_ALLOWED(callback, maw_set_reduction(w->o, NULL, w, error));
        NULL_ALLOWED(user_data, maw_set_reduction(w->o, NULL, NULL, error));
    }
    GIVEN(STEPPED) {
        NULL_REFUSED(path, maw_save_file(w->o, NULL, 0, error));
        NULL_REFUSED(bytes, maw_save_bytes(w->o, 0, NULL, error));
        NULL_REFUSED(path, maw_load_file(w->o, NULL, 0, error));
        NULL_REFUSED(data, maw_load_bytes(w->o, NULL, SAVED_SIZE, 0, error));
        NULL_REFUSED(json, maw_dump_state(w->o, NULL, error));
        NULL_REFUSED(counters, maw_counters_get(w->o, NULL, error));
        NULL_REFUSED(counters, maw_counters_set(w->o, NULL, error));
        NULL_REFUSED(exp_avg, maw_tensor_state_set(w->o, 0, NULL, w->room, 6, 3, error));
        NULL_REFUSED(exp_avg_sq, maw_tensor_state_set(w->o, 0, w->room, NULL, 6, 3, error));
    }
    GIVEN(STEPPED) {
        NULL_ALLOWED(exp_avg, maw_tensor_state_get(w->o, 0, NULL, w->out.more, 6, &w->out.u64, error));
        NULL_ALLOWED(exp_avg_sq, maw_tensor_state_get(w->o, 0, w->out.values, NULL, 6, &w->out.u64, error));
        NULL_ALLOWED(step, maw_tensor_state_get(w->o, 0, w->out.values, w->out.more, 6, NULL, error));
        ACCEPTS(maw_tensor_state_get(w->o, 0, NULL, NULL, 6, NULL, error));
        ACCEPTS(maw_tensor_state_set(w->o, 3, NULL, NULL, 0, 3, error)); /* a tensor without elements */
    }
    GIVEN(UPDATED) {
        NULL_REFUSED(name, maw_meta_gradient(w->o, NULL, w->out.values, GROUPS, error));
        NULL_REFUSED(values, maw_meta_gradient(w->o, "alpha", NULL, GROUPS, error));
    }
    GIVEN(OPEN) {
        NULL_REFUSED(answer, maw_meta_tell(w->o, NULL, w->params, w->grads, N, &w->out.request, error));
        NULL_REFUSED(params, maw_meta_tell(w->o, &w->answer, NULL, w->grads, N, &w->out.request, error));
        NULL_REFUSED(grads, maw_meta_tell(w->o, &w->answer, w->params, NULL, N, &w->out.request, error));
        NULL_REFUSED(request, maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, NULL, error));
        NULL_REFUSED(params, maw_meta_abort(w->o, NULL, N, error));
        ACCEPTS(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error));
        w->answer.request_id = w->out.request.id; /* a loss, which needs no gradients */
        NULL_ALLOWED(grads, maw_meta_tell(w->o, &w->answer, w->params, NULL, N, &w->out.request, error));
    }
}

static void null_without_error_object(void) {
    GIVEN(NOTHING) {
        NULL_ANSWERS(options, maw_options_init(NULL, sizeof(maw_options)) == MAW_INVALID_ARGUMENT);
        NULL_ANSWERS(options, maw_options_preset(NULL, sizeof(maw_options), MAW_PRESET_HORIZON) == MAW_INVALID_ARGUMENT);
        NULL_ANSWERS(group, maw_param_group_init(NULL, sizeof(maw_param_group)) == MAW_INVALID_ARGUMENT);
        NULL_ANSWERS(tensor, maw_tensor_init(NULL, sizeof(maw_tensor)) == MAW_INVALID_ARGUMENT);
        NULL_ANSWERS(options, maw_step_options_init(NULL, sizeof(maw_step_options)) == MAW_INVALID_ARGUMENT);
        NULL_ANSWERS(report, maw_step_report_init(NULL, sizeof(maw_step_report)) == MAW_INVALID_ARGUMENT);
        NULL_ANSWERS(request, maw_meta_request_init(NULL, sizeof(maw_meta_request)) == MAW_INVALID_ARGUMENT);
        NULL_ANSWERS(answer, maw_meta_answer_init(NULL, sizeof(maw_meta_answer)) == MAW_INVALID_ARGUMENT);
        NULL_ANSWERS(result, maw_meta_result_init(NULL, sizeof(maw_meta_result)) == MAW_INVALID_ARGUMENT);
        NULL_ANSWERS(counters, maw_counters_init(NULL, sizeof(maw_counters)) == MAW_INVALID_ARGUMENT);
        NULL_ANSWERS(error, maw_error_code(NULL) == MAW_OK);
        NULL_ANSWERS(error, strcmp(maw_error_message(NULL), "") == 0);
        NULL_ANSWERS(error, (maw_error_free(NULL), 1));
        NULL_ANSWERS(bytes, maw_bytes_data(NULL) == NULL);
        NULL_ANSWERS(bytes, maw_bytes_size(NULL) == 0);
        NULL_ANSWERS(bytes, (maw_bytes_free(NULL), 1));
        ANSWERS(strcmp(maw_version(), MAW_VERSION) == 0);
        ANSWERS(maw_abi_version() == MAW_ABI_VERSION);
        ANSWERS(maw_cuda_available() <= 1);
        ANSWERS(strcmp(maw_status_name(MAW_BUSY), "MAW_BUSY") == 0);
        ANSWERS(strcmp(maw_status_name(1), "unknown status") == 0);
        ANSWERS(strcmp(maw_status_name(INT32_MIN), "unknown status") == 0);
    }
}

/* ------------------------------------------------------------ misaligned ---- */

static void misaligned(void) {
    static const char says[] = "misaligned";
    GIVEN(NOTHING) {
        REFUSES(maw_optimizer_create(&w->options, MISALIGNED(&w->out.created), error), MAW_INVALID_ARGUMENT, says);
    }
    GIVEN(REGISTERED) {
        w->tensors[1].shape = MISALIGNED(w->shape);
        REFUSES(maw_add_param_group(w->o, &w->group, w->tensors, 2, &w->out.index, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_add_param_group(w->o, &w->group, w->tensors, 1, MISALIGNED(&w->out.index), error),
                MAW_INVALID_ARGUMENT, says);
    }
    GIVEN(UPDATED) {
        struct outputs *out = &w->out;
        double *values = MISALIGNED(out->values);
        void *params = MISALIGNED(w->params), *grads = MISALIGNED(w->grads);
        REFUSES(maw_prepare(MISALIGNED(w->o), error), MAW_INVALID_ARGUMENT, "optimizer");
        REFUSES(maw_step(w->o, params, w->grads, N, NULL, NULL, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_step(w->o, w->params, grads, N, NULL, NULL, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_meta_begin(w->o, params, N, &out->request, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_set_priorities(w->o, MISALIGNED(w->numbers), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_get_lr(w->o, 0, values, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_get_weight_decay(w->o, 0, values, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_get_priorities(w->o, values, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_step_count(w->o, MISALIGNED(&out->u64), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_param_group_count(w->o, MISALIGNED(&out->size), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_tensor_count(w->o, MISALIGNED(&out->size), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_tensor_name(w->o, 0, MISALIGNED(&out->text), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_tensor_group(w->o, 0, MISALIGNED(&out->size), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_group_count(w->o, MISALIGNED(&out->size), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_group_name(w->o, 0, MISALIGNED(&out->text), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_factors(w->o, out->more, NULL, NULL, values, GROUPS, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_feature_dim(w->o, MISALIGNED(&out->size), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_features(w->o, values, GROUPS * DIM, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_attention_count(w->o, MISALIGNED(&out->size), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_attention_name(w->o, 0, MISALIGNED(&out->text), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_attention_shape(w->o, 0, MISALIGNED(&out->rows), &out->columns, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_attention_shape(w->o, 0, &out->rows, MISALIGNED(&out->columns), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_attention_get(w->o, "output_proj.bias", values, 4, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_attention_set(w->o, "output_proj.bias", values, 4, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_meta_gradient(w->o, "alpha", values, GROUPS, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_save_bytes(w->o, 0, MISALIGNED(&out->bytes), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_dump_state(w->o, MISALIGNED(&out->bytes), error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_tensor_state_get(w->o, 0, values, out->more, 6, NULL, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_tensor_state_get(w->o, 0, out->more, values, 6, NULL, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_tensor_state_get(w->o, 0, out->values, out->more, 6, MISALIGNED(&out->u64), error),
                MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_tensor_state_set(w->o, 0, MISALIGNED(w->room), w->room, 6, 3, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_tensor_state_set(w->o, 0, w->room, MISALIGNED(w->room), 6, 3, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_observe_gradient(w->o, 1, MISALIGNED(w->grad.bias), error), MAW_INVALID_ARGUMENT,
                "tensor 'layers.0.attn.bias') is not aligned to its 8-byte elements");
        ANSWERS(maw_meta_due(MISALIGNED(w->o)) == 0);
        ANSWERS(maw_optimizer_free(MISALIGNED(w->o)) == MAW_INVALID_ARGUMENT);
    }
    GIVEN(OPEN) {
        REFUSES(maw_meta_tell(w->o, &w->answer, MISALIGNED(w->params), w->grads, N, &w->out.request, error),
                MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_meta_tell(w->o, &w->answer, w->params, MISALIGNED(w->grads), N, &w->out.request, error),
                MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_meta_abort(w->o, MISALIGNED(w->params), N, error), MAW_INVALID_ARGUMENT, says);
    }
}

/* --------------------------------------------------------------- buffers ---- */

static void head_is_null(struct fixture *w) {
    w->params[2] = NULL;
}

static void all_are_null(struct fixture *w) {
    for (size_t i = 0; i < N; i++)
        w->params[i] = NULL, w->grads[i] = NULL;
}

static void bias_is_misaligned(struct fixture *w) {
    w->params[1] = (unsigned char *)w->param.bias + 4; /* aligned for a float32 only */
}

static void empty_is_misaligned(struct fixture *w) {
    w->params[3] = MISALIGNED(w->param.head);
}

static void bias_ends_behind_memory(struct fixture *w) {
    w->params[1] = (void *)(UINTPTR_MAX - 15);
}

static void head_is_weight(struct fixture *w) {
    w->params[2] = w->param.weight;
}

static void head_begins_in_weight(struct fixture *w) {
    w->params[2] = w->param.weight + 5;
}

static void head_ends_in_weight(struct fixture *w) {
    w->params[2] = w->room;
    w->params[0] = w->room + 3;
}

static void gradient_is_misaligned(struct fixture *w) {
    w->grads[2] = (unsigned char *)w->grad.head + 2;
}

static void gradient_is_own_parameter(struct fixture *w) {
    w->grads[1] = w->param.bias;
}

static void gradient_begins_in_other_parameter(struct fixture *w) {
    w->grads[2] = w->param.weight + 5;
}

static void gradient_ends_in_other_parameter(struct fixture *w) {
    w->params[0] = w->room + 4;
    w->grads[2] = w->room + 1;
}

/* Buffers that every call must refuse: in the first step, and later, when valid pointers are cached. */
static void refused_by_all(void (*spoil)(struct fixture *), int of_gradients, const char *says) {
    static const enum state states[] = {REGISTERED, PREPARED, STEPPED};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        GIVEN(states[i]) {
            spoil(w);
            REFUSES(maw_step(w->o, w->params, w->grads, N, &w->step, &w->out.report, error), MAW_INVALID_ARGUMENT,
                    says);
            if (!of_gradients)
                REFUSES(maw_meta_begin(w->o, w->params, N, &w->out.request, error), MAW_INVALID_ARGUMENT, says);
        }
    GIVEN(OPEN) {
        spoil(w);
        REFUSES(maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error), MAW_INVALID_ARGUMENT,
                says);
        if (!of_gradients)
            REFUSES(maw_meta_abort(w->o, w->params, N, error), MAW_INVALID_ARGUMENT, says);
    }
}

static void buffers(void) {
    refused_by_all(head_is_null, 0, "params[2] is NULL, but tensor 'head.weight' has 4 elements");
    refused_by_all(all_are_null, 0, "params[0] is NULL");
    refused_by_all(bias_is_misaligned, 0, "params[1] (tensor 'layers.0.attn.bias') is not aligned");
    refused_by_all(empty_is_misaligned, 0, "params[3] (tensor 'head.empty') is not aligned");
    refused_by_all(bias_ends_behind_memory, 0, "params[1]");
    refused_by_all(head_is_weight, 0, "overlaps params[2] (tensor 'head.weight')");
    refused_by_all(head_begins_in_weight, 0, "overlaps params[2] (tensor 'head.weight')");
    refused_by_all(head_ends_in_weight, 0, "overlaps params[2] (tensor 'head.weight')");
    refused_by_all(gradient_is_misaligned, 1, "grads[2] (tensor 'head.weight') is not aligned");
    refused_by_all(gradient_is_own_parameter, 1, "overlaps grads[1] (tensor 'layers.0.attn.bias')");
    refused_by_all(gradient_begins_in_other_parameter, 1, "overlaps grads[2] (tensor 'head.weight')");
    refused_by_all(gradient_ends_in_other_parameter, 1, "overlaps grads[2] (tensor 'head.weight')");
}

/* The cache of valid pointers must not let invalid ones pass. */
static void remembered_buffers(void) {
    GIVEN(STEPPED) {
        w->grads[2] = w->room;
        ACCEPTS(maw_step(w->o, w->params, w->grads, N, NULL, NULL, error));
        w->grads[2] = NULL;
        w->params[0] = w->room; /* this time no gradient is here */
        ACCEPTS(maw_step(w->o, w->params, w->grads, N, NULL, NULL, error));
        w->grads[2] = w->room;
        REFUSES(maw_step(w->o, w->params, w->grads, N, NULL, NULL, error), MAW_INVALID_ARGUMENT, "overlaps grads[2]");
    }
}

/* Adjacent buffers do not overlap, gradients may share memory, and a tensor without elements overlaps nothing. */
static void buffers_that_are_fine(void) {
    GIVEN(STEPPED) {
        w->params[0] = w->room + 4;
        w->params[2] = w->room;
        w->params[3] = w->room + 1;
        w->grads[2] = w->grad.weight;
        w->grads[3] = w->room + 2;
        ACCEPTS(maw_step(w->o, w->params, w->grads, N, NULL, NULL, error));
        ACCEPTS(maw_step(w->o, w->params, (const void *[N]){NULL}, N, NULL, NULL, error));
    }
}

/* ---------------------------------------------------------------- counts ---- */

/* The last one exceeds any memory. */
static const size_t WRONG[] = {0, N - 1, N + 1, SIZE_MAX / sizeof(double) + 1, SIZE_MAX};
enum { WRONGS = sizeof WRONG / sizeof *WRONG };

static void counts(void) {
    static const char says[] = "count is ";
    for (size_t i = 0; i < WRONGS; i++) {
        const size_t n = WRONG[i], groups = n == N - 1 ? GROUPS - 1 : n;
        GIVEN(REGISTERED) {
            REFUSES(maw_step(w->o, w->params, w->grads, n, NULL, &w->out.report, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_meta_begin(w->o, w->params, n, &w->out.request, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_tensor_state_set(w->o, 0, w->room, w->room, n, 3, error), MAW_INVALID_ARGUMENT, says);
        }
        GIVEN(UPDATED) {
            double *values = w->out.values;
            REFUSES(maw_step(w->o, w->params, w->grads, n, NULL, &w->out.report, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_meta_begin(w->o, w->params, n, &w->out.request, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_factors(w->o, values, NULL, NULL, NULL, groups, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_features(w->o, values, n, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_meta_gradient(w->o, "alpha", values, groups, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_meta_gradient(w->o, "output_proj.bias", values, n, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_attention_get(w->o, "output_proj.bias", values, n, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_attention_set(w->o, "output_proj.bias", w->numbers, n, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_tensor_state_get(w->o, 0, values, w->out.more, n, NULL, error), MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_tensor_state_set(w->o, 0, w->room, w->room, n, 3, error), MAW_INVALID_ARGUMENT, says);
        }
        GIVEN(OPEN) {
            REFUSES(maw_meta_tell(w->o, &w->answer, w->params, w->grads, n, &w->out.request, error),
                    MAW_INVALID_ARGUMENT, says);
            REFUSES(maw_meta_abort(w->o, w->params, n, error), MAW_INVALID_ARGUMENT, says);
        }
    }
    GIVEN(REGISTERED) {
        REFUSES(maw_add_param_group(w->o, &w->group, w->tensors, 0, &w->out.index, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_add_param_group(w->o, &w->group, NULL, 0, &w->out.index, error), MAW_INVALID_ARGUMENT, says);
        REFUSES(maw_add_tensors(w->o, 0, w->tensors, 0, error), MAW_INVALID_ARGUMENT, says);
    }
}

static void indices(void) {
    static const size_t tensors[] = {N, UINT32_MAX, SIZE_MAX}, groups[] = {GROUPS, UINT32_MAX, SIZE_MAX},
                        entries[] = {100, UINT32_MAX, SIZE_MAX};
    static const uint32_t param_groups[] = {PARAM_GROUPS, INT32_MAX, MAW_ALL_GROUPS - 1};
    for (size_t i = 0; i < 3; i++)
        GIVEN(STEPPED) {
            struct outputs *out = &w->out;
            const uint32_t group = param_groups[i];
            REFUSES(maw_observe_gradient(w->o, tensors[i], w->grad.weight, error), MAW_NOT_FOUND, "no tensor");
            REFUSES(maw_tensor_name(w->o, tensors[i], &out->text, error), MAW_NOT_FOUND, "no tensor");
            REFUSES(maw_tensor_group(w->o, tensors[i], &out->size, error), MAW_NOT_FOUND, "no tensor");
            REFUSES(maw_tensor_state_get(w->o, tensors[i], NULL, NULL, 6, NULL, error), MAW_NOT_FOUND, "no tensor");
            REFUSES(maw_tensor_state_set(w->o, tensors[i], w->room, w->room, 6, 3, error), MAW_NOT_FOUND, "no tensor");
            REFUSES(maw_group_name(w->o, groups[i], &out->text, error), MAW_NOT_FOUND, "no modulation group");
            REFUSES(maw_attention_name(w->o, entries[i], &out->text, error), MAW_NOT_FOUND,
                    "no tensor of the attention module");
            REFUSES(maw_attention_shape(w->o, entries[i], &out->rows, &out->columns, error), MAW_NOT_FOUND,
                    "no tensor of the attention module");
            REFUSES(maw_remove_tensor(w->o, tensors[i], error), MAW_NOT_FOUND, "no tensor");
            REFUSES(maw_load_report_name(w->o, MAW_LOAD_MISSING_TENSORS, tensors[i], &out->text, error), MAW_NOT_FOUND,
                    "no name of a load");
            REFUSES(maw_add_tensors(w->o, group, w->tensors, 2, error), MAW_NOT_FOUND, "no param group");
            REFUSES(maw_set_betas(w->o, group, 0.9, 0.9, error), MAW_NOT_FOUND, "no param group");
            REFUSES(maw_set_eps(w->o, group, 1e-8, error), MAW_NOT_FOUND, "no param group");
            REFUSES(maw_get_betas(w->o, group, out->values, out->values + 1, error), MAW_NOT_FOUND, "no param group");
            REFUSES(maw_get_eps(w->o, group, out->values, error), MAW_NOT_FOUND, "no param group");
            REFUSES(maw_set_lr(w->o, group, 0.1, error), MAW_NOT_FOUND, "no param group");
            REFUSES(maw_set_weight_decay(w->o, group, 0.1, error), MAW_NOT_FOUND, "no param group");
            REFUSES(maw_get_lr(w->o, group, out->values, error), MAW_NOT_FOUND, "no param group");
            REFUSES(maw_get_weight_decay(w->o, group, out->values, error), MAW_NOT_FOUND, "no param group");
        }
    GIVEN(STEPPED) { /* setting all groups is allowed, getting all is not */
        REFUSES(maw_add_tensors(w->o, MAW_ALL_GROUPS, w->tensors, 2, error), MAW_NOT_FOUND, "no param group");
        REFUSES(maw_get_betas(w->o, MAW_ALL_GROUPS, w->out.values, w->out.values, error), MAW_NOT_FOUND, "param group");
        REFUSES(maw_get_eps(w->o, MAW_ALL_GROUPS, w->out.values, error), MAW_NOT_FOUND, "no param group");
        REFUSES(maw_get_lr(w->o, MAW_ALL_GROUPS, w->out.values, error), MAW_NOT_FOUND, "no param group");
        REFUSES(maw_get_weight_decay(w->o, MAW_ALL_GROUPS, w->out.values, error), MAW_NOT_FOUND, "no param group");
    }
    GIVEN(REGISTERED) { /* the first call prepares, unless it is refused */
        REFUSES(maw_observe_gradient(w->o, N, w->grad.weight, error), MAW_NOT_FOUND, "no tensor");
        REFUSES(maw_observe_gradient(w->o, 0, NULL, error), MAW_INVALID_ARGUMENT, "gradient is NULL");
    }
}

void pointers(void) {
    null_optimizer();
    null_arguments();
    null_without_error_object();
    misaligned();
    buffers();
    remembered_buffers();
    buffers_that_are_fine();
    counts();
    indices();
}
