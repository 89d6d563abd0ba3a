"""One product of a module, gathered over all of its calls, and what a single call adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from aspk.metrics import Kind


@dataclass
class Operation:
    """One product.

    Attributes:
        kind: ``conv``, ``linear`` or ``attention``, a product of two activations.
        parameters: names of the parameters from which its weights come.
        image: whether it reads the input itself.
        module: whether its calls are those of a linear or convolutional module.
        recurrent: whether it first read a state of zeros.
        stored: whether its weights are stored in memory; an interpolation's are computed from positions.
        rows: input sums of each call, by index of the leading axis; whole numbers enter as absolute values.
        copies: how many times the input of each call holds the image.
        macs: dense multiply-accumulates.
        input_numel: values read.
        output_numel: values written.
        exact: accumulates that are actually performed.
        effective_macs: multiply-accumulates in which no factor is 0, in calls that read values other than
            -1, 0 and 1.
        effective_acs: the same for the other calls.
        normalised: values read by batch normalisations that follow it.
        binary: whether all input values were 0 or 1.
        integer: whether all input values were whole numbers.
        meetings: of a product of two activations, the pairs in which both are 1, if all are 0 or 1.
        other: the same calls, billed for the right side of a product of two activations.
    """

    kind: Kind
    parameters: set[str] = field(default_factory=set)
    image: bool = False
    module: bool = False
    recurrent: bool = False
    stored: bool = True
    rows: list[Tensor] = field(default_factory=list)
    copies: list[float] = field(default_factory=list)
    macs: int = 0
    input_numel: int = 0
    output_numel: int = 0
    exact: float = 0.0
    effective_macs: float = 0.0
    effective_acs: float = 0.0
    normalised: int = 0
    binary: bool = True
    integer: bool = True
    meetings: float = 0.0
    other: Operation | None = None

    def add(self, other: Operation) -> None:
        """Add further calls of the same product."""
        self.parameters |= other.parameters
        self.rows += other.rows
        self.copies += other.copies
        self.macs += other.macs
        self.input_numel += other.input_numel
        self.output_numel += other.output_numel
        self.exact += other.exact
        self.effective_macs += other.effective_macs
        self.effective_acs += other.effective_acs
        self.normalised += other.normalised
        self.binary &= other.binary
        self.integer &= other.integer
        self.meetings += other.meetings
        if self.other is not None and other.other is not None:
            self.other.add(other.other)


def count(kind: Kind, x: Tensor, *, macs: int, outputs: int, exact: float, effective: float) -> Operation:
    """One call that reads ``x``; the arguments are the fields of :class:`Operation`.

    A product of complex numbers is four products of real ones, none of which is a spike.
    """
    integer, real = is_integer(x), 4 if x.is_complex() else 1
    macs, exact, effective = macs * real, exact * real, effective * real
    values = x.abs() if integer or x.is_complex() else x
    signed = not x.is_complex() and bool(((x == 0) | (x.abs() == 1)).all())
    return Operation(
        kind,
        rows=[values.flatten(1).sum(1, dtype=torch.float64).cpu()],
        macs=macs,
        input_numel=x.numel(),
        output_numel=outputs,
        exact=exact,
        effective_macs=0.0 if signed else effective,
        effective_acs=effective if signed else 0.0,
        binary=is_binary(x),
        integer=integer,
    )


def linear(x: Tensor, weight: Tensor) -> Operation:
    """Inputs [..., r, k] times weights [..., k, c]."""
    columns = weight.shape[-1]
    outputs = x.shape[:-1].numel() * columns
    return count(
        "linear",
        x.flatten(0, -2),  # einsum puts all steps and images behind a batch of one
        macs=x.numel() * columns,
        outputs=outputs,
        exact=total(x) * columns,
        effective=_meetings(x != 0, weight != 0),
    )


def between_activations(a: Tensor, b: Tensor) -> Operation:
    """Two activations [..., r, k] and [..., k, c], billed for the left side, and in ``other`` for the right.

    Which side it is can only be said when all calls are known, see :func:`settle`: a call in which
    nothing fires, say, reads 0 and 1 only on both sides.
    """
    macs, outputs = a.numel() * b.shape[-1], a.shape[:-1].numel() * b.shape[-1]
    effective = _meetings(a != 0, b != 0)
    sizes: dict[str, Any] = {"macs": macs, "outputs": outputs, "effective": effective}
    call = count("attention", a, exact=total(a) * b.shape[-1], **sizes)
    call.other = count("attention", b, exact=total(b) * a.shape[-2], **sizes)
    if call.binary and call.other.binary:
        call.meetings = _meetings(a, b)
    return call


def settle(batches: Sequence[dict[str, Operation]]) -> None:
    """Bill each product of two activations for the same side in all batches, in place.

    Args:
        batches: the products of each batch by name.
    """
    for name in {name for operations in batches for name in operations}:
        there = [operations for operations in batches if name in operations]
        for operations, billed in zip(there, _billed_side([one[name] for one in there]), strict=True):
            operations[name] = billed


def _billed_side(batches: Sequence[Operation]) -> list[Operation]:
    """One product in all batches, billed for the spikes of its 0/1 side, the left if both are."""
    right = [one.other for one in batches if one.other is not None]
    if len(right) < len(batches):  # not a product of two activations
        return list(batches)
    binary, whole = all(one.binary for one in batches), all(one.integer for one in batches)
    other_binary, other_whole = all(one.binary for one in right), all(one.integer for one in right)
    if binary and other_binary:
        return [replace(one, exact=one.meetings) for one in batches]
    left = binary or (not other_binary and (whole or not other_whole))
    return list(batches) if left else right


def convolution(x: Tensor, weight: Tensor, options: tuple[Any, ...], outputs: int) -> Operation:
    """A convolution; ``options`` are stride, padding, dilation, transposed, output padding and groups.

    Exact accumulates and effective products leave out padding beyond the border.
    """
    *_, transposed, _, groups = options
    channels = (weight.shape[1] if transposed else weight.shape[0] // groups, groups)
    ones = weight.new_ones(groups, 1, *weight.shape[2:], dtype=torch.float32)

    def reached(values: Tensor) -> float:
        per_group = (
            values.float().reshape(len(values), groups, -1, *values.shape[2:]).sum(2)
        )  # [n, groups, ...]
        sums = torch.convolution(per_group, ones, None, *options)
        return float(sums.sum(dtype=torch.float64)) * channels[0]

    used = weight != 0
    if used.all():
        effective = reached(x != 0)
    else:
        sums = torch.convolution((x != 0).float(), used.float(), None, *options)
        effective = float(sums.sum(dtype=torch.float64))
    return count(
        "conv",
        x,
        macs=(x.numel() if transposed else outputs) * weight[0].numel(),
        outputs=outputs,
        exact=reached(x.abs()),
        effective=effective,
    )


def _meetings(a: Tensor, b: Tensor) -> float:
    """The sum of all products of 0/1 values in [..., r, k] times [..., k, c]."""
    rows = a.sum(-2, dtype=torch.float64)
    return float((rows * b.sum(-1, dtype=torch.float64)).sum())


def total(x: Tensor) -> float:
    """The sum of absolute values."""
    return float(x.abs().sum(dtype=torch.float64))


def is_binary(x: Tensor) -> bool:
    """Whether all values are 0 or 1, and real."""
    return not x.is_complex() and bool(((x == 0) | (x == 1)).all())


def is_integer(x: Tensor) -> bool:
    """Whether all values are whole numbers, and real."""
    if x.is_complex():
        return False
    return not x.is_floating_point() or bool((x == x.round()).all())
