"""Reference pages that follow from the code: written when the documentation is built, never by hand."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path

from aspk.cli.main import command_parser
from aspk.energy import PRESETS, EnergyModel
from aspk.objectives import OBJECTIVES
from aspk.space.genes import GENES, BlockConfig, SubnetConfig
from aspk.study.reference import reference_page
from aspk.util.wording import meanings

PACKAGES = {  # the public API, in the order of the listing in CONTRIBUTING.md
    "aspk": "What most people need; each name is documented below, in the module that defines it.",
    "aspk.space": None,
    "aspk.space.file": None,
    "aspk.objectives": None,
    "aspk.objectives.scalarization": None,
    "aspk.energy": None,
    "aspk.costs": None,
    "aspk.evaluation": None,
    "aspk.evaluation.supernet": None,
    "aspk.evaluation.exported": None,
    "aspk.profiling": None,
    "aspk.spec": None,
    "aspk.data": None,
    "aspk.families": None,
    "aspk.engines": None,
    "aspk.training": None,
    "aspk.standalone.export": None,
    "aspk.surrogate": None,
    "aspk.samplers": None,
    "aspk.problem": None,
    "aspk.tables": None,
    "aspk.study": None,
    "aspk.report": None,
    "aspk.testing": None,
    "aspk.errors": None,
}


def write(folder: Path) -> None:
    """Write all pages that have changed, so that an unchanged one is not read again."""
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Each page's text by its name."""
    return {
        "api": _api(),
        "commands": _commands(),
        "keys": reference_page(),
        "genes": _genes(),
        "objectives": _objectives(),
        "accounts": _accounts(),
    }


def _api() -> str:
    parts = ["# The Python API\n"]
    for name, note in PACKAGES.items():
        parts.append(f"## `{name}`\n")
        if note:  # names that are defined elsewhere
            listed = importlib.import_module(name)
            homes = {public: getattr(listed, public) for public in listed.__all__ if public[0] != "_"}
            parts.append(f"{note}\n")
            parts += [f"- `{name}.{public}` of `{found.__module__}`" for public, found in homes.items()]
            parts.append("")
        else:
            parts.append(
                f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :show-inheritance:\n```\n"
            )
    return "\n".join(parts)


def _commands() -> str:
    parser = command_parser()
    parts = ["# The commands\n", "As `aspk COMMAND --help` prints them.\n"]
    (subparsers,) = (action for action in parser._actions if hasattr(action, "_name_parser_map"))
    for name in parser.commands.examples:
        text = re.sub(r"\x1b\[[0-9;]*m", "", subparsers.choices[name].format_help())
        parts.append(f"## {name}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def _genes() -> str:
    meaning = {"depth": "number of blocks.", **meanings(SubnetConfig), **meanings(BlockConfig)}
    parts = [
        "# The genes\n",
        "What a search-space file may list choices for. Genes *of each block* go in `[block]`, where",
        "each block has its own value, or in `[network]`, where all blocks share one.\n",
        "| gene | values | of each block | meaning |",
        "|---|---|---|---|",
    ]
    for name, kind in GENES.items():
        block = "yes" if kind.per_block else ""
        values = ", ".join(f"`{word}`" for word in kind.words) or kind.type.__name__
        parts.append(f"| `{name}` | {values} | {block} | {_cell(meaning.get(name, ''))} |")
    return "\n".join(parts) + "\n"


def _objectives() -> str:
    parts = [
        "# The objectives\n",
        "Names for `objectives` in a study file, besides `f_aeb` ([F_AEB](../f_aeb.md)); those to minimise",
        "may also be used in `[constraints]`. Your own takes one line: {class}`aspk.objectives.Objective`.\n",
        "| name | direction |",
        "|---|---|",
    ]
    parts += [f"| `{item.name}` | {item.direction} |" for item in OBJECTIVES.values()]
    return "\n".join(parts) + "\n"


def _accounts() -> str:
    fields = [field.name for field in dataclasses.fields(EnergyModel) if field.name != "name"]
    parts = [
        "# The energy accounts\n",
        "What each preset sets; [Energy](../energy.md) has formulas and sources.\n",
    ]
    parts.append("| key | " + " | ".join(f"`{name}`" for name in PRESETS) + " |")
    parts.append("|---" * (len(PRESETS) + 1) + "|")
    for name in fields:
        values = [getattr(model, name) for model in PRESETS.values()]
        parts.append(f"| `{name}` | " + " | ".join(str(value) for value in values) + " |")
    parts += ["", "## What the keys mean", ""]
    parts += [f"- `{name}`: {_cell(text)}" for name, text in meanings(EnergyModel).items()]
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table: one line, code in single backquotes."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")
