"""Choosing and describing the device that a network runs on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from aspk.errors import DeviceError
from aspk.families import native
from aspk.util.process import cores

DEVICES = ("auto", "cpu", "cuda")
_PROCESSORS = Path("/proc/cpuinfo")
_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}  # by the flag of Linux, the faster first


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU.

    Raises:
        DeviceError: the name is unknown, or CUDA is requested but not available.
    """
    if name not in DEVICES:
        raise DeviceError(f"device {name!r}: expected one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device 'cuda': no CUDA device is visible to PyTorch; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def half_precision(device: torch.device) -> str:
    """The device's bfloat16 unit, if it has one that makes training faster; else ''.

    A CPU with AMX or AVX512-BF16, where the kernels of neurons can be compiled; CUDA from compute capability
    8.0 (Ampere) on.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"CUDA {major}.{minor}" if major >= 8 else ""
    if device.type != "cpu" or not native.available(torch.empty(1, dtype=torch.bfloat16)):
        return ""
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return next((name for flag, name in _UNITS.items() if flag in flags), "")


def hardware(device: str) -> str:
    """The processor, or the graphics card, and the threads in use."""
    place = resolve_device(device)
    if place.type == "cuda":
        return str(torch.cuda.get_device_name(place))
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {cores()} core(s), {torch.get_num_threads()} thread(s)"
