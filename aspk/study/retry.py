"""Storages that are unreachable for a while: a call is repeated, each time after a longer pause."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import sqlalchemy

from aspk.errors import StudyError

_Result = TypeVar("_Result")
_LOGGER = logging.getLogger(__name__)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 20.0
# What a database reports when it is starting, stopping, cut off, overloaded or in a deadlock
# (SQLSTATE classes of PostgreSQL and the SQL standard).
_PASSING_STATES = ("08", "40", "53300", "57P", "55P03")


def patiently(call: Callable[[], _Result], *, patience_s: float) -> _Result:
    """The result of a call on a storage, which is repeated while the storage is unreachable.

    Args:
        call: may be repeated without harm.
        patience_s: seconds after which the error is final.

    Raises:
        StudyError: the storage stayed unreachable.
    """
    end = time.monotonic() + patience_s
    for pause in _pauses():
        try:
            return call()
        except Exception as error:
            if not is_passing(error):
                raise
            left = end - time.monotonic()
            if left <= 0:
                raise StudyError(
                    f"the study's storage was unreachable for {patience_s:g} s: {reason(error)}; "
                    "the same command goes on when it is back"
                ) from error
            _LOGGER.warning("the storage is unreachable, trying again in %.1f s: %s", pause, reason(error))
            time.sleep(min(pause, left))
    raise AssertionError("unreachable")


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def is_passing(error: BaseException) -> bool:
    """Whether an error of a storage may go away by itself: not a full disk, say, nor a wrong password."""
    return any(map(_is_passing, _causes(error)))


def reason(error: BaseException) -> str:
    """The innermost cause of a storage's error in one line."""
    *_, innermost = _causes(error)
    return str(innermost).partition("\n")[0] or type(innermost).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it; SQLAlchemy keeps the driver's own error as ``orig``."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        driver = getattr(cause, "orig", None)
        cause = driver if isinstance(driver, BaseException) else cause.__cause__


def _is_passing(error: BaseException) -> bool:
    if isinstance(
        error, ConnectionError | sqlalchemy.exc.PendingRollbackError
    ):  # what follows a lost connection
        return True
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return error.connection_invalidated or _is_passing_in_database(error)
    if type(error).__module__.startswith("grpc"):
        code = getattr(error, "code", lambda: None)()
        return getattr(code, "name", "") in ("UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED", "ABORTED")
    return False


def _is_passing_in_database(error: sqlalchemy.exc.DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in str(error.orig)
    state = getattr(error.orig, "sqlstate", "unknown")
    if state is None:  # the server was not reached
        return isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError)
    return str(state).startswith(_PASSING_STATES)
