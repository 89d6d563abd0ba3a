// Products with all inputs, where few of them are 0.
#include "sums.h"

namespace {

// Shares of non-zero inputs above which following events takes longer than reading all inputs
// (benchmarks/break_even.py); a linear layer with one word of channels has its weights at hand for events, too.
constexpr double kDense = 0.5, kDenseWord = 0.85, kDenseWindow = 0.65;

// What neighbouring positions read of a dense input: one run for each line of the window, one after the other; the
// runs of the next position begin `channels` further on.
struct Runs {
    const Number* x;
    int64_t number, length, line, channels;
};

// Products of R positions with W vectors of outputs, to be written with a stride.
template <int R, int W>
inline void multiply(const Number* weights, int64_t stride, const Runs& runs, const Number* base, int64_t base_width,
                     Number* out) {
    constexpr int L = kLanes;
    Vector sums[R][W];
    for (int r = 0; r < R; ++r)
        for (int j = 0; j < W; ++j) sums[r][j] = base ? load(base + r * base_width + j * L) : Vector{};
    for (int64_t run = 0; run < runs.number; ++run) {
        const Number* x = runs.x + run * runs.line;
        for (int64_t i = 0; i < runs.length; ++i, weights += stride)
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
                for (int j = 0; j < W; ++j) sums[r][j] += load(weights + j * L) * x[r * runs.channels + i];
    }
    for (int r = 0; r < R; ++r)
        for (int j = 0; j < W; ++j) store(out + r * stride + j * L, sums[r][j]);
}

// Products of the positions x..width of a line, R at a time, which share loads; the remainder with fewer.
template <int R, int W>
void multiply_line(const Number* weights, int64_t stride, Runs runs, const Number* base, int64_t base_width,
                   Number* out, int64_t width) {
    for (; width >= R; width -= R) {
        multiply<R, W>(weights, stride, runs, base, base_width, out);
        runs.x += R * runs.channels;
        if (base) base += R * base_width;
        out += R * stride;
    }
    if constexpr (R > 1)
        if (width) multiply_line<R / 2, W>(weights, stride, runs, base, base_width, out, width);
}

template <int W> void multiply_vectors(const Tile& tile, int64_t from, int64_t width, Number* out) {
    const Map map = tile.map;
    const Image image = tile.image;
    const int64_t window = tile.window, columns = map.width + window - 1;
    Runs runs{image.dense, window, window * map.channels, columns * map.channels, map.channels};
    for (int64_t step = 0; step < map.steps; ++step)
        for (int64_t y = 0; y < map.height; ++y) {
            const int64_t row = (step * map.height + y) * map.width;
            const Number* base = image.base ? image.base + row * image.base_width + from : nullptr;
            runs.x = image.dense + (step * (map.height + window - 1) + y) * columns * map.channels;
            multiply_line<8, W>(tile.weights + from, width, runs, base, image.base_width, out + row * width + from,
                                map.width);
        }
}

}  // namespace

void multiply_all(const Tile& tile, int vectors, Number* out) {
    for (int from = 0; from < vectors;) {
        const int together = std::min(vectors - from, 3);
        const auto multiply = together == 3   ? multiply_vectors<3>
                              : together == 2 ? multiply_vectors<2>
                                              : multiply_vectors<1>;
        multiply(tile, from * kLanes, vectors * kLanes, out);
        from += together;
    }
}

// A layer's input as numbers, if so much of it is non-zero that adding up events would take longer; else null:
// [steps, height, width, channels], with a border of zeros as wide as the window reaches.
// Every fourth of the deciding rows decides, and nothing else, since outputs must depend on nothing else.
const Number* dense_input(const Map& map, int64_t window, const uint8_t* residual, const uint64_t* bits,
                          const uint64_t* more, int64_t stride, int64_t deciding, std::vector<Number>& numbers) {
    constexpr int64_t kEvery = 4;
    const int64_t channels = map.channels, rows = (deciding + kEvery - 1) / kEvery;
    int64_t events = 0;
    for (int64_t row = 0; row < deciding; row += kEvery)
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
    if (border) std::fill_n(numbers.begin(), length, Number(0));
    for (int64_t row = 0; row < map.rows(); ++row) {
        const int64_t line = row / map.width, step = line / map.height, y = line % map.height, x = row % map.width;
        Number* out = &numbers[((step * height + y + border) * width + x + border) * channels];
        for (int64_t c = 0; c < channels; ++c) {
            const auto fired = [&](const uint64_t* x) {
                return x ? x[row * stride + c / kWord] >> (c % kWord) & 1 : 0;
            };
            out[c] = residual ? Number(residual[row * channels + c]) : Number(fired(bits) + fired(more));
        }
    }
    return numbers.data();
}
