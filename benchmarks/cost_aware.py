"""What improvement per unit of cost saves: the cost, and the evaluations, until enough of the front is found.

The problems are shipped tables, and an evaluation costs its network's operations. `known` is told that
function, `learnt` only what each evaluated network cost, `none` nothing.

    python benchmarks/cost_aware.py --log benchmarks/records/cost_aware.jsonl
    python benchmarks/cost_aware.py --log benchmarks/records/cost_aware.jsonl --seeds 0    # print only
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from run_log import RunLog
from search_problems import TableProblem, closed_cost

from aspk.samplers import SurrogateSampler

TABLES = ("fashion_blocks", "fashion_shared", "mnist_mixed", "digits_heads")
KINDS = ("none", "known", "learnt")
SHARES = (0.9, 0.95)
ATTRIBUTE = "price"


def measured(name: str, kind: str, seed: int, budget: int) -> dict[str, Any]:
    """One search until it has the largest share, or spent the budget: evaluations and cost to each share."""
    problem = TableProblem(name)
    operations = closed_cost("operations", problem.search)
    cost = {"none": None, "known": operations, "learnt": ATTRIBUTE}[kind]
    sampler = SurrogateSampler(space=problem.space, seed=seed, cost=cost)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * 2)
    X, spent, reached = [], 0.0, {}
    for number in range(1, budget + 1):
        (trial,) = sampler.ask_batch(study, 1)
        X.append(problem.space.from_parameters(trial.params))
        price = float(operations.of(X[-1][None])[0])
        spent += price
        trial.set_user_attr(ATTRIBUTE, price)
        study.tell(trial, problem.values(X[-1][None])[0].tolist())
        (quality,) = problem.quality(np.array(X), problem.values(np.array(X)), [number])
        for share in SHARES:
            if quality >= share and str(share) not in reached:
                reached[str(share)] = [number, spent]
        if len(reached) == len(SHARES):
            break
    return {"problem": name, "kind": kind, "seed": seed, "budget": budget, "reached": reached}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.disable(logging.WARNING)
    log = RunLog(options.log, ("problem", "kind", "seed", "budget"))
    seeds = range(1000, 1000 + options.seeds)
    keys = ((name, kind, seed, options.budget) for seed in seeds for name in TABLES for kind in KINDS)
    log.complete(measured, keys)
    for name in TABLES:
        for kind in KINDS:
            runs = log.select(problem=name, kind=kind, budget=options.budget)
            cells = []
            for share in map(str, SHARES):
                pairs = [run["reached"].get(share, [np.inf, np.inf]) for run in runs]
                counts, costs = (
                    np.median(np.array(pairs).reshape(-1, 2), axis=0) if pairs else (np.nan, np.nan)
                )
                cells.append(f"to {share}: {counts:g} evaluations, {costs:.3g} operations")
            print(f"{name:16}{kind:8}{len(runs)} seeds, {'; '.join(cells)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
