#include "context.h"
#include "memory.h"
#include "module.h"
#include "stream.h"

namespace emu {

Objects objects;
thread_local std::vector<void*> context_stack;

std::shared_ptr<Context> new_context(int device, bool primary) {
    auto context = std::make_shared<Context>();
    context->device = device;
    context->primary = primary;
    context->legacy = std::make_shared<Stream>(context.get(), 0u);
    return context;
}

void destroy_context(void* handle) {
    auto context = objects.contexts.find(handle);
    if (!context) return;
    finish(*context);
    auto belongs = [&](const auto& object) { return object.context == context.get(); };
    objects.streams.remove_if(belongs);
    objects.events.remove_if(belongs);
    objects.functions.remove_if([&](const Function& function) { return belongs(*function.module); });
    objects.modules.remove_if(belongs);
    memory::release_all(*context);
    objects.contexts.remove(handle);
    if (context->primary) objects.primary.erase(context->device);
    context->per_thread.clear();
    context->legacy.reset();
}

std::shared_ptr<Context> current_context() {
    return context_stack.empty() ? nullptr : objects.contexts.find(context_stack.back());
}

} // namespace emu
