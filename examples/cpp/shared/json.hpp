// Values as JSON.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>

namespace json {

inline std::string quoted(std::string const& text) {
    std::string json = "\"";
    for (char const c : text) {
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
        json += c == '"' || c == '\\' ? std::string{'\\', c}
                : c >= 0 && c < ' '   ? escaped
                                      : std::string(1, c);
    }
    return json + "\"";
}

inline std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value);
    return std::isfinite(value) ? text : "null";
}

}  // namespace json
