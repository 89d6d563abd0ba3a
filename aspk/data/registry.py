"""The data sets by name: to add one, write a module with a :class:`Reader` and add a line here."""

from __future__ import annotations

from collections.abc import Mapping

from aspk.data import cifar, digits, event_frames, fashion_mnist, image_folder, nmnist
from aspk.data.sources import Reader
from aspk.errors import DataError
from aspk.spec.settings import DataSettings

DATA_SETS: Mapping[str, Reader] = {
    "digits": digits.READER,
    "fashion_mnist": fashion_mnist.READER,
    "cifar10": cifar.CIFAR10_READER,
    "cifar100": cifar.CIFAR100_READER,
    "image_folder": image_folder.READER,
    "cifar10_dvs": event_frames.CIFAR10_DVS_READER,
    "event_frames": event_frames.READER,
    "nmnist": nmnist.READER,
}


def reader_of(settings: DataSettings) -> Reader:
    """The data set that the settings name.

    Raises:
        DataError: the name is unknown, or ``frames`` is missing, or it or ``split_by`` is not supported.
    """
    if settings.name not in DATA_SETS:
        raise DataError(f"data set {settings.name!r}: expected one of {', '.join(DATA_SETS)}")
    reader = DATA_SETS[settings.name]
    if reader.counts and settings.frames is None:
        raise DataError(
            f"data set {settings.name!r} needs the number of frames that its events are counted into "
            "([data] frames = 10)"
        )
    defaults = DataSettings(name=settings.name)
    for key in () if reader.counts else ("frames", "split_by"):
        if (value := getattr(settings, key)) != getattr(defaults, key):
            counting = ", ".join(name for name, other in DATA_SETS.items() if other.counts)
            raise DataError(f"data set {settings.name!r} takes no {key} = {value!r}; {counting} does")
    return reader
