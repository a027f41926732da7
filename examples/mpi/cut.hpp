// Which process has what of a model whose tensors lie one behind the other in a block: a contiguous piece of the block
// each, so that MPI gathers it in one call.
#pragma once

#include <metaadamw.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "mean.hpp"

// A tensor may be cut at multiples of `shard_alignment` elements, or not at all if it is smaller. Each border between
// two processes is the place nearest to where equal pieces would have it: the pieces of a large model differ from that
// by one such block at most, and a small model's tensors are dealt out whole, some processes perhaps without any.
class Cut {
  public:
    Cut(std::vector<std::size_t> const& lengths, Processes const& processes)
        : rank_(static_cast<std::size_t>(processes.rank)), starts_{0} {
        for (std::size_t const length : lengths)
            starts_.push_back(starts_.back() + length);
        auto const count = static_cast<std::size_t>(processes.count);
        for (std::size_t rank = 0; rank <= count; rank++)
            borders.push_back(number(nearest(elements() / count * rank + elements() % count * rank / count)));
        for (std::size_t rank = 0; rank < count; rank++)
            lengths_of.push_back(borders[rank + 1] - borders[rank]);
    }

    // Where the pieces of the processes begin, and the end of the last one; how long they are. As MPI wants them.
    std::vector<int> borders{}, lengths_of{};

    // This process's piece.
    std::size_t begin() const { return static_cast<std::size_t>(borders[rank_]); }
    std::size_t end() const { return static_cast<std::size_t>(borders[rank_ + 1]); }
    std::size_t length() const { return end() - begin(); }

    // Of all processes.
    std::size_t elements() const { return starts_.back(); }

    // What this process has of a tensor: `count` elements from `offset` on, in the tensor.
    struct Part {
        std::size_t offset, count;
    };
    Part part(std::size_t tensor) const {
        std::size_t const start = starts_[tensor], first = std::clamp(begin(), start, starts_[tensor + 1]),
                          last = std::clamp(end(), start, starts_[tensor + 1]);
        return first < last ? Part{first - start, last - first} : Part{0, 0};
    }

  private:
    std::size_t nearest(std::size_t place) const {
        auto const next = std::upper_bound(starts_.begin(), starts_.end() - 1, place);
        std::size_t const start = next[-1], block = metaadamw::shard_alignment;
        std::size_t const below = start + (place - start) / block * block, above = std::min(below + block, *next);
        return place - below <= above - place ? below : above;
    }

    std::size_t rank_;
    std::vector<std::size_t> starts_;  // of the tensors in the block, and its end
};
