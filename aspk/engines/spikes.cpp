// The native engine's kernels: networks of 0/1 spikes, where nothing is multiplied and silence costs nothing.
//
// Spikes of one site are bits, [images, steps, positions, words of 64 channels]; the residual stream is small
// integers, one byte each, [images, steps, positions, channels]. A layer adds up the weight rows of its input's
// events, for up to 192 outputs at a time in registers, over all steps of a position, and its neurons fire from
// there: currents never reach memory.
//
// Every output is the sum of its own rows in the order of the input channels, whatever else is computed beside
// it, so that results do not depend on the batch, on the threads or on the other outputs.
//
// What runs is a program: operations in order, on a few images at a time, whose states lie in one piece of memory
// of each thread, small enough for its cache.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t kWord = 64;        // channels in a word of spikes
constexpr int kVectorBytes = 64;
constexpr int64_t kCounts = 5;       // counts that an operation has at most for each step

typedef float Float __attribute__((vector_size(kVectorBytes), may_alias, aligned(4)));
typedef double Double __attribute__((vector_size(kVectorBytes), may_alias, aligned(8)));
template <typename T> struct VectorOf;
template <> struct VectorOf<float> { using type = Float; };
template <> struct VectorOf<double> { using type = Double; };
template <typename T> using Vector = typename VectorOf<T>::type;
template <typename T> constexpr int kLanes = kVectorBytes / sizeof(T);
constexpr int kFewVectors = 8;

// Outputs that are computed together, in whole words: narrow layers at once, others so that the weights of a word of
// their inputs stay in the smallest cache.
constexpr int64_t kNarrow = 3 * kWord;
template <typename T> constexpr int64_t kTile = sizeof(T) == 4 ? kNarrow : kWord;  // at most
template <typename T> inline int64_t tile_of(int64_t outputs) {
    return outputs <= kTile<T> || sizeof(T) != 4 ? kTile<T> : 2 * kWord;
}

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

// Leaky integrate-and-fire neurons, see aspk/families/neurons.py.
template <typename T> struct Neuron {
    T tau, v_threshold, keep, exact;  // exact: 1 / tau where multiplying by it is exact, else 0
    bool hard, decay_input;

    Neuron(double tau, double v_threshold, bool hard, bool decay_input)
        : tau(static_cast<T>(tau)), v_threshold(static_cast<T>(v_threshold)),
          keep(static_cast<T>(1 - 1 / tau)), exact(std::exp2(std::round(std::log2(tau))) == tau ? 1 / tau : 0),
          hard(hard), decay_input(decay_input) {}

    // Charges and resets the membranes v; returns who fired. The input is already divided by tau if it decays.
    uint64_t fire(Vector<T>& v, Vector<T> x) const { return spike(v, v * keep + x); }

    // The same with the equation's own rounding, for sums of integers that meet the threshold exactly.
    uint64_t fire_exactly(Vector<T>& v, Vector<T> x) const {
        const Vector<T> numerator = decay_input ? x - v : v;
        const Vector<T> share = exact ? numerator * exact : numerator / tau;
        return spike(v, decay_input ? v + share : v - share + x);
    }

    uint64_t spike(Vector<T>& v, Vector<T> h) const {
        const Vector<T> threshold = v_threshold - Vector<T>{};
        v = hard ? (h >= threshold ? Vector<T>{} : h) : (h >= threshold ? h - threshold : h);
        return at_least(h, threshold);
    }
};

struct Map {
    int64_t steps, height, width, channels;
    int64_t positions() const { return height * width; }
    int64_t rows() const { return steps * positions(); }
    int64_t words() const { return words_of(channels); }

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

// ------------------------------------------------------------------------------------------- events

// Which inputs of an image are not zero, row by row of its positions.
template <typename T> struct Events {
    std::vector<int32_t> starts, channels;  // channels: column * C + channel, so that a row of pixels is one run
    std::vector<T> values;                  // of the residual stream; spikes are ones
    std::vector<int32_t> word_starts;       // where each word of each row begins
};

// Never smaller: what is not read needs no zeros, and growing writes them.
template <typename E> void make_room(std::vector<E>& x, int64_t length) {
    if (static_cast<int64_t>(x.size()) < length) x.resize(length);
}

constexpr int64_t kSlack = 64;  // events that may be written beyond the last

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

// Writes base + i for each bit i, and x[i] if there are values; behind them three more places at least, base and 0.
// May write up to kSlack places in all.
template <typename T>
inline int32_t list_bits(uint64_t bits, int32_t base, const uint8_t* x, int64_t length, int32_t* channels, T* values) {
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
        if (x) values[i] = bits ? static_cast<T>(x[bit]) : T(0);
    }
#endif
    return count;
}

// `residual` or `spikes` is what is read.
template <typename T>
void find_events(const Map& map, const uint64_t* spikes, int64_t stride, const uint8_t* residual, Events<T>& events) {
    make_room(events.starts, map.rows() + 1);
    make_room(events.channels, map.rows() * (map.channels + 4) + 2 * kSlack);
    if (residual) make_room(events.values, map.rows() * (map.channels + 4) + 2 * kSlack);
    make_room(events.word_starts, map.rows() * map.words() + 1);
    int32_t *starts = events.starts.data(), *word_starts = events.word_starts.data(), *channels = events.channels.data();
    T* values = events.values.data();
    // Filled up with events of value 0: how often four are added is easier to foresee.
    const int32_t together = residual && map.channels <= kWord ? 4 : 1;
    int32_t count = 0;
    for (int64_t row = 0, column = 0; row < map.rows(); ++row, column = column + 1 == map.width ? 0 : column + 1) {
        *starts++ = count;
        for (int64_t first = 0; first < map.channels; first += kWord) {
            *word_starts++ = count;
            const int64_t length = map.channels - first;
            const uint8_t* x = residual ? residual + row * map.channels + first : nullptr;
            const uint64_t bits = residual ? nonzero(x, length) : part_word(spikes + row * stride, 0, map.channels, first);
            const int32_t base = static_cast<int32_t>(column * map.channels + first);
            if (bits) count += list_bits(bits, base, x, length, channels + count, values + count);
            count = (count + together - 1) & -together;
        }
    }
    *starts = *word_starts = count;
}

