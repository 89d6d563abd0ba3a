"""Search-space files: TOML to :class:`~aspk.space.space.SearchSpace`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from functools import cache
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
)
from aspk.space.space import SearchSpace
from aspk.util.schema import OTHERS, Key, Kind, Table, check_table, located, table_of, unknown_key
from aspk.util.shipped import read_toml
from aspk.util.wording import alternatives, meanings

_NAMED = (
    "a network of the space: the genes in which it differs from the reference; a gene of the blocks takes a "
    "value for all of them, or a list with one for each."
)
_MOST_SIZES = 10_000  # combinations of sizes, each of which is checked


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
        data: the tables ``settings``, ``network``, ``block``, ``reference`` and ``networks``, and ``name``.
        where: what error messages call the source.
        name: the name of the space if ``data`` has none.

    Raises:
        SpaceError: naming ``where``, the key and the value.
    """
    at = f"{where}: "
    values = check_table(space_table(), data, error=SpaceError, at=at)
    settings = settings_from_dict(values.get("settings", {}), at=f"{at}settings.")
    network, block = (_choices(values.get(scope, {}), f"{at}{scope}.") for scope in ("network", "block"))
    for gene, kind in GENES.items():
        if gene in network and gene in block:
            raise SpaceError(f"{where}: {gene} is given in both [network] and [block]")
        if kind.required and gene not in network and gene not in block:
            table = "[network] or [block]" if kind.per_block else "[network]"
            raise SpaceError(f"{where}: gene {gene} is missing from {table}")
    _check_family(network | block, settings, at)
    reference = _reference(values.get("reference", {}), network, block, settings, f"{at}reference.")
    space = SearchSpace(values.get("name", name), network, block, reference, settings)
    with located(at):
        _check_members(space)
    named = {
        name: _named(space, table, f"{at}networks.{name}.")
        for name, table in values.get("networks", {}).items()
    }
    return replace(space, named=named)


def named_network(space: SearchSpace, name: str | None) -> SubnetConfig | None:
    """The network that the space's file calls ``name``; None if no name is given.

    Raises:
        SpaceError: no network has that name.
    """
    if name is None:
        return None
    if name in space.named:
        return space.named[name]
    known = ", ".join(space.named) or "none"
    raise SpaceError(f"space {space.name!r} names no network {name!r}: expected one of {known}")


@cache
def space_table() -> Table:
    """The keys of a search-space file."""
    told = meanings(BlockConfig) | meanings(SubnetConfig) | {"depth": "number of transformer blocks."}
    choices = {name: Key(kind.choices, meaning=told[name]) for name, kind in GENES.items()}
    return {
        "name": Key(str, meaning="the space's name; unless given, that of the file."),
        "settings": Key(table=table_of(NetworkSettings), meaning="what all networks of the space share."),
        "network": Key(table=choices, meaning="choices of the genes with one value for the whole network."),
        "block": Key(
            table={name: key for name, key in choices.items() if GENES[name].per_block},
            meaning="choices of the genes with a separate value for each block.",
        ),
        "reference": Key(
            table={name: Key(_one_or_each(name), meaning=key.meaning) for name, key in choices.items()},
            meaning="the network that others are compared with: a choice for each gene; of a gene of a "
            "block, one for all blocks or a list with one for each.",
        ),
        "networks": Key(
            table={OTHERS: Key(table=_named_table(told), meaning=_NAMED)},
            meaning="further networks by name, such as published ones, each in a table of its own.",
        ),
    }


def _named_table(told: Mapping[str, str]) -> Table:
    """The keys of one named network; a gene of blocks also takes a list."""
    return {name: Key(_one_or_each(name), meaning=told[name]) for name in GENES}


def _one_or_each(name: str) -> Kind:
    """Annotation of a network's value of a gene: for a gene of blocks also a list with one for each."""
    kind = GENES[name]
    return kind.values | kind.choices if kind.per_block else kind.values


def _choices(table: Mapping[str, Any], at: str) -> dict[str, tuple[Value, ...]]:
    result = {}
    for name, kind in GENES.items():  # in this order, so that the file's does not matter
        if name not in table:
            continue
        values = tuple(kind.type(value) for value in table[name])
        numbers = [value for value in values if not isinstance(value, str)]
        problem = ""
        if len(set(values)) < len(values):
            problem = "a choice is listed twice"
        elif numbers != sorted(numbers):
            problem = "choices must be in ascending order"
        elif any(high - low <= 4e-6 * high for low, high in itertools.pairwise(numbers)):
            problem = "choices must differ by more than 4e-6 of the larger"
        if problem:
            raise SpaceError(f"{at}{name} = {table[name]!r}: {problem}")
        result[name] = values
    return result


def settings_from_dict(table: Mapping[str, Any], *, at: str = "settings.") -> NetworkSettings:
    """What all networks of a space share, from plain values.

    Args:
        table: the table ``settings``.
        at: what error messages say before a key.

    Raises:
        SpaceError: naming the key, its value and what was expected.
    """
    known = table_of(NetworkSettings)
    values = check_table(known, table, error=SpaceError, at=at)
    numbers = {key: float(value) for key, value in values.items() if isinstance(known[key].default, float)}
    settings = NetworkSettings(**{**values, **numbers})
    for name, own in FAMILIES.items():
        for key in set(own.settings) & set(table) - set(FAMILIES[settings.family].settings):
            raise SpaceError(
                f"{at}{key} = {table[key]!r}: belongs to family = {name!r}, the family is {settings.family!r}"
            )
    if settings.stages and settings.poolings != settings.stages - 1:
        raise SpaceError(
            f"{at}patch_size = {settings.patch_size}: expected {2 ** (settings.stages - 1)}, since the "
            f"{settings.stages} stages of family {settings.family!r} halve the side from one to the next"
        )
    if (settings.heads == "fixed_head_dim") != (settings.head_dim is not None):
        raise SpaceError(
            f"{at}heads = {settings.heads!r} with settings.head_dim = {settings.head_dim!r}: "
            "head_dim belongs to heads = 'fixed_head_dim', and only to it"
        )
    return settings


