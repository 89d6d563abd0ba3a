"""The plain engine: PyTorch's operations, on any device; and the same with compiled neurons."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.engines.base import Attention, Charge, Counts, Engine, Layer, Moments, State, windows
from aspk.metrics import LayerShape
from aspk.supernet.neurons import Neurons, lif

_IMAGES = 64  # that are run at once: larger currents leave the processor's cache
_KEPT = 3  # residual streams that a block holds at once


@dataclass(frozen=True, eq=False)
class Map:
    """Spikes or a residual stream, a byte each: [T, B, C, H, W] behind a convolution, else [T, B, L, D]."""

    values: Tensor


@dataclass(frozen=True, eq=False)
class Products:
    """Products of the first layer, [T, B, C, H, W], or [1, B, C, H, W] for all steps."""

    values: Tensor
    steps: int


class TorchEngine(Engine):
    """Layers as dense products, one step after the other, with the normalisation folded into the weights."""

    name = "torch"
    images = 512

    def __init__(self, *, dtype: torch.dtype = torch.float32) -> None:
        """Make an engine for weights of type ``dtype``."""
        self.dtype = dtype

    def products(self, layer: Layer, images: Tensor, steps: int) -> Products:
        """See :class:`~aspk.engines.base.Engine`."""
        frames = images if images.dim() == 5 else images[None]
        y = F.conv2d(frames.flatten(0, 1), layer.weight, padding=1)  # [T*B, C', H, W]
        return Products(y.reshape(*frames.shape[:2], *y.shape[1:]), steps)

    def moments(self, layer: Layer, x: State) -> tuple[Moments, int]:
        """See :class:`~aspk.engines.base.Engine`."""
        if isinstance(x, Products):
            values = x.values.double()
            variance, mean = torch.var_mean(values, (0, 1, 3, 4), correction=0)
            return Moments(mean, variance), values[:, :, 0].numel()
        product = _product(layer.weight)
        channel = 1 if layer.weight.dim() == 4 else -1
        parts = [
            _moments(product(step.to(self.dtype), layer.weight), channel)
            for images in torch.split(x.values, _IMAGES, dim=1)
            for step in images
        ]
        counts, means, variances = map(torch.stack, zip(*parts, strict=True))
        shares = counts / counts.sum()
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean) ** 2)).sum(0)
        return Moments(mean, variance), int(counts.sum())

    def fire(self, layer: Layer, x: State, charge: Charge, neurons: Neurons) -> Map:
        """See :class:`~aspk.engines.base.Engine`."""
        scale, shift = charge
        if isinstance(x, Products):
            shape = (-1, 1, 1)
            currents = x.values * scale.reshape(shape) + shift.reshape(shape)
            return Map(self.integrate([currents[t % len(currents)] for t in range(x.steps)], neurons))
        weight = layer.weight * scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        product = _product(weight)
        fired = [
            self.integrate([product(step.to(self.dtype), weight, shift) for step in images], neurons)
            for images in torch.split(x.values, _IMAGES, dim=1)
        ]
        return Map(torch.cat(fired, 1) if len(fired) > 1 else fired[0])

    def integrate(self, charges: list[Tensor], neurons: Neurons) -> Tensor:
        """Spikes [T, ...] in uint8 of the charges of each step, which may be overwritten."""
        keep, threshold = 1 - 1 / neurons["tau"], neurons["v_threshold"]
        spikes = torch.empty(len(charges), *charges[0].shape, dtype=torch.uint8, device=charges[0].device)
        membrane = charges[0]
        for step, charge in enumerate(charges):
            membrane = charge.add(membrane, alpha=keep) if step else charge
            fired = torch.ge(membrane, threshold)
            spikes[step] = fired
            if step + 1 < len(charges):
                membrane = (
                    membrane.masked_fill(fired, 0.0)
                    if neurons["reset"] == "hard"
                    else membrane.sub(fired.to(membrane.dtype), alpha=threshold)
                )
        return spikes

    def pool(self, spikes: Map) -> Map:
        """See :class:`~aspk.engines.base.Engine`."""
        x = spikes.values
        pooled = F.max_pool2d(x.flatten(0, 1).half(), kernel_size=3, stride=2, padding=1)
        return Map(pooled.to(torch.uint8).reshape(*x.shape[:2], *pooled.shape[1:]))

    def stream(self, *spikes: Map, keep: bool) -> Map:
        """See :class:`~aspk.engines.base.Engine`."""
        total = functools.reduce(torch.add, (one.values for one in spikes))
        return Map(total.flatten(3).transpose(2, 3).contiguous())  # tokens: [T, B, L, D]

    def add(self, stream: Map, spikes: Map) -> Map:
        """See :class:`~aspk.engines.base.Engine`."""
        return Map(stream.values + spikes.values)

    def attend(self, qkv: Map, heads: int, scale: float, neurons: Neurons) -> Attention:
        """See :class:`~aspk.engines.base.Engine`."""
        fired = []
        counts = torch.zeros(4, len(qkv.values), dtype=torch.float64, device=qkv.values.device)
        for images in torch.split(qkv.values, _IMAGES, dim=1):
            shape = (*images.shape[:3], 3, heads, -1)
            q, k, v = (
                images.to(self.dtype).reshape(shape).permute(3, 0, 1, 4, 2, 5)
            )  # [T, B, heads, L, D'/heads]
            keys = k.transpose(-2, -1)
            y = q @ (keys @ v) if q.shape[-2] > q.shape[-1] else (q @ keys) @ v
            y = (y * scale).transpose(2, 3).flatten(3)  # [T, B, L, D']
            fired.append(lif(y, **neurons).to(torch.uint8))
            over_tokens = [one.sum(-2) for one in (q, k, v)]  # [T, B, heads, D'/heads]
            sums = (*over_tokens, over_tokens[0] * over_tokens[1])
            counts += torch.stack([one.sum((1, 2, 3), dtype=torch.float64) for one in sums])
        return Attention(Map(torch.cat(fired, 1)), *counts)

    def leading(self, spikes: Map, channels: int) -> Map:
        """See :class:`~aspk.engines.base.Engine`."""
        return Map(spikes.values[..., :channels])

    def count(self, x: Map) -> Counts:
        """See :class:`~aspk.engines.base.Engine`."""
        maps = x.values.sum(2, dtype=torch.int32) if x.values.dim() == 5 else x.values  # [T, B, ...]
        maps = maps.sum(1, dtype=torch.int64).double()
        sums = maps.flatten(1).sum(1)
        if x.values.dim() == 4:
            return Counts(sums, sums)
        return Counts(sums, (maps * windows(*maps.shape[1:]).to(maps)).sum((1, 2)))

    def token_sums(self, stream: Map) -> Tensor:
        """See :class:`~aspk.engines.base.Engine`."""
        return stream.values.sum(2, dtype=torch.int32).transpose(0, 1)

    def image_bytes(self, shapes: tuple[LayerShape, ...]) -> int:
        """See :class:`~aspk.engines.base.Engine`."""
        steps = shapes[0].repeats
        largest = max(shape.input_size + shape.output_size for shape in shapes)
        streams = [shape.input_size for shape in shapes if shape.source == "residual"]
        return steps * (largest * (1 + self.dtype.itemsize) + sum(streams))


def _product(weight: Tensor) -> Callable[..., Tensor]:
    return functools.partial(F.conv2d, padding=1) if weight.dim() == 4 else F.linear


def _moments(y: Tensor, channel: int) -> tuple[Tensor, Tensor, Tensor]:
    """Number, means and variances of products, by channel, in float64."""
    axes = [axis for axis in range(y.dim()) if axis != channel % y.dim()]
    variance, mean = torch.var_mean(y, axes, correction=0)
    count = torch.tensor([y.numel() / len(mean)], dtype=torch.float64, device=y.device)
    return count, mean.double(), variance.double()


class CompiledEngine(TorchEngine):
    """The plain engine with its neurons compiled into one kernel by ``torch.compile``."""

    name = "compiled"

    def integrate(self, charges: list[Tensor], neurons: Neurons) -> Tensor:
        """See :class:`~aspk.engines.base.Engine`."""
        constants = (1 - 1 / neurons["tau"], neurons["v_threshold"], neurons["reset"] == "hard")
        fired: Tensor = _compiled()(torch.stack(charges), *constants)
        return fired


def _integrate(charges: Tensor, keep: float, v_threshold: float, hard: bool) -> Tensor:
    membrane, spikes = torch.zeros_like(charges[0]), []
    for charge in charges.unbind():
        membrane = membrane * keep + charge
        fired = membrane >= v_threshold
        spikes.append(fired.to(torch.uint8))
        membrane = torch.where(fired, 0.0 if hard else membrane - v_threshold, membrane)
    return torch.stack(spikes)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_integrate, dynamic=True)
