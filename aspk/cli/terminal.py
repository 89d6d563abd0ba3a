"""Print texts with tables: no wider than the terminal, with colour where it carries meaning.

Reports are text. Their tables have a header, a rule of dashes below each column, and rows up to the first
other line; that is enough to lay them out again. In a pipe or a file the text stays as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, TYPE_CHECKING

from aspk.util.text import printable, unfiltered, writable

if TYPE_CHECKING:
    from rich.console import Console

_RULE = re.compile(r"-+(?:  -+)+")
_GAP = 2  # characters between columns
_CHOSEN, _FLAGGED = "bold green", "yellow"


@dataclass(frozen=True)
class Table:
    """The cells of a table, as text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def written(self, stream: IO[str]) -> Table:
        """The table in characters that the stream's encoding has."""
        header, *rows = (tuple(writable(cell, stream) for cell in row) for row in (self.header, *self.rows))
        return Table(header, tuple(rows))

    def width(self, column: int) -> int:
        """Characters that a column needs: headers may be broken between words, cells may not."""
        words = self.header[column].split() or [""]
        return max(*map(len, words), *(len(row[column]) for row in self.rows), 0)

    def pieces(self, width: int) -> Iterator[list[int]]:
        """Columns that fit side by side; each piece repeats the first one."""
        piece, used = [0], self.width(0)
        for column in range(1, len(self.header)):
            needed = _GAP + self.width(column)
            if used + needed > width and len(piece) > 1:
                yield piece
                piece, used = [0], self.width(0)
            piece, used = [*piece, column], used + needed
        yield piece

    def widths(self, piece: Sequence[int], width: int) -> dict[int, int | None]:
        """The width of each column of a piece: spare room goes to whole headers; None if too wide."""
        needed = {column: self.width(column) for column in piece}
        left = width - sum(needed.values()) - _GAP * (len(piece) - 1)
        if left < 0:  # one cell alone is wider than the terminal: it is folded
            return dict.fromkeys(piece)
        found: dict[int, int | None] = {}
        for column, least in needed.items():
            missing = max(len(self.header[column]) - least, 0)
            more = missing if missing <= left else 0
            found[column], left = least + more, left - more
        return found


def show(text: str) -> None:
    """Print a text; its tables fitted to the terminal if it goes to one."""
    stream = unfiltered(sys.stdout)
    if not stream.isatty():
        print(text)
        return
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    for part in _parts(printable(text, keep="\n")):  # coloured text bypasses the filter
        if isinstance(part, str):
            console.print(writable(part, stream), markup=False, soft_wrap=True)
        else:
            _show(part.written(stream), console)


def _parts(text: str) -> Iterator[str | Table]:
    """The tables of a text, and the lines outside them."""
    lines = text.split("\n")
    while lines:
        if len(lines) == 1 or _RULE.fullmatch(lines[1]) is None:
            yield lines.pop(0)
            continue
        columns = [slice(*found.span()) for found in re.finditer("-+", lines[1])]
        end = next((n for n, line in enumerate(lines) if n > 1 and not _is_row(line, columns)), len(lines))
        header, *rows = (
            tuple(line[part].strip() for part in columns)
            for line in lines[:end]
            if _RULE.fullmatch(line) is None  # below the header, and above totals
        )
        yield Table(header, tuple(rows))
        lines = lines[end:]


def _is_row(line: str, columns: Sequence[slice]) -> bool:
    """Whether a line reaches beyond the first column, and has nothing between its columns."""
    gaps = "".join(line[before.stop : after.start] for before, after in pairwise(columns))
    return columns[0].stop < len(line) <= columns[-1].stop and not gaps.strip()


def _show(table: Table, console: Console) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    for number, piece in enumerate(table.pieces(console.width)):
        if number:
            console.print()
        shown = RichTable(box=None, pad_edge=False)
        for column, width in table.widths(piece, console.width).items():
            shown.add_column(
                Text(table.header[column]),
                justify="right" if column and table.header[column] else "left",
                overflow="fold",
                width=width,
            )
        for row in table.rows:
            shown.add_row(*(Text(row[column]) for column in piece), style=_style(table, row))
        console.print(shown)


def _style(table: Table, row: Sequence[str]) -> str:
    """The style of the chosen network, which has a star, or of a row flagged in a last, unnamed column."""
    if row[0].endswith(" *"):
        return _CHOSEN
    return _FLAGGED if row[-1] and not table.header[-1] else ""