// ------------------------------------------------------------------------------------------- layers

enum class Task { kFire, kMoments, kProducts };

// What a current is added up from.
enum class Input {
    kSpikes,    // weight rows of events
    kResidual,  // the same, times the events' values
    kPatterns,  // of few channels: one row for each pattern of four, summed in advance
    kProducts,  // nothing: the base is all
    kBits,      // as kSpikes, for linear layers
};
constexpr int64_t kPattern = 4;        // channels of a pattern
constexpr int64_t kFewChannels = 16;   // that are looked up by patterns,
constexpr int64_t kFewOutputs = 32;    // for at most so many outputs
constexpr int64_t kSmallCache = 48 << 10;  // bytes of weights that stay in a core's smallest cache
constexpr int64_t kManyEvents = 8;         // in a word of channels, on average
// Share of a layer's inputs that are not 0 where events take longer than all of them (benchmarks/break_even.py); the
// weights of a linear layer's single word of channels are at hand for events, too.
constexpr double kDense = 0.5, kDenseWord = 0.85, kDenseWindow = 0.65;

inline int64_t patterns_of(int64_t channels) { return (channels + kPattern - 1) / kPattern; }

template <typename T> struct Layer {
    // Tiles of [rows, outputs of the tile]; a row is an input, or a pattern of inputs. Linear layers have one more, of
    // zeros.
    const T* weights;
    int64_t window, outputs;  // outputs in whole vectors
    const T* scale;           // [outputs]
    const T* shift;           // [outputs]
    Neuron<T> neuron;
};

// One image's part of what a layer reads and writes.
template <typename T> struct Image {
    const uint64_t* bits;  // input spikes
    const uint64_t* more;  // spikes of another layer that are added to them, or null
    int64_t stride;        // words in a row of them
    const T* base;         // products to add to, [steps (or one for all), positions, base_width], or null
    int64_t base_width;    // of all tiles, or of one
    bool repeated;         // whether there is one for all steps
    uint64_t* spikes;      // [steps, positions, words]
    double* sums;          // of products and of their squares, [2, outputs]
    T* products;           // [steps, positions, outputs]
    const T* dense;        // the input as numbers (see dense_input), where little of it is 0
};

// Currents of V vectors of outputs.
template <typename T, int V> struct Current {
    Vector<T> parts[V];
};

// Where weight rows are added up: every second one in `odd`, which halves the wait for a sum.
template <typename T, int V> struct Sums {
    Vector<T> even[V], odd[V];

    explicit Sums(const T* base) {
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) {
            even[j] = base ? load(base + j * kLanes<T>) : Vector<T>{};
            odd[j] = Vector<T>{};
        }
    }
    Current<T, V> total() const {
        Current<T, V> current;
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) current.parts[j] = even[j] + odd[j];
        return current;
    }
};

// Adds up currents from the weight rows of events.
template <typename T, int V, bool kValued> struct EventInput {
    Map map;
    int64_t window;
    const T* weights;
    const Events<T>& events;

    Current<T, V> add(int64_t step, int64_t y, int64_t x, const T* base) const {
        Sums<T, V> sums(base);
        const int64_t reach = window / 2, left = std::max<int64_t>(x - reach, 0), right = std::min(x + reach, map.width - 1);
        for (int64_t dy = -reach; dy <= reach; ++dy) {
            if (y + dy < 0 || y + dy >= map.height) continue;
            const int32_t* starts = &events.starts[(step * map.height + y + dy) * map.width];
            // Weights of channel 0 of column 0.
            const T* origin = weights + ((dy + reach) * window + reach - x) * map.channels * (V * kLanes<T>);
            add_run(starts[left], starts[right + 1], origin, sums);
        }
        return sums.total();
    }

    // The events of one word of one position of the window.
    Current<T, V> add_word(int64_t step, int64_t y, int64_t x, int64_t dy, int64_t dx, int64_t word,
                           const T* base) const {
        Sums<T, V> sums(base);
        const int64_t reach = window / 2, row = (step * map.height + y + dy) * map.width + x + dx;
        const int32_t* starts = &events.word_starts[row * map.words() + word];
        const T* origin = weights + ((dy + reach) * window + reach - x) * map.channels * (V * kLanes<T>);
        add_run(starts[0], starts[1], origin, sums);
        return sums.total();
    }

    void add_run(int32_t e, int32_t to, const T* origin, Sums<T, V>& sums) const {
        for (; kValued && e + 3 < to; e += 4) {
            add_row(origin, e, sums.even);
            add_row(origin, e + 1, sums.odd);
            add_row(origin, e + 2, sums.even);
            add_row(origin, e + 3, sums.odd);
        }
        for (; e + 1 < to; e += 2) {
            add_row(origin, e, sums.even);
            add_row(origin, e + 1, sums.odd);
        }
        if (e < to) add_row(origin, e, sums.even);
    }

    void add_row(const T* origin, int32_t e, Vector<T> (&sum)[V]) const {
        const T* row = origin + events.channels[e] * int64_t{V * kLanes<T>};
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) {
            const Vector<T> part = load(row + j * kLanes<T>);
            sum[j] += kValued ? part * events.values[e] : part;
        }
    }
};

