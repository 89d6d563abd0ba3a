#include "layer.h"

#include <utility>

#include "sums.h"

namespace {

constexpr int64_t kSmallCache = 48 << 10;  // bytes of weights that fit a core's smallest cache
constexpr int64_t kManyEvents = 8;         // in a word of channels, on average
constexpr int64_t kSomeCurrents = 2048;    // that are added up before neurons fire from them

// Currents of a tile's outputs at neighbouring positions from..to.
struct Currents {
    const Number* at;
    Strides strides;
    int64_t from, to;
};

// N vectors of outputs, which are one word of spikes, fire. first: channel; words: this one at each row.
template <int N>
void fire_word(const Map& map, const Layer& layer, Currents currents, int64_t first, uint64_t* words,
               int64_t* counts) {
    const Neuron neuron = layer.neuron;
    const int64_t steps = map.steps, positions = map.positions(), width = words_of(layer.outputs);
    Vector scale[N], shift[N], keep[N];
    for (int j = 0; j < N; ++j) {
        scale[j] = load(layer.scale + first + j * kLanes);
        shift[j] = load(layer.shift + first + j * kLanes);
        keep[j] = layer.keep ? load(layer.keep + first + j * kLanes) : neuron.keep - Vector{};
    }
    int64_t y = currents.from / map.width, x = currents.from % map.width;
    for (int64_t position = currents.from; position < currents.to; ++position, map.next(y, x)) {
        const int64_t windows = map.windows(y, x);
        Vector v[N] = {};
        for (int64_t step = 0; step < steps; ++step) {
            const Number* current = currents.at + step * currents.strides.step;
            uint64_t fired = 0;
#pragma GCC unroll 8
            for (int j = 0; j < N; ++j)
                fired |= neuron.fire(v[j], keep[j], load(current + j * kLanes) * scale[j] + shift[j]) << (j * kLanes);
            words[(step * positions + position) * width] = fired;
            const int64_t spikes = __builtin_popcountll(fired);
            counts[step] += spikes;
            counts[steps + step] += spikes * windows;
        }
        currents.at += currents.strides.position;
    }
}

constexpr int kWordVectors = kWord / kLanes;
using Fire = decltype(&fire_word<1>);
template <int... N> Fire fire_of(int vectors, std::integer_sequence<int, N...>) {
    static constexpr Fire functions[] = {fire_word<N + 1>...};
    return functions[vectors - 1];
}

// Sums of each position's currents and of their squares over its steps, added up.
void add_moments(const Map& map, const Layer& layer, Currents currents, int vectors, double* sums) {
    for (int64_t position = currents.from; position < currents.to; ++position) {
        for (int j = 0; j < vectors; ++j) {
            Vector sum = {}, square = {};
            for (int64_t step = 0; step < map.steps; ++step) {
                const Vector current = load(currents.at + step * currents.strides.step + j * kLanes);
                sum += current;
                square += current * current;
            }
            for (int i = 0; i < kLanes; ++i) {
                sums[j * kLanes + i] += sum[i];
                sums[layer.outputs + j * kLanes + i] += square[i];
            }
        }
        currents.at += currents.strides.position;
    }
}

void copy_products(const Map& map, const Layer& layer, Currents currents, int vectors, Number* products) {
    for (int64_t position = currents.from; position < currents.to; ++position, currents.at += currents.strides.position)
        for (int64_t step = 0; step < map.steps; ++step)
            std::copy_n(currents.at + step * currents.strides.step, vectors * kLanes,
                        products + (step * map.positions() + position) * layer.outputs);
}

// Scaled and shifted products, where no neurons follow.
void write_currents(const Map& map, const Layer& layer, Currents currents, int64_t first, int vectors,
                    Number* written) {
    for (int64_t position = currents.from; position < currents.to; ++position, currents.at += currents.strides.position)
        for (int64_t step = 0; step < map.steps; ++step) {
            Number* out = written + (step * map.positions() + position) * layer.outputs + first;
            for (int j = 0; j < vectors; ++j) {
                const int64_t channel = first + j * kLanes;
                const Vector product = load(currents.at + step * currents.strides.step + j * kLanes);
                store(out + j * kLanes, product * load(layer.scale + channel) + load(layer.shift + channel));
            }
        }
}

void use(const Map& map, const Layer& layer, const Image& image, Currents currents, int64_t first, int vectors,
         Task task, int64_t* counts) {
    if (task == Task::kMoments) add_moments(map, layer, currents, vectors, image.sums + first);
    if (task == Task::kProducts) copy_products(map, layer, currents, vectors, image.products + first);
    if (task == Task::kCurrents) write_currents(map, layer, currents, first, vectors, image.products);
    if (task != Task::kFire) return;
    const Number* start = currents.at;
    for (int from = 0; from < vectors; from += kWordVectors) {
        const int together = std::min(vectors - from, kWordVectors);
        const Fire fire = fire_of(together, std::make_integer_sequence<int, kWordVectors>());
        const int64_t channel = first + from * kLanes;
        currents.at = start + from * kLanes;
        fire(map, layer, currents, channel, image.spikes + channel / kWord, counts);
    }
}

// Room for vectors that do not cross a cache line.
Number* aligned(std::vector<Number>& room, int64_t length) {
    make_room(room, length + kLanes);
    const auto start = reinterpret_cast<uintptr_t>(room.data());
    return room.data() + (kVectorBytes - start % kVectorBytes) % kVectorBytes / sizeof(Number);
}

// One tile of outputs of one image, from `first` on. add: null if the currents are the image's base.
void run_tile(const Tile& tile, const Layer& layer, int64_t first, int vectors, Add add, Task task, int64_t* counts,
              std::vector<Number>& room) {
    const Map& map = tile.map;
    const Image& image = tile.image;
    const int64_t positions = map.positions(), width = vectors * kLanes;
    if (!add) {
        const Strides strides{image.base_width, image.repeated ? 0 : positions * image.base_width};
        return use(map, layer, image, {image.base, strides, 0, positions}, first, vectors, task, counts);
    }
    if (task == Task::kProducts)
        return add(tile, 0, positions, image.products + first, {layer.outputs, positions * layer.outputs});
    const Strides strides{map.steps * width, width};
    const int64_t together = std::max<int64_t>(1, kSomeCurrents / strides.position);
    Number* sums = aligned(room, together * strides.position);
    for (int64_t from = 0; from < positions; from += together) {
        const int64_t to = std::min(from + together, positions);
        add(tile, from, to, sums, strides);
        use(map, layer, image, {sums, strides, from, to}, first, vectors, task, counts);
    }
}

// Whether a tile's weights are too large for the smallest cache, and an image has enough events to make going through
// them word by word worthwhile. Does not look at other outputs, on which no output may depend.
bool by_words(const Map& map, int64_t window, const Events& events, int64_t rows) {
    const int64_t bytes = window * window * map.channels * 2 * kWord * sizeof(Number);
    return bytes > kSmallCache && events.starts[rows] >= kManyEvents * rows * map.words();
}

Add sums_of(Input input, int vectors, int64_t channels) {
    switch (input) {
        case Input::kSpikes: return event_sums(vectors);
        case Input::kResidual: return residual_sums(vectors);
        case Input::kPatterns: return pattern_sums(vectors, channels);
        case Input::kBits: return bit_sums(vectors);
        case Input::kProducts: break;
    }
    return nullptr;
}

}  // namespace

