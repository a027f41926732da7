// Multi30k: a Transformer that translates German to English.
#include "archive.hpp"
#include "files.hpp"
#include "parts.hpp"
#include "sequences.hpp"
#include "task.hpp"
#include "transformer.hpp"
#include "vocabulary.hpp"

namespace {

using namespace tasks;

constexpr std::int64_t most = 64;  // tokens of a sentence
constexpr std::size_t batch_size = 64;
constexpr std::int32_t padding = 1, begin = 2, end = 3;

class TranslatorImpl : public torch::nn::Module {
  public:
    TranslatorImpl(std::int64_t german, std::int64_t english, double factor) {
        constexpr std::int64_t heads = 8, layers = 4;
        constexpr double dropout = 0.1;
        auto const width = scaled(256, factor, heads);
        auto const options = torch::nn::TransformerOptions(width, heads, layers, layers)
                                 .dim_feedforward(scaled(512, factor))
                                 .dropout(dropout);
        source_ = register_module("source", Embeddings(german, most, width, dropout));
        target_ = register_module("target", Embeddings(english, most, width, dropout));
        transformer_ = register_module("transformer", torch::nn::Transformer(options));
        head_ = register_module("head", torch::nn::Linear(width, english));
    }

    // Sentences [examples, length] to scores of the target's next words, [length, examples, words]. The target's
    // padding needs no mask: what comes before it does not see it.
    torch::Tensor forward(torch::Tensor const& source, torch::Tensor const& target) {
        auto const hidden = source == padding;
        auto const causal = causal_mask(target.size(1), target.device());
        return head_(transformer_(source_(source), target_(target), torch::Tensor(), causal, torch::Tensor(), hidden,
                                  torch::Tensor(), hidden));
    }

  private:
    Embeddings source_{nullptr}, target_{nullptr};
    torch::nn::Transformer transformer_{nullptr};
    torch::nn::Linear head_{nullptr};
};
TORCH_MODULE(Translator);

// The texts of training, validation and test of a language: single files, or those in the archive.
std::vector<std::string> read_texts(Setup const& setup, std::string const& language) {
    DataSet const files(
        setup.data, {"multi30k", "Multi30k", "multi30k_de_en", "data/task1/tok"},
        "train, val and test_2016_flickr as NAME.lc.norm.tok.de (and .en) or NAME.de (and .en), tokenized and "
        "in lower case, one sentence a line",
        "https://github.com/multi30k/dataset (data/task1/tok)");
    std::vector<std::vector<std::string>> const parts{{"train"}, {"val"}, {"test_2016_flickr", "test2016"}};
    std::vector<std::vector<std::string>> names;
    for (auto const& part : parts) {
        names.emplace_back();
        for (auto const& name : part)
            for (auto const* const kind : {".lc.norm.tok.", "."})
                names.back().push_back(name + kind + language);
    }
    std::vector<std::string> texts;
    auto const archive = files.find({"multi30k_de_en_tok.tar.xz"});
    if (!files.find(names.front()) && archive) {
        auto const members = untar(read_xz(*archive), archive->string());
        for (auto const& part : parts) {
            auto const found = members.find("multi30k_" + part.back() + ".tok." + language);
            if (found == members.end())
                throw std::runtime_error("'" + archive->string() + "' has no multi30k_" + part.back() + ".tok." +
                                         language);
            texts.push_back(found->second);
        }
    } else {
        for (auto const& part : names)
            texts.push_back(read_file(files.need(part)));
    }
    return texts;
}

// One language's sentences.
struct Language {
    std::vector<std::string> texts;
    std::vector<std::string_view> lines;  // of all texts
    std::vector<std::size_t> counts;     // lines of each text
    Vocabulary vocabulary;
    Sequences sentences;

    Language(Setup const& setup, std::string const& name) : texts(read_texts(setup, name)) {
        for (auto const& text : texts) {
            auto const some =
                lines_of(text, "Multi30k's " + name + " text " + std::to_string(counts.size() + 1) + " of 3");
            lines.insert(lines.end(), some.begin(), some.end());
            counts.push_back(some.size());
        }
    }

    // The vocabulary is that of the training sentences which are kept.
    void encode(std::vector<std::size_t> const& kept, std::vector<std::size_t> const& train, bool begins) {
        Counts occurrences;
        for (auto const example : train)
            for (auto const word : words_of(lines[kept[example]]))
                ++occurrences[word];
        vocabulary = Vocabulary(occurrences, {"<unk>", "<pad>", "<bos>", "<eos>"}, ~std::size_t{0}, 2);
        for (auto const example : kept) {
            std::vector<std::int32_t> sentence;
            for (auto const word : words_of(lines[example]))
                if (sentence.size() < static_cast<std::size_t>(most - 1))
                    sentence.push_back(vocabulary[word]);
            if (begins)
                sentence.insert(sentence.begin(), begin);
            sentence.push_back(end);
            sentences.add(sentence);
        }
        lines = {}, texts = {};
    }
};

class Multi30k : public Task {
  public:
    explicit Multi30k(Setup const& setup)
        : german_(setup, "de"), english_(setup, "en"), parts_(split(setup)),
          model_(german_.vocabulary.size(), english_.vocabulary.size(), setup.width) {}

    torch::nn::Module& model() override { return *model_; }
    std::size_t size(Part part) const override { return parts_[part].size(); }

    // The source and the target, which begins with <bos>, each padded to its own longest.
    Batch batch(Part part, std::vector<std::size_t> const& examples) const override {
        std::vector<std::size_t> pairs;
        for (auto const example : examples)
            pairs.push_back(parts_[part].at(example));
        return {{german_.sentences.padded(pairs, padding), english_.sentences.padded(pairs, padding)}};
    }

    torch::Tensor loss(Batch const& batch) override { return loss(batch, torch::kMean); }

    Score score(Batch const& batch) override {
        auto const words = (next_words(batch) != padding).sum().item<std::int64_t>();
        return {loss(batch, torch::kSum).item<double>(), 0.0, static_cast<double>(words)};
    }

  private:
    static torch::Tensor next_words(Batch const& batch) {
        auto const& target = batch.tensors.at(1);
        return target.narrow(1, 1, target.size(1) - 1);
    }

    template <class Reduction>
    torch::Tensor loss(Batch const& batch, Reduction reduction) {
        auto const& target = batch.tensors.at(1);
        auto const scores = model_(batch.tensors.at(0), target.narrow(1, 0, target.size(1) - 1));
        return next_word_loss(scores, next_words(batch).t(), reduction, padding);
    }

    Parts split(Setup const& setup) {
        auto const& counts = german_.counts;
        if (counts != english_.counts)
            throw std::runtime_error(
                "Multi30k's German and English files in '" + setup.data +
                "' differ in their number of lines: one is cut off, or they are not of one release");
        auto parts = Parts::of_three(setup, batch_size, counts[0], counts[1], counts[2]);
        auto const kept = parts.renumber();
        german_.encode(kept, parts[Part::train], false);
        english_.encode(kept, parts[Part::train], true);
        return parts;
    }

    Language german_, english_;
    Parts parts_;
    Translator model_;
};

}  // namespace

std::unique_ptr<Task> make_multi30k(Setup const& setup) { return std::make_unique<Multi30k>(setup); }
