"""The search: ask in batches, evaluate, tell; alone or beside other workers."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import optuna
from optuna.trial import Trial, TrialState

from aspk.errors import EvaluationError, EvaluationStopped, GenotypeError, ObjectiveError, StudyError
from aspk.evaluation import Progress, Result, evaluate_all
from aspk.metrics import Metrics
from aspk.objectives import minimised
from aspk.samplers import GenotypeSampler, ImprovementStopper
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.spec.study import StudySpec
from aspk.study.problem import StudyProblem, f_aeb_of
from aspk.study.record import create_or_resume
from aspk.study.retry import patiently
from aspk.study.storage import record_verdict
from aspk.study.workers import Worker, WorkerSettings
from aspk.trials import attributes, complete, note_counts
from aspk.util.interrupt import graceful_interruption
from aspk.util.pareto import anchored_hypervolume, nondominated
from aspk.util.progress import ProgressBar

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchResult:
    """How a search ended.

    Attributes:
        study: the Optuna study.
        finished: False if it was interrupted.
        evaluations: complete trials, those of earlier runs and of other workers included.
        exhausted: whether it ended before its budget because every network of the space was evaluated.
        reason: why it ended before its budget by itself, empty if it did not, see ``StudySpec.stop_below``.
    """

    study: optuna.Study
    finished: bool
    evaluations: int
    exhausted: bool = False
    reason: str = ""


def run_study(
    spec: StudySpec,
    problem: StudyProblem,
    *,
    progress: bool = True,
    settings: WorkerSettings | None = None,
) -> SearchResult:
    """Search until the study has ``spec.evaluations`` complete trials, those that it already has included.

    In a space with fewer networks, the search ends once each of them was evaluated or has failed, and with
    ``spec.stop_below`` once little improvement is expected.

    Any number of processes may search at the same time, on any storage: see :mod:`aspk.study.workers`. Every
    finished trial is in the storage before the next batch is asked for. Ctrl-C stops the search after the
    current batch; networks that a killed process was evaluating are evaluated again. While the storage is
    unreachable, results are kept until it is back.

    Args:
        spec: the study.
        problem: what it optimises.
        progress: whether to show a progress bar.
        settings: this worker's intervals and timeouts; None means the defaults.

    Raises:
        StudyError: the storage holds another study of that name, all networks of several batches fail, or
            the storage stays unreachable.
    """
    settings = settings or WorkerSettings()
    study = create_or_resume(spec, problem)
    if problem.verdict:
        record_verdict(study, problem.verdict)
    sampler = study.sampler
    if not isinstance(sampler, GenotypeSampler):
        raise StudyError(f"sampler {type(sampler).__name__} cannot ask in batches")
    worker, scores = Worker(study, settings), _Scores(problem)
    stopper = None if spec.stop_below is None else ImprovementStopper(share=spec.stop_below)
    persistently = partial(patiently, patience_s=settings.patience_s)
    scores.read(study)
    done = min(scores.complete, spec.evaluations)
    # Without smoothing, the time left is estimated from the whole run, in which batches are proposed as well.
    bar = ProgressBar(total=spec.evaluations, initial=done, unit="net", smoothing=0, disable=not progress)
    stopping = graceful_interruption(finishing="the batch", lost="its networks are evaluated again")
    with stopping as interruption, bar, worker.at_work():
        bar.set_postfix_str(scores.figures())
        while scores.complete < spec.evaluations and not interruption.requested:
            if stopper is not None and (reason := persistently(partial(stopper.reason, study))):
                ended = "the search ends with %d of %d evaluations: %s"
                _LOGGER.warning(ended, scores.complete, spec.evaluations, reason)
                return SearchResult(study, True, scores.complete, reason=reason)
            left = persistently(partial(_networks_left, study, problem.space))
            if not left and not persistently(worker.fail_abandoned) and not worker.abandoned():
                _LOGGER.warning(
                    "space %r has no network left: the search ends with %d of %d evaluations",
                    problem.space.name,
                    scores.complete,
                    spec.evaluations,
                )
                return SearchResult(study, True, scores.complete, exhausted=True)
            trials = persistently(partial(_ask, worker, sampler, spec, scores, left))
            moved = partial(_move, bar, start=min(scores.complete, spec.evaluations), size=len(trials))
            results = evaluate(problem, trials, moved)
            for trial, result in zip(trials, results, strict=True):
                persistently(partial(tell, study, trial, result, problem))
                worker.release(trial)
            persistently(partial(scores.read, study))
            if not trials and scores.complete < spec.evaluations:
                time.sleep(settings.poll_s)  # others evaluate what is left, but may still die
            bar.set_postfix_str(scores.figures(), refresh=False)
            bar.update(min(scores.complete, spec.evaluations) - bar.n)
            bar.refresh()
            if not all(isinstance(result, EvaluationStopped) for result in results):
                scores.check_progress()
    return SearchResult(study, scores.complete >= spec.evaluations, scores.complete)


def _networks_left(study: optuna.Study, space: SearchSpace) -> int:
    """How many networks of the space have no trial yet; a lower bound while trials are few."""
    trials = study.get_trials(deepcopy=False)
    if len(trials) < space.size:
        return space.size - len(trials)
    known = set()
    for trial in trials:
        with contextlib.suppress(GenotypeError):  # a foreign trial, of no network of the space
            known.add(space.decode(space.from_parameters(trial.params)))
    return space.size - len(known)


def _ask(
    worker: Worker, sampler: GenotypeSampler, spec: StudySpec, scores: _Scores, left: int
) -> list[Trial]:
    """The next batch; empty while the others' trials may complete the study."""
    room = min(spec.evaluations - scores.complete - worker.fail_abandoned(), left + len(worker.abandoned()))
    return worker.ask(sampler, min(spec.batch, room), budget=spec.evaluations) if room > 0 else []


