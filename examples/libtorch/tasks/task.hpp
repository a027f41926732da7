// What the training loop sees of a task: a model, data in four parts, a loss and a metric.
#pragma once

#include <torch/torch.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// Parts of the data. `meta`: the validation batches of meta-updates; `selection`: early stopping, the best epoch, tuning;
// `test`: what is reported.
enum class Part { train, meta, selection, test };

// How a task is set up.
struct Setup {
    std::string data;     // folder
    double limit = 1.0;   // fraction of the data, of each part
    double width = 1.0;   // factor of the model's width
    // The parts are disjoint. Otherwise as in the paper: one validation set is meta, selection and test, and all that is not
    // in it is train.
    bool disjoint = true;
};

// Some examples. What the tensors are is the task's affair.
struct Batch {
    std::vector<torch::Tensor> tensors;
    [[nodiscard]] Batch to(torch::Device device) const {
        Batch moved;
        for (auto const& tensor : tensors)
            moved.tensors.push_back(tensor.to(device));
        return moved;
    }
};

// Sums over examples (or tokens, where the loss is one of tokens), so that batches of any size can be added.
struct Score {
    double loss = 0.0, hits = 0.0, count = 0.0;
    Score& operator+=(Score const& other) {
        loss += other.loss, hits += other.hits, count += other.count;
        return *this;
    }
};

enum class Metric { mse, perplexity, accuracy };

inline char const* name_of(Metric metric) {
    return metric == Metric::mse ? "MSE" : metric == Metric::perplexity ? "perplexity" : "accuracy";
}

inline double value_of(Metric metric, Score const& score) {
    double const loss = score.loss / score.count;
    return metric == Metric::mse ? loss : metric == Metric::perplexity ? std::exp(loss) : score.hits / score.count;
}

inline bool better(Metric metric, double value, double than) {
    return metric == Metric::accuracy ? value > than : value < than;
}

// The model is made with torch's default generator: the caller has seeded it.
class Task {
  public:
    Task() = default;
    Task(Task const&) = delete;
    Task& operator=(Task const&) = delete;
    virtual ~Task() = default;

    [[nodiscard]] virtual torch::nn::Module& model() = 0;
    [[nodiscard]] virtual std::size_t size(Part part) const = 0;  // examples
    // These examples of a part, on the CPU. Any transformation of the data at random uses torch's default generator, and
    // only for Part::train.
    [[nodiscard]] virtual Batch batch(Part part, std::vector<std::size_t> const& examples) const = 0;
    // The mean loss, in the mode that the model is in.
    [[nodiscard]] virtual torch::Tensor loss(Batch const& batch) = 0;
    // The same loss as a sum, and hits where the metric is accuracy. The caller has put the model into evaluation mode,
    // without autograd.
    [[nodiscard]] virtual Score score(Batch const& batch) = 0;
};

// A task by its name, with the paper's settings for it (spec of the paper's table; K is that of the whole training set).
struct TaskKind {
    std::string name;
    Metric metric;
    std::size_t batch_size;
    std::size_t meta_interval;                     // K, for the whole training set
    std::uint32_t layers, heads, feed_forward;     // of the attention module
    bool basic_plus;                               // features: basic_plus, else basic
    bool gating;
    double priorities[3];                          // gradient alignment, loss decrease, generalization gap
    std::unique_ptr<Task> (*make)(Setup const&);
};

// One function a file: etth1.cpp, wikitext2.cpp, multi30k.cpp, cifar10.cpp, imdb.cpp. An error is a std::runtime_error; for
// data that is missing it says where it is published and which files are expected in the folder.
std::unique_ptr<Task> make_etth1(Setup const& setup);
std::unique_ptr<Task> make_wikitext2(Setup const& setup);
std::unique_ptr<Task> make_multi30k(Setup const& setup);
std::unique_ptr<Task> make_cifar10(Setup const& setup);
std::unique_ptr<Task> make_imdb(Setup const& setup);
