/* A C program that moves a run from CUDA to the CPU and back, and from the CPU to CUDA, by checkpoints, with
 * meta-updates on both. */
#include "cuda_host.h"

#include <math.h>

static int close_to(double x, double y, double tolerance) { return fabs(x - y) <= tolerance * (fabs(y) + 1e-3); }

static struct model *on(int32_t device) {
    const maw_options options = small_options(device);
    return model_new(&options);
}

/* A model on this device with the other's state. */
static struct model *moved(const struct model *from, int32_t device) {
    static struct values params;
    struct model *to = on(device);
    maw_bytes *run = saved(from);
    CHECK(maw_load_bytes(to->o, maw_bytes_data(run), maw_bytes_size(run), 0, &error));
    maw_bytes_free(run);
    get_params(from, &params);
    set_params(to, &params);
    TRUE(same_run(to, from));
    return to;
}

static void same_numbers(const struct model *a, const struct model *b) {
    static struct values of_a, of_b;
    get_params(a, &of_a);
    get_params(b, &of_b);
    for (int i = 0; i < N; i++)
        for (size_t j = 0; j < bytes_of(i) / sizeof(float); j++)
            TRUE(close_to(of_a.of[i][j], of_b.of[i][j], 1e-5));
    double phi[2][36];
    for (int i = 0; i < 2; i++)
        CHECK(maw_attention_get((i == 0 ? a : b)->o, "encoder.layers.0.self_attn.out_proj.weight", phi[i], 36, &error));
    for (int i = 0; i < 36; i++)
        TRUE(close_to(phi[0][i], phi[1][i], 1e-5));
}

static void meta_updates_have_the_same_terms(struct model *a, struct model *b) {
    double before[36], after[36];
    const char *name = "encoder.layers.0.self_attn.out_proj.weight";
    CHECK(maw_attention_get(a->o, name, before, 36, &error));
    const maw_meta_result x = meta_update(a), y = meta_update(b);
    CHECK(maw_attention_get(a->o, name, after, 36, &error));
    TRUE(memcmp(before, after, sizeof before) != 0);
    TRUE(x.updates == y.updates && x.evaluations == y.evaluations && x.idle_groups == y.idle_groups);
    TRUE(close_to(x.loss_train, y.loss_train, 1e-6) && close_to(x.loss_train_moved, y.loss_train_moved, 1e-6));
    TRUE(close_to(x.term_gradient, y.term_gradient, 1e-5) && close_to(x.term_gen_gap, y.term_gen_gap, 1e-5));
    TRUE(close_to(x.term_loss_decrease, y.term_loss_decrease, 1e-5) && close_to(x.loss_meta, y.loss_meta, 1e-5));
}

static void there_and_back(int32_t here, int32_t elsewhere) {
    struct model *first = on(here);
    train(first, 0, 3);
    meta_update(first);
    train(first, 3, 2);
    struct model *second = moved(first, elsewhere);
    struct model *third = moved(second, here);

    /* Back on its device the run has the bits of one that never moved. */
    train(first, 5, 3);
    train(third, 5, 3);
    TRUE(same_run(first, third));
    meta_update(first);
    meta_update(third);
    train(first, 8, 1);
    train(third, 8, 1);
    TRUE(same_run(first, third));

    /* On the other device it has the same values up to rounding. */
    struct model *fourth = moved(second, here);
    meta_updates_have_the_same_terms(second, fourth);
    train(second, 5, 3);
    train(fourth, 5, 3);
    same_numbers(second, fourth);
    TRUE(steps_of(second) == 8);
    model_free(first);
    model_free(second);
    model_free(third);
    model_free(fourth);
}

int main(void) {
    driver_open();
    const long live = emulator_count("live");
    there_and_back(MAW_CUDA, MAW_CPU);
    there_and_back(MAW_CPU, MAW_CUDA);
    TRUE(emulator_count("live") == live);
    puts("cuda_moves: ok");
    return EXIT_SUCCESS;
}
