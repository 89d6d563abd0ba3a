// Operations between layers, for one image at a time.
#pragma once

#include "bits.h"
#include "neuron.h"

// Working memory of the attention.
struct Attention {
    std::vector<Number> products;        // k^T v of a step, [channels, a head's channels]
    std::vector<Number> membranes;       // [tokens, heads, a head's channels]
    std::vector<int64_t> queries, keys;  // spikes of each channel
};

// scale (q k^T) v as q (k^T v) for each head and step: a sum of integers, exact in any order.
// counts, [5, steps]: spikes of q, k and v, pairs of spikes of q and k, output spikes.
void attend(const Map& map, int64_t heads, const uint64_t* q_k_v, int64_t stride, Number scale, const Neuron neuron,
            uint64_t* spikes, int64_t* counts, Attention& scratch);

// One neuron per channel reads the sum of k and v over the tokens; where it fires, q passes.
// counts, [6, steps]: spikes of q, k and v, of k and v together, of the neurons, and of the output.
void mask_by_channel(const Map& map, const uint64_t* q_k_v, int64_t stride, const Neuron neuron, uint64_t* spikes,
                     int64_t* counts);

// One neuron per token and head reads the sum of q over the head's channels; where it fires, k passes.
// counts, [4, steps]: spikes of q and k, of the neurons, and of the output.
void mask_by_token(const Map& map, int64_t heads, const uint64_t* q_k, int64_t stride, const Neuron neuron,
                   uint64_t* spikes, int64_t* counts);

// sum = x + y, of currents; `length` in whole vectors.
void add_currents(int64_t length, const Number* x, const Number* y, Number* sum);

// 3x3 pooling with stride 2 and padding 1 of currents, in rows of `width` channels.
void pool_currents(const Map& map, const Number* currents, int64_t width, Number* pooled);

// Every second pixel in both directions, the first one included, of numbers in rows of `width`.
void sample_currents(const Map& map, const Number* currents, int64_t width, Number* sampled);

// Products of a convolution of each channel on its own, [steps, positions, outputs], of spikes in rows of `stride`
// words. weights: [window * window, outputs], in whole vectors.
void convolve_channels(const Map& map, int64_t window, const uint64_t* spikes, int64_t stride, const Number* weights,
                       int64_t outputs, Number* products);

// Sums over the tokens of currents in rows of `width` channels, [steps, channels].
void sum_tokens_of_currents(const Map& map, const Number* currents, int64_t width, Number* sums);

// Spikes at each step, plain and by windows, [2, steps].
void count(const Map& map, const uint64_t* spikes, int64_t stride, int64_t* counts);

// Spikes at each step, each times the windows that contain it, whose centres are `every` pixels apart; [steps].
void count_windows(const Map& map, int64_t window, int64_t every, const uint64_t* spikes, int64_t stride,
                   int64_t* counts);

// Every second pixel in both directions, the first one included. stride: words from one pixel of `spikes` to the next.
// counts: of the sampled spikes.
void sample(const Map& map, const uint64_t* spikes, int64_t stride, uint64_t* sampled, int64_t* counts);

// 3x3 pooling with stride 2 and padding 1: a pixel fires if one of its window does. stride: words from one pixel of
// `spikes` to the next. counts: of the pooled spikes.
void pool(const Map& map, const uint64_t* spikes, int64_t stride, uint64_t* pooled, int64_t* counts);

// sum = x + spikes, whose rows are `stride` words apart; x may be null. counts: of sum and origin together at each step,
// twice; origin may be null.
void add(const Map& map, const uint8_t* x, const uint64_t* spikes, int64_t stride, const uint8_t* origin, uint8_t* sum,
         int64_t* counts);

// Sums over the tokens of x and origin together, [steps, channels]; origin may be null.
void sum_tokens(const Map& map, const uint8_t* x, const uint8_t* origin, int32_t* sums);
