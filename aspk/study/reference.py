"""The keys of files, as JSON schemas for editors and as a page of the documentation."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from typing import Any, NamedTuple

import msgspec

from aspk.energy.presets import account_table
from aspk.space.file import space_table
from aspk.spec.recipe import recipe_table
from aspk.spec.samplers import SAMPLERS
from aspk.spec.study import study_table
from aspk.study.sampler import sampler_options
from aspk.util.schema import OTHERS, Key, Kind, Table
from aspk.util.wording import expectation

_DRAFT = "http://json-schema.org/draft-07/schema#"  # the newest that Taplo knows, the TOML engine of editors
_BOUNDS = (sys.float_info.max, -sys.float_info.max)  # say no more than "finite"


class Document(NamedTuple):
    """A kind of file.

    Attributes:
        title: what the file holds.
        example: the name of a shipped one.
        table: its keys.
    """

    title: str
    example: str
    table: Table


def documents() -> dict[str, Document]:
    """All kinds of files that people write, by name."""
    study = dict(study_table())
    study["sampler"] = study["sampler"]._replace(table=_sampler_table(study["sampler"]))
    return {
        "study": Document("A study", "studies/digits.toml", study),
        "space": Document("A search space", "search_spaces/tiny.toml", space_table()),
        "recipe": Document("A recipe", "studies/recipes/sandwich.toml", recipe_table()),
        "energy": Document("An energy account", "docs/energy.md", account_table()),
    }


def _sampler_table(open_one: Key) -> Table:
    """``[sampler]`` with the options of all samplers; a study's own table takes any."""
    table = {name: key for name, key in (open_one.table or {}).items() if name != OTHERS}
    for sampler in SAMPLERS:
        for option, key in sampler_options(sampler).items():
            told, known = f"`{sampler}`: {key.meaning}", table.get(option, key)
            told = f"{known.meaning} {told}" if option in table else told
            default = key.default if key.default == known.default else None
            table[option] = key._replace(meaning=told, default=default)
    return table


# ---------------------------------------------------------------------- for editors


def json_schema(document: Document) -> dict[str, Any]:
    """The JSON schema, draft 7, of a kind of file: keys, types, ranges, defaults and meanings."""
    return {"$schema": _DRAFT, "title": document.title, **_object(document.table)}


def _object(table: Table) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _property(key) for name, key in table.items() if name != OTHERS},
        "required": [name for name, key in table.items() if name != OTHERS and key.default is MISSING],
        "additionalProperties": (_property(table[OTHERS]) or True) if OTHERS in table else False,
    }


def _property(key: Key) -> dict[str, Any]:
    forms = [] if key.kind is None else _forms(key.kind)
    forms += [] if key.table is None else [_object(key.table)]
    told = {"description": key.meaning} if key.meaning else {}
    default = list(key.default) if isinstance(key.default, tuple) else key.default
    known = {"default": default} if isinstance(default, str | int | float | list) else {}
    return {**(forms[0] if len(forms) == 1 else {"anyOf": forms}), **told, **known}


def _forms(kind: Kind) -> list[dict[str, Any]]:
    """The forms of a value in msgspec's schema; TOML has no null."""
    try:
        whole = msgspec.json.schema(kind)
    except TypeError:  # a function or an object, which no file can contain
        return [{}]
    forms = (_plain(form) for form in whole.get("anyOf", [whole]) if form != {"type": "null"})
    return list(forms)


def _plain(schema: Any) -> Any:  # noqa: ANN401  # whatever JSON holds
    """A schema without redundant parts: bounds of all finite numbers, the pattern of an enumeration."""
    if not isinstance(schema, dict):
        return [_plain(item) for item in schema] if isinstance(schema, list) else schema
    dropped = {"description", "pattern"} if "enum" in schema else {"description"}
    kept = {key: value for key, value in schema.items() if key not in dropped and value not in _BOUNDS}
    return {key: _plain(value) for key, value in kept.items()}


# ---------------------------------------------------------------------- for readers


def reference_page() -> str:
    """All keys as a page in Markdown."""
    files = documents()
    known = {
        id(document.table): f"[{document.title.lower()}](#{_anchor(document)})" for document in files.values()
    }
    parts = [_INTRODUCTION]
    for name, document in files.items():
        parts.append(f"## {document.title}\n")
        parts.append(_HEADS[name].format(example=document.example))
        parts += _tables(document.table, "", known)
    return "\n".join(parts)


_INTRODUCTION = """# The keys of files

Studies, search spaces, recipes and energy accounts are TOML files. A wrong key or value ends in a message
that names the file, the key and what was expected. This page follows from the code.

An editor completes keys and marks mistakes as you type: write the schema of a kind of file (`study`, `space`,
`recipe` or `energy`) beside your files,

```sh
aspk schema study --output study.schema.json
```

and name it in the file's first line. VS Code understands it with the extension *Even Better TOML* or *Tombi*,
other editors with the language servers [Taplo](https://taplo.tamasfe.dev) or
[Tombi](https://tombi-toml.github.io/tombi):

```toml
#:schema ./study.schema.json
space = "tiny"
data = "digits"
```
"""
_HEADS = {
    "study": "For example [`{example}`](../../{example}). Relative paths start from the file.\n",
    "space": "For example [`{example}`](../../{example}). Every gene without a default value needs choices, "
    "in `[network]` or in `[block]`, in ascending order.\n",
    "recipe": "For example [`{example}`](../../{example}); also `[train]` and `[retrain]` of a study. "
    "Defaults are those of `cpu`; another recipe brings its own.\n",
    "energy": "[Energy](../energy.md) has formulas and sources; also `[energy]` of a study. "
    "Defaults are those of `spikformer_paper`; another preset brings its own.\n",
}


def _anchor(document: Document) -> str:
    return document.title.lower().replace(" ", "-")


def _tables(table: Table, path: str, known: Mapping[int, str]) -> Iterator[str]:
    """The keys of a table, then those of the tables in it that have no chapter of their own."""
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    told = {"NAME" if name == OTHERS else name: key for name, key in table.items() if key.meaning}
    for name, key in told.items():
        values = [] if key.kind is None else [_expected(key.kind)]
        if key.table is not None:
            values.append(f"table, see {known.get(id(key.table), f'`[{path}{name}]` below')}")
        cells = (f"`{name}`", ", or ".join(values), _default(key), key.meaning)
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("**", "\\*\\*") for cell in cells) + " |"
    yield ""
    for name, key in told.items():
        if key.table is not None and id(key.table) not in known:
            yield f"### `[{path}{name}]`\n\n{key.meaning[:1].upper()}{key.meaning[1:]}\n"
            yield from _tables(key.table, f"{path}{name}.", known)


def _expected(kind: Kind) -> str:
    try:
        return expectation(kind)
    except TypeError:
        return ""


def _default(key: Key) -> str:
    if key.default is MISSING:
        return "required"
    return f"`{json.dumps(key.default)}`" if isinstance(key.default, str | int | float | tuple) else ""
