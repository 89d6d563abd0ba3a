"""What networks are: programs of operations, the modules that compute them, and weight-entangled supernets.

Names are loaded at first use: what a network's program alone tells about it needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aspk.families.layers import Observer, calibrate
    from aspk.families.network import Network
    from aspk.families.neurons import lif
    from aspk.families.registry import network_of, program_of
    from aspk.families.spikformer.network import Spikformer
    from aspk.families.supernet import Statistics, Supernet

__all__ = [
    "Network",
    "Observer",
    "Spikformer",
    "Statistics",
    "Supernet",
    "calibrate",
    "lif",
    "network_of",
    "program_of",
]

_HOME = {
    "Observer": "layers",
    "calibrate": "layers",
    "Network": "network",
    "lif": "neurons",
    "network_of": "registry",
    "program_of": "registry",
    "Spikformer": "spikformer.network",
    "Statistics": "supernet",
    "Supernet": "supernet",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
