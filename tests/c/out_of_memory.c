/* Every function of the header without memory: its n-th allocation fails, for n = 1, 2, ... until the call makes fewer; or
 * all from the n-th on fail. After each call: MAW_OUT_OF_MEMORY, or what the function returns with memory; after
 * MAW_OUT_OF_MEMORY nothing observable has changed, and the run goes on with the bits of an undisturbed one; when all is
 * freed, no block is left. c_api.rs compares the rows with the list of exports, and sees that nothing is printed. */
#include "failing_memory.h"
#include "misuse.h"

#include <dirent.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static size_t refusals;

/* ------------------------------------------------------------------ rows ---- */

/* A call. Returns its status; -1000 if an output is wrong. */
typedef maw_status call(struct fixture *w, maw_error **error);
enum { WRONG = -1000 };

static maw_status is(int condition) { return condition ? MAW_OK : WRONG; }

#define CALL(name, expression)                                                                                         \
    static maw_status name(struct fixture *w, maw_error **error) {                                                     \
        (void)w, (void)error;                                                                                          \
        return expression;                                                                                             \
    }
#define INIT(type)                                                                                                     \
    static maw_status type##_init_row(struct fixture *w, maw_error **error) {                                          \
        type it;                                                                                                       \
        (void)w, (void)error;                                                                                          \
        return type##_init(&it, sizeof it);                                                                            \
    }

INIT(maw_options)
INIT(maw_param_group)
INIT(maw_tensor)
INIT(maw_step_options)
INIT(maw_step_report)
INIT(maw_meta_request)
INIT(maw_meta_answer)
INIT(maw_meta_result)
INIT(maw_counters)

static maw_status preset(struct fixture *w, maw_error **error) {
    maw_options it;
    (void)w, (void)error;
    return maw_options_preset(&it, sizeof it, MAW_PRESET_HORIZON);
}

CALL(version, is(strcmp(maw_version(), MAW_VERSION) == 0))
CALL(abi_version, is(maw_abi_version() == MAW_ABI_VERSION))
CALL(status_name, is(strcmp(maw_status_name(MAW_OUT_OF_MEMORY), "MAW_OUT_OF_MEMORY") == 0))

CALL(create_row, maw_optimizer_create(&w->options, &w->out.created, error))
CALL(create_invalid, (w->options.attn_heads = 0, maw_optimizer_create(&w->options, &w->out.created, error)))
static maw_status free_row(struct fixture *w, maw_error **error) {
    (void)error;
    maw_status status = maw_optimizer_free(w->o);
    w->o = NULL;
    return status;
}
CALL(add, maw_add_param_group(w->o, &w->group, w->tensors, 2, &w->out.index, error))
CALL(add_twice, (w->tensors[1].name = w->tensors[0].name,
                 maw_add_param_group(w->o, &w->group, w->tensors, 2, &w->out.index, error)))
CALL(add_tensors, maw_add_tensors(w->o, 1, w->tensors, 2, error))
CALL(add_tensors_nowhere, maw_add_tensors(w->o, 7, w->tensors, 2, error))
CALL(remove_tensor, maw_remove_tensor(w->o, 1, error))
CALL(set_betas, maw_set_betas(w->o, MAW_ALL_GROUPS, 0.5, 0.75, error))
CALL(set_eps, maw_set_eps(w->o, 0, 1e-5, error))
CALL(set_max_grad_norm, maw_set_max_grad_norm(w->o, 0.5, error))
CALL(get_betas, maw_get_betas(w->o, 0, w->out.values, w->out.values + 1, error))
CALL(get_eps, maw_get_eps(w->o, 0, w->out.values, error))
CALL(get_max_grad_norm, maw_get_max_grad_norm(w->o, w->out.values, error))
CALL(load_partial, maw_load_bytes(w->o, SAVED, SAVED_SIZE, MAW_LOAD_PARTIAL, error))
CALL(load_report_count, maw_load_report_count(w->o, MAW_LOAD_MISSING_TENSORS, &w->out.size, error))
CALL(load_report_name, maw_load_report_name(w->o, MAW_LOAD_MISSING_TENSORS, 0, &w->out.text, error))
CALL(prepare, maw_prepare(w->o, error))
CALL(step_row, maw_step(w->o, w->params, w->grads, N, &w->step, &w->out.report, error))
CALL(step_misaligned, (w->grads[1] = MISALIGNED(w->grads[1]),
                       maw_step(w->o, w->params, w->grads, N, &w->step, &w->out.report, error)))
CALL(step_not_finite, step_row(w, error))
CALL(report_fetch, maw_step_report_fetch(w->o, MAW_FETCH_WAIT, &w->out.report, error))
CALL(observe, maw_observe_gradient(w->o, 1, w->grads[1], error))
CALL(set_lr, maw_set_lr(w->o, MAW_ALL_GROUPS, 0.25, error))
CALL(set_lr_nowhere, maw_set_lr(w->o, 7, 0.25, error))
CALL(set_weight_decay, maw_set_weight_decay(w->o, 0, 0.25, error))
CALL(set_priorities, (w->numbers[1] = 2.0, maw_set_priorities(w->o, w->numbers, error)))
CALL(reset, maw_reset(w->o, MAW_RESET_MOMENTS | MAW_RESET_ATTENTION, error))
CALL(set_stream, maw_set_stream(w->o, NULL, error))
static void heard(int32_t level, const char *message, void *user_data) {
    (void)level, (void)message, (void)user_data;
}
CALL(set_log, maw_set_log(w->o, heard, w, error))
/* Of a process that is alone the sums are its own. */
static int32_t alone(double *values, size_t count, void *user_data) {
    (void)values, (void)count, (void)user_data;
    return 0;
}
CALL(set_reduction, maw_set_reduction(w->o, alone, w, error))

