"""JSON records on disk: results, and the identity of the work that produced them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from aspk.errors import AspkError
from aspk.util.files import read_text, write_atomically

_MOST_DETAILS = 3  # differences that a message spells out
_LONGEST = 120  # characters of a value in a message


def read_json(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if the file is missing or damaged."""
    try:
        found = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def write_json(file: Path, content: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Write a JSON object and a newline, atomically; the folder is created if necessary."""
    write_atomically(file, json.dumps(content, indent=indent) + "\n")


def fingerprint(value: object) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def differences(path: str, known: object, own: object) -> Iterator[tuple[str, str, str]]:
    """Where two JSON values differ.

    Args:
        path: what the values are.
        known: one value.
        own: the other one.

    Yields:
        The path to a difference, such as ``recipe.updates``, and both values as short texts.
    """
    if isinstance(known, Mapping) and isinstance(own, Mapping):
        for key in dict.fromkeys((*known, *own)):
            yield from differences(f"{path}.{key}" if path else str(key), known.get(key), own.get(key))
    elif json.dumps(known) != json.dumps(own):
        yield path, _short(known), _short(own)


def _short(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What results depend on: they belong to any work with the same identity.

    Attributes:
        values: each thing's name and value, as plain JSON values.
        missing: values to assume for keys that a record of an earlier version lacks, also in inner tables.
    """

    values: Mapping[str, Any]
    missing: Mapping[str, Any] = field(default_factory=dict)

    def differences(self, known: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        """Where a record's identity differs; keys that only the record has do not count."""
        known = _completed(known, self.missing)
        for key, value in json.loads(json.dumps(self.values)).items():
            if known.get(key) != value:
                yield from differences(key, known.get(key), value)

    def require(self, known: object, *, where: Path, error: type[AspkError], advice: str = "") -> None:
        """Refuse results that belong to other work.

        Args:
            known: the identity that was found.
            where: the file in which it was found.
            error: class of the error.
            advice: what to do about it, the end of the message; empty if the caller adds it.

        Raises:
            AspkError: of the given class, spelling out the differences.
        """
        end = f"; {advice}" if advice else ""
        if not isinstance(known, Mapping):
            raise error(f"{where}: does not say what it belongs to{end}")
        found = [
            f"{path} = {there}, now it is {here}"
            for path, there, here in islice(self.differences(known), _MOST_DETAILS)
        ]
        if found:
            raise error(f"{where}: made with {'; '.join(found)}{end}")


@dataclass(frozen=True)
class Record:
    """A JSON file with the results of some work and its identity. It is written completely or not at all.

    Attributes:
        file: the file.
        identity: the identity of the work.
    """

    file: Path
    identity: Identity

    def read(self, *, error: type[AspkError], advice: str) -> dict[str, Any] | None:
        """The content that :meth:`write` wrote; None if the file is missing or damaged.

        Raises:
            AspkError: of the given class: it belongs to other work; see :meth:`Identity.require`.
        """
        found = read_json(self.file)
        if found is None or not isinstance(found.get("identity"), dict):
            return None
        self.identity.require(found.pop("identity"), where=self.file, error=error, advice=advice)
        return found

    def read_own(self) -> dict[str, Any] | None:
        """The content; None also if it belongs to other work, so that the work is done again."""
        found = read_json(self.file)
        if found is None or not isinstance(found.get("identity"), dict):
            return None
        return None if any(self.identity.differences(found.pop("identity"))) else found

    def write(self, content: Mapping[str, Any], *, indent: int | None = None) -> None:
        """Write results, atomically."""
        write_json(self.file, {"identity": self.identity.values, **content}, indent=indent)


def _completed(known: Mapping[str, Any], missing: Mapping[str, Any]) -> dict[str, Any]:
    """An identity with missing keys filled in; inner tables, where present, are completed too."""
    whole = {**missing, **known}
    for key, value in missing.items():
        if isinstance(value, Mapping) and isinstance(whole[key], Mapping):
            whole[key] = _completed(whole[key], value)
    return whole
