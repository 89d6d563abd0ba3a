"""What a sampler knows about a study, and how trials are ranked."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from aspk.objectives import Direction, minimised
from aspk.space.operators import Genotypes
from aspk.util.pareto import FloatArray, ranks, to_unit, within_reach

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class History:
    """A study's trials as arrays; n are evaluated, if only in part, and m are pending.

    Attributes:
        X: genotypes of the evaluated trials, shape (n, G).
        values: their objective values, minimised and finite, shape (n, k); plus infinity is replaced by the
            worst of the others, and trials with NaN or minus infinity are ``discarded``.
        directions: whether each of the k objectives is minimised or maximised.
        violation: sum of their positive constraint values, shape (n,); 0 is feasible, and NaN counts as
            infinite.
        pending: genotypes of running and enqueued trials, shape (m, G).
        discarded: genotypes of failed trials, and of pruned ones that reported nothing, shape (d, G); not
            to be proposed again.
        fitness: a number to maximise that ranks the evaluated trials, shape (n,), or None; NaN is last.
        designs: keys (see :func:`aspk.space.operators.keys`) of all these genotypes; if they are not
            ``whole``, only of those whose trials had no other parameters.
        constraints: maps a constraint's name to its value in each evaluated trial, shape (n,), NaN if there
            is none; values up to 0 are feasible.
        attributes: maps the name of a user attribute that the sampler reads to its number in each evaluated
            trial, shape (n,), NaN if there is none.
        pruned: which of the evaluated trials were pruned, shape (n,); their values are predicted, see
            :mod:`aspk.samplers._pruned`. None means that none was.
        std: standard deviations of values that are predicted, 0 for others, shape (n,), or (n, k) for several
            objectives; None means all 0.
        whole: whether genotypes hold all parameters of a trial. Without a search space there may be some that
            no condition explains (yet); these are drawn independently, so that trials of equal genotypes may
            differ.
        branches: columns of unordered genes that decide which others are in use, without a search space.
        priors: histories of earlier studies with the same genes and objectives.
    """

    X: Genotypes
    values: FloatArray
    directions: tuple[Direction, ...]
    violation: FloatArray
    pending: Genotypes
    discarded: Genotypes
    fitness: FloatArray | None = None
    designs: Set[bytes] = frozenset()
    constraints: Mapping[str, FloatArray] = field(default_factory=dict)
    attributes: Mapping[str, FloatArray] = field(default_factory=dict)
    pruned: BoolArray | None = None
    std: FloatArray | None = None
    whole: bool = True
    branches: tuple[int, ...] = ()
    priors: tuple[History, ...] = ()

    def __len__(self) -> int:
        """Number of evaluated trials."""
        return len(self.X)

    @property
    def complete(self) -> BoolArray:
        """Which of the evaluated trials were not pruned, shape (n,)."""
        return np.ones(len(self), dtype=bool) if self.pruned is None else ~self.pruned

    @property
    def changes(self) -> float:
        """How many genes of a child to change on average: fewer if other parameters change, too."""
        return 1.0 if self.whole else 0.5

    def of(self, rows: BoolArray) -> History:
        """The history with only some of the evaluated trials; the designs of the others stay known."""
        return replace(
            self,
            X=self.X[rows],
            values=self.values[rows],
            violation=self.violation[rows],
            fitness=None if self.fitness is None else self.fitness[rows],
            constraints={name: values[rows] for name, values in self.constraints.items()},
            attributes={name: values[rows] for name, values in self.attributes.items()},
            pruned=None if self.pruned is None else self.pruned[rows],
            std=None if self.std is None else self.std[rows],
        )

    @property
    def signs(self) -> FloatArray:
        """Factors between the objectives' own values and ``values``: -1 where maximised, else 1; (k,)."""
        signs: FloatArray = minimised(np.ones(len(self.directions)), self.directions)[0]
        return signs

    @cached_property
    def ranks(self) -> IntArray:
        """Constrained rank of each evaluated trial, 0 is best; shape (n,)."""
        scores = self.values if self.fitness is None else -self.fitness[:, None]
        return constrained_ranks(scores, self.violation)

    def best(self, count: int) -> IntArray:
        """Rows of the ``count`` best trials: by rank, then the less crowded first."""
        if len(self) == 0:
            return np.zeros(0, dtype=np.int64)
        last = np.partition(self.ranks, min(count, len(self)) - 1)[min(count, len(self)) - 1]
        rows = np.flatnonzero(self.ranks <= last)  # whole ranks: crowding is measured among equals
        ranks = self.ranks[rows]
        return rows[np.lexsort((-crowding(self.values[rows], ranks), ranks))[:count]]


def constrained_ranks(values: FloatArray, violation: FloatArray) -> IntArray:
    """Non-dominated ranks of the feasible rows; behind them the others by their violation.

    Args:
        values: minimised, shape (n, k).
        violation: shape (n,); 0 is feasible.
    """
    result = np.zeros(len(values), dtype=np.int64)
    feasible = violation <= 0
    result[feasible] = ranks(values[feasible])
    behind = result[feasible].max() + 1 if feasible.any() else 0
    result[~feasible] = behind + np.unique(violation[~feasible], return_inverse=True)[1]
    return result


def crowding(values: FloatArray, rank: IntArray) -> FloatArray:
    """Crowding distance within each rank (Deb et al. 2002, section III-B); infinite at the ends.

    Args:
        values: minimised, shape (n, k).
        rank: shape (n,).
    """
    distance = np.zeros(len(values))
    for level in np.unique(rank):
        rows = np.flatnonzero(rank == level)
        for column in map(to_unit, values[rows].T):
            order = np.argsort(column, kind="stable")
            span = column[order[-1]] - column[order[0]]
            gaps = (column[order[2:]] - column[order[:-2]]) / (span if span > 0 else 1.0)
            distance[rows[order[1:-1]]] += gaps
            distance[rows[order[[0, -1]]]] = np.inf
    return distance


def finite(values: FloatArray) -> FloatArray:
    """Values of a constraint, shape (n,), within reach; infinities lie one range beyond, and NaN stays."""
    result = within_reach(values)
    known = result[np.isfinite(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    span = max(high - low, 1.0)
    result[np.isposinf(values)] = max(high, 0.0) + span
    result[np.isneginf(values)] = min(low, 0.0) - span
    return result
