"""``aspk completion SHELL``: the script that completes aspk's command line in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from aspk.cli.commands import Commands, Group

_INSTALL = {  # what a shell's start-up file runs
    "bash": "source <(aspk completion bash)",
    "zsh": 'eval "$(aspk completion zsh)"',
    "fish": "aspk completion fish | source",
}
# Arguments that take a file, or the name of one that comes with aspk, and the folder that has it.
_SHIPPED = {"study": "studies", "studies": "studies", "network": "studies", "space": "search_spaces"}
_FUNCTION = {  # completes names and files
    "bash": '{name}() {{ compgen -W "{words}" -- "$1"; compgen -f -- "$1"; }}',
    "zsh": "{name}() {{ _alternative 'names:name:({words})' 'files:file:_files' }}",
    "fish": "function {name}; printf '%s\\n' {words}; __fish_complete_path (commandline -ct); end",
}


def add_completion_command(commands: Commands, parser: argparse.ArgumentParser) -> None:
    """Add ``completion``.

    Args:
        commands: the parser's commands.
        parser: what is completed.
    """
    completion = commands.add(
        "completion",
        Group.OTHER,
        help=f"print the script that completes commands in {', '.join(_INSTALL)}",
        example="\n  ".join(_INSTALL.values()),
    )
    completion.add_argument("shell", choices=tuple(_INSTALL), help="the shell whose start-up file runs this")
    completion.set_defaults(run=lambda options: _completion(parser, options.shell))


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