// The same of the spikes of a linear layer, without a list of them; of one or two layers' spikes.
template <typename T, int V> struct BitInput {
    Map map;
    const T* weights;
    const uint64_t *bits, *more;  // more may be null
    int64_t stride;

    Current<T, V> add(int64_t step, int64_t y, int64_t x, const T* base) const {
        Sums<T, V> sums(base);
        const int64_t at = ((step * map.height + y) * map.width + x) * stride;
        add_rows(bits + at, sums);
        if (more) add_rows(more + at, sums);
        return sums.total();
    }

    // Four at a time, if need be with the row of zeros behind the last: how often is easier to foresee.
    void add_rows(const uint64_t* row, Sums<T, V>& sums) const {
        for (int64_t first = 0; first < map.channels; first += kWord) {
            const T* rows = weights + first * (V * kLanes<T>);
            const int64_t zeros = map.channels - first;
            for (uint64_t word = part_word(row, 0, map.channels, first); word;) {
                add_row(rows, zeros, word, sums.even);
                add_row(rows, zeros, word, sums.odd);
                add_row(rows, zeros, word, sums.even);
                add_row(rows, zeros, word, sums.odd);
            }
        }
    }

    // Adds the row of the first spike, and takes it away.
    static void add_row(const T* rows, int64_t zeros, uint64_t& word, Vector<T> (&sum)[V]) {
        const T* row = rows + (word ? __builtin_ctzll(word) : zeros) * (V * kLanes<T>);
        word &= word - 1;
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) sum[j] += load(row + j * kLanes<T>);
    }
};

// Adds nothing: the products are there already.
template <typename T, int V> struct NoInput {
    Current<T, V> add(int64_t, int64_t, int64_t, const T* base) const { return Sums<T, V>(base).total(); }
};

// Looks the sums of four channels' weights up: faster than events where channels are few. P: patterns of a pixel.
template <typename T, int V, int P> struct PatternInput {
    Map map;
    const T* weights;
    const uint64_t* bits;
    int64_t stride;

    Current<T, V> add(int64_t step, int64_t y, int64_t x, const T* base) const {
        Sums<T, V> sums(base);
        const uint64_t* centre = bits + ((step * map.height + y) * map.width + x) * stride;
        if (y > 0 && x > 0 && y + 1 < map.height && x + 1 < map.width) {
#pragma GCC unroll 9
            for (int64_t window = 0; window < 9; ++window) add_pixel(centre, window, sums);
            return sums.total();
        }
        for (int64_t window = 0; window < 9; ++window) {
            const int64_t i = y + window / 3 - 1, j = x + window % 3 - 1;
            if (i >= 0 && j >= 0 && i < map.height && j < map.width) add_pixel(centre, window, sums);
        }
        return sums.total();
    }

    void add_pixel(const uint64_t* centre, int64_t window, Sums<T, V>& sums) const {
        constexpr uint64_t kRow = V * kVectorBytes, kPatterns = 1 << kPattern;
        static_assert((kRow & (kRow - 1)) == 0, "a pattern's place is cut out of the shifted word");
        const char* tables = reinterpret_cast<const char*>(weights) + window * P * kPatterns * kRow;
        uint64_t places = centre[((window / 3 - 1) * map.width + window % 3 - 1) * stride] * kRow;
#pragma GCC unroll 4
        for (int64_t p = 0; p < P; ++p, places >>= kPattern, tables += kPatterns * kRow) {
            const T* row = reinterpret_cast<const T*>(tables + (places & (kPatterns - 1) * kRow));
            for (int j = 0; j < V; ++j)
                ((window * P + p) % 2 ? sums.odd : sums.even)[j] += load(row + j * kLanes<T>);
        }
    }
};

// Not inlined: many sums need all registers for themselves.
template <typename T, int V, typename Source>
__attribute__((noinline)) Current<T, V> add_apart(const Source& source, int64_t step, int64_t y, int64_t x, const T* base) {
    return source.add(step, y, x, base);
}

// One tile of outputs of one image. counts: of the spikes at each step, plain and by windows, [2, steps].
template <typename T, int V, Task task, typename Source>
void run_tile(const Map& map, const Layer<T>& layer, const Source& source, const Image<T>& image, int64_t first,
              int64_t* counts) {
    constexpr int L = kLanes<T>;
    const int64_t words = words_of(layer.outputs), outputs = layer.outputs;
    const Neuron<T> neuron = layer.neuron;
    const T *scale = layer.scale + first, *shift = layer.shift + first;
    for (int64_t y = 0; y < map.height; ++y)
        for (int64_t x = 0; x < map.width; ++x) {
            Vector<T> v[V] = {}, sum[V] = {}, square[V] = {};
            const int64_t windows = map.windows(y, x);
            for (int64_t step = 0; step < map.steps; ++step) {
                const int64_t row = (step * map.height + y) * map.width + x;
                const T* base = image.base ? image.base + (image.repeated ? y * map.width + x : row) * image.base_width
                                           : nullptr;
                const Current<T, V> sums =
                    V > kFewVectors ? add_apart<T, V>(source, step, y, x, base) : source.add(step, y, x, base);
                const auto& current = sums.parts;
                if constexpr (task == Task::kProducts) {
                    for (int j = 0; j < V; ++j) store(image.products + row * outputs + first + j * L, current[j]);
                } else if constexpr (task == Task::kMoments) {
                    for (int j = 0; j < V; ++j) {
                        sum[j] += current[j];
                        square[j] += current[j] * current[j];
                    }
                } else {
                    uint64_t fired[kTile<T> / kWord] = {};
                    for (int j = 0; j < V; ++j) {
                        const Vector<T> charge = current[j] * load(scale + j * L) + load(shift + j * L);
                        fired[j * L / kWord] |= neuron.fire(v[j], charge) << (j * L % kWord);
                    }
                    uint64_t* out = image.spikes + row * words + first / kWord;
                    std::copy(fired, fired + words_of(V * L), out);
                    const int64_t spikes = count_bits(fired, words_of(V * L));
                    counts[step] += spikes;
                    counts[map.steps + step] += spikes * windows;
                }
            }
            if constexpr (task == Task::kMoments) {
                double* sums = image.sums + first;
                for (int j = 0; j < V; ++j)
                    for (int i = 0; i < L; ++i) {
                        sums[j * L + i] += sum[j][i];
                        sums[outputs + j * L + i] += square[j][i];
                    }
            }
        }
}

