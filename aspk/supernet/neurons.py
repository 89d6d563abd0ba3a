"""The leaky integrate-and-fire neuron (LIF) as a pure function of its whole input sequence.

The convention is spikingjelly's LIFNode with ``v_reset=0`` (hard) or ``None`` (soft), ``detach_reset=True``
and its default surrogate, a sigmoid of slope 4::

    H[t] = V[t-1] + (X[t] - V[t-1]) / tau          decay_input
    H[t] = V[t-1] - V[t-1] / tau + X[t]            otherwise
    S[t] = 1 if H[t] >= v_threshold else 0
    V[t] = H[t] * (1 - S[t])                       hard reset
    V[t] = H[t] - S[t] * v_threshold               soft reset

with V = 0 before the first step: no state outlives a call.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Reset = Literal["hard", "soft"]
_SURROGATE_SLOPE = 4.0


def lif(
    x: Tensor, *, tau: float, v_threshold: float, reset: Reset = "hard", decay_input: bool = True
) -> Tensor:
    """Spikes of LIF neurons.

    Args:
        x: input currents, shape [T, ...].
        tau: membrane time constant in steps, > 1.
        v_threshold: firing threshold, > 0.
        reset: what a spike does to the membrane, see above.
        decay_input: whether the input is divided by tau.

    Returns:
        0/1 spikes of the shape and type of ``x``; differentiable with the surrogate gradient.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        spikes: Tensor = _LIF.apply(x, tau, v_threshold, reset == "hard", decay_input)
        return spikes
    return _integrate(x, tau, v_threshold, reset == "hard", decay_input, None)


def _integrate(
    x: Tensor, tau: float, v_threshold: float, hard: bool, decay_input: bool, membrane: Tensor | None
) -> Tensor:
    """Spikes; fills ``membrane``, if given, with H (shape of x)."""
    spikes = torch.empty_like(x)
    v = torch.zeros_like(x[0])
    for step, current in enumerate(x):
        if decay_input:
            v += (current - v).div_(tau)
        else:
            v += current - v / tau
        fired = v >= v_threshold
        spikes[step] = fired
        if membrane is not None:
            membrane[step] = v
        if hard:
            v.masked_fill_(fired, 0.0)
        else:
            v -= spikes[step] * v_threshold
    return spikes


class _LIF(torch.autograd.Function):
    """One graph node for all steps, in place of about eight for each."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # torch's context has no public type
        x: Tensor,
        tau: float,
        v_threshold: float,
        hard: bool,
        decay_input: bool,
    ) -> Tensor:
        membrane = torch.empty_like(x)
        spikes = _integrate(x, tau, v_threshold, hard, decay_input, membrane)
        ctx.save_for_backward(membrane)
        ctx.constants = (tau, v_threshold, hard, decay_input)
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (membrane,) = ctx.saved_tensors
        tau, v_threshold, hard, decay_input = ctx.constants
        (grad_spikes,) = grads
        activation = torch.sigmoid((membrane - v_threshold).mul_(_SURROGATE_SLOPE))
        # dS/dH of the surrogate, times what arrives at S: all steps at once
        grad_h = activation.mul(1 - activation).mul_(_SURROGATE_SLOPE).mul_(grad_spikes)
        keep = 1.0 - 1.0 / tau
        grad_v = torch.zeros_like(membrane[0])  # d loss / d V[t], from the later steps
        for step in range(len(membrane) - 1, -1, -1):
            if hard:
                grad_v.masked_fill_(membrane[step] >= v_threshold, 0.0)
            grad_h[step] += grad_v
            grad_v = grad_h[step] * keep
        if decay_input:
            grad_h /= tau
        return grad_h, None, None, None, None
