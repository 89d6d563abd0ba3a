// Spikes as bits, [steps, positions, words of 64 channels], and the sizes of what the kernels read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

constexpr int64_t kWord = 64;  // channels in a word of spikes

inline int64_t words_of(int64_t channels) { return (channels + kWord - 1) / kWord; }

struct Map {
    int64_t steps, height, width, channels;
    int64_t positions() const { return height * width; }
    int64_t rows() const { return steps * positions(); }
    int64_t words() const { return words_of(channels); }

    // The position behind another one.
    void next(int64_t& y, int64_t& x) const {
        if (++x == width) x = 0, ++y;
    }

    // The 3x3 windows with padding 1 that contain a position.
    int64_t windows(int64_t y, int64_t x) const {
        return (1 + (y > 0) + (y + 1 < height)) * (1 + (x > 0) + (x + 1 < width));
    }
};

// Spikes of channels first..first + 63 of a part that starts at bit `offset` of a row.
inline uint64_t part_word(const uint64_t* row, int64_t offset, int64_t channels, int64_t first) {
    const int64_t from = offset + first, shift = from % kWord, length = std::min(kWord, channels - first);
    uint64_t bits = row[from / kWord] >> shift;
    if (shift + length > kWord) bits |= row[from / kWord + 1] << (kWord - shift);
    return length < kWord ? bits & ((1ull << length) - 1) : bits;
}

inline int64_t count_bits(const uint64_t* words, int64_t length) {
    int64_t count = 0;
    for (int64_t i = 0; i < length; ++i) count += __builtin_popcountll(words[i]);
    return count;
}

// Never shrinks: growing again would write zeros, which nothing needs.
template <typename E> void make_room(std::vector<E>& x, int64_t length) {
    if (static_cast<int64_t>(x.size()) < length) x.resize(length);
}
