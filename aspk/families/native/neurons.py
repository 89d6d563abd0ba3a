"""The kernels as functions of tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.jit import is_tracing  # type: ignore[attr-defined]  # documented
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from aspk.families.native.build import library

_NAMES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True)
class Layout:
    """How currents lie in memory: [steps, rows, channels, inner], or [rows, channels, inner] if repeated.

    Attributes:
        steps: time steps T.
        rows: images, or tokens of all images.
        channels: the axis that a normalisation has statistics for.
        inner: pixels of a channel; 1 where the channels are the last axis.
        repeated: whether there is one current for all steps.
    """

    steps: int
    rows: int
    channels: int
    inner: int
    repeated: bool = False


@dataclass(frozen=True)
class Neuron:
    """LIF neurons, see :mod:`aspk.families.neurons`.

    Attributes:
        tau: membrane time constant in steps; its reciprocal if it is learnt.
        v_threshold: firing threshold.
        hard: whether a spike sets the membrane to 0.
        decay_input: whether the input is divided by tau.
        learnt: whether the reciprocal is a weight that the membrane is multiplied by, as in PLIF.
    """

    tau: float
    v_threshold: float
    hard: bool
    decay_input: bool
    learnt: bool = False


class Others(Protocol):
    """The other processes, which hold the rest of the batch."""

    def statistics(self, count: float, mean: Tensor, variance: Tensor) -> tuple[float, Tensor, Tensor]:
        """Count, mean and biased variance of each channel in the whole batch, from those of this part."""
        ...

    def sums(self, own: Tensor) -> Tensor:
        """Sums over the whole batch, from those over this part."""
        ...


@dataclass(frozen=True)
class Affine:
    """A normalisation of currents: x = scale * y + shift for each channel.

    Attributes:
        scale: [C], of the weights' type.
        shift: [C], of the weights' type.
        mean: mean of y, [C], float64.
        inverse_std: 1 / sqrt(variance of y + eps), [C], float64.
        others: the processes that hold the rest of the batch, which the statistics include.
        part: this process's share of the batch.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse_std: Tensor
    others: Others | None = None
    part: float = 1.0


def recorded() -> bool:
    """Whether ``torch.jit.trace``, ``torch.export`` or ``make_fx`` is recording a program.

    They see only PyTorch's operations: a kernel's output would become a constant of the program.
    """
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # PyTorch 2.6 lacks it
    return traced() or bool(exporting() or is_in_torch_dispatch_mode())


def traced() -> bool:
    """Whether ``torch.jit.trace`` is recording a program, whatever the gradient mode."""
    return bool(is_tracing())  # type: ignore[no-untyped-call]  # torch


def available(x: Tensor) -> bool:
    """Whether the kernels can work on this tensor: a real one on the CPU, while no program is recorded."""
    real = type(x) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling() and not recorded()
    possible = real and x.device.type == "cpu" and x.dtype in _NAMES and x.numel() > 0
    return possible and library(numbers=_NAMES[x.dtype]) is not None


def normalisation(
    y: Tensor,
    layout: Layout,
    weight: Tensor,
    bias: Tensor,
    running: tuple[Tensor, Tensor],
    *,
    eps: float,
    momentum: float,
    others: Others | None = None,
) -> Affine:
    """Batch normalisation by the statistics of ``y`` and of the other processes' parts.

    Args:
        y: contiguous currents.
        layout: how they are laid out in memory.
        weight: [C].
        bias: [C].
        running: running mean and variance, [C] each, updated in place.
        eps: added to the variance.
        momentum: share of the new statistics in the running ones.
        others: the processes that hold the rest of the batch.
    """
    mean, variance, inverse_std = torch.empty((3, layout.channels), dtype=torch.float64).unbind()
    scale, shift = weight.new_empty((2, layout.channels)).unbind()
    _call("statistics", y, _at(y), *_sizes(layout, read=True), _at(mean), _at(variance), _threads())
    own = count = y.numel() // layout.channels
    if others is not None:
        whole, mean, variance = others.statistics(float(own), mean, variance)
        count = round(whole)
    sizes = (ctypes.c_int64(layout.channels), ctypes.c_int64(count))
    constants = (ctypes.c_double(eps), ctypes.c_double(momentum))
    inputs = (_at(weight), _at(bias), *constants, _at(mean), _at(variance), *map(_at, running))
    _call("normalisation", y, *sizes, *inputs, _at(scale), _at(shift), _at(inverse_std))
    return Affine(scale, shift, mean, inverse_std, others, own / count)


