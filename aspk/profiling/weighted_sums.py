"""Weighted sums that are neither matrix products nor convolutions: interpolation, sampling, distances.

Their weights are not stored: they are computed from positions, or are differences of two operands.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aspk.profiling.operations import Operation, count

# How many weights one output reads along each axis.
_INTERPOLATIONS = {
    "aten::upsample_linear1d": 2,
    "aten::upsample_bilinear2d": 2,
    "aten::upsample_trilinear3d": 2,
    "aten::upsample_bicubic2d": 4,
}
# Antialiased ones: the filter widens with the scale, so that an output reads all pixels that it covers.
_WIDENED = {"aten::_upsample_bilinear2d_aa", "aten::_upsample_bicubic2d_aa", "aten::_upsample_lanczos2d_aa"}
_SAMPLERS = {"aten::grid_sampler_2d", "aten::grid_sampler_3d", "aten::cudnn_grid_sampler"}
_SAMPLERS |= {"aten::_grid_sampler_2d_cpu_fallback"}
_NO_WEIGHT = 1e-9  # what rounding leaves of a weight of 0
_BILINEAR, _NEAREST, _BICUBIC = range(3)  # torch's interpolation modes of grid_sample


@dataclass(frozen=True)
class WeightedSum:
    """One call.

    Attributes:
        stem: its row's name within the module.
        operation: what the call adds.
        sources: the tensor that it sums, and the one from which its weights are computed.
    """

    stem: str
    operation: Operation
    sources: tuple[Tensor, Tensor | None]


def weighted_sum(function: Callable[..., Any], name: str, args: tuple[Any, ...]) -> WeightedSum | None:
    """The weighted sum that a call of torch's ``name`` computes; None if it is none or never multiplies."""
    if name in _INTERPOLATIONS or name in _WIDENED:
        used = _weights(function, args)
        operation = _interpolation(args[0], used, taps=_INTERPOLATIONS.get(name))
        return WeightedSum("interpolation", operation, (args[0], None))
    if name in _SAMPLERS:
        x, grid, *options = args
        mode, padding, align = options or (_BILINEAR, 0, True)  # cuDNN has one mode only
        if mode == _NEAREST:
            return None
        taps = range(-1, 3) if mode == _BICUBIC else range(2)
        return WeightedSum("sample", _sample(x, grid, taps, int(padding), bool(align)), (x, grid))
    if name in ("aten::_cdist_forward", "aten::_euclidean_dist"):
        a, b = args[:2]
        p = args[2] if len(args) > 2 else 2.0
        return WeightedSum("distance", _distances(a, b), (a, b)) if _multiplies(p) else None
    if name == "aten::_pdist_forward":
        x = args[0]
        p = args[1] if len(args) > 1 else 2.0
        return WeightedSum("distance", _own_distances(x), (x, x)) if _multiplies(p) else None
    return None


# ---------------------------------------------------------------------- interpolation


def _weights(function: Callable[..., Any], args: tuple[Any, ...]) -> list[Tensor]:
    """Which weights are not 0 along each axis, [inputs, outputs]; each of an output's is a product over axes.

    The other axes are two pixels wide and not resized: torch 2.14 antialiases columns of a single pixel with
    different weights.
    """
    x, sizes, align, *scales = args
    found = []
    for axis, size in enumerate(x.shape[2:]):
        places = range(len(sizes))
        ones = torch.eye(size, dtype=torch.float64, device=x.device)
        ones = ones.view(1, size, *[size if place == axis else 1 for place in places])
        alone = [sizes[place] if place == axis else 2 for place in places]
        own = [scales[place] if scales and place == axis else None for place in places]
        wide = ones.expand(1, size, *[size if place == axis else 2 for place in places]).contiguous()
        weights = function(wide, alone, align, *own)
        weights = weights[0][:, *(slice(None) if place == axis else 0 for place in places)]
        found.append((weights.abs() > _NO_WEIGHT).to(torch.float64))
    return found


