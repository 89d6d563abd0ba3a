"""Annotations and docstrings in words, for messages and for the reference."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from inspect import cleandoc
from typing import Any

from msgspec import inspect

_FINITE = sys.float_info.max


def expectation(kind: Any) -> str:  # noqa: ANN401  # any annotation
    """What an annotation allows: ``a whole number from 1 to 64``, ``"hard" or "soft"``."""
    return _words(inspect.type_info(kind))


def alternatives(values: Iterable[object]) -> str:
    """``"a", "b" or "c"``."""
    *others, last = (f'"{value}"' if isinstance(value, str) else str(value) for value in values)
    return f"{', '.join(others)} or {last}" if others else last


def meanings(documented: object, section: str = "Attributes") -> dict[str, str]:
    """What the docstring of a class or a function says about each name, as Markdown on one line.

    Args:
        documented: the class or function, with a docstring in Google's style.
        section: title of the section to read.
    """
    _, _, text = cleandoc(documented.__doc__ or "").partition(f"{section}:\n")
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if item := re.match(r" {4}(\w+): (.*)", line):
            name, found[item[1]] = item[1], item[2]
        elif line.startswith(" " * 8):
            found[name] += f" {line.strip()}"
        elif line.strip():
            break  # the next section
    return {name: _markdown(meaning) for name, meaning in found.items()}


def _markdown(text: str) -> str:
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def _words(info: inspect.Type, *, many: bool = False) -> str:  # noqa: PLR0911  # one for each kind
    match info:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return str((extra or {}).get("description") or _words(inner, many=many))
        case inspect.UnionType(types=types):
            return " or ".join(
                _words(one, many=many) for one in types if not isinstance(one, inspect.NoneType)
            )
        case inspect.LiteralType(values=values):
            return alternatives(values)
        case inspect.IntType() | inspect.FloatType():
            noun = "whole number" if isinstance(info, inspect.IntType) else "number"
            noun = f"finite {noun}" if info.le == _FINITE else noun
            return f"{noun}s{_range(info)}" if many else f"a {noun}{_range(info)}"
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return f"a list of {_words(item, many=True)}" + (", at least one" if info.min_length else "")
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return "strings" if many else "a string"
        case inspect.CustomType(cls=cls) | inspect.DataclassType(cls=cls):
            return f"an instance of {cls.__name__}"
        case inspect.AnyType():
            return "anything"
        case _:
            return "a table"


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    least = None if info.ge == -_FINITE else info.ge
    most = None if info.le == _FINITE else info.le
    if least is not None and most is not None:
        return f" from {_number(least)} to {_number(most)}"
    bounds = {"above": info.gt, "at least": least, "below": info.lt, "at most": most}
    text = " and ".join(f"{word} {_number(bound)}" for word, bound in bounds.items() if bound is not None)
    return f" of {text}" if text.startswith("at ") else f" {text}" if text else ""


def _number(value: float) -> str:
    power = int(value).bit_length() - 1
    return (
        f"2**{power}"
        if power >= 32 and value == 2**power
        else f"{value:g}"
        if abs(value) < 1e6
        else str(value)
    )