def spikes(y: Tensor, layout: Layout, neuron: Neuron, affine: Affine | None = None) -> Tensor:
    """0/1 spikes of the contiguous currents ``y``, normalised first if there is an ``affine``.

    Returns:
        [steps, rows, channels, inner].
    """
    fired = y.new_empty((layout.steps, layout.rows, layout.channels, layout.inner))
    scale = (None, None) if affine is None else (_at(affine.scale), _at(affine.shift))
    _call("forward", y, _at(y), _at(fired), *_sizes(layout), *scale, *_constants(layout, neuron), _threads())
    return fired


def gradients(
    y: Tensor, arriving: Tensor, layout: Layout, neuron: Neuron, affine: Affine | None = None
) -> tuple[Tensor, Tensor | None, Tensor | None, float]:
    """Gradients of the currents, and of the weight and bias of their normalisation by the batch's statistics.

    The last number is that of the reciprocal of a learnt tau.

    Args:
        y: what :func:`spikes` got.
        arriving: gradient of the spikes, contiguous.
        layout: as in :func:`spikes`.
        neuron: as in :func:`spikes`.
        affine: as in :func:`spikes`; mean and deviation are those of ``y``.
    """
    grad = torch.empty_like(y)
    pointers: tuple[ctypes.c_void_p | None, ...] = (None,) * 4
    weight = bias = None
    if affine is not None:
        pointers = tuple(_at(t) for t in (affine.scale, affine.shift, affine.mean, affine.inverse_std))
        weight, bias = torch.empty_like(affine.mean), torch.empty_like(affine.mean)
    sums = (None if bias is None else _at(bias), None if weight is None else _at(weight))
    constants = _constants(layout, neuron)
    leak = ctypes.c_double(0.0)
    _call(
        "backward",
        y,
        _at(y),
        _at(arriving),
        _at(grad),
        *_sizes(layout),
        *pointers,
        *constants,
        *sums,
        ctypes.byref(leak) if neuron.learnt else None,
        _threads(),
    )
    if affine is not None:
        assert bias is not None
        assert weight is not None
        # The kernel divides by the count of this part, so sums over all parts are scaled down to it.
        others, both = affine.others, torch.stack([bias, weight])
        whole = both if others is None else others.sums(both) * affine.part
        known = (affine.scale, affine.mean, affine.inverse_std, *whole)
        read = _sizes(layout, read=True)
        _call("through_norm", y, _at(y), _at(grad), *read, *map(_at, known), _threads())
    return grad, weight, bias, leak.value


def _call(name: str, like: Tensor, *arguments: object) -> None:
    found = library(numbers=_NAMES[like.dtype])
    assert found is not None, "see available()"
    kernel: Callable[..., None] = getattr(found, f"call_{name}")
    kernel(*arguments)


def _threads() -> ctypes.c_int:
    return ctypes.c_int(torch.get_num_threads())


def _at(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def _sizes(layout: Layout, *, read: bool = False) -> tuple[ctypes.c_int64, ...]:
    """The four sizes; with ``read``, those of the currents, which have one step if they are repeated."""
    steps = 1 if read and layout.repeated else layout.steps
    return tuple(ctypes.c_int64(size) for size in (steps, layout.rows, layout.channels, layout.inner))


def _constants(layout: Layout, neuron: Neuron) -> tuple[object, ...]:
    """repeated, tau, v_threshold, hard, decay_input, learnt."""
    numbers = (ctypes.c_double(neuron.tau), ctypes.c_double(neuron.v_threshold))
    return (
        ctypes.c_int(layout.repeated),
        *numbers,
        ctypes.c_int(neuron.hard),
        ctypes.c_int(neuron.decay_input),
        ctypes.c_int(neuron.learnt),
    )
