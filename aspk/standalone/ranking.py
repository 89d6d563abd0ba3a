"""The ranking study of a supernet: ``aspk rank``. Everything is recorded, so a killed run resumes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aspk.costs import cost
from aspk.data import load_data
from aspk.energy import EnergyModel
from aspk.engines.device import resolve_device
from aspk.errors import CheckpointError, RankingError
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.metrics import Metrics
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import STATISTICS, DataSettings, EvaluationSettings, Recipe
from aspk.standalone.job import Job, Trained, train_alone
from aspk.training.checkpoint import load_supernet
from aspk.trials.verdict import summarise, variant_name
from aspk.util.interrupt import graceful_interruption
from aspk.util.locks import exclusive
from aspk.util.progress import ProgressBar
from aspk.util.records import Identity, Record

_DRAWS_PER_STRATUM = 64
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
        evaluation: how inherited accuracies are measured; the verdict is for its statistics.
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
                "networks, at most all of them trained twice, and at least one worker"
            )


def rank(study: RankingStudy, *, progress: bool = True) -> Mapping[str, Any] | None:
    """Run or resume a ranking study; None if the user interrupted.

    Networks are trained alone first, which needs no supernet; then the supernet evaluates them.

    Returns:
        The content of ``rank.json``.

    Raises:
        RankingError: the space has fewer networks.
        CheckpointError: records in the folder are another study's, or the supernet is missing, damaged
            or of another space.
        LockError: another process is ranking in the same folder.
    """
    with exclusive(study.folder / "rank"):
        return _rank(study, progress=progress)


def _rank(study: RankingStudy, *, progress: bool) -> Mapping[str, Any] | None:
    jobs = ranking_jobs(study)
    # The networks are too small for threads to help within one.
    trained = train_alone(jobs, workers=study.workers, threads=1, progress=progress)
    if trained is None:
        return None
    inherited = _inherited(study, [job for job in jobs if job.seed == 0], progress=progress)
    if inherited is None:
        return None
    rows = _rows(jobs, trained, inherited["networks"])
    return {
        **summarise(rows, seed=study.seed),
        "weights": inherited["weights"],
        "data": study.data.to_json(),
        "evaluation": inherited["evaluation"],
        "recipe": jobs[0].recipe.to_json(),
        "seed": study.seed,
        "versions": {name: importlib.metadata.version(name) for name in ("aspk", "torch")},
        "networks": rows,
    }


def stratified_by_cost(
    space: SearchSpace, count: int, *, shape: tuple[int, int, int], classes: int, seed: int
) -> list[SubnetConfig]:
    """Different networks, one from each of ``count`` equally populated strata of dense operations.

    The population is random networks with every gene uniform over its choices.

    Raises:
        RankingError: the space has fewer networks.
    """
    if space.size < count:
        raise RankingError(f"space {space.name!r} has {space.size} networks, {count} are wanted")
    rng = np.random.default_rng(seed)
    drawn = [space.decode(x) for x in space.sample_choices(_DRAWS_PER_STRATUM * count, rng)]
    networks = list(dict.fromkeys(drawn))

    def operations(config: SubnetConfig) -> int:
        return cost.operations(cost.layer_shapes(config, space.settings, shape, classes))

    networks.sort(key=operations)
    if len(networks) < count:
        networks = sorted((space.decode(x) for x in space.networks()), key=operations)
    strata = np.array_split(np.arange(len(networks)), count)
    return [networks[int(rng.choice(stratum))] for stratum in strata]


def ranking_jobs(study: RankingStudy) -> list[Job]:
    """All stand-alone trainings: every network once, then some of them with a second seed."""
    data = load_data(study.data)
    shape, classes = data.shape, data.classes
    networks = stratified_by_cost(study.space, study.networks, shape=shape, classes=classes, seed=study.seed)
    again = np.linspace(0, study.networks - 1, study.twice).round().astype(int).tolist()
    plan = [(index, 0) for index in range(study.networks)] + [(index, 1) for index in again]
    jobs = [
        Job(
            name=f"network-{index:02}-seed-{seed}",
            folder=study.folder,
            space=study.space,
            config=networks[index],
            data=study.data,
            recipe=study.recipe,
            evaluation=study.evaluation,
            energy=study.energy,
            seed=seed,
            device=study.device,
        )
        for index, seed in plan
    ]
    # A study begun by an earlier version continues in the precision of the networks trained so far.
    recipe = next((job.begun.recipe for job in jobs if job.record_file.exists()), study.recipe)
    return [replace(job, recipe=recipe) for job in jobs]


# ---------------------------------------------------------------------- what the supernet measures


def _inherited(study: RankingStudy, jobs: Sequence[Job], *, progress: bool) -> dict[str, Any] | None:
    """Metrics of every network under every variant, recorded as they come; None if interrupted."""
    loaded = load_supernet(study.weights, resolve_device(study.device))
    if loaded.supernet.space.fingerprint != study.space.fingerprint:
        raise CheckpointError(f"{study.weights} was trained for another search space")
    data = load_data(study.data)
    main = study.evaluation.for_weights(loaded.supernet.recipe)
    identity = {"weights": loaded.fingerprint, "evaluation": asdict(main)}
    account = {"energy": asdict(study.energy)}  # not in earlier versions' records
    record = Record(study.folder / "inherited.json", Identity(values=identity | account, missing=account))
    known = _known(record)
    settings = {"main": main, **variants(main)}
    missing = [(name, job) for name in settings for job in jobs if job.name not in known.get(name, {})]
    total = len(settings) * len(jobs)
    with (
        graceful_interruption(finishing="the batch", lost="its networks are evaluated again") as interruption,
        ProgressBar(total=total, initial=total - len(missing), desc="inherited", disable=not progress) as bar,
    ):
        for name, setting in settings.items():
            evaluator = SupernetEvaluator(loaded.supernet, data, settings=setting, energy_model=study.energy)
            wanted = [job for kind, job in missing if kind == name]
            for start in range(0, len(wanted), _EVALUATED_TOGETHER):
                if interruption.requested:
                    return None
                chunk = wanted[start : start + _EVALUATED_TOGETHER]
                found = evaluator.evaluate([job.config for job in chunk])
                known.setdefault(name, {}).update(
                    {job.name: _short(metrics) for job, metrics in zip(chunk, found, strict=True)}
                )
                record.write({"networks": known})
                bar.update(len(chunk))
    return {**identity, "networks": {name: known[name] for name in settings}}


def _known(record: Record) -> dict[str, dict[str, Any]]:
    """What was evaluated before with the same weights and settings; nothing if it is damaged."""
    try:
        networks = (record.read_own() or {}).get("networks", {})
        return {str(name): dict(rows) for name, rows in networks.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _short(metrics: Metrics) -> dict[str, float]:
    return {name: metrics.scalars()[name] for name in ("accuracy", "energy_mj", "parameters", "operations")}


def _rows(
    jobs: Sequence[Job], trained: Sequence[Trained], inherited: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row for each network: what :func:`aspk.trials.verdict.summarise` reads, and its genes."""
    alone: dict[str, list[Trained]] = {}
    for job, result in zip(jobs, trained, strict=True):  # the first seed comes before the second
        alone.setdefault(job.name.partition("-seed-")[0], []).append(result)
    rows = []
    for job in jobs:
        if job.seed:
            continue
        main, results = inherited["main"][job.name], alone[job.name.partition("-seed-")[0]]
        rows.append(
            {
                "network": job.config.to_json(),
                "inherited": main["accuracy"],
                "inherited_energy_mj": main["energy_mj"],
                "alone": [result.test for result in results],
                "alone_energy_mj": results[0].energy_mj,
                "losses": results[0].losses,
                "operations": main["operations"],
                "parameters": main["parameters"],
                "time_steps": job.config.time_steps,
                "variants": {
                    name: found[job.name]["accuracy"] for name, found in inherited.items() if name != "main"
                },
            }
        )
    return rows
