"""The parser of the command line: commands in groups, each with an example in its help."""

from __future__ import annotations

import argparse
import shlex
import sys
from enum import StrEnum
from typing import Any

INTERRUPTED = 130  # the shell's code for Ctrl-C


class Group(StrEnum):
    """Groups of commands, in the order in which the help shows them."""

    PREPARE = "prepare a study"
    SEARCH = "search"
    NETWORKS = "use the networks found"
    ENERGY = "account for energy"
    TRUST = "check how far results can be trusted"
    OTHER = "other"


class Commands:
    """The commands of a parser.

    Attributes:
        examples: an example of each, by name.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(
            metavar="COMMAND", prog=parser.prog, parser_class=argparse.ArgumentParser
        )
        self._lines: dict[Group, list[str]] = {group: [] for group in Group}
        self.examples: dict[str, str] = {}

    def add(
        self,
        name: str,
        group: Group,
        *,
        help: str,
        example: str,
        **options: Any,  # noqa: ANN401 - whatever a parser takes
    ) -> argparse.ArgumentParser:
        """Add a command.

        Args:
            name: what is typed.
            group: where the help shows it.
            help: what it does, in half a line.
            example: a command line that shows it.
            options: of the command's parser.
        """
        self._lines[group].append(f"  {name:11}{help}")
        self.examples[name] = example
        return self._parsers.add_parser(
            name,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )

    def add_hidden(self, name: str) -> argparse.ArgumentParser:
        """Add a command that the help does not show."""
        return self._parsers.add_parser(name)

    def text(self) -> str:
        """The list of all commands."""
        return "\n\n".join("\n".join([f"{group}:", *lines]) for group, lines in self._lines.items())


class GroupedParser(argparse.ArgumentParser):
    """A parser whose help shows its commands in their groups."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - as above
        super().__init__(**options)
        self.commands = Commands(self)

    def format_help(self) -> str:
        """The help's text."""
        return f"{self.format_usage()}\n{self.description}\n\n{self.commands.text()}\n\n{self.epilog}\n"


def typed() -> str:
    """The command line as it was typed, for messages that say how to continue."""
    return f"aspk {shlex.join(sys.argv[1:])}"
