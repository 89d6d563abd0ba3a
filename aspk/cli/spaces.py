"""The command that shows a search space."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aspk.cli.commands import Commands, Group

if TYPE_CHECKING:
    from aspk.space.genes import Value


def add_space_command(commands: Commands) -> None:
    """Add ``space``."""
    space = commands.add(
        "space", Group.PREPARE, help="describe a search space", example="aspk space auto_spikformer"
    )
    space.add_argument("space", help="a search-space file, or the name of a shipped one such as tiny")
    space.add_argument("--optuna-json", metavar="FILE", help="write it for 'optuna ask'; '-' prints it")
    space.set_defaults(run=_space)


def _space(options: argparse.Namespace) -> int:
    from aspk.space.file import load_space
    from aspk.space.genes import GENES

    space = load_space(options.space)
    if options.optuna_json is not None:
        from aspk.cli.stock import write_search_space

        write_search_space(space, options.optuna_json)
        return 0
    print(f"{space.name}: {space.size:,} networks, {len(space.genes)} genes")
    for scope, table in (("network", space.network), ("block", space.block)):
        for name, choices in table.items():
            print(f"  {scope:8} {name:22} {', '.join(map(_shown, choices))}")
    reference, block = space.reference, space.reference.blocks[0]
    genes = ("mlp_ratio", "num_heads", "v_threshold", "tau")
    print(
        f"  reference: embed_dim {reference.embed_dim}, depth {reference.depth}, T {reference.time_steps}, "
        + ", ".join(f"{name} {_shown(getattr(block, name))}" for name in genes)
        + "".join(
            f", {name} {getattr(block if kind.per_block else reference, name)}"
            for name, kind in GENES.items()
            if kind.words and name in {**space.network, **space.block}
        )
    )
    return 0


def _shown(choice: Value) -> str:
    return choice if isinstance(choice, str) else f"{choice:g}"
