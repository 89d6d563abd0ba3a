// Attention of spikes: integers are added, nothing is multiplied.
#include "neuron.h"
#include "operations.h"

namespace {

// Adds one where a bit is set.
inline void add_bits(Number* x, uint64_t bits, int64_t length) {
    constexpr int L = kLanes;
    for (int64_t i = 0; i < length; i += L, bits = L < 64 ? bits >> L : 0) {
#ifdef __AVX512F__
        if constexpr (sizeof(Number) == 4) {
            const __m512 before = _mm512_loadu_ps(x + i);
            const auto lanes = static_cast<__mmask16>(bits);
            _mm512_storeu_ps(x + i, _mm512_mask_add_ps(before, lanes, before, _mm512_set1_ps(1)));
            continue;
        }
#endif
        for (int j = 0; j < L; ++j) x[i + j] += static_cast<Number>(bits >> j & 1);
    }
}

// One head of one token: sums the products of its queries' spikes, and fires. V vectors of the head's channels.
// Returns which neurons fired.
template <int V>
inline uint64_t attend_head(const Number* products, int64_t padded, const uint64_t* row, int64_t offset, int64_t size,
                            Number scale, const Neuron& neuron, Number* membranes) {
    constexpr int L = kLanes;
    Vector y[V] = {};
    for (int64_t first = 0; first < size; first += kWord)
        for (uint64_t bits = part_word(row, offset, size, first); bits; bits &= bits - 1) {
            const Number* product = products + (first + __builtin_ctzll(bits)) * padded;
            for (int j = 0; j < V; ++j) y[j] += load(product + j * L);
        }
    uint64_t fired = 0;
    for (int j = 0; j < V; ++j) {
        Vector v = load(membranes + j * L);
        fired |= neuron.fire_exactly(v, y[j] * scale) << (j * L);
        store(membranes + j * L, v);
    }
    return fired;
}

// The same for at most 64 channels, which are one word: rows of k^T v as wide as all heads, zero outside their own.
template <int V>
void attend_word(const Map& map, int64_t heads, const uint64_t* q_k_v, int64_t stride, Number scale,
                 const Neuron neuron, uint64_t* spikes, int64_t* counts, Attention& scratch) {
    constexpr int L = kLanes, kWidth = V * L;
    const int64_t tokens = map.positions(), channels = map.channels, size = channels / heads;
    uint64_t head_of[kWord];
    for (int64_t c = 0; c < channels; ++c)
        head_of[c] = (size < kWord ? (1ull << size) - 1 : ~0ull) << (c / size * size);
    scratch.membranes.assign(tokens * kWidth, Number(0));
    for (int64_t step = 0; step < map.steps; ++step) {
        const uint64_t* rows = q_k_v + step * tokens * stride;
        uint64_t* out = spikes + step * tokens;
        // The channels' products are followed by a row of zeros, with which the queries are padded.
        scratch.products.assign((channels + 1) * kWidth, Number(0));
        int64_t queries[kWord + 1] = {}, keys[kWord] = {}, values = 0;
        for (int64_t token = 0; token < tokens; ++token) {
            const uint64_t value = part_word(rows + token * stride, 2 * channels, channels, 0);
            values += __builtin_popcountll(value);
            for (uint64_t k = part_word(rows + token * stride, channels, channels, 0); k; k &= k - 1) {
                const int c = __builtin_ctzll(k);
                ++keys[c];
                add_bits(&scratch.products[c * kWidth], value & head_of[c], kWidth);
            }
        }
        for (int64_t token = 0; token < tokens; ++token) {
            Vector y[V] = {};
            for (uint64_t q = part_word(rows + token * stride, 0, channels, 0); q;)
                for (int i = 0; i < 4; ++i, q &= q - 1) {  // four at a time: the loop count is easier to predict
                    const int64_t c = q ? __builtin_ctzll(q) : channels;
                    ++queries[c];
                    for (int j = 0; j < V; ++j) y[j] += load(&scratch.products[c * kWidth + j * L]);
                }
            uint64_t fired = 0;
            for (int j = 0; j < V; ++j) {
                Number* membranes = &scratch.membranes[token * kWidth + j * L];
                Vector v = load(membranes);
                fired |= neuron.fire_exactly(v, y[j] * scale) << (j * L);
                store(membranes, v);
            }
            out[token] = fired;
            counts[4 * map.steps + step] += __builtin_popcountll(fired);
        }
        for (int64_t c = 0; c < channels; ++c) {
            counts[step] += queries[c];
            counts[map.steps + step] += keys[c];
            counts[3 * map.steps + step] += queries[c] * keys[c];
        }
        counts[2 * map.steps + step] += values;
    }
}

template <int V, typename... Arguments>
bool attend_narrow(const Map& map, Arguments&&... arguments) {
    if constexpr (V > 0) {
        if ((map.channels + kLanes - 1) / kLanes != V) return attend_narrow<V - 1>(map, arguments...);
        attend_word<V>(map, arguments...);
        return true;
    }
    return false;
}

}  // namespace

