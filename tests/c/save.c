/* Saves a run whose values depend on a number: save FILE NUMBER. Prints the error if there is one.
 * tests/faults.rs runs it where calls fail (tests/c/failing_calls.c). */
#include <metaadamw.h>

#include <stdio.h>
#include <stdlib.h>

enum { ELEMENTS = 200000 };

int main(int argc, char **argv) {
    static float m[ELEMENTS], v[ELEMENTS];
    uint64_t shape[1] = {ELEMENTS};
    maw_optimizer *optimizer = NULL;
    maw_error *error = NULL;
    maw_param_group group;
    maw_tensor tensor;
    maw_status status;
    float number;
    int i;

    if (argc != 3)
        return 2;
    number = (float)atoi(argv[2]);
    for (i = 0; i < ELEMENTS; i++) {
        m[i] = number * (float)i;
        v[i] = number + (float)i;
    }
    maw_param_group_init(&group, sizeof group);
    maw_tensor_init(&tensor, sizeof tensor);
    tensor.name = "layers.0.weight";
    tensor.shape = shape;
    tensor.ndim = 1;
    if (maw_optimizer_create(NULL, &optimizer, NULL) != MAW_OK ||
        maw_add_param_group(optimizer, &group, &tensor, 1, NULL, NULL) != MAW_OK ||
        maw_tensor_state_set(optimizer, 0, m, v, ELEMENTS, (uint64_t)number, NULL) != MAW_OK)
        return 2;
    status = maw_save_file(optimizer, argv[1], 0, &error);
    if (status != MAW_OK)
        printf("%s: %s\n", maw_status_name(status), maw_error_message(error));
    maw_error_free(error);
    maw_optimizer_free(optimizer);
    return status == MAW_OK ? 0 : 1;
}
