"""How objectives and constraints are foreseen: computed, learnt, or composed of learnt parts.

Each kind of objective has ``mean(X)``, cheap, for thousands of candidates, and ``joint(X)``, with doubts, for
the few that may be chosen. All values are minimised.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import log_ndtr

from aspk.errors import SamplerError
from aspk.objectives.composite import Composite
from aspk.samplers._history import LARGEST, BoolArray, within_reach
from aspk.space.operators import Genotypes
from aspk.util.pareto import FloatArray

if TYPE_CHECKING:
    from aspk.surrogate.predictor import JointPrediction, Predictor

_TOLERANCE = 1e-6  # relative, between what a formula gives and what a trial says
_ROUNDING = 1e-12  # relative, of a difference of numbers
_FEWEST_ON_A_LINE = 3  # different points, of which two always are


class Values(Protocol):
    """Values of several candidates, which become surer as some of them are chosen."""

    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the noise-free values, shape (m,) each."""

    def expect(self, row: int) -> None:
        """Take the expected value of one candidate for its evaluation."""


class Foreseen(Protocol):
    """An objective whose values can be foreseen."""

    def mean(self, X: Genotypes) -> FloatArray:
        """Expected values, shape (m,)."""

    def joint(self, X: Genotypes) -> Values:
        """Values of several candidates."""


class Joint:
    """All objectives of several candidates."""

    def __init__(self, objectives: Sequence[Values]) -> None:
        self._objectives = objectives

    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the noise-free values, shape (m, k) each; above 0."""
        columns = [values.moments() for values in self._objectives]
        mean, std = (within_reach(np.column_stack(column)) for column in zip(*columns, strict=True))
        return mean, np.maximum(std, 1e-12 * (1 + np.abs(mean)))

    def expect(self, row: int) -> None:
        """Take the expected values of one candidate for its evaluation."""
        for values in self._objectives:
            values.expect(row)


# ---------------------------------------------------------------------- computed


@dataclass(frozen=True)
class Computed:
    """An objective that needs no evaluation.

    Attributes:
        mean: its values.
    """

    mean: Callable[[Genotypes], FloatArray]

    def joint(self, X: Genotypes) -> Values:
        """See :class:`Foreseen`."""
        return _Certain(self.mean(X))


def promised(values: FloatArray) -> FloatArray:
    """Computed values, minimised, within reach; one that is NaN or infinitely good promises nothing."""
    return within_reach(np.where(values > -np.inf, values, LARGEST))


@dataclass(frozen=True)
class _Certain:
    values: FloatArray

    def moments(self) -> tuple[FloatArray, FloatArray]:
        return self.values, np.zeros(len(self.values))

    def expect(self, row: int) -> None:
        """Nothing becomes surer."""


class ContradictionError(SamplerError):
    """A formula for an objective says something else than a trial.

    Attributes:
        objective: its number.
    """

    def __init__(self, objective: int, message: str) -> None:
        super().__init__(message)
        self.objective = objective


def check_agreement(
    kind: str, objective: int, computed: FloatArray, told: FloatArray, rows: BoolArray
) -> None:
    """Refuse a formula that contradicts the trials.

    Args:
        kind: of the formula, for the message.
        objective: its number.
        computed: the formula's values, shape (n,).
        told: the objective's own values in the trials, shape (n,).
        rows: trials whose values are final, shape (n,).

    Raises:
        ContradictionError: they differ.
    """
    name = f"{kind}[{objective}]"
    if computed.shape != told.shape:
        raise ContradictionError(
            objective, f"{name} gives an array of shape {computed.shape}: expected {told.shape}"
        )
    computed = within_reach(computed)
    wrong = rows & np.isfinite(computed) & ~np.isclose(computed, told, rtol=_TOLERANCE, atol=1e-12)
    if wrong.any():
        row = int(wrong.argmax())
        raise ContradictionError(
            objective,
            f"{name} gives {computed[row]:g} for a network whose trial says {told[row]:g}: "
            "expected the objective's own value, whether it is minimised or maximised",
        )


# ---------------------------------------------------------------------- composed


@dataclass(frozen=True)
class Composed:
    """An objective that is a known function of learnt parts.

    Attributes:
        composite: the function and its parts.
        sign: 1 where the objective is minimised, -1 where it is maximised.
        parts: a surrogate of each part, minimised.
    """

    composite: Composite
    sign: float
    parts: Sequence[Predictor]

    def mean(self, X: Genotypes) -> FloatArray:
        """The function of the expected parts, shape (m,)."""
        return self.of([part.mean(X) for part in self.parts])

    def joint(self, X: Genotypes) -> Values:
        """See :class:`Foreseen`."""
        return _ComposedValues(self, [part.joint(X) for part in self.parts])

    def of(self, parts: Sequence[FloatArray]) -> FloatArray:
        """The objective, minimised, of minimised parts; where it is not defined, nothing is promised."""
        values = within_reach(self.sign * applied(self.composite, parts))
        known = np.isfinite(values)
        return np.where(known, values, values[known].max() if known.any() else 0.0)


class _ComposedValues:
    """Moments by Gauss-Hermite quadrature over the parts, which are independent."""

    def __init__(self, composed: Composed, parts: Sequence[JointPrediction]) -> None:
        self._composed, self._parts = composed, parts

    def moments(self) -> tuple[FloatArray, FloatArray]:
        scores, weights = _quadrature(len(self._parts))
        values = self._composed.of([part.at(z) for part, z in zip(self._parts, scores, strict=True)])
        mean = values @ weights
        return mean, np.sqrt(np.square(values - mean[:, None]) @ weights)

    def expect(self, row: int) -> None:
        for part in self._parts:
            part.expect(row)


def applied(composite: Composite, minimised: Sequence[FloatArray]) -> FloatArray:
    """The objective's own values of parts that are all minimised."""
    own = [
        -values if direction == "maximize" else values
        for values, direction in zip(minimised, composite.parts.values(), strict=True)
    ]
    with np.errstate(all="ignore"):
        return np.asarray(composite.of(*own), dtype=float)


