"""Compiling the C++ kernels: once for a machine and a version of the source, kept in the user's cache.

``torch.utils.cpp_extension`` compiles, too, but guards that with a lock file: whoever comes behind a process
that was killed while it compiled waits for ever (``torch/utils/file_baton.py``). It also needs ninja. The
kernels know nothing of PyTorch, so the compiler is enough.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import subprocess
import tempfile
from pathlib import Path

_LOGGER = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_name("kernels.cpp")
# No fused multiply-add and no reordering: the spikes are those of PyTorch's operations, bit for bit.
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-shared",
    "-fPIC",
)
_TIMEOUT = 120  # seconds; it takes one to ten


@functools.cache
def library(source: Path = _SOURCE) -> ctypes.CDLL | None:
    """The compiled kernels; None without a compiler, or if ``ASPK_NATIVE=0`` says not to use them.

    Whoever comes first compiles; a file is complete or not there, so that processes need no lock and a
    killed compilation leaves nothing behind that matters.

    Args:
        source: a C++ file; the kernels of a layer's neurons unless another is asked for.
    """
    if os.environ.get("ASPK_NATIVE") == "0":
        return None
    try:
        path = _cache_folder() / f"{source.stem}-{_identity(source)}.so"
        if not path.exists():
            _compile(source, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().partition("\n")[0]
        _LOGGER.warning("no native %s, PyTorch's operations instead: %s", source.stem, reason)
        return None


def _compiler() -> str:
    return os.environ.get("CXX", "c++")


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aspk" / "native"


def _identity(source: Path) -> str:
    """A hash of what the machine code depends on: source, compiler, flags, processor."""
    version = subprocess.run(
        [_compiler(), "--version"], capture_output=True, check=True, timeout=_TIMEOUT
    ).stdout
    parts = (source.read_bytes(), version, repr(_FLAGS).encode(), _processor().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """What ``-march=native`` looks at."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features")
    return "".join(sorted({line for line in lines if line.startswith(wanted)}))


def _compile(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".so")
    os.close(handle)
    try:
        command = [_compiler(), *_FLAGS, str(source), "-o", temporary]
        subprocess.run(command, capture_output=True, check=True, text=True, timeout=_TIMEOUT)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
