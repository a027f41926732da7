// Where the files of a data set lie, what is in them, and what to say when they are not there.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tasks {

class DataSet {
  public:
    // Its files may lie in `folder` or in a folder in there that has one of these names; `expected` and `published` are
    // for the error.
    DataSet(std::string folder, std::vector<std::string> const& names, std::string expected, std::string published)
        : folder_(std::move(folder)), expected_(std::move(expected)), published_(std::move(published)) {
        places_.emplace_back(folder_);
        for (auto const& name : names)
            places_.push_back(places_.front() / name);
    }

    // The first of these files (or folders) that is there.
    [[nodiscard]] std::optional<std::filesystem::path> find(std::vector<std::string> const& files) const {
        for (auto const& place : places_)
            for (auto const& file : files)
                if (std::filesystem::exists(place / file))
                    return place / file;
        return std::nullopt;
    }

    [[nodiscard]] std::filesystem::path need(std::vector<std::string> const& files) const {
        if (auto const found = find(files))
            return *found;
        std::string others;
        for (std::size_t i = 1; i < files.size(); ++i)
            others += " or " + files[i];
        throw std::runtime_error("no " + files.front() + others + " in '" + folder_ + "'. Expected there, or in " +
                                 subfolders() + ": " + expected_ + ". The data set is published at " + published_);
    }

  private:
    [[nodiscard]] std::string subfolders() const {
        std::string list;
        for (std::size_t i = 1; i < places_.size(); ++i)
            list += (i > 1 ? " or " : "") + places_[i].string();
        return list;
    }

    std::string folder_, expected_, published_;
    std::vector<std::filesystem::path> places_;
};

inline std::string read_file(std::filesystem::path const& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (!file)
        throw std::runtime_error("cannot read '" + path.string() + "'");
    return bytes;
}

// The lines of a text, which must end with a line break: one that does not has been cut.
inline std::vector<std::string_view> lines_of(std::string const& text, std::string const& name) {
    if (text.empty() || text.back() != '\n')
        throw std::runtime_error("'" + name + "' does not end with a line break: it is empty or cut off");
    std::vector<std::string_view> lines;
    std::string_view const whole = text;
    for (std::size_t begin = 0; begin < whole.size();) {
        std::size_t const end = whole.find('\n', begin);
        lines.push_back(whole.substr(begin, end - begin));
        begin = end + 1;
    }
    return lines;
}

// What blanks separate.
inline std::vector<std::string_view> words_of(std::string_view line) {
    constexpr char const* blanks = " \t\r";
    std::vector<std::string_view> words;
    for (std::size_t begin = line.find_first_not_of(blanks); begin != std::string_view::npos;) {
        std::size_t const end = line.find_first_of(blanks, begin);
        words.push_back(line.substr(begin, end - begin));
        begin = line.find_first_not_of(blanks, end);
    }
    return words;
}

}  // namespace tasks
