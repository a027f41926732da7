// A model over two processes, which are threads here, that meet in a gloo process group.
#include <gtest/gtest.h>
#include <metaadamw/torch.hpp>
#include <metaadamw/torch/process_group.hpp>

#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <functional>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t block = metaadamw::shard_alignment, length = block + 5;

using Gloo = c10::intrusive_ptr<c10d::ProcessGroupGloo>;

Gloo gloo(c10::intrusive_ptr<c10d::Store> const& store, int rank) {
    auto options = c10d::ProcessGroupGloo::Options::create();
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
    options->threads = 1;
    return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, 2, options);
}

/// Elements of a tensor after some steps of whoever has those from `begin` to `end`.
std::vector<float> trained(std::size_t begin, std::size_t end, metaadamw::Reduction reduction) {
    std::vector<float> values(end - begin), gradient(end - begin);
    for (std::size_t i = begin; i < end; i++)
        values[i - begin] = static_cast<float>(i % 1009) / 1009;
    metaadamw::Options options;
    options.threads = 1;
    metaadamw::Optimizer optimizer(options);
    metaadamw::Tensor tensor("layers.0.weight", values.data(), gradient.data(), {length});
    if (reduction) {
        optimizer.set_reduction(std::move(reduction));
        tensor.shard(begin, end - begin);
    }
    optimizer.add_param_group(metaadamw::ParamGroup{}.lr(0.01), {tensor});
    optimizer.prepare();
    for (int step = 0; step < 4; step++) {
        for (std::size_t i = 0; i < values.size(); i++)
            gradient[i] = values[i] - static_cast<float>((begin + i) % 7);
        optimizer.step();
    }
    return values;
}

/// All elements after the same steps of two processes; `reduction` is made of a process group.
std::vector<float> trained_by_two(std::function<metaadamw::Reduction(Gloo)> const& reduction) {
    auto const store = c10::make_intrusive<c10d::HashStore>();
    std::vector<float> parts[2];
    auto const process = [&](int rank) {
        auto const begin = rank == 0 ? 0 : block, end = rank == 0 ? block : length;
        parts[rank] = trained(begin, end, reduction(gloo(store, rank)));
    };
    std::thread other(process, 1);
    process(0);
    other.join();
    parts[0].insert(parts[0].end(), parts[1].begin(), parts[1].end());
    return parts[0];
}

// As on CUDA, where the values are on the stream's device.
c10::Stream const host_stream(c10::Stream::DEFAULT, at::kCPU);

TEST(Processes, that_meet_in_a_process_group_make_the_bits_of_one) {
    auto const whole = trained(0, length, {});
    using metaadamw::torch::all_reduce;
    EXPECT_EQ(trained_by_two([](Gloo const& group) { return all_reduce(group); }), whole);
    EXPECT_EQ(trained_by_two([](Gloo const& group) { return all_reduce(group, host_stream); }), whole);
}

/// A group of one process, which sees the tensors.
struct Seen : c10::intrusive_ptr_target {
    struct Work : c10::intrusive_ptr_target {
        explicit Work(int& waits_) : waits(waits_) {}
        void wait() { waits++; }
        int& waits;
    };
    c10::intrusive_ptr<Work> allreduce(std::vector<at::Tensor>& summed) {
        tensors = summed;
        return c10::make_intrusive<Work>(waits);
    }
    std::vector<at::Tensor> tensors;
    int waits = 0;
};

TEST(Processes, get_the_values_themselves_on_the_streams_device) {
    auto const group = c10::make_intrusive<Seen>();
    double values[3] = {1, 2, 3};
    EXPECT_EQ(metaadamw::torch::all_reduce(group, host_stream)(values, 3), 0);
    ASSERT_EQ(group->tensors.size(), 1u);
    auto const& tensor = group->tensors[0];
    EXPECT_EQ(tensor.data_ptr<double>(), values);
    EXPECT_EQ(tensor.sizes(), at::IntArrayRef({3}));
    EXPECT_TRUE(tensor.device().is_cpu());
    EXPECT_EQ(group->waits, 1);
}

/// Of docs/libtorch.md: compiled and not run.
[[maybe_unused]] void page(metaadamw::Optimizer& optimizer, c10::intrusive_ptr<c10d::ProcessGroup> const& group,
                           c10::Stream stream) {
    optimizer.set_reduction(metaadamw::torch::all_reduce(group));                     // gloo, MPI
    optimizer.set_reduction(metaadamw::torch::all_reduce(group, torch::Device("cuda:0")));  // NCCL: sums by way of the device
    optimizer.set_reduction(metaadamw::torch::all_reduce(group, stream));  // NCCL, and an optimizer on CUDA
}

}  // namespace
