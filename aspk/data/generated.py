"""Random images in the shape of a data set, for a dry run that needs none of its files."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aspk.data.loading import load_data
from aspk.data.splits import DataSet, Split
from aspk.settings import DataSettings


@dataclass(frozen=True)
class Kind:
    """What is known of a data set without its files.

    Attributes:
        shape: channels, height and width.
        classes: number of classes.
        images: images in all, of which the smaller part is the test set where there is one.
        sequences: whether an image is a sequence of frames.
    """

    shape: tuple[int, int, int]
    classes: int
    images: int
    sequences: bool = False


KINDS = {
    "digits": Kind((1, 8, 8), 10, 1797),
    "fashion_mnist": Kind((1, 28, 28), 10, 70_000),
    "cifar10": Kind((3, 32, 32), 10, 60_000),
    "cifar100": Kind((3, 32, 32), 100, 60_000),
    "cifar10_dvs": Kind((2, 128, 128), 10, 10_000, sequences=True),
}


def kind_of(settings: DataSettings) -> Kind:
    """What a data set's images look like, ``resize`` included.

    Raises:
        DataError: the data set is a folder of your own, and cannot be read.
    """
    if settings.name not in KINDS:
        data = load_data(settings)
        return Kind(data.shape, data.classes, sum(map(len, (data.train, data.search, data.test))))
    kind = KINDS[settings.name]
    if settings.resize is None:
        return kind
    return Kind((kind.shape[0], settings.resize, settings.resize), kind.classes, kind.images, kind.sequences)


def generated_data(settings: DataSettings, images: int, *, frames: int, seed: int = 0) -> DataSet:
    """A data set of standard normal images, the same ones in all three splits.

    Args:
        settings: the data set whose shape is wanted.
        images: how many.
        frames: frames of each, where the data set holds sequences.
        seed: of images and labels.

    Raises:
        DataError: the data set is a folder of your own, and cannot be read.
    """
    kind = kind_of(settings)
    generator = torch.Generator().manual_seed(seed)
    shape = (images, frames, *kind.shape) if kind.sequences else (images, *kind.shape)
    split = Split(
        torch.randn(shape, generator=generator),
        torch.randint(kind.classes, (images,), generator=generator),
    )
    standardisation = ((0.5, 0.25),) * kind.shape[0]
    return DataSet(settings.name, kind.shape, kind.classes, split, split, split, settings, standardisation)
