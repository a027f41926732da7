// The training of replicas.cpp with the optimizer's state dealt out (ZeRO-1): every process has all parameters and
// computes the gradient of its part of a batch, but updates a piece of the parameters, whose moments it alone has.
// Norms and features are those of the whole tensors: the library sums a few numbers over the processes in each call, by
// the function that `set_reduction` is given.
//
//     mpirun -n 4 shards [the options of replicas]
//
// With --order tree any number of processes ends with the same bits, those of `replicas` with the same --parts. Only
// tensors of more than `shard_alignment` elements can be cut: the second layer's weight from --width 182 on.
#include <metaadamw.hpp>

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "cut.hpp"
#include "forecaster.hpp"
#include "piece_of_mean.hpp"

namespace {

class Sharded : public Forecaster {
  public:
    Sharded(Settings const& settings, Data const& data, Processes const& processes)
        : Forecaster(settings, data), cut_(lengths(), processes), params_(cut_.elements()), gradient_(cut_.length()),
          mean_(processes, settings.parts, cut_, settings.order) {
        optimizer_.set_reduction([](double* values, std::size_t count) {
            return MPI_Allreduce(MPI_IN_PLACE, values, number(count), MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
        });
        std::vector<metaadamw::Tensor> tensors;
        float *params = params_.data(), *gradient = gradient_.data();
        for_each_tensor(net_, [&](std::string const& name, auto const& shape, auto const& values, auto const&) {
            std::copy(values.begin(), values.end(), params);
            auto const [offset, count] = cut_.part(tensors.size());
            tensors.push_back(metaadamw::Tensor{name, params + offset, gradient, shape}.shard(offset, count));
            params += values.size();
            gradient += count;
        });
        add(tensors);
    }

    // What each process keeps.
    void print(Processes const& processes) const {
        std::array<std::uint64_t, 4> const own{cut_.length(), sizeof(float) * params_.size(), mean_.bytes(),
                                               2 * sizeof(float) * gradient_.size()};
        std::vector<std::uint64_t> all(own.size() * static_cast<std::size_t>(processes.count));
        int const length = number(own.size());
        MPI_Gather(own.data(), length, MPI_UINT64_T, all.data(), length, MPI_UINT64_T, 0, MPI_COMM_WORLD);
        for (std::size_t i = 0; processes.rank == 0 && i < all.size(); i += own.size())
            std::printf("of rank %zu: %" PRIu64 " elements to step; parameters %" PRIu64 ", gradients %" PRIu64
                        ", moments %" PRIu64 " bytes\n",
                        i / own.size(), all[i], all[i + 1], all[i + 2], all[i + 3]);
    }

  private:
    std::vector<std::size_t> lengths() const {
        std::vector<std::size_t> lengths;
        for_each_tensor(net_, [&](std::string const&, auto const&, auto const& values, auto const&) {
            lengths.push_back(values.size());
        });
        return lengths;
    }

    double mean(Evaluate const& evaluate, bool wants_gradient) override {
        return mean_(evaluate, wants_gradient, gradient_.data());
    }

    // Steps, and the trial points of a meta-update, are written by each process to its piece; the network needs all.
    void gather() override {
        MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, params_.data(), cut_.lengths_of.data(), cut_.borders.data(),
                       MPI_FLOAT, MPI_COMM_WORLD);
        float const* from = params_.data();
        for_each_tensor(net_, [&](std::string const&, auto const&, auto& values, auto const&) {
            std::copy_n(from, values.size(), values.begin());
            from += values.size();
        });
    }

    Cut cut_;
    std::vector<float> params_;    // of all tensors; the optimizer writes this process's piece
    std::vector<float> gradient_;  // the mean, of this process's piece
    PieceOfMean mean_;
};

}  // namespace

int main(int count, char** arguments) { return train_main<Sharded>("shards", count, arguments); }
