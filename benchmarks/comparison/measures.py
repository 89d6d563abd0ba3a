"""What a set of networks is worth: accuracy at equal energy, energy at equal accuracy, the area under both.

Energies span orders of magnitude. On a linear axis nearly all of the area lies at energies where every
network does well, so that it is full after a few networks; so the axis is logarithmic here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aspk.util.pareto import hypervolume


def accuracy_at(accuracies: Sequence[float], energies: Sequence[float], energy: float) -> float:
    """The best accuracy of the networks that take no more than ``energy``; NaN if there is none."""
    pairs = zip(accuracies, energies, strict=True)
    return max((accuracy for accuracy, own in pairs if own <= energy), default=math.nan)


def energy_at(accuracies: Sequence[float], energies: Sequence[float], accuracy: float) -> float:
    """The least energy of the networks that are at least as accurate; NaN if there is none."""
    pairs = zip(accuracies, energies, strict=True)
    return min((energy for own, energy in pairs if own >= accuracy), default=math.nan)


def log_hypervolume(
    accuracies: Sequence[float], energies: Sequence[float], *, chance: float, cheapest: float, dearest: float
) -> float:
    """Share of the box between chance and 1, and between two energies on a logarithmic axis.

    It is the mean, over the logarithm of a bound on the energy, of the best accuracy above chance within the
    bound, over the best possible: 0 for nothing above chance, 1 for a perfect network at ``cheapest``.

    Args:
        accuracies: 0 to 1.
        energies: in any unit, at least 0; a network below ``cheapest`` counts as if it took that.
        chance: the accuracy of a guess.
        cheapest: the lower end of the axis, above 0.
        dearest: the upper end.
    """
    if not 0 < cheapest < dearest or not 0 <= chance < 1:
        raise ValueError(
            f"cheapest={cheapest}, dearest={dearest}, chance={chance}: expected 0 < cheapest < dearest"
        )
    energy = np.log(np.maximum(np.asarray(energies, dtype=float), cheapest) / cheapest)
    points = np.column_stack([-np.asarray(accuracies, dtype=float), energy]).reshape(-1, 2)
    span = math.log(dearest / cheapest)
    return hypervolume(points, [-chance, span]) / ((1 - chance) * span)
