#include "events.h"

namespace {

constexpr int64_t kSlack = 64;  // events that may be written beyond the last

#ifdef __AVX512VBMI2__
// Writes 16 bytes as numbers.
inline void store_bytes(float* values, __m128i bytes) {
    _mm512_storeu_ps(values, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)));
}
inline void store_bytes(double* values, __m128i bytes) {
    const __m512i numbers = _mm512_cvtepu8_epi32(bytes);
    _mm512_storeu_pd(values, _mm512_cvtepi32_pd(_mm512_castsi512_si256(numbers)));
    _mm512_storeu_pd(values + 8, _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(numbers, 1)));
}
#endif

// Writes base + i for each bit i, and x[i] if there are values, then at least three padding places: base and 0.
// May write up to kSlack places in all.
inline int32_t list_bits(uint64_t bits, int32_t base, const uint8_t* x, int64_t length, int32_t* channels,
                         Number* values) {
    const int32_t count = __builtin_popcountll(bits);
#ifdef __AVX512VBMI2__
    alignas(64) static const uint8_t kIota[64] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const __m512i places = _mm512_maskz_compress_epi8(bits, _mm512_load_si512(kIota));
    const __m512i first = _mm512_set1_epi32(base);
    const auto store_places = [&](int32_t i, __m128i part) {
        _mm512_storeu_si512(channels + i, _mm512_add_epi32(_mm512_cvtepu8_epi32(part), first));
    };
    store_places(0, _mm512_castsi512_si128(places));
    store_places(16, _mm512_extracti32x4_epi32(places, 1));
    if (count > 32) {
        store_places(32, _mm512_extracti32x4_epi32(places, 2));
        store_places(48, _mm512_extracti32x4_epi32(places, 3));
    }
    if (x) {
        const __mmask64 lanes = length >= kWord ? ~0ull : (1ull << length) - 1;
        const __m512i packed = _mm512_maskz_compress_epi8(bits, _mm512_maskz_loadu_epi8(lanes, x));
        store_bytes(values, _mm512_castsi512_si128(packed));
        store_bytes(values + 16, _mm512_extracti32x4_epi32(packed, 1));
        if (count > 32) {
            store_bytes(values + 32, _mm512_extracti32x4_epi32(packed, 2));
            store_bytes(values + 48, _mm512_extracti32x4_epi32(packed, 3));
        }
    }
#else
    for (int32_t i = 0; i < count + 3; ++i, bits &= bits - 1) {
        const int bit = bits ? __builtin_ctzll(bits) : 0;
        channels[i] = base + bit;
        if (x) values[i] = bits ? static_cast<Number>(x[bit]) : Number(0);
    }
#endif
    return count;
}

}  // namespace

void find_events(const Map& map, const uint64_t* spikes, int64_t stride, const uint8_t* residual, Events& events) {
    make_room(events.starts, map.rows() + 1);
    make_room(events.channels, map.rows() * (map.channels + 4) + 2 * kSlack);
    if (residual) make_room(events.values, map.rows() * (map.channels + 4) + 2 * kSlack);
    make_room(events.word_starts, map.rows() * map.words() + 1);
    int32_t *starts = events.starts.data(), *word_starts = events.word_starts.data();
    int32_t* channels = events.channels.data();
    Number* values = events.values.data();
    // Padded with events of value 0 to multiples of four: the loop count is easier to predict.
    const int32_t together = residual && map.channels <= kWord ? 4 : 1;
    int32_t count = 0;
    for (int64_t row = 0, column = 0; row < map.rows(); ++row, column = column + 1 == map.width ? 0 : column + 1) {
        *starts++ = count;
        for (int64_t first = 0; first < map.channels; first += kWord) {
            *word_starts++ = count;
            const int64_t length = map.channels - first;
            const uint8_t* x = residual ? residual + row * map.channels + first : nullptr;
            const uint64_t bits =
                residual ? nonzero(x, length) : part_word(spikes + row * stride, 0, map.channels, first);
            const int32_t base = static_cast<int32_t>(column * map.channels + first);
            if (bits) count += list_bits(bits, base, x, length, channels + count, values + count);
            count = (count + together - 1) & -together;
        }
    }
    *starts = *word_starts = count;
}
