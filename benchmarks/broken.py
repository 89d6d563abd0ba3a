"""How many evaluations a search needs if some networks are broken and cheaper than all others.

    ASPK_DATA=... python benchmarks/broken.py --log runs/broken.jsonl --json broken.json
    python benchmarks/broken.py --quick

Problems are two formulas with dead regions, and the public tables of cells where ``ASPK_DATA/tables`` has
them. No sampler knows which networks are broken, except where a method's name says that they were reported
as failed. A search ends at 95 % of the true hypervolume or after ``--budget`` evaluations; a network that is
proposed again is not charged again. With ``--log FILE`` each finished run is a line of that file, and the
same command resumes after being killed.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from broken_tables import CHANCE, Table, cells, public, silent
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from run_log import RunLog

from aspk.samplers import NSGA2Sampler, SurrogateSampler

SHARE = 0.95
TABLES = ("spikenas_cifar10", "nb201_cifar10", "cells", "silent")
_WORSE_THAN = 80.0  # per cent of errors: what a user would report as failed, of ten classes
_PATIENCE = 3  # suggestions for each evaluation
Run = dict[str, Any]
METHODS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "Optuna TPE": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "aspk NSGA2 (20)": lambda seed: NSGA2Sampler(seed=seed, population_size=20),
    "aspk surrogate": lambda seed: SurrogateSampler(seed=seed),
    "aspk surrogate, told": lambda seed: SurrogateSampler(seed=seed),  # of failures
}


def table(name: str) -> Table | None:
    """A problem by name; None where its file is not there."""
    return {"cells": cells, "silent": silent}[name]() if name in ("cells", "silent") else public(name)


def measured(problem: Table, method: str, seed: int, budget: int) -> Run:
    """One run: evaluations until the share is reached, and the time spent."""
    study = optuna.create_study(sampler=METHODS[method](seed), directions=["minimize"] * 2)
    rows: list[int] = []
    different: dict[int, None] = {}
    share, start = 0.0, time.process_time()
    while share < SHARE and len(different) < budget and len(rows) < _PATIENCE * budget:
        trial = study.ask()
        row = problem.suggest(trial)
        rows.append(row)
        error, cost = float(problem.error[row]), float(problem.cost[row])
        if method.endswith("told") and error > _WORSE_THAN:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [error, cost])
        if row not in different:
            different[row] = None
            share = problem.share(list(different))
    return {
        "table": problem.name,
        "method": method,
        "seed": seed,
        "budget": budget,
        "evaluations": len(different),
        "reached": len(different) if share >= SHARE else None,
        "share": share,
        "broken": int(sum(problem.error[row] >= CHANCE - 1 for row in different)),
        "ms": 1e3 * (time.process_time() - start) / len(rows),
    }


def runs(options: argparse.Namespace) -> Iterator[Run]:
    """All runs, those in the log first; new ones are appended to it."""
    log = RunLog(options.log, ("table", "method", "seed", "budget"))
    problems = [(name, table(name)) for name in options.table]
    for name, problem in problems:
        if problem is None:
            print(f"{name}: left out, {name}.npz or score.py is not in ASPK_DATA/tables", flush=True)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for problem in (problem for _, problem in problems if problem is not None):
            for method in options.methods:
                known = log.get(problem.name, method, seed, options.budget)
                if known is None:
                    known = measured(problem, method, seed, options.budget)
                    log.add(known)
                yield known


def summary(found: Sequence[Run]) -> list[dict[str, Any]]:
    """One row for each table and method; evaluations of a run that did not get there count as infinite."""
    result = []
    for name, method in dict.fromkeys((run["table"], run["method"]) for run in found):
        here = [run for run in found if (run["table"], run["method"]) == (name, method)]
        counts = [np.inf if run["reached"] is None else run["reached"] for run in here]
        quartiles = np.quantile(counts, [0.25, 0.5, 0.75], method="inverted_cdf")
        result.append(
            {
                "table": name,
                "method": method,
                "seeds": len(here),
                "reached": int(np.isfinite(counts).sum()),
                "evaluations": [float(q) if np.isfinite(q) else None for q in quartiles],
                "broken": float(np.mean([run["broken"] / run["evaluations"] for run in here])),
                "ms": float(np.median([run["ms"] for run in here])),
            }
        )
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--table", nargs="+", choices=TABLES, default=list(TABLES))
    add("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    add("--seeds", type=int, default=15)
    add("--first-seed", type=int, default=7000, help="default 7000; choices were made on 0 to 99")
    add("--budget", type=int, default=300, help="unique evaluations, default 300")
    add("--log", type=Path, metavar="FILE", help="keep finished runs here, and go on from them")
    add("--json", type=Path, metavar="FILE", help="write runs and medians as JSON")
    add("--quick", action="store_true", help="two seeds of at most 60 evaluations")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.budget = 2, 60
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    found = list(runs(options))
    rows = summary(found)
    print(f"{'':40}evaluations to 95 %, median [quartiles]   got there   broken      ms")
    for row in rows:
        low, middle, high = ("-" if count is None else f"{count:.0f}" for count in row["evaluations"])
        print(
            f"{row['table']:18}{row['method']:22}{f'{middle} [{low} {high}]':>38}"
            f"{row['reached']:>7} of {row['seeds']:<3}{100 * row['broken']:7.1f} %{row['ms']:7.1f}"
        )
    if options.json:
        record = {"benchmark": "broken", "summary": rows, "runs": found}
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
