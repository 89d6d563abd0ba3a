"""Random images in the shape of a data set, for a dry run that needs none of its files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from aspk.data.cifar import CIFAR10, CIFAR100
from aspk.data.digits import CLASSES as DIGITS
from aspk.data.event_frames import cifar10_dvs, event_frames
from aspk.data.fashion_mnist import CLASSES as FASHION
from aspk.data.loading import load_data
from aspk.data.nmnist import SIZE, nmnist
from aspk.data.sources import Source, folder_of
from aspk.data.splits import DataSet, Split
from aspk.spec.settings import DataSettings


@dataclass(frozen=True)
class Kind:
    """What is known of a data set without its files.

    Attributes:
        shape: channels, height and width.
        classes: the classes' names.
        images: images in all, of which the smaller part is the test set where there is one.
        sequences: whether an image is a sequence of frames.
        frames: how many, where that is known.
        resize: how pictures of other sizes become such images, see :class:`aspk.data.Preprocess`.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    images: int
    sequences: bool = False
    frames: int | None = None
    resize: Literal["stretch", "center_crop"] = "stretch"


KINDS = {
    "digits": Kind((1, 8, 8), DIGITS, 1797),
    "fashion_mnist": Kind((1, 28, 28), FASHION, 70_000),
    "cifar10": Kind((3, 32, 32), CIFAR10.classes, 60_000),
    "cifar100": Kind((3, 32, 32), CIFAR100.classes, 60_000),
    "cifar10_dvs": Kind((2, 128, 128), CIFAR10.classes, 10_000, sequences=True),
    "nmnist": Kind((2, SIZE, SIZE), DIGITS, 70_000, sequences=True),
}
_RECORDINGS = {"cifar10_dvs": cifar10_dvs, "event_frames": event_frames, "nmnist": nmnist}


def kind_of(settings: DataSettings) -> Kind:
    """What a data set's images look like, ``resize`` included; of recordings, as their folder holds them.

    Raises:
        DataError: the data set is a folder of your own, and cannot be read.
    """
    reader, known = _RECORDINGS.get(settings.name), KINDS.get(settings.name)
    if reader is not None and (known is None or folder_of(settings).is_dir()):
        kind = _kind_of_recordings(reader(settings, False))
    elif known is not None:
        kind = replace(known, frames=settings.frames)
    else:
        data = load_data(settings)
        count = sum(map(len, (data.train, data.search, data.test)))
        return Kind(data.shape, data.class_names or (), count, resize=data.resize)
    if settings.resize is None:
        return kind
    return replace(kind, shape=(kind.shape[0], settings.resize, settings.resize))


def _kind_of_recordings(source: Source) -> Kind:
    """What a folder holds, by the first of its recordings."""
    _, frames, channels, height, width = source.train.read(np.array([0])).shape
    count = sum(len(part.labels) for part in (source.train, source.test) if part is not None)
    return Kind((channels, height, width), source.classes, count, sequences=True, frames=frames)


def generated_data(settings: DataSettings, images: int, *, frames: int, seed: int = 0) -> DataSet:
    """A data set of standard normal images, the same ones in all three splits.

    Args:
        settings: the data set whose shape is wanted.
        images: how many.
        frames: frames of each, where the data set holds sequences and it is not known how many.
        seed: of images and labels.

    Raises:
        DataError: the data set is a folder of your own, and cannot be read.
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
