"""What a trial costs apart from its evaluation: storage and sampler, for each storage and size of the study.

Ways to make and finish a trial of the same space, each in a study of its own of the same size:

- ``aspk``: a batch of 10 by ``NSGA2Sampler.ask_batch``, each trial completed as in ``aspk search``;
- ``search``: the same as one of several workers, which signs its trials and checks on the others;
- ``genes``: Optuna's own way on the same storage: ``study.ask()``, ``suggest_*`` for each gene, an attribute
  for each metric and ``study.tell``; with Optuna's random sampler, which costs next to nothing;
- ``default``: the same on SQLite as Optuna opens it, ``RDBStorage(url)``: what a user has without aspk.

All trials end with the same parameters, metrics and values; ``aspk`` and ``search`` also keep the genotype.
The ways alternate, in another order every round, so that a busy machine slows all of them. ``ask`` is the
time until a trial's network is known, ``tell`` from its metrics to its end, ``whole`` both, ``propose`` the
sampler's own share of ``aspk_ask``: medians over rounds in ms per trial. A ratio is of whole trials, the
median of the rounds' own ratios. ``sql`` are a trial's statements and transactions, if a database is accessed
directly. ``--scale`` times suggestions, opening and summary of a study of 2,000 and one of 20,000 trials.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage, get_storage, run_grpc_proxy_server
from optuna.trial import Trial, TrialState, create_trial

from aspk.engines.device import hardware
from aspk.metrics import Metrics
from aspk.objectives import objective
from aspk.objectives.scalarization import FAEB
from aspk.report import summarise
from aspk.samplers import GenotypeSampler, NSGA2Sampler, SurrogateSampler, gene_distribution
from aspk.space.file import load_space
from aspk.study import StudyProblem
from aspk.study.loop import tell
from aspk.study.storage import open_storage
from aspk.study.workers import Worker, WorkerSettings
from aspk.testing import FormulaEvaluator
from aspk.trials.attributes import genotype_to_attributes, metrics_to_attributes
from aspk.util.passwords import masked

SPACE = load_space("auto_spikformer")
EVALUATOR = FormulaEvaluator(SPACE)
DISTRIBUTIONS = {gene.parameter: gene_distribution(gene) for gene in SPACE.genes}
BATCH = 10
PROBLEM = StudyProblem(
    space=SPACE,
    evaluator=EVALUATOR,
    objectives=(objective("accuracy"), objective("energy")),
    constraints=(),
    faeb=FAEB(reference_energy_mj=1.0, classes=10),
    reference=EVALUATOR.evaluate([SPACE.reference])[0],
    fingerprints={},
)


def timed(kind: type[GenotypeSampler]) -> GenotypeSampler:
    """A sampler that adds up the seconds of its proposals in ``seconds``."""

    class Timed(kind):  # type: ignore[valid-type, misc]
        seconds = 0.0

        def propose(self, genome, history, count, rng):  # noqa: ANN001, ANN202
            start = time.perf_counter()
            try:
                return super().propose(genome, history, count, rng)
            finally:
                Timed.seconds += time.perf_counter() - start

    return Timed(space=SPACE, seed=0)


def finished_trials(count: int, seed: int = 0) -> Iterator[optuna.trial.FrozenTrial]:
    """Random networks with the formula's metrics."""
    for x in SPACE.sample_choices(count, np.random.default_rng(seed)):
        (metrics,) = EVALUATOR.evaluate([SPACE.decode(x)])
        parameters = SPACE.parameters(x)
        yield create_trial(
            values=[metrics.accuracy, metrics.energy_mj],
            params=parameters,
            distributions={name: DISTRIBUTIONS[name] for name in parameters},
            user_attrs=metrics_to_attributes(metrics),
            system_attrs=genotype_to_attributes(x),
        )


def filled(storage: BaseStorage, count: int, sampler: object) -> optuna.Study:
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"], sampler=sampler)
    study.add_trials(finished_trials(count))
    return study


def evaluated(trials: Sequence[Trial]) -> list[Metrics]:
    return EVALUATOR.evaluate([SPACE.decode(SPACE.from_parameters(trial.params)) for trial in trials])


