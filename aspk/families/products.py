"""Linear layers and convolutions of a training step, as oneDNN computes them fastest.

PyTorch hands matrix products to MKL, which on AMD's processors with AVX-512 reaches half the speed of
oneDNN's convolutions (without AVX-512, the same). A linear layer over tokens is a 1x1 convolution over maps
whose channels are the last axis in memory, and 3x3 convolutions are fastest in that layout, too: nothing is
ever transposed. The results are the plain layers' up to rounding; evaluation runs the plain layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SMALL = 8192  # weights; with fewer, starting a convolution costs more than it saves


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(x)`` of tokens x, [T, B, L, D]."""
    half = torch.is_autocast_enabled(x.device.type)  # oneDNN's own matrix products are the fastest there
    if not _in_training(x, layer) or layer.weight.numel() < _SMALL or half:
        y: Tensor = layer(x)
        return y
    # Tokens lie along the width: along the height, oneDNN's gradients take up to 1.6 times as long.
    maps = x.flatten(0, 1).unsqueeze(1).permute(0, 3, 1, 2)  # [T*B, D, 1, L], a view
    maps = F.conv2d(maps, layer.weight[:, :, None, None], layer.bias)
    return maps.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def convolution(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """``layer(x)`` of maps x, [N, C, H, W]."""
    if not _in_training(x, layer):
        y: Tensor = layer(x)
        return y
    y = layer(x.contiguous(memory_format=torch.channels_last))
    return y.contiguous(memory_format=torch.channels_last)  # grey images, in both layouts at once, lose it


def _in_training(x: Tensor, layer: nn.Module) -> bool:
    gradients = layer.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if not gradients or x.device.type != "cpu":
        return False
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]  # torch
