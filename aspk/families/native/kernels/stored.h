// How currents, spikes and their gradients are stored in memory: as Number, or as bfloat16. Membranes, sums, constants
// and all computations are float or double.
#pragma once

#include <cstdint>
#include <cstring>

constexpr int64_t kLanes = 64;  // neurons that are simulated side by side

#ifdef ASPK_BFLOAT16
struct Stored {
    uint16_t bits;
    operator float() const {
        const uint32_t wide = static_cast<uint32_t>(bits) << 16;
        float value;
        std::memcpy(&value, &wide, sizeof value);
        return value;
    }
};

// Stores a run's numbers, in a separate loop that compilers vectorise.
struct Outgoing {
    explicit Outgoing(Stored* to) : to(&to->bits) {}
    float* lanes() { return numbers; }
    void write(int64_t length) const {
#pragma omp simd
        for (int64_t i = 0; i < length; ++i) {  // to the nearest, ties to even
            uint32_t wide;
            std::memcpy(&wide, &numbers[i], sizeof wide);
            const uint32_t rounded = (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
            const bool nan = (wide & 0x7fffffff) > 0x7f800000;
            to[i] = static_cast<uint16_t>(nan ? 0x7fc0 : rounded);
        }
    }
    uint16_t* to;
    float numbers[kLanes];
};
#else
using Stored = ASPK_NUMBER;

struct Outgoing {
    explicit Outgoing(Stored* to) : to(to) {}
    Stored* lanes() { return to; }
    void write(int64_t) const {}
    Stored* to;
};
#endif
