// Which inputs of an image are not zero, row by row of its positions.
#pragma once

#include "bits.h"
#include "vectors.h"

struct Events {
    std::vector<int32_t> starts, channels;  // channels: column * C + channel, so that a row of pixels is one run
    std::vector<Number> values;             // of the residual stream; spikes are ones
    std::vector<int32_t> word_starts;       // where each word of each row begins
};

// Which of the first 64 bytes are not zero.
inline uint64_t nonzero(const uint8_t* x, int64_t length) {
#ifdef __AVX512BW__
    const __mmask64 lanes = length >= kWord ? ~0ull : (1ull << length) - 1;
    const __m512i bytes = _mm512_maskz_loadu_epi8(lanes, x);
    return _mm512_test_epi8_mask(bytes, bytes);
#else
    uint64_t bits = 0;
    for (int64_t i = 0; i < std::min(length, kWord); ++i) bits |= static_cast<uint64_t>(x[i] != 0) << i;
    return bits;
#endif
}

// Of `residual` if it is given, else of `spikes`.
void find_events(const Map& map, const uint64_t* spikes, int64_t stride, const uint8_t* residual, Events& events);
