// Token mixers that multiply only by masks, on concatenated spikes in rows of `stride` words.
#include "neuron.h"
#include "operations.h"

namespace {

// Charges the neurons behind `sums`, and returns them as bits; all in whole vectors.
void fire(const Neuron& neuron, const std::vector<Number>& sums, std::vector<Number>& membranes,
          std::vector<uint64_t>& fired) {
    std::fill(fired.begin(), fired.end(), 0);
    for (size_t i = 0; i < sums.size(); i += kLanes) {
        Vector v = load(&membranes[i]);
        fired[i / kWord] |= neuron.fire_exactly(v, load(&sums[i])) << (i % kWord);
        store(&membranes[i], v);
    }
}

int64_t whole_words(int64_t length) { return words_of(length) * kWord; }

}  // namespace

void mask_by_channel(const Map& map, const uint64_t* q_k_v, int64_t stride, const Neuron neuron, uint64_t* spikes,
                     int64_t* counts) {
    const int64_t tokens = map.positions(), channels = map.channels, words = map.words(), steps = map.steps;
    std::vector<Number> sums(whole_words(channels)), membranes(sums.size());
    std::vector<uint64_t> mask(words);
    for (int64_t step = 0; step < steps; ++step) {
        std::fill(sums.begin(), sums.end(), Number(0));
        for (int64_t token = 0; token < tokens; ++token) {
            const uint64_t* row = q_k_v + (step * tokens + token) * stride;
            for (int64_t first = 0; first < channels; first += kWord) {
                const uint64_t k = part_word(row, channels, channels, first);
                const uint64_t v = part_word(row, 2 * channels, channels, first);
                counts[steps + step] += __builtin_popcountll(k);
                counts[2 * steps + step] += __builtin_popcountll(v);
                counts[3 * steps + step] += __builtin_popcountll(k & v);
                for (uint64_t both = k & v; both; both &= both - 1) ++sums[first + __builtin_ctzll(both)];
            }
        }
        fire(neuron, sums, membranes, mask);
        counts[4 * steps + step] += count_bits(mask.data(), words);
        for (int64_t token = 0; token < tokens; ++token) {
            const uint64_t* row = q_k_v + (step * tokens + token) * stride;
            uint64_t* out = spikes + (step * tokens + token) * words;
            for (int64_t word = 0; word < words; ++word) {
                const uint64_t q = part_word(row, 0, channels, word * kWord);
                counts[step] += __builtin_popcountll(q);
                out[word] = q & mask[word];
            }
            counts[5 * steps + step] += count_bits(out, words);
        }
    }
}

void mask_by_token(const Map& map, int64_t heads, const uint64_t* q_k, int64_t stride, const Neuron neuron,
                   uint64_t* spikes, int64_t* counts) {
    const int64_t tokens = map.positions(), channels = map.channels, words = map.words(), steps = map.steps;
    const int64_t size = channels / heads;
    std::vector<Number> sums(whole_words(tokens * heads)), membranes(sums.size());
    std::vector<uint64_t> mask(words_of(tokens * heads));
    for (int64_t step = 0; step < steps; ++step) {
        const uint64_t* rows = q_k + step * tokens * stride;
        for (int64_t i = 0; i < tokens * heads; ++i) {
            int64_t sum = 0;
            for (int64_t first = 0; first < size; first += kWord)
                sum += __builtin_popcountll(part_word(rows + i / heads * stride, i % heads * size, size, first));
            sums[i] = static_cast<Number>(sum);
            counts[step] += sum;
        }
        fire(neuron, sums, membranes, mask);
        counts[2 * steps + step] += count_bits(mask.data(), words_of(tokens * heads));
        for (int64_t token = 0; token < tokens; ++token) {
            const uint64_t* row = rows + token * stride;
            uint64_t* out = spikes + (step * tokens + token) * words;
            std::fill(out, out + words, 0);
            for (int64_t head = 0; head < heads; ++head) {
                const int64_t neuron_of_it = token * heads + head;
                const bool passes = mask[neuron_of_it / kWord] >> (neuron_of_it % kWord) & 1;
                for (int64_t first = 0; first < size; first += kWord) {
                    const uint64_t k = part_word(row, channels + head * size, size, first);
                    counts[steps + step] += __builtin_popcountll(k);
                    if (!passes) continue;
                    counts[3 * steps + step] += __builtin_popcountll(k);
                    const int64_t at = head * size + first, shift = at % kWord;
                    out[at / kWord] |= k << shift;
                    if (shift && k >> (kWord - shift)) out[at / kWord + 1] |= k >> (kWord - shift);
                }
            }
        }
    }
}
