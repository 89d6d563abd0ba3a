"""What a trial costs beside its evaluation: storage and sampler, for each storage and size of the study.

Three ways to make and finish a trial of the same space are timed in turns on the same study, so that a busy
machine slows all of them:

- ``batch``: aspk's own, ``ask_batch`` and one write for each attribute and the result;
- ``single``: ``study.ask()`` and ``space.suggest(trial)`` with aspk's sampler, a write for each gene;
- ``suggest``: the same with Optuna's random sampler, which costs next to nothing: the storage's part.

``ask`` is the time until a trial's network is known, ``tell`` from its metrics to its end, ``propose`` the
sampler's own share of ``ask``. Medians over batches, in ms per trial. ``--scale`` times suggestions, opening
and summary of a study of 2,000 and one of 20,000 trials.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import get_storage, run_grpc_proxy_server
from optuna.trial import Trial, TrialState, create_trial

from aspk.attributes import genotype_to_attributes, metrics_to_attributes
from aspk.report import summarise
from aspk.samplers import GenotypeSampler, NSGA2Sampler, SurrogateSampler, gene_distribution
from aspk.space_file import load_space
from aspk.storage import masked, open_storage
from aspk.testing import FormulaEvaluator

SPACE = load_space("auto_spikformer")
EVALUATOR = FormulaEvaluator(SPACE)
DISTRIBUTIONS = {gene.parameter: gene_distribution(gene) for gene in SPACE.genes}
BATCH = 10


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


def filled(storage: optuna.storages.BaseStorage, count: int, sampler: object) -> optuna.Study:
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"], sampler=sampler)
    study.add_trials(finished_trials(count))
    return study


def tell(study: optuna.Study, trials: Sequence[Trial]) -> float:
    """Seconds to write the results of ``trials``."""
    results = EVALUATOR.evaluate([SPACE.decode(SPACE.from_parameters(trial.params)) for trial in trials])
    start = time.perf_counter()
    for trial, metrics in zip(trials, results, strict=True):
        for name, value in metrics_to_attributes(metrics).items():
            trial.set_user_attr(name, value)
        study.tell(trial, [metrics.accuracy, metrics.energy_mj])
    return time.perf_counter() - start


def measured(name: str, storage: optuna.storages.BaseStorage, size: int, rounds: int) -> dict[str, Any]:
    """Time one storage at one size of the study."""
    sampler = timed(NSGA2Sampler)
    study = filled(storage, size, sampler)
    times: dict[str, list[float]] = {
        f"{way}_{part}": [] for way in ("batch", "single", "suggest") for part in ("ask", "tell")
    }
    proposals: list[float] = []
    visible = True
    for turn in range(rounds + 1):
        for way in ("batch", "single", "suggest"):
            study.sampler = optuna.samplers.RandomSampler(seed=turn) if way == "suggest" else sampler
            before, start = type(sampler).seconds, time.perf_counter()
            if way == "batch":
                trials = sampler.ask_batch(study, BATCH)
            else:
                trials = [study.ask() for _ in range(BATCH)]
                for trial in trials:
                    SPACE.suggest(trial)
            ask = time.perf_counter() - start
            running = {t.number for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
            visible &= {trial.number for trial in trials} <= running
            told = tell(study, trials)
            if turn:  # the first round warms up
                times[f"{way}_ask"].append(1e3 * ask / BATCH)
                times[f"{way}_tell"].append(1e3 * told / BATCH)
                if way == "batch":
                    proposals.append(1e3 * (type(sampler).seconds - before) / BATCH)
    row = {"storage": name, "trials": size, "running_before_evaluation": visible}
    row |= {key: round(statistics.median(values), 3) for key, values in times.items()}
    row["propose"] = round(statistics.median(proposals), 3)
    ratios = [a / b for a, b in zip(times["suggest_ask"], times["batch_ask"], strict=True)]
    row["suggest_ask / batch_ask"] = round(statistics.median(ratios), 2)
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
                tell(study, trials)
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
        record = {"benchmark": "overhead", "optuna": optuna.__version__, "processor": platform.processor()}
        options.json.write_text(json.dumps({**record, "results": rows}, indent=2) + "\n")
    return 0


def overhead(folder: Path, urls: Sequence[str], sizes: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    rows = []
    for size in sizes:
        stock = optuna.storages.RDBStorage(f"sqlite:///{folder / f'{size}-stock.db'}")
        rows.append(measured("sqlite as Optuna opens it", stock, size, rounds))
        places = {"sqlite": f"sqlite:///{folder / f'{size}.db'}", "journal": str(folder / f"{size}.log")}
        for name, url in (places | {masked(url): url for url in urls}).items():
            rows.append(measured(name, open_storage(url), size, rounds))
        with proxy(f"sqlite:///{folder / f'{size}-behind.db'}") as url:
            rows.append(measured("grpc, sqlite behind", open_storage(url), size, rounds))
    return rows


if __name__ == "__main__":
    sys.exit(main())
