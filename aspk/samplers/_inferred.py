"""The parameters of a study without a search space, and when each of them is suggested.

A define-by-run objective suggests some parameters only where another one has certain values: the width of the
third block where the depth is at least three. Complete trials show which ones these are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from optuna.trial import FrozenTrial, TrialState

from aspk.samplers._codec import Condition, ParameterCodec
from aspk.samplers._coordinate import Coordinate
from aspk.samplers._history import IntArray

_ABSENT = -1
# Complete trials that conditions are inferred from. Fewer are often explained by chance, and too few to learn
# from more parameters than the common ones.
FEWEST = 12


class Inference:
    """Infers the search space of a study from its complete trials, each of which it reads once.

    It is a memory only: a new one infers the same.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._read: dict[int, FrozenTrial] = {}  # by id(), see Archive
        self._coordinates: dict[str, Coordinate] = {}
        self._changing: set[str] = set()  # parameters whose distribution differs between trials
        self._rows: list[dict[str, int]] = []
        self._codec: ParameterCodec | None = None

    def codec(self, trials: Sequence[FrozenTrial]) -> ParameterCodec:
        """Parameters that all trials with a value have, and those with a condition that all of these keep.

        Parameters with one value only, and those whose values differ between trials, are left out.
        """
        complete = [trial for trial in trials if _has_parameters(trial)]
        fresh = [trial for trial in complete if id(trial) not in self._read]
        if len(fresh) + len(self._read) != len(complete):  # another study, or a storage that copies
            self._clear()
            fresh = complete
        if fresh or self._codec is None:
            for trial in fresh:
                self._take(trial)
            found = self._inferred()
            if self._codec is None or found != self._codec:  # the same object while nothing changes
                self._codec = found
        return self._codec

    def _take(self, trial: FrozenTrial) -> None:
        self._read[id(trial)] = trial
        row = {}
        for name, distribution in trial.distributions.items():
            known = self._coordinates.setdefault(name, Coordinate(distribution))
            if known.distribution != distribution:
                self._changing.add(name)
            elif name not in self._changing:
                try:
                    gene = known.encode(trial.params[name])
                except (ValueError, TypeError):
                    return  # an enqueued value outside the range: the trial says nothing of the others
                row[name] = int(gene) if known.cardinality else 0
        self._rows.append(row)

    def _inferred(self) -> ParameterCodec:
        names = [
            name
            for name, coordinate in sorted(self._coordinates.items())
            if name not in self._changing and coordinate.cardinality != 1
        ]
        values = np.array(
            [[row.get(name, _ABSENT) for name in names] for row in self._rows], dtype=np.int64
        ).reshape(len(self._rows), len(names))
        present = dict(zip(names, (values != _ABSENT).T, strict=True))
        of_name = dict(zip(names, values.T, strict=True))
        conditions: dict[str, Condition | None] = {name: None for name in names if present[name].all()}
        others = [name for name in names if name not in conditions and len(self._rows) >= FEWEST]
        for name in sorted(others, key=lambda name: (-present[name].sum(), name)):  # parents before children
            found = [
                found
                for parent in conditions
                if present[parent].sum() > present[name].sum()
                and (found := _condition(parent, self._coordinates[parent], of_name[parent], present[name]))
            ]
            if found:
                conditions[name] = min(found)[1]
        return ParameterCodec(
            {name: self._coordinates[name].distribution for name in sorted(conditions)},
            {name: condition for name, condition in conditions.items() if condition is not None},
            whole=not self._changing and conditions.keys() >= set(names),
        )


def _has_parameters(trial: FrozenTrial) -> bool:
    """Whether a trial came as far as to have all of its parameters: it is complete, or has reported."""
    reported = trial.state == TrialState.PRUNED and bool(trial.intermediate_values)
    return trial.state == TrialState.COMPLETE or reported


def _condition(
    parent: str, coordinate: Coordinate, values: IntArray, present: npt.NDArray[np.bool_]
) -> tuple[tuple[bool, int, str], Condition] | None:
    """The condition of a parameter on one other, and how unlikely it is to be the true one; None without.

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
    if ordered:  # a value that was not seen is like the nearest one that was
        nearest = np.abs(np.arange(coordinate.cardinality)[:, None] - seen).argmin(axis=1)
        table = shown[nearest]
    else:
        table = np.ones(coordinate.cardinality, dtype=bool)
        table[seen] = shown
    winding = ordered and int((shown[1:] != shown[:-1]).sum()) > 1
    # Of two that explain all trials, the one with fewer values does so by chance less often.
    return (winding, len(seen), parent), Condition(parent, tuple(table.tolist()))
