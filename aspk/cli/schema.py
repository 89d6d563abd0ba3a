"""``aspk schema``: the JSON schema of a kind of file, with which editors complete keys and mark mistakes."""

from __future__ import annotations

import argparse
from pathlib import Path

from aspk.cli.commands import Commands, Group

_FILES = ("study", "space", "recipe", "energy")  # those of aspk.study.reference, which loads Optuna


def add_schema_command(commands: Commands) -> None:
    """Add ``schema``."""
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
        help="write it there, for files that begin with the line '#:schema ./FILE'; else it is printed",
    )
    schema.set_defaults(run=_schema)


def _schema(options: argparse.Namespace) -> int:
    import json

    from aspk.study.reference import documents, json_schema
    from aspk.util.files import write_atomically

    text = json.dumps(json_schema(documents()[options.file]), indent=2, ensure_ascii=False)
    if options.output is None:
        print(text)
    else:
        write_atomically(options.output, f"{text}\n")
    return 0