CALL(average_get, maw_average_get(w->o, 1, w->out.values, 3, error))
CALL(average_swap, maw_average_swap(w->o, w->params, N, error))

CALL(meta_due, is(maw_meta_due(w->o) == 1))
CALL(meta_begin, maw_meta_begin(w->o, w->params, N, &w->out.request, error))
CALL(meta_tell, maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error))
CALL(meta_tell_other, (w->answer.request_id += 5,
                       maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error)))
CALL(meta_tell_nan, (w->answer.loss = NAN,
                     maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, error)))
CALL(meta_abort, maw_meta_abort(w->o, w->params, N, error))
CALL(meta_result, maw_meta_result_get(w->o, &w->out.result, error))
CALL(meta_gradient, maw_meta_gradient(w->o, "beta", w->out.more, GROUPS, error))
/* The answers to later requests of a meta-update: see answers_before. */
CALL(meta_tell_second, meta_tell(w, error))
CALL(meta_tell_third, meta_tell(w, error))
CALL(meta_tell_fourth, meta_tell(w, error))
CALL(meta_tell_fifth, meta_tell(w, error))

CALL(get_lr, maw_get_lr(w->o, 1, w->out.values, error))
CALL(get_lr_nowhere, maw_get_lr(w->o, 9, w->out.values, error))
CALL(get_weight_decay, maw_get_weight_decay(w->o, 1, w->out.values, error))
CALL(get_priorities, maw_get_priorities(w->o, w->out.values, error))
CALL(step_count, maw_step_count(w->o, &w->out.u64, error))
CALL(param_group_count, maw_param_group_count(w->o, &w->out.size, error))
CALL(tensor_count, maw_tensor_count(w->o, &w->out.size, error))
CALL(tensor_name, maw_tensor_name(w->o, 2, &w->out.text, error))
CALL(tensor_group, maw_tensor_group(w->o, 2, &w->out.size, error))
CALL(group_count, maw_group_count(w->o, &w->out.size, error))
CALL(group_name, maw_group_name(w->o, 1, &w->out.text, error))
CALL(factors, maw_factors(w->o, w->out.values, w->out.more, w->out.lambda1, w->out.lambda2, GROUPS, error))
CALL(feature_dim, maw_feature_dim(w->o, &w->out.size, error))
CALL(features, maw_features(w->o, w->out.values, GROUPS * DIM, error))
CALL(attention_count, maw_attention_count(w->o, &w->out.size, error))
CALL(attention_name, maw_attention_name(w->o, 3, &w->out.text, error))
CALL(attention_shape, maw_attention_shape(w->o, 3, &w->out.rows, &w->out.columns, error))
CALL(attention_get, maw_attention_get(w->o, "output_proj.bias", w->out.values, 4, error))
CALL(attention_set, maw_attention_set(w->o, "output_proj.bias", w->numbers, 4, error))
CALL(counters_get, maw_counters_get(w->o, &w->out.counters, error))
CALL(counters_set, maw_counters_set(w->o, &w->counters, error))
CALL(state_get, maw_tensor_state_get(w->o, 1, w->out.values, w->out.more, 3, &w->out.u64, error))
CALL(state_set, maw_tensor_state_set(w->o, 1, w->numbers, w->numbers, 3, 3, error))

CALL(dump, maw_dump_state(w->o, &w->out.bytes, error))
CALL(save_bytes, maw_save_bytes(w->o, 0, &w->out.bytes, error))
CALL(save_attention, maw_save_bytes(w->o, MAW_ATTENTION_ONLY, &w->out.bytes, error))
CALL(load_bytes, maw_load_bytes(w->o, SAVED, SAVED_SIZE, 0, error))
CALL(load_attention, maw_load_bytes(w->o, SAVED, SAVED_SIZE, MAW_ATTENTION_ONLY, error))
CALL(load_half, maw_load_bytes(w->o, SAVED, SAVED_SIZE / 2, 0, error))
CALL(save_file, maw_save_file(w->o, "out_of_memory.safetensors", 0, error))
CALL(load_file, maw_load_file(w->o, SAVED_FILE, 0, error))
CALL(load_nothing, maw_load_file(w->o, "nothing", 0, error))
static maw_status bytes(struct fixture *w, maw_error **error) {
    maw_bytes *saved = NULL;
    maw_status status = maw_save_bytes(w->o, 0, &saved, error);
    if (status == MAW_OK)
        status = is(maw_bytes_size(saved) > 0 && maw_bytes_data(saved)[maw_bytes_size(saved)] == 0);
    maw_bytes_free(saved);
    return status;
}
static maw_status errors(struct fixture *w, maw_error **error) {
    maw_error *own = NULL;
    maw_status status = maw_set_lr(w->o, 7, 0.25, &own);
    (void)error;
    if (own == NULL || maw_error_code(own) != status || *maw_error_message(own) == '\0')
        status = WRONG;
    maw_error_free(own);
    return status;
}

