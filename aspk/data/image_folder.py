"""Images of your own: one folder for each class, read with torchvision.

Either ``FOLDER/train/CLASS/*.png`` with ``FOLDER/test/CLASS/*.png`` (or ``val`` for ``test``), or
``FOLDER/CLASS/*.png`` without a test set. JPEG and the other formats that Pillow reads are welcome. The
images that the splits use are held in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aspk.data.sources import Images, Source
from aspk.errors import DataError
from aspk.settings import DataSettings

_HOW = "expected FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, or FOLDER/CLASS/*"


def image_folder(settings: DataSettings, download: bool) -> Source:
    """The images of a folder, in colour; pixels are read when a split asks for them.

    With ``resize``, the shorter side is brought to that length and the centre is cut out; without it, all
    images must have one size.

    Raises:
        DataError: torchvision does not import, or the folder is not there or not laid out as expected.
    """
    if settings.folder is None:
        raise DataError(f"image_folder: give its folder ([data] folder = ...); {_HOW}")
    root = Path(settings.folder).expanduser()
    divided = (root / "train").is_dir()
    classes, train = _list(root / "train" if divided else root, settings.resize)
    tests = [root / name for name in ("test", "val") if divided and (root / name).is_dir()]
    if not tests:
        return Source(len(classes), train)
    test_classes, test = _list(tests[0], settings.resize)
    if classes != test_classes:
        different = sorted(set(classes) ^ set(test_classes))
        raise DataError(f"image_folder: {root / 'train'} and {tests[0]} differ in the classes {different}")
    return Source(len(classes), train, test)


def _list(root: Path, resize: int | None) -> tuple[list[str], Images]:
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
    paths = [path for path, _ in listed.samples]

    def read(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return _read([paths[index] for index in indices], listed.loader, resize)

    return list(listed.classes), Images(np.array(listed.targets, np.int64), read)


def _read(paths: Sequence[str], loader: Any, resize: int | None) -> npt.NDArray[np.float32]:  # noqa: ANN401  # torchvision's
    from torchvision.transforms.v2 import functional  # noqa: PLC0415  # heavy, and used only here

    pixels = np.empty((0, 0, 0, 0), np.float32)
    for position, path in enumerate(paths):
        try:
            image = loader(path)
            if resize is not None:
                image = functional.center_crop(functional.resize(image, [resize]), [resize])
            rows = np.asarray(image, np.float32)  # [H, W, 3]
        except Exception as error:  # Pillow raises whatever the damage leads it to
            raise DataError(f"{path}: damaged, or not an image: {error or type(error).__name__}") from None
        if not position:
            pixels = np.empty((len(paths), 3, *rows.shape[:2]), np.float32)
        elif rows.shape[:2] != pixels.shape[2:]:
            raise DataError(
                f"{path}: {rows.shape[:2]}, but {paths[0]}: {pixels.shape[2:]} (height, width); "
                "set resize ([data] resize = ...)"
            )
        pixels[position] = rows.transpose(2, 0, 1)
    pixels /= 255
    return pixels
