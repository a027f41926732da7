// Forecasting a series by the perceptron of the forecaster's, with mean squared error.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "../shared/mlp.hpp"
#include "../shared/random.hpp"
#include "../shared/windows.hpp"
#include "task.hpp"

class SeriesTask : public Task {
  public:
    static constexpr std::size_t BATCH = 64;

    SeriesTask(std::shared_ptr<Data const> data, std::uint64_t seed) : data_(std::move(data)), seed_(seed), net_(seed) {
        for (std::size_t l = 0; l < net_.layers.size(); l++) {
            auto& layer = net_.layers[l];
            auto const name = "layers." + std::to_string(l);
            auto const linear = metaadamw::LayerKind::linear;
            parameters.push_back({name + ".weight", {layer.outputs, layer.inputs}, &layer.weight,
                                  &layer.weight_gradient, linear});
            parameters.push_back({name + ".bias", {layer.outputs}, &layer.bias, &layer.bias_gradient, linear});
        }
    }

    static std::size_t epoch(Data const& data) { return data.train.size() / BATCH; }

    // Without a last, smaller batch.
    Batch training(std::size_t step) override {
        std::size_t const steps = epoch(*data_);
        if (order_.empty() || step / steps != epoch_) {
            epoch_ = step / steps;
            order_ = data_->train;
            Random(seed_, epoch_, 0).draw(order_, order_.size());
        }
        auto const first = order_.begin() + static_cast<std::ptrdiff_t>(step % steps * BATCH);
        return {first, first + BATCH};
    }

    std::array<Batch, 3> for_meta(std::size_t step) override {
        Random random(seed_, step, 1);
        auto train = data_->train, held_out = data_->held_out;
        random.draw(train, 2 * BATCH);
        random.draw(held_out, BATCH);
        return {Batch(train.begin(), train.begin() + BATCH), Batch(train.begin() + BATCH, train.begin() + 2 * BATCH),
                Batch(held_out.begin(), held_out.begin() + BATCH)};
    }

    double loss(Batch const& batch) override { return net_.loss(data_->windows, numbers(batch)); }
    double backward(Batch const& batch) override { return net_.backward(data_->windows, numbers(batch)); }
    double validation() override { return data_->squared_unit * loss(data_->validation); }

  private:
    static Numbers numbers(Batch const& batch) { return {batch.data(), batch.data() + batch.size()}; }

    std::shared_ptr<Data const> const data_;
    std::uint64_t const seed_;
    Mlp net_;
    std::size_t epoch_ = 0;
    Batch order_;
};

inline TaskKind series_kind(std::string const& name, Series const& series, Preparation const& how, std::size_t steps) {
    auto const data = std::make_shared<Data const>(series, SeriesTask::BATCH, how);
    std::size_t const epoch = SeriesTask::epoch(*data);
    return {name, steps, epoch, epoch, true, static_cast<double>(steps) * 7e-4,
            [data](std::uint64_t seed) { return std::make_unique<SeriesTask>(data, seed); }};
}

inline TaskKind co2_kind() { return series_kind("co2", co2(), {}, 1500); }

inline TaskKind etth1_kind(std::string const& file) {
    Series series;
    try {
        if (file.empty())
            throw std::runtime_error("--etth1 is missing");
        series = csv(file, "OT");
    } catch (std::exception const& error) {
        throw std::runtime_error(
            std::string(error.what()) +
            "\n--etth1 takes ETTh1.csv, which Zhou et al. (Informer, AAAI 2021) published as ETT-small/ETTh1.csv of"
            "\ngithub.com/zhouhaoyi/ETDataset: 17,420 hours with the columns date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT");
    }
    return series_kind("etth1", series, {60, 20, false}, 3000);
}