template <typename T, int V, Task task, int P>
void run_patterns(const Map& map, const Layer<T>& layer, const Image<T>& image, int64_t* counts) {
    if constexpr (P > 0) {
        if (patterns_of(map.channels) != P) return run_patterns<T, V, task, P - 1>(map, layer, image, counts);
        const PatternInput<T, V, P> source{map, layer.weights, image.bits, image.stride};
        run_tile<T, V, task>(map, layer, source, image, 0, counts);
    }
}

// Whether a tile's weights are too large for the smallest cache, and an image's events enough to go through them
// word by word. Knows nothing of the outputs, on which no output may depend.
template <typename T> bool by_words(const Map& map, int64_t window, const Events<T>& events) {
    const int64_t bytes = window * window * map.channels * 2 * kWord * sizeof(T);
    return bytes > kSmallCache && events.starts[map.rows()] >= kManyEvents * map.rows() * map.words();
}

// Products of an image, [rows, outputs of the tile]: one word of channels after the other, so that its weights stay
// in the smallest cache for all rows.
template <typename T, int V, bool kValued>
const T* add_by_words(const Map& map, const EventInput<T, V, kValued>& source, const Image<T>& image,
                      std::vector<T>& sums) {
    constexpr int L = kLanes<T>;
    const int64_t reach = source.window / 2;
    make_room(sums, map.rows() * V * L);
    for (int64_t row = 0; row < map.rows(); ++row)
        for (int j = 0; j < V * L; ++j) sums[row * V * L + j] = image.base ? image.base[row * image.base_width + j] : T(0);
    for (int64_t dy = -reach; dy <= reach; ++dy)
        for (int64_t dx = -reach; dx <= reach; ++dx)
            for (int64_t word = 0; word < map.words(); ++word)
                for (int64_t step = 0; step < map.steps; ++step)
                    for (int64_t y = std::max<int64_t>(0, -dy); y < map.height - std::max<int64_t>(0, dy); ++y)
                        for (int64_t x = std::max<int64_t>(0, -dx); x < map.width - std::max<int64_t>(0, dx); ++x) {
                            T* out = &sums[((step * map.height + y) * map.width + x) * V * L];
                            const Current<T, V> total = source.add_word(step, y, x, dy, dx, word, out);
                            for (int j = 0; j < V; ++j) store(out + j * L, total.parts[j]);
                        }
    return sums.data();
}

// What positions side by side read of a dense input: of each line of the window one run, one after the other; the runs
// of the next position begin `channels` further.
template <typename T> struct Runs {
    const T* x;
    int64_t number, length, line, channels;
};

// Products of R positions with W vectors of outputs, to be written with a stride.
template <typename T, int R, int W>
inline void multiply(const T* weights, int64_t stride, const Runs<T>& runs, const T* base, int64_t base_width, T* out) {
    constexpr int L = kLanes<T>;
    Vector<T> sums[R][W];
    for (int r = 0; r < R; ++r)
        for (int j = 0; j < W; ++j) sums[r][j] = base ? load(base + r * base_width + j * L) : Vector<T>{};
    for (int64_t run = 0; run < runs.number; ++run) {
        const T* x = runs.x + run * runs.line;
        for (int64_t i = 0; i < runs.length; ++i, weights += stride)
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
                for (int j = 0; j < W; ++j) sums[r][j] += load(weights + j * L) * x[r * runs.channels + i];
    }
    for (int r = 0; r < R; ++r)
        for (int j = 0; j < W; ++j) store(out + r * stride + j * L, sums[r][j]);
}

// Products of the positions x..width of a line, R at a time, which share what is loaded, and what is left with fewer.
template <typename T, int R, int W>
void multiply_line(const T* weights, int64_t stride, Runs<T> runs, const T* base, int64_t base_width, T* out, int64_t width) {
    for (; width >= R; width -= R) {
        multiply<T, R, W>(weights, stride, runs, base, base_width, out);
        runs.x += R * runs.channels;
        if (base) base += R * base_width;
        out += R * stride;
    }
    if constexpr (R > 1)
        if (width) multiply_line<T, R / 2, W>(weights, stride, runs, base, base_width, out, width);
}

