"""Operations of the native engine, and their execution in C++ (``spikes/``)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aspk.engines.native_states import Place
from aspk.families.base import Neurons
from aspk.families.native import library

WORD = 64  # channels in a word of spikes
_SOURCE = Path(__file__).with_name("spikes")
# Kinds of operations.
LAYER, POOL, ADD, ATTEND, TOKENS, COUNT, MASK_BY_CHANNEL, MASK_BY_TOKEN = range(8)
ADD_CURRENTS, POOL_CURRENTS, TOKENS_OF_CURRENTS = range(8, 11)
SAMPLE, SAMPLE_CURRENTS, CONVOLVE_CHANNELS, COUNT_WINDOWS = range(11, 15)
FIRE, MOMENTS, PRODUCTS, CURRENTS = range(4)  # tasks of a layer
SPIKES, RESIDUAL, PATTERNS, KEPT, BITS = range(5)  # its inputs


class Operation(ctypes.Structure):
    """``Operation`` of spikes/program.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("kind", "task", "input", "hard", "decay_input", "repeated")),
        *((name, ctypes.c_int64) for name in ("steps", "height", "width", "channels")),
        *(
            (name, ctypes.c_int64)
            for name in ("window", "outputs", "base_width", "heads", "stride", "every", "counts")
        ),
        *((name, ctypes.c_double) for name in ("tau", "reciprocal_tau", "v_threshold", "factor")),
        *((name, ctypes.c_int64) for name in ("weights", "scale", "shift", "keep")),
        *((name, Place) for name in ("read", "added", "base", "written")),
    )


def available(dtype: torch.dtype) -> bool:
    """Whether the kernels are available; the first call compiles them.

    Args:
        dtype: type of the weights.
    """
    return library(_SOURCE, _name(dtype)) is not None


def execute(
    operations: Sequence[Operation],
    images: int,
    *,
    capacity: int,
    memory: int,
    dtype: torch.dtype,
    threads: int | None,
) -> None:
    """Run operations on some images.

    Args:
        operations: what to do, in order.
        images: how many there are.
        capacity: images that a thread works on at once.
        memory: bytes of private memory that a thread needs for each of them.
        dtype: type of the weights.
        threads: the most threads to use; None uses PyTorch's number.
    """
    found = library(_SOURCE, _name(dtype))
    assert found is not None, "see available()"
    run: Callable[..., None] = found.run
    threads = min(threads or torch.get_num_threads(), -(-images // capacity))
    sizes = map(ctypes.c_int64, (len(operations), images, capacity, memory))
    run((Operation * len(operations))(*operations), *sizes, ctypes.c_int(threads))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def reading(products: Place, width: int) -> dict[str, Any]:
    """How an operation reads the kept products of a layer."""
    return {
        "kind": LAYER,
        "input": KEPT,
        "base": products,
        "base_width": width,
        "window": 1,
    }


def place_of(tensor: Tensor) -> Place:
    """Where a tensor's images are; its first axis is images."""
    return Place(tensor.data_ptr(), tensor[0].numel() * tensor.itemsize, 0)


def words_of(channels: int) -> int:
    """Words of spikes in a row."""
    return -(-channels // WORD)


def constants(neurons: Neurons) -> dict[str, Any]:
    """Neurons as an operation takes them."""
    return {
        "tau": neurons["tau"],
        "v_threshold": neurons["v_threshold"],
        "hard": neurons["reset"] == "hard",
        "decay_input": neurons["decay_input"],
    }
