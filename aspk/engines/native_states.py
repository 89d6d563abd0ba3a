"""The native engine's states, of fixed size for each image: spikes as bits, streams as bytes."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aspk.engines.base import Counts

_ALIGNED = 64  # bytes


class Place(ctypes.Structure):
    """Where one image's part of a state is: ``Place`` of spikes/program.cpp."""

    _fields_ = (("address", ctypes.c_int64), ("bytes", ctypes.c_int64), ("mine", ctypes.c_int64))


class Buffer:
    """Memory of a state, released when nothing refers to it any more.

    Attributes:
        place: where it is.
    """

    def __init__(self, place: Place, give_back: Callable[[], None]) -> None:
        self.place = place
        self._give_back = give_back

    def __del__(self) -> None:
        self._give_back()


class TensorMemory:
    """States of all images at once, in reused memory: fresh pages cost more than filling them."""

    def __init__(self) -> None:
        self._free: dict[int, list[Tensor]] = {}  # by size in bytes

    def take(self, images: int, *shape: int, itemsize: int) -> Buffer:
        """Memory for ``shape`` of each of ``images``."""
        each = math.prod(shape) * itemsize
        needed = images * each
        # The smallest that is large enough, but not much too large.
        size = min(
            (n for n, free in self._free.items() if free and needed <= n <= 2 * needed), default=needed
        )
        free = self._free.setdefault(size, [])
        storage = free.pop() if free else torch.empty(size, dtype=torch.uint8)
        return Buffer(Place(storage.data_ptr(), each, 0), lambda: free.append(storage))


class PlannedMemory:
    """Places in a memory that each thread will have for the states of a few images.

    A place becomes free for whatever fits as soon as the last state there is no longer needed.

    Attributes:
        bytes: size of the memory for one image.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._free: dict[int, int] = {}  # sizes of the gaps by offset

    def take(self, images: int, *shape: int, itemsize: int) -> Buffer:
        """A place for ``shape`` of one image."""
        size = -(-math.prod(shape) * itemsize // _ALIGNED) * _ALIGNED
        fitting = [(gap, offset) for offset, gap in self._free.items() if gap >= size]
        if fitting:
            gap, offset = min(fitting)
            del self._free[offset]
            if gap > size:
                self._free[offset + size] = gap - size
        else:
            offset, self.bytes = self.bytes, self.bytes + size
        return Buffer(Place(offset, size, 1), lambda: self._give_back(offset, size))

    def _give_back(self, offset: int, size: int) -> None:
        size += self._free.pop(offset + size, 0)
        before = next((start for start, gap in self._free.items() if start + gap == offset), None)
        if before is not None:
            offset, size = before, size + self._free[before]
        self._free[offset] = size


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

    @property
    def half(self) -> Map:
        """Sizes after pooling or sampling."""
        return replace(self, height=(self.height + 1) // 2, width=(self.width + 1) // 2)


@dataclass(frozen=True, eq=False)
class Spikes:
    """Bits: [images, steps, positions, words], channel c is bit c of a row.

    Attributes:
        map: their sizes.
        bits: the bits.
        words: 64-bit words in a row.
        counts: the number of spikes.
    """

    map: Map
    bits: Buffer
    words: int
    counts: Counts


@dataclass(frozen=True, eq=False)
class Stream:
    """The residual stream, as the stem's output and what the blocks have added since.

    Products with the stem's part are the same for all networks that share the stem, and are kept.

    Attributes:
        map: its sizes.
        added: [images, steps, tokens, channels] in uint8.
        counts: of the whole stream.
        origin: the stem's part; None if ``added`` is all there is.
        spikes: what is added, layer by layer, if that is the spikes of few layers; otherwise empty.
        start: a stem's part that is in ``added``, but not in ``spikes``.
        products: kept products with ``added``, by layer; None keeps none.
    """

    map: Map
    added: Buffer
    counts: Counts
    origin: Stream | None = None
    spikes: tuple[Spikes, ...] = ()
    start: Stream | None = None
    products: dict[tuple[object, ...], Buffer] | None = None


@dataclass(frozen=True, eq=False)
class Currents:
    """Currents, [images, steps, positions, width].

    Attributes:
        map: their sizes.
        place: where they are.
        width: channels in a row, in whole vectors; those of ``map`` are the first ones.
        memory: what holds them.
    """

    map: Map
    place: Place
    width: int
    memory: Buffer


@dataclass(frozen=True, eq=False)
class Products:
    """Products of a layer, [images, steps (one if static), positions, width].

    Attributes:
        map: sizes of what the layer's neurons fire.
        place: where they are.
        width: channels in a row, in whole vectors; those of ``map`` are the first ones.
        memory: what holds them, a tensor for those of the first layer.
        static: whether there is one for all steps.
    """

    map: Map
    place: Place
    width: int
    memory: Buffer | Tensor
    static: bool = False
