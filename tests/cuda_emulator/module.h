// Modules: PTX is read for its entries, and each must be a kernel that was compiled in, with the same parameters; and
// the other way round. So the committed PTX and the source that the emulator runs cannot differ unseen.
#pragma once
#include "context.h"
#include "kernels.h"
#include "results.h"
#include <map>
#include <string>

namespace emu {

struct Module {
    Context* context;
    std::map<std::string, void*> functions; // the handle of each kernel's
};

struct Function {
    std::shared_ptr<Module> module;
    const Kernel* kernel;
    unsigned most_threads = 1024; // __launch_bounds__
    size_t static_shared = 0;
    size_t most_dynamic_shared = 0; // beyond the usual limit; a kernel opts in
};

/// The functions of this PTX. On failure `control.last_error` says why.
Result read_ptx(const std::string& ptx, std::map<std::string, Function>& functions);

/// PTX with the entries of all kernels, without their code.
std::string ptx_of_kernels();

/// The device's and the driver's versions, as 10 * major + minor and 1000 * major + 10 * minor.
int compute_capability();
int driver_version();

} // namespace emu
