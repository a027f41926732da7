// The second file of the program that includes everything: were a function of the header not inline, it would not link.
#include <metaadamw.hpp>

#include "toy.hpp"

metaadamw::Optimizer made_elsewhere(Toy& toy) {
    auto optimizer = toy.optimizer();
    toy.train(optimizer, 1);
    if (optimizer.meta_due())
        optimizer.meta_update([&](metaadamw::Request const& request) { return toy.answer(request); });
    return optimizer;
}
