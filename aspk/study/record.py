"""A study in its storage: the record of its problem, and which runs may join it."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from aspk.errors import MetricsError, StudyError
from aspk.objectives import Constraint, Objective
from aspk.spec.study import StudySpec
from aspk.study.problem import StudyProblem
from aspk.study.sampler import make_sampler
from aspk.study.storage import open_storage, taken_statistics
from aspk.trials import attributes, note_study_record, study_record
from aspk.util.numbers import is_finite
from aspk.util.records import differences, fingerprint

_LOGGER = logging.getLogger(__name__)
_PACKAGES = ("aspk", "optuna", "torch", "spikingjelly", "scikit-learn", "pymoo", "numpy")
_SEARCH = ("seed", "sampler", "sampler_options", "prior_studies")
_MOST_DETAILS = 6  # of one part of the problem that are spelled out
_ROUNDING = 1e-6  # of a value, relative
_WAIT_S = 3  # for the record of a study that another worker is making at this moment


def create_or_resume(
    spec: StudySpec, problem: StudyProblem, storage: BaseStorage | None = None
) -> optuna.Study:
    """The study in its storage, created if need be.

    Args:
        spec: the study.
        problem: what it optimises.
        storage: where the study is; None opens the spec's own.

    Raises:
        StudyError: the storage holds a study of that name with another problem.
    """
    storage = open_storage(spec.storage_url) if storage is None else storage
    sampler = make_sampler(spec, problem)
    try:
        study = optuna.create_study(
            study_name=spec.name,
            storage=storage,
            directions=[item.direction for item in problem.objectives],
            sampler=sampler,
        )
    except optuna.exceptions.DuplicatedStudyError:
        return _join(optuna.load_study(study_name=spec.name, storage=storage, sampler=sampler), spec, problem)
    _record(study, spec, problem)
    return study


def _record(study: optuna.Study, spec: StudySpec, problem: StudyProblem) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([item.name for item in problem.objectives])
    record = {attributes.SPEC: spec.to_json(), attributes.SPACE: problem.space.to_json()}
    record[attributes.CONTEXT] = _context(spec, problem)  # last: the record is complete with it
    note_study_record(study, record)


def _join(study: optuna.Study, spec: StudySpec, problem: StudyProblem) -> optuna.Study:
    end = time.monotonic() + _WAIT_S
    while attributes.CONTEXT not in study_record(study):
        if time.monotonic() > end or study.get_trials(deepcopy=False):  # its creator died, or is not aspk
            _check_directions(study, problem)
            _record(study, spec, problem)
            return study
        time.sleep(0.05)
    check_problem(study, spec, problem)
    for change in changes(study, spec, problem):
        _LOGGER.warning("study %r goes on, but its reports keep what it has: %s", study.study_name, change)
    return study


def changes(study: optuna.Study, spec: StudySpec, problem: StudyProblem) -> list[str]:
    """What differs between a run's search and the one its study was begun with, as far as that is recorded.

    Args:
        study: the study, which has the run's problem.
        spec: the run's study file.
        problem: what it optimises.
    """
    held, own = study_record(study), spec.to_json()
    stored = attributes.mapping_in(held, attributes.SPEC)
    form = attributes.mapping_in(attributes.mapping_in(held, attributes.CONTEXT), "faeb")
    pairs = {key: (_named(key, stored[key]), _named(key, own[key])) for key in _SEARCH if key in stored}
    pairs |= {"faeb": (form, _scalarisation(problem))} if form else {}
    return [text for key, (known, brought) in pairs.items() for text in different(key, known, brought)]


def _named(key: str, value: object) -> object:
    """A value of a study file; prior studies by their names, since paths depend on the working directory."""
    if key == "prior_studies" and isinstance(value, list):
        return [Path(str(one)).stem for one in value]
    return value


def check_problem(study: optuna.Study, spec: StudySpec, problem: StudyProblem) -> None:
    """Refuse a run whose problem is not the study's.

    Raises:
        StudyError: there are differences, which it spells out.
    """
    held = study_record(study)
    found = list(_differences(held, spec, problem))
    found = found or list(_other_functions(attributes.mapping_in(held, attributes.CONTEXT), problem))
    if found:
        raise StudyError(
            f"study {study.study_name!r} has another problem; give this one another name. {'; '.join(found)}"
        )


def _check_directions(study: optuna.Study, problem: StudyProblem) -> None:
    known = [direction.name.lower() for direction in study.directions]
    own = [item.direction for item in problem.objectives]
    if known != own:
        raise StudyError(
            f"study {study.study_name!r} is to {', '.join(known)}, this run's objectives are to "
            f"{', '.join(own)}; give this one another name"
        )


def _differences(held: Mapping[str, Any], spec: StudySpec, problem: StudyProblem) -> Iterator[str]:
    """The differences between a run's problem and the study's, in words."""
    stored = {"space": held.get(attributes.SPACE), **attributes.mapping_in(held, attributes.CONTEXT)}
    brought = {"space": problem.space.to_json(), **_context(spec, problem)}
    hashes, own_hashes = dict(attributes.mapping_in(stored, "fingerprints")), brought["fingerprints"]
    _agree_on_statistics(stored, hashes, brought, own_hashes)
    for key in dict.fromkeys((*hashes, *own_hashes)):
        known, own = hashes.get(key), own_hashes.get(key)
        if known == own:
            continue
        details = list(different(key, stored.get(key), brought.get(key)))
        details = details or list(different(f"{key} (SHA-256)", known, own))
        yield from details[:_MOST_DETAILS]
        if len(details) > _MOST_DETAILS:
            yield f"{len(details) - _MOST_DETAILS} further differences of {key}"


def _other_functions(stored: Mapping[str, Any], problem: StudyProblem) -> Iterator[str]:
    """The objectives and constraints that give the study's reference network another value than they did."""
    values = attributes.mapping_in(stored, "values")
    own = _values(problem, attributes.mapping_in(stored, "reference")) if values else {}
    for what in dict.fromkeys((*values, *own)):
        known, now = values.get(what), own.get(what)
        if known is None or now is None:
            yield f"{what}: {'the study does not have it' if known is None else 'this run lacks it'}"
        elif is_finite(known) and not math.isclose(known, now, rel_tol=_ROUNDING):
            yield (
                f"{what} is another function: of the study's reference network it was {known:g}, now it is "
                f"{now:g}"
            )


