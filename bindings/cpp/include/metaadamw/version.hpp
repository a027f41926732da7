/// @file
/// The version of the library that is loaded.
#ifndef METAADAMW_VERSION_HPP
#define METAADAMW_VERSION_HPP

#include <metaadamw.h>

#include <cstdint>
#include <string>

#include "constants.hpp"

namespace metaadamw {

/// The library's version as text.
[[nodiscard]] inline std::string version() { return maw_version(); }

/// `MAW_ABI_VERSION` of the library that is loaded.
[[nodiscard]] inline std::uint32_t abi_version() noexcept { return maw_abi_version(); }

}  // namespace metaadamw

#endif
