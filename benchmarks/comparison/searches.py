"""The searches of a family: its supernet, refinement, and random search for the same processor time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from optuna.trial import TrialState

from aspk.data import load_data
from aspk.engines.device import resolve_device
from aspk.errors import StudyError
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import Recipe
from aspk.spec.study import refined
from aspk.standalone.refining import TrainingEvaluator, refine
from aspk.study import load_problem, run_study
from aspk.study.storage import open_study
from aspk.training import train_supernet
from benchmarks.comparison.bench import Bench, Training, name_of
from benchmarks.comparison.plan import Family


def search(bench: Bench, family: Family, recipe: Recipe) -> bool:
    """Search a family on both levels, and at random for the same cost; False if the user interrupted."""
    return all(stage(bench, family, recipe) for stage in (level_one, level_two, at_random))


def level_one(bench: Bench, family: Family, recipe: Recipe) -> bool:
    """Train the family's supernet and search it."""
    spec = bench.spec(family, recipe)
    if "end" in [row["network"] for row in bench.log.rows("level one", family.name)]:
        return True
    bench.check_budget(f"the supernet of {family.name}")
    device = resolve_device(bench.device)
    with _clock(bench, family, "train"):
        result = train_supernet(
            family.space,
            load_data(spec.data),
            spec.train,
            folder=spec.folder,
            seed=spec.seed,
            device=device,
            progress=bench.progress,
        )
    if result.weights is None:
        return False
    with _clock(bench, family, "search"):
        searched = run_study(spec, load_problem(spec, bench.device), progress=bench.progress)
    if searched.finished:
        bench.log.add_cost(family.name, "end", 0.0, 0.0)
    return searched.finished


@contextmanager
def _clock(bench: Bench, family: Family, piece: str) -> Iterator[None]:
    """Add what a piece of level one takes to the log."""
    started = (time.perf_counter(), time.process_time())
    yield
    spent = (time.perf_counter() - started[0], time.process_time() - started[1])
    bench.log.add_cost(family.name, piece, *spent)


def level_two(bench: Bench, family: Family, recipe: Recipe) -> bool:
    """``aspk refine``: train the most informative networks of the family, a few at a time."""
    spec = bench.spec(family, recipe)
    evaluator = TrainingEvaluator(spec, test=False, device=bench.device)
    while (done := len(bench.log.rows("refine", family.name))) < family.trainings:
        bench.check_budget(f"{family.trainings - done} trainings of 'refine' of {family.name}")
        with _proposals(bench, family):
            result = refine(
                spec,
                trainings=min(family.trainings, max(2, done + bench.workers)),
                workers=bench.workers,
                test=False,
                stop=False,  # so that the log has the cost of every training
                device=bench.device,
                progress=bench.progress,
            )
            for trial in open_study(refined(spec)).get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                config = family.space.decode(family.space.from_parameters(trial.params))
                job = evaluator.job(config)
                if (trained := job.result()) is not None:
                    bench.log.add("refine", family.name, name_of(bench, family, config), job, trained)
        if result is None or not result.finished:
            return False
        if len(bench.log.rows("refine", family.name)) <= done:
            raise StudyError(
                f"{refined(spec).name}: no training was added; its records are not in {spec.folder}"
            )
    return True


@contextmanager
def _proposals(bench: Bench, family: Family) -> Iterator[None]:
    """Add to the log what refinement takes beside the trainings that end in it: surrogates, evaluations."""
    before, started = bench.log.rows("refine", family.name), (time.perf_counter(), _processor_seconds())
    yield
    added = bench.log.rows("refine", family.name)[len(before) :]
    seconds = time.perf_counter() - started[0] - sum(row["seconds"] for row in added) / bench.workers
    spent = _processor_seconds() - started[1] - sum(row["processor_seconds"] for row in added)
    bench.log.add_cost(family.name, "proposals", max(0.0, seconds), max(0.0, spent))


def _processor_seconds() -> float:
    """Processor time of this process, and of those that it has started and that have ended."""
    return sum(os.times()[:4])


def at_random(bench: Bench, family: Family, recipe: Recipe) -> bool:
    """Train random networks of the family until they have cost what its search has cost, both levels."""
    space, spec = family.space, bench.spec(family, recipe)
    limit = bench.log.core_hours("level one", "refine", family=family.name)
    rng = np.random.default_rng([spec.seed, 1])
    seen: list[SubnetConfig] = []
    while True:
        chunk: list[Training] = []
        while len(chunk) < bench.workers and len(seen) < space.size:
            config = space.decode(space.sample_choices(1, rng)[0])
            if config not in seen:
                seen.append(config)
                job = bench.job("random", family, config, recipe, spec.seed)
                chunk.append(Training(family.name, name_of(bench, family, config), job))
        known = all(bench.log.has("random", *one) for one in chunk)
        if not chunk or (not known and bench.log.core_hours("random", family=family.name) >= limit):
            return True
        if not bench.train("random", chunk):
            return False
