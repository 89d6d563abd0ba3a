"""What a surrogate-assisted search predicts of candidates: objectives and feasibility."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr

from aspk.costs.bounds import ClosedForm, ClosedForms
from aspk.costs.features import FreeFeatures
from aspk.errors import SamplerError
from aspk.objectives.composite import Composite
from aspk.samplers._foreseen import (
    Bounded,
    Composed,
    Computed,
    Foreseen,
    Joint,
    applied,
    bound_on,
    check_agreement,
    promised,
)
from aspk.samplers._history import History, IntArray, within_reach
from aspk.space.operators import Genome, Genotypes
from aspk.util.pareto import FloatArray, nondominated

if TYPE_CHECKING:
    from aspk.surrogate.predictor import Logarithm, Model, Predictor

Known = Mapping[int, ClosedForm]  # number of an objective to its closed form
Composites = Mapping[int, Composite]  # number of an objective to what it is composed of
Column = tuple[int, str]  # what is learnt: number of an objective, and its part; "" is the whole
_LARGEST_FIT = 600  # trials that are learnt from; a Gaussian process costs the cube of them
# Trials that hyperparameters are fitted to; fewer for more than two surrogates: a new process fits them all
# before its first suggestion.
_MOST_EARLY, _MOST_EARLY_OF_MANY = 150, 90
_GROWTH = 1.15  # hyperparameters are fitted again when the study has grown by as much
_CLIP = 3.0
_BOUND = 1.0  # of a constraint's value as it is learnt


class Memory:
    """Fitted surrogates and closed forms, by what they were computed from: forgetting changes nothing."""

    def __init__(self) -> None:
        self.surrogates: dict[Hashable, tuple[tuple[Genome, bytes], Predictor]] = {}
        self.closed = ClosedForms()


class Prediction:
    """Predicts objective values and feasibility from a study.

    Args:
        genome: the search space.
        history: the study, with at least two evaluated trials.
        known: objectives that need no prediction.
        composites: objectives whose parts are predicted; all trials carry these.
        model: kind of the surrogates.
        free: what is known of a network without evaluating it; None without a search space.
        first: number of trials after which hyperparameters are fitted for the first time.
        memory: of earlier predictions of this study.

    Raises:
        SamplerError: nothing can be learnt.
        ContradictionError: a closed form or a composite contradicts a trial.
        ValueError: too few trials.
    """

    def __init__(
        self,
        genome: Genome,
        history: History,
        *,
        known: Known,
        composites: Composites,
        model: Model,
        free: FreeFeatures | None,
        first: int,
        memory: Memory,
    ) -> None:
        if (np.ptp(history.values, axis=0) == 0).all() and not (history.violation > 0).any():
            raise SamplerError("all trials have the same values")
        self._genome, self._memory, self._first = genome, memory, first
        self._free, self._model = free, model
        self._known = known
        self._composites = {k: composite for k, composite in composites.items() if k not in known}
        self._rows = np.arange(len(history))
        if len(history) > _LARGEST_FIT:
            self._rows = np.sort(history.best(_LARGEST_FIT))
        self._columns: dict[Column, FloatArray] = {}
        for k, values in enumerate(history.values.T):
            parts = _parts(self._composites[k], history) if k in self._composites else {"": values}
            self._columns |= {(k, part): told for part, told in parts.items()}
        self._surrogates: dict[Column, Predictor] = {}
        self._bounds = self._found(history.constraints)
        self._most_early = self._rows_to_fit(history)
        self._objectives = [self._objective(k, history) for k in range(history.values.shape[1])]
        self._constraints = [
            self._constraint(len(self._columns) + place, name, values, history)
            for place, (name, values) in enumerate(history.constraints.items())
            if _differ(values)
        ]
        self._failure = self._failed_or_not(history)

    def mean(self, X: Genotypes) -> FloatArray:
        """Expected objective values, shape (m, k)."""
        return within_reach(np.column_stack([objective.mean(X) for objective in self._objectives]))

    def joint(self, X: Genotypes) -> Joint:
        """Predictions of several candidates that can be told of some of them."""
        return Joint([objective.joint(X) for objective in self._objectives])

    @property
    def violation(self) -> Callable[[Genotypes], FloatArray] | None:
        """Expected violation of the constraints as a function of genotypes, shape (m,); None without any."""
        return self._violation if self._constraints else None

    def _violation(self, X: Genotypes) -> FloatArray:
        result = np.zeros(len(X))
        for constraint in self._constraints:
            result += constraint.violation(X)
        return result

    def log_feasibility(self, X: Genotypes) -> FloatArray:
        """Logarithm of the predicted probability that all constraints are kept and nothing fails, (m,)."""
        result = np.zeros(len(X))
        for constraint in self._constraints:
            result += constraint.log_feasibility(X)
        if self._failure is not None:
            mean, std = self._failure.predict(X)
            result += log_ndtr(-mean / np.maximum(std, 1e-9))
        return result

    # ------------------------------------------------------------------ learning

    def _found(self, constraints: Mapping[str, FloatArray]) -> dict[str, tuple[Column, float, float]]:
        """Constraints that are bounds on a learnt column: the column, the bound and the constraint's weight.

        One surrogate then serves both, and knows of a constraint what it knows of the objective.
        """
        learnt = {name: values for name, values in self._columns.items() if name[0] not in self._known}
        return {
            name: (column, *found)
            for name, values in constraints.items()
            for column, told in learnt.items()
            if (found := bound_on(told, values)) is not None
        }

    def _rows_to_fit(self, history: History) -> int:
        """How many trials hyperparameters are fitted to, at most."""
        columns = sum(k not in self._known for k, _ in self._columns)
        constraints = sum(
            name not in self._bounds and _differ(values) for name, values in history.constraints.items()
        )
        surrogates = columns + constraints + (len(history.discarded) > 0)
        return _MOST_EARLY if surrogates <= 2 else _MOST_EARLY_OF_MANY

    def _objective(self, k: int, history: History) -> Foreseen:
        """One objective: computed, composed, or learnt as a whole."""
        told, sign = history.values[:, k], float(history.signs[k])
        if k in self._known:
            form, closed = self._known[k], self._memory.closed
            computed = closed.of(self._genome, k, form, history.X)
            check_agreement("known", k, computed, sign * told, history.complete)
            return Computed(lambda X: promised(sign * closed.of(self._genome, k, form, X)))
        if k in self._composites:
            composite, own = self._composites[k], [name for name in self._columns if name[0] == k]
            computed = applied(composite, [self._columns[name] for name in own])
            check_agreement("composites", k, computed, sign * told, history.complete)
            return Composed(composite, sign, [self._column(name, history) for name in own])
        return self._column((k, ""), history)

    def _column(self, name: Column, history: History) -> Predictor:
        """The surrogate of one column, which objectives and constraints may share."""
        if name not in self._surrogates:
            self._surrogates[name] = self._column_learnt(name, history)
        return self._surrogates[name]

    def _column_learnt(self, name: Column, history: History) -> Predictor:
        """A surrogate of one column; its hyperparameters are fitted later by a trial than those before it.

        No suggestion then waits for the fits of all columns.
        """
        place, total = list(self._columns).index(name), len(history)
        count = _milestone(max(total - place, min(self._first, total)), self._first)
        y, early = self._columns[name], _spread(count, self._most_early)
        table = np.column_stack(list(self._columns.values()))
        bounds = [bound for column, bound, _ in self._bounds.values() if column == name]
        worst = (_worst_on_front(table[:n], history.violation[:n])[place] for n in (count, total))
        then, now = (_clipped(y, count, max([wanted, *bounds])) for wanted in worst)
        return self._surrogate(name, history.X, now, self._rows, early, then[early], history.std)

    def _surrogate(
        self,
        name: Hashable,
        X: Genotypes,
        y: FloatArray,
        rows: IntArray,
        early: IntArray,
        early_y: FloatArray,
        std: FloatArray | None = None,
    ) -> Predictor:
        """A surrogate of ``rows`` with hyperparameters of the ``early`` ones, known at the last milestone."""
        std = np.zeros(len(y)) if std is None else std
        early_X, early_std = X[early], std[early]
        content = (self._genome, early_X.tobytes() + early_y.tobytes() + early_std.tobytes())
        if name not in self._memory.surrogates or self._memory.surrogates[name][0] != content:
            self._memory.surrogates[name] = (content, self._learnt(early_X, early_y, early_std))
        known = self._memory.surrogates[name][1]
        if known.scale.logarithm and not (y > 0).all():
            known = self._learnt(X[rows], y[rows], std[rows], logarithm=False)
        return known.updated(X[rows], y[rows], std[rows])

    def _learnt(
        self, X: Genotypes, y: FloatArray, std: FloatArray, logarithm: Logarithm = "auto"
    ) -> Predictor:
        from aspk.surrogate.predictor import Encoder, learnt  # noqa: PLC0415 - scikit-learn is slow to import

        return learnt(Encoder.of(self._genome, self._free, X), X, y, self._model, logarithm, std)

    def _constraint(self, place: int, name: str, values: FloatArray, history: History) -> Bounded:
        """One constraint: a bound on what is learnt for an objective, or learnt itself.

        What is learnt are its values, 1 added: relative excesses are then shares of a bound. These are
        positive, and their logarithm is easier to learn, as that of other costs.
        """
        if name in self._bounds:
            column, bound, weight = self._bounds[name]
            return Bounded(self._column(column, history), bound, weight)
        known = np.flatnonzero(np.isfinite(values))
        X, y, total = history.X[known], values[known] + _BOUND, len(known)
        count = _milestone(max(total - place, min(self._first, total)), self._first)
        early, rows = _spread(count, self._most_early), _spread(total, _LARGEST_FIT)
        then, now = (_clipped(y, n, _BOUND) for n in (count, total))
        return Bounded(self._surrogate(("constraint", name), X, now, rows, early, then[early]), _BOUND)

    def _failed_or_not(self, history: History) -> Predictor | None:
        """A surrogate of 1 for failed and pruned trials and -1 for others; None without any."""
        if not len(history.discarded):
            return None
        X = np.concatenate([history.X, history.discarded])
        labels = np.repeat([-1.0, 1.0], [len(history), len(history.discarded)])
        count = _milestone(len(history), self._first)
        at_milestone = np.concatenate([np.arange(count), np.arange(len(history), len(X))])
        early = at_milestone[_spread(len(at_milestone), self._most_early)]
        return self._surrogate("failure", X, labels, _spread(len(X), _LARGEST_FIT), early, labels[early])


def _parts(composite: Composite, history: History) -> dict[str, FloatArray]:
    """Name of each part to the trials' values, minimised."""
    return {
        name: -history.attributes[name] if direction == "maximize" else history.attributes[name]
        for name, direction in composite.parts.items()
    }


