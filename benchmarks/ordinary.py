"""aspk's samplers in ordinary Optuna studies: no search space, real numbers, conditional parameters.

The best value of one objective, or the hypervolume of two, after 20, 40 and 80 trials: medians over seeds.

    python benchmarks/ordinary.py
    python benchmarks/ordinary.py --engineering    # RE21, RE24, RE31: shares of the front's hypervolume
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import Trial

from aspk.samplers import NSGA2Sampler, SurrogateSampler
from aspk.util.pareto import hypervolume, nondominated

AT = (20, 40, 80)
Reals = Any  # a number, or an array of them
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


def re21(trial: Trial) -> tuple[float, ...]:
    """RE21, the design of a four-bar truss: volume and displacement (Tanabe and Ishibuchi 2020)."""
    low = (1.0, np.sqrt(2.0), np.sqrt(2.0), 1.0)
    x = [trial.suggest_float(f"x{i}", start, 3.0) for i, start in enumerate(low)]
    return tuple(map(float, _re21(*x)))


def _re21(x1: Reals, x2: Reals, x3: Reals, x4: Reals) -> list[Reals]:
    force, length, elasticity, root = 10.0, 200.0, 2e5, np.sqrt(2.0)
    volume = length * (2 * x1 + root * x2 + np.sqrt(x3) + x4)
    displacement = force * length / elasticity * (2 / x1 + 2 * root / x2 - 2 * root / x3 + 2 / x4)
    return [volume, displacement]


def re24(trial: Trial) -> tuple[float, ...]:
    """RE24, the design of a hatch cover: weight and violated constraints (Tanabe and Ishibuchi 2020)."""
    x = trial.suggest_float("x0", 0.5, 4.0), trial.suggest_float("x1", 0.5, 50.0)
    return tuple(map(float, _re24(*x)))


def _re24(x1: Reals, x2: Reals) -> list[Reals]:
    elasticity = 700_000.0
    bending, shear = 4500 / (x1 * x2), 1800 / x2
    deflection, buckling = 562_000 / (elasticity * x1 * x2**2), elasticity * x1**2 / 100
    limits = (1 - bending / 700, 1 - shear / 450, 1 - deflection / 1.5, 1 - bending / buckling)
    return [x1 + 120 * x2, _violated(limits)]


def re31(trial: Trial) -> tuple[float, ...]:
    """RE31, the design of a two-bar truss, with three objectives (Tanabe and Ishibuchi 2020)."""
    ends = ((1e-5, 100.0), (1e-5, 100.0), (1.0, 3.0))
    x = [trial.suggest_float(f"x{i}", low, high) for i, (low, high) in enumerate(ends)]
    return tuple(map(float, _re31(*x)))


def _re31(x1: Reals, x2: Reals, x3: Reals) -> list[Reals]:
    long, short = np.sqrt(16 + x3**2), np.sqrt(1 + x3**2)
    volume, stress = x1 * long + x2 * short, 20 * long / (x1 * x3)
    return [volume, stress, _violated((0.1 - volume, 1e5 - stress, 1e5 - 80 * short / (x2 * x3)))]


def _violated(limits: Sequence[Reals]) -> Reals:
    """The sum of what is below 0."""
    return sum(np.maximum(-limit, 0.0) for limit in limits)


@dataclass(frozen=True)
class Engineering:
    """A problem whose front is known from a grid of its variables.

    Attributes:
        objective: of an Optuna trial.
        formula: its values, of arrays.
        grid: values of each variable, denser where the front is.
    """

    objective: Callable[[Trial], tuple[float, ...]]
    formula: Callable[..., list[Reals]]
    grid: tuple[np.ndarray, ...]

    @cached_property
    def front(self) -> np.ndarray:
        """Values of the front, shape (n, k)."""
        meshes = [mesh.ravel() for mesh in np.meshgrid(*self.grid)]
        values = np.column_stack(self.formula(*meshes))
        return values[nondominated(values)]

    def share(self, values: np.ndarray) -> float:
        """The hypervolume of values, shape (n, k), as a share of the front's.

        The reference point is a tenth of the front's range behind it.
        """
        reference = self.front.max(axis=0) + 0.1 * np.ptp(self.front, axis=0)
        return hypervolume(values, reference) / hypervolume(self.front, reference)


_HALF = np.linspace(np.sqrt(2.0), 3.0, 24)
ENGINEERING = {
    "RE21": Engineering(re21, _re21, (np.linspace(1, 3, 24), _HALF, _HALF, np.linspace(1, 3, 24))),
    "RE24": Engineering(re24, _re24, (np.linspace(0.5, 4.0, 700), np.linspace(0.5, 50.0, 3000))),
    "RE31": Engineering(
        re31, _re31, (np.geomspace(1e-5, 100, 90), np.geomspace(1e-5, 100, 90), np.linspace(1, 3, 12))
    ),
}


PROBLEMS: dict[str, tuple[Callable[[Trial], float | tuple[float, float]], int]] = {
    "hartmann6": (hartmann6, 1),
    "zdt1": (zdt1, 2),
    "conditional": (conditional, 1),
}


def quality(values: np.ndarray) -> float:
    """Of the trials' values, shape (n, k): the smallest, or the hypervolume."""
    return float(values.min()) if values.shape[1] == 1 else hypervolume(values, REFERENCE)


def engineering(options: argparse.Namespace, at: list[int]) -> None:
    """Print the share of each sampler on each engineering problem."""
    print(f"{'':23}" + "".join(f"  {f'after {count}':<19}" for count in at) + "   ms")
    for name, problem in ENGINEERING.items():
        for sampler, make in SAMPLERS.items():
            if options.sampler and not any(part in sampler for part in options.sampler):
                continue
            found, start = [], time.process_time()
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                directions = ["minimize"] * problem.front.shape[1]
                study = optuna.create_study(sampler=make(seed), directions=directions)
                study.optimize(problem.objective, n_trials=options.trials)
                values = np.array([trial.values for trial in study.trials])
                found.append([problem.share(values[:count]) for count in at])
            spent = 1e3 * (time.process_time() - start) / (options.seeds * options.trials)
            low, middle, high = np.quantile(found, [0.25, 0.5, 0.75], axis=0)
            cells = "".join(f"  {m:.3f} [{a:.3f} {b:.3f}]" for a, m, b in zip(low, middle, high, strict=True))
            print(f"{name:6}{sampler:17}{cells}{spent:5.0f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8, help="runs of each, default 8")
    parser.add_argument("--first-seed", type=int, default=5000, help="default 5000")
    parser.add_argument("--trials", type=int, default=max(AT), help=f"of each run, default {max(AT)}")
    parser.add_argument("--engineering", action="store_true", help="RE21, RE24 and RE31 instead")
    parser.add_argument("--sampler", nargs="+", help="for --engineering: whose name has one of these")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    at = [count for count in AT if count <= options.trials] or [options.trials]
    if options.engineering:
        engineering(options, at)
        return 0
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
