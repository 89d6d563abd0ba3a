"""Running a study: create it or go on with it, ask in batches, evaluate, tell."""

from __future__ import annotations

import importlib.metadata
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from tqdm import tqdm

from aspk import attributes
from aspk.checkpoint import LoadedSupernet, load_supernet
from aspk.config import SubnetConfig
from aspk.data import load_data
from aspk.device import resolve_device
from aspk.errors import EvaluationError, StudyError
from aspk.evaluation import CachedEvaluator, Evaluator, Result, evaluate_all
from aspk.evaluator import SupernetEvaluator
from aspk.interrupt import graceful_interruption
from aspk.metrics import Metrics
from aspk.objectives import Constraint, Objective, budget, minimised, objective
from aspk.pareto import anchored_hypervolume, nondominated
from aspk.samplers import EvolutionarySampler, GenotypeSampler, NSGA2Sampler, RandomSampler, SurrogateSampler
from aspk.scalarization import FAEB
from aspk.space import SearchSpace
from aspk.space_file import load_space
from aspk.storage import open_storage, record_verdict, requeue_abandoned, this_worker, verdict_of
from aspk.study_file import StudySpec

_PACKAGES = ("aspk", "optuna", "torch", "spikingjelly", "scikit-learn", "pymoo", "numpy")


@dataclass(frozen=True)
class Question:
    """What a study asks: a space, an evaluator, and what is to be optimised.

    Attributes:
        space: the search space.
        evaluator: evaluates its networks.
        objectives: what is optimised, in order.
        constraints: upper bounds.
        faeb: F_AEB against the reference network.
        reference: the reference network's metrics.
        fingerprints: hashes of what a worker must have in common with the study.
        verdict: whether the supernet's ranking can be trusted; empty without a supernet.
    """

    space: SearchSpace
    evaluator: Evaluator
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    faeb: FAEB
    reference: Metrics
    fingerprints: Mapping[str, str]
    verdict: str = ""

    @property
    def anchors(self) -> dict[str, tuple[float, float]]:
        """Ideal and nadir of each objective that has them: chance level and the reference's cost."""
        costs = {item.name: (0.0, item(self.reference)) for item in self.objectives if item.name != "f_aeb"}
        if "accuracy" in costs:
            costs["accuracy"] = (1.0, 1.0 / self.faeb.classes)
        return costs


def supernet_of(spec: StudySpec, device: str = "auto") -> LoadedSupernet:
    """The trained supernet of a study.

    Raises:
        CheckpointError: there is none, or it is damaged.
        StudyError: it was trained for another search space.
    """
    loaded, space = load_supernet(spec.weights_file, resolve_device(device)), load_space(spec.space)
    if loaded.supernet.space.fingerprint != space.fingerprint:
        raise StudyError(
            f"{spec.weights_file} was trained for another search space than {spec.space}; "
            "train again, or name the weights' own space in the study"
        )
    return loaded


def ask_question(spec: StudySpec, device: str = "auto") -> Question:
    """The study's question with its own evaluator: the trained supernet on the study's data.

    Raises:
        CheckpointError: there is no supernet, or it is damaged.
        StudyError: the supernet was trained for another search space.
    """
    evaluator, fingerprints = evaluator_of(spec, device)
    asked = question(spec, evaluator, classes=evaluator.supernet.classes, fingerprints=fingerprints)
    return replace(asked, verdict=verdict_of(spec))


def evaluator_of(spec: StudySpec, device: str = "auto") -> tuple[SupernetEvaluator, dict[str, str]]:
    """The study's own evaluator, and the fingerprints of its weights and data."""
    loaded, data = supernet_of(spec, device), load_data(spec.data)
    evaluator = SupernetEvaluator(loaded.supernet, data, settings=spec.evaluation, energy_model=spec.energy)
    return evaluator, {"weights": loaded.fingerprint, "data": data.fingerprint()}


def inherited_accuracies(spec: StudySpec, count: int, device: str = "auto") -> list[float]:
    """Accuracies of random networks of the trained supernet, every gene uniform over its choices."""
    evaluator, _ = evaluator_of(spec, device)
    space = evaluator.supernet.space
    X = space.sample_choices(count, np.random.default_rng(spec.seed))
    return [metrics.accuracy for metrics in evaluator.evaluate([space.decode(x) for x in X])]


