// A second translation unit that includes the header: if one of its functions were not inline, linking would fail.
#include <metaadamw.hpp>

#include "toy.hpp"

metaadamw::Optimizer made_elsewhere(Toy& toy) {
    auto optimizer = toy.optimizer();
    toy.train(optimizer, 1);
    if (optimizer.meta_due())
        optimizer.meta_update([&](metaadamw::Request const& request) { return toy.answer(request); });
    return optimizer;
}
