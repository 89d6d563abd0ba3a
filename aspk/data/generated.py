"""Random images in the shape of a data set, for a dry run that needs none of its files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from aspk.data.cifar import CIFAR10, CIFAR100
from aspk.data.digits import CLASSES as DIGITS
from aspk.data.fashion_mnist import CLASSES as FASHION
from aspk.data.loading import load_data
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
        resize: how pictures of other sizes become such images, see :class:`aspk.data.Preprocess`.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    images: int
    sequences: bool = False
    resize: Literal["stretch", "center_crop"] = "stretch"


KINDS = {
    "digits": Kind((1, 8, 8), DIGITS, 1797),
    "fashion_mnist": Kind((1, 28, 28), FASHION, 70_000),
    "cifar10": Kind((3, 32, 32), CIFAR10.classes, 60_000),
    "cifar100": Kind((3, 32, 32), CIFAR100.classes, 60_000),
    "cifar10_dvs": Kind((2, 128, 128), CIFAR10.classes, 10_000, sequences=True),
}


def kind_of(settings: DataSettings) -> Kind:
    """What a data set's images look like, ``resize`` included.

    Raises:
        DataError: the data set is a folder of your own, and cannot be read.
    """
    if settings.name not in KINDS:
        data = load_data(settings)
        count = sum(map(len, (data.train, data.search, data.test)))
        return Kind(data.shape, data.class_names or (), count, resize=data.resize)
    kind = KINDS[settings.name]
    if settings.resize is None:
        return kind
    return replace(kind, shape=(kind.shape[0], settings.resize, settings.resize))


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
