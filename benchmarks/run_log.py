"""A log of runs, a line of JSON each, from which a killed benchmark resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class RunLog:
    """The runs of a file, and of this process.

    Args:
        path: the file; None keeps nothing.
        keys: the fields that identify a run.
    """

    def __init__(self, path: Path | None, keys: tuple[str, ...]) -> None:
        self._path, self._keys = path, keys
        self._runs: dict[tuple[Any, ...], dict[str, Any]] = {}
        torn = self.read()
        if path is not None and torn:
            whole = path.read_text(encoding="utf-8").splitlines()[:-1]
            path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")

    def read(self) -> bool:
        """Take in what other processes have added; whether the last line is torn, as a kill leaves it."""
        path = self._path
        text = path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""
        lines = text.splitlines()
        torn = not text.endswith("\n") and bool(lines)
        for line in lines[:-1] if torn else lines:
            run = json.loads(line)
            self._runs[tuple(run[key] for key in self._keys)] = run
        return torn

    def get(self, *key: object) -> dict[str, Any] | None:
        """The run of this key, None if there is none yet."""
        return self._runs.get(key)

    def select(self, **values: object) -> list[dict[str, Any]]:
        """The runs with these values of their keys."""
        return [run for run in self._runs.values() if all(run[key] == value for key, value in values.items())]

    def all(self) -> list[dict[str, Any]]:
        """All runs, in the order in which they were kept."""
        return list(self._runs.values())

    def add(self, run: dict[str, Any]) -> None:
        """Keep a run."""
        self._runs[tuple(run[key] for key in self._keys)] = run
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")

    def complete(self, measured: Callable[..., dict[str, Any]], keys: Iterable[tuple[Any, ...]]) -> None:
        """Measure what is missing, in this order.

        Args:
            measured: the run of a key, whose fields are its arguments.
            keys: the fields that identify each run, in the log's order.
        """
        for key in keys:
            if self.get(*key) is None:
                self.add(measured(*key))
