"""What an earlier study of one's own saves a search, and what a misleading one costs it.

The problems are shipped tables. An earlier study holds 60 random networks, told

- `related`: another table's values in another space, of networks that are in both: of another supernet and
  data set, or, for `fashion_blocks`, of the same supernet;
- `images`: the table's own accuracies on other images, and another energy account;
- `opposite`: the table's values with their order reversed: the worst networks look best;
- `shuffled`: the table's values, each at another network: nothing can be learnt.

    python benchmarks/prior_studies.py --log benchmarks/records/prior_studies.jsonl
    python benchmarks/prior_studies.py --log benchmarks/records/prior_studies.jsonl --seeds 0   # print only
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from run_log import RunLog
from search_problems import TableProblem

from aspk.samplers import SurrogateSampler, gene_distribution
from aspk.space import IntArray, SearchSpace
from aspk.tables import Table, load_table
from aspk.trials import note_study_record
from aspk.trials.attributes import SPACE
from aspk.util.pareto import FloatArray

DIRECTIONS = ("maximize", "minimize")
NETWORKS = 60  # of an earlier study
RELATED = {
    "fashion_blocks": "fashion_sizes",
    "digits_heads": "fashion_shared",
    "mnist_mixed": "fashion_sizes",
}
SHARES = (0.8, 0.9, 0.95)
AT = (5, 10, 20, 40)
Make = Callable[[Table, np.random.Generator], list[optuna.Study]]


def table_values(table: Table, split: str = "search", energy: str = "energy_mj") -> FloatArray:
    """Accuracy and energy of every network, shape (n, 2)."""
    columns = table.splits[split]
    return np.column_stack([columns["accuracy"], columns[energy]])


def study_of(space: SearchSpace, X: IntArray, values: FloatArray) -> optuna.Study:
    """A finished study of these networks."""
    study = optuna.create_study(directions=DIRECTIONS)
    note_study_record(study, {SPACE: space.to_json()})
    distributions = {gene.parameter: gene_distribution(gene) for gene in space.genes}
    for x, row in zip(X, values, strict=True):
        params = space.parameters(x)
        own = {name: distributions[name] for name in params}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=own, values=[float(value) for value in row]
            )
        )
    return study


def _drawn(table: Table, values: FloatArray, rng: np.random.Generator) -> list[optuna.Study]:
    rows = rng.choice(table.size, NETWORKS, replace=False)
    return [study_of(table.space, table.networks[rows], values[rows])]


@cache
def _shared(name: str, other: str) -> IntArray:
    """Rows of the other table whose networks are in this one's space, too."""
    space, theirs = load_table(name).space, load_table(other)
    own = {space.decode(x) for x in space.networks()}
    return np.flatnonzero([theirs.space.decode(x) in own for x in theirs.networks])


def related(table: Table, rng: np.random.Generator) -> list[optuna.Study]:
    name = RELATED[table.space.name]
    other, rows = load_table(name), rng.choice(_shared(table.space.name, name), NETWORKS, replace=False)
    return [study_of(other.space, other.networks[rows], table_values(other)[rows])]


def opposite(table: Table, rng: np.random.Generator) -> list[optuna.Study]:
    accuracy, energy = table_values(table).T
    return _drawn(table, np.column_stack([1 - accuracy, energy.min() * energy.max() / energy]), rng)


KINDS: dict[str, Make] = {
    "none": lambda table, rng: [],
    "related": related,
    "images": lambda table, rng: _drawn(table, table_values(table, "test", "strict_mj"), rng),
    "opposite": opposite,
    "shuffled": lambda table, rng: _drawn(table, rng.permutation(table_values(table)), rng),
}


def measured(name: str, kind: str, seed: int, budget: int) -> dict[str, Any]:
    """One search: the share of the hypervolume after each evaluation."""
    problem = TableProblem(name)
    priors = KINDS[kind](problem.search.table, np.random.default_rng([seed, 1]))
    start = time.process_time()
    sampler = SurrogateSampler(space=problem.space, seed=seed, prior_studies=priors)
    study = optuna.create_study(sampler=sampler, directions=DIRECTIONS)
    X = []
    for _ in range(budget):
        (trial,) = sampler.ask_batch(study, 1)
        X.append(problem.space.from_parameters(trial.params))
        accuracy, energy = problem.values(X[-1][None])[0]
        study.tell(trial, [-accuracy, energy])
    seconds = time.process_time() - start
    curve = problem.quality(np.array(X), problem.values(np.array(X)), range(1, budget + 1))
    rounded = [round(float(share), 4) for share in curve]
    return {
        "problem": name,
        "kind": kind,
        "seed": seed,
        "budget": budget,
        "ms": round(1e3 * seconds / budget, 1),
        "curve": rounded,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="append", choices=RELATED)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.disable(logging.WARNING)
    log = RunLog(options.log, ("problem", "kind", "seed", "budget"))
    tables = options.table or list(RELATED)
    seeds = range(1000, 1000 + options.seeds)
    keys = ((name, kind, seed, options.budget) for seed in seeds for name in tables for kind in KINDS)
    log.complete(measured, keys)
    for name in tables:
        for kind in KINDS:
            runs = log.select(problem=name, kind=kind, budget=options.budget)
            curves = np.array([run["curve"] for run in runs])
            if not len(curves):
                continue
            at = " ".join(f"{np.median(curves[:, n - 1]):.3f}" for n in AT if n <= options.budget)
            to = [_median([_first(curve, share) for curve in curves]) for share in SHARES]
            ms = np.median([run["ms"] for run in runs])
            print(f"{name:16}{kind:10} {len(curves)} seeds, after {AT}: {at}; to {SHARES}: {to}; {ms:.0f} ms")
    return 0


def _first(curve: FloatArray, share: float) -> float:
    reached = np.flatnonzero(curve >= share)
    return float(reached[0] + 1) if len(reached) else np.inf


def _median(counts: list[float]) -> float:
    return float(np.median(counts))


if __name__ == "__main__":
    sys.exit(main())
