"""What an engine does: the operations that a spiking transformer consists of, on states of its own kind.

An engine evaluates; it has no gradients, and no state of its own beyond caches. Its results for a network do
not depend on what else it evaluates.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from aspk.families.base import LIF, OPERATIONS, Mixer, Neurons, Operation
from aspk.families.counting import windows
from aspk.metrics import LayerShape

# Factor and summand, [outputs] each, that turn a product into the charge of a neuron; and the share of its
# membrane that each neuron keeps in a step, None if that is 1 - 1 / tau for all. In the engine's own form.
Charge = tuple[Tensor, Tensor, Tensor | None]
# Spikes, a residual stream, currents or the first layer's products, in the form of the engine that made them.
State = Any


@dataclass(frozen=True)
class Moments:
    """Mean and variance of a layer's products (without its bias) over images, steps and positions.

    Attributes:
        mean: [outputs], float64.
        variance: [outputs], float64.
    """

    mean: Tensor
    variance: Tensor

    def unbiased(self, count: int) -> Moments:
        """The unbiased variance estimate from ``count`` values, as in PyTorch's running statistics."""
        return Moments(self.mean, self.variance * (count / max(count - 1, 1)))


@dataclass(frozen=True, eq=False)
class Layer:
    """A product and its batch normalisation.

    Attributes:
        names: the network's layers that it computes, see :func:`aspk.costs.cost.layer_shapes`; several if
            they read the same input.
        weight: [outputs, inputs], or [outputs, inputs, k, k]; [outputs, 1, k, k] if each channel is convolved
            on its own.
        gain: weight of the normalisation, [outputs].
        offset: bias of the normalisation, [outputs].
        running: the running statistics from training.
        eps: what the normalisation adds to the variance.
        reciprocal_tau: 1 / tau of the neurons behind it where it is learnt, [outputs], float64, else None.
        stride: of a convolution.
        depthwise: whether it is a convolution of each channel on its own.
    """

    names: tuple[str, ...]
    weight: Tensor
    gain: Tensor
    offset: Tensor
    running: Moments
    eps: float
    reciprocal_tau: Tensor | None = None
    stride: int = 1
    depthwise: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """What distinguishes its weight from those of the supernet's other layers and slices."""
        return (*self.names, *self.weight.shape, self.stride)

    def charge(self, moments: Moments, neurons: LIF | None) -> Charge:
        """What turns a product into a neuron's charge, or into a current if no neurons follow; in float64.

        This is batch normalisation, and division by tau if the input decays. A bias of the product cancels.
        """
        scale = self.gain.double() / (moments.variance + self.eps).sqrt()
        shift = self.offset.double() - moments.mean * scale
        if neurons is None:
            return scale, shift, None
        if neurons.learnt:
            assert self.reciprocal_tau is not None
            factor = self.reciprocal_tau if neurons.decay_input else 1.0
            return scale * factor, shift * factor, 1 - self.reciprocal_tau
        divisor = neurons.tau if neurons.decay_input else 1.0
        return scale / divisor, shift / divisor, None


class Row(NamedTuple):
    """What was counted for one layer at each step, summed over all images.

    Attributes:
        inputs: sum of what it reads, [T].
        exact: operations that occur, up to a fixed fan-out factor, [T].
        outputs: spikes of its neurons, [T], or the state that holds these spikes; None without neurons.
    """

    inputs: Tensor
    exact: Tensor
    outputs: Tensor | State | None


@dataclass(frozen=True)
class Counts:
    """Events of a state, all images together.

    Attributes:
        sums: sum of the values at each step, [T], float64 (whole numbers, but for pixels).
        windowed: the same, each value times the 3x3 windows with padding 1 that contain it; [T].
    """

    sums: Tensor
    windowed: Tensor


@dataclass(frozen=True)
class Mixed:
    """The spikes that a mixer makes, and what was counted on the way.

    Attributes:
        spikes: its output.
        read: spikes of each layer in front of it at each step, all images together; [T], float64.
        rows: what was counted for each of its names.
    """

    spikes: State
    read: tuple[Tensor, ...]
    rows: tuple[Row, Row]


class Program:
    """A walk over the operations of some networks, to be run on successive batches of images.

    Args:
        walk: does the operations on a batch.
        images: most images of a batch.
    """

    def __init__(self, walk: Callable[[Tensor], None], images: int) -> None:
        self._walk, self.images = walk, images

    def run(self, images: Tensor) -> None:
        """Run it on images [B, C, H, W] or sequences [T, B, C, H, W]."""
        self._walk(images)


