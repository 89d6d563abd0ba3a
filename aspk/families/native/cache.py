"""The folder of compiled libraries, which are loaded into the process and so must be this user's own."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from aspk.errors import LockError
from aspk.util.files import cache_folder, temporary_folder
from aspk.util.locks import exclusive

UNFINISHED = ".build-"  # prefix of the folders that libraries are built in
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UnusableError(OSError):
    """A folder that this user cannot write to, or that others can."""


def folders() -> Iterator[Path]:
    """Where libraries may be kept, the usual place first: the user's cache, else temporary files."""
    yield cache_folder() / "native"
    yield temporary_folder() / "native"


def trusted(folder: Path) -> Path:
    """The real path of a folder in which nobody but this user and root can put a file; made if need be.

    Raises:
        UnusableError: it belongs to somebody else, others may write it or a folder above it, or it cannot be
            made.
    """
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)  # private from the start, whatever the umask
        real = folder.resolve()
        found = [(one, one.stat()) for one in (real, *real.parents)]
    except OSError as error:
        raise UnusableError(f"{folder} cannot be used: {error.strerror}") from error
    for one, of in found:
        # In a parent with the sticky bit, such as /tmp, others cannot replace what is ours.
        shared = of.st_mode & _OTHERS_WRITE and (one == real or not of.st_mode & stat.S_ISVTX)
        if shared or not _ours(of):
            raise UnusableError(f"others than this user and root may write {one} (chown, chmod go-w)")
    return real


@contextlib.contextmanager
def alone(folder: Path, *, seconds: float) -> Iterator[None]:
    """Hold the folder's build lock; the system releases it when a process dies.

    Args:
        folder: see :func:`trusted`.
        seconds: longest wait for another process; after that both build, and each stores a complete file.

    Raises:
        UnusableError: the folder cannot be written.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnusableError(f"{folder} cannot be written")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive(folder / "build", patience=seconds))
        except LockError:
            pass
        else:
            for left in folder.glob(f"{UNFINISHED}*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        yield


def load(folder: Path, name: str) -> ctypes.CDLL | None:
    """The library of that name, if it is there and unchanged since it was built.

    The file's name ends with the hash of its content. A file that was truncated, changed or put there by
    somebody else is removed, not loaded: mapping a file that is too short kills the process.

    Args:
        folder: see :func:`trusted`.
        name: the beginning of the file's name.
    """
    for path in sorted(folder.glob(f"{name}-*.so")):
        content = _content(path)
        if content is not None and path.name == _file_name(name, content):
            return ctypes.CDLL(str(path))
        with contextlib.suppress(OSError):  # of another user's folder
            path.unlink()
    return None


def keep(built: Path, folder: Path, name: str) -> ctypes.CDLL:
    """Move a library that was built into the folder, complete or not at all, and load it."""
    with built.open("rb") as file:
        path = folder / _file_name(name, file.read())
        os.fsync(file.fileno())
    built.chmod(stat.S_IMODE(built.stat().st_mode) & ~_OTHERS_WRITE)  # a umask of 002 gives more
    os.replace(built, path)
    return ctypes.CDLL(str(path))


def _content(path: Path) -> bytes | None:
    """Bytes of a file of ours; None if it is anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        ours = stat.S_ISREG(found.st_mode) and _ours(found) and not found.st_mode & _OTHERS_WRITE
        return file.read() if ours else None


def _ours(found: os.stat_result) -> bool:
    return found.st_uid in (0, os.getuid())


def _file_name(name: str, content: bytes) -> str:
    return f"{name}-{hashlib.sha256(content).hexdigest()[:32]}.so"
