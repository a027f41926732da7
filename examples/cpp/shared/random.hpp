// Random numbers that are the same on every platform.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

// splitmix64.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    // For one purpose in one epoch: its numbers depend only on the seed and these, so a run can be resumed at any
    // epoch.
    Random(std::uint64_t seed, std::uint64_t epoch, std::uint64_t purpose)
        : state_(Random(Random(seed).bits() + epoch).bits() + purpose) {}

    std::uint64_t bits() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    double unit() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

    // Puts `count` of the numbers, drawn at random, in front.
    void draw(std::vector<std::size_t>& numbers, std::size_t count) {
        for (std::size_t i = 0; i < count; i++)
            std::swap(numbers[i], numbers[i + static_cast<std::size_t>(bits() % (numbers.size() - i))]);
    }

  private:
    std::uint64_t state_;
};
