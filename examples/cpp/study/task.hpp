// What a way to train sees of a task: parameters with their gradients, batches, losses.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <metaadamw.hpp>
#include <string>
#include <vector>

// A tensor of the model. Its buffers stay where they are.
struct Parameter {
    std::string name;
    std::vector<std::uint64_t> shape;
    std::vector<float>* value;
    std::vector<float> const* gradient;
    metaadamw::LayerKind kind = metaadamw::LayerKind::unknown;  // unknown: the name says it
};

// Numbers of windows, or places in a text.
using Batch = std::vector<std::size_t>;

// A model at the start of training, and its data. The batches depend on the seed and the step alone, so every way to train
// gets the same.
class Task {
  public:
    Task() = default;
    Task(Task const&) = delete;
    Task& operator=(Task const&) = delete;
    virtual ~Task() = default;

    std::vector<Parameter> parameters;

    virtual Batch training(std::size_t step) = 0;                // steps count from 0
    virtual std::array<Batch, 3> for_meta(std::size_t step) = 0;  // B1, B2, and a held-out batch
    virtual double loss(Batch const& batch) = 0;
    virtual double backward(Batch const& batch) = 0;  // the same, and the gradients
    virtual double validation() = 0;                  // the loss on data that no way to train uses, in the task's unit
};

// How a task is run.
struct TaskKind {
    std::string name;
    std::size_t steps, epoch;  // in a run; steps of an epoch
    std::size_t meta_interval;  // MetaAdamW's
    bool feature_gating;        // MetaAdamW's, as the paper has it for tasks of this kind
    double seconds;             // about what a run takes
    std::function<std::unique_ptr<Task>(std::uint64_t seed)> start;
};

struct Title {
    std::string task, title, unit;
};

inline std::vector<Title> const TITLES{{"co2", "CO₂ at Mauna Loa, weekly", "ppm²"},
                                       {"etth1", "ETTh1, oil temperature, hourly", "°C²"},
                                       {"text", "Newton's Opticks by characters", "nats a character"}};
