"""The leaky integrate-and-fire neuron (LIF, PLIF) as a pure function of its whole input sequence.

The convention is spikingjelly's LIFNode with ``v_reset=0`` (hard) or ``None`` (soft), ``detach_reset=True``
and its default surrogate, a sigmoid of slope 4::

    H[t] = V[t-1] + (X[t] - V[t-1]) / tau          decay_input
    H[t] = V[t-1] - V[t-1] / tau + X[t]            otherwise
    S[t] = 1 if H[t] >= v_threshold else 0
    V[t] = H[t] * (1 - S[t])                       hard reset
    V[t] = H[t] - S[t] * v_threshold               soft reset

with V = 0 before the first step: no state outlives a call. PLIF (Fang et al., ICCV 2021) learns the time
constant of each site: it multiplies by 1/tau = sigmoid(w) where LIF divides by tau.

Currents, spikes and their gradients may be bfloat16 or float16; membranes, statistics and all computations
are then float32.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aspk.families import native
from aspk.families.base import Neurons, Reset
from aspk.families.synchronised import OtherProcesses, in_shared_batch, shared_normalisation

_SURROGATE_SLOPE = 4.0
_HALF = (torch.float16, torch.bfloat16)


def lif(
    x: Tensor,
    *,
    tau: float,
    v_threshold: float,
    reset: Reset = "hard",
    decay_input: bool = True,
    reciprocal_tau: Tensor | float | None = None,
) -> Tensor:
    """Spikes of LIF or PLIF neurons.

    Args:
        x: input currents, shape [T, ...].
        tau: membrane time constant in steps, > 1.
        v_threshold: firing threshold, > 0.
        reset: what a spike does to the membrane, see above.
        decay_input: whether the input is divided by tau.
        reciprocal_tau: for PLIF, used in place of 1 / ``tau``: a number, or a tensor of shape [], which gets
            a gradient.

    Returns:
        0/1 spikes of the shape and type of ``x``; differentiable with the surrogate gradient.
    """
    if reciprocal_tau is None and _on_card(x):
        from aspk.families.cuda_neurons import lif_on_card  # noqa: PLC0415  # Triton, where there is a card

        neuron = native.Neuron(tau, v_threshold, reset == "hard", decay_input)
        return lif_on_card(x, neuron, _SURROGATE_SLOPE)
    if x.dtype in _HALF and not native.available(x):
        options: dict[str, Any] = {"reset": reset, "decay_input": decay_input}
        options["reciprocal_tau"] = reciprocal_tau
        return lif(x.float(), tau=tau, v_threshold=v_threshold, **options).to(x.dtype)
    leak = reciprocal_tau
    differentiable = torch.is_grad_enabled() and (
        x.requires_grad or (isinstance(leak, Tensor) and leak.requires_grad)
    )
    if native.available(x):
        neuron = _native_neuron(tau, v_threshold, reset, decay_input, leak)
        rows, inner = (x.shape[1], x[0, 0].numel()) if x.dim() > 2 else (1, x[0].numel())
        layout = native.Layout(len(x), rows, 1, inner)
        x = x.contiguous()
        fired = (
            _NativeLIF.apply(x, leak, layout, neuron) if differentiable else native.spikes(x, layout, neuron)
        )
        return fired.reshape(x.shape)
    kind = _Kind(tau, v_threshold, reset == "hard", decay_input)
    if native.recorded():
        # A trace is recorded, checked and used in different gradient modes, and must be the same in all.
        return _plainly(x, kind, leak, differentiable=differentiable or native.traced())
    if differentiable:
        spikes: Tensor = _LIF.apply(x, leak, kind)
        return spikes
    return _integrate(x, kind, leak, None)


def normalised_lif(
    y: Tensor,
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
    *,
    tau: float,
    v_threshold: float,
    reset: Reset = "hard",
    decay_input: bool = True,
    reciprocal_tau: Tensor | float | None = None,
    repeat: int | None = None,
) -> Tensor:
    """Spikes of LIF neurons behind a batch normalisation: ``lif(norm(y))``, in one pass where there is one.

    Args:
        y: currents before the normalisation, [T, B, L, D] for ``BatchNorm1d`` and [T, B, C, H, W] for
            ``BatchNorm2d``; without the time axis if ``repeat`` is given.
        norm: normalises the last axis (1d) or the third last one (2d); in training mode its running
            statistics are updated.
        tau: see :func:`lif`, as for the other properties of the neurons.
        v_threshold: see :func:`lif`.
        reset: see :func:`lif`.
        decay_input: see :func:`lif`.
        reciprocal_tau: see :func:`lif`.
        repeat: number of steps for which a static current is repeated.

    Returns:
        0/1 spikes, [T, ...], of the type of ``y``.
    """
    neurons: Neurons = {"tau": tau, "v_threshold": v_threshold, "reset": reset, "decay_input": decay_input}
    currents = y.float() if y.dtype in _HALF else y
    # A gradient through fixed statistics, or a hook on the layer, needs the plain operations.
    plain = (torch.is_grad_enabled() and not norm.training) or norm._forward_hooks or norm._forward_pre_hooks
    fitting = norm.weight.dtype == (torch.float32 if y.dtype in _HALF else y.dtype)
    if native.available(y) and fitting and not plain:
        neuron = _native_neuron(tau, v_threshold, reset, decay_input, reciprocal_tau)
        if isinstance(norm, nn.BatchNorm1d):
            return _normalised_natively(y.contiguous(), norm, neuron, reciprocal_tau, repeat, axis=-1)
        pixels = y.movedim(-3, -1)  # [T, B, H, W, C]
        if pixels.is_contiguous() and not y.is_contiguous():
            fired = _normalised_natively(pixels, norm, neuron, reciprocal_tau, repeat, axis=-1)
            return fired.movedim(-1, -3)
        return _normalised_natively(y.contiguous(), norm, neuron, reciprocal_tau, repeat, axis=-3)
    if norm.training and in_shared_batch():
        x = shared_normalisation(currents, norm, axis=-1 if isinstance(norm, nn.BatchNorm1d) else -3)
    elif isinstance(norm, nn.BatchNorm2d):
        x = norm(currents.flatten(0, -4)).reshape(y.shape)  # time and batch as one axis: [T*B, C, H, W]
    else:
        x = norm(currents.flatten(0, -2)).reshape(y.shape)  # [T*B*L, D]
    if repeat is not None:
        x = x.expand(repeat, *x.shape)  # the same current at every step
    return lif(x, reciprocal_tau=reciprocal_tau, **neurons).to(y.dtype)


class _Kind(NamedTuple):
    """What all neurons share, except a learnt time constant."""

    tau: float
    v_threshold: float
    hard: bool
    decay_input: bool


def _native_neuron(
    tau: float, v_threshold: float, reset: Reset, decay_input: bool, leak: Tensor | float | None
) -> native.Neuron:
    constant = tau if leak is None else leak.item() if isinstance(leak, Tensor) else leak
    return native.Neuron(constant, v_threshold, reset == "hard", decay_input, learnt=leak is not None)


def _on_card(x: Tensor) -> bool:
    """Whether the graphics card's kernels can work on this tensor, while no program is recorded."""
    usable = x.device.type == "cuda" and x.dtype in (torch.float32, *_HALF) and x.numel() > 0
    return usable and not (torch.compiler.is_compiling() or native.recorded()) and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


