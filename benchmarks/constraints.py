"""Searches under a budget: how many of the networks keep it, and how good the best of them is.

Accuracy alone is maximised on tables whose answer is known, under bounds on energy, on operations, and on
energy and parameters. Some samplers have operations and parameters as known constraints. The score runs
from 0, the median of all networks that keep the bounds, to 1, the best of them.

    python benchmarks/constraints.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import optuna
from search_problems import closed_cost

from aspk.costs.known import COSTS, CostConstraint
from aspk.samplers import GenotypeSampler, NSGA2Sampler, RandomSampler, SurrogateSampler
from aspk.tables import TabularEvaluator
from aspk.util.pareto import FloatArray

SAMPLERS: dict[str, Callable[..., GenotypeSampler]] = {
    "random": RandomSampler,
    "aspk NSGA2 (20)": lambda **options: NSGA2Sampler(population_size=20, **options),
    "aspk surrogate": SurrogateSampler,
}
KNOWN = " ... with known bounds"
BUDGETS: dict[str, dict[str, float]] = {  # the bound as a quantile of all networks
    "energy, 10 %": {"energy": 0.1},
    "energy, 2 %": {"energy": 0.02},
    "operations, 2 %": {"operations": 0.02},
    "energy and parameters, 30 %": {"energy": 0.3, "parameters": 0.3},
}
AT = (20, 40, 60)


def searched(
    table: TabularEvaluator,
    accuracies: FloatArray,
    excess: Mapping[str, FloatArray],
    sampler: GenotypeSampler,
) -> list[int]:
    """Rows of the networks that a search evaluates, in order."""
    study, rows = optuna.create_study(sampler=sampler, direction="maximize"), []
    for _ in range(max(AT)):
        (trial,) = sampler.ask_batch(study, 1)
        row = int(table.rows(table.space.from_parameters(trial.params)[None])[0])
        for name, values in excess.items():
            trial.set_constraint(name, float(values[row]))
        study.tell(trial, float(accuracies[row]))
        rows.append(row)
    return rows


def samplers(
    table: TabularEvaluator, bounds: Mapping[str, float]
) -> dict[str, Callable[..., GenotypeSampler]]:
    """The samplers, and each of them again with the bounds that can be computed as known constraints."""
    known = {name: CostConstraint(closed_cost(name, table), bounds[name]) for name in COSTS if name in bounds}
    both = {"": {}, KNOWN: {"known_constraints": known}} if known else {"": {}}
    return {
        name + suffix: partial(make, **options)
        for name, make in SAMPLERS.items()
        for suffix, options in both.items()
    }


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="append", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=15)
    parser.add_argument("--first-seed", type=int, default=5000)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{'':86}keep it: first 20, 21 to 40, 41 to 60   score after 20, 40, 60")
    for name in options.table or ["fashion_blocks", "mnist_mixed"]:
        table = TabularEvaluator(name)
        accuracies = -table.values(["accuracy"])[:, 0]
        for label, budget in BUDGETS.items():
            costs = {of: table.values([of])[:, 0] for of in budget}
            bounds = {of: float(np.quantile(cost, budget[of])) for of, cost in costs.items()}
            excess = {of: cost / bounds[of] - 1 for of, cost in costs.items()}
            kept = np.all([values <= 0 for values in excess.values()], axis=0)
            middle, best = np.median(accuracies[kept]), accuracies[kept].max()
            worth = np.where(kept, (accuracies - middle) / (best - middle), 0.0)
            for kind, make in samplers(table, bounds).items():
                seeds = range(options.first_seed, options.first_seed + options.seeds)
                rows = np.array(
                    [searched(table, accuracies, excess, make(space=table.space, seed=s)) for s in seeds]
                )
                shares = [kept[part].mean() for part in np.split(rows, AT[:-1], axis=1)]
                scores = np.maximum.accumulate(np.maximum(worth[rows], 0.0), axis=1)[:, np.array(AT) - 1]
                numbers = (
                    "".join(f"{x:8.2f}" for x in shares)
                    + "     "
                    + "".join(f"{x:8.3f}" for x in scores.mean(axis=0))
                )
                print(f"{name:16}{label:30}{kind:40}{numbers}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
