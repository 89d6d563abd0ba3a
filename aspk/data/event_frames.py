"""Event-camera recordings already counted into frames: CIFAR10-DVS, DVS128 Gesture and others.

One file for each recording, whose array ``frames`` has shape [T, 2, H, W]: events of both polarities, counted
in T intervals. Either ``FOLDER/train/CLASS/*.npz`` with ``FOLDER/test/CLASS/*.npz`` (or ``val``), or
``FOLDER/CLASS/*.npz`` without a test set. spikingjelly writes these files::

    CIFAR10DVS(root, data_type="frame", frames_number=16, split_by="number")
    DVS128Gesture(root, train=True, data_type="frame", frames_number=16, split_by="number")

create ``root/frames_number_16_split_by_number``, which is the folder to give. Other class names work as well,
and other shapes if they are the same in all files. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aspk.data.cifar import CIFAR10
from aspk.data.sources import Images, Kind, Reader, Source, folder_of, held_out_folder
from aspk.errors import DataError
from aspk.spec.settings import DataSettings
from aspk.util.npz import read_npz

_ARRAY = "frames"
_MOST_BYTES = 64 << 20  # of one recording; 16 frames of 2 x 128 x 128 in float64 have 4 MiB
_HOW = (
    "expected FOLDER/CLASS/*.npz, or FOLDER/train/CLASS/*.npz and FOLDER/test/CLASS/*.npz, with an array "
    "'frames' [T, 2, H, W], such as spikingjelly's CIFAR10DVS(root, data_type='frame', frames_number=16, "
    "split_by='number') writes"
)


def cifar10_dvs(settings: DataSettings, download: bool) -> Source:
    """The recordings of CIFAR10-DVS, from the folder given or the usual one, see :func:`event_frames`."""
    return _read_folder(folder_of(settings), settings.name)


def event_frames(settings: DataSettings, download: bool) -> Source:
    """The recordings of a folder; frames are read when a split asks for them.

    Raises:
        DataError: the folder is not there or not laid out as expected. It cannot be downloaded.
    """
    if settings.folder is None:
        raise DataError(f"{settings.name}: give its folder ([data] folder = ...); {_HOW}")
    return _read_folder(folder_of(settings), settings.name)


def _read_folder(root: Path, name: str) -> Source:
    divided = any(place.is_dir() for place in (root / "train").glob("*"))
    classes, train = _images(root / "train" if divided else root, name)
    held_out = held_out_folder(root, name=name, how=_HOW) if divided else None
    if held_out is None:
        return Source(classes, train)
    tested, test = _images(held_out, name)
    if classes != tested:
        different = sorted(set(classes) ^ set(tested))
        raise DataError(f"{name}: {root / 'train'} and {held_out} differ in the classes {different}")
    return Source(classes, train, test)


def _images(root: Path, name: str) -> tuple[tuple[str, ...], Images]:
    classes, paths, labels = listed(root, "*.npz", name, _HOW)
    return classes, Images(labels, lambda indices: _read([paths[index] for index in indices]))


def listed(
    root: Path, pattern: str, name: str, how: str
) -> tuple[tuple[str, ...], list[Path], npt.NDArray[np.int64]]:
    """The recordings of a folder with one folder for each class.

    Args:
        root: the folder.
        pattern: glob pattern of the recordings' names.
        name: the data set's name, for messages.
        how: the expected layout, for messages.

    Returns:
        The classes' names, the recordings by class, and the class of each.

    Raises:
        DataError: the folder is missing, has fewer than two classes, or has a class without recordings.
    """
    if not root.is_dir():
        raise DataError(f"{name}: no folder {root} ([data] folder = ...); {how}")
    classes = tuple(sorted(place.name for place in root.iterdir() if place.is_dir()))
    parts = [sorted((root / kind).glob(pattern)) for kind in classes]
    if len(classes) < 2 or not all(parts):
        empty = [kind for kind, paths in zip(classes, parts, strict=True) if not paths]
        what = f"no recording of {', '.join(empty)}" if empty else f"classes {list(classes)}"
        raise DataError(f"{name}: {root}: {what}; {how}")
    labels = np.repeat(np.arange(len(classes)), [len(part) for part in parts])
    return classes, [path for part in parts for path in part], labels


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
    except Exception as error:  # damage can make zlib, zipfile and numpy raise anything
        raise DataError(f"{path}: damaged, or not frames: {error or type(error).__name__}; {_HOW}") from None
    if frames.ndim != 4 or not frames.size or frames.dtype.kind not in "fiu":
        raise DataError(f"{path}: {_ARRAY} is {frames.dtype} {frames.shape}; {_HOW}")
    with np.errstate(over="ignore"):  # infinite values are refused below
        counts = np.array(frames, np.float32, order="C")
    if not np.isfinite(counts).all():
        raise DataError(f"{path}: {_ARRAY} holds values that are not finite in float32")
    return counts


READER = Reader(read=event_frames, recordings=True)
CIFAR10_DVS_READER = Reader(
    read=cifar10_dvs, kind=Kind((2, 128, 128), CIFAR10.classes, 10_000, sequences=True), recordings=True
)
