"""Level two of a search on a table of trained networks: what each method finds with N trainings.

A method sees one training of each network that it proposes: accuracy on ``search`` and energy. It is scored
by the networks on the front that it saw (F_AEB: by the best one), at their means over all seeds on ``test``.
Trainings are noisy, so that even the front of *all* networks, trained once, lacks some of the hypervolume:
trainings are counted to 95 % of all of it, and to 95 % of what training all networks once finds.
Of a table that lacks networks of its space, the samplers are told as a known constraint which it has.
A training that ends early counts as the share of its updates that was spent, and its network is not seen; the
energy by which it is judged is the final one, which a real search does not know yet.

    python benchmarks/refine.py --table digits_trained --seeds 30 --log refine.jsonl
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState
from run_log import RunLog
from search_methods import Ledger, Method, ours, run, surrogate
from search_problems import Problem

from aspk.metrics import Metrics
from aspk.objectives import Objective, objective
from aspk.objectives.scalarization import FAEB
from aspk.samplers import NSGA2Sampler, RandomSampler, SurrogateSampler
from aspk.space import IntArray
from aspk.space.genes import SubnetConfig
from aspk.standalone.calibration import Inherited
from aspk.standalone.stopping import TENTHS, hopeless
from aspk.tables import TabularEvaluator, TrainedTable
from aspk.tables.table import MARGIN
from aspk.util.pareto import FloatArray, hypervolume, nondominated

AT = (8, 16, 24, 48)
SHARE = 0.95  # of the true hypervolume, to which trainings are counted
FRONT: tuple[Objective | str, ...] = ("accuracy", "energy")


@dataclass(frozen=True)
class Listed:
    """A known constraint: at most 0 for the networks of a table."""

    table: TrainedTable

    def __call__(self, config: SubnetConfig) -> float:
        return float(self.table.space.key(self.table.space.encode(config)) not in self._keys)

    @cached_property
    def _keys(self) -> frozenset[tuple[int, ...]]:
        return frozenset(map(self.table.space.key, self.table.networks))


@dataclass(frozen=True)
class Supernet:
    """A free feature: the supernet's values; for networks that no method may train, their means."""

    listed: Listed
    inherited: Inherited

    def __call__(self, config: SubnetConfig) -> list[float]:
        return self._means if self.listed(config) else self.inherited(config)

    @cached_property
    def _means(self) -> list[float]:
        space, networks = self.listed.table.space, self.listed.table.networks
        return np.mean([self.inherited(space.decode(x)) for x in networks], axis=0).tolist()


@dataclass
class Training(Problem):
    """Accuracy and energy of one training of each network, or F_AEB of them.

    Attributes:
        table: the trained networks.
        seed: of the training that a method sees.
        alone: use F_AEB alone.
    """

    table: TrainedTable
    seed: int = 0
    alone: bool = False

    def __post_init__(self) -> None:
        self.space, self.count = self.table.space, 1 if self.alone else 2
        self.listed = Listed(self.table)
        if len(self.table.networks) < self.space.size:
            self.constraints = {"in the table": self.listed}
        self.name = f"{self.space.name}, {'F_AEB' if self.alone else 'front'}"
        self.seen, truth = self.table.training(self.seed), self.table.truth()
        self.objectives = FRONT
        if self.alone:
            (reference,) = truth.evaluate([self.space.reference])
            classes = int(self.table.table.about["classes"])
            faeb = FAEB(reference_energy_mj=reference.energy_mj, classes=classes)
            own, self.objectives = faeb.composite(), (faeb.objective(),)
            # A sampler is told F_AEB negated, to be minimised.
            self.composites = {0: replace(own, of=lambda *parts: -own.of(*parts))}
        self._values, self.true = (one.values(self.objectives) for one in (self.seen, truth))
        front = self.true[nondominated(self.true)]
        self.reference = front.max(axis=0) + MARGIN * np.ptp(front, axis=0)
        self._whole = hypervolume(self.true, self.reference)

    def values(self, X: IntArray) -> FloatArray:
        return self._values[self.seen.rows(X)]

    def attributes(self, X: IntArray) -> list[dict[str, float]]:
        metrics = (self.seen.metrics[row] for row in self.seen.rows(X))
        return [{"accuracy": m.accuracy, "energy_mj": m.energy_mj} for m in metrics]

    def verdict(self, X: IntArray, F: FloatArray, at: Sequence[int]) -> list[float]:
        rows = self.seen.rows(X)
        if self.alone:  # from 0, the mean of all networks, to 1, the best one
            mean, best = self.true.mean(), self.true.min()
            return [float((mean - self.true[rows[np.argmin(F[:n])], 0]) / (mean - best)) for n in at]
        fronts = [rows[:n][nondominated(F[:n])] for n in at]
        return [hypervolume(self.true[front], self.reference) / self._whole for front in fronts]

    @cached_property
    def exhaustive(self) -> float:
        """What training every network once finds."""
        X = self.table.networks
        return self.verdict(X, self.values(X), [len(X)])[0]

    def hopeless(self, x: IntArray, finished: Sequence[IntArray]) -> bool:
        """Whether a training would end early, given the networks that were trained before."""
        (own,), known = self.seen.rows(x[None]), self.seen.rows(np.array([*finished]).reshape(-1, len(x)))
        loss = self.table.losses[:, self.seed, 0]
        metrics: list[Metrics] = self.seen.metrics
        chosen = [objective(item) if isinstance(item, str) else item for item in self.objectives]
        return bool(hopeless(metrics[own], loss[own], [(loss[row], metrics[row]) for row in known], chosen))

    def inherited(self, statistics: str) -> FloatArray:
        """What the supernet says of every network on ``search``, minimised."""
        return TabularEvaluator(self.table.table, split=f"search_{statistics}").values(self.objectives)