// Products of an image's dense input, [rows, outputs of the tile].
template <typename T, int V, int W = V < 3 ? V : 3>
void multiply_all(const Map& map, int64_t window, const T* weights, const Image<T>& image, int from, T* sums) {
    constexpr int64_t L = kLanes<T>;
    if (from + W > V) {
        if constexpr (W > 1) multiply_all<T, V, W - 1>(map, window, weights, image, from, sums);
        return;
    }
    const int64_t columns = map.width + window - 1;
    Runs<T> runs{image.dense, window, window * map.channels, columns * map.channels, map.channels};
    for (int64_t step = 0; step < map.steps; ++step)
        for (int64_t y = 0; y < map.height; ++y) {
            const int64_t row = (step * map.height + y) * map.width;
            const T* base = image.base ? image.base + row * image.base_width + from * L : nullptr;
            runs.x = image.dense + (step * (map.height + window - 1) + y) * columns * map.channels;
            multiply_line<T, 8, W>(weights + from * L, V * L, runs, base, image.base_width, sums + (row * V + from) * L,
                                   map.width);
        }
    multiply_all<T, V, W>(map, window, weights, image, from + W, sums);
}

template <typename T, int V, Input input, Task task>
void run_input(const Map& map, const Layer<T>& layer, const Events<T>& events, const Image<T>& image, int64_t first,
               int64_t* counts, std::vector<T>& sums) {
    const auto run_products = [&](const T* products) {
        Image<T> summed = image;
        summed.base = products;
        summed.base_width = V * kLanes<T>;
        run_tile<T, V, task>(map, layer, NoInput<T, V>{}, summed, first, counts);
    };
    const int64_t rows = layer.window * layer.window * map.channels + (layer.window == 1);
    if constexpr (input == Input::kBits || input == Input::kResidual || input == Input::kSpikes)
        if (image.dense) {
            make_room(sums, map.rows() * V * kLanes<T>);
            // The positions of a linear layer are all side by side.
            const Map all = layer.window == 1 ? Map{1, 1, map.rows(), map.channels} : map;
            multiply_all<T, V>(all, layer.window, layer.weights + rows * first, image, 0, sums.data());
            return run_products(sums.data());
        }
    if constexpr (input == Input::kPatterns) {
        if constexpr (V * kLanes<T> <= kFewOutputs && (V & (V - 1)) == 0)
            run_patterns<T, V, task, kFewChannels / kPattern>(map, layer, image, counts);
    } else if constexpr (input == Input::kBits) {
        const BitInput<T, V> source{map, layer.weights + rows * first, image.bits, image.more, image.stride};
        run_tile<T, V, task>(map, layer, source, image, first, counts);
    } else if constexpr (input == Input::kProducts) {
        if constexpr (task != Task::kProducts)
            run_tile<T, V, task>(map, layer, NoInput<T, V>{}, image, first, counts);
    } else {
        const EventInput<T, V, input == Input::kResidual> source{map, layer.window, layer.weights + rows * first, events};
        if (by_words(map, layer.window, events)) return run_products(add_by_words(map, source, image, sums));
        run_tile<T, V, task>(map, layer, source, image, first, counts);
    }
}

template <typename T, int V, Input input, Task task>
void run_vectors(const Map& map, const Layer<T>& layer, const Events<T>& events, const Image<T>& image, int64_t first,
                 int64_t* counts, std::vector<T>& sums, int vectors) {
    if constexpr (V > 0) {
        if (vectors == V)
            run_input<T, V, input, task>(map, layer, events, image, first, counts, sums);
        else
            run_vectors<T, V - 1, input, task>(map, layer, events, image, first, counts, sums, vectors);
    }
}

// Tile by tile, so that a tile's weights stay in the cache for all images.
template <typename T, Input input, Task task>
void run_layer(const Map& map, const Layer<T>& layer, const std::vector<Events<T>>& events,
               const std::vector<Image<T>>& images, int64_t* counts, std::vector<T>& sums) {
    const int64_t tile = tile_of<T>(layer.outputs);
    for (int64_t first = 0; first < layer.outputs; first += tile) {
        const int vectors = static_cast<int>(std::min(tile, layer.outputs - first) / kLanes<T>);
        for (size_t i = 0; i < images.size(); ++i) {
            Image<T> image = images[i];
            if (image.base) image.base += first;
            run_vectors<T, static_cast<int>(kTile<T>) / kLanes<T>, input, task>(map, layer, events[i], image, first, counts,
                                                                           sums, vectors);
        }
    }
}

template <typename T, Task task>
void run_task(const Map& map, const Layer<T>& layer, const std::vector<Events<T>>& events,
              const std::vector<Image<T>>& images, int64_t* counts, std::vector<T>& sums, Input input) {
    if (input == Input::kSpikes) run_layer<T, Input::kSpikes, task>(map, layer, events, images, counts, sums);
    if (input == Input::kResidual) run_layer<T, Input::kResidual, task>(map, layer, events, images, counts, sums);
    if (input == Input::kPatterns) run_layer<T, Input::kPatterns, task>(map, layer, events, images, counts, sums);
    if (input == Input::kProducts) run_layer<T, Input::kProducts, task>(map, layer, events, images, counts, sums);
    if (input == Input::kBits) run_layer<T, Input::kBits, task>(map, layer, events, images, counts, sums);
}

// ------------------------------------------------------------------------------------------- attention

// What the attention of one image needs beside its input and output.
template <typename T> struct Attention {
    std::vector<T> products, membranes;  // k^T v of a step, [channels, a head's channels]; [tokens, heads, the same]
    std::vector<int64_t> queries, keys;  // spikes of each channel
};

