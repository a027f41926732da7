// What the C++ fragments of the documentation's pages stand among: they are compiled, not run.
#pragma once

#include <metaadamw.hpp>

#include <cstdio>
#include <vector>

extern metaadamw::Optimizer optimizer;

// The host's.
struct Line {
    double evaluate(int batch);
};
extern Line line;
std::vector<metaadamw::Buffer> buffers();
double evaluate(metaadamw::Batch batch);
