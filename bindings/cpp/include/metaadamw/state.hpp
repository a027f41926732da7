/// @file
/// Values read from an optimizer: moments, factors, matrices, serialized bytes.
#ifndef METAADAMW_STATE_HPP
#define METAADAMW_STATE_HPP

#include <metaadamw.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "call.hpp"

namespace metaadamw {

/// Moments of one tensor, and the number of its updates.
template <class T>
struct TensorState {
    std::vector<T> exp_avg{}, exp_avg_sq{};
    std::uint64_t step = 0;
};

/// `maw_counters`: the optimizer's own counts.
struct Counters {
    /// Applied steps, and completed meta-updates.
    std::uint64_t step = 0, meta_updates = 0;
    /// The step at which the last meta-update was done or abandoned, if there was one.
    std::optional<std::uint64_t> meta_done_at{};
    /// Skipped steps, by what was not finite.
    std::uint64_t skipped_gradient = 0, skipped_parameter = 0, skipped_moment = 0, skipped_feature = 0,
                  skipped_factor = 0;
};

/// Names that only one of both had in the last load with `Load::partial`.
struct LoadReport {
    /// Registered, not in the file: they started at step 0.
    std::vector<std::string> missing_tensors{};
    /// In the file, not registered: they were left out.
    std::vector<std::string> unexpected_tensors{};
    /// Modulation groups: not in the file, and only there.
    std::vector<std::string> missing_groups{}, unexpected_groups{};
};

/// Factors of one modulation group: alpha scales the learning rate, beta the weight decay; lambda1 and lambda2 are
/// those of eq. 10.
struct Factors {
    std::string group;
    double alpha, beta, lambda1, lambda2;
};

/// Row-major; a vector has one column.
struct Matrix {
    std::size_t rows = 0, columns = 0;
    std::vector<double> values{};

    [[nodiscard]] double operator()(std::size_t row, std::size_t column) const {
        return values.at(row * columns + column);
    }
};

/// `maw_bytes`: bytes that the library allocated, freed with this object.
class Bytes {
  public:
    explicit Bytes(maw_bytes* bytes) noexcept : bytes_(bytes) {}

    [[nodiscard]] std::uint8_t const* data() const noexcept { return maw_bytes_data(bytes_.get()); }
    [[nodiscard]] std::size_t size() const noexcept { return maw_bytes_size(bytes_.get()); }

  private:
    std::unique_ptr<maw_bytes, detail::Free> bytes_;
};

}  // namespace metaadamw

#endif
