"""Following events or multiplying everything: the native engine's layers against PyTorch's dense ones.

Processor time of the dense layer over that of the native one, for the same products of the same spikes on one
thread, at several firing rates; above 1 the native layer needs less. The engine's own limits (``kDense`` and
its like in dense.cpp) come from here.

    python benchmarks/break_even.py
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from evaluator import timed
from torch import Tensor

from aspk.engines import NativeEngine
from aspk.engines.base import Layer, Moments


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """PyTorch's dense convolution of [images, height * width, channels], channels last."""
    side = math.isqrt(x.shape[1])
    return F.conv2d(x.view(len(x), side, side, -1).permute(0, 3, 1, 2), weight, padding=1)


def against_dense(
    name: str, theirs: str, weight: Tensor, side: int, product: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """How many times as fast as a dense product the native one is, at several firing rates."""
    images, engine, (outputs, inputs) = 32, NativeEngine(), weight.shape[:2]
    generator = torch.Generator().manual_seed(0)
    zeros, ones = torch.zeros(outputs, dtype=torch.float64), torch.ones(outputs, dtype=torch.float64)
    layer = Layer((name,), weight, ones, zeros, Moments(zeros, ones), 1e-5)
    times = []
    for rate in (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
        fired = torch.rand(images, 1, side, side, inputs, generator=generator) < rate
        spikes, dense = engine.spikes(fired), fired.flatten(1, 3).float()
        plain = functools.partial(product, dense, weight)
        ours = functools.partial(engine.moments, layer, spikes)
        both = [(timed(plain)[0], timed(ours)[0]) for _ in range(9)]
        plain_seconds, seconds = map(min, zip(*both, strict=True))
        times.append(f"{rate:.0%}: {plain_seconds / seconds:.1f}")
    print(f"  {name}: times as fast as {theirs} at a rate of {', '.join(times)}")


def main() -> None:
    torch.set_num_threads(1)
    for inputs, outputs, side in ((64, 192, 8), (384, 384, 8), (384, 1536, 8)):
        weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))
        against_dense(f"{inputs} to {outputs}", "F.linear", weight, side, F.linear)
    for inputs, outputs, side in ((32, 64, 14), (96, 192, 16), (192, 384, 8)):
        weight = torch.randn(outputs, inputs, 3, 3, generator=torch.Generator().manual_seed(0))
        name = f"3x3 convolution of {inputs} to {outputs} on {side}x{side}"
        against_dense(
            name, "F.conv2d", weight.contiguous(memory_format=torch.channels_last), side, convolution
        )


if __name__ == "__main__":
    main()
