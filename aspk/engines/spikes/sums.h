// Adding up a tile's currents. Every output is the sum of its own weight rows in the order of the input channels,
// whatever else is computed beside it.
#pragma once

#include "layer.h"

struct Tile {
    const Map& map;
    int64_t window;
    const Number* weights;  // [rows, outputs of the tile]
    const Image& image;
    const Events& events;
};

// Numbers from one position's currents to those of the next, and from one step to the next: 0 if they are the same.
struct Strides {
    int64_t position, step;
};

// Writes the currents of the positions from..to at all steps.
using Add = void (*)(const Tile& tile, int64_t from, int64_t to, Number* out, Strides strides);
// Writes those of all positions, [rows, outputs of the tile].
using AddAll = void (*)(const Tile& tile, Number* out);

// The functions for a tile of this many vectors of outputs.
Add event_sums(int vectors);
Add residual_sums(int vectors);
Add bit_sums(int vectors);
Add pattern_sums(int vectors, int64_t channels);
// Word by word of the input channels, so that a word's weights stay in the smallest cache for all rows.
AddAll event_sums_by_words(int vectors);
AddAll residual_sums_by_words(int vectors);

// A layer's input as numbers, if so much of it is non-zero that adding up events would take longer; else null.
const Number* dense_input(const Map& map, int64_t window, const uint8_t* residual, const uint64_t* bits,
                          const uint64_t* more, int64_t stride, int64_t deciding, std::vector<Number>& numbers);
// Products of an image's dense input with `vectors` vectors of outputs, [rows, outputs of the tile].
void multiply_all(const Tile& tile, int vectors, Number* out);

// Accumulators of V vectors for weight rows: every second row goes to `odd`, which halves the latency of the sums.
template <int V> struct Sums {
    Vector even[V], odd[V];

    explicit Sums(const Number* base) {
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) {
            even[j] = base ? load(base + j * kLanes) : Vector{};
            odd[j] = Vector{};
        }
    }
    void write(Number* out) const {
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) store(out + j * kLanes, even[j] + odd[j]);
    }
};
