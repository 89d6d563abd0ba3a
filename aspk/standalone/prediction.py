"""Predictions of an exported network for files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aspk.data.event_frames import read_frames
from aspk.data.nmnist import read_recording
from aspk.data.pictures import open_picture
from aspk.errors import DataError
from aspk.evaluation.exported import Classifier
from aspk.spec.settings import DataSettings

_EXTENSIONS = frozenset((".bmp", ".jpeg", ".jpg", ".npz", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
_BATCH = 64  # files run at once


@dataclass(frozen=True)
class Prediction:
    """A network's prediction for one file.

    Attributes:
        path: the file.
        probabilities: class name and probability (softmax of the logits), the most probable first.
    """

    path: Path
    probabilities: tuple[tuple[str, float], ...]


def predict_files(model: Classifier, paths: Sequence[str | Path]) -> Iterator[Prediction | DataError]:
    """Predictions for pictures, or for sequences of event frames, one after the other.

    A network for sequences takes frames (``.npz``); one that was trained on N-MNIST takes its recordings
    (``.bin``) as well, and counts their events as in training.

    Args:
        model: the network.
        paths: files, and folders that are searched for pictures and sequences at all depths.

    Yields:
        A prediction for each file; where a file cannot be used, what is wrong with it.

    Raises:
        CheckpointError: the export does not say how to preprocess images.
        DataError: a folder has no such file.
    """
    recordings = _recordings(model)
    extensions = _EXTENSIONS if recordings is None else _EXTENSIONS | {".bin"}
    files = [file for path in paths for file in _files(Path(path), extensions)]
    for start in range(0, len(files), _BATCH):
        inputs = [_read(model, file, recordings) for file in files[start : start + _BATCH]]
        yield from _predict(model, files[start : start + _BATCH], inputs)


def _recordings(model: Classifier) -> DataSettings | None:
    """How the events of recordings are counted, where the network was trained on recordings."""
    try:
        settings = DataSettings.from_json(model.provenance.get("data"))
    except DataError:  # a data set of the user's own
        return None
    return None if settings.frames is None else settings


def _files(path: Path, extensions: Set[str]) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in extensions)
    if not found:
        raise DataError(f"{path}: no file in it ends in {', '.join(sorted(extensions))}")
    return found


@torch.no_grad()
def _predict(
    model: Classifier, files: Sequence[Path], inputs: Sequence[Tensor | DataError]
) -> list[Prediction | DataError]:
    readable = [found for found in inputs if isinstance(found, Tensor)]
    if not readable:
        return [found for found in inputs if isinstance(found, DataError)]
    shares = iter(model(torch.cat(readable, dim=-4)).softmax(1).cpu())  # images are the axis before C, H, W
    return [
        found if isinstance(found, DataError) else _prediction(file, next(shares), model.classes)
        for file, found in zip(files, inputs, strict=True)
    ]


def _read(model: Classifier, path: Path, recordings: DataSettings | None) -> Tensor | DataError:
    try:
        if recordings is not None and recordings.frames and path.suffix.lower() == ".bin":
            return model.preprocess(read_recording(path, recordings.frames, split_by=recordings.split_by))
        if path.suffix.lower() == ".npz":
            return model.preprocess(read_frames(path))
        return model.preprocess(open_picture(path))
    except DataError as error:
        text = str(error)
        return error if text.startswith(str(path)) else DataError(f"{path}: {text}")


def _prediction(path: Path, shares: Tensor, classes: Sequence[str]) -> Prediction:
    order = shares.argsort(descending=True, stable=True).tolist()
    return Prediction(path, tuple((classes[index], float(shares[index])) for index in order))
