"""The factors of every operation that multiplies and adds, whatever torch calls it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aspk.profiling.operators import COLUMNS_FIRST, CONVOLUTIONS, GROUPED, MATRIX_PRODUCTS, OUTER_PRODUCTS


@dataclass(frozen=True)
class Product:
    """Two factors.

    Attributes:
        left: [..., r, k], or the input of a convolution.
        right: [..., k, c], or the weights of a convolution.
        sources: the network's own tensors behind them, which have an origin; None for packed weights.
        bias: what is added, None if nothing is.
        options: of a convolution: stride, padding, dilation, transposed, output padding, groups.
    """

    left: Tensor
    right: Tensor
    sources: tuple[Tensor, Tensor | None]
    bias: Tensor | None = None
    options: tuple[Any, ...] | None = None


def products(name: str, args: tuple[Any, ...]) -> list[Product]:
    """The products that an operation consists of; empty if the operation is not known.

    A bilinear layer, the sum over i and j of x_i W_ij z_j for each output, is (x W) z: a product with weights
    and one of two activations.
    """
    name = name.removesuffix("_")  # addmm_, say
    if name in MATRIX_PRODUCTS:
        left, right, bias = MATRIX_PRODUCTS[name]
        return [_matrices(args[left], args[right], _bias(args, bias), turned=name in COLUMNS_FIRST)]
    if name in OUTER_PRODUCTS:
        left, right, bias = OUTER_PRODUCTS[name]
        column, row = args[left][:, None], args[right][None]
        return [Product(column, row, (args[left], args[right]), _bias(args, bias))]
    if name in CONVOLUTIONS:
        x, weight, bias, *options = args
        return [Product(x, weight, (x, weight), bias, tuple(options[:6]))]
    if name in GROUPED:
        place = GROUPED[name]
        return _grouped(args[0], args[1], args[place] if len(args) > place else None)
    if name in _OTHERS:
        return _OTHERS[name](*args)
    return _quantised(name, args) if name.startswith("quantized::") else []


def _bias(args: tuple[Any, ...], place: int | None) -> Tensor | None:
    found = args[place] if place is not None and place < len(args) else None
    return found if isinstance(found, Tensor) else None


def _matrices(left: Tensor, right: Tensor, bias: Tensor | None, *, turned: bool) -> Product:
    a, b = plain(left), plain(right)
    b = b.mT if turned else b
    a = a[None] if a.dim() == 1 else a
    b = b[:, None] if b.dim() == 1 else b
    return Product(a, b, (left, right), bias)


def _bilinear(x: Tensor, weight: Tensor, z: Tensor, *_: object) -> list[Product]:
    """X [N, i], weight [o, i, j], z [N, j]."""
    flat = weight.transpose(0, 1).flatten(1)  # [i, o * j]
    between = (x @ flat).view(len(x), weight.shape[0], -1)  # [N, o, j]
    return [Product(x, flat, (x, weight)), Product(between, z[..., None], (x, z))]


def _time_batch_channels(x: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> list[Product]:
    """A convolution of x [T, B, in] by weight [k, in, out]."""
    options = ([1], [pad], [1], False, [0], 1)
    return [Product(x.permute(1, 2, 0), weight.permute(2, 1, 0), (x, weight), bias, options)]


def _affine_grid(theta: Tensor, size: list[int], *_: object) -> list[Product]:
    """Theta [N, d, d + 1] times every position, which ends in a 1."""
    positions = theta.new_ones(len(theta), theta.shape[2], math.prod(size[2:]))
    return [Product(theta, positions, (theta, None))]


def _grouped(left: Tensor, right: Tensor, ends: Tensor | None) -> list[Product]:
    """One product for each group.

    Each side is either [g, ...], or its groups are concatenated and end where ``ends`` says: along the rows
    of the left side, the columns of the right side, or, if both are concatenated, the axis summed over.
    """
    a, b = plain(left), plain(right)
    if ends is None:
        return [Product(a, b, (left, right))]
    found, start = [], 0
    for group, end in enumerate(ends.tolist()):
        part = slice(start, end)
        if a.dim() == 3:
            sides = a[group], b[:, part]
        elif b.dim() == 3:
            sides = a[part], b[group]
        else:
            sides = a[:, part], b[part]
        found.append(Product(*sides, (left, right)))
        start = end
    return found


def _weighted_bag(weight: Tensor, indices: Tensor, offsets: Tensor, *options: Any) -> list[Product]:  # noqa: ANN401  # torch's own order
    """An embedding bag that multiplies its rows by per-sample weights; without those it only adds."""
    own = options[3] if len(options) > 3 else None
    if own is None:
        return []
    return [Product(own[:, None, None], weight[indices.flatten()][:, None], (own, weight))]


_OTHERS: dict[str, Callable[..., list[Product]]] = {
    "aten::_trilinear": _bilinear,
    "aten::conv_tbc": _time_batch_channels,
    "aten::affine_grid_generator": _affine_grid,
    "aten::_embedding_bag": _weighted_bag,
    "aten::_embedding_bag_forward_only": _weighted_bag,
}


def plain(tensor: Tensor) -> Tensor:
    """A tensor as a dense one of real numbers."""
    if tensor.is_quantized:
        return tensor.dequantize()
    if (
        tensor.is_floating_point() and tensor.element_size() == 1
    ):  # 8-bit floats: torch supports few operations
        return tensor.float()
    return tensor.to_dense() if tensor.layout is not torch.strided or tensor.is_mkldnn else tensor


# ---------------------------------------------------------------------- torch.ao's packed weights

_CONVOLUTION_OPTIONS = ("stride", "padding", "dilation", "output_padding")


def _quantised(name: str, args: tuple[Any, ...]) -> list[Product]:
    own = name.removeprefix("quantized::")
    kind = own.partition("_relu")[0].removesuffix("_dynamic").removesuffix("_fp16").removesuffix("_dynamic")
    ops = torch.ops.quantized
    x = plain(args[0])
    if kind == "linear":
        weight = _unpacked(ops.linear_unpack_fp16 if "fp16" in own else ops.linear_unpack, args[1])
        rows = x.flatten(0, -2) if x.dim() > 1 else x[None]
        return [Product(rows, weight.mT, (args[0], None))]
    if kind.startswith("conv"):
        prefix = "conv3d" if kind.endswith("3d") else "conv2d"  # one-dimensional ones are kept as 1 x k
        packed = args[1]
        weight = _unpacked(getattr(ops, f"{prefix}_unpack"), packed)
        x = x.unsqueeze(2) if kind.endswith("1d") else x
        numbers = {key: list(getattr(ops, f"{prefix}_{key}")(packed)) for key in _CONVOLUTION_OPTIONS}
        transposed = bool(getattr(ops, f"{prefix}_transpose")(packed))
        groups = int(getattr(ops, f"{prefix}_groups")(packed))
        stride, padding, dilation, output_padding = numbers.values()
        options = (stride, padding, dilation, transposed, output_padding, groups)
        return [Product(x, weight, (args[0], None), None, options)]
    return []


def _unpacked(unpack: Callable[[Any], Any], packed: Any) -> Tensor:  # noqa: ANN401  # torch's own class
    return plain(unpack(packed)[0])
