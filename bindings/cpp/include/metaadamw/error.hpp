/// @file
/// How a call fails: the exception `Error`, and `Result`, which `try_` forms return instead. In a program without
/// exceptions (-fno-exceptions) the calls that would throw end it, with the error's text on stderr.
#ifndef METAADAMW_ERROR_HPP
#define METAADAMW_ERROR_HPP

#include <metaadamw.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "constants.hpp"

namespace metaadamw {

/// Why a call failed. `what()` begins with the status's name and says which argument, tensor or group is wrong.
class Error : public std::runtime_error {
  public:
    Error(Status status, std::string const& message)
        : std::runtime_error(std::string(maw_status_name(static_cast<maw_status>(status))) + ": " + message),
          status_(status) {}

    [[nodiscard]] Status status() const noexcept { return status_; }

  private:
    Status status_;
};

namespace detail {

/// Does what a call without `try_` does when it fails.
[[noreturn]] inline void fail(Error const& error) {
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
    throw error;
#else
    std::fprintf(stderr, "%s\n", error.what());
    std::abort();
#endif
}

}  // namespace detail

/// What a `try_` form returns: a value or an `Error`, like std::expected, which C++17 does not have.
template <class T>
class [[nodiscard]] Result {
  public:
    Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : content_(std::in_place_index<1>, std::move(error)) {}

    [[nodiscard]] bool ok() const noexcept { return content_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }
    [[nodiscard]] Status status() const noexcept { return ok() ? Status::ok : std::get_if<1>(&content_)->status(); }

    /// The value; throws the error if there is none.
    [[nodiscard]] T& value() & {
        require();
        return *std::get_if<0>(&content_);
    }
    [[nodiscard]] T const& value() const& {
        require();
        return *std::get_if<0>(&content_);
    }
    [[nodiscard]] T value() && {
        require();
        return std::move(*std::get_if<0>(&content_));
    }

    /// The error; only if not `ok()`, else std::bad_variant_access.
    [[nodiscard]] Error const& error() const { return std::get<1>(content_); }

    /// The value; only if `ok()`.
    [[nodiscard]] T& operator*() noexcept { return *std::get_if<0>(&content_); }
    [[nodiscard]] T const& operator*() const noexcept { return *std::get_if<0>(&content_); }
    [[nodiscard]] T* operator->() noexcept { return std::get_if<0>(&content_); }
    [[nodiscard]] T const* operator->() const noexcept { return std::get_if<0>(&content_); }

  private:
    void require() const {
        if (!ok())
            detail::fail(error());
    }

    std::variant<T, Error> content_;
};

/// What a `try_` form without a value returns.
template <>
class [[nodiscard]] Result<void> {
  public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}

    [[nodiscard]] bool ok() const noexcept { return !error_; }
    explicit operator bool() const noexcept { return ok(); }
    [[nodiscard]] Status status() const noexcept { return ok() ? Status::ok : error_->status(); }

    /// Throws the error if there is one.
    void value() const {
        if (error_)
            detail::fail(*error_);
    }

    /// The error; only if not `ok()`, else std::bad_optional_access.
    [[nodiscard]] Error const& error() const { return error_.value(); }

  private:
    std::optional<Error> error_{};
};

}  // namespace metaadamw

#endif
