// WikiText-2: a small GPT on words.
#include "files.hpp"
#include "parts.hpp"
#include "task.hpp"
#include "transformer.hpp"
#include "vocabulary.hpp"

namespace {

using namespace tasks;

constexpr std::int64_t block = 128;
constexpr std::size_t vocabulary_size = 10000;
constexpr std::size_t batch_size = 64;

class MiniGptImpl : public torch::nn::Module {
  public:
    MiniGptImpl(std::int64_t words, double factor) {
        constexpr std::int64_t heads = 4;
        constexpr double dropout = 0.2;
        auto const width = scaled(128, factor, heads);
        auto const layer = torch::nn::TransformerEncoderLayerOptions(width, heads)
                               .dim_feedforward(scaled(512, factor))
                               .dropout(dropout);
        embeddings_ = register_module("embeddings", Embeddings(words, block, width, dropout));
        layers_ =
            register_module("layers", torch::nn::TransformerEncoder(torch::nn::TransformerEncoderOptions(layer, 2)));
        head_ = register_module("head", torch::nn::Linear(width, words));
    }

    // [examples, length] to [length, examples, words].
    torch::Tensor forward(torch::Tensor const& tokens) {
        return head_(layers_(embeddings_(tokens), causal_mask(tokens.size(1), tokens.device())));
    }

  private:
    Embeddings embeddings_{nullptr};
    torch::nn::TransformerEncoder layers_{nullptr};
    torch::nn::Linear head_{nullptr};
};
TORCH_MODULE(MiniGpt);

// The words of a file; each line, empty ones too, ends with <eos>.
std::vector<std::string_view> words_of_file(std::string const& text, std::string const& name) {
    std::vector<std::string_view> words;
    for (auto const line : lines_of(text, name)) {
        auto const some = words_of(line);
        words.insert(words.end(), some.begin(), some.end());
        words.emplace_back("<eos>");
    }
    if (words.size() <= static_cast<std::size_t>(block))
        throw std::runtime_error("'" + name + "' has no more than " + std::to_string(block) + " words");
    return words;
}

class WikiText2 : public Task {
  public:
    explicit WikiText2(Setup const& setup) : windows_(read(setup)), model_(vocabulary_.size(), setup.width) {}

    torch::nn::Module& model() override { return *model_; }
    std::size_t size(Part part) const override { return parts_.value()[part].size(); }

    // One tensor: the words of the window and the one after it.
    Batch batch(Part part, std::vector<std::size_t> const& examples) const override {
        std::vector<std::int64_t> rows;
        for (auto const example : examples)
            rows.push_back(static_cast<std::int64_t>(parts_.value()[part].at(example)));
        return {{windows_.index_select(0, torch::tensor(rows)).to(torch::kInt64)}};
    }

    torch::Tensor loss(Batch const& batch) override { return loss(batch, torch::kMean); }

    Score score(Batch const& batch) override {
        auto const& windows = batch.tensors.at(0);
        auto const count = windows.size(0) * (windows.size(1) - 1);
        return {loss(batch, torch::kSum).item<double>(), 0.0, static_cast<double>(count)};
    }

  private:
    template <class Reduction>
    torch::Tensor loss(Batch const& batch, Reduction reduction) {
        auto const& windows = batch.tensors.at(0);
        auto const length = windows.size(1) - 1;
        return next_word_loss(model_(windows.narrow(1, 0, length)), windows.narrow(1, 1, length).t(), reduction);
    }

    // Disjoint windows of 128 words and the next word, [windows, 129]. The vocabulary is that of the training windows
    // which are kept, so that a run on a fraction of the data knows nothing of the rest.
    torch::Tensor read(Setup const& setup) {
        DataSet const files(
            setup.data, {"wikitext-2", "wikitext2", "wikitext-2-v1"},
            "wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens (or train.txt, valid.txt and test.txt)",
            "https://huggingface.co/datasets/Salesforce/wikitext as wikitext-2-v1");
        constexpr std::size_t step = block;
        std::vector<std::string> texts;
        std::vector<std::size_t> counts;
        std::vector<std::vector<std::string_view>> words;
        texts.reserve(3);  // the words point into them
        for (std::string const part : {"train", "valid", "test"}) {
            auto const path = files.need({"wiki." + part + ".tokens", part + ".txt"});
            texts.push_back(read_file(path));
            words.push_back(words_of_file(texts.back(), path.string()));
            counts.push_back((words.back().size() - 1) / step);
        }
        parts_ = Parts::of_three(setup, batch_size, counts[0], counts[1], counts[2]);
        auto const kept = parts_->renumber();
        auto const window = [&](std::size_t number) {  // its first word
            std::size_t part = 0;
            while (number >= counts[part])
                number -= counts[part++];
            return words[part].data() + number * step;
        };
        Counts occurrences;
        for (auto const example : (*parts_)[Part::train])
            for (auto const *first = window(kept[example]), *word = first; word <= first + step; ++word)
                ++occurrences[*word];
        vocabulary_ = Vocabulary(occurrences, {"<unk>", "<eos>"}, vocabulary_size, 1);
        auto windows = torch::empty({static_cast<std::int64_t>(kept.size()), block + 1}, torch::kInt32);
        auto* token = windows.data_ptr<std::int32_t>();
        for (auto const number : kept)
            for (auto const *first = window(number), *word = first; word <= first + step; ++word)
                *token++ = vocabulary_[*word];
        return windows;
    }

    std::optional<Parts> parts_;
    Vocabulary vocabulary_;
    torch::Tensor windows_;
    MiniGpt model_;
};

}  // namespace

std::unique_ptr<Task> make_wikitext2(Setup const& setup) { return std::make_unique<WikiText2>(setup); }
