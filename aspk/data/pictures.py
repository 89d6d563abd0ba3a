"""Pictures that Pillow opens, as pixels between 0 and 1."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from aspk.errors import DataError
from aspk.util.files import require_ordinary

_MOST_PIXELS = 1 << 26  # of a picture: 8,192 squared, 200 MB in colour
_TOO_LARGE = f"a picture of more than {_MOST_PIXELS:,} pixels; scale it down"
Pixels = npt.NDArray[np.float32]


def open_picture(path: str | Path) -> Image.Image:
    """Read a picture completely.

    Raises:
        DataError: the file is missing, damaged or not a picture, or has more than 2**26 pixels.
    """
    try:
        require_ordinary(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound below is lower
            picture = Image.open(path)
        with picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise DataError(f"{path}: {picture.width} x {picture.height} pixels: {_TOO_LARGE}")
            picture.load()
            return picture
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"{path}: {_TOO_LARGE}") from None
    except Exception as error:  # a damaged file can make Pillow raise anything
        raise DataError(f"{path}: damaged, or not an image: {error or type(error).__name__}") from None


def pixels_of(picture: Image.Image, *, channels: int, size: tuple[int, int] | None = None) -> Pixels:
    """The pixels of a picture of any mode, [C, H, W], between 0 and 1.

    What a picture's numbers mean follows from its mode: bytes go from 0 to 255, 16-bit integers (``I;16``,
    and ``I``, which Pillow opens some of them as) from 0 to 65535, floats (``F``) from 0 to 1.

    Args:
        picture: the picture; colour and grey are converted into each other, transparency is dropped.
        channels: 3 for colour, 1 for grey.
        size: height and width; a picture of another size is scaled (bilinear, antialiased) until it just
            covers them, and the centre is cut out. None leaves the picture's own.

    Raises:
        DataError: the number of channels is not supported, or values exceed the range of their mode.
    """
    if channels not in (1, 3):
        raise DataError(f"a picture for a network of {channels} channels: expected an array or a tensor")
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        plain = _deep(picture)
    else:
        try:
            plain = picture.convert("L" if channels == 1 else "RGB")
        except ValueError as error:
            raise DataError(f"a picture of mode {picture.mode}: {error}; save it as RGB") from None
    if size is not None:
        plain = _cover(plain, *size)
    rows = np.array(plain, np.float32)  # [H, W], or [H, W, 3]
    if plain.mode != "F":
        rows /= 255
    if rows.ndim == 2:
        return np.repeat(rows[None], channels, axis=0)
    return np.ascontiguousarray(rows.transpose(2, 0, 1))


def _deep(picture: Image.Image) -> Image.Image:
    """A picture of more than 8 bits as floats between 0 and 1, without rounding."""
    values, highest = np.asarray(picture), np.float32(1 if picture.mode == "F" else 65535)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= highest):  # nor NaN
        raise DataError(
            f"a picture of mode {picture.mode} with values from {low:g} to {high:g}: "
            f"expected 0 to {highest:g}; save it with 8 or 16 bits"
        )
    return Image.fromarray(values.astype(np.float32) / highest)


def _cover(picture: Image.Image, height: int, width: int) -> Image.Image:
    """Scale a picture until it just covers a size, and crop the centre; rounds as torchvision does."""
    if (picture.height, picture.width) == (height, width):
        return picture
    if picture.width * height >= picture.height * width:  # wider than wanted: the height decides
        scaled = (height, max(width, int(height * picture.width / picture.height)))
    else:
        scaled = (max(height, int(width * picture.height / picture.width)), width)
    whole = picture.resize(scaled[::-1], Image.Resampling.BILINEAR)
    top, left = round((scaled[0] - height) / 2), round((scaled[1] - width) / 2)
    return whole.crop((left, top, left + width, top + height))
