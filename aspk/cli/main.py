"""The command line: ``aspk train``, ``search``, ``report``, ``export`` and their helpers.

Commands import what they need when they run, so that ``aspk --help`` is fast.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import TextIO, cast

from aspk import __version__
from aspk.cli.arguments import (
    refined_argument,
    selection_arguments,
    study_words,
    time_of_day,
    whole_number,
)
from aspk.cli.arguments import spec_of as _spec
from aspk.cli.arguments import study_arguments as _study_arguments
from aspk.cli.commands import INTERRUPTED, Commands, Group, GroupedParser
from aspk.cli.completion import add_completion_command
from aspk.cli.energy import add_energy_command
from aspk.cli.live import add_live_commands
from aspk.cli.models import add_model_commands
from aspk.cli.schema import add_schema_command
from aspk.cli.search import add_search_commands
from aspk.cli.spaces import add_space_command
from aspk.cli.terminal import show
from aspk.cli.training import add_training_commands
from aspk.errors import AspkError, StudyError
from aspk.util.files import safe_name
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
    """Warnings of aspk's own, without the line of source that Python shows with each."""
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

    Whatever it prints is plain text, whoever gave the names in it.
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
    except BrokenPipeError:  # the reader of our output, 'head' say, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (AspkError, OSError) as error:
        print(f"aspk: error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if _is_memory(error):
            shortage = str(error).partition("\n")[0] or "no more memory"
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
        "To begin with: aspk train digits; aspk search digits; aspk report digits",
        epilog="'aspk COMMAND --help' shows a command's options and an example.",
    )
    parser.add_argument("--version", action="version", version=f"aspk {__version__}")
    parser.set_defaults(run=lambda _: print(parser.format_help(), end="") or 0)
    commands = parser.commands

    add_space_command(commands)

    train = commands.add(
        "train",
        Group.PREPARE,
        help="train a study's supernet, or go on training it",
        example="aspk train cifar10 --download --check 20",
    )
    _study_arguments(train, sampler=False, device=True)
    train.add_argument(
        "--download", action="store_true", help="download the study's data set if it is missing"
    )
    train.add_argument("--recipe", help="a recipe instead of the study's [train]: cpu, paper, sandwich, FILE")
    train.add_argument(
        "--check",
        type=whole_number(0, 100_000),
        default=0,
        metavar="N",
        help="then evaluate N random networks",
    )
    train.add_argument(
        "--until", type=time_of_day, metavar="HH:MM", help="save and stop at this time, today or tomorrow"
    )
    train.add_argument(
        "--tensorboard",
        action="store_true",
        help="write loss, norm of the gradient, accuracies and firing rates into FOLDER/tensorboard",
    )
    train.set_defaults(run=_train)

    search = commands.add(
        "search",
        Group.SEARCH,
        help="search, or go on searching",
        example="aspk search digits --sampler nsga2 --evaluations 300",
    )
    _study_arguments(search, sampler=True, device=True)
    search.add_argument(
        "--evaluations", type=whole_number(1, 10**9), help="networks to evaluate, instead of the study file's"
    )
    search.set_defaults(run=_search)

    report = commands.add(
        "report",
        Group.SEARCH,
        help="write a study's Pareto table, figures and HTML page",
        example="aspk report digits --select knee --output report",
    )
    _study_arguments(report, sampler=True)
    refined_argument(report)
    report.add_argument("--output", type=Path, help="the folder to write to (default: FOLDER/report-NAME)")
    selection_arguments(report)
    report.add_argument("--trials", type=whole_number(0), nargs="+", help="trials whose layers are shown")
    report.set_defaults(run=_report)

    compare = commands.add(
        "compare",
        Group.SEARCH,
        help="compare samplers on one study file, or several studies",
        example="aspk compare digits own.toml --html studies.html",
    )
    compare.add_argument("studies", nargs="+", metavar="study", help="study files, or names of shipped ones")
    compare.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with the studies side by side"
    )
    compare.set_defaults(run=_compare)

    add_energy_command(commands)
    add_model_commands(commands)
    add_training_commands(commands, _again)
    _add_headline(commands)
    add_live_commands(commands)
    add_search_commands(commands)
    add_schema_command(commands)
    add_completion_command(commands, parser)
    return parser