/* The model's float16 tensor with masters, registered by the row itself. */
static uint16_t half[2];
static int register_half(struct fixture *w) {
    static const uint64_t shape[] = {2};
    maw_param_group group;
    maw_tensor tensor;
    maw_param_group_init(&group, sizeof group);
    maw_tensor_init(&tensor, sizeof tensor);
    group.precision = MAW_PRECISION_MASTER;
    group.moment_dtype = MAW_BFLOAT16;
    tensor.name = "half";
    tensor.shape = shape;
    tensor.ndim = 1;
    tensor.dtype = MAW_FLOAT16;
    return maw_add_param_group(w->o, &group, &tensor, 1, NULL, NULL) == MAW_OK;
}
static const float masters[2] = {0.5f, -1.0f};
CALL(master_set, maw_master_set(w->o, 0, masters, half, 2, error))
CALL(master_get, maw_master_get(w->o, 0, NULL, w->room, 2, error))
CALL(half_state_get, maw_tensor_state_get(w->o, 0, w->room, w->room + 2, 2, &w->out.u64, error))
CALL(half_state_set, maw_tensor_state_set(w->o, 0, masters, w->room, 2, 1, error))

CALL(cuda_available, is(maw_cuda_available() <= 1))
static maw_device_buffer *buffer;
CALL(buffer_create, maw_device_buffer_create(0, 64, (maw_device_buffer **)(void *)&w->out.created, error))
CALL(buffer_upload, maw_device_buffer_upload(buffer, 0, w->room, 64, error))
CALL(buffer_download, maw_device_buffer_download(buffer, 0, w->room, 64, error))
CALL(buffer_beyond, maw_device_buffer_download(buffer, 8, w->room, 64, error))
CALL(buffer_pointer, is(maw_device_buffer_pointer(buffer) != NULL))
CALL(buffer_size, is(maw_device_buffer_size(buffer) == 64))
static maw_status buffer_free(struct fixture *w, maw_error **error) {
    (void)w, (void)error;
    maw_device_buffer_free(buffer);
    buffer = NULL;
    return MAW_OK;
}