# ---------------------------------------------------------------------- PyTorch's operations


def _plainly(x: Tensor, neuron: _Kind, leak: Tensor | float | None, *, differentiable: bool) -> Tensor:
    """Spikes by operations that write nothing in place and can be differentiated."""
    fired: list[Tensor] = []
    v = torch.zeros_like(x[0])
    for current in x.unbind():
        if leak is not None:
            v = v + (current - v) * leak if neuron.decay_input else v * (1 - leak) + current
        else:
            v = v + (current - v) / neuron.tau if neuron.decay_input else v - v / neuron.tau + current
        spikes = torch.ge(v, neuron.v_threshold).to(x.dtype)
        kept = spikes  # the reset has no derivative
        if differentiable:  # 0 is added, with the surrogate's derivative
            activation = ((v - neuron.v_threshold) * _SURROGATE_SLOPE).sigmoid()
            spikes = spikes + (activation - activation.detach())
        fired.append(spikes)
        v = v * (1 - kept) if neuron.hard else v - kept * neuron.v_threshold
    return torch.stack(fired)


def _integrate(x: Tensor, neuron: _Kind, leak: Tensor | float | None, membrane: Tensor | None) -> Tensor:
    """Spikes; fills ``membrane``, if given, with H (shape of x).

    Written to pass over memory as rarely as possible, since these passes dominate the cost of a LIF in eager
    mode: H of the first step is X / tau or X, and nothing is reset after the last step.
    """
    spikes = torch.empty_like(x)
    v = (x[0] / neuron.tau if leak is None else x[0] * leak) if neuron.decay_input else x[0].clone()
    change = torch.empty_like(v)
    for step, current in enumerate(x):
        if step and leak is not None and neuron.decay_input:
            v += torch.sub(current, v, out=change).mul_(leak)
        elif step and leak is not None:
            v.mul_(1 - leak).add_(current)
        elif step and neuron.decay_input:
            torch.sub(current, v, out=change)
            v += change.div_(neuron.tau)
        elif step:
            torch.div(v, neuron.tau, out=change)
            v += torch.sub(current, change, out=change)
        fired = torch.ge(v, neuron.v_threshold, out=spikes[step])
        if membrane is not None:
            membrane[step] = v
        if step + 1 == len(x):
            break
        if neuron.hard:
            v.addcmul_(v, fired, value=-1)  # v * (1 - S), exactly
        else:
            v.sub_(fired, alpha=neuron.v_threshold)
    return spikes


