"""What is known of a network before it is evaluated, and helps to predict its evaluation.

A free feature is any function of a network to a few numbers, ``Callable[[SubnetConfig], Sequence[float]]``.
:class:`LogOperations` is the one that comes with aspk, and what ``"operations"`` stands for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from aspk.config import BlockConfig, SubnetConfig
from aspk.cost import layer_shapes, operations
from aspk.errors import SamplerError
from aspk.operators import keys
from aspk.pareto import FloatArray
from aspk.space import IntArray, SearchSpace

FreeFeature = Callable[[SubnetConfig], Sequence[float]]
_SIZES = ("embed_dim", "mlp_ratio", "num_heads")  # what the operations of a block depend on
_MOST_REMEMBERED = 100_000  # networks


@dataclass(frozen=True)
class LogOperations:
    """Logarithm of the dense operations of one image over all T steps, from shapes alone.

    Attributes:
        space: the search space.
        shape: channels, height and width of an image. The default is that of CIFAR; for other images the
            logarithm is larger or smaller by nearly the same number for all networks, which no prediction
            notices.
        classes: number of classes.
    """

    space: SearchSpace
    shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10

    def __call__(self, config: SubnetConfig) -> tuple[float]:
        """The logarithm for one network."""
        layers = layer_shapes(config, self.space.settings, self.shape, self.classes)
        return (float(np.log(operations(layers))),)

    def of(self, X: npt.ArrayLike) -> FloatArray:
        """The same for index vectors of the space, shape (n, G); shape (n, 1).

        A search asks for hundreds of networks before each trial. The operations of a network are those of its
        stem and of each of its blocks, of which a space has few kinds.
        """
        X = np.asarray(X, dtype=np.int64)
        steps, depth = (self._values(name)[self._indices(name, X)] for name in ("time_steps", "depth"))
        costs = self._outside[self._indices("embed_dim", X)]
        for block in range(self.space.max_depth):
            kind = tuple(self._indices(name, X, block) for name in _SIZES)
            costs = costs + np.where(block < depth[:, None], self._inside[kind], 0.0)
        per_step, once = costs.T
        return np.asarray(np.log(steps * per_step + once))[:, None]

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
        """Operations of each step, and those that occur once, of each kind of block."""
        choices = [self._values(name).tolist() for name in _SIZES]
        rows = [self._counted(*kind, inside=True) for kind in itertools.product(*choices)]
        return np.reshape(rows, (*map(len, choices), 2))

    @cached_property
    def _outside(self) -> FloatArray:
        """The same of all that is not in a block, for each width."""
        _, ratio, heads = (self._values(name)[0] for name in _SIZES)
        return np.array([self._counted(w, ratio, heads, inside=False) for w in self._values("embed_dim")])

    def _counted(self, width: float, ratio: float, heads: float, *, inside: bool) -> tuple[int, int]:
        block = BlockConfig(mlp_ratio=ratio, num_heads=int(heads), v_threshold=1.0, tau=2.0)
        config = SubnetConfig(embed_dim=int(width), time_steps=2, blocks=(block,))
        layers = layer_shapes(config, self.space.settings, self.shape, self.classes)
        part = [layer for layer in layers if layer.name.startswith("blocks.") == inside]
        once = sum(layer.operations for layer in part if layer.repeats == 1)
        return sum(layer.operations for layer in part) - once, once


class FreeFeatures:
    """Free features of a space's networks as columns; a function is called once for each network.

    Args:
        space: the search space.
        parts: functions of a network, in the order of their columns; ``"operations"`` stands for
            :class:`LogOperations` with its defaults.
    """

    def __init__(self, space: SearchSpace, parts: Sequence[FreeFeature | Literal["operations"]]) -> None:
        self._space = space
        self._parts = [LogOperations(space) if part == "operations" else part for part in parts]
        self._known: dict[tuple[int, bytes], tuple[float, ...]] = {}

    def of(self, X: IntArray) -> FloatArray:
        """All features of index vectors of shape (n, G); shape (n, f).

        Raises:
            SamplerError: a function gave something else than finite numbers, as many for each network.
        """
        columns = [
            part.of(X) if isinstance(part, LogOperations) else self._called(number, part, X)
            for number, part in enumerate(self._parts)
        ]
        return np.hstack([np.zeros((len(X), 0)), *columns])

    def _called(self, number: int, part: FreeFeature, X: IntArray) -> FloatArray:
        if len(self._known) > _MOST_REMEMBERED:
            self._known.clear()
        names = [(number, key) for key in keys(self._space, X)]
        for name, x in zip(names, X, strict=True):
            if name not in self._known:
                self._known[name] = tuple(map(float, part(self._space.decode(x))))
        rows = [self._known[name] for name in names]
        for row in rows:
            if len(row) != len(rows[0]) or not np.isfinite(row).all():
                raise SamplerError(
                    f"features[{number}] gave {list(row)} for a network: expected finite numbers, "
                    "as many for each network"
                )
        return np.array(rows, dtype=float).reshape(len(X), -1)