static const struct row_of_memory {
    const char *functions; /* those that it covers */
    call *call;
    enum state state;
    enum kind kind;
    maw_status expected;
} ROWS[] = {
    {"maw_options_init", maw_options_init_row, NOTHING, USUAL, MAW_OK},
    {"maw_param_group_init", maw_param_group_init_row, NOTHING, USUAL, MAW_OK},
    {"maw_tensor_init", maw_tensor_init_row, NOTHING, USUAL, MAW_OK},
    {"maw_step_options_init", maw_step_options_init_row, NOTHING, USUAL, MAW_OK},
    {"maw_step_report_init", maw_step_report_init_row, NOTHING, USUAL, MAW_OK},
    {"maw_meta_request_init", maw_meta_request_init_row, NOTHING, USUAL, MAW_OK},
    {"maw_meta_answer_init", maw_meta_answer_init_row, NOTHING, USUAL, MAW_OK},
    {"maw_meta_result_init", maw_meta_result_init_row, NOTHING, USUAL, MAW_OK},
    {"maw_counters_init", maw_counters_init_row, NOTHING, USUAL, MAW_OK},
    {"maw_options_preset", preset, NOTHING, USUAL, MAW_OK},
    {"maw_version", version, NOTHING, USUAL, MAW_OK},
    {"maw_abi_version", abi_version, NOTHING, USUAL, MAW_OK},
    {"maw_status_name", status_name, NOTHING, USUAL, MAW_OK},
    {"maw_optimizer_create", create_row, NOTHING, USUAL, MAW_OK},
    {"maw_optimizer_create", create_invalid, NOTHING, USUAL, MAW_INVALID_ARGUMENT},
    {"maw_optimizer_free", free_row, NEW, USUAL, MAW_OK},
    {"maw_optimizer_free", free_row, UPDATED, LOUD, MAW_OK},
    {"maw_optimizer_free", free_row, OPEN, USUAL, MAW_OK},
    {"maw_add_param_group", add, NEW, USUAL, MAW_OK},
    {"maw_add_param_group", add, REGISTERED, CUSTOM, MAW_OK},
    {"maw_add_param_group", add_twice, REGISTERED, USUAL, MAW_INVALID_ARGUMENT},
    {"maw_add_param_group", add, STEPPED, USUAL, MAW_OK},
    {"maw_add_param_group", add, UPDATED, CUSTOM, MAW_OK},
    {"maw_add_param_group", add_twice, UPDATED, USUAL, MAW_INVALID_ARGUMENT},
    {"maw_add_tensors", add_tensors, REGISTERED, USUAL, MAW_OK},
    {"maw_add_tensors", add_tensors, UPDATED, USUAL, MAW_OK},
    {"maw_add_tensors", add_tensors, STEPPED, PLAIN, MAW_OK},
    {"maw_add_tensors", add_tensors_nowhere, UPDATED, USUAL, MAW_NOT_FOUND},
    {"maw_remove_tensor", remove_tensor, REGISTERED, USUAL, MAW_OK},
    {"maw_remove_tensor", remove_tensor, UPDATED, USUAL, MAW_OK},
    {"maw_set_betas", set_betas, STEPPED, USUAL, MAW_OK},
    {"maw_set_eps", set_eps, STEPPED, USUAL, MAW_OK},
    {"maw_set_max_grad_norm", set_max_grad_norm, STEPPED, USUAL, MAW_OK},
    {"maw_get_betas", get_betas, STEPPED, USUAL, MAW_OK},
    {"maw_get_eps", get_eps, STEPPED, USUAL, MAW_OK},
    {"maw_get_max_grad_norm", get_max_grad_norm, STEPPED, USUAL, MAW_OK},
    {"maw_load_bytes", load_partial, REGISTERED, USUAL, MAW_OK},
    {"maw_load_bytes", load_partial, UPDATED, USUAL, MAW_OK},
    {"maw_load_bytes", load_partial, STEPPED, CUSTOM, MAW_MISMATCH},
    {"maw_load_report_count", load_report_count, UPDATED, USUAL, MAW_OK},
    {"maw_load_report_name", load_report_name, UPDATED, USUAL, MAW_NOT_FOUND},
    {"maw_prepare", prepare, REGISTERED, USUAL, MAW_OK},
    {"maw_prepare", prepare, REGISTERED, PLAIN, MAW_OK},
    {"maw_prepare", prepare, REGISTERED, CUSTOM, MAW_OK},
    {"maw_step", step_row, REGISTERED, USUAL, MAW_OK},
    {"maw_step", step_row, PREPARED, USUAL, MAW_OK},
    {"maw_step", step_row, UPDATED, USUAL, MAW_OK},
    {"maw_step", step_row, STEPPED, PLAIN, MAW_OK},
    {"maw_step", step_not_finite, STEPPED, LOUD, MAW_OK},
    {"maw_step", step_not_finite, STEPPED, STRICT, MAW_NOT_FINITE},
    {"maw_step", step_misaligned, STEPPED, USUAL, MAW_INVALID_ARGUMENT},
    {"maw_step_report_fetch", report_fetch, STEPPED, USUAL, MAW_OK},
    {"maw_observe_gradient", observe, REGISTERED, USUAL, MAW_OK},
    {"maw_observe_gradient", observe, STEPPED, USUAL, MAW_OK},
    {"maw_set_lr", set_lr, STEPPED, USUAL, MAW_OK},
    {"maw_set_lr", set_lr_nowhere, STEPPED, USUAL, MAW_NOT_FOUND},
    {"maw_set_weight_decay", set_weight_decay, STEPPED, USUAL, MAW_OK},
    {"maw_set_priorities", set_priorities, STEPPED, USUAL, MAW_OK},
    {"maw_reset", reset, UPDATED, USUAL, MAW_OK},
    {"maw_set_stream", set_stream, STEPPED, USUAL, MAW_OK},
    {"maw_set_log", set_log, STEPPED, USUAL, MAW_OK},
    {"maw_set_reduction", set_reduction, REGISTERED, USUAL, MAW_OK},
    {"maw_set_reduction", set_reduction, STEPPED, USUAL, MAW_INVALID_STATE},
    {"maw_average_get", average_get, STEPPED, AVERAGED, MAW_OK},
    {"maw_average_get", average_get, STEPPED, USUAL, MAW_INVALID_STATE},
    {"maw_average_swap", average_swap, REGISTERED, AVERAGED, MAW_OK},
    {"maw_average_swap", average_swap, UPDATED, AVERAGED, MAW_OK},
    {"maw_average_swap", average_swap, OPEN, AVERAGED, MAW_INVALID_STATE},
    {"maw_step", step_row, REGISTERED, AVERAGED, MAW_OK},
    {"maw_add_tensors", add_tensors, UPDATED, AVERAGED, MAW_OK},
    {"maw_load_bytes", load_bytes, STEPPED, AVERAGED, MAW_MISMATCH},
    {"maw_dump_state", dump, STEPPED, AVERAGED, MAW_OK},
    {"maw_meta_due", meta_due, STEPPED, USUAL, MAW_OK},
    {"maw_meta_begin", meta_begin, REGISTERED, USUAL, MAW_OK},
    {"maw_meta_begin", meta_begin, STEPPED, USUAL, MAW_OK},
    {"maw_meta_begin", meta_begin, UPDATED, USUAL, MAW_OK},
    {"maw_meta_tell", meta_tell, OPEN, USUAL, MAW_OK},
    {"maw_meta_tell", meta_tell_other, OPEN, USUAL, MAW_INVALID_ARGUMENT},
    {"maw_meta_tell", meta_tell_nan, OPEN, LOUD, MAW_OK},
    {"maw_meta_tell", meta_tell_second, OPEN, USUAL, MAW_OK},
    {"maw_meta_tell", meta_tell_third, OPEN, USUAL, MAW_OK},
    {"maw_meta_tell", meta_tell_fourth, OPEN, USUAL, MAW_OK},
    {"maw_meta_tell", meta_tell_fifth, OPEN, USUAL, MAW_OK},
    {"maw_meta_abort", meta_abort, OPEN, USUAL, MAW_OK},
    {"maw_meta_result_get", meta_result, UPDATED, USUAL, MAW_OK},
    {"maw_meta_gradient", meta_gradient, UPDATED, USUAL, MAW_OK},
    {"maw_get_lr", get_lr, STEPPED, USUAL, MAW_OK},
    {"maw_get_lr", get_lr_nowhere, STEPPED, USUAL, MAW_NOT_FOUND},
    {"maw_get_weight_decay", get_weight_decay, STEPPED, USUAL, MAW_OK},
    {"maw_get_priorities", get_priorities, STEPPED, USUAL, MAW_OK},
    {"maw_step_count", step_count, STEPPED, USUAL, MAW_OK},
    {"maw_param_group_count", param_group_count, STEPPED, USUAL, MAW_OK},
    {"maw_tensor_count", tensor_count, STEPPED, USUAL, MAW_OK},
    {"maw_tensor_name", tensor_name, STEPPED, USUAL, MAW_OK},
    {"maw_tensor_group", tensor_group, STEPPED, USUAL, MAW_OK},
    {"maw_group_count", group_count, STEPPED, USUAL, MAW_OK},
    {"maw_group_name", group_name, STEPPED, USUAL, MAW_OK},
    {"maw_factors", factors, STEPPED, USUAL, MAW_OK},
    {"maw_factors", factors, STEPPED, PLAIN, MAW_OK},
    {"maw_feature_dim", feature_dim, STEPPED, USUAL, MAW_OK},
    {"maw_features", features, STEPPED, USUAL, MAW_OK},
    {"maw_attention_count", attention_count, STEPPED, USUAL, MAW_OK},
    {"maw_attention_name", attention_name, STEPPED, USUAL, MAW_OK},
    {"maw_attention_shape", attention_shape, STEPPED, USUAL, MAW_OK},
    {"maw_attention_get", attention_get, STEPPED, USUAL, MAW_OK},
    {"maw_attention_set", attention_set, STEPPED, USUAL, MAW_OK},
    {"maw_counters_get", counters_get, STEPPED, USUAL, MAW_OK},
    {"maw_counters_set", counters_set, STEPPED, USUAL, MAW_OK},
    {"maw_tensor_state_get", state_get, STEPPED, USUAL, MAW_OK},
    {"maw_tensor_state_set", state_set, STEPPED, USUAL, MAW_OK},
    {"maw_tensor_state_set", state_set, REGISTERED, USUAL, MAW_OK},
    {"maw_dump_state", dump, REGISTERED, USUAL, MAW_OK},
    {"maw_dump_state", dump, UPDATED, USUAL, MAW_OK},
    {"maw_dump_state", dump, STEPPED, PLAIN, MAW_OK},
    {"maw_dump_state", dump, OPEN, CUSTOM, MAW_OK},
    {"maw_save_bytes", save_bytes, REGISTERED, USUAL, MAW_OK},
    {"maw_save_bytes", save_bytes, UPDATED, USUAL, MAW_OK},
    {"maw_save_bytes", save_attention, UPDATED, USUAL, MAW_OK},
    {"maw_load_bytes", load_bytes, REGISTERED, USUAL, MAW_OK},
    {"maw_load_bytes", load_bytes, UPDATED, USUAL, MAW_OK},
    {"maw_load_bytes", load_bytes, STEPPED, PLAIN, MAW_MISMATCH},
    {"maw_load_bytes", load_bytes, STEPPED, CUSTOM, MAW_MISMATCH},
    {"maw_load_bytes", load_bytes, OPEN, USUAL, MAW_INVALID_STATE},
    {"maw_load_bytes", load_attention, UPDATED, USUAL, MAW_OK},
    {"maw_load_bytes", load_half, UPDATED, USUAL, MAW_CORRUPT},
    {"maw_save_file", save_file, UPDATED, USUAL, MAW_OK},
    {"maw_load_file", load_file, UPDATED, USUAL, MAW_OK},
    {"maw_load_file", load_nothing, UPDATED, USUAL, MAW_IO},
    {"maw_bytes_data maw_bytes_size maw_bytes_free", bytes, STEPPED, USUAL, MAW_OK},
    {"maw_error_code maw_error_message maw_error_free", errors, STEPPED, USUAL, MAW_NOT_FOUND},
    {"maw_master_set", master_set, NEW, USUAL, MAW_OK},
    {"maw_master_get", master_get, NEW, USUAL, MAW_OK},
    {"maw_tensor_state_get", half_state_get, NEW, USUAL, MAW_OK},
    {"maw_tensor_state_set", half_state_set, NEW, USUAL, MAW_OK},
    {"maw_cuda_available", cuda_available, NOTHING, USUAL, MAW_OK},
    {"maw_device_buffer_create", buffer_create, NOTHING, USUAL, MAW_OK},
    {"maw_device_buffer_upload", buffer_upload, NOTHING, USUAL, MAW_OK},
    {"maw_device_buffer_download", buffer_download, NOTHING, USUAL, MAW_OK},
    {"maw_device_buffer_download", buffer_beyond, NOTHING, USUAL, MAW_INVALID_ARGUMENT},
    {"maw_device_buffer_pointer", buffer_pointer, NOTHING, USUAL, MAW_OK},
    {"maw_device_buffer_size", buffer_size, NOTHING, USUAL, MAW_OK},
    {"maw_device_buffer_free", buffer_free, NOTHING, USUAL, MAW_OK},
};
enum { ROW_COUNT = sizeof ROWS / sizeof *ROWS };

