// Saved runs. The last saved epoch of each run is a folder, which is renamed to its final name when it is complete:
//     DIR/MetaAdamW-1/epoch-20/optimizer.safetensors  the library's checkpoint
//                              parameters.f32         the network, floats as in memory
//                              history                the results so far, as text; floats in hexadecimal, so exact
//                              log.jsonl              the run's lines of the log
// A resumed run has the same bits as an uninterrupted one if --epochs is the same: the fraction of all steps that are
// done is one of the features.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <metaadamw.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../shared/mlp.hpp"
#include "run.hpp"

// FNV-1a, to check that a run was on the same series.
inline std::uint64_t fingerprint(std::vector<float> const& values) {
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (float const value : values) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        hash = (hash ^ bits) * 0x100000001b3u;
    }
    return hash;
}

class Keep {
    using path = std::filesystem::path;

  public:
    // Both folders may be empty names, or the same.
    Keep(std::string const& save, std::string const& resume, std::uint64_t series)
        : save_(save), resume_(resume), series_(series) {
        namespace fs = std::filesystem;
        if (!resume.empty() && (!fs::is_directory(resume_) || fs::is_empty(resume_)))
            throw std::runtime_error(resume + ": no runs to resume");
        if (save.empty())
            return;
        fs::create_directories(save_);
        if (!fs::is_empty(save_) && (resume.empty() || !fs::equivalent(save_, resume_)))
            throw std::runtime_error(save + ": not empty; resume its runs, or save elsewhere");
    }

    // Restores the state after the last saved epoch; changes nothing if there is none.
    void resume(Run& run, Mlp& net, metaadamw::Optimizer& optimizer) const {
        std::size_t const epoch = resume_.empty() ? 0 : newest(folder(resume_, run));
        if (epoch == 0)
            return;
        path const from = folder(resume_, run) / ("epoch-" + std::to_string(epoch));
        read_history(from / "history", run, epoch);
        std::string const bytes = read(from / "parameters.f32");
        std::size_t at = 0;
        for (auto* values : parameters(net)) {
            std::size_t const size = values->size() * sizeof(float);
            if (bytes.size() - at < size)
                throw std::runtime_error((from / "parameters.f32").string() + ": too short");
            std::memcpy(values->data(), &bytes[at], size);
            at += size;
        }
        if (at != bytes.size())
            throw std::runtime_error((from / "parameters.f32").string() + ": too long");
        run.log = read(from / "log.jsonl");
        // The program's own options are used: more epochs, another learning rate.
        optimizer.load((from / "optimizer.safetensors").string(), metaadamw::Load::own_wins);
    }

    void save(Run const& run, Mlp& net, metaadamw::Optimizer& optimizer) const {
        namespace fs = std::filesystem;
        if (save_.empty())
            return;
        path const of_run = folder(save_, run), to = of_run / ("epoch-" + std::to_string(run.epochs()));
        path const temporary = of_run / "unfinished";
        fs::remove_all(temporary);
        fs::create_directories(temporary);
        optimizer.save((temporary / "optimizer.safetensors").string());
        std::string bytes;
        for (auto* values : parameters(net))
            bytes.append(reinterpret_cast<char const*>(values->data()), values->size() * sizeof(float));
        write(temporary / "parameters.f32", bytes);
        write(temporary / "history", history(run));
        write(temporary / "log.jsonl", run.log);
        std::size_t const old = newest(of_run);
        fs::rename(temporary, to);
        if (old != 0)
            fs::remove_all(of_run / ("epoch-" + std::to_string(old)));
    }

  private:
    static path folder(path const& all, Run const& run) { return all / (run.name + "-" + std::to_string(run.seed)); }

    // 0 if there is none. There are two if the program was killed while it removed the older one.
    static std::size_t newest(path const& of_run) {
        std::size_t newest = 0;
        if (std::filesystem::is_directory(of_run))
            for (auto const& entry : std::filesystem::directory_iterator(of_run)) {
                std::string const name = entry.path().filename().string();
                if (name.rfind("epoch-", 0) == 0)
                    newest = std::max<std::size_t>(newest, std::strtoull(&name[6], nullptr, 10));
            }
        return newest;
    }

    static std::vector<std::vector<float>*> parameters(Mlp& net) {
        std::vector<std::vector<float>*> all;
        for (auto& layer : net.layers)
            all.insert(all.end(), {&layer.weight, &layer.bias});
        return all;
    }

    static void write(path const& file, std::string const& content) {
        std::FILE* const to = std::fopen(file.c_str(), "wb");
        bool written = to != nullptr && std::fwrite(content.data(), 1, content.size(), to) == content.size();
        written = written && std::fflush(to) == 0 && fsync(fileno(to)) == 0;
        if ((to != nullptr && std::fclose(to) != 0) || !written)
            throw std::runtime_error(file.string() + ": cannot be written");
    }

    static std::string read(path const& file) {
        std::ifstream from(file, std::ios::binary);
        std::string content{std::istreambuf_iterator<char>(from), {}};
        if (!from)
            throw std::runtime_error(file.string() + ": cannot be read");
        return content;
    }

    // "forecast", series, meta-updates, seconds, groups, epochs; then a line an epoch: losses, each group's factors.
    std::string history(Run const& run) const {
        std::string text = "forecast " + std::to_string(series_) + ' ' + std::to_string(run.meta_updates);
        auto const add = [&](double value) {
            char hexadecimal[40];
            std::snprintf(hexadecimal, sizeof hexadecimal, " %a", value);
            text += hexadecimal;
        };
        add(run.seconds);
        text += ' ' + std::to_string(run.groups.size()) + ' ' + std::to_string(run.epochs());
        for (auto const& group : run.groups)
            text += '\n' + group;
        for (std::size_t epoch = 0; epoch < run.epochs(); epoch++) {
            text += '\n';
            add(run.train[epoch]);
            add(run.validation[epoch]);
            for (auto const* factor : {&run.alpha, &run.beta})
                for (auto const& group : *factor)
                    add(group[epoch]);
        }
        return text + '\n';
    }

    void read_history(path const& file, Run& run, std::size_t epochs) const {
        std::istringstream from(read(file));
        std::string word;
        auto const next = [&] {  // operator>> does not read hexadecimal floats
            from >> word;
            return std::strtod(word.c_str(), nullptr);
        };
        std::uint64_t series = 0;
        std::size_t groups = 0, count = 0;
        from >> word >> series >> run.meta_updates;
        if (word == "forecast" && from && series != series_)
            throw std::runtime_error(file.string() + ": the run was on another series");
        run.seconds = next();
        from >> groups >> count;
        if (word.empty() || !from || count != epochs || groups > 1000)
            throw std::runtime_error(file.string() + ": damaged");
        run.groups.resize(groups);
        run.alpha.resize(groups);
        run.beta.resize(groups);
        for (auto& group : run.groups)
            from >> group;
        for (std::size_t epoch = 0; epoch < epochs && from; epoch++) {
            run.train.push_back(next());
            run.validation.push_back(next());
            for (auto* factor : {&run.alpha, &run.beta})
                for (auto& group : *factor)
                    group.push_back(next());
        }
        if (!from)
            throw std::runtime_error(file.string() + ": damaged");
    }

    path const save_, resume_;
    std::uint64_t const series_;
};