class Engine(abc.ABC):
    """The operations of one way to execute."""

    name: ClassVar[str]
    # Operations it supports; networks with any other run on the engine "torch".
    operations: ClassVar[frozenset[type[Operation]]] = OPERATIONS
    images: int  # that it preferably runs at once
    # Held while networks run, by engines that run those of one thread at a time.
    alone: AbstractContextManager[object] = nullcontext()
    # Whether an output is bitwise the same whatever other outputs a layer has.
    independent_outputs: ClassVar[bool] = False

    def program(self, walk: Callable[[Tensor], None], images: Tensor) -> Program:
        """A program that runs ``walk``, or its equivalent, on batches like ``images``.

        An engine may run the walk only once, to record it. From then on, the states and sums that it returned
        hold the latest batch's values, and the counts hold the totals of all batches.
        """
        return Program(walk, images.shape[-4])

    @abc.abstractmethod
    def products(self, layer: Layer, images: Tensor, steps: int) -> State:
        """Products of the first layer with images [B, C, H, W] (once) or sequences [T, B, C, H, W]."""

    @abc.abstractmethod
    def keep(self, layer: Layer, x: State) -> State:
        """What :meth:`moments` and :meth:`fire` of this layer may be given, repeatedly, in place of ``x``.

        The layer's products, or ``x`` if they need too much memory. Which of them depends on sizes only.
        """

    @abc.abstractmethod
    def first(self, x: State, steps: int) -> State:
        """The first steps of spikes, or of products."""

    @abc.abstractmethod
    def moments(self, layer: Layer, x: State) -> tuple[Moments, int]:
        """Statistics of the layer's products with spikes or a stream, or of products, and their number.

        The variance is the biased one, which batch normalisation uses in training.
        """

    @abc.abstractmethod
    def fire(self, layer: Layer, x: State, charge: Charge, neurons: Neurons) -> State:
        """Spikes of the neurons behind a layer; ``charge`` turns its products into charges."""

    @abc.abstractmethod
    def pool(self, spikes: State) -> State:
        """Max pooling of spikes or currents, 3x3 with stride 2 and padding 1."""

    @abc.abstractmethod
    def sample(self, spikes: State) -> State:
        """Every second pixel of maps of spikes in both directions, the first one included."""

    @abc.abstractmethod
    def stream(self, *spikes: State, keep: bool) -> State:
        """The residual stream that the sum of the stem's spikes starts.

        ``keep`` says that products with it may be kept, since several networks will need them.
        """

    @abc.abstractmethod
    def add(self, stream: State, spikes: State) -> State:
        """A new residual stream with spikes added; or the sum of two currents."""

    @abc.abstractmethod
    def mix(self, mixer: Mixer, spikes: State, reciprocal_tau: float | None) -> Mixed:
        """A mixer's output, from the concatenated spikes of the layers in front of it.

        ``reciprocal_tau`` is the neurons' 1 / tau where it is learnt.
        """

    @abc.abstractmethod
    def current(self, layer: Layer, x: State, charge: Charge) -> State:
        """Currents of a layer without neurons; ``charge`` turns its products into currents."""

    @abc.abstractmethod
    def spike(self, current: State, neurons: Neurons, reciprocal_tau: float | None) -> State:
        """Spikes of neurons that read a current; see :meth:`mix` for ``reciprocal_tau``."""

    @abc.abstractmethod
    def tokens(self, x: State) -> State:
        """Maps of spikes or currents as tokens."""

    @abc.abstractmethod
    def maps(self, x: State, size: tuple[int, int]) -> State:
        """Tokens of spikes or currents as maps with a height and a width."""

    @abc.abstractmethod
    def leading(self, x: State, channels: int) -> State:
        """The first channels of spikes, for engines with ``independent_outputs``; or of :meth:`products`."""

    @abc.abstractmethod
    def count(self, x: State) -> Counts:
        """Events of spikes or of a residual stream."""

    @abc.abstractmethod
    def windowed(self, x: State, kernel: int, stride: int) -> Tensor:
        """Maps of spikes at each step, each spike times the windows of a convolution that contain it; [T].

        ``kernel`` and ``stride`` as in :func:`aspk.families.counting.windows`; float64, whole numbers.
        """

    @abc.abstractmethod
    def token_sums(self, stream: State) -> Tensor:
        """Sums over the tokens of a residual stream, whole numbers, or of a current; [B, T, D]."""

    @abc.abstractmethod
    def image_bytes(self, shapes: tuple[LayerShape, ...]) -> int:
        """Estimate of the memory that one image needs at once, from the largest network's layers."""

    def charge(self, layer: Layer, moments: Moments, neurons: LIF | None) -> Charge:
        """What :meth:`fire` and :meth:`current` need from a normalisation, in the engine's own form."""
        scale, shift, keep = layer.charge(moments, neurons)
        dtype = layer.weight.dtype
        return scale.to(dtype), shift.to(dtype), None if keep is None else keep.to(dtype)


def foreign_operations(operations: Iterable[Operation], engine: Engine | type[Engine]) -> list[str]:
    """Names of the kinds of operations that an engine does not run, in order."""
    return sorted({type(one).__name__ for one in operations if type(one) not in engine.operations})


def pixel_counts(images: Tensor, steps: int) -> Counts:
    """Sums of the pixels of images [B, C, H, W], the same at every step, or sequences [T, B, C, H, W]."""
    frames = images if images.dim() == 5 else images[None]
    maps = frames.sum((1, 2), dtype=torch.float64)  # [T or 1, H, W]
    windowed = (maps * windows(*maps.shape[1:]).to(maps)).sum((1, 2))
    return Counts(maps.sum((1, 2)).expand(steps), windowed.expand(steps))
