"""``python -m benchmarks.comparison``: tune, search, name, train and compare; the same command resumes."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna
import torch

from aspk.cli.arguments import device_argument, whole_number
from aspk.cli.commands import INTERRUPTED
from aspk.cli.main import reported
from benchmarks.comparison.plan import load_plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, or resume it; the exit code is 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparison", description=__doc__)
    parser.add_argument("comparison", help="a comparison's file, or the name of one beside this file")
    parser.add_argument(
        "--quick", action="store_true", help="tiny budgets in a folder of its own: only whether it runs"
    )
    parser.add_argument(
        "--hours", action="store_true", help="time a few steps, and print the core-hours that are planned"
    )
    parser.add_argument(
        "--data-folder",
        default=os.environ.get("ASPK_DATA"),
        help="a folder with the data sets, if they are not where the studies say (default: $ASPK_DATA)",
    )
    parser.add_argument(
        "--workers", type=whole_number(1, 1000), default=1, help="networks trained in parallel (default: 1)"
    )
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument(
        "--family",
        metavar="NAME",
        help="only the searches of this family, which may run beside a process for another one",
    )
    alone.add_argument(
        "--supernets-front",
        metavar="NAME",
        help="ablation: train the front of this family's supernet, as many networks as refinement found",
    )
    parser.add_argument(
        "--publish", type=Path, metavar="FOLDER", help="write the result into this folder, too"
    )
    device_argument(parser)
    options = parser.parse_args(arguments)
    return reported(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # our progress bars say what its INFO lines do
    plan = load_plan(options.comparison, quick=options.quick, data_folder=options.data_folder)
    if options.hours:
        from benchmarks.comparison.hours import hours_text

        print(hours_text(plan))
        return 0

    from benchmarks.comparison.ablation import train_supernets_front
    from benchmarks.comparison.analysis import analyse
    from benchmarks.comparison.bench import Bench
    from benchmarks.comparison.stages import run_searches, run_stages
    from benchmarks.comparison.write_up import write_files

    torch.set_num_threads(1)  # of this process: networks are trained side by side, and cost no less for it
    bench = Bench.of(plan, device=options.device, workers=options.workers)
    if only := options.supernets_front or options.family:
        finished = (
            train_supernets_front(bench, only) if options.supernets_front else run_searches(bench, only)
        )
    else:
        finished = run_stages(bench)
    if not finished:
        again = shlex.join(["python", "-m", "benchmarks.comparison", *sys.argv[1:]])
        print(f"saved; go on with: {again}", file=sys.stderr)
        return INTERRUPTED
    if only:
        print(f"{only}: done, and in {plan.records}; the command goes on without this option")
        return 0
    content = analyse(bench)
    written = [
        write_files(content, folder, name=plan.name) for folder in (plan.folder, options.publish) if folder
    ]
    print(written[0].read_text(encoding="utf-8"))
    for file in written:
        print(f"wrote {file}, and the figure and the record beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
