"""The factors of every operation that multiplies and adds, whatever torch calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aspk.profiling.operators import (
    BILINEAR,
    COLUMNS_FIRST,
    CONVOLUTIONS,
    MATRIX_PRODUCTS,
    OUTER_PRODUCTS,
)


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
    """The products that an operation consists of; empty if it is none that is known.

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
    if name == BILINEAR:
        return _bilinear(*args[:3])
    if name.startswith("quantized::"):
        return _quantised(name, args)
    return []


def _bias(args: tuple[Any, ...], place: int | None) -> Tensor | None:
    found = args[place] if place is not None and place < len(args) else None
    return found if isinstance(found, Tensor) else None


def _matrices(left: Tensor, right: Tensor, bias: Tensor | None, *, turned: bool) -> Product:
    a, b = plain(left), plain(right)
    b = b.mT if turned else b
    a = a[None] if a.dim() == 1 else a
    b = b[:, None] if b.dim() == 1 else b
    return Product(a, b, (left, right), bias)


def _bilinear(x: Tensor, weight: Tensor, z: Tensor) -> list[Product]:
    """X [N, i], weight [o, i, j], z [N, j]."""
    flat = weight.transpose(0, 1).flatten(1)  # [i, o * j]
    between = (x @ flat).view(len(x), weight.shape[0], -1)  # [N, o, j]
    return [Product(x, flat, (x, weight)), Product(between, z[..., None], (x, z))]


def plain(tensor: Tensor) -> Tensor:
    """A tensor as a dense one of real numbers."""
    if tensor.is_quantized:
        return tensor.dequantize()
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
