"""The native engine: events on the CPU, in C++ (``spikes/``)."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.engines import native_operations
from aspk.engines.base import Attention, Charge, Counts, Engine, Layer, Moments, Program, State
from aspk.engines.native_operations import Operation, execute
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
from aspk.families.base import LIF, Neurons
from aspk.metrics import LayerShape

_WORD = 64  # channels in a word of spikes
_COUNTS = 5  # an operation counts at most for each step
_PARTS = 2  # layers whose spikes are read one after the other, not as their sum
_NARROW = 128  # channels of a stream that is read so
_PIECE = 16  # images that an operation on its own works on at once
_CACHE = 2**22  # bytes of states that a thread should hold at once


class NativeProgram(Program):
    """Operations that were written down once, and run on one batch after the other."""

    def __init__(self, images: int, **options: Any) -> None:  # noqa: ANN401  # of execute()
        self._options, self.images = options, images
        self.operations: list[Operation] = []
        self.memory = PlannedMemory()
        self.kept: list[object] = []  # what the operations hold addresses of
        self.inputs: list[tuple[Layer, Products]] = []

    def run(self, images: Tensor) -> None:
        """See :class:`~aspk.engines.base.Program`."""
        batch = images.shape[-4]
        for layer, products in self.inputs:
            assert isinstance(products.memory, Tensor)
            _first_products(layer, images, products.memory)
        capacity = max(1, min(_PIECE, _CACHE // max(self.memory.bytes, 1)))
        execute(self.operations, batch, capacity=capacity, memory=self.memory.bytes, **self._options)


class NativeEngine(Engine):
    """Event-driven on the CPU.

    Args:
        dtype: float32 or float64, the weights' type.
        threads: threads; None is PyTorch's number.
        memory: bytes; a sixteenth of it may hold a layer's products of one step for later.
    """

    name = "native"
    images = 512
    independent_outputs = True

    def __init__(
        self, *, dtype: torch.dtype = torch.float32, threads: int | None = None, memory: int = 2**30
    ) -> None:
        self._dtype = dtype
        self._kept_bytes = memory // 16
        self._options: dict[str, Any] = {"dtype": dtype, "threads": threads}
        self._tensors = TensorMemory()
        self._program: NativeProgram | None = None  # that is being written down
        self._packed: weakref.WeakKeyDictionary[Layer, Tensor] = weakref.WeakKeyDictionary()

    @staticmethod
    def available(dtype: torch.dtype = torch.float32) -> bool:
        """Whether there is a compiler for these weights, or was one; the first time, it compiles."""
        return dtype in (torch.float32, torch.float64) and native_operations.available(dtype)

    def program(self, walk: Callable[[Tensor], None], images: Tensor) -> NativeProgram:
        """See :class:`~aspk.engines.base.Engine`."""
        self._program = program = NativeProgram(images.shape[-4], **self._options)
        try:
            walk(images)
        finally:
            self._program = None
        return program

    # ------------------------------------------------------------------ layers

    def products(self, layer: Layer, images: Tensor, steps: int) -> Products:
        """See :class:`~aspk.engines.base.Engine`."""
        count, static, width = images.shape[-4], images.dim() == 4, whole(len(layer.weight), self._dtype)
        height, columns = images.shape[-2:]
        of = Map(count, steps, height, columns, len(layer.weight))
        values = torch.zeros(count, 1 if static else len(images), of.positions, width, dtype=self._dtype)
        products = Products(of, _place(values), width, values, static)
        if self._program:
            self._program.inputs.append((layer, products))  # computed for each batch
        else:
            _first_products(layer, images, values)
        return products

    def keep(self, layer: Layer, x: State) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        width = whole(len(layer.weight), self._dtype)
        size = x.map.images * x.map.positions * width * self._dtype.itemsize
        if isinstance(x, Products) or (self._program is None and size > self._kept_bytes):
            return x
        kept = self._products(layer, x)
        return Products(replace(x.map, channels=len(layer.weight)), kept.place, width, kept)

    def first(self, x: State, steps: int) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        shorter = replace(x, map=replace(x.map, steps=steps))
        if isinstance(x, Spikes):
            return replace(shorter, counts=Counts(x.counts.sums[:steps], x.counts.windowed[:steps]))
        return shorter

    def moments(self, layer: Layer, x: State) -> tuple[Moments, int]:
        """See :class:`~aspk.engines.base.Engine`."""
        outputs = len(layer.weight)
        if isinstance(x, Products) and isinstance(x.memory, Tensor):
            values = x.memory[:, : x.map.steps, :, :outputs].flatten(0, 2)
            variance, mean = torch.var_mean(values.double(), 0, correction=0)
            return Moments(mean, variance), len(values)
        count = x.map.images * x.map.steps * x.map.positions
        sums = torch.zeros(x.map.images, 2, whole(outputs, self._dtype), dtype=torch.float64)
        self._emit(self._read(layer, x), x.map, task=native_operations.MOMENTS, written=_place(sums))
        mean, square = sums.sum(0)[:, :outputs] / count
        return Moments(mean, (square - mean**2).clamp_(min=0)), count

    def charge(self, layer: Layer, moments: Moments, neurons: LIF) -> Charge:
        """See :class:`~aspk.engines.base.Engine`."""
        scale, shift, keep = layer.charge(moments, neurons)
        padding = (0, whole(len(scale), self._dtype) - len(scale))

        def padded(values: Tensor) -> Tensor:
            return F.pad(values, padding).to(self._dtype)

        return padded(scale), padded(shift), None if keep is None else padded(keep)

    def fire(self, layer: Layer, x: State, charge: Charge, neurons: Neurons) -> Spikes:
        """See :class:`~aspk.engines.base.Engine`."""
        to = replace(x.map, channels=len(layer.weight))
        bits = self._bits(to)
        scale, shift, keep = charge
        options: dict[str, Any] = {
            **self._read(layer, x),
            **_constants(neurons),
            "task": native_operations.FIRE,
            "scale": scale.data_ptr(),
            "shift": shift.data_ptr(),
            "keep": 0 if keep is None else keep.data_ptr(),
            "written": bits.place,
        }
        counts = self._emit(options, x.map, keep=charge)
        return Spikes(to, bits, _words(to.channels), Counts(counts[0], counts[1]))

    def _read(self, layer: Layer, x: State) -> dict[str, Any]:
        """How an operation reads a layer's input, or what is kept of it."""
        outputs = whole(len(layer.weight), self._dtype)
        if isinstance(x, Stream) and x.products is not None:
            kept = self._kept_products(layer, x)
            return {**_reading(kept.place, outputs), "outputs": outputs}
        if isinstance(x, Products):
            return {**_reading(x.place, x.width), "repeated": x.static, "outputs": outputs}
        return self._layer(layer, x)

    def _kept_products(self, layer: Layer, x: Stream) -> Buffer:
        assert x.products is not None
        if layer.key not in x.products:
            x.products[layer.key] = self._products(layer, x)
        return x.products[layer.key]

    def _products(self, layer: Layer, x: Spikes | Stream) -> Buffer:
        outputs = whole(len(layer.weight), self._dtype)
        products = self._take(x.map, x.map.steps, x.map.positions, outputs, itemsize=self._dtype.itemsize)
        self._emit(self._layer(layer, x), x.map, task=native_operations.PRODUCTS, written=products.place)
        return products

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
        outputs = whole(len(layer.weight), self._dtype)
        return {
            "kind": native_operations.LAYER,
            "input": _input(layer, read),
            "window": layer.weight.shape[-1] if layer.weight.dim() == 4 else 1,
            "outputs": outputs,
            "base_width": outputs,
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
        counts = self._emit({"kind": native_operations.POOL}, x, read=spikes.bits.place, written=pooled.place)
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
            {"kind": native_operations.ADD},
            of,
            read=spikes.bits.place,
            added=x.added.place if x else Place(),
            base=origin.added.place if origin else Place(),
            written=total.place,
        )
        known = x is None or (x.spikes and x.start is None)
        parts = (*(x.spikes if x else ()), spikes) if known else ()
        return Stream(of, total, Counts(counts[0], counts[1]), origin, parts if len(parts) <= _PARTS else ())

    def attend(
        self, qkv: Spikes, heads: int, scale: float, neurons: Neurons, reciprocal_tau: float | None
    ) -> Attention:
        """See :class:`~aspk.engines.base.Engine`."""
        to = replace(qkv.map, channels=qkv.map.channels // 3)
        bits = self._bits(to)
        options = {
            "kind": native_operations.ATTEND,
            "heads": heads,
            "stride": qkv.words,
            "factor": scale,
            "reciprocal_tau": reciprocal_tau or 0.0,
            **_constants(neurons),
        }
        counts = self._emit(options, to, read=qkv.bits.place, written=bits.place)
        q, k, v, pairs, fired = counts
        return Attention(Spikes(to, bits, _words(to.channels), Counts(fired, fired)), q, k, v, pairs)

    def leading(self, x: State, channels: int) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        of = replace(x.map, channels=channels)
        if isinstance(x, Products) or of == x.map:
            return replace(x, map=of)
        counts = self._emit({"kind": native_operations.COUNT, "stride": x.words}, of, read=x.bits.place)
        return Spikes(of, x.bits, x.words, Counts(counts[0], counts[1]))

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
            {"kind": native_operations.TOKENS},
            of,
            read=stream.added.place,
            base=base,
            written=_place(sums),
            keep=(sums,),
        )
        return sums

    def image_bytes(self, shapes: tuple[LayerShape, ...]) -> int:
        """See :class:`~aspk.engines.base.Engine`."""
        first = shapes[0]
        outputs = first.operations // (9 * first.input_size)
        products = first.output_size // outputs * whole(outputs, self._dtype) * self._dtype.itemsize
        return first.repeats * products  # spikes and streams are with the threads, a few images at a time

    def spikes(self, fired: Tensor) -> Spikes:
        """Spikes given as booleans [B, T, H, W, C]."""
        of = Map(*fired.shape)
        rows = fired.flatten(2, 3)  # [B, T, H*W, C]
        bits = F.pad(rows, (0, _words(of.channels) * _WORD - of.channels)).long()
        bits = bits.reshape(*bits.shape[:3], -1, _WORD)
        shifts = torch.arange(_WORD)
        words = (bits << shifts).sum(-1)  # two's complement: bit 63 is the sign
        buffer = self._bits(of)
        ctypes.memmove(buffer.place.address, words.contiguous().data_ptr(), words.numel() * 8)
        sums = rows.sum((0, 2, 3), dtype=torch.int64)
        return Spikes(of, buffer, _words(of.channels), Counts(sums, sums))

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
            execute([operation], of.images, capacity=_PIECE, memory=0, **self._options)
        else:
            self._program.operations.append(operation)
            self._program.kept += (counts, *keep)
        return counts

    def _bits(self, of: Map) -> Buffer:
        return self._take(of, of.steps, of.positions, _words(of.channels), itemsize=8)

    def _take(self, of: Map, *shape: int, itemsize: int) -> Buffer:
        memory = self._tensors if self._program is None else self._program.memory
        return memory.take(of.images, *shape, itemsize=itemsize)


def _input(layer: Layer, read: Spikes | Buffer) -> int:
    """How the kernel reads a layer's input."""
    if not isinstance(read, Spikes):
        return native_operations.RESIDUAL
    if layer.weight.dim() == 2:
        return native_operations.BITS
    return native_operations.PATTERNS if by_patterns(layer.weight) else native_operations.SPIKES


def _first_products(layer: Layer, images: Tensor, out: Tensor) -> None:
    """Write products with images to [B or more, T or 1, P, outputs in whole vectors]."""
    frames = images if images.dim() == 5 else images[None]
    outputs = len(layer.weight)
    for step, frame in enumerate(frames):
        for part, place in zip(torch.split(frame, _PIECE), torch.split(out, _PIECE), strict=False):
            y = F.conv2d(part, layer.weight, padding=1)  # [B, C', H, W]
            place[: len(part), step, :, :outputs] = y.flatten(2).transpose(1, 2)


def _reading(products: Place, width: int) -> dict[str, Any]:
    return {
        "kind": native_operations.LAYER,
        "input": native_operations.KEPT,
        "base": products,
        "base_width": width,
        "window": 1,
    }


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
