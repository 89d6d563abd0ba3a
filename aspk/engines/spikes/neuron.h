// Leaky integrate-and-fire neurons, see aspk/families/neurons.py.
#pragma once

#include <cmath>

#include "vectors.h"

struct Neuron {
    Number tau, v_threshold, keep, exact;  // exact: 1 / tau where multiplying by it is exact, else 0
    Number learnt;                         // 1 / tau where it is learnt and multiplied by, else 0
    bool hard, decay_input;

    Neuron(double tau, double reciprocal, double v_threshold, bool hard, bool decay_input)
        : tau(static_cast<Number>(tau)), v_threshold(static_cast<Number>(v_threshold)),
          keep(static_cast<Number>(1 - 1 / tau)), exact(std::exp2(std::round(std::log2(tau))) == tau ? 1 / tau : 0),
          learnt(static_cast<Number>(reciprocal)), hard(hard), decay_input(decay_input) {}

    // Charges and resets the membranes v, of which `keep` is kept; returns which fired. The input is already divided by
    // tau if it decays.
    uint64_t fire(Vector& v, Vector keep, Vector x) const { return spike(v, v * keep + x); }

    // The same with the equation's own rounding, for sums of integers that meet the threshold exactly.
    uint64_t fire_exactly(Vector& v, Vector x) const {
        if (learnt != 0) return spike(v, decay_input ? v + (x - v) * learnt : v * (1 - learnt) + x);
        const Vector numerator = decay_input ? x - v : v;
        const Vector share = exact ? numerator * exact : numerator / tau;
        return spike(v, decay_input ? v + share : v - share + x);
    }

    uint64_t spike(Vector& v, Vector h) const {
        const Vector threshold = v_threshold - Vector{};
        v = hard ? (h >= threshold ? Vector{} : h) : (h >= threshold ? h - threshold : h);
        return at_least(h, threshold);
    }
};
