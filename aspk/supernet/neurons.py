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
    """Spikes; fills ``membrane``, if given, with H (shape of x).

    Written for few passes over memory: H of the first step is X / tau or X, and after the last nothing is
    reset. In eager mode the passes are what a LIF costs.
    """
    spikes = torch.empty_like(x)
    v = x[0] / tau if decay_input else x[0].clone()
    change = torch.empty_like(v)
    for step, current in enumerate(x):
        if step and decay_input:
            torch.sub(current, v, out=change)
            v += change.div_(tau)
        elif step:
            torch.div(v, tau, out=change)
            v += torch.sub(current, change, out=change)
        fired = torch.ge(v, v_threshold, out=spikes[step])
        if membrane is not None:
            membrane[step] = v
        if step + 1 == len(x):
            break
        if hard:
            v.addcmul_(v, fired, value=-1)  # v * (1 - S), exactly
        else:
            v.sub_(fired, alpha=v_threshold)
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
        ctx.save_for_backward(membrane, spikes)
        ctx.constants = (tau, v_threshold, hard, decay_input)
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # as above
        membrane, spikes = ctx.saved_tensors
        tau, v_threshold, hard, decay_input = ctx.constants
        (grad_spikes,) = grads
        activation = torch.sub(membrane, v_threshold).mul_(_SURROGATE_SLOPE).sigmoid_()
        # dS/dH of the surrogate, times what arrives at S: all steps at once
        grad_h = torch.ops.aten.sigmoid_backward(grad_spikes, activation).mul_(_SURROGATE_SLOPE)
        keep = 1.0 - 1.0 / tau
        for step in range(len(membrane) - 2, -1, -1):
            grad_v = grad_h[step + 1] * keep  # d loss / d V[t], from the later steps
            if hard:
                grad_v.addcmul_(grad_v, spikes[step], value=-1)
            grad_h[step] += grad_v
        if decay_input:
            grad_h /= tau
        return grad_h, None, None, None, None
