"""The commands that say how far results can be trusted: ``aspk rank``, ``reproduce`` and ``surrogate``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from aspk.cli.arguments import (
    device_argument,
    spec_of,
    study_arguments,
    whole_number,
    with_recipe,
)
from aspk.cli.commands import INTERRUPTED, Commands, Group, typed
from aspk.cli.terminal import show
from aspk.util.files import safe_name

_OF_TRAININGS, _OF_TABLES = ("networks", "twice", "workers", "recipe"), ("draws",)


def add_trust_commands(commands: Commands) -> None:
    """Add ``rank``, ``reproduce`` and ``surrogate``."""
    rank = commands.add(
        "rank",
        Group.TRUST,
        help="measure whether a supernet's ranking can be trusted",
        example="aspk rank digits --networks 24 --workers 2",
    )
    rank.add_argument(
        "study",
        help="a study file, or the name of a shipped one; or a table of trained networks (NAME.npz, or a "
        "shipped one's name), which is then the ground truth",
    )
    device_argument(rank)
    whole, most = whole_number, 10_000
    rank.add_argument("--networks", type=whole(4, most), help="networks to train alone (default: 24)")
    rank.add_argument("--twice", type=whole(0, most), help="networks trained with a second seed (default: 4)")
    rank.add_argument("--workers", type=whole(1, 1000), help="networks trained in parallel (default: 1)")
    rank.add_argument(
        "--draws", type=whole(1, most), help="with a table: random draws of trained networks (default: 30)"
    )
    rank.add_argument("--recipe", help="a recipe instead of the study's [retrain]: cpu, paper, FILE")
    rank.add_argument("--output", type=Path, help="the folder (default: FOLDER/rank)")
    rank.set_defaults(run=lambda options: _rank_by(options, rank.error))

    reproduce = commands.add(
        "reproduce",
        Group.TRUST,
        help="search again; report the first difference",
        example="aspk reproduce digits",
    )
    study_arguments(reproduce, sampler=True, device=True)
    reproduce.set_defaults(run=_reproduce)

    surrogate = commands.add(
        "surrogate",
        Group.TRUST,
        help="measure how well a surrogate predicts a study's trials",
        example="aspk surrogate digits --draws 30",
    )
    study_arguments(surrogate, sampler=True)
    surrogate.add_argument(
        "--draws", type=whole_number(1, 10_000), default=10, help="training sets of each size (default: 10)"
    )
    surrogate.add_argument(
        "--workers", type=whole_number(1), default=1, help="fits run in parallel (default: 1)"
    )
    surrogate.add_argument(
        "--output", type=Path, metavar="FILE", help="the figure to write (default: FOLDER/surrogate-NAME.png)"
    )
    surrogate.set_defaults(run=_surrogate)


def _rank_by(options: argparse.Namespace, usage: Callable[[str], NoReturn]) -> int:
    from aspk.tables.table import shipped_trained_tables

    table = options.study.endswith(".npz") or options.study in shipped_trained_tables()
    for name in _OF_TRAININGS if table else _OF_TABLES:
        if getattr(options, name) is not None:
            usage(f"--{name} is for {'studies' if table else 'tables of trained networks'}")
    return _rank_by_table(options) if table else _rank(options)


def _rank_by_table(options: argparse.Namespace) -> int:
    from aspk.report.calibration import calibration_markdown, write_calibration
    from aspk.standalone.calibration import rank_table
    from aspk.tables import TrainedTable
    from aspk.util.files import write_atomically

    report = rank_table(TrainedTable(options.study), draws=options.draws or 30)
    print(calibration_markdown(report))
    if options.output is not None:
        write_calibration(report, options.output)
        write_atomically(options.output / "calibration.json", json.dumps(report, indent=1) + "\n")
        print(f"wrote calibration.json, calibration.md and calibration.png in {options.output}")
    return 0


def _rank(options: argparse.Namespace) -> int:
    spec = with_recipe(spec_of(options), options.recipe)

    from aspk.engines.device import resolve_device
    from aspk.report.ranking import ranking_markdown, write_ranking
    from aspk.space.file import load_space
    from aspk.standalone.ranking import RankingStudy, rank
    from aspk.util.files import write_atomically

    folder = options.output or spec.folder / "rank"
    report = rank(
        RankingStudy(
            space=load_space(spec.space),
            data=spec.data,
            weights=spec.weights_file,
            recipe=spec.retrain,
            evaluation=spec.evaluation,
            energy=spec.energy,
            folder=folder,
            networks=24 if options.networks is None else options.networks,
            twice=4 if options.twice is None else options.twice,
            seed=spec.seed,
            workers=options.workers or 1,
            device=resolve_device(options.device).type,
        )
    )
    if report is None:
        print(f"saved; go on with: {typed()}", file=sys.stderr)
        return INTERRUPTED
    text = json.dumps(report, indent=1) + "\n"
    write_ranking(report, folder)
    write_atomically(folder / "rank.json", text)
    beside = spec.weights_file.parent / "rank.json"  # where searches and reports look for it
    try:
        write_atomically(beside, text)
    except OSError as error:  # weights where we cannot write, such as an installed package
        print(f"searches will not know the verdict: cannot write {beside}: {error}", file=sys.stderr)
    print(ranking_markdown(report))
    print(f"wrote rank.json, rank.md and rank.png in {folder}")
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    spec = spec_of(options)

    from aspk.study import load_problem, reproduce
    from aspk.study.storage import open_study

    study = open_study(spec)
    found = reproduce(study, spec, load_problem(spec, device=options.device))
    for change in found.versions:
        print(change)
    if found.difference is not None:
        print(f"{spec.name}: {found.trials} trials are the same, then {found.difference}")
        return 1
    print(f"{spec.name}: all {found.trials} trials are the same")
    return 0


def _surrogate(options: argparse.Namespace) -> int:
    spec = spec_of(options)

    from aspk.report.skill import skill_text, study_skill, write_skill_figure
    from aspk.study.storage import open_study

    skills = study_skill(open_study(spec), draws=options.draws, seed=spec.seed, workers=options.workers)
    path = options.output or spec.folder / f"{safe_name(f'surrogate-{spec.name}')}.png"
    write_skill_figure(skills, path)
    show(f"{skill_text(skills)}\nwrote {path}")
    return 0