@cache
def _quadrature(parts: int) -> tuple[FloatArray, FloatArray]:
    """Standard normal scores of each part, shape (parts, q), and the weights of their combinations, (q,)."""
    nodes, weights = hermegauss(5 if parts <= 3 else 3)
    weights = weights / weights.sum()
    scores = np.array(list(itertools.product(nodes, repeat=parts)))
    return scores.T, np.prod(list(itertools.product(weights, repeat=parts)), axis=1)


# ---------------------------------------------------------------------- bounded


@dataclass(frozen=True)
class Bounded:
    """A constraint as a learnt number and its bound.

    Attributes:
        surrogate: of the number.
        bound: its largest value that is feasible.
        weight: what the constraint's value grows by where the number grows by 1.
    """

    surrogate: Predictor
    bound: float
    weight: float = 1.0

    def violation(self, X: Genotypes) -> FloatArray:
        """Expected violation, shape (m,)."""
        return self.weight * np.maximum(self.surrogate.mean(X) - self.bound, 0.0)

    def log_feasibility(self, X: Genotypes) -> FloatArray:
        """Logarithm of the probability that it is kept, shape (m,)."""
        return np.asarray(log_ndtr(self.surrogate.scores(X, self.bound)))


def bound_on(column: FloatArray, values: FloatArray) -> tuple[float, float] | None:
    """The bound and the weight with which ``values = weight * (column - bound)``; None if there are none.

    Args:
        column: of an objective or a part of one, shape (n,).
        values: of a constraint in the same trials, shape (n,); NaN where there is none.
    """
    told = np.isfinite(values)
    column, values = column[told], values[told]
    if len(np.unique(column)) < _FEWEST_ON_A_LINE:
        return None
    low, high = column.argmin(), column.argmax()
    span = column[high] - column[low]
    with np.errstate(over="ignore"):  # of columns that differ by next to nothing
        weight = (values[high] - values[low]) / span
    if (
        not 0 < weight < LARGEST
        or (np.abs(values - values[low] - weight * (column - column[low])) > _TOLERANCE * weight * span).any()
    ):
        return None
    # Rounded: the last digits, which differ from trial to trial, would have hyperparameters fitted each time.
    bound = float(f"{column[low] - values[low] / weight:.9g}")
    nothing = _ROUNDING * np.abs(column).max()
    return None if bound <= nothing and column[low] > 0 else (bound, float(weight))
