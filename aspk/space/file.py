"""Search-space files: TOML to :class:`~aspk.space.space.SearchSpace`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from aspk.errors import GenotypeError, SpaceError
from aspk.space.genes import (
    FAMILIES,
    GENES,
    BlockConfig,
    NetworkSettings,
    SubnetConfig,
    Value,
    check_network,
    gene_value,
)
from aspk.space.space import SearchSpace
from aspk.util.numbers import is_count
from aspk.util.passwords import shown
from aspk.util.shipped import read_toml

_LARGEST = 1e6
_MOST_SIZES = 10_000  # combinations of block sizes, each of which is checked
_ENUMS = {
    "family": tuple(FAMILIES),
    "heads": ("partition", "fixed_head_dim"),
    "reset": ("hard", "soft"),
}


def load_space(source: str | Path) -> SearchSpace:
    """Read a search space from a TOML file or by the name of a shipped one.

    Args:
        source: a path, or a name such as ``tiny``.

    Raises:
        SpaceError: the file is missing or not valid; the message names file, key and value.
    """
    path, data = read_toml(source, folder="search_spaces", kind="search space", error=SpaceError)
    return space_from_dict(data, where=str(path), name=path.stem)


def space_from_dict(data: Mapping[str, Any], *, where: str = "search space", name: str = "") -> SearchSpace:
    """Build and validate a search space from plain values (the content of a TOML file).

    Args:
        data: the tables ``settings``, ``network``, ``block`` and ``reference``, and ``name``.
        where: what error messages call the source.
        name: the name of the space if ``data`` has none.

    Raises:
        SpaceError: naming ``where``, the key and the value.
    """
    if not isinstance(data, Mapping):
        raise SpaceError(f"{where}: a search space is a table, got {type(data).__name__}")
    _known(data, ("name", "settings", "network", "block", "reference"), where, "")
    title = data.get("name", name)
    if not isinstance(title, str):
        raise SpaceError(f"{where}: name = {title!r}: expected a string")
    settings = settings_from_dict(_table(data, "settings", where), where=where)
    network = _choices(_table(data, "network", where), "network", where)
    block = _choices(_table(data, "block", where), "block", where)
    for gene, kind in GENES.items():
        if gene in network and gene in block:
            raise SpaceError(f"{where}: {gene} stands in both [network] and [block]")
        if kind.required and gene not in network and gene not in block:
            table = "[network] or [block]" if kind.per_block else "[network]"
            raise SpaceError(f"{where}: gene {gene} is missing from {table}")
    reference = _reference(_table(data, "reference", where), network | block, settings, where)
    space = SearchSpace(title, network, block, reference, settings)
    _check_members(space, where)
    return space


def _table(data: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, Mapping):
        raise SpaceError(f"{where}: {key} = {value!r}: expected a table [{key}]")
    return value


def _known(data: Mapping[str, Any], names: tuple[str, ...], where: str, table: str) -> None:
    for key in data:
        if key not in names:
            raise SpaceError(
                f"{where}: unknown key {table}{key} = {shown(data[key])}; expected {', '.join(names)}"
            )


def _choices(table: Mapping[str, Any], scope: str, where: str) -> dict[str, tuple[Value, ...]]:
    genes = tuple(name for name, kind in GENES.items() if scope == "network" or kind.per_block)
    _known(table, genes, where, f"{scope}.")
    result = {}
    for name in genes:  # in the order of GENES, so that the file's order means nothing
        if name not in table:
            continue
        key, given = f"{scope}.{name}", table[name]
        if not isinstance(given, list) or not given:
            raise SpaceError(f"{where}: {key} = {given!r}: expected a list with at least one choice")
        try:
            values = tuple(gene_value(name, value) for value in given)
        except GenotypeError as error:
            raise SpaceError(f"{where}: {key} = {given!r}: {error}") from None
        if len(set(values)) < len(values):
            raise SpaceError(f"{where}: {key} = {given!r}: a choice stands there twice")
        if list(values) != sorted(values):
            raise SpaceError(f"{where}: {key} = {given!r}: choices must ascend")
        if any(high - low <= 4e-6 * high for low, high in itertools.pairwise(values)):
            raise SpaceError(
                f"{where}: {key} = {given!r}: choices must differ by more than 4e-6 of the larger"
            )
        result[name] = values
    return result


def settings_from_dict(table: Mapping[str, Any], *, where: str) -> NetworkSettings:
    """What all networks of a space share, from plain values (the table ``settings``).

    Raises:
        SpaceError: naming ``where``, the key and the value.
    """
    known = {item.name: item for item in fields(NetworkSettings)}
    _known(table, tuple(known), where, "settings.")
    for key, value in table.items():
        _check_setting(key, value, known[key].default, where)
    numbers = {key: float(value) for key, value in table.items() if isinstance(known[key].default, float)}
    settings = NetworkSettings(**{**table, **numbers})
    if (settings.heads == "fixed_head_dim") != (settings.head_dim is not None):
        raise SpaceError(
            f"{where}: settings.heads = {settings.heads!r} with settings.head_dim = {settings.head_dim!r}: "
            "head_dim belongs to heads = 'fixed_head_dim', and only to it"
        )
    return settings


def _check_setting(key: str, value: object, default: object, where: str) -> None:
    expected: str | None = None
    if key in _ENUMS:
        expected = None if value in _ENUMS[key] else f"one of {_ENUMS[key]}"
    elif isinstance(default, bool):
        expected = None if isinstance(value, bool) else "true or false"
    elif key in ("head_dim", "patch_size"):
        whole = is_count(value, 1) and value <= _LARGEST
        expected = None if whole else f"a whole number above 0 and at most {_LARGEST:g}"
    else:
        low = 1.0 if key == "stem_tau" else 0.0
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low < value <= _LARGEST:  # type: ignore[operator]  # a number
            expected = f"a number above {low:g} and at most {_LARGEST:g}"
    if expected:
        raise SpaceError(f"{where}: settings.{key} = {value!r}: expected {expected}")


def _reference(
    table: Mapping[str, Any], choices: Mapping[str, tuple[Value, ...]], settings: NetworkSettings, where: str
) -> SubnetConfig:
    _known(table, tuple(choices), where, "reference.")
    values: dict[str, Any] = {}
    for name, options in choices.items():
        if name not in table:
            raise SpaceError(
                f"{where}: reference.{name} is missing: the reference names a value for each gene"
            )
        try:
            values[name] = gene_value(name, table[name])
        except GenotypeError as error:
            raise SpaceError(f"{where}: reference.{name} = {table[name]!r}: {error}") from None
        if values[name] not in options:
            raise SpaceError(
                f"{where}: reference.{name} = {table[name]!r}: not one of its choices {list(options)}"
            )
    own = {item.name for item in fields(BlockConfig)}
    fixed = {"attention_v_threshold": settings.attention_v_threshold}
    block = BlockConfig(**(fixed | {name: value for name, value in values.items() if name in own}))
    stem = {name: values.get(name, getattr(settings, name)) for name in ("stem_v_threshold", "stem_tau")}
    return SubnetConfig(
        embed_dim=values["embed_dim"],
        time_steps=values["time_steps"],
        blocks=(block,) * values["depth"],
        **stem,
    )


def _check_members(space: SearchSpace, where: str) -> None:
    """Every combination of width, heads and MLP ratio must be buildable."""
    choices = dict(space.network) | dict(space.block)
    block = space.reference.blocks[0]
    sizes = [choices[name] for name in ("embed_dim", "num_heads", "mlp_ratio")]
    if (count := math.prod(map(len, sizes))) > _MOST_SIZES:
        raise SpaceError(
            f"{where}: embed_dim, num_heads and mlp_ratio have {count:,} combinations: "
            f"expected at most {_MOST_SIZES:,}"
        )
    for width, heads, ratio in itertools.product(*sizes):
        genes = {item.name: getattr(block, item.name) for item in fields(block) if item.default is MISSING}
        genes |= {"num_heads": heads, "mlp_ratio": ratio}
        network = SubnetConfig(embed_dim=int(width), time_steps=1, blocks=(BlockConfig(**genes),))
        try:
            check_network(network, space.settings)
        except GenotypeError as error:
            raise SpaceError(f"{where}: {error}") from None
