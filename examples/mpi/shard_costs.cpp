// Times the optimizer's step where each process has a piece of the model (shards.cpp), and how much of it is the
// reduction. The tensors are those of GPT-2 (by default small, 124 M parameters), float32, with one thread a process.
//
//     mpirun -n 4 shard_costs [WIDTH [LAYERS [ROUNDS]]]
#include <metaadamw.hpp>

#include <mpi.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "cut.hpp"
#include "mean.hpp"
#include "median.hpp"

namespace {

struct Shape {
    std::string name;
    std::vector<std::uint64_t> lengths;

    std::size_t elements() const {
        return std::accumulate(lengths.begin(), lengths.end(), std::size_t{1}, std::multiplies<>());
    }
};

std::vector<Shape> gpt2(std::uint64_t width, std::size_t layers) {
    std::vector<Shape> shapes{{"wte.embedding.weight", {50257, width}}, {"wpe.embedding.weight", {1024, width}}};
    auto const linear = [&](std::string const& name, std::uint64_t in, std::uint64_t out) {
        shapes.push_back({name + ".weight", {in, out}});
        shapes.push_back({name + ".bias", {out}});
    };
    auto const norm = [&](std::string const& name) {
        shapes.push_back({name + ".weight", {width}});
        shapes.push_back({name + ".bias", {width}});
    };
    for (std::size_t layer = 0; layer < layers; layer++) {
        auto const block = "layers." + std::to_string(layer);
        norm(block + ".norm_1");
        linear(block + ".attention.qkv", width, 3 * width);
        linear(block + ".attention.output", width, width);
        norm(block + ".norm_2");
        linear(block + ".linear.up", width, 4 * width);
        linear(block + ".linear.down", 4 * width, width);
    }
    norm("norm");
    return shapes;
}

std::vector<std::size_t> lengths(std::vector<Shape> const& shapes) {
    std::vector<std::size_t> lengths;
    for (auto const& shape : shapes)
        lengths.push_back(shape.elements());
    return lengths;
}

// One process's piece of the model, and its optimizer.
class Piece {
  public:
    Piece(std::vector<Shape> const& shapes, Processes const& processes)
        : cut_(lengths(shapes), processes), params_(cut_.length(), 0.1f), gradients_(cut_.length(), 0.01f),
          optimizer_(options()) {
        optimizer_.set_reduction([this](double* values, std::size_t count) {
            double const start = MPI_Wtime();
            int const status =
                MPI_Allreduce(MPI_IN_PLACE, values, number(count), MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
            reducing_ += 1e3 * (MPI_Wtime() - start);
            reduced_ = sizeof(double) * count;
            return status;
        });
        std::vector<metaadamw::Tensor> tensors;
        std::size_t at = 0;
        for (auto const& shape : shapes) {
            auto const [offset, count] = cut_.part(tensors.size());
            tensors.push_back(metaadamw::Tensor{shape.name, params_.data() + at, gradients_.data() + at, shape.lengths}
                                  .shard(offset, count));
            at += count;
        }
        optimizer_.add_param_group(metaadamw::ParamGroup{}, tensors);
        optimizer_.prepare();
    }

    // Medians: elements of this process, milliseconds of a step and of its reduction, bytes that this sums.
    std::array<double, 4> times(std::size_t rounds) {
        std::vector<double> steps, reductions;
        for (std::size_t round = 0; round <= rounds; round++) {
            MPI_Barrier(MPI_COMM_WORLD);
            reducing_ = 0.0;
            double const start = MPI_Wtime();
            optimizer_.step();
            if (round == 0)  // it meets memory that is not there yet
                continue;
            steps.push_back(1e3 * (MPI_Wtime() - start));
            reductions.push_back(reducing_);
        }
        return {static_cast<double>(cut_.length()), median(steps), median(reductions), static_cast<double>(reduced_)};
    }

  private:
    static metaadamw::Options options() {
        metaadamw::Options options;
        options.threads = 1;
        return options;
    }

    Cut cut_;
    std::vector<float> params_, gradients_;
    double reducing_ = 0.0;  // milliseconds in the callback, waiting for slower processes included
    std::size_t reduced_ = 0;
    metaadamw::Optimizer optimizer_;
};

std::size_t whole(char const* name, char const* value) {
    char* end = nullptr;
    auto const number = std::strtoull(value, &end, 10);
    if (number == 0 || number > 100'000 || *end != '\0')
        throw std::invalid_argument(std::string(name) + ": expected 1 to 100,000, got '" + value + "'");
    return number;
}

void run(int count, char** arguments, Processes const& processes) {
    std::size_t const width = count > 1 ? whole("WIDTH", arguments[1]) : 768;
    std::size_t const layers = count > 2 ? whole("LAYERS", arguments[2]) : 12;
    std::size_t const rounds = count > 3 ? whole("ROUNDS", arguments[3]) : ROUNDS;
    auto const shapes = gpt2(width, layers);
    auto const all = lengths(shapes);
    Piece piece(shapes, processes);
    auto const own = piece.times(rounds);
    std::vector<double> rows(own.size() * static_cast<std::size_t>(processes.count));
    int const length = number(own.size());
    MPI_Gather(own.data(), length, MPI_DOUBLE, rows.data(), length, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    if (processes.rank != 0)
        return;
    std::printf("%d processes, %zu parameters in %zu tensors, medians of %zu steps in milliseconds\n", processes.count,
                std::accumulate(all.begin(), all.end(), std::size_t{0}), all.size(), rounds);
    std::printf("%6s  %12s  %12s  %18s  %14s\n", "rank", "elements", "step", "in its reduction", "bytes summed");
    for (std::size_t i = 0; i < rows.size(); i += own.size())
        std::printf("%6zu  %12.0f  %12.3f  %18.3f  %14.0f\n", i / own.size(), rows[i], rows[i + 1], rows[i + 2],
                    rows[i + 3]);
}

}  // namespace

int main(int count, char** arguments) {
    MPI_Init(&count, &arguments);
    Processes const processes;
    try {
        run(count, arguments, processes);
        MPI_Finalize();
        return EXIT_SUCCESS;
    } catch (std::exception const& error) {
        std::fprintf(stderr, "shard_costs, rank %d: %s\n", processes.rank, error.what());
        MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    }
    return EXIT_FAILURE;
}
