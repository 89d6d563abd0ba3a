// The native engine's kernels: networks of 0/1 spikes, where nothing is multiplied and silence costs nothing.
//
// Spikes of one site are bits, [images, steps, positions, words of 64 channels]; the residual stream is small
// integers, one byte each, [images, steps, positions, channels]. A layer adds up the weight rows of its input's
// events, for up to 128 outputs at a time in registers, over all steps of a position, and its neurons fire from
// there: currents never reach memory.
//
// Every output is the sum of its own rows in the order of the input channels, whatever else is computed beside
// it, so that results do not depend on the batch, on the threads or on the other outputs.

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t kWord = 64;        // channels in a word of spikes
constexpr int64_t kTile = 128;       // outputs that are computed together
constexpr int kVectorBytes = 64;

typedef float Float __attribute__((vector_size(kVectorBytes), may_alias, aligned(4)));
typedef double Double __attribute__((vector_size(kVectorBytes), may_alias, aligned(8)));
template <typename T> struct VectorOf;
template <> struct VectorOf<float> { using type = Float; };
template <> struct VectorOf<double> { using type = Double; };
template <typename T> using Vector = typename VectorOf<T>::type;
template <typename T> constexpr int kLanes = kVectorBytes / sizeof(T);

template <typename T> inline Vector<T> load(const T* p) {
    return *reinterpret_cast<const Vector<T>*>(p);
}
template <typename T> inline void store(T* p, Vector<T> v) { *reinterpret_cast<Vector<T>*>(p) = v; }

// Bit i is set where a[i] >= b[i].
#ifdef __AVX512F__
inline uint64_t at_least(Float a, Float b) {
    return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_GE_OQ);
}
inline uint64_t at_least(Double a, Double b) {
    return _mm512_cmp_pd_mask(reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b), _CMP_GE_OQ);
}
#else
template <typename V> inline uint64_t at_least(V a, V b) {
    uint64_t bits = 0;
    for (size_t i = 0; i < sizeof(V) / sizeof(a[0]); ++i) bits |= static_cast<uint64_t>(a[i] >= b[i]) << i;
    return bits;
}
#endif

inline int64_t words_of(int64_t channels) { return (channels + kWord - 1) / kWord; }

// Leaky integrate-and-fire neurons, see aspk/supernet/neurons.py.
template <typename T> struct Neuron {
    T tau, v_threshold;
    bool hard, decay_input;
    T keep;

    Neuron(double tau, double v_threshold, int hard, int decay_input)
        : tau(static_cast<T>(tau)), v_threshold(static_cast<T>(v_threshold)), hard(hard != 0),
          decay_input(decay_input != 0), keep(static_cast<T>(1 - 1 / tau)) {}

    // Charges and resets the membranes v; returns who fired. The input is already divided by tau if it decays.
    uint64_t fire(Vector<T>& v, Vector<T> x) const { return spike(v, v * keep + x); }

    // The same with the equation's own rounding, for sums of integers that meet the threshold exactly.
    uint64_t fire_exactly(Vector<T>& v, Vector<T> x) const {
        return spike(v, decay_input ? v + (x - v) / tau : v - v / tau + x);
    }

    uint64_t spike(Vector<T>& v, Vector<T> h) const {
        const Vector<T> threshold = v_threshold - Vector<T>{};
        v = hard ? (h >= threshold ? Vector<T>{} : h) : (h >= threshold ? h - threshold : h);
        return at_least(h, threshold);
    }
};

// Which inputs are not zero, position by position: the events of one image.
template <typename T> struct Events {
    std::vector<int32_t> starts, channels;  // channels: column * C + channel, so that a row of pixels is one run
    std::vector<T> values;                  // of the residual stream; spikes are ones
};

struct Map {
    int64_t images, steps, height, width, channels;
    int64_t positions() const { return height * width; }
    int64_t words() const { return words_of(channels); }

    // The 3x3 windows with padding 1 that contain a position.
    int64_t windows(int64_t y, int64_t x) const {
        return (1 + (y > 0) + (y + 1 < height)) * (1 + (x > 0) + (x + 1 < width));
    }
    int64_t windows(int64_t position) const { return windows(position / width, position % width); }
};

// Spikes of channels first..first + 63 of a part that starts at bit `offset` of a row.
inline uint64_t part_word(const uint64_t* row, int64_t offset, int64_t channels, int64_t first) {
    const int64_t from = offset + first, shift = from % kWord, length = std::min(kWord, channels - first);
    uint64_t bits = row[from / kWord] >> shift;
    if (shift + length > kWord) bits |= row[from / kWord + 1] << (kWord - shift);
    return length < kWord ? bits & ((1ull << length) - 1) : bits;
}

