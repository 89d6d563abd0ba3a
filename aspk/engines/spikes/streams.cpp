// Operations between layers, except the attention.
#include "events.h"
#include "operations.h"

void count(const Map& map, const uint64_t* spikes, int64_t stride, int64_t* counts) {
    for (int64_t row = 0; row < map.rows(); ++row) {
        const int64_t step = row / map.positions(), p = row % map.positions();
        int64_t here = 0;
        for (int64_t first = 0; first < map.channels; first += kWord)
            here += __builtin_popcountll(part_word(spikes + row * stride, 0, map.channels, first));
        counts[step] += here;
        counts[map.steps + step] += here * map.windows(p / map.width, p % map.width);
    }
}

void count_windows(const Map& map, int64_t window, int64_t every, const uint64_t* spikes, int64_t stride,
                   int64_t* counts) {
    const auto along = [&](int64_t length) {
        std::vector<int64_t> found(length);
        for (int64_t centre = 0; centre < length; centre += every)
            for (int64_t i = std::max<int64_t>(centre - window / 2, 0); i <= std::min(centre + window / 2, length - 1);
                 ++i)
                ++found[i];
        return found;
    };
    const std::vector<int64_t> down = along(map.height), across = along(map.width);
    for (int64_t step = 0, row = 0; step < map.steps; ++step)
        for (int64_t y = 0; y < map.height; ++y)
            for (int64_t x = 0; x < map.width; ++x, ++row)
                for (int64_t first = 0; first < map.channels; first += kWord)
                    counts[step] += down[y] * across[x] *
                                    __builtin_popcountll(part_word(spikes + row * stride, 0, map.channels, first));
}

void sample(const Map& map, const uint64_t* spikes, int64_t stride, uint64_t* sampled, int64_t* counts) {
    const Map to{map.steps, (map.height + 1) / 2, (map.width + 1) / 2, map.channels};
    const int64_t words = map.words();
    uint64_t* out = sampled;
    for (int64_t step = 0; step < map.steps; ++step)
        for (int64_t y = 0; y < map.height; y += 2)
            for (int64_t x = 0; x < map.width; x += 2, out += words)
                std::copy_n(spikes + ((step * map.height + y) * map.width + x) * stride, words, out);
    count(to, sampled, words, counts);
}

void pool(const Map& map, const uint64_t* spikes, int64_t stride, uint64_t* pooled, int64_t* counts) {
    const Map to{map.steps, (map.height + 1) / 2, (map.width + 1) / 2, map.channels};
    const int64_t words = map.words(), line = to.width * words;
    std::vector<uint64_t> across(map.height * line);  // of a step, pooled along the rows
    for (int64_t step = 0; step < map.steps; ++step) {
        for (int64_t i = 0; i < map.height; ++i)
            for (int64_t x = 0; x < to.width; ++x) {
                const uint64_t* row = spikes + (step * map.height + i) * map.width * stride;
                const int64_t left = std::max<int64_t>(2 * x - 1, 0), right = std::min(2 * x + 1, map.width - 1);
                for (int64_t w = 0; w < words; ++w)
                    across[i * line + x * words + w] =
                        row[left * stride + w] | row[2 * x * stride + w] | row[right * stride + w];
            }
        for (int64_t y = 0; y < to.height; ++y) {
            const int64_t above = std::max<int64_t>(2 * y - 1, 0), below = std::min(2 * y + 1, map.height - 1);
            uint64_t* out = pooled + (step * to.height + y) * line;
            for (int64_t i = 0; i < line; ++i)
                out[i] = across[above * line + i] | across[2 * y * line + i] | across[below * line + i];
        }
    }
    count(to, pooled, words, counts);
}

void add(const Map& map, const uint8_t* x, const uint64_t* spikes, int64_t stride, const uint8_t* origin, uint8_t* sum,
         int64_t* counts) {
    for (int64_t row = 0; row < map.rows(); ++row) {
        int64_t total = 0;
        for (int64_t first = 0; first < map.channels; first += kWord) {
            const int64_t length = std::min(kWord, map.channels - first), at = row * map.channels + first;
            const uint64_t bits = spikes[row * stride + first / kWord];
#ifdef __AVX512BW__
            const __mmask64 lanes = length == kWord ? ~0ull : (1ull << length) - 1;
            const __m512i none = _mm512_setzero_si512();
            const __m512i before = x ? _mm512_maskz_loadu_epi8(lanes, x + at) : none;
            const __m512i after = _mm512_mask_add_epi8(before, bits, before, _mm512_set1_epi8(1));
            const __m512i start = origin ? _mm512_maskz_loadu_epi8(lanes, origin + at) : none;
            _mm512_mask_storeu_epi8(sum + at, lanes, after);
            const __m512i eight = _mm512_add_epi64(_mm512_sad_epu8(after, none), _mm512_sad_epu8(start, none));
            total += _mm512_reduce_add_epi64(eight);
#else
            for (int64_t i = 0; i < length; ++i) {
                sum[at + i] = static_cast<uint8_t>((x ? x[at + i] : 0) + (bits >> i & 1));
                total += sum[at + i] + (origin ? origin[at + i] : 0);
            }
#endif
        }
        counts[row / map.positions()] += total;
        counts[map.steps + row / map.positions()] += total;
    }
}

void sum_tokens(const Map& map, const uint8_t* x, const uint8_t* origin, int32_t* sums) {
    std::fill(sums, sums + map.steps * map.channels, 0);
    for (int64_t row = 0; row < map.rows(); ++row) {
        int32_t* out = sums + row / map.positions() * map.channels;
        for (int64_t c = 0; c < map.channels; ++c) out[c] += x[row * map.channels + c];
        for (int64_t c = 0; origin && c < map.channels; ++c) out[c] += origin[row * map.channels + c];
    }
}