// Adds one where a bit is set.
template <typename T> inline void add_bits(T* x, uint64_t bits, int64_t length) {
    constexpr int L = kLanes<T>;
    for (int64_t i = 0; i < length; i += L, bits = L < 64 ? bits >> L : 0) {
#ifdef __AVX512F__
        if constexpr (sizeof(T) == 4) {
            const __m512 before = _mm512_loadu_ps(x + i);
            _mm512_storeu_ps(x + i, _mm512_mask_add_ps(before, static_cast<__mmask16>(bits), before, _mm512_set1_ps(1)));
            continue;
        }
#endif
        for (int j = 0; j < L; ++j) x[i + j] += static_cast<T>(bits >> j & 1);
    }
}

// One head of one token: sums the products of its queries' spikes, and fires. Up to V vectors of the head's channels
// from `from` on. Returns who fired.
template <typename T, int V>
inline uint64_t attend_head(const T* products, int64_t padded, const uint64_t* row, int64_t offset, int64_t size,
                            T scale, const Neuron<T>& neuron, T* membranes) {
    constexpr int L = kLanes<T>;
    Vector<T> y[V] = {};
    for (int64_t first = 0; first < size; first += kWord)
        for (uint64_t bits = part_word(row, offset, size, first); bits; bits &= bits - 1) {
            const T* product = products + (first + __builtin_ctzll(bits)) * padded;
            for (int j = 0; j < V; ++j) y[j] += load(product + j * L);
        }
    uint64_t fired = 0;
    for (int j = 0; j < V; ++j) {
        Vector<T> v = load(membranes + j * L);
        fired |= neuron.fire_exactly(v, y[j] * scale) << (j * L);
        store(membranes + j * L, v);
    }
    return fired;
}

