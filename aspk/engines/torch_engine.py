"""The plain engine: PyTorch's operations, on any device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.engines.base import Charge, Counts, Engine, Layer, Mixed, Moments, Row, State
from aspk.families.base import Attention, Mixer, Neurons, SpikeDrivenAttention, TokenAttention
from aspk.families.counting import windows
from aspk.families.neurons import lif
from aspk.metrics import LayerShape

_MANY = 2**24  # values
_LARGE = 8192  # weights


@dataclass(frozen=True, eq=False)
class Map:
    """Spikes or a residual stream: [T, B, H, W, C] behind a convolution, else [T, B, L, D].

    Attributes:
        values: in the weights' type, or a byte each if there are many.
    """

    values: Tensor


@dataclass(frozen=True, eq=False)
class Currents:
    """Currents: [T, B, H, W, C] behind a convolution, else [T, B, L, D]."""

    values: Tensor


@dataclass(frozen=True, eq=False)
class Products:
    """Products of a layer, [T, B, H, W, C] or [T, B, L, D]; T is 1 if there is one for all ``steps``."""

    values: Tensor
    steps: int


class TorchEngine(Engine):
    """Layers as dense products, one step after the other, with the normalisation folded into the weights."""

    name = "torch"

    def __init__(self, *, dtype: torch.dtype = torch.float32, images: int = 64, memory: int = 2**30) -> None:
        """Make an engine.

        Args:
            dtype: the weights' type.
            images: images run at once. More than the default do not fit a CPU's cache; a GPU needs more.
            memory: bytes; a sixteenth of it may hold a layer's products of one step for later.
        """
        self.dtype, self.images = dtype, images
        self._kept = memory // 16 // dtype.itemsize  # values

    def products(self, layer: Layer, images: Tensor, steps: int) -> Products:
        """See :class:`~aspk.engines.base.Engine`."""
        frames = images if images.dim() == 5 else images[None]
        maps = frames.flatten(0, 1).permute(0, 2, 3, 1)  # [T*B, H, W, C]
        y = _product(layer, layer.weight)(maps, layer.weight)
        return Products(y.reshape(*frames.shape[:2], *y.shape[1:]), steps)

    def keep(self, layer: Layer, x: State) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        if isinstance(x, Products) or x.values[0, ..., 0].numel() * len(layer.weight) > self._kept:
            return x
        product = _product(layer, layer.weight)
        parts = [
            torch.stack([product(step.to(self.dtype), layer.weight) for step in images])
            for images in torch.split(x.values, self.images, dim=1)
        ]
        return Products(torch.cat(parts, 1), len(x.values))

    def first(self, x: State, steps: int) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        if isinstance(x, Products):
            return Products(x.values[:steps], steps)
        return replace(x, values=x.values[:steps])

    def moments(self, layer: Layer, x: State) -> tuple[Moments, int]:
        """See :class:`~aspk.engines.base.Engine`."""
        product = _product(layer, layer.weight)
        parts = [
            _moments(step if isinstance(x, Products) else product(step.to(self.dtype), layer.weight))
            for images in torch.split(x.values, self.images, dim=1)
            for step in images
        ]
        counts, means, variances = map(torch.stack, zip(*parts, strict=True))
        shares = counts / counts.sum()
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean) ** 2)).sum(0)
        return Moments(mean, variance), int(counts.sum())

    def fire(self, layer: Layer, x: State, charge: Charge, neurons: Neurons) -> Map:
        """See :class:`~aspk.engines.base.Engine`."""
        scale, shift, keep = charge
        weight = layer.weight * scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        product = _product(layer, weight)
        fired = []
        for images in torch.split(x.values, self.images, dim=1):
            if isinstance(x, Products):
                charges = [
                    torch.addcmul(shift, step, scale) for step in images.expand(x.steps, *images.shape[1:])
                ]
            else:
                charges = [product(step.to(self.dtype), weight, shift) for step in images]
            fired.append(_map(self.integrate(charges, keep, neurons)))
        return _joined(fired)

    def integrate(self, charges: list[Tensor], kept: Tensor | None, neurons: Neurons) -> Tensor:
        """0/1 spikes [T, ...] of the charges of each step, which may be overwritten.

        The share that the neurons keep in a step is ``kept``, or follows from their tau.
        """
        keep, threshold = 1 - 1 / neurons["tau"], neurons["v_threshold"]
        spikes = charges[0].new_empty((len(charges), *charges[0].shape))
        membrane = None
        for fired, charge in zip(spikes, charges, strict=True):
            if membrane is not None and kept is not None:
                charge.addcmul_(membrane, kept)
            elif membrane is not None:
                charge.add_(membrane, alpha=keep)
            torch.ge(charge, threshold, out=fired)
            if neurons["reset"] == "hard":
                membrane = charge.addcmul_(charge, fired, value=-1)  # v * (1 - S), exactly
            else:
                membrane = charge.sub_(fired, alpha=threshold)
        return spikes

    def current(self, layer: Layer, x: State, charge: Charge) -> Currents:
        """See :class:`~aspk.engines.base.Engine`."""
        scale, shift, _ = charge
        weight = layer.weight * scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        product = _product(layer, weight)
        parts = [
            torch.addcmul(shift, images.expand(x.steps, *images.shape[1:]), scale)
            if isinstance(x, Products)
            else torch.stack([product(step.to(self.dtype), weight, shift) for step in images])
            for images in torch.split(x.values, self.images, dim=1)
        ]
        return Currents(torch.cat(parts, 1))

    def spike(self, current: Currents, neurons: Neurons, reciprocal_tau: float | None) -> Map:
        """See :class:`~aspk.engines.base.Engine`."""
        return _map(lif(current.values, reciprocal_tau=reciprocal_tau, **neurons))

    def pool(self, spikes: Map | Currents) -> Map | Currents:
        """See :class:`~aspk.engines.base.Engine`."""
        x = spikes.values
        maps = x.flatten(0, 1).to(self.dtype).permute(0, 3, 1, 2)  # [T*B, C, H, W], channels last in memory
        pooled = F.max_pool2d(maps, kernel_size=3, stride=2, padding=1).permute(0, 2, 3, 1)
        values = pooled.reshape(*x.shape[:2], *pooled.shape[1:])
        return _map(values) if isinstance(spikes, Map) else Currents(values)

    def sample(self, spikes: Map) -> Map:
        """See :class:`~aspk.engines.base.Engine`."""
        return Map(spikes.values[:, :, ::2, ::2])

    def tokens(self, x: State) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        return replace(x, values=x.values.flatten(2, 3))

    def maps(self, x: State, size: tuple[int, int]) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        return replace(x, values=x.values.reshape(*x.values.shape[:2], *size, -1))

    def stream(self, *spikes: Map, keep: bool) -> Map:
        """See :class:`~aspk.engines.base.Engine`."""
        total = functools.reduce(torch.add, (one.values.to(self.dtype) for one in spikes))
        return _map(total.flatten(2, 3))  # tokens: [T, B, L, D]

    def add(self, stream: Map | Currents, spikes: Map | Currents) -> Map | Currents:
        """See :class:`~aspk.engines.base.Engine`."""
        if isinstance(stream, Currents):
            return Currents(stream.values + spikes.values)
        return _map(stream.values.to(self.dtype) + spikes.values)

    def mix(self, mixer: Mixer, spikes: Map, reciprocal_tau: float | None) -> Mixed:
        """See :class:`~aspk.engines.base.Engine`."""
        fired, counted = [], []
        for images in torch.split(spikes.values, self.images, dim=1):
            parts = images.to(self.dtype).chunk(len(mixer.made_by), dim=-1)  # [T, B, L, D'] each
            mixed, *sums = self._mixed(mixer, reciprocal_tau, *parts)
            fired.append(_map(mixed))
            totals = [one.sum(tuple(range(1, one.dim())), dtype=torch.float64) for one in sums]
            counted.append(torch.stack(totals))
        result, counts = _joined(fired), torch.stack(counted).sum(0)
        if isinstance(mixer, Attention):
            q, k, v, pairs = counts
            return Mixed(result, (q, k, v), (Row(q, pairs, None), Row(v, v, result)))
        if isinstance(mixer, SpikeDrivenAttention):
            q, k, v, both, neurons, passed = counts
            return Mixed(result, (q, k, v), (Row(k, both, neurons), Row(q, passed, None)))
        q, k, neurons, passed = counts
        return Mixed(result, (q, k), (Row(q, q, neurons), Row(k, passed, None)))

    def _mixed(self, mixer: Mixer, reciprocal_tau: float | None, *parts: Tensor) -> tuple[Tensor, ...]:
        """A mixer's output for spikes [T, B, L, D'], in the same shape, and its counts."""

        def fire(currents: Tensor) -> Tensor:
            return lif(currents, reciprocal_tau=reciprocal_tau, **mixer.neurons.arguments)

        if isinstance(mixer, SpikeDrivenAttention):
            q, k, v = parts
            both = k * v
            neurons = fire(both.sum(2, keepdim=True))  # [T, B, 1, D']
            passed = q * neurons
            return passed, q, k, v, both, neurons, passed
        if isinstance(mixer, TokenAttention):
            q, k = (one.reshape(*one.shape[:3], mixer.heads, -1) for one in parts)
            neurons = fire(q.sum(4, keepdim=True))  # [T, B, L, heads, 1] of [T, B, L, heads, D'/heads]
            passed = (k * neurons).flatten(3)
            return passed, q, k, neurons, passed
        assert isinstance(mixer, Attention)
        q, k, v = (one.reshape(*one.shape[:3], mixer.heads, -1).transpose(2, 3) for one in parts)
        keys = k.transpose(-2, -1)  # [T, B, heads, D'/heads, L]
        y = q @ (keys @ v) if q.shape[-2] > q.shape[-1] else (q @ keys) @ v
        y = (y * mixer.scale).transpose(2, 3).flatten(3)  # [T, B, L, D']
        over_tokens = [one.sum(-2) for one in (q, k, v)]  # [T, B, heads, D'/heads]
        return fire(y), *over_tokens, over_tokens[0] * over_tokens[1]

    def leading(self, x: State, channels: int) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        return replace(x, values=x.values[..., :channels])

    def count(self, x: Map) -> Counts:
        """See :class:`~aspk.engines.base.Engine`."""
        values = x.values.to(self.dtype)  # sums within an image stay whole numbers below 2^24
        if values.dim() == 4:
            sums = values.sum((2, 3)).sum(1, dtype=torch.float64)
            return Counts(sums, sums)
        maps = values.sum(-1).sum(1, dtype=torch.float64)  # [T, H, W]
        return Counts(maps.sum((1, 2)), (maps * windows(*maps.shape[1:]).to(maps)).sum((1, 2)))

    def windowed(self, x: Map, kernel: int, stride: int) -> Tensor:
        """See :class:`~aspk.engines.base.Engine`."""
        maps = x.values.to(self.dtype).sum(-1).sum(1, dtype=torch.float64)  # [T, H, W]
        return (maps * windows(*maps.shape[1:], kernel=kernel, stride=stride).to(maps)).sum((1, 2))

    def token_sums(self, stream: Map | Currents) -> Tensor:
        """See :class:`~aspk.engines.base.Engine`."""
        return stream.values.to(self.dtype).sum(2).transpose(0, 1)

    def image_bytes(self, shapes: tuple[LayerShape, ...]) -> int:
        """See :class:`~aspk.engines.base.Engine`."""
        # The largest layer's input; its output as charges, as spikes, once more while parts are joined, and
        # as much again for convolutions and what the allocator keeps: measured, see the tests.
        largest = max(shape.input_size + 7 * shape.output_size for shape in shapes)
        streams = sum(
            shape.input_size for shape in shapes if shape.source == "residual" or shape.kind == "neurons"
        )
        kept = shapes[1].output_size
        return shapes[0].repeats * self.dtype.itemsize * (largest + streams + kept)


def _map(values: Tensor) -> Map:
    """Whole numbers up to 255, as bytes if there are many."""
    return Map(values if values.numel() <= _MANY else values.to(torch.uint8))


def _joined(parts: list[Map]) -> Map:
    """All images, from parts of them."""
    return Map(torch.cat([part.values for part in parts], 1) if len(parts) > 1 else parts[0].values)


def _product(layer: Layer, weight: Tensor) -> Callable[..., Tensor]:
    """What multiplies inputs by a layer's weight, or by the same scaled, and adds a bias."""
    if weight.dim() == 4:
        groups = len(weight) if layer.depthwise else 1
        return functools.partial(_convolution, stride=layer.stride, groups=groups)
    # oneDNN's convolutions are faster than the matrix products of large layers, see aspk.families.products.
    large = weight.device.type == "cpu" and weight.numel() >= _LARGE
    return _pointwise if large else F.linear


def _convolution(
    maps: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int, groups: int
) -> Tensor:
    """A convolution of maps [B, H, W, C], which oneDNN computes faster than [B, C, H, W]."""
    x, padding = maps.permute(0, 3, 1, 2), weight.shape[-1] // 2
    y = F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups)
    return y.permute(0, 2, 3, 1).contiguous()


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer over tokens [B, L, D] as a 1x1 convolution of maps whose channels are the last axis."""
    maps = F.conv2d(x.unsqueeze(2).permute(0, 3, 1, 2), weight[:, :, None, None], bias)  # [B, D', L, 1]
    return maps.permute(0, 2, 3, 1).squeeze(2)


def _moments(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number, means and variances of products, by channel (the last axis), in float64."""
    rows = y.flatten(0, -2)
    mean = rows.mean(0)
    variance = (rows - mean).square_().mean(0)  # twenty times as fast as torch.var_mean of the leading axes
    count = torch.tensor([len(rows)], dtype=torch.float64, device=y.device)
    return count, mean.double(), variance.double()
