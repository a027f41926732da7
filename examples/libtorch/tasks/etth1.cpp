// ETTh1: the next value of the oil temperature from the 96 hours before, by a Transformer encoder.
//
// The series is standardised with the mean and deviation of its training part. Parts are stretches of time, and an example
// belongs to the part that its target is in; only examples of training lie in their part as a whole.
#include <array>
#include <fstream>
#include <numeric>
#include <sstream>
#include <stdexcept>

#include "task.hpp"

namespace {

constexpr std::int64_t INPUT = 96;

std::vector<float> oil_temperatures(std::string const& folder) {
    std::string const file = folder + "/ETTh1.csv";
    std::ifstream in(file);
    if (!in)
        throw std::runtime_error(file + ": not found. ETTh1.csv is published at https://github.com/zhouhaoyi/ETDataset");
    std::string line;
    std::getline(in, line);
    if (line.substr(0, 5) != "date," || line.find(",OT") == std::string::npos)
        throw std::runtime_error(file + ":1: expected the header \"date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT\"");
    std::vector<float> values;
    for (std::size_t number = 2; std::getline(in, line); number++) {
        auto const comma = line.rfind(',');
        std::istringstream field(comma == std::string::npos ? "" : line.substr(comma + 1));
        float value = 0.0f;
        if (!(field >> value) || !std::isfinite(value))
            throw std::runtime_error(file + ":" + std::to_string(number) + ": expected a number in the last column");
        values.push_back(value);
    }
    if (values.size() < 1000)
        throw std::runtime_error(file + ": expected 17,420 rows, not " + std::to_string(values.size()));
    return values;
}

struct ForecasterImpl : torch::nn::Module {
    // With width 128 as in the paper: 4 heads. A narrower one has fewer heads, of the same size.
    explicit ForecasterImpl(std::int64_t heads) {
        std::int64_t const width = 32 * heads;
        auto const layer = torch::nn::TransformerEncoderLayerOptions(width, heads).dim_feedforward(4 * width).dropout(0.2);
        embed = register_module("embed", torch::nn::Linear(1, width));
        encoder = register_module("encoder", torch::nn::TransformerEncoder(torch::nn::TransformerEncoderOptions(layer, 2)));
        head = register_module("head", torch::nn::Linear(width, 1));
        // Sines and cosines (Vaswani et al., 2017).
        auto const place = torch::arange(INPUT, torch::kFloat).unsqueeze(1);
        auto const speed = torch::exp(torch::arange(0, width, 2, torch::kFloat) * (-std::log(10000.0) / double(width)));
        positions = register_buffer(
            "positions", torch::stack({torch::sin(place * speed), torch::cos(place * speed)}, 2).reshape({INPUT, 1, width}));
    }
    // (windows, 96) → (windows)
    torch::Tensor forward(torch::Tensor const& x) {
        return head(encoder(embed(x.t().unsqueeze(2)) + positions)[-1]).squeeze(1);
    }

    torch::nn::Linear embed{nullptr}, head{nullptr};
    torch::nn::TransformerEncoder encoder{nullptr};
    torch::Tensor positions;
};
TORCH_MODULE(Forecaster);

class Etth1 : public Task {
  public:
    explicit Etth1(Setup const& setup)
        : model_(std::max<std::int64_t>(1, std::llround(4.0 * setup.width))) {
        auto values = oil_temperatures(setup.data);
        auto const all = static_cast<std::int64_t>(values.size());
        // Ends of train, meta and selection.
        std::int64_t const train = setup.disjoint ? all * 6 / 10 : all * 8 / 10;
        std::array<std::int64_t, 5> const ends{0, train, all * 7 / 10, all * 8 / 10, all};
        double sum = 0.0, squares = 0.0;
        for (std::int64_t i = 0; i < train; i++)
            sum += values[std::size_t(i)], squares += double(values[std::size_t(i)]) * values[std::size_t(i)];
        double const mean = sum / double(train), deviation = std::sqrt(squares / double(train) - mean * mean);
        for (float& value : values)
            value = static_cast<float>((value - mean) / deviation);
        series_ = torch::tensor(values);
        for (std::size_t part = 0; part < 4; part++) {
            std::int64_t const first = part == 0 ? INPUT : setup.disjoint ? ends[part] : train;
            std::int64_t const count = (setup.disjoint || part == 0 ? ends[part + 1] : all) - first;
            auto const kept = std::max<std::int64_t>(1, std::llround(double(count) * setup.limit));
            for (std::int64_t i = 0; i < kept; i++)  // at equal distances
                targets_[part].push_back(first + i * count / kept);
        }
    }

    torch::nn::Module& model() override { return *model_; }
    std::size_t size(Part part) const override { return targets_[std::size_t(part)].size(); }

    Batch batch(Part part, std::vector<std::size_t> const& examples) const override {
        std::vector<std::int64_t> places;
        for (std::size_t const example : examples)
            places.push_back(targets_[std::size_t(part)].at(example));
        auto const target = torch::tensor(places, torch::kLong);
        return {{series_.index({target.unsqueeze(1) - INPUT + torch::arange(INPUT)}), series_.index({target})}};
    }

    torch::Tensor loss(Batch const& batch) override {
        return torch::mse_loss(model_(batch.tensors[0]), batch.tensors[1]);
    }

    Score score(Batch const& batch) override {
        auto const error = model_(batch.tensors[0]) - batch.tensors[1];
        return {(error * error).sum().item<double>(), 0.0, double(error.numel())};
    }

  private:
    Forecaster model_;
    torch::Tensor series_;
    std::array<std::vector<std::int64_t>, 4> targets_;
};

}  // namespace

std::unique_ptr<Task> make_etth1(Setup const& setup) {
    return std::make_unique<Etth1>(setup);
}
