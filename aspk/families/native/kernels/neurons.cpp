// Fused CPU kernels of a layer's neurons: batch normalisation and LIF in one pass over memory.
//
// A layer's current y is read as [steps, rows, channels, inner]: inner is the number of pixels behind a
// convolution and 1 behind a linear layer. Its normalised form is x = scale[c] * y + shift[c]. The neurons are
// those of aspk/families/neurons.py, where the equations are; the build forbids fused multiply-adds, so that
// the spikes are those of the same operations in PyTorch, bit for bit.
//
// Sums over images are taken in double, in chunks whose number does not depend on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>

#include "stored.h"

namespace {

constexpr int64_t kChunks = 32;  // of the rows, so that sums do not depend on the number of threads

struct Shape {
    int64_t steps, rows, channels, inner;
    int64_t step() const { return rows * channels * inner; }
    int64_t chunk() const { return (rows + kChunks - 1) / kChunks; }
};

// What all neurons share is a compile-time constant or in a register, so that the loops are vectorised.
template <typename T, bool Hard, bool DecayInput, bool Learnt>
struct Neuron {
    using Number = T;
    static constexpr bool learnt = Learnt;  // the reciprocal of tau is a weight, and a factor
    T tau, v_threshold, inverse_tau;

    // The membrane before the spike, from the one after the last spike and the current.
    T charged(T v, T x) const {
        if (Learnt) return DecayInput ? v + (x - v) * inverse_tau : v * (1 - inverse_tau) + x;
        return DecayInput ? v + (x - v) / tau : v + (x - v / tau);
    }
    // Its derivative with respect to the reciprocal of tau.
    T by_inverse_tau(T v, T x) const { return DecayInput ? x - v : -v; }
    T reset(T h) const { return h < v_threshold ? h : (Hard ? T(0) : h - v_threshold); }
    T kept(T h, T gradient) const { return Hard && h >= v_threshold ? T(0) : gradient; }
    T to_input(T gradient) const { return DecayInput ? gradient * inverse_tau : gradient; }
};

// Where tau is learnt, `tau` holds its reciprocal.
template <typename T, bool Learnt, typename Body>
void with_constants(T tau, T inverse_tau, T v, int hard, int decay_input, Body body) {
    if (hard && decay_input) body(Neuron<T, true, true, Learnt>{tau, v, inverse_tau});
    if (hard && !decay_input) body(Neuron<T, true, false, Learnt>{tau, v, inverse_tau});
    if (!hard && decay_input) body(Neuron<T, false, true, Learnt>{tau, v, inverse_tau});
    if (!hard && !decay_input) body(Neuron<T, false, false, Learnt>{tau, v, inverse_tau});
}

template <typename T, typename Body>
void with_neuron(double tau, double v_threshold, int hard, int decay_input, int learnt, Body body) {
    const T t = static_cast<T>(tau), v = static_cast<T>(v_threshold);
    if (learnt) with_constants<T, true>(1 / t, t, v, hard, decay_input, body);
    else with_constants<T, false>(t, 1 / t, v, hard, decay_input, body);
}

// a * b + c, as one operation if the CPU has it.
inline float fused(float a, float b, float c) {
#ifdef FP_FAST_FMAF
    return std::fma(a, b, c);
#else
    return a * b + c;
#endif
}

// exp by its Taylor series on [-ln 2 / 2, ln 2 / 2], in a form that compilers turn into vector code.
inline float exponential(float x) {
    x = std::min(87.0f, std::max(-87.0f, x));
    const float n = std::nearbyint(x * 1.44269504f);
    const float r = fused(n, 2.12194440e-4f, fused(n, -0.693359375f, x));  // ln 2 in two parts
    float p = fused(1.0f / 720, r, 1.0f / 120);
    p = fused(p, r, 1.0f / 24);
    p = fused(p, r, 1.0f / 6);
    p = fused(p, r, 0.5f);
    p = fused(p, r, 1.0f);
    p = fused(p, r, 1.0f);
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}
inline double exponential(double x) { return std::exp(x); }

// Runs of at most kLanes neighbouring neurons of one chunk of rows: body(offset, first channel, length). Where
// the channels are the last axis, a run continues into the next row; elsewhere it stays within its channel.
template <typename Body>
inline void for_runs(const Shape& s, int64_t chunk, Body body) {
    const int64_t rows = std::max<int64_t>(0, std::min(s.rows, (chunk + 1) * s.chunk()) - chunk * s.chunk());
    const int64_t width = s.inner == 1 ? rows * s.channels : s.inner;
    const int64_t groups = s.inner == 1 ? (rows ? 1 : 0) : rows * s.channels;
    const int64_t start = chunk * s.chunk() * s.channels * s.inner;
    for (int64_t group = 0; group < groups; ++group)
        for (int64_t lane = 0; lane < width; lane += kLanes) {
            const int64_t offset = start + group * width + lane;
            const int64_t channel = s.inner == 1 ? lane % s.channels : group % s.channels;
            if (width - lane >= kLanes)  // a length known at compile time lets the compiler unroll
                body(offset, channel, std::integral_constant<int64_t, kLanes>());
            else
                body(offset, channel, width - lane);
        }
}

// One value per channel, for the neurons of runs.
template <typename T>
struct PerChannel {
    PerChannel(const Shape& s, const T* values) : last_axis(s.inner == 1), row(values ? s.channels + kLanes : 0) {
        for (size_t i = 0; i < row.size(); ++i) row[i] = values[i % s.channels];
    }
    // The values of a run's neurons: a piece of the repeated channels, or the same for all.
    const T* of(int64_t channel, T* lanes) const {
        if (last_axis) return &row[channel];
        std::fill(lanes, lanes + kLanes, row[channel]);
        return lanes;
    }
    bool last_axis;
    std::vector<T> row;
};

// Sums over the neurons of each channel, chunk by chunk.
struct Sums {
    explicit Sums(const Shape& s) : channels(s.channels), width(s.channels + kLanes), sums(kChunks * width, 0.0) {}
    double* of(int64_t chunk) { return &sums[chunk * width]; }
    double total(int64_t channel) const {
        double sum = 0;
        for (int64_t chunk = 0; chunk < kChunks; ++chunk)
            for (int64_t i = channel; i < width; i += channels) sum += sums[chunk * width + i];
        return sum;
    }
    int64_t channels, width;
    std::vector<double> sums;
};

void statistics(const Stored* y, const Shape& s, double* mean, double* variance, int threads) {
    const int64_t rows = s.steps * s.rows;
    const Shape all{1, rows, s.channels, s.inner};
    Sums values(s), squares(s);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < kChunks; ++chunk) {
        double* chunk_values = values.of(chunk);
        double* chunk_squares = squares.of(chunk);
        for_runs(all, chunk, [&](int64_t offset, int64_t channel, auto length) {
            const Stored* run = y + offset;
            if (s.inner == 1) {
#pragma omp simd
                for (int64_t i = 0; i < length; ++i) {
                    const double value = run[i];
                    chunk_values[channel + i] += value;
                    chunk_squares[channel + i] += value * value;
                }
            } else {
                double sum = 0, square = 0;
#pragma omp simd reduction(+ : sum, square)
                for (int64_t i = 0; i < length; ++i) {
                    const double value = run[i];
                    sum += value;
                    square += value * value;
                }
                chunk_values[channel] += sum;
                chunk_squares[channel] += square;
            }
        });
    }
    const double count = static_cast<double>(rows * s.inner);
    for (int64_t c = 0; c < s.channels; ++c) {
        mean[c] = values.total(c) / count;
        variance[c] = std::max(0.0, squares.total(c) / count - mean[c] * mean[c]);
    }
}

