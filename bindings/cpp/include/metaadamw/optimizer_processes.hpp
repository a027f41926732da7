/// @file
/// One model over several processes: the host's reduction, and what becomes of an exception that it throws.
#ifndef METAADAMW_OPTIMIZER_PROCESSES_HPP
#define METAADAMW_OPTIMIZER_PROCESSES_HPP

#include <metaadamw.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <utility>

#include "call.hpp"
#include "optimizer.hpp"

namespace metaadamw {

inline Result<void> Optimizer::try_set_reduction(Reduction reduction) {
    auto reducer = reduction ? std::make_unique<Reducer>() : nullptr;
    if (reducer)
        reducer->sum = std::move(reduction);
    auto called = detail::call([&](maw_error** error) {
        return maw_set_reduction(capi(), reducer ? &Optimizer::on_reduction : nullptr, reducer.get(), error);
    });
    if (called)
        reduction_ = std::move(reducer);
    return called;
}

/// The C callback; `reducer` is the `Reducer`.
inline std::int32_t Optimizer::on_reduction(double* values, std::size_t count, void* reducer) noexcept {
    auto& reduce = *static_cast<Reducer*>(reducer);
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
    try {
        return reduce.sum(values, count);
    } catch (...) {  // must not unwind through the library
        reduce.thrown = std::current_exception();
        return -1;
    }
#else
    return reduce.sum(values, count);
#endif
}

/// A call that all processes make: what the reduction threw in it goes on.
template <class Call>
Result<void> Optimizer::together(Call&& function) {
    auto called = detail::call(std::forward<Call>(function));
    if (reduction_ && reduction_->thrown)
        std::rethrow_exception(std::exchange(reduction_->thrown, nullptr));
    return called;
}

/// Where this object refuses a call, the library never sees it, and the other processes would wait for this one: it is
/// given one that it refuses too, which they hear of.
inline Error Optimizer::refused(Error error) {
    if (reduction_)
        (void)together([&](maw_error** of_library) {
            return maw_step(capi(), nullptr, nullptr, 0, nullptr, nullptr, of_library);
        });
    return error;
}

/// A prepared handle keeps its reduction.
inline void Optimizer::release_reduction() noexcept {
    if (handle_ && reduction_ && maw_set_reduction(handle_.get(), nullptr, nullptr, nullptr) != MAW_OK)
        (void)reduction_.release();
    reduction_.reset();
}

}  // namespace metaadamw

#endif
