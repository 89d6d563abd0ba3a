"""Training recipes: TOML files, and tables in study files that start from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from aspk.errors import TrainingError
from aspk.spec.settings import Recipe
from aspk.util.schema import Key, Table, Text, check_table, located, table_of
from aspk.util.shipped import read_toml


@cache
def recipe_table() -> Table:
    """The keys of a recipe's file, and of the tables ``[train]`` and ``[retrain]`` of a study's."""
    start = Key(
        kind=Text,
        default="cpu",
        meaning="the recipe that the other keys change: `cpu`, `paper`, `sandwich`, or a TOML file.",
    )
    return {"recipe": start, **table_of(Recipe)}


def load_recipe(source: str | Path) -> Recipe:
    """A recipe from a TOML file, or by the name of a shipped one: ``cpu``, ``paper`` or ``sandwich``.

    Raises:
        TrainingError: the file is missing or not valid; the message names file, key and value.
    """
    return _loaded(source, ())


def recipe_from_dict(data: Mapping[str, Any], *, at: str = "") -> Recipe:
    """A recipe from plain values, for instance the table ``[train]`` of a study file.

    Args:
        data: fields of :class:`Recipe`, and ``recipe``: the recipe that they modify (default ``cpu``).
        at: what error messages say before a key.

    Raises:
        TrainingError: naming the key, its value and what was expected.
    """
    return _changed(data, at, ())


def _loaded(source: str | Path, files: tuple[Path, ...]) -> Recipe:
    """The recipe in a file from which the recipes in ``files`` start."""
    path, data = read_toml(source, folder="studies/recipes", kind="recipe", error=TrainingError)
    if path.resolve() in files:
        raise TrainingError(f"{path}: the recipe starts from itself: name another one under recipe")
    return _changed(data, f"{path}: ", (*files, path.resolve()))


def _changed(data: Mapping[str, Any], at: str, files: tuple[Path, ...]) -> Recipe:
    values = check_table(recipe_table(), data, error=TrainingError, at=at)
    start = _loaded(values.pop("recipe"), files) if "recipe" in values else Recipe()
    with located(at):
        return Recipe(**{**asdict(start), **values})
