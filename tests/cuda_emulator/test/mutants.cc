// The emulator finds mistakes in kernels: a sum over a grid is right in every order of threads, and with one mistake
// each, which at least one order shows.
#include "emulated.h"
#include <cmath>

using namespace emu;

class Mutants : public Emulated {
  protected:
    static constexpr unsigned BLOCKS = 5, N = 5 * 256 * 3 + 17;

    std::string last_failure;

    /// The number of orders in which two launches in a row do not both give the sum.
    int wrong(const char* name) {
        int found = 0;
        for (uint64_t order = 0; order < 10; order++) found += !right(name, order);
        return found;
    }

    bool right(const char* name, uint64_t order) {
        cuda_emulator_order(order);
        // Whole numbers: every order of additions gives the same.
        std::vector<double> in(N);
        double expected = 0;
        for (unsigned i = 0; i < N; i++) expected += in[i] = i % 97 + 1;
        Pointer from = upload(in), partial = allocate(8 * BLOCKS), out = allocate(8);
        Pointer arrived = upload(std::vector<uint32_t>{0});
        bool right = true;
        for (int launch = 0; launch < 2 && right; launch++) {
            // What an earlier launch left must not help a later one.
            EXPECT_EQ(cuMemsetD8_v2(partial, 0xff, 8 * BLOCKS), SUCCESS);
            EXPECT_EQ(cuMemsetD8_v2(out, 0xff, 8), SUCCESS);
            right = run(name, {BLOCKS}, {256}, from, N, partial, arrived, out) == SUCCESS;
            right = right && download<double>(out, 1)[0] == expected;
        }
        last_failure = last_error();
        cuda_emulator_reset();
        return right;
    }
};

TEST_F(Mutants, the_kernel_without_a_mistake_is_right_in_every_order) {
    for (uint64_t order = 0; order < 50; order++) EXPECT_TRUE(right("sum", order)) << "order " << order;
}

TEST_F(Mutants, missing_order_shows_in_every_order_where_accesses_are_watched) {
    for (uint64_t order = 0; order < 10; order++) {
        cuda_emulator_watch(1);
        EXPECT_TRUE(right("sum", order)) << last_error();
        for (const char* name : {"sum_no_barrier", "sum_no_second_barrier", "sum_no_syncwarp", "sum_no_fence"}) {
            cuda_emulator_watch(1);
            EXPECT_FALSE(right(name, order)) << name << " in order " << order;
            EXPECT_NE(last_failure.find("a race: thread"), std::string::npos) << name << ": " << last_failure;
        }
    }
    EXPECT_TRUE(right("sum_no_fence", 0)) << "shows to nothing else";
}

TEST_F(Mutants, each_mistake_shows_in_an_order) {
    for (const char* name : {"sum_no_barrier", "sum_no_second_barrier", "sum_short_tail", "sum_long_tail",
                             "sum_counter_kept", "sum_wrong_last", "sum_divergent_shuffle", "sum_no_syncwarp"}) {
        int found = wrong(name);
        EXPECT_GT(found, 0) << name;
        printf("%s is wrong in %d of 10 orders\n", name, found);
    }
}
