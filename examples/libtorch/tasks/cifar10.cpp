// CIFAR-10: a ResNet-18 for images of 32 x 32 pixels.
#include "classes.hpp"
#include "files.hpp"
#include "images.hpp"
#include "parts.hpp"
#include "task.hpp"

namespace {

using namespace tasks;
using torch::nn::BatchNorm2d, torch::nn::Conv2d, torch::nn::Conv2dOptions;

constexpr std::size_t batch_size = 128;

Conv2d convolution(std::int64_t from, std::int64_t to, std::int64_t kernel, std::int64_t stride) {
    return Conv2d(Conv2dOptions(from, to, kernel).stride(stride).padding(kernel / 2).bias(false));
}

// Two convolutions of 3 x 3 and what goes past them.
class ResidualImpl : public torch::nn::Module {
  public:
    ResidualImpl(std::int64_t from, std::int64_t to, std::int64_t stride) {
        conv1_ = register_module("conv1", convolution(from, to, 3, stride));
        norm1_ = register_module("norm1", BatchNorm2d(to));
        conv2_ = register_module("conv2", convolution(to, to, 3, 1));
        norm2_ = register_module("norm2", BatchNorm2d(to));
        if (from != to || stride != 1)
            past_ = register_module("past", torch::nn::Sequential(convolution(from, to, 1, stride), BatchNorm2d(to)));
    }

    torch::Tensor forward(torch::Tensor const& x) {
        auto const y = norm2_(conv2_(torch::relu(norm1_(conv1_(x)))));
        return torch::relu(y + (past_ ? past_->forward(x) : x));
    }

  private:
    Conv2d conv1_{nullptr}, conv2_{nullptr};
    BatchNorm2d norm1_{nullptr}, norm2_{nullptr};
    torch::nn::Sequential past_{nullptr};
};
TORCH_MODULE(Residual);

// A stem of 3 x 3 without pooling, and four stages of two blocks.
class ResNet18Impl : public torch::nn::Module {
  public:
    explicit ResNet18Impl(double factor) {
        std::int64_t channels = scaled(64, factor);
        stem_ = register_module("stem", convolution(3, channels, 3, 1));
        norm_ = register_module("norm", BatchNorm2d(channels));
        blocks_ = register_module("blocks", torch::nn::Sequential());
        for (std::int64_t const stage : {64, 128, 256, 512}) {
            auto const wider = scaled(stage, factor);
            blocks_->push_back(Residual(channels, wider, stage == 64 ? 1 : 2));
            blocks_->push_back(Residual(wider, wider, 1));
            channels = wider;
        }
        head_ = register_module("head", torch::nn::Linear(channels, 10));
    }

    torch::Tensor forward(torch::Tensor const& images) {
        return head_(blocks_->forward(torch::relu(norm_(stem_(images)))).mean({2, 3}));
    }

  private:
    Conv2d stem_{nullptr};
    BatchNorm2d norm_{nullptr};
    torch::nn::Sequential blocks_{nullptr};
    torch::nn::Linear head_{nullptr};
};
TORCH_MODULE(ResNet18);

// A crop at random after 4 black pixels on each side, and a flip of every other image.
torch::Tensor augmented(torch::Tensor const& images) {
    constexpr std::int64_t margin = 4, side = image_side;
    auto const count = images.size(0);
    auto const shifts = torch::randint(-margin, margin + 1, {count, 2}, torch::kInt64);
    auto const flips = torch::randint(0, 2, {count}, torch::kInt64);
    auto const* const shift = shifts.data_ptr<std::int64_t>();
    auto const* const flip = flips.data_ptr<std::int64_t>();
    auto result = torch::zeros_like(images);
    auto const* from = images.data_ptr<std::uint8_t>();
    auto* to = result.data_ptr<std::uint8_t>();
    for (std::int64_t image = 0; image < count; ++image)
        for (std::int64_t plane = 0; plane < 3; ++plane, from += side * side, to += side * side)
            for (std::int64_t y = 0; y < side; ++y) {
                auto const row = y + shift[2 * image];
                if (row < 0 || row >= side)
                    continue;
                for (std::int64_t x = 0; x < side; ++x) {
                    auto const column = (flip[image] != 0 ? side - 1 - x : x) + shift[2 * image + 1];
                    if (column >= 0 && column < side)
                        to[y * side + x] = from[row * side + column];
                }
            }
    return result;
}

// All published images, training first.
struct Files {
    std::vector<std::unique_ptr<ImageFile>> files;
    std::size_t train = 0, test = 0;