def question(
    spec: StudySpec, evaluator: Evaluator, *, classes: int, fingerprints: Mapping[str, str] | None = None
) -> Question:
    """Everything that a search needs to know, the reference network evaluated.

    Raises:
        EvaluationError: the reference network cannot be evaluated.
    """
    space = load_space(spec.space)
    cached = CachedEvaluator(evaluator, space)
    (reference,) = evaluate_all(cached, [space.reference])
    if isinstance(reference, EvaluationError):
        raise EvaluationError(f"the reference network of {space.name!r} failed: {reference}")
    faeb = spec.faeb.of(reference.energy_mj, classes)
    objectives = tuple(faeb.objective() if name == "f_aeb" else objective(name) for name in spec.objectives)
    return Question(
        space=space,
        evaluator=cached,
        objectives=objectives,
        constraints=tuple(budget(name, bound) for name, bound in spec.constraints.items()),
        faeb=faeb,
        reference=reference,
        fingerprints={"space": space.fingerprint, **(fingerprints or {})},
    )


# ---------------------------------------------------------------------- the study in its storage


def create_or_resume(spec: StudySpec, asked: Question) -> optuna.Study:
    """The study in its storage, made if need be.

    Raises:
        StudyError: the storage holds a study of that name that asks something else.
    """
    study = optuna.create_study(
        study_name=spec.name,
        storage=open_storage(spec.storage_url),
        directions=[item.direction for item in asked.objectives],
        sampler=make_sampler(spec, asked),
        load_if_exists=True,
    )
    stored = study.user_attrs.get(attributes.CONTEXT)
    if stored is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([item.name for item in asked.objectives])
        study.set_user_attr(attributes.SPEC, spec.to_json())
        study.set_user_attr(attributes.SPACE, asked.space.to_json())
        study.set_user_attr(attributes.CONTEXT, _context(spec, asked))
        return study
    expected = _context(spec, asked)
    for key in ("fingerprints", "objectives", "constraints", "energy", "evaluation"):
        if stored.get(key) != expected[key]:
            raise StudyError(
                f"study {spec.name!r} was started with {key} {stored.get(key)!r}, this run brings "
                f"{expected[key]!r}; give the study another name"
            )
    return study


def _context(spec: StudySpec, asked: Question) -> dict[str, Any]:
    record = spec.to_json()
    return {
        "fingerprints": dict(asked.fingerprints),
        "objectives": [[item.name, item.direction] for item in asked.objectives],
        "constraints": record["constraints"],
        "energy": record["energy"],
        "evaluation": record["evaluation"],
        "classes": asked.faeb.classes,
        "reference": attributes.metrics_to_attributes(asked.reference),
        "faeb": {"form": asked.faeb.form, "weight": asked.faeb.energy_weight, "floor": asked.faeb.floor},
        "anchors": {name: list(pair) for name, pair in asked.anchors.items()},
        "versions": {"python": platform.python_version()}
        | {n: importlib.metadata.version(n) for n in _PACKAGES},
    }


def make_sampler(spec: StudySpec, asked: Question) -> GenotypeSampler:
    """The study's sampler.

    Raises:
        StudyError: an option is unknown to it.
    """
    options: dict[str, Any] = {"space": asked.space, "seed": spec.seed, **spec.sampler_options}
    kinds: dict[str, type[GenotypeSampler]] = {
        "surrogate": SurrogateSampler,
        "nsga2": NSGA2Sampler,
        "evolutionary": EvolutionarySampler,
        "random": RandomSampler,
    }
    if spec.sampler == "evolutionary":
        options.setdefault("fitness", lambda trial: _fitness(trial, asked.faeb))
    try:
        return kinds[spec.sampler](**options)
    except (TypeError, ValueError) as error:
        raise StudyError(f"sampler {spec.sampler!r}: {error}") from None


def _fitness(trial: FrozenTrial, faeb: FAEB) -> float:
    accuracy, energy = (trial.user_attrs.get(name) for name in ("accuracy", "energy_mj"))
    if accuracy is None or energy is None:  # not a trial of aspk's
        return float("-inf")
    return faeb(Metrics(accuracy=accuracy, energy_mj=energy))  # without the layers, which take long to read


# ---------------------------------------------------------------------- the loop