// From statistics to x = scale * y + shift, with the rounding of PyTorch's batch normalisation, and the running
// statistics as PyTorch updates them: with the unbiased variance.
template <typename T>
void normalisation(int64_t channels, double count, const T* weight, const T* bias, double eps, double momentum,
                   const double* mean, const double* variance, T* running_mean, T* running_var, T* scale,
                   T* shift, double* inverse_std) {
    const T kept = static_cast<T>(1 - momentum), rate = static_cast<T>(momentum);
    const double unbiased = count / std::max(1.0, count - 1);
    for (int64_t c = 0; c < channels; ++c) {
        inverse_std[c] = 1 / std::sqrt(variance[c] + eps);
        scale[c] = static_cast<T>(inverse_std[c]) * weight[c];
        shift[c] = bias[c] - static_cast<T>(mean[c]) * scale[c];
        running_mean[c] = running_mean[c] * kept + static_cast<T>(mean[c]) * rate;
        running_var[c] = running_var[c] * kept + static_cast<T>(variance[c] * unbiased) * rate;
    }
}

// scale may be null: the current is then used as it is. repeated: y has one step, used at every time step.
template <typename Kind, typename T = typename Kind::Number>
void forward(const Stored* y, Stored* spikes, const Shape& s, const T* scale, const T* shift, bool repeated, Kind kind,
             int threads) {
    const int64_t step = s.step();
    const PerChannel<T> scales(s, scale), shifts(s, shift);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < kChunks; ++chunk) {
        T v[kLanes], x[kLanes], a_lanes[kLanes], b_lanes[kLanes];
        const Kind neuron = kind;
        for_runs(s, chunk, [&](int64_t offset, int64_t channel, auto length) {
            const T* a = scale ? scales.of(channel, a_lanes) : nullptr;
            const T* b = scale ? shifts.of(channel, b_lanes) : nullptr;
            std::fill(v, v + length, T(0));
            for (int64_t t = 0; t < s.steps; ++t) {
                const Stored* current = y + offset + (repeated ? 0 : t * step);
                Outgoing outgoing(spikes + offset + t * step);
                T* out = outgoing.lanes();
                if (scale)
#pragma omp simd
                    for (int64_t i = 0; i < length; ++i) x[i] = T(current[i]) * a[i] + b[i];
                else
                    std::copy(current, current + length, x);
#pragma omp simd
                for (int64_t i = 0; i < length; ++i) {
                    const T h = neuron.charged(v[i], x[i]);
                    out[i] = h >= neuron.v_threshold ? T(1) : T(0);
                    v[i] = neuron.reset(h);
                }
                outgoing.write(length);
            }
        });
    }
}

