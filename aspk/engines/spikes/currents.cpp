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

void sum_tokens_of_currents(const Map& map, const Number* currents, int64_t width, Number* sums) {
    for (int64_t step = 0; step < map.steps; ++step, sums += map.channels)
        for (int64_t c = 0; c < map.channels; ++c) {
            double sum = 0;
            for (int64_t p = 0; p < map.positions(); ++p) sum += currents[(step * map.positions() + p) * width + c];
            sums[c] = static_cast<Number>(sum);
        }
}
