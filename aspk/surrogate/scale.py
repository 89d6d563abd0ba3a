"""Conversion of targets to the scale that a process learns them on, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aspk.util.pareto import FloatArray

_VAGUE = 1e6  # standard deviations of a target beyond which it has no weight


@dataclass(frozen=True)
class Scale:
    """z = (y - mean) / deviation, or the same of ln y.

    Attributes:
        logarithm: whether the logarithm is learnt.
        mean: of the targets, or of their logarithms.
        deviation: their standard deviation, 1 if all are equal.
    """

    logarithm: bool
    mean: float
    deviation: float

    @staticmethod
    def of(targets: FloatArray, *, logarithm: bool) -> Scale:
        """The scale of a training set, shape (n,)."""
        values = np.log(targets) if logarithm else targets
        deviation = float(values.std())
        return Scale(logarithm, float(values.mean()), deviation if deviation > 0 else 1.0)

    def standard(self, targets: FloatArray) -> FloatArray:
        """Targets of mean 0 and deviation 1."""
        values = np.log(targets) if self.logarithm else targets
        return np.asarray((values - self.mean) / self.deviation)

    def variance(self, targets: FloatArray, std: FloatArray | None) -> FloatArray | None:
        """Variances of standardised targets whose standard deviations are given; None where all are 0.

        For a logarithm it is (std / y)², to first order.
        """
        if std is None or not std.any():
            return None
        with np.errstate(over="ignore"):
            scaled = std / (targets if self.logarithm else 1.0) / self.deviation
        return np.square(np.minimum(scaled, _VAGUE))

    def original(self, mean: FloatArray, std: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the targets; of a log-normal one the median, and exp(m) sinh(s).

        The latter is half of the distance between the values one standard deviation below and above.
        """
        mean, std = self.mean + self.deviation * mean, self.deviation * std
        if not self.logarithm:
            return mean, std
        median = np.exp(np.minimum(mean, 600.0))
        return median, median * np.sinh(np.minimum(std, 50.0))

    def log_density(self, targets: FloatArray) -> float:
        """The sum of ln dz/dy over the targets, which makes the evidences of two scales comparable."""
        jacobian = -np.log(targets).sum() if self.logarithm else 0.0
        return float(jacobian - len(targets) * np.log(self.deviation))
