// The network and the series of ../cpp/forecast, trained by several processes that all have the whole model (replicas,
// data parallelism): each computes the gradient of its part of a batch, MPI makes the mean of them, and every process
// makes the same step with it. The library takes no part in the communication and does not know that there are others;
// it promises that the same gradients give the same bits. docs/processes.md is about this program.
//
//     mpirun -n 4 replicas [--order tree|mpi] [--parts N] [--epochs N] [--seed N] [--interval N] [--lr X]
//                          [--spoil STEP]
//
// A batch has as many parts as there are processes, or --parts: a process with several computes one after the other.
// With --order tree (mean.hpp) the number of processes does not matter: `mpirun -n 1 replicas --parts 4` trains one
// process on the whole mean gradient, and ends with the same bits. --spoil makes one part's gradient of that step
// infinite.
#include <metaadamw.hpp>

#include <mpi.h>

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "../cpp/shared/mlp.hpp"
#include "../cpp/shared/random.hpp"
#include "../cpp/shared/windows.hpp"
#include "mean.hpp"

namespace {

constexpr std::size_t BATCH = 64;

struct Settings {
    std::size_t parts, epochs = 5, seed = 1, interval = 15, spoil = 0;
    double lr = 2e-3;
    Order order = Order::tree;
};

// ---------------------------------------------------------------------------------- a process of the training ----

class Replica {
  public:
    Replica(Settings const& settings, Data const& data, Processes const& processes)
        : settings_(settings), data_(data), net_(settings.seed), gradient_(elements(net_)),
          mean_(processes, settings.parts, gradient_.size(), settings.order), optimizer_(make_optimizer()) {
        if (BATCH % settings.parts != 0)
            throw std::invalid_argument("--parts: " + std::to_string(settings.parts) +
                                        " does not divide the batch of " + std::to_string(BATCH));
    }

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
        return loss;
    }

    Mlp const& net() const { return net_; }
    metaadamw::Optimizer const& optimizer() const { return optimizer_; }
    std::size_t elements() const { return gradient_.size(); }

  private:
    static std::size_t elements(Mlp const& net) {
        std::size_t sum = 0;
        for (auto const& layer : net.layers)
            sum += layer.weight.size() + layer.bias.size();
        return sum;
    }

    std::size_t steps() const { return data_.train.size() / BATCH; }

    // The loss of a whole batch, and its gradient into `gradient_`: the means of the parts.
    double evaluate(std::size_t const* batch, bool wants_gradient) {
        std::size_t const size = BATCH / settings_.parts;
        auto const part = [&](std::size_t number, float* gradient) {
            Numbers const windows{batch + number * size, batch + (number + 1) * size};
            if (!gradient)
                return net_.loss(data_.windows, windows);
            double const loss = net_.backward(data_.windows, windows);
            for (auto const& layer : net_.layers)
                for (auto const* values : {&layer.weight_gradient, &layer.bias_gradient})
                    gradient = std::copy(values->begin(), values->end(), gradient);
            if (spoilt_ && number + 1 == settings_.parts)
                gradient[-1] = std::numeric_limits<float>::infinity();
            return loss;
        };
        return mean_(part, wants_gradient ? gradient_.data() : nullptr);
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

    // The gradients are slices of one block, so that one call of MPI reduces them all.
    metaadamw::Optimizer make_optimizer() {
        metaadamw::Options options;
        options.seed = settings_.seed;  // the same attention module everywhere
        options.total_steps = settings_.epochs * steps();
        options.meta_interval = settings_.interval;
        options.meta_warmup = steps();
        options.threads = 1;
        std::vector<metaadamw::Tensor> tensors;
        float* gradient = gradient_.data();
        for (std::size_t l = 0; l < net_.layers.size(); l++) {
            auto& layer = net_.layers[l];
            auto const name = "layers." + std::to_string(l);
            tensors.push_back({name + ".weight", layer.weight.data(), gradient, {layer.outputs, layer.inputs}});
            gradient += layer.weight.size();
            tensors.push_back({name + ".bias", layer.bias.data(), gradient, {layer.outputs}});
            gradient += layer.bias.size();
        }
        for (auto& tensor : tensors)
            tensor.layer_kind(metaadamw::LayerKind::linear);
        metaadamw::Optimizer optimizer{options};
        optimizer.add_param_group(metaadamw::ParamGroup{}.lr(settings_.lr), tensors);
        optimizer.prepare();
        return optimizer;
    }

    Settings settings_;
    Data const& data_;
    Mlp net_;
    std::vector<float> gradient_;  // the mean, of all tensors
    Mean mean_;
    metaadamw::Optimizer optimizer_;
    bool spoilt_ = false;
};

// ------------------------------------------------------------------------------------------------------ report ----

// FNV-1a.
class Hash {
  public:
    template <class Number>
    Hash& add(Number const* values, std::size_t count) {
        auto const* bytes = reinterpret_cast<unsigned char const*>(values);
        for (std::size_t i = 0; i < count * sizeof(Number); i++)
            bits_ = (bits_ ^ bytes[i]) * 0x100000001b3u;
        return *this;
    }
    std::uint64_t bits() const { return bits_; }

  private:
    std::uint64_t bits_ = 0xcbf29ce484222325u;
};

// Of one process. Sent as the numbers that it consists of.
struct State {
    std::uint64_t parameters, factors, attention, steps, skipped, meta_updates;

