// The kernels that were compiled in: by name, with what PTX says of their parameters, and how to call them.
#pragma once
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace emu {

/// Where a parameter lies in the buffer of arguments, and its type in PTX: "u64", "f32", "b8[24]" for a struct.
struct Parameter {
    size_t offset, size;
    std::string type;
};

struct Kernel {
    std::string name;
    std::vector<Parameter> parameters;
    size_t bytes; // of all arguments
    void (*call)(void* arguments);
};

/// All of them.
const std::vector<Kernel>& kernels();

/// Deduces all that a launch needs from the type of the function.
template <auto Function> struct Describe;
template <class... T, void (*Function)(T...)> struct Describe<Function> {
    static Kernel as(const char* name) {
        Kernel kernel{name, {}, 0, [](void* arguments) { call(arguments, std::index_sequence_for<T...>()); }};
        (add<T>(kernel), ...);
        return kernel;
    }

  private:
    static constexpr size_t aligned(size_t offset, size_t alignment) {
        return (offset + alignment - 1) / alignment * alignment;
    }

    template <size_t N> static constexpr size_t offset() {
        size_t sizes[] = {sizeof(T)..., 0}, alignments[] = {alignof(T)..., 1}, at = 0;
        for (size_t i = 0; i < N; i++) at = aligned(at, alignments[i]) + sizes[i];
        return aligned(at, alignments[N]);
    }

    template <size_t... I> static void call(void* arguments, std::index_sequence<I...>) {
        char* bytes = static_cast<char*>(arguments);
        (void)bytes; // a kernel may have no parameters
        Function(*reinterpret_cast<std::remove_cv_t<T>*>(bytes + offset<I>())...);
    }

    template <class P> static void add(Kernel& kernel) {
        size_t at = aligned(kernel.bytes, alignof(P));
        std::string bits = std::to_string(8 * sizeof(P));
        std::string type = std::is_floating_point<P>::value ? "f" + bits
                           : std::is_class<P>::value        ? "b8[" + std::to_string(sizeof(P)) + "]"
                                                            : "u" + bits;
        kernel.parameters.push_back({at, sizeof(P), type});
        kernel.bytes = at + sizeof(P);
    }
};

} // namespace emu
