"""Weights in the order in which the native engine's kernels read them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_WORD, _NARROW = 64, 192  # outputs
_VECTOR = 64  # bytes
_PATTERN = 4  # channels whose sum is one look-up
_FEW_CHANNELS, _FEW_OUTPUTS = 16, 32


def whole(outputs: int, dtype: torch.dtype) -> int:
    """The number of outputs, rounded up to whole vectors."""
    lanes = _VECTOR // dtype.itemsize
    return -(-outputs // lanes) * lanes


def by_patterns(weight: Tensor) -> bool:
    """Whether a layer looks up the sums of four channels: with few channels, that is faster than events."""
    vectors = whole(len(weight), weight.dtype) * weight.itemsize // _VECTOR
    few = weight.dim() == 4 and weight.shape[1] <= _FEW_CHANNELS and len(weight) <= _FEW_OUTPUTS
    return few and vectors.bit_count() == 1


def packed(weight: Tensor) -> Tensor:
    """Weights as tiles of [inputs (row by row of the window), outputs], one after the other.

    A linear layer's inputs are followed by a row of zeros.

    Args:
        weight: [outputs, inputs], or [outputs, inputs, 3, 3].
    """
    weight = weight.detach()
    if by_patterns(weight):
        rows = _pattern_sums(weight)
    else:
        conv = weight.dim() == 4
        rows = weight.permute(2, 3, 1, 0).flatten(0, 2) if conv else F.pad(weight.T, (0, 0, 0, 1))  # [9*C, O]
    rows = F.pad(rows, (0, whole(rows.shape[1], rows.dtype) - rows.shape[1]))
    return torch.cat([tile.flatten() for tile in torch.split(rows, _tile(rows), dim=1)])


def by_taps(weight: Tensor) -> Tensor:
    """Weights of a convolution of each channel on its own as [rows of the window, outputs in whole vectors].

    Args:
        weight: [outputs, 1, k, k].
    """
    rows = weight.detach().flatten(1).T
    return F.pad(rows, (0, whole(len(weight), rows.dtype) - len(weight))).contiguous()


def _tile(rows: Tensor) -> int:
    """Outputs that are computed together."""
    if rows.dtype == torch.float64:
        return _WORD
    return _NARROW if rows.shape[1] <= _NARROW else 2 * _WORD


def _pattern_sums(weight: Tensor) -> Tensor:
    """Sums of the weights of each pattern of four channels, [9 * groups of channels * 16, outputs]."""
    groups = -(-weight.shape[1] // _PATTERN)
    weight = F.pad(weight.permute(2, 3, 1, 0), (0, 0, 0, groups * _PATTERN - weight.shape[1]))
    weight = weight.reshape(9 * groups, _PATTERN, -1)
    bits = torch.arange(2**_PATTERN)[:, None] >> torch.arange(_PATTERN) & 1  # [16, 4]
    return torch.matmul(bits.to(weight.dtype), weight).flatten(0, 1)
