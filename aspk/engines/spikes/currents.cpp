// Operations between layers without neurons, on currents, [steps, positions, width] in whole vectors.
#include <algorithm>

#include "operations.h"
#include "vectors.h"

void add_currents(int64_t length, const Number* x, const Number* y, Number* sum) {
    for (int64_t i = 0; i < length; i += kLanes) store(sum + i, load(x + i) + load(y + i));
}

void pool_currents(const Map& map, const Number* currents, int64_t width, Number* pooled) {
    const Map to{map.steps, (map.height + 1) / 2, (map.width + 1) / 2, map.channels};
    for (int64_t step = 0; step < map.steps; ++step)
        for (int64_t y = 0; y < to.height; ++y)
            for (int64_t x = 0; x < to.width; ++x, pooled += width) {
                const int64_t above = std::max<int64_t>(2 * y - 1, 0), below = std::min(2 * y + 1, map.height - 1);
                const int64_t left = std::max<int64_t>(2 * x - 1, 0), right = std::min(2 * x + 1, map.width - 1);
                for (int64_t c = 0; c < width; c += kLanes) {
                    Vector most = load(currents + ((step * map.height + 2 * y) * map.width + 2 * x) * width + c);
                    for (int64_t i = above; i <= below; ++i)
                        for (int64_t j = left; j <= right; ++j) {
                            const Vector one = load(currents + ((step * map.height + i) * map.width + j) * width + c);
                            most = one > most ? one : most;
                        }
                    store(pooled + c, most);
                }
            }
}

void sample_currents(const Map& map, const Number* currents, int64_t width, Number* sampled) {
    for (int64_t step = 0; step < map.steps; ++step)
        for (int64_t y = 0; y < map.height; y += 2)
            for (int64_t x = 0; x < map.width; x += 2, sampled += width)
                std::copy_n(currents + ((step * map.height + y) * map.width + x) * width, width, sampled);
}

void convolve_channels(const Map& map, int64_t window, const uint64_t* spikes, int64_t stride, const Number* weights,
                       int64_t outputs, Number* products) {
    const int64_t reach = window / 2;
    for (int64_t step = 0; step < map.steps; ++step, spikes += map.positions() * stride)
        for (int64_t y = 0; y < map.height; ++y)
            for (int64_t x = 0; x < map.width; ++x, products += outputs) {
                const int64_t above = std::max<int64_t>(y - reach, 0), below = std::min(y + reach, map.height - 1);
                const int64_t left = std::max<int64_t>(x - reach, 0), right = std::min(x + reach, map.width - 1);
                for (int64_t c = 0; c < outputs; c += kLanes) {
                    Vector sum = {};
                    for (int64_t i = above; i <= below; ++i)
                        for (int64_t j = left; j <= right; ++j) {
                            const uint64_t bits = spikes[(i * map.width + j) * stride + c / kWord] >> (c % kWord);
                            const int64_t tap = (i - y + reach) * window + j - x + reach;
                            sum = add_where(bits, sum, load(weights + tap * outputs + c));
                        }
                    store(products + c, sum);
                }
            }
}

void sum_tokens_of_currents(const Map& map, const Number* currents, int64_t width, Number* sums) {
    for (int64_t step = 0; step < map.steps; ++step, sums += map.channels)
        for (int64_t c = 0; c < map.channels; ++c) {
            double sum = 0;
            for (int64_t p = 0; p < map.positions(); ++p) sum += currents[(step * map.positions() + p) * width + c];
            sums[c] = static_cast<Number>(sum);
        }
}
