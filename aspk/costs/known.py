"""Costs that follow from a network's shapes, of many networks at once, and constraints on them.

A search needs the costs of hundreds of networks before each trial, and keeps the constraints without an
evaluation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aspk.costs.cost import layer_shapes, operations, parameters
from aspk.errors import ObjectiveError
from aspk.metrics import LayerShape
from aspk.space import IntArray, SearchSpace
from aspk.space.genes import GENES, SubnetConfig
from aspk.util.moved import moved_names
from aspk.util.numbers import is_finite
from aspk.util.pareto import FloatArray

CostName = Literal["parameters", "operations"]
COSTS: dict[CostName, Callable[[tuple[LayerShape, ...]], int]] = {
    "parameters": parameters,
    "operations": operations,
}
# What the cost of a block depends on: every gene that is no neuron's and does not repeat what there is.
_REPEATS = ("depth", "time_steps")
_SIZES = tuple(name for name, kind in GENES.items() if not kind.neuron and name not in _REPEATS)


@dataclass(frozen=True)
class Cost:
    """A cost that follows from a network's shapes alone: of a network, or of many index vectors at once.

    The cost of a network is that of its stem and head and of each of its blocks, of which a space has few
    kinds. Those are counted once.

    Attributes:
        name: ``parameters``, or ``operations``: dense multiply-accumulates of one image over all T steps.
        space: the search space.
        shape: channels, height and width of an image.
        classes: number of classes.
    """

    name: CostName
    space: SearchSpace
    shape: tuple[int, int, int]
    classes: int

    def __call__(self, config: SubnetConfig) -> float:
        """The cost of one network."""
        return float(COSTS[self.name](layer_shapes(config, self.space.settings, self.shape, self.classes)))

    def of(self, X: npt.ArrayLike) -> FloatArray:
        """The same for index vectors of the space, shape (n, G); shape (n,)."""
        X = np.asarray(X, dtype=np.int64)
        steps, depth = (self._values(name)[self._indices(name, X)] for name in ("time_steps", "depth"))
        costs = self._outside[self._indices("embed_dim", X)]
        for block in range(self.space.max_depth):
            kind = tuple(self._indices(name, X, block) for name in _SIZES)
            costs = costs + np.where(block < depth[:, None], self._inside[kind], 0.0)
        per_step, once = costs.T
        return np.asarray(steps * per_step + once)

    @property
    def least(self) -> float:
        """The smallest cost in the space: no gene makes a network cheaper than its smallest choice."""
        return float(self.of([[int(np.argmin(gene.choices)) for gene in self.space.genes]])[0])

    def _values(self, name: str) -> FloatArray:
        return np.array(self.space.network.get(name) or self.space.block[name], dtype=float)

    def _indices(self, name: str, X: IntArray, block: int | None = None) -> IntArray:
        """Index of each network's choice of a gene, in one block or for all of them."""
        places = self._places
        return X[:, places[name, block] if (name, block) in places else places[name, None]]

    @cached_property
    def _places(self) -> dict[tuple[str, int | None], int]:
        return {(gene.name, gene.block): column for column, gene in enumerate(self.space.genes)}

    @cached_property
    def _inside(self) -> FloatArray:
        """What each kind of block costs in each step, and once for all steps."""
        choices = [self._values(name).tolist() for name in _SIZES]
        rows = [self._counted(*kind, inside=True) for kind in itertools.product(*choices)]
        return np.reshape(rows, (*map(len, choices), 2))

    @cached_property
    def _outside(self) -> FloatArray:
        """The same of all that is not in a block, for each width."""
        width, *others = (self._values(name) for name in _SIZES)
        return np.array([self._counted(one, *(o[0] for o in others), inside=False) for one in width])

    def _counted(self, *sizes: float, inside: bool) -> tuple[int, int]:
        """Costs of one and of two steps tell those of each step from those that occur once."""
        one, two = (self._part(sizes, steps, inside=inside) for steps in (1, 2))
        return two - one, 2 * one - two

    def _part(self, sizes: tuple[float, ...], steps: int, *, inside: bool) -> int:
        values: dict[str, Any] = {
            name: GENES[name].type(size) for name, size in zip(_SIZES, sizes, strict=True)
        }
        own = {name: value for name, value in values.items() if GENES[name].per_block}
        block = replace(self.space.reference.blocks[0], **own)
        network = {name: value for name, value in values.items() if name not in own}
        config = replace(self.space.reference, **network, time_steps=steps, blocks=(block,))
        layers = layer_shapes(config, self.space.settings, self.shape, self.classes)
        return COSTS[self.name](
            tuple(layer for layer in layers if layer.name.startswith("blocks.") == inside)
        )


@dataclass(frozen=True)
class CostConstraint:
    """An upper bound on a cost that needs no evaluation.

    Attributes:
        cost: what is bounded.
        at_most: the bound, above 0.
    """

    cost: Cost
    at_most: float

    def __post_init__(self) -> None:
        if not is_finite(self.at_most) or self.at_most <= 0:
            raise ObjectiveError(
                f"constraint on {self.cost.name}: at_most {self.at_most!r}: expected a number above 0"
            )

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.cost.space

    def __call__(self, config: SubnetConfig) -> float:
        """Relative excess of one network over the bound, as :class:`~aspk.objectives.Constraint` gives it."""
        return self.cost(config) / self.at_most - 1.0

    def of(self, X: npt.ArrayLike) -> FloatArray:
        """The same for index vectors of the space, shape (n, G); shape (n,)."""
        return self.cost.of(X) / self.at_most - 1.0


__getattr__ = moved_names(
    __name__, {"ClosedBudget": "aspk.costs:CostConstraint", "ClosedCost": "aspk.costs:Cost"}
)
