"""What the native engine holds: spikes as bits, the residual stream as bytes, in memory used again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aspk.engines.base import Counts


@dataclass(frozen=True)
class Map:
    """Sizes of a state: images, steps, height, width, channels."""

    images: int
    steps: int
    height: int
    width: int
    channels: int

    @property
    def positions(self) -> int:
        """Pixels or tokens."""
        return self.height * self.width


class Memory:
    """Memory for states, used again: the system takes longer to hand out pages than a kernel to fill them."""

    def __init__(self) -> None:
        self._free: dict[int, list[Tensor]] = {}  # by size in bytes

    def take(self, *shape: int, dtype: torch.dtype) -> Buffer:
        """Memory of which nothing is known but its size."""
        size = math.prod(shape) * dtype.itemsize
        free = self._free.setdefault(size, [])
        storage = free.pop() if free else torch.empty(size, dtype=torch.uint8)
        return Buffer(self, storage, storage.view(dtype).view(shape))

    def give(self, storage: Tensor) -> None:
        """Take memory back."""
        self._free[len(storage)].append(storage)

    def clear(self) -> None:
        """Hand everything that is not in use back to the system."""
        for free in self._free.values():
            free.clear()


class Buffer:
    """A tensor whose memory goes back where it came from when nobody holds the buffer any more."""

    def __init__(self, memory: Memory, storage: Tensor, tensor: Tensor) -> None:
        self._memory, self._storage = memory, storage
        self.tensor = tensor

    def __del__(self) -> None:
        self._memory.give(self._storage)


@dataclass(frozen=True, eq=False)
class Spikes:
    """Bits: [images, steps, positions, words] in int64; channel c is bit ``offset + c`` of a row.

    Attributes:
        map: their sizes.
        bits: the bits.
        offset: first bit.
        counts: how many they are, where that is known.
    """

    map: Map
    bits: Buffer
    offset: int = 0
    counts: Counts | None = None


@dataclass(frozen=True, eq=False)
class Stream:
    """The residual stream, as what the stem gave and what the blocks added since.

    Products with the stem's part are the same for all networks behind it, and are kept.

    Attributes:
        map: its sizes.
        added: [images, steps, tokens, channels] in uint8.
        origin: the stem's part; None if ``added`` is all there is.
        counts: of the whole stream.
        products: kept products with ``added``, by layer; None keeps none.
    """

    map: Map
    added: Buffer
    counts: Counts
    origin: Stream | None = None
    products: dict[tuple[object, ...], Buffer] | None = None


@dataclass(frozen=True, eq=False)
class Products:
    """Products of the first layer, [images, steps (one if static), positions, channels in whole vectors]."""

    map: Map
    values: Tensor
    static: bool
