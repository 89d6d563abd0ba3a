"""Text that others wrote, made safe for terminals, tables and spreadsheets: it stays plain text there."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import IO, Any

# Where a spreadsheet sees a formula: at the start of a cell, including cells that it creates by splitting a
# text at semicolons, tabs or line ends (OWASP, "CSV Injection"); full-width signs count like the plain ones.
_FORMULA = re.compile(r"(?:^|(?<=[;\t\r\n]))(?=[ ]*[=+\-@＝＋－＠])")


def printable(value: object, *, keep: str = "") -> str:
    r"""Text without control characters, which could rewrite a terminal or break a table.

    Args:
        value: anything.
        keep: control characters that stay; all others are shown as Python writes them, for instance ``\x1b``.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


def writable(text: str, stream: IO[str]) -> str:
    r"""Text with ``\u00b1``, as JSON writes it, in place of a character that the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None)
    if text.isascii() or not isinstance(encoding, str) or _has(encoding, text):
        return text
    return "".join(sign if _has(encoding, sign) else json.dumps(sign)[1:-1] for sign in text)


def _has(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def to_csv(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV; numbers in full precision, and text that no spreadsheet mistakes for a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """A text with an apostrophe before anything that would start a formula; other values unchanged."""
    if not isinstance(value, str) or _is_number(value):
        return value
    return _FORMULA.sub("'", printable(value, keep="\n\t"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isprintable()


class PlainStream:
    """A text stream that only shows characters: escape sequences and other control characters have no effect.

    Line ends and tabs pass, and so does a carriage return at the start of a write, as progress bars use it.
    Characters that its encoding lacks are shown as :func:`writable` does: no locale ends a command.
    The stream reports that it is not a terminal, so that libraries do not colour what they write.

    Args:
        stream: where the text goes; all other attributes are looked up there.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, with control characters as :func:`printable` shows them."""
        start = "\r" if text.startswith("\r") else ""
        shown = printable(text.removeprefix("\r"), keep="\n\t")
        self._stream.write(start + writable(shown, self._stream))
        return len(text)

    @property
    def behind(self) -> IO[str]:
        """Where the text goes, for escape sequences of our own."""
        return self._stream

    def isatty(self) -> bool:
        """Whether escape sequences work here: no."""
        return False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the stream has
        return getattr(self._stream, name)


def unfiltered(stream: IO[str]) -> IO[str]:
    """The stream behind a :class:`PlainStream`, for escape sequences of our own."""
    return stream.behind if isinstance(stream, PlainStream) else stream
