"""Counting what layers read and neurons fire, while images run through a network."""

from __future__ import annotations

from collections import defaultdict
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
        self._spikes: dict[str, float] = defaultdict(float)
        self._images = 0

    def __call__(self, layer: str, inputs: tuple[Tensor, ...], spikes: Tensor | None) -> None:
        """Add one layer's batch; see :class:`~aspk.supernet.spikformer.Observer`."""
        shape, x = self._shapes[layer], inputs[0].detach()
        static = shape.source == "image" and x.dim() == 4
        if static or shape.kind == "head":
            x = x[None]  # one step: [1, B, ...]
        exact: float | None = None
        if shape.kind == "conv":
            maps = x.sum(2)  # over channels: [T, B, H, W]
            exact = float((maps * _windows(maps)).sum(dtype=torch.float64)) * _fan_out(shape)
        else:
            maps = x
            exact = self._exact_pairs(inputs)
        steps = maps.flatten(2).sum(2).sum(1, dtype=torch.float64)  # [T]
        if exact is None:
            exact = float(steps.sum()) * shape.operations / shape.input_size
        if static:
            steps, exact = steps.expand(shape.repeats), exact * shape.repeats
        self._inputs[layer] = self._inputs.get(layer, 0) + steps.cpu()
        self._exact[layer] += exact
        if spikes is not None:
            self._spikes[layer] += float(spikes.detach().flatten(2).sum(2).sum(dtype=torch.float64))
        if layer == "head":
            self._images += x.shape[1]

    @staticmethod
    def _exact_pairs(inputs: tuple[Tensor, ...]) -> float | None:
        """For q kᵀ the accumulates where both fire: over channels, spikes of q times spikes of k."""
        if len(inputs) != 2:
            return None
        q, k = (y.detach().sum(-2) for y in inputs)  # over tokens: [T, B, heads, D/heads]
        return float((q * k).sum(dtype=torch.float64))

    def counts(self) -> tuple[LayerCount, ...]:
        """Means over all images seen so far."""
        return tuple(
            LayerCount(
                **asdict(shape),
                input_sums=tuple((self._inputs[name] / self._images).tolist()),
                exact_operations=self._exact[name] / self._images,
                output_spikes=self._spikes[name] / self._images,
            )
            for name, shape in self._shapes.items()
        )


def _fan_out(conv: LayerShape) -> int:
    """Output channels of a 3x3 convolution: operations = 9 * inputs * outputs * pixels."""
    return conv.operations // (9 * conv.input_size)


def _windows(maps: Tensor) -> Tensor:
    """For each pixel, how many 3x3 windows with padding 1 contain it: [H, W], 9 inside, 4 in a corner."""
    ones = torch.ones(1, 1, *maps.shape[-2:], dtype=maps.dtype, device=maps.device)
    return F.conv2d(ones, torch.ones(1, 1, 3, 3, dtype=maps.dtype, device=maps.device), padding=1)[0, 0]
