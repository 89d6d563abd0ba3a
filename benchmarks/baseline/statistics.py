"""Several networks against one, each trained with several seeds: simultaneous intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import dunnett

Interval = tuple[float, float, float]  # estimate, lower, upper


def differences(
    control: Sequence[float], others: Mapping[str, Sequence[float]]
) -> dict[str, Interval | None]:
    """Difference of each mean from the control's, with intervals that hold together with 95 % confidence.

    Dunnett (1955), *A multiple comparison procedure for comparing several treatments with a control*: normal
    values, one variance for all, pooled over all networks. What varies is the seed; the images and the
    supernet are the same throughout, so the intervals say nothing of other images or another supernet.

    Args:
        control: the control's values, one for each seed.
        others: the others' values by name.

    Returns:
        Estimate, lower and upper bound by name; None where nothing varied, or there are too few seeds.
    """
    if not others:
        return {}
    rows = [np.asarray(values, dtype=float) for values in others.values()]
    alone = np.asarray(control, dtype=float)
    estimates = [float(row.mean() - alone.mean()) for row in rows]
    if min(map(len, (*rows, alone))) < 2 or all(np.ptp(row) == 0 for row in (*rows, alone)):
        return dict.fromkeys(others)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a network whose values are equal
        bounds = dunnett(*rows, control=alone, random_state=np.random.default_rng(0)).confidence_interval()
    triples = zip(others, estimates, bounds.low, bounds.high, strict=True)
    return {name: (estimate, float(low), float(high)) for name, estimate, low, high in triples}


def ratios(control: Sequence[float], others: Mapping[str, Sequence[float]]) -> dict[str, Interval | None]:
    """Ratio of each geometric mean to the control's: :func:`differences` of the logarithms.

    Args:
        control: the control's values, above 0.
        others: the others' values by name, above 0.
    """
    logarithms = {name: np.log(values).tolist() for name, values in others.items()}
    found = differences(np.log(control).tolist(), logarithms)
    return {
        name: None
        if interval is None
        else (math.exp(interval[0]), math.exp(interval[1]), math.exp(interval[2]))
        for name, interval in found.items()
    }
