"""Files that are old or new after a crash, never half-written, and names that stay inside their folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aspk.util.process import place, start_time

_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp", re.DOTALL)  # place, process, random
_FORGOTTEN_S = 24 * 3600  # the age at which another machine's temporary file counts as a leftover

_FREE = 1 << 20  # bytes that any file may unpack to
_RATIO = 200


def require_ordinary(path: str | Path) -> None:
    """Refuse anything but an ordinary file: reading a pipe can block for ever, and some devices never end.

    Raises:
        OSError: there is nothing at the path, or something else.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a pipe, a device or a socket; expected an ordinary file", str(path))


def read_text(path: str | Path, *, most: int = 64 << 20) -> str:
    """A small file's text, UTF-8.

    Args:
        path: the file.
        most: maximum size in bytes.

    Raises:
        OSError: there is no such ordinary file, it cannot be read, or it is larger.
        ValueError: it is not UTF-8.
    """
    require_ordinary(path)
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes, the limit for such a file", str(path))
    return content.decode()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file by way of a temporary one beside it: write, fsync, rename.

    Args:
        path: the file; its folder is created if necessary.
        content: text is written as UTF-8.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an existing file is then kept.
    """
    with written_beside(path, content) as temporary:
        os.replace(temporary, path)


@contextmanager
def written_beside(path: Path, content: bytes | str) -> Iterator[Path]:
    """A file's new content, safely on the disk under a temporary name unique to this call, to be renamed.

    If the block does not rename it, it is removed. Its permissions follow the process's umask.

    Args:
        path: the file that it is for; its folder is created if necessary.
        content: text is written as UTF-8.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{place()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove a folder's temporary files whose writer was killed; other machines' once they are a day old."""
    for path in folder.glob(".*.tmp"):
        named = _TEMPORARY.fullmatch(path.name)
        if named is None:
            continue
        with suppress(OSError):  # another process may be faster
            here = named[1] == place()
            if not start_time(int(named[2])) if here else time.time() - path.stat().st_mtime > _FORGOTTEN_S:
                path.unlink()


def hash_of(path: Path) -> str:
    """SHA-256 of a file, without loading all of it into memory.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where downloads and compiled code are kept: ``aspk`` in the user's cache folder.

    The cache folder is ``XDG_CACHE_HOME`` if set, else the system's usual one: ``~/.cache`` on Linux,
    ``~/Library/Caches`` on macOS. An existing ``~/.cache/aspk`` of an earlier version stays in use. For a
    user without a home, as with ``docker run -u``, it is among the temporary files.
    """
    chosen = os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen) / "aspk"
    try:
        earlier = Path.home() / ".cache" / "aspk"
    except RuntimeError:  # no HOME, and the system does not know the user
        return temporary_folder()
    if earlier.is_dir():
        return earlier
    from platformdirs import user_cache_path  # noqa: PLC0415  # loads configparser, and is rarely needed

    return user_cache_path("aspk", appauthor=False)


def temporary_folder() -> Path:
    """This user's folder among the temporary files, the same in all processes; others may have made it."""
    return Path(tempfile.gettempdir()) / f"aspk-{os.getuid()}"


def most_unpacked(path: Path) -> int:
    """Bytes that a compressed file may unpack to: the most that a genuine one of its size could.

    Images hardly compress, frames with few events a hundredfold, and nothing but zeros a thousandfold.

    Raises:
        OSError: there is no such file.
    """
    return _FREE + _RATIO * path.stat().st_size


def safe_name(name: str) -> str:
    """A name as a single part of a path that cannot lead anywhere else, whatever the name is.

    Letters, digits, ``-``, ``_`` and inner dots stay; a name with any other character, or with more than
    80 characters, gets six digits of its hash, to distinguish it from similar ones.
    """
    kept = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip(".-")[:80]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return kept if kept and kept == name else f"{kept}-{digest}".lstrip("-")
