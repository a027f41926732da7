// What happens on a memory fault: a kernel's ends its launch, host code in device memory ends the program with a
// message, any other goes to the handler that was there before (Rust, Go and Julia have one and rely on it).
#pragma once

namespace emu {
void handle_signals();
}
