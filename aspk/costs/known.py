"""Costs that follow from a network's shapes, computed for many networks at once, and constraints on them.

A search needs the costs of hundreds of networks before each trial, and satisfies the constraints without
any evaluation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aspk.costs.cost import layer_shapes, operations, parameters
from aspk.errors import ObjectiveError
from aspk.metrics import LayerShape
from aspk.space import IntArray, SearchSpace
from aspk.space.genes import GENES, SubnetConfig, Value
from aspk.util.moved import moved_names
from aspk.util.numbers import is_finite
from aspk.util.pareto import FloatArray

CostName = Literal["parameters", "operations"]
COSTS: dict[CostName, Callable[[tuple[LayerShape, ...]], int]] = {
    "parameters": parameters,
    "operations": operations,
}
# What a cost depends on besides depth and time steps: all genes but the numeric ones of neurons.
_SIZES = [
    name
    for name, kind in GENES.items()
    if (not kind.neuron or kind.words) and name not in ("depth", "time_steps")
]
_OUTSIDE = tuple(name for name in _SIZES if not GENES[name].per_block)  # genes of what is not in a block
_INSIDE = ("embed_dim", *(name for name in _SIZES if GENES[name].per_block))
_Kinds = npt.NDArray[Any]  # for each combination of choices: the cost per step, and the cost that occurs once


@dataclass(frozen=True)
class Cost:
    """A cost that follows from a network's shapes alone, for one network or many index vectors at once.

    The cost of a network is that of its stem and head plus that of each of its blocks. A space has few kinds
    of block, and each kind is counted only once.

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
        steps, depth = (
            np.array(self.space.network[name], dtype=float)[self._indices(name, X)]
            for name in ("time_steps", "depth")
        )
        costs = self._outside[tuple(self._indices(name, X) for name in _OUTSIDE)]
        for block in range(self.space.max_depth):
            kind = tuple(self._indices(name, X, block) for name in _INSIDE)
            inside = self._inside[min(block, len(self._inside) - 1)]
            costs = costs + np.where(block < depth[:, None], inside[kind], 0.0)
        per_step, once = costs.T
        return np.asarray(steps * per_step + once)

    @property
    def least(self) -> float:
        """The smallest cost in the space."""
        steps, depth = (float(min(self.space.network[name])) for name in ("time_steps", "depth"))
        outside, *inside = (
            (table[..., 0] * steps + table[..., 1]).reshape(len(table), -1).min(axis=1)  # of each width
            for table in (self._outside, *self._inside)
        )
        # Without stages, all blocks are of the same kinds.
        return float((outside + depth / len(inside) * sum(inside)).min())

    def _choices(self, name: str) -> tuple[Value, ...]:
        space = self.space
        absent = (getattr(space.reference.blocks[0] if GENES[name].per_block else space.reference, name),)
        return space.network.get(name) or space.block.get(name) or absent

    def _indices(self, name: str, X: IntArray, block: int | None = None) -> IntArray:
        """Index of each network's choice for a gene, in one block or for all of them."""
        place = self._places.get((name, block), self._places.get((name, None)))
        return np.zeros(len(X), dtype=np.int64) if place is None else X[:, place]

    @cached_property
    def _places(self) -> dict[tuple[str, int | None], int]:
        return {(gene.name, gene.block): column for column, gene in enumerate(self.space.genes)}

    @cached_property
    def _inside(self) -> _Kinds:
        """What each kind of block costs in each stage, which are the first axis; without stages, anywhere."""
        return np.moveaxis(self._table(_INSIDE), -2, 0)[1:]

    @cached_property
    def _outside(self) -> _Kinds:
        """The same for everything that is not in a block."""
        return self._table(_OUTSIDE)[..., 0, :]

    def _table(self, names: tuple[str, ...]) -> _Kinds:
        """Costs outside blocks and in each place of a block, for each combination of choices."""
        choices = [self._choices(name) for name in names]
        rows = [
            self._counted(dict(zip(names, values, strict=True))) for values in itertools.product(*choices)
        ]
        return np.reshape(rows, (*map(len, choices), -1, 2))

    def _counted(self, sizes: Mapping[str, Value]) -> list[tuple[int, int]]:
        """The cost of each step and the cost that occurs once, from the costs of one and of two steps."""
        return [
            (two - one, 2 * one - two)
            for one, two in zip(*map(partial(self._parts, sizes), (1, 2)), strict=True)
        ]

    def _parts(self, sizes: Mapping[str, Value], steps: int) -> list[int]:
        """The cost of everything outside blocks, then of the block in each place."""
        own: dict[str, Any] = {name: value for name, value in sizes.items() if GENES[name].per_block}
        network: dict[str, Any] = {name: value for name, value in sizes.items() if name not in own}
        blocks = (replace(self.space.reference.blocks[0], **own),) * (self.space.settings.stages or 1)
        config = replace(self.space.reference, **network, time_steps=steps, blocks=blocks)
        layers = layer_shapes(config, self.space.settings, self.shape, self.classes)
        parts: list[list[LayerShape]] = [[] for _ in range(1 + len(blocks))]
        for layer in layers:
            kind, _, rest = layer.name.partition(".")
            parts[1 + int(rest.partition(".")[0]) if kind == "blocks" else 0].append(layer)
        return [COSTS[self.name](tuple(part)) for part in parts]


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
