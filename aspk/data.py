"""Data sets in three splits with three names.

Weights and batch-normalisation statistics come from ``train``, a search looks at ``search``, and ``test`` is
read once for each reported network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aspk.errors import DataError

_SPLIT_SEED = 0  # the splits belong to the data set, not to an experiment


@dataclass(frozen=True)
class Split:
    """Images and labels.

    Attributes:
        images: [N, C, H, W], float32, standardised with the mean and deviation of ``train``.
        labels: [N], int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class DataSet:
    """A data set, split.

    Attributes:
        name: its name.
        shape: channels, height and width.
        classes: number of classes.
        train: for weights and statistics.
        search: for choosing networks; carved out of the training data, disjoint from both others.
        test: for reporting.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: Split
    search: Split
    test: Split

    def to(self, device: torch.device) -> DataSet:
        """The data set on another device."""
        splits = (split.to(device) for split in (self.train, self.search, self.test))
        return DataSet(self.name, self.shape, self.classes, *splits)

    def split(self, name: str) -> Split:
        """A split by name.

        Raises:
            DataError: there is none of that name.
        """
        splits = {"train": self.train, "search": self.search, "test": self.test}
        if name not in splits:
            raise DataError(f"split {name!r}: expected one of {', '.join(splits)}")
        return splits[name]

    def fingerprint(self) -> str:
        """SHA-256 over all images and labels, split by split."""
        digest = hashlib.sha256()
        for split in (self.train, self.search, self.test):
            for tensor in (split.images, split.labels):
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """scikit-learn's bundled 8x8 digits: 1,797 images, pixels 0 to 16."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  # slow to import

    bunch = load_digits()
    images = bunch.images[:, None].astype(np.float32) / 16.0  # [N, 1, 8, 8]
    return images, bunch.target.astype(np.int64)


_SOURCES: dict[str, Callable[[], tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]] = {"digits": _digits}


def load_data(name: str, *, search_fraction: float = 0.2, test_fraction: float = 0.2) -> DataSet:
    """Load a data set in its three splits.

    The splits are stratified by class and always the same for the same fractions.

    Args:
        name: ``digits``.
        search_fraction: share of the images for ``search``, between 0 and 1.
        test_fraction: share of the images for ``test``, between 0 and 1.

    Raises:
        DataError: an unknown name, or fractions that leave a split without images.
    """
    if name not in _SOURCES:
        raise DataError(f"data set {name!r}: expected one of {', '.join(_SOURCES)}")
    images, labels = _SOURCES[name]()
    parts = stratified_split(labels, (test_fraction, search_fraction))
    test, search, train = parts
    if not all(len(part) for part in parts):
        raise DataError(f"{name}: search {search_fraction} and test {test_fraction} leave a split empty")
    mean, deviation = images[train].mean(), images[train].std()
    standardised = (images - mean) / deviation

    def take(indices: npt.NDArray[np.int64]) -> Split:
        return Split(torch.from_numpy(standardised[indices]), torch.from_numpy(labels[indices]))

    _, channels, height, width = images.shape
    classes = int(labels.max()) + 1
    return DataSet(name, (channels, height, width), classes, take(train), take(search), take(test))


def stratified_split(
    labels: npt.NDArray[np.int64], fractions: tuple[float, ...]
) -> list[npt.NDArray[np.int64]]:
    """Disjoint index sets with the class shares of the whole; the last one is the rest.

    Args:
        labels: class of each image, shape (N,).
        fractions: share of each set but the last, in order.

    Raises:
        DataError: a fraction is not between 0 and 1, or they add up to 1 or more.
    """
    if any(not 0 < fraction < 1 for fraction in fractions) or sum(fractions) >= 1:
        raise DataError(f"split fractions {fractions}: expected each above 0 and a sum below 1")
    rng = np.random.default_rng(_SPLIT_SEED)
    sets: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        bounds = np.round(np.cumsum(fractions) * len(members)).astype(int)
        for part, indices in zip(sets, np.split(members, bounds), strict=True):
            part.append(indices)
    return [rng.permutation(np.concatenate(part)) for part in sets]