class _LIF(torch.autograd.Function):
    """One graph node for all steps, in place of about eight for each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, leak: Tensor | float | None, neuron: _Kind) -> Tensor:  # noqa: ANN401  # torch's context has no public type
        membrane = torch.empty_like(x)
        spikes = _integrate(x, neuron, leak, membrane)
        ctx.save_for_backward(membrane, spikes, *((x, leak) if isinstance(leak, Tensor) else ()))
        ctx.neuron, ctx.leak = neuron, None if isinstance(leak, Tensor) else leak
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # as above
        membrane, spikes, *learnt = ctx.saved_tensors
        neuron: _Kind = ctx.neuron
        (grad_spikes,) = grads
        leak: Tensor | float | None = learnt[1] if learnt else ctx.leak
        activation = torch.sub(membrane, neuron.v_threshold).mul_(_SURROGATE_SLOPE).sigmoid_()
        # dS/dH of the surrogate, times the gradient of S: all steps at once
        grad_h = torch.ops.aten.sigmoid_backward(grad_spikes, activation).mul_(_SURROGATE_SLOPE)
        keep = 1.0 - (1.0 / neuron.tau if leak is None else leak)
        for step in range(len(membrane) - 2, -1, -1):
            grad_v = grad_h[step + 1] * keep  # d loss / d V[t], from the later steps
            if neuron.hard:
                grad_v.addcmul_(grad_v, spikes[step], value=-1)
            grad_h[step] += grad_v
        grad_leak = None
        if learnt:
            before = membrane * (1 - spikes) if neuron.hard else membrane - spikes * neuron.v_threshold
            before = torch.cat([torch.zeros_like(before[:1]), before[:-1]])  # V[t-1]
            charge = learnt[0] - before if neuron.decay_input else -before  # d H / d leak
            grad_leak = (grad_h.double() * charge).sum().to(learnt[1].dtype)
        if neuron.decay_input:
            grad_h = grad_h / neuron.tau if leak is None else grad_h * leak
        return grad_h, grad_leak, None


# ---------------------------------------------------------------------- the native kernels


class _NativeLIF(torch.autograd.Function):
    """The same in one kernel each way; the backward pass recomputes the membrane instead of storing it."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # as above
        x: Tensor,
        leak: Tensor | float | None,
        layout: native.Layout,
        neuron: native.Neuron,
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.leak = leak.dtype if isinstance(leak, Tensor) else None
        ctx.constants = (layout, neuron)
        return native.spikes(x, layout, neuron)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # as above
        (x,) = ctx.saved_tensors
        grad, _, _, leak = native.gradients(x, grads[0].contiguous(), *ctx.constants)
        return grad, _scalar(leak, ctx.leak), None, None