class Way:
    """aspk's way to ask for trials and tell their results, in a separate study."""

    def __init__(self, storage: BaseStorage, size: int) -> None:
        self.sampler = timed(NSGA2Sampler)
        self.study = filled(storage, size, self.sampler)

    @property
    def proposing(self) -> float:
        """Seconds that the sampler proposed so far."""
        return self.sampler.seconds

    def ask(self) -> list[Trial]:
        return self.sampler.ask_batch(self.study, BATCH)

    def tell(self, trial: Trial, metrics: Metrics) -> None:
        tell(self.study, trial, metrics, PROBLEM)


class Search(Way):
    """The way of one worker among several."""

    def __init__(self, storage: BaseStorage, size: int) -> None:
        super().__init__(storage, size)
        self._worker = Worker(self.study, WorkerSettings())

    def ask(self) -> list[Trial]:
        self._worker.fail_abandoned()
        return self._worker.ask(self.sampler, BATCH, budget=sys.maxsize)

    def tell(self, trial: Trial, metrics: Metrics) -> None:
        super().tell(trial, metrics)
        self._worker.release(trial)


class Genes(Way):
    """Optuna's way."""

    proposing = 0.0

    def __init__(self, storage: BaseStorage, size: int) -> None:
        self.study = filled(storage, size, optuna.samplers.RandomSampler(seed=0))

    def ask(self) -> list[Trial]:
        trials = [self.study.ask() for _ in range(BATCH)]
        for trial in trials:
            SPACE.suggest(trial)
        return trials

    def tell(self, trial: Trial, metrics: Metrics) -> None:
        for name, value in metrics_to_attributes(metrics).items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, [metrics.accuracy, metrics.energy_mj])


@dataclass
class Sql:
    """Counts the statements and transactions of a database."""

    counts: Counter[str] = field(default_factory=Counter)

    def listen(self, storage: BaseStorage) -> None:
        if isinstance(storage, RDBStorage):
            sqlalchemy.event.listen(storage.engine, "before_cursor_execute", self._statement)
            sqlalchemy.event.listen(storage.engine, "commit", self._commit)

    def _statement(self, *_: object) -> None:
        self.counts["statements"] += 1

    def _commit(self, _: object) -> None:
        self.counts["transactions"] += 1


@dataclass
class Round:
    """What one batch cost, per trial."""

    ask: float
    tell: float
    propose: float
    sql: tuple[float, float]
    visible: bool

    @property
    def whole(self) -> float:
        return self.ask + self.tell


def one_round(way: Way, sql: Sql) -> Round:
    sql.counts.clear()
    proposing, start = way.proposing, time.perf_counter()
    trials = way.ask()
    ask, asked = time.perf_counter() - start, Counter(sql.counts)
    states = {(trial.number, trial.state) for trial in way.study.get_trials(deepcopy=False)}
    results = evaluated(trials)
    sql.counts.clear()
    start = time.perf_counter()
    for trial, metrics in zip(trials, results, strict=True):
        way.tell(trial, metrics)
    told, total = time.perf_counter() - start, asked + sql.counts
    return Round(
        ask=1e3 * ask / BATCH,
        tell=1e3 * told / BATCH,
        propose=1e3 * (way.proposing - proposing) / BATCH,
        sql=(total["statements"] / BATCH, total["transactions"] / BATCH),
        visible={(trial.number, TrialState.RUNNING) for trial in trials} <= states,
    )


def measured(
    name: str, storage: BaseStorage, size: int, rounds: int, default: BaseStorage | None = None
) -> dict[str, Any]:
    """Time one storage at one size of the study."""
    ways = {"aspk": Way(storage, size), "search": Search(storage, size), "genes": Genes(storage, size)}
    if default is not None:
        ways["default"] = Genes(default, size)
    sql = Sql()
    for counted in filter(None, (storage, default)):
        sql.listen(counted)
    results: dict[str, list[Round]] = {way: [] for way in ways}
    names = list(ways)
    for turn in range(rounds + 1):
        for way in names[turn % len(names) :] + names[: turn % len(names)]:
            result = one_round(ways[way], sql)
            if turn:  # the first round warms up
                results[way].append(result)
    visible = all(item.visible for items in results.values() for item in items)
    return {"storage": name, "trials": size, "running_before_evaluation": visible, **summary(results)}


