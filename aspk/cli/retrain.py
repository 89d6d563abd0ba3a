"""``aspk retrain``: found networks, trained alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aspk.cli.arguments import (
    margin_of,
    refined_argument,
    selection_arguments,
    spec_of,
    study_arguments,
    whole_number,
    with_recipe,
)
from aspk.cli.commands import INTERRUPTED, Commands, Group, typed
from aspk.cli.terminal import show
from aspk.errors import StudyError

if TYPE_CHECKING:
    from aspk.standalone.retraining import Retrained


def add_retrain_command(commands: Commands) -> None:
    """Add ``retrain``."""
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
        "--workers", type=whole_number(1, 1000), default=1, help="networks trained in parallel (default: 1)"
    )
    retrain.add_argument(
        "--from-scratch", action="store_true", help="start from fresh weights, not from the supernet's"
    )
    retrain.add_argument("--recipe", help="a recipe instead of the study's [retrain]: cpu, paper, FILE")
    retrain.add_argument("--output", type=Path, help="where to write the exports (default: FOLDER/retrained)")
    retrain.set_defaults(run=_retrain, usage=retrain.error)


def _retrain(options: argparse.Namespace) -> int:
    margin = margin_of(options, named=bool(options.trial or options.front))
    from aspk.report import no_front_text, select, selection_text, summarise
    from aspk.standalone.retraining import retrain
    from aspk.study.storage import open_study

    spec = with_recipe(spec_of(options), options.recipe)
    summary = summarise(open_study(spec))
    trials = options.trial or [row.number for row in summary.front]
    if not trials:
        raise StudyError(f"nothing to train in study {spec.name!r}: {no_front_text(summary)}")
    if not (options.trial or options.front):
        selection = select(summary, options.select, margin=margin)
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
        print(f"saved; go on with: {typed()}", file=sys.stderr)
        return INTERRUPTED
    show(_retrained_text(results))
    return 0


def _retrained_text(results: list[Retrained]) -> str:
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
    return f"{align(header, rows)}\n± is the standard deviation over the seeds"
