/// @file
/// What a meta-update changes and puts back, however it ends: modes and buffers of modules, random numbers, gradients.
#ifndef METAADAMW_TORCH_SCOPE_HPP
#define METAADAMW_TORCH_SCOPE_HPP

#include <metaadamw.hpp>
#include <torch/torch.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace metaadamw::torch::detail {

using Modules = std::vector<std::shared_ptr<::torch::nn::Module>>;

/// Training or evaluation mode of each submodule.
class Modes {
  public:
    explicit Modes(Modules const& modules) : modules_(modules) {
        for (auto const& module : modules_)
            record(*module);
    }
    Modes(Modes const&) = delete;
    Modes& operator=(Modes const&) = delete;
    ~Modes() { put_back(); }

    /// As found, but a module that was found in evaluation mode is put in training mode.
    void training() {
        put_back();
        for (auto const& module : modules_)
            if (!module->is_training())
                module->train();
    }

    void evaluation() {
        for (auto const& module : modules_)
            module->eval();
    }

  private:
    void record(::torch::nn::Module const& module) {
        found_.push_back(module.is_training());
        for (auto const& child : module.children())
            record(*child);
    }

    /// Outer modules first: `train` goes down to all inner ones.
    void put_back(::torch::nn::Module& module, std::size_t& next) {
        module.train(found_[next++]);
        for (auto const& child : module.children())
            put_back(*child, next);
    }

    void put_back() {
        std::size_t next = 0;
        for (auto const& module : modules_)
            put_back(*module, next);
    }

    Modules const& modules_;
    std::vector<bool> found_{};
};

/// The buffers of modules. Written through `data()`: graphs that saved a buffer see the values that they saw before.
class Buffers {
  public:
    explicit Buffers(Modules const& modules) {
        at::NoGradGuard const no_graph;
        for (auto const& module : modules)
            for (auto const& buffer : module->buffers())
                if (buffer.defined() && !is_expanded(buffer))  // nobody can write to an expanded one
                    saved_.emplace_back(buffer, buffer.detach().clone());
    }
    Buffers(Buffers const&) = delete;
    Buffers& operator=(Buffers const&) = delete;
    ~Buffers() { put_back(); }

    void put_back() {
        at::NoGradGuard const no_graph;
        for (auto const& [buffer, values] : saved_)
            buffer.data().copy_(values);
    }

  private:
    static bool is_expanded(at::Tensor const& buffer) {
        for (std::int64_t d = 0; d < buffer.dim(); d++)
            if (buffer.stride(d) == 0 && buffer.size(d) > 1)
                return true;
        return false;
    }

    std::vector<std::pair<at::Tensor, at::Tensor>> saved_{};
};

/// The states of the default generators of the CPU and of the parameters' device.
class RandomNumbers {
  public:
    explicit RandomNumbers(at::Device device) {
        generators_.push_back(at::globalContext().defaultGenerator(at::Device(at::kCPU)));
        if (!device.is_cpu())
            generators_.push_back(at::globalContext().defaultGenerator(device));
        for (at::Generator& generator : generators_) {
            std::lock_guard<std::mutex> const alone(generator.mutex());
            states_.push_back(generator.get_state());
        }
    }
    RandomNumbers(RandomNumbers const&) = delete;
    RandomNumbers& operator=(RandomNumbers const&) = delete;
    ~RandomNumbers() {
        for (std::size_t i = 0; i < generators_.size(); i++) {
            std::lock_guard<std::mutex> const alone(generators_[i].mutex());
            generators_[i].set_state(states_[i]);
        }
    }

    void seed(std::uint64_t number) {
        for (at::Generator& generator : generators_) {
            std::lock_guard<std::mutex> const alone(generator.mutex());
            generator.set_current_seed(number);
        }
    }

  private:
    std::vector<at::Generator> generators_{};
    std::vector<at::Tensor> states_{};
};

/// The parameters' gradients, taken away, so that nothing in a closure can add to them or zero them.
class Gradients {
  public:
    void take(at::Tensor const& param) { taken_.emplace_back(param, std::exchange(param.mutable_grad(), at::Tensor())); }
    Gradients() = default;
    Gradients(Gradients const&) = delete;
    Gradients& operator=(Gradients const&) = delete;
    ~Gradients() {
        for (auto& [param, gradient] : taken_)
            param.mutable_grad() = std::move(gradient);
    }

  private:
    std::vector<std::pair<at::Tensor, at::Tensor>> taken_{};
};

}  // namespace metaadamw::torch::detail

#endif
