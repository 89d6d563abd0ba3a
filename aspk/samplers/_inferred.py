"""The parameters of a study without a search space, and when each of them is suggested.

A define-by-run objective suggests some parameters only if another one has certain values: the width of the
third block only if the depth is at least three. Complete trials show which ones these are.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from aspk.samplers._codec import Condition, ParameterCodec
from aspk.samplers._coordinate import Coordinate, ParameterValue
from aspk.samplers._history import IntArray
from aspk.samplers._notices import Notices

_ABSENT = -1
# Complete trials needed to infer conditions. Fewer are often explained by chance, and are too few to learn
# more parameters than those they all have.
FEWEST = 12
_NEW = 6  # trials without a parameter, and later with it, that make it a new one


class Inference:
    """Infers the search space of a study from its complete trials, each of which it reads once.

    It is only a cache: a new one infers the same.

    Args:
        defaults: values of parameters in the trials before the first one that has them.
    """

    def __init__(self, defaults: Mapping[str, ParameterValue] | None = None) -> None:
        self._defaults = dict(defaults or {})
        self._clear()

    def _clear(self) -> None:
        self._read: dict[int, FrozenTrial] = {}  # by id(), see Archive
        self._coordinates: dict[str, Coordinate] = {}
        self._changing: set[str] = set()  # parameters whose distribution differs again and again
        self._rows: list[tuple[int, dict[str, int]]] = []  # with the trial's number
        self._codec: ParameterCodec | None = None
        self.left_out: dict[str, str] = {}  # messages about trials, by what is the matter with them

    def codec(self, trials: Sequence[FrozenTrial]) -> ParameterCodec:
        """The parameters that all trials with a value have, and those whose condition all of these satisfy.

        Parameters with one value only, and those whose values differ between trials, are left out.
        """
        complete = [trial for trial in trials if _has_parameters(trial)]
        fresh = [trial for trial in complete if id(trial) not in self._read]
        if len(fresh) + len(self._read) != len(complete):  # another study, or a storage that copies
            self._clear()
            fresh = complete
        if fresh or self._codec is None:
            self._read |= {id(trial): trial for trial in fresh}
            for trial in fresh:
                if not self._is_as_before(trial):
                    self._read_again()
                    break
                self._take(trial)
            found = self._inferred()
            if self._codec is None or found != self._codec:  # the same object while nothing changes
                self._codec = found
        return self._codec

    def warn(self, notices: Notices) -> None:
        """Say which trials and parameters are left out, and why."""
        for case, message in self.left_out.items():
            notices.warn("not learnt from", message, case=case)
        for name in sorted(self._changing):
            notices.warn(f"parameter {name!r} is drawn by itself", "its range changes to and fro")

    def _is_as_before(self, trial: FrozenTrial) -> bool:
        """Whether a trial's parameters have the distributions recorded for them."""
        return all(
            name not in self._coordinates or self._coordinates[name].distribution == distribution
            for name, distribution in trial.distributions.items()
        )

    def _read_again(self) -> None:
        """Read all trials again, with the newest distribution of each parameter that changed."""
        trials = sorted(self._read.values(), key=lambda trial: trial.number)
        seen: dict[str, list[tuple[int, BaseDistribution]]] = {}
        for trial in trials:
            for name, distribution in trial.distributions.items():
                own = seen.setdefault(name, [])
                if not own or own[-1][1] != distribution:
                    own.append((trial.number, distribution))
        self._changing = {name for name, own in seen.items() if not _is_history(own)}
        self._coordinates = {name: Coordinate(own[-1][1]) for name, own in seen.items()}
        self._rows = []
        for trial in trials:
            self._take(trial)

    def _take(self, trial: FrozenTrial) -> None:
        row = {}
        for name, distribution in trial.distributions.items():
            known = self._coordinates.setdefault(name, Coordinate(distribution))
            if name not in self._changing:
                try:
                    gene = known.encode(trial.params[name])
                except (ValueError, TypeError):
                    return  # outside the range as it is now: the trial is left out
                row[name] = int(gene) if known.cardinality else 0
        self._rows.append((trial.number, row))

    def _with_defaults(self, rows: list[dict[str, int]]) -> list[dict[str, int]]:
        """Rows, in the order of their trials, with the defaults of parameters added later."""
        rows = [dict(row) for row in rows]
        for name, value in self._defaults.items():
            first = next((place for place, row in enumerate(rows) if name in row), 0)
            with contextlib.suppress(ValueError, TypeError):  # outside the range: these are left out
                gene = self._coordinates[name].encode(value) if first else 0
                for row in rows[:first]:
                    row[name] = int(gene) if self._coordinates[name].cardinality else 0
        return rows

    def _conditions(self, names: Sequence[str], table: IntArray) -> dict[str, Condition | None]:
        """The parameters that are explained, and when each is suggested, None for always.

        Args:
            names: of the parameters.
            table: their values in each trial, shape (n, number of names).
        """
        present = dict(zip(names, (table != _ABSENT).T, strict=True))
        of_name = dict(zip(names, table.T, strict=True))
        conditions: dict[str, Condition | None] = {name: None for name in names if present[name].all()}
        others = [name for name in names if name not in conditions and len(table) >= FEWEST]
        for name in sorted(others, key=lambda name: (-present[name].sum(), name)):  # parents before children
            found = [
                found
                for parent in conditions
                if present[parent].sum() > present[name].sum()
                and (found := _condition(parent, self._coordinates[parent], of_name[parent], present[name]))
            ]
            if found:
                conditions[name] = min(found)[1]
        return conditions

    def _inferred(self) -> ParameterCodec:
        pairs = sorted(self._rows, key=lambda pair: pair[0])
        pairs = [pair for pair in pairs if pair[1]] or pairs  # a baseline without parameters has no design
        numbers, rows = [number for number, _ in pairs], [row for _, row in pairs]
        self.left_out = {}
        if len(rows) < len(self._read):
            self.left_out["outside"] = (
                f"{len(self._read) - len(rows)} trials, which have no parameters or some outside their range"
            )
        names = [
            name
            for name, coordinate in sorted(self._coordinates.items())
            if name not in self._changing and coordinate.cardinality != 1
        ]
        table = _table(self._with_defaults(rows), names)
        conditions = self._conditions(names, table)
        unexplained = [place for place, name in enumerate(names) if name not in conditions]
        if first := _since(table[:, unexplained] != _ABSENT, numbers):
            absent = (table[:first] == _ABSENT).all(axis=0)
            new = [names[place] for place in unexplained if absent[place]]
            self.left_out[f"new {', '.join(new)}"] = (
                f"{first} trials before parameter {', '.join(new)}, which is new; "
                f"defaults={{{new[0]!r}: ...}} gives its value in them"
            )
            conditions = self._conditions(names, table[first:])
        return ParameterCodec(
            {name: self._coordinates[name].distribution for name in sorted(conditions)},
            {name: condition for name, condition in conditions.items() if condition is not None},
            defaults=self._defaults,
            whole=not self._changing and conditions.keys() >= set(names),
        )


