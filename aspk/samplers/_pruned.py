"""Final values that pruned trials would have reached, predicted from complete trials at the same step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from aspk.samplers._history import BoolArray
from aspk.util.pareto import FloatArray, within_reach

_FEWEST = 3  # complete trials needed to fit a line


def completed(
    values: FloatArray, pruned: BoolArray, curves: Sequence[Mapping[int, float]]
) -> tuple[FloatArray, FloatArray]:
    """Final values of complete trials, and those predicted for pruned ones, minimised.

    A predicted value is never better than the best final one: a pruner stops what looks worse.

    Args:
        values: final values, or for pruned trials those at their last step, shape (n,).
        pruned: which are pruned, shape (n,).
        curves: for each trial, maps a step to the value reported there.

    Returns:
        The values, and the standard deviations of those that are predicted, 0 elsewhere; shape (n,) each.
    """
    result, std = within_reach(values), np.zeros(len(values))
    final, complete = result[~pruned], [curve for curve, out in zip(curves, pruned, strict=True) if not out]
    if not len(final):
        return result, std
    last = np.array([max(curve, default=0) for curve in curves])
    for step in np.unique(last[pruned]).tolist():
        rows = pruned & (last == step)
        then = np.array([curve.get(step, np.nan) for curve in complete])
        peers = np.isfinite(then)
        if peers.any():
            with np.errstate(over="ignore"):  # of deviations, which are then clipped
                predicted, deviation = projected(within_reach(then[peers]), final[peers], result[rows])
            result[rows], std[rows] = predicted, within_reach(deviation)
        else:
            std[rows] = np.ptp(final)
    result[pruned] = np.maximum(result[pruned], final.min())
    return result, std


def projected(then: FloatArray, final: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Final values predicted from ``values`` by a line through (``then``, ``final``), and their deviations.

    Least squares over n complete trials with the values x_i then and y_i in the end: y = ȳ + slope (x - x̄),
    and the variance of a new observation is s² (1 + 1/n + (x - x̄)² / sum (x_i - x̄)²), s² that of residuals.
    Training brings trials closer together, not farther apart: slopes beyond 1 are due to chance.
    """
    n = len(then)
    if n < _FEWEST:
        gain = final - then
        return values + np.median(gain), np.full(len(values), np.ptp(final) + np.abs(gain).max())
    apart = then - then.mean()
    around = apart @ apart
    slope = np.clip(apart @ (final - final.mean()) / around, 0.0, 1.0) if around > 0 else 1.0
    left = final - final.mean() - slope * apart
    distance = np.square(values - then.mean()) / around if around > 0 else np.zeros(len(values))
    variance = left @ left / (n - 2) * (1 + 1 / n + distance)
    return final.mean() + slope * (values - then.mean()), np.sqrt(variance)
