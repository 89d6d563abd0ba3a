"""The ranking study of a supernet: ``aspk rank``. Everything is recorded: killed, it goes on."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from aspk.data import load_data
from aspk.energy import EnergyModel
from aspk.engines.device import resolve_device
from aspk.errors import CheckpointError, RankingError
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.metrics import Metrics
from aspk.space import SearchSpace
from aspk.spec.settings import STATISTICS, DataSettings, EvaluationSettings, Recipe
from aspk.standalone.alone import Job, stratified_by_cost, train_alone
from aspk.training.checkpoint import load_supernet
from aspk.trials.verdict import summarise, variant_name
from aspk.util.files import read_text, write_atomically
from aspk.util.interrupt import graceful_interruption
from aspk.util.locks import exclusive

_EVALUATED_TOGETHER = 8  # networks between two records


def variants(main: EvaluationSettings) -> dict[str, EvaluationSettings]:
    """Further ways to read the inherited accuracy, compared with the main one on the same resamples."""
    others = [kind for kind in STATISTICS if kind not in ("auto", main.statistics)]
    return {variant_name(kind): replace(main, statistics=kind) for kind in others} | {
        f"{variant_name(main.statistics)}, on test": replace(main, split="test")
    }


@dataclass(frozen=True, kw_only=True)
class RankingStudy:
    """What a ranking study compares.

    Attributes:
        space: the supernet's search space.
        data: the data set.
        weights: the supernet's file.
        recipe: how networks are trained alone.
        evaluation: how inherited accuracies are measured; the verdict is that of its statistics.
        energy: the energy account.
        folder: where records and reports go.
        networks: number of networks, n.
        twice: how many of them are trained with a second seed.
        seed: of the choice of networks and of all resampling.
        workers: networks trained side by side; with several, each process imports the main module anew.
        device: where networks run.
    """

    space: SearchSpace
    data: DataSettings
    weights: Path
    recipe: Recipe
    evaluation: EvaluationSettings
    energy: EnergyModel
    folder: Path
    networks: int = 24
    twice: int = 4
    seed: int = 0
    workers: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.networks < 4 or not 0 <= self.twice <= self.networks or self.workers < 1:
            raise RankingError(
                f"networks={self.networks}, twice={self.twice}, workers={self.workers}: expected at least 4 "
                "networks, no more of them trained twice, and a worker"
            )


def rank(study: RankingStudy, *, progress: bool = True) -> Mapping[str, Any] | None:
    """Run a ranking study, or go on with it; None if the user interrupted.

    Networks are trained alone first, which needs no supernet; then the supernet evaluates them.

    Returns:
        The content of ``rank.json``.

    Raises:
        RankingError: records in the folder are another study's.
        CheckpointError: the supernet is missing or damaged, or of another space.
        LockError: another process is ranking in the same folder.
    """
    with exclusive(study.folder / "rank"):
        return _rank(study, progress=progress)


def _rank(study: RankingStudy, *, progress: bool) -> Mapping[str, Any] | None:
    jobs = ranking_jobs(study)
    if not train_alone(jobs, workers=study.workers, progress=progress):
        return None
    inherited = _inherited(study, [job for job in jobs if job.seed == 0], progress=progress)
    if inherited is None:
        return None
    rows = _rows(jobs, inherited["networks"])
    return {
        **summarise(rows, seed=study.seed),
        "weights": inherited["weights"],
        "data": study.data.to_json(),
        "evaluation": inherited["evaluation"],
        "recipe": study.recipe.to_json(),
        "seed": study.seed,
        "versions": {name: importlib.metadata.version(name) for name in ("aspk", "torch")},
        "networks": rows,
    }


def ranking_jobs(study: RankingStudy) -> list[Job]:
    """All stand-alone trainings: every network once, then some of them with a second seed."""
    data = load_data(study.data)
    shape, classes = data.shape, data.classes
    networks = stratified_by_cost(study.space, study.networks, shape=shape, classes=classes, seed=study.seed)
    again = np.linspace(0, study.networks - 1, study.twice).round().astype(int).tolist()
    plan = [(index, 0) for index in range(study.networks)] + [(index, 1) for index in again]
    return [
        Job(
            name=f"network-{index:02}-seed-{seed}",
            config=networks[index],
            settings=study.space.settings,
            data=study.data,
            recipe=study.recipe,
            evaluation=study.evaluation,
            energy=study.energy,
            seed=seed,
            folder=study.folder,
            device=study.device,
        )
        for index, seed in plan
    ]


# ---------------------------------------------------------------------- what the supernet says


def _inherited(study: RankingStudy, jobs: Sequence[Job], *, progress: bool) -> dict[str, Any] | None:
    """Metrics of every network under every variant, recorded as they come; None if interrupted."""
    loaded = load_supernet(study.weights, resolve_device(study.device))
    if loaded.supernet.space.fingerprint != study.space.fingerprint:
        raise CheckpointError(f"{study.weights} was trained for another search space")
    data = load_data(study.data)
    file = study.folder / "inherited.json"
    main = study.evaluation.for_weights(loaded.supernet.recipe)
    identity = {"weights": loaded.fingerprint, "evaluation": asdict(main)}
    record = _read_record(file, identity)
    settings = {"main": main, **variants(main)}
    missing = [(name, job) for name in settings for job in jobs if job.name not in record.get(name, {})]
    total = len(settings) * len(jobs)
    with (
        graceful_interruption(finishing="the batch", lost="its networks are evaluated again") as interruption,
        tqdm(total=total, initial=total - len(missing), desc="inherited", disable=not progress) as bar,
    ):
        for name, setting in settings.items():
            evaluator = SupernetEvaluator(loaded.supernet, data, settings=setting, energy_model=study.energy)
            wanted = [job for kind, job in missing if kind == name]
            for start in range(0, len(wanted), _EVALUATED_TOGETHER):
                if interruption.requested:
                    return None
                chunk = wanted[start : start + _EVALUATED_TOGETHER]
                found = evaluator.evaluate([job.config for job in chunk])
                record.setdefault(name, {}).update(
                    {job.name: _short(metrics) for job, metrics in zip(chunk, found, strict=True)}
                )
                write_atomically(file, json.dumps({"identity": identity, "networks": record}) + "\n")
                bar.update(len(chunk))
    return {**identity, "networks": {name: record[name] for name in settings}}


def _read_record(file: Path, identity: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What was evaluated before with the same weights and settings; nothing if it is damaged."""
    try:
        found = json.loads(read_text(file))
        networks = found["networks"] if found["identity"] == identity else {}
        return {str(name): dict(rows) for name, rows in networks.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _short(metrics: Metrics) -> dict[str, float]:
    return {name: metrics.scalars()[name] for name in ("accuracy", "energy_mj", "parameters", "operations")}


def _rows(jobs: Sequence[Job], inherited: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each network: what :func:`aspk.trials.verdict.summarise` reads, and its genes."""
    alone: dict[str, list[Mapping[str, Any]]] = {}
    for job in jobs:  # the first seed stands before the second
        record = job.record()
        assert record is not None, "all are trained"
        alone.setdefault(job.name.partition("-seed-")[0], []).append(record)
    rows = []
    for job in jobs:
        if job.seed:
            continue
        main, records = inherited["main"][job.name], alone[job.name.partition("-seed-")[0]]
        rows.append(
            {
                "network": job.config.to_json(),
                "inherited": main["accuracy"],
                "inherited_energy_mj": main["energy_mj"],
                "alone": [record["accuracy"] for record in records],
                "alone_energy_mj": records[0]["energy_mj"],
                "losses": records[0]["losses"],
                "operations": main["operations"],
                "parameters": main["parameters"],
                "time_steps": job.config.time_steps,
                "variants": {
                    name: found[job.name]["accuracy"] for name, found in inherited.items() if name != "main"
                },
            }
        )
    return rows
