"""Counting what layers read and neurons fire, while images run through a network."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.metrics import LayerCount, LayerShape


class Counter:
    """An :class:`~aspk.supernet.spikformer.Observer` that adds up counts over batches.

    Sums of 0/1 spikes are exact: below 2^24 within an image in float32, and in float64 beyond.

    Args:
        shapes: the network's layers, from :func:`aspk.cost.layer_shapes`.
    """

    def __init__(self, shapes: tuple[LayerShape, ...]) -> None:
        self._shapes = {shape.name: shape for shape in shapes}
        self._inputs: dict[str, Tensor] = {}
        self._exact: dict[str, float] = defaultdict(float)
        self._spikes: dict[str, Tensor] = {}
        self._images = 0
        self._recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=3)  # tensors and their sums

    def __call__(self, layer: str, inputs: tuple[Tensor, ...], spikes: Tensor | None) -> None:
        """Add one layer's batch; see :class:`~aspk.supernet.spikformer.Observer`."""
        shape, x = self._shapes[layer], inputs[0]
        static = shape.source == "image" and x.dim() == 4
        if static or shape.kind == "head":
            x = x[None]  # one step: [1, B, ...]
        if shape.kind == "conv":
            maps = x.detach().sum(2)  # over channels: [T, B, H, W]
            steps = _step_sums(maps)
            exact = float((maps * _windows(maps)).sum(dtype=torch.float64)) * _fan_out(shape)
        elif len(inputs) == 2:
            steps, exact = _pairs(*inputs)
        else:
            steps = self._steps_of(x)
            exact = float(steps.sum()) * shape.operations / shape.input_size
        if static:
            steps, exact = steps.expand(shape.repeats), exact * shape.repeats
        self._inputs[layer] = self._inputs.get(layer, 0) + steps.cpu()
        self._exact[layer] += exact
        if spikes is not None:
            self._spikes[layer] = self._spikes.get(layer, 0) + self._steps_of(spikes).cpu()
        if layer == "head":
            self._images += x.shape[1]
            self._recent.clear()

    def _steps_of(self, x: Tensor) -> Tensor:
        """Sums at each step; once for a tensor that one layer fires and the next ones read."""
        for tensor, sums in self._recent:
            if tensor is x:
                return sums
        self._recent.append((x, _step_sums(x.detach())))
        return self._recent[-1][1]

    def counts(self) -> tuple[LayerCount, ...]:
        """Means over all images seen so far."""
        return tuple(self._count(shape) for shape in self._shapes.values())

    def _count(self, shape: LayerShape) -> LayerCount:
        fired = self._spikes[shape.name] / self._images if shape.name in self._spikes else torch.zeros(0)
        return LayerCount(
            **asdict(shape),
            input_sums=tuple((self._inputs[shape.name] / self._images).tolist()),
            exact_operations=self._exact[shape.name] / self._images,
            output_spikes=float(fired.sum()),
            output_sums=tuple(fired.tolist()),
        )


def _step_sums(x: Tensor) -> Tensor:
    """Sums at each step, [T], of [T, B, ...]; in float32 within an image only."""
    return x.sum(tuple(range(2, x.dim()))).sum(1, dtype=torch.float64)


def _pairs(q: Tensor, k: Tensor) -> tuple[Tensor, float]:
    """For q kᵀ the spikes of q at each step, and the accumulates where both fire.

    Over channels, spikes of q times spikes of k.
    """
    q, k = (y.detach().sum(-2) for y in (q, k))  # over tokens: [T, B, heads, D/heads]
    return _step_sums(q), float((q * k).sum(dtype=torch.float64))


def _fan_out(conv: LayerShape) -> int:
    """Output channels of a 3x3 convolution: operations = 9 * inputs * outputs * pixels."""
    return conv.operations // (9 * conv.input_size)


def _windows(maps: Tensor) -> Tensor:
    """For each pixel, how many 3x3 windows with padding 1 contain it: [H, W], 9 inside, 4 in a corner."""
    ones = torch.ones(1, 1, *maps.shape[-2:], dtype=maps.dtype, device=maps.device)
    return F.conv2d(ones, torch.ones(1, 1, 3, 3, dtype=maps.dtype, device=maps.device), padding=1)[0, 0]