inline int64_t count_words(const uint64_t* words, int64_t length) {
    int64_t count = 0;
    for (int64_t i = 0; i < length; ++i) count += __builtin_popcountll(words[i]);
    return count;
}

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

template <typename T>
void find_events(const Map& map, const uint64_t* spikes, const uint8_t* residual, int64_t stride,
                 Events<T>& events) {
    const int64_t rows = map.steps * map.positions();
    events.starts.resize(rows + 1);
    events.channels.resize(rows * map.channels);
    if (residual) events.values.resize(rows * map.channels);
    int32_t count = 0;
    for (int64_t row = 0; row < rows; ++row) {
        events.starts[row] = count;
        const int64_t column = (row % map.width) * map.channels;
        for (int64_t word = 0; word < map.words(); ++word) {
            const int64_t first = word * kWord;
            const uint8_t* values = residual ? residual + row * map.channels + first : nullptr;
            uint64_t bits = residual ? nonzero(values, map.channels - first)
                                     : part_word(spikes + row * stride, 0, map.channels, first);
            for (; bits; bits &= bits - 1) {
                const int bit = __builtin_ctzll(bits);
                if (residual) events.values[count] = static_cast<T>(values[bit]);
                events.channels[count++] = static_cast<int32_t>(column + first + bit);
            }
        }
    }
    events.starts[rows] = count;
}

template <typename T> struct Layer {
    const T* weights;         // tiles of [rows, outputs of the tile]; a row is an input, or one of its patterns
    int64_t window, outputs;  // outputs in whole vectors
    const T* base;            // currents to add to, [images, steps, positions, outputs], or null
    const T* scale;           // [outputs]
    const T* shift;           // [outputs]
    Neuron<T> neuron;
    uint64_t* spikes;         // [images, steps, positions, words]
    int64_t* counts;          // of spikes, plain and by windows, [images, 2, steps]
    double* sums;             // of currents and of their squares, [images, 2, outputs]
    T* currents;              // [images, steps, positions, outputs]
};

enum class Task { kFire, kMoments, kCurrents };

// What a current is added up from.
enum class Input {
    kSpikes,    // weight rows of events
    kResidual,  // the same, times the events' values
    kPatterns,  // of few channels: one row for each pattern of four, summed in advance
};
constexpr int64_t kPattern = 4;  // channels of a pattern

inline int64_t patterns_of(int64_t channels) { return (channels + kPattern - 1) / kPattern; }

// Adds the events from..to to the currents; every second one to others, which halves the wait for a sum.
template <typename T, int V, bool kValued>
inline void add_events(const Events<T>& events, int32_t from, int32_t to, const T* weights,
                       Vector<T> (&even)[V], Vector<T> (&odd)[V]) {
    constexpr int64_t width = V * kLanes<T>;
    const int32_t* channels = events.channels.data();
    const T* values = events.values.data();
    int32_t e = from;
    for (; e + 1 < to; e += 2) {
        const T *first = weights + channels[e] * width, *second = weights + channels[e + 1] * width;
        for (int j = 0; j < V; ++j) {
            const Vector<T> a = load(first + j * kLanes<T>), b = load(second + j * kLanes<T>);
            even[j] += kValued ? a * values[e] : a;
            odd[j] += kValued ? b * values[e + 1] : b;
        }
    }
    if (e < to)
        for (int j = 0; j < V; ++j) {
            const Vector<T> a = load(weights + channels[e] * width + j * kLanes<T>);
            even[j] += kValued ? a * values[e] : a;
        }
}

