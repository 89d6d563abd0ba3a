"""CIFAR-10 and CIFAR-100: 50,000 and 10,000 colour images of 32x32, in the binary version.

The format (https://www.cs.toronto.edu/~kriz/cifar.html): one record after the other, each a label byte
(CIFAR-100: coarse label, then fine label) and 3,072 bytes of pixels, red, green, blue, row by row. The Python
version is pickled, and never read.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aspk.data.download import Remote
from aspk.data.sources import Images, Kind, Origin, Reader, Source, images_of_bytes
from aspk.errors import DataError
from aspk.spec.settings import DataSettings
from aspk.util.files import most_unpacked

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_MOST_IMAGES = 50_000
_MOST_BYTES = 256 << 20  # unpacked; the published archives have 176 MiB
_URL = "https://www.cs.toronto.edu/~kriz"
_NOTE = "; the binary version: the Python version is pickled, and never read"


@dataclass(frozen=True)
class Layout:
    """One of the two data sets.

    Attributes:
        origin: where it comes from; its one file is the archive.
        folder: the archive's folder.
        train: names of the training files.
        test: name of the test file.
        labels: the number of values of each label byte; the last byte is the class.
        classes: the classes' names, as in ``batches.meta.txt`` and ``fine_label_names.txt`` of the archives.
    """

    origin: Origin
    folder: str
    train: tuple[str, ...]
    test: str
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    @property
    def archive(self) -> Remote:
        """The published archive."""
        return self.origin.remotes[0]


_FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
    otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
CIFAR10 = Layout(
    Origin("cifar10", (Remote(f"{_URL}/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),), _NOTE),
    "cifar-10-batches-bin",
    tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test_batch.bin",
    (10,),
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
CIFAR100 = Layout(
    Origin(
        "cifar100", (Remote(f"{_URL}/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),), _NOTE
    ),
    "cifar-100-binary",
    ("train.bin",),
    "test.bin",
    (20, 100),
    tuple(_FINE.split()),
)


def cifar10(settings: DataSettings, download: bool) -> Source:
    """CIFAR-10, see :func:`read_cifar`."""
    return read_cifar(CIFAR10, settings, download)


def cifar100(settings: DataSettings, download: bool) -> Source:
    """CIFAR-100 with its 100 fine classes, see :func:`read_cifar`."""
    return read_cifar(CIFAR100, settings, download)


def read_cifar(layout: Layout, settings: DataSettings, download: bool) -> Source:
    """A CIFAR data set from its archive or from the folder in it.

    Raises:
        DataError: a file is missing or damaged.
    """
    names = (layout.folder, layout.train[0], layout.test, layout.archive.name)
    found = layout.origin.get(layout.archive, settings, names=names, download=download)
    if found.name == layout.archive.name:
        contents = _unpack(layout, found)
        where = found
    else:
        where = found if found.name == layout.folder else found.parent
        contents = {name: _read_file(layout, where / name) for name in (*layout.train, layout.test)}
    parts = {name: _records(layout, where / name, content) for name, content in contents.items()}
    counts = {name: len(parts[name]) for name in layout.train}
    if len(set(counts.values())) > 1:  # a file that was truncated between two records
        raise layout.origin.damaged(where, layout.archive, f"its files differ in images: {counts}")
    train = np.concatenate([parts[name] for name in layout.train])
    return Source(layout.classes, _images(layout, train), _images(layout, parts[layout.test]))


def _images(layout: Layout, records: npt.NDArray[np.uint8]) -> Images:
    labels = len(layout.labels)
    return images_of_bytes(records[:, labels:].reshape(-1, *_SHAPE), records[:, labels - 1])


def _records(layout: Layout, path: Path, content: bytes) -> npt.NDArray[np.uint8]:
    size = len(layout.labels) + _PIXELS
    if not content or len(content) % size:
        what = f"{len(content)} bytes, expected a multiple of {size}"
        raise layout.origin.damaged(path, layout.archive, what)
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    for column, values in enumerate(layout.labels):
        if (highest := records[:, column].max()) >= values:
            what = f"label {highest}, expected 0 to {values - 1}"
            raise layout.origin.damaged(path, layout.archive, what)
    return records


def _most(layout: Layout) -> int:
    return _MOST_IMAGES * (len(layout.labels) + _PIXELS)


def _read_file(layout: Layout, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_most(layout) + 1)
    except OSError as error:
        raise layout.origin.damaged(path, layout.archive, f"cannot be read: {error.strerror}") from None
    if len(content) > _most(layout):
        raise layout.origin.damaged(path, layout.archive, f"has more than {_MOST_IMAGES} images")
    return content


def _unpack(layout: Layout, path: Path) -> Mapping[str, bytes]:
    """The files that we need, read from the archive into memory; nothing is extracted to the disk."""
    wanted, contents = {*layout.train, layout.test}, {}
    try:
        with _BoundedGzip(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
            for member in archive:
                name = Path(member.name).name
                plain = member.isreg() and not member.issparse()  # holes have no bytes, and any size
                if name in wanted and plain and member.size <= _most(layout):
                    file = archive.extractfile(member)
                    contents[name] = file.read() if file else b""
    except Exception as error:  # a damaged archive can make tarfile raise anything
        what = str(error) or type(error).__name__
        raise layout.origin.damaged(path, layout.archive, f"cannot be unpacked: {what}") from None
    if missing := sorted(wanted - contents.keys()):
        raise layout.origin.damaged(
            path, layout.archive, f"has no file {missing[0]}, or one that is too large"
        )
    return contents


class _BoundedGzip(gzip.GzipFile):
    """Raises an error beyond the size of any genuine archive, as a guard against decompression bombs."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._most = min(_MOST_BYTES, most_unpacked(path))

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if self.tell() > self._most:
            raise DataError(f"it unpacks to more than {self._most} bytes")
        return content


CIFAR10_READER = Reader(read=cifar10, kind=Kind(_SHAPE, CIFAR10.classes, 60_000))
CIFAR100_READER = Reader(read=cifar100, kind=Kind(_SHAPE, CIFAR100.classes, 60_000))
