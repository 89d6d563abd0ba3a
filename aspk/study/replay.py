"""``aspk reproduce``: repeat a finished study's search until the first difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from aspk.errors import StudyError
from aspk.samplers import GenotypeSampler
from aspk.spec.study import StudySpec
from aspk.study.loop import evaluate, tell
from aspk.study.problem import StudyProblem
from aspk.study.record import changes, check_problem, create_or_resume, different, versions
from aspk.trials import attributes, study_record
from aspk.util.progress import ProgressBar


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What a second search of the same study gave.

    Attributes:
        trials: trials that were compared, all equal unless there is a difference.
        difference: the first difference in words, None if there is none.
        versions: libraries whose version differs from the study's, in words.
    """

    trials: int
    difference: str | None
    versions: tuple[str, ...]


def reproduce(
    study: optuna.Study, spec: StudySpec, problem: StudyProblem, *, progress: bool = True
) -> Reproduction:
    """Search again in memory, with the study's own seed and batches, and compare trial by trial.

    Networks, states and objective values have to be equal to the last bit.

    Args:
        study: a finished study of one worker; it is only read.
        spec: its study file.
        problem: what it optimises, with an evaluator that computes everything anew.
        progress: whether to show a progress bar.

    Raises:
        StudyError: the study has another problem, or was shaped by several workers or a crash.
    """
    _check_record(study, spec, problem)
    batches = _batches(study)
    versions_then = study_record(study)[attributes.CONTEXT].get("versions")
    changed = tuple(different("version", versions_then, versions()))
    count = 0
    with ProgressBar(desc=f"{study.study_name} again", unit="net", disable=not progress) as bar:
        for first, second in _searched_again(batches, spec, problem):
            difference = _difference(first, second)
            if difference is not None:
                return Reproduction(trials=count, difference=difference, versions=changed)
            count += 1
            bar.update()
    return Reproduction(trials=count, difference=None, versions=changed)


def _check_record(study: optuna.Study, spec: StudySpec, problem: StudyProblem) -> None:
    if attributes.CONTEXT not in study_record(study):
        raise StudyError(f"study {study.study_name!r} carries no record of its problem: aspk did not make it")
    check_problem(study, spec, problem)
    if found := changes(study, spec, problem):
        raise StudyError(f"study {study.study_name!r} used another search: {'; '.join(found)}")


def _batches(study: optuna.Study) -> list[list[FrozenTrial]]:
    """The trials batch by batch; each batch was proposed from all trials before it and no others."""
    trials = study.get_trials(deepcopy=False)
    why = "only the undisturbed search of a single worker can be repeated"
    batches: list[list[FrozenTrial]] = []
    for trial in trials:
        stream = trial.user_attrs.get(attributes.BATCH)
        if trial.state not in (TrialState.COMPLETE, TrialState.FAIL):
            raise StudyError(f"trial {trial.number} is {trial.state.name.lower()}: finish the study first")
        if not isinstance(stream, list) or attributes.AGAIN in trial.user_attrs:
            raise StudyError(f"trial {trial.number} was enqueued, or repeats an abandoned one: {why}")
        if stream == [trial.number]:
            batches.append([])
        if not batches or stream != [trial.number - len(batches[-1])]:
            raise StudyError(f"trial {trial.number} was asked for while other workers were busy: {why}")
        batches[-1].append(trial)
    return batches


def _searched_again(
    batches: Sequence[Sequence[FrozenTrial]], spec: StudySpec, problem: StudyProblem
) -> Iterator[tuple[FrozenTrial, FrozenTrial]]:
    """Each trial of the study with that of a second search, which runs batch by batch on demand."""
    study = create_or_resume(spec, problem, InMemoryStorage())
    sampler = study.sampler
    assert isinstance(sampler, GenotypeSampler)
    for batch in batches:
        trials = sampler.ask_batch(study, len(batch))
        for trial, result in zip(trials, evaluate(problem, trials), strict=True):
            tell(study, trial, result, problem)
        yield from zip(batch, study.get_trials(deepcopy=False)[-len(batch) :], strict=True)


def _difference(first: FrozenTrial, second: FrozenTrial) -> str | None:
    """The first difference of two trials, None if they are equal."""
    for what, a, b in (
        ("parameter", first.params, second.params),
        ("state", first.state.name.lower(), second.state.name.lower()),
        ("objective", _numbered(first.values), _numbered(second.values)),
    ):
        for text in different(f"trial {first.number}: {what}", a, b):
            return text
    return None


def _numbered(values: Sequence[float] | None) -> dict[str, float]:
    return {str(index): value for index, value in enumerate(values or [])}
