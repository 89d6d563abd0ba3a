"""Constraints that need no evaluation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from aspk.costs.values import KnownValues, NetworkFunction
from aspk.space import BoolArray
from aspk.space.operators import Genome, Genotypes, fill, sample
from aspk.util.pareto import FloatArray

_SAMPLES = 1000  # random networks among which one that keeps the bounds is sought


@dataclass(frozen=True)
class KnownConstraints:
    """Constraints that need no evaluation.

    Attributes:
        genome: the search space.
        functions: name of each constraint, as trials carry it, to its value as a function of a network;
            values up to 0 are feasible.
        values: the values that are already computed.
    """

    genome: Genome
    functions: Mapping[str, NetworkFunction]
    values: KnownValues

    def value(self, name: str, X: Genotypes) -> FloatArray:
        """The value of one constraint, shape (m,)."""
        return self.values.of(self.genome, ("constraint", name), self.functions[name], X)

    def excess(self, X: Genotypes) -> FloatArray:
        """By how much networks exceed the bounds in total, shape (m,); 0 if they keep them."""
        result = np.zeros(len(X))
        for name in self.functions:
            result += np.maximum(self.value(name, X), 0.0)
        return result

    def keeps(self, X: Genotypes) -> BoolArray:
        """Which networks keep the bounds, shape (m,)."""
        kept: BoolArray = self.excess(X) <= 0  # NaN is not kept
        return kept

    def kept_by(self, X: Genotypes, rng: np.random.Generator) -> Genotypes:
        """``X``, each network that breaks the bounds replaced by the most similar of a thousand random ones.

        If none of these keeps the bounds, ``X`` stays as it is.
        """
        broken = ~self.keeps(X)
        if not broken.any():
            return X
        others = sample(self.genome, _SAMPLES, rng)
        others = others[self.keeps(others)]
        if not len(others):
            return X
        scale = np.maximum(self.genome.cardinalities - 1, 1)
        result = X.copy()
        for row in np.flatnonzero(broken):
            apart = np.abs((others - X[row]) / scale).sum(axis=1)
            result[row] = others[apart.argmin()]
        return result

    def fill(
        self,
        count: int,
        propose: Callable[[int], Genotypes],
        rng: np.random.Generator,
        *,
        seen: Collection[bytes],
    ) -> Genotypes:
        """:func:`aspk.space.operators.fill` with designs that keep the bounds, as long as there are any."""
        return fill(self.genome, count, propose, rng, seen=seen, keeps=self.keeps if self.functions else None)

    def sample_distinct(self, count: int, rng: np.random.Generator, *, seen: Collection[bytes]) -> Genotypes:
        """:func:`~aspk.space.operators.sample_distinct` of designs within the bounds, if there are any."""
        return self.fill(count, lambda number: sample(self.genome, number, rng), rng, seen=seen)

    def nearest_first(self, X: Genotypes) -> Genotypes:
        """``X`` by increasing excess over the bounds; networks that keep them come first, in their order."""
        return X[np.argsort(self.excess(X), kind="stable")]
