"""TOML files by path, or by name if they ship with aspk."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from aspk.errors import AspkError
from aspk.util.files import read_text

MOST_TOML = 1 << 20  # bytes; the limit for hand-written files


def shipped_files(folder: str) -> dict[str, Path]:
    """Name to path of the TOML files shipped with aspk in ``search_spaces``, ``studies`` or below."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / folder, package.parent / folder):  # installed wheel, then clone
        if place.is_dir():
            return {path.stem: path for path in sorted(place.glob("*.toml"))}
    return {}


def read_toml(
    source: str | Path, *, folder: str, kind: str, error: type[AspkError]
) -> tuple[Path, dict[str, Any]]:
    """A TOML file's path and content.

    Args:
        source: its path, or the name of a shipped file such as ``tiny``.
        folder: where shipped files of this kind are.
        kind: what error messages call such a file, for instance ``search space``.
        error: the class of error to raise.

    Raises:
        AspkError: of class ``error``: there is no such file, or it is not TOML.
    """
    path, shipped = Path(source), shipped_files(folder)
    if not os.path.isfile(path):  # unlike Path.is_file, False for a name too long to exist
        path = shipped.get(path.stem if path.suffix == ".toml" else str(source), path)
    if not os.path.isfile(path):
        raise error(f"no {kind} {str(source)!r}: give a TOML file or one of {', '.join(shipped)}")
    try:
        return path, tomllib.loads(read_text(path, most=MOST_TOML))
    except (OSError, ValueError, RecursionError) as problem:  # ValueError: not UTF-8, endless integers
        raise error(f"{path}: not a TOML file: {problem}") from None