// Gradient with respect to the normalised current, and its sums for the normalisation's own gradients.
template <typename Kind, typename T = typename Kind::Number>
void backward(const Stored* y, const Stored* grad_spikes, Stored* grad, const Shape& s, const T* scale, const T* shift,
              const double* mean, const double* inverse_std, bool repeated, Kind kind,
              double* sums, double* products, double* by_inverse_tau, int threads) {
    const int64_t step = s.step();
    const T slope = 4;
    double partial[kChunks] = {};  // of the gradient of the reciprocal of tau
    const std::vector<T> ones(scale ? 0 : s.channels, T(1)), zeros(scale ? 0 : s.channels, T(0));
    const PerChannel<T> scales(s, scale ? scale : ones.data()), shifts(s, scale ? shift : zeros.data());
    Sums gradients(s), centred_gradients(s);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < kChunks; ++chunk) {
        std::vector<T> membrane(s.steps * kLanes);
        const Kind neuron = kind;
        const T keep = T(1) - (Kind::learnt ? neuron.inverse_tau : T(1) / neuron.tau);
        T v[kLanes], later[kLanes], total[kLanes], centred[kLanes], leaked[kLanes];
        Stored unused[kLanes];
        T a_lanes[kLanes], b_lanes[kLanes];
        double* chunk_sums = gradients.of(chunk);
        double* chunk_products = centred_gradients.of(chunk);
        for_runs(s, chunk, [&](int64_t offset, int64_t channel, auto length) {
            const T* a = scales.of(channel, a_lanes);
            const T* b = shifts.of(channel, b_lanes);
            std::fill(v, v + length, T(0));
            for (int64_t t = 0; t < s.steps; ++t) {
                const Stored* current = y + offset + (repeated ? 0 : t * step);
                T* h = &membrane[t * kLanes];
#pragma omp simd
                for (int64_t i = 0; i < length; ++i) {
                    const T x = T(current[i]) * a[i] + b[i];
                    h[i] = neuron.charged(v[i], x);
                    v[i] = neuron.reset(h[i]);
                }
            }
            std::fill(later, later + length, T(0));
            std::fill(total, total + length, T(0));
            std::fill(centred, centred + length, T(0));
            if (Kind::learnt) std::fill(leaked, leaked + length, T(0));
            for (int64_t t = s.steps - 1; t >= 0; --t) {
                const T* h = &membrane[t * kLanes];
                const Stored* arriving = grad_spikes + offset + t * step;
                Outgoing outgoing(repeated ? unused : grad + offset + t * step);
                T* out = outgoing.lanes();
                const Stored* current = y + offset + (repeated ? 0 : t * step);
#pragma omp simd
                for (int64_t i = 0; i < length; ++i) {
                    const T activation = 1 / (1 + exponential(slope * (neuron.v_threshold - h[i])));
                    const T surrogate = slope * activation * (1 - activation);
                    later[i] = T(arriving[i]) * surrogate + neuron.kept(h[i], later[i] * keep);
                    const T g = neuron.to_input(later[i]);
                    total[i] += g;
                    centred[i] += g * T(current[i]);
                    out[i] = g;
                }
                outgoing.write(length);
                if (Kind::learnt) {
                    const T* before = t ? h - kLanes : nullptr;
#pragma omp simd
                    for (int64_t i = 0; i < length; ++i) {
                        const T kept = before ? neuron.reset(before[i]) : T(0);
                        leaked[i] += later[i] * neuron.by_inverse_tau(kept, T(current[i]) * a[i] + b[i]);
                    }
                }
            }
            if (Kind::learnt)
                for (int64_t i = 0; i < length; ++i) partial[chunk] += leaked[i];
            if (repeated) {
                Outgoing outgoing(grad + offset);
                std::copy(total, total + length, outgoing.lanes());
                outgoing.write(length);
            }
            if (scale && s.inner == 1) {
#pragma omp simd
                for (int64_t i = 0; i < length; ++i) {
                    chunk_sums[channel + i] += total[i];
                    chunk_products[channel + i] += centred[i];
                }
            } else if (scale) {
                for (int64_t i = 0; i < length; ++i) {
                    chunk_sums[channel] += total[i];
                    chunk_products[channel] += centred[i];
                }
            }
        });
    }
    if (by_inverse_tau) *by_inverse_tau = std::accumulate(partial, partial + kChunks, 0.0);
    if (!scale) return;
    for (int64_t c = 0; c < s.channels; ++c) {
        sums[c] = gradients.total(c);  // of g
        products[c] = (centred_gradients.total(c) - mean[c] * sums[c]) * inverse_std[c];  // of g * (y - mean) / std
    }
}

