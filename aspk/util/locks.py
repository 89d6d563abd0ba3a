"""Locks that let one process at a time work on a file."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from aspk.errors import LockError
from aspk.util.files import remove_leftovers

_LOGGER = logging.getLogger(__name__)
_PATIENCE_S = 5.0  # for a process that is just ending
_PAUSE_S = 0.05
_MOST_BYTES = 1000  # of what a lock file says about its owner
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # errors of file systems without locks


@contextmanager
def exclusive(path: Path, *, patience: float | None = None) -> Iterator[None]:
    """Keep other processes from doing the same work while the block runs.

    The lock is the file ``path`` + ``.lock``. It says who has held it since when, and the operating system
    releases it when that process ends, for whatever reason. Temporary files that a killed process
    left in the folder are removed.

    Args:
        path: a file that the work writes, or a name for several; its folder is created if necessary.
        patience: seconds to wait for another process; None waits a few, for one that is just ending.

    Raises:
        LockError: another process holds the lock.
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.lock")
    handle = _acquire(path, file, _PATIENCE_S if patience is None else patience)
    try:
        remove_leftovers(path.parent)
        yield
    finally:
        if handle is not None:
            if _is_at(handle, file):
                file.unlink()  # before releasing the lock: nobody must lock a file about to be removed
            os.close(handle)


def _acquire(path: Path, file: Path, patience: float) -> int | None:
    """A handle that holds the lock; None where the file system has no locks."""
    end = time.monotonic() + patience
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, file):
                _sign(handle)
                return handle
        except BlockingIOError:
            if time.monotonic() > end:
                owner = _owner(handle)
                os.close(handle)
                raise LockError(
                    f"{path} is in use by {owner}; wait until it has ended, or work in another folder"
                ) from None
        except OSError as error:
            os.close(handle)
            if error.errno not in _WITHOUT_LOCKS:
                raise
            _LOGGER.warning(
                "%s: this file system has no locks; make sure that only one process works there", path
            )
            return None
        os.close(handle)
        time.sleep(_PAUSE_S)


def _is_at(handle: int, file: Path) -> bool:
    """Whether the locked file still has its name: its owner may have removed it at the last moment."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(file))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    owner = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{json.dumps(owner)}\n".encode(), 0)


def _owner(handle: int) -> str:
    """The owner in words. Others may have written the file, so only the expected form is repeated."""
    try:
        found = json.loads(os.pread(handle, _MOST_BYTES, 0))
        host = re.fullmatch(r"[\w.-]{1,64}", found["host"], re.ASCII)
        since = datetime.fromisoformat(found["since"]).astimezone(UTC)
        return f"process {int(found['process'])} on {host[0]} since {since:%Y-%m-%d %H:%M:%S} UTC"  # type: ignore[index]  # no match: TypeError
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return "another process"