template <typename T, int V, Input input, Task task>
void run_tile(const Map& map, const Layer<T>& layer, const Events<T>& events, const uint64_t* bits,
              int64_t stride, int64_t image, int64_t tile) {
    constexpr int L = kLanes<T>;
    const int64_t first = tile * kTile, reach = layer.window / 2, words = words_of(layer.outputs);
    const int64_t outputs = layer.outputs, steps = map.steps, height = map.height, width = map.width;
    const int64_t patterns = patterns_of(map.channels);
    const int64_t inputs = input == Input::kPatterns ? patterns << kPattern : map.channels;
    const T* weights = layer.weights + layer.window * layer.window * inputs * first;
    const Neuron<T> neuron = layer.neuron;
    const T *scale = layer.scale + first, *shift = layer.shift + first;
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) {
            Vector<T> v[V] = {}, sum[V] = {}, square[V] = {};
            const int64_t windows = map.windows(y, x);
            for (int64_t step = 0; step < steps; ++step) {
                const int64_t row = ((image * steps + step) * height + y) * width + x;
                Vector<T> current[V] = {}, odd[V] = {};
                if (layer.base)
                    for (int j = 0; j < V; ++j) current[j] = load(layer.base + row * outputs + first + j * L);
                for (int64_t dy = -reach; dy <= reach; ++dy) {
                    if (y + dy < 0 || y + dy >= height) continue;
                    const int64_t line = (step * height + y + dy) * width;
                    const int64_t left = std::max<int64_t>(x - reach, 0), right = std::min(x + reach, width - 1);
                    // Weights of channel 0 of column 0.
                    const T* origin = weights + ((dy + reach) * layer.window + reach - x) * inputs * (V * L);
                    if constexpr (input == Input::kPatterns) {
                        for (int64_t column = left; column <= right; ++column) {
                            uint64_t word = bits[(line + column) * stride];
                            const T* rows = origin + column * inputs * (V * L);
                            for (int64_t p = 0; p < patterns; ++p, word >>= kPattern) {
                                const T* sums = rows + ((p << kPattern) + (word & 15)) * (V * L);
                                for (int j = 0; j < V; ++j) (p % 2 ? odd : current)[j] += load(sums + j * L);
                            }
                        }
                    } else {
                        const int32_t *starts = &events.starts[line], from = starts[left], to = starts[right + 1];
                        add_events<T, V, input == Input::kResidual>(events, from, to, origin, current, odd);
                    }
                }
                for (int j = 0; j < V; ++j) current[j] += odd[j];
                if constexpr (task == Task::kCurrents) {
                    for (int j = 0; j < V; ++j) store(layer.currents + row * outputs + first + j * L, current[j]);
                } else if constexpr (task == Task::kMoments) {
                    for (int j = 0; j < V; ++j) {
                        sum[j] += current[j];
                        square[j] += current[j] * current[j];
                    }
                } else {
                    uint64_t fired[2] = {0, 0};
                    for (int j = 0; j < V; ++j) {
                        const Vector<T> charge = current[j] * load(scale + j * L) + load(shift + j * L);
                        fired[j * L / kWord] |= neuron.fire(v[j], charge) << (j * L % kWord);
                    }
                    uint64_t* out = layer.spikes + row * words + first / kWord;
                    out[0] = fired[0];
                    if (V * L > kWord) out[1] = fired[1];
                    const int64_t spikes = __builtin_popcountll(fired[0]) + __builtin_popcountll(fired[1]);
                    layer.counts[image * 2 * steps + step] += spikes;
                    layer.counts[(image * 2 + 1) * steps + step] += spikes * windows;
                }
            }
            if constexpr (task == Task::kMoments) {
                double* sums = layer.sums + image * 2 * outputs + first;
                for (int j = 0; j < V; ++j)
                    for (int i = 0; i < L; ++i) {
                        sums[j * L + i] += sum[j][i];
                        sums[outputs + j * L + i] += square[j][i];
                    }
            }
        }
}

template <typename T, int V, Input input, Task task>
void run_tiles(const Map& map, const Layer<T>& layer, const Events<T>& events, const uint64_t* bits,
               int64_t stride, int64_t image, int64_t tile, int vectors) {
    if constexpr (V > 0) {
        if (vectors == V)
            run_tile<T, V, input, task>(map, layer, events, bits, stride, image, tile);
        else
            run_tiles<T, V - 1, input, task>(map, layer, events, bits, stride, image, tile, vectors);
    }
}

template <typename T, Input input, Task task>
void run_layer(const Map& map, const Layer<T>& layer, const uint64_t* spikes, const uint8_t* residual,
               int64_t stride, int threads) {
    const int64_t rows = map.steps * map.positions();
#pragma omp parallel num_threads(threads)
    {
        Events<T> events;
#pragma omp for schedule(static)
        for (int64_t image = 0; image < map.images; ++image) {
            const uint64_t* bits = spikes + image * rows * stride;
            if (input != Input::kPatterns)
                find_events(map, bits, residual ? residual + image * rows * map.channels : nullptr, stride, events);
            if (task == Task::kFire) std::fill_n(layer.counts + image * 2 * map.steps, 2 * map.steps, 0);
            for (int64_t tile = 0; tile * kTile < layer.outputs; ++tile) {
                const int64_t width = std::min(kTile, layer.outputs - tile * kTile);
                run_tiles<T, static_cast<int>(kTile) / kLanes<T>, input, task>(
                    map, layer, events, bits, stride, image, tile, static_cast<int>(width / kLanes<T>));
            }
        }
    }
}

