"""Paths in study files: relative to the file, and for a while still to where the command runs."""

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
    """A study's plain values, with paths that lead to their places from where the command runs.

    Relative paths start from the study file. Where nothing is there, but something is where earlier versions
    looked, from where the command runs, that is taken, with a FutureWarning. The files that come with aspk
    are in its package, to which nobody writes: their studies go to where the command runs.

    Args:
        data: the values; those of a wrong type are left for the study's own checks.
        file: the study file.
    """
    places, values = _Places(file.parent), dict(data)
    if isinstance(values.get("space"), str):
        values["space"] = places.of_file("space", values["space"])
    for key in ("train", "retrain"):
        if isinstance(values.get(key), Mapping) and isinstance(values[key].get("recipe"), str):
            recipe = places.of_file(f"{key}.recipe", values[key]["recipe"])
            values[key] = {**values[key], "recipe": recipe}
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
    """Places of relative paths, and those that were found where earlier versions looked.

    Args:
        folder: where the paths start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._old: list[tuple[str, str]] = []

    def of(self, key: str, given: str) -> str:
        """The place of a path that may be new."""
        place = self._folder / given
        if os.path.exists(place) or not os.path.exists(given):
            return str(place)
        self._old.append((key, given))
        return given

    def of_file(self, key: str, given: str) -> str:
        """The place of a TOML file, given by its path or by the name of one that comes with aspk."""
        for name in (given, f"{given}.toml"):
            if os.path.isfile(self._folder / name):
                return str(self._folder / name)
        if given.endswith(".toml") and os.path.isfile(given):
            self._old.append((key, given))
        return given

    def warn(self, file: Path) -> None:
        """Say what was found where earlier versions looked."""
        if self._old:
            found = ", ".join(f"{key} = {given!r}" for key, given in self._old)
            better = ", ".join(repr(os.path.relpath(given, self._folder)) for _, given in self._old)
            warnings.warn(
                f"{file}: {found} is taken from where the command runs, as by earlier versions; paths start "
                f"from the study file now: write {better}, or move what is there",
                FutureWarning,
                stacklevel=4,
            )