def in_order(rows: Sequence[int]) -> Method:
    """Train the networks of a table in an order that is fixed beforehand."""

    def method(ledger: Ledger, seed: int) -> None:
        assert isinstance(ledger.problem, Training)
        ledger(ledger.problem.table.networks[list(rows)])

    return method


def front_first(values: FloatArray) -> list[int]:
    """Rows front by front, each front by the hypervolume that a network adds to those before it."""
    left, order = np.arange(len(values)), list[int]()
    while len(left):
        front = left[nondominated(values[left])]
        left = np.setdiff1d(left, front)
        reference = values[front].max(axis=0) + MARGIN * np.ptp(values[front], axis=0) + 1e-12
        chosen: list[int] = []
        while rest := [int(row) for row in front if row not in chosen]:
            sums = [hypervolume(values[[*chosen, row]], reference) for row in rest]
            chosen.append(rest[int(np.argmax(sums))])
        order += chosen
    return order


def most_operations_first(problem: Training) -> list[int]:
    """Rows by their operations, most first."""
    return np.argsort(-problem.table.truth().values(["operations"])[:, 0], kind="stable").tolist()


def refine(problem: Training, statistics: str, starts: int, *, stop: bool = False) -> Method:
    """The reference, a few of the supernet's front, then the sampler with the supernet's values.

    With ``stop``, trainings end early.
    """
    supernet = Supernet(problem.listed, Inherited(problem.table, statistics, energy=True))
    features, constraints = (supernet, "operations"), problem.constraints
    first = front_first(problem.inherited(statistics))[:starts]
    networks = map(problem.space.decode, problem.table.networks[first])
    enqueued = [problem.space.reference, *networks]

    def method(ledger: Ledger, seed: int) -> None:
        space = problem.space
        sampler = SurrogateSampler(
            space=space,
            seed=seed,
            features=features,
            composites=problem.composites,
            known_constraints=constraints,
        )
        study = optuna.create_study(sampler=sampler, directions=["minimize"] * problem.count)
        for config in enqueued:
            study.enqueue_trial(space.parameters(space.encode(config)), skip_if_exists=True)
        while True:
            (trial,) = sampler.ask_batch(study, 1)
            X = np.array([space.from_parameters(trial.params)])
            if stop and problem.hopeless(X[0], ledger.X):
                ledger.spend(TENTHS / 10)
                study.tell(trial, state=TrialState.PRUNED)
                continue
            for name, value in problem.attributes(X)[0].items():
                trial.set_user_attr(name, value)
            study.tell(trial, ledger(X)[0].tolist())

    return method


def methods(problem: Training) -> dict[str, Method]:
    """Every method by name."""
    supernets: dict[str, Method] = {}
    for statistics in problem.table.statistics:
        front = front_first(problem.inherited(statistics))
        supernets[f"supernet's front in order ({statistics})"] = in_order(front)
        supernets[f"aspk refine ({statistics})"] = refine(problem, statistics, 0)
        supernets[f"aspk refine ({statistics}), front first"] = refine(problem, statistics, 5)
        supernets[f"aspk refine ({statistics}), early stops"] = refine(problem, statistics, 0, stop=True)
    return {
        **supernets,
        "surrogate without supernet": surrogate(),
        "NSGA-II": ours(lambda **options: NSGA2Sampler(population_size=10, **options)),
        "random": ours(RandomSampler),
        "most operations first": in_order(most_operations_first(problem)),
    }


def to_share(shares: Sequence[float], share: float) -> float:
    """Trainings after which a share is reached and kept, infinity if never."""
    below = np.flatnonzero(np.asarray(shares) < share)
    count = int(below[-1]) + 2 if len(below) else 1
    return count if count <= len(shares) else float("inf")


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--table", required=True, help="of trained networks: a file, or a shipped one's name")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="only names with one of these in them")
    parser.add_argument("--log", type=Path, help="goes on from here")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table, log = TrainedTable(options.table), RunLog(options.log, ("problem", "method", "seed"))
    every = list(range(1, AT[-1] + 1))
    for alone in (False, True):
        known = [Training(table, seed, alone) for seed in range(table.seeds)]
        counts = ", ".join(map(str, AT))
        all_once = " and ".join(f"{problem.exhaustive:.3f}" for problem in known)
        print(
            f"\n{known[0].name}: share of what is possible after {counts} trainings; trainings to "
            f"{SHARE:.0%} of it, and of what training all {len(table.networks)} once finds ({all_once})"
        )
        for name in methods(known[0]):
            if options.methods and not any(part in name for part in options.methods):
                continue
            curves, counted = [], []
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                problem = known[seed % table.seeds]
                found = log.get(problem.name, name, seed)
                if found is None:
                    ledger = run(methods(problem)[name], problem, AT[-1], seed)
                    X, F = ledger.arrays()
                    shares = problem.verdict(X, F, [max(ledger.within(n), 1) for n in every])
                    found = {"problem": problem.name, "method": name, "seed": seed, "shares": shares}
                    log.add(found)
                curves.append(found["shares"])
                levels = (SHARE, SHARE * problem.exhaustive)
                counted.append([to_share(found["shares"], level) for level in levels])
            means = " ".join(f"{np.mean([curve[n - 1] for curve in curves]):.3f}" for n in AT)
            medians = " ".join(f"{median:4.0f}" for median in np.median(counted, axis=0))
            print(f"{name:45} {means} {medians}", flush=True)


if __name__ == "__main__":
    main()