    explicit State(Replica const& replica) {
        auto const& optimizer = replica.optimizer();
        Hash of_parameters, of_factors, of_attention;
        for (auto const& layer : replica.net().layers)
            of_parameters.add(layer.weight.data(), layer.weight.size()).add(layer.bias.data(), layer.bias.size());
        for (auto const& group : optimizer.factors())
            for (double const factor : {group.alpha, group.beta, group.lambda1, group.lambda2})
                of_factors.add(&factor, 1);
        for (auto const& name : optimizer.attention_names()) {
            auto const matrix = optimizer.attention(name);
            of_attention.add(matrix.values.data(), matrix.values.size());
        }
        auto const counters = optimizer.counters();
        parameters = of_parameters.bits();
        factors = of_factors.bits();
        attention = of_attention.bits();
        steps = counters.step;
        skipped = counters.skipped_gradient;
        meta_updates = counters.meta_updates;
    }
    State() = default;

    bool operator==(State const& other) const {
        return parameters == other.parameters && factors == other.factors && attention == other.attention &&
               steps == other.steps && skipped == other.skipped && meta_updates == other.meta_updates;
    }
};

// Prints the states of all processes, in the first one. Whether they are the same.
bool report(State const& own, Processes const& processes) {
    constexpr int NUMBERS = sizeof(State) / sizeof(std::uint64_t);
    std::vector<State> all(static_cast<std::size_t>(processes.count));
    MPI_Allgather(&own, NUMBERS, MPI_UINT64_T, all.data(), NUMBERS, MPI_UINT64_T, MPI_COMM_WORLD);
    for (std::size_t rank = 0; processes.rank == 0 && rank < all.size(); rank++)
        std::printf("rank %zu: parameters %016" PRIx64 ", factors %016" PRIx64 ", attention module %016" PRIx64
                    ", %" PRIu64 " steps, %" PRIu64 " skipped, %" PRIu64 " meta-updates\n",
                    rank, all[rank].parameters, all[rank].factors, all[rank].attention, all[rank].steps,
                    all[rank].skipped, all[rank].meta_updates);
    return std::all_of(all.begin(), all.end(), [&](State const& state) { return state == all[0]; });
}

// --------------------------------------------------------------------------------------------------- arguments ----

std::size_t whole(std::string const& option, std::string const& value) {
    char* end = nullptr;
    auto const number = std::strtoull(value.c_str(), &end, 10);
    if (value.empty() || value[0] == '-' || *end != '\0' || number > 1'000'000)
        throw std::invalid_argument(option + ": expected a whole number up to 1,000,000, got '" + value + "'");
    return number;
}

Settings read(int count, char** arguments, Processes const& processes) {
    Settings settings;
    settings.parts = static_cast<std::size_t>(processes.count);
    for (int i = 1; i < count; i += 2) {
        std::string const option = arguments[i];
        if (i + 1 == count)
            throw std::invalid_argument(option + ": a value is missing");
        std::string const value = arguments[i + 1];
        if (option == "--parts")
            settings.parts = whole(option, value);
        else if (option == "--epochs")
            settings.epochs = whole(option, value);
        else if (option == "--seed")
            settings.seed = whole(option, value);
        else if (option == "--interval")
            settings.interval = whole(option, value);
        else if (option == "--spoil")
            settings.spoil = whole(option, value);
        else if (option == "--lr")
            settings.lr = std::atof(value.c_str());  // the library refuses what is no learning rate
        else if (option == "--order" && (value == "tree" || value == "mpi"))
            settings.order = value == "tree" ? Order::tree : Order::mpi;
        else
            throw std::invalid_argument("not an option of this program, or not a value of it: " + option + " " + value);
    }
    return settings;
}

bool run(int count, char** arguments, Processes const& processes) {
    Settings const settings = read(count, arguments, processes);
    Data const data(co2(), 2 * BATCH);
    Replica replica(settings, data, processes);
    bool const first = processes.rank == 0;
    if (first)
        std::printf("processes: %d, parts of a batch: %zu, of %zu windows; gradients of a step: %zu, %zu bytes\n",
                    processes.count, settings.parts, BATCH / settings.parts, replica.elements(),
                    sizeof(float) * replica.elements());
    for (std::size_t epoch = 1; epoch <= settings.epochs; epoch++) {
        double const loss = replica.epoch(epoch);
        // Nothing that follows depends on it, so one process is enough.
        if (first) {
            Numbers const validation{data.validation.data(), data.validation.data() + data.validation.size()};
            std::printf("epoch %zu: MSE of the training %.6f, validation %.6f\n", epoch, data.squared_unit * loss,
                        data.squared_unit * replica.net().loss(data.windows, validation));
        }
    }
    bool const same = report(State(replica), processes);
    if (first && !same)
        std::fprintf(stderr, "replicas: the processes have different states\n");
    return same;
}

}  // namespace

int main(int count, char** arguments) {
    MPI_Init(&count, &arguments);
    Processes const processes;
    try {
        bool const same = run(count, arguments, processes);
        MPI_Finalize();
        return same ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (std::invalid_argument const& error) {  // every process has found the same
        if (processes.rank == 0)
            std::fprintf(stderr, "replicas: %s\n", error.what());
        MPI_Finalize();
    } catch (std::exception const& error) {
        std::fprintf(stderr, "replicas, rank %d: %s\n", processes.rank, error.what());
        MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);  // the others would wait for this process for ever
    }
    return EXIT_FAILURE;
}
