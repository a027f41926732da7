// IMDB: a bidirectional LSTM that tells good reviews of films from bad ones.
#include "archive.hpp"
#include "classes.hpp"
#include "files.hpp"
#include "parts.hpp"
#include "sequences.hpp"
#include "task.hpp"
#include "vocabulary.hpp"

#include <algorithm>

namespace {

using namespace tasks;

constexpr std::size_t most = 256;  // words of a review
constexpr std::size_t vocabulary_size = 20000;
constexpr std::size_t batch_size = 64;
constexpr std::int32_t padding = 1;

class ReaderImpl : public torch::nn::Module {
  public:
    ReaderImpl(std::int64_t words, double factor) {
        auto const input = scaled(32, factor), hidden = scaled(64, factor);
        auto const options = torch::nn::LSTMOptions(input, hidden).num_layers(layers).bidirectional(true);
        embedding_ = register_module("embedding", torch::nn::Embedding(words, input));
        lstm_ = register_module("lstm", torch::nn::LSTM(options));
        dropout_ = register_module("dropout", torch::nn::Dropout(0.5));
        head_ = register_module("head", torch::nn::Linear(2 * hidden, 2));
    }

    // Reviews [examples, longest] and their lengths to scores [examples, 2] from the last layer's final states. Both
    // directions begin with a review's words, so that its padding comes after them and disturbs no state. (Packed
    // sequences do the same, but their backward pass on a CPU takes time that grows with the square of the length.)
    torch::Tensor forward(torch::Tensor const& reviews, torch::Tensor const& lengths) {
        auto const places = torch::arange(reviews.size(1), reviews.options()).unsqueeze(1);
        auto const turned = torch::where(places < lengths, lengths - 1 - places, places);
        auto x = embedding_(reviews.t());
        torch::Tensor there, back;
        for (std::size_t layer = 0; layer < layers; ++layer) {
            x = layer == 0 ? x : torch::dropout(torch::cat({there, back}, 2), between, is_training());
            there = run(x, 2 * layer);
            back = at(run(at(x, turned), 2 * layer + 1), turned);
        }
        auto const last = at(there, (lengths - 1).unsqueeze(0));
        return head_(dropout_(torch::cat({last[0], back[0]}, 1)));
    }

  private:
    static constexpr std::size_t layers = 2;
    static constexpr double between = 0.2;  // dropout

    // x [length, examples, features] at other places [length', examples] of each example.
    static torch::Tensor at(torch::Tensor const& x, torch::Tensor const& places) {
        auto const rows = places * x.size(1) + torch::arange(x.size(1), places.options());
        return x.flatten(0, 1).index_select(0, rows.flatten()).view({places.size(0), x.size(1), x.size(2)});
    }

    // One layer in one direction, with the weights that it has in the LSTM: even numbers read from the left.
    torch::Tensor run(torch::Tensor const& x, std::size_t number) {
        auto const all = lstm_->all_weights();
        auto const first = all.begin() + static_cast<std::ptrdiff_t>(4 * number);
        std::vector<torch::Tensor> const weights(first, first + 4);
        auto const start = torch::zeros({1, x.size(1), lstm_->options.hidden_size()}, x.options());
        return std::get<0>(torch::lstm(x, {start, start}, weights, true, 1, 0.0, is_training(), false, false));
    }

    torch::nn::Embedding embedding_{nullptr};
    torch::nn::LSTM lstm_{nullptr};
    torch::nn::Dropout dropout_{nullptr};
    torch::nn::Linear head_{nullptr};
};
TORCH_MODULE(Reader);

// Reviews and what they say of the film: 1 is good, 0 bad.
struct Reviews {
    std::vector<std::string> texts;
    std::vector<std::int64_t> labels;

    // "label TAB text" a line.
    void add_table(std::filesystem::path const& path) {
        auto const table = read_xz(path);
        for (auto const line : lines_of(table, path.string())) {
            if (line.size() < 2 || (line[0] != '0' && line[0] != '1') || line[1] != '\t')
                throw std::runtime_error("line " + std::to_string(texts.size() + 1) + " of '" + path.string() +
                                         "' does not begin with 0 or 1 and a tab");
            labels.push_back(line[0] - '0');
            texts.emplace_back(line.substr(2));
        }
    }

