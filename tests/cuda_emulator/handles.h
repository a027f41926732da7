// Live objects by their handle. A handle is a number that is never given out twice, so a stale one is always noticed,
// and who follows it as a pointer crashes.
#pragma once
#include <cstdint>
#include <map>
#include <memory>

namespace emu {

inline void* new_handle() {
    static uintptr_t last = 0x1000;
    return reinterpret_cast<void*>(last += 16);
}

template <class T> class Handles {
  public:
    void* add(std::shared_ptr<T> object) {
        void* handle = new_handle();
        live[handle] = std::move(object);
        return handle;
    }
    /// Null: no live object has this handle.
    std::shared_ptr<T> find(void* handle) const {
        auto found = live.find(handle);
        return found == live.end() ? nullptr : found->second;
    }
    bool remove(void* handle) { return live.erase(handle) > 0; }
    template <class Predicate> void remove_if(Predicate dead) {
        for (auto at = live.begin(); at != live.end();) at = dead(*at->second) ? live.erase(at) : std::next(at);
    }
    size_t count() const { return live.size(); }
    const std::map<void*, std::shared_ptr<T>>& all() const { return live; }

  private:
    std::map<void*, std::shared_ptr<T>> live;
};

} // namespace emu
