"""The commands around training: ``aspk retrain``, ``aspk check`` and ``aspk rank``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from aspk.cli.arguments import (
    device_argument,
    refined_argument,
    selection_arguments,
    spec_of,
    study_arguments,
    whole_number,
)
from aspk.cli.commands import INTERRUPTED, Commands, Group
from aspk.cli.terminal import show

if TYPE_CHECKING:
    from aspk.spec.study import StudySpec
    from aspk.standalone.retraining import Retrained


def add_training_commands(commands: Commands, again: Callable[[], str]) -> None:
    """Add the commands to a parser's.

    Args:
        commands: the parser's commands.
        again: the command line as it was typed.
    """
    retrain = commands.add(
        "retrain",
        Group.NETWORKS,
        help="train found networks alone, and export them",
        example="aspk retrain digits --front --seeds 3",
    )
    study_arguments(retrain, sampler=True, device=True)
    refined_argument(retrain)
    which = retrain.add_mutually_exclusive_group()
    which.add_argument("--front", action="store_true", help="every network of the front")
    which.add_argument(
        "--trial", type=whole_number(0), action="append", help="this trial's network; may be repeated"
    )
    selection_arguments(retrain, which)
    retrain.add_argument(
        "--seeds", type=whole_number(1, 10_000), default=1, help="trainings of each network (default: 1)"
    )
    retrain.add_argument(
        "--workers", type=whole_number(1, 1000), default=1, help="trained side by side (default: 1)"
    )
    retrain.add_argument(
        "--from-scratch", action="store_true", help="start from fresh weights, not from the supernet's"
    )
    retrain.add_argument("--recipe", help="a recipe instead of the study's [retrain]: cpu, paper, FILE")
    retrain.add_argument("--output", type=Path, help="where exports go (default: FOLDER/retrained)")
    retrain.set_defaults(run=lambda options: _retrain(options, again))

    refine = commands.add(
        "refine",
        Group.SEARCH,
        help="train networks alone where it tells most, after a search",
        example="aspk refine digits --trainings 24 --workers 2",
    )
    study_arguments(refine, sampler=True, device=True)
    refine.add_argument(
        "--trainings",
        type=whole_number(2, 10**6),
        default=24,
        help="networks to train, the reference and those of earlier runs included (default: 24)",
    )
    refine.add_argument(
        "--workers", type=whole_number(1, 1000), default=1, help="trained side by side (default: 1)"
    )
    refine.add_argument(
        "--inherited", action="store_true", help="start from the supernet's weights, not from fresh ones"
    )
    refine.add_argument("--recipe", help="a recipe instead of the study's [retrain]: cpu, paper, FILE")
    refine.set_defaults(run=lambda options: _refine(options, again))

    check = commands.add(
        "check",
        Group.PREPARE,
        help="try a study out on generated images, and say what it will cost",
        example="aspk check cifar100 --batch 64",
    )
    study_arguments(check, sampler=True, device=True)
    check.add_argument(
        "--batch",
        type=whole_number(0, 10**6),
        help="images of a training step (default: the recipe's, 2 on a CPU)",
    )
    check.set_defaults(run=_check)

    rank = commands.add(
        "rank",
        Group.TRUST,
        help="measure whether a supernet's ranking can be trusted",
        example="aspk rank digits --networks 24 --workers 2",
    )
    rank.add_argument(
        "study",
        help="a study file, or the name of a shipped one; or a table of trained networks (NAME.npz, or a "
        "shipped one's name), which is then the truth",
    )
    device_argument(rank)
    whole, most = whole_number, 10_000
    rank.add_argument("--networks", type=whole(4, most), help="to train alone (default: 24)")
    rank.add_argument("--twice", type=whole(0, most), help="with a second seed (default: 4)")
    rank.add_argument("--workers", type=whole(1, 1000), help="trained side by side (default: 1)")
    rank.add_argument(
        "--draws", type=whole(1, most), help="of a table: choices of trained networks (default: 30)"
    )
    rank.add_argument("--recipe", help="a recipe instead of the study's [retrain]: cpu, paper, FILE")
    rank.add_argument("--output", type=Path, help="the folder (default: FOLDER/rank)")
    rank.set_defaults(run=lambda options: _rank_by(options, again, rank.error))


def _with_recipe(spec: StudySpec, recipe: str | None) -> StudySpec:
    from aspk.spec.recipe import load_recipe

    return spec if recipe is None else replace(spec, retrain=load_recipe(recipe))


def _retrain(options: argparse.Namespace, again: Callable[[], str]) -> int:
    from aspk.errors import StudyError
    from aspk.report import no_front_text, select, selection_text, summarise
    from aspk.standalone.retraining import retrain
    from aspk.study.storage import open_study

    spec = _with_recipe(spec_of(options), options.recipe)
    summary = summarise(open_study(spec))
    trials = options.trial or [row.number for row in summary.front]
    if not trials:
        raise StudyError(f"nothing to train in study {spec.name!r}: {no_front_text(summary)}")
    if not (options.trial or options.front):
        selection = select(summary, options.select, margin=options.margin)
        trials = [selection.chosen.row.number] if selection.chosen else []
        print(selection_text(selection))
    results = retrain(
        spec,
        trials,
        seeds=range(options.seeds),
        scratch=options.from_scratch,
        folder=options.output,
        workers=options.workers,
        device=options.device,
    )
    if results is None:
        print(f"saved; go on with: {again()}", file=sys.stderr)
        return INTERRUPTED
    show(_table(results))
    return 0


def _table(results: list[Retrained]) -> str:
    from aspk.report.tables import align

    header = ["trial", "seed", "start", "inherited", "search", "test"]
    header += ["mJ", "strict mJ", "predicted mJ", "export"]
    rows = [
        [
            str(item.trial),
            str(item.seed),
            "scratch" if item.scratch else "inherited",
            *(f"{value:.4f}" for value in (item.inherited, item.search, item.test)),
            *(f"{value:.3g}" for value in (item.energy_mj, item.strict_mj, item.predicted_mj)),
            str(item.folder),
        ]
        for item in results
    ]
    note = (
        "inherited and predicted mJ: what the search measured with the supernet's weights; "
        "energies are estimates from operation counts"
    )
    seeds = "" if len({item.seed for item in results}) == 1 else f"\n\n{_means(results)}"
    return f"{align(header, rows)}\n{note}{seeds}"


def _means(results: list[Retrained]) -> str:
    """Mean and standard deviation over the seeds of each network."""
    from statistics import mean, stdev

    from aspk.report.tables import align

    rows = []
    for name in dict.fromkeys(item.name for item in results):
        own = [item for item in results if item.name == name]
        cells = [name, str(len(own)), f"{own[0].inherited:.4f}"]
        for key, form in (("search", ".4f"), ("test", ".4f"), ("energy_mj", ".3g"), ("strict_mj", ".3g")):
            values = [getattr(item, key) for item in own]
            cells.append(f"{mean(values):{form}} ± {stdev(values):{form.replace('3', '2')}}")
        rows.append([*cells, f"{own[0].predicted_mj:.3g}"])
    header = ["network", "seeds", "inherited", "search", "test", "mJ", "strict mJ", "predicted mJ"]
    return align(header, rows)


def _refine(options: argparse.Namespace, again: Callable[[], str]) -> int:
    spec = _with_recipe(spec_of(options), options.recipe)

    from aspk.report import summarise
    from aspk.report.refined import refined_text
    from aspk.standalone.refining import TrainingEvaluator, refine

    result = refine(
        spec,
        trainings=options.trainings,
        workers=options.workers,
        inherited=options.inherited,
        device=options.device,
    )
    if result is None or not result.finished:
        print(f"saved; go on with: {again()}", file=sys.stderr)
        return INTERRUPTED
    job = TrainingEvaluator(spec, inherited=options.inherited).job
    show(refined_text(summarise(result.study), export_of=lambda config: job(config).record_file.parent))
    return 0


def _check(options: argparse.Namespace) -> int:
    from aspk.errors import TrainingError
    from aspk.study.dry_run import dry_run, dry_run_text

    if options.batch is not None and options.batch < 2:
        raise TrainingError(f"--batch {options.batch}: expected at least 2, for batch normalisation")
    print(dry_run_text(dry_run(spec_of(options), batch=options.batch, device=options.device)))
    return 0


_OF_TRAININGS, _OF_TABLES = ("networks", "twice", "workers", "recipe"), ("draws",)


def _rank_by(options: argparse.Namespace, again: Callable[[], str], usage: Callable[[str], NoReturn]) -> int:
    from aspk.tables.table import shipped_trained_tables

    table = options.study.endswith(".npz") or options.study in shipped_trained_tables()
    for name in _OF_TRAININGS if table else _OF_TABLES:
        if getattr(options, name) is not None:
            usage(f"--{name} is for {'studies' if table else 'tables of trained networks'}")
    return _rank_by_table(options) if table else _rank(options, again)


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


def _rank(options: argparse.Namespace, again: Callable[[], str]) -> int:
    spec = _with_recipe(spec_of(options), options.recipe)

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
        print(f"saved; go on with: {again()}", file=sys.stderr)
        return INTERRUPTED
    text = json.dumps(report, indent=1) + "\n"
    write_ranking(report, folder)
    write_atomically(folder / "rank.json", text)
    beside = spec.weights_file.parent / "rank.json"  # where searches and reports look for it
    try:
        write_atomically(beside, text)
    except OSError as error:  # weights in a place that is not ours, an installed package say
        print(f"searches will not know the verdict: cannot write {beside}: {error}", file=sys.stderr)
    print(ranking_markdown(report))
    print(f"wrote rank.json, rank.md and rank.png in {folder}")
    return 0