def _add_headline(commands: Commands) -> None:
    headline = commands.add_hidden("headline")
    headline.add_argument("arguments", nargs=argparse.REMAINDER)
    headline.set_defaults(run=_headline)


def _headline(_: argparse.Namespace) -> int:
    raise StudyError(
        "'aspk headline' has left the package, since it is an experiment: in a checkout of aspk run "
        "'make baseline' or 'python -m benchmarks.baseline fashion_mnist'"
    )


def _again() -> str:
    return "aspk " + shlex.join(sys.argv[1:])


# ---------------------------------------------------------------------- commands


def _train(options: argparse.Namespace) -> int:
    spec = _spec(options)

    from aspk.data import load_data
    from aspk.engines.device import resolve_device
    from aspk.space.file import load_space
    from aspk.spec.recipe import load_recipe
    from aspk.training import train_supernet
    from aspk.training.processes import processes

    device = resolve_device(options.device)
    with processes(device) as together:
        data = load_data(spec.data, download=options.download) if together.first else None
        together.wait()  # for what the first one downloads
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
        again = _again() if together.count == 1 else "the same command"
        print(f"saved at update {result.updates}; go on with: {again}", file=sys.stderr)
        planned = options.until is not None and datetime.now().astimezone() >= options.until
        return 0 if planned else INTERRUPTED
    print(f"trained {result.updates} updates: {result.weights}")
    if result.weights != spec.weights_file:
        print(f"the study's searches use {spec.weights_file}; take 'weights' out of its file to use these")
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


def _search(options: argparse.Namespace) -> int:
    from dataclasses import replace

    spec = _spec(options)
    if options.evaluations is not None:
        spec = replace(spec, evaluations=options.evaluations)

    from aspk.report import pareto_text, select, selection_text, statistics_text, summarise
    from aspk.study import load_problem, run_study

    problem = load_problem(spec, device=options.device)
    print(problem.verdict)
    reference, faeb = problem.reference, problem.faeb
    print(f"{spec.name}: reference network {reference.accuracy:.4f} at {reference.energy_mj:.3g} mJ")
    print(f"F_AEB ({faeb.form}): {faeb.trade()}")
    result = run_study(spec, problem)
    summary = summarise(result.study)
    show(pareto_text(summary))
    print(selection_text(select(summary)))
    print(statistics_text(summary))
    if not result.finished:
        print(f"{result.evaluations} of {spec.evaluations} done; go on with: {_again()}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _report(options: argparse.Namespace) -> int:
    spec = _spec(options)

    from aspk.report import (
        pareto_text,
        select,
        selection_text,
        statistics_text,
        summarise,
        write_report,
    )
    from aspk.study.storage import open_study, record_verdict, statistics_of, studies_of, verdict_of

    study = open_study(spec)
    statistics = statistics_of(study) or spec.evaluation.statistics
    if not options.refined:  # whose trials say nothing by the supernet's weights
        record_verdict(study, verdict_of(spec, statistics))  # 'aspk rank' may have run since the search
    folder = options.output or spec.folder / safe_name(f"report-{spec.name}")
    others = [other for other in studies_of(spec) if other.study_name != spec.name]
    marked = {"selection": options.select, "margin": options.margin}
    write_report(
        study,
        folder,
        trials=options.trials,
        others=others,
        **marked,
        trained=spec.folder,
        command=study_words(options),
    )
    summary = summarise(study)
    selection = select(summary, options.select, margin=options.margin)
    lines = [pareto_text(summary, selection), selection_text(selection), statistics_text(summary)]
    show("\n".join(line for line in (*lines, summary.verdict) if line))
    print(f"wrote {folder / 'report.html'}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    specs = [_spec(argparse.Namespace(study=study)) for study in options.studies]

    from aspk.report import StudySummary, compare_text, summarise, write_comparison
    from aspk.study.storage import studies_of

    found: dict[tuple[str, str], StudySummary] = {}
    for name, spec in zip(options.studies, specs, strict=True):
        studies = studies_of(spec)
        if not studies:
            raise StudyError(f"no study of {name!r} in its storage; run 'aspk search {name}'")
        found |= {(spec.storage_url, study.study_name): summarise(study) for study in studies}
    show(compare_text(list(found.values())))
    if options.html is not None:
        write_comparison(list(found.values()), options.html)
        print(f"wrote {options.html}")
    return 0