def _table(rows: Sequence[Mapping[str, int]], names: Sequence[str]) -> IntArray:
    """Values of the parameters in each trial, shape (n, number of names)."""
    values = [[row.get(name, _ABSENT) for name in names] for row in rows]
    return np.array(values, dtype=np.int64).reshape(len(rows), len(names))


def _is_history(seen: Sequence[tuple[int, BaseDistribution]]) -> bool:
    """Whether each distribution replaced the one before it, and none came back."""
    numbers, distributions = [number for number, _ in seen], [distribution for _, distribution in seen]
    back = any(distributions.count(distribution) > 1 for distribution in distributions)
    return not back and all(a < b for a, b in itertools.pairwise(numbers))


def _since(present: npt.NDArray[np.bool_], numbers: Sequence[int]) -> int:
    """The first trial from which on all have a parameter that none before had; 0 if there is none.

    Fewer than six on either side may only show the branch that the search is in at the time.
    """
    always = [column for column in present.T if not column.all() and column.any()]
    starts = [int(column.argmax()) for column in always if column[int(column.argmax()) :].all()]
    starts = [start for start in starts if len(present) - start >= _NEW and start >= _NEW]
    starts = [start for start in starts if numbers[start - 1] < numbers[start]]
    return max(starts, default=0)


def _has_parameters(trial: FrozenTrial) -> bool:
    """Whether a trial got far enough to have all its parameters: it is complete, or has reported a value."""
    reported = trial.state == TrialState.PRUNED and bool(trial.intermediate_values)
    return trial.state == TrialState.COMPLETE or reported


def _condition(
    parent: str, coordinate: Coordinate, values: IntArray, present: npt.NDArray[np.bool_]
) -> tuple[tuple[bool, int, str], Condition] | None:
    """The condition of a parameter on one other, and how unlikely it is to be the true one; None if none.

    Args:
        parent: name of the other one.
        coordinate: its values.
        values: its value in each trial, shape (n,).
        present: whether the parameter was suggested in each trial, shape (n,).
    """
    if not coordinate.cardinality or (present & (values == _ABSENT)).any():
        return None
    used = values != _ABSENT
    total = np.bincount(values[used], minlength=coordinate.cardinality)
    with_it = np.bincount(values[used & present], minlength=coordinate.cardinality)
    if ((with_it != 0) & (with_it != total)).any():
        return None
    seen, ordered = np.flatnonzero(total), coordinate.ordered
    shown = with_it[seen] > 0
    if ordered:  # an unseen value is treated like the nearest seen one
        nearest = np.abs(np.arange(coordinate.cardinality)[:, None] - seen).argmin(axis=1)
        table = shown[nearest]
    else:
        table = np.ones(coordinate.cardinality, dtype=bool)
        table[seen] = shown
    winding = ordered and int((shown[1:] != shown[:-1]).sum()) > 1
    # Of two that explain all trials, the one with fewer values does so by chance less often.
    return (winding, len(seen), parent), Condition(parent, tuple(table.tolist()))
