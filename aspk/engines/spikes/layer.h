// Layers: the weight rows of an image's events are added up, and neurons fire.
#pragma once

#include "events.h"
#include "neuron.h"

enum class Task : int64_t { kFire, kMoments, kProducts, kCurrents };

// Rows of the input that decide how currents are added up. Where the currents are results themselves, these are the
// first step's, so that the first steps of a long run equal a short run, to the bit.
inline int64_t deciding_rows(const Map& map, Task task) {
    return task == Task::kCurrents ? map.positions() : map.rows();
}

// What a current is added up from.
enum class Input : int64_t {
    kSpikes,    // weight rows of events
    kResidual,  // the same, times the events' values
    kPatterns,  // of few channels: one row for each pattern of four, summed in advance
    kProducts,  // nothing: the base is the whole current
    kBits,      // as kSpikes, for linear layers
};

struct Layer {
    // Tiles of [rows, outputs of the tile]; a row is an input, or a pattern of inputs. Linear layers have one more, of
    // zeros.
    const Number* weights;
    int64_t window, outputs;  // outputs in whole vectors
    const Number* scale;      // [outputs]
    const Number* shift;      // [outputs]
    const Number* keep;       // [outputs], or null: the neuron's own
    Neuron neuron;
};

// One image's part of what a layer reads and writes.
struct Image {
    const uint64_t* bits;  // input spikes
    const uint64_t* more;  // spikes of another layer that are added to them, or null
    int64_t stride;        // words in a row of them
    const Number* base;    // products to add to, [steps (or one for all), positions, base_width], or null
    int64_t base_width;    // of all tiles, or of one
    bool repeated;         // whether there is one for all steps
    uint64_t* spikes;      // [steps, positions, words]
    double* sums;          // of products and of their squares, [2, outputs]
    Number* products;      // [steps, positions, outputs], of kCurrents scaled and shifted
    const Number* dense;   // the input as numbers (see dense_input), if little of it is 0

    const Number* base_of(const Map& map, int64_t step, int64_t position) const {
        return base ? base + (repeated ? position : step * map.positions() + position) * base_width : nullptr;
    }
};

// Outputs that are computed together, in whole words: narrow layers at once, others so that the weights of a word of
// their inputs stay in the smallest cache.
constexpr int64_t kTile = sizeof(Number) == 4 ? 3 * kWord : kWord;  // at most
constexpr int kVectors = kTile / kLanes;
inline int64_t tile_of(int64_t outputs) { return outputs <= kTile || sizeof(Number) != 4 ? kTile : 2 * kWord; }

struct LayerScratch {
    std::vector<Number> products;  // of all positions
    std::vector<Number> currents;  // of some
};

// counts: of the spikes at each step, plain and by windows, [2, steps].
void run_layer(const Map& map, const Layer& layer, Input input, Task task, const std::vector<Events>& events,
               const std::vector<Image>& images, int64_t* counts, LayerScratch& scratch);
