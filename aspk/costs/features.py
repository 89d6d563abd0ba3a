"""What is known about a network before it is evaluated and helps to predict the result.

A free feature is any function from a network to a few numbers, ``Callable[[SubnetConfig], Sequence[float]]``.
:class:`LogOperations` is the one shipped with aspk; ``"operations"`` is short for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aspk.costs.known import Cost
from aspk.costs.values import KnownValues
from aspk.errors import SamplerError
from aspk.space import IntArray, SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.util.pareto import FloatArray

FreeFeature = Callable[[SubnetConfig], Sequence[float]]


@dataclass(frozen=True)
class LogOperations:
    """Logarithm of the dense operations of one image over all T steps, from shapes alone.

    Attributes:
        space: the search space.
        shape: channels, height and width of an image. The default is that of CIFAR; for other images the
            logarithm of all networks shifts by nearly the same number, which does not affect predictions.
        classes: number of classes.
    """

    space: SearchSpace
    shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10

    def __call__(self, config: SubnetConfig) -> tuple[float]:
        """The logarithm for one network."""
        return (float(np.log(self._cost(config))),)

    def of(self, X: npt.ArrayLike) -> FloatArray:
        """The same for index vectors of the space, shape (n, G); shape (n, 1)."""
        return np.asarray(np.log(self._cost.of(X)))[:, None]

    @cached_property
    def _cost(self) -> Cost:
        return Cost("operations", self.space, self.shape, self.classes)


class FreeFeatures:
    """Free features of a space's networks as columns; each function is called once for each network.

    Args:
        space: the search space.
        parts: functions of a network, in the order of their columns; ``"operations"`` is
            :class:`LogOperations` with its defaults.
    """

    def __init__(self, space: SearchSpace, parts: Sequence[FreeFeature | Literal["operations"]]) -> None:
        self._space = space
        self._parts = [LogOperations(space) if part == "operations" else part for part in parts]
        self._known = KnownValues()

    def of(self, X: npt.NDArray[Any]) -> FloatArray:
        """All features of index vectors of shape (n, G); shape (n, f).

        Raises:
            SamplerError: a function did not return finite numbers, the same number of them for every network.
        """
        X = np.asarray(X).astype(np.int64)
        columns = [
            part.of(X)  # its index vectors describe the same networks
            if isinstance(part, LogOperations) and part.space == self._space
            else self._called(number, part, X)
            for number, part in enumerate(self._parts)
        ]
        return np.hstack([np.zeros((len(X), 0)), *columns])

    def _called(self, number: int, part: FreeFeature, X: IntArray) -> FloatArray:
        if not len(X):  # one network shows how many numbers it returns
            return self._called(number, part, self._space.encode(self._space.reference)[None])[:0]
        rows = self._known.each(self._space, number, lambda config: tuple(map(float, part(config))), X)
        for row in rows:
            if len(row) != len(rows[0]) or not np.isfinite(row).all():
                raise SamplerError(
                    f"features[{number}] gave {list(row)} for a network: expected finite numbers, "
                    "the same number of them for every network"
                )
        return np.array(rows, dtype=float).reshape(len(X), -1)
