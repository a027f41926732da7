// CUDA's built-in vector types, as far as kernels use them, with CUDA's alignments.
#pragma once

#define EMU_VECTORS(T, base, align2, align4)                                                                           \
    struct alignas(align2) T##2 {                                                                                      \
        base x, y;                                                                                                     \
    };                                                                                                                 \
    struct T##3 {                                                                                                      \
        base x, y, z;                                                                                                  \
    };                                                                                                                 \
    struct alignas(align4) T##4 {                                                                                      \
        base x, y, z, w;                                                                                               \
    };                                                                                                                 \
    inline T##2 make_##T##2(base x, base y) { return {x, y}; }                                                         \
    inline T##3 make_##T##3(base x, base y, base z) { return {x, y, z}; }                                              \
    inline T##4 make_##T##4(base x, base y, base z, base w) { return {x, y, z, w}; }

EMU_VECTORS(char, signed char, 2, 4)
EMU_VECTORS(uchar, unsigned char, 2, 4)
EMU_VECTORS(short, short, 4, 8)
EMU_VECTORS(ushort, unsigned short, 4, 8)
EMU_VECTORS(int, int, 8, 16)
EMU_VECTORS(uint, unsigned, 8, 16)
EMU_VECTORS(float, float, 8, 16)
EMU_VECTORS(longlong, long long, 16, 16)
EMU_VECTORS(ulonglong, unsigned long long, 16, 16)
EMU_VECTORS(double, double, 16, 16)
#undef EMU_VECTORS

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
