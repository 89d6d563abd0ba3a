"""Candidates: all genotypes that a short evolution on predicted values looks at."""

from __future__ import annotations

from collections.abc import Callable, Set

import numpy as np

from aspk.samplers._history import History, constrained_ranks
from aspk.space.operators import Genome, Genotypes, crossover, keys, mutate, sample
from aspk.util.pareto import FloatArray

Predict = Callable[[Genotypes], FloatArray]
_GENERATIONS = 6
_CHILDREN = 100
_SURVIVORS = 60
_CROSSED = 0.7  # share of the children with two parents


def evolve(
    genome: Genome,
    history: History,
    predict: Predict,
    population_size: int,
    rng: np.random.Generator,
    violation: Predict | None = None,
) -> tuple[Genotypes, FloatArray]:
    """Evolve candidates by their predicted values.

    The first generation are the study's best trials, mutants of them and random networks.

    Args:
        genome: the search space.
        history: the study.
        predict: objective values, minimised, shape (m, k), of genotypes of shape (m, G).
        population_size: number of best trials to start from.
        rng: source of randomness.
        violation: of the constraints, shape (m,), 0 is feasible; None without constraints.

    Returns:
        Every genotype that was looked at, shape (m, G), and its predicted values, shape (m, k).
    """
    best = history.X[history.best(population_size)]
    near = mutate(genome, best[rng.integers(len(best), size=2 * population_size)], rng)
    X = np.concatenate([best, near, sample(genome, 3 * population_size, rng)])
    seen, values, broken = [X], [predict(X)], [_broken(violation, X)]
    parents, scores, excess = X, values[0], broken[0]
    for _ in range(_GENERATIONS):
        order = np.argsort(constrained_ranks(scores, excess), kind="stable")[:_SURVIVORS]
        parents, scores, excess = parents[order], scores[order], excess[order]
        a, b = rng.integers(len(parents), size=(2, _CHILDREN))
        crossed = rng.random((_CHILDREN, 1)) < _CROSSED
        children = np.where(crossed, crossover(genome, parents[a], parents[b], rng), parents[a])
        seen.append(mutate(genome, children, rng))
        values.append(predict(seen[-1]))
        broken.append(_broken(violation, seen[-1]))
        parents, scores = np.concatenate([parents, seen[-1]]), np.concatenate([scores, values[-1]])
        excess = np.concatenate([excess, broken[-1]])
    return np.concatenate(seen), np.concatenate(values)


def _broken(violation: Predict | None, X: Genotypes) -> FloatArray:
    return np.zeros(len(X)) if violation is None else violation(X)


def unseen(genome: Genome, X: Genotypes, known: Set[bytes]) -> list[int]:
    """Rows of ``X`` with a new design each, the first of equal ones."""
    first = {key: row for row, key in reversed(list(enumerate(keys(genome, X)))) if key not in known}
    return sorted(first.values())


def distance_to_front(values: FloatArray, front: FloatArray) -> FloatArray:
    """By what share of the front's range, in all objectives at once, each row must improve to reach it.

    Args:
        values: minimised, shape (m, k).
        front: shape (n, k), n >= 1.

    Returns:
        Shape (m,); 0 or less where a point of the front is not better.
    """
    span = np.ptp(front, axis=0)
    scale = np.where(span > 0, span, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):  # for almost empty ranges
        gaps = values[:, None, :] / scale - front[None, :, :] / scale
        result: FloatArray = np.nan_to_num(gaps).max(axis=2).min(axis=1)
    return result
