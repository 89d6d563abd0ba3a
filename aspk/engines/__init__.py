"""How a supernet's networks are executed: with PyTorch's operations or natively, many of them at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch

from aspk.engines.base import Engine, foreign_operations
from aspk.engines.native import NativeEngine
from aspk.engines.population import Population
from aspk.engines.torch_engine import TorchEngine
from aspk.errors import EngineError
from aspk.families.base import Operation

__all__ = ["Engine", "NativeEngine", "Population", "TorchEngine", "choose_engine"]

_LOGGER = logging.getLogger(__name__)


def choose_engine(
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    memory: int = 2**30,
    operations: Iterable[Operation] = (),
) -> Engine:
    """The engine of that name; ``auto`` is the native one on a CPU with a compiler, else PyTorch's.

    Without a compiler, or for networks with operations that the native engine does not support, ``native`` is
    PyTorch's too, and a warning is logged.

    Args:
        name: see :class:`aspk.spec.settings.EngineSettings`.
        device: where the supernet is.
        dtype: type of its weights.
        memory: bytes that an evaluation may use.
        operations: what the networks consist of.

    Raises:
        EngineError: the native engine is requested on a device other than the CPU.
    """
    if name == "native" and device.type != "cpu":
        raise EngineError(f"engine 'native' runs on the CPU, the supernet is on {device}; use torch or auto")
    if name in ("auto", "native") and device.type == "cpu" and NativeEngine.available(dtype):
        foreign = foreign_operations(operations, NativeEngine)
        if not foreign:
            return NativeEngine(dtype=dtype, memory=memory)
        _LOGGER.warning("engine 'torch' instead of 'native', which does not run %s", ", ".join(foreign))
    return TorchEngine(dtype=dtype, images=64 if device.type == "cpu" else 512, memory=memory)
