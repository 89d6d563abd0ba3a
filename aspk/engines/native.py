"""The native engine: events on the CPU, in C++ (``spikes/``)."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.engines import native_operations
from aspk.engines.base import Charge, Counts, Engine, Layer, Mixed, Moments, Row, State
from aspk.engines.native_layers import NARROW, Layers, made, read_as
from aspk.engines.native_operations import WORD, constants, place_of, reading, words_of
from aspk.engines.native_program import NativeProgram, Recorder, first_products
from aspk.engines.native_states import (
    Currents,
    Map,
    Place,
    Products,
    Spikes,
    Stream,
)
from aspk.engines.packing import whole
from aspk.families.base import (
    LIF,
    Attention,
    Mixer,
    Neurons,
    SpikeDrivenAttention,
    TokenAttention,
)
from aspk.metrics import LayerShape

_PARTS = 2  # most layers whose spikes are read one by one, not as their sum, up to NARROW channels


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
        self.alone = threading.RLock()  # what is recorded, and the memory, would be those of all threads
        self._run = Recorder(dtype, threads)
        self._layers = Layers(self._run, dtype)

    @staticmethod
    def available(dtype: torch.dtype = torch.float32) -> bool:
        """Whether the kernels for this type of weights are available; the first call compiles them."""
        return dtype in (torch.float32, torch.float64) and native_operations.available(dtype)

    def program(self, walk: Callable[[Tensor], None], images: Tensor) -> NativeProgram:
        """See :class:`~aspk.engines.base.Engine`."""
        return self._run.record(walk, images)

    # ------------------------------------------------------------------ layers

    def products(self, layer: Layer, images: Tensor, steps: int) -> Products:
        """See :class:`~aspk.engines.base.Engine`."""
        count, static, width = images.shape[-4], images.dim() == 4, whole(len(layer.weight), self._dtype)
        height, columns = images.shape[-2:]
        of = Map(count, steps, height, columns, len(layer.weight))
        values = torch.zeros(count, 1 if static else len(images), of.positions, width, dtype=self._dtype)
        products = Products(of, place_of(values), width, values, static)
        if self._run.program:
            self._run.program.inputs.append((layer, products))  # computed for each batch
        else:
            first_products(layer, images, values)
        return products

    def keep(self, layer: Layer, x: State) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        width = whole(len(layer.weight), self._dtype)
        size = x.map.images * x.map.positions * width * self._dtype.itemsize
        if isinstance(x, Products) or (self._run.program is None and size > self._kept_bytes):
            return x
        kept = self._layers.products(layer, x)
        return Products(made(layer, x), kept.place, width, kept)

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
        of = read_as(layer, x)
        count = of.images * of.steps * of.positions
        sums = torch.zeros(of.images, 2, whole(outputs, self._dtype), dtype=torch.float64)
        self._run.emit(
            self._layers.read(layer, x), of, task=native_operations.MOMENTS, written=place_of(sums)
        )
        mean, square = sums.sum(0)[:, :outputs] / count
        return Moments(mean, (square - mean**2).clamp_(min=0)), count

    def charge(self, layer: Layer, moments: Moments, neurons: LIF | None) -> Charge:
        """See :class:`~aspk.engines.base.Engine`."""
        scale, shift, keep = layer.charge(moments, neurons)
        padding = (0, whole(len(scale), self._dtype) - len(scale))

        def padded(values: Tensor) -> Tensor:
            return F.pad(values, padding).to(self._dtype)

        return padded(scale), padded(shift), None if keep is None else padded(keep)

    def fire(self, layer: Layer, x: State, charge: Charge, neurons: Neurons) -> Spikes:
        """See :class:`~aspk.engines.base.Engine`."""
        to = made(layer, x)
        bits = self._run.bits(to)
        scale, shift, keep = charge
        options: dict[str, Any] = {
            **self._layers.read(layer, x),
            **constants(neurons),
            "task": native_operations.FIRE,
            "scale": scale.data_ptr(),
            "shift": shift.data_ptr(),
            "keep": 0 if keep is None else keep.data_ptr(),
            "written": bits.place,
        }
        counts = self._run.emit(options, read_as(layer, x), keep=charge)
        return Spikes(to, bits, words_of(to.channels), Counts(counts[0], counts[1]))

    # ------------------------------------------------------------------ between layers

    def pool(self, spikes: Spikes | Currents) -> Spikes | Currents:
        """See :class:`~aspk.engines.base.Engine`."""
        x, to = spikes.map, spikes.map.half
        if isinstance(spikes, Currents):
            return self._run.between(native_operations.POOL_CURRENTS, spikes, to)
        pooled = self._run.bits(to)
        counts = self._run.emit(
            {"kind": native_operations.POOL, "stride": spikes.words},
            x,
            read=spikes.bits.place,
            written=pooled.place,
        )
        return Spikes(to, pooled, words_of(to.channels), Counts(counts[0], counts[1]))

    def stream(self, *spikes: Spikes, keep: bool) -> Stream:
        """See :class:`~aspk.engines.base.Engine`."""
        stream: Stream | None = None
        for one in spikes:
            stream = self._sum(stream, None, one)
        assert stream is not None
        return replace(stream, products={} if keep else None)

    def add(self, stream: State, spikes: State) -> Stream | Currents:
        """See :class:`~aspk.engines.base.Engine`."""
        if isinstance(stream, Currents):
            return self._run.between(native_operations.ADD_CURRENTS, stream, stream.map, added=spikes)
        if stream.products is None:
            return self._sum(stream, stream.origin, spikes)
        if stream.map.channels > NARROW:
            return self._sum(None, stream, spikes)  # what is added starts here
        # A narrow stream is added up as a whole: later blocks read that faster than kept products. Only the
        # second half of the first block still builds on the stem's products.
        return replace(self._sum(stream, None, spikes), spikes=(spikes,), start=stream)

    def _sum(self, x: Stream | None, origin: Stream | None, spikes: Spikes) -> Stream:
        of = spikes.map
        total = self._run.take(of, of.steps, of.positions, of.channels, itemsize=1)
        counts = self._run.emit(
            {"kind": native_operations.ADD, "stride": spikes.words},
            of,
            read=spikes.bits.place,
            added=x.added.place if x else Place(),
            base=origin.added.place if origin else Place(),
            written=total.place,
        )
        known = x is None or (x.spikes and x.start is None)
        parts = (*(x.spikes if x else ()), spikes) if known else ()
        alike = len(parts) <= _PARTS and len({one.words for one in parts}) == 1  # a layer reads them alike
        return Stream(of, total, Counts(counts[0], counts[1]), origin, parts if alike else ())

    def mix(self, mixer: Mixer, spikes: Spikes, reciprocal_tau: float | None) -> Mixed:
        """See :class:`~aspk.engines.base.Engine`."""
        to = replace(spikes.map, channels=mixer.width)
        bits = self._run.bits(to)
        options: dict[str, Any] = {
            "stride": spikes.words,
            "reciprocal_tau": reciprocal_tau or 0.0,
            **constants(mixer.neurons.arguments),
            "read": spikes.bits.place,
            "written": bits.place,
        }

        def made(fired: Tensor) -> Spikes:
            return Spikes(to, bits, words_of(to.channels), Counts(fired, fired))

        if isinstance(mixer, SpikeDrivenAttention):
            counts = self._run.emit(options, to, kind=native_operations.MASK_BY_CHANNEL)
            q, k, v, both, neurons, passed = counts
            return Mixed(made(passed), (q, k, v), (Row(k, both, neurons), Row(q, passed, None)))
        if isinstance(mixer, TokenAttention):
            counts = self._run.emit(options, to, kind=native_operations.MASK_BY_TOKEN, heads=mixer.heads)
            q, k, neurons, passed, *_ = counts
            return Mixed(made(passed), (q, k), (Row(q, q, neurons), Row(k, passed, None)))
        assert isinstance(mixer, Attention)
        kind = native_operations.ATTEND
        counts = self._run.emit(options, to, kind=kind, heads=mixer.heads, factor=mixer.scale)
        q, k, v, pairs, fired, _ = counts
        return Mixed(made(fired), (q, k, v), (Row(q, pairs, None), Row(v, v, fired)))

    # ------------------------------------------------------------------ currents

    def current(self, layer: Layer, x: State, charge: Charge) -> Currents:
        """See :class:`~aspk.engines.base.Engine`."""
        to = made(layer, x)
        currents = self._run.currents(to, whole(to.channels, self._dtype))
        scale, shift, _ = charge
        options = {
            **self._layers.read(layer, x),
            "task": native_operations.CURRENTS,
            "scale": scale.data_ptr(),
            "shift": shift.data_ptr(),
        }
        self._run.emit(options, read_as(layer, x), written=currents.place, keep=charge)
        return currents

    def spike(self, current: Currents, neurons: Neurons, reciprocal_tau: float | None) -> Spikes:
        """See :class:`~aspk.engines.base.Engine`."""
        bits, leak = self._run.bits(current.map), reciprocal_tau or 1 / neurons["tau"]
        charge = torch.tensor([leak if neurons["decay_input"] else 1.0, 0.0, 1 - leak], dtype=self._dtype)
        charge = charge[:, None].repeat(1, current.width)
        scale, shift, kept = charge
        options = {
            **reading(current.place, current.width),
            **constants(neurons),
            "outputs": current.width,
            "task": native_operations.FIRE,
            "scale": scale.data_ptr(),
            "shift": shift.data_ptr(),
            "keep": kept.data_ptr(),
            "written": bits.place,
        }
        counts = self._run.emit(options, current.map, keep=(charge,))
        return Spikes(current.map, bits, words_of(current.map.channels), Counts(counts[0], counts[1]))

    def sample(self, spikes: Spikes) -> Spikes:
        """See :class:`~aspk.engines.base.Engine`."""
        x, to = spikes.map, spikes.map.half
        sampled = self._run.bits(to)
        counts = self._run.emit(
            {"kind": native_operations.SAMPLE, "stride": spikes.words},
            x,
            read=spikes.bits.place,
            written=sampled.place,
        )
        return Spikes(to, sampled, words_of(to.channels), Counts(counts[0], counts[1]))

    def tokens(self, x: State) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        return x

    def maps(self, x: State, size: tuple[int, int]) -> State:
        """See :class:`~aspk.engines.base.Engine`; states keep the size of their maps."""
        assert (x.map.height, x.map.width) == size
        return x

    def leading(self, x: State, channels: int) -> State:
        """See :class:`~aspk.engines.base.Engine`."""
        of = replace(x.map, channels=channels)
        if isinstance(x, Products) or of == x.map:
            return replace(x, map=of)
        counts = self._run.emit({"kind": native_operations.COUNT, "stride": x.words}, of, read=x.bits.place)
        return Spikes(of, x.bits, x.words, Counts(counts[0], counts[1]))

    # ------------------------------------------------------------------ what is counted

    def count(self, x: Spikes | Stream) -> Counts:
        """See :class:`~aspk.engines.base.Engine`."""
        return x.counts

    def windowed(self, x: Spikes, kernel: int, stride: int) -> Tensor:
        """See :class:`~aspk.engines.base.Engine`."""
        options: dict[str, Any] = {"kind": native_operations.COUNT_WINDOWS, "stride": x.words}
        options |= {"window": kernel, "every": stride}
        return self._run.emit(options, x.map, read=x.bits.place)[0]

    def token_sums(self, stream: Stream | Currents) -> Tensor:
        """See :class:`~aspk.engines.base.Engine`."""
        of = stream.map
        if isinstance(stream, Currents):
            totals = torch.empty(of.images, of.steps, of.channels, dtype=self._dtype)
            options = {"kind": native_operations.TOKENS_OF_CURRENTS, "base_width": stream.width}
            self._run.emit(options, of, read=stream.place, written=place_of(totals), keep=(totals,))
            return totals
        origin = stream.origin
        sums = torch.empty(of.images, of.steps, of.channels, dtype=torch.int32)
        base = origin.added.place if origin else Place()
        self._run.emit(
            {"kind": native_operations.TOKENS},
            of,
            read=stream.added.place,
            base=base,
            written=place_of(sums),
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
        bits = F.pad(rows, (0, words_of(of.channels) * WORD - of.channels)).long()
        bits = bits.reshape(*bits.shape[:3], -1, WORD)
        shifts = torch.arange(WORD)
        words = (bits << shifts).sum(-1)  # two's complement: bit 63 is the sign
        buffer = self._run.bits(of)
        ctypes.memmove(buffer.place.address, words.contiguous().data_ptr(), words.numel() * 8)
        sums = rows.sum((0, 2, 3), dtype=torch.int64)
        return Spikes(of, buffer, words_of(of.channels), Counts(sums, sums))
