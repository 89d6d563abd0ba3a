"""aspk's samplers in ordinary Optuna studies: no search space, real numbers, conditional parameters.

The best value of one objective, or the hypervolume of two, after 20, 40 and 80 trials: medians over seeds.

    python benchmarks/ordinary.py
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import Trial

from aspk.samplers import NSGA2Sampler, SurrogateSampler
from aspk.util.pareto import hypervolume

AT = (20, 40, 80)
REFERENCE = (
    1.1,
    6.0,
)  # of zdt1: 11 is the largest value of its second objective, 6 that of half of all trials
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "Optuna TPE": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
    "Optuna GP": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "aspk NSGA2 (20)": lambda seed: NSGA2Sampler(seed=seed, population_size=20),
    "aspk surrogate": lambda seed: SurrogateSampler(seed=seed),
}
WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
SCALES = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
PLACES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(trial: Trial) -> float:
    """Hartmann's function of six variables, minimum -3.32 (Dixon and Szegö 1978)."""
    x = np.array([trial.suggest_float(f"x{i}", 0, 1) for i in range(6)])
    return -float(WEIGHTS @ np.exp(-(SCALES * np.square(x - PLACES)).sum(axis=1)))


def zdt1(trial: Trial) -> tuple[float, float]:
    """ZDT1 with eight variables (Zitzler, Deb and Thiele 2000)."""
    x = np.array([trial.suggest_float(f"x{i}", 0, 1) for i in range(8)])
    g = 1 + 9 * x[1:].mean()
    return float(x[0]), float(g * (1 - np.sqrt(x[0] / g)))


def conditional(trial: Trial) -> float:
    """Made up: a choice of three models with hyperparameters of their own, minimum 0.1."""
    model = trial.suggest_categorical("model", ["vectors", "tree", "network"])
    if model == "vectors":
        cost = np.log10(trial.suggest_float("C", 1e-3, 1e3, log=True))
        gamma = np.log10(trial.suggest_float("gamma", 1e-4, 1.0, log=True))
        return float(0.3 + 0.1 * abs(cost - 1) + 0.1 * abs(gamma + 2))
    if model == "tree":
        depth, leaf = trial.suggest_int("depth", 1, 30), trial.suggest_int("leaf", 1, 50, log=True)
        return float(0.35 + 0.02 * abs(depth - 9) + 0.05 * abs(np.log(leaf) - 1))
    layers = trial.suggest_int("layers", 1, 4)
    rate = np.log10(trial.suggest_float("rate", 1e-5, 1.0, log=True))
    widths = [trial.suggest_int(f"width_{i}", 16, 256, log=True) for i in range(layers)]
    off = np.mean([abs(np.log2(width) - 6) for width in widths])
    return float(0.1 + 0.1 * abs(rate + 2.5) + 0.08 * abs(layers - 3) + 0.05 * off)


PROBLEMS: dict[str, tuple[Callable[[Trial], float | tuple[float, float]], int]] = {
    "hartmann6": (hartmann6, 1),
    "zdt1": (zdt1, 2),
    "conditional": (conditional, 1),
}


def quality(values: np.ndarray) -> float:
    """Of the trials' values, shape (n, k): the smallest, or the hypervolume."""
    return float(values.min()) if values.shape[1] == 1 else hypervolume(values, REFERENCE)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8, help="runs of each, default 8")
    parser.add_argument("--first-seed", type=int, default=5000, help="default 5000")
    parser.add_argument("--trials", type=int, default=max(AT), help=f"of each run, default {max(AT)}")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    at = [count for count in AT if count <= options.trials] or [options.trials]
    print(f"{'':30}" + "".join(f"{count:>9}" for count in at) + "   ms")
    for problem, (objective, objectives) in PROBLEMS.items():
        for name, make in SAMPLERS.items():
            found, start = [], time.process_time()
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                study = optuna.create_study(sampler=make(seed), directions=["minimize"] * objectives)
                study.optimize(objective, n_trials=options.trials)
                values = np.array([trial.values for trial in study.trials])
                found.append([quality(values[:count]) for count in at])
            spent = 1e3 * (time.process_time() - start) / (options.seeds * options.trials)
            middle = "".join(f"{value:9.3f}" for value in np.median(found, axis=0))
            print(f"{problem:13}{name:17}{middle}{spent:5.0f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