/* ----------------------------------------------------------------- loops ---- */

/* What is being done, for a message. */
static struct {
    const struct row_of_memory *row;
    long n;
    int all;
} at;

static void complain(const char *what) {
    fail(__FILE__, __LINE__, at.row->functions, "row %d, state %d, kind %d, %s %ld: %s", (int)(at.row - ROWS),
         (int)at.row->state, (int)at.row->kind, at.all ? "all allocations from" : "allocation", at.n, what);
}

static void aborted(int signal_number) {
    complain(signal_number == SIGABRT ? "aborted" : "crashed");
    _exit(EXIT_FAILURE);
}

static int is_on_half(const struct row_of_memory *row) {
    return row->call == master_set || row->call == master_get || row->call == half_state_get ||
           row->call == half_state_set;
}

static int answers_before(const struct row_of_memory *row) {
    call *const calls[] = {meta_tell_second, meta_tell_third, meta_tell_fourth, meta_tell_fifth};
    for (int i = 0; i < 4; i++)
        if (row->call == calls[i])
            return i + 1;
    return 0;
}

/* Answers a request as if the loss were half the square of the parameters, and lays out the next answer. */
static void answer(struct fixture *w) {
    if (maw_meta_tell(w->o, &w->answer, w->params, w->grads, N, &w->out.request, NULL) != MAW_OK ||
        w->out.request.kind == MAW_META_DONE)
        complain("there is no such request");
    double loss = 0.0;
    for (size_t i = 0; i < 6; i++)
        loss += 0.5 * (w->grad.weight[i] = w->param.weight[i]) * w->param.weight[i];
    for (size_t i = 0; i < 3; i++)
        loss += 0.5 * (w->grad.bias[i] = w->param.bias[i]) * w->param.bias[i];
    for (size_t i = 0; i < 4; i++)
        loss += 0.5 * (w->grad.head[i] = w->param.head[i]) * w->param.head[i];
    w->answer.request_id = w->out.request.id;
    w->answer.loss = loss;
    w->accepted = 1; /* the run is no longer that of the fixture */
}

