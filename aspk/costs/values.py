"""Functions of a network, called once for each network: a search needs hundreds of their values at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np

from aspk.costs.known import Cost, CostConstraint
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.space.operators import Genome, Genotypes, keys
from aspk.util.pareto import FloatArray

NetworkFunction = Callable[[SubnetConfig], float]
_Value = TypeVar("_Value")
_MOST_REMEMBERED = 100_000  # values, some 20 MB


class KnownValues:
    """A cache of computed values by the name of their function; clearing it changes no result."""

    def __init__(self) -> None:
        self._values: dict[tuple[Hashable, bytes], object] = {}

    def of(self, genome: Genome, name: Hashable, function: NetworkFunction, X: Genotypes) -> FloatArray:
        """Values of a known function, shape (m,), for genotypes of shape (m, G)."""
        if isinstance(function, Cost | CostConstraint) and function.space == genome:
            return function.of(X)  # index vectors mean the same to both
        assert isinstance(genome, SearchSpace)
        return np.array(self.each(genome, name, lambda config: float(function(config)), X))

    def each(
        self, space: SearchSpace, name: Hashable, function: Callable[[SubnetConfig], _Value], X: Genotypes
    ) -> list[_Value]:
        """The m values that any function returns, one for each network."""
        if len(self._values) > _MOST_REMEMBERED:
            self._values.clear()
        values: list[_Value] = []
        for key, x in zip(keys(space, X), X, strict=True):
            if (name, key) not in self._values:
                self._values[name, key] = function(space.decode(x))
            values.append(self._values[name, key])  # type: ignore[arg-type]  # a name has one function
        return values
