"""Level two of a search: training the most informative networks. ``aspk refine``.

Level one searched the supernet. Level two is the same search with an evaluator that trains each network.
What level one knows about a network is a feature of level two's surrogates, which learn from the trainings
how far it can be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from optuna.trial import TrialState

from aspk.costs.features import LogOperations
from aspk.data import DataSet, Split, load_data
from aspk.engines.device import resolve_device
from aspk.errors import StudyError
from aspk.evaluation.supernet import measure
from aspk.metrics import Metrics
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.spec.study import StudySpec, refined
from aspk.standalone.export import EXPORT_FILES, load_exported, networks_of_trials
from aspk.standalone.job import Job
from aspk.study import SearchResult, StudyProblem, check_bounds, create_or_resume, run_study, study_problem
from aspk.study.storage import open_study
from aspk.surrogate import AccuracySurrogate
from aspk.trials.attributes import metrics_of
from aspk.util.files import safe_name, write_atomically
from aspk.util.pool import results_of
from aspk.util.records import fingerprint

_LEAST_MJ = 1e-12  # energy of a network in which nothing fires
_FEWEST = 10  # networks that level one must have evaluated


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
    """

    def __init__(
        self,
        spec: StudySpec,
        *,
        inherited: bool = False,
        test: bool = True,
        device: str = "auto",
        progress: bool = True,
    ) -> None:
        self.space = load_space(spec.space)
        self._spec, self._inherited, self._device, self._progress = spec, inherited, device, progress
        self._test = test

    @cached_property
    def data(self) -> DataSet:
        """The data set, loaded when it is first needed."""
        return load_data(self._spec.data).to(resolve_device(self._device))

    def evaluate(self, configs: Sequence[SubnetConfig]) -> list[Metrics]:
        """Metrics on ``search`` of each network after its training; ``test``, if read, is among their extras.

        Raises:
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
        job, spec = self.job(config), self._spec
        result = job.result() or job.run(progress=self._progress)
        if result is None:
            raise KeyboardInterrupt
        images, search = spec.evaluation.images, self.data.search
        network = load_exported(job.record_file.parent, resolve_device(self._device)).network
        metrics = measure(
            network,
            Split(search.images[:images], search.labels[:images]),
            batch_size=spec.evaluation.batch_size,
            energy_model=spec.energy,
        )
        tested = {"test_accuracy": result.test, "test_energy_mj": result.energy_mj} if self._test else {}
        return replace(metrics, extras=tested)


class LevelOne:
    """A free feature, see :mod:`aspk.costs.features`: what level one knows about any network.

    Accuracy and the logarithm of the energy with the supernet's weights: observed values where there are any,
    and for all other networks those that a surrogate fitted to the observed ones predicts.

    Args:
        spec: the study of level one.

    Raises:
        StudyError: there is no such study, or it has too few complete trials.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.space = load_space(spec.space)
        trials = open_study(spec).get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        found = [
            (self.space.from_parameters(trial.params), metrics)
            for trial in trials
            if (metrics := metrics_of(trial)) is not None
        ]
        if len(found) < _FEWEST:
            raise StudyError(
                f"study {spec.name!r} has {len(found)} complete trials with metrics: expected at least "
                f"{_FEWEST}, from which to learn what the supernet predicts; 'aspk search' makes them"
            )
        self._observed = {self.space.key(x): self._says(metrics) for x, metrics in found}
        X, Y = np.array(list(self._observed)), np.array(list(self._observed.values()))
        self._predict = [AccuracySurrogate(self.space, logarithm=False, folds=0).fit(X, y) for y in Y.T]

    @staticmethod
    def _says(metrics: Metrics) -> tuple[float, float]:
        return metrics.accuracy, float(np.log(max(metrics.energy_mj, _LEAST_MJ)))

    def __call__(self, config: SubnetConfig) -> tuple[float, ...]:
        """Accuracy, and the logarithm of the energy in mJ, of one network."""
        x = self.space.encode(config)
        known = self._observed.get(self.space.key(x))
        return known or tuple(float(surrogate.predict([x])[0]) for surrogate in self._predict)


