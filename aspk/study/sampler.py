"""The sampler of a study: the names in its file, their options, and the object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import Parameter, signature
from types import SimpleNamespace
from typing import Any, get_type_hints

from optuna import Study

from aspk.errors import SamplerError, StudyError
from aspk.samplers import GenotypeSampler, SurrogateSampler, sampler_class
from aspk.space import SearchSpace
from aspk.spec.study import SamplerName, StudySpec, load_study_file
from aspk.study.problem import StudyProblem, f_aeb_of
from aspk.study.storage import open_study
from aspk.util.schema import Key, Kind, Table, unknown_key
from aspk.util.wording import meanings

# Arguments that are not options of a study: the study sets them itself, or has no use for them.
_OURS = (
    *("space", "seed", "known", "known_constraints", "composites"),
    *("fitness", "attributes", "defaults", "prior_studies"),
)


def sampler_options(name: SamplerName) -> Table:
    """The keys of ``[sampler]`` that a sampler takes besides its name: those that a study does not set."""
    kind = sampler_class(name)
    told = meanings(kind.__init__, "Args")
    return {
        option: Key(_annotation(parameter, kind.__init__), None, parameter.default, told.get(option, ""))
        for option, parameter in signature(kind).parameters.items()
        if option not in _OURS
    }


def check_sampler(spec: StudySpec, space: SearchSpace) -> None:
    """Refuse a table [sampler] with which no sampler can be made, before anything is evaluated.

    Raises:
        StudyError: an option is unknown or impossible, or there is no such prior study.
    """
    options = sampler_options(spec.sampler)
    for key, value in spec.sampler_options.items():
        if key not in options and key not in _OURS:
            raise StudyError(unknown_key(key, value, options, at=f"[sampler] {spec.sampler!r}: "))
    if spec.prior_studies and "prior_studies" not in signature(sampler_class(spec.sampler)).parameters:
        raise StudyError(
            f"prior_studies = {list(spec.prior_studies)}: sampler {spec.sampler!r} does not learn from them; "
            "expected sampler 'surrogate'"
        )
    if spec.stop_below is not None and not issubclass(sampler_class(spec.sampler), SurrogateSampler):
        raise StudyError(
            f"stop_below = {spec.stop_below:g}: sampler {spec.sampler!r} expects no improvements; "
            "expected sampler 'surrogate'"
        )
    _make_sampler(spec, {"space": space})
    _prior_studies(spec)


def make_sampler(spec: StudySpec, problem: StudyProblem) -> GenotypeSampler:
    """The study's sampler.

    Raises:
        StudyError: an option is unknown to it, or impossible, or there is no such prior study.
    """
    check_sampler(spec, problem.space)
    offered = {
        "space": problem.space,
        "seed": spec.seed,
        "known_constraints": problem.known_constraints,
        "known": problem.known,
        "composites": problem.composites,
        "fitness": lambda trial: f_aeb_of(trial, problem.faeb),
        **({"features": problem.features} if problem.features else {}),
        "prior_studies": _prior_studies(spec),
    }
    taken = signature(sampler_class(spec.sampler)).parameters
    options = {name: value for name, value in offered.items() if name in taken}
    if known := problem.costs.get(str(spec.sampler_options.get("cost"))):
        own = {name: value for name, value in spec.sampler_options.items() if name != "cost"}
        return _make_sampler(replace(spec, sampler_options=own), {**options, "cost": known})
    return _make_sampler(spec, options)


def _prior_studies(spec: StudySpec) -> list[Study]:
    found = []
    for prior in spec.prior_studies:
        try:
            found.append(open_study(load_study_file(prior)))
        except StudyError as error:
            raise StudyError(f"prior study {prior!r}: {error}") from None
    return found


def _make_sampler(spec: StudySpec, options: Mapping[str, Any]) -> GenotypeSampler:
    try:
        return sampler_class(spec.sampler)(**{**options, **spec.sampler_options})
    except (TypeError, ValueError, SamplerError) as error:
        raise StudyError(f"[sampler] {spec.sampler!r}: {error}") from None


def _annotation(parameter: Parameter, of: Callable[..., object]) -> Kind:
    alone = SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return get_type_hints(alone, of.__globals__)["it"]
    except NameError:  # of a module that only type checkers import
        return Any