template <typename T, Task task>
void run(const Map& map, const Layer<T>& layer, const uint64_t* spikes, const uint8_t* residual,
         int64_t stride, bool patterns, int threads) {
    if (residual)
        run_layer<T, Input::kResidual, task>(map, layer, spikes, residual, stride, threads);
    else if (patterns)
        run_layer<T, Input::kPatterns, task>(map, layer, spikes, residual, stride, threads);
    else
        run_layer<T, Input::kSpikes, task>(map, layer, spikes, residual, stride, threads);
}

// Currents that are there already, [images, steps (or one for all), positions, channels], fire.
template <typename T>
void fire_currents(const Map& map, const T* currents, bool repeated, const T* scale, const T* shift,
                   const Neuron<T> neuron, uint64_t* spikes, int64_t* counts, int threads) {
    constexpr int L = kLanes<T>;
    const int64_t positions = map.positions(), words = map.words();
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t image = 0; image < map.images; ++image) {
        int64_t *plain = counts + image * 2 * map.steps, *windowed = plain + map.steps;
        std::fill_n(plain, 2 * map.steps, 0);
        for (int64_t p = 0; p < positions; ++p) {
            const int64_t windows = map.windows(p);
            for (int64_t c = 0; c < map.channels; c += L) {
                const Vector<T> a = load(scale + c), b = load(shift + c);
                Vector<T> v = {};
                for (int64_t step = 0; step < map.steps; ++step) {
                    const int64_t row = (image * map.steps + step) * positions + p;
                    const int64_t source = repeated ? image * positions + p : row;
                    const uint64_t fired = neuron.fire(v, load(currents + source * map.channels + c) * a + b);
                    uint64_t& word = spikes[row * words + c / kWord];
                    word = (c % kWord ? word : 0) | fired << (c % kWord);
                    const int64_t here = __builtin_popcountll(fired);
                    plain[step] += here;
                    windowed[step] += here * windows;
                }
            }
        }
    }
}

