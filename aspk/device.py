"""Choosing the device a network runs on."""

from __future__ import annotations

import torch

from aspk.errors import DeviceError

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU.

    Raises:
        DeviceError: an unknown name, or CUDA is asked for and not there.
    """
    if name not in DEVICES:
        raise DeviceError(f"device {name!r}: expected one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device 'cuda': no CUDA device is visible to PyTorch; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
