"""Running the native engine's operations: each immediately, or all together once they are recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.engines.base import Layer, Program
from aspk.engines.native_operations import Operation, execute, words_of
from aspk.engines.native_states import (
    Buffer,
    Currents,
    Map,
    Place,
    PlannedMemory,
    Products,
    TensorMemory,
)

_COUNTS = 6  # most counts of an operation per step
_PIECE = 16  # images that a single operation works on at once
_CACHE = 2**22  # bytes of states that a thread should hold at most


class NativeProgram(Program):
    """Operations that are recorded once and run on successive batches."""

    def __init__(self, images: int, **options: Any) -> None:  # noqa: ANN401  # of execute()
        self._options, self.images = options, images
        self.operations: list[Operation] = []
        self.memory = PlannedMemory()
        self.kept: list[object] = []  # keeps alive what the operations hold addresses of
        self.inputs: list[tuple[Layer, Products]] = []

    def run(self, images: Tensor) -> None:
        """See :class:`~aspk.engines.base.Program`."""
        batch = images.shape[-4]
        for layer, products in self.inputs:
            assert isinstance(products.memory, Tensor)
            first_products(layer, images, products.memory)
        capacity = max(1, min(_PIECE, _CACHE // max(self.memory.bytes, 1)))
        execute(self.operations, batch, capacity=capacity, memory=self.memory.bytes, **self._options)


class Recorder:
    """Runs operations, or records them while a program is being made.

    Args:
        dtype: float32 or float64, the weights' type.
        threads: threads; None is PyTorch's number.
    """

    def __init__(self, dtype: torch.dtype, threads: int | None) -> None:
        self._dtype = dtype
        self._options: dict[str, Any] = {"dtype": dtype, "threads": threads}
        self._tensors = TensorMemory()
        self.program: NativeProgram | None = None  # that is being recorded

    def record(self, walk: Callable[[Tensor], None], images: Tensor) -> NativeProgram:
        """The operations of a walk."""
        self.program = program = NativeProgram(images.shape[-4], **self._options)
        try:
            walk(images)
        finally:
            self.program = None
        return program

    def emit(
        self,
        options: dict[str, Any],
        of: Map,
        *,
        keep: tuple[object, ...] = (),
        **more: Any,  # noqa: ANN401  # fields
    ) -> Tensor:
        """Run an operation, or record it.

        Returns:
            Its counts, [6, T]: totals over all images, valid once it has run.
        """
        counts = torch.zeros(_COUNTS, of.steps, dtype=torch.int64)
        sizes = {"steps": of.steps, "height": of.height, "width": of.width, "channels": of.channels}
        operation = Operation(**{**sizes, "counts": counts.data_ptr(), "tau": 2.0, **options, **more})
        if self.program is None:
            execute([operation], of.images, capacity=_PIECE, memory=0, **self._options)
        else:
            self.program.operations.append(operation)
            self.program.kept += (counts, *keep)
        return counts

    def take(self, of: Map, *shape: int, itemsize: int) -> Buffer:
        """Memory of a state."""
        memory = self._tensors if self.program is None else self.program.memory
        return memory.take(of.images, *shape, itemsize=itemsize)

    def bits(self, of: Map) -> Buffer:
        """Memory of spikes."""
        return self.take(of, of.steps, of.positions, words_of(of.channels), itemsize=8)

    def currents(self, of: Map, width: int) -> Currents:
        """Currents that an operation will write, in rows of ``width``."""
        memory = self.take(of, of.steps, of.positions, width, itemsize=self._dtype.itemsize)
        return Currents(of, memory.place, width, memory)

    def between(self, kind: int, x: Currents, to: Map, *, added: Currents | None = None) -> Currents:
        """Currents that an operation computes from others."""
        made = self.currents(to, x.width)
        options: dict[str, Any] = {"kind": kind, "base_width": x.width}
        self.emit(options, x.map, read=x.place, written=made.place, added=added.place if added else Place())
        return made


def first_products(layer: Layer, images: Tensor, out: Tensor) -> None:
    """Write products with images to [B or more, T or 1, P, outputs in whole vectors]."""
    frames = images if images.dim() == 5 else images[None]
    outputs = len(layer.weight)
    for step, frame in enumerate(frames):
        for part, to in zip(torch.split(frame, _PIECE), torch.split(out, _PIECE), strict=False):
            y = F.conv2d(part, layer.weight, padding=1)  # [B, C', H, W]
            to[: len(part), step, :, :outputs] = y.flatten(2).transpose(1, 2)