def _scalar(value: float, dtype: torch.dtype | None) -> Tensor | None:
    """A gradient of shape [], if there is one."""
    return None if dtype is None else torch.tensor(value, dtype=dtype)


def _normalised_natively(
    y: Tensor,
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
    neuron: native.Neuron,
    leak: Tensor | float | None,
    repeat: int | None,
    axis: int,
) -> Tensor:
    layout = _layout(y, repeat, axis)
    shape = y.shape if repeat is None else (repeat, *y.shape)
    if not norm.training:
        return native.spikes(y, layout, neuron, _running(norm)).reshape(shape)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None, "cumulative averages are not in use"
    norm.num_batches_tracked.add_(1)
    running = (norm.running_mean, norm.running_var)
    affine = native.normalisation(
        y.detach(),
        layout,
        norm.weight.detach(),
        norm.bias.detach(),
        running,
        eps=norm.eps,
        momentum=norm.momentum,
        others=OtherProcesses() if in_shared_batch() else None,
    )
    if not torch.is_grad_enabled():
        return native.spikes(y, layout, neuron, affine).reshape(shape)
    spikes: Tensor = _NormalisedLIF.apply(y, norm.weight, norm.bias, leak, affine, layout, neuron)
    return spikes.reshape(shape)


def _layout(y: Tensor, repeat: int | None, axis: int) -> native.Layout:
    """The memory layout of contiguous currents, with their channels at the negative ``axis``."""
    steps, one = (len(y), y.shape[1:]) if repeat is None else (repeat, y.shape)
    inner = one[axis:][1:].numel()
    return native.Layout(steps, one[:axis].numel(), one[axis], inner, repeat is not None)


def _running(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> native.Affine:
    """The normalisation by the running statistics, with the rounding of PyTorch's."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    inverse_std = (norm.running_var.double() + norm.eps).rsqrt()
    scale = inverse_std.to(norm.weight.dtype) * norm.weight
    return native.Affine(
        scale, norm.bias - norm.running_mean * scale, norm.running_mean.double(), inverse_std
    )


class _NormalisedLIF(torch.autograd.Function):
    """Batch normalisation by the batch's own statistics, and LIF, in two kernels each way."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # as above
        y: Tensor,
        weight: Tensor,
        bias: Tensor,
        leak: Tensor | float | None,
        affine: native.Affine,
        layout: native.Layout,
        neuron: native.Neuron,
    ) -> Tensor:
        ctx.save_for_backward(y, weight, bias)
        ctx.leak = leak.dtype if isinstance(leak, Tensor) else None
        ctx.constants = (layout, neuron, affine)
        return native.spikes(y, layout, neuron, affine)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # as above
        y, weight, bias = ctx.saved_tensors
        grad, grad_weight, grad_bias, leak = native.gradients(y, grads[0].contiguous(), *ctx.constants)
        assert grad_weight is not None
        assert grad_bias is not None
        own = grad_weight.to(weight.dtype), grad_bias.to(bias.dtype), _scalar(leak, ctx.leak)
        return grad, *own, None, None, None
