"""Results of long-running work in a growing file, one JSON line each: a kill loses none already written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aspk.errors import AspkError
from aspk.util.files import read_text, write_atomically
from aspk.util.records import Identity


class Journal:
    """A file of results. The first line says which work they belong to; each further line is a result.

    Any process may read it at any time, but only one at a time may add to it: see
    :func:`aspk.util.locks.exclusive`. A line that a kill left unfinished is skipped, and removed
    when the next one is added.

    Args:
        file: the file; it appears with the first result.
        identity: the identity of the work.
        error: class of the errors.
        advice: what to do with a file that is damaged or belongs to other work, the end of a message.

    Attributes:
        entries: the results, in the order in which they were added.

    Raises:
        AspkError: of the given class: the file is damaged, or holds results of other work.
        OSError: it cannot be read.
    """

    def __init__(self, file: Path, identity: Identity, *, error: type[AspkError], advice: str) -> None:
        self.file = file
        self.entries: list[dict[str, Any]] = []
        text = self._text(error, advice)
        self._whole = text[: text.rfind("\n") + 1]  # anything after the last newline was cut off by a kill
        self._is_whole = bool(self._whole) and self._whole == text
        if self._whole:
            head, *rows = self._whole.splitlines()
            known = self._object(head, 1, error, advice).get("identity")
            identity.require(known, where=file, error=error, advice=advice)
            self.entries = [self._object(row, number, error, advice) for number, row in enumerate(rows, 2)]
        else:
            self._whole = json.dumps({"identity": identity.values}) + "\n"

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a result; it is on the disk when this returns.

        Raises:
            OSError: it cannot be written.
        """
        if not self._is_whole:
            write_atomically(self.file, self._whole)
            self._is_whole = True
        line = json.dumps(entry) + "\n"
        with self.file.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(line.encode()) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
        self.entries.append(json.loads(line))

    def _text(self, error: type[AspkError], advice: str) -> str:
        try:
            return read_text(self.file)
        except FileNotFoundError:
            return ""
        except ValueError as problem:
            raise error(f"{self.file}: damaged: {problem}; {advice}") from None

    def _object(self, line: str, number: int, error: type[AspkError], advice: str) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise error(f"{self.file}: line {number} is damaged; {advice}")
        return found
