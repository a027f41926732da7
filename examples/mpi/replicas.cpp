// The network and the series of ../cpp/forecast, trained by several processes that all have the whole model (replicas,
// data parallelism): each computes the gradient of its part of a batch, MPI makes the mean of them, and every process
// makes the same step with it. The library takes no part in the communication and does not know that there are others;
// it promises that the same gradients give the same bits. docs/processes.md is about this program.
//
//     mpirun -n 4 replicas [--order tree|mpi] [--parts N] [--epochs N] [--seed N] [--interval N] [--lr X]
//                          [--spoil STEP] [--width N]
//
// A batch has as many parts as there are processes, or --parts: a process with several computes one after the other.
// With --order tree (mean.hpp) the number of processes does not matter: `mpirun -n 1 replicas --parts 4` trains one
// process on the whole mean gradient, and ends with the same bits. --spoil makes one part's gradient of that step
// infinite. --width: of the hidden layers.
#include <metaadamw.hpp>

#include <cstddef>
#include <string>
#include <vector>

#include "forecaster.hpp"
#include "mean.hpp"

namespace {

class Replica : public Forecaster {
  public:
    Replica(Settings const& settings, Data const& data, Processes const& processes)
        : Forecaster(settings, data), gradient_(elements()),
          mean_(processes, settings.parts, gradient_.size(), settings.order) {
        // The gradients are slices of one block, so that one call of MPI reduces them all.
        std::vector<metaadamw::Tensor> tensors;
        float* gradient = gradient_.data();
        for_each_tensor(net_, [&](std::string const& name, auto const& shape, auto& values, auto const&) {
            tensors.push_back({name, values.data(), gradient, shape});
            gradient += values.size();
        });
        add(tensors);
    }

    void print(Processes const&) const {}

  private:
    double mean(Evaluate const& evaluate, bool wants_gradient) override {
        return mean_(evaluate, wants_gradient ? gradient_.data() : nullptr);
    }

    std::vector<float> gradient_;  // the mean, of all tensors
    Mean mean_;
};

}  // namespace

int main(int count, char** arguments) { return train_main<Replica>("replicas", count, arguments); }