def refining_problem(
    spec: StudySpec,
    *,
    inherited: bool = False,
    test: bool = True,
    device: str = "auto",
    progress: bool = True,
) -> StudyProblem:
    """The study's problem with an evaluator that trains, for level two; the reference is trained first.

    Args:
        spec: the study of level one.
        inherited: see :class:`TrainingEvaluator`.
        test: likewise.
        device: where networks are trained.
        progress: whether to show a progress bar for each training.

    Raises:
        CheckpointError: there is no supernet to start from, or it is damaged.
        StudyError: level one has too few trials, or no network can satisfy a constraint.
        KeyboardInterrupt: the user interrupted the training of the reference, which is saved.
    """
    told = LevelOne(spec)
    evaluator = TrainingEvaluator(spec, inherited=inherited, test=test, device=device, progress=progress)
    data = evaluator.data
    check_bounds(spec, evaluator.space, data.shape, data.classes)
    training = {"inherited": inherited, "recipe": spec.retrain.to_json(), "seed": spec.seed}
    problem = study_problem(
        spec,
        evaluator,
        classes=data.classes,
        fingerprints={"data": data.fingerprint(), "training": fingerprint(training)},
    )
    return replace(
        problem,
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
    device: str = "auto",
    progress: bool = True,
) -> SearchResult | None:
    """Train the most informative networks alone, or resume, until ``trainings`` of them are trained.

    The study is that of :func:`aspk.spec.study.refined`. The reference network is its first trial. Further
    processes may call this at the same time.

    Args:
        spec: the study of level one; its trials and weights must exist.
        trainings: networks to train, those of earlier runs and the reference included, at least 2.
        workers: networks trained side by side, in processes of their own if there are several.
        inherited: start from the supernet's weights, not from fresh ones.
        test: whether each training reads ``test`` at its end; if not, nothing that is chosen or tuned
            afterwards can have seen it.
        device: where networks are trained.
        progress: whether to show progress bars.

    Returns:
        How it ended; None if the user interrupted, in which case all progress is saved.

    Raises:
        StudyError: level one has too few trials, or the storage holds another study of that name.
        CheckpointError: there is no supernet to start from, or a record is another run's.
        WorkerError: a worker was killed; the same call resumes.
    """
    target = refined(spec, trainings)
    try:
        problem = refining_problem(spec, inherited=inherited, test=test, device=device, progress=progress)
        study = create_or_resume(target, problem)
        if not study.get_trials(deepcopy=False):
            space = problem.space
            study.enqueue_trial(space.parameters(space.encode(space.reference)))
        if workers > 1:
            work = partial(_work, spec, trainings, inherited, test, device)
            with closing(results_of(work, range(workers), workers=workers)) as results:
                if not all(results):
                    return None
        return run_study(target, problem, progress=progress and workers == 1)
    except KeyboardInterrupt:
        return None


def _work(spec: StudySpec, trainings: int, inherited: bool, test: bool, device: str, number: int) -> bool:
    """Run one worker; whether it ended uninterrupted. The first one shows the progress of all."""
    torch.set_num_threads(1)
    try:
        problem = refining_problem(spec, inherited=inherited, test=test, device=device, progress=False)
        return run_study(refined(spec, trainings), problem, progress=number == 0).finished
    except KeyboardInterrupt:
        return False


def export_refined(spec: StudySpec, folder: Path, *, number: int) -> Path:
    """Copy the export that a training of :func:`refine` wrote.

    Args:
        spec: the study of level one.
        folder: where the two files go.
        number: number of the refined study's trial.

    Returns:
        The folder.

    Raises:
        StudyError: there is no such complete trial, or its training is not in the study's folder.
    """
    ((config, _),) = networks_of_trials(refined(spec), [number]).values()
    for inherited in (False, True):
        trained = TrainingEvaluator(spec, inherited=inherited).job(config).record_file.parent
        if trained.is_dir():
            for name in EXPORT_FILES:
                write_atomically(folder / name, (trained / name).read_bytes())
            return folder
    raise StudyError(
        f"trial {number} of {refined(spec).name!r}: {trained.parent} does not have its training; look where "
        "'aspk refine' ran"
    )
