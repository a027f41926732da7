// One setting of a way to train that differs from its own: "horizon=300", "meta_lr=0.03". "" is none.
#pragma once

#include <cstdlib>
#include <metaadamw.hpp>
#include <stdexcept>
#include <string>

struct Setting {
    std::string name, value;

    explicit Setting(std::string const& text) {
        auto const equals = text.find('=');
        name = text.substr(0, equals);
        value = equals == std::string::npos ? "" : text.substr(equals + 1);
    }

    // Without the attention module: a free factor for each modulation group.
    bool free_factors() const { return name == "encoder" && value == "none"; }

    void apply(metaadamw::Options& options) const {
        if (name == "horizon")
            options.horizon_steps = static_cast<std::uint64_t>(number());
        else if (name == "features" && value == "norm_basic")
            options.feature_version = metaadamw::FeatureVersion::norm_basic;
        else if (name == "alpha_range")
            options.alpha_range = number(), options.alpha_log_range = 0.0;
        else if (name == "alpha_log_range")
            options.alpha_log_range = number();
        else if (name == "meta_lr")
            options.meta_lr = number();
        else if (!name.empty() && !free_factors())
            throw std::runtime_error("no such setting: " + name + "=" + value);
    }

  private:
    double number() const {
        char* end = nullptr;
        double const number = std::strtod(value.c_str(), &end);
        if (value.empty() || *end != '\0')
            throw std::runtime_error("setting " + name + ": not a number: '" + value + "'");
        return number;
    }
};
