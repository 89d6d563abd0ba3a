"""Downloading a published file, only on request: checked, then written atomically."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from aspk.errors import DataError
from aspk.util.files import write_atomically
from aspk.util.progress import ProgressBar

_CHUNK = 1 << 20
_MOST = 200 << 20  # bytes; the largest published file has 162 MiB
_TIMEOUT = 60  # seconds without an answer
_SLOWEST = 4096  # bytes a second; slower over so many seconds, a download is given up


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        url: its address.
        md5: its published checksum, hexadecimal.
    """

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


def fetch(remote: Remote, folder: Path) -> Path:
    """Download a file into a folder, which is created if necessary.

    Nothing is written unless the checksum is right; a crash leaves no partial file.

    Returns:
        The file.

    Raises:
        DataError: no answer, not the published file, or the folder cannot be written.
    """
    path = folder / remote.name
    try:
        content = _read(remote)
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != remote.md5:
            raise DataError(
                f"{remote.url}: got {len(content)} bytes of MD5 {found}, expected MD5 {remote.md5}; "
                f"{path} was not written. Try again, or get the file from elsewhere"
            )
        write_atomically(path, content)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(
            f"cannot download {remote.url} to {path}: {error}; try again, or put the file there yourself"
        ) from None
    return path


def _read(remote: Remote) -> bytes:
    content = bytearray()
    with (
        urllib.request.urlopen(remote.url, timeout=_TIMEOUT) as response,
        ProgressBar(total=response.length, desc=remote.name, unit="B", unit_scale=True) as bar,
    ):
        since, before = time.monotonic(), 0
        while chunk := response.read1(_CHUNK):  # what has arrived, however little
            content += chunk
            bar.update(len(chunk))
            if len(content) > _MOST:
                raise DataError(f"{remote.url}: more than {_MOST} bytes; the published file is smaller")
            if (waited := time.monotonic() - since) > _TIMEOUT:
                if len(content) - before < _SLOWEST * waited:
                    raise TimeoutError(f"only {len(content) - before} bytes in {waited:.0f} s")
                since, before = time.monotonic(), len(content)
    return bytes(content)
