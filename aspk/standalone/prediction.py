"""What an exported network says of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aspk.data.event_frames import read_frames
from aspk.data.pictures import open_picture
from aspk.errors import DataError
from aspk.evaluation.exported import ExportedNetwork

_EXTENSIONS = frozenset((".bmp", ".jpeg", ".jpg", ".npz", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
_BATCH = 64  # files run at once


@dataclass(frozen=True)
class Prediction:
    """What a network says of one file.

    Attributes:
        path: the file.
        probabilities: class name and probability (softmax of the logits), the most probable first.
    """

    path: Path
    probabilities: tuple[tuple[str, float], ...]


def predict_files(model: ExportedNetwork, paths: Sequence[str | Path]) -> Iterator[Prediction | DataError]:
    """Predictions for pictures, or for sequences of event frames (``.npz``), one after the other.

    Args:
        model: the network.
        paths: files, and folders whose pictures and sequences are looked for at all depths.

    Yields:
        A prediction for each file; where a file cannot be used, what is wrong with it.

    Raises:
        CheckpointError: the export does not say what has to be done with images.
        DataError: a folder has no such file.
    """
    files = [file for path in paths for file in _files(Path(path))]
    for start in range(0, len(files), _BATCH):
        yield from _predict(model, files[start : start + _BATCH])


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _EXTENSIONS)
    if not found:
        raise DataError(f"{path}: no file in it ends in {', '.join(sorted(_EXTENSIONS))}")
    return found


@torch.no_grad()
def _predict(model: ExportedNetwork, files: Sequence[Path]) -> list[Prediction | DataError]:
    inputs = [_read(model, file) for file in files]
    readable = [found for found in inputs if isinstance(found, Tensor)]
    if not readable:
        return [found for found in inputs if isinstance(found, DataError)]
    shares = iter(model(torch.cat(readable, dim=-4)).softmax(1).cpu())  # images are the axis before C, H, W
    return [
        found if isinstance(found, DataError) else _prediction(file, next(shares), model.classes)
        for file, found in zip(files, inputs, strict=True)
    ]


def _read(model: ExportedNetwork, path: Path) -> Tensor | DataError:
    try:
        if path.suffix.lower() == ".npz":
            return model.preprocess(read_frames(path))
        return model.preprocess(open_picture(path))
    except DataError as error:
        text = str(error)
        return error if text.startswith(str(path)) else DataError(f"{path}: {text}")


def _prediction(path: Path, shares: Tensor, classes: Sequence[str]) -> Prediction:
    order = shares.argsort(descending=True, stable=True).tolist()
    return Prediction(path, tuple((classes[index], float(shares[index])) for index in order))