// The same for at most 64 channels, which are one word: rows of k^T v as wide as all heads, zero outside their own.
template <typename T, int V>
void attend_word(const Map& map, int64_t heads, const uint64_t* q_k_v, int64_t stride, T scale,
                 const Neuron<T> neuron, uint64_t* spikes, int64_t* counts, Attention<T>& scratch) {
    constexpr int L = kLanes<T>, kWidth = V * L;
    const int64_t tokens = map.positions(), channels = map.channels, size = channels / heads;
    uint64_t head_of[kWord];
    for (int64_t c = 0; c < channels; ++c)
        head_of[c] = (size < kWord ? (1ull << size) - 1 : ~0ull) << (c / size * size);
    scratch.membranes.assign(tokens * kWidth, T(0));
    for (int64_t step = 0; step < map.steps; ++step) {
        const uint64_t* rows = q_k_v + step * tokens * stride;
        uint64_t* out = spikes + step * tokens;
        // Behind the products of the channels a row of zeros, which the queries are filled up with.
        scratch.products.assign((channels + 1) * kWidth, T(0));
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
            Vector<T> y[V] = {};
            for (uint64_t q = part_word(rows + token * stride, 0, channels, 0); q;)
                for (int i = 0; i < 4; ++i, q &= q - 1) {  // four at a time: how often is easier to foresee
                    const int64_t c = q ? __builtin_ctzll(q) : channels;
                    ++queries[c];
                    for (int j = 0; j < V; ++j) y[j] += load(&scratch.products[c * kWidth + j * L]);
                }
            uint64_t fired = 0;
            for (int j = 0; j < V; ++j) {
                T* membranes = &scratch.membranes[token * kWidth + j * L];
                Vector<T> v = load(membranes);
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

template <typename T, int V, typename... Arguments>
bool attend_narrow(const Map& map, Arguments&&... arguments) {
    if constexpr (V > 0) {
        if ((map.channels + kLanes<T> - 1) / kLanes<T> != V) return attend_narrow<T, V - 1>(map, arguments...);
        attend_word<T, V>(map, arguments...);
        return true;
    }
    return false;
}

// scale (q k^T) v as q (k^T v) for each head and step: a sum of integers, exact in any order.
// counts, [5, steps]: spikes of q, k and v, pairs of spikes of q and k, spikes that leave.
template <typename T>
void attend(const Map& map, int64_t heads, const uint64_t* q_k_v, int64_t stride, T scale, const Neuron<T> neuron,
            uint64_t* spikes, int64_t* counts, Attention<T>& scratch) {
    constexpr int L = kLanes<T>;
    if (attend_narrow<T, kWord / L>(map, heads, q_k_v, stride, scale, neuron, spikes, counts, scratch)) return;
    const int64_t tokens = map.positions(), channels = map.channels, size = channels / heads, words = map.words();
    const int64_t padded = (size + L - 1) / L * L;  // a head's channels in whole vectors
    scratch.membranes.assign(tokens * heads * padded, T(0));
    for (int64_t step = 0; step < map.steps; ++step) {
        const int64_t start = step * tokens;
        scratch.products.assign(channels * padded, T(0));
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
                    const T* products = &scratch.products[head * size * padded + i];
                    T* membranes = &scratch.membranes[(token * heads + head) * padded + i];
                    const int64_t left = (padded - i) / L, offset = head * size, c = offset + i, shift = c % kWord;
                    const int64_t vectors = left >= 4 && 4 * L <= kWord ? 4 : left >= 2 ? 2 : 1;
                    const uint64_t fired =
                        vectors == 4 ? attend_head<T, 4>(products, padded, row, offset, size, scale, neuron, membranes)
                        : vectors == 2 ? attend_head<T, 2>(products, padded, row, offset, size, scale, neuron, membranes)
                                       : attend_head<T, 1>(products, padded, row, offset, size, scale, neuron, membranes);
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

// ------------------------------------------------------------------------------------------- the rest

// Spikes at each step, plain and by windows, [2, steps].
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

// 3x3 pooling with stride 2 and padding 1: a pixel fires if one of its window does. counts: of the pooled spikes.
void pool(const Map& map, const uint64_t* spikes, uint64_t* pooled, int64_t* counts) {
    const Map to{map.steps, (map.height + 1) / 2, (map.width + 1) / 2, map.channels};
    const int64_t words = map.words(), line = to.width * words;
    std::vector<uint64_t> across(map.height * line);  // of a step, pooled along the rows
    for (int64_t step = 0; step < map.steps; ++step) {
        for (int64_t i = 0; i < map.height; ++i)
            for (int64_t x = 0; x < to.width; ++x) {
                const uint64_t* row = spikes + (step * map.height + i) * map.width * words;
                const int64_t left = std::max<int64_t>(2 * x - 1, 0), right = std::min(2 * x + 1, map.width - 1);
                for (int64_t w = 0; w < words; ++w)
                    across[i * line + x * words + w] =
                        row[left * words + w] | row[2 * x * words + w] | row[right * words + w];
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

// sum = x + spikes; x may be null. counts: of sum and origin together at each step, twice; origin may be null.
void add(const Map& map, const uint8_t* x, const uint64_t* spikes, const uint8_t* origin, uint8_t* sum,
         int64_t* counts) {
    const int64_t words = map.words();
    for (int64_t row = 0; row < map.rows(); ++row) {
        int64_t total = 0;
        for (int64_t first = 0; first < map.channels; first += kWord) {
            const int64_t length = std::min(kWord, map.channels - first), at = row * map.channels + first;
            const uint64_t bits = spikes[row * words + first / kWord];
#ifdef __AVX512BW__
            const __mmask64 lanes = length == kWord ? ~0ull : (1ull << length) - 1;
            const __m512i none = _mm512_setzero_si512();
            const __m512i before = x ? _mm512_maskz_loadu_epi8(lanes, x + at) : none;
            const __m512i after = _mm512_mask_add_epi8(before, bits, before, _mm512_set1_epi8(1));
            const __m512i start = origin ? _mm512_maskz_loadu_epi8(lanes, origin + at) : none;
            _mm512_mask_storeu_epi8(sum + at, lanes, after);
            total += _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_sad_epu8(after, none), _mm512_sad_epu8(start, none)));
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

// Sums over the tokens of x and origin together, [steps, channels]; origin may be null.
void sum_tokens(const Map& map, const uint8_t* x, const uint8_t* origin, int32_t* sums) {
    std::fill(sums, sums + map.steps * map.channels, 0);
    for (int64_t row = 0; row < map.rows(); ++row) {
        int32_t* out = sums + row / map.positions() * map.channels;
        for (int64_t c = 0; c < map.channels; ++c) out[c] += x[row * map.channels + c];
        for (int64_t c = 0; origin && c < map.channels; ++c) out[c] += origin[row * map.channels + c];
    }
}

// ------------------------------------------------------------------------------------------- programs

// Where one image's part of a state lies: in the thread's memory, or in the caller's.
struct Place {
    int64_t address;  // in the thread's memory an offset in bytes for each image of a piece, else an address; 0: nowhere
    int64_t bytes;    // of one image
    int64_t mine;     // whether it is in the thread's memory
};

enum Kind : int64_t { kLayer, kPool, kAdd, kAttend, kTokens, kCount };

struct Operation {
    int64_t kind, task, input, hard, decay_input, repeated;
    int64_t steps, height, width, channels;  // of what is read
    int64_t window, outputs, base_width, heads, stride;
    int64_t counts;  // address of the counts
    double tau, v_threshold, factor;
    int64_t weights, scale, shift;  // addresses
    Place read, added, base, written;
};

template <typename T> struct Scratch {
    std::vector<Events<T>> events;
    std::vector<std::vector<T>> dense;
    std::vector<Image<T>> images;
    Attention<T> attention;
    std::vector<T> sums;
    std::vector<int64_t> counts;
};

// A layer's input as numbers, if so much of it is not 0 that adding up events would take longer; else null:
// [steps, height, width, channels], with a border of zeros as wide as the window reaches.
// Decided by every fourth row of the input, and by nothing else, as what an output is must be.
template <typename T>
const T* dense_input(const Map& map, int64_t window, const uint8_t* residual, const uint64_t* bits, const uint64_t* more,
                     int64_t stride, std::vector<T>& numbers) {
    constexpr int64_t kEvery = 4;
    const int64_t channels = map.channels, rows = (map.rows() + kEvery - 1) / kEvery;
    int64_t events = 0;
    for (int64_t row = 0; row < map.rows(); row += kEvery)
        for (int64_t first = 0; first < channels; first += kWord)
            if (residual) {
                events += __builtin_popcountll(nonzero(residual + row * channels + first, channels - first));
            } else {
                events += __builtin_popcountll(part_word(bits + row * stride, 0, channels, first));
                if (more) events += __builtin_popcountll(part_word(more + row * stride, 0, channels, first));
            }
    const double most = window > 1 ? kDenseWindow : channels <= kWord ? kDenseWord : kDense;
    if (events < most * rows * channels) return nullptr;
    const int64_t border = window / 2, height = map.height + 2 * border, width = map.width + 2 * border;
    const int64_t length = map.steps * height * width * channels;
    make_room(numbers, length);
    if (border) std::fill_n(numbers.begin(), length, T(0));
    for (int64_t row = 0; row < map.rows(); ++row) {
        const int64_t line = row / map.width, step = line / map.height, y = line % map.height, x = row % map.width;
        T* out = &numbers[((step * height + y + border) * width + x + border) * channels];
        for (int64_t c = 0; c < channels; ++c) {
            const auto fired = [&](const uint64_t* x) { return x ? x[row * stride + c / kWord] >> (c % kWord) & 1 : 0; };
            out[c] = residual ? T(residual[row * channels + c]) : T(fired(bits) + fired(more));
        }
    }
    return numbers.data();
}

// One piece: images first..first + number, whose own states begin at `memory`; room is for `capacity` images.
struct Piece {
    char* memory;
    int64_t first, number, capacity;

    template <typename P> P* at(const Place& place, int64_t i) const {
        if (place.bytes == 0) return nullptr;
        char* start = place.mine ? memory + place.address * capacity : reinterpret_cast<char*>(place.address);
        return reinterpret_cast<P*>(start + (place.mine ? i : first + i) * place.bytes);
    }
};

template <typename T>
void run_operation(const Operation& op, const Piece& piece, Scratch<T>& scratch) {
    const Map map{op.steps, op.height, op.width, op.channels};
    const Neuron<T> neuron(op.tau, op.v_threshold, op.hard != 0, op.decay_input != 0);
    const T *scale = reinterpret_cast<const T*>(op.scale), *shift = reinterpret_cast<const T*>(op.shift);
    scratch.counts.assign(kCounts * op.steps, 0);
    int64_t* counts = scratch.counts.data();
    if (op.kind == kLayer) {
        const Layer<T> layer{reinterpret_cast<const T*>(op.weights), op.window, op.outputs, scale, shift, neuron};
        const Input input = static_cast<Input>(op.input);
        if (scratch.events.size() < static_cast<size_t>(piece.number)) scratch.events.resize(piece.number);
        scratch.dense.resize(scratch.events.size());
        scratch.images.clear();
        for (int64_t i = 0; i < piece.number; ++i) {
            const uint64_t* bits = input == Input::kResidual ? nullptr : piece.at<uint64_t>(op.read, i);
            const uint8_t* residual = input == Input::kResidual ? piece.at<uint8_t>(op.read, i) : nullptr;
            const uint64_t* more = piece.at<uint64_t>(op.added, i);
            const bool listed = input == Input::kSpikes || input == Input::kResidual;
            const T* dense = listed || input == Input::kBits
                                 ? dense_input<T>(map, op.window, residual, bits, more, op.stride, scratch.dense[i])
                                 : nullptr;
            if (listed && !dense) find_events(map, bits, op.stride, residual, scratch.events[i]);
            scratch.images.push_back({bits, more, op.stride, piece.at<T>(op.base, i), op.base_width, op.repeated != 0,
                                      piece.at<uint64_t>(op.written, i), piece.at<double>(op.written, i),
                                      piece.at<T>(op.written, i), dense});
        }
        const Task task = static_cast<Task>(op.task);
        if (task == Task::kFire) run_task<T, Task::kFire>(map, layer, scratch.events, scratch.images, counts, scratch.sums, input);
        if (task == Task::kMoments) run_task<T, Task::kMoments>(map, layer, scratch.events, scratch.images, counts, scratch.sums, input);
        if (task == Task::kProducts) run_task<T, Task::kProducts>(map, layer, scratch.events, scratch.images, counts, scratch.sums, input);
    }
    for (int64_t i = 0; op.kind != kLayer && i < piece.number; ++i) {
        const uint64_t* bits = piece.at<uint64_t>(op.read, i);
        uint64_t* spikes = piece.at<uint64_t>(op.written, i);
        if (op.kind == kPool) pool(map, bits, spikes, counts);
        if (op.kind == kAdd)
            add(map, piece.at<uint8_t>(op.added, i), bits, piece.at<uint8_t>(op.base, i), piece.at<uint8_t>(op.written, i),
                counts);
        if (op.kind == kAttend)
            attend<T>(map, op.heads, bits, op.stride, static_cast<T>(op.factor), neuron, spikes, counts, scratch.attention);
        if (op.kind == kTokens)
            sum_tokens(map, piece.at<uint8_t>(op.read, i), piece.at<uint8_t>(op.base, i), piece.at<int32_t>(op.written, i));
        if (op.kind == kCount) count(map, bits, op.stride, counts);
    }
    int64_t* totals = reinterpret_cast<int64_t*>(op.counts);
    if (totals)
        for (size_t i = 0; i < scratch.counts.size(); ++i)
#pragma omp atomic
            totals[i] += counts[i];
}

// Runs a program on all images, `capacity` at a time; bytes: of the states of one image in the thread's memory.
template <typename T>
void run_program(const Operation* program, int64_t length, int64_t images, int64_t capacity, int64_t bytes,
                 int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<char> memory(bytes * capacity + kVectorBytes);
        const int64_t start = reinterpret_cast<int64_t>(memory.data());
        char* aligned = memory.data() + (kVectorBytes - start % kVectorBytes) % kVectorBytes;
        Scratch<T> scratch;
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < images; first += capacity) {
            const Piece piece{aligned, first, std::min(capacity, images - first), capacity};
            for (int64_t i = 0; i < length; ++i) run_operation<T>(program[i], piece, scratch);
        }
    }
}

}  // namespace

extern "C" void run_float32(const Operation* program, int64_t length, int64_t images, int64_t capacity, int64_t bytes,
                            int threads) {
    run_program<float>(program, length, images, capacity, bytes, threads);
}
extern "C" void run_float64(const Operation* program, int64_t length, int64_t images, int64_t capacity, int64_t bytes,
                            int threads) {
    run_program<double>(program, length, images, capacity, bytes, threads);
}
