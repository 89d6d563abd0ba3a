"""From settings to a data set: source, splits, size, standardisation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from aspk.data.pictures import Pixels
from aspk.data.preprocess import standardise, stretched
from aspk.data.registry import reader_of
from aspk.data.sources import Images, Source
from aspk.data.splits import DataSet, Split, stratified_split
from aspk.errors import DataError
from aspk.spec.settings import DataSettings

_TEST_SHARE = 0.2  # where a data set has no test set of its own
_Indices = npt.NDArray[np.int64]


def load_data(data: DataSettings | str, *, download: bool = False) -> DataSet:
    """Load a data set in its three splits.

    The splits are stratified by class, never overlap, and are always the same for the same settings.

    Args:
        data: the settings, or just the name of one of :data:`aspk.data.DATA_SETS`.
        download: whether missing files may be downloaded.

    Raises:
        DataError: an unknown name, a missing or damaged file, or sizes that do not fit.
    """
    settings = DataSettings(name=data) if isinstance(data, str) else data
    source = reader_of(settings).read(settings, download)
    train, search, test = _split(source, settings)
    for name, indices in (("train", train), ("search", search), ("test", test)):
        if not len(indices):
            raise DataError(f"{settings.name}: no image is left for {name}; its splits are too large")
    pixels = _pixels(source.train, train, settings.resize)
    statistics = tuple(_statistics(pixels[..., channel, :, :]) for channel in range(pixels.shape[-3]))

    def prepared(images: Images, indices: _Indices, pixels: Pixels) -> Split:
        standardise(pixels, statistics)
        return Split(torch.from_numpy(pixels), torch.from_numpy(images.labels[indices]))

    held_out = source.test or source.train
    found, tested = _pixels(source.train, search, settings.resize), _pixels(held_out, test, settings.resize)
    if not pixels.shape[1:] == found.shape[1:] == tested.shape[1:]:
        raise DataError(f"{settings.name}: training and test images differ in size; set resize")
    return DataSet(
        settings.name,
        pixels.shape[-3:],
        len(source.classes),
        prepared(source.train, train, pixels),
        prepared(source.train, search, found),
        prepared(held_out, test, tested),
        settings,
        statistics,
        source.classes,
        source.resize,
    )


def _statistics(values: Pixels) -> tuple[float, float]:
    """Mean and deviation of a channel; one that is the same everywhere has no deviation to divide by."""
    if values.min() == values.max():  # its computed deviation is what rounding leaves, not always 0
        return float(values.flat[0]), 1.0
    return float(values.mean()), float(values.std())


def _split(source: Source, settings: DataSettings) -> tuple[_Indices, _Indices, _Indices]:
    """Indices: ``train`` and ``search`` into the training data, ``test`` into the test set if any."""
    train = () if settings.train is None else (settings.train,)
    labels = source.train.labels
    try:
        if source.test is None:
            share = _TEST_SHARE if settings.test is None else settings.test
            test, search, rest, *_ = stratified_split(labels, (share, settings.search, *train))
            return rest, search, test
        search, rest, *_ = stratified_split(labels, (settings.search, *train))
        if settings.test is None:
            return rest, search, np.arange(len(source.test.labels))
        return rest, search, stratified_split(source.test.labels, (settings.test,))[0]
    except DataError as error:
        raise DataError(f"{settings.name}: {error}") from None


def _pixels(images: Images, indices: _Indices, size: int | None) -> Pixels:
    """Pixels of some images, [n, ..., C, H, W], resized to ``size`` by ``size`` if given."""
    pixels = images.read(indices)
    return pixels if size is None else stretched(pixels, (size, size))
