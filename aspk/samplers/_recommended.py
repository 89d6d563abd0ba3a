"""The networks that an earlier study recommends to begin with."""

from __future__ import annotations

import numpy as np

from aspk.samplers._history import History
from aspk.samplers._pool import Predict, evolve
from aspk.space.operators import Genome, Genotypes
from aspk.util.pareto import hypervolume, nondominated

_MARGIN = 0.1  # of the front's range, by which the reference point lies behind it


def recommended(
    genome: Genome,
    prior: History,
    predict: Predict,
    population_size: int,
    count: int,
    rng: np.random.Generator,
) -> Genotypes:
    """Networks whose predicted values dominate most, each given those before it, shape (count, G).

    Args:
        genome: the search space.
        prior: the earlier study.
        predict: its predictions, minimised, shape (m, k).
        population_size: number of its best trials from which candidates are evolved.
        count: how many.
        rng: source of randomness.
    """
    X, values = evolve(genome, prior, predict, population_size, rng)
    front = np.flatnonzero(nondominated(values))
    values = values[front]
    reference = values.max(axis=0) + _MARGIN * np.ptp(values, axis=0)
    chosen: list[int] = []
    for _ in range(count):
        volumes = [hypervolume(values[[*chosen, row]], reference) for row in range(len(front))]
        chosen.append(int(np.argmax(volumes)))
    return X[front[chosen]]