static int takes_buffer(const struct row_of_memory *row) {
    return strstr(row->functions, "device_buffer") != NULL && row->call != buffer_create;
}

static int temporary_files(void) {
    int count = 0;
    DIR *folder = opendir(".");
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        count += strncmp(entry->d_name, ".metaadamw-", 11) == 0;
    closedir(folder);
    return count;
}

/* Frees what a call gave. */
static void release(struct fixture *w, const struct row_of_memory *row, maw_optimizer *none) {
    if (w->out.created != none && row->call == buffer_create)
        maw_device_buffer_free((maw_device_buffer *)(void *)w->out.created);
    else if (w->out.created != none && maw_optimizer_free(w->out.created) != MAW_OK)
        complain("what was created cannot be freed");
    maw_bytes_free(w->out.bytes);
    w->out.created = none;
    w->out.bytes = NULL;
    w->out.text = NULL;
}

/* One call in a fixture of its own. Returns the number of its allocations. `undisturbed`: everything observable after a
 * call with memory. */
static long call_once(const struct row_of_memory *row, struct fingerprint *undisturbed) {
    long in_use = blocks_in_use();
    struct fixture *w = given(row->state, row->kind, __FILE__, __LINE__);
    maw_optimizer *none = w->out.created;
    struct fingerprint before, after;
    maw_error *object = NULL;
    const char *changed;
    /* The first call makes what stays for as long as the process. */
    const int undisturbed_before = undisturbed->count > 0;
    if (is_on_half(row)) {
        w->accepted = 1;
        if (!register_half(w) ||
            ((row->call == master_get) && maw_master_set(w->o, 0, masters, half, 2, NULL) != MAW_OK) ||
            ((row->call == half_state_get) && maw_prepare(w->o, NULL) != MAW_OK))
            complain("the half tensor cannot be prepared");
    }
    if (takes_buffer(row) && maw_device_buffer_create(0, 64, &buffer, NULL) != MAW_OK)
        complain("no buffer");
    memset(half, 0, sizeof half);
    if (row->call == step_not_finite)
        w->grad.bias[1] = NAN;
    for (int answers = answers_before(row); answers > 0; answers--)
        answer(w);
    take_fingerprint(w, &before);
    fail_allocations(at.n, at.all ? 1000000000 : at.n);
    maw_status status = row->call(w, &object);
    long count = stop_failing();
    if (status == MAW_OUT_OF_MEMORY) {
        refusals++;
        take_fingerprint(w, &after);
        changed = difference(&before, &after);
        if (changed != NULL)
            complain(changed);
    } else if (status == row->expected) {
        w->accepted |= status == MAW_OK;
        release(w, row, none);
        take_fingerprint(w, &after);
        if (undisturbed->count == 0)
            *undisturbed = after;
        changed = difference(undisturbed, &after);
        if (changed != NULL)
            complain(changed);
    } else {
        complain(status == WRONG ? "an output is wrong" : maw_status_name(status));
        release(w, row, none);
    }
    if (status != MAW_OK && status != WRONG && row->call != errors && row->call != free_row &&
        (object == NULL || maw_error_code(object) != status || *maw_error_message(object) == '\0'))
        complain("the error object is not that of the status");
    if (status == MAW_OK && object != NULL)
        complain("an error object without an error");
    maw_error_free(object);
    if (temporary_files() > 0)
        complain("a temporary file is left");
    if (buffer != NULL)
        maw_device_buffer_free(buffer);
    buffer = NULL;
    ended(w);
    if (undisturbed_before && blocks_in_use() != in_use) {
        char text[64];
        snprintf(text, sizeof text, "%ld blocks are left", blocks_in_use() - in_use);
        complain(text);
    }
    return count;
}

