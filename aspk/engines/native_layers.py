"""How the native engine's operations read a layer's input."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aspk.engines import native_operations
from aspk.engines.base import Layer, State
from aspk.engines.native_operations import reading
from aspk.engines.native_program import Recorder
from aspk.engines.native_states import Buffer, Map, Place, Products, Spikes, Stream
from aspk.engines.packing import by_patterns, by_taps, packed, whole

NARROW = 128  # most channels of a stream whose parts are read one by one, not as their sum


class Layers:
    """Layers with their inputs, as operations take them.

    Args:
        run: runs or records the operations.
        dtype: the weights' type.
    """

    def __init__(self, run: Recorder, dtype: torch.dtype) -> None:
        self._run, self._dtype = run, dtype
        self._packed: weakref.WeakKeyDictionary[Layer, Tensor] = weakref.WeakKeyDictionary()

    def read(self, layer: Layer, x: State) -> dict[str, Any]:
        """How an operation reads a layer's input, or products with it.

        Products that are computed here are valid for the operation that is emitted next: take the memory
        that it writes before.
        """
        outputs = whole(len(layer.weight), self._dtype)
        if isinstance(x, Stream) and x.products is not None:
            kept = self.kept(layer, x)
            return {**reading(kept.place, outputs), "outputs": outputs}
        if isinstance(x, Products):
            return {**reading(x.place, x.width), "repeated": x.static, "outputs": outputs}
        if layer.depthwise or layer.stride > 1:
            return {**reading(self.products(layer, x).place, outputs), "outputs": outputs}
        return self._layer(layer, x)

    def kept(self, layer: Layer, x: Stream) -> Buffer:
        """A layer's products with a stream, computed once."""
        assert x.products is not None
        if layer.key not in x.products:
            x.products[layer.key] = self.products(layer, x)
        return x.products[layer.key]

    def products(self, layer: Layer, x: Spikes | Stream) -> Buffer:
        """A layer's products, in rows of whole vectors."""
        outputs = whole(len(layer.weight), self._dtype)
        products = self._room(x.map, outputs)
        if layer.depthwise:
            assert isinstance(x, Spikes)
            self._run.emit(self._channels(layer, x), x.map, outputs=outputs, written=products.place)
            return products
        self._run.emit(self._layer(layer, x), x.map, task=native_operations.PRODUCTS, written=products.place)
        if layer.stride == 1:
            return products
        sampled, kind = self._room(made(layer, x), outputs), native_operations.SAMPLE_CURRENTS
        self._run.emit(
            {"kind": kind, "base_width": outputs}, x.map, read=products.place, written=sampled.place
        )
        return sampled

    def _room(self, of: Map, width: int) -> Buffer:
        """Memory for products in rows of ``width``."""
        return self._run.take(of, of.steps, of.positions, width, itemsize=self._dtype.itemsize)

    def _channels(self, layer: Layer, x: Spikes) -> dict[str, Any]:
        """What an operation needs to know about a convolution of each channel on its own."""
        return {
            "kind": native_operations.CONVOLVE_CHANNELS,
            "window": layer.weight.shape[-1],
            "stride": x.words,
            "weights": self._weights(layer).data_ptr(),
            "read": x.bits.place,
        }

    def _weights(self, layer: Layer) -> Tensor:
        """A layer's weights in the order in which the kernels read them; kept."""
        if layer not in self._packed:
            self._packed[layer] = (by_taps if layer.depthwise else packed)(layer.weight)
        weights = self._packed[layer]
        if self._run.program:
            self._run.program.kept.append(weights)
        return weights

    def _layer(self, layer: Layer, x: Spikes | Stream) -> dict[str, Any]:
        """What an operation needs to know about a layer and its input."""
        origin = (x.start or x.origin) if isinstance(x, Stream) else None
        spikes = (x,) if isinstance(x, Spikes) else x.spikes if x.map.channels <= NARROW else ()
        read = spikes[0] if spikes else x.added  # type: ignore[union-attr]  # a stream
        outputs = whole(len(layer.weight), self._dtype)
        return {
            "kind": native_operations.LAYER,
            "input": _input(layer, read),
            "window": layer.weight.shape[-1] if layer.weight.dim() == 4 else 1,
            "outputs": outputs,
            "base_width": outputs,
            "stride": read.words if isinstance(read, Spikes) else 0,
            "weights": self._weights(layer).data_ptr(),
            "read": read.bits.place if isinstance(read, Spikes) else read.place,
            "added": spikes[1].bits.place if len(spikes) > 1 else Place(),
            "base": Place() if origin is None else self.kept(layer, origin).place,
        }


def read_as(layer: Layer, x: State) -> Map:
    """Sizes of the spikes, or of products with them, that an operation reads for a layer."""
    of: Map = x.map
    return of if layer.stride == 1 or isinstance(x, Products) else of.half


def made(layer: Layer, x: State) -> Map:
    """Sizes of a layer's products."""
    return replace(read_as(layer, x), channels=len(layer.weight))


def _input(layer: Layer, read: Spikes | Buffer) -> int:
    """How the kernel reads a layer's input."""
    if not isinstance(read, Spikes):
        return native_operations.RESIDUAL
    if layer.weight.dim() == 2:
        return native_operations.BITS
    return native_operations.PATTERNS if by_patterns(layer.weight) else native_operations.SPIKES
