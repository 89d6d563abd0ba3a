"""The source that a result depends on: a module and everything that it imports, directly or indirectly."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parent.parent.parent  # the folder that contains the package
_COMPILED = (".cpp", ".h")
_ENTRY = re.compile(r"([\w.]+):\w+")  # module:name, imported at first use


@functools.cache
def code_hash(module: str) -> bytes:
    """SHA-256 of :func:`source_files` of a module: their names and contents."""
    found = [f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes() for path in source_files(module)]
    return hashlib.sha256(b"\0".join(found)).digest()


def source_files(module: str, *, root: Path = _ROOT) -> list[Path]:
    """The source that a module runs, as far as it belongs to the module's own package.

    These are the module's file and those of everything that it imports, also within functions; modules that a
    string names as ``module:class``; what is imported for type checkers, since packages declare in this way
    what they load at first use; the ``__init__.py`` of every package on the way except the outermost, which
    exports everything and computes nothing; and the C++ files in these packages.

    Args:
        module: its full name, such as ``aspk.evaluation.supernet``.
        root: the folder that contains the outermost package.

    Returns:
        The files, sorted.
    """
    outermost = module.partition(".")[0]
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name, root)
        if path is None or name in found or name == outermost:
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        named = [package, *_named(path, package)]
        waiting += [other for other in named if other.partition(".")[0] == outermost]
    compiled = (path for folder in {path.parent for path in found.values()} for path in _compiled(folder))
    return sorted({*found.values(), *compiled})


def _file_of(name: str, root: Path) -> Path | None:
    """The file of a module or package; None for anything else, such as a name within a module."""
    place = root.joinpath(*name.split("."))
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


def _named(path: Path, package: str) -> Iterator[str]:
    """Full names of what a file imports: modules, and names that may be modules."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            entry = _ENTRY.fullmatch(node.value)
            yield from entry.groups() if entry else ()


def _compiled(folder: Path) -> Iterator[Path]:
    """C++ files of a package, including subfolders that are not packages themselves."""
    for path in folder.iterdir():
        if path.suffix in _COMPILED:
            yield path
        elif path.is_dir() and not (path / "__init__.py").exists():
            yield from _compiled(path)
