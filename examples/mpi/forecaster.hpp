// The network and the series of ../cpp/forecast, trained by several processes that each evaluate parts of every batch.
// What becomes of the gradients, and what of the optimizer's state a process has, is for the programs of this folder.
#pragma once

#include <metaadamw.hpp>

#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../cpp/shared/mlp.hpp"
#include "../cpp/shared/random.hpp"
#include "../cpp/shared/windows.hpp"
#include "mean.hpp"
#include "settings.hpp"
#include "state.hpp"

constexpr std::size_t BATCH = 64;

class Forecaster {
  public:
    Forecaster(Settings const& settings, Data const& data)
        : settings_(settings), data_(data), net_(settings.seed, settings.width), optimizer_(options()) {
        if (settings.parts == 0 || BATCH % settings.parts != 0)
            throw std::invalid_argument("--parts: " + std::to_string(settings.parts) +
                                        " does not divide the batch of " + std::to_string(BATCH));
    }
    virtual ~Forecaster() = default;

    // Returns the mean training loss.
    double epoch(std::size_t number) {
        // Every process draws the same numbers, and takes its parts of the batches.
        Random order_random(settings_.seed, number, 0), meta_random(settings_.seed, number, 1);
        auto order = data_.train;
        order_random.draw(order, order.size());
        double loss = 0.0;
        for (std::size_t step = 0; step < steps(); step++) {
            spoilt_ = (number - 1) * steps() + step + 1 == settings_.spoil;
            loss += evaluate(&order[step * BATCH], true) / static_cast<double>(steps());
            spoilt_ = false;
            optimizer_.step();  // the same in every process, and so is whether it is skipped, or a meta-update is due
            if (optimizer_.meta_due())
                meta_update(meta_random);
        }
        gather();
        return loss;
    }

    Mlp const& net() const { return net_; }
    metaadamw::Optimizer const& optimizer() const { return optimizer_; }
    std::size_t elements() const {
        std::size_t sum = 0;
        for_each_tensor(net_, [&](std::string const&, auto const&, auto const& values, auto const&) {
            sum += values.size();
        });
        return sum;
    }

  protected:
    // Of a part of the batch: writes the gradient of all tensors, one behind the other, unless the address is NULL.
    // Returns the loss.
    using Evaluate = std::function<double(std::size_t part, float* gradient)>;

    // Calls it for this process's parts. Returns the mean loss of all parts, and if it is wanted, puts what the
    // optimizer needs of their mean gradient where the optimizer reads it.
    virtual double mean(Evaluate const& evaluate, bool wants_gradient) = 0;

    // Puts the optimizer's parameters into the network, where they are not there.
    virtual void gather() {}

    // Calls visit(name, shape, values, gradient) for each tensor.
    template <class Net, class Visit>
    static void for_each_tensor(Net& net, Visit visit) {
        for (std::size_t l = 0; l < net.layers.size(); l++) {
            auto& layer = net.layers[l];
            auto const name = "layers." + std::to_string(l);
            visit(name + ".weight", std::vector<std::uint64_t>{layer.outputs, layer.inputs}, layer.weight,
                  layer.weight_gradient);
            visit(name + ".bias", std::vector<std::uint64_t>{layer.outputs}, layer.bias, layer.bias_gradient);
        }
    }

    void add(std::vector<metaadamw::Tensor> tensors) {
        for (auto& tensor : tensors)
            tensor.layer_kind(metaadamw::LayerKind::linear);
        optimizer_.add_param_group(metaadamw::ParamGroup{}.lr(settings_.lr), tensors);
        optimizer_.prepare();
    }

    Settings settings_;
    Data const& data_;
    Mlp net_;
    metaadamw::Optimizer optimizer_;

  private:
    std::size_t steps() const { return data_.train.size() / BATCH; }

    metaadamw::Options options() const {
        metaadamw::Options options;
        options.seed = settings_.seed;  // the same attention module everywhere
        options.total_steps = settings_.epochs * steps();
        options.meta_interval = settings_.interval;
        options.meta_warmup = steps();
        options.threads = 1;
        return options;
    }

    // The loss of a whole batch, and its gradient.
    double evaluate(std::size_t const* batch, bool wants_gradient) {
        gather();
        std::size_t const size = BATCH / settings_.parts;
        return mean(
            [&](std::size_t part, float* gradient) {
                Numbers const windows{batch + part * size, batch + (part + 1) * size};
                if (!gradient)
                    return net_.loss(data_.windows, windows);
                double const loss = net_.backward(data_.windows, windows);
                for_each_tensor(net_, [&](std::string const&, auto const&, auto const&, auto const& values) {
                    gradient = std::copy(values.begin(), values.end(), gradient);
                });
                if (spoilt_ && part + 1 == settings_.parts)
                    gradient[-1] = std::numeric_limits<float>::infinity();
                return loss;
            },
            wants_gradient);
    }

    // What differs from one process's is only that `evaluate` makes the mean over all. The requests come in the same
    // order everywhere, because all processes tell the same losses and gradients.
    void meta_update(Random& random) {
        auto train = data_.train, held_out = data_.held_out;
        random.draw(train, 2 * BATCH);
        random.draw(held_out, BATCH);
        optimizer_.meta_update([&](metaadamw::Request const& request) {
            auto const* batch = request.batch() == metaadamw::Batch::train_1   ? &train[0]
                                : request.batch() == metaadamw::Batch::train_2 ? &train[BATCH]
                                                                               : &held_out[0];
            return evaluate(batch, request.wants_gradient());
        });
    }

    bool spoilt_ = false;
};

// Trains, and prints losses and the processes' states. Whether these are the same. `Process`: a Forecaster, made of
// settings, data and processes, which prints what is particular about it.
template <class Process>
bool train(char const* program, int count, char** arguments, Processes const& processes) {
    Settings const settings = Settings::read(count, arguments, processes);
    Data const data(co2(), 2 * BATCH);
    Process process(settings, data, processes);
    bool const first = processes.rank == 0;
    if (first)
        std::printf("processes: %d, parts of a batch: %zu, of %zu windows; gradients of a step: %zu, %zu bytes\n",
                    processes.count, settings.parts, BATCH / settings.parts, process.elements(),
                    sizeof(float) * process.elements());
    process.print(processes);
    for (std::size_t epoch = 1; epoch <= settings.epochs; epoch++) {
        double const loss = process.epoch(epoch);
        // Nothing that follows depends on it, so one process is enough.
        if (first) {
            Numbers const validation{data.validation.data(), data.validation.data() + data.validation.size()};
            std::printf("epoch %zu: MSE of the training %.6f, validation %.6f\n", epoch, data.squared_unit * loss,
                        data.squared_unit * process.net().loss(data.windows, validation));
            std::fflush(stdout);
        }
    }
    bool const same = print_states(State(process.net(), process.optimizer()), processes);
    if (first && !same)
        std::fprintf(stderr, "%s: the processes have different states\n", program);
    return same;
}

// The main function of a program.
template <class Process>
int train_main(char const* program, int count, char** arguments) {
    MPI_Init(&count, &arguments);
    Processes const processes;
    try {
        bool const same = train<Process>(program, count, arguments, processes);
        MPI_Finalize();
        return same ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (std::invalid_argument const& error) {  // every process has found the same
        if (processes.rank == 0)
            std::fprintf(stderr, "%s: %s\n", program, error.what());
        MPI_Finalize();
    } catch (std::exception const& error) {
        std::fprintf(stderr, "%s, rank %d: %s\n", program, processes.rank, error.what());
        MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);  // the others would wait for this process for ever
    }
    return EXIT_FAILURE;
}
