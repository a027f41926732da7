// The words of a text and their numbers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tasks {

// How often each word occurs. The text outlives the counts.
using Counts = std::unordered_map<std::string_view, std::size_t>;

// The special words come first, <unk> the first of them, then the most frequent words; equally frequent ones in the
// order of their bytes.
class Vocabulary {
  public:
    static constexpr std::int32_t unknown = 0;

    Vocabulary() = default;
    // At most `size` words, special ones included, that occur at least `often` times.
    Vocabulary(Counts const& counts, std::vector<std::string> const& special, std::size_t size, std::size_t often) {
        for (auto const& word : special)
            add(word);
        std::vector<std::pair<std::string_view, std::size_t>> words(counts.begin(), counts.end());
        std::sort(words.begin(), words.end(), [](auto const& a, auto const& b) {
            return a.second != b.second ? a.second > b.second : a.first < b.first;
        });
        for (auto const& [word, count] : words) {
            if (numbers_.size() >= size || count < often)
                break;
            add(std::string(word));
        }
    }

    [[nodiscard]] std::int32_t operator[](std::string_view word) const {
        auto const found = numbers_.find(std::string(word));
        return found == numbers_.end() ? unknown : found->second;
    }
    [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(numbers_.size()); }

  private:
    void add(std::string const& word) { numbers_.emplace(word, static_cast<std::int32_t>(numbers_.size())); }

    std::unordered_map<std::string, std::int32_t> numbers_;
};

}  // namespace tasks
