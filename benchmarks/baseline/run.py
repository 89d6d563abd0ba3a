"""Running a comparison: searches, inherited accuracies on test, trainings. It resumes after being killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aspk.data import DataSet, load_data
from aspk.energy import STRICT, energy_mj
from aspk.errors import EvaluationError, StudyError
from aspk.evaluation import CachedEvaluator, Evaluator, evaluate_all
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.families import Supernet
from aspk.metrics import Metrics
from aspk.report.summary import StudySummary, summarise
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.spec.study import StudySpec
from aspk.standalone.retraining import Retrained, train_candidates
from aspk.study import run_study, study_problem, supernet_of
from aspk.study.storage import with_recorded_statistics
from aspk.util.interrupt import graceful_interruption
from aspk.util.records import Identity, Record, write_json
from benchmarks.baseline.plan import Comparison, Search, Training
from benchmarks.baseline.record import TIMES, read_times, record
from benchmarks.baseline.selection import Chosen, select
from benchmarks.baseline.write_up import write_files

_INHERITED = "inherited.json"


def run_comparison(plan: Comparison, *, device: str = "auto", progress: bool = True) -> Path | None:
    """Search, train, compare and write it up; finished parts are not repeated.

    The write-up is updated after each recipe, so that an interrupted run leaves one behind.

    Returns:
        The write-up; None if the user interrupted.

    Raises:
        StudyError: what is in the folder was made with other settings.
    """
    bench = _Bench.of(plan, device)
    plan = bench.plan
    searched = []
    for search in plan.searches:
        summary = _search(bench, search, progress=progress)
        if summary is None:
            return None
        searched.append((search, summary))
    chosen, missing = select(
        bench.space,
        bench.named(),
        [(search.name, search.select, summary) for search, summary in searched],
        margin=plan.margin,
    )
    inherited = _inherited_on_test(bench, chosen, progress=progress)
    if inherited is None:
        return None
    trained: list[tuple[Training, list[Retrained]]] = []
    written: Path | None = None
    for training in plan.trainings:
        results = _train(training, chosen, device=device, progress=progress)
        if results is None:
            return None
        trained.append((training, results))
        content = record(plan, searched, chosen, missing, inherited, trained, device=device)
        written = write_files(content, plan.folder)
    return written


@dataclass(frozen=True)
class _Bench:
    """The supernet, its data and its evaluator, loaded once and shared by all searches.

    The plan's study names the statistics that are taken.
    """

    plan: Comparison
    space: SearchSpace
    data: DataSet
    supernet: SupernetEvaluator
    evaluator: Evaluator
    fingerprints: Mapping[str, str]

    @staticmethod
    def of(plan: Comparison, device: str) -> _Bench:
        spec = _as_begun(plan)
        loaded, data = supernet_of(spec, device), load_data(spec.data)
        supernet, space = _evaluator(spec, loaded.supernet, data), loaded.supernet.space
        hashes = {"weights": loaded.fingerprint, "data": data.fingerprint()}
        plan = replace(plan, study=replace(spec, evaluation=supernet.settings))
        return _Bench(plan, space, data, supernet, CachedEvaluator(supernet, space), hashes)

    def named(self) -> dict[str, tuple[SubnetConfig, Metrics]]:
        """The networks that are included without a search."""
        configs = {name: getattr(self.space, name) for name in ("reference", "largest", "smallest")}
        return {name: (config, _metrics(self.evaluator, config)) for name, config in configs.items()}


def _as_begun(plan: Comparison) -> StudySpec:
    """The study, with the statistics that its searches were begun with in an earlier run, if any."""
    for search in plan.searches:
        begun = with_recorded_statistics(replace(search.spec, evaluation=plan.study.evaluation))
        if begun.evaluation.statistics != "auto":
            return replace(plan.study, evaluation=begun.evaluation)
    return plan.study


def _evaluator(spec: StudySpec, supernet: Supernet, data: DataSet) -> SupernetEvaluator:
    return SupernetEvaluator(
        supernet,
        data,
        settings=spec.evaluation,
        energy_model=spec.energy,
        machine=spec.engine,
        cache=spec.folder / "evaluations" if spec.engine.cache else None,
    )


def _metrics(evaluator: Evaluator, config: SubnetConfig) -> Metrics:
    (result,) = evaluate_all(evaluator, [config])
    if isinstance(result, EvaluationError):
        raise result
    return result


def _search(bench: _Bench, search: Search, *, progress: bool) -> StudySummary | None:
    """Run one search, or resume it; None if interrupted."""
    classes, hashes = bench.data.classes, bench.fingerprints
    problem = study_problem(search.spec, bench.evaluator, classes=classes, fingerprints=hashes)
    space = bench.space.fixed(search.fixed)
    hashes = {**problem.fingerprints, "space": space.fingerprint}
    problem = replace(
        problem, space=space, fingerprints=hashes, statistics=bench.supernet.settings.statistics
    )
    with _timed(bench.plan.folder, f"search {search.name}"):
        result = run_study(search.spec, problem, progress=progress)
    return summarise(result.study) if result.finished else None


def _train(
    training: Training, chosen: Sequence[Chosen], *, device: str, progress: bool
) -> list[Retrained] | None:
    known = {role for item in chosen for role in item.roles}
    unknown = [name for name in training.networks if name not in known]
    if unknown:
        raise StudyError(
            f"trainings.{training.name}.networks: no network {unknown[0]!r}; "
            f"there are {', '.join(sorted(known))}"
        )
    wanted = [
        item.candidate for item in chosen if not training.networks or set(item.roles) & set(training.networks)
    ]
    seeds, folder = range(training.seeds), training.spec.folder / training.name
    options: dict[str, Any] = {"scratch": training.scratch, "device": device, "progress": progress}
    return train_candidates(training.spec, wanted, seeds=seeds, folder=folder, **options)


def _inherited_on_test(
    bench: _Bench, chosen: Sequence[Chosen], *, progress: bool
) -> dict[str, dict[str, float]] | None:
    """What the chosen networks reach on ``test`` without training, by name; None if interrupted."""
    spec, file = bench.plan.study, bench.plan.folder / _INHERITED
    settings = replace(spec.evaluation, split="test", images=None)
    evaluator = _evaluator(replace(spec, evaluation=settings), bench.supernet.supernet, bench.data)
    names = ("calibration_images", "statistics")
    identity = {**bench.fingerprints, **{name: getattr(settings, name) for name in names}}
    # Records from before there was a choice were made with networks' own statistics.
    record = Record(file, Identity(values=identity, missing={"statistics": "own"}))
    known = dict((record.read_own() or {}).get("networks", {}))
    with (
        graceful_interruption(finishing="the network", lost="it is evaluated again") as interruption,
        _timed(bench.plan.folder, "inherited on test"),
    ):
        for item in tqdm(chosen, desc="inherited on test", unit="net", disable=not progress):
            if interruption.requested:
                return None
            key = json.dumps(item.candidate.config.to_json(), sort_keys=True)
            if key not in known:
                metrics = _metrics(evaluator, item.candidate.config)
                strict = energy_mj(metrics.layers, STRICT)
                known[key] = {
                    "test": metrics.accuracy,
                    "test_mj": metrics.energy_mj,
                    "test_strict_mj": strict,
                }
                record.write({"networks": known})
    return {
        item.candidate.name: known[json.dumps(item.candidate.config.to_json(), sort_keys=True)]
        for item in chosen
    }


@contextmanager
def _timed(folder: Path, piece: str) -> Iterator[None]:
    """Add seconds of wall time and of processor time to the file of times; a killed piece adds nothing."""
    started = (time.perf_counter(), time.process_time())
    yield
    spent = (time.perf_counter() - started[0], time.process_time() - started[1])
    known = read_times(folder)
    before = known.get(piece, (0.0, 0.0))
    known[piece] = [round(earlier + now, 1) for earlier, now in zip(before, spent, strict=True)]
    write_json(folder / TIMES, known, indent=1)
