// State: archives, the library's files, a run that continues in another process, moments to and from torch's AdamW.
#include "common.hpp"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>

using namespace tests;
namespace fs = std::filesystem;

namespace {

constexpr int steps = 30, stop_at = 13;

/// A run with meta-updates, dropout, a batch norm and StepLR: from its beginning, or from what `folder` holds.
void run(fs::path const& folder, int from, int to, std::string const& name) {
    torch::manual_seed(1);
    Data data;
    Net net;
    MetaAdamW optimizer(*net, MetaAdamWOptions(1e-2), every(5));
    torch::optim::StepLR schedule(optimizer, 10, 0.5);
    if (from > 0) {
        torch::load(net, folder / "model.pt");
        for (int i = 0; i < from; i++)
            schedule.step();  // torch's schedulers are not saved
        torch::load(optimizer, folder / "optimizer.pt");
    }
    for (int i = from; i < to; i++) {
        torch::manual_seed(std::uint64_t(100 + i));
        optimizer.zero_grad();
        data.loss(net, std::size_t(i) % 2).backward();
        optimizer.step();
        if (optimizer.meta_due())
            optimizer.meta_update([&](Batch batch) { return data.loss(net, batch); });
        schedule.step();
    }
    torch::save(net, folder / "model.pt");
    torch::save(optimizer, folder / "optimizer.pt");
    torch::save(net->parameters(), folder / (name + ".pt"));
    optimizer.save((folder / (name + ".safetensors")).string());
}

fs::path scratch(std::string const& name) {
    auto const folder = fs::temp_directory_path() / ("metaadamw-torch-" + name + "-" + std::to_string(::getpid()));
    fs::create_directories(folder);
    return folder;
}

std::string bytes_of(fs::path const& path) {
    std::FILE* const file = std::fopen(path.c_str(), "rb");
    std::string content(fs::file_size(path), '\0');
    EXPECT_EQ(std::fread(content.data(), 1, content.size(), file), content.size());
    std::fclose(file);
    return content;
}

TEST(State, ARunContinuesInAnotherProcessWithTheSameBitsUnderStepLR) {
    auto const folder = scratch("resumed");
    run(folder, 0, steps, "whole");
    run(folder, 0, stop_at, "half");
    std::string const command = fs::read_symlink("/proc/self/exe").string() + " --resume " + folder.string();
    ASSERT_EQ(std::system(command.c_str()), 0);
    std::vector<Tensor> whole, resumed, half;
    torch::load(whole, folder / "whole.pt");
    torch::load(resumed, folder / "resumed.pt");
    torch::load(half, folder / "half.pt");
    expect_equal(resumed, whole);
    EXPECT_GT(distance(half, whole), 0);
    EXPECT_TRUE(bytes_of(folder / "resumed.safetensors") == bytes_of(folder / "whole.safetensors"));
    fs::remove_all(folder);
}

TEST(State, AnArchiveBringsBackStateAndLearningRates) {
    torch::manual_seed(2);
    Data data;
    Net net;
    MetaAdamW optimizer(*net, MetaAdamWOptions(1e-2), every(3));
    train(net, data, optimizer, 7);
    optimizer.param_groups()[0].options().set_lr(0.5);
    std::stringstream stream;
    torch::save(optimizer, stream);

    MetaAdamW other(*net, MetaAdamWOptions(1e-2), every(3));
    torch::load(other, stream);
    EXPECT_EQ(other.param_groups()[0].options().get_lr(), 0.5);
    EXPECT_EQ(other.core().step_count(), 7u);
    EXPECT_EQ(other.core().factors().size(), optimizer.core().factors().size());
    auto const a = optimizer.core().save_bytes(), b = other.core().save_bytes();
    ASSERT_EQ(a.size(), b.size());
    EXPECT_TRUE(std::equal(a.data(), a.data() + a.size(), b.data()));
    auto const before = copies(net->parameters());
    expect_equal(net->parameters(), before);
}

TEST(State, AnArchiveOfAnotherKindOrOfAnotherModelIsRefused) {
    Net net;
    MetaAdamW optimizer(*net);
    torch::optim::AdamW theirs(net->parameters());
    std::stringstream stream;
    torch::save(theirs, stream);
    expect_error(Status::mismatch, "no state of MetaAdamW", [&] { torch::load(optimizer, stream); });
    nn::Linear layer(2, 2);
    MetaAdamW small(*layer);
    std::stringstream other;
    torch::save(small, other);
    expect_error(Status::mismatch, "first.weight", [&] { torch::load(optimizer, other); });
}

TEST(State, TheLibrarysFileIsReadByAProgramWithoutTorch) {
    nn::Sequential model(nn::Linear(4, 16), nn::LayerNorm(nn::LayerNormOptions({16})), nn::Linear(16, 1));
    auto const folder = scratch("file");
    MetaAdamW optimizer(*model, MetaAdamWOptions(1e-2));
    for (int i = 0; i < 7; i++) {
        optimizer.zero_grad();
        model->forward(torch::randn({8, 4})).pow(2).mean().backward();
        optimizer.step();
    }
    auto const path = (folder / "run.safetensors").string();
    optimizer.save(path);
    metaadamw::Optimizer plain{Options()};
    auto const f32 = metaadamw::DType::float32;
    auto const linear = metaadamw::LayerKind::linear, norm = metaadamw::LayerKind::layernorm;
    plain.add_param_group(metaadamw::ParamGroup{}.lr(1e-2),
                          {metaadamw::Tensor("0.weight", f32, {16, 4}).layer_kind(linear),
                           metaadamw::Tensor("0.bias", f32, {16}).layer_kind(linear),
                           metaadamw::Tensor("1.weight", f32, {16}).layer_kind(norm),
                           metaadamw::Tensor("1.bias", f32, {16}).layer_kind(norm),
                           metaadamw::Tensor("2.weight", f32, {1, 16}).layer_kind(linear),
                           metaadamw::Tensor("2.bias", f32, {1}).layer_kind(linear)});
    plain.load(path);
    EXPECT_EQ(plain.step_count(), 7u);
    EXPECT_EQ(plain.tensor_state<float>(0).exp_avg, optimizer.core().tensor_state<float>(0).exp_avg);
    EXPECT_EQ(plain.group_count(), 3u);
    fs::remove_all(folder);
}

TEST(State, AChannelsLastWeightIsNotTakenForAContiguousOne) {
    nn::Conv2d contiguous(3, 4, 5), last(3, 4, 5);
    last->weight.set_data(last->weight.detach().contiguous(at::MemoryFormat::ChannelsLast));
    MetaAdamW a(*contiguous), b(*last);
    std::stringstream stream;
    torch::save(a, stream);
    expect_error(Status::mismatch, "weight", [&] { torch::load(b, stream); });
}

TEST(State, MomentsGoToAndFromTorchsAdamW) {
    torch::manual_seed(4);
    for (auto const dtype : {torch::kFloat, torch::kDouble}) {
        auto ours = torch::randn({4, 6}, dtype).t().detach().requires_grad_();
        auto theirs = ours.detach().clone().requires_grad_();
        torch::optim::AdamW first(std::vector<Tensor>{ours}), reference(std::vector<Tensor>{theirs});
        auto const gradient = [&](int i) {
            theirs.mutable_grad() = torch::sin(torch::arange(24, dtype) * i).reshape({6, 4});
            ours.mutable_grad() = theirs.grad().clone();
        };
        for (int i = 1; i < 6; i++) {
            gradient(i);
            first.step();
            reference.step();
        }
        MetaAdamW optimizer(std::vector<Tensor>{ours}, {}, unmodulated());
        optimizer.continue_from(first);
        for (int i = 6; i < 11; i++) {
            gradient(i);
            optimizer.step();
            reference.step();
        }
        EXPECT_LE(distance({ours}, {theirs}), dtype == torch::kFloat ? 1e-6 : 1e-14);
        ASSERT_EQ(optimizer.state().size(), 1u);
        auto const& state = dynamic_cast<torch::optim::AdamWParamState const&>(*optimizer.state().begin()->second);
        auto const& wanted = dynamic_cast<torch::optim::AdamWParamState const&>(*reference.state().begin()->second);
        EXPECT_EQ(state.step(), 10);
        EXPECT_LE(distance({state.exp_avg(), state.exp_avg_sq()}, {wanted.exp_avg(), wanted.exp_avg_sq()}), 1e-6);
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count == 3 && std::string(arguments[1]) == "--resume") {
        run(arguments[2], stop_at, steps, "resumed");
        return 0;
    }
    ::testing::InitGoogleTest(&count, arguments);
    return RUN_ALL_TESTS();
}
