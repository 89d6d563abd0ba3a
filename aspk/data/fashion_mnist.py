"""Fashion-MNIST: 60,000 and 10,000 grey images of 28x28 in 10 classes, as idx files.

The format (LeCun, Cortes, Burges: *The MNIST database*): two zero bytes, 8 for unsigned bytes, the number of
axes, each axis's length as a big-endian 32-bit number, the values.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aspk.data.download import Remote
from aspk.data.sources import Images, Kind, Origin, Reader, Source, images_of_bytes
from aspk.errors import DataError
from aspk.spec.settings import DataSettings
from aspk.util.files import most_unpacked

_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_SIZE = 28
_MOST_IMAGES = 60_000
ORIGIN = Origin(
    "fashion_mnist",
    (
        Remote(f"{_URL}/train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        Remote(f"{_URL}/train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        Remote(f"{_URL}/t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        Remote(f"{_URL}/t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
    note=", or install the Debian package dataset-fashion-mnist",
    installed=(Path("/usr/share/datasets/fashion-mnist"),),
)


def fashion_mnist(settings: DataSettings, download: bool) -> Source:
    """Fashion-MNIST from a folder of idx files, plain or gzip-compressed.

    Raises:
        DataError: a file is missing or damaged.
    """
    train_images, train_labels, test_images, test_labels = ORIGIN.remotes
    return Source(
        CLASSES,
        _images(train_images, train_labels, settings, download),
        _images(test_images, test_labels, settings, download),
    )


def _images(images: Remote, labels: Remote, settings: DataSettings, download: bool) -> Images:
    arrays, paths = [], []
    for remote, shape in ((images, (_SIZE, _SIZE)), (labels, ())):
        names = (remote.name.removesuffix(".gz"), remote.name)
        path = ORIGIN.get(remote, settings, names=names, download=download)
        try:
            arrays.append(read_idx(path, shape))
        except DataError as error:
            raise ORIGIN.damaged(path, remote, str(error)) from None
        paths.append(path)
    pixels, classes = arrays
    if len(pixels) != len(classes):
        what = f"{len(classes)} labels for the {len(pixels)} images of {paths[0]}"
        raise ORIGIN.damaged(paths[1], labels, what)
    if classes.max() >= len(CLASSES):
        raise ORIGIN.damaged(paths[1], labels, f"label {classes.max()}, expected 0 to {len(CLASSES) - 1}")
    return images_of_bytes(pixels[:, None], classes)


def read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Read an idx file of unsigned bytes; no more is read or unpacked than a valid header may announce.

    Args:
        path: the file; gzip-compressed if its name ends in ``.gz``.
        shape: shape of one item.

    Returns:
        [N, *shape], with N from 1 to 60,000.

    Raises:
        DataError: what is wrong with the file.
    """
    axes = 1 + len(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * axes)
            if header[:4] != bytes((0, 0, 8, axes)):
                raise DataError(
                    f"starts with {header[:4].hex(' ')}, expected {bytes((0, 0, 8, axes)).hex(' ')}"
                )
            if len(header) < 4 + 4 * axes:
                raise DataError(f"ends in its header, after {len(header)} bytes")
            count, *found = struct.unpack(f">{axes}I", header[4:])
            if tuple(found) != shape or not 0 < count <= _MOST_IMAGES:
                raise DataError(f"holds {count} items of shape {tuple(found)}, expected {shape}")
            size = count * int(np.prod(shape, dtype=int))
            if size > most_unpacked(path):
                raise DataError(f"announces {size} values, too many for its size")
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}") from None
    if len(data) != size:
        raise DataError(f"{'ends too early' if len(data) < size else 'goes on'} after {len(data)} values")
    return np.frombuffer(data, np.uint8).reshape(count, *shape)


READER = Reader(read=fashion_mnist, kind=Kind((1, _SIZE, _SIZE), CLASSES, 70_000))
