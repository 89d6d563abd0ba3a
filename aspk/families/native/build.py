"""Compiling the C++ kernels: once for a machine and a version of the source, kept in the user's cache.

``torch.utils.cpp_extension`` could compile them, but guards that with a lock file: if a process is killed
while it compiles, the next one waits for ever (``torch/utils/file_baton.py``). It also needs ninja. The
kernels do not use PyTorch, so the compiler is enough.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import tempfile
import time
from pathlib import Path

from aspk.families.native import cache
from aspk.families.native.processes import TooSlowError, run
from aspk.util.files import write_atomically

_LOGGER = logging.getLogger(__name__)
_KERNELS = Path(__file__).with_name("kernels")
# No fused multiply-add and no reordering: the spikes are those of PyTorch's operations, bit for bit.
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-fPIC",
    "-fvisibility=hidden",
)
_NUMBERS = {
    "float32": ("-DASPK_NUMBER=float",),
    "float64": ("-DASPK_NUMBER=double",),
    "bfloat16": ("-DASPK_NUMBER=float", "-DASPK_BFLOAT16"),  # in memory; computations are in float32
}
_SECONDS = 120  # limit for a compilation, which takes about eight seconds of CPU time
_PAUSE = 24 * 3600  # seconds before a compilation that was too slow is tried again


def library(sources: Path = _KERNELS, numbers: str = "float32") -> ctypes.CDLL | None:
    """The compiled kernels; None without a compiler, or if ``ASPK_NATIVE=0`` says not to use them.

    The first process compiles; others wait for it.

    Args:
        sources: folder with the C++ files of a library; the kernels of a layer's neurons unless others are
            asked for.
        numbers: their type, ``float32``, ``float64``, or ``bfloat16`` for the kernels of neurons; each has a
            library of its own.
    """
    return _library(sources, numbers)


@functools.cache
def _library(sources: Path, numbers: str) -> ctypes.CDLL | None:
    if os.environ.get("ASPK_NATIVE") == "0":
        return None
    try:
        return _Library(sources, numbers).load()
    except (OSError, ValueError) as error:  # ValueError: quotes in CXX
        _LOGGER.warning("no native %s, PyTorch's operations instead: %s", sources.name, error)
        return None


class _Library:
    """One library to be found or built."""

    def __init__(self, sources: Path, numbers: str) -> None:
        self._compiler = shlex.split(os.environ.get("CXX") or "c++")
        self._compile = [*self._compiler, *_FLAGS, *_NUMBERS[numbers]]
        self._title = f"{sources.name} ({numbers})"
        files = sorted(sources.iterdir())
        self._pieces = [path for path in files if path.suffix == ".cpp"]
        # What the machine code depends on, but for the compiler's version.
        parts = [part.encode() for part in (*self._compile, _processor())]
        self._name = f"{sources.name}-{numbers}-{_digest(*parts, *(path.read_bytes() for path in files))}"

    def load(self) -> ctypes.CDLL:
        """Find it, or compile and keep it.

        Raises:
            OSError: it cannot be compiled or stored, or compiling took too long last time.
        """
        reasons: list[str] = []
        for folder in cache.folders():
            try:
                found = self._load(cache.trusted(folder))
            except cache.UnusableError as error:
                reasons.append(str(error))
                continue
            if reasons:
                _LOGGER.warning("native %s is kept in %s: %s", self._title, folder, "; ".join(reasons))
            return found
        raise OSError("; ".join(reasons))

    def _load(self, folder: Path) -> ctypes.CDLL:
        slow = folder / f"{self._name}.too-slow"
        if slow.exists() and time.time() - slow.stat().st_mtime < _PAUSE:
            raise OSError(f"compiling took too long within the last day; rm {slow} to try again")
        try:
            name = f"{self._name}-{self._version}"
            found = cache.load(folder, name)
            if found is None:
                with cache.alone(folder, seconds=_SECONDS):
                    found = cache.load(folder, name) or self._build(folder, name)
        except TooSlowError as error:
            write_atomically(slow, "")
            raise OSError(f"{error}; not tried again for a day; rm {slow} to try at once") from error
        slow.unlink(missing_ok=True)
        return found

    @functools.cached_property
    def _version(self) -> str:
        return _digest(*run([[*self._compiler, "--version"]], seconds=_SECONDS))

    def _build(self, folder: Path, name: str) -> ctypes.CDLL:
        # Logged as a warning, though nothing is wrong: users should see why nothing else happens for seconds.
        _LOGGER.warning("compiling native %s, once on this machine", self._title)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=folder, prefix=cache.UNFINISHED) as work:
            objects = [f"{work}/{piece.stem}.o" for piece in self._pieces]
            pieces = zip(self._pieces, objects, strict=True)
            run([[*self._compile, "-c", str(piece), "-o", out] for piece, out in pieces], seconds=_SECONDS)
            built = Path(work) / "library.so"
            run([[*self._compile, "-shared", *objects, "-o", str(built)]], seconds=_SECONDS)
            found = cache.keep(built, folder, name)
        seconds = time.perf_counter() - start
        _LOGGER.warning("compiled native %s in %.1f s; it is kept in %s", self._title, seconds, folder)
        return found


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """The properties of the CPU that ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features")
    return "".join(sorted({line for line in lines if line.startswith(wanted)}))
