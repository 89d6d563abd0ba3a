"""Commands about searching itself: tables of whole spaces, and what the surrogate of a study is worth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aspk.cli.arguments import device_argument, spec_of, study_arguments, whole_number
from aspk.cli.commands import INTERRUPTED, Commands, Group
from aspk.cli.terminal import show
from aspk.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aspk.evaluation.supernet import SupernetEvaluator
    from aspk.space import SearchSpace

_TIMED = 8  # networks that tell how long all take


def add_search_commands(commands: Commands) -> None:
    """Add ``surrogate`` and ``table``."""
    surrogate = commands.add(
        "surrogate",
        Group.TRUST,
        help="how well a surrogate predicts a study's trials",
        example="aspk surrogate digits --draws 30",
    )
    study_arguments(surrogate, sampler=True)
    surrogate.add_argument(
        "--draws", type=whole_number(1, 10_000), default=10, help="training sets of each size (default: 10)"
    )
    surrogate.add_argument(
        "--workers", type=whole_number(1), default=1, help="processes that fit (default: 1)"
    )
    surrogate.add_argument(
        "--output", type=Path, metavar="FILE", help="figure (default: FOLDER/surrogate-NAME.png)"
    )
    surrogate.set_defaults(run=_surrogate)

    table = commands.add(
        "table",
        Group.OTHER,
        help="evaluate every network of a small space",
        example="aspk table digits --space part.toml --output part.npz",
    )
    study_arguments(table, sampler=False)
    table.add_argument("--output", type=Path, required=True, metavar="FILE", help="the table, NAME.npz")
    table.add_argument("--space", help="a part of the supernet's space (default: the study's space)")
    table.add_argument("--splits", nargs="+", default=["search", "test"], metavar="SPLIT")
    table.add_argument(
        "--images", type=whole_number(1, 10**9), help="images of each split (default: the study's)"
    )
    table.add_argument(
        "--statistics", choices=("auto", "own", "shared_time", "running"), help="instead of the study's"
    )
    table.add_argument(
        "--batch", type=whole_number(1, 10**6), default=500, help="networks evaluated at once (default: 500)"
    )
    device_argument(table)
    table.set_defaults(run=_table)


def _surrogate(options: argparse.Namespace) -> int:
    spec = spec_of(options)

    from aspk.report.skill import skill_text, study_skill, write_skill_figure
    from aspk.study.storage import open_study
    from aspk.util.files import safe_name

    skills = study_skill(open_study(spec), draws=options.draws, seed=spec.seed, workers=options.workers)
    path = options.output or spec.folder / f"{safe_name(f'surrogate-{spec.name}')}.png"
    write_skill_figure(skills, path)
    show(f"{skill_text(skills)}\nwrote {path}")
    return 0


def _check_part(space: SearchSpace, whole: SearchSpace) -> None:
    """Check that every network of ``space`` is one of ``whole``."""
    if space.settings != whole.settings:
        raise TableError(f"[settings] of {space.name!r} differ from those of the supernet's {whole.name!r}")
    for x in space.networks():
        whole.encode(space.decode(x))


def _expected(space: SearchSpace, evaluators: Mapping[str, SupernetEvaluator]) -> str:
    """What a table will take, told by some of its networks; their results are kept for it."""
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


def _table(options: argparse.Namespace) -> int:
    spec = spec_of(options)

    import sys
    from dataclasses import asdict, replace

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
    _check_part(space, loaded.supernet.space)
    evaluators = {
        split: SupernetEvaluator(
            loaded.supernet, data, settings=replace(settings, split=split), energy_model=spec.energy
        )
        for split in options.splits
    }
    about = {
        "study": spec.name,
        "weights": loaded.fingerprint,
        "data": data.fingerprint(),
        "classes": data.classes,
        "evaluation": asdict(settings),
    }
    print(f"{options.output}: {_expected(space, evaluators)}", flush=True)
    if not build_table(space, evaluators, options.output, about=about, batch=options.batch):
        print("aspk: stopped; the same command goes on from what is saved", file=sys.stderr)
        return INTERRUPTED
    print(f"wrote {options.output}: {space.size:,} networks, {options.output.stat().st_size:,} bytes")
    return 0
