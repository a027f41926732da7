// The arguments of the programs that train.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "mean.hpp"

struct Settings {
    std::size_t parts, epochs = 5, seed = 1, interval = 15, spoil = 0, width = 64;
    double lr = 2e-3;
    Order order = Order::tree;

    static Settings read(int count, char** arguments, Processes const& processes) {
        Settings settings;
        for (settings.parts = 1; settings.parts < static_cast<std::size_t>(processes.count);)
            settings.parts *= 2;
        for (int i = 1; i < count; i += 2) {
            std::string const option = arguments[i];
            if (i + 1 == count)
                throw std::invalid_argument(option + ": a value is missing");
            settings.set(option, arguments[i + 1]);
        }
        if (settings.width == 0)
            throw std::invalid_argument("--width: expected 1 or more, got 0");
        return settings;
    }

  private:
    void set(std::string const& option, std::string const& value) {
        if (option == "--parts")
            parts = whole(option, value);
        else if (option == "--epochs")
            epochs = whole(option, value);
        else if (option == "--seed")
            seed = whole(option, value);
        else if (option == "--interval")
            interval = whole(option, value);
        else if (option == "--spoil")
            spoil = whole(option, value);
        else if (option == "--width")
            width = whole(option, value);
        else if (option == "--lr")
            lr = std::atof(value.c_str());  // the library refuses what is no learning rate
        else if (option == "--order" && (value == "tree" || value == "mpi"))
            order = value == "tree" ? Order::tree : Order::mpi;
        else
            throw std::invalid_argument("not an option of this program, or not a value of it: " + option + " " + value);
    }

    static std::size_t whole(std::string const& option, std::string const& value) {
        char* end = nullptr;
        auto const number = std::strtoull(value.c_str(), &end, 10);
        if (value.empty() || value[0] == '-' || *end != '\0' || number > 1'000'000)
            throw std::invalid_argument(option + ": expected a whole number up to 1,000,000, got '" + value + "'");
        return number;
    }
};
