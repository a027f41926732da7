// The C++ program of tests/cross_language.rs: `train STEPS LEARNING LOAD SAVE PARAMS_IN PARAMS_OUT`, "-" for none;
// LEARNING: the step that a meta-update follows, or "horizon".

#include <metaadamw.hpp>

#include <array>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>

namespace {

/// Two float32 tensors and a float64 one.
struct Model {
    std::array<float, 24> weight;
    std::array<float, 6> bias;
    std::array<double, 6> head;

    /// Calls `each(flat index, element)` in order.
    template <class Each>
    void visit(Each each) {
        std::size_t k = 0;
        for (auto& x : weight) each(k++, x);
        for (auto& x : bias) each(k++, x);
        for (auto& x : head) each(k++, x);
    }
};

struct Loss {
    Model& model;
    Model& gradient;

    /// 1/2 sum c (x - y)^2, and c (x - y) as the gradient.
    double operator()(std::size_t batch) const {
        std::array<double, 36> slope{};
        double loss = 0;
        model.visit([&](std::size_t k, auto x) {
            double const c = 1.0 + static_cast<double>((k * 13 + batch * 7) % 17) / 17.0;
            double const y = static_cast<double>((k * 29 + batch * 11) % 89) / 89.0 - 0.5;
            double const distance = static_cast<double>(x) - y;
            loss += 0.5 * c * distance * distance;
            slope[k] = c * distance;
        });
        gradient.visit([&](std::size_t k, auto& g) { g = static_cast<std::decay_t<decltype(g)>>(slope[k]); });
        return loss;
    }
};

std::size_t number_of(metaadamw::Batch batch) {
    switch (batch) {
        case metaadamw::Batch::train_1: return 1;
        case metaadamw::Batch::train_2: return 2;
        default: return 3;
    }
}

void train(std::string const& steps, std::string const& learning, std::string const& load, std::string const& save,
           std::string const& params_in, std::string const& params_out) {
    Model model{}, gradient{};
    model.visit([](std::size_t k, auto& x) {
        x = static_cast<std::decay_t<decltype(x)>>(static_cast<double>((k * 37) % 101) / 101.0 - 0.5);
    });

    bool const from_steps = learning == "horizon";
    unsigned long const meta_after = from_steps ? 0 : std::stoul(learning);
    metaadamw::Options options = from_steps ? metaadamw::Options::horizon() : metaadamw::Options();
    if (from_steps) {
        options.meta_interval = 3;
        options.meta_warmup = 2;
        options.horizon_steps = 4;
    } else {
        options.meta_interval = 7;
        options.attn_layers = 2;
    }
    options.seed = 7;
    options.total_steps = 14;
    options.attn_hidden_dim = 8;
    options.threads = 1;
    metaadamw::Optimizer optimizer{options};
    optimizer.add_param_group(metaadamw::ParamGroup{}.lr(1e-2).weight_decay(1e-1),
                              {{"layers.0.weight", model.weight.data(), gradient.weight.data(), {6, 4}},
                               {"layers.0.bias", model.bias.data(), gradient.bias.data(), {6}},
                               {"head.weight", model.head.data(), gradient.head.data(), {1, 6}}});
    if (load != "-") {
        optimizer.load(load);
        std::ifstream in(params_in, std::ios::binary);
        model.visit([&](std::size_t, auto& x) { in.read(reinterpret_cast<char*>(&x), sizeof x); });
    }

    Loss const loss{model, gradient};
    for (unsigned long i = 1; i <= std::stoul(steps); i++) {
        loss(10 + optimizer.step_count());
        optimizer.step();
        if (i == meta_after)
            optimizer.meta_update([&](metaadamw::Request const& request) { return loss(number_of(request.batch())); });
    }

    if (save != "-") optimizer.save(save);
    std::ofstream out(params_out, std::ios::binary);
    model.visit([&](std::size_t, auto& x) { out.write(reinterpret_cast<char const*>(&x), sizeof x); });
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 8 || std::string(argv[1]) != "train") {
        std::cerr << "usage: train STEPS LEARNING LOAD SAVE PARAMS_IN PARAMS_OUT\n";
        return 2;
    }
    train(argv[2], argv[3], argv[4], argv[5], argv[6], argv[7]);
} catch (std::exception const& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
