// One step of plain AdamW from 1 with gradient 1: nearly 1 - lr (1 + weight_decay).
#include <metaadamw.hpp>

#include <cstdio>

int main() {
    double w = 1.0, g = 1.0;
    metaadamw::Options options;
    options.modulation = false;
    metaadamw::Optimizer optimizer{options};
    optimizer.add_param_group(metaadamw::ParamGroup{}.lr(0.5), {{"w", &w, &g, {}}});
    optimizer.step();
    std::printf("w = %.3f\n", w);
}
