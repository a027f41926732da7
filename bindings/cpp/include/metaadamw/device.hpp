/// @file
/// CUDA: whether it is available, and device memory allocated by the library.
#ifndef METAADAMW_DEVICE_HPP
#define METAADAMW_DEVICE_HPP

#include <metaadamw.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "call.hpp"
#include "error.hpp"

namespace metaadamw {

/// Whether CUDA tensors can be used.
[[nodiscard]] inline bool cuda_available() noexcept { return maw_cuda_available() != 0; }

/// `maw_device_buffer`: memory of a CUDA device, zeroed, for programs that do not use CUDA themselves.
class DeviceBuffer {
  public:
    explicit DeviceBuffer(std::size_t bytes, std::int32_t device_index = 0)
        : DeviceBuffer(try_create(bytes, device_index).value()) {}
    [[nodiscard]] static Result<DeviceBuffer> try_create(std::size_t bytes, std::int32_t device_index = 0) {
        maw_device_buffer* buffer = nullptr;
        auto const called = detail::call(
            [&](maw_error** error) { return maw_device_buffer_create(device_index, bytes, &buffer, error); });
        if (!called)
            return called.error();
        return DeviceBuffer(buffer);
    }

    /// Copies to the device (or from it) on the default stream, and waits. `offset` is in bytes.
    void upload(void const* data, std::size_t bytes, std::size_t offset = 0) {
        try_upload(data, bytes, offset).value();
    }
    Result<void> try_upload(void const* data, std::size_t bytes, std::size_t offset = 0) {
        return detail::call(
            [&](maw_error** error) { return maw_device_buffer_upload(capi(), offset, data, bytes, error); });
    }
    void download(void* data, std::size_t bytes, std::size_t offset = 0) const {
        try_download(data, bytes, offset).value();
    }
    Result<void> try_download(void* data, std::size_t bytes, std::size_t offset = 0) const {
        return detail::call(
            [&](maw_error** error) { return maw_device_buffer_download(capi(), offset, data, bytes, error); });
    }

    /// The address in device memory, for registering a parameter or a gradient. The CPU must not dereference it.
    template <class T>
    [[nodiscard]] T* pointer() const noexcept {
        return static_cast<T*>(maw_device_buffer_pointer(capi()));
    }
    [[nodiscard]] std::size_t size() const noexcept { return maw_device_buffer_size(capi()); }
    [[nodiscard]] maw_device_buffer* capi() const noexcept { return buffer_.get(); }

  private:
    explicit DeviceBuffer(maw_device_buffer* buffer) noexcept : buffer_(buffer) {}

    std::unique_ptr<maw_device_buffer, detail::Free> buffer_;
};

}  // namespace metaadamw

#endif
