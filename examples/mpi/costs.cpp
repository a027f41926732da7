// Times what replicas do in a step beside forward and backward pass: the mean of the gradients over all processes, in
// both orders of mean.hpp, and the optimizer's step with features and factors. Medians, of the slowest process in each
// round.
//
//     mpirun -n 2 costs [ELEMENTS …]
#include <metaadamw.hpp>

#include <mpi.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "mean.hpp"
#include "median.hpp"

namespace {

constexpr std::size_t TENSORS = 40;

double reduction(std::size_t elements, Order order, Processes const& processes) {
    Mean mean(processes, static_cast<std::size_t>(processes.count), elements, order);
    std::vector<float> gradient(elements);
    return median_of_slowest([&] { mean([](std::size_t, float*) { return 1.0; }, gradient.data()); });
}

double step(std::size_t elements) {
    metaadamw::Options options;
    options.threads = 1;
    metaadamw::Optimizer optimizer{options};
    std::size_t const length = elements / TENSORS;
    std::vector<float> values(length * TENSORS, 0.1f), gradients(length * TENSORS, 0.01f);
    std::vector<metaadamw::Tensor> tensors;
    for (std::size_t t = 0; t < TENSORS; t++)
        tensors.push_back({"layers." + std::to_string(t) + ".weight", &values[t * length], &gradients[t * length],
                           {length}});
    optimizer.add_param_group(metaadamw::ParamGroup{}, tensors);
    return median_of_slowest([&] { optimizer.step(); });
}

void print(std::size_t elements, Processes const& processes) {
    double const mpi = reduction(elements, Order::mpi, processes), tree = reduction(elements, Order::tree, processes);
    double const of_step = step(elements);
    if (processes.rank == 0)
        std::printf("%12zu  %12.3f  %12.3f  %12.3f\n", elements, mpi, tree, of_step);
}

}  // namespace

int main(int count, char** arguments) {
    MPI_Init(&count, &arguments);
    Processes const processes;
    try {
        std::vector<std::string> sizes{arguments + 1, arguments + count};
        if (sizes.empty())
            sizes = {"10000", "1000000", "30000000"};
        if (processes.rank == 0)
            std::printf("%d processes, milliseconds\n%12s  %12s  %12s  %12s\n", processes.count, "elements",
                        "mean, mpi", "mean, tree", "step");
        for (auto const& size : sizes) {
            auto const elements = std::strtoull(size.c_str(), nullptr, 10);
            if (elements < TENSORS || elements > 1'000'000'000)
                throw std::invalid_argument("ELEMENTS: expected 40 to 1,000,000,000, got '" + size + "'");
            print(elements, processes);
        }
        MPI_Finalize();
        return EXIT_SUCCESS;
    } catch (std::exception const& error) {
        std::fprintf(stderr, "costs, rank %d: %s\n", processes.rank, error.what());
        MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    }
    return EXIT_FAILURE;
}
