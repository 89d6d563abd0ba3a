// Currents from a list of events, times the events' values if kValued. Included by one file for each case.
#pragma once

#include <utility>

#include "sums.h"

namespace {

template <int V, bool kValued> struct Rows {
    const int32_t* channels;
    const Number* values;

    explicit Rows(const Events& events) : channels(events.channels.data()), values(events.values.data()) {}

    void add_run(int32_t e, int32_t to, const Number* origin, Sums<V>& sums) const {
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

    void add_row(const Number* origin, int32_t e, Vector (&sum)[V]) const {
        const Number* row = origin + channels[e] * int64_t{V * kLanes};
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) {
            const Vector part = load(row + j * kLanes);
            sum[j] += kValued ? part * values[e] : part;
        }
    }
};

// The weights of channel 0 of column 0, in line dy of the window around column x.
template <int V> inline const Number* origin_of(const Tile& tile, int64_t dy, int64_t x) {
    const int64_t reach = tile.window / 2;
    return tile.weights + ((dy + reach) * tile.window + reach - x) * tile.map.channels * (V * kLanes);
}

template <int V, bool kValued>
void add(const Tile& tile, int64_t from, int64_t to, Number* out, Strides strides) {
    const Map map = tile.map;
    const Image image = tile.image;
    const Rows<V, kValued> rows(tile.events);
    const int32_t* all_starts = tile.events.starts.data();
    const int64_t reach = tile.window / 2;
    int64_t y = from / map.width, x = from % map.width;
    for (int64_t position = from; position < to; ++position, map.next(y, x), out += strides.position) {
        const int64_t left = std::max<int64_t>(x - reach, 0), right = std::min(x + reach, map.width - 1);
        for (int64_t step = 0; step < map.steps; ++step) {
            Sums<V> sums(image.base_of(map, step, position));
            for (int64_t dy = -reach; dy <= reach; ++dy) {
                if (y + dy < 0 || y + dy >= map.height) continue;
                const int32_t* starts = all_starts + (step * map.height + y + dy) * map.width;
                rows.add_run(starts[left], starts[right + 1], origin_of<V>(tile, dy, x), sums);
            }
            sums.write(out + step * strides.step);
        }
    }
}

template <int V, bool kValued> void add_by_words(const Tile& tile, Number* all) {
    const Map map = tile.map;
    const Rows<V, kValued> rows(tile.events);
    const int64_t reach = tile.window / 2, words = map.words();
    for (int64_t row = 0; row < map.rows(); ++row) {
        const Number* base = tile.image.base_of(map, row / map.positions(), row % map.positions());
        for (int j = 0; j < V * kLanes; ++j) all[row * V * kLanes + j] = base ? base[j] : Number(0);
    }
    for (int64_t dy = -reach; dy <= reach; ++dy)
        for (int64_t dx = -reach; dx <= reach; ++dx)
            for (int64_t word = 0; word < words; ++word)
                for (int64_t step = 0; step < map.steps; ++step)
                    for (int64_t y = std::max<int64_t>(0, -dy); y < map.height - std::max<int64_t>(0, dy); ++y)
                        for (int64_t x = std::max<int64_t>(0, -dx); x < map.width - std::max<int64_t>(0, dx); ++x) {
                            const int64_t line = (step * map.height + y) * map.width;
                            const int64_t read = line + dy * map.width + x + dx;
                            const int32_t* starts = &tile.events.word_starts[read * words + word];
                            Number* out = all + (line + x) * V * kLanes;
                            Sums<V> sums(out);
                            rows.add_run(starts[0], starts[1], origin_of<V>(tile, dy, x), sums);
                            sums.write(out);
                        }
}

template <bool kValued, int... V> Add add_of(int vectors, std::integer_sequence<int, V...>) {
    static constexpr Add functions[] = {add<V + 1, kValued>...};
    return functions[vectors - 1];
}
template <bool kValued, int... V> AddAll add_by_words_of(int vectors, std::integer_sequence<int, V...>) {
    static constexpr AddAll functions[] = {add_by_words<V + 1, kValued>...};
    return functions[vectors - 1];
}

}  // namespace
