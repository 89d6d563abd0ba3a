"""The native engine: events on the CPU, in C++ (``spikes.cpp``)."""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.engines.base import Attention, Charge, Counts, Engine, Layer, Moments, State
from aspk.engines.native_states import Buffer, Map, Memory, Products, Spikes, Stream
from aspk.engines.packing import by_patterns, packed, whole
from aspk.metrics import LayerShape
from aspk.native import library
from aspk.supernet.neurons import Neurons

SOURCE = Path(__file__).with_name("spikes.cpp")
_NAMES = {torch.float32: "float32", torch.float64: "float64"}
_WORD = 64  # channels in a word of spikes
_FIRE, _MOMENTS, _PRODUCTS = range(3)  # tasks of the layer kernel


class NativeEngine(Engine):
    """Event-driven on the CPU.

    Args:
        dtype: float32 or float64, the weights' type.
        threads: threads; None is PyTorch's number.
    """

    name = "native"
    images = 64  # their kept products stay in the processor's cache
    independent_outputs = True

    def __init__(self, *, dtype: torch.dtype = torch.float32, threads: int | None = None) -> None:
        self._dtype = dtype
        self._threads = threads
        self._memory = Memory()
        self._packed: weakref.WeakKeyDictionary[Layer, Tensor] = weakref.WeakKeyDictionary()

    @staticmethod
    def available() -> bool:
        """Whether there is a compiler, or was one."""
        return library(SOURCE) is not None

    # ------------------------------------------------------------------ layers

    def products(self, layer: Layer, images: Tensor, steps: int) -> Products:
        """See :class:`~aspk.engines.base.Engine`."""
        static = images.dim() == 4
        frames = images[None] if static else images
        count, batch = frames.shape[:2]
        y = F.conv2d(frames.flatten(0, 1), layer.weight, padding=1)  # [T*B, C', H, W]
        y = y.reshape(count, batch, *y.shape[1:]).permute(1, 0, 3, 4, 2)  # [B, T, H, W, C']
        outputs, (height, width) = y.shape[-1], y.shape[2:4]
        y = F.pad(y, (0, whole(outputs, y.dtype) - outputs)).flatten(2, 3).contiguous()  # [B, T, P, C'']
        return Products(Map(batch, steps, height, width, outputs), y, static)

    def moments(self, layer: Layer, x: State) -> tuple[Moments, int]:
        """See :class:`~aspk.engines.base.Engine`."""
        outputs = len(layer.weight)
        if isinstance(x, Products):
            values = x.values[..., :outputs].flatten(0, 2)
            variance, mean = torch.var_mean(values.double(), 0, correction=0)
            return Moments(mean, variance), len(values)
        count = x.map.images * x.map.steps * x.map.positions
        sums = torch.zeros(x.map.images, 2, whole(outputs, layer.weight.dtype), dtype=torch.float64)
        self._layer(_MOMENTS, layer, x, sums=sums)
        mean, square = sums.sum(0)[:, :outputs] / count
        return Moments(mean, (square - mean**2).clamp_(min=0)), count

    def charge(self, layer: Layer, moments: Moments, neurons: Neurons) -> Charge:
        """See :class:`~aspk.engines.base.Engine`."""
        scale, shift = layer.charge(moments, neurons)
        padding = (0, whole(len(scale), self._dtype) - len(scale))
        return F.pad(scale, padding).to(self._dtype), F.pad(shift, padding).to(self._dtype)

    def fire(self, layer: Layer, x: State, charge: Charge, neurons: Neurons) -> Spikes:
        """See :class:`~aspk.engines.base.Engine`."""
        outputs = len(layer.weight)
        to = replace(x.map, channels=outputs)
        bits = self._bits(to)
        counts = torch.empty(to.images, 2, to.steps, dtype=torch.int64)
        if isinstance(x, Products):
            self._fire(to, x.values, x.static, charge, neurons, bits, counts)
        elif isinstance(x, Stream) and x.products is not None:
            self._fire(to, self._kept_products(layer, x).tensor, False, charge, neurons, bits, counts)
        else:
            self._layer(_FIRE, layer, x, charge=charge, neurons=neurons, bits=bits, counts=counts)
        return Spikes(to, bits, counts=Counts(*counts.sum(0).double()))

    def _bits(self, of: Map) -> Buffer:
        return self._memory.take(of.images, of.steps, of.positions, _words(of.channels), dtype=torch.int64)

    def _kept_products(self, layer: Layer, x: Stream) -> Buffer:
        assert x.products is not None
        if layer.key not in x.products:
            outputs, dtype = whole(len(layer.weight), layer.weight.dtype), layer.weight.dtype
            products = self._memory.take(x.map.images, x.map.steps, x.map.positions, outputs, dtype=dtype)
            self._layer(_PRODUCTS, layer, x, products=products)
            x.products[layer.key] = products
        return x.products[layer.key]

    def _layer(
        self,
        task: int,
        layer: Layer,
        x: Spikes | Stream,
        *,
        charge: Sequence[Tensor] = (),
        neurons: Neurons | None = None,
        bits: Buffer | None = None,
        counts: Tensor | None = None,
        sums: Tensor | None = None,
        products: Buffer | None = None,
    ) -> None:
        outputs = whole(len(layer.weight), layer.weight.dtype)
        window = layer.weight.shape[-1] if layer.weight.dim() == 4 else 1
        base = self._kept_products(layer, x.origin) if isinstance(x, Stream) and x.origin else None
        spikes, residual = (x.bits, None) if isinstance(x, Spikes) else (None, x.added)
        stride = 0 if spikes is None else spikes.tensor.shape[-1]
        scale, shift = charge or (None, None)
        self._call(
            "layer",
            layer.weight.dtype,
            task,
            _sizes(x.map, window, outputs),
            _at(spikes),
            _at(residual),
            ctypes.c_int64(stride),
            _at(self._weights(layer)),
            _at(base),
            _at(scale),
            _at(shift),
            *_constants(neurons),
            ctypes.c_int(by_patterns(layer.weight)),
            _at(bits),
            _at(counts),
            _at(sums),
            _at(products),
        )

    def _fire(
        self,
        to: Map,
        products: Tensor,
        static: bool,
        charge: Sequence[Tensor],
        neurons: Neurons,
        bits: Buffer,
        counts: Tensor,
    ) -> None:
        sizes = _sizes(replace(to, channels=products.shape[-1]))
        constants = (ctypes.c_int(static), *map(_at, charge), *_constants(neurons))
        self._call("fire", products.dtype, sizes, _at(products), *constants, _at(bits), _at(counts))

    def _weights(self, layer: Layer) -> Tensor:
        if layer not in self._packed:
            self._packed[layer] = packed(layer.weight)
        return self._packed[layer]

    # ------------------------------------------------------------------ what stands between layers

    def pool(self, spikes: Spikes) -> Spikes:
        """See :class:`~aspk.engines.base.Engine`."""
        x = spikes.map
        to = replace(x, height=(x.height + 1) // 2, width=(x.width + 1) // 2)
        pooled = self._bits(to)
        self._call("pool_spikes", None, _sizes(x), _at(spikes.bits), _at(pooled))
        return Spikes(to, pooled)

    def stream(self, *spikes: Spikes, keep: bool) -> Stream:
        """See :class:`~aspk.engines.base.Engine`."""
        added: Buffer | None = None
        for one in spikes:
            added = self._sum(added, one)
        assert added is not None
        sums = functools.reduce(torch.add, (self.count(one).sums for one in spikes))
        return Stream(spikes[0].map, added, Counts(sums, sums), products={} if keep else None)

    def add(self, stream: Stream, spikes: Spikes) -> Stream:
        """See :class:`~aspk.engines.base.Engine`."""
        sums = stream.counts.sums + self.count(spikes).sums
        counts = Counts(sums, sums)
        if stream.products is not None:  # the stem's: what is added starts here
            return Stream(stream.map, self._sum(None, spikes), counts, origin=stream)
        return replace(stream, added=self._sum(stream.added, spikes), counts=counts)

    def _sum(self, x: Buffer | None, spikes: Spikes) -> Buffer:
        of = spikes.map
        total = self._memory.take(of.images, of.steps, of.positions, of.channels, dtype=torch.uint8)
        sizes = (ctypes.c_int64(of.images * of.steps * of.positions), ctypes.c_int64(of.channels))
        self._call("add_spikes", None, *sizes, _at(x), _at(spikes.bits), _at(total))
        return total

    def attend(self, qkv: Spikes, heads: int, scale: float, neurons: Neurons) -> Attention:
        """See :class:`~aspk.engines.base.Engine`."""
        to = replace(qkv.map, channels=qkv.map.channels // 3)
        bits = self._bits(to)
        counts = torch.empty(to.images, to.steps, 5, dtype=torch.int64)
        self._call(
            "attend",
            self._dtype,
            _sizes(to),
            ctypes.c_int64(heads),
            _at(qkv.bits),
            ctypes.c_int64(qkv.bits.tensor.shape[-1]),
            ctypes.c_double(scale),
            *_constants(neurons),
            _at(bits),
            _at(counts),
        )
        q, k, v, pairs, fired = counts.sum(0).double().unbind(1)
        return Attention(Spikes(to, bits, counts=Counts(fired, fired)), q, k, v, pairs)

    def leading(self, spikes: Spikes, channels: int) -> Spikes:
        """See :class:`~aspk.engines.base.Engine`."""
        of = replace(spikes.map, channels=channels)
        return spikes if of == spikes.map else Spikes(of, spikes.bits, spikes.offset)

    # ------------------------------------------------------------------ what is counted

    def count(self, x: Spikes | Stream) -> Counts:
        """See :class:`~aspk.engines.base.Engine`."""
        if x.counts is not None:
            return x.counts
        assert isinstance(x, Spikes)
        sums, windowed = torch.empty(2, x.map.images, x.map.steps, dtype=torch.int64).unbind()
        layout = (ctypes.c_int64(x.bits.tensor.shape[-1]), ctypes.c_int64(x.offset))
        self._call("count_map", None, _sizes(x.map), _at(x.bits), *layout, _at(sums), _at(windowed))
        return Counts(sums.sum(0).double(), windowed.sum(0).double())

    def token_sums(self, stream: Stream) -> Tensor:
        """See :class:`~aspk.engines.base.Engine`."""
        of = stream.map
        sums = torch.empty(of.images, of.steps, of.channels, dtype=torch.int32)
        sizes = map(ctypes.c_int64, (of.images * of.steps, of.positions, of.channels))
        self._call("token_sums", None, *sizes, _at(stream.added), _at(sums))
        return sums if stream.origin is None else sums + self.token_sums(stream.origin)

    def image_bytes(self, shapes: tuple[LayerShape, ...]) -> int:
        """See :class:`~aspk.engines.base.Engine`."""
        steps, number = shapes[0].repeats, self._dtype.itemsize
        kept = sum(shape.output_size for shape in shapes if shape.source == "residual") * number
        bits = sum(shape.output_size for shape in shapes) // 8
        streams = sum(shape.input_size for shape in shapes if shape.name.endswith((".fc1", ".q")))
        return steps * (kept + bits + streams)

    # ------------------------------------------------------------------ calling

    def _call(self, name: str, dtype: torch.dtype | None, *arguments: object) -> None:
        found = library(SOURCE)
        assert found is not None, "see available()"
        kernel: Callable[..., None] = getattr(found, name if dtype is None else f"{name}_{_NAMES[dtype]}")
        kernel(*arguments, ctypes.c_int(self._threads or torch.get_num_threads()))


def _words(channels: int) -> int:
    return -(-channels // _WORD)


def _at(memory: Tensor | Buffer | None) -> ctypes.c_void_p | None:
    tensor = memory.tensor if isinstance(memory, Buffer) else memory
    assert tensor is None or tensor.is_contiguous()
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def _sizes(of: Map, *more: int) -> ctypes.Array[ctypes.c_int64]:
    sizes = (of.images, of.steps, of.height, of.width, of.channels, *more)
    return (ctypes.c_int64 * len(sizes))(*sizes)


def _constants(neurons: Neurons | None) -> tuple[object, ...]:
    """tau, v_threshold, hard, decay_input."""
    if neurons is None:
        return ctypes.c_double(2), ctypes.c_double(1), 1, 1
    numbers = (ctypes.c_double(neurons["tau"]), ctypes.c_double(neurons["v_threshold"]))
    return (*numbers, ctypes.c_int(neurons["reset"] == "hard"), ctypes.c_int(neurons["decay_input"]))
