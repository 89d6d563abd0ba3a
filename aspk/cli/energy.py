"""The command of energy accounts: ``aspk energy``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from aspk.cli.arguments import device_argument, image_arguments, whole_number
from aspk.cli.commands import Commands, Group

_MOST_VALUES = 1 << 26  # in all random images together


def add_energy_command(commands: Commands) -> None:
    """Add ``energy``."""
    energy = commands.add(
        "energy",
        Group.ENERGY,
        help="the energy account of one network, or of a study's networks",
        example="aspk energy --space auto_spikformer --random-weights --json -",
    )
    add = energy.add_argument
    add("network", nargs="?", help="an exported model's folder, or a study (its front, billed again)")
    add("--trial", type=whole_number(0), help="one trial of the study instead of its front")
    add("--sampler", help="take the study NAME-SAMPLER, as in 'aspk search'")
    add("--model", action="append", help="an account: a preset or a TOML file; repeat it to compare")
    add(
        "--all", action="store_true", help="one network under every account, with break-even and firing rates"
    )
    add("--space", help="a search space, for a network with --random-weights")
    add("--weights", type=Path, help="a trained supernet's file, for one of its networks")
    which = energy.add_mutually_exclusive_group()
    which.add_argument("--reference", action="store_true", help="the space's reference network (default)")
    which.add_argument("--named", metavar="NAME", help="a network that the file of --space names")
    which.add_argument("--config", type=Path, help="a network as JSON, or an export's network.json")
    add("--random-weights", action="store_true", help="calibrated random weights on random images")
    seed = whole_number(0, 2**63 - 1)  # the range that every generator accepts
    add("--seed", type=seed, default=0, help="seed of random weights and images (default: 0)")
    add("--images", type=whole_number(1, 10_000), default=4, help="number of random images (default: 4)")
    image_arguments(energy, of="random images")
    add("--data", help="data set for --weights (default: the one they were trained on)")
    add("--data-folder", help="the folder of the data set's files, if they have moved")
    add("--split", help="split to count operations on, with --weights or for an exported model")
    add("--json", metavar="FILE", help="write JSON; '-' prints it in place of the table")
    add("--csv", type=Path, metavar="FILE", help="write CSV")
    add("--html", type=Path, metavar="FILE", help="write an HTML page")
    add("--figure", type=Path, metavar="FILE", help="with --all: write a figure, PNG or SVG")
    device_argument(energy)
    energy.set_defaults(run=_energy, usage=energy.error, default=energy.get_default)


def _energy(options: argparse.Namespace) -> int:
    given = [name for name in ("network", "space", "weights") if getattr(options, name) is not None]
    if len(given) != 1:
        options.usage("give one of: an exported model or a study, --space with --random-weights, --weights")
    if (options.space is not None) != options.random_weights:
        options.usage("--space and --random-weights belong together; --weights brings its own space")
    if options.named is not None and options.space is None:
        options.usage("--named takes a network from the file of a space: give --space")
    if options.images * math.prod(options.shape) > _MOST_VALUES:
        options.usage(f"--images times --shape: expected at most {_MOST_VALUES:,} values in all")

    from aspk.cli.account import run_energy

    return run_energy(options)
