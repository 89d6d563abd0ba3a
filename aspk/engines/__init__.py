"""How a supernet's networks are executed: with PyTorch's operations or natively, many of them at once."""

from __future__ import annotations

import torch

from aspk.engines.base import Engine
from aspk.engines.native import NativeEngine
from aspk.engines.population import Population
from aspk.engines.torch_engine import CompiledEngine, TorchEngine
from aspk.errors import EngineError

__all__ = ["CompiledEngine", "Engine", "NativeEngine", "Population", "TorchEngine", "choose_engine"]


def choose_engine(name: str, *, device: torch.device, dtype: torch.dtype, memory: int = 2**30) -> Engine:
    """The engine of that name; ``auto`` is the native one on a CPU with a compiler, else PyTorch's.

    Without a compiler ``native`` is PyTorch's too: a log line says so once.

    Args:
        name: see :class:`aspk.spec.settings.EngineSettings`.
        device: where the supernet is.
        dtype: type of its weights.
        memory: bytes that an evaluation may take.

    Raises:
        EngineError: the native engine is asked for on another device than the CPU.
    """
    if name == "native" and device.type != "cpu":
        raise EngineError(f"engine 'native' runs on the CPU, the supernet is on {device}; use torch or auto")
    if name in ("auto", "native") and device.type == "cpu" and NativeEngine.available(dtype):
        return NativeEngine(dtype=dtype, memory=memory)
    kind = CompiledEngine if name == "compiled" else TorchEngine
    return kind(dtype=dtype, images=64 if device.type == "cpu" else 512, memory=memory)