// (q k^T) v for each image, step and head as q (k^T v), which is a sum of integers and exact in any order.
// counts, [images, steps, 5]: spikes of q, k and v, pairs of spikes of q and k, spikes that leave.
template <typename T>
void attend(const Map& map, int64_t heads, const uint64_t* q_k_v, int64_t stride, T scale, const Neuron<T> neuron, uint64_t* spikes, int64_t* counts, int threads) {
    constexpr int L = kLanes<T>;
    const int64_t tokens = map.positions(), size = map.channels / heads, words = map.words();
    const int64_t padded = (size + L - 1) / L * L;  // a head's channels in whole vectors
#pragma omp parallel num_threads(threads)
    {
        std::vector<T> products(map.channels * padded), values(heads * padded), y(heads * padded);
        std::vector<T> membranes(tokens * heads * padded);
        std::vector<int64_t> queries(map.channels), keys(map.channels);
        std::vector<int32_t> head_of(map.channels);
        for (int64_t c = 0; c < map.channels; ++c) head_of[c] = static_cast<int32_t>(c / size);
#pragma omp for schedule(static)
        for (int64_t image = 0; image < map.images; ++image) {
            std::fill(membranes.begin(), membranes.end(), T(0));
            for (int64_t step = 0; step < map.steps; ++step) {
                const int64_t first = (image * map.steps + step) * tokens;
                std::fill(products.begin(), products.end(), T(0));
                std::fill(queries.begin(), queries.end(), 0);
                std::fill(keys.begin(), keys.end(), 0);
                int64_t value_spikes = 0;
                for (int64_t token = 0; token < tokens; ++token) {
                    const uint64_t* row = q_k_v + (first + token) * stride;
                    std::fill(values.begin(), values.end(), T(0));
                    for (int64_t word = 0; word < words; ++word)
                        for (uint64_t bits = part_word(row, 2 * map.channels, map.channels, word * kWord); bits; bits &= bits - 1) {
                            const int64_t c = word * kWord + __builtin_ctzll(bits);
                            values[head_of[c] * padded + c - head_of[c] * size] = T(1);
                            ++value_spikes;
                        }
                    for (int64_t word = 0; word < words; ++word)
                        for (uint64_t bits = part_word(row, map.channels, map.channels, word * kWord); bits; bits &= bits - 1) {
                            const int64_t c = word * kWord + __builtin_ctzll(bits);
                            ++keys[c];
                            T* product = &products[c * padded];
                            const T* of_head = &values[head_of[c] * padded];
                            for (int64_t i = 0; i < padded; i += L)
                                store(product + i, load(product + i) + load(of_head + i));
                        }
                }
                for (int64_t token = 0; token < tokens; ++token) {
                    const uint64_t* query = q_k_v + (first + token) * stride;
                    std::fill(y.begin(), y.end(), T(0));
                    for (int64_t word = 0; word < words; ++word)
                        for (uint64_t bits = part_word(query, 0, map.channels, word * kWord); bits; bits &= bits - 1) {
                            const int64_t c = word * kWord + __builtin_ctzll(bits);
                            ++queries[c];
                            const T* row = &products[c * padded];
                            T* of_head = &y[head_of[c] * padded];
                            for (int64_t i = 0; i < padded; i += L)
                                store(of_head + i, load(of_head + i) + load(row + i));
                        }
                    uint64_t* out = spikes + (first + token) * words;
                    std::fill(out, out + words, 0);
                    for (int64_t head = 0; head < heads; ++head)
                        for (int64_t i = 0; i < padded; i += L) {
                            T* membrane = &membranes[(token * heads + head) * padded + i];
                            Vector<T> charge = load(membrane);
                            const uint64_t fired = neuron.fire_exactly(charge, load(&y[head * padded + i]) * scale);
                            store(membrane, charge);
                            const int64_t c = head * size + i, shift = c % kWord;
                            out[c / kWord] |= fired << shift;
                            if (shift + L > kWord && fired >> (kWord - shift)) out[c / kWord + 1] |= fired >> (kWord - shift);
                        }
                }
                int64_t pairs = 0;
                for (int64_t c = 0; c < map.channels; ++c) pairs += queries[c] * keys[c];
                int64_t* of_step = counts + (image * map.steps + step) * 5;
                of_step[0] = std::accumulate(queries.begin(), queries.end(), int64_t{0});
                of_step[1] = std::accumulate(keys.begin(), keys.end(), int64_t{0});
                of_step[2] = value_spikes;
                of_step[3] = pairs;
                of_step[4] = count_words(spikes + first * words, tokens * words);
            }
        }
    }
}

// 3x3 pooling with stride 2 and padding 1: a pixel fires if one of its window does.
void pool(const Map& map, const uint64_t* spikes, uint64_t* pooled, int threads) {
    const int64_t rows = (map.height + 1) / 2, columns = (map.width + 1) / 2, words = map.words();
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t frame = 0; frame < map.images * map.steps; ++frame)
        for (int64_t y = 0; y < rows; ++y)
            for (int64_t x = 0; x < columns; ++x) {
                uint64_t* out = pooled + ((frame * rows + y) * columns + x) * words;
                std::fill(out, out + words, 0);
                for (int64_t i = std::max<int64_t>(2 * y - 1, 0); i <= std::min(2 * y + 1, map.height - 1); ++i)
                    for (int64_t j = std::max<int64_t>(2 * x - 1, 0); j <= std::min(2 * x + 1, map.width - 1); ++j)
                        for (int64_t w = 0; w < words; ++w)
                            out[w] |= spikes[((frame * map.height + i) * map.width + j) * words + w];
            }
}

// sum[row, channel] = x[row, channel] + spikes[row, channel]
void add(int64_t rows, int64_t channels, const uint8_t* x, const uint64_t* spikes, uint8_t* sum, int threads) {
    const int64_t words = words_of(channels);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
        uint8_t* out = sum + row * channels;
        if (x)
            std::copy(x + row * channels, x + (row + 1) * channels, out);
        else
            std::fill(out, out + channels, 0);
        for (int64_t word = 0; word < words; ++word)
            for (uint64_t bits = spikes[row * words + word]; bits; bits &= bits - 1)
                ++out[word * kWord + __builtin_ctzll(bits)];
    }
}

