"""CIFAR10-DVS as frames: 10,000 recordings of an event camera in 10 classes, counted into frames beforehand.

One file for each recording, ``FOLDER/CLASS/*.npz``, whose array ``frames`` has shape [T, 2, H, W]: events of
both polarities, counted in T intervals. spikingjelly writes these files::

    CIFAR10DVS(root, data_type="frame", frames_number=16, split_by="number")

makes ``root/frames_number_16_split_by_number``, which is the folder to give. Any other class names and shapes
that are the same in all files are as welcome. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aspk.data.sources import Images, Source, named_folder
from aspk.errors import DataError
from aspk.spec.settings import DataSettings
from aspk.util.files import cache_folder
from aspk.util.npz import read_npz

_ARRAY = "frames"
_MOST_BYTES = 64 << 20  # of one recording; 16 frames of 2 x 128 x 128 in float64 have 4 MiB
_HOW = (
    "expected FOLDER/CLASS/*.npz with an array 'frames' [T, 2, H, W], such as spikingjelly's "
    "CIFAR10DVS(root, data_type='frame', frames_number=16, split_by='number') writes"
)


def cifar10_dvs(settings: DataSettings, download: bool) -> Source:
    """The recordings of a folder; frames are read when a split asks for them.

    Raises:
        DataError: the folder is not there or not laid out as expected. It cannot be downloaded.
    """
    root = cache_folder() / "cifar10_dvs" if settings.folder is None else named_folder(settings.folder)
    if not root.is_dir():
        raise DataError(f"cifar10_dvs: no folder {root} ([data] folder = ...); {_HOW}")
    classes = sorted(place.name for place in root.iterdir() if place.is_dir())
    listed = [sorted((root / name).glob("*.npz")) for name in classes]
    if len(classes) < 2 or not all(listed):
        empty = [name for name, paths in zip(classes, listed, strict=True) if not paths]
        what = f"no recording of {', '.join(empty)}" if empty else f"classes {classes}"
        raise DataError(f"cifar10_dvs: {root}: {what}; {_HOW}")
    paths = [path for part in listed for path in part]
    labels = np.repeat(np.arange(len(classes)), [len(part) for part in listed])
    return Source(tuple(classes), Images(labels, lambda indices: _read([paths[index] for index in indices])))


def _read(paths: Sequence[Path]) -> npt.NDArray[np.float32]:
    """Frames of some recordings, [n, T, C, H, W]."""
    frames = np.empty((0, 0, 0, 0, 0), np.float32)
    for position, path in enumerate(paths):
        found = read_frames(path)
        if not position:
            frames = np.empty((len(paths), *found.shape), np.float32)
        elif found.shape != frames.shape[1:]:
            raise DataError(f"{path}: frames {found.shape}, but {paths[0]}: {frames.shape[1:]} (T, C, H, W)")
        frames[position] = found
    return frames


def read_frames(path: Path) -> npt.NDArray[np.float32]:
    """The frames of one recording, [T, C, H, W].

    Raises:
        DataError: the file is damaged, too large, or holds something else.
    """
    try:
        frames = read_npz(path, [_ARRAY], most=_MOST_BYTES)[_ARRAY]
    except Exception as error:  # zlib, zipfile and numpy raise whatever the damage leads them to
        raise DataError(f"{path}: damaged, or not frames: {error or type(error).__name__}; {_HOW}") from None
    if frames.ndim != 4 or not frames.size or frames.dtype.kind not in "fiu":
        raise DataError(f"{path}: {_ARRAY} is {frames.dtype} {frames.shape}; {_HOW}")
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        counts = np.array(frames, np.float32, order="C")
    if not np.isfinite(counts).all():
        raise DataError(f"{path}: {_ARRAY} holds values that are not finite in float32")
    return counts