def summary(results: Mapping[str, Sequence[Round]]) -> dict[str, Any]:
    """Medians of each way, and the ratios of Optuna's ways to aspk's."""
    row: dict[str, Any] = {}
    for way, rounds in results.items():
        for part in ("ask", "tell", "whole"):
            row[f"{way}_{part}"] = round(statistics.median(getattr(item, part) for item in rounds), 2)
        if way == "aspk":
            row["propose"] = round(statistics.median(item.propose for item in rounds), 2)
        if any(rounds[0].sql):
            row[f"{way}_sql"] = [
                statistics.median(column) for column in zip(*(r.sql for r in rounds), strict=True)
            ]
    for way, own in itertools.product(("genes", "default"), ("aspk", "search")):
        if way in results:
            pairs = zip(results[way], results[own], strict=True)
            row[f"{way} / {own}"] = round(statistics.median(a.whole / b.whole for a, b in pairs), 2)
    return row


def scale(folder: Path, sizes: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Time suggestions, opening and summary at two sizes of a study in SQLite."""
    rows = []
    for size in sizes:
        url = f"sqlite:///{folder / f'{size}.db'}"
        study = filled(open_storage(url), size, None)
        start = time.perf_counter()
        study = optuna.load_study(study_name=study.study_name, storage=open_storage(url))
        study.get_trials(deepcopy=False)
        row: dict[str, Any] = {"trials": size, "open_s": round(time.perf_counter() - start, 2)}
        start = time.perf_counter()
        summarise(study)
        row["summarise_s"] = round(time.perf_counter() - start, 2)
        for kind in (NSGA2Sampler, SurrogateSampler):
            study.sampler = sampler = kind(space=SPACE, seed=1)
            seconds = []
            for _ in range(rounds + 1):
                start = time.perf_counter()
                trials = sampler.ask_batch(study, 1)
                seconds.append(time.perf_counter() - start)
                tell(study, trials[0], evaluated(trials)[0], PROBLEM)
            row[f"{kind.__name__}_first_ms"] = round(1e3 * seconds[0], 1)
            row[f"{kind.__name__}_ms"] = round(1e3 * statistics.median(seconds[1:]), 2)
        rows.append(row)
    return rows


def serve(url: str, port: int) -> None:
    run_grpc_proxy_server(get_storage(url), host="127.0.0.1", port=port)


@contextmanager
def proxy(url: str) -> Iterator[str]:
    """A gRPC proxy on loopback in front of a database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(url, port))
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.kill()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="100 trials only, fewer rounds; --scale 400, 4,000"
    )
    parser.add_argument("--scale", action="store_true", help="time a large study instead (SQLite)")
    parser.add_argument("--url", action="append", default=[], help="a further storage, PostgreSQL say")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rounds = 3 if options.quick else 10
    with tempfile.TemporaryDirectory() as folder:
        if options.scale:
            rows = scale(Path(folder), (400, 4_000) if options.quick else (2_000, 20_000), 3 * rounds)
        else:
            rows = overhead(Path(folder), options.url, (100,) if options.quick else (100, 1_000), rounds)
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    if options.json:
        record = {"benchmark": "overhead", "optuna": optuna.__version__, "processor": hardware("cpu")}
        options.json.write_text(json.dumps({**record, "results": rows}, indent=2) + "\n")
    return 0


def overhead(folder: Path, urls: Sequence[str], sizes: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    rows = []
    for size in sizes:
        default = RDBStorage(f"sqlite:///{folder / f'{size}-default.db'}")
        sqlite = open_storage(f"sqlite:///{folder / f'{size}.db'}")
        rows.append(measured("sqlite", sqlite, size, rounds, default))
        for name, url in (
            {"journal": str(folder / f"{size}.log")} | {masked(url): url for url in urls}
        ).items():
            rows.append(measured(name, open_storage(url), size, rounds))
        with proxy(f"sqlite:///{folder / f'{size}-behind.db'}") as url:
            rows.append(measured("grpc, sqlite behind", open_storage(url), size, rounds))
    return rows


if __name__ == "__main__":
    sys.exit(main())
