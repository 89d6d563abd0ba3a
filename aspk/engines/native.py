"""The native engine: events on the CPU, in C++ (``spikes.cpp``)."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.engines.base import Attention, Charge, Counts, Engine, Layer, Moments, Program, State
from aspk.engines.native_states import (
    Buffer,
    Map,
    Place,
    PlannedMemory,
    Products,
    Spikes,
    Stream,
    TensorMemory,
)
from aspk.engines.packing import by_patterns, packed, whole
from aspk.metrics import LayerShape
from aspk.native import library
from aspk.supernet.neurons import Neurons

SOURCE = Path(__file__).with_name("spikes.cpp")
_WORD = 64  # channels in a word of spikes
_COUNTS = 5  # an operation counts at most for each step
_PARTS = 2  # layers whose spikes are read one after the other, not as their sum
_NARROW = 128  # channels of a stream that is read so
_PIECE = 16  # images that an operation on its own works on at once
_CACHE = 2**22  # bytes of states that a thread should hold at once
_LAYER, _POOL, _ADD, _ATTEND, _TOKENS, _COUNT = range(6)  # kinds of operations
_FIRE, _MOMENTS, _PRODUCTS = range(3)  # tasks of a layer
_SPIKES, _RESIDUAL, _PATTERNS, _KEPT, _BITS = range(5)  # its inputs


class Operation(ctypes.Structure):
    """``Operation`` of spikes.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("kind", "task", "input", "hard", "decay_input", "repeated")),
        *((name, ctypes.c_int64) for name in ("steps", "height", "width", "channels")),
        *((name, ctypes.c_int64) for name in ("window", "outputs", "heads", "stride", "counts")),
        *((name, ctypes.c_double) for name in ("tau", "v_threshold", "factor")),
        *((name, ctypes.c_int64) for name in ("weights", "scale", "shift")),
        *((name, Place) for name in ("read", "added", "base", "written")),
    )