static void run_row(const struct row_of_memory *row) {
    struct fingerprint undisturbed = {0};
    at.row = row;
    at.all = 0;
    at.n = 1000000000;
    call_once(row, &undisturbed); /* with memory */
    long most = call_once(row, &undisturbed);
    for (at.all = 0; at.all <= 1; at.all++)
        for (at.n = 1; failures < 20; at.n++)
            if (call_once(row, &undisturbed) < at.n)
                break;
    if (at.n <= most && failures < 20)
        complain("it made fewer allocations than with memory");
}

/* ----------------------------------------------------------------- lives ---- */

/* A whole run, in which each call's n-th allocation fails, or all from there on; whoever had no memory is called again. With
 * several threads, or on CUDA. */
enum { TENSORS = 3 };
static const size_t FEW[TENSORS] = {40, 7, 12}, MANY[TENSORS] = {300000, 7, 12};

struct life {
    int32_t device;
    uint32_t threads;
    const size_t *lengths;
    uint32_t sharded; /* as the only process of several */
};

struct host {
    maw_device_buffer *buffers[2 * TENSORS];
    float *memory[2 * TENSORS]; /* on CUDA of the host alone */
    void *params[TENSORS];
    const void *grads[TENSORS];
};

static long most_allocations;

static void tried(long count) {
    if (count > most_allocations)
        most_allocations = count;
}

/* Makes a call without memory, and if that is refused again with memory. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        fail_allocations(at.n, at.all ? 1000000000 : at.n);                                                            \
        maw_status status_ = (call);                                                                                   \
        tried(stop_failing());                                                                                         \
        if (status_ == MAW_OUT_OF_MEMORY) {                                                                            \
            refusals++;                                                                                                \
            status_ = (call);                                                                                          \
        }                                                                                                              \
        if (status_ != MAW_OK)                                                                                         \
            fail(__FILE__, __LINE__, #call, "%s, %s %ld", maw_status_name(status_),                                    \
                 at.all ? "all allocations from" : "allocation", at.n);                                                \
    } while (0)

static void make_host(struct host *host, const struct life *life) {
    for (size_t i = 0; i < 2 * TENSORS; i++) {
        size_t length = life->lengths[i % TENSORS];
        host->memory[i] = malloc(length * sizeof(float));
        for (size_t j = 0; j < length; j++)
            host->memory[i][j] = i < TENSORS ? 0.5f - 0.01f * (float)(j % 50) : 0.1f * (float)(j % 7) - 0.2f;
        void *place = host->memory[i];
        if (life->device == MAW_CUDA) {
            if (maw_device_buffer_create(0, length * sizeof(float), &host->buffers[i], NULL) != MAW_OK ||
                maw_device_buffer_upload(host->buffers[i], 0, host->memory[i], length * sizeof(float), NULL) != MAW_OK)
                fail(__FILE__, __LINE__, "maw_device_buffer_create", "no device memory");
            place = maw_device_buffer_pointer(host->buffers[i]);
        }
        if (i < TENSORS)
            host->params[i] = place;
        else
            host->grads[i - TENSORS] = place;
    }
}

static void free_host(struct host *host) {
    for (size_t i = 0; i < 2 * TENSORS; i++) {
        free(host->memory[i]);
        maw_device_buffer_free(host->buffers[i]);
    }
}

static maw_optimizer *begin_life(const struct life *life) {
    static const char *const names[TENSORS] = {"layers.0.weight", "layers.0.bias", "layers.1.weight"};
    maw_optimizer *o = NULL;
    maw_options options;
    maw_param_group group;
    maw_tensor tensors[TENSORS];
    uint64_t shapes[TENSORS];
    maw_options_init(&options, sizeof options);
    options.device = life->device;
    options.threads = life->threads;
    options.attn_layers = 1;
    options.attn_hidden_dim = 4;
    maw_param_group_init(&group, sizeof group);
    for (size_t i = 0; i < TENSORS; i++) {
        maw_tensor_init(&tensors[i], sizeof tensors[i]);
        shapes[i] = life->lengths[i];
        tensors[i].name = names[i];
        tensors[i].shape = &shapes[i];
        tensors[i].ndim = 1;
        tensors[i].dtype = MAW_FLOAT32;
        tensors[i].sharded = life->sharded;
        tensors[i].shard_numel = life->sharded ? life->lengths[i] : 0;
    }
    TRY(maw_optimizer_create(&options, &o, NULL));
    if (life->sharded)
        TRY(maw_set_reduction(o, alone, NULL, NULL));
    TRY(maw_add_param_group(o, &group, tensors, TENSORS, NULL, NULL));
    if (life->threads == 1)
        TRY(maw_prepare(o, NULL));
    else if (maw_prepare(o, NULL) != MAW_OK) /* starts threads, for which std allocates by itself */
        fail(__FILE__, __LINE__, "maw_prepare", "failed");
    return o;
}