void attend(const Map& map, int64_t heads, const uint64_t* q_k_v, int64_t stride, Number scale, const Neuron neuron,
            uint64_t* spikes, int64_t* counts, Attention& scratch) {
    constexpr int L = kLanes;
    if (attend_narrow<kWord / L>(map, heads, q_k_v, stride, scale, neuron, spikes, counts, scratch)) return;
    const int64_t tokens = map.positions(), channels = map.channels, size = channels / heads, words = map.words();
    const int64_t padded = (size + L - 1) / L * L;  // a head's channels in whole vectors
    scratch.membranes.assign(tokens * heads * padded, Number(0));
    for (int64_t step = 0; step < map.steps; ++step) {
        const int64_t start = step * tokens;
        scratch.products.assign(channels * padded, Number(0));
        scratch.queries.assign(channels, 0);
        scratch.keys.assign(channels, 0);
        int64_t value_spikes = 0;
        for (int64_t token = 0; token < tokens; ++token) {
            const uint64_t* row = q_k_v + (start + token) * stride;
            for (int64_t first = 0; first < channels; first += kWord) {
                value_spikes += __builtin_popcountll(part_word(row, 2 * channels, channels, first));
                for (uint64_t q = part_word(row, 0, channels, first); q; q &= q - 1)
                    ++scratch.queries[first + __builtin_ctzll(q)];
            }
            for (int64_t head = 0; head < heads; ++head)
                for (int64_t first = 0; first < size; first += kWord) {
                    const int64_t channel = head * size + first;
                    for (uint64_t k = part_word(row, channels + head * size, size, first); k; k &= k - 1) {
                        const int64_t c = channel + __builtin_ctzll(k);
                        ++scratch.keys[c];
                        for (int64_t i = 0; i < size; i += kWord)
                            add_bits(&scratch.products[c * padded + i],
                                     part_word(row, 2 * channels + head * size, size, i), std::min(kWord, padded - i));
                    }
                }
        }
        for (int64_t token = 0; token < tokens; ++token) {
            const uint64_t* row = q_k_v + (start + token) * stride;
            uint64_t* out = spikes + (start + token) * words;
            std::fill(out, out + words, 0);
            for (int64_t head = 0; head < heads; ++head)
                for (int64_t i = 0; i < padded;) {
                    const Number* products = &scratch.products[head * size * padded + i];
                    Number* membranes = &scratch.membranes[(token * heads + head) * padded + i];
                    const int64_t left = (padded - i) / L, offset = head * size, c = offset + i, shift = c % kWord;
                    const int64_t vectors = left >= 4 && 4 * L <= kWord ? 4 : left >= 2 ? 2 : 1;
                    const uint64_t fired =
                        vectors == 4 ? attend_head<4>(products, padded, row, offset, size, scale, neuron, membranes)
                        : vectors == 2 ? attend_head<2>(products, padded, row, offset, size, scale, neuron, membranes)
                                       : attend_head<1>(products, padded, row, offset, size, scale, neuron, membranes);
                    out[c / kWord] |= fired << shift;
                    if (shift && fired >> (kWord - shift)) out[c / kWord + 1] |= fired >> (kWord - shift);
                    i += vectors * L;
                }
        }
        for (int64_t c = 0; c < channels; ++c) {
            counts[step] += scratch.queries[c];
            counts[map.steps + step] += scratch.keys[c];
            counts[3 * map.steps + step] += scratch.queries[c] * scratch.keys[c];
        }
        counts[2 * map.steps + step] += value_spikes;
        counts[4 * map.steps + step] += count_bits(spikes + start * words, tokens * words);
    }
}