def _check_family(choices: Mapping[str, tuple[Value, ...]], settings: NetworkSettings, at: str) -> None:
    """Refuse genes and choices that the family's networks do not have."""
    family = FAMILIES[settings.family]
    for name, values in choices.items():
        if name in family.lacks:
            having = [other for other, kind in FAMILIES.items() if name not in kind.lacks]
            raise SpaceError(
                f"{at}gene {name}: belongs to family = {alternatives(having)}, "
                f"the family is {settings.family!r}"
            )
        if name == "depth" and family.stages and set(values) != {family.stages}:
            raise SpaceError(
                f"{at}network.depth = {list(values)}: expected [{family.stages}], the number of stages of "
                f"every network of family {settings.family!r}"
            )
        if name == "mixer" and (other := [word for word in values if word not in family.mixers]):
            raise SpaceError(
                f"{at}mixer = {other[0]!r}: networks of family {settings.family!r} have "
                f"{alternatives(family.mixers)}"
            )


def _reference(
    table: Mapping[str, Any],
    network: Mapping[str, tuple[Value, ...]],
    block: Mapping[str, tuple[Value, ...]],
    settings: NetworkSettings,
    at: str,
) -> SubnetConfig:
    told = "the reference names a value for each gene"
    keys = {
        name: Key(_one_or_each(name) if name in block else GENES[name].values, default=MISSING, meaning=told)
        for name in (*network, *block)
    }
    given = check_table(keys, table, error=SpaceError, at=at)
    depth = given["depth"]
    values: dict[str, list[Any]] = {}  # for each block; of a gene of the network, the same one
    for name, options in (*network.items(), *block.items()):
        told_values = given[name] if isinstance(given[name], list) else [given[name]] * depth
        values[name] = [GENES[name].type(value) for value in told_values]
        if len(values[name]) != depth:
            raise SpaceError(
                f"{at}{name} = {given[name]!r}: expected one value, or a list of one for each of "
                f"{depth} blocks"
            )
        if not set(values[name]) <= set(options):
            raise SpaceError(f"{at}{name} = {given[name]!r}: not one of its choices {list(options)}")
    own = {item.name for item in fields(BlockConfig)}
    fixed = {"attention_v_threshold": settings.attention_v_threshold}
    blocks = tuple(
        BlockConfig(**(fixed | {name: found[index] for name, found in values.items() if name in own}))
        for index in range(depth)
    )
    fixed = {"stem_v_threshold": settings.stem_v_threshold, "stem_tau": settings.stem_tau}
    outside = {name: found[0] for name, found in values.items() if name not in own and name != "depth"}
    return SubnetConfig(blocks=blocks, **(fixed | outside))


def _named(space: SearchSpace, table: Mapping[str, Any], at: str) -> SubnetConfig:
    """A network of the space, of the reference's genes and those that its table changes."""
    genes = {**space.network, **space.block}
    for name in table:
        if name not in genes:
            raise SpaceError(unknown_key(name, table[name], genes, at=at))
    depth = int(table.get("depth", space.reference.depth))
    inside: list[dict[str, Any]] = [{} for _ in range(depth)]
    outside: dict[str, Any] = {}
    for name, given in table.items():
        kind = GENES[name]
        if not kind.per_block:
            outside[name] = kind.type(given)
            continue
        row = given if isinstance(given, list) else [given] * depth
        if len(row) != depth:
            raise SpaceError(f"{at}{name} = {given!r}: expected {depth} values, one for each block")
        for own, item in zip(inside, row, strict=True):
            own[name] = kind.type(item)
    outside.pop("depth", None)
    blocks = tuple(replace(space.reference_block(index), **own) for index, own in enumerate(inside))
    config = replace(space.reference, **outside, blocks=blocks)
    try:
        space.encode(config)
    except GenotypeError as error:
        raise SpaceError(f"{at.rstrip('.')}: not a network of the space: {error}") from None
    return config


def _check_members(space: SearchSpace) -> None:
    """Every combination of width, heads, MLP ratio and mixer, and of width and stem, must be buildable."""
    choices = dict(space.network) | dict(space.block)
    for names in (
        ("embed_dim", "num_heads", "mlp_ratio", "mixer"),
        ("embed_dim", "stem_convs", "stem_fraction"),
    ):
        free = {name: choices[name] for name in names if name in choices}
        if (count := math.prod(map(len, free.values()))) > _MOST_SIZES:
            raise SpaceError(
                f"{', '.join(free)} have {count:,} combinations: expected at most {_MOST_SIZES:,}"
            )
        for sizes in itertools.product(*free.values()):
            values: dict[str, Any] = dict(zip(free, sizes, strict=True))
            inside = {name: value for name, value in values.items() if GENES[name].per_block}
            outside = {name: value for name, value in values.items() if name not in inside}
            block = replace(space.reference.blocks[0], **inside)
            try:
                blocks = (block,) * (space.settings.stages or 1)
                check_network(replace(space.reference, blocks=blocks, **outside), space.settings)
            except GenotypeError as error:
                raise SpaceError(str(error)) from None
