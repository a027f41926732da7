#include "control.h"
#include "capture.h"
#include "driver.h"
#include "memory.h"
#include "module.h"
#include "watch.h"
#include "settings.h"
#include "stream.h"
#include <cstdio>
#include <cstdlib>

namespace emu {

Control control;

namespace {

FILE* trace() {
    static FILE* const file = [] {
        const char* path = getenv("CUDA_EMULATOR_TRACE");
        return path ? fopen(path, "a") : nullptr;
    }();
    return file;
}

void write_trace(const std::string& line) {
    if (!trace()) return;
    fprintf(trace(), "%s\n", line.c_str());
    fflush(trace());
}

size_t context_references() {
    size_t sum = 0;
    for (const auto& [handle, context] : objects.contexts.all())
        sum += context->primary ? static_cast<size_t>(context->references) : 1;
    return sum;
}

std::map<std::string, size_t> live_objects() {
    return {{"allocations", memory::live_allocations()},
            {"pinned", memory::live_pinned()},
            {"streams", objects.streams.count()},
            {"events", objects.events.count()},
            {"modules", objects.modules.count()},
            {"graphs", objects.graphs.count() + objects.executables.count()},
            {"contexts", context_references()}};
}

/// Whether the failure that is forced on this name is due.
Result forced(const std::string& name) {
    auto found = control.failures.find(name);
    if (found == control.failures.end() || --found->second.nth > 0) return SUCCESS;
    Result result = found->second.result;
    control.failures.erase(found);
    return result;
}

/// Appends what was left alive to the file that CUDA_EMULATOR_LEAKS names.
struct LeakReport {
    ~LeakReport() {
        const char* path = getenv("CUDA_EMULATOR_LEAKS");
        FILE* file = path ? fopen(path, "a") : nullptr;
        if (!file) return;
        for (const auto& [name, count] : live_objects()) fprintf(file, "%s=%zu ", name.c_str(), count);
        fprintf(file, "\n");
        fclose(file);
    }
} leak_report;

} // namespace

Result Control::enter(const char* function) {
    std::string name = function;
    calls[name]++;
    write_trace(name);
    Result result = forced(name);
    if (name.rfind("cuGetError", 0) != 0) {
        calls["*"]++;
        if (!result) result = forced("*");
    }
    if (result) refuse(result, name + " was made to fail");
    return result;
}

Result Control::enter_launch() {
    launches++;
    if (!launch_failure.nth || --launch_failure.nth > 0) return SUCCESS;
    return refuse(launch_failure.result, "a kernel was made to fail");
}

Result Control::refuse(Result result, const std::string& why) {
    last_error = why;
    write_trace("# " + std::to_string(result) + ": " + why);
    return result;
}

} // namespace emu

using namespace emu;

EMU_EXPORT void cuda_emulator_fail(const char* function, long nth, int result) {
    std::lock_guard<std::recursive_mutex> held(lock);
    control.failures.erase(function);
    if (nth > 0) control.failures[function] = {nth, static_cast<Result>(result)};
}

EMU_EXPORT void cuda_emulator_fail_launch(long nth, int result) {
    std::lock_guard<std::recursive_mutex> held(lock);
    control.launch_failure = {nth, static_cast<Result>(result)};
}

EMU_EXPORT void cuda_emulator_order(uint64_t order) {
    std::lock_guard<std::recursive_mutex> held(lock);
    control.order = order;
}

EMU_EXPORT void cuda_emulator_watch(int wanted) {
    std::lock_guard<std::recursive_mutex> held(lock);
    watch::wanted = wanted;
}

EMU_EXPORT void cuda_emulator_reset() {
    std::lock_guard<std::recursive_mutex> held(lock);
    drop_pending();
    for (const auto& [handle, context] : objects.contexts.all()) context->sticky = SUCCESS;
    control.order = order_setting();
    watch::wanted = setting("WATCH", 0) != 0;
    control.failures.clear();
    control.launch_failure = {0, SUCCESS};
    control.last_error.clear();
}

EMU_EXPORT long cuda_emulator_count(const char* name) {
    std::lock_guard<std::recursive_mutex> held(lock);
    auto live = live_objects();
    std::string wanted = name;
    size_t sum = 0;
    for (const auto& [kind, count] : live) sum += count;
    live["live"] = sum;
    live["allocated_bytes"] = memory::live_bytes();
    live["pending"] = pending();
    live["launches"] = static_cast<size_t>(control.launches);
    auto found = live.find(wanted);
    return found == live.end() ? control.calls[wanted] : static_cast<long>(found->second);
}

EMU_EXPORT const char* cuda_emulator_last_error() {
    static thread_local std::string text;
    std::lock_guard<std::recursive_mutex> held(lock);
    text = control.last_error;
    return text.c_str();
}

EMU_EXPORT const char* cuda_emulator_ptx() {
    static const std::string text = ptx_of_kernels();
    return text.c_str();
}
