"""``aspk table``: every network of a small space, evaluated or trained."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from aspk.cli.arguments import (
    device_argument,
    spec_of,
    study_arguments,
    whole_number,
)
from aspk.cli.commands import INTERRUPTED, Commands, Group
from aspk.errors import TableError

if TYPE_CHECKING:
    from aspk.evaluation.supernet import SupernetEvaluator
    from aspk.space import IntArray, SearchSpace

_TIMED = 8  # networks timed to estimate how long all take

_OF_SUPERNETS, _OF_TRAINED = (
    ("splits", "images", "statistics", "batch"),
    ("seeds", "networks", "workers", "finished"),
)


def add_table_command(commands: Commands) -> None:
    """Add ``table``."""
    table = commands.add(
        "table",
        Group.OTHER,
        help="evaluate, or train, every network of a small space",
        example="aspk table digits --space part.toml --output part.npz",
    )
    study_arguments(table, sampler=False)
    table.add_argument("--output", type=Path, required=True, metavar="FILE", help="the table, NAME.npz")
    table.add_argument("--space", help="a part of the supernet's space (default: the study's space)")
    table.add_argument(
        "--splits", nargs="+", metavar="SPLIT", help="splits to evaluate networks on (default: search test)"
    )
    table.add_argument(
        "--images", type=whole_number(1, 10**9), help="images of each split (default: the study's)"
    )
    table.add_argument(
        "--statistics",
        choices=("auto", "own", "shared_time", "running"),
        help="batch-normalisation statistics, instead of the study's",
    )
    table.add_argument(
        "--batch", type=whole_number(1, 10**6), help="networks evaluated at once (default: 500)"
    )
    trained = table.add_argument_group("trained networks")
    trained.add_argument(
        "--trained",
        action="store_true",
        help="train each network alone with the study's [retrain], besides evaluating it in the supernet",
    )
    trained.add_argument("--seeds", type=whole_number(1, 1000), help="trainings of each network (default: 2)")
    trained.add_argument(
        "--networks", type=whole_number(1, 10**6), help="size of a random sample of networks (default: all)"
    )
    trained.add_argument("--workers", type=whole_number(1, 1000), help="trained in parallel (default: 1)")
    trained.add_argument(
        "--finished", action="store_true", help="train nothing; write a table of the networks trained so far"
    )
    device_argument(table)
    table.set_defaults(run=lambda options: _table(options, table.error))


def _table(options: argparse.Namespace, usage: Callable[[str], NoReturn]) -> int:
    for name in _OF_SUPERNETS if options.trained else _OF_TRAINED:
        if getattr(options, name) not in (None, False):
            usage(f"--{name} is for tables {'of supernets' if options.trained else 'with --trained'}")
    return _table_of_trained(options) if options.trained else _table_of_supernet(options)


def _table_of_supernet(options: argparse.Namespace) -> int:
    spec = spec_of(options)

    from dataclasses import asdict

    from aspk.data import load_data
    from aspk.evaluation.supernet import SupernetEvaluator
    from aspk.space.file import load_space
    from aspk.study import supernet_of
    from aspk.tables.building import build_table, check_size

    changes = {name: getattr(options, name) for name in ("images", "statistics") if getattr(options, name)}
    loaded, data = supernet_of(spec, options.device), load_data(spec.data)
    settings = replace(spec.evaluation, **changes).for_weights(loaded.supernet.recipe)
    space = load_space(options.space or spec.space)
    check_size(space)
    _check_part(space.networks(), space, loaded.supernet.space)
    evaluators = {
        split: SupernetEvaluator(
            loaded.supernet, data, settings=replace(settings, split=split), energy_model=spec.energy
        )
        for split in options.splits or ("search", "test")
    }
    about = {
        "study": spec.name,
        "weights": loaded.fingerprint,
        "data": data.fingerprint(),
        "classes": data.classes,
        "evaluation": asdict(settings),
        "energy": asdict(spec.energy),
    }
    print(f"{options.output}: {_expected(space, evaluators)}", flush=True)
    if not build_table(space, evaluators, options.output, about=about, batch=options.batch or 500):
        return _stopped()
    print(f"wrote {options.output}: {space.size:,} networks, {options.output.stat().st_size:,} bytes")
    return 0


def _table_of_trained(options: argparse.Namespace) -> int:
    spec = spec_of(options)

    from aspk.space.file import load_space
    from aspk.standalone.tabulating import TrainedTablePlan, build_trained_table, expected, write_finished
    from aspk.study import supernet_of

    space, workers = load_space(options.space or spec.space), options.workers or 1
    plan = TrainedTablePlan(
        spec=spec,
        space=space,
        file=options.output,
        count=options.networks,
        seeds=options.seeds or 2,
        device=options.device,
    )
    _check_part(plan.networks, space, supernet_of(spec, "cpu").supernet.space)
    if options.finished:
        table = write_finished(plan)
    else:
        print(f"{options.output}: {expected(plan, workers=workers)}", flush=True)
        table = build_trained_table(plan, workers=workers)
    if table is None:
        return _stopped()
    noise = "" if table.seeds < 2 else f"; one training has a standard deviation of {table.noise:.4f}"
    best, mean = table.accuracies().mean(axis=1).max(), table.accuracies().mean()
    print(
        f"wrote {options.output}: {len(table.networks):,} networks, {table.seeds} seeds, test accuracy "
        f"{mean:.4f} on average, {best:.4f} at best{noise}"
    )
    return 0


def _check_part(networks: Iterable[IntArray], space: SearchSpace, whole: SearchSpace) -> None:
    """Check that networks of ``space`` are networks of ``whole``."""
    if space.settings != whole.settings:
        raise TableError(f"[settings] of {space.name!r} differ from those of the supernet's {whole.name!r}")
    for x in networks:
        whole.encode(space.decode(x))


def _expected(space: SearchSpace, evaluators: Mapping[str, SupernetEvaluator]) -> str:
    """How long a table will take, estimated from a few networks, whose results are kept for it."""
    import time

    import numpy as np

    X = space.sample_choices(min(_TIMED, space.size), np.random.default_rng(0))
    configs = list({space.decode(x) for x in X})
    started = time.perf_counter()
    for evaluator in evaluators.values():
        evaluator.evaluate(configs)
    each = (time.perf_counter() - started) / len(configs)
    images = ", ".join(f"{evaluator.images:,} images of {split}" for split, evaluator in evaluators.items())
    return (
        f"{space.size:,} networks on {images}; one took {each:.2g} s of {len(configs)} tried, so all take at "
        f"most about {_duration(each * space.size)}. Ctrl-C ends after a batch, and the same command goes on"
    )


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


def _stopped() -> int:
    print("aspk: stopped; the same command goes on from what is saved", file=sys.stderr)
    return INTERRUPTED
