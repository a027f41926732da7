// The log of a run: JSON lines, flushed one by one; examples/plot.rs draws them.
#pragma once

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "../../cpp/shared/json.hpp"

// A JSON object that is put together field by field.
class Object {
  public:
    Object& text(char const* name, std::string const& value) { return raw(name, json::quoted(value)); }
    Object& number(char const* name, double value) { return raw(name, json::number(value)); }
    Object& raw(char const* name, std::string const& value) {
        fields_ += (fields_.empty() ? "" : ", ") + json::quoted(name) + ": " + value;
        return *this;
    }
    [[nodiscard]] std::string json() const { return "{" + fields_ + "}"; }

  private:
    std::string fields_;
};

// JSON on several lines, as dump_state writes it, on one.
inline std::string on_one_line(std::string const& json) {
    std::string line;
    bool indent = false;
    for (char const c : json) {
        indent = c == '\n' || (indent && c == ' ');
        if (!indent)
            line += c;
    }
    return line;
}

class Log {
  public:
    // With `size`: continues the log after so many bytes, and what is behind them goes.
    Log(std::string const& file, std::uintmax_t size) : file_(file) {
        if (size > 0) {
            if (!std::filesystem::exists(file) || std::filesystem::file_size(file) < size)
                throw std::runtime_error(file + ": shorter than its checkpoint says");
            std::filesystem::resize_file(file, size);
        } else if (auto const folder = std::filesystem::path(file).parent_path(); !folder.empty()) {
            std::filesystem::create_directories(folder);
        }
        out_.open(file, size > 0 ? std::ios::app : std::ios::trunc);
        check();
    }

    void write(Object const& object) {
        out_ << object.json() << std::endl;
        check();
    }

    [[nodiscard]] std::uintmax_t size() const { return std::filesystem::file_size(file_); }

    // Whether the last line says that the run is over.
    static bool is_finished(std::string const& file) {
        std::ifstream in(file);
        std::string line, last;
        while (std::getline(in, line))
            last = line;
        return last.rfind("{\"event\": \"end\"", 0) == 0 && last.back() == '}';
    }

  private:
    void check() const {
        if (!out_)
            throw std::runtime_error(file_ + ": cannot be written");
    }

    std::string file_;
    std::ofstream out_;
};
