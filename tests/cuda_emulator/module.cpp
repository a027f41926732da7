#include "module.h"
#include "control.h"
#include "settings.h"
#include <algorithm>
#include <regex>

namespace emu {
namespace {

/// The CUDA version that brought this version of PTX, roughly: both majors go together, and the minors until 8.5.
int cuda_version_of_ptx(int major, int minor) { return (major + 4) * 1000 + 10 * minor; }

const Kernel* kernel_named(const std::string& name) {
    const auto& all = kernels();
    auto found = std::find_if(all.begin(), all.end(), [&](const Kernel& kernel) { return kernel.name == name; });
    return found == all.end() ? nullptr : &*found;
}

std::string signature(const Kernel& kernel) {
    std::string text;
    for (const Parameter& parameter : kernel.parameters) text += " " + parameter.type;
    return text;
}

/// ".param .u64 name" is " u64", ".param .align 8 .b8 name[32]" is " b8[32]".
std::string signature(const std::string& declarations) {
    static const std::regex form(R"(\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+[\w$]+(\[\d+\])?)");
    std::string text;
    for (std::sregex_iterator at(declarations.begin(), declarations.end(), form), end; at != end; ++at)
        text += " " + (*at)[1].str() + (*at)[2].str();
    return text;
}

unsigned product(const std::smatch& numbers) {
    unsigned long all = 1;
    for (size_t i = 1; i < numbers.size(); i++) all *= std::stoul(numbers[i]);
    return static_cast<unsigned>(all);
}

/// The bytes of all .shared variables, as if each were aligned like its type.
size_t shared_bytes(const std::string& body) {
    static const std::regex form(R"(\.shared\s+(?:\.align\s+(\d+)\s+)?\.b8\s+[\w$]+\[(\d+)\])");
    size_t sum = 0;
    for (std::sregex_iterator at(body.begin(), body.end(), form), end; at != end; ++at) {
        size_t alignment = (*at)[1].matched ? std::stoul((*at)[1]) : 1;
        sum = (sum + alignment - 1) / alignment * alignment + std::stoul((*at)[2]);
    }
    return sum;
}

Result check_target(const std::string& ptx) {
    std::smatch version, target;
    if (!std::regex_search(ptx, version, std::regex(R"((?:^|\n)\.version (\d+)\.(\d+))")) ||
        !std::regex_search(ptx, target, std::regex(R"(\n\.target sm_(\d+))")))
        return control.refuse(INVALID_IMAGE, "the image is no PTX: it has no .version and .target");
    if (cuda_version_of_ptx(std::stoi(version[1]), std::stoi(version[2])) > driver_version())
        return control.refuse(UNSUPPORTED_PTX_VERSION, "the driver is older than the PTX:" + version[0].str());
    if (std::stoi(target[1]) > compute_capability())
        return control.refuse(NO_BINARY_FOR_GPU, "the device is older than the PTX's target, sm_" + target[1].str());
    return SUCCESS;
}

} // namespace

Result read_ptx(const std::string& ptx, std::map<std::string, Function>& functions) {
    if (Result refused = check_target(ptx)) return refused;
    constexpr char ENTRY[] = ".entry ";
    for (size_t at = ptx.find(ENTRY); at != ptx.npos;) {
        size_t open = ptx.find('(', at), close = ptx.find(')', at), next = ptx.find(ENTRY, close);
        if (open == ptx.npos || close == ptx.npos) return control.refuse(INVALID_PTX, "an .entry without parameters");
        std::string name = ptx.substr(at + sizeof ENTRY - 1, open - at - (sizeof ENTRY - 1));
        std::string wanted = signature(ptx.substr(open, close - open)), body = ptx.substr(close, next - close);
        const Kernel* kernel = kernel_named(name);
        if (!kernel) return control.refuse(INVALID_PTX, "the PTX has " + name + ", the kernels compiled in have not");
        if (signature(*kernel) != wanted)
            return control.refuse(INVALID_PTX, name + " has the parameters" + wanted + " in the PTX and" +
                                                   signature(*kernel) + " in the kernels compiled in");
        Function& function = functions[name];
        function.kernel = kernel;
        function.static_shared = shared_bytes(body);
        std::smatch bound;
        if (std::regex_search(body, bound, std::regex(R"(\.maxntid (\d+), (\d+), (\d+))")))
            function.most_threads = product(bound);
        at = next;
    }
    for (const Kernel& kernel : kernels())
        if (!functions.count(kernel.name))
            return control.refuse(INVALID_PTX, "the kernels compiled in have " + kernel.name + ", the PTX has not");
    return SUCCESS;
}

std::string ptx_of_kernels() {
    std::string text = ".version 7.0\n.target sm_70\n.address_size 64\n";
    for (const Kernel& kernel : kernels()) {
        text += ".visible .entry " + kernel.name + "(";
        for (size_t i = 0; i < kernel.parameters.size(); i++) {
            const std::string& type = kernel.parameters[i].type;
            size_t bracket = std::min(type.find('['), type.size());
            text += std::string(i ? ", " : "") + ".param ." + type.substr(0, bracket) + " " + kernel.name + "_param_" +
                    std::to_string(i) + type.substr(bracket);
        }
        text += ")\n{\nret;\n}\n";
    }
    return text;
}

int compute_capability() { return static_cast<int>(setting("COMPUTE", 80)); }
int driver_version() { return static_cast<int>(setting("VERSION", 12000)); }

} // namespace emu
