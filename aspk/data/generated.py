"""Random images in the shape of a data set, for a dry run that needs none of its files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from aspk.data.loading import load_data
from aspk.data.registry import reader_of
from aspk.data.sources import Kind, Source, folder_of
from aspk.data.splits import DataSet, Split
from aspk.spec.settings import DataSettings


def kind_of(settings: DataSettings) -> Kind:
    """The form of a data set's images, after ``resize``; for recordings, as found in their folder.

    Raises:
        DataError: the name is unknown, or the data set is a folder of your own that cannot be read.
    """
    reader = reader_of(settings)
    if reader.recordings and (reader.kind is None or folder_of(settings).is_dir()):
        kind = _kind_of_recordings(reader.read(settings, False))
    elif reader.kind is not None:
        kind = replace(reader.kind, frames=settings.frames)
    else:
        data = load_data(settings)
        count = sum(map(len, (data.train, data.search, data.test)))
        return Kind(data.shape, data.class_names or (), count, resize=data.resize)
    if settings.resize is None:
        return kind
    return replace(kind, shape=(kind.shape[0], settings.resize, settings.resize))


def _kind_of_recordings(source: Source) -> Kind:
    """What a folder holds, judging by its first recording."""
    _, frames, channels, height, width = source.train.read(np.array([0])).shape
    count = sum(len(part.labels) for part in (source.train, source.test) if part is not None)
    return Kind((channels, height, width), source.classes, count, sequences=True, frames=frames)


def generated_data(settings: DataSettings, images: int, *, frames: int, seed: int = 0) -> DataSet:
    """A data set of standard normal images, the same ones in all three splits.

    Args:
        settings: the data set whose shape is used.
        images: how many.
        frames: frames of each, if the data set holds sequences of unknown length.
        seed: seed of images and labels.

    Raises:
        DataError: the data set is a folder of your own that cannot be read.
    """
    kind = kind_of(settings)
    generator = torch.Generator().manual_seed(seed)
    shape = (images, kind.frames or frames, *kind.shape) if kind.sequences else (images, *kind.shape)
    split = Split(
        torch.randn(shape, generator=generator),
        torch.randint(len(kind.classes), (images,), generator=generator),
    )
    standardisation = ((0.5, 0.25),) * kind.shape[0]
    return DataSet(
        settings.name,
        kind.shape,
        len(kind.classes),
        split,
        split,
        split,
        settings,
        standardisation,
        kind.classes,
        kind.resize,
    )
