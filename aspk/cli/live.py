"""Commands for studies that live: reproduce, dashboard, optuna, and the evaluation of one running trial."""

from __future__ import annotations

import argparse

from aspk.cli.arguments import selection_arguments, spec_of, study_arguments, whole_number
from aspk.cli.commands import Commands, Group


def add_live_commands(commands: Commands) -> None:
    """Add ``reproduce``, ``dashboard`` and ``optuna``."""
    reproduce = commands.add(
        "reproduce",
        Group.TRUST,
        help="search again; report the first difference",
        example="aspk reproduce digits",
    )
    study_arguments(reproduce, sampler=True, device=True)
    reproduce.set_defaults(run=_reproduce)

    dashboard = commands.add(
        "dashboard",
        Group.SEARCH,
        help="show a study in optuna-dashboard",
        example="aspk dashboard digits --port 0",
    )
    study_arguments(dashboard, sampler=True, device=True)
    selection_arguments(dashboard)
    dashboard.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    dashboard.add_argument(
        "--port", type=whole_number(0, 65535), default=8080, help="0 takes a free one (default: 8080)"
    )
    dashboard.add_argument("--no-models", dest="models", action="store_false", help="export no models")
    dashboard.set_defaults(run=_dashboard)

    # No option is ours, --help included: with another prefix than "-", all is handed on.
    stock = commands.add(
        "optuna",
        Group.OTHER,
        help="Optuna's own command line, with aspk's samplers",
        example="aspk optuna best-trials --storage sqlite:///runs/digits/study.db --study-name digits",
        add_help=False,
        prefix_chars="\N{NULL}",
    )
    stock.add_argument("arguments", nargs=argparse.REMAINDER)
    stock.set_defaults(run=_optuna)


def evaluate_trial_command(options: argparse.Namespace) -> int:
    """``aspk evaluate --study STUDY --trial N``: print what to tell."""
    spec = spec_of(options)

    from aspk.study import evaluate_trial, load_problem
    from aspk.study.storage import running_trial

    trial = running_trial(spec, options.trial)  # before the supernet is loaded
    print(*evaluate_trial(trial, load_problem(spec, device=options.device)))
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


def _dashboard(options: argparse.Namespace) -> int:
    spec = spec_of(options)

    from aspk.report.dashboard import show

    return show(
        spec,
        host=options.host,
        port=options.port,
        models=options.models,
        device=options.device,
        selection=options.select,
        margin=options.margin,
    )


def _optuna(options: argparse.Namespace) -> int:
    from aspk.cli.stock import run_optuna

    return run_optuna(options.arguments)
