// The next character of a text, by a small Transformer, with cross-entropy.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../data/opticks.h"
#include "../shared/random.hpp"
#include "task.hpp"
#include "transformer.hpp"

// The text as numbers of characters. First 80 %: training; next 10 %: the validation batches of meta-updates; last 10 %:
// validation.
struct Text {
    std::vector<std::uint8_t> characters;
    std::size_t vocabulary, train, held_out;  // ends of the parts

    Text() {
        std::string const alphabet = OPTICKS_ALPHABET;
        for (char const* c = OPTICKS; *c != '\0'; c++)
            characters.push_back(static_cast<std::uint8_t>(alphabet.find(*c)));
        vocabulary = alphabet.size();
        train = characters.size() * 8 / 10;
        held_out = characters.size() * 9 / 10;
    }
};

class TextTask : public Task {
  public:
    static constexpr std::size_t BATCH = 16, CONTEXT = 32, WIDTH = 32, HEADS = 2, LAYERS = 2, VALIDATION = 256;

    TextTask(std::shared_ptr<Text const> text, std::uint64_t seed)
        : text_(std::move(text)), seed_(seed), net_({text_->vocabulary, CONTEXT, WIDTH, HEADS, LAYERS}, seed) {
        for (auto& tensor : net_.tensors) {
            bool const head = tensor.name.compare(0, 4, "head") == 0;
            auto const kind = head ? metaadamw::LayerKind::linear : metaadamw::LayerKind::unknown;
            parameters.push_back({tensor.name, {tensor.shape.begin(), tensor.shape.end()}, &tensor.value,
                                  &tensor.gradient, kind});
        }
        // The same windows in every run, at equal distances.
        std::size_t const last = text_->characters.size() - CONTEXT - 1, room = last - text_->held_out;
        for (std::size_t w = 0; w < VALIDATION; w++)
            validation_.push_back(text_->held_out + room * w / (VALIDATION - 1));
    }

    static std::size_t epoch(Text const& text) { return text.train / (BATCH * CONTEXT); }

    Batch training(std::size_t step) override { return places(Random(seed_, step, 0), 0, text_->train, BATCH); }

    std::array<Batch, 3> for_meta(std::size_t step) override {
        return {places(Random(seed_, step, 1), 0, text_->train, BATCH),
                places(Random(seed_, step, 2), 0, text_->train, BATCH),
                places(Random(seed_, step, 3), text_->train, text_->held_out, BATCH)};
    }

    double loss(Batch const& batch) override { return net_.loss(windows(batch)); }
    double backward(Batch const& batch) override { return net_.backward(windows(batch)); }
    double validation() override {
        double sum = 0.0;
        for (std::size_t w = 0; w < VALIDATION; w += BATCH)
            sum += loss({&validation_[w], &validation_[w] + BATCH});
        return sum * BATCH / VALIDATION;
    }

  private:
    static Batch places(Random random, std::size_t from, std::size_t to, std::size_t count) {
        Batch places(count);
        for (std::size_t& place : places)
            place = from + static_cast<std::size_t>(random.bits() % (to - from - CONTEXT));
        return places;
    }

    std::vector<std::uint8_t> windows(Batch const& places) const {
        std::vector<std::uint8_t> all;
        for (std::size_t const place : places)
            all.insert(all.end(), text_->characters.begin() + static_cast<std::ptrdiff_t>(place),
                       text_->characters.begin() + static_cast<std::ptrdiff_t>(place + CONTEXT + 1));
        return all;
    }

    std::shared_ptr<Text const> const text_;
    std::uint64_t const seed_;
    Transformer<float> net_;
    Batch validation_;
};

inline TaskKind text_kind() {
    auto const text = std::make_shared<Text const>();
    return {"text", 1500, TextTask::epoch(*text), 100, false, 4.0,
            [text](std::uint64_t seed) { return std::make_unique<TextTask>(text, seed); }};
}