class NativeProgram(Program):
    """Operations that were written down once, and run on one batch after the other."""

    def __init__(self, engine: NativeEngine, images: int) -> None:
        self._engine, self.images = engine, images
        self.operations: list[Operation] = []
        self.memory = PlannedMemory()
        self.kept: list[object] = []  # what the operations hold addresses of
        self.inputs: list[tuple[Layer, Products]] = []

    def run(self, images: Tensor) -> None:
        """See :class:`~aspk.engines.base.Program`."""
        batch = images.shape[-4]
        for layer, products in self.inputs:
            products.values[:batch] = _first_products(layer, images)
        capacity = max(1, min(_PIECE, _CACHE // max(self.memory.bytes, 1)))
        self._engine.execute(self.operations, batch, capacity, self.memory.bytes)


class NativeEngine(Engine):
    """Event-driven on the CPU.

    Args:
        dtype: float32 or float64, the weights' type.
        threads: threads; None is PyTorch's number.
    """

    name = "native"
    images = 512
    independent_outputs = True

    def __init__(self, *, dtype: torch.dtype = torch.float32, threads: int | None = None) -> None:
        self._dtype = dtype
        self._threads = threads
        self._tensors = TensorMemory()
        self._program: NativeProgram | None = None  # that is being written down
        self._packed: weakref.WeakKeyDictionary[Layer, Tensor] = weakref.WeakKeyDictionary()

    @staticmethod
    def available() -> bool:
        """Whether there is a compiler, or was one."""
        return library(SOURCE) is not None

    def program(self, walk: Callable[[Tensor], None], images: Tensor) -> NativeProgram:
        """See :class:`~aspk.engines.base.Engine`."""
        self._program = program = NativeProgram(self, images.shape[-4])
        try:
            walk(images)
        finally:
            self._program = None
        return program

    # ------------------------------------------------------------------ layers

    def products(self, layer: Layer, images: Tensor, steps: int) -> Products:
        """See :class:`~aspk.engines.base.Engine`."""
        known = self._program.inputs if self._program else []
        values = next((products.values for same, products in known if same is layer), None)
        if values is None:
            values = _first_products(layer, images)
        height, width = images.shape[-2:]
        of = Map(len(values), steps, height, width, len(layer.weight))
        products = Products(of, values, static=images.dim() == 4)
        if self._program and all(layer is not same for same, _ in known):
            self._program.inputs.append((layer, products))
        return products

    def moments(self, layer: Layer, x: State) -> tuple[Moments, int]:
        """See :class:`~aspk.engines.base.Engine`."""
        outputs = len(layer.weight)
        if isinstance(x, Products):
            values = x.values[..., :outputs].flatten(0, 2)
            variance, mean = torch.var_mean(values.double(), 0, correction=0)
            return Moments(mean, variance), len(values)
        count = x.map.images * x.map.steps * x.map.positions
        sums = torch.zeros(x.map.images, 2, whole(outputs, self._dtype), dtype=torch.float64)
        self._emit(self._layer(layer, x), x.map, task=_MOMENTS, written=_place(sums))
        mean, square = sums.sum(0)[:, :outputs] / count
        return Moments(mean, (square - mean**2).clamp_(min=0)), count

    def charge(self, layer: Layer, moments: Moments, neurons: Neurons) -> Charge:
        """See :class:`~aspk.engines.base.Engine`."""
        scale, shift = layer.charge(moments, neurons)
        padding = (0, whole(len(scale), self._dtype) - len(scale))
        return F.pad(scale, padding).to(self._dtype), F.pad(shift, padding).to(self._dtype)

    def fire(self, layer: Layer, x: State, charge: Charge, neurons: Neurons) -> Spikes:
        """See :class:`~aspk.engines.base.Engine`."""
        to = replace(x.map, channels=len(layer.weight))
        bits = self._bits(to)
        scale, shift = charge
        options: dict[str, Any] = {
            **_constants(neurons),
            "scale": scale.data_ptr(),
            "shift": shift.data_ptr(),
            "written": bits.place,
        }
        if isinstance(x, Products) or (isinstance(x, Stream) and x.products is not None):
            static = isinstance(x, Products) and x.static
            base = x.place if isinstance(x, Products) else self._kept_products(layer, x).place
            options |= {"kind": _LAYER, "input": _KEPT, "base": base, "repeated": static, "window": 1}
            options["outputs"] = whole(to.channels, self._dtype)
        else:
            options |= {**self._layer(layer, x), "task": _FIRE}
        counts = self._emit(options, x.map, keep=charge)
        return Spikes(to, bits, _words(to.channels), Counts(counts[0], counts[1]))

    def _kept_products(self, layer: Layer, x: Stream) -> Buffer:
        assert x.products is not None
        if layer.key not in x.products:
            outputs = whole(len(layer.weight), self._dtype)
            products = self._take(x.map, x.map.steps, x.map.positions, outputs, itemsize=self._dtype.itemsize)
            self._emit(self._layer(layer, x), x.map, task=_PRODUCTS, written=products.place)
            x.products[layer.key] = products
        return x.products[layer.key]

    def _layer(self, layer: Layer, x: Spikes | Stream) -> dict[str, Any]:
        """What an operation needs to know of a layer and its input."""
        if layer not in self._packed:
            self._packed[layer] = packed(layer.weight)
        weights = self._packed[layer]
        if self._program:
            self._program.kept.append(weights)
        origin = (x.start or x.origin) if isinstance(x, Stream) else None
        spikes = (x,) if isinstance(x, Spikes) else x.spikes if x.map.channels <= _NARROW else ()
        read = spikes[0] if spikes else x.added  # type: ignore[union-attr]  # a stream
        return {
            "kind": _LAYER,
            "input": _input(layer, read),
            "window": layer.weight.shape[-1] if layer.weight.dim() == 4 else 1,
            "outputs": whole(len(layer.weight), self._dtype),
            "stride": read.words if isinstance(read, Spikes) else 0,
            "weights": weights.data_ptr(),
            "read": read.bits.place if isinstance(read, Spikes) else read.place,
            "added": spikes[1].bits.place if len(spikes) > 1 else Place(),
            "base": Place() if origin is None else self._kept_products(layer, origin).place,
        }

    # ------------------------------------------------------------------ what stands between layers

    def pool(self, spikes: Spikes) -> Spikes:
        """See :class:`~aspk.engines.base.Engine`."""
        x = spikes.map
        to = replace(x, height=(x.height + 1) // 2, width=(x.width + 1) // 2)
        pooled = self._bits(to)
        counts = self._emit({"kind": _POOL}, x, read=spikes.bits.place, written=pooled.place)
        return Spikes(to, pooled, _words(to.channels), Counts(counts[0], counts[1]))

    def stream(self, *spikes: Spikes, keep: bool) -> Stream:
        """See :class:`~aspk.engines.base.Engine`."""
        stream: Stream | None = None
        for one in spikes:
            stream = self._sum(stream, None, one)
        assert stream is not None
        return replace(stream, products={} if keep else None)

    def add(self, stream: Stream, spikes: Spikes) -> Stream:
        """See :class:`~aspk.engines.base.Engine`."""
        if stream.products is None:
            return self._sum(stream, stream.origin, spikes)
        if stream.map.channels > _NARROW:
            return self._sum(None, stream, spikes)  # what is added starts here
        # A narrow stream is added up whole: later blocks read it quicker than what was kept. Only the first
        # block's second half still builds on the stem's products.
        return replace(self._sum(stream, None, spikes), spikes=(spikes,), start=stream)

    def _sum(self, x: Stream | None, origin: Stream | None, spikes: Spikes) -> Stream:
        of = spikes.map
        total = self._take(of, of.steps, of.positions, of.channels, itemsize=1)
        counts = self._emit(
            {"kind": _ADD},
            of,
            read=spikes.bits.place,
            added=x.added.place if x else Place(),
            base=origin.added.place if origin else Place(),
            written=total.place,
        )
        known = x is None or (x.spikes and x.start is None)
        parts = (*(x.spikes if x else ()), spikes) if known else ()
        return Stream(of, total, Counts(counts[0], counts[1]), origin, parts if len(parts) <= _PARTS else ())

    def attend(self, qkv: Spikes, heads: int, scale: float, neurons: Neurons) -> Attention:
        """See :class:`~aspk.engines.base.Engine`."""
        to = replace(qkv.map, channels=qkv.map.channels // 3)
        bits = self._bits(to)
        options = {
            "kind": _ATTEND,
            "heads": heads,
            "stride": qkv.words,
            "factor": scale,
            **_constants(neurons),
        }
        counts = self._emit(options, to, read=qkv.bits.place, written=bits.place)
        q, k, v, pairs, fired = counts
        return Attention(Spikes(to, bits, _words(to.channels), Counts(fired, fired)), q, k, v, pairs)

    def leading(self, spikes: Spikes, channels: int) -> Spikes:
        """See :class:`~aspk.engines.base.Engine`."""
        of = replace(spikes.map, channels=channels)
        if of == spikes.map:
            return spikes
        counts = self._emit({"kind": _COUNT, "stride": spikes.words}, of, read=spikes.bits.place)
        return Spikes(of, spikes.bits, spikes.words, Counts(counts[0], counts[1]))

    # ------------------------------------------------------------------ what is counted

    def count(self, x: Spikes | Stream) -> Counts:
        """See :class:`~aspk.engines.base.Engine`."""
        return x.counts

    def token_sums(self, stream: Stream) -> Tensor:
        """See :class:`~aspk.engines.base.Engine`."""
        of, origin = stream.map, stream.origin
        sums = torch.empty(of.images, of.steps, of.channels, dtype=torch.int32)
        base = origin.added.place if origin else Place()
        self._emit(
            {"kind": _TOKENS}, of, read=stream.added.place, base=base, written=_place(sums), keep=(sums,)
        )
        return sums

    def image_bytes(self, shapes: tuple[LayerShape, ...]) -> int:
        """See :class:`~aspk.engines.base.Engine`."""
        first, last = shapes[0], shapes[-1]
        return first.output_size * self._dtype.itemsize + 4 * first.repeats * last.input_size

    def spikes(self, fired: Tensor) -> Spikes:
        """Spikes given as booleans [B, T, L, C]."""
        images, steps, tokens, channels = fired.shape
        of = Map(images, steps, 1, tokens, channels)
        bits = (
            F.pad(fired, (0, _words(channels) * _WORD - channels)).reshape(*fired.shape[:3], -1, _WORD).long()
        )
        shifts = torch.arange(_WORD)
        words = (bits << shifts).sum(-1)  # two's complement: bit 63 is the sign
        buffer = self._bits(of)
        ctypes.memmove(buffer.place.address, words.contiguous().data_ptr(), words.numel() * 8)
        sums = fired.sum((0, 2, 3), dtype=torch.int64)
        return Spikes(of, buffer, _words(channels), Counts(sums, sums))

    # ------------------------------------------------------------------ operations

    def _emit(
        self,
        options: dict[str, Any],
        of: Map,
        *,
        keep: tuple[object, ...] = (),
        **more: Any,  # noqa: ANN401  # fields
    ) -> Tensor:
        """Run an operation, or write it down.

        Returns:
            What it counts, [5, T]: the totals over all images, once it has run.
        """
        counts = torch.zeros(_COUNTS, of.steps, dtype=torch.int64)
        sizes = {"steps": of.steps, "height": of.height, "width": of.width, "channels": of.channels}
        operation = Operation(**{**sizes, "counts": counts.data_ptr(), "tau": 2.0, **options, **more})
        if self._program is None:
            self.execute([operation], of.images, _PIECE, 0)
        else:
            self._program.operations.append(operation)
            self._program.kept += (counts, *keep)
        return counts

    def execute(self, operations: list[Operation], images: int, capacity: int, memory: int) -> None:
        """Run operations on some images, ``capacity`` at a time with ``memory`` bytes for each of them."""
        found = library(SOURCE)
        assert found is not None, "see available()"
        run: Callable[..., None] = getattr(found, f"run_{str(self._dtype).removeprefix('torch.')}")
        threads = min(self._threads or torch.get_num_threads(), -(-images // capacity))
        sizes = map(ctypes.c_int64, (len(operations), images, capacity, memory))
        run((Operation * len(operations))(*operations), *sizes, ctypes.c_int(threads))

    def _bits(self, of: Map) -> Buffer:
        return self._take(of, of.steps, of.positions, _words(of.channels), itemsize=8)

    def _take(self, of: Map, *shape: int, itemsize: int) -> Buffer:
        memory = self._tensors if self._program is None else self._program.memory
        return memory.take(of.images, *shape, itemsize=itemsize)


def _input(layer: Layer, read: Spikes | Buffer) -> int:
    """How the kernel reads a layer's input."""
    if not isinstance(read, Spikes):
        return _RESIDUAL
    if layer.weight.dim() == 2:
        return _BITS
    return _PATTERNS if by_patterns(layer.weight) else _SPIKES


def _first_products(layer: Layer, images: Tensor) -> Tensor:
    """[B, T or 1, P, outputs in whole vectors]."""
    frames = images if images.dim() == 5 else images[None]
    y = F.conv2d(frames.flatten(0, 1), layer.weight, padding=1)  # [T*B, C', H, W]
    y = y.reshape(*frames.shape[:2], *y.shape[1:]).permute(1, 0, 3, 4, 2).flatten(2, 3)  # [B, T, P, C']
    outputs = y.shape[-1]
    return F.pad(y, (0, whole(outputs, y.dtype) - outputs)).contiguous()


def _place(tensor: Tensor) -> Place:
    return Place(tensor.data_ptr(), tensor[0].numel() * tensor.itemsize, 0)


def _words(channels: int) -> int:
    return -(-channels // _WORD)


def _constants(neurons: Neurons) -> dict[str, Any]:
    return {
        "tau": neurons["tau"],
        "v_threshold": neurons["v_threshold"],
        "hard": neurons["reset"] == "hard",
        "decay_input": neurons["decay_input"],
    }
