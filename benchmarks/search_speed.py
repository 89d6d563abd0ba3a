"""What one suggestion of aspk's surrogate costs: two objectives, one of them known, a budget, F_AEB."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import Trial
from search_problems import FaebProblem, Problem, TableProblem, closed_cost

from aspk.samplers import RandomSampler, SurrogateSampler
from aspk.space import IntArray
from aspk.space.genes import SubnetConfig
from aspk.tables import TabularEvaluator
from aspk.util.pareto import FloatArray

SIZES = (200, 1000)
REPEATS = 3
PROCESSES = 5


@dataclass(frozen=True)
class Budget:
    """Excess over a bound on a cost that a tenth of a table's networks keep, a function of index vectors."""

    table: TabularEvaluator
    cost: str

    def __call__(self, X: IntArray) -> FloatArray:
        """Shape (n,); up to 0 is feasible."""
        costs = self.table.values([self.cost])[:, 0]
        return np.asarray(costs[self.table.rows(X)] / np.quantile(costs, 0.1) - 1)


@dataclass(frozen=True)
class Case:
    """A problem, and what the sampler knows of it without an evaluation.

    Attributes:
        name: its name in the printout.
        problem: the problem.
        known: maps the number of an objective to its value as a function of the network.
        excess: of a constraint, for index vectors; None without one.
    """

    name: str
    problem: Problem
    known: Mapping[int, Callable[[SubnetConfig], float]] = field(default_factory=dict)
    excess: Callable[[IntArray], FloatArray] | None = None


def speed(problem: Problem) -> None:
    """Print milliseconds of processor time for suggestions asked for one at a time."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for case in _cases(problem):
        for size in SIZES:
            times = _in_a_row(case, size)
            print(
                f"{case.name}, {size} trials: mean {times.mean():.1f} ms, median {np.median(times):.1f} ms, "
                f"longest {times.max():.1f} ms over {len(times)} suggestions"
            )
            first = _in_new_processes(case, size)
            print(
                f"{case.name}, {size} trials, first suggestion of a process: "
                f"median {np.median(first):.1f} ms, longest {max(first):.1f} ms over {len(first)} processes",
                flush=True,
            )


def _cases(problem: Problem) -> Iterator[Case]:
    yield Case(problem.name, problem)
    if isinstance(problem, TableProblem):
        table = problem.search
        known = replace(problem, objectives=("accuracy", "operations"))
        yield Case(f"{problem.name}, known operations", known, {1: closed_cost("operations", table)})
        budget = Budget(table, "energy")
        yield Case(f"{problem.name}, energy bounded", problem, excess=budget)
        # Not said to be known: what neither is an objective nor can be computed is a third number to learn.
        yield Case(f"{problem.name}, operations bounded", problem, excess=Budget(table, "operations"))
        yield Case(
            f"{problem.name}, F_AEB, energy bounded", FaebProblem(problem.name, "product"), excess=budget
        )


def _in_a_row(case: Case, size: int) -> FloatArray:
    """Times of suggestions after ``size`` trials, enough of them to include a refit of the hyperparameters.

    Other processes on the machine slow single suggestions: each one is timed in several runs of the same
    search, and the median counts.
    """
    runs = [list(_times(case, size, int(0.16 * size)))[1:] for _ in range(REPEATS)]
    return np.asarray(np.median(runs, axis=0))


def _in_new_processes(case: Case, size: int) -> list[float]:
    """Time of the first suggestion in each of several new processes, which fits all objectives at once."""
    context = multiprocessing.get_context("spawn")
    times = []
    for _ in range(PROCESSES):
        with ProcessPoolExecutor(1, mp_context=context) as process:
            times.append(process.submit(_first, case, size).result())
    return times


def _first(case: Case, size: int) -> float:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return next(_times(case, size, 1))


def _times(case: Case, size: int, count: int) -> Iterator[float]:
    """Milliseconds of the suggestions of a new sampler, the first one behind ``size`` random networks."""
    sampler = SurrogateSampler(
        space=case.problem.space, seed=0, known=case.known, composites=case.problem.composites
    )
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * case.problem.count)
    trials = RandomSampler(space=case.problem.space, seed=0).ask_batch(study, size)
    for _ in range(count + 1):
        _tell(study, case, trials)
        start = time.process_time()
        trials = sampler.ask_batch(study, 1)
        yield 1e3 * (time.process_time() - start)


def _tell(study: Study, case: Case, trials: list[Trial]) -> None:
    problem = case.problem
    X = np.array([problem.space.from_parameters(trial.params) for trial in trials])
    excess = np.zeros(len(X)) if case.excess is None else case.excess(X)
    carried = problem.attributes(X)
    for trial, row, attributes, over in zip(trials, problem.values(X), carried, excess, strict=True):
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        if case.excess is not None:
            trial.set_constraint("energy", float(over))
        study.tell(trial, row.tolist())
