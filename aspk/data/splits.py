"""Split and DataSet, and how images are assigned to splits."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aspk.errors import DataError
from aspk.spec.settings import DataSettings

_SPLIT_SEED = 0  # the splits belong to the data set, not to an experiment


@dataclass(frozen=True)
class Split:
    """Images and labels.

    Attributes:
        images: [N, C, H, W], or sequences [N, frames, C, H, W]; float32, standardised with each channel's
            mean and deviation in ``train``.
        labels: [N], int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> Iterator[Split]:
        """The split in batches of ``size`` images."""
        for start in range(0, len(self), size):
            chosen = slice(start, start + size)
            yield Split(self.images[chosen], self.labels[chosen])

    def to(self, device: torch.device) -> Split:
        """The split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


def network_input(images: Tensor, time_steps: int) -> Tensor:
    """Images as a network of ``time_steps`` steps takes them.

    Args:
        images: static ones [B, C, H, W], or sequences [B, frames, C, H, W].
        time_steps: the network's T.

    Returns:
        Static images unchanged; for sequences, the first T frames, time first: [T, B, C, H, W].

    Raises:
        DataError: a sequence has fewer frames than the network has steps.
    """
    if images.dim() == 4:
        return images
    if images.shape[1] < time_steps:
        raise DataError(
            f"sequences of {images.shape[1]} frames for a network of {time_steps} steps: integrate the "
            "events into more frames, or take a search space with fewer time_steps"
        )
    return images[:, :time_steps].transpose(0, 1)


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
        settings: what :func:`load_data` made it from; None for a data set of your own.
        standardisation: mean and deviation that each channel (pixels 0 to 1) was standardised with, or None.
        class_names: what each label stands for, or None.
        resize: how pictures of other sizes become such images, see :class:`aspk.data.Preprocess`.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: Split
    search: Split
    test: Split
    settings: DataSettings | None = None
    standardisation: tuple[tuple[float, float], ...] | None = None
    class_names: tuple[str, ...] | None = None
    resize: Literal["stretch", "center_crop"] = "stretch"

    def to(self, device: torch.device) -> DataSet:
        """The data set on another device."""
        train, search, test = (split.to(device) for split in (self.train, self.search, self.test))
        return replace(self, train=train, search=search, test=test)

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
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:  # a second for 70,000 images, and asked for at every checkpoint
        digest = hashlib.sha256()
        for split in (self.train, self.search, self.test):
            for tensor in (split.images, split.labels):
                digest.update(tensor.cpu().contiguous().numpy().reshape(-1).data)
        return digest.hexdigest()

    def provenance(self) -> str | dict[str, Any]:
        """What :meth:`DataSettings.from_json` needs to name this data set again, as plain JSON values."""
        return self.name if self.settings is None else self.settings.to_json()


def stratified_split(labels: npt.NDArray[np.int64], sizes: Sequence[float]) -> list[npt.NDArray[np.int64]]:
    """Disjoint index sets with the class shares of the whole; the last one is the rest.

    Each class's images, shuffled, are spread evenly over one line, and the sets are cut from it one after
    the other. So their sizes are exact, and a set that is made larger keeps its images if no set before it
    changes. The same arguments give the same sets.

    Args:
        labels: class of each image, shape (N,).
        sizes: size of each set except the last, in order: a number of images (int), or a share of N (float).

    Returns:
        ``len(sizes) + 1`` arrays of indices; the rest may be empty.

    Raises:
        DataError: a size is not above 0, a share is not below 1, or they add up to more than N.
    """
    bounds = _bounds(sizes, len(labels))
    rng = np.random.default_rng(_SPLIT_SEED)
    classes = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    places = [(np.arange(len(members)) + 0.5) / len(members) for members in classes]
    grouped, line = np.concatenate(classes), np.argsort(np.concatenate(places), kind="stable")
    return [rng.permutation(grouped[np.sort(part)]) for part in np.split(line, bounds)]


def _bounds(sizes: Sequence[float], images: int) -> list[int]:
    """Where the line of all images is cut; cumulative sums are rounded, so that 0.5 and 0.5 cover all."""
    bounds, end = [], 0.0
    for size in sizes:
        share = isinstance(size, float)
        if not 0 < size < (1 if share else math.inf):
            raise DataError(f"split size {size!r}: expected a number of images, or a share between 0 and 1")
        end += size * images if share else size
        bounds.append(math.floor(end + 0.5))
    if not images or bounds[-1] > images:
        raise DataError(f"split sizes {list(sizes)}: more than the {images} images that there are")
    return bounds
