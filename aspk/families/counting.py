"""Counting what layers read and neurons fire, while images run through a network."""

from __future__ import annotations

from collections import deque
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from aspk.families.operations import ConvolutionShape
from aspk.metrics import LayerCount, LayerShape


class Counter:
    """An :class:`~aspk.families.Observer` that adds up counts over batches.

    Sums of 0/1 spikes are exact: float32 within an image, where they stay below 2^24, and float64 across
    images.

    Args:
        shapes: the network's layers, from :func:`aspk.costs.cost.layer_shapes`.
    """

    def __init__(self, shapes: tuple[LayerShape, ...]) -> None:
        self._shapes = {shape.name: shape for shape in shapes}
        self._inputs: dict[str, Tensor] = {}  # [T], float64
        self._exact: dict[str, Tensor] = {}  # a number, float64
        self._spikes: dict[str, Tensor] = {}  # [T], float64
        self._windows: dict[str, Tensor] = {}
        self._images = 0
        self._recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=3)  # tensors and their sums

    def __call__(self, layer: str, inputs: tuple[Tensor, ...], spikes: Tensor | None) -> None:
        """Add one layer's batch; see :class:`~aspk.families.Observer`."""
        shape, x = self._shapes[layer], inputs[0].detach()
        static = shape.source == "image" and x.dim() == 4
        if static or shape.kind == "head":
            x = x[None]  # one step: [1, B, ...]
        if shape.kind == "neurons":  # a current has no events
            steps = exact = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        elif shape.kind == "conv":
            sums = self._sums(x, channels=2)  # [T, B, H, W]
            steps, exact = _steps(sums), _total(sums * self._window(shape, sums)) * fan_out(shape)
        elif len(inputs) == 2 and shape.operations == shape.input_size:  # element by element
            steps, exact = _steps(self._sums(x)), _total(x * inputs[1].detach())
        elif len(inputs) == 2:
            steps, exact = _pairs(x, inputs[1].detach())
        else:
            steps = _steps(self._sums(x))
            exact = steps.sum() * (shape.operations / shape.input_size)
        if static:
            steps, exact = steps.expand(shape.repeats), exact * shape.repeats
        _add(self._inputs, layer, steps)
        _add(self._exact, layer, exact.sum())
        if spikes is not None:
            over = 2 if shape.kind == "conv" else None
            _add(self._spikes, layer, _steps(self._sums(spikes.detach(), channels=over)))
        if layer == "head":
            self._images += x.shape[1]
            self._recent.clear()

    def _sums(self, x: Tensor, channels: int | None = None) -> Tensor:
        """Sums within each image, over its channels or over all its values; [T, B, ...].

        What one layer fires and the next ones read is summed once, even if heads view it in another shape.
        """
        for tensor, sums in self._recent:
            same = tensor.data_ptr() == x.data_ptr() and tensor.numel() == x.numel()
            if same and (channels is None or sums.dim() > 2):  # maps can be reduced to totals, not vice versa
                return sums
        self._recent.append((x, x.sum(channels if channels else tuple(range(2, x.dim())))))
        return self._recent[-1][1]

    def _window(self, shape: LayerShape, sums: Tensor) -> Tensor:
        if shape.name not in self._windows:
            kernel, stride = window_of(shape)
            self._windows[shape.name] = windows(*sums.shape[-2:], kernel=kernel, stride=stride).to(sums)
        return self._windows[shape.name]

    def counts(self) -> tuple[LayerCount, ...]:
        """Means over all images seen so far."""
        return tuple(self._count(shape) for shape in self._shapes.values())

    def _count(self, shape: LayerShape) -> LayerCount:
        fired = (self._spikes[shape.name] / self._images).tolist() if shape.name in self._spikes else []
        return LayerCount(
            **known(shape),
            input_sums=tuple((self._inputs[shape.name] / self._images).tolist()),
            exact_operations=float(self._exact[shape.name]) / self._images,
            output_spikes=float(sum(fired)),
            output_sums=tuple(fired),
        )


def _add(totals: dict[str, Tensor], layer: str, values: Tensor) -> None:
    """Add on the device, so that nothing waits for it."""
    totals[layer] = totals[layer] + values if layer in totals else values


def _steps(sums: Tensor) -> Tensor:
    """Sums at each step, [T], of sums within images, [T, B, ...]."""
    within = sums.flatten(2).sum(2) if sums.dim() > 2 else sums
    return within.sum(1, dtype=torch.float64)


def _total(values: Tensor) -> Tensor:
    return values.sum(dtype=torch.float64)


def _pairs(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """For q kᵀ: the spikes of q at each step, and the number of accumulates, where q and k both fire.

    Over channels, spikes of q times spikes of k.
    """
    q, k = q.sum(-2), k.sum(-2)  # over tokens: [T, B, heads, D/heads]
    return _steps(q), _total(q * k)


def known(shape: LayerShape) -> dict[str, Any]:
    """What a count of a layer repeats of its shape."""
    return {item.name: getattr(shape, item.name) for item in fields(LayerShape)}


def fan_out(conv: LayerShape) -> int:
    """Outputs of a convolution that read an input value in each window that contains it."""
    if isinstance(conv, ConvolutionShape):
        return conv.fan_out
    return conv.operations // (9 * conv.input_size)


def window_of(conv: LayerShape) -> tuple[int, int]:
    """A convolution's kernel side and stride."""
    return (conv.kernel, conv.stride) if isinstance(conv, ConvolutionShape) else (3, 1)


def windows(height: int, width: int, *, kernel: int = 3, stride: int = 1) -> Tensor:
    """How many windows of a convolution contain each pixel, [height, width], float64.

    With the defaults, 9 inside and 4 in a corner of a large map.

    Args:
        height: pixels.
        width: pixels.
        kernel: side of the windows, odd; the padding is half of it, rounded down.
        stride: pixels from one window to the next.
    """

    def along(length: int) -> Tensor:
        pixels, centres = torch.arange(length), torch.arange(0, length, stride)
        return ((pixels[:, None] - centres).abs() <= kernel // 2).sum(1).double()

    return along(height)[:, None] * along(width)
