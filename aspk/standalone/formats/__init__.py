"""Other formats for an exported network, for programs that do not know aspk."""

from __future__ import annotations

import importlib
from pathlib import Path

from aspk.evaluation.exported import ExportedNetwork

FORMATS = {  # name to the module that writes it, and what it writes
    "spikingjelly": (
        "spikingjelly_code",
        "model.py of spikingjelly's own layers, and its weights",
    ),
    "onnx": ("onnx_file", "network.onnx, for onnxruntime and others"),
    "torch": ("torch_program", "network.pt2, a program of torch.export"),
}


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
