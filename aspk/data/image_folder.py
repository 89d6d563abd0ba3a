"""Images of your own: one folder for each class, listed with torchvision and read with Pillow.

Either ``FOLDER/train/CLASS/*.png`` with ``FOLDER/test/CLASS/*.png`` (or ``val`` for ``test``), or
``FOLDER/CLASS/*.png`` without a test set. JPEG and the other formats that Pillow reads are welcome, in grey
or colour, with 8 or 16 bits. The images of the splits are held in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aspk.data.pictures import open_picture, pixels_of
from aspk.data.sources import Images, Reader, Source, held_out_folder, named_folder
from aspk.errors import DataError
from aspk.spec.settings import DataSettings

_HOW = "expected FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, or FOLDER/CLASS/*"
_SPLITS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation"))


def image_folder(settings: DataSettings, download: bool) -> Source:
    """The images of a folder, in colour; pixels are read when a split asks for them.

    With ``resize``, the shorter side is scaled to that length and the centre is cropped; without it, all
    images must have the same size.

    Raises:
        DataError: torchvision cannot be imported, or the folder is missing or not laid out as expected.
    """
    if settings.folder is None:
        raise DataError(f"image_folder: give its folder ([data] folder = ...); {_HOW}")
    root = named_folder(settings.folder)
    divided = (root / "train").is_dir()
    classes, train = _list(root / "train" if divided else root, settings.resize)
    held_out = held_out_folder(root, name="image_folder", how=_HOW) if divided else None
    if held_out is None:
        return Source(classes, train, resize="center_crop")
    test_classes, test = _list(held_out, settings.resize)
    if classes != test_classes:
        different = sorted(set(classes) ^ set(test_classes))
        raise DataError(f"image_folder: {root / 'train'} and {held_out} differ in the classes {different}")
    return Source(classes, train, test, resize="center_crop")


def _list(root: Path, resize: int | None) -> tuple[tuple[str, ...], Images]:
    try:
        from torchvision.datasets import ImageFolder  # noqa: PLC0415  # heavy, and used only here
    except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
        raise DataError(
            f"image_folder needs a torchvision that fits the torch that is installed: {error}"
        ) from None
    try:
        listed = ImageFolder(str(root))
    except OSError as error:
        raise DataError(f"image_folder: {root}: {error}; {_HOW}") from None
    if len(listed.classes) < 2:
        raise DataError(f"image_folder: {root}: one class {listed.classes}, expected at least two; {_HOW}")
    splits = [name for name in listed.classes if name.lower() in _SPLITS and _folders(root / name)]
    if splits:  # torchvision reads pictures at all depths
        raise DataError(
            f"image_folder: {root}: {', '.join(splits)} would be classes, but hold folders: rename them; "
            f"{_HOW}"
        )
    paths = [path for path, _ in listed.samples]

    def read(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return _read([paths[index] for index in indices], resize)

    return tuple(listed.classes), Images(np.array(listed.targets, np.int64), read)


def _folders(place: Path) -> bool:
    return any(inside.is_dir() for inside in place.iterdir())


def _read(paths: Sequence[str], resize: int | None) -> npt.NDArray[np.float32]:
    size = None if resize is None else (resize, resize)
    pixels = np.empty((0, 0, 0, 0), np.float32)
    for position, path in enumerate(paths):
        picture = open_picture(path)
        try:
            found = pixels_of(picture, channels=3, size=size)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        if not position:
            pixels = np.empty((len(paths), *found.shape), np.float32)
        elif found.shape != pixels.shape[1:]:
            raise DataError(
                f"{path}: {found.shape[1:]}, but {paths[0]}: {pixels.shape[2:]} (height, width); "
                "set resize ([data] resize = ...)"
            )
        pixels[position] = found
    return pixels


READER = Reader(read=image_folder)
