"""Untrusted NumPy ``.npz`` files: what a file may unpack to is bounded by its own size."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from aspk.util.files import most_unpacked, require_ordinary

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(
    path: Path, names: Sequence[str] | None = None, *, most: int = 1 << 30
) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a file; nothing is unpickled.

    Args:
        path: the file.
        names: the arrays to read; None reads all of them.
        most: bytes that they may unpack to, in addition to the bound that follows from the file's size.

    Returns:
        Name to array; the arrays are read-only.

    Raises:
        ValueError: what is wrong with the file.
        OSError: it cannot be read.
    """
    require_ordinary(path)
    bound = min(most, most_unpacked(path))
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            wanted = found if names is None else names
            if missing := sorted(set(wanted) - set(found)):
                raise ValueError(f"has no array {missing[0]!r}, but {', '.join(found) or 'none'}")
            members = [archive.getinfo(f"{name}.npy") for name in wanted]
            if (size := sum(member.file_size for member in members)) > bound:
                raise ValueError(f"unpacks to {size} bytes, expected at most {bound}")
            return {name: _array(archive, member, name) for name, member in zip(wanted, members, strict=True)}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(str(error) or type(error).__name__) from None  # RuntimeError: it is encrypted


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> npt.NDArray[Any]:
    if member.compress_type not in _METHODS:
        raise ValueError(f"{name}: is compressed by method {member.compress_type}, which NumPy does not use")
    content = archive.read(member)  # no more than the size that was added up
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{name}: array format {version}, expected one of {list(_HEADERS)}")
    shape, columns_first, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError(f"{name}: holds Python objects, which are never unpickled")
    start, count = stream.tell(), math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(content) - start:
        raise ValueError(f"{name}: {dtype} of shape {shape} in {len(content) - start} bytes")
    return np.frombuffer(content, dtype, count, start).reshape(shape, order="F" if columns_first else "C")