@dataclass(frozen=True)
class SearchResult:
    """How a search ended.

    Attributes:
        study: the Optuna study.
        finished: False if it was interrupted.
        evaluations: complete trials, those of earlier runs included.
    """

    study: optuna.Study
    finished: bool
    evaluations: int


def run_study(spec: StudySpec, asked: Question, *, progress: bool = True) -> SearchResult:
    """Search until the study has ``spec.evaluations`` complete trials, from wherever it stands.

    Every finished trial is in the storage before the next batch is asked for. Ctrl-C ends after the batch
    in hand; networks that a killed process was evaluating are evaluated again.

    Raises:
        StudyError: the storage holds another study of that name, or networks fail again and again.
    """
    study = create_or_resume(spec, asked)
    if asked.verdict:
        record_verdict(study, asked.verdict)
    requeue_abandoned(study)
    sampler = study.sampler
    if not isinstance(sampler, GenotypeSampler):
        raise StudyError(f"sampler {type(sampler).__name__} cannot ask in batches")
    scores = _Scores(asked, study)
    done = min(scores.complete, spec.evaluations)
    bar = tqdm(total=spec.evaluations, initial=done, desc=spec.name, unit="net", disable=not progress)
    with graceful_interruption() as interruption, bar:
        while scores.complete < spec.evaluations and not interruption.requested:
            count = min(spec.batch, spec.evaluations - scores.complete)
            trials = sampler.ask_batch(study, count, user_attributes={attributes.WORKER: this_worker()})
            before = scores.complete
            for trial, result in zip(trials, _evaluate(asked, trials), strict=True):
                scores.add(_tell(study, trial, result, asked))
            bar.update(scores.complete - before)
            bar.set_postfix(scores.figures())
            scores.check_progress(before)
    return SearchResult(study, scores.complete >= spec.evaluations, scores.complete)


def _evaluate(asked: Question, trials: Sequence[Trial]) -> list[Result]:
    return evaluate_all(asked.evaluator, [_config(asked.space, trial) for trial in trials])


def _config(space: SearchSpace, trial: Trial) -> SubnetConfig:
    return space.decode(space.from_parameters(trial.params))


def _tell(study: optuna.Study, trial: Trial, result: Result, asked: Question) -> Metrics | None:
    """Write one result; the metrics, or None for a failed trial."""
    if isinstance(result, EvaluationError):
        trial.set_user_attr(attributes.FAILURE, str(result))
        study.tell(trial, state=TrialState.FAIL)
        return None
    for name, value in attributes.metrics_to_attributes(result).items():
        trial.set_user_attr(name, value)
    if asked.constraints:
        excess = {item.name: item(result) for item in asked.constraints}
        for name, value in excess.items():
            trial.set_constraint(name, value)
        trial.set_user_attr(attributes.CONSTRAINTS, excess)
    study.tell(trial, [item(result) for item in asked.objectives])
    return result


class _Scores:
    """The figures on the progress bar, kept up to date trial by trial."""

    _MAX_FRUITLESS = 3

    def __init__(self, asked: Question, study: optuna.Study) -> None:
        self._asked = asked
        self._values: list[list[float]] = []
        self._best = float("-inf")
        self._fruitless = 0
        self.complete = 0
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            metrics = attributes.metrics_from_attributes(trial.user_attrs)
            if metrics is not None:
                self.add(metrics)

    def add(self, metrics: Metrics | None) -> None:
        if metrics is None:
            return
        self.complete += 1
        self._best = max(self._best, self._asked.faeb(metrics))
        if all(item(metrics) <= 0 for item in self._asked.constraints):
            self._values.append([item(metrics) for item in self._asked.objectives])

    def figures(self) -> dict[str, str]:
        directions = [item.direction for item in self._asked.objectives]
        anchors = [self._asked.anchors.get(item.name) for item in self._asked.objectives]
        volume = anchored_hypervolume(self._values, directions, anchors)
        front = int(nondominated(minimised(self._values, directions)).sum())
        return {"F_AEB": f"{self._best:.4f}", "front": str(front), "hypervolume": f"{volume:.4f}"}

    def check_progress(self, before: int) -> None:
        self._fruitless = self._fruitless + 1 if self.complete == before else 0
        if self._fruitless == self._MAX_FRUITLESS:
            raise StudyError(
                f"all networks of {self._fruitless} batches failed; see the attribute "
                f"{attributes.FAILURE!r} of the failed trials"
            )