def _differ(values: FloatArray) -> bool:
    """Whether there are different values of a constraint; NaN is none."""
    return len(np.unique(values[np.isfinite(values)])) > 1


def _spread(count: int, most: int) -> IntArray:
    """At most ``most`` rows of ``count``, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _milestone(count: int, first: int) -> int:
    """The largest of ``first``, ``first * 1.15 + 1``, ... that is at most ``count``."""
    at = min(first, count)
    while (later := int(at * _GROWTH) + 1) <= count:
        at = later
    return at


def _worst_on_front(values: FloatArray, violation: FloatArray) -> FloatArray:
    """Worst value of each column among the feasible rows that nothing dominates, shape (k,)."""
    feasible = values[violation <= 0]
    if not len(feasible):
        return np.full(values.shape[1], -np.inf)
    worst: FloatArray = feasible[nondominated(feasible)].max(axis=0)
    return worst


def _clipped(y: FloatArray, early: int, wanted: float) -> FloatArray:
    """``y`` with bad outliers brought nearer: a network that does not work says little about the others.

    Values up to ``wanted``, the worst on the front, stay: brought nearer, they would promise an improvement
    that no evaluation finds.
    """
    if (y > 0).all():  # costs, whose ratios matter
        return np.exp(_clipped_above(np.log(y), early, np.log(max(wanted, y.min()))))
    return _clipped_above(y, early, wanted)


def _clipped_above(y: FloatArray, early: int, wanted: float) -> FloatArray:
    middle, best = np.median(y[:early]), y[:early].min()
    return np.minimum(y, max(middle + _CLIP * (middle - best), wanted)) if middle > best else y
