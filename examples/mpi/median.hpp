// Medians of times.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <vector>

constexpr std::size_t ROUNDS = 9;

inline double median(std::vector<double> values) {
    auto const middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

// Milliseconds that the slowest process takes.
template <class Work>
double median_of_slowest(Work work) {
    std::vector<double> rounds;
    for (std::size_t round = 0; round <= ROUNDS; round++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double const start = MPI_Wtime();
        work();
        double took = 1e3 * (MPI_Wtime() - start);
        MPI_Allreduce(MPI_IN_PLACE, &took, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
        if (round > 0)  // the first one meets memory that is not there yet
            rounds.push_back(took);
    }
    return median(rounds);
}
