"""What a study's processes learn from: data for their hyperparameters, and data that they are conditioned on.

Hyperparameters are fitted at *milestones*, numbers of trials that grow by 15 %: between two of them a process
is only conditioned on newer trials, which costs little. Each process reaches its milestones one trial later
than the one before it, so that no suggestion waits for all fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aspk.objectives.composite import Composite
from aspk.samplers._history import History, IntArray
from aspk.space.operators import Genotypes
from aspk.surrogate.hyperparameters import spread
from aspk.util.pareto import FloatArray, nondominated

Column = tuple[int, str]  # number of an objective, and its part; "" is the whole
Data = tuple[Genotypes, FloatArray, FloatArray]  # X (n, G), y (n,), standard deviations of y (n,)
# A constraint's values are learnt with 1 added: relative excesses then become ratios to a bound. These
# are positive, and their logarithm is easier to learn, as with other costs.
BOUND = 1.0
_LARGEST_FIT = 600  # trials to learn from; the cost of a Gaussian process grows with their cube
# Trials that hyperparameters are fitted to; fewer for more than two processes, since a new worker fits all of
# them before its first suggestion.
_MOST_EARLY, _MOST_EARLY_OF_MANY = 150, 90
_GROWTH = 1.15
_CLIP = 3.0


def columns_of(history: History, composites: Mapping[int, Composite]) -> dict[Column, FloatArray]:
    """Values of each objective, or of its parts if it is a composite, minimised, shape (n,) each."""
    columns: dict[Column, FloatArray] = {}
    for k, values in enumerate(history.values.T):
        if k not in composites:
            columns[k, ""] = values
            continue
        for part, direction in composites[k].parts.items():
            own = history.attributes[part]
            columns[k, part] = -own if direction == "maximize" else own
    return columns


@dataclass(frozen=True)
class Targets:
    """Pairs of data, (for hyperparameters, to condition on), of each process of a study.

    Attributes:
        history: the trials.
        columns: values of the objectives or their parts, see :func:`columns_of`.
        first: the first milestone.
        processes: how many are learnt.
    """

    history: History
    columns: Mapping[Column, FloatArray]
    first: int
    processes: int

    def column(self, name: Column, bounds: Sequence[float]) -> tuple[Data, Data]:
        """The data of one column, where values up to the largest of ``bounds`` are not clipped."""
        total, place = len(self.history), list(self.columns).index(name)
        count = self._milestone(total, place)
        table, violation = np.column_stack(list(self.columns.values())), self.history.violation
        worst = (worst_on_front(table[:n], violation[:n])[place] for n in (count, total))
        then, now = (clipped(self.columns[name], count, max([wanted, *bounds])) for wanted in worst)
        X, std = self.history.X, np.zeros(total) if self.history.std is None else self.history.std
        std = std[:, name[0]] if std.ndim == 2 else std
        early, rows = spread(count, self.rows_to_fit), self._best
        return (X[early], then[early], std[early]), (X[rows], now[rows], std[rows])

    def constraint(self, name: str) -> tuple[Data, Data]:
        """The data of one constraint, whose milestones come after those of the columns."""
        values = self.history.constraints[name]
        known = np.flatnonzero(np.isfinite(values))
        X, y, total = self.history.X[known], values[known] + BOUND, len(known)
        place = len(self.columns) + list(self.history.constraints).index(name)
        count = self._milestone(total, place)
        then, now = (clipped(y, n, BOUND) for n in (count, total))
        return _measured(X, then, spread(count, self.rows_to_fit)), _measured(
            X, now, spread(total, _LARGEST_FIT)
        )

    def cost(self, values: FloatArray) -> tuple[Data, Data]:
        """The data of what evaluations cost, from values of shape (n,), of which those above 0 count."""
        known = np.flatnonzero(values > 0)
        X, y, total = self.history.X[known], values[known], len(known)
        count = self._milestone(total, len(self.columns) + len(self.history.constraints))
        early, rows = spread(count, self.rows_to_fit), spread(total, _LARGEST_FIT)
        return _measured(X, y, early), _measured(X, y, rows)

    def failure(self) -> tuple[Data, Data]:
        """The data of failing: 1 for trials that are not to be proposed again, -1 for others."""
        total = len(self.history)
        X = np.concatenate([self.history.X, self.history.discarded])
        y = np.repeat([-1.0, 1.0], [total, len(X) - total])
        known = np.concatenate([np.arange(milestone(total, self.first)), np.arange(total, len(X))])
        early = known[spread(len(known), self.rows_to_fit)]
        return _measured(X, y, early), _measured(X, y, spread(len(X), _LARGEST_FIT))

    @property
    def rows_to_fit(self) -> int:
        """How many trials hyperparameters are fitted to, at most."""
        return _MOST_EARLY if self.processes <= 2 else _MOST_EARLY_OF_MANY

    @cached_property
    def _best(self) -> IntArray:
        """The trials that columns are learnt from: all of them, or the best if there are very many."""
        total = len(self.history)
        return np.arange(total) if total <= _LARGEST_FIT else np.sort(self.history.best(_LARGEST_FIT))

    def _milestone(self, total: int, place: int) -> int:
        """The last milestone of the process at a place, whose milestones come ``place`` trials later."""
        return milestone(max(total - place, min(self.first, total)), self.first)


def _measured(X: Genotypes, y: FloatArray, rows: IntArray) -> Data:
    return X[rows], y[rows], np.zeros(len(rows))


def milestone(count: int, first: int) -> int:
    """The largest of ``first``, ``first * 1.15 + 1``, ... that is at most ``count``."""
    at = min(first, count)
    while (later := int(at * _GROWTH) + 1) <= count:
        at = later
    return at


def worst_on_front(values: FloatArray, violation: FloatArray) -> FloatArray:
    """Worst value of each column among the feasible rows that nothing dominates, shape (k,)."""
    feasible = values[violation <= 0]
    if not len(feasible):
        return np.full(values.shape[1], -np.inf)
    worst: FloatArray = feasible[nondominated(feasible)].max(axis=0)
    return worst


def clipped(y: FloatArray, early: int, wanted: float) -> FloatArray:
    """``y`` with bad outliers moved closer: a network that does not work says little about the others.

    A value may exceed the median of the first ``early`` ones by up to three times the distance from the best
    to that median. Values up to ``wanted``, the worst on the front, stay: moved closer, they would promise an
    improvement that no evaluation finds.
    """
    if (y > 0).all():  # costs, whose ratios matter
        return np.exp(_clipped(np.log(y), early, np.log(max(wanted, y.min()))))
    return _clipped(y, early, wanted)


def _clipped(y: FloatArray, early: int, wanted: float) -> FloatArray:
    middle, best = np.median(y[:early]), y[:early].min()
    return np.minimum(y, max(middle + _CLIP * (middle - best), wanted)) if middle > best else y
