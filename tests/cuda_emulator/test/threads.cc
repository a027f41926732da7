// Threads, barriers, warps and shared memory.
#include "emulated.h"
#include <cmath>
#include <numeric>

using namespace emu;

/// Each test of this fixture is run in some orders of threads.
class Threads : public Emulated, public testing::WithParamInterface<uint64_t> {
  protected:
    void SetUp() override {
        Emulated::SetUp();
        cuda_emulator_order(GetParam());
    }
};
INSTANTIATE_TEST_SUITE_P(Orders, Threads, testing::Values(0, 1, 2, 3, 4, 5, 99));

TEST_P(Threads, know_their_place_in_three_dimensions) {
    Size grid{3, 2, 2}, block{5, 7, 3};
    size_t count = 3 * 2 * 2 * 5 * 7 * 3;
    Pointer out = allocate(4 * count);
    ASSERT_EQ(run("coordinates", grid, block, out), SUCCESS) << last_error();
    std::vector<uint32_t> expected(count);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(download<uint32_t>(out, count), expected);
}

TEST_P(Threads, see_after_a_barrier_what_others_wrote_before_it) {
    std::vector<uint32_t> in(256);
    std::iota(in.begin(), in.end(), 0);
    Pointer from = upload(in), to = allocate(4 * in.size());
    ASSERT_EQ(run("reverse", {}, {256}, from, to), SUCCESS) << last_error();
    EXPECT_EQ(download<uint32_t>(to, 256), std::vector<uint32_t>(in.rbegin(), in.rend()));
}

TEST_P(Threads, have_as_much_dynamic_shared_memory_as_the_launch_says) {
    std::vector<uint32_t> in(1024);
    std::iota(in.begin(), in.end(), 0);
    Pointer inout = upload(in);
    dynamic = 4096;
    ASSERT_EQ(run("reverse_dynamic", {}, {1024}, inout), SUCCESS) << last_error();
    EXPECT_EQ(download<uint32_t>(inout, 1024), std::vector<uint32_t>(in.rbegin(), in.rend()));
}

TEST_P(Threads, exchange_values_within_their_warp) {
    Pointer out = allocate(96 * 8 * 4);
    ASSERT_EQ(run("warp_operations", {}, {96}, out), SUCCESS) << last_error();
    auto values = download<int>(out, 96 * 8);
    for (int i = 0; i < 96; i++) {
        int lane = i % 32, in_16 = lane % 16;
        int expected[] = {5, lane / 8 * 8 + 5, in_16 < 3 ? lane : lane - 3, in_16 > 12 ? lane : lane + 3, lane ^ 9,
                          0x49249249, 1, 1};
        for (int k = 0; k < 8; k++) EXPECT_EQ(values[8 * i + k], expected[k]) << "thread " << i << ", operation " << k;
    }
}

TEST_P(Threads, meet_in_parts_of_a_warp) {
    Pointer out = allocate(64 * 8);
    ASSERT_EQ(run("partial_masks", {}, {64}, out), SUCCESS) << last_error();
    EXPECT_EQ(download<double>(out, 64), std::vector<double>(64, 120.0 + 31.0));
}

TEST_P(Threads, add_up_atomically) {
    Pointer sums = upload(std::vector<uint32_t>{0, 0, 1000, 0, 0, 0}), real = upload(std::vector<float>{0});
    ASSERT_EQ(run("atomics", {2}, {100}, sums, real), SUCCESS) << last_error();
    auto values = download<uint32_t>(sums, 6);
    EXPECT_EQ(values[0], 2u * 4950);
    EXPECT_EQ(values[1], 99u);
    EXPECT_EQ(values[2], 1u);
    EXPECT_EQ(values[3], ~0u);
    EXPECT_GE(values[4], 1u);
    EXPECT_EQ(values[5], 200u % 3);
    EXPECT_EQ(download<float>(real, 1)[0], 100.0f);
}

TEST_P(Threads, get_structs_and_pointers_in_device_memory_as_arguments) {
    struct {
        double real;
        uint32_t whole;
    } pair = {0.25, 1000};
    Pointer numbers = upload(std::vector<uint32_t>{7, 8}), table = upload(std::vector<Pointer>{0, numbers});
    Pointer out = allocate(2 * 16);
    ASSERT_EQ(run("arguments", {}, {2}, pair, 0.5f, table, out), SUCCESS) << last_error();
    EXPECT_EQ(download<double>(out, 4), (std::vector<double>{0.75, 1007, 0.75, 1008}));
}

class Mistakes : public Emulated {};

TEST_F(Mistakes, shared_memory_that_nobody_wrote_is_nan) {
    Pointer out = upload(std::vector<double>(4, 0));
    ASSERT_EQ(run("shared_not_written", {}, {4}, out), SUCCESS);
    for (double value : download<double>(out, 4)) EXPECT_TRUE(std::isnan(value));
}

TEST_F(Mistakes, a_write_outside_of_a_shared_array_is_an_illegal_address) {
    ASSERT_EQ(run("shared_overrun", {}, {1}, 3u), SUCCESS) << last_error();
    expect_failure(ILLEGAL_ADDRESS, "outside of a shared array", "shared_overrun", {1}, 4u);
    dynamic = 64;
    ASSERT_EQ(run("dynamic_overrun", {}, {1}, 15u), SUCCESS) << last_error();
    expect_failure(ILLEGAL_ADDRESS, "illegal address", "dynamic_overrun", {1}, 16u);
}

TEST_F(Mistakes, a_deadlock_ends_with_who_waits_where) {
    expect_failure(LAUNCH_FAILED, "32 threads wait at a barrier, 32 in a warp operation, 0 have exited", "deadlock",
                   {64});
}

TEST_F(Mistakes, a_mask_that_names_a_missing_lane_is_refused) {
    EXPECT_EQ(run("full_mask", {}, {64}), SUCCESS) << last_error();
    expect_failure(LAUNCH_FAILED, "a lane that has exited or does not exist", "full_mask", {33});
    expect_failure(LAUNCH_FAILED, "exited", "exits_early", {32});
    expect_failure(LAUNCH_FAILED, "not in the mask of its own", "outside_mask", {32});
}

TEST_F(Mistakes, a_warp_that_diverges_into_different_operations_is_refused) {
    Pointer out = allocate(32 * 4);
    expect_failure(LAUNCH_FAILED, "different operations or masks", "different_operations", {32}, out);
    expect_failure(LAUNCH_FAILED, "different barriers", "different_barriers", {64});
}

TEST_F(Mistakes, a_shuffle_from_outside_the_mask_gives_nan) {
    Pointer out = allocate(16 * 8);
    ASSERT_EQ(run("outside_mask_value", {}, {32}, out), SUCCESS) << last_error();
    for (double value : download<double>(out, 16)) EXPECT_TRUE(std::isnan(value));
}

TEST_F(Mistakes, an_integer_division_by_zero_fails) {
    expect_failure(LAUNCH_FAILED, "division by zero", "divide", {1}, upload(std::vector<int>{0, 1}));
}

TEST_F(Mistakes, local_variables_beyond_the_stack_fail) {
    expect_failure(ILLEGAL_ADDRESS, "stack overflow", "large_frame", {2}, upload(std::vector<uint32_t>{0}));
}
