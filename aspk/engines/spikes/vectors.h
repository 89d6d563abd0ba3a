// Vectors of numbers. ASPK_NUMBER is float or double; each is compiled into its own library.
#pragma once

#include <cstdint>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

using Number = ASPK_NUMBER;

constexpr int kVectorBytes = 64;
constexpr int kLanes = kVectorBytes / sizeof(Number);
typedef Number Vector __attribute__((vector_size(kVectorBytes), may_alias, aligned(alignof(Number))));

inline Vector load(const Number* p) { return *reinterpret_cast<const Vector*>(p); }
inline void store(Number* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }

// Bit i is set where a[i] >= b[i].
inline uint64_t at_least(Vector a, Vector b) {
#ifdef __AVX512F__
    if constexpr (sizeof(Number) == 4)
        return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_GE_OQ);
    else
        return _mm512_cmp_pd_mask(reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b), _CMP_GE_OQ);
#else
    uint64_t bits = 0;
    for (int i = 0; i < kLanes; ++i) bits |= static_cast<uint64_t>(a[i] >= b[i]) << i;
    return bits;
#endif
}
