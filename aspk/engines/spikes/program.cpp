// The native engine's kernels: networks of 0/1 spikes, where nothing is multiplied and silence costs nothing.
//
// Spikes of one site are bits, [images, steps, positions, words of 64 channels]; the residual stream is small
// integers, one byte each, [images, steps, positions, channels]. A layer adds up the weight rows of its input's
// events, for up to 192 outputs at a time in registers, and its neurons fire from these sums position by position, so
// that currents do not leave the smallest cache.
//
// Every output is the sum of its own rows in the order of the input channels, whatever else is computed beside
// it, so that results do not depend on the batch, on the threads or on the other outputs.
//
// A program runs operations in order, on a few images at a time; their states are in one block of memory of each
// thread, small enough for its cache.

#include "operations.h"
#include "sums.h"

namespace {

constexpr int64_t kCounts = 6;  // most counts of an operation per step

// Where one image's part of a state is: in the thread's memory, or in the caller's.
struct Place {
    int64_t address;  // in the thread's memory, an offset in bytes per image of a piece; else an address
    int64_t bytes;    // of one image; 0: nowhere
    int64_t mine;     // whether it is in the thread's memory
};

enum Kind : int64_t {
    kLayer,
    kPool,
    kAdd,
    kAttend,
    kTokens,
    kCount,
    kMaskByChannel,
    kMaskByToken,
    kAddCurrents,
    kPoolCurrents,
    kTokensOfCurrents,
    kSample,
    kSampleCurrents,
    kConvolveChannels,
    kCountWindows
};

struct Operation {
    int64_t kind, task, input, hard, decay_input, repeated;
    int64_t steps, height, width, channels;  // of what is read
    int64_t window, outputs, base_width, heads, stride, every;
    int64_t counts;  // address of the counts
    double tau, reciprocal_tau, v_threshold, factor;  // the reciprocal is 0 if tau is not learnt
    int64_t weights, scale, shift, keep;              // addresses
    Place read, added, base, written;
};

struct Scratch {
    std::vector<Events> events;
    std::vector<std::vector<Number>> dense;
    std::vector<Image> images;
    Attention attention;
    LayerScratch layer;
    std::vector<int64_t> counts;
};

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

void run_operation(const Operation& op, const Piece& piece, Scratch& scratch) {
    const Map map{op.steps, op.height, op.width, op.channels};
    const Neuron neuron(op.tau, op.reciprocal_tau, op.v_threshold, op.hard != 0, op.decay_input != 0);
    const Number *scale = reinterpret_cast<const Number*>(op.scale), *shift = reinterpret_cast<const Number*>(op.shift);
    const Number* keep = reinterpret_cast<const Number*>(op.keep);
    scratch.counts.assign(kCounts * op.steps, 0);
    int64_t* counts = scratch.counts.data();
    if (op.kind == kLayer) {
        const Layer layer{reinterpret_cast<const Number*>(op.weights), op.window, op.outputs, scale, shift, keep,
                          neuron};
        const Input input = static_cast<Input>(op.input);
        if (scratch.events.size() < static_cast<size_t>(piece.number)) scratch.events.resize(piece.number);
        scratch.dense.resize(scratch.events.size());
        scratch.images.clear();
        for (int64_t i = 0; i < piece.number; ++i) {
            const uint64_t* bits = input == Input::kResidual ? nullptr : piece.at<uint64_t>(op.read, i);
            const uint8_t* residual = input == Input::kResidual ? piece.at<uint8_t>(op.read, i) : nullptr;
            const uint64_t* more = piece.at<uint64_t>(op.added, i);
            const bool listed = input == Input::kSpikes || input == Input::kResidual;
            const Number* dense =
                listed || input == Input::kBits
                    ? dense_input(map, op.window, residual, bits, more, op.stride,
                                  deciding_rows(map, static_cast<Task>(op.task)), scratch.dense[i])
                    : nullptr;
            if (listed && !dense) find_events(map, bits, op.stride, residual, scratch.events[i]);
            scratch.images.push_back({bits, more, op.stride, piece.at<Number>(op.base, i), op.base_width,
                                      op.repeated != 0, piece.at<uint64_t>(op.written, i),
                                      piece.at<double>(op.written, i), piece.at<Number>(op.written, i), dense});
        }
        run_layer(map, layer, input, static_cast<Task>(op.task), scratch.events, scratch.images, counts, scratch.layer);
    }
    for (int64_t i = 0; op.kind != kLayer && i < piece.number; ++i) {
        const uint64_t* bits = piece.at<uint64_t>(op.read, i);
        uint64_t* spikes = piece.at<uint64_t>(op.written, i);
        if (op.kind == kPool) pool(map, bits, op.stride, spikes, counts);
        if (op.kind == kAdd)
            add(map, piece.at<uint8_t>(op.added, i), bits, op.stride, piece.at<uint8_t>(op.base, i),
                piece.at<uint8_t>(op.written, i), counts);
        if (op.kind == kAttend)
            attend(map, op.heads, bits, op.stride, static_cast<Number>(op.factor), neuron, spikes, counts,
                   scratch.attention);
        if (op.kind == kTokens)
            sum_tokens(map, piece.at<uint8_t>(op.read, i), piece.at<uint8_t>(op.base, i),
                       piece.at<int32_t>(op.written, i));
        if (op.kind == kCount) count(map, bits, op.stride, counts);
        if (op.kind == kMaskByChannel) mask_by_channel(map, bits, op.stride, neuron, spikes, counts);
        if (op.kind == kMaskByToken) mask_by_token(map, op.heads, bits, op.stride, neuron, spikes, counts);
        if (op.kind == kSample) sample(map, bits, op.stride, spikes, counts);
        if (op.kind == kCountWindows) count_windows(map, op.window, op.every, bits, op.stride, counts);
        if (op.kind == kConvolveChannels)
            convolve_channels(map, op.window, bits, op.stride, reinterpret_cast<const Number*>(op.weights), op.outputs,
                              piece.at<Number>(op.written, i));
        const Number* currents = piece.at<Number>(op.read, i);
        if (op.kind == kSampleCurrents) sample_currents(map, currents, op.base_width, piece.at<Number>(op.written, i));
        if (op.kind == kAddCurrents)
            add_currents(map.rows() * op.base_width, currents, piece.at<Number>(op.added, i),
                         piece.at<Number>(op.written, i));
        if (op.kind == kPoolCurrents) pool_currents(map, currents, op.base_width, piece.at<Number>(op.written, i));
        if (op.kind == kTokensOfCurrents)
            sum_tokens_of_currents(map, currents, op.base_width, piece.at<Number>(op.written, i));
    }
    int64_t* totals = reinterpret_cast<int64_t*>(op.counts);
    if (totals)
        for (size_t i = 0; i < scratch.counts.size(); ++i)
#pragma omp atomic
            totals[i] += counts[i];
}

// Runs a program on all images, `capacity` at a time; bytes: of the states of one image in the thread's memory.
void run_program(const Operation* program, int64_t length, int64_t images, int64_t capacity, int64_t bytes,
                 int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<char> memory(bytes * capacity + kVectorBytes);
        const int64_t start = reinterpret_cast<int64_t>(memory.data());
        char* aligned = memory.data() + (kVectorBytes - start % kVectorBytes) % kVectorBytes;
        Scratch scratch;
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < images; first += capacity) {
            const Piece piece{aligned, first, std::min(capacity, images - first), capacity};
            for (int64_t i = 0; i < length; ++i) run_operation(program[i], piece, scratch);
        }
    }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void run(const Operation* program, int64_t length, int64_t images,
                                                           int64_t capacity, int64_t bytes, int threads) {
    run_program(program, length, images, capacity, bytes, threads);
}