/* `contents`: what is saved and loaded on the way. */
static void live(maw_optimizer *o, struct host *host, uint32_t contents, maw_bytes **saved) {
    maw_meta_request request;
    maw_meta_answer answer;
    maw_step_report report;
    maw_bytes *json = NULL;
    double factors[TENSORS];
    size_t groups = 0;
    maw_step_report_init(&report, sizeof report);
    maw_meta_request_init(&request, sizeof request);
    maw_meta_answer_init(&answer, sizeof answer);
    for (int i = 0; i < 3; i++)
        TRY(maw_step(o, host->params, host->grads, TENSORS, NULL, &report, NULL));
    TRY(maw_observe_gradient(o, 0, host->grads[0], NULL));
    TRY(maw_set_lr(o, 0, 0.125, NULL));
    TRY(maw_meta_begin(o, host->params, TENSORS, &request, NULL));
    for (double loss = 2.0; request.kind != MAW_META_DONE && failures < 20; loss -= 0.125) {
        answer.request_id = request.id;
        answer.loss = loss;
        TRY(maw_meta_tell(o, &answer, host->params, host->grads, TENSORS, &request, NULL));
    }
    TRY(maw_step(o, host->params, host->grads, TENSORS, NULL, NULL, NULL));
    TRY(maw_step_report_fetch(o, MAW_FETCH_WAIT, &report, NULL));
    TRY(maw_group_count(o, &groups, NULL));
    TRY(maw_factors(o, factors, factors, NULL, NULL, groups, NULL));
    TRY(maw_dump_state(o, &json, NULL));
    maw_bytes_free(json);
    TRY(maw_save_bytes(o, contents, saved, NULL));
    TRY(maw_load_bytes(o, maw_bytes_data(*saved), maw_bytes_size(*saved), contents, NULL));
    TRY(maw_reset(o, MAW_RESET_ATTENTION, NULL));
    TRY(maw_step(o, host->params, host->grads, TENSORS, NULL, &report, NULL));
}

/* The file of a life; what was made once for the process is left after the first. */
static maw_bytes *one_life(const struct life *life) {
    maw_bytes *saved = NULL;
    struct host host = {{NULL}, {NULL}, {NULL}, {NULL}};
    make_host(&host, life);
    maw_optimizer *o = begin_life(life);
    live(o, &host, life->sharded ? MAW_ATTENTION_ONLY : 0, &saved);
    TRY(maw_optimizer_free(o));
    free_host(&host);
    return saved;
}

static void lives(const struct life *life) {
    at.n = 1000000000;
    at.all = 0;
    maw_bytes_free(one_life(life));
    maw_bytes *undisturbed = one_life(life);
    const long in_use = blocks_in_use();
    /* Threads that end, and queues between threads, free some blocks later. */
    const long late = life->threads == 1 ? 0 : 32;
    int count = 0;
    for (; at.all <= 1; at.all++) {
        most_allocations = 1;
        for (at.n = 1; at.n <= most_allocations && failures < 20; at.n += 1 + at.n / 20) {
            maw_bytes *saved = one_life(life);
            if (maw_bytes_size(saved) != maw_bytes_size(undisturbed) ||
                memcmp(maw_bytes_data(saved), maw_bytes_data(undisturbed), maw_bytes_size(saved)) != 0)
                fail(__FILE__, __LINE__, "a life", "ends with other bits, n = %ld, all = %d", at.n, at.all);
            maw_bytes_free(saved);
            count++;
            if (labs(blocks_in_use() - in_use) > late)
                fail(__FILE__, __LINE__, "a life", "%ld blocks are left after %d, n = %ld, all = %d",
                     blocks_in_use() - in_use, count, at.n, at.all);
        }
    }
    maw_bytes_free(undisturbed);
    if (count <= 2 * late)
        fail(__FILE__, __LINE__, "a life", "%d lives do not show a leak of a block", count);
}

static const char *const WANTED[] = {
#define WANTED(function) function,
#include "functions.inc"
};

/* Whether a name is among those of a row. */
static int covers_function(const struct row_of_memory *row, const char *name) {
    const char *found = strstr(row->functions, name);
    return found != NULL && (found[strlen(name)] == '\0' || found[strlen(name)] == ' ');
}

int main(void) {
    struct sigaction action = {0};
    action.sa_handler = aborted;
    sigaction(SIGABRT, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    for (size_t i = 0; i < sizeof WANTED / sizeof *WANTED; i++) {
        size_t rows = 0;
        for (size_t j = 0; j < ROW_COUNT; j++)
            rows += (size_t)covers_function(&ROWS[j], WANTED[i]);
        if (rows == 0)
            fail("functions.inc", 0, WANTED[i], "there is no row for it");
    }
    if (failures > 0)
        return EXIT_FAILURE;
    saved_run();
    for (size_t i = 0; i < ROW_COUNT; i++)
        run_row(&ROWS[i]);
    free_saved_run();
    lives(&(struct life){MAW_CPU, 3, MANY, 0});
    lives(&(struct life){MAW_CPU, 1, FEW, 1});
    lives(&(struct life){MAW_CUDA, 1, FEW, 0});
    printf("out_of_memory: %zu rows, %zu refusals, %zu failures\n", (size_t)ROW_COUNT, refusals, failures);
    return failures == 0 && refusals > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
