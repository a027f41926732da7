// Settings from environment variables; README.md lists them.
#pragma once

namespace emu {

/// The whole number in CUDA_EMULATOR_<name>, or `otherwise`. What is no number ends the program: a test that asks for
/// something must not run without it.
long setting(const char* name, long otherwise);

/// The order of threads that CUDA_EMULATOR_ORDER asks for: see `ordering` in block.h.
unsigned long long order_setting();

} // namespace emu
