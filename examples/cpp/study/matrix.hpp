// Products of small matrices, as fast as one core allows without a library.
#pragma once

#include <cstddef>

// An m × n matrix of `Value` (Real or Real const) in memory: element (i, j) is at first[i * row + j * column].
template <class Value>
struct Matrix {
    Value* first;
    std::size_t row, column = 1;

    Value& at(std::size_t i, std::size_t j) const { return first[i * row + j * column]; }
    Matrix transposed() const { return {first, column, row}; }
    Matrix block(std::size_t i, std::size_t j) const { return {&at(i, j), row, column}; }
};

namespace detail {

// One register of AVX-512, two of AVX, four of SSE or NEON. A vector type of the compiler's, since the sums must stay in
// registers, which GCC does not do for an array.
template <class Real>
struct Vector {
    static constexpr std::size_t BYTES = 64, WIDTH = BYTES / sizeof(Real);
    typedef Real type __attribute__((vector_size(BYTES), aligned(alignof(Real)), may_alias));
};

// C += A B for ROWS rows of A and WIDTH columns of B, whose rows are contiguous.
template <std::size_t ROWS, class Real>
void add_tile(std::size_t inner, Matrix<Real const> a, Matrix<Real const> b, Matrix<Real> c) {
    using Row = typename Vector<Real>::type;
    Row sum[ROWS] = {};
    for (std::size_t k = 0; k < inner; k++) {
        Row const& row = *reinterpret_cast<Row const*>(&b.at(k, 0));
        for (std::size_t r = 0; r < ROWS; r++)
            sum[r] += a.at(r, k) * row;
    }
    for (std::size_t r = 0; r < ROWS; r++)
        *reinterpret_cast<Row*>(&c.at(r, 0)) += sum[r];
}

}  // namespace detail

// C += A B, with A of rows × inner, and rows of B and of C contiguous.
template <class Real>
void add_product(std::size_t rows, std::size_t columns, std::size_t inner, Matrix<Real const> a, Matrix<Real const> b,
                 Matrix<Real> c) {
    constexpr std::size_t ROWS = 8, WIDTH = detail::Vector<Real>::WIDTH;
    std::size_t j = 0;
    for (; j + WIDTH <= columns; j += WIDTH) {
        std::size_t i = 0;
        for (; i + ROWS <= rows; i += ROWS)
            detail::add_tile<ROWS>(inner, a.block(i, 0), b.block(0, j), c.block(i, j));
        for (; i < rows; i++)
            detail::add_tile<1>(inner, a.block(i, 0), b.block(0, j), c.block(i, j));
    }
    for (std::size_t i = 0; i < rows && j < columns; i++)
        for (std::size_t k = 0; k < inner; k++)
            for (std::size_t l = j; l < columns; l++)
                c.at(i, l) += a.at(i, k) * b.at(k, l);
}
