"""What follows from a network itself: closed forms, asked once for each network, and bounds on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aspk.closed_cost import ClosedBudget, ClosedCost
from aspk.config import SubnetConfig
from aspk.operators import Genome, Genotypes, keys, sample
from aspk.pareto import FloatArray
from aspk.samplers._history import History, finite
from aspk.space import SearchSpace

_LOGGER = logging.getLogger(__name__)
ClosedForm = Callable[[SubnetConfig], float]
_SAMPLES = 1000  # random networks among which one that keeps the bounds is looked for
_TOLERANCE = 1e-6  # absolute: constraints are shares of their bounds


class ClosedForms:
    """Values of closed forms that were computed before: forgetting changes nothing."""

    def __init__(self) -> None:
        self._values: dict[tuple[Hashable, bytes], float] = {}

    def of(self, genome: Genome, name: Hashable, form: ClosedForm, X: Genotypes) -> FloatArray:
        """Values of a closed form, shape (m,), of genotypes of shape (m, G)."""
        if isinstance(form, ClosedCost | ClosedBudget) and form.space == genome:
            return form.of(X)  # index vectors mean the same to both
        assert isinstance(genome, SearchSpace)
        names = [(name, key) for key in keys(genome, X)]
        for at, x in zip(names, X, strict=True):
            if at not in self._values:
                self._values[at] = float(form(genome.decode(x)))
        return np.array([self._values[at] for at in names])


@dataclass(frozen=True)
class Bounds:
    """Constraints that need no evaluation.

    Attributes:
        genome: the search space.
        forms: name of each constraint, as trials carry it, to its value as a function of a network, up to 0
            is feasible.
        computed: what is computed already.
    """

    genome: Genome
    forms: Mapping[str, ClosedForm]
    computed: ClosedForms

    def excess(self, X: Genotypes) -> FloatArray:
        """By how much networks break the bounds in sum, shape (m,); 0 keeps them."""
        result = np.zeros(len(X))
        for name in self.forms:
            result += np.maximum(self._value(name, X), 0.0)
        return result

    def kept_by(self, X: Genotypes, rng: np.random.Generator) -> Genotypes:
        """``X`` with the most similar of a thousand random networks for each that breaks the bounds.

        Where none of these keeps them, ``X`` stays as it is.
        """
        broken = ~(self.excess(X) <= 0)  # not a number is not kept
        if not broken.any():
            return X
        others = sample(self.genome, _SAMPLES, rng)
        others = others[self.excess(others) <= 0]
        if not len(others):
            return X
        scale = np.maximum(self.genome.cardinalities - 1, 1)
        result = X.copy()
        for row in np.flatnonzero(broken):
            apart = np.abs((others - X[row]) / scale).sum(axis=1)
            result[row] = others[apart.argmin()]
        return result

    def candidates(self, X: Genotypes, rows: Sequence[int], count: int) -> list[int]:
        """Those of ``rows`` that keep the bounds; if these are too few, the ``count`` that come nearest."""
        excess = self.excess(X[rows])
        kept = int((excess <= 0).sum())
        order = np.argsort(excess, kind="stable")[: max(kept, count)]
        return [rows[place] for place in np.sort(order)]

    def trusted(self, history: History) -> Bounds:
        """The bounds that no trial contradicts; the log says which are left out, and why."""
        forms = {name: form for name, form in self.forms.items() if self._agrees(name, history)}
        return replace(self, forms=forms)

    def applied(self, history: History) -> History:
        """A history in which these constraints hold for all trials, and are no longer to be learnt."""
        violation = history.violation
        for name in self.forms:
            untold = np.isnan(_told(history, name))
            violation = violation + np.where(untold, np.maximum(self._value(name, history.X), 0.0), 0.0)
        learnt = {name: told for name, told in history.constraints.items() if name not in self.forms}
        return replace(history, violation=violation, constraints=learnt)

    def _agrees(self, name: str, history: History) -> bool:
        told = _told(history, name)
        carried = ~np.isnan(told)
        own, told = self._value(name, history.X[carried]), told[carried]
        own = finite(own[:, None])[:, 0]  # as the history's are
        wrong = np.abs(own - told) > _TOLERANCE * (1 + np.abs(own))
        if wrong.any():
            row = int(wrong.argmax())
            _LOGGER.info(
                "constraint %r is learnt: known_constraints gives %g for a network whose trial says %g",
                name,
                own[row],
                told[row],
            )
        return not wrong.any()

    def _value(self, name: str, X: Genotypes) -> FloatArray:
        return self.computed.of(self.genome, ("constraint", name), self.forms[name], X)


def _told(history: History, name: str) -> FloatArray:
    """Values of a constraint as the trials carry it, shape (n,); NaN where they do not."""
    return history.constraints.get(name, np.full(len(history), np.nan))
