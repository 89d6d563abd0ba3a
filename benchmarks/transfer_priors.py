"""Hyperparameters of processes on whole tables: the source of the transfer priors in aspk.surrogate.priors.

A process is fitted under nearly flat priors to 300 networks, nine times for each objective: three draws near
the front, three from further around it and three of all networks. Printed are medians, with the standard
deviation of the nine logarithms in brackets.

    python benchmarks/transfer_priors.py                       # all shipped tables and the formula
    python benchmarks/transfer_priors.py --table fashion_sizes
"""

from __future__ import annotations

import argparse
from unittest import mock

import numpy as np
from search_problems import FormulaProblem, Problem, TableProblem

from aspk.samplers._pool import distance_to_front
from aspk.space.operators import sample_distinct
from aspk.surrogate.features import columns, features
from aspk.surrogate.hyperparameters import most_probable
from aspk.surrogate.priors import Priors, weak_priors
from aspk.tables import shipped_tables
from aspk.util.pareto import FloatArray, nondominated

NETWORKS, DRAWS = 300, 3
AROUND = (0.05, 0.2, None)  # of the front's range, how far networks lie from the front; None takes any
OBJECTIVES = ("accuracy", "logarithm of energy")


def main() -> None:
    """Print the hyperparameters of each problem, one table for each objective."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="append", metavar="NAME", help="a shipped table (default: all)")
    names = parser.parse_args().table
    problems: list[Problem] = [TableProblem(name) for name in names or shipped_tables()]
    for k, objective in enumerate(OBJECTIVES):
        found = {
            p.name.split()[0]: measured(p, k) for p in (problems if names else [*problems, FormulaProblem()])
        }
        labels = sorted({label for column in found.values() for label in column}, key=_place)
        print(f"{objective:20}" + "".join(f"{name:>16}" for name in found))
        for label in labels:
            print(f"{label:20}" + "".join(f"{column.get(label, '-'):>16}" for column in found.values()))
        print(flush=True)


def measured(problem: Problem, k: int) -> dict[str, str]:
    """Maps the label of each hyperparameter of one objective to its median and deviation."""
    space, rng = problem.space, np.random.default_rng(k)
    X = sample_distinct(space, min(space.size, 10_000), rng)
    values = problem.values(X)
    distance = distance_to_front(values, values[nondominated(values)])
    targets = np.log(values[:, k]) if k else values[:, k]
    fits = [
        fitted(features(space, X[rows]), targets[rows])
        for around in AROUND
        for _ in range(DRAWS)
        for rows in [drawn(distance, around, rng)]
    ]
    labels = ["signal", "noise"]
    for feature in columns(space):
        where = ".mean" if feature.mean else "" if feature.block is None else f".{feature.block}"
        labels.append(feature.gene + where)
    middle, spread = np.exp(np.median(fits, axis=0)), np.std(fits, axis=0)
    return {label: f"{m:.2g} ({s:.1f})" for label, m, s in zip(labels, middle, spread, strict=True)}


def _place(label: str) -> tuple[int, str]:
    """Signal and noise first, then genes by name."""
    return ({"signal": 0, "noise": 1}.get(label, 2), label)


def drawn(distance: FloatArray, around: float | None, rng: np.random.Generator) -> FloatArray:
    """Rows of :data:`NETWORKS` networks."""
    jitter = rng.exponential(around, len(distance)) + distance if around else rng.random(len(distance))
    return np.argsort(jitter)[:NETWORKS]


def fitted(inputs: FloatArray, targets: FloatArray) -> FloatArray:
    """Logarithms of signal, noise and lengths."""
    with mock.patch("aspk.surrogate.hyperparameters._ROUNDS", ((NETWORKS, 60),)):
        h = most_probable(inputs, (targets - targets.mean()) / targets.std(), 0, flat_priors(inputs.shape[1]))
    return np.log([h.signal, h.noise, *h.lengths])


def flat_priors(count: int) -> Priors:
    """Deviations of 3 and bounds that hardly bind."""
    priors = weak_priors(count)
    priors[:, 1] = 3.0
    priors[0, 2:], priors[3:, 2:] = (-4.0, 8.0), (-2.5, 5.0)
    priors[1] = np.log(0.003), 3.0, np.log(1e-6), 0.5
    return priors


if __name__ == "__main__":
    main()
