"""Names and JSON forms of what aspk writes to Optuna trials and studies; nowhere else.

A trial carries its scalar metrics as user attributes that a person can read (``energy_mj``, ...), the layer
counts and the whole genotype, inactive genes included, as system attributes, which optuna-dashboard does not
print. The record of a study's problem is in system attributes, too. Older studies have all but the genotype
as user attributes, which are read as well.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aspk.metrics import Metrics, layers_from_json, layers_to_json

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

GENOTYPE = "aspk:genotype"  # trial system attribute: list of indices
PROPOSAL = "aspk:proposal"  # trial system attribute: parameters to come, without a search space
LAYERS = "aspk:layers"  # trial system attribute: layer counts, column-wise
CONSTRAINTS = "aspk:constraints"  # trial user attribute: a mirror for optuna-dashboard
FAILURE = "aspk:failure"  # trial user attribute: why the evaluation failed
WORKER = "aspk:worker"  # trial user attribute: the worker that evaluates it
BEAT = "aspk:beat"  # trial user attribute: a number that grows while its worker lives
BATCH = "aspk:batch"  # trial user attribute: first trial number of its batch, then its random stream
REPORT = "aspk:report"  # trial user attribute with a step: values of all objectives so far
AGAIN = "aspk:again"  # trial user attribute: number of the abandoned trial that it repeats
SPEC = "aspk:spec"  # study system attribute: the study file's content
SPACE = "aspk:space"  # study system attribute: the search space's content
CONTEXT = "aspk:context"  # study system attribute: reference energy, classes, images, versions, fingerprints
VERDICT = "aspk:verdict"  # study user attribute: what 'aspk rank' found about the supernet

_LONGEST = 2045  # characters of one attribute's JSON text that every storage accepts
_PIECE = (_LONGEST - 2) // 2  # the JSON text of a piece has quotes around it, and escapes those within

_SCALARS = tuple(item.name for item in dataclasses.fields(Metrics) if item.name not in ("layers", "extras"))


def report_to_attribute(step: int, values: Iterable[float]) -> tuple[str, list[float]]:
    """Name and value of the attribute that holds all objectives' values at a step."""
    return f"{REPORT}:{step}", [float(value) for value in values]


def reports_from_attributes(attributes: Mapping[str, Any], objectives: int) -> dict[int, list[float]]:
    """The values of all objectives by step; what cannot be read, or has another length, is left out."""
    found = {}
    for name, values in attributes.items():
        start, _, step = name.rpartition(":")
        numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
        if start == REPORT and step.isascii() and step.isdecimal() and numbers and len(values) == objectives:
            found[int(step)] = [float(value) for value in values]
    return found


def metrics_to_attributes(metrics: Metrics) -> dict[str, Any]:
    """The attributes of a trial that was evaluated, its counts among them."""
    layers = {LAYERS: layers_to_json(metrics.layers)} if metrics.layers else {}
    return {**metrics.scalars(), **layers}


def metrics_from_attributes(attributes: Mapping[str, Any]) -> Metrics | None:
    """The metrics in attributes, None if there are none.

    Raises:
        MetricsError: the attributes are damaged.
    """
    if "accuracy" not in attributes or "energy_mj" not in attributes:
        return None
    own = {name: attributes[name] for name in _SCALARS if name in attributes}
    extras = {
        name: value
        for name, value in attributes.items()
        if name not in _SCALARS and not name.startswith("aspk:") and type(value) in (int, float)
    }
    return Metrics(**own, layers=layers_from_json(attributes.get(LAYERS, {})), extras=extras)


def metrics_of(trial: FrozenTrial) -> Metrics | None:
    """The metrics that a trial carries, None if it has none.

    Raises:
        MetricsError: they are damaged.
    """
    held = trial.user_attrs
    if LAYERS not in held and LAYERS in trial.system_attrs:
        held = {**held, LAYERS: trial.system_attrs[LAYERS]}
    return metrics_from_attributes(held)


def genotype_to_attributes(x: Iterable[int]) -> dict[str, Any]:
    """System attributes that hold a genotype: one list, or pieces of its text where that is long."""
    return _pieces(GENOTYPE, [int(index) for index in x])


def genotype_from_attributes(attributes: Mapping[str, Any]) -> list[int] | None:
    """The genotype in a trial's system attributes, None if there is none that can be read."""
    value = _joined(GENOTYPE, attributes)
    whole = isinstance(value, list) and all(type(index) is int for index in value)
    return value if whole else None


def proposal_to_attributes(parameters: Mapping[str, float]) -> dict[str, Any]:
    """System attributes that hold the parameters a trial is about to suggest, in Optuna's numbers."""
    return _pieces(PROPOSAL, {name: float(value) for name, value in parameters.items()})


def proposal_from_attributes(attributes: Mapping[str, Any]) -> dict[str, float]:
    """The parameters that :func:`proposal_to_attributes` wrote; empty if there are none that can be read."""
    value = _joined(PROPOSAL, attributes)
    whole = isinstance(value, dict) and all(type(number) in (int, float) for number in value.values())
    return value if whole else {}


def _pieces(name: str, value: object) -> dict[str, Any]:
    """A value under its name, or pieces of its text where that is longer than a storage takes."""
    text = json.dumps(value)
    if len(text) <= _LONGEST:
        return {name: value}
    places = range(0, len(text), _PIECE)
    return {f"{name}:{i}": text[start : start + _PIECE] for i, start in enumerate(places)}


def _joined(name: str, attributes: Mapping[str, Any]) -> Any:  # noqa: ANN401  # whatever was written
    """The value that :func:`_pieces` wrote, None if there is none that can be read."""
    if name in attributes:
        return attributes[name]
    pieces = itertools.takewhile(attributes.__contains__, (f"{name}:{i}" for i in itertools.count()))
    try:
        return json.loads("".join(str(attributes[piece]) for piece in pieces))
    except ValueError:
        return None


def mapping_in(attributes: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under a key; an empty one if anything else is there."""
    value = attributes.get(key)
    return value if isinstance(value, Mapping) else {}


def repeated_trial(attributes: Mapping[str, Any], number: int) -> int | None:
    """Number of the abandoned trial that a trial repeats, None if it repeats none.

    Args:
        attributes: the trial's user attributes.
        number: the trial's own number; what it repeats is earlier.
    """
    value = attributes.get(AGAIN)
    return value if type(value) is int and 0 <= value < number else None