def _values(problem: StudyProblem, reference: Mapping[str, Any]) -> dict[str, float]:
    """Objectives and constraints of a recorded reference network; F_AEB's form is compared on its own."""
    try:
        metrics = attributes.metrics_from_attributes(reference)
    except MetricsError:
        return {}
    if metrics is None:
        return {}
    kinds: dict[str, tuple[Objective | Constraint, ...]]
    kinds = {"objective": problem.objectives, "constraint": problem.constraints}
    return {
        f"{kind} {item.name!r}": item(metrics)
        for kind, items in kinds.items()
        for item in items
        if item.name != "f_aeb"
    }


def _agree_on_statistics(
    stored: dict[str, Any], hashes: dict[str, str], brought: dict[str, Any], own_hashes: dict[str, str]
) -> None:
    """Add statistics to a record older than that setting, and replace ``auto`` with the study's."""
    if "evaluation" not in stored:
        return
    known: dict[str, Any] = {
        "statistics": taken_statistics(stored),
        **attributes.mapping_in(stored, "evaluation"),
    }
    own = dict(brought["evaluation"])
    if own["statistics"] == "auto":
        own["statistics"] = known["statistics"]
    stored["evaluation"], hashes["evaluation"] = known, fingerprint(known)
    brought["evaluation"], own_hashes["evaluation"] = own, fingerprint(own)


def different(path: str, known: object, own: object) -> Iterator[str]:
    """The differences of two JSON values, each with the path that leads to it.

    Args:
        path: what the values are.
        known: the study's value.
        own: this run's value.
    """
    for where, there, here in differences(path, known, own):
        yield f"{where}: the study has {there}, this run brings {here}"


def _scalarisation(problem: StudyProblem) -> dict[str, Any]:
    faeb = problem.faeb
    return {"form": faeb.form, "weight": faeb.energy_weight, "floor": faeb.floor}


def _context(spec: StudySpec, problem: StudyProblem) -> dict[str, Any]:
    record, faeb, scalarisation = spec.to_json(), problem.faeb, _scalarisation(problem)
    plain = {
        "objectives": [[item.name, item.direction] for item in problem.objectives],
        **{key: record[key] for key in ("constraints", "energy")},
        "evaluation": {
            **record["evaluation"],
            "statistics": problem.statistics or spec.evaluation.statistics,
        },
        **({"faeb": scalarisation} if "f_aeb" in spec.objectives else {}),
    }
    reference = attributes.metrics_to_attributes(problem.reference)
    return {
        "faeb": scalarisation,
        "data": record["data"],
        **plain,
        "fingerprints": {**problem.fingerprints, **{key: fingerprint(value) for key, value in plain.items()}},
        "classes": faeb.classes,
        **({} if problem.images is None else {"images": problem.images}),
        "reference": reference,
        "values": _values(problem, reference),
        "anchors": {name: list(pair) for name, pair in problem.anchors.items()},
        "seed": spec.seed,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Version of Python and of the libraries that a result may depend on."""
    libraries = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **libraries}