// Spikes of each frame (image and step), and the same times the windows that contain the pixel.
void count_spikes(const Map& map, const uint64_t* spikes, int64_t stride, int64_t offset, int64_t* sums, int64_t* windowed,
                  int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t frame = 0; frame < map.images * map.steps; ++frame) {
        int64_t sum = 0, weighted = 0;
        for (int64_t y = 0; y < map.height; ++y)
            for (int64_t x = 0; x < map.width; ++x) {
                const uint64_t* row = spikes + ((frame * map.height + y) * map.width + x) * stride;
                int64_t here = 0;
                for (int64_t w = 0; w < map.words(); ++w)
                    here += __builtin_popcountll(part_word(row, offset, map.channels, w * kWord));
                const int64_t down = 1 + (y > 0) + (y + 1 < map.height), across = 1 + (x > 0) + (x + 1 < map.width);
                sum += here;
                weighted += here * down * across;
            }
        sums[frame] = sum;
        windowed[frame] = weighted;
    }
}

// Sums over the tokens of each frame, [frames, channels].
void sum_tokens(int64_t frames, int64_t tokens, int64_t channels, const uint8_t* x, int32_t* sums, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t frame = 0; frame < frames; ++frame) {
        int32_t* out = sums + frame * channels;
        std::fill(out, out + channels, 0);
        for (int64_t token = 0; token < tokens; ++token)
            for (int64_t c = 0; c < channels; ++c) out[c] += x[(frame * tokens + token) * channels + c];
    }
}

}  // namespace

#define ASPK_ENGINE(NAME, T)                                                                                   \
    extern "C" void layer_##NAME(int task, const int64_t* sizes, const uint64_t* spikes,                       \
                                 const uint8_t* residual, int64_t stride, const T* weights, const T* base,     \
                                 const T* scale, const T* shift, double tau, double v_threshold, int hard,     \
                                 int decay_input, int patterns, uint64_t* fired, int64_t* counts,              \
                                 double* sums, T* currents, int threads) {                                     \
        const Map map{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]};                                       \
        const Neuron<T> neuron(tau, v_threshold, hard, decay_input);                  \
        const Layer<T> layer{weights, sizes[5], sizes[6], base,   scale,                                       \
                             shift,   neuron,   fired,    counts, sums,  currents};                            \
        if (task == 0) run<T, Task::kFire>(map, layer, spikes, residual, stride, patterns, threads);                     \
        if (task == 1) run<T, Task::kMoments>(map, layer, spikes, residual, stride, patterns, threads);                  \
        if (task == 2) run<T, Task::kCurrents>(map, layer, spikes, residual, stride, patterns, threads);                 \
    }                                                                                                          \
    extern "C" void fire_##NAME(const int64_t* sizes, const T* currents, int repeated, const T* scale,         \
                                const T* shift, double tau, double v_threshold, int hard, int decay_input,      \
                                uint64_t* spikes, int64_t* counts, int threads) {                                                                 \
        const Map map{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]};                                       \
        const Neuron<T> neuron(tau, v_threshold, hard, decay_input);                  \
        fire_currents<T>(map, currents, repeated != 0, scale, shift, neuron, spikes, counts, threads);                 \
    }                                                                                                          \
    extern "C" void attend_##NAME(const int64_t* sizes, int64_t heads, const uint64_t* q_k_v, int64_t stride,  \
                                  double scale, double tau, double v_threshold, int hard, int decay_input,     \
                                  uint64_t* spikes, int64_t* counts, int threads) {                            \
        const Map map{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]};                                       \
        const Neuron<T> neuron(tau, v_threshold, hard, decay_input);                  \
        attend<T>(map, heads, q_k_v, stride, static_cast<T>(scale), neuron, spikes, counts, threads);         \
    }

ASPK_ENGINE(float32, float)
ASPK_ENGINE(float64, double)

extern "C" void pool_spikes(const int64_t* sizes, const uint64_t* spikes, uint64_t* pooled, int threads) {
    pool({sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]}, spikes, pooled, threads);
}
extern "C" void add_spikes(int64_t rows, int64_t channels, const uint8_t* x, const uint64_t* spikes, uint8_t* sum,
                           int threads) {
    add(rows, channels, x, spikes, sum, threads);
}
extern "C" void count_map(const int64_t* sizes, const uint64_t* spikes, int64_t stride, int64_t offset,
                          int64_t* sums, int64_t* windowed, int threads) {
    count_spikes({sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]}, spikes, stride, offset, sums, windowed, threads);
}
extern "C" void token_sums(int64_t frames, int64_t tokens, int64_t channels, const uint8_t* x, int32_t* sums,
                           int threads) {
    sum_tokens(frames, tokens, channels, x, sums, threads);
}