    // The folders pos and neg with one file a review.
    void add_folder(std::filesystem::path const& path) {
        for (std::int64_t const label : {0, 1}) {
            auto const folder = path / (label == 1 ? "pos" : "neg");
            std::vector<std::filesystem::path> files;
            if (std::filesystem::is_directory(folder))
                for (auto const& entry : std::filesystem::directory_iterator(folder))
                    if (entry.path().extension() == ".txt")
                        files.push_back(entry.path());
            if (files.empty())
                throw std::runtime_error("no reviews (*.txt) in '" + folder.string() + "'");
            std::sort(files.begin(), files.end());
            for (auto const& file : files) {
                texts.push_back(read_file(file));
                labels.push_back(label);
                if (texts.back().empty())
                    throw std::runtime_error("'" + file.string() + "' is empty");
            }
        }
    }

    void add(Setup const& setup, std::string const& part) {
        DataSet const files(setup.data, {"aclImdb", "imdb"},
                            "the folders train and test, each with pos/*.txt and neg/*.txt",
                            "https://ai.stanford.edu/~amaas/data/sentiment (aclImdb_v1.tar.gz)");
        auto const table = files.find({"imdb_" + part + ".tsv.xz"});
        auto const folder = files.find({part + "/pos"});
        if (!folder && table)
            add_table(*table);
        else
            add_folder(files.need({part + "/pos"}).parent_path());
    }
};

// Makes the text lower case and removes line breaks in HTML. Words are then runs of letters, digits and apostrophes;
// what is not ASCII counts as a letter.
std::vector<std::string_view> words_of_review(std::string& text) {
    for (auto at = text.find("<br />"); at != std::string::npos; at = text.find("<br />", at))
        text.replace(at, 6, " ");
    auto const is_word = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '\'' || static_cast<unsigned char>(c) >= 128;
    };
    for (auto& c : text)
        if (c >= 'A' && c <= 'Z')
            c = static_cast<char>(c - 'A' + 'a');
    std::vector<std::string_view> words;
    for (std::size_t first = 0; first < text.size() && words.size() < most;) {
        std::size_t last = first;
        while (last < text.size() && is_word(text[last]))
            ++last;
        if (last > first)
            words.push_back(std::string_view(text).substr(first, last - first));
        first = last + 1;
    }
    return words;
}

class Imdb : public Task {
  public:
    explicit Imdb(Setup const& setup) : parts_(read(setup)), model_(vocabulary_.size(), setup.width) {}

    torch::nn::Module& model() override { return *model_; }
    std::size_t size(Part part) const override { return parts_[part].size(); }

    // Padded reviews, their lengths and their labels.
    Batch batch(Part part, std::vector<std::size_t> const& examples) const override {
        std::vector<std::size_t> chosen;
        std::vector<std::int64_t> labels;
        for (auto const example : examples) {
            chosen.push_back(parts_[part].at(example));
            labels.push_back(labels_[chosen.back()]);
        }
        return {{reviews_.padded(chosen, padding), reviews_.lengths(chosen), torch::tensor(labels)}};
    }

    torch::Tensor loss(Batch const& batch) override {
        return torch::nn::functional::cross_entropy(scores(batch), batch.tensors.at(2));
    }

    Score score(Batch const& batch) override {
        return score_of_classes(scores(batch), batch.tensors.at(2));
    }

  private:
    torch::Tensor scores(Batch const& batch) { return model_(batch.tensors.at(0), batch.tensors.at(1)); }

    // The vocabulary is that of the training reviews which are kept, as far as the model reads them.
    Parts read(Setup const& setup) {
        Reviews all;
        all.add(setup, "train");
        auto const train = all.texts.size();
        all.add(setup, "test");
        auto parts = Parts::of_two(setup, batch_size, train, all.texts.size() - train);
        std::vector<std::vector<std::string_view>> words;
        for (auto const example : parts.renumber()) {
            words.push_back(words_of_review(all.texts[example]));
            labels_.push_back(all.labels[example]);
        }
        Counts occurrences;
        for (auto const example : parts[Part::train])
            for (auto const word : words[example])
                ++occurrences[word];
        vocabulary_ = Vocabulary(occurrences, {"<unk>", "<pad>"}, vocabulary_size, 1);
        for (auto const& review : words) {
            std::vector<std::int32_t> tokens;
            for (auto const word : review)
                tokens.push_back(vocabulary_[word]);
            if (tokens.empty())
                tokens.push_back(Vocabulary::unknown);
            reviews_.add(tokens);
        }
        return parts;
    }

    Vocabulary vocabulary_;
    Sequences reviews_;
    std::vector<std::int64_t> labels_;
    Parts parts_;
    Reader model_;
};

}  // namespace

std::unique_ptr<Task> make_imdb(Setup const& setup) { return std::make_unique<Imdb>(setup); }
