"""LIF neurons on a graphics card: one Triton kernel each way, for all time steps.

The equations are in :mod:`aspk.families.neurons`. Only the currents are kept for the backward pass, which
computes the membranes again; time steps are few, and what is read again is in the cache. Properties of
neurons are arguments, so that networks with other neurons need no further kernel.

Triton's interpreter runs the kernels on a CPU (``TRITON_INTERPRET=1``), as the tests do. The kernels have
not been run on a graphics card yet.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from aspk.families.native import Neuron

_BLOCK = 1024  # neurons of one program


@triton.jit
def _charged(v, current, tau, DECAY_INPUT: tl.constexpr):
    """The membrane before the spike; divisions are rounded as PyTorch rounds them."""
    return v + tl.div_rn(current - v, tau) if DECAY_INPUT else v + (current - tl.div_rn(v, tau))


@triton.jit
def _reset(h, v_threshold, HARD: tl.constexpr):
    kept = 0.0 if HARD else h - v_threshold
    return tl.where(h >= v_threshold, kept, h)


@triton.jit
def _forward(
    x,
    spikes,
    size,
    steps,
    tau,
    v_threshold,
    HARD: tl.constexpr,
    DECAY_INPUT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Spikes [steps, size] of the currents x [steps, size]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    stride = tl.cast(size, tl.int64)  # all steps together may be more than 2**31 numbers
    v = tl.zeros([BLOCK], tl.float32)
    for step in range(steps):
        current = tl.load(x + step * stride + at, mask=inside, other=0.0).to(tl.float32)
        h = _charged(v, current, tau, DECAY_INPUT)
        fired = tl.where(h >= v_threshold, 1.0, 0.0).to(spikes.dtype.element_ty)
        tl.store(spikes + step * stride + at, fired, mask=inside)
        v = _reset(h, v_threshold, HARD)


@triton.jit
def _backward(
    x,
    arriving,
    grad,
    size,
    steps,
    tau,
    v_threshold,
    slope,
    HARD: tl.constexpr,
    DECAY_INPUT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradient of the currents, from that of the spikes; both [steps, size]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    stride = tl.cast(size, tl.int64)  # all steps together may be more than 2**31 numbers
    keep = 1.0 - 1.0 / tau
    later = tl.zeros([BLOCK], tl.float32)
    for back in range(steps):
        step = steps - 1 - back
        v = tl.zeros([BLOCK], tl.float32)
        h = v
        for earlier in range(step + 1):
            current = tl.load(x + earlier * stride + at, mask=inside, other=0.0).to(tl.float32)
            h = _charged(v, current, tau, DECAY_INPUT)
            v = _reset(h, v_threshold, HARD)
        activation = tl.sigmoid(slope * (h - v_threshold))
        later = later * keep
        if HARD:
            later = tl.where(h >= v_threshold, 0.0, later)
        wanted = tl.load(arriving + step * stride + at, mask=inside, other=0.0).to(tl.float32)
        later = wanted * slope * activation * (1.0 - activation) + later
        out = later / tau if DECAY_INPUT else later
        tl.store(grad + step * stride + at, out.to(grad.dtype.element_ty), mask=inside)


def lif_on_card(x: Tensor, neuron: Neuron, slope: float) -> Tensor:
    """Spikes of LIF neurons with the surrogate gradient, in the memory format of ``x``, [T, ...].

    Args:
        x: currents, float32, bfloat16 or float16; membranes are float32.
        neuron: the neurons.
        slope: of the surrogate, a sigmoid.
    """
    fired: Tensor = _LIF.apply(x, neuron, slope)
    return fired


def spikes(x: Tensor, neuron: Neuron) -> Tensor:
    """0/1 spikes of the currents ``x``, [T, ...], which lie in memory step after step."""
    fired = torch.empty_like(x)
    _forward[_grid(x)](x, fired, *_sizes(x), neuron.tau, neuron.v_threshold, **_kind(neuron))
    return fired


def gradients(x: Tensor, arriving: Tensor, neuron: Neuron, slope: float) -> Tensor:
    """Gradient of the currents.

    Args:
        x: what :func:`spikes` got.
        arriving: gradient of the spikes.
        neuron: as in :func:`spikes`.
        slope: of the surrogate, a sigmoid.
    """
    grad = torch.empty_like(x)
    if arriving.stride() != x.stride():
        arriving = torch.empty_like(x).copy_(arriving)
    _backward[_grid(x)](x, arriving, grad, *_sizes(x), neuron.tau, neuron.v_threshold, slope, **_kind(neuron))
    return grad


class _LIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, neuron: Neuron, slope: float) -> Tensor:
        whole = torch.empty_like(x).stride() == x.stride() and (len(x) == 1 or x.stride(0) == x[0].numel())
        x = x if whole else x.contiguous()
        ctx.save_for_backward(x)
        ctx.constants = (neuron, slope)
        return spikes(x, neuron)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return gradients(x, grads[0], *ctx.constants), None, None


def _sizes(x: Tensor) -> tuple[int, int]:
    return x[0].numel(), len(x)


def _grid(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x[0].numel(), _BLOCK),)


def _kind(neuron: Neuron) -> dict[str, Any]:
    return {"HARD": neuron.hard, "DECAY_INPUT": neuron.decay_input, "BLOCK": _BLOCK}
