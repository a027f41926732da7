// What all processes must have alike at the end: hashes of it, and their comparison.
#pragma once

#include <metaadamw.hpp>

#include <mpi.h>

#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "../cpp/shared/mlp.hpp"
#include "mean.hpp"

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

    State(Mlp const& net, metaadamw::Optimizer const& optimizer) {
        Hash of_parameters, of_factors, of_attention;
        for (auto const& layer : net.layers)
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
inline bool print_states(State const& own, Processes const& processes) {
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
