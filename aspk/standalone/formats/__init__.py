"""Other formats for an exported network, for programs that do not know aspk."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aspk.evaluation.exported import ExportedNetwork
from aspk.standalone.export import EXPORT_FILES
from aspk.util.files import hash_of

FORMATS = {  # name to the module that writes it, and what it writes
    "spikingjelly": (
        "spikingjelly_code",
        "model.py of spikingjelly's own layers, and its weights",
    ),
    "onnx": ("onnx_file", "network.onnx, for onnxruntime and others"),
    "torch": ("torch_program", "network.pt2, a program of torch.export"),
}
_FILES = ("network.onnx", "network.pt2", "spikingjelly/model.py", "spikingjelly/network.safetensors")


@contextmanager
def renewed(folder: Path) -> Iterator[list[Path]]:
    """If the block exports another network into a folder, remove the one before in other formats.

    Yields:
        What was removed, once the block has ended.
    """
    removed: list[Path] = []
    before = _weights_in(folder)
    yield removed
    if before is None or before == _weights_in(folder):
        return
    for path in (folder / name for name in _FILES):
        if path.is_file():
            path.unlink()
            removed.append(path)


def _weights_in(folder: Path) -> str | None:
    """Hash of the network that is in a folder, None without one."""
    with suppress(OSError):
        return hash_of(folder / EXPORT_FILES[0])
    return None


def write_format(name: str, model: ExportedNetwork, folder: Path) -> Path:
    """Write a network in another format beside its export.

    Args:
        name: one of :data:`FORMATS`.
        model: the network.
        folder: its export's folder.

    Returns:
        What was written: a file, or a folder.

    Raises:
        CheckpointError: the format cannot express a part of the network, or a package is missing.
        OSError: the folder cannot be written.
    """
    written: Path = importlib.import_module(f"{__name__}.{FORMATS[name][0]}").write(model, folder)
    return written
