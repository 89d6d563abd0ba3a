// Currents from bits, without a list of events.
#include <utility>

#include "sums.h"

namespace {

// Adds the row of the first spike, and clears that spike.
template <int V> inline void add_row(const Number* rows, int64_t zeros, uint64_t& word, Vector (&sum)[V]) {
    const Number* row = rows + (word ? __builtin_ctzll(word) : zeros) * (V * kLanes);
    word &= word - 1;
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j) sum[j] += load(row + j * kLanes);
}

// Four at a time, padded with the row of zeros behind the last one: the loop count is easier to predict.
template <int V> inline void add_rows(const Number* weights, int64_t channels, const uint64_t* row, Sums<V>& sums) {
    for (int64_t first = 0; first < channels; first += kWord) {
        const Number* rows = weights + first * (V * kLanes);
        const int64_t zeros = channels - first;
        for (uint64_t word = part_word(row, 0, channels, first); word;) {
            add_row<V>(rows, zeros, word, sums.even);
            add_row<V>(rows, zeros, word, sums.odd);
            add_row<V>(rows, zeros, word, sums.even);
            add_row<V>(rows, zeros, word, sums.odd);
        }
    }
}

// Of the spikes of a linear layer; of one or two layers' spikes.
template <int V> void add_linear(const Tile& tile, int64_t from, int64_t to, Number* out, Strides strides) {
    const Map map = tile.map;
    const Image image = tile.image;
    const Number* weights = tile.weights;
    for (int64_t position = from; position < to; ++position, out += strides.position)
        for (int64_t step = 0; step < map.steps; ++step) {
            const int64_t at = (step * map.positions() + position) * image.stride;
            Sums<V> sums(image.base_of(map, step, position));
            add_rows<V>(weights, map.channels, image.bits + at, sums);
            if (image.more) add_rows<V>(weights, map.channels, image.more + at, sums);
            sums.write(out + step * strides.step);
        }
}

constexpr int64_t kPattern = 4;       // channels of a pattern
constexpr int64_t kFewChannels = 16;  // at most, for looking up patterns,
constexpr int64_t kFewOutputs = 32;   // and at most this many outputs

// Looks up the sums of four channels' weights: faster than events if channels are few. P: patterns of a pixel.
template <int V, int P>
inline void add_pixel(const Number* weights, uint64_t spikes, int64_t window, Sums<V>& sums) {
    constexpr uint64_t kRow = V * kVectorBytes, kPatterns = 1 << kPattern;
    static_assert((kRow & (kRow - 1)) == 0, "a pattern's place is cut out of the shifted word");
    const char* tables = reinterpret_cast<const char*>(weights) + window * P * kPatterns * kRow;
    uint64_t places = spikes * kRow;
#pragma GCC unroll 4
    for (int64_t p = 0; p < P; ++p, places >>= kPattern, tables += kPatterns * kRow) {
        const Number* row = reinterpret_cast<const Number*>(tables + (places & (kPatterns - 1) * kRow));
        for (int j = 0; j < V; ++j) ((window * P + p) % 2 ? sums.odd : sums.even)[j] += load(row + j * kLanes);
    }
}

template <int V, int P>
void add_patterns(const Tile& tile, int64_t from, int64_t to, Number* out, Strides strides) {
    const Map map = tile.map;
    const Image image = tile.image;
    const Number* weights = tile.weights;
    int64_t y = from / map.width, x = from % map.width;
    for (int64_t position = from; position < to; ++position, map.next(y, x), out += strides.position)
        for (int64_t step = 0; step < map.steps; ++step) {
            Sums<V> sums(image.base_of(map, step, position));
            const uint64_t* centre = image.bits + (step * map.positions() + position) * image.stride;
            const auto spikes = [&](int64_t window) {
                return centre[((window / 3 - 1) * map.width + window % 3 - 1) * image.stride];
            };
            if (y > 0 && x > 0 && y + 1 < map.height && x + 1 < map.width) {
#pragma GCC unroll 9
                for (int64_t window = 0; window < 9; ++window) add_pixel<V, P>(weights, spikes(window), window, sums);
            } else {
                for (int64_t window = 0; window < 9; ++window) {
                    const int64_t i = y + window / 3 - 1, j = x + window % 3 - 1;
                    if (i < 0 || j < 0 || i >= map.height || j >= map.width) continue;
                    add_pixel<V, P>(weights, spikes(window), window, sums);
                }
            }
            sums.write(out + step * strides.step);
        }
}

template <int... V> Add add_linear_of(int vectors, std::integer_sequence<int, V...>) {
    static constexpr Add functions[] = {add_linear<V + 1>...};
    return functions[vectors - 1];
}

template <int V> Add add_patterns_of(int vectors, int64_t patterns) {
    static constexpr Add functions[] = {add_patterns<V, 1>, add_patterns<V, 2>, add_patterns<V, 3>, add_patterns<V, 4>};
    if (vectors == V) return functions[patterns - 1];
    if constexpr (2 * V * kLanes <= kFewOutputs) return add_patterns_of<2 * V>(vectors, patterns);
    return nullptr;  // see packing.by_patterns
}

}  // namespace

Add bit_sums(int vectors) { return add_linear_of(vectors, std::make_integer_sequence<int, kVectors>()); }

Add pattern_sums(int vectors, int64_t channels) {
    return add_patterns_of<1>(vectors, (channels + kPattern - 1) / kPattern);
}
