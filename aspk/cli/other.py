"""Further commands: ``aspk optuna``, ``table``, ``schema`` and ``completion``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from aspk.cli.commands import Commands, Group
from aspk.cli.tables import add_table_command

_FILES = ("study", "space", "recipe", "energy")  # as in aspk.study.reference, which imports Optuna

_INSTALL = {  # what a shell's start-up file runs
    "bash": "source <(aspk completion bash)",
    "zsh": 'eval "$(aspk completion zsh)"',
    "fish": "aspk completion fish | source",
}

# Arguments that take a file, or the name of one that comes with aspk, and the folder it is in.
_SHIPPED = {"study": "studies", "studies": "studies", "network": "studies", "space": "search_spaces"}

_FUNCTION = {  # completes names and files
    "bash": '{name}() {{ compgen -W "{words}" -- "$1"; compgen -f -- "$1"; }}',
    "zsh": "{name}() {{ _alternative 'names:name:({words})' 'files:file:_files' }}",
    "fish": "function {name}; printf '%s\\n' {words}; __fish_complete_path (commandline -ct); end",
}


def add_other_commands(commands: Commands, parser: argparse.ArgumentParser) -> None:
    """Add the commands to a parser's.

    Args:
        commands: the parser's commands.
        parser: the parser to complete.
    """
    # None of the options is ours, not even --help: with a prefix other than "-", all are passed on.
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

    add_table_command(commands)

    schema = commands.add(
        "schema",
        Group.OTHER,
        help="the JSON schema of a kind of file, for editors",
        example="aspk schema study --output study.schema.json",
    )
    schema.add_argument("file", choices=_FILES, help="the kind of file")
    schema.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write it to FILE, for files that begin with the line '#:schema ./FILE' (default: print it)",
    )
    schema.set_defaults(run=_schema)

    completion = commands.add(
        "completion",
        Group.OTHER,
        help=f"print the script that completes commands in {', '.join(_INSTALL)}",
        example="\n  ".join(_INSTALL.values()),
    )
    completion.add_argument("shell", choices=tuple(_INSTALL), help="the shell whose start-up file runs this")
    completion.set_defaults(run=lambda options: _completion(parser, options.shell))


def _optuna(options: argparse.Namespace) -> int:
    from aspk.cli.stock import run_optuna

    return run_optuna(options.arguments)


def _schema(options: argparse.Namespace) -> int:

    from aspk.study.reference import documents, json_schema
    from aspk.util.files import write_atomically

    text = json.dumps(json_schema(documents()[options.file]), indent=2, ensure_ascii=False)
    if options.output is None:
        print(text)
    else:
        write_atomically(options.output, f"{text}\n")
    return 0


def _completion(parser: argparse.ArgumentParser, shell: str) -> int:
    import shtab

    from aspk.util.shipped import shipped_files

    for action in _actions(parser):
        if action.dest in _SHIPPED:
            name = f"_aspk_{_SHIPPED[action.dest]}"
            action.complete = {shell: f"({name})" if shell == "fish" else name}  # type: ignore[attr-defined]  # shtab's
        elif action.type is Path or action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's
    functions = [
        _FUNCTION[shell].format(name=f"_aspk_{folder}", words=" ".join(shipped_files(folder)))
        for folder in dict.fromkeys(_SHIPPED.values())
    ]
    print(shtab.complete(parser, shell, preamble="\n".join(functions)))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action
