/// @file
/// How the library is called: its status becomes a `Result`, and its objects are freed by `unique_ptr`.
#ifndef METAADAMW_CALL_HPP
#define METAADAMW_CALL_HPP

#include <metaadamw.h>

#include <memory>

#include "constants.hpp"
#include "error.hpp"

namespace metaadamw {

namespace detail {

/// Calls the library with a place for an error object, and turns the status into a `Result`.
template <class Call>
[[nodiscard]] Result<void> call(Call&& function) {
    maw_error* raw = nullptr;
    maw_status const status = function(&raw);
    std::unique_ptr<maw_error, void (*)(maw_error*)> const error(raw, maw_error_free);
    if (status == MAW_OK)
        return {};
    return Error(static_cast<Status>(status), maw_error_message(error.get()));
}

/// The same for a function that writes a value.
template <class T, class Call>
[[nodiscard]] Result<T> value(T initial, Call&& function) {
    Result<void> const called = call([&](maw_error** error) { return function(&initial, error); });
    if (!called)
        return called.error();
    return initial;
}

/// The deleter of each type that the library allocates.
struct Free {
    void operator()(maw_optimizer* optimizer) const noexcept { maw_optimizer_free(optimizer); }
    void operator()(maw_bytes* bytes) const noexcept { maw_bytes_free(bytes); }
    void operator()(maw_device_buffer* buffer) const noexcept { maw_device_buffer_free(buffer); }
};

}  // namespace detail

}  // namespace metaadamw

#endif
