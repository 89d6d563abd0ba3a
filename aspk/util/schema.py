"""What plain values may be, and uniform messages for those that are wrong.

The annotation of a dataclass's field says what it may be (``Share``, say), the class's docstring what it is
for. Both are the source of the checks (by msgspec) of what people write in files and scripts, the messages
about wrong values and keys, the reference of all keys, and the JSON schemas that editors complete from.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from aspk.errors import AspkError
from aspk.util.passwords import shown
from aspk.util.wording import alternatives, expectation, meanings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_FINITE = sys.float_info.max
_LONGEST = 300  # characters of a value that a message shows

Kind: TypeAlias = Any  # an annotation: a class, Annotated[...], a union

Natural = Annotated[int, Meta(ge=0, le=2**53)]  # up to here, a float holds every whole number exactly
Count = Annotated[int, Meta(ge=1, le=2**53)]
Number = Annotated[float, Meta(ge=-_FINITE, le=_FINITE)]
NonNegative = Annotated[float, Meta(ge=0, le=_FINITE)]
Positive = Annotated[float, Meta(gt=0, le=_FINITE)]
Share = Annotated[float, Meta(ge=0, le=1)]
Text = Annotated[str, Meta(pattern=r"^[^\x00]*$", description="a string without null characters")]


OTHERS = "*"  # in a table, any key that it does not name


class Key(NamedTuple):
    """A key of a table in a file.

    Attributes:
        kind: annotation of the values that it takes; None if it takes only a table.
        table: the keys of the table that it takes.
        default: its value if it is not given; ``dataclasses.MISSING`` if it is required.
        meaning: what it is for, in Markdown.
    """

    kind: Kind = None
    table: Mapping[str, Key] | None = None
    default: object = None
    meaning: str = ""


Table: TypeAlias = Mapping[str, Key]


def one_of(names: Iterable[str]) -> Meta:
    """Strings that must be one of some names, for names that are not literals in the code."""
    names = list(names)
    pattern = rf"^({'|'.join(map(re.escape, names))})\Z"
    return Meta(pattern=pattern, description=alternatives(names), extra_json_schema={"enum": names})


def table_of(cls: type[DataclassInstance]) -> Table:
    """A dataclass as a table of a file: its fields are the keys, its docstring gives their meaning."""
    kinds, told = _kinds(cls), meanings(cls)
    return {
        item.name: Key(kinds[item.name], None, _default(item), told.get(item.name, ""))
        for item in dataclasses.fields(cls)
    }


def _default(item: dataclasses.Field[Any]) -> object:
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def check_fields(instance: DataclassInstance, *, error: type[AspkError], at: str = "") -> None:
    """Refuse an instance of a dataclass with a value that the field's annotation does not allow.

    Args:
        instance: the instance, which is not changed.
        error: the class of error to raise.
        at: what a message says before the field's name.

    Raises:
        AspkError: of class ``error``, with the field, its value and what was expected.
    """
    for name, kind in _kinds(type(instance)).items():
        check_value(getattr(instance, name), kind, error=error, at=f"{at}{name}")


def check_table(
    table: Table, values: object, *, error: type[AspkError], at: str = "", above: Collection[str] = ()
) -> dict[str, Any]:
    """The plain values of a table, unchanged, after checking that the table allows all of them.

    Args:
        table: the keys.
        values: the content of a file, including its tables.
        error: the class of error to raise.
        at: what a message says before a key: ``"my.toml: "``, ``"train."`` or nothing.
        above: the file's top-level keys, which precede all tables.

    Raises:
        AspkError: of class ``error``: not a table, an unknown or missing key, or a wrong value.
    """
    if not isinstance(values, Mapping):
        place = f"{at.rstrip('.: ')} = " if at else ""
        raise error(f"{place}{_short(values)}: expected a table of {', '.join(table)}")
    for name, value in values.items():
        if name not in table and OTHERS not in table:
            raise error(unknown_key(name, value, table, at=at, above=above))
        kind, inner, *_ = table.get(name) or table[OTHERS]
        if inner is not None and isinstance(value, Mapping):
            check_table(inner, value, error=error, at=f"{at}{name}.", above=above or table)
        elif kind is not None and (inner is None or _fits(value, kind)):
            check_value(value, kind, error=error, at=f"{at}{name}")
        else:
            expected = "a table" if kind is None else f"{expectation(kind)}, or a table"
            raise error(f"{at}{name} = {_short(value)}: expected {expected} [{name}]")
    for name, key in table.items():
        if key.default is dataclasses.MISSING and name not in values:
            raise error(f"{at}{name} is missing: {key.meaning.rstrip('.')}")
    return dict(values)


def check_value(value: object, kind: Kind, *, error: type[AspkError], at: str) -> None:
    """Refuse a value that an annotation does not allow.

    Args:
        value: the value.
        kind: the annotation.
        error: the class of error to raise.
        at: what a message calls the value, for instance ``"my.toml: train.updates"``.

    Raises:
        AspkError: of class ``error``; for a list or a table, it names the item that is wrong.
    """
    if not _fits(value, kind):
        at, value, kind = _culprit(at, value, kind)
        raise error(f"{at} = {_short(value)}: expected {expectation(kind)}")


@contextmanager
def located(at: str) -> Iterator[None]:
    """Prefix the messages of aspk's errors with ``at``, for instance ``"my.toml: train."``."""
    try:
        yield
    except AspkError as error:
        raise type(error)(f"{at}{error}") from None


