"""scikit-learn's bundled 8x8 digits: 1,797 images in 10 classes, no test set of their own."""

from __future__ import annotations

import numpy as np

from aspk.data.sources import Images, Kind, Reader, Source
from aspk.errors import DataError
from aspk.spec.settings import DataSettings

CLASSES = tuple("0123456789")


def digits(settings: DataSettings, download: bool) -> Source:
    """The digits.

    Raises:
        DataError: a folder is given.
    """
    if settings.folder is not None:
        raise DataError(f"digits: folder {settings.folder!r}: they come with scikit-learn; leave it out")
    from sklearn.datasets import load_digits  # noqa: PLC0415  # slow to import

    bunch = load_digits()
    pixels = bunch.images[:, None].astype(np.float32) / 16.0  # [N, 1, 8, 8]; pixels are 0 to 16
    return Source(CLASSES, Images(bunch.target.astype(np.int64), pixels.__getitem__))


READER = Reader(read=digits, kind=Kind((1, 8, 8), CLASSES, 1797))
