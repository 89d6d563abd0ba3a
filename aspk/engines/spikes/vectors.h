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

// a + b where the bit is set, else a.
inline Vector add_where(uint64_t bits, Vector a, Vector b) {
#ifdef __AVX512F__
    if constexpr (sizeof(Number) == 4) {
        const __m512 x = reinterpret_cast<__m512>(a);
        return reinterpret_cast<Vector>(
            _mm512_mask_add_ps(x, static_cast<__mmask16>(bits), x, reinterpret_cast<__m512>(b)));
    } else {
        const __m512d x = reinterpret_cast<__m512d>(a);
        return reinterpret_cast<Vector>(
            _mm512_mask_add_pd(x, static_cast<__mmask8>(bits), x, reinterpret_cast<__m512d>(b)));
    }
#else
    for (int i = 0; i < kLanes; ++i) a[i] += bits >> i & 1 ? b[i] : Number(0);
    return a;
#endif
}