def _interpolation(x: Tensor, used: list[Tensor], *, taps: int | None) -> Operation:
    """A fixed linear map of each channel, the Kronecker product of a matrix for each axis."""
    outputs = x.shape[:2].numel()
    weights = 1
    for axis in used:
        outputs *= axis.shape[1]
        weights *= int(axis.sum(0).max()) if taps is None else taps

    def reached(values: Tensor) -> float:
        """The sum of inputs, each counted once for every non-zero weight that reads it."""
        values = values.to(torch.float64)
        for axis in reversed(used):
            values = values @ axis.sum(1)
        return float(values.sum())

    call = count(
        "linear",
        x,
        macs=outputs * weights,
        outputs=outputs,
        exact=reached(x.abs()),
        effective=reached(x != 0),
    )
    return replace(call, stored=False)


# ---------------------------------------------------------------------- sampling at positions


def _sample(x: Tensor, grid: Tensor, taps: range, padding: int, align: bool) -> Operation:
    """Each output reads its neighbours along each axis; those that hang over the border of zeros are dense.

    Args:
        x: [N, C, (D,) H, W].
        grid: [N, ..., 2 or 3], positions from -1 to 1, the last axis of ``x`` first.
        taps: neighbours along an axis, from the position rounded down.
        padding: 0 for zeros, 1 for the border, 2 for reflection.
        align: whether -1 and 1 are the centres of the outer pixels.
    """
    dimensions = grid.shape[-1]
    outputs = x.shape[1] * grid.shape[:-1].numel()
    size = torch.tensor(x.shape[:1:-1], dtype=torch.float64, device=x.device)
    places = grid.to(torch.float64)
    pixels = (places + 1) / 2 * (size - 1) if align else ((places + 1) * size - 1) / 2
    corner = pixels.floor()

    def reached(values: Tensor) -> float:
        channels = values.to(torch.float64).sum(1, keepdim=True)
        found = 0.0
        for neighbour in itertools.product(taps, repeat=dimensions):
            shift = torch.tensor(neighbour, dtype=torch.float64, device=x.device)
            used = ((pixels != corner) | (shift == 0)).all(-1)  # on a pixel, the others weigh 0
            there = corner + shift
            position = there / (size - 1).clamp(min=1) * 2 - 1 if align else (2 * there + 1) / size - 1
            read = torch.grid_sampler(channels, position, _NEAREST, padding, align)
            found += float((read[:, 0] * used).sum())
        return found

    call = count(
        "linear",
        x,
        macs=outputs * len(taps) ** dimensions,
        outputs=outputs,
        exact=reached(x.abs()),
        effective=reached(x != 0),
    )
    return replace(call, stored=False)


# ---------------------------------------------------------------------- distances


def _multiplies(p: float) -> bool:
    """Whether a p-norm of differences multiplies; p = 0, 1 and infinity only count, add or compare."""
    return p not in (0.0, 1.0, float("inf"))


def _distances(a: Tensor, b: Tensor) -> Operation:
    """Between all rows of [..., n, d] and [..., m, d]: the square of each difference, added up."""
    outputs = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call]  # torch's own has no annotations
    pairs = torch.Size(outputs).numel() * a.shape[-2] * b.shape[-2]
    differing = torch.cdist(a, b, p=0.0).sum(dtype=torch.float64)
    return _of_differences(a, pairs, a.shape[-1], float(differing))


def _own_distances(x: Tensor) -> Operation:
    """Between all rows of [n, d]."""
    pairs = len(x) * (len(x) - 1) // 2
    return _of_differences(x, pairs, x.shape[-1], float(torch.pdist(x, p=0.0).sum(dtype=torch.float64)))


def _of_differences(x: Tensor, pairs: int, size: int, differing: float) -> Operation:
    """A difference is never a spike, whatever its operands: always multiply-accumulates."""
    call = count("attention", x, macs=pairs * size, outputs=pairs, exact=float(pairs * size), effective=0.0)
    return replace(call, binary=False, integer=False, effective_macs=differing, effective_acs=0.0)
