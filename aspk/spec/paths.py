"""Paths in study files: relative to the file, and for now still to the working directory."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from aspk.util.files import safe_name
from aspk.util.shipped import shipped_files

_SQLITE = re.compile(r"(?P<scheme>sqlite(?:\+\w+)?:///)(?P<path>(?!:memory:|file:)[^/?#][^?#]*)(?P<rest>.*)")
_JOURNAL = re.compile(r"(?P<scheme>journal:|)(?!\w[\w+]+:)(?P<path>[^/].*\.log)")


def with_places(data: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """A study's plain values, with paths made relative to the working directory.

    Relative paths in a study file start from that file, and ``~`` is the user's home folder. If nothing
    exists there, but something exists where earlier versions looked, relative to the working directory, that
    is used, with a FutureWarning. The files shipped with aspk are in its package, which is not written to:
    their studies use the working directory.

    Args:
        data: the values; those of the wrong type are left to the study's own checks.
        file: the study file.
    """
    places, values = _Places(file.parent), dict(data)
    if isinstance(values.get("space"), str):
        values["space"] = places.of_file("space", values["space"])
    for key in ("train", "retrain"):
        if isinstance(values.get(key), Mapping) and isinstance(values[key].get("recipe"), str):
            recipe = places.of_file(f"{key}.recipe", values[key]["recipe"])
            values[key] = {**values[key], "recipe": recipe}
    if isinstance(values.get("prior_studies"), list | tuple):
        values["prior_studies"] = [
            places.of_file("prior_studies", one) if isinstance(one, str) else one
            for one in values["prior_studies"]
        ]
    if _is_shipped(file):
        weights = values.get("weights")
        return values | ({"weights": str(file.parent / weights)} if isinstance(weights, str) else {})
    values.setdefault("folder", str(Path("runs") / safe_name(str(values.get("name")))))
    for key in ("folder", "weights"):
        if isinstance(values.get(key), str):
            values[key] = places.of(key, values[key])
    if isinstance(values.get("storage"), str):
        values["storage"] = _storage(places, values["storage"])
    if isinstance(values.get("data"), Mapping) and isinstance(values["data"].get("folder"), str):
        values["data"] = {**values["data"], "folder": places.of("data.folder", values["data"]["folder"])}
    places.warn(file)
    return values


def _is_shipped(file: Path) -> bool:
    return file.resolve() in {path.resolve() for path in shipped_files("studies").values()}


def _storage(places: _Places, url: str) -> str:
    if found := _SQLITE.fullmatch(url):
        path = unquote(found["path"])
        place = places.of("storage", path)
        return url if place == path else f"{found['scheme']}{quote(place)}{found['rest']}"
    if found := _JOURNAL.fullmatch(url):
        return found["scheme"] + places.of("storage", found["path"])
    return url


class _Places:
    """Resolves relative paths, and remembers those found where earlier versions looked.

    Args:
        folder: where the paths start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._old: list[tuple[str, str]] = []

    def of(self, key: str, given: str) -> str:
        """The place of a path that may not exist yet."""
        given = os.path.expanduser(given)
        place = self._folder / given
        if os.path.exists(place) or not os.path.exists(given):
            return str(place)
        self._old.append((key, given))
        return given

    def of_file(self, key: str, given: str) -> str:
        """The place of a TOML file, given by its path or by the name of one shipped with aspk."""
        given = os.path.expanduser(given)
        for name in (given, f"{given}.toml"):
            if os.path.isfile(self._folder / name):
                return str(self._folder / name)
        if given.endswith(".toml") and os.path.isfile(given):
            self._old.append((key, given))
        return given

    def warn(self, file: Path) -> None:
        """Warn of what was found where earlier versions looked."""
        if self._old:
            found = ", ".join(f"{key} = {given!r}" for key, given in self._old)
            better = ", ".join(repr(os.path.relpath(given, self._folder)) for _, given in self._old)
            warnings.warn(
                f"{file}: {found} is taken from where the command runs, as in earlier versions; paths now "
                f"start from the study file: write {better}, or move the file or folder",
                FutureWarning,
                stacklevel=4,
            )
