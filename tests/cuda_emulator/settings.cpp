#include "settings.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace emu {

long setting(const char* name, long otherwise) {
    std::string variable = std::string("CUDA_EMULATOR_") + name;
    const char* text = getenv(variable.c_str());
    if (!text) return otherwise;
    char* end;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < 0) {
        fprintf(stderr, "cuda emulator: %s is '%s', not a whole number\n", variable.c_str(), text);
        abort();
    }
    return value;
}

unsigned long long order_setting() {
    const char* text = getenv("CUDA_EMULATOR_ORDER");
    if (text && !strcmp(text, "ascending")) return 0;
    if (text && !strcmp(text, "descending")) return 1;
    return static_cast<unsigned long long>(setting("ORDER", 0));
}

} // namespace emu
