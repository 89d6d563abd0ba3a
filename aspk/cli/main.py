"""The command line: ``aspk train``, ``search``, ``report``, ``export`` and their helpers.

Commands import what they need when they run, so that ``aspk --help`` is fast.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO, cast

from aspk import __version__
from aspk.cli.commands import INTERRUPTED, Commands, GroupedParser
from aspk.cli.energy import add_energy_command
from aspk.cli.networks import add_network_commands
from aspk.cli.other import add_other_commands
from aspk.cli.prepare import add_prepare_commands
from aspk.cli.retrain import add_retrain_command
from aspk.cli.search import add_search_commands
from aspk.cli.trust import add_trust_commands
from aspk.errors import AspkError, StudyError
from aspk.util.text import PlainStream

_STORAGE_LIBRARIES = ("optuna", "sqlalchemy", "sqlite3", "psycopg", "grpc")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; None takes the process's own.

    Returns:
        The exit code: 0, 1 for an error (printed), 2 for wrong usage, 130 if interrupted.
    """
    options = command_parser().parse_args(arguments)
    with _plain_warnings():
        return reported(lambda: int(options.run(options)))


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show aspk's own warnings without the source line that Python adds to each."""
    shown, package = warnings.showwarning, str(Path(__file__).parent.parent)

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if filename.startswith(package):
            print(f"aspk: {message}", file=sys.stderr)
        else:
            shown(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def reported(command: Callable[[], int]) -> int:
    """Run a command; its errors, interruptions and closed pipes end in a message and an exit code.

    Whatever it prints is plain text, wherever the names in it come from.
    """
    with redirect_stdout(_plain(sys.stdout)), redirect_stderr(_plain(sys.stderr)):
        return _reported(command)


def _plain(stream: TextIO) -> TextIO:
    return cast(TextIO, PlainStream(stream))


def _reported(command: Callable[[], int]) -> int:
    try:
        return command()
    except KeyboardInterrupt:
        print("aspk: stopped; the same command goes on from what is saved", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as 'head', has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (AspkError, OSError) as error:
        print(f"aspk: error: {error}", file=sys.stderr)
        if isinstance(error, AspkError):
            print(f"aspk: see {error.page}", file=sys.stderr)
        return 1
    except Exception as error:
        if _is_memory(error):
            shortage = str(error).partition("\n")[0] or "out of memory"
            print(f"aspk: error: {shortage}; take fewer images at once, or smaller ones", file=sys.stderr)
            return 1
        if type(error).__module__.partition(".")[0] not in _STORAGE_LIBRARIES:
            raise
        from aspk.study.retry import reason

        print(f"aspk: error: the study's storage failed: {reason(error)}", file=sys.stderr)
        return 1


def _is_memory(error: Exception) -> bool:
    """Whether memory ran out, on this machine or on its GPU; PyTorch has no class for the former."""
    kind = type(error).__name__
    return kind in ("MemoryError", "OutOfMemoryError", "_ArrayMemoryError") or (
        kind == "RuntimeError" and "can't allocate memory" in str(error)
    )


def command_parser() -> GroupedParser:
    """The parser of the command line."""
    parser = GroupedParser(
        prog="aspk",
        usage="aspk COMMAND ...",
        description="Multi-objective search for spiking transformers on Optuna and pymoo.\n"
        "To start: aspk train digits; aspk search digits; aspk report digits",
        epilog="'aspk COMMAND --help' shows a command's options and an example.",
    )
    parser.add_argument("--version", action="version", version=f"aspk {__version__}")
    parser.set_defaults(run=lambda _: print(parser.format_help(), end="") or 0)
    commands = parser.commands
    add_prepare_commands(commands)
    add_search_commands(commands)
    add_network_commands(commands)
    add_retrain_command(commands)
    add_energy_command(commands)
    add_trust_commands(commands)
    add_other_commands(commands, parser)
    _add_headline(commands)
    return parser


def _add_headline(commands: Commands) -> None:
    headline = commands.add_hidden("headline")
    headline.add_argument("arguments", nargs=argparse.REMAINDER)
    headline.set_defaults(run=_headline)


def _headline(_: argparse.Namespace) -> int:
    raise StudyError(
        "'aspk headline' has left the package, since it is an experiment; in a checkout of aspk, run "
        "'python -m benchmarks.comparison cifar10_16'"
    )
