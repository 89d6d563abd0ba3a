"""F_AEB: one number that balances accuracy and energy, larger is better.

The paper (arXiv 2306.00807) names this fitness; the published text available to us gives no formula. The
forms below are ours. In all of them, with accuracy a, C classes, energy E and the reference network's E_ref::

    A = max(0, (a - 1/C) / (1 - 1/C))       accuracy above chance, 0 to 1
    e = max(E, floor * E_ref) / E_ref       relative energy, floored above 0

The functions take the numbers of one network, or arrays for many networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from aspk.errors import ObjectiveError
from aspk.metrics import Metrics
from aspk.objectives.base import Objective
from aspk.objectives.composite import Composite
from aspk.util.numbers import is_finite
from aspk.util.pareto import FloatArray
from aspk.util.schema import Positive, check_fields

Form = Literal["product", "linear", "chebyshev"]

# Default weights. product: 0.07 is MnasNet's exponent (Tan et al., CVPR 2019), a halving of the cost for 5 %
# of accuracy; the others are set so that halving the reference's energy is worth about the same there.
DEFAULT_WEIGHTS: dict[Form, float] = {"product": 0.07, "linear": 0.1, "chebyshev": 0.1}
_AUGMENTATION = 0.05
_LARGEST_LOGARITHM = 709.0  # whose exponential does not overflow


def accuracy_above_chance(accuracy: npt.ArrayLike, classes: int) -> FloatArray:
    """A = max(0, (a - 1/C) / (1 - 1/C)): 0 at or below chance, 1 when every answer is right."""
    chance = 1.0 / classes
    return np.maximum(0.0, (np.asarray(accuracy) - chance) / (1.0 - chance))


def product(above_chance: FloatArray, relative_energy: FloatArray, weight: float) -> FloatArray:
    """A * e ** -w.

    Increases with A and decreases with e (for A > 0). Level lines are A = c * e ** w, concave in e for
    w < 1, so it reaches the points of a front that such a curve touches: convex parts, and mildly concave
    ones. At chance it is 0 whatever the energy.
    """
    return np.asarray(above_chance * np.power(relative_energy, -weight))


def linear(above_chance: FloatArray, relative_energy: FloatArray, weight: float) -> FloatArray:
    """A - w * e, and 1 less at chance.

    Strictly monotone in both. It reaches only the convex hull of a front. The step at A = 0 keeps a dead,
    cheap network below every working one with w * e < 1.
    """
    return np.asarray(above_chance - weight * relative_energy - (above_chance == 0.0))


def chebyshev(above_chance: FloatArray, relative_energy: FloatArray, weight: float) -> FloatArray:
    """-(max(d) + rho * sum(d)) with d = ((1 - w) * (1 - A), w * e), rho = 0.05; 1 less at chance.

    Augmented Chebyshev distance to the fixed anchors A = 1 and e = 0, in units of the reference's energy.
    Strictly monotone in both. With a suitable w it reaches every point of a front, concave parts included,
    whose trade-offs are not steeper than rho allows.
    """
    of_accuracy, of_energy = (1.0 - weight) * (1.0 - above_chance), weight * relative_energy
    distance = np.maximum(of_accuracy, of_energy) + _AUGMENTATION * (of_accuracy + of_energy)
    return np.asarray(-distance - (above_chance == 0.0))


_FORMS: dict[Form, Callable[[FloatArray, FloatArray, float], FloatArray]] = {
    "product": product,
    "linear": linear,
    "chebyshev": chebyshev,
}


@dataclass(frozen=True, kw_only=True)
class FAEB:
    """F_AEB as a function of :class:`~aspk.metrics.Metrics`.

    Attributes:
        reference_energy_mj: E_ref, the reference network's energy in mJ, above 0.
        classes: number of classes C, at least 2.
        form: ``product``, ``linear`` or ``chebyshev``.
        weight: weight of energy, > 0 (below 1 for ``chebyshev``); None takes the form's default.
        floor: smallest relative energy that counts, above 0.
    """

    reference_energy_mj: Positive
    classes: Annotated[int, Meta(ge=2, le=2**53)]
    form: Form = "product"
    weight: Positive | None = None
    floor: Positive = 1e-3

    def __post_init__(self) -> None:
        check_fields(self, error=ObjectiveError, at="F_AEB: ")
        bound = 1.0 if self.form == "chebyshev" else 100.0
        if self.energy_weight >= bound:
            raise ObjectiveError(f"F_AEB: weight = {self.weight!r}: expected a number below {bound:g}")
        if self.form == "product" and -self.energy_weight * math.log(self.floor) > _LARGEST_LOGARITHM:
            raise ObjectiveError(
                f"F_AEB: floor = {self.floor!r} with weight = {self.energy_weight:g}: floor ** -weight "
                "overflows; expected a larger floor, or a smaller weight"
            )

    @property
    def energy_weight(self) -> float:
        """The weight in use."""
        return DEFAULT_WEIGHTS[self.form] if self.weight is None else self.weight

    def __call__(self, metrics: Metrics) -> float:
        """F_AEB of one network.

        Raises:
            ObjectiveError: accuracy or energy is not a finite number.
        """
        if not (is_finite(metrics.accuracy) and is_finite(metrics.energy_mj)):
            raise ObjectiveError(f"F_AEB of accuracy {metrics.accuracy} and energy {metrics.energy_mj} mJ")
        return float(self.of(metrics.accuracy, metrics.energy_mj))

    def of(self, accuracy: npt.ArrayLike, energy_mj: npt.ArrayLike) -> FloatArray:
        """F_AEB of many networks: arrays of one shape, accuracies in 0..1 and energies in mJ."""
        above = accuracy_above_chance(accuracy, self.classes)
        relative = np.maximum(np.asarray(energy_mj) / self.reference_energy_mj, self.floor)
        return _FORMS[self.form](above, relative, self.energy_weight)

    def objective(self) -> Objective:
        """F_AEB as an objective to maximise."""
        return Objective("f_aeb", "maximize", self)

    def composite(self) -> Composite:
        """F_AEB as a function of its parts, for a sampler that models accuracy and energy separately."""
        return Composite(parts={"accuracy": "maximize", "energy_mj": "minimize"}, of=self.of)

    def trade(self) -> str:
        """What one halving of energy is worth, in words."""
        w = self.energy_weight
        if self.form == "product":
            return f"halving the energy is worth {2**w - 1:.1%} of the accuracy above chance (w = {w:g})"
        worth = w / 2 if self.form == "linear" else w / 2 / (1 - w)
        return f"halving the reference's energy is worth {worth:.1%} of accuracy above chance (w = {w:g})"