def unknown_key(
    key: object, value: object, known: Iterable[str], *, at: str = "", above: Collection[str] = ()
) -> str:
    """The message about an unknown key.

    Args:
        key: the key.
        value: its value.
        known: the keys that exist.
        at: what precedes the key in the message: a file's name, the table.
        above: the file's top-level keys; written below a table's header, they belong to that table.
    """
    from difflib import get_close_matches  # noqa: PLC0415  # slow to import, and only for this message

    names = list(known)
    near = get_close_matches(str(key), names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    hint = f" (does {key} belong above the first [table]?)" if str(key) in above else hint
    return f"{at}{key} = {_short(value)}: unknown key{hint}; expected {', '.join(names) or 'none'}"


@cache
def _kinds(cls: type[DataclassInstance]) -> dict[str, Kind]:
    """Annotation of each field."""
    hints = get_type_hints(cls, include_extras=True)
    return {item.name: hints[item.name] for item in dataclasses.fields(cls)}


def _fits(value: object, kind: Kind) -> bool:
    if dataclasses.is_dataclass(kind):  # it checks its own values
        return isinstance(value, kind)  # type: ignore[arg-type]  # an annotation is a class, not an instance
    try:
        msgspec.convert(_plain(value), kind)
    except msgspec.ValidationError:
        return False
    return True


def _plain(value: object) -> object:
    """The value without subclasses such as NumPy's float64, to which msgspec is strict."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _culprit(at: str, value: object, kind: Kind) -> tuple[str, object, Kind]:
    """Name, value and annotation of the innermost item of a list or a table that does not fit."""
    plain: Kind = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind  # without Annotated
    origin: Kind = get_origin(plain)
    items: list[tuple[str, object]] = []
    inner: Kind = None
    if origin in (list, tuple) and isinstance(value, list | tuple):
        items, inner = [(f"{at}[{place}]", item) for place, item in enumerate(value)], get_args(plain)[0]
    elif origin is Mapping and isinstance(value, Mapping):
        items, inner = [(f"{at}.{name}", item) for name, item in value.items()], get_args(plain)[1]
    wrong = next(((name, item) for name, item in items if not _fits(item, inner)), None)
    return (at, value, kind) if wrong is None else _culprit(*wrong, inner)


def _short(value: object) -> str:
    try:
        text = shown(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; endlessly nested lists
        return f"({type(value).__name__} too long to show)"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
