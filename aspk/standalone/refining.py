"""Level two of a search: training the most informative networks. ``aspk refine``.

Level one searched the supernet. Level two is the same search with an evaluator that trains each network.
What level one knows about a network is a feature of level two's surrogates, which learn from the trainings
how far it can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from aspk.costs.features import LogOperations
from aspk.data import DataSet, Split, load_data
from aspk.engines.device import resolve_device
from aspk.errors import EvaluationStopped, StudyError
from aspk.evaluation import CachedEvaluator, Evaluator, evaluate_all
from aspk.evaluation.supernet import measure
from aspk.families import Network, calibrate
from aspk.metrics import Metrics
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.spec.study import Aim, StudySpec, refined
from aspk.standalone.export import EXPORT_FILES, load_exported, networks_of_trials
from aspk.standalone.job import Job, Trained
from aspk.standalone.level_one import LevelOne
from aspk.standalone.stopping import TENTHS, Rivals
from aspk.study import (
    SearchResult,
    StudyProblem,
    check_bounds,
    create_or_resume,
    evaluator_of,
    run_study,
    study_problem,
)
from aspk.training import EarlyStop, NetworkRun
from aspk.util.files import safe_name, write_atomically
from aspk.util.pool import results_of
from aspk.util.records import fingerprint, read_json

_FIRST = 5  # of the supernet's best networks, trained before F_AEB's sampler is asked


class TrainingEvaluator:
    """An :class:`~aspk.evaluation.Evaluator` that trains each network alone, once.

    No process trains the same network again: its record and its export stay in the study's folder. A killed
    training resumes from its last checkpoint.

    Args:
        spec: the study: data, recipe ``retrain``, evaluation, energy account, and the seed of trainings.
        inherited: start from the supernet's weights, not from fresh ones.
        test: whether each training reads ``test`` at its end.
        device: where networks are trained.
        progress: whether to show a progress bar for each training.
        stop: says why a training is to end early, from its network's metrics and its loss so far; an empty
            text lets it continue. None trains all networks to the end.
    """

    def __init__(
        self,
        spec: StudySpec,
        *,
        inherited: bool = False,
        test: bool = True,
        device: str = "auto",
        progress: bool = True,
        stop: Callable[[Metrics, float], str] | None = None,
    ) -> None:
        self.space = load_space(spec.space)
        self._spec, self._inherited, self._device, self._progress = spec, inherited, device, progress
        self._test = test
        self._stop = EarlyStop(TENTHS, partial(self._reason, stop)) if stop else None

    @cached_property
    def data(self) -> DataSet:
        """The data set, loaded when it is first needed."""
        return load_data(self._spec.data).to(resolve_device(self._device))

    @cached_property
    def supernet(self) -> Evaluator:
        """Evaluates networks with inherited weights, loaded when it is first needed."""
        return evaluator_of(self._spec, self._device, data=self.data)[0]

    def evaluate(self, configs: Sequence[SubnetConfig]) -> list[Metrics]:
        """Metrics on ``search`` of each network after its training.

        Extras are accuracy and energy on ``test``, if it is read, and on ``search`` with inherited weights.

        Raises:
            EvaluationStopped: the only network's training ended early.
            KeyboardInterrupt: the user interrupted a training, which is saved.
        """
        return [self._trained(config) for config in configs]

    def job(self, config: SubnetConfig) -> Job:
        """The training of one network."""
        spec, x = self._spec, self.space.encode(config)
        start = "inherited" if self._inherited else "scratch"
        return Job(
            name=safe_name(f"network-{'-'.join(map(str, x))}-{start}-seed-{spec.seed}"),
            folder=spec.folder / "refined",
            space=self.space,
            config=config,
            data=spec.data,
            recipe=spec.retrain,
            seed=spec.seed,
            evaluation=spec.evaluation,
            energy=spec.energy,
            weights=spec.weights_file if self._inherited else None,
            device=self._device,
            export={"study": refined(spec).name},
            test=self._test,
        )

    def _trained(self, config: SubnetConfig) -> Metrics:
        job = self.job(config)
        try:
            result = job.result() or job.run(progress=self._progress, stop=self._stop)
        except EvaluationStopped:
            job.drop_state()
            raise
        if result is None:
            raise KeyboardInterrupt
        metrics = self._measured(load_exported(job.record_file.parent, resolve_device(self._device)).network)
        extras = {"test_accuracy": result.test, "test_energy_mj": result.energy_mj} if self._test else {}
        return replace(metrics, extras=extras | self._inherited_by(config))

    def _inherited_by(self, config: SubnetConfig) -> dict[str, float]:
        (found,) = evaluate_all(self.supernet, [config])
        if not isinstance(found, Metrics):
            return {}
        return {"inherited_accuracy": found.accuracy, "inherited_energy_mj": found.energy_mj}

    def _measured(self, network: Network) -> Metrics:
        spec, search = self._spec, self.data.search
        images = spec.evaluation.images
        return measure(
            network,
            Split(search.images[:images], search.labels[:images]),
            batch_size=spec.evaluation.batch_size,
            energy_model=spec.energy,
        )

    def _reason(self, stop: Callable[[Metrics, float], str], run: NetworkRun) -> str:
        images = self.data.train.images[: self._spec.evaluation.calibration_images]
        network = calibrate(deepcopy(run.evaluated), run.input(images))
        return stop(self._measured(network), run.losses()[TENTHS - 1])


def refining_problem(
    spec: StudySpec,
    *,
    inherited: bool = False,
    test: bool = True,
    aim: Aim = "objectives",
    stop: bool = True,
    device: str = "auto",
    progress: bool = True,
) -> StudyProblem:
    """The study's problem with an evaluator that trains, for level two; the reference is trained first.

    Args:
        spec: the study of level one.
        inherited: see :class:`TrainingEvaluator`.
        test: likewise.
        aim: see :func:`aspk.spec.study.refined`.
        stop: end trainings early that cannot reach the front, see :func:`aspk.standalone.stopping.hopeless`.
        device: where networks are trained.
        progress: whether to show a progress bar for each training.

    Raises:
        CheckpointError: there is no supernet to start from, or it is damaged.
        StudyError: level one has too few trials, or no network can satisfy a constraint.
        KeyboardInterrupt: the user interrupted the training of the reference, which is saved.
    """
    told, target = LevelOne(spec), refined(spec, aim=aim)
    options: dict[str, Any] = {"inherited": inherited, "test": test, "device": device, "progress": progress}
    evaluator = TrainingEvaluator(spec, **options)
    data = evaluator.data
    check_bounds(spec, evaluator.space, data.shape, data.classes)
    training = {"inherited": inherited, "recipe": spec.retrain.to_json(), "seed": spec.seed}
    problem = study_problem(
        target,
        evaluator,
        classes=data.classes,
        fingerprints={"data": data.fingerprint(), "training": fingerprint(training)},
    )
    if stop:
        rivals = Rivals(target, evaluator.space, evaluator.job, problem.objectives)
        evaluator = TrainingEvaluator(spec, stop=rivals, **options)
    return replace(
        problem,
        evaluator=CachedEvaluator(evaluator, evaluator.space),
        shape=data.shape,
        images=len(data.search.labels[: spec.evaluation.images]),
        features=(told, LogOperations(evaluator.space, data.shape, data.classes)),
    )


def refine(
    spec: StudySpec,
    *,
    trainings: int,
    workers: int = 1,
    inherited: bool = False,
    test: bool = True,
    aim: Aim = "objectives",
    stop: bool = True,
    device: str = "auto",
    progress: bool = True,
) -> SearchResult | None:
    """Train the most informative networks alone, or resume, until ``trainings`` of them are trained.

    The study is that of :func:`aspk.spec.study.refined`. The reference network is its first trial; if F_AEB
    is the only objective, the five networks with the highest F_AEB under the supernet's weights follow.
    Further processes may call this at the same time.

    Args:
        spec: the study of level one; its trials and weights must exist.
        trainings: networks to train, those of earlier runs and the reference included, at least 2. Trainings
            that ended early are not counted.
        workers: networks trained side by side, in processes of their own if there are several.
        inherited: start from the supernet's weights, not from fresh ones.
        test: whether each training reads ``test`` at its end; if not, nothing that is chosen or tuned
            afterwards can have seen it.
        aim: see :func:`aspk.spec.study.refined`. Networks that were trained for one aim are not trained
            again for the other.
        stop: end trainings early that cannot reach the front, see :func:`aspk.standalone.stopping.hopeless`.
        device: where networks are trained.
        progress: whether to show progress bars.

    Returns:
        How it ended; None if the user interrupted, in which case all progress is saved.

    Raises:
        StudyError: level one has too few trials, or the storage holds another study of that name.
        CheckpointError: there is no supernet to start from, or a record is another run's.
        WorkerError: a worker was killed; the same call resumes.
    """
    target = refined(spec, trainings, aim=aim)
    options: dict[str, Any] = {
        "inherited": inherited,
        "test": test,
        "aim": aim,
        "stop": stop,
        "device": device,
    }
    try:
        problem = refining_problem(spec, progress=progress, **options)
        study = create_or_resume(target, problem)
        if not study.get_trials(deepcopy=False):
            space = problem.space
            for config in [space.reference, *_first(problem)][:trainings]:
                study.enqueue_trial(space.parameters(space.encode(config)), skip_if_exists=True)
        if workers > 1:
            work = partial(_work, spec, target, options)
            with closing(results_of(work, range(workers), workers=workers)) as results:
                if not all(results):
                    return None
        return run_study(target, problem, progress=progress and workers == 1)
    except KeyboardInterrupt:
        return None


def _first(problem: StudyProblem) -> list[SubnetConfig]:
    """What is trained after the reference for F_AEB alone: the supernet's best networks.

    On both tables of trained networks this took fewer trainings than asking the sampler at once, see
    docs/trust.md.
    """
    told, _ = problem.features
    if [item.name for item in problem.objectives] != ["f_aeb"] or not isinstance(told, LevelOne):
        return []

    def score(metrics: Metrics) -> float:
        feasible = all(constraint(metrics) <= 0 for constraint in problem.constraints)
        return problem.faeb(metrics) if feasible else -math.inf

    return told.best(score, _FIRST)


def _work(spec: StudySpec, target: StudySpec, options: Mapping[str, Any], number: int) -> bool:
    """Run one worker; whether it ended uninterrupted. The first one shows the progress of all."""
    torch.set_num_threads(1)
    try:
        problem = refining_problem(spec, progress=False, **options)
        return run_study(target, problem, progress=number == 0).finished
    except KeyboardInterrupt:
        return False


def export_refined(spec: StudySpec, folder: Path, *, number: int, aim: Aim = "objectives") -> Path:
    """Copy the export that a training of :func:`refine` wrote.

    Args:
        spec: the study of level one.
        folder: where the two files go.
        number: number of the refined study's trial.
        aim: of the refined study.

    Returns:
        The folder.

    Raises:
        StudyError: there is no such complete trial, or its training is not in the study's folder.
    """
    target = refined(spec, aim=aim)
    ((config, metrics),) = networks_of_trials(target, [number]).values()
    both = [
        TrainingEvaluator(spec, inherited=inherited).job(config).record_file for inherited in (False, True)
    ]
    there = [record for record in both if all((record.parent / name).is_file() for name in EXPORT_FILES)]
    if not there:
        raise StudyError(
            f"trial {number} of {target.name!r}: {both[-1].parent} does not have its training; look where "
            "'aspk refine' ran"
        )
    record = min(there, key=lambda file: _distance(file, metrics))
    for name in EXPORT_FILES:
        write_atomically(folder / name, (record.parent / name).read_bytes())
    return folder


def _distance(record: Path, metrics: Metrics) -> tuple[float, float]:
    """How far a training's record is from a trial: it may have been trained in both ways."""
    try:
        result = Trained.from_record(read_json(record) or {})
    except (LookupError, TypeError, ValueError, AttributeError):
        return math.inf, math.inf
    accuracy, energy = abs(result.search - metrics.accuracy), abs(result.search_energy_mj - metrics.energy_mj)
    return (math.inf if math.isnan(accuracy) else accuracy, math.inf if math.isnan(energy) else energy)


def export_all_refined(spec: StudySpec, folders: Mapping[int, Path], *, aim: Aim = "objectives") -> None:
    """:func:`export_refined` for several trials.

    Args:
        spec: the study of level one.
        folders: maps the number of a trial to its folder.
        aim: of the refined study.
    """
    for number, folder in folders.items():
        export_refined(spec, folder, number=number, aim=aim)
