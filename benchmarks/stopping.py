"""When a search may end by itself: how often too early, and how many evaluations that saves.

Each run is a search on a shipped table without an end. After every evaluation it notes the share of the true
hypervolume, and the expected gain of the next evaluation; what a rule would have done follows from these.

    python benchmarks/stopping.py --log benchmarks/records/stopping.jsonl
    python benchmarks/stopping.py --log benchmarks/records/stopping.jsonl --seeds 0     # print only
    python benchmarks/stopping.py --log stopping.jsonl --first-seed 0 --seeds 3 --rules  # how it was chosen
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
from search_problems import TableProblem

from aspk.samplers import SurrogateSampler
from aspk.samplers.stopping import PATIENCE, SHARE
from aspk.tables import shipped_tables
from aspk.util.pareto import FloatArray

ENOUGH = 0.95  # of the hypervolume
SHARES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01)
PATIENCES = (1, 5, 10, 15, 20)


class Noting(SurrogateSampler):
    """Remembers the expected gain of each proposal."""

    def _choice(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # the sampler's own
        chosen = super()._choice(*args, **options)
        self.gain = None if chosen[1] is None else float(chosen[1][0])
        return chosen


def measured(name: str, seed: int, budget: int) -> dict[str, Any]:
    """One search: after each evaluation, the share of the hypervolume and the next one's expected gain."""
    problem = TableProblem(name)
    sampler = Noting(space=problem.space, seed=seed)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * 2)
    X, gains = [], []
    for _ in range(budget):
        (trial,) = sampler.ask_batch(study, 1)
        gains.append(sampler.gain)
        X.append(problem.space.from_parameters(trial.params))
        study.tell(trial, problem.values(X[-1][None])[0].tolist())
    curve = problem.quality(np.array(X), problem.values(np.array(X)), range(1, budget + 1))
    return {
        "problem": name,
        "seed": seed,
        "budget": budget,
        "curve": [round(float(share), 4) for share in curve],
        "gains": [None if gain is None else float(f"{gain:.3g}") for gain in gains[1:]],
    }


def stopped(gains: list[float | None], share: float, patience: int) -> int | None:
    """After how many evaluations the rule ends a search, None if it never does."""
    below = 0
    for count, gain in enumerate(gains, 1):
        below = below + 1 if gain is not None and gain < share else 0
        if below >= patience:
            return count
    return None


def judged(runs: list[dict[str, Any]], share: float, patience: int) -> str:
    """How often a rule stops before there is enough, and where it stops."""
    ends = [stopped(run["gains"], share, patience) for run in runs]
    there = [(run, end) for run, end in zip(runs, ends, strict=True) if end is not None]
    early = sum(run["curve"][end - 1] < ENOUGH for run, end in there)
    found = [run["curve"][end - 1] for run, end in there]
    if not there:
        return f"share {share:g}, patience {patience}: never ends within the budget"
    counts = np.quantile([end for _, end in there], [0.25, 0.5, 0.75])
    rule = f"share {share:g}, patience {patience}"
    return (
        f"{rule}: {len(there)} of {len(runs)} end, {early} before {ENOUGH:.0%}; "
        f"after {counts[1]:.0f} [{counts[0]:.0f} {counts[2]:.0f}] evaluations with "
        f"{np.median(found):.3f} (least {min(found):.3f}) of the hypervolume"
    )


def needed(runs: list[dict[str, Any]]) -> FloatArray:
    """Evaluations to enough, infinite where a run never had it."""
    return np.array([next((n for n, q in enumerate(r["curve"], 1) if q >= ENOUGH), np.inf) for r in runs])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--budget", type=int, default=80)
    parser.add_argument("--rules", action="store_true", help="compare rules, all runs of the log together")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.disable(logging.WARNING)
    log = RunLog(options.log, ("problem", "seed", "budget"))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    log.complete(measured, ((name, seed, options.budget) for seed in seeds for name in shipped_tables()))
    runs = log.select(budget=options.budget)
    if options.rules:
        for share in SHARES:
            for patience in PATIENCES:
                print(judged(runs, share, patience))
        return 0
    for name in shipped_tables():
        own = [run for run in runs if run["problem"] == name]
        print(f"{name:16}to {ENOUGH:.0%}: {np.median(needed(own)):g}; {judged(own, SHARE, PATIENCE)}")
    print(f"{'all':16}to {ENOUGH:.0%}: {np.median(needed(runs)):g}; {judged(runs, SHARE, PATIENCE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
