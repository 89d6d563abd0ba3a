"""The commands that prepare a study: ``aspk space``, ``train`` and ``check``."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from aspk.cli.arguments import (
    image_arguments,
    spec_of,
    study_arguments,
    time_of_day,
    whole_number,
)
from aspk.cli.commands import INTERRUPTED, Commands, Group, typed

if TYPE_CHECKING:
    from aspk.space.genes import SubnetConfig, Value


def add_prepare_commands(commands: Commands) -> None:
    """Add ``space``, ``train`` and ``check``."""
    space = commands.add(
        "space", Group.PREPARE, help="describe a search space", example="aspk space auto_spikformer"
    )
    space.add_argument("space", help="a search-space file, or the name of a shipped one such as tiny")
    space.add_argument(
        "--optuna-json", metavar="FILE", help="write it for use by 'optuna ask'; '-' prints it"
    )
    space.add_argument(
        "--energy",
        action="store_true",
        help="show the energy of the networks that the file names, with calibrated random weights",
    )
    image_arguments(space, of="the images for which parameters, operations and energy are counted")
    space.set_defaults(run=_space)

    train = commands.add(
        "train",
        Group.PREPARE,
        help="train a study's supernet, or continue its training",
        example="aspk train cifar10 --download --check 20",
    )
    study_arguments(train, sampler=False, device=True)
    train.add_argument(
        "--download", action="store_true", help="download the study's data set if it is missing"
    )
    train.add_argument("--recipe", help="a recipe instead of the study's [train]: cpu, paper, sandwich, FILE")
    train.add_argument(
        "--check",
        type=whole_number(0, 100_000),
        default=0,
        metavar="N",
        help="after training, evaluate N random networks",
    )
    train.add_argument(
        "--until", type=time_of_day, metavar="HH:MM", help="save and stop at this time, today or tomorrow"
    )
    train.add_argument(
        "--tensorboard",
        action="store_true",
        help="write loss, gradient norm, accuracies and firing rates into FOLDER/tensorboard",
    )
    train.set_defaults(run=_train)

    check = commands.add(
        "check",
        Group.PREPARE,
        help="try a study out on generated images, and report what it will cost",
        example="aspk check cifar100 --batch 64",
    )
    study_arguments(check, sampler=True, device=True)
    check.add_argument(
        "--batch",
        type=whole_number(0, 10**6),
        help="images per training step (default: the recipe's, 2 on a CPU)",
    )
    check.set_defaults(run=_check)


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
    reference = space.reference
    genes = ["mlp_ratio", "num_heads", "v_threshold", "tau"]
    genes += (
        name
        for name, kind in GENES.items()
        if name not in genes
        and (kind.words or name in space.block)
        and name in {**space.network, **space.block}
    )
    print(
        f"  reference: embed_dim {reference.embed_dim}, depth {reference.depth}, T {reference.time_steps}, "
        + ", ".join(f"{name} {_of_blocks(reference, name)}" for name in genes)
    )
    if space.named or options.energy:
        from aspk.report.named_networks import named_networks_text

        shape, classes = options.shape, options.classes
        print(named_networks_text(space, shape=shape, classes=classes, energy=options.energy))
    return 0


def _of_blocks(network: SubnetConfig, gene: str) -> str:
    """A network's value of a gene, or the values of all blocks if they differ."""
    parts = network.blocks if hasattr(network.blocks[0], gene) else (network,)
    values = [_shown(getattr(part, gene)) for part in parts]
    return values[0] if len(set(values)) == 1 else "/".join(values)


def _shown(choice: Value) -> str:
    return choice if isinstance(choice, str) else f"{choice:g}"


def _train(options: argparse.Namespace) -> int:
    spec = spec_of(options)

    from aspk.data import load_data
    from aspk.engines.device import resolve_device
    from aspk.space.file import load_space
    from aspk.spec.recipe import load_recipe
    from aspk.training import train_supernet
    from aspk.training.processes import processes

    device = resolve_device(options.device)
    with processes(device) as together:
        data = load_data(spec.data, download=options.download) if together.first else None
        together.wait()  # for the first process's download
        result = train_supernet(
            load_space(spec.space),
            data or load_data(spec.data),
            spec.train if options.recipe is None else load_recipe(options.recipe),
            folder=spec.folder,
            seed=spec.seed,
            device=device,
            until=options.until,
            tensorboard=options.tensorboard,
            processes=together,
        )
    if not together.first:
        return 0
    if result.weights is None:
        again = typed() if together.count == 1 else "the same command"
        print(f"saved at update {result.updates}; go on with: {again}", file=sys.stderr)
        planned = options.until is not None and datetime.now().astimezone() >= options.until
        return 0 if planned else INTERRUPTED
    print(f"trained {result.updates} updates: {result.weights}")
    if result.weights != spec.weights_file:
        print(f"the study's searches use {spec.weights_file}; remove 'weights' from its file to use these")
    if options.check > 0:
        from dataclasses import replace

        from aspk.study import inherited_accuracies

        trained = replace(spec, weights=result.weights)
        found = inherited_accuracies(trained, options.check, device=options.device)
        print(
            f"inherited accuracy of {len(found)} random networks: "
            f"mean {sum(found) / len(found):.4f}, from {min(found):.4f} to {max(found):.4f}"
        )
    return 0


def _check(options: argparse.Namespace) -> int:
    from aspk.errors import TrainingError
    from aspk.study.dry_run import dry_run, dry_run_text

    if options.batch is not None and options.batch < 2:
        raise TrainingError(f"--batch {options.batch}: expected at least 2, for batch normalisation")
    print(dry_run_text(dry_run(spec_of(options), batch=options.batch, device=options.device)))
    return 0
