"""Files that a crash leaves old or new, never half written, and names that stay inside their folder."""

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
_FORGOTTEN_S = 24 * 3600  # after which another machine's temporary file counts as left over

_FREE = 1 << 20  # bytes that any file may unpack to
_RATIO = 200


def require_ordinary(path: str | Path) -> None:
    """Refuse what is there but no ordinary file: a pipe waits for ever, and some devices never end.

    Raises:
        OSError: the path leads to nothing, or to something else.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a pipe, a device or a socket, expected an ordinary file", str(path))


def read_text(path: str | Path, *, most: int = 64 << 20) -> str:
    """A small file's text, UTF-8.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: there is no such ordinary file, it cannot be read, or it is larger.
        ValueError: it is not UTF-8.
    """
    require_ordinary(path)
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes, which no such file is", str(path))
    return content.decode()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file by way of a temporary one beside it: write, fsync, rename.

    Args:
        path: the file; its folder is made if need be.
        content: text is written as UTF-8.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an old file is then still there.
    """
    with written_beside(path, content) as temporary:
        os.replace(temporary, path)


@contextmanager
def written_beside(path: Path, content: bytes | str) -> Iterator[Path]:
    """A file's new content, safe on the disk under a temporary name of this call's own, to be renamed.

    What the block does not rename is removed. Access is what the process's umask allows.

    Args:
        path: the file that it is for; its folder is made if need be.
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
    """Remove temporary files in a folder whose writer was killed: one of this machine that is no more."""
    for path in folder.glob(".*.tmp"):
        named = _TEMPORARY.fullmatch(path.name)
        if named is None:
            continue
        with suppress(OSError):  # another process may be quicker
            here = named[1] == place()
            if not start_time(int(named[2])) if here else time.time() - path.stat().st_mtime > _FORGOTTEN_S:
                path.unlink()


def hash_of(path: Path) -> str:
    """SHA-256 of a file, which is not held in memory.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where downloads and compiled code are kept: ``aspk`` in the user's cache folder.

    That is the one of ``XDG_CACHE_HOME``, else the system's usual one: ``~/.cache`` on Linux,
    ``~/Library/Caches`` on macOS, where what earlier versions left in ``~/.cache/aspk`` stays in use. A user
    without a home, as ``docker run -u`` makes them, has it among the temporary files.
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
    from platformdirs import user_cache_path  # noqa: PLC0415  # loads configparser, and is rarely asked

    return user_cache_path("aspk", appauthor=False)


def temporary_folder() -> Path:
    """This user's folder among the temporary files, the same in all processes; others may have made it."""
    return Path(tempfile.gettempdir()) / f"aspk-{os.getuid()}"


def most_unpacked(path: Path) -> int:
    """Bytes that a compressed file may unpack to: what an honest one of its size could.

    Images hardly compress, frames of few events a hundredfold, and zeros alone a thousandfold.

    Raises:
        OSError: there is no such file.
    """
    return _FREE + _RATIO * path.stat().st_size


def safe_name(name: str) -> str:
    """A name as one part of a path: it leads nowhere else, whatever it is.

    Letters, digits, ``-``, ``_`` and inner dots stay; a name that has more than these in it, or more than 80
    characters, is told from its like by six digits of its hash.
    """
    kept = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip(".-")[:80]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return kept if kept and kept == name else f"{kept}-{digest}".lstrip("-")
