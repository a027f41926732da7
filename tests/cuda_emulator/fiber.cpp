#include "fiber.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

namespace emu {
namespace {

constexpr size_t STACK = 64 << 10; // its lowest page is a guard
constexpr size_t GUARD = 4 << 10;
constexpr int STACKS = 1024; // threads of the largest block

char* reserve() {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* all = mmap(nullptr, STACKS * STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (all == MAP_FAILED) {
        perror("cuda emulator: stacks for fibers");
        abort();
    }
    for (int i = 0; i < STACKS; i++) mprotect(static_cast<char*>(all) + i * STACK, GUARD, PROT_NONE);
    return static_cast<char*>(all);
}

char* stacks() {
    static char* const all = reserve();
    return all;
}

// Stacks that were given back come first: they are in the cache.
std::vector<int> returned;
int touched = 0;

} // namespace

#if !defined(EMU_UCONTEXT)

// Pushes what the calling convention preserves, changes the stack, pops it from there.
extern "C" void emu_switch_stacks(void** save, void* to);
__asm__(R"(
.text
.globl emu_switch_stacks
.hidden emu_switch_stacks
.type emu_switch_stacks, @function
emu_switch_stacks:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size emu_switch_stacks, . - emu_switch_stacks
)");

static void* resumer;

static void prepare(void*& position, char* bottom, void (*entry)()) {
    void** top = reinterpret_cast<void**>(bottom + STACK);
    *--top = nullptr; // where `entry` would return to
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; i++) *--top = nullptr; // the preserved registers
    position = top;
}

void Fiber::resume() { emu_switch_stacks(&resumer, position); }
void Fiber::suspend() { emu_switch_stacks(&position, resumer); }

#else

static ucontext_t resumer;

static void prepare(ucontext_t& position, char* bottom, void (*entry)()) { // in its place: it points into itself
    getcontext(&position);
    position.uc_stack.ss_sp = bottom;
    position.uc_stack.ss_size = STACK;
    position.uc_link = nullptr;
    makecontext(&position, entry, 0);
}

void Fiber::resume() { swapcontext(&resumer, &position); }
void Fiber::suspend() { swapcontext(&position, &resumer); }

#endif

void Fiber::start(void (*entry)()) {
    if (returned.empty()) returned.push_back(touched++);
    stack = returned.back();
    returned.pop_back();
    prepare(position, stacks() + stack * STACK, entry);
}

void Fiber::finish() {
    returned.push_back(stack);
    stack = -1;
}

void Fiber::abandon_all() {
    returned.clear();
    touched = 0;
}

bool Fiber::on_a_stack(const void* address) {
    const char* place = static_cast<const char*>(address);
    return place >= stacks() && place < stacks() + STACKS * STACK;
}

bool Fiber::overflowed(const void* address) {
    if (!on_a_stack(address)) return false;
    return static_cast<size_t>(static_cast<const char*>(address) - stacks()) % STACK < GUARD;
}

} // namespace emu
