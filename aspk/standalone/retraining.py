"""Found networks trained alone, from the weights that they inherit or from fresh ones, and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aspk.energy import EnergyModel, billable
from aspk.energy import energy_mj as bill
from aspk.metrics import Metrics
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.spec.study import StudySpec
from aspk.standalone.export import networks_of_trials
from aspk.standalone.job import Job, Trained, train_alone
from aspk.study.storage import open_study, require_weights
from aspk.util.files import safe_name


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network that is to be trained alone.

    Attributes:
        name: names its results, for example ``trial-7``.
        config: the network.
        predicted: what it reached with the supernet's weights.
        trial: the trial it was found in, if it was found.
    """

    name: str
    config: SubnetConfig
    predicted: Metrics
    trial: int | None = None


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """One network after training alone.

    Attributes:
        name: the candidate's name.
        trial: the trial it was found in, if it was found.
        seed: seed of its training.
        scratch: whether it started from fresh weights instead of inherited ones.
        inherited: accuracy that the search measured with the supernet's weights.
        search: accuracy afterwards, on the images of ``search`` that the search looked at.
        test: accuracy on ``test``, read once.
        energy_mj: energy of a ``test`` image in mJ under the study's account, from its own spikes.
        strict_mj: the same with dense bills for the residual stream.
        predicted_mj: energy that the search measured.
        history: accuracy on the first images of ``search`` at each checkpoint (``update``, ``search``).
        seconds: time that it took, killed runs not counted.
        processor_seconds: processor time of this process meanwhile; less than ``seconds`` on a busy machine.
        folder: the exported network.
    """

    name: str
    trial: int | None
    seed: int
    scratch: bool
    inherited: float
    search: float
    test: float
    energy_mj: float
    strict_mj: float
    predicted_mj: float
    history: Sequence[Mapping[str, float]]
    seconds: float
    processor_seconds: float
    folder: Path

    @classmethod
    def of(cls, candidate: Candidate, job: Job, result: Trained) -> Retrained:
        """What a candidate's job found."""
        names = ("search", "test", "energy_mj", "strict_mj", "history", "seconds", "processor_seconds")
        return cls(
            name=candidate.name,
            trial=candidate.trial,
            seed=job.seed,
            scratch=job.weights is None,
            inherited=candidate.predicted.accuracy,
            predicted_mj=candidate.predicted.energy_mj,
            folder=job.record_file.parent,
            **{name: getattr(result, name) for name in names},
        )


def retrain(spec: StudySpec, trials: Sequence[int], **options: Any) -> list[Retrained] | None:  # noqa: ANN401  # those of train_candidates
    """Train the networks of some trials alone: :func:`train_candidates` with what the study knows about them.

    Raises:
        StudyError: there is no such complete trial, or the supernet that it is to inherit from is not the one
            that the study measured.
    """
    if not options.get("scratch"):
        require_weights(open_study(spec), spec)
    candidates = [
        Candidate(
            name=f"trial-{number}", config=config, predicted=_predicted(metrics, spec.energy), trial=number
        )
        for number, (config, metrics) in networks_of_trials(spec, trials).items()
    ]
    return train_candidates(spec, candidates, **options)


def _predicted(metrics: Metrics, energy: EnergyModel) -> Metrics:
    """What a network reached with the supernet's weights, under the account of its training.

    A trial of level two has its trained network's metrics, and those with the supernet's weights as extras.
    """
    known = metrics.extras
    if "inherited_accuracy" in known and "inherited_energy_mj" in known:
        return Metrics(accuracy=known["inherited_accuracy"], energy_mj=known["inherited_energy_mj"])
    if not metrics.layers or not billable(metrics.layers, energy):
        return metrics
    return replace(metrics, energy_mj=bill(metrics.layers, energy))


def train_candidates(
    spec: StudySpec,
    candidates: Sequence[Candidate],
    *,
    seeds: Sequence[int] = (0,),
    scratch: bool = False,
    folder: Path | None = None,
    workers: int = 1,
    device: str = "auto",
    progress: bool = True,
) -> list[Retrained] | None:
    """Train networks alone and export them.

    Finished networks are not trained again; a killed run resumes in the middle of a network and gives the
    same weights: to the bit on a CPU with the same number of threads.

    Args:
        spec: the study; its ``retrain`` is the recipe.
        candidates: the networks; each has a name of its own.
        seeds: seeds to train each network with.
        scratch: start from fresh weights, not from the supernet's.
        folder: where exports go; None is ``retrained`` in the study's folder.
        workers: networks trained side by side, see :func:`aspk.standalone.job.train_alone`.
        device: where to train.
        progress: whether to show progress bars.

    Returns:
        One result for each network and seed; None if the user interrupted.

    Raises:
        CheckpointError: a result in the folder is another run's, or the supernet or a state is damaged.
        TrainingError: a loss is not finite; the last checkpoint is kept.
    """
    pairs = [(candidate, seed) for candidate in candidates for seed in seeds]
    jobs = [_job(spec, *pair, scratch=scratch, folder=folder, device=device) for pair in pairs]
    trained = train_alone(jobs, workers=workers, progress=progress)
    if trained is None:
        return None
    return [
        Retrained.of(candidate, job, result)
        for (candidate, _), job, result in zip(pairs, jobs, trained, strict=True)
    ]


def _job(
    spec: StudySpec, candidate: Candidate, seed: int, *, scratch: bool, folder: Path | None, device: str
) -> Job:
    start = "scratch" if scratch else "inherited"
    return Job(
        name=safe_name(f"{spec.name}-{candidate.name}-{start}-seed-{seed}"),
        folder=folder or spec.folder / "retrained",
        space=load_space(spec.space),
        config=candidate.config,
        data=spec.data,
        recipe=spec.retrain,
        seed=seed,
        evaluation=spec.evaluation,
        energy=spec.energy,
        weights=None if scratch else spec.weights_file,
        device=device,
        export={"study": spec.name, "trial": candidate.trial},
        about={
            "name": candidate.name,
            "trial": candidate.trial,
            "seed": seed,
            "scratch": scratch,
            "inherited": candidate.predicted.accuracy,
            "predicted_mj": candidate.predicted.energy_mj,
        },
    )
