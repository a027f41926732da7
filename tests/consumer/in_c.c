/* One step of plain AdamW from 1 with gradient 1: nearly 1 - lr (1 + weight_decay). */
#include <metaadamw.h>

#include <stdio.h>

int main(void) {
    double w = 1.0, g = 1.0;
    void *params[] = {&w};
    const void *grads[] = {&g};
    maw_optimizer *optimizer = NULL;
    maw_options options;
    maw_param_group group;
    maw_tensor tensor;
    maw_options_init(&options, sizeof options);
    options.modulation = 0;
    maw_param_group_init(&group, sizeof group);
    group.lr = 0.5;
    maw_tensor_init(&tensor, sizeof tensor);
    tensor.name = "w";
    tensor.dtype = MAW_FLOAT64;
    if (maw_optimizer_create(&options, &optimizer, NULL) != MAW_OK ||
        maw_add_param_group(optimizer, &group, &tensor, 1, NULL, NULL) != MAW_OK ||
        maw_step(optimizer, params, grads, 1, NULL, NULL, NULL) != MAW_OK)
        return 1;
    printf("w = %.3f\n", w);
    return maw_optimizer_free(optimizer) == MAW_OK ? 0 : 1;
}
