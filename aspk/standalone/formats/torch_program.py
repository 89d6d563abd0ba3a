"""A network as a program of :mod:`torch.export`: it runs wherever PyTorch does, without aspk."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor

from aspk.evaluation.exported import ExportedNetwork
from aspk.util.files import write_atomically

FILE = "network.pt2"
EXAMPLES = 2  # images that a network is traced with; a single one would be taken for a constant


def write(model: ExportedNetwork, folder: Path) -> Path:
    """Write ``network.pt2``, which takes any number of images per call and holds ``model.description()``.

    ``torch.export.load(file).module()(images)`` gives logits of preprocessed images.
    """
    images, batch = example(model)
    shapes = ({batch: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(model.network, (images,), dynamic_shapes=shapes)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={"aspk.json": model.description()})
    write_atomically(folder / FILE, content.getvalue())
    return folder / FILE


def example(model: ExportedNetwork) -> tuple[Tensor, int]:
    """An input of zeros, and the index of its axis of images."""
    shape: tuple[int, ...] = (EXAMPLES, *model.network.shape)
    if model.takes_sequences:
        return model.placed(torch.zeros(model.network.config.time_steps, *shape)), 1
    return model.placed(torch.zeros(shape)), 0
