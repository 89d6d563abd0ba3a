"""Models that are not learnt themselves: known functions, functions of learnt parts, and bounds on them.

All numbers are minimised, as :class:`~aspk.samplers.History` has them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss

from aspk.objectives.composite import Composite
from aspk.space.operators import Genotypes
from aspk.surrogate.model import ProcessModel
from aspk.surrogate.posterior import CombinedPosterior, Model, Posterior
from aspk.util.pareto import REACH, FloatArray, within_reach

_TOLERANCE = 1e-6  # relative distance of values from a line
_ROUNDING = 1e-12  # relative, of a difference of numbers
_FEWEST_ON_A_LINE = 3  # different points; two are always on a line


@dataclass(frozen=True)
class KnownModel:
    """A :class:`Model` of an objective that needs no evaluation.

    Attributes:
        function: maps genotypes of shape (m, G) to its values, minimised, shape (m,).
    """

    function: Callable[[Genotypes], FloatArray]

    def predict(self, X: Genotypes) -> FloatArray:
        """See :class:`Model`; a value that is NaN or infinitely good counts as the worst."""
        values = self.function(X)
        return within_reach(np.where(values > -np.inf, values, REACH))

    def posterior(self, X: Genotypes) -> Posterior:
        """See :class:`Model`."""
        values = self.predict(X)
        return Posterior(values, np.zeros(len(values)))


@dataclass(frozen=True)
class CompositeModel:
    """A :class:`Model` of an objective that is a known function of learnt parts.

    Attributes:
        composite: the function and its parts.
        sign: 1 where the objective is minimised, -1 where it is maximised.
        parts: a model of each part, minimised.
    """

    composite: Composite
    sign: float
    parts: Sequence[Model]

    def predict(self, X: Genotypes) -> FloatArray:
        """See :class:`Model`: the function of the parts' predictions."""
        return self._of([part.predict(X) for part in self.parts])

    def posterior(self, X: Genotypes) -> CombinedPosterior:
        """See :class:`Model`."""
        return CombinedPosterior.of([part.posterior(X) for part in self.parts], self._moments)

    def _moments(self, parts: Sequence[Posterior]) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation by Gauss-Hermite quadrature over the parts, shape (m,) each."""
        scores, weights = _quadrature(len(parts))
        values = self._of([part.at(z) for part, z in zip(parts, scores, strict=True)])  # (m, q)
        mean = values @ weights
        return mean, np.sqrt(np.square(values - mean[:, None]) @ weights)

    def _of(self, parts: Sequence[FloatArray]) -> FloatArray:
        """The objective, minimised, of minimised parts; where it is undefined, the worst of the others."""
        own = [
            -values if direction == "maximize" else values
            for values, direction in zip(parts, self.composite.parts.values(), strict=True)
        ]
        values = within_reach(self.sign * self.composite.values(*own))
        known = np.isfinite(values)
        return np.where(known, values, values[known].max() if known.any() else 0.0)


@cache
def _quadrature(parts: int) -> tuple[FloatArray, FloatArray]:
    """Standard normal scores of each part, shape (parts, q), and the weights of their combinations, (q,)."""
    nodes, weights = hermegauss(5 if parts <= 3 else 3)
    weights = weights / weights.sum()
    scores = np.array(list(itertools.product(nodes, repeat=parts)))
    return scores.T, np.prod(list(itertools.product(weights, repeat=parts)), axis=1)


@dataclass(frozen=True)
class ConstraintModel:
    """A model of a constraint, weight * (number - bound), whose number is learnt; up to 0 is feasible.

    Attributes:
        number: the model of the number.
        bound: its largest feasible value.
        weight: above 0.
    """

    number: ProcessModel
    bound: float
    weight: float = 1.0

    def predict(self, X: Genotypes) -> FloatArray:
        """See :class:`Model`."""
        return self.weight * (self.number.predict(X) - self.bound)

    def log_feasibility(self, X: Genotypes) -> FloatArray:
        """Logarithm of the probability that an evaluation satisfies the constraint, shape (m,)."""
        return self.number.posterior(X).log_probability(self.bound)


def bound_on(column: FloatArray, values: FloatArray) -> tuple[float, float] | None:
    """The bound and the weight with which ``values = weight * (column - bound)``; None if there are none.

    Args:
        column: of an objective or a part of one, shape (n,).
        values: of a constraint in the same trials, shape (n,); NaN where there is none.
    """
    observed = np.isfinite(values)
    column, values = column[observed], values[observed]
    if len(np.unique(column)) < _FEWEST_ON_A_LINE:
        return None
    low, high = column.argmin(), column.argmax()
    span = column[high] - column[low]
    with np.errstate(over="ignore"):  # for columns of almost equal values
        weight = (values[high] - values[low]) / span
    if not 0 < weight < REACH:
        return None
    off = np.abs(values - values[low] - weight * (column - column[low]))
    if (off > _TOLERANCE * weight * span).any():
        return None
    # Rounded: the last digits differ from trial to trial, which would cause a new fit each time.
    bound = float(f"{column[low] - values[low] / weight:.9g}")
    nothing = _ROUNDING * np.abs(column).max()
    return None if bound <= nothing and column[low] > 0 else (bound, float(weight))
