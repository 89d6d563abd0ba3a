"""One Optuna parameter as one gene: see :mod:`aspk.samplers._codec`."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

ParameterValue = Any  # anything that a categorical parameter may hold
_MOST_CHOICES = 64  # a numeric grid with more points becomes a real coordinate
_MOST_STEPS = 2**53  # of a grid; floats cannot count beyond
_ON_GRID, _ROUNDING = 1e-6, 1e-9  # distances from a point of a grid, in steps, that are due to rounding
_LARGEST = sys.float_info.max
_LARGEST_LOGARITHM = 709.78  # whose exponential does not overflow


@dataclass(frozen=True)
class Coordinate:
    """One parameter as one gene: an index where it has few values, else a real number in [0, 1]."""

    distribution: BaseDistribution

    @cached_property
    def cardinality(self) -> int:
        """Number of values; 0 for a real coordinate."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return len(d.choices)
        if d.single():
            return 1
        if self._log or self._step is None:
            return 0
        low, high = self._range
        steps = (high - low) / self._step
        return round(steps) + 1 if steps < _MOST_CHOICES - 0.5 else 0

    @property
    def ordered(self) -> bool:
        """Whether its values have an order."""
        return not isinstance(self.distribution, CategoricalDistribution)

    @property
    def _range(self) -> tuple[float, float]:
        d = self.distribution
        assert isinstance(d, IntDistribution | FloatDistribution)
        return float(d.low), float(d.high)

    @property
    def _log(self) -> bool:
        return bool(getattr(self.distribution, "log", False))

    @property
    def _step(self) -> float | None:
        step = getattr(self.distribution, "step", None)
        return None if step is None else float(step)

    @property
    def stepped(self) -> bool:
        """Whether the parameter's values lie on a grid."""
        return self._step is not None

    def holds(self, value: ParameterValue) -> bool:
        """Whether a number is on the grid, if there is one; a trial from before there was may lie between."""
        if self._step is None or self.distribution.single():
            return True
        steps = (float(value) - self._range[0]) / self._step
        return math.isclose(steps, round(steps), rel_tol=_ROUNDING, abs_tol=_ON_GRID)

    @property
    def _bounds(self) -> tuple[float, float]:
        """Ends of the real coordinate; half a step wider, so that all grid points are equally likely."""
        low, high = self._range
        half = 0.0 if self._step is None else self._step / 2
        low, high = max(low - half, -_LARGEST), min(high + half, _LARGEST)
        return (math.log(low), math.log(high)) if self._log else (low, high)

    @property
    def _unit(self) -> float:
        """1, or 1/2 where the range itself would overflow."""
        low, high = self._bounds
        return 1.0 if math.isfinite(high - low) else 0.5

    def encode(self, value: ParameterValue) -> float:
        """The gene of a parameter value: an index, or u = (value - a) / (b - a), in logarithms if log.

        Raises:
            ValueError: it is outside the distribution, as an enqueued value may be.
            TypeError: it is not a number.
        """
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.to_internal_repr(value)
        low, high = self._range
        if not low <= value <= high:
            raise ValueError(f"{value} is not between {low:g} and {high:g}")
        if self.cardinality:
            return float(round((float(value) - low) / (self._step or 1.0)))
        start, end = (bound * self._unit for bound in self._bounds)
        number = (math.log(float(value)) if self._log else float(value)) * self._unit
        return min(max((number - start) / (end - start), 0.0), 1.0)

    def decode(self, gene: float) -> ParameterValue:
        """The parameter value of a gene: :meth:`encode` inverted, then moved onto the grid."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return d.choices[int(gene)]
        low, high = self._range
        if self.cardinality:
            value = low + int(gene) * (self._step or 1.0)
        else:
            start, end = (bound * self._unit for bound in self._bounds)
            value = (start + float(gene) * (end - start)) / self._unit
            value = math.exp(min(value, _LARGEST_LOGARITHM)) if self._log else value
            if self._step is not None and (steps := (value - low) / self._step) < _MOST_STEPS:
                value = low + round(steps) * self._step
        value = min(max(value, low), high)
        return min(max(round(value), d.low), d.high) if isinstance(d, IntDistribution) else value