// Tile by tile, so that a tile's weights stay in the cache for all images.
void run_layer(const Map& map, const Layer& layer, Input input, Task task, const std::vector<Events>& events,
               const std::vector<Image>& images, int64_t* counts, LayerScratch& scratch) {
    const int64_t most = tile_of(layer.outputs);
    const int64_t rows = layer.window * layer.window * map.channels + (layer.window == 1);
    for (int64_t first = 0; first < layer.outputs; first += most) {
        const int vectors = static_cast<int>(std::min(most, layer.outputs - first) / kLanes);
        for (size_t i = 0; i < images.size(); ++i) {
            Image image = images[i];
            if (image.base) image.base += first;
            const Tile tile{map, layer.window, layer.weights + rows * first, image, events[i]};
            const bool listed = input == Input::kSpikes || input == Input::kResidual;
            Add add = sums_of(input, vectors, map.channels);
            if (image.dense || (listed && by_words(map, layer.window, events[i], deciding_rows(map, task)))) {
                make_room(scratch.products, map.rows() * vectors * kLanes);
                Number* products = scratch.products.data();
                // The positions of a linear layer are all side by side.
                const Map all = layer.window == 1 ? Map{1, 1, map.rows(), map.channels} : map;
                if (image.dense)
                    multiply_all({all, layer.window, tile.weights, image, events[i]}, vectors, products);
                else
                    (input == Input::kSpikes ? event_sums_by_words : residual_sums_by_words)(vectors)(tile, products);
                image.base = products;
                image.base_width = vectors * kLanes;
                add = nullptr;
            }
            run_tile(tile, layer, first, vectors, add, task, counts, scratch.currents);
        }
    }
}