    explicit Files(Setup const& setup) {
        DataSet const data(setup.data, {"cifar-10-batches-bin", "cifar10", "cifar-10"},
                           "data_batch_1.bin to data_batch_5.bin and test_batch.bin",
                           "https://www.cs.toronto.edu/~kriz/cifar.html (the binary version)");
        if (!data.find({"data_batch_1.bin"}) && data.find({"cifar10_train.jpgs"})) {
            add<JpegImages>(data.need({"cifar10_train.jpgs"}), train);
            add<JpegImages>(data.need({"cifar10_test.jpgs"}), test);
        } else {
            for (int i = 1; i <= 5; ++i)
                add<BinaryImages>(data.need({"data_batch_" + std::to_string(i) + ".bin"}), train);
            add<BinaryImages>(data.need({"test_batch.bin"}), test);
        }
    }

    std::int64_t read(std::size_t image, std::uint8_t* planes) const {
        std::size_t file = 0;
        while (image >= files.at(file)->size())
            image -= files[file++]->size();
        return files[file]->read(image, planes);
    }

  private:
    template <class Kind>
    void add(std::filesystem::path const& path, std::size_t& count) {
        files.push_back(std::make_unique<Kind>(path));
        count += files.back()->size();
    }
};

class Cifar10 : public Task {
  public:
    explicit Cifar10(Setup const& setup) : parts_(read(setup)), model_(setup.width) {}

    torch::nn::Module& model() override { return *model_; }
    std::size_t size(Part part) const override { return parts_[part].size(); }

    // Bytes [examples, 3, 32, 32] and labels.
    Batch batch(Part part, std::vector<std::size_t> const& examples) const override {
        std::vector<std::int64_t> rows;
        for (auto const example : examples)
            rows.push_back(static_cast<std::int64_t>(parts_[part].at(example)));
        auto const chosen = torch::tensor(rows);
        auto const images = images_.index_select(0, chosen);
        return {{part == Part::train ? augmented(images) : images, labels_.index_select(0, chosen)}};
    }

    torch::Tensor loss(Batch const& batch) override {
        return torch::nn::functional::cross_entropy(scores(batch), batch.tensors.at(1));
    }

    Score score(Batch const& batch) override {
        return score_of_classes(scores(batch), batch.tensors.at(1));
    }

  private:
    // Pixels to numbers with the mean 0 and the deviation 1 of the training images.
    torch::Tensor scores(Batch const& batch) {
        auto const& images = batch.tensors.at(0);
        auto const mean = torch::tensor({0.4914F, 0.4822F, 0.4465F}).view({3, 1, 1}).to(images.device());
        auto const deviation = torch::tensor({0.2470F, 0.2435F, 0.2616F}).view({3, 1, 1}).to(images.device());
        return model_((images.to(torch::kFloat32) / 255 - mean) / deviation);
    }

    Parts read(Setup const& setup) {
        Files const files(setup);
        auto parts = Parts::of_two(setup, batch_size, files.train, files.test);
        auto const kept = parts.renumber();
        auto const count = static_cast<std::int64_t>(kept.size()), side = static_cast<std::int64_t>(image_side);
        images_ = torch::empty({count, 3, side, side}, torch::kUInt8);
        labels_ = torch::empty({count}, torch::kInt64);
        auto* image = images_.data_ptr<std::uint8_t>();
        auto* label = labels_.data_ptr<std::int64_t>();
        for (auto const number : kept) {
            *label++ = files.read(number, image);
            image += image_bytes;
        }
        return parts;
    }

    torch::Tensor images_, labels_;
    Parts parts_;
    ResNet18 model_;
};

}  // namespace

std::unique_ptr<Task> make_cifar10(Setup const& setup) { return std::make_unique<Cifar10>(setup); }
