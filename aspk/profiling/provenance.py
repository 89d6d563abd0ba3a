"""Tracks where values come from: each tensor of a run is a weight, the image, spikes, integers, or analog.

The enclosing module does not show what a product reads: weights may be quantised, concatenated or kept in
buffers, and one layer may read first the image and later spikes. So each operation that torch dispatches
passes the origin of its operands on to its results. Origins are kept per storage, so that views share them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef


class Kind(IntEnum):
    """What a value is made of; ``IMAGE`` and all later kinds depend on the input."""

    CONSTANT = 0  # made during the run from nothing: zeros, ranges, random numbers
    WEIGHT = 1  # existed before the run, or computed only from such values
    IMAGE = 2  # the input, before any product and any neuron
    SPIKES = 3  # what neurons fire, or a comparison yields
    INTEGERS = 4  # sums of spikes
    ANALOG = 5  # anything else
    UNKNOWN = 6  # memory that code outside torch's dispatcher may have filled


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from.

    Attributes:
        kind: what it is made of.
        names: the parameters and buffers from which a weight was computed; other tensors by identity.
        copies: how many times it holds the image: T where the image is repeated for each step.
    """

    kind: Kind
    names: frozenset[str] = frozenset()
    copies: float = 1.0

    @property
    def depends(self) -> bool:
        """Whether the value depends on the input."""
        return self.kind >= Kind.IMAGE


_CONSTANT = Origin(Kind.CONSTANT)
_STRIDED = torch.strided


class Provenance:
    """The origin of every live storage.

    Args:
        module: its parameters and buffers are weights.
    """

    def __init__(self, module: nn.Module) -> None:
        self._origins: dict[int, tuple[StorageWeakRef, Origin]] = {}
        self._next_sweep = 4096
        self._shared: dict[int, list[tuple[int, int, str]]] = {}  # parts of storages and their names
        for name, held in (*module.named_buffers(), *module.named_parameters()):
            self.set(held, Origin(Kind.WEIGHT, frozenset([name])))
            self._shared.setdefault(storage_key(held) or 0, []).append((*_extent(held), name))

    def of(self, tensor: Tensor) -> Origin:
        """The origin of a tensor; one not seen before must predate the run, so it is a weight."""
        storage = _storage(tensor)
        if storage is None:
            return Origin(Kind.ANALOG)
        found = self._origins.get(storage.cdata)
        if found is None:
            return Origin(Kind.WEIGHT, frozenset([f"tensor {storage.cdata}"]))
        origin, parts = found[1], self._shared.get(storage.cdata, [])
        if origin.kind == Kind.WEIGHT and len(parts) > 1:  # weights in one piece of memory, as cuDNN's are
            first, last = _extent(tensor)
            names = frozenset(name for start, end, name in parts if start < last and first < end)
            return Origin(Kind.WEIGHT, names or origin.names)
        return origin

    def set(self, tensor: Tensor, origin: Origin) -> None:
        """Record where a tensor's storage comes from."""
        storage = _storage(tensor)
        if storage is None:
            return
        # The reference keeps the address from being used again, though not the memory behind it.
        self._origins[storage.cdata] = (storage, origin)
        if len(self._origins) > self._next_sweep:
            self._origins = {key: item for key, item in self._origins.items() if not item[0].expired()}  # type: ignore[no-untyped-call]  # torch has no types for it
            self._next_sweep = max(4096, 2 * len(self._origins))

    def knows(self, tensor: Tensor) -> bool:
        """Whether a tensor's storage has been seen."""
        storage = _storage(tensor)
        return storage is not None and storage.cdata in self._origins


def _extent(tensor: Tensor) -> tuple[int, int]:
    """Where in its storage a strided tensor begins and ends; the end is exclusive."""
    if tensor.layout is not _STRIDED or not tensor.numel():
        return 0, 0
    start = int(tensor.storage_offset())
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return start, start + sum((size - 1) * stride for size, stride in pairs) + 1


def storage_key(tensor: Tensor) -> int | None:
    """A key that is unique among live storages."""
    storage = _storage(tensor)
    return None if storage is None else int(storage.cdata)


def _storage(tensor: Tensor) -> StorageWeakRef | None:
    """The storage of a tensor, or of a sparse tensor's values; None where torch exposes none."""
    try:
        if tensor.layout is not _STRIDED:
            tensor = tensor._values() if tensor.is_sparse else tensor.values()
        return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]  # torch has no types for it
    except (NotImplementedError, RuntimeError):
        return None


def copies(tensor: Tensor, origin: Origin) -> float:
    """How many times a view holds the image: an expanded axis repeats it once per index."""
    distinct = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        distinct *= size if stride else 1
    return origin.copies * tensor.numel() / max(distinct, 1)


# ---------------------------------------------------------------------- how operations pass it on


def joined(origins: Iterable[Origin], *, how: str) -> Origin:
    """The origin of a result.

    Args:
        origins: those of the operands.
        how: ``moved`` (values are kept, some perhaps left out), ``added``, ``multiplied`` (element by
            element), ``compared`` (0/1), ``rounded``, ``product`` (a matrix product or a convolution) or
            ``other``.
    """
    every = list(origins)
    names = frozenset[str]().union(*(one.names for one in every))
    inputs = [one for one in every if one.depends]
    if not inputs:
        return Origin(Kind.WEIGHT, names) if names else _CONSTANT
    kinds = {one.kind for one in inputs}
    if how not in ("compared", "product") and kinds == {Kind.IMAGE}:
        return Origin(Kind.IMAGE, copies=max(one.copies for one in inputs))
    alone = len(inputs) == sum(one.kind != Kind.CONSTANT for one in every)  # no weight among them
    return Origin(_kind(kinds, how, alone=alone))


def _kind(kinds: set[Kind], how: str, *, alone: bool) -> Kind:
    if how == "compared":
        return Kind.SPIKES
    if how == "moved" and kinds == {Kind.UNKNOWN}:
        return Kind.UNKNOWN
    if how != "product" and kinds <= {Kind.SPIKES, Kind.INTEGERS}:
        if how == "moved" or (how == "multiplied" and alone):
            return max(kinds)
        if how == "added" and alone:
            return Kind.INTEGERS
    return Kind.INTEGERS if how == "rounded" else Kind.ANALOG
