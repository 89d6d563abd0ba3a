"""Objectives and constraints: functions of :class:`~aspk.metrics.Metrics`.

A user's own objective is one line::

    Objective("rate", "minimize", lambda metrics: metrics.firing_rate)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

import numpy as np
import numpy.typing as npt

from aspk.errors import ObjectiveError
from aspk.metrics import Metrics
from aspk.util.numbers import is_finite
from aspk.util.pareto import FloatArray

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Objective:
    """One number to optimise.

    Attributes:
        name: as shown in tables and on the dashboard.
        direction: ``maximize`` or ``minimize``.
        of: the number, a pure function of the metrics.
    """

    name: str
    direction: Direction
    of: Callable[[Metrics], float]

    def __post_init__(self) -> None:
        if self.direction not in ("maximize", "minimize"):
            raise ObjectiveError(
                f"objective {self.name!r}: direction {self.direction!r}: expected 'maximize' or 'minimize'"
            )

    def __call__(self, metrics: Metrics) -> float:
        """The objective's value.

        Raises:
            ObjectiveError: it is NaN or infinite, or the function raised an error.
        """
        return _number(f"objective {self.name!r}", self.of, metrics)


@dataclass(frozen=True)
class Constraint:
    """An upper bound on a number.

    Attributes:
        name: as shown in tables and on the dashboard.
        of: the bounded number, a pure function of the metrics.
        at_most: the bound, above 0.
    """

    name: str
    of: Callable[[Metrics], float]
    at_most: float

    def __post_init__(self) -> None:
        if not is_finite(self.at_most) or self.at_most <= 0:
            raise ObjectiveError(
                f"constraint {self.name!r}: at_most {self.at_most!r}: expected a number above 0"
            )

    def __call__(self, metrics: Metrics) -> float:
        """Relative excess over the bound: <= 0 is feasible, 0.1 is ten percent too much."""
        return _number(f"constraint {self.name!r}", self.of, metrics) / self.at_most - 1.0


def _number(what: str, of: Callable[[Metrics], float], metrics: Metrics) -> float:
    """A function's value; whatever it raises, 1 / 0 of a silent network say, is a fault of this network."""
    try:
        value = of(metrics)
    except Exception as error:
        raise ObjectiveError(f"{what} failed: {type(error).__name__}: {error}") from error
    if not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise ObjectiveError(f"{what} gave {value!r}: expected a finite number")
    return float(value)


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("accuracy", "maximize", attrgetter("accuracy")),
        Objective("energy", "minimize", attrgetter("energy_mj")),
        Objective("parameters", "minimize", attrgetter("parameters")),
        Objective("operations", "minimize", attrgetter("operations")),
        Objective("spikes", "minimize", attrgetter("spikes")),
    )
}


def objective(name: str) -> Objective:
    """A shipped objective by name.

    Raises:
        ObjectiveError: there is none of that name.
    """
    if name not in OBJECTIVES:
        raise ObjectiveError(f"no objective {name!r}: expected one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def budget(name: str, at_most: float) -> Constraint:
    """A constraint on a shipped objective, for instance ``budget("energy", 0.3)`` in mJ.

    Raises:
        ObjectiveError: no such objective, or it is one to maximise.
    """
    bounded = objective(name)
    if bounded.direction == "maximize":
        raise ObjectiveError(f"a budget bounds {name!r} from above, but {name!r} is to be maximised")
    return Constraint(name, bounded.of, at_most)


def minimised(values: npt.ArrayLike, directions: Sequence[Direction]) -> FloatArray:
    """Objective values, shape (n, k), with the sign flipped for objectives to maximise."""
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    rows: FloatArray = np.asarray(values, dtype=float).reshape(-1, len(directions))
    result: FloatArray = rows * signs
    return result
