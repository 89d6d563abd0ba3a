"""Training recipes: TOML files, and tables of study files that start from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from aspk.errors import TrainingError
from aspk.spec.settings import Recipe
from aspk.util.passwords import shown
from aspk.util.shipped import read_toml


def load_recipe(source: str | Path) -> Recipe:
    """A recipe from a TOML file, or by the name of a shipped one: ``cpu``, ``paper`` or ``sandwich``.

    Raises:
        TrainingError: the file is missing or not valid; the message names file, key and value.
    """
    path, data = read_toml(source, folder="studies/recipes", kind="recipe", error=TrainingError)
    return recipe_from_dict(data, where=str(path))


def recipe_from_dict(data: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """A recipe from plain values, for instance the table ``[train]`` of a study file.

    Args:
        data: fields of :class:`Recipe`, and ``recipe``: the recipe that they change (default ``cpu``).
        where: what error messages call the source.

    Raises:
        TrainingError: naming ``where``, the key and the value.
    """
    values = dict(data)
    base = values.pop("recipe", None)
    if base is not None and not isinstance(base, str):
        raise TrainingError(f"{where}: recipe = {base!r}: expected the name or file of a recipe")
    start = asdict(Recipe() if base is None else load_recipe(base))
    known = [item.name for item in fields(Recipe)]
    for key, value in values.items():
        if key not in known:
            raise TrainingError(
                f"{where}: unknown key {key} = {shown(value)}; expected recipe, {', '.join(known)}"
            )
    try:
        return Recipe(**{**start, **values})
    except TrainingError as error:
        raise TrainingError(f"{where}: {error}") from None