// From the gradient of the normalised current to that of the current, in place. [rows, channels, inner]
template <typename T>
void through_norm(const Stored* y, Stored* grad, const Shape& s, const T* scale, const double* mean,
                  const double* inverse_std, const double* sums, const double* products, int threads) {
    const double count = static_cast<double>(s.rows * s.inner);
    std::vector<T> slope(s.channels), offset_of(s.channels);
    for (int64_t c = 0; c < s.channels; ++c) {
        const double per_y = products[c] / count * inverse_std[c];
        slope[c] = static_cast<T>(scale[c] * per_y);
        offset_of[c] = static_cast<T>(scale[c] * (per_y * mean[c] - sums[c] / count));
    }
    const PerChannel<T> scales(s, scale), slopes(s, slope.data()), offsets(s, offset_of.data());
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < kChunks; ++chunk) {
        T a_lanes[kLanes], b_lanes[kLanes], k_lanes[kLanes];
        for_runs(s, chunk, [&](int64_t offset, int64_t channel, auto length) {
            const T* a = scales.of(channel, a_lanes);
            const T* k = slopes.of(channel, k_lanes);
            const T* b = offsets.of(channel, b_lanes);
            Outgoing outgoing(grad + offset);
            T* out = outgoing.lanes();
#pragma omp simd
            for (int64_t i = 0; i < length; ++i) out[i] = a[i] * T(grad[offset + i]) - k[i] * T(y[offset + i]) + b[i];
            outgoing.write(length);
        });
    }
}

}  // namespace

// ------------------------------------------------------------------------------------------- what Python calls

#define ASPK_CALLED extern "C" __attribute__((visibility("default"))) void

using Number = ASPK_NUMBER;  // each type has a library of its own

ASPK_CALLED call_statistics(const Stored* y, int64_t steps, int64_t rows, int64_t channels, int64_t inner, double* mean,
                            double* variance, int threads) {
    statistics(y, {steps, rows, channels, inner}, mean, variance, threads);
}

ASPK_CALLED call_normalisation(int64_t channels, int64_t count, const Number* weight, const Number* bias, double eps,
                               double momentum, const double* mean, const double* variance, Number* running_mean,
                               Number* running_var, Number* scale, Number* shift, double* inverse_std) {
    normalisation(channels, static_cast<double>(count), weight, bias, eps, momentum, mean, variance, running_mean,
                  running_var, scale, shift, inverse_std);
}

ASPK_CALLED call_forward(const Stored* y, Stored* spikes, int64_t steps, int64_t rows, int64_t channels, int64_t inner,
                         const Number* scale, const Number* shift, int repeated, double tau, double v_threshold,
                         int hard, int decay_input, int learnt, int threads) {
    with_neuron<Number>(tau, v_threshold, hard, decay_input, learnt, [&](auto neuron) {
        forward(y, spikes, {steps, rows, channels, inner}, scale, shift, repeated, neuron, threads);
    });
}

ASPK_CALLED call_backward(const Stored* y, const Stored* grad_spikes, Stored* grad, int64_t steps, int64_t rows,
                          int64_t channels, int64_t inner, const Number* scale, const Number* shift,
                          const double* mean, const double* inverse_std, int repeated, double tau, double v_threshold,
                          int hard, int decay_input, int learnt, double* sums, double* products,
                          double* by_inverse_tau, int threads) {
    const Shape s{steps, rows, channels, inner};
    with_neuron<Number>(tau, v_threshold, hard, decay_input, learnt, [&](auto neuron) {
        backward(y, grad_spikes, grad, s, scale, shift, mean, inverse_std, repeated, neuron, sums, products,
                 by_inverse_tau, threads);
    });
}

ASPK_CALLED call_through_norm(const Stored* y, Stored* grad, int64_t steps, int64_t rows, int64_t channels,
                              int64_t inner, const Number* scale, const double* mean, const double* inverse_std,
                              const double* sums, const double* products, int threads) {
    through_norm(y, grad, {1, steps * rows, channels, inner}, scale, mean, inverse_std, sums, products, threads);
}
