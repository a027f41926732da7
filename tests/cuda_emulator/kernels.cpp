// The file of kernels, compiled for the host. The build defines EMU_KERNELS, its path, and writes kernel_list.inc: a
// line KERNEL(name) for each __global__ function.
#include "kernels.h"
#include "cuda_language.h"

// A namespace: device functions may be called like something of the C library.
namespace device_code {
#include EMU_KERNELS
} // namespace device_code

namespace emu {

static const std::vector<Kernel> all = {
#define KERNEL(name) Describe<&device_code::name>::as(#name),
#include "kernel_list.inc"
#undef KERNEL
};

const std::vector<Kernel>& kernels() { return all; }

} // namespace emu
