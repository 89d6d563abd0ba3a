"""The command that compares found networks with the hand-made one: ``aspk headline``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from aspk.arguments import device_argument

_INTERRUPTED = 130


def add_headline_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], again: Callable[[], str]
) -> None:
    """Add the command to a parser's.

    Args:
        commands: the parser's commands.
        again: the command line as it was typed.
    """
    headline = commands.add_parser(
        "headline", help="search, train what was found and the hand-made network alike, and compare"
    )
    headline.add_argument("headline", help="a headline file, or the name of a shipped one: fashion_mnist")
    headline.add_argument(
        "--quick", action="store_true", help="tiny budgets in a folder of its own: only whether it runs"
    )
    device_argument(headline)
    headline.set_defaults(run=lambda options: _headline(options, again))


def _headline(options: argparse.Namespace, again: Callable[[], str]) -> int:
    import optuna

    from aspk.headline import load_headline, run_headline

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # our progress bars say what its INFO lines do
    written = run_headline(load_headline(options.headline, quick=options.quick), device=options.device)
    if written is None:
        print(f"saved; go on with: {again()}", file=sys.stderr)
        return _INTERRUPTED
    print(written.read_text(encoding="utf-8"))
    print(f"wrote headline.md, headline.json and headline.png in {written.parent}")
    return 0
