"""Addresses of storages: what each form means, and the message for what is none."""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy

from aspk.errors import StudyError
from aspk.util.passwords import masked, without_password

# A path, relative or absolute; neither a URL nor KEY=VALUE pairs, whatever they end in.
_JOURNAL = re.compile(r"(?:journal:)?(?!\w[\w+]+:/)(?!\w+\s*=).*\.log", re.DOTALL)
_NO_STORAGE = (ImportError, ValueError, sqlalchemy.exc.ArgumentError)
_FORMS = """A storage is one of
  sqlite:///runs/digits/study.db            one machine; //// begins an absolute path
  runs/digits/study.log                     a journal: one machine, or a folder that machines share
  postgresql+psycopg://USER@HOST/DATABASE   many machines; pip install 'aspk[postgres]'
  grpc://HOST:PORT                          an Optuna proxy; pip install 'aspk[grpc]'"""


def is_journal(url: str) -> bool:
    """Whether an address is that of a journal file."""
    return _JOURNAL.fullmatch(url) is not None


def check_address(url: str) -> None:
    """Refuse what is no address of a storage, or needs a missing driver; this neither opens nor makes it.

    Args:
        url: see :func:`aspk.study.storage.open_storage`.

    Raises:
        StudyError: as ``open_storage`` would.
    """
    try:
        if is_journal(url):
            return
        if url.startswith("grpc://"):
            host_and_port(url)
        else:
            address = sqlalchemy.make_url(url)
            address.get_dialect().import_dbapi()
            address.get_dialect()().create_connect_args(address)
        return
    except _NO_STORAGE as error:
        refusal = refused(error, url)
    raise refusal


def refused(error: Exception, url: str) -> StudyError:
    """The error for a storage that cannot be opened; it shows no password."""
    forms = f"\n{_FORMS}" if isinstance(error, _NO_STORAGE) else ""
    return StudyError(f"cannot open the storage {masked(url)!r}: {_reason(error, url)}{forms}")


def _reason(error: Exception, url: str) -> str:
    """Why a storage cannot be opened, in one line."""
    match error:
        case ImportError():  # Optuna says that a driver is missing, its context says which one
            missing = getattr(error.__context__, "name", None) or error.name
            return f"the Python package {missing} is not installed" if missing else str(error)
        case sqlalchemy.exc.NoSuchModuleError():
            return "no kind of database has that name"
        case ValueError() | sqlalchemy.exc.ArgumentError():  # ValueError: a port that is not a number
            return "this is not the address of a storage"
    return without_password(f"{type(error).__name__}: {error}".partition("\n")[0], url)


def host_and_port(url: str) -> tuple[str, int]:
    """Those of an address of a proxy.

    Raises:
        ValueError: it is not ``grpc://HOST:PORT``.
    """
    host, _, port = url.removeprefix("grpc://").rstrip("/").rpartition(":")
    if not re.fullmatch(r"[\w.-]+|\[[\w:.]+\]", host) or not port.isdecimal():
        raise ValueError("not grpc://HOST:PORT")
    return host, int(port)


def file_of(url: str) -> Path | None:
    """The file that a storage is in; None for a server, a database in memory, or SQLite's own form of URL."""
    if is_journal(url):
        return Path(url.removeprefix("journal:"))
    try:
        file = sqlalchemy.make_url(url).database if url.startswith("sqlite") else None
    except sqlalchemy.exc.ArgumentError:  # opening it will report that
        return None
    return Path(file) if file and not file.startswith("file:") else None