def _move(bar: ProgressBar, share: float, *, start: int, size: int) -> None:
    """Move a bar within a batch: networks that are evaluated together are all done at the same time."""
    bar.update(start + int(share * size) - bar.n)


def evaluate(
    problem: StudyProblem, trials: Sequence[Trial], progress: Progress | None = None
) -> list[Result]:
    """Evaluate the networks of ``trials`` together; one result each."""
    return evaluate_all(problem.evaluator, [_config(problem.space, trial) for trial in trials], progress)


def _config(space: SearchSpace, trial: Trial) -> SubnetConfig:
    return space.decode(space.from_parameters(trial.params))


def tell(study: optuna.Study, trial: Trial, result: Result, problem: StudyProblem) -> None:
    """Write one result, unless the trial is finished already, by this worker or by one that took over.

    A network without a finite value of an objective or a constraint fails like one without metrics.
    """
    try:
        try:
            if isinstance(result, EvaluationError):
                raise result
            note_metrics(trial, result, problem)
            complete(trial, [item(result) for item in problem.objectives])
        except (EvaluationError, ObjectiveError) as error:
            trial.set_user_attr(attributes.FAILURE, str(error))
            stopped = isinstance(error, EvaluationStopped)
            state = TrialState.PRUNED if stopped else TrialState.FAIL
            study.tell(trial, state=state, skip_if_finished=True)
    except optuna.exceptions.UpdateFinishedTrialError:
        return


def evaluate_trial(trial: Trial, problem: StudyProblem) -> list[float]:
    """Evaluate the network of one running trial and note its metrics; telling is left to the caller.

    Returns:
        The objective values to tell.

    Raises:
        GenotypeError: the trial's parameters are not a network of the space.
        EvaluationError: the network could not be evaluated.
    """
    (result,) = evaluate(problem, [trial])
    if isinstance(result, EvaluationError):
        raise result
    note_metrics(trial, result, problem)
    return [item(result) for item in problem.objectives]


def note_metrics(trial: Trial, metrics: Metrics, problem: StudyProblem) -> None:
    """Write what was measured, and by how much each constraint is exceeded, to a running trial."""
    for name, value in attributes.metrics_to_attributes(metrics).items():
        if name == attributes.LAYERS:
            note_counts(trial, value)
        else:
            trial.set_user_attr(name, value)
    if problem.constraints:
        excess = {item.name: item(metrics) for item in problem.constraints}
        for name, value in excess.items():
            trial.set_constraint(name, value)
        trial.set_user_attr(attributes.CONSTRAINTS, excess)


class _Scores:
    """The figures on the progress bar, kept up to date from the study."""

    _MAX_FRUITLESS = 3

    def __init__(self, problem: StudyProblem) -> None:
        self._problem = problem
        self._directions = [item.direction for item in problem.objectives]
        self._known: set[int] = set()
        self._front: list[list[float]] = []
        self._best = float("-inf")
        self._fruitless = self._before = 0

    @property
    def complete(self) -> int:
        """Complete trials of the study, whoever told them."""
        return len(self._known)

    def read(self, study: optuna.Study) -> None:
        """Add the trials that were completed since the last call."""
        fresh = [
            trial
            for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if trial.number not in self._known
        ]
        self._known |= {trial.number for trial in fresh}
        feasible = [t for t in fresh if all(excess <= 0 for excess in t.constraints.values())]
        self._best = max([self._best, *(f_aeb_of(trial, self._problem.faeb) for trial in feasible)])
        values = [*self._front, *(trial.values for trial in feasible)]
        on_front = nondominated(minimised(values, self._directions))
        self._front = [row for row, best in zip(values, on_front, strict=True) if best]

    def figures(self) -> str:
        """The best feasible F_AEB, the size of the front, and its hypervolume."""
        if not self._front:
            return "nothing feasible yet" if self._known else ""
        anchors = [self._problem.anchors.get(item.name) for item in self._problem.objectives]
        volume = anchored_hypervolume(self._front, self._directions, anchors)
        best = f"F_AEB {self._best:.4f}, " if self._best > float("-inf") else ""
        return f"{best}front {len(self._front)}, HV {volume:.4f}"

    def check_progress(self) -> None:
        self._fruitless = self._fruitless + 1 if self.complete == self._before else 0
        self._before = self.complete
        if self._fruitless == self._MAX_FRUITLESS:
            raise StudyError(
                f"all networks of {self._fruitless} batches failed; see the attribute "
                f"{attributes.FAILURE!r} of the failed trials"
            )
