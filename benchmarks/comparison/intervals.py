"""Paired comparisons of several networks that were trained with the same seeds: simultaneous intervals.

The model is that of randomised blocks: a value is the sum of its network's mean, its seed's deviation, which
all networks share, and normal noise of one variance. With two networks this is the paired t-test; with all
pairs it is Tukey's comparison (1953). Ratios have a variance for each pair. What varies is the seed; the
images are the same throughout, so that the intervals say nothing of other images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Pair = tuple[str, str]
Interval = tuple[float, float, float]  # estimate, lower, upper
_DRAWS = 400_000  # of the largest of several t statistics; the quantile is then exact to about 0.3 %


def paired_differences(
    values: Mapping[str, Sequence[float]], pairs: Sequence[Pair], *, confidence: float = 0.95
) -> dict[Pair, Interval | None]:
    """Differences of means with intervals that hold together.

    Args:
        values: for each network its values, one for each seed, in the same order; all of the networks count
            for the variance.
        pairs: names of the networks to compare, (first, second) for the first minus the second.
        confidence: with which all intervals hold at once.

    Returns:
        Estimate, lower and upper bound by pair; None where nothing varies or there are fewer than two seeds.
    """
    table = np.array([list(own) for own in values.values()], dtype=float)
    rows = {name: place for place, name in enumerate(values)}
    count = table.shape[1] if table.ndim == 2 else 0
    if len(table) < 2 or count < 2 or not pairs:
        return dict.fromkeys(pairs)
    means = table.mean(axis=1)
    noise = table - means[:, None] - table.mean(axis=0) + table.mean()
    freedom = (len(table) - 1) * (count - 1)
    deviation = math.sqrt(float(np.square(noise).sum()) / freedom)
    if deviation <= 1e-12 * float(np.abs(table).max(initial=0.0)):
        return dict.fromkeys(pairs)
    places = np.array([(rows[first], rows[second]) for first, second in pairs])
    reach = _critical(places, len(table), freedom, confidence) * deviation * math.sqrt(2 / count)
    found = {}
    for pair, (first, second) in zip(pairs, places, strict=True):
        estimate = float(means[first] - means[second])
        found[pair] = (estimate, estimate - reach, estimate + reach)
    return found


def paired_ratios(
    values: Mapping[str, Sequence[float]], pairs: Sequence[Pair], *, confidence: float = 0.95
) -> dict[Pair, Interval | None]:
    """Ratios of geometric means with intervals that hold together, each from the scatter of its own pair.

    Spikes, and with them energies, of some networks scatter fifty times as much as those of others, so that
    one variance for all would make some intervals too narrow. Each is the paired t-test of the logarithms
    of values above 0, and they hold together by Bonferroni's inequality.
    """
    different = len({frozenset(pair) for pair in pairs})
    found: dict[Pair, Interval | None] = {}
    for pair in pairs:
        own = {name: np.log(values[name]).tolist() for name in pair}
        interval = paired_differences(own, [pair], confidence=1 - (1 - confidence) / different)[pair]
        found[pair] = None if interval is None else _exponential(*interval)
    return found


def _exponential(estimate: float, low: float, high: float) -> Interval:
    return math.exp(estimate), math.exp(low), math.exp(high)


def _critical(places: npt.NDArray[np.int64], networks: int, freedom: int, confidence: float) -> float:
    """The bound that the largest of the pairs' absolute t statistics keeps with the given confidence."""
    if len({frozenset(pair) for pair in places.tolist()}) == 1:
        return float(student.ppf((1 + confidence) / 2, freedom))
    rng = np.random.default_rng(0)
    means = rng.standard_normal((_DRAWS, networks))
    largest = np.abs(means[:, places[:, 0]] - means[:, places[:, 1]]).max(axis=1) / math.sqrt(2)
    return float(np.quantile(largest / np.sqrt(rng.chisquare(freedom, _DRAWS) / freedom), confidence))
