"""``python -m benchmarks.baseline``: search, train what was found and the hand-made network, compare."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna

from aspk.cli.arguments import device_argument
from aspk.cli.commands import INTERRUPTED
from aspk.cli.main import reported
from benchmarks.baseline import load_comparison, publish, run_comparison


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, or resume it; the exit code is 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baseline", description=__doc__)
    parser.add_argument("comparison", help="a comparison's file, or the name of one beside this file")
    parser.add_argument(
        "--quick", action="store_true", help="tiny budgets in a folder of its own: only whether it runs"
    )
    parser.add_argument(
        "--publish",
        type=Path,
        metavar="FOLDER",
        help="put the write-up between the marks of FOLDER/README.md",
    )
    device_argument(parser)
    options = parser.parse_args(arguments)
    return reported(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # our progress bars say what its INFO lines do
    written = run_comparison(load_comparison(options.comparison, quick=options.quick), device=options.device)
    if written is None:
        again = shlex.join(["python", "-m", "benchmarks.baseline", *sys.argv[1:]])
        print(f"saved; go on with: {again}", file=sys.stderr)
        return INTERRUPTED
    print(written.read_text(encoding="utf-8"))
    if options.publish is not None:
        publish(written, options.publish)
        print(f"put into {options.publish / 'README.md'}")
    print(f"wrote comparison.md, comparison.json and comparison.png in {written.parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
