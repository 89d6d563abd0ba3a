"""Objectives that are a known function of what trials measure, such as F_AEB of accuracy and energy.

A sampler that knows the function learns the parts, each of which is easier to predict than their composition
(composite Bayesian optimisation: Astudillo and Frazier, ICML 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from aspk.errors import ObjectiveError
from aspk.objectives.base import Direction
from aspk.util.pareto import FloatArray

_MOST_PARTS = 6  # expectations are sums over all combinations of a few values of each part


@dataclass(frozen=True, kw_only=True)
class Composite:
    """A function of numbers that each trial carries as user attributes.

    The energy-delay product of an evaluator that measures both, for example::

        Composite(
            parts={"energy_mj": "minimize", "latency_ms": "minimize"},
            of=lambda energy, latency: energy * latency,
        )

    Attributes:
        parts: name of a trial's user attribute to the direction in which it is better, all else equal.
        of: computes the objective's value, with the sign that trials report (also if it is maximised), from
            one array for each part, in order; it works element by element, as NumPy's functions do.
    """

    parts: Mapping[str, Direction]
    of: Callable[..., FloatArray]

    def __post_init__(self) -> None:
        if not 1 <= len(self.parts) <= _MOST_PARTS:
            raise ObjectiveError(
                f"composite objective of {len(self.parts)} parts: expected 1 to {_MOST_PARTS} names of user "
                "attributes"
            )
        for name, direction in self.parts.items():
            if direction not in ("maximize", "minimize"):
                raise ObjectiveError(
                    f"composite objective, part {name!r}: direction {direction!r}: "
                    "expected 'maximize' or 'minimize'"
                )

    def values(self, *parts: FloatArray) -> FloatArray:
        """The objective's values from the values of its parts; NaN or infinite where it is not defined."""
        with np.errstate(all="ignore"):
            return np.asarray(self.of(*parts), dtype=float)
