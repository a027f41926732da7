// CUDA: device buffers, enqueued steps, fetched reports. The driver is an emulator.
#include "toy.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

using metaadamw::DeviceBuffer;
using metaadamw::Optimizer;
using metaadamw::Options;
using metaadamw::ParamGroup;
using metaadamw::Status;
using metaadamw::StepOptions;
using metaadamw::Tensor;

namespace {

std::vector<float> const weights{1, -2, 3, -4, 5}, gradient{0.5F, 0.25F, -1, 2, 0};
std::size_t const weight_bytes = sizeof(float) * weights.size();

Options on(metaadamw::Device device) {
    Options options;
    options.device = device;
    return options;
}

}  // namespace

TEST(Cuda, StepsAreThoseOfTheCpuAndNeedNotBeWaitedFor) {
    ASSERT_TRUE(metaadamw::cuda_available());
    auto expected = weights;
    Optimizer host(on(metaadamw::Device::cpu));
    host.add_param_group(ParamGroup(), {Tensor("w", expected.data(), gradient.data(), {5})});

    DeviceBuffer param(weight_bytes), grad(weight_bytes), scale(sizeof(float));
    param.upload(weights.data(), weight_bytes);
    grad.upload(gradient.data(), weight_bytes);
    Optimizer device(on(metaadamw::Device::cuda));
    device.add_param_group(ParamGroup(), {Tensor("w", param.pointer<float>(), grad.pointer<float>(), {5})});
    EXPECT_EQ(device.try_step_report().status(), Status::invalid_state);

    StepOptions scaled;
    scaled.device_grad_scale = scale.pointer<float>();
    float const two = 2;
    scale.upload(&two, sizeof two);
    StepOptions by_host;
    by_host.grad_scale = 2;
    for (int step = 0; step < 3; step++) {
        host.step(by_host);
        device.launch(scaled);
    }
    EXPECT_EQ(device.step_report().step, 3U);
    EXPECT_EQ(host.step_report().step, 3U);
    std::vector<float> got(weights.size());
    param.download(got.data(), weight_bytes);
    for (std::size_t i = 0; i < got.size(); i++)
        EXPECT_NEAR(got[i], expected[i], 1e-6);
}

TEST(Cuda, AProcessThatIsAloneTrainsAsWithoutAReduction) {
    struct Thrown {};
    std::vector<float> trained[2];
    for (bool const sharded : {false, true}) {
        DeviceBuffer param(weight_bytes), grad(weight_bytes);
        param.upload(weights.data(), weight_bytes);
        grad.upload(gradient.data(), weight_bytes);
        Optimizer optimizer(on(metaadamw::Device::cuda));
        Tensor tensor("w", param.pointer<float>(), grad.pointer<float>(), {5});
        int calls = 0;
        bool fails = false;
        if (sharded) {
            tensor.shard(0, 5);
            optimizer.set_reduction([&](double* values, std::size_t count) -> std::int32_t {
                EXPECT_TRUE(values != nullptr && count > 0);
                if (calls++; fails)
                    throw Thrown();
                return 0;  // its own sums are those of all
            });
        }
        optimizer.add_param_group(ParamGroup(), {tensor});
        optimizer.prepare();
        if (sharded) {
            fails = true;
            EXPECT_THROW(optimizer.launch(), Thrown);
            EXPECT_THROW(optimizer.step(), Thrown);
            fails = false;
        }
        optimizer.step();
        optimizer.launch();
        EXPECT_EQ(optimizer.step_report().step, 2U);
        EXPECT_EQ(calls, sharded ? 6 : 0);
        trained[sharded].resize(weights.size());
        param.download(trained[sharded].data(), weight_bytes);
    }
    EXPECT_EQ(trained[1], trained[0]);
    EXPECT_NE(trained[0], weights);
}

TEST(Cuda, ErrorsNameTheirCause) {
    auto host_memory = weights;
    Optimizer device(on(metaadamw::Device::cuda));
    device.add_param_group(ParamGroup(), {Tensor("w", host_memory.data(), gradient.data(), {5})});
    auto const refused = device.try_step();
    ASSERT_EQ(refused.status(), Status::invalid_argument);
    EXPECT_NE(std::string(refused.error().what()).find("params[0] (tensor 'w') is a pointer to host memory"),
              std::string::npos);

    EXPECT_EQ(DeviceBuffer::try_create(16, 1000).status(), Status::invalid_argument);
    DeviceBuffer buffer(16);
    EXPECT_EQ(buffer.size(), 16U);
    EXPECT_EQ(buffer.try_upload(weights.data(), 17).status(), Status::invalid_argument);
    std::vector<unsigned char> zeros(16, 1);
    buffer.download(zeros.data(), zeros.size());
    EXPECT_EQ(zeros, std::vector<unsigned char>(16, 0));
    DeviceBuffer moved = std::move(buffer);
    EXPECT_EQ(buffer.size(), 0U);
    EXPECT_EQ(moved.size(), 16U);
}
