"""How many images early stopping saves a search with two objectives.

The problems are shipped tables, whose accuracies are those of N images. A network reports after an eighth, a
quarter and half of them. Its accuracy by then is drawn as if the images were in random order: the number of
correct ones among n of N is hypergeometric. Its energy by then varies by 5 % from image to image, which is an
assumption. Networks are compared on different images here, while a real evaluation shows all of them the same
ones, so that its partial figures are more alike. Images that recalibrate batch normalisation are needed
for every network, stopped or not. What that costs in time is measured with ``--time``, on a study's supernet.

    python benchmarks/early_stopping.py --log benchmarks/records/early_stopping.jsonl
    python benchmarks/early_stopping.py --log benchmarks/records/early_stopping.jsonl --seeds 0  # print
    OMP_NUM_THREADS=1 python benchmarks/early_stopping.py --time studies/fashion_mnist.toml
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from run_log import RunLog
from search_problems import TableProblem

from aspk.data import load_data
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.samplers import GenotypeSampler, NSGA2Sampler, RandomSampler, SurrogateSampler, report, should_stop
from aspk.spec.study import load_study_file
from aspk.study import evaluator_of
from aspk.tables import TabularEvaluator

TABLES = ("fashion_blocks", "fashion_shared", "mnist_mixed")
SAMPLERS: dict[str, tuple[type[GenotypeSampler], int]] = {  # with the evaluations that each may start
    "random": (RandomSampler, 500),
    "nsga2": (NSGA2Sampler, 300),
    "surrogate": (SurrogateSampler, 100),
}
STEPS = (1 / 8, 1 / 4, 1 / 2)
SPREAD = 0.05  # of energies over images, relative
SHARES = (0.9, 0.95)


def partial(
    accuracy: float, energy: float, images: int, rng: np.random.Generator
) -> list[tuple[int, list[float]]]:
    """Images seen, and the values on them, at each step: negated accuracy, and energy."""
    order = rng.permutation(images)
    correct = order < round(accuracy * images)
    found = []
    for share in STEPS:
        n = round(share * images)
        error = SPREAD * np.sqrt((1 / n) * (1 - share))
        found.append((n, [-float(correct[:n].mean()), energy * (1 + error * float(rng.normal()))]))
    return found


def measured(name: str, kind: str, stops: bool, seed: int) -> dict[str, Any]:
    """One search: trials, images and calibration images until each share of the hypervolume."""
    problem, (make, budget) = TableProblem(name), SAMPLERS[kind]
    evaluation = TabularEvaluator(name).table.about["evaluation"]
    images, calibration = evaluation["images"], evaluation["calibration_images"]
    sampler = make(space=problem.space, seed=seed)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * 2)
    X: list[Any] = []
    seen = stopped = 0
    reached: dict[str, list[int]] = {}
    start = time.process_time()
    for number in range(1, budget + 1):
        (trial,) = sampler.ask_batch(study, 1)
        x = problem.space.from_parameters(trial.params)
        values = problem.values(x[None])[0]
        if stops and (used := _stopped_at(trial, values, images, np.random.default_rng([seed, number]))):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            seen, stopped = seen + used, stopped + 1
            continue
        seen += images
        X.append(x)
        study.tell(trial, values.tolist())
        (quality,) = problem.quality(np.array(X), problem.values(np.array(X)), [len(X)])
        for share in SHARES:
            if quality >= share and str(share) not in reached:
                reached[str(share)] = [number, stopped, seen, seen + number * calibration]
        if len(reached) == len(SHARES):
            break
    return {
        "problem": name,
        "sampler": kind,
        "stops": stops,
        "seed": seed,
        "reached": reached,
        "seconds": round(time.process_time() - start, 1),
    }


def _stopped_at(
    trial: optuna.Trial, values: Sequence[float], images: int, rng: np.random.Generator
) -> int | None:
    for step, (used, seen) in enumerate(partial(-values[0], values[1], images, rng)):
        report(trial, seen, step)
        if should_stop(trial):
            return used
    return None


def fixed_shares(study: str, *, networks: int = 12, fewer: int = 500) -> list[float]:
    """Share of each network's evaluation that an early end cannot save, in processor time.

    From two evaluations, of the study's images and of fewer: time = fixed + images * rest.
    """
    spec = load_study_file(study)
    data = load_data(spec.data)
    all_images = spec.evaluation.images or len(data.search.labels)
    supernet = evaluator_of(spec, "cpu", data=data)[0].supernet  # its evaluator remembers results
    evaluators = {
        images: SupernetEvaluator(
            supernet,
            data,
            settings=replace(spec.evaluation, images=images),
            energy_model=spec.energy,
            machine=spec.engine,
        )
        for images in (fewer, all_images)
    }
    space = supernet.space
    X = space.sample_choices(networks, np.random.default_rng(0))
    configs = list(dict.fromkeys(space.decode(x) for x in X))
    for evaluator in evaluators.values():  # the first evaluation prepares more than a network
        evaluator.evaluate([space.reference])
    shares = []
    for config in configs:
        seconds = {}
        for images, evaluator in evaluators.items():
            start = time.process_time()
            evaluator.evaluate([config])
            seconds[images] = time.process_time() - start
        rest = (seconds[all_images] - seconds[fewer]) / (all_images - fewer)
        shares.append(1 - rest * all_images / seconds[all_images])
    return shares


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sampler", action="append", choices=SAMPLERS)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--time", metavar="STUDY", help="measure only what calibration costs in this study")
    options = parser.parse_args()
    if options.time is not None:
        shares = fixed_shares(options.time)
        low, middle, high = np.quantile(shares, [0, 0.5, 1])
        print(f"fixed share of {len(shares)} evaluations: median {middle:.2f}, from {low:.2f} to {high:.2f}")
        return 0
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.disable(logging.WARNING)
    log = RunLog(options.log, ("problem", "sampler", "stops", "seed"))
    samplers = options.sampler or list(SAMPLERS)
    for seed in range(1000, 1000 + options.seeds):
        for kind in samplers:
            for name in TABLES:
                for stops in (False, True):
                    if log.get(name, kind, stops, seed) is None:
                        log.add(measured(name, kind, stops, seed))
    for kind in samplers:
        for name in TABLES:
            for stops in (False, True):
                runs = log.select(problem=name, sampler=kind, stops=stops)
                if not runs:
                    continue
                cells = []
                for share in map(str, SHARES):
                    rows = [run["reached"].get(share, [np.inf] * 4) for run in runs]
                    middle = np.median(np.array(rows, dtype=float), axis=0)
                    cells.append(
                        "to {}: {:g} trials, {:g} stopped, {:g} images, {:g} with calibration".format(
                            share, *middle
                        )
                    )
                label = f"{kind:10}{name:16}{'stops' if stops else 'whole':6}"
                print(f"{label}{len(runs)} seeds; {'; '.join(cells)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
