/// @file
/// The types that elements of parameters and gradients can have.
#ifndef METAADAMW_ELEMENT_HPP
#define METAADAMW_ELEMENT_HPP

#include <metaadamw.h>

#include <cstdint>
#include <type_traits>

#include "constants.hpp"

namespace metaadamw {

/// The bits of a bfloat16, for programs that have no bfloat16 type of their own.
struct bfloat16 {
    std::uint16_t bits;
};

/// The bits of an IEEE 16-bit float, likewise.
struct float16 {
    std::uint16_t bits;
};

/// The library's dtype of elements of type `T`. Specialize it for your own types of the same layout:
/// `template <> struct metaadamw::Element<c10::BFloat16> : metaadamw::Element<metaadamw::bfloat16> {};`
template <class T>
struct Element {
    static constexpr DType dtype = DType::automatic;  // not an element type
};
template <>
struct Element<float> {
    static constexpr DType dtype = DType::float32;
};
template <>
struct Element<double> {
    static constexpr DType dtype = DType::float64;
};
template <>
struct Element<bfloat16> {
    static constexpr DType dtype = DType::bfloat16;
};
template <>
struct Element<float16> {
    static constexpr DType dtype = DType::float16;
};

namespace detail {

/// Keeps an argument from deducing `T`, so that `nullptr` can stand for a gradient. (C++20: std::type_identity.)
template <class T>
struct same {
    using type = T;
};
template <class T>
using same_t = typename same<T>::type;

template <class T>
using if_element = std::enable_if_t<Element<T>::dtype != DType::automatic, int>;

/// A parameter and a gradient of different element types.
template <class T, class G>
using if_elements = std::enable_if_t<Element<T>::dtype != DType::automatic && Element<G>::dtype != DType::automatic &&
                                         !std::is_same_v<T, G>,
                                     int>;

/// The types in which moments are read and set.
template <class T>
using if_state = std::enable_if_t<std::is_same_v<T, float> || std::is_same_v<T, double>, int>;

template <class T>
constexpr std::int32_t dtype = static_cast<std::int32_t>(Element<T>::dtype);

inline char const* name_of(std::int32_t dtype) noexcept {
    switch (dtype) {
    case MAW_FLOAT32:
        return "float";
    case MAW_FLOAT64:
        return "double";
    case MAW_BFLOAT16:
        return "bfloat16";
    default:
        return "float16";
    }
}

}  // namespace detail

}  // namespace metaadamw

#endif
